"""The end-to-end baseline: its four masks, what it is taught, and runs that are found again."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import plain_dataset, rectangle
from PIL import Image as PILImage
from test_training import Killed, interrupt
from torchvision.models.detection.roi_heads import paste_masks_in_image

from sameo_core import pipeline
from sameo_core.config import AmodalRcnnConfig
from sameo_core.errors import InputError
from sameo_core.front_ends import amodal_rcnn
from sameo_core.front_ends.amodal_rcnn import (
    MASKS,
    LenientRpn,
    amodal_front_end,
    build_amodal_rcnn,
    detection_target,
    draw_batch,
    four_masks,
)
from sameo_core.masks import decode_rle, mask_iou
from sameo_core.miniature import draw_scene
from sameo_core.miniature.nano_detector import build_nano_detector, load_nano_detector
from sameo_core.pipeline import train_all_amodal_rcnn, train_amodal_rcnn
from sameo_core.training import set_probabilities, training_log
from sameo_core.training.detectors import save_detector
from sameo_core.training.loop import TrainingRun


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_amodal_rcnn(build_nano_detector())


def two_objects():
    """8 x 8 pixels: A, columns 0..3, is hidden from column 2 on by B, columns 2..7; both over all rows."""
    behind, front = rectangle((8, 8), 0, 0, 4, 8), rectangle((8, 8), 2, 0, 8, 8)
    masks = np.stack([behind, front, behind & ~front, front]).astype(np.uint8)
    return torch.from_numpy(masks)


# RoIs whose cells are sampled at pixel centres (torchvision's RoIAlign puts the centre of pixel i at i)
A, B, FRAME = [-0.5, -0.5, 3.5, 7.5], [1.5, -0.5, 7.5, 7.5], [-0.5, -0.5, 7.5, 7.5]


def columns_of(roi, number, size):
    """Mask -> the values of its columns, which are the same in all rows."""
    (found,) = four_masks(two_objects(), torch.tensor([roi]), torch.tensor([number]), size)
    assert found.shape == (4, size, size) and (found == found[:, :1]).all()
    return dict(zip(MASKS, found[:, 0].tolist(), strict=True))


# ------------------------------------------------------------------------------------------------------- by hand


def test_four_masks_by_hand():
    assert columns_of(A, 0, 4) == {
        "occluder": [0, 0, 1, 1],  # B inside A's box
        "visible": [1, 1, 0, 0],
        "amodal": [1, 1, 1, 1],
        "hidden": [0, 0, 1, 1],
    }
    assert columns_of(B, 1, 6) == {"occluder": [0] * 6, "visible": [1] * 6, "amodal": [1] * 6, "hidden": [0] * 6}
    # In a wider RoI what is visible of A beside B shows, and what B hides of it does not.
    assert columns_of(FRAME, 1, 8)["occluder"] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert columns_of(FRAME, 0, 8) == {
        "occluder": [0, 0, 1, 1, 1, 1, 1, 1],
        "visible": [1, 1, 0, 0, 0, 0, 0, 0],
        "amodal": [1, 1, 1, 1, 0, 0, 0, 0],
        "hidden": [0, 0, 1, 1, 0, 0, 0, 0],
    }


def test_each_roi_shows_its_own_object_and_cells_are_shares():
    masks, rois = two_objects(), torch.tensor([FRAME, FRAME, FRAME])
    found = four_masks(masks, rois, torch.tensor([1, 0, 1]), 8)
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    halves = four_masks(masks, rois[:1], torch.tensor([0]), 4)[0, MASKS.index("amodal"), 0]
    assert halves.tolist() == [1, 1, 0, 0]
    thirds = four_masks(masks, torch.tensor([[-0.5, -0.5, 5.5, 5.5]]), torch.tensor([0]), 2)[0, MASKS.index("visible")]
    assert torch.allclose(thirds[0], torch.tensor([2 / 3, 0.0]))  # columns 0, 1 of 0, 1, 2
    alone = four_masks(torch.ones(2, 8, 8, dtype=torch.uint8), rois[:1], torch.tensor([0]), 8)[0]
    assert alone[MASKS.index("occluder")].max() == 0 and alone[MASKS.index("hidden")].max() == 0


@pytest.mark.parametrize("flip", [False, True])
def test_targets_are_amodal_boxes_and_both_masks(tmp_path, flip):
    (image,) = plain_dataset(1).images
    pixels = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    PILImage.fromarray(pixels).save(tmp_path / "a.png")
    found, target = detection_target(replace(image, path=tmp_path / "a.png"), flip)
    step = -1 if flip else 1
    assert torch.equal(found, torch.from_numpy(pixels[:, ::step].copy()).permute(2, 0, 1) / 255)
    # object 0 has columns 4..23, of which object 1 hides those from 14 on
    amodal, visible = [[4, 10, 24, 30], [14, 5, 44, 35]], [[4, 10, 14, 30], [14, 5, 44, 35]]
    assert target["boxes"].tolist() == ([[36, 10, 56, 30], [16, 5, 46, 35]] if flip else amodal)
    expected = [rectangle((40, 60), *box) for box in amodal + visible]
    assert np.array_equal(target["masks"].numpy().astype(bool), np.stack(expected)[..., ::step])
    assert target["labels"].tolist() == [1, 1]


# ------------------------------------------------------------------------------------------------------------ network


def test_answers_are_torchvision_s_and_visible_masks(model):
    model.eval()
    model.roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        first, second = model([torch.rand(3, 48, 64), torch.rand(3, 64, 48)])
    assert list(first) == ["boxes", "labels", "scores", "masks", "visible_masks"]
    n = len(first["boxes"])
    assert n > 0 and first["masks"].shape == (n, 1, 48, 64) and first["visible_masks"].shape == (n, 1, 28, 28)
    assert second["masks"].shape[-2:] == (64, 48)
    model.roi_heads.score_thresh = 2.0
    with torch.inference_mode():
        (empty,) = model([torch.rand(3, 48, 64)])
    assert empty["masks"].shape == (0, 1, 48, 64) and empty["visible_masks"].shape == (0, 1, 28, 28)


def scene_for(model, partly=False):
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[0, 8:40, 4:36] = masks[1, 20:60, 20:60] = 1
    masks[2:] = masks[:2]
    masks[2] &= 1 - masks[1]
    boxes = torch.tensor([[4.0, 8, 36, 40], [20.0, 20, 60, 60]])
    target = {"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64), "masks": torch.from_numpy(masks)}
    torch.manual_seed(3)
    return torch.rand(3, 64, 64), target | {"partly_annotated": torch.tensor(partly)}


def test_every_part_learns_from_one_step(model):
    image, target = scene_for(model)
    losses = model.train()([image], [target])
    assert {f"loss_{name}" for name in MASKS} < losses.keys() and len(losses) == 8
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert set(without) <= {"roi_heads.mask_head.decoder.self_attn.in_proj_bias", "backbone.encoder.pos_embed"}


def test_an_image_annotated_in_part_teaches_no_background(model):
    """Every sampled RoI is an object, and the RPN's negatives are ignored; so with the annotation complete there are
    more RoIs to classify."""
    seen = []
    model.train().roi_heads.box_predictor.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    labels = []
    judge = model.roi_heads.select_training_samples
    model.roi_heads.select_training_samples = lambda *a: labels.append(judge(*a)) or labels[-1]
    for partly in (False, True):
        image, target = scene_for(model, partly)
        torch.manual_seed(0)
        model([image], [target])
    complete, partial = (int((sample[2][0] > 0).sum()) for sample in labels)
    assert seen[0] == model.roi_heads.fg_bg_sampler.batch_size_per_image and seen[1] == partial < seen[0]
    assert complete > 0
    assert isinstance(model.rpn, LenientRpn)
    anchors = [torch.tensor([[20.0, 20, 60, 60], [0.0, 0, 8, 8], [4.0, 8, 36, 41]])]
    for partly, expected in ((False, [1, 0, 1]), (True, [1, -1, 1])):
        found, _ = model.rpn.assign_targets_to_anchors(anchors, [scene_for(model, partly)[1]])
        assert found[0].tolist() == expected


def test_the_torchvision_detector_of_paper_can_carry_the_head():
    model = build_amodal_rcnn(amodal_rcnn._blank_detector(AmodalRcnnConfig().rcnn_detector)).eval()
    assert model.roi_heads.mask_head.queries.shape == (4, 256)
    assert model.roi_heads.box_predictor.cls_score.out_features == 2
    logits = model.roi_heads.mask_head(torch.zeros(2, 256, 14, 14))
    assert logits.shape == (2, 4, 28, 28)
    with pytest.raises(InputError, match="retina"):
        amodal_rcnn._blank_detector("retina")


# ------------------------------------------------------------------------------------------------------------ batches


def sets_of_two_sizes(tmp_path):
    sets = []
    for size, name in ((1, "cocoa"), (7, "amodal_lvis")):
        dataset = plain_dataset(size, name)
        for image in dataset.images:
            path = tmp_path / f"{name}{image.image_id}.png"
            PILImage.fromarray(np.full((40, 60, 3), image.image_id, np.uint8)).save(path)
        dataset.images = [replace(i, path=tmp_path / f"{name}{i.image_id}.png") for i in dataset.images]
        sets.append(dataset)
    return sets


def test_batches_depend_on_seed_and_iteration_and_on_the_logarithm_of_sizes(tmp_path):
    sets = sets_of_two_sizes(tmp_path)
    recipe = AmodalRcnnConfig(rcnn_batch_images=6)
    first, again, other = (draw_batch(sets, recipe, seed, 3) for seed in (0, 0, 1))
    assert first.names == again.names and all(map(torch.equal, first.images, again.images))
    assert first.names != other.names or not all(map(torch.equal, first.images, other.images))
    drawn, mirrored = Counter(), 0
    for iteration in range(60):
        batch = draw_batch(sets, recipe, 0, iteration)
        for name, image, target in zip(batch.names, batch.images, batch.targets, strict=True):
            drawn[name] += 1
            assert bool(target["partly_annotated"]) == name.startswith("amodal_lvis")
            assert round(float(image[0, 0, 0]) * 255) == int(name.split()[1])
            mirrored += target["boxes"][0, 0] > 20
    assert set(drawn) == {"cocoa 0"} | {f"amodal_lvis {i}" for i in range(7)}
    share = set_probabilities([1, 7])[1]
    assert abs(1 - drawn["cocoa 0"] / 360 - share) < 4 * (share * (1 - share) / 360) ** 0.5
    assert 130 < mirrored < 230  # of 360


def test_in_the_place_of_a_damaged_image_comes_the_next_of_its_set(tmp_path):
    sets = sets_of_two_sizes(tmp_path)
    recipe, left_out = AmodalRcnnConfig(rcnn_batch_images=6), {}
    whole = [draw_batch(sets, recipe, 0, iteration).names for iteration in range(8)]
    (tmp_path / "amodal_lvis3.png").write_bytes(b"")
    with pytest.raises(InputError, match="bad_images=10") as error:
        [draw_batch(sets, recipe, 0, iteration) for iteration in range(8)]
    assert error.value.file == str(tmp_path / "amodal_lvis3.png")
    found = [draw_batch(sets, recipe, 0, iteration, left_out, 1).names for iteration in range(8)]
    assert found == [tuple(name.replace("lvis 3", "lvis 4") for name in names) for names in whole]
    assert list(left_out) == [str(tmp_path / "amodal_lvis3.png")]


# --------------------------------------------------------------------------------------------------------------- runs

TINY = {"rcnn_iterations": 4, "rcnn_batch_images": 1, "rcnn_warmup_iterations": 1, "log_every": 2}


def test_a_run_is_found_again_and_a_killed_one_goes_on_bit_for_bit(world, monkeypatch):
    profile = world.profile(**TINY)
    weights = train_amodal_rcnn(profile)
    assert weights.parent.parent == profile.runs and weights.parent.name.startswith("amodal_rcnn-")
    written = weights.read_bytes()
    stated = json.loads((weights.parent / "config.json").read_text())
    assert stated["amodal_rcnn"]["rcnn_iterations"] == 4 and stated["training"]["seed"] == 0
    there = json.loads((weights.parent / "environment.json").read_text())
    assert there["threads"] == stated["training"]["cpu_threads"]
    log = (weights.parent / "log.csv").read_bytes()
    assert [row["step"] for row in training_log(weights)] == [2, 4]
    with monkeypatch.context() as patch:
        interrupt(patch, 0, amodal_rcnn, "detector_losses")
        assert train_amodal_rcnn(profile) == weights  # found, not made
    model = amodal_front_end(weights).model
    assert not model.training and model.roi_heads.mask_head.queries.shape == (4, 64)

    files = {"config.json", "environment.json", "lock", "log.csv", weights.name}
    assert {file.name for file in weights.parent.iterdir()} == files
    weights.unlink()
    with monkeypatch.context() as patch:
        interrupt(patch, 3, amodal_rcnn, "draw_batch")
        with pytest.raises(Killed):
            train_amodal_rcnn(profile)
    assert [row["step"] for row in training_log(weights)] == [2]
    assert train_amodal_rcnn(profile).read_bytes() == written
    assert (weights.parent / "log.csv").read_bytes() == log


def test_another_seed_or_recipe_is_another_run(world, monkeypatch):
    monkeypatch.setattr(TrainingRun, "run", lambda *_: None)
    made = [
        train_amodal_rcnn(world.profile(**TINY)),
        train_amodal_rcnn(world.profile(**TINY), seed=1),
        train_amodal_rcnn(world.profile(**TINY, rcnn_learning_rate=1e-5)),
        train_amodal_rcnn(world.profile(**TINY, clip=2.0)),
    ]
    assert len(set(made)) == 4
    assert train_amodal_rcnn(world.profile(**TINY, amodal_prompt_share=0.1)) == made[0]  # SAMEO's own affair


def test_several_runs(world, monkeypatch):
    monkeypatch.setattr(TrainingRun, "run", lambda *_: None)
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 1)  # one after the other, in this process
    profile = world.profile(**TINY, seeds=(0, 1))
    assert train_all_amodal_rcnn(profile) == {seed: train_amodal_rcnn(profile, seed) for seed in (0, 1)}


def test_as_a_front_end_it_gives_amodal_and_visible_masks(tmp_path):
    """The same as torchvision's own way through full-size masks, box by box."""
    model = build_amodal_rcnn(load_nano_detector()).eval()
    front_end = amodal_front_end(save_detector(model, tmp_path / "weights.safetensors"))
    image = draw_scene("cocoa_cls", 3).image
    found = front_end.detect(image)
    with torch.inference_mode():
        (whole,) = model([torch.from_numpy(image).permute(2, 0, 1) / 255])
    whole["visible_masks"] = paste_masks_in_image(whole["visible_masks"], whole["boxes"], image.shape[:2])
    assert len(found.boxes) > 0 and front_end.name == "AISFormer-style (ours)"
    rows = [int(np.abs(whole["boxes"].numpy() - box).sum(1).argmin()) for box in found.boxes]
    for masks, name in ((found.amodal_masks, "masks"), (found.masks, "visible_masks")):
        for mask, row in zip(masks, rows, strict=True):
            assert mask_iou(decode_rle(mask), (whole[name][row, 0] >= 0.5).numpy()) > 0.98
    assert found.masks != found.amodal_masks
