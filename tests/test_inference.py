"""Inference over a data set: one encoding an image, results in order, scores that multiply."""

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import seeded_nano

from sameo_core.config import EvaluationConfig
from sameo_core.datasets import AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends import (
    OWN_AMODAL,
    OWN_VISIBLE,
    Detections,
    ground_truth_boxes,
    jittered,
    predict,
    predict_dataset,
    without_rescoring,
)
from sameo_core.masks import decode_rle, encode_mask, mask_iou
from sameo_core.model import EfficientSam, Sameo, build_efficient_sam
from sameo_core.pipeline import open_dataset


def other_decoder() -> Sameo:
    model, other = seeded_nano(), seeded_nano(seed=1)
    model.mask_decoder.load_state_dict(other.mask_decoder.state_dict())
    return Sameo(model, "nano")


def half_sure(image):
    """An exact detector with scores of its own, which leaves odd images empty."""
    found = ground_truth_boxes("amodal")(image)
    keep = np.arange(len(found.boxes)) if image.image_id % 2 == 0 else np.arange(0)
    scores = np.linspace(0.9, 0.3, len(found.boxes), dtype=np.float32)
    return Detections(found.boxes[keep], scores[keep], found.category_ids[keep], np.full(len(keep), -1))


FRONT_ENDS = {"exact": ground_truth_boxes(), "inexact": jittered(ground_truth_boxes(), 0.1), "half": half_sure}


@pytest.fixture
def dataset(world):
    return open_dataset("cocoa_cls", "val", world.profile())


@pytest.fixture
def results(nano, dataset):
    return predict_dataset({"a": nano, "b": other_decoder()}, dataset, FRONT_ENDS)


def test_each_image_is_read_and_encoded_once(nano, dataset, monkeypatch):
    asked, read, encoded, encode = [], AmodalImage.read, [], EfficientSam.encode_images
    monkeypatch.setattr(AmodalImage, "read", lambda self, *how: asked.append(self.image_id) or read(self, *how))
    monkeypatch.setattr(EfficientSam, "encode_images", lambda self, x: encoded.append(len(x)) or encode(self, x))
    predict_dataset({"a": nano, "b": other_decoder()}, dataset, FRONT_ENDS)
    assert asked == [image.image_id for image in dataset] and encoded == [1] * len(dataset)


def test_results_come_in_the_order_of_images_and_boxes(dataset, results):
    assert set(results) == {(model, front_end) for model in "ab" for front_end in FRONT_ENDS}
    for (_, name), found in results.items():
        detections = [(image, FRONT_ENDS[name](image)) for image in dataset]
        expected = [
            (image.image_id, category, instance, pytest.approx(box.tolist(), abs=0.01))
            for image, d in detections
            for category, instance, box in zip(d.category_ids, d.instance_ids, d.boxes, strict=True)
        ]
        assert expected
        assert [(r["image_id"], r["category_id"], r["instance_id"], r["box"]) for r in found] == expected


def test_the_score_is_front_end_score_times_predicted_iou(results):
    for (_, name), found in results.items():
        for r in found:
            assert r["score"] == np.float32(r["front_end_score"]) * np.float32(r["predicted_iou"])
        sure = {r["front_end_score"] for r in found}
        assert sure == {1.0} if name != "half" else len(sure) > 1


def test_results_are_those_of_predict(nano, dataset, results):
    image = dataset[1]
    truth = FRONT_ENDS["exact"](image)
    expected = nano.predict(image.read(), truth.boxes, truth.scores)
    found = [r for r in results["a", "exact"] if r["image_id"] == image.image_id]
    masks = np.stack([decode_rle(r["segmentation"]) for r in found])
    assert np.array_equal(masks, expected.masks)
    assert [r["predicted_iou"] for r in found] == expected.iou.tolist()
    assert results["a", "exact"] != results["b", "exact"]  # another decoder, other masks


def test_one_pass_for_all_gives_what_single_passes_give(nano, dataset, results):
    alone = predict_dataset({"b": other_decoder()}, dataset, {"inexact": FRONT_ENDS["inexact"]})
    assert alone == {("b", "inexact"): results["b", "inexact"]}
    assert predict_dataset({"a": nano}, dataset, {}) == {}


def test_many_boxes_are_decoded_a_few_at_a_time(nano, dataset, results, monkeypatch):
    nano.limits = EvaluationConfig(boxes_per_pass=1)
    monkeypatch.setattr(Sameo, "predict_embedded", lambda *_: pytest.fail("holds all masks of an image"))
    parts = predict_dataset({"a": nano}, dataset, FRONT_ENDS)
    for name in FRONT_ENDS:
        assert max(Counter(r["image_id"] for r in parts["a", name]).values()) > 1
        for part, whole in zip(parts["a", name], results["a", name], strict=True):
            assert part["box"] == whole["box"] and part["instance_id"] == whole["instance_id"]
            assert part["predicted_iou"] == pytest.approx(whole["predicted_iou"], abs=1e-5)
            assert mask_iou(decode_rle(part["segmentation"]), decode_rle(whole["segmentation"])) > 0.99


def test_the_next_images_are_read_while_one_is_predicted(nano, dataset, monkeypatch):
    """Two ahead, in another thread, and no more: a data set does not pile up in memory."""
    count, seen = threading.Semaphore(0), []
    read, embed = AmodalImage.read, Sameo.embed

    def counted(self):
        assert threading.current_thread() is not threading.main_thread()
        count.release()
        return read(self)

    def embedded(self, pixels):
        for _ in range(3 if not seen else len(seen) + 3 <= len(dataset)):
            assert count.acquire(timeout=60)  # the image itself and the two after it; later on, one more each time
        assert not count.acquire(timeout=0.05)
        seen.append(pixels)
        return embed(self, pixels)

    monkeypatch.setattr(AmodalImage, "read", counted)
    monkeypatch.setattr(Sameo, "embed", embedded)
    predict_dataset({"a": nano}, dataset, FRONT_ENDS)
    assert len(seen) == len(dataset) > 3


def test_an_error_while_reading_ahead_is_not_lost(nano, dataset):
    asked = []

    def fails(image):
        asked.append(image.image_id)
        if len(asked) == 2:
            raise InputError(file="detector", rule="out of order", remedy="-")
        return ground_truth_boxes()(image)

    with pytest.raises(InputError, match="out of order"):
        predict_dataset({"a": nano}, dataset, {"fails": fails})
    assert len(asked) <= 4 and not any("ThreadPool" in thread.name for thread in threading.enumerate())


# ---------------------------------------------------------------------------------------------- a front-end's own masks


def drawing(*kinds):
    """An exact detector that draws masks: the visible ones, and the amodal ones where asked to."""

    def detect(image):
        found = ground_truth_boxes("visible")(image)
        masks = {kind: tuple(getattr(item, f"{kind}_rle") for item in image.instances) for kind in kinds}
        scores = np.linspace(0.9, 0.3, len(found.boxes), dtype=np.float32)
        return replace(found, scores=scores, masks=masks.get("visible"), amodal_masks=masks.get("amodal"))

    return detect


def test_masks_of_the_front_end_come_along_and_stand_for_themselves(nano, dataset):
    front_ends = {
        "boxes": ground_truth_boxes(),
        "modal": drawing("visible"),
        "both": drawing("visible", "amodal"),
    }
    found = predict_dataset({"ours": nano}, dataset, front_ends)
    assert set(found) == {("ours", name) for name in front_ends} | {(OWN_VISIBLE, "modal"), (OWN_AMODAL, "both")}
    assert not any("visible_mask" in result for result in found["ours", "boxes"])
    visible = [item.visible_rle for image in dataset for item in image.instances]
    assert [result["visible_mask"] for result in found["ours", "both"]] == visible
    assert [result["segmentation"] for result in found[OWN_VISIBLE, "modal"]] == visible
    amodal = [item.amodal_rle for image in dataset for item in image.instances]
    assert [result["segmentation"] for result in found[OWN_AMODAL, "both"]] == amodal
    for result, own in zip(found["ours", "both"], found[OWN_AMODAL, "both"], strict=True):
        assert own["score"] == own["front_end_score"] == result["front_end_score"] and "predicted_iou" not in own


def test_masks_of_another_size_are_refused_at_once(nano, dataset, monkeypatch):
    decoded, first = [], next(image.image_id for image in dataset if len(image.instances))
    monkeypatch.setattr(Sameo, "predict_in_passes", lambda *args: decoded.append(1) or [])

    def turned(image):
        found = drawing("visible")(image)
        return replace(found, masks=tuple(encode_mask(decode_rle(mask).T) for mask in found.masks))

    with pytest.raises(InputError, match=f"front-end turned, image {first}: masks have the image's"):
        predict_dataset({"a": nano}, dataset, {"turned": turned})
    assert not decoded


def test_without_rescoring(results):
    before = [dict(r) for r in results["a", "half"]]
    plain = without_rescoring(results["a", "half"])
    assert [r["score"] for r in plain] == [r["front_end_score"] for r in before] != [r["score"] for r in before]
    assert [r | {"score": 0} for r in plain] == [r | {"score": 0} for r in before]
    assert results["a", "half"] == before  # nothing is changed in place


def test_other_encoders_are_refused(nano, dataset, monkeypatch):
    monkeypatch.setattr(predict, "tqdm", lambda *_, **__: pytest.fail("nothing may be predicted"))
    for other in (Sameo(seeded_nano(seed=1), "nano"), Sameo(build_efficient_sam("vit_t"), "vit_t")):
        with pytest.raises(InputError):
            predict_dataset({"a": nano, "b": other}, dataset, FRONT_ENDS)
