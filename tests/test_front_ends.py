"""Front-ends: boxes of the annotated objects by hand, and noise that is bounded, reproducible and inside the image."""

import numpy as np
import pytest
from conftest import plain_dataset

from sameo_core.errors import InputError
from sameo_core.front_ends import Detections, ground_truth_boxes, jittered
from sameo_core.front_ends.base import check_scores, map_categories, strongest
from sameo_core.masks import encode_mask
from sameo_core.model.boxes import usable

IMAGE = plain_dataset(1)[0]  # 40 x 60 pixels
VISIBLE = [[4, 10, 14, 30], [14, 5, 44, 35]]  # the right half of the first object is hidden
AMODAL = [[4, 10, 24, 30], [14, 5, 44, 35]]


def detector(*boxes):
    """A front-end that finds the same boxes in every image."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ids = np.arange(len(boxes))
    found = Detections(boxes, np.linspace(0.9, 0.1, len(boxes), dtype=np.float32), 3 + ids, 0 * ids - 1)
    return lambda image: found


# ----------------------------------------------------------------------------------------------------- ground truth


@pytest.mark.parametrize(("kind", "boxes"), [("visible", VISIBLE), ("amodal", AMODAL)])
def test_ground_truth_by_hand(kind, boxes):
    found = ground_truth_boxes(kind)(plain_dataset(3)[2])
    assert np.array_equal(found.boxes, np.array(boxes) + [2, 0, 2, 0])  # image 2: everything 2 pixels to the right
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.scores.tolist() == [1, 1]
    assert found.category_ids.tolist() == [10, 11] and found.instance_ids.tolist() == [4, 5]
    assert np.array_equal(ground_truth_boxes()(IMAGE).boxes, VISIBLE)


# ---------------------------------------------------------------------------------------------- what detectors share


def test_the_strongest_that_a_mask_can_be_asked_for():
    boxes = [[1, 1, 9, 9], [5, 5, 5, 9], [-9, 0, 0, 5], [50, 30, 99, 99], [0, 0, 60, 40], [60, 0, 70, 9], [2, 2, 3, 3]]
    scores = np.array([0.25, 0.9, 0.9, 0.5, 0.75, 0.9, 0.5], np.float32)
    masks = tuple(encode_mask(np.full((40, 60), i % 2 == 0)) for i in range(7))
    found = Detections(np.array(boxes, np.float32), scores, np.arange(7), 10 + np.arange(7), masks)
    assert usable(found.boxes, (40, 60)).tolist() == [True, False, False, True, True, False, True]
    best = strongest(found, (40, 60), 0.25, 100)
    assert best.category_ids.tolist() == [4, 3, 6, 0]  # of the two with 0.5, the first comes first
    assert best.instance_ids.tolist() == [14, 13, 16, 10] and best.masks == tuple(masks[i] for i in (4, 3, 6, 0))
    assert np.array_equal(best.boxes, found.boxes[[4, 3, 6, 0]]) and best.scores.tolist() == [0.75, 0.5, 0.5, 0.25]
    assert strongest(found, (40, 60), 0.5, 2).category_ids.tolist() == [4, 3]
    assert strongest(found, (40, 60), 0.8, 100).boxes.shape == (0, 4)
    assert found.take(slice(2, 4)).category_ids.tolist() == [2, 3]


def test_scores_in_0_to_1():
    check_scores(np.array([0, 1, 0.5], np.float32), "detector")
    check_scores(np.zeros(0, np.float32), "detector")
    with pytest.raises(InputError, match="detection 1: .*found 1.5; 2 of 3 are not"):
        check_scores(np.array([0, 1.5, 7], np.float32), "detector")


def test_categories_by_hand():
    ids = np.array([0, 79, 11])
    for category_map, expected, kept in (
        (None, [0, 79, 11], [True] * 3),
        ("coco80_to_91", [1, 90, 13], [True] * 3),
        ({0: 5, 79: None, 11: 0}, [5, 0, 0], [True, False, True]),
    ):
        mapped, keeps = map_categories(ids, category_map, "detector")
        assert mapped.tolist() == expected and keeps.tolist() == kept
    assert [len(column) for column in map_categories(np.zeros(0, int), "coco80_to_91", "detector")] == [0, 0]


# ------------------------------------------------------------------------------------------------------------ jitter


def test_only_the_boxes_move():
    front_end = detector([5, 5, 25, 15], [10, 10, 50, 30])
    before, after = front_end(IMAGE), jittered(front_end, 0.2)(IMAGE)
    assert (before.boxes != after.boxes).all() and after.boxes.dtype == np.float32
    for name in ("scores", "category_ids", "instance_ids"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert np.array_equal(jittered(front_end, 0)(IMAGE).boxes, before.boxes)
    assert jittered(detector(), 0.1)(IMAGE).boxes.shape == (0, 4)


def noise(share, images=200, box=(20.0, 10.0, 40.0, 20.0), seed=0):
    """Movement of each side, as a share of the box's width or height."""
    front_end = jittered(detector(box), share, seed)
    moved = np.stack([front_end(image).boxes[0] for image in plain_dataset(images, size=(40, 300))])
    width, height = box[2] - box[0], box[3] - box[1]
    return (moved - box) / [width, height, width, height]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.4])
def test_every_side_moves_by_up_to_the_share_of_its_own_length(share):
    moves = noise(share)
    assert np.abs(moves).max() <= share * (1 + 1e-4)
    # Uniform on [-share, share]: mean 0, mean of the absolute value share / 2, on every side alike.
    assert np.abs(moves).max(0) == pytest.approx([share] * 4, rel=0.1)
    assert np.abs(moves).mean(0) == pytest.approx([share / 2] * 4, rel=0.15)
    assert moves.mean(0) == pytest.approx([0] * 4, abs=0.2 * share)
    assert np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.3  # sides move independently


def test_boxes_stay_inside_and_keep_a_pixel():
    corners = detector([0, 0, 60, 40], [0, 0, 1, 1], [59, 39, 60, 40], [0, 20, 60, 21])
    for image in plain_dataset(50):
        boxes = jittered(corners, 0.49)(image).boxes
        assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 60).all() and (boxes[:, [1, 3]] <= 40).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 1 - 1e-5).all()


def test_noise_depends_on_seed_and_image_alone():
    first, second = plain_dataset(2)
    front_end = jittered(ground_truth_boxes(), 0.1, seed=3)
    before = front_end(first).boxes
    front_end(second)
    assert np.array_equal(front_end(first).boxes, before)
    assert np.array_equal(jittered(ground_truth_boxes(), 0.1, seed=3)(first).boxes, before)
    assert (jittered(ground_truth_boxes(), 0.1, seed=4)(first).boxes != before).any()
    alike = jittered(detector([5, 5, 25, 15]), 0.1)
    assert (alike(first).boxes != alike(second).boxes).any()


@pytest.mark.parametrize("share", [-0.1, 0.5, 10, float("nan")])
def test_a_share_that_could_turn_boxes_over_is_refused(share):
    with pytest.raises(InputError, match=r"\[0, 0.5\)"):
        jittered(ground_truth_boxes(), share)
