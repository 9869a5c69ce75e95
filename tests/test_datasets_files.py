"""Readers of the sets whose masks are files, pickles and videos: the 6 x 8 fixtures by hand, and every bad input."""

import copy
import json
import os
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_datasets import MASKS, POLYGON, RLE_AMODAL, RLE_EMPTY, RLE_HIDDEN, RLE_VISIBLE, SIZE, VISIBLE_POLYGON
from test_photographs import png_of_size

from sameo_core.datasets import load_dataset
from sameo_core.datasets.base import InstancesOnDemand
from sameo_core.datasets.files import read_plain_pickle
from sameo_core.datasets.pix2gestalt import FOLDERS
from sameo_core.errors import InputError
from sameo_core.masks import decode_rle

AMODAL, VISIBLE = decode_rle(RLE_AMODAL), decode_rle(RLE_VISIBLE)


def png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def mask_png(path, mask):
    png(path, mask.astype(np.uint8) * 255)


# ------------------------------------------------------------------------------------------------ fixtures

DYCE_LINES = (
    "room3_cam12.png room3_cam12_pred_17.png room3_cam12_amodal_17.png 210 330 480 610 chair_tolix (2) full_17.png\n"
    "room3_cam12.png room3_cam12_modal_18.png room3_cam12_amodal_18.png 210 330 480 610 wall full_18.png\n"
)


def dyce(root, lines=DYCE_LINES):
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/val.txt").write_text(lines, errors="surrogateescape")
    png(root / "Images/room3_cam12.png", np.zeros((6, 8, 3), np.uint8))
    for number in (17, 18):
        mask_png(root / f"amodal/room3_cam12_amodal_{number}.png", AMODAL)
        mask_png(root / f"modal/room3_cam12_modal_{number}.png", VISIBLE)


def with_bytes(rle):
    return {"counts": rle["counts"].encode(), "size": rle["size"]}


MP3D = {
    "images": [{"file_name": "17DRP5sb8fy_0001_i1_3.jpg"} | SIZE],
    "annotations": [
        {
            "depth_constraint": "",
            "regions": [
                {"category_id": 3, "isStuff": 0} | {key: with_bytes(rle) for key, rle in MASKS.items()},
                {"category_id": "1", "isStuff": 1} | MASKS,
            ],
        }
    ],
}


PROTOCOLS = 0, 2, 5  # the oldest, Python 2's, the newest


def mp3d_amodal(root, data=MP3D, protocol=4):
    content = data if isinstance(data, bytes) else pickle.dumps(data, protocol=protocol)
    (root / "MP3D_seleted_eval_10.29.pkl").write_bytes(content)


WALT_OBJECT = {"image_id": 1, "category_id": 0, "iscrowd": 0, "area": 30}
WALT_OBJECT |= {"segmentation": [{"visible": [VISIBLE_POLYGON], "full": [POLYGON]}]}
WALT = {
    "images": [{"id": 1, "file_name": "images/2022-06-04T10-00-00.000001.jpg"} | SIZE],
    "categories": [{"id": 0, "name": "car", "supercategory": "car"}],
    "annotations": [WALT_OBJECT | {"id": i} for i in (0, 1)],
}


def walt_json(root, data=WALT):
    (root / "cwalt_test").mkdir(parents=True)
    (root / "cwalt_test/ann.json").write_text(json.dumps(data))


def walt_mask():
    layers = np.zeros((3, 6, 8, 3), np.uint8)
    layers[0][AMODAL] = 2
    layers[0][VISIBLE] = 1
    layers[1][0, :] = 1
    layers[2][5, :] = 2  # wholly hidden
    return layers


def walt(root, mask=None):
    folder = root / "cwalt_test/Segmentation"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "2022-06-04T10-00-00.000001.npz", mask=walt_mask() if mask is None else mask)


KITTI = {
    "26001": {"category_id": 26, "occluded": True, "occlusion_mask": RLE_HIDDEN, "amodal_mask": RLE_AMODAL},
    "24003": {"category_id": 24, "occluded": False, "occlusion_mask": [], "amodal_mask": []},
}
SEQUENCE = "2013_05_28_drive_0010_sync"


def kitti_ids():
    ids = np.full((6, 8), 11, np.uint16)
    ids[VISIBLE] = 26001
    ids[0, :] = 24003
    return ids


def kitti360_aps(root, data=KITTI, ids=None, folder="val/amodal_panoptic_seg"):
    path = root / folder / SEQUENCE / "0000000042_ampano.png"
    png(path, kitti_ids() if ids is None else ids)
    path.with_suffix(".json").write_text(json.dumps(data))


def pix2gestalt(root, ids=("9", "42", "100")):
    for name in ids:
        png(root / f"occlusion/{name}_occlusion.png", np.zeros((6, 8, 3), np.uint8))
        mask_png(root / f"whole_mask/{name}_whole_mask.png", AMODAL)
        mask_png(root / f"visible_object_mask/{name}_visible_mask.png", VISIBLE)


LVVIS = {
    "videos": [{"id": 0, "width": 8, "height": 6, "length": 2, "file_names": ["00000\\00000.jpg", "00000\\00001.jpg"]}],
    "categories": [{"id": 6, "name": "airplane", "partition": 0}],
    "annotations": [
        {
            "id": 1,
            "video_id": 0,
            "category_id": 6,
            "iscrowd": 0,
            "segmentations": [RLE_AMODAL, None],
            "areas": [16, None],
        }
    ],
}


def lvvis(root, data=LVVIS):
    (root / "val_instances.json").write_text(json.dumps(data))


WRITE = {
    "dyce": dyce,
    "mp3d_amodal": mp3d_amodal,
    "walt": walt,
    "kitti360_aps": kitti360_aps,
    "pix2gestalt": pix2gestalt,
    "lvvis": lvvis,
}


# ------------------------------------------------------------------------------------------------ by hand


def test_dyce_by_hand(tmp_path):
    dyce(tmp_path)
    dataset = load_dataset("dyce", tmp_path)
    assert dataset.categories == {1: "chair_tolix (2)", 2: "wall"} and dataset.skipped == {}
    (image,) = dataset
    assert image.path == tmp_path / "Images/room3_cam12.png" and image.read().shape == (6, 8, 3)
    chair, wall = image.instances  # the second token of the first line names a mask that does not exist
    assert (chair.instance_id, chair.category, wall.category) == (1, "chair_tolix (2)", "wall")
    assert chair.amodal_rle == RLE_AMODAL and chair.visible_rle == RLE_VISIBLE


LINE = DYCE_LINES.split("\n")[0]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("room3_cam12.png a b", "line is not image, modal, amodal, box, tag, full object"),
        (LINE.replace("amodal_17", "amodal_19"), "file missing"),
        (LINE.replace("amodal_17", "amodal_17\udcff"), "file missing"),
        (LINE.replace("room3_cam12_amodal", "../amodal/room3_cam12_amodal"), "file name leaves"),
        (LINE.replace("room3_cam12.png", "/room3.png"), "image file name leaves"),
        (LINE.replace("room3_cam12.png", "gone.png"), "image file missing"),
    ],
)
def test_bad_lines_of_dyce_are_skipped_and_counted(tmp_path, line, rule):
    dyce(tmp_path, DYCE_LINES + line + "\r\n\n")
    dataset = load_dataset("dyce", tmp_path)
    assert dataset.summary()["instances"] == 2
    ((found, records),) = dataset.skipped.items()
    assert found.startswith(rule) and len(records) == 1 and records[0].split()[0] in ("line", "image")


def test_dyce_says_what_it_looked_for_and_reads_rendered_rooms_only(tmp_path):
    dyce(tmp_path)
    with pytest.raises(InputError, match="looked for annotations/train.txt; TXT files found: annotations/val.txt"):
        load_dataset("dyce", tmp_path, "train")
    with pytest.raises(InputError, match="natural images of dyce are another format, found 'test_real'"):
        load_dataset("dyce", tmp_path, "test_real")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mp3d_amodal_by_hand(tmp_path, protocol):
    mp3d_amodal(tmp_path, protocol=protocol)
    dataset = load_dataset("mp3d_amodal", tmp_path)
    assert dataset.skipped == {} and dataset.categories[40] == "misc"
    (image,) = dataset
    assert image.path == tmp_path / "mp3d_eval/17DRP5sb8fy_0001_i1_3.jpg" and image.image_id == 1
    chair, wall = image.instances
    assert (chair.category_id, chair.category, chair.is_stuff) == (3, "chair", False)
    assert (wall.category_id, wall.category, wall.is_stuff) == (1, "wall", True)
    for instance in (chair, wall):
        assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE


def test_mp3d_amodal_categories_in_words_and_without_optional_keys(tmp_path):
    regions = [{"category_id": name} | MASKS for name in ("toilet", "zebra", " aquarium", "77")]
    mp3d_amodal(tmp_path, MP3D | {"annotations": [{"regions": regions}]})
    instances = load_dataset("mp3d_amodal", tmp_path)[0].instances
    assert [i.category for i in instances] == ["toilet", "zebra", "aquarium", "category 77"]
    assert instances[0].category_id == 18 and len({i.category_id for i in instances}) == 4


def test_mp3d_amodal_images_where_they_were_unpacked(tmp_path):
    mp3d_amodal(tmp_path)
    png(tmp_path / "mp3d_eval/images/17DRP5sb8fy_0001_i1_3.jpg", np.zeros((6, 8, 3), np.uint8))
    assert load_dataset("mp3d_amodal", tmp_path, "eval")[0].read().shape == (6, 8, 3)


def test_walt_npz_by_hand(tmp_path):
    walt(tmp_path)
    dataset = load_dataset("walt", tmp_path)
    (image,) = dataset
    assert image.path == tmp_path / "cwalt_test/images/2022-06-04T10-00-00.000001.jpg"
    first, second = image.instances
    assert first.amodal_rle == RLE_AMODAL and first.visible_rle == RLE_VISIBLE
    assert (first.category, first.order, second.order) == ("car", 3, 2)  # pasted first: at the very back
    assert [i.instance_id for i in image.instances] == [1, 2]
    assert dataset.skipped == {"empty visible mask": ["file 2022-06-04T10-00-00.000001.npz, object 2"]}


def test_walt_json_by_hand(tmp_path):
    walt_json(tmp_path)
    dataset = load_dataset("walt", tmp_path, "test")
    first, second = dataset[0].instances
    assert (first.instance_id, first.category_id, first.amodal_rle) == (0, 0, RLE_AMODAL)
    assert first.visible_rle == RLE_VISIBLE and first.area == 16  # the file says 30: x2 * y2
    assert [row["id"] for row in dataset.to_coco()["annotations"]] == [1, 2]  # 0 is "no match" in pycocotools


def test_walt_prefers_exact_masks_and_says_what_it_looked_for(tmp_path):
    walt(tmp_path)
    (tmp_path / "cwalt_test/ann.json").write_text(json.dumps(WALT))
    assert load_dataset("walt", tmp_path)[0].instances[0].instance_id == 1
    with pytest.raises(
        InputError, match=r"Segmentation or a file ann.json in cwalt_train, train or .*; found cwalt_test"
    ):
        load_dataset("walt", tmp_path, "train")


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"mask": walt_mask()[..., 0]}, "npz array of another kind: 1"),
        ({"mask": walt_mask().astype(np.int64)}, "npz array of another kind: 1"),
        ({"mask": np.asfortranarray(walt_mask())}, "npz array of another kind: 1"),
        ({"mask": np.zeros((0, 6, 8, 3), np.uint8)}, "none"),
        ({"mask": walt_mask() + 2}, "value other than 0, 1 and 2: 3"),
        ({"masks": walt_mask()}, "file cannot be decoded: 1"),
    ],
)
def test_npz_of_another_kind(tmp_path, arrays, rule):
    path = tmp_path / "Segmentation/a.npz"
    path.parent.mkdir()
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=f"no usable annotation, skipped: {rule}"):
        load_dataset("walt", tmp_path)


@pytest.mark.parametrize("folder", ["val/amodal_panoptic_seg", "amodal_panoptic_seg/val"])
def test_kitti360_aps_by_hand(tmp_path, folder):
    kitti360_aps(tmp_path, folder=folder)
    dataset = load_dataset("kitti360_aps", tmp_path)
    assert dataset.summary()["instances"] == 2 and dataset.skipped == {}
    (image,) = dataset
    assert image.file_name == f"data_2d_raw/{SEQUENCE}/image_00/data_rect/0000000042.png"
    car, person = image.instances
    assert (car.category, car.is_stuff, person.category) == ("car", False, "person")
    assert car.amodal_rle == RLE_AMODAL and car.visible_rle == RLE_VISIBLE
    assert person.visible_area == 8 and person.occlusion_rate == 0


def test_kitti360_aps_with_images_beside(tmp_path):
    kitti360_aps(tmp_path, folder="amodal_panoptic_seg/front")
    with pytest.raises(InputError, match=r"no <frame>_ampano.png below val/.*found amodal_panoptic_seg, amodal_panop"):
        load_dataset("kitti360_aps", tmp_path)
    png(tmp_path / f"images/front/{SEQUENCE}/0000000042_rgb.jpg", np.zeros((6, 8, 3), np.uint8))
    (image,) = load_dataset("kitti360_aps", tmp_path, "front")
    assert len(image.instances) == 2 and image.read().shape == (6, 8, 3)


def test_stuff_of_kitti360_aps_is_marked_and_unlisted_things_are_counted(tmp_path):
    kitti360_aps(tmp_path, {"11": {"category_id": 11, "occluded": False}, "26001": KITTI["26001"]})
    dataset = load_dataset("kitti360_aps", tmp_path)
    assert [(i.category, i.is_stuff) for i in dataset[0].instances] == [("building", True), ("car", False)]
    assert list(dataset.skipped) == ["thing in the PNG that the JSON does not list"]


def test_kitti360_aps_ids_need_16_bits(tmp_path):
    kitti360_aps(tmp_path, ids=kitti_ids().astype(np.uint8))
    with pytest.raises(InputError, match="no usable annotation, skipped: mask file of unknown mode: 1"):
        load_dataset("kitti360_aps", tmp_path)


def test_pix2gestalt_by_hand(tmp_path):
    pix2gestalt(tmp_path)
    os.remove(tmp_path / "whole_mask/42_whole_mask.png")
    train, val = (load_dataset("pix2gestalt", tmp_path, split) for split in ("train", "val"))
    assert [image.image_id for image in [*train, *val]] == [100, 9]  # sorted as names, not as numbers
    assert train.skipped == {"no file in whole_mask": ["id 42"]}
    (instance,) = train[0].instances
    assert (instance.instance_id, instance.category) == (100, "object")
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    assert train[0].read().shape == (6, 8, 3)


def test_pix2gestalt_split_at_99_percent_in_sub_folders_and_without_numbers(tmp_path):
    for folder, ending in FOLDERS.items():
        for i in range(201):
            mask_png(tmp_path / folder / f"{i % 3}" / f"a{i:03d}{ending}", AMODAL)
    train, val = (load_dataset("pix2gestalt", tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (198, 3)
    names = {image.file_name for image in [*train, *val]}
    assert len(names) == 201 and len({image.image_id for image in train}) == 198


def test_pix2gestalt_needs_its_folders_and_two_pictures(tmp_path):
    with pytest.raises(InputError, match="pix2gestalt needs the folders occlusion, whole_mask, visible_object_mask"):
        load_dataset("pix2gestalt", tmp_path)
    pix2gestalt(tmp_path, ["7"])
    with pytest.raises(InputError, match="at least one picture each, found 1 complete"):
        load_dataset("pix2gestalt", tmp_path, "train")
    with pytest.raises(InputError, match="pix2gestalt has the splits train, val; found 'test'"):
        load_dataset("pix2gestalt", tmp_path, "test")


def test_lvvis_by_hand(tmp_path):
    lvvis(tmp_path)
    dataset = load_dataset("lvvis", tmp_path)
    (image,) = dataset  # the second frame has no mask
    assert image.path == tmp_path / "val/JPEGImages/00000/00000.jpg" and image.image_id == 1
    (instance,) = image.instances
    assert instance.visible_rle == RLE_AMODAL and instance.category == "airplane"
    with pytest.raises(InputError, match="no amodal mask"):
        dataset.to_coco()


def test_lvvis_ids_number_all_frames(tmp_path):
    masks = [RLE_AMODAL, RLE_VISIBLE, None, [[2, 1, 6, 1, 6, 5, 2, 5]], RLE_HIDDEN]
    videos = [*LVVIS["videos"], {"id": 1, "width": 8, "height": 6, "file_names": [f"v/{t}.jpg" for t in range(5)]}]
    annotations = [*LVVIS["annotations"], {"id": 2, "video_id": 1, "category_id": 6, "segmentations": masks}]
    lvvis(tmp_path, LVVIS | {"videos": videos, "annotations": annotations})
    dataset = load_dataset("lvvis", tmp_path)
    assert [image.image_id for image in dataset] == [1, 3, 4, 6, 7]
    assert [image.instances[0].instance_id for image in dataset] == [1, 3, 4, 6, 7]
    assert [image.file_name for image in dataset][3:] == ["v/3.jpg", "v/4.jpg"]


def another_region(change):
    data = copy.deepcopy(MP3D)
    data["annotations"][0]["regions"][1] |= change
    return data


def another_object(change):
    return KITTI | {change.pop("key", "26001"): KITTI["26001"] | change}


def another_annotation(change):
    return LVVIS | {"annotations": [LVVIS["annotations"][0], LVVIS["annotations"][0] | {"id": 2} | change]}


BAD_RECORDS = {
    (mp3d_amodal, another_region, "image 1, region 2"): [
        ({"visible_mask": None}, "segmentation is empty"),
        ({"visible_mask": RLE_EMPTY}, "empty visible mask"),
        ({"segmentation": with_bytes(RLE_AMODAL) | {"size": [8, 6]}}, "RLE of another size"),
        ({"segmentation": {"counts": b"\xff\xff", "size": [6, 8]}}, "RLE counts string is corrupt"),
        ({"category_id": None}, "annotation without category"),
        ({"category_id": -1}, "annotation without category"),
    ],
    (kitti360_aps, another_object, f"frame {SEQUENCE}/0000000042, object "): [
        ({"amodal_mask": RLE_EMPTY}, "empty amodal mask"),
        ({"amodal_mask": {"counts": "PPYo1", "size": [1080, 1920]}}, "RLE of another size"),
        ({"amodal_mask": []}, "occluded but without amodal mask"),
        ({"category_id": 24}, "category_id is not id // 1000"),
        ({"iscrowd": 1}, "crowd region"),
        ({"key": "26002"}, "empty visible mask"),
        ({"key": "5001", "category_id": 5}, "thing with the category of stuff"),
        ({"key": "99001", "category_id": 99}, "unknown category_id"),
        ({"key": "car"}, "object without a whole-number id"),
    ],
    (lvvis, another_annotation, "annotation 2"): [
        ({"video_id": 3}, "annotation without video"),
        ({"segmentations": [RLE_AMODAL]}, "masks and frames differ in number"),
        ({"segmentations": None}, "masks and frames differ in number"),
        ({"segmentations": [RLE_EMPTY, None]}, "empty visible mask"),
        ({"iscrowd": 1}, "crowd region"),
        ({"category_id": 5}, "unknown category_id"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "change", "rule"), [(kind, *row) for kind, rows in BAD_RECORDS.items() for row in rows]
)
def test_bad_records_are_skipped_and_counted(tmp_path, kind, change, rule):
    write, spoil, record = kind
    write(tmp_path, spoil(dict(change)))
    dataset = load_dataset(write.__name__, tmp_path)
    assert dataset.summary()["instances"] > 0
    assert list(dataset.skipped) == [rule] and dataset.skipped[rule][0].startswith(record)


# ------------------------------------------------------------------------------------------------ PNG masks


@pytest.mark.parametrize(
    ("mode", "read"),
    [("1", True), ("L", True), ("I;16", True), ("RGB", True), ("RGBA", True), ("P", False), ("CMYK", False)],
)
def test_modes_of_mask_files(tmp_path, mode, read):
    pix2gestalt(tmp_path)
    grey = PIL.Image.fromarray(AMODAL.astype(np.uint8) * 255)
    image = PIL.Image.fromarray(AMODAL.astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "whole_mask/100_whole_mask.png", format="TIFF" if mode == "CMYK" else "PNG")
    if read:
        assert load_dataset("pix2gestalt", tmp_path, "train")[0].instances[0].amodal_rle == RLE_AMODAL
    else:
        dataset = load_dataset("pix2gestalt", tmp_path, "train")
        dataset.summary()
        assert dataset.skipped == {"mask file of unknown mode": ["id 100"]}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 12_000)])
def test_png_bombs(tmp_path, size):
    dyce(tmp_path)
    (tmp_path / "amodal/room3_cam12_amodal_18.png").write_bytes(png_of_size(*size))
    dataset = load_dataset("dyce", tmp_path)
    assert dataset.summary()["instances"] == 1
    assert list(dataset.skipped) in (["file cannot be decoded"], ["mask file of another size"])
    (tmp_path / "Images/room3_cam12.png").write_bytes(png_of_size(*size))
    with pytest.raises(InputError):
        load_dataset("dyce", tmp_path)
    with pytest.raises(InputError, match="cannot be decoded|another size"):
        dataset[0].read()


# ------------------------------------------------------------------------------------------------ on demand


def test_masks_are_read_when_asked_for_and_skipped_records_are_counted_then(tmp_path):
    pix2gestalt(tmp_path, [f"{i:02d}" for i in range(4)])
    mask_png(tmp_path / "whole_mask/01_whole_mask.png", np.ones((8, 6), bool))
    dataset = load_dataset("pix2gestalt", tmp_path, "train")
    for path in tmp_path.glob("whole_mask/02*"):
        path.unlink()
    assert "not read yet" in repr(dataset[1].instances)
    assert list(dataset[1].instances) == [] and dataset[1].instances.skipped == {"mask file of another size": ["id 01"]}
    assert isinstance(dataset[0].instances, InstancesOnDemand) and dataset[0].instances == tuple(dataset[0].instances)
    assert dataset.skipped == {"mask file of another size": ["id 01"], "file missing": ["id 02"]}
    for _ in range(2):  # not counted again
        assert dataset.summary()["skipped"] == {"mask file of another size": 1, "file missing": 1}


@pytest.mark.parametrize("name", WRITE)
def test_data_sets_travel_to_worker_processes(tmp_path, name):
    WRITE[name](tmp_path)
    dataset = load_dataset(name, tmp_path)
    travelled = pickle.loads(pickle.dumps(dataset))
    assert [tuple(image.instances) for image in travelled] == [tuple(image.instances) for image in dataset]


def test_another_tag_in_the_index_is_another_fingerprint(tmp_path):
    dyce(tmp_path)
    first = load_dataset("dyce", tmp_path).fingerprint()
    lines = DYCE_LINES.replace("chair_tolix (2)", "swap").replace("wall", "chair_tolix (2)").replace("swap", "wall")
    (tmp_path / "annotations/val.txt").write_text(lines)
    assert load_dataset("dyce", tmp_path).fingerprint() != first
    (tmp_path / "annotations/val.txt").write_text(DYCE_LINES)
    assert load_dataset("dyce", tmp_path).fingerprint() == first


# ------------------------------------------------------------------------------------------------ attacks


class Attack:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", ["root", "region", "key"])
def test_a_malicious_pickle_does_not_execute(tmp_path, protocol, place):
    victim = tmp_path / "victim"
    attack = Attack(os.mkdir, str(victim))
    data = copy.deepcopy(MP3D)
    data["annotations"][0]["regions"].append(attack)
    mp3d_amodal(tmp_path, {"root": attack, "key": {attack: 1}}.get(place, data), protocol)
    with pytest.raises(InputError, match=r"MP3D_seleted_eval.*forbidden global: (posix|nt)\.mkdir"):
        load_dataset("mp3d_amodal", tmp_path)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"cos\nsystem\n(S'echo'\ntR.", "forbidden global: os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "forbidden global: __builtin__.eval"),
        (b"cbuiltins\ngetattr\n.", "forbidden global: builtins.getattr"),
        (b"(S'x'\nios\nsystem\n.", "forbidden global: os.system"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "forbidden global"),
        (b"cnumpy\ndtype.__class__\n.", "forbidden global"),
        (b"P1\n.", "not a pickle of plain data"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".", "not a pickle of plain data"),
        (b"", "not a pickle of plain data"),
        (pickle.dumps([1]), "must hold a dict"),
        (pickle.dumps({"images": []}), "must hold a dict"),
        (pickle.dumps({"images": [1], "annotations": []}), "must hold a dict"),
        (pickle.dumps({"images": [], "annotations": []}), "no usable annotation"),
        (pickle.dumps({"images": np.array([None], object), "annotations": []}), "not a pickle of plain data"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_pickles(tmp_path, content, rule):
    mp3d_amodal(tmp_path, content)
    with pytest.raises(InputError) as error:
        load_dataset("mp3d_amodal", tmp_path)
    assert rule in error.value.rule and error.value.file.endswith("10.29.pkl")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_and_arrays_of_numpy_become_plain_data(tmp_path, protocol):
    data = {
        "scalars": [np.int64(-3), np.float32(0.5), np.bool_(True), np.dtype(">i2").type(7)],
        "array": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 3)),
        "bytes": [b"", b"=42\xff"],
        "tuple": (1, "é", None, True),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    read = read_plain_pickle(tmp_path / "a.pkl")
    assert read == {
        "scalars": [-3, 0.5, True, 7],
        "array": [[0, 1, 2], [3, 4, 5]],
        "fortran": [[0, 1, 2], [3, 4, 5]],
        "empty": [],
        "bytes": [b"", b"=42\xff"],
        "tuple": (1, "é", None, True),
    }


def test_npz_with_objects_does_not_execute(tmp_path):
    victim = tmp_path / "victim"
    mask = np.empty((1, 1, 1, 3), object)
    mask[:] = Attack(os.mkdir, str(victim))
    walt(tmp_path, mask)
    with pytest.raises(InputError, match="no usable annotation, skipped: npz array of another kind: 1 "):
        load_dataset("walt", tmp_path)
    assert not victim.exists()


# ------------------------------------------------------------------------------------------------ damage


def read_all(name, root):
    """What comes out is a data set that keeps the invariants, or an InputError."""
    try:
        dataset = load_dataset(name, root)
        for image in dataset:
            for instance in image.instances if image.height * image.width < 10**6 else ():  # may be large and right
                assert instance.visible.any()
                if name != "lvvis":
                    assert not (instance.visible & ~instance.amodal).any() and 0 <= instance.occlusion_rate < 1
        json.dumps(dataset.summary())
    except InputError as error:
        assert error.rule and error.remedy


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(list(WRITE)),
    st.integers(0, 30),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_bytes_are_damaged_only_a_data_set_or_an_input_error_comes_out(name, which, flips, kept):
    with tempfile.TemporaryDirectory() as root:
        WRITE[name](Path(root))
        files = sorted(path for path in Path(root).rglob("*") if path.is_file())
        path = files[which % len(files)]
        content = bytearray(path.read_bytes())
        for where, value in flips:
            content[int(where * (len(content) - 1))] = value
        path.write_bytes(content[: int(kept * len(content))])
        read_all(name, root)


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-10, 2**65), st.floats(), st.text(max_size=4), st.binary(max_size=4)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=6,
)
TREES = {
    "mp3d_amodal": (mp3d_amodal, MP3D),
    "walt": (walt_json, WALT),
    "kitti360_aps": (kitti360_aps, KITTI),
    "lvvis": (lvvis, LVVIS),
}


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(TREES)), st.lists(st.integers(0, 10), min_size=1, max_size=7), json_values, st.booleans())
def test_whatever_node_is_replaced_only_a_data_set_or_an_input_error_comes_out(name, steps, value, delete):
    write, data = TREES[name]
    node, key = {"root": copy.deepcopy(data)}, "root"
    root_node = node
    for step in steps:
        if not isinstance(node[key], (dict, list)) or not node[key]:
            break
        node = node[key]
        key = (list(node) if isinstance(node, dict) else range(len(node)))[step % len(node)]
    if delete:
        del node[key]
    else:
        node[key] = value
    try:
        json.dumps(root_node)
    except TypeError:  # bytes, which a pickle may hold
        if name != "mp3d_amodal":
            return
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), root_node.get("root"))
        read_all(name, root)
