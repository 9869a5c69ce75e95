"""Masks: the 6 x 8 fixture worked by hand, round trips, many at once. Malformed ones: test_masks_bad_input."""

import numpy as np
import pytest
from conftest import rectangle
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from sameo_core.errors import InputError
from sameo_core.masks import (
    are_canonical_rles,
    decode_rle,
    decode_segmentation,
    encode_mask,
    intersect_rle,
    mask_area,
    mask_box,
    mask_iou,
    mask_to_polygons,
    occlusion_rate,
    remove_small_regions,
    segmentation_to_rle,
    subtract_rle,
    union_rle,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from sameo_core.masks.run_lengths import AT_ONCE

H, W = 6, 8
AMODAL = np.zeros((H, W), bool)
AMODAL[1:5, 2:6] = True
VISIBLE = AMODAL & (np.arange(W) < 4)
RLE_AMODAL = {"size": [H, W], "counts": "=4200000;"}
RLE_VISIBLE = {"size": [H, W], "counts": "=420g0"}
RLE_HIDDEN = {"size": [H, W], "counts": "i0420;"}
POLYGON = [2, 1, 6, 1, 6, 5, 2, 5]

masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda size: arrays(bool, size))
mask_pairs = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda size: st.tuples(arrays(bool, size), arrays(bool, size))
)


# ------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
    "segmentation",
    [
        POLYGON,
        [float(v) for v in POLYGON],
        tuple(POLYGON),
        np.array(POLYGON),
        [POLYGON],
        [[2, 1, 4, 1, 4, 5, 2, 5], [4, 1, 6, 1, 6, 5, 4, 5]],
        [[2, 1, 5, 1, 5, 5, 2, 5], [3, 1, 6, 1, 6, 5, 3, 5]],  # overlapping: the union
        RLE_AMODAL,
        {"size": [H, W], "counts": b"=4200000;"},
        {"size": (H, W), "counts": [13, 4, 2, 4, 2, 4, 2, 4, 13]},
        {"size": [H, W], "counts": np.array([13, 4, 2, 4, 2, 4, 2, 4, 13])},
        {"size": [H, W], "counts": [13, 4, 2, 4, 2, 2, 0, 2, 2, 4, 13, 0]},  # zeros between: legal, not canonical
    ],
    ids=lambda s: str(s)[:50],
)
def test_every_encoding_is_the_same_mask(segmentation):
    np.testing.assert_array_equal(decode_segmentation(segmentation, H, W), AMODAL)
    assert segmentation_to_rle(segmentation, H, W) == RLE_AMODAL


@pytest.mark.parametrize("value", [True, 1, 255, 1.0, 255.0, 0.5])
@pytest.mark.parametrize("as_list", [False, True])
def test_a_bitmap_is_a_mask(value, as_list):
    bitmap = AMODAL if value is True else AMODAL * np.array(value)
    assert segmentation_to_rle(bitmap.tolist() if as_list else bitmap, H, W) == RLE_AMODAL


def test_what_looks_like_a_bitmap_of_few_rows_and_is_none():
    square = [0, 0, 1, 0, 1, 1, 0, 1]
    assert decode_segmentation([square], 1, 8).sum() == 1 and decode_segmentation(square, 6, 8).sum() == 1
    boxes = [[x, 1, x + 1, 1, x + 1, 5, x, 5] for x in range(H)]  # as many polygons as rows, of as many numbers
    assert decode_segmentation(boxes, H, W).sum() == 4 * H


def test_polygons_are_clipped_to_the_frame():
    np.testing.assert_array_equal(decode_segmentation([-9, -9, 20, -9, 20, 20, -9, 20], H, W), np.ones((H, W), bool))
    assert not decode_segmentation([9, 1, 12, 1, 12, 5], H, W).any()


def test_measures_of_the_fixture():
    assert mask_area(RLE_AMODAL) == 16 and mask_area(RLE_VISIBLE) == 8
    assert occlusion_rate(AMODAL, VISIBLE) == 0.5 and occlusion_rate(VISIBLE, AMODAL) == 0
    assert mask_iou(AMODAL, VISIBLE) == 0.5
    assert encode_mask(AMODAL) == RLE_AMODAL
    assert subtract_rle(RLE_AMODAL, RLE_VISIBLE) == RLE_HIDDEN
    assert union_rle([RLE_VISIBLE, RLE_HIDDEN]) == RLE_AMODAL
    assert intersect_rle([RLE_AMODAL, RLE_VISIBLE]) == RLE_VISIBLE
    for mask in (AMODAL, RLE_AMODAL):
        box = mask_box(mask)
        assert box.dtype == np.float32 and box.tolist() == [2, 1, 6, 5]
    assert mask_to_polygons(AMODAL) == [POLYGON]
    assert mask_to_polygons(np.zeros((H, W), bool)) == []


def test_boxes_by_hand():
    xywh = np.array([[2, 1, 4, 4], [0, 0, 8, 6]], np.float32)
    assert xywh_to_xyxy(xywh).tolist() == [[2, 1, 6, 5], [0, 0, 8, 6]]
    assert xyxy_to_xywh(xywh_to_xyxy(xywh)).tolist() == xywh.tolist()
    assert xywh_to_xyxy(xywh[0]).tolist() == [2, 1, 6, 5]


# ------------------------------------------------------------------------------------------------ identities


@given(masks)
def test_rle_round_trip(mask):
    rle = encode_mask(mask)
    assert isinstance(rle["counts"], str)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    assert segmentation_to_rle(rle, *mask.shape) == rle
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=~mask[0, 0], append=~mask[-1, -1]))).tolist()
    uncompressed = {"size": list(mask.shape), "counts": [0] * int(mask[0, 0]) + runs}
    assert segmentation_to_rle(uncompressed, *mask.shape) == rle
    assert mask_area(rle) == mask.sum()


RING = np.ones((5, 5), bool)
RING[1:4, 1:4] = False
RING[2, 2] = True  # an island in the hole


@given(masks)
@example(RING)
@example(np.indices((6, 7)).sum(0) % 2 == 0)
def test_polygons_give_exactly_the_mask_again(mask):
    polygons = mask_to_polygons(mask)
    again = decode_segmentation(polygons, *mask.shape) if polygons else np.zeros_like(mask)
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize(
    ("mask", "polygons"),
    [
        ([[1, 0], [0, 1]], [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]),
        ([[0, 1], [1, 0]], [[1, 0, 2, 0, 2, 1, 1, 1], [0, 1, 1, 1, 1, 2, 0, 2]]),
    ],
)
def test_parts_that_touch_at_a_corner_are_polygons_of_their_own(mask, polygons):
    assert mask_to_polygons(np.array(mask, bool)) == polygons


@given(masks.filter(np.any))
def test_box_is_the_tightest(mask):
    box = mask_box(mask)
    np.testing.assert_array_equal(box, mask_box(encode_mask(mask)))
    x0, y0, x1, y1 = box.astype(int)
    inside = np.zeros_like(mask)
    inside[y0:y1, x0:x1] = True
    assert not (mask & ~inside).any()
    assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()
    np.testing.assert_array_equal(xyxy_to_xywh(box), coco_mask.toBbox(encode_mask(mask)))


@given(mask_pairs)
def test_set_algebra_and_rates(pair):
    a, b = pair
    rle_a, rle_b = encode_mask(a), encode_mask(b)
    np.testing.assert_array_equal(decode_rle(union_rle([rle_a, rle_b])), a | b)
    np.testing.assert_array_equal(decode_rle(intersect_rle([rle_a, rle_b])), a & b)
    np.testing.assert_array_equal(decode_rle(subtract_rle(rle_a, rle_b)), a & ~b)
    assert mask_iou(a, b) == ((a & b).sum() / (a | b).sum() if (a | b).any() else 1)
    if a.any():
        assert occlusion_rate(a, a) == 0 and occlusion_rate(a, np.zeros_like(a)) == 1
        assert occlusion_rate(a, a & b) == mask_area(subtract_rle(rle_a, rle_b)) / a.sum()


def test_zero_runs_that_meet_do_not_stop_a_merge():
    gaps = {"size": [1, 8], "counts": [2, 0, 0, 2, 0, 0, 4]}
    mask = np.array([[0, 0, 1, 1, 0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(decode_rle(union_rle([gaps, gaps])), mask)


# ------------------------------------------------------------------------------------------------ many at once


def unchanged(segmentation, height, width):
    """What `are_canonical_rles` has to say of one mask, by asking for it."""
    try:
        return segmentation_to_rle(segmentation, height, width) == segmentation
    except InputError:
        return False


@settings(max_examples=60)
@given(st.lists(masks, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_many_masks_are_told_apart_as_one_by_one(some, random):
    """Sound ones, and some with a character more, less or another; each kind alone, so that one cannot hide another."""
    rles = [encode_mask(mask) for mask in some]
    sizes = [mask.shape for mask in some]
    assert are_canonical_rles(rles, sizes).all()
    for rle, size in zip(rles, sizes, strict=True):
        place = random.randrange(len(rle["counts"]) + 1)
        insert = chr(random.randrange(40, 120)) * random.randrange(2)
        for cut in (0, 1):
            damaged = {**rle, "counts": rle["counts"][:place] + insert + rle["counts"][place + cut :]}
            expected = unchanged(damaged, *size)
            assert are_canonical_rles([damaged], [size]).tolist() == [expected]
            assert are_canonical_rles([*rles, damaged, *rles], [*sizes, size, *sizes])[len(rles)] == expected


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        POLYGON,
        [POLYGON],
        RLE_AMODAL["counts"],
        {"counts": RLE_AMODAL["counts"]},
        {"size": [W, H], "counts": RLE_AMODAL["counts"]},
        {"size": [float(H), W], "counts": RLE_AMODAL["counts"]},
        {"size": [H, True * W], "counts": ""},
        {"size": [H, W], "counts": RLE_AMODAL["counts"].encode()},
        {"size": [H, W], "counts": [13, 4, 2, 4, 2, 4, 2, 4, 13]},
        {"size": [H, W], "counts": "`1"},  # 48 in two characters
        {"size": [H, W], "counts": "`Q0"},  # 48 in three
        {"size": [H, W], "counts": "`10"},  # 48, and a run of 0
        {"size": [H, W], "counts": "50[1"},  # 5, 0, 43
        {"size": [H, W], "counts": "8X10"},  # 8, 40, and a run of 0
        {"size": [H, W], "counts": "=420000;é"},
        {"size": [H, W], "counts": "=4N00000;"},
    ],
    ids=lambda s: str(s)[:50],
)
def test_only_what_would_come_back_unchanged_is_canonical(segmentation):
    among = [RLE_AMODAL, segmentation, RLE_VISIBLE]
    expected = isinstance(segmentation, dict) and unchanged(segmentation, H, W)
    assert are_canonical_rles([segmentation], [(H, W)]).tolist() == [expected]
    assert are_canonical_rles(among, [(H, W)] * 3)[1] == expected


def test_no_masks_and_more_masks_than_are_checked_together():
    """A mask of the wrong sum does not cast doubt on the others."""
    assert are_canonical_rles([], []).tolist() == []
    count = 2 * AT_ONCE + 5
    some = [RLE_AMODAL] * count
    for row in (1, AT_ONCE, count - 1):
        some[row] = {"size": [H, W], "counts": "=420"}
    expected = [row not in (1, AT_ONCE, count - 1) for row in range(count)]
    assert are_canonical_rles(some, [(H, W)] * count).tolist() == expected


def test_small_regions_and_holes_are_removed():
    mask = rectangle((20, 30), 2, 2, 14, 14)
    mask[5, 5], mask[8:11, 8:11] = False, False  # holes of 1 and 9 pixels
    mask[17, 20], mask[18, 21] = True, True  # one part: they touch at a corner
    mask[0:2, 25:30] = True  # 10 pixels
    tidy = remove_small_regions(mask, 9)
    expected = rectangle((20, 30), 2, 2, 14, 14) | rectangle((20, 30), 25, 0, 30, 2)
    expected[8:11, 8:11] = False
    assert np.array_equal(tidy, expected) and mask[17, 20]
    assert np.array_equal(remove_small_regions(mask, 0), mask)
    largest = remove_small_regions(mask, 200)  # all holes, and all parts but the largest
    assert largest[5, 5] and not largest[1, 27] and largest[8, 8]
    assert not remove_small_regions(np.zeros((4, 5), bool), 9).any()
