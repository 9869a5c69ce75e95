"""Pre-training of nano: scenes as tensors, the auxiliary targets by hand, and runs that go on where they stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import rectangle
from test_training import Killed, interrupt

from sameo_core.errors import InputError
from sameo_core.masks import mask_box
from sameo_core.miniature import Scene, draw_scene, pretraining
from sameo_core.miniature.pretraining import (
    DenseHead,
    DrawnScenes,
    PretrainingConfig,
    dense_loss,
    pretrain,
    visible_ious,
)
from sameo_core.model import build_efficient_sam
from sameo_core.model.variants import VARIANTS
from sameo_core.runs.folders import read_log
from sameo_core.training import shrink_masks
from sameo_core.training.loop import linear_factor

SIDE = 256

# --------------------------------------------------------------------------------------------------------- scenes


def matches(scene, box, target, mirrored):
    """The objects of a scene whose visible box and mask these are."""
    visible = scene.visible[..., ::-1] if mirrored else scene.visible
    height, width = scene.image.shape[:2]
    scale = np.array([SIDE / width, SIDE / height] * 2)
    return [
        mask
        for mask in visible
        if np.allclose(mask_box(mask) * scale, box, atol=1e-2)
        and torch.equal(target, shrink_masks(np.ascontiguousarray(mask)[None], (SIDE // 4, SIDE // 4))[0])
    ]


@pytest.fixture(scope="module")
def exact_items():
    scenes = DrawnScenes(PretrainingConfig(box_jitter=0.0), SIDE)
    return [(draw_scene("pretraining", index), scenes[index]) for index in range(6)]


def test_boxes_and_targets_are_of_the_same_objects(exact_items):
    mirrored = []
    for scene, (image, boxes, targets, _) in exact_items:
        assert boxes.shape == (4, 4) and targets.shape == (4, 64, 64)
        assert (boxes >= 0).all() and (boxes <= SIDE).all() and (boxes[:, :2] < boxes[:, 2:]).all()
        both = [[matches(scene, b, t, m) for b, t in zip(boxes.numpy(), targets, strict=True)] for m in (False, True)]
        assert all(both[0]) or all(both[1])
        assert len(boxes.unique(dim=0)) == min(4, len(scene.visible))
        mirrored.append(all(both[1]))
        assert image.shape == (3, SIDE, SIDE) and image.min() >= 0 and image.max() <= 1
        if scene.image.shape[:2] == (SIDE, SIDE):
            pixels = torch.from_numpy(scene.image).permute(2, 0, 1) / 255
            assert torch.allclose(image, pixels.flip(-1) if mirrored[-1] else pixels, atol=1e-6)
    assert set(mirrored) == {False, True}


def test_jitter_moves_half_of_the_boxes_by_up_to_its_share(exact_items):
    scenes, moved = DrawnScenes(PretrainingConfig(box_jitter=0.05), SIDE), []
    for index, (_, (image, boxes, targets, dense)) in enumerate(exact_items):
        other = scenes[index]
        assert all(torch.equal(a, b) for a, b in zip((image, targets, dense), (other[0], *other[2:]), strict=True))
        shift = (other[1] - boxes).abs() / (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        assert shift.max() <= 0.0501
        moved += (shift.max(1).values > 1e-5).tolist()
    assert 6 <= sum(moved) <= 18  # of 24


def test_a_scene_depends_on_its_number_alone():
    first, second = DrawnScenes(PretrainingConfig(), SIDE), DrawnScenes(PretrainingConfig(), SIDE)
    second[4]
    assert all(torch.equal(a, b) for a, b in zip(first[3], second[3], strict=True))
    assert not torch.equal(first[3][0], first[4][0])
    assert not torch.equal(first[3][0], DrawnScenes(PretrainingConfig(seed=1), SIDE)[3][0])


# ---------------------------------------------------------------------------------------------------- dense targets


def test_dense_targets_by_hand():
    """Two objects side by side in the upper half of an 8 x 16 image, cells of 4 x 2 pixels: columns | rows."""
    left, right = rectangle((8, 16), 4, 0, 8, 4), rectangle((8, 16), 8, 0, 16, 4)
    visible = np.stack([left, right])
    image = np.zeros((8, 16, 3), np.uint8)
    low = torch.from_numpy(visible.reshape(2, 4, 2, 4, 4).mean((2, 4), dtype=np.float32))  # n 4 4, exact shares
    scene = Scene(image, visible, visible, ("a", "b"), identities=(1, 2), ground=None, ground_category=None)
    dense = pretraining._dense_targets(scene, low)
    assert dense.shape == (6, 4, 4)
    assert dense[0].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    # A boundary is where the owner differs from the one to the left or above.
    assert dense[1].tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert dense[2:, 0, 1].tolist() == [0.25, 0, 0.5, 0.5]  # the left object's box, in shares of width and height
    assert dense[2:, 1, 3].tolist() == [0.5, 0, 1, 0.5]
    assert (dense[2:, dense[0] == 0] == 0).all()


def test_dense_loss_by_hand():
    target = torch.zeros(1, 6, 2, 2)
    target[0, 0, 0], target[0, 2:, 0] = 1, 0.5  # the upper two cells are object
    perfect = target.clone()
    perfect[:, :2] = 100 * (2 * target[:, :2] - 1)
    assert dense_loss(perfect, target).item() == pytest.approx(0, abs=1e-6)
    wrong_box = perfect.clone()
    wrong_box[0, 2, 0, 0] += 0.8  # one of 2 cells x 4 numbers, weighted by 2
    wrong_box[0, 2:, 1] += 9  # in the background boxes do not count
    assert dense_loss(wrong_box, target).item() == pytest.approx(0.2)
    unsure = perfect.clone()
    unsure[:, :2] = 0
    assert dense_loss(unsure, target).item() == pytest.approx(np.log(2))
    assert dense_loss(torch.zeros(1, 6, 2, 2), torch.zeros(1, 6, 2, 2)).isfinite()  # no object at all
    assert DenseHead(128)(torch.zeros(2, 128, 16, 16)).shape == (2, 6, 64, 64)


# --------------------------------------------------------------------------------------------------------------- runs


def test_learning_rate_rises_stays_and_falls():
    factors = [linear_factor(step, 100, 10, 0.3) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert set(factors[9:71]) == {1.0}
    assert factors[70:] == pytest.approx([(100 - step) / 30 for step in range(70, 100)])


# Few steps: Muon multiplies in bf16, which few CPUs do quickly
TINY = PretrainingConfig(steps=2, images=2, boxes=2, warmup_steps=1, evaluate_every=1, evaluation_scenes=1, bf16=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return pretrain(TINY, tmp_path_factory.mktemp("whole"))


def test_a_run_leaves_weights_and_a_log(whole):
    assert whole.name == "efficient_sam_nano.safetensors"
    torch.manual_seed(TINY.seed)
    before, after = build_efficient_sam("nano").state_dict(), build_efficient_sam("nano", whole).state_dict()
    learnt = [key for key in before if not torch.equal(before[key].half().float(), after[key])]
    assert {key.split(".")[0] for key in learnt} == {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert sum(value.numel() for value in after.values()) * 2 < whole.stat().st_size < 8e6  # half precision
    log = read_log(whole.with_name("log.csv"))
    assert [row["step"] for row in log] == [1, 2]
    for row in log:
        weighted = row["dice"] + 20 * row["focal"] + row["iou"] + row["dense"]
        assert row["total"] == pytest.approx(weighted, abs=1e-4)
        assert 0 <= row["visible_miou_seen"] <= 1 and 0 <= row["visible_miou_unseen"] <= 1


def test_a_stopped_run_ends_as_an_undisturbed_one(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 1, pretraining, "pretraining_losses")
        with pytest.raises(Killed):
            pretrain(TINY, tmp_path)
    for _ in range(2):  # the second time there is nothing left to do
        assert pretrain(TINY, tmp_path).read_bytes() == whole.read_bytes()
        assert (tmp_path / "log.csv").read_bytes() == whole.with_name("log.csv").read_bytes()


def test_a_folder_belongs_to_one_recipe(tmp_path):
    for _ in range(2):
        pretraining.claim_folder(tmp_path, TINY)
    assert json.loads((tmp_path / "environment.json").read_text())["threads"] == torch.get_num_threads()
    with pytest.raises(InputError, match="belongs to one recipe") as error:
        pretrain(replace(TINY, boxes=3), tmp_path)
    assert error.value.file == str(tmp_path / "config.json")


def test_a_share_of_the_steps_trains_three_masks(monkeypatch):
    config = PretrainingConfig(images=1, boxes=2, bf16=False)
    image, boxes, targets, dense = DrawnScenes(config, SIDE)[0]
    batch = pretraining.PromptedScenes(("scene 0",), image[None], boxes[None], targets[None], dense[None])
    model, head = build_efficient_sam("nano"), DenseHead(VARIANTS["nano"].embedding_dim)
    for share, expected in ((0.0, False), (1.0, True)):
        asked, decode = [], model.decode_boxes
        with monkeypatch.context() as patch:
            patch.setattr(model, "decode_boxes", lambda *a, d=decode, s=asked: s.append(a[3]) or d(*a))
            terms = pretraining.pretraining_losses(model, head, batch, replace(config, multimask_share=share), step=0)
        assert asked == [expected] and all(term.isfinite() for term in terms.values())


# ---------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("training", [True, False])
def test_visible_ious(training):
    model = build_efficient_sam("nano").train(training)
    ious = visible_ious(model, "cocoa_cls", 2)
    objects = sum(len(draw_scene("cocoa_cls", index, split="val").visible) for index in range(2))
    assert ious.shape == (objects,) and (ious >= 0).all() and (ious <= 1).all()
    assert model.training == training
