"""The detector of `mini`: what it finds, what it learns from, and runs that go on where they stopped."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import rectangle
from test_training import Killed, interrupt
from torch import nn
from torchvision.ops import box_iou

from sameo_core.__main__ import main
from sameo_core.config import WEIGHTS
from sameo_core.masks import mask_box, mask_iou
from sameo_core.miniature import Scene, draw_scene, nano_detector
from sameo_core.miniature.nano_detector import (
    NANO_DETECTOR,
    DetectionScenes,
    DetectorConfig,
    box_average_precision,
    build_nano_detector,
    load_nano_detector,
    pretrain_detector,
)
from sameo_core.model import build_efficient_sam
from sameo_core.model.checkpoints import read_weights
from sameo_core.runs.folders import read_log
from sameo_core.training.detectors import detector_optimiser

# Of the first ten scenes; measured 0.88 and 0.78, 0.69 and 0.69
RECALL = {"cocoa_cls": 0.75, "d2sa": 0.65}
MASK_IOU = {"cocoa_cls": 0.6, "d2sa": 0.6}
TINY = DetectorConfig(steps=2, images=2, warmup_steps=1, evaluate_every=1, evaluation_scenes=1)


@pytest.fixture(scope="module")
def shipped():
    return load_nano_detector()


# ---------------------------------------------------------------------------------------------------- the shipped file


def test_the_shipped_file_is_small_and_complete(shipped):
    path = WEIGHTS / NANO_DETECTOR
    assert path.stat().st_size < 10e6
    stored = safetensors.torch.load_file(path)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert stored.keys() == shipped.state_dict().keys()
    assert not shipped.training
    encoder = build_efficient_sam("nano", WEIGHTS / "efficient_sam_nano.safetensors").image_encoder.state_dict()
    learnt = [key for key in encoder if not torch.equal(encoder[key], stored[f"backbone.encoder.{key}"].float())]
    assert learnt  # it goes on from the pre-trained encoder ...
    changes = [(encoder[k] - stored[f"backbone.encoder.{k}"].float()).norm() / encoder[k].norm() for k in encoder]
    assert np.median(changes) < 0.7  # ... and has not left it for another one


def test_the_log_belongs_to_the_recipe():
    rows, config = read_log(WEIGHTS / "detector_nano.log.csv"), DetectorConfig()
    assert [row["step"] for row in rows] == list(range(config.evaluate_every, config.steps + 1, config.evaluate_every))
    assert rows[-1]["box_ap50_unseen"] >= 0.6


@pytest.mark.parametrize("domain", ["cocoa_cls", "d2sa"])
def test_it_finds_objects_of_shapes_it_has_never_seen(shipped, domain):
    """Recall of visible boxes at IoU 0.5 and score 0.5; and the masks found are masks of these objects."""
    found, wanted, ious = 0, 0, []
    for index in range(10):
        scene = draw_scene(domain, index, split="val")
        with torch.inference_mode():
            (answer,) = shipped([torch.from_numpy(scene.image).permute(2, 0, 1) / 255])
        assert answer["labels"].unique().tolist() == [1]
        assert answer["masks"].shape == (len(answer["boxes"]), 1, *scene.image.shape[:2])
        assert (answer["scores"].diff() <= 0).all()
        boxes = answer["boxes"][answer["scores"] >= 0.5]
        best, which = box_iou(torch.from_numpy(np.stack([mask_box(mask) for mask in scene.visible])), boxes).max(1)
        wanted += len(best)
        found += int((best >= 0.5).sum())
        for mask, k, iou in zip(scene.visible, which, best, strict=True):
            if iou >= 0.5:
                ious.append(mask_iou(answer["masks"][k, 0].numpy() >= 0.5, mask))
    assert found / wanted > RECALL[domain]
    assert np.mean(ious) > MASK_IOU[domain]


# --------------------------------------------------------------------------------------------------------- the network


def test_parameters_are_counted(shipped):
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in shipped.named_children()}
    assert counts == {"transform": 0, "backbone": 3294016, "rpn": 37903, "roi_heads": 1035724}


def test_four_levels_from_one_map(shipped):
    levels = shipped.backbone(torch.zeros(1, 3, 256, 256))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        str(i): (1, 64, 256 // stride, 256 // stride) for i, stride in enumerate((4, 8, 16, 32))
    }
    assert all(level.dtype == torch.float32 for level in levels.values())


# -------------------------------------------------------------------------------------------------------------- scenes


def test_scenes_are_drawn_objects_with_their_visible_boxes():
    scenes, mirrored = DetectionScenes(DetectorConfig()), []
    for index in range(6):
        scene, (image, target) = draw_scene("pretraining", index), scenes[index]
        pixels = torch.from_numpy(scene.image).permute(2, 0, 1) / 255
        mirrored.append(not torch.equal(image, pixels))
        masks = torch.from_numpy(scene.visible)
        assert torch.equal(image, pixels.flip(-1) if mirrored[-1] else pixels)
        assert torch.equal(target["masks"].bool(), masks.flip(-1) if mirrored[-1] else masks)
        for box, mask in zip(target["boxes"], target["masks"].numpy().astype(bool), strict=True):
            assert box.tolist() == mask_box(mask).tolist()
        assert target["labels"].tolist() == [1] * len(scene.visible)
    assert set(mirrored) == {False, True}


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return pretrain_detector(TINY, tmp_path_factory.mktemp("whole"))


def test_a_run_leaves_weights_and_a_log(whole):
    assert whole.name == NANO_DETECTOR
    load_nano_detector(whole)
    log = read_log(whole.with_name("log.csv"))
    assert [row["step"] for row in log] == [1, 2]
    losses = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    for row in log:
        assert row["total"] == pytest.approx(sum(row[name] for name in losses), abs=1e-5)
        assert 0 <= row["box_ap50_seen"] <= 1 and 0 <= row["box_ap50_unseen"] <= 1
    start = build_efficient_sam("nano", WEIGHTS / TINY.encoder).image_encoder.state_dict()
    after = read_weights(whole)
    drift = max((after[f"backbone.encoder.{key}"] - value).abs().max() for key, value in start.items())
    assert 0 < drift < 0.01  # it started from the pre-trained encoder, and the encoder learns


def test_a_stopped_run_ends_as_an_undisturbed_one(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 1, nano_detector, "detector_losses")
        with pytest.raises(Killed):
            pretrain_detector(TINY, tmp_path)
    assert pretrain_detector(TINY, tmp_path).read_bytes() == whole.read_bytes()
    assert (tmp_path / "log.csv").read_bytes() == whole.with_name("log.csv").read_bytes()


def test_the_command_line_takes_the_shipped_recipe(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(nano_detector, "pretrain_detector", lambda *a: asked.append(a) or tmp_path / NANO_DETECTOR)
    assert main(["pretrain-detector", "--out", str(tmp_path)]) == 0
    assert main(["pretrain-detector", "--out", str(tmp_path), "--steps", "7"]) == 0
    assert asked == [(DetectorConfig(), tmp_path), (replace(DetectorConfig(), steps=7), tmp_path)]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / NANO_DETECTOR)] * 2


def test_the_encoder_learns_slower_and_vectors_do_not_decay():
    model = build_nano_detector()
    groups = detector_optimiser(model, 1e-3, 0.3, 0.05).param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == len(list(model.parameters()))
    assert found[id(model.backbone.encoder.patch_embed.proj.weight)] == pytest.approx((3e-4, 0.05))
    assert found[id(model.backbone.encoder.patch_embed.proj.bias)] == pytest.approx((3e-4, 0))
    assert found[id(model.rpn.head.cls_logits.weight)] == pytest.approx((1e-3, 0.05))
    assert found[id(model.rpn.head.cls_logits.bias)] == pytest.approx((1e-3, 0))


# ---------------------------------------------------------------------------------------------------------- evaluation


class Oracle(nn.Module):
    """Answers every image with the same boxes and scores."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.modes = set()
        self.answer = {"boxes": torch.tensor(boxes), "scores": torch.tensor(scores)}

    def forward(self, images):
        self.modes.add(self.training)
        return [self.answer]


def test_average_precision_by_hand(monkeypatch):
    """Two objects of 10 x 10 in each image; AP is the mean of the precision at recall 0, 0.01, ..., 1."""
    visible = np.stack([rectangle((40, 60), 0, 0, 10, 10), rectangle((40, 60), 20, 20, 30, 30)])
    scene = Scene(np.zeros((40, 60, 3), np.uint8), visible, visible, ("a", "b"), (1, 2), None, None)
    monkeypatch.setattr(nano_detector, "draw_scene", lambda *a, **k: scene)

    def ap(boxes, scores, **options):
        model = Oracle(boxes, scores)
        found = box_average_precision(model, "cocoa_cls", 2, **options)
        assert model.training and model.modes == {False}
        return found

    first, second, nowhere = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [40.0, 0, 50, 10]
    assert ap([first, second], [0.9, 0.8]) == pytest.approx(1)
    assert ap([first], [0.9]) == pytest.approx(51 / 101)  # half of the objects, so recall 0 .. 0.5
    assert ap([first, second, nowhere], [0.9, 0.8, 0.7]) == pytest.approx(1)  # wrong, but ranked last
    assert ap([nowhere, first, second], [0.9, 0.8, 0.7]) == pytest.approx(2 / 3)  # 4 right of 6, at the end
    moved = [2.0, 0, 12, 10]  # shares 80 of 120 pixels with the first object: IoU 2/3
    assert ap([moved], [0.9], iou=0.65) == pytest.approx(51 / 101) and ap([moved], [0.9], iou=0.7) == 0
    assert ap(np.zeros((0, 4)), np.zeros(0)) == 0
