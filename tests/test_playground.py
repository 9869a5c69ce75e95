"""The playground on objects of a few pixels, where the occlusion rate can be counted by hand."""

import numpy as np
import pytest

from sameo_core.apps import playground
from sameo_core.apps.playground import (
    AREA,
    OBJECTS,
    PASTES,
    SAMPLES,
    OcclusionPair,
    Paste,
    occlusion_curve,
    photograph_stages,
    sample_photograph,
    stages,
)
from sameo_core.errors import InputError
from sameo_core.evaluation import region_iou
from sameo_core.masks import mask_box
from sameo_core.model import AmodalPrediction, Sameo
from sameo_core.pipeline import open_clean_dataset


def pair(front=(10, 8)):
    """A square of 8 x 8 pixels at (12, 6) of a grey picture; a red occluder `front` (height, width)."""
    amodal = np.zeros((20, 40), bool)
    amodal[6:14, 12:20] = True
    red = np.zeros((*front, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    return OcclusionPair(np.full((20, 40, 3), 90, np.uint8), amodal, red, np.ones(front, bool))


def test_each_step_hides_one_column_more_up_to_the_middle_of_the_object():
    np.testing.assert_allclose(pair().rates, np.arange(8) / 8)  # the eighth would leave nothing
    np.testing.assert_allclose(pair((10, 4)).rates, np.minimum(np.arange(7), 4) / 8)
    assert pair((4, 8)).rates.max() == pytest.approx(0.5), "half as high: half of each column"


def test_a_moment_holds_the_cut_out_and_what_is_left():
    frame = pair().at(3)
    assert frame.rate == pytest.approx(3 / 8)
    assert mask_box(frame.visible).tolist() == [15, 6, 20, 14]
    assert frame.amodal.sum() == 64
    red = frame.image[..., 0].astype(int) - frame.image[..., 1]
    assert red[10, 12] > 200 and red[10, 8] > 200 and red[10, 17] == 0 and red[10, 3] == 0
    assert red[5, 10] > 100, "the occluder is higher than what it hides"


def test_a_cut_out_may_leave_the_frame():
    amodal = np.zeros((20, 40), bool)
    amodal[0:6, 1:9] = True
    long = OcclusionPair(
        np.zeros((20, 40, 3), np.uint8), amodal, np.full((12, 30, 3), 9, np.uint8), np.ones((12, 30), bool)
    )
    assert long.at(2).visible.sum() == 6 * 6


def test_places_begin_before_anything_is_hidden_and_hold_the_start():
    assert [pair().position(rate) for rate in (0, 0.25, 0.3, 0.99)] == [0, 2, 2, 7]
    wide = pair((10, 4))
    assert wide.places(3) == [0, 2, 3, 6] and wide.position(wide.rate) == 2
    assert wide.fingerprint() != pair((10, 5)).fingerprint()


def test_stages_are_of_two_images_and_unoccluded(world):
    dataset = open_clean_dataset("cocoa_cls", "val", world.profile())
    (found,) = stages(dataset, 1)
    assert found.rates[0] == 0 and found.rates.max() >= 0.7
    assert AREA[0] <= found.amodal.mean() <= AREA[1]
    behind = [item for image in dataset for item in image.instances if np.array_equal(item.amodal, found.amodal)]
    assert [item.occlusion_rate for item in behind] == [0]
    with pytest.raises(InputError):
        stages(dataset, 1000)


def test_the_curve_is_what_predict_says(nano):
    wide = pair()
    rows = occlusion_curve({"one": nano}, [wide], [0.25, 0.5, 0.56])
    assert [row["rate"] for row in rows] == [0.25, 0.5], "no column is hidden by half: 0.56 cannot be shown"
    for row, position in zip(rows, (2, 4), strict=True):
        frame = wide.at(position)
        prediction = nano.predict(frame.image, mask_box(frame.visible)[None])
        iou = region_iou(prediction.masks[0], frame.amodal, frame.visible)
        assert (row["hidden IoU"], row["IoU"]) == pytest.approx((iou.hidden, iou.full))
        assert row["predicted IoU"] == pytest.approx(float(prediction.iou[0]))
        assert row["shown rate"] == pytest.approx(row["rate"]) and row["pair"] == 0 and row["model"] == "one"


# ------------------------------------------------------------------------------------------------------- photographs


class WholeBoxes(Sameo):
    """Stands in for the un-tuned model: an object fills its box."""

    def __init__(self, *arguments, **options):
        self.model, self.variant = None, "sam"

    def fingerprint(self):
        return "whole boxes"

    def predict(self, image, boxes):
        masks = np.zeros((len(boxes), *image.shape[:2]), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        return AmodalPrediction(masks, np.ones(len(boxes), np.float32), np.ones(len(boxes), np.float32))


def test_the_sample_photographs_are_in_the_wheels():
    assert len(SAMPLES) == 6
    for name, item in OBJECTS.items():
        height, width = sample_photograph(item.photograph).shape[:2]
        x0, y0, x1, y1 = item.box
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height, name


@pytest.fixture
def whole_boxes(monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "Sameo", WholeBoxes)
    monkeypatch.setattr(playground, "RUNS", tmp_path)


def test_whole_objects_are_kept(whole_boxes, monkeypatch):
    first = photograph_stages(WholeBoxes())
    monkeypatch.setattr(WholeBoxes, "predict", None)
    for name, pair in photograph_stages(WholeBoxes()).items():
        assert pair.fingerprint() == first[name].fingerprint()


def test_cut_outs_of_photographs(whole_boxes):
    paste = Paste("rocket", "cup", 140, 0.2, mirrored=True)
    (pair,) = photograph_stages(WholeBoxes(), [paste]).values()
    coffee, (x0, y0, x1, y1) = sample_photograph("coffee"), OBJECTS["cup"].box
    assert (pair.background == coffee[:, ::-1]).all()
    assert mask_box(pair.amodal).tolist() == [600 - x1, y0, 600 - x0, y1]
    assert pair.shape.shape == (140, 16) and pair.top == 400 - 140
    assert pair.cut_out[70].mean() == pytest.approx(sample_photograph("rocket")[248, 305:336].mean(), abs=8)


def test_each_pasted_scene_can_begin_where_it_shall(whole_boxes):
    scenes = photograph_stages(WholeBoxes())
    assert [*scenes] == [f"{paste.front} over {paste.behind}" for paste in PASTES]
    for paste, pair in zip(PASTES, scenes.values(), strict=True):
        assert pair.start().rate == pytest.approx(paste.rate, abs=0.05)


def test_models_that_are_compared_share_one_embedding(nano, monkeypatch):
    encoded = []
    monkeypatch.setattr(nano, "embed", lambda image: encoded.append(image) or Sameo.embed(nano, image))
    answers = pair().at(3).answers({"one": nano, "two": nano})
    assert len(encoded) == 1 and len(answers) == 2
