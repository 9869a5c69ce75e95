"""Laws of masks, boxes and occlusion, on 2,500 drawn cases: what holds whatever the pixels are.

`test_masks` holds each function against numpy, on a hundred cases; here the functions are held against each other.
A mask is drawn as one whole number whose bits are its pixels: that is quick, and hypothesis can shrink it.
"""

from fractions import Fraction

import numpy as np
from conftest import rectangle
from hypothesis import given, settings
from hypothesis import strategies as st

from sameo_core.config import SynthesisConfig
from sameo_core.evaluation import region_iou
from sameo_core.masks import (
    decode_rle,
    decode_rle_inside,
    decode_segmentation,
    encode_mask,
    intersect_rle,
    mask_area,
    mask_box,
    mask_iou,
    mask_to_polygons,
    occlusion_rate,
    segmentation_to_rle,
    subtract_rle,
    union_rle,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from sameo_core.synthesis import Pair
from sameo_core.synthesis.composition import find_offset

many, some_hundred, few = (settings(max_examples=n) for n in (475, 225, 75))  # by what a case takes


def unpacked(size, bits):
    """The mask of `size` whose pixels are the bits of a number."""
    height, width = size
    raw = np.frombuffer(bits.to_bytes(-(-height * width // 8), "big"), np.uint8)
    return np.unpackbits(raw)[-height * width :].reshape(size).astype(bool)


def masks_of_one_size(count, largest=9):
    def of(size):
        bits = st.integers(0, 2 ** (size[0] * size[1]) - 1)
        return st.lists(bits, min_size=count, max_size=count).map(lambda drawn: [unpacked(size, b) for b in drawn])

    return st.tuples(st.integers(1, largest), st.integers(1, largest)).flatmap(of)


one = masks_of_one_size(1).map(lambda found: found[0])
some = one.filter(np.any)
frames = st.tuples(st.integers(1, 12), st.integers(1, 12))  # height, width


# ------------------------------------------------------------------------------------------------ run lengths


@many
@given(masks_of_one_size(2))
def test_an_rle_is_the_name_of_a_mask(pair):
    """Whatever the encoding, one mask has one RLE, and two masks have two."""
    a, b = pair
    rle = encode_mask(a)
    polygons, runs = mask_to_polygons(a), [len(list(run)) for run in runs_of(a)]
    given_as = [
        rle,
        {**rle, "counts": rle["counts"].encode()},
        {**rle, "counts": runs},
        *([polygons] if polygons else []),
    ]
    for segmentation in given_as:
        assert segmentation_to_rle(segmentation, *a.shape) == rle
    assert (encode_mask(b) == rle) == np.array_equal(a, b)


def runs_of(mask):
    """Runs of equal pixels down the columns, the first of background."""
    runs = [[]]
    for value in mask.ravel("F").tolist():
        if value != (len(runs) % 2 == 0):
            runs.append([])
        runs[-1].append(value)
    return runs


# ------------------------------------------------------------------------------------------------ sets


@few
@given(masks_of_one_size(3))
def test_union_and_intersection_are_a_lattice(three):
    a, b, c = map(encode_mask, three)

    def union(*rles):
        return union_rle(rles)

    def both(*rles):
        return intersect_rle(rles)

    assert union(a, b) == union(b, a) and both(a, b) == both(b, a)
    assert union(a, union(b, c)) == union(union(a, b), c) == union(a, b, c)
    assert both(a, both(b, c)) == both(both(a, b), c) == both(a, b, c)
    assert union(a, both(a, b)) == both(a, union(a, b)) == union(a) == both(a) == a
    assert both(a, union(b, c)) == union(both(a, b), both(a, c))
    assert union(a, both(b, c)) == both(union(a, b), union(a, c))


@few
@given(masks_of_one_size(3))
def test_what_is_taken_away(three):
    a, b, c = map(encode_mask, three)
    frame = encode_mask(np.ones_like(three[0]))
    rest, shared = subtract_rle(a, b), intersect_rle([a, b])
    assert union_rle([rest, shared]) == a
    assert mask_area(intersect_rle([rest, b])) == 0
    assert subtract_rle(rest, c) == subtract_rle(a, union_rle([b, c]))
    assert (
        subtract_rle(a, shared) == rest
        and subtract_rle(a, a)["counts"] == encode_mask(np.zeros_like(three[0]))["counts"]
    )
    assert subtract_rle(frame, union_rle([a, b])) == intersect_rle([subtract_rle(frame, a), subtract_rle(frame, b)])


@some_hundred
@given(masks_of_one_size(3))
def test_areas_add_up_and_iou_is_a_distance(three):
    a, b, c = three
    rles = [encode_mask(mask) for mask in (a, b)]
    union, both = mask_area(union_rle(rles)), mask_area(intersect_rle(rles))
    assert mask_area(rles[0]) + mask_area(rles[1]) == union + both
    assert mask_iou(a, b) == (both / union if union else 1)
    assert (mask_iou(a, b) == 1) == np.array_equal(a, b)
    distance = {(i, j): 1 - exact_iou(three[i], three[j]) for i in range(3) for j in range(3)}
    assert distance[0, 2] <= distance[0, 1] + distance[1, 2]
    assert all(float(1 - distance[i, j]) == mask_iou(three[i], three[j]) for i, j in distance)


def exact_iou(a, b):
    union = int((a | b).sum())
    return Fraction(int((a & b).sum()), union) if union else Fraction(1)


# ------------------------------------------------------------------------------------------------ boxes


@some_hundred
@given(masks_of_one_size(2), st.integers(0, 5), st.integers(0, 5))
def test_boxes_of_unions_of_parts_and_of_what_was_moved(pair, down, right):
    a, b = pair
    if not (a.any() and b.any()):
        return
    box_a, box_b = mask_box(a), mask_box(b)
    hull = np.concatenate([np.minimum(box_a[:2], box_b[:2]), np.maximum(box_a[2:], box_b[2:])])
    np.testing.assert_array_equal(mask_box(union_rle([encode_mask(a), encode_mask(b)])), hull)
    if (a & b).any():
        inner = mask_box(a & b)
        assert (inner[:2] >= np.maximum(box_a[:2], box_b[:2])).all()
        assert (inner[2:] <= np.minimum(box_a[2:], box_b[2:])).all()
    moved = np.pad(a, ((down, 2), (right, 3)))
    np.testing.assert_array_equal(mask_box(moved), box_a + [right, down, right, down])
    np.testing.assert_array_equal(mask_box(encode_mask(moved)), mask_box(moved))
    np.testing.assert_array_equal(mask_box(a.T), box_a[[1, 0, 3, 2]])


@many
@given(some)
def test_a_mask_is_its_box_and_what_is_in_it(mask):
    x0, y0, x1, y1 = mask_box(mask).astype(int).tolist()
    crop = decode_rle_inside(encode_mask(mask), (x0, y0, x1, y1))
    assert crop.sum() == mask.sum() and mask_box(crop).tolist() == [0, 0, x1 - x0, y1 - y0]
    again = np.zeros_like(mask)
    again[y0:y1, x0:x1] = crop
    np.testing.assert_array_equal(again, mask)


quarters = st.integers(-40, 80).map(lambda n: n / 4)  # exact in float32


@many
@given(frames, quarters, quarters, st.integers(1, 60), st.integers(1, 60))
def test_a_box_is_a_polygon_is_a_mask_is_a_box(frame, x0, y0, width, height):
    height_of_frame, width_of_frame = frame
    xywh = np.array([x0, y0, width / 4, height / 4], np.float32)
    np.testing.assert_array_equal(xyxy_to_xywh(xywh_to_xyxy(xywh)), xywh)
    whole = np.array([round(x0), round(y0), round(x0) + width, round(y0) + height], np.float32)
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(whole)), whole)
    x0, y0, x1, y1 = whole.astype(int).tolist()
    side = max(frame)
    if min(x0, y0) < -4 * side or max(x1, y1) > 5 * side:
        return  # refused, see test_masks_bad_input
    mask = decode_segmentation([x0, y0, x1, y0, x1, y1, x0, y1], *frame)
    clipped = [max(x0, 0), max(y0, 0), min(x1, width_of_frame), min(y1, height_of_frame)]
    inside = clipped[0] < clipped[2] and clipped[1] < clipped[3]
    assert mask.any() == inside
    if inside:
        assert mask_box(mask).tolist() == clipped
        assert mask.sum() == (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])


# ------------------------------------------------------------------------------------------------ occlusion


@some_hundred
@given(masks_of_one_size(4))
def test_occlusion_rates_under_composition(four):
    """Shares that stay visible multiply; more occluders hide more, and never more than they do one by one."""
    amodal, first, second, other = four
    if not amodal.any():
        return
    behind_one, behind_two = amodal & ~first, amodal & ~first & ~second
    rate_one, rate_two = occlusion_rate(amodal, behind_one), occlusion_rate(amodal, behind_two)
    assert 0 <= rate_one <= rate_two <= 1
    assert rate_two <= rate_one + occlusion_rate(amodal, amodal & ~second) + 1e-12
    if behind_one.any():
        left = (1 - rate_one) * (1 - occlusion_rate(behind_one, behind_two))
        assert abs(left - (1 - rate_two)) < 1e-12
    hidden = subtract_rle(encode_mask(amodal), encode_mask(behind_two))
    assert mask_area(hidden) == round(rate_two * amodal.sum())
    assert occlusion_rate(amodal, behind_two | (other & ~amodal)) == rate_two  # what lies outside plays no part
    perfect = region_iou(amodal, amodal, behind_two)
    assert perfect.full == 1 and (perfect.hidden == 1) == (rate_two > 0) and (perfect.visible == 1) == behind_two.any()


@some_hundred
@given(some, some, frames, st.integers(-9, 12), st.integers(-9, 12), st.sampled_from(range(8)), st.integers(1, 19))
def test_what_is_pasted_hides_what_lies_under_it(target, occluder, frame, x, y, eighth, twentieths):
    """A cut-out at any corner, in the frame or half out of it; and the offset that is found for a rate."""
    height, width = frame
    pair = pair_of(occluder, (x, y))
    canvas = np.zeros((height + 60, width + 60), bool)
    canvas[30 + y : 30 + y + occluder.shape[0], 30 + x : 30 + x + occluder.shape[1]] = occluder
    np.testing.assert_array_equal(pair.occluder_mask(height, width), canvas[30 : 30 + height, 30 : 30 + width])
    left, top, inside = pair.occluder_inside(height, width)
    assert np.count_nonzero(inside) == np.count_nonzero(pair.occluder_mask(height, width)) and min(left, top) >= 0

    th, tw = target.shape
    found = find_offset(target, occluder, np.array([tw / 2, th / 2]), np.pi * eighth / 4, twentieths / 20)
    front = pair_of(occluder, (found.x, found.y)).occluder_mask(th, tw)
    assert found.rate == occlusion_rate(target, target & ~front)


def pair_of(occluder, corner):
    alpha = np.where(occluder, np.uint8(128), np.uint8(127))
    names = ("number", "seed", "target", "occluder")
    rates = {"target_rate": 0.5, "achieved_rate": 0.5, "scale": 1.0, "flipped": False, "direction": 0.0}
    return Pair(**dict.fromkeys(names, 0), **rates, corner=corner, alpha=alpha, target_mask=occluder, redraws={})


# ------------------------------------------------------------------------------------------------ what is drawn


def test_the_drawn_masks_are_of_all_kinds():
    """Bits are pixels, the first at the upper left."""
    np.testing.assert_array_equal(unpacked((2, 3), 0b100_011), np.array([[1, 0, 0], [0, 1, 1]], bool))
    assert unpacked((9, 9), 2**81 - 1).all() and not unpacked((9, 9), 0).any()
    assert decode_rle(encode_mask(rectangle((6, 8), 2, 1, 6, 5))).sum() == 16 and SynthesisConfig().rate_edges[0] > 0
