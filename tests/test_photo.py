"""The profile `photo`: its readers, its frame, the pool that makes its own teacher, its test pairs."""

import csv
import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import AgreeingTeacher, dataset_of, photograph, plain_dataset, rectangle
from test_batches import Numbered

from sameo_core.config import (
    PHOTO_QUESTIONS,
    CompletenessConfig,
    TrainingConfig,
    ablation,
    geometry,
    load_profile,
    profiles,
    recipe,
    teacher_profile,
)
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.model import Sameo
from sameo_core.model.sam import build_sam_decoder
from sameo_core.pipeline import open_held_out, pool_of_profile
from sameo_core.synthesis import collect_complete_objects
from sameo_core.training import BatchSampler

SIZE = 96, 128


# ------------------------------------------------------------------------------------------------------ readers


def write_duts(root, rows):
    """index.csv, and for each (split, box of the mask) a photograph and its mask."""
    with (root / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "image", "mask", "width", "height", "imagenet_wnid"])
        for number, (split, box) in enumerate(rows):
            mask = rectangle((30, 40), *box)
            PIL.Image.fromarray(np.full((30, 40, 3), number, np.uint8)).save(root / f"{number}.jpg")
            PIL.Image.fromarray(mask.view(np.uint8) * 255).save(root / f"{number}.png")
            writer.writerow([split, f"{number}.jpg", f"{number}.png", 40, 30, ""])


def test_duts_is_read_by_split(tmp_path):
    write_duts(tmp_path, [("train", (5, 5, 20, 25)), ("test", (2, 3, 12, 13)), ("train", (8, 1, 30, 9))])
    train, val = load_dataset("duts", tmp_path, "train"), load_dataset("duts", tmp_path, "val")
    assert [len(train), len(val)] == [2, 1]
    assert [image.instances[0].visible_box.tolist() for image in train] == [[5, 5, 20, 25], [8, 1, 30, 9]]
    assert val[0].instances[0].amodal_rle is None and val[0].read().shape == (30, 40, 3)


def test_duts_without_a_column_or_with_a_damaged_mask(tmp_path):
    write_duts(tmp_path, [("train", (5, 5, 20, 25)), ("train", (8, 1, 30, 9))])
    (tmp_path / "0.png").write_bytes(b"no picture")
    found = load_dataset("duts", tmp_path, "train")
    assert [len(image.instances) for image in found] == [0, 1] and sum(map(len, found.skipped.values())) == 1
    (tmp_path / "index.csv").write_text("split,image\ntrain,0.jpg\n")
    with pytest.raises(InputError) as error:
        load_dataset("duts", tmp_path, "train")
    assert error.value.file == str(tmp_path / "index.csv")


# ------------------------------------------------------------------------------------------------------ the frame


def test_boxes_and_targets_of_a_batch_agree_in_sams_square():
    sam, dataset = build_sam_decoder(), plain_dataset(3, "set")  # images of 40 x 60
    recipe = TrainingConfig(batch_images=3, boxes_per_image=1, amodal_prompt_share=1.0)
    batch = BatchSampler([dataset], Numbered(), recipe, 1024, 0, input_size=sam.input_size).batch(0)
    assert sam.input_size((40, 60)) == (683, 1024)
    assert batch.boxes[..., [0, 2]].max() <= 1024 and batch.boxes[..., [1, 3]].max() <= 683
    cells = batch.targets.shape[-1] / 1024
    for (box,), (target,) in zip(batch.boxes, batch.targets, strict=True):
        rows, columns = torch.nonzero(target >= 0.5).T
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert torch.allclose(torch.stack(edges).float(), box * cells, atol=1)


def test_the_best_of_three_masks(nano):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    boxes = [[5, 5, 40, 40], [20, 10, 60, 45]]
    embedding = nano.embed(pixels)
    prompts = torch.tensor([boxes], dtype=torch.float32)
    with torch.inference_mode():
        three = nano.model.decode_boxes(embedding, prompts, (50, 70), multimask=True)
        logits = nano.model.upscale_logits(three.logits, (50, 70))[0]
    best = three.iou[0].argmax(-1).tolist()
    found = Sameo(nano.model, "nano", best_of_three=True).predict(pixels, boxes)
    for i, chosen in enumerate(best):
        assert np.array_equal(found.masks[i], (logits[i, chosen] >= 0).numpy())
    assert found.iou == pytest.approx(three.iou[0].max(-1).values.clamp(0, 1).numpy())


# ------------------------------------------------------------------------------------------------------ the pool


def test_a_ring_that_others_touch(tmp_path):
    """The ring of a 20 x 20 square has 28 x 28 - 400 = 384 pixels; a neighbour 2 pixels off covers 2 x 20 of them."""
    alone, left = rectangle(SIZE, 70, 40, 90, 60), rectangle(SIZE, 20, 20, 40, 40)
    right = rectangle(SIZE, 42, 20, 62, 40)
    dataset = dataset_of([photograph(tmp_path, 1, [alone, left, right], size=SIZE)], tmp_path)
    found = collect_complete_objects(None, dataset, CompletenessConfig(min_object_pixels=1), tmp_path / "record")
    assert found.free_ring == pytest.approx([1, 1 - 40 / 384, 1 - 40 / 384])
    assert len(found.complete()) == 3, "without a teacher nothing but geometry judges"
    assert len(found.judged(CompletenessConfig(min_object_pixels=1, min_free_ring=0.94)).complete()) == 1
    large = CompletenessConfig(min_object_pixels=1, max_object_share=399 / (96 * 128))
    assert not len(found.judged(large).complete())


def test_the_teacher_is_asked_of_what_geometry_leaves(tmp_path):
    small, whole, hidden = (rectangle(SIZE, *box) for box in ((5, 5, 9, 9), (20, 20, 60, 60), (70, 30, 110, 70)))
    behind = rectangle(SIZE, 70, 70, 110, 90)
    image = photograph(tmp_path, 1, [small, whole, hidden], size=SIZE)
    only_small = photograph(tmp_path, 2, [small], size=SIZE)
    dataset = dataset_of([image, only_small], tmp_path)
    teacher = AgreeingTeacher(dataset, {102: behind})
    found = collect_complete_objects(teacher, dataset, CompletenessConfig(), tmp_path / "record")
    assert teacher.seen == [1], "an image without a candidate is not encoded"
    assert np.isnan(found.agreement[[0, 3]]).all() and found.agreement[1:3] == pytest.approx([1, 1600 / 2400])
    assert found.complete().annotation_id.tolist() == [101]
    weaker = found.judged(CompletenessConfig(min_object_pixels=1))
    assert weaker.complete().annotation_id.tolist() == [101], "what the teacher was not asked of is not complete"


# ------------------------------------------------------------------------------------------------------ recipes


def test_photo_bootstraps_its_teacher():
    run = load_profile("photo")
    teacher = teacher_profile(run)
    assert teacher.data.train == ("amodal_lvis",) and not teacher.synthesis.complete.ask_teacher
    assert run.synthesis.complete.ask_teacher and teacher_profile(teacher) == teacher
    more = run.override(visible_only=("coco_photos", "duts"), complete_objects=500)
    assert teacher_profile(more) == teacher, "one teacher, whatever the other sources"
    assert recipe("zero_shot", run) == run


def test_the_questions_to_photographs_share_an_arm():
    run = load_profile("photo")
    arms = {question: ablation(question, run) for question in PHOTO_QUESTIONS}
    assert arms["training prompt"]["prompt_random"] == arms["dual annotation alone"]["alone_dual_on"]
    sizes = [arm.synthesis.complete_objects for arm in arms["complete objects"].values()]
    assert sizes == [25, 50, 100, None]
    few = arms["complete objects"] | arms["sources"]
    assert len({arm.synthesis.synthetic_images for arm in few.values()}) == 1
    assert few["coco_alone"] == few["objects_all"].override(visible_only=("coco_photos",))


# ------------------------------------------------------------------------------------------------------ test pairs


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """The profile on six photographs a split, each with one whole object, in COCO's layout."""

    monkeypatch.setattr(profiles, "RAW", tmp_path / "raw")
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    root = tmp_path / "raw" / "coco_photos"
    (root / "annotations").mkdir(parents=True)
    for split, first in (("train", 1), ("val", 11)):
        images, objects = [], []
        for number in range(first, first + 6):
            box = (20 + number, 15, 75 + number, 75)
            image = photograph(root / f"{split}2017", number, [rectangle(SIZE, *box)], size=SIZE)
            name = image.path.name
            names = {"file_name": name, "coco_url": f"x/{split}2017/{name}"}
            images.append({"id": number, "height": 96, "width": 128, **names})
            x0, y0, x1, y1 = box
            polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
            about = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
            objects.append(about | {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [polygon]})
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "thing"}]}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return load_profile("photo", val_images=6, held_out=("photo_pairs",), visible_only=("coco_photos",))


def test_test_pairs_are_made_of_val_photographs_without_a_model(photo):
    pairs = open_held_out(photo)["photo_pairs"]
    assert len(pairs) == 6
    sources = {item.extras["source_image_id"] for image in pairs for item in image.instances}
    assert sources <= set(range(11, 17)), "nothing of the train split"
    rates = [item.occlusion_rate for image in pairs for item in image.instances]
    assert sum(rate > 0.05 for rate in rates) == 3 and rates.count(0) == 6
    again = open_held_out(replace(photo, training=replace(photo.training, seeds=(7,))))["photo_pairs"]
    assert again.root == pairs.root


def test_objects_are_drawn_from_each_source(photo, tmp_path):
    first = pool_of_profile(photo.override(**geometry(photo)), None)
    assert len(first.complete()) == 6 and set(first.split.tolist()) == {"train"}
