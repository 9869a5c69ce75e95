"""Laws of composition, on drawn cases: cut-outs that are pasted over others."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sameo_core.masks import occlusion_rate
from sameo_core.synthesis import Pair
from sameo_core.synthesis.composition import find_offset

sides = st.integers(1, 9)
some = st.tuples(sides, sides).flatmap(lambda size: arrays(bool, size)).filter(np.any)
frames = st.tuples(st.integers(1, 12), st.integers(1, 12))  # height, width


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
