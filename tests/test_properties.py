"""Laws of composition, on drawn cases: objects in a stack, and cut-outs that are pasted over others."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sameo_core.datasets.builder import FULLY_VISIBLE, DatasetBuilder
from sameo_core.masks import encode_mask, occlusion_rate
from sameo_core.synthesis import Pair
from sameo_core.synthesis.composition import find_offset

sides = st.integers(1, 9)
some = st.tuples(sides, sides).flatmap(lambda size: arrays(bool, size)).filter(np.any)
stacks = st.tuples(sides, sides).flatmap(lambda size: arrays(bool, (4, *size)))
frames = st.tuples(st.integers(1, 12), st.integers(1, 12))  # height, width


@given(stacks, st.booleans())
def test_a_stack_of_objects_shares_out_the_pixels(four, front_first):
    """Every pixel that any object covers belongs to one visible mask: the front-most object's."""
    builder = DatasetBuilder("stack", Path("."), "val", Path("a.json"), {1: "thing"})
    height, width = four[0].shape
    builder.add_image({"id": 1, "height": height, "width": width}, "a.png", Path("."))
    for i, mask in enumerate(four):
        ids = {"image_id": 1, "instance_id": i, "category_id": 1}
        builder.add_instance(f"annotation {i}", **ids, amodal=encode_mask(mask), visible=FULLY_VISIBLE)
    builder.stack_instances(1, front_first)
    kept = {item.instance_id: item for item in builder._instances[1]}
    order = range(4) if front_first else range(3, -1, -1)
    covered = np.zeros_like(four[0])
    for i in order:
        seen = four[i] & ~covered
        covered |= four[i]
        assert (i in kept) == seen.any()
        if i in kept:
            np.testing.assert_array_equal(kept[i].visible, seen)
            assert kept[i].occlusion_rate == occlusion_rate(four[i], seen)
            np.testing.assert_array_equal(kept[i].hidden, four[i] & ~seen)
    assert sum(item.visible_area for item in kept.values()) == covered.sum()


@settings(max_examples=225)
@given(some, some, frames, st.integers(-9, 12), st.integers(-9, 12), st.sampled_from(range(8)), st.integers(1, 19))
def test_what_is_pasted_hides_what_lies_under_it(target, occluder, frame, x, y, eighth, twentieths):
    """A cut-out at any corner, in the frame or half out of it; and the offset that is found for a rate."""
    height, width = frame
    pair = pair_of(occluder, (x, y))
    canvas = np.zeros((height + 60, width + 60), bool)
    canvas[30 + y : 30 + y + occluder.shape[0], 30 + x : 30 + x + occluder.shape[1]] = occluder
    np.testing.assert_array_equal(pair.occluder_mask(height, width), canvas[30 : 30 + height, 30 : 30 + width])

    th, tw = target.shape
    found = find_offset(target, occluder, np.array([tw / 2, th / 2]), np.pi * eighth / 4, twentieths / 20)
    front = pair_of(occluder, (found.x, found.y)).occluder_mask(th, tw)
    assert found.rate == occlusion_rate(target, target & ~front)


def pair_of(occluder, corner):
    alpha = np.where(occluder, np.uint8(128), np.uint8(127))
    names = ("number", "seed", "target", "occluder")
    rates = {"target_rate": 0.5, "achieved_rate": 0.5, "scale": 1.0, "flipped": False, "direction": 0.0}
    return Pair(**dict.fromkeys(names, 0), **rates, corner=corner, alpha=alpha, target_mask=occluder, redraws={})
