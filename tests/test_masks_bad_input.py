"""Every way a segmentation can be malformed; whatever is given, a mask or an InputError comes out."""

import contextlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from test_masks import AMODAL, POLYGON, RLE_AMODAL, RLE_VISIBLE, H, W, masks

from sameo_core.errors import InputError
from sameo_core.masks import (
    are_canonical_rles,
    decode_rle,
    decode_segmentation,
    encode_mask,
    mask_area,
    segmentation_to_rle,
)

BAD_POLYGONS = {  # what is given, and which of the polygons is named
    "too short": ([2, 1, 6, 5], 0),
    "too short, the second": ([POLYGON, [2, 1, 6, 5]], 1),
    "empty, the second": ([POLYGON, []], 1),
    "odd": ([2, 1, 6, 1, 6, 5, 2], 0),
    "NaN": ([2, 1, 6, 1, 6, float("nan")], 0),
    "infinite": ([2, 1, 6, 1, 6, float("inf")], 0),
    "far away": ([2, 1, 6, 1, 6, 1e300], 0),
    "text": ([2, 1, 6, 1, 6, "5"], 0),
    "None": ([2, 1, 6, 1, 6, None], 0),
    "nested": ([2, 1, 6, 1, [6, 5], 2], 0),
    "points": ([[[2, 1], [6, 1], [6, 5]]], 0),
    "list of RLE": ([RLE_AMODAL], 0),
}
BAD_RLES = [
    {"counts": "=4200000;"},
    {"size": [H, W]},
    *({"size": size, "counts": "=4200000;"} for size in ("68", [6.0, 8.0], [[6], [8, 1]], [W, H])),
    *({"size": [H, W], "counts": counts} for counts in ([13, 4], [], [50, -2], [2**63, 2**63 + 48], [2**70])),
    *({"size": [H, W], "counts": counts} for counts in ([24.0, 24.0], [[13], [4, 2]], [[13, 4], [2, 29]], 48)),
    *({"size": [H, W], "counts": counts} for counts in ("", "=42", "=42000 0;", "=42\x0000000;", "=42é", "\ud800")),
    *({"size": [H, W], "counts": counts} for counts in ("=4200000P", "o" * 10)),  # "more follows"
]
BAD_SEGMENTATIONS = [
    *((segmentation, None) for segmentation in (None, [], "=4200000;", 17, AMODAL.T)),
    *((segmentation, f"polygon {place}") for segmentation, place in BAD_POLYGONS.values()),
    *((segmentation, "RLE") for segmentation in BAD_RLES),
]


@pytest.mark.parametrize(("segmentation", "record"), BAD_SEGMENTATIONS, ids=lambda value: ascii(value)[:40])
def test_bad_segmentation(segmentation, record):
    with pytest.raises(InputError) as error:
        segmentation_to_rle(segmentation, H, W)
    assert (error.value.file, error.value.record) == ("segmentation", record) and error.value.remedy


@pytest.mark.parametrize("as_list", [False, True])
def test_a_bitmap_of_several_objects_or_of_probabilities_is_refused(as_list):
    for bitmap in (np.arange(20 * 30).reshape(20, 30) % 4, np.linspace(0, 1, 600).reshape(20, 30)):
        with pytest.raises(InputError, match="bitmap of several values: found .*mask > 0.5"):
            segmentation_to_rle(bitmap.tolist() if as_list else bitmap, 20, 30)


@pytest.mark.parametrize(
    "segmentation",
    [
        np.zeros((12, 16)),
        np.eye(80, 100),
        np.eye(80).ravel().tolist(),
        [[0, 255] * 50] * 90,
        [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]],  # as YOLO has them
    ],
    ids=lambda s: str(s)[:20],
)
def test_bitmaps_of_another_size_and_shares_are_no_polygons(segmentation):
    with pytest.raises(InputError, match="polygon or bitmap in other units: all numbers are (in 0..1|0 or 255)"):
        segmentation_to_rle(segmentation, 80, 80)


@pytest.mark.parametrize("size", [(0, 8), (6, 0), (-1, 8), (-6, -8), (2**15, 2**15), (2**15, 2**14)])
def test_bad_size(size):
    one_run = coco_mask.frPyObjects({"size": [H, W], "counts": [H * W]}, H, W)["counts"].decode()
    assert are_canonical_rles([{"size": list(size), "counts": one_run}], [size]).tolist() == [False]
    with pytest.raises(InputError, match="image size out of range"):
        segmentation_to_rle(POLYGON, *size)
    with pytest.raises(InputError, match="image size out of range"):
        decode_rle({"size": list(size), "counts": "0"})


def test_the_largest_and_the_smallest_size():
    for pixels in (2**29 - 1, 1):
        rle = segmentation_to_rle({"size": [1, pixels], "counts": [pixels]}, 1, pixels)
        assert are_canonical_rles([rle], [(1, pixels)]).tolist() == [True] and mask_area(rle) == 0


def test_a_number_has_six_characters_at_most():
    """ "=" is 13; a "P" says that five more bits follow, all 0."""
    six, seven = ({"size": [H, W], "counts": f"]{'P' * n}0" + "4200000;"} for n in (4, 5))
    assert segmentation_to_rle(six, H, W) == RLE_AMODAL
    with pytest.raises(InputError, match="corrupt: 15 characters"):
        segmentation_to_rle(seven, H, W)
    assert are_canonical_rles([RLE_AMODAL, six, RLE_VISIBLE], [(H, W)] * 3).tolist() == [True, False, True]
    assert not are_canonical_rles([seven], [(H, W)]).any()


def test_characters_from_0_to_o():
    first_to_last = {"size": [1, 62], "counts": "o0o0"}  # 31 and 31: five bits set, and more follows; 0
    assert segmentation_to_rle({"size": [1, 62], "counts": [31, 31]}, 1, 62) == first_to_last
    assert are_canonical_rles([first_to_last], [(1, 62)]).tolist() == [True]
    for foreign in "/p":
        wrong = {"size": [1, 62], "counts": f"o0{foreign}0"}
        with pytest.raises(InputError, match="corrupt"):
            segmentation_to_rle(wrong, 1, 62)
        assert not are_canonical_rles([wrong], [(1, 62)]).any()


def test_a_polygon_that_would_exhaust_the_memory():
    with pytest.raises(InputError, match="polygon outline too long: 1e\\+07 pixels"):  # 2002 x 5000
        segmentation_to_rle([0, 0, 5000, 5000] * 1001, 5000, 5000)


def test_an_outline_of_many_points_is_as_long_as_it_is_and_no_longer():
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)  # a circle: 6,283 pixels around, however many points
    circle = (1000 + 1000 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).ravel().tolist()
    assert mask_area(segmentation_to_rle([circle], 2000, 2000)) == pytest.approx(np.pi * 1000**2, rel=1e-3)


@pytest.mark.parametrize(("low", "high", "fits"), [(-32, 40, True), (-32.5, 40, False), (-32, 40.5, False)])
def test_a_polygon_reaches_four_longer_sides_beyond_the_frame_at_most(low, high, fits):
    outline = [low, low, high, low, high, high, low, high]
    with contextlib.nullcontext() if fits else pytest.raises(InputError, match="polygon far outside the image"):
        assert decode_segmentation(outline, H, W).all()


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30),
        st.text(max_size=10),
        st.binary(max_size=30),
        st.lists(st.integers(-5, 60), max_size=8),
        st.tuples(st.integers(0, 8), st.characters(min_codepoint=48, max_codepoint=111)).map(
            lambda change: "=4200000;"[: change[0]] + change[1] + "=4200000;"[change[0] + 1 :]
        ),
    )
)
def test_whatever_the_counts_only_a_mask_or_an_input_error_comes_out(counts):
    try:
        rle = segmentation_to_rle({"size": [H, W], "counts": counts}, H, W)
    except InputError:
        with pytest.raises(InputError):
            decode_rle({"size": [H, W], "counts": counts})
        return
    mask = decode_rle(rle)
    assert mask.shape == (H, W) and mask.sum() == mask_area(rle)
    assert encode_mask(mask) == rle


@given(masks, st.data())
def test_a_number_that_takes_a_character_too_many_is_seen_wherever_it_stands(mask, data):
    """Five bits more that repeat the sign say the same number."""
    short = encode_mask(mask)
    numbers = re.findall("[P-o]*[0-O]", short["counts"])  # "more follows" is worth 32: from "P" on
    i = data.draw(st.integers(0, len(numbers) - 1))
    numbers[i] = numbers[i][:-1] + chr(ord(numbers[i][-1]) + 32) + ("O" if numbers[i][-1] >= "@" else "0")
    long = {**short, "counts": "".join(numbers)}
    assert segmentation_to_rle(long, *mask.shape) == short
    assert are_canonical_rles([short, long], [mask.shape] * 2).tolist() == [True, False]


numbers = st.one_of(st.floats(), st.integers(-100, 100), st.none(), st.text(max_size=2), st.booleans())


@settings(max_examples=200)
@given(st.one_of(st.lists(numbers, max_size=12), st.lists(st.lists(numbers, max_size=10), max_size=3)))
def test_whatever_the_polygon_only_a_mask_or_an_input_error_comes_out(polygon):
    with contextlib.suppress(InputError):
        assert decode_segmentation(polygon, H, W).shape == (H, W)


@given(st.lists(st.tuples(st.floats(-24, 32), st.floats(-24, 32)), min_size=3, max_size=20))
def test_polygons_agree_with_pycocotools(points):
    flat = [v for point in points for v in point]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([flat], H, W)))
    np.testing.assert_array_equal(decode_segmentation(flat, H, W), expected.astype(bool))
