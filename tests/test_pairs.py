"""Pairs of Amodal-LVIS: geometry worked by hand, pairs as asked for."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import SMALL, ellipse
from hypothesis import given
from hypothesis import strategies as st

from sameo_core.errors import InputError
from sameo_core.masks import mask_box, mask_iou
from sameo_core.synthesis import draw_pair, ladder, synthesize
from sameo_core.synthesis.composition import check_curriculum, cut_out_alpha, find_offset

# ----------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("direction", "rate", "expected"),
    [
        (0, 0.5, (2, 0, 0.5)),
        (0, 0.25, (3, 0, 0.25)),
        (0, 0.3, (3, 0, 0.25)),  # 0.25 is nearer than 0.5
        (np.pi, 0.5, (-2, 0, 0.5)),
        (np.pi / 2, 0.75, (0, 1, 0.75)),
        (-np.pi / 2, 0.25, (0, -3, 0.25)),
        (np.pi / 4, 9 / 16, (1, 1, 9 / 16)),
        (0, 1.0, (0, 0, 1.0)),
    ],
)
def test_offsets_by_hand(direction, rate, expected):
    square = np.ones((4, 4), bool)
    found = find_offset(square, square, np.array([2.0, 2.0]), direction, rate)
    assert (found.x, found.y, found.rate) == expected


def test_offsets_follow_masks_not_boxes():
    """A triangle whose lower left half is solid: a column further right hides less than its share of the box."""
    triangle = np.tri(8, dtype=bool)  # 36 pixels; columns from the right: 1, 2, 3, ...
    found = find_offset(triangle, np.ones((8, 8), bool), np.array([4.0, 4.0]), 0, 10 / 36)
    assert (found.x, found.rate) == (4, 10 / 36)
    small = find_offset(triangle, np.ones((2, 2), bool), np.array([4.0, 4.0]), 0, 0.9)
    assert small.rate == 3 / 36  # the best there is is told, not what was asked for


def test_a_cut_out_of_the_same_size_is_the_object():
    mask = ellipse((60, 80), 30, 40, 17, 25)
    x0, y0, x1, y1 = mask_box(mask).astype(int)
    cropped = mask[y0:y1, x0:x1]
    alpha = cut_out_alpha(cropped, 1.0, False, 0.004)
    placed = np.zeros_like(mask)
    placed[y0 - 5 : y1 + 5, x0 - 5 : x1 + 5] = alpha >= 128
    assert mask_iou(placed, mask) > 0.98
    assert alpha.min() == 0 and alpha.max() == 255 and (alpha[0] == 0).all() and (alpha[:, 0] == 0).all()
    soft = (alpha > 5) & (alpha < 250)
    assert 1 < np.count_nonzero(soft) / (2 * np.pi * 21.4) < 6  # the edge is some pixels wide, and no more
    wedge = np.tri(30, 40, dtype=bool)
    plain, flipped = (cut_out_alpha(wedge, 1.0, flip, 0.004) for flip in (False, True))
    assert np.array_equal(flipped, plain[:, ::-1]) and not np.array_equal(flipped, plain)


@pytest.mark.parametrize(
    ("feather", "outwards", "inwards"),
    [  # box filters of variance sigma^2: weights 1/4, 1/2, 1/4; 0.084, 0.277, 0.277, 0.277, 0.084
        (0.0, (64, 0, 0), (191, 255, 255)),  # sigma 1/2 at least
        (0.5 / 20, (64, 0, 0), (191, 255, 255)),
        (1.0 / 20, (92, 21, 0), (163, 234, 255)),
        (0.5, (92, 21, 0), (163, 234, 255)),  # 1 at most
    ],
)
def test_the_soft_edge_by_hand(feather, outwards, inwards):
    alpha = cut_out_alpha(np.ones((12, 20), bool), 1.0, False, feather)
    assert alpha.shape == (22, 30)
    row, column = alpha[11], alpha[:, 15]
    for line in (row, row[::-1], column, column[::-1]):
        assert line[4:1:-1].tolist() == list(outwards) and line[5:8].tolist() == list(inwards)


@given(st.floats(0.15, 1.5), st.integers(12, 60), st.integers(12, 60))
def test_the_aspect_ratio_is_kept(scale, height, width):
    alpha = cut_out_alpha(np.ones((height, width), bool), scale, False, 0.004)
    assert alpha.sum(dtype=float) / 255 == pytest.approx(width * height * scale**2, rel=0.06)
    if min(height, width) * scale >= 4:
        x0, y0, x1, y1 = mask_box(alpha >= 128)
        assert abs(x1 - x0 - width * scale) <= 1.5 and abs(y1 - y0 - height * scale) <= 1.5


# -------------------------------------------------------------------------------------------------------------- pairs


def test_pairs_are_as_asked_for(objects):
    config = SMALL
    pairs = [draw_pair(objects, config, 5, i) for i in range(60)]
    for pair in pairs:
        target = objects.mask(pair.target)
        over = pair.occluder_mask(*target.shape)
        rate = np.count_nonzero(target & over) / np.count_nonzero(target)
        assert rate == pair.achieved_rate and abs(rate - pair.target_rate) <= 0.05
        assert objects.image[pair.target] != objects.image[pair.occluder]
        assert np.count_nonzero(target & ~over) >= config.min_pixels_left
        assert np.count_nonzero(over) >= config.min_inside * np.count_nonzero(pair.alpha >= 128)
        sides = [max(np.diff(objects.box[i].reshape(2, 2), axis=0)[0]) for i in (pair.target, pair.occluder)]
        assert 0.7 <= pair.scale * sides[1] / sides[0] <= 1.4 and pair.scale <= 1.5
    rates = np.array([pair.target_rate for pair in pairs])
    assert 0.05 <= rates.min() < 0.2 and 0.6 < rates.max() <= 0.8
    assert {pair.flipped for pair in pairs} == {False, True}
    assert len({int(pair.direction // (np.pi / 2)) for pair in pairs}) == 4  # from all sides
    assert len({pair.target for pair in pairs}) > 10


def test_pairs_stay_the_same(objects):
    """Amodal-LVIS is made again from its recipe: only other versions of pillow or numpy may change this."""
    digest = hashlib.sha256()
    for number in range(20):
        pair = draw_pair(objects, SMALL, 0, number)
        digest.update(pair.alpha.tobytes() + pair.target_mask.tobytes())
        numbers = {name: value for name, value in vars(pair).items() if name not in ("alpha", "target_mask")}
        digest.update(repr(numbers).encode())
    assert digest.hexdigest() == "944c4756d28aca5833c8e71b894027a0f560cbc43e92c0bbe3277a13d66fc5dc"


def test_a_pair_depends_on_seed_and_number_alone(objects):
    alone, again = draw_pair(objects, SMALL, 5, 17), draw_pair(objects, SMALL, 5, 17)
    assert np.array_equal(alone.alpha, again.alpha) and np.array_equal(alone.target_mask, again.target_mask)
    assert replace(alone, alpha=again.alpha, target_mask=again.target_mask) == again
    others = [draw_pair(objects, SMALL, 6, 17), draw_pair(objects, SMALL, 5, 18)]
    assert len({pair.target_rate for pair in (alone, *others)}) == 3


def test_the_curriculum_is_what_the_weights_say(objects):
    config = replace(SMALL, rate_edges=(0.1, 0.3, 0.5, 0.7), rate_weights=(1.0, 0.0, 3.0))
    rates = np.array([draw_pair(objects, config, 0, i).target_rate for i in range(200)])
    assert not ((rates > 0.3) & (rates < 0.5)).any()
    assert 0.65 < (rates > 0.5).mean() < 0.85


def test_what_does_not_fit_is_drawn_again_and_counted(objects):
    hard = replace(SMALL, rate_edges=(0.8, 0.9), rate_weights=(1.0,), smallest_occluder=0.5, largest_occluder=1.0)
    total = sum((Counter(draw_pair(objects, hard, 0, i).redraws) for i in range(20)), Counter())
    assert {"too small to hide so much", "rate missed", "same image"} <= set(total)
    impossible = {
        "target vanishes": {"min_pixels_left": 10_000, "pairs_per_image": 9},
        "enlarged too much": {"max_enlargement": 0.1},
        "occluder outside the frame": {"min_inside": 1.01},
    }
    for reason, change in impossible.items():
        with pytest.raises(InputError, match=reason) as error:
            draw_pair(objects, replace(SMALL, **change), 0, 4)
        assert error.value.record == "pair 4"


def test_a_ladder_moves_one_occluder_along_its_direction(objects):
    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    for number in range(6):
        drawn, steps = draw_pair(objects, SMALL, 3, number), ladder(objects, SMALL, 3, number, rates)
        target = objects.mask(drawn.target)
        along = np.array([np.cos(drawn.direction), np.sin(drawn.direction)])
        solid = mask_box(drawn.alpha >= 128)
        middle = (mask_box(target)[:2] + mask_box(target)[2:]) / 2
        distances = []
        for step, rate in zip(steps, rates, strict=True):
            over = step.occluder_mask(*target.shape)
            assert step.achieved_rate == np.count_nonzero(target & over) / np.count_nonzero(target)
            assert step.target_rate == rate and abs(step.achieved_rate - rate) <= 0.05
            moved = np.array(step.corner) + (solid[:2] + solid[2:]) / 2 - middle
            distances.append(moved @ along)
            assert np.abs(moved - distances[-1] * along).max() <= 1  # whole pixels
            assert step.alpha is steps[0].alpha and np.array_equal(step.alpha, drawn.alpha)
            assert (step.target, step.occluder, step.scale) == (drawn.target, drawn.occluder, drawn.scale)
        assert distances == sorted(distances, reverse=True) and distances[-1] >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"rate_edges": (0.3,)},
        {"rate_edges": (0.0, 0.2, 0.4, 0.6, 0.8)},
        {"rate_edges": (0.2, 0.4, 0.4, 0.6, 0.8)},
        {"rate_edges": (0.2, 0.4, 0.5, 0.6, 1.0)},
        {"rate_weights": (1.0, 1.0)},
        {"rate_weights": (0.0, 0.0, 0.0, 0.0)},
        {"rate_weights": (2.0, -1.0, 1.0, 1.0)},
    ],
)
def test_a_curriculum_that_contradicts_itself_is_refused(objects, tmp_path, change):
    with pytest.raises(InputError) as error:
        synthesize(objects, tmp_path / "out", 2, config=replace(SMALL, **change))
    assert (error.value.file, error.value.record) == ("synthesis", "rate_edges")
    assert not (tmp_path / "out").exists()
    check_curriculum(replace(SMALL, rate_edges=(0.01, 0.99), rate_weights=(0.1,)))
    check_curriculum(replace(SMALL, rate_weights=(0.0, 0.0, 0.0, 1.0)))
