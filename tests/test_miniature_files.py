"""Miniatures of the sets whose masks are files: what is drawn is what is read, bit for bit, blemishes are counted."""

import functools
import json
import pickle
import shutil

import numpy as np
import PIL.Image
import pytest

from sameo_core.datasets import load_dataset
from sameo_core.masks import encode_mask
from sameo_core.miniature import WRITERS, draw_dataset

NAMES = ["dyce", "mp3d_amodal", "walt", "kitti360_aps", "pix2gestalt", "lvvis"]
IMAGES = 12  # enough for one of most blemishes


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folder and data set of each name, split "val", drawn once."""
    made = {}

    def get(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            draw_dataset(name, root, "val", IMAGES, seed=5, jobs=1)
            dataset = load_dataset(name, root, "val")
            dataset.summary()  # touches every image
            made[name] = root, dataset
        return made[name]

    return get


@functools.cache
def scene_of(name, index):
    return WRITERS[name].draw(name, index, 5, "val")


def expected(name, index):
    """Of the scene, the (amodal, visible) counts that the format can hold, back to front; equal counts, equal masks."""
    scene = scene_of(name, index)
    pairs = [(a, v) for a, v in zip(scene.amodal, scene.visible, strict=True) if v.any()]
    if name == "mp3d_amodal":
        pairs = [(a, v) for a, v in reversed(pairs) if (a & ~v).any()]
    amodal = [None if name == "lvvis" else encode_mask(a)["counts"] for a, _ in pairs]
    return list(zip(amodal, [encode_mask(v)["counts"] for _, v in pairs], strict=True))


SKIPPED = {  # what the blemishes of 12 images cost
    "dyce": {"empty visible mask": 1},
    "mp3d_amodal": {"empty visible mask": 1},
    "walt": {"empty visible mask": 1},
    "kitti360_aps": {"category_id is not id // 1000": 1, "empty amodal mask": 1},
    "pix2gestalt": {"no file in whole_mask and visible_object_mask": 1},
    "lvvis": {},
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_what_is_read(drawn, name):
    """Also the records that the blemishes cost, and no others, are missing."""
    _, dataset = drawn(name)
    assert len(dataset) == IMAGES and {r: len(v) for r, v in dataset.skipped.items()} == SKIPPED[name]
    by_file = {image.file_name: image for image in dataset}
    lost = 0
    for index in range(IMAGES):
        layout = WRITERS[name]
        stored_as = layout.image_name(index + 1, "val")
        (image,) = (image for file, image in by_file.items() if stored_as.endswith(file))
        assert image.read().shape == (image.height, image.width, 3) == scene_of(name, index).image.shape
        pairs = expected(name, index)
        lost += len(pairs) - len(image.instances)
        assert {(i.amodal_rle and i.amodal_rle["counts"], i.visible_rle["counts"]) for i in image.instances} <= set(
            pairs
        )
    added = {"dyce": 1, "walt": 1, "pix2gestalt": 1}.get(name, 0)  # what the files have beyond the scene
    assert lost == sum(SKIPPED[name].values()) - added


# ------------------------------------------------------------------------------------------------ each in its format


def test_dyce_has_tags_with_spaces_the_building_and_junk(drawn):
    root, dataset = drawn("dyce")
    tags = set(dataset.categories.values())
    assert {"wall", "floor", "default (1)"} <= tags
    assert any(" " in tag for tag in tags - {"default (1)"}) and any("(2)" in tag for tag in tags - {"default (1)"})
    line = (root / "annotations/val.txt").read_text().splitlines()[0].split()
    assert (root / "Images" / line[0]).is_file() and (root / "modal" / line[1]).is_file()
    assert (root / "amodal" / line[2]).is_file() and (root / "FullObj" / line[-1]).is_file()
    assert all(0 <= int(number) <= 1000 for number in line[3:7])


def test_mp3d_amodal_is_a_plain_pickle_of_occluded_objects(drawn):
    root, dataset = drawn("mp3d_amodal")
    data = pickle.loads((root / "MP3D_seleted_eval_10.29.pkl").read_bytes())
    assert isinstance(data["annotations"][0]["regions"][0]["segmentation"]["counts"], bytes)
    instances = [instance for image in dataset for instance in image.instances]
    assert all(instance.occlusion_rate > 0 for instance in instances)
    assert {"wall", "objects"} <= {instance.category for instance in instances}
    assert all(instance.is_stuff == (instance.category in ("wall", "floor")) for instance in instances)
    assert any(image.depth_constraint for image in dataset)


def test_walt_has_both_forms_and_they_agree(drawn, tmp_path):
    root, exact = drawn("walt")
    shutil.copy(root / "cwalt_val/ann.json", tmp_path)
    polygons = load_dataset("walt", tmp_path, "val")
    assert len(polygons) == IMAGES - 1 and polygons[0].instances[0].instance_id == 0
    for image, other in zip(exact, polygons, strict=False):
        for a, b in zip(image.instances, other.instances, strict=True):
            assert a.amodal_rle == b.amodal_rle and a.visible_rle == b.visible_rle
    stored = np.load(root / "cwalt_val/Segmentation" / f"{exact[0].path.stem}.npz")["mask"]
    assert stored.dtype == np.uint8 and stored.shape[1:] == (240, 320, 3) and set(np.unique(stored)) == {0, 1, 2}
    bottoms = [[i.amodal_box[3] for i in image.instances] for image in exact]
    assert any(list(b) != sorted(b) for b in bottoms)  # pasted in any order, unlike in a street
    rates = [i.occlusion_rate for image in exact for i in image.instances]
    assert min(rates) == 0 and max(rates) > 0.85  # something on either side of a band


def test_kitti360_aps_paints_near_objects_over_far_ones(drawn):
    root, dataset = drawn("kitti360_aps")
    frame = root / "val/amodal_panoptic_seg/2013_05_28_drive_0010_sync/0000000001_ampano.png"
    with PIL.Image.open(frame) as image:
        ids = np.array(image)
        assert image.mode == "I;16" and {7, 11} <= set(np.unique(ids)) and ids.max() >= 24001
    listed = json.loads(frame.with_suffix(".json").read_text())
    assert all(bool(item["amodal_mask"]) == item["occluded"] for item in listed.values())
    assert {i.category for image in dataset for i in image.instances} <= {
        "person", "rider", "car", "truck", "bus", "caravan", "trailer",
    }  # fmt: skip


def test_pix2gestalt_is_square_and_every_object_is_occluded(drawn):
    _, dataset = drawn("pix2gestalt")
    for image in dataset:
        (instance,) = image.instances
        assert (image.height, image.width) == (256, 256) and instance.occlusion_rate >= 0.05


def test_lvvis_has_backslashes_nulls_and_objects_that_move(drawn):
    root, dataset = drawn("lvvis")
    data = json.loads((root / "val_instances.json").read_text())
    assert [len(video["file_names"]) for video in data["videos"]] == [2, 3, 4, 2, 1]
    assert data["videos"][1]["file_names"][2] == "00001\\00002.jpg"
    masks = [annotation["segmentations"] for annotation in data["annotations"]]
    assert any(None in listed for listed in masks) and all(any(listed) for listed in masks)
    moving = [listed for listed in masks if len(listed) > 1 and None not in listed[:2]]
    assert any(listed[0] != listed[1] for listed in moving)
    assert all(image.path.is_file() for image in dataset)
