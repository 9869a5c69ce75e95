"""Readers: the 6 x 8 fixtures worked by hand, real samples, and every way a file or a record can be bad."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from sameo_core.datasets import AmodalImage, load_dataset
from sameo_core.datasets.images import image_size, read_photograph
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_amodal
from sameo_core.masks import decode_rle, intersect_rle, mask_area

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")

TURNED = {179898, 443426, 464824}  # LVIS: polygons and boxes of these images differ by a quarter turn

RLE_AMODAL = {"counts": "=4200000;", "size": [6, 8]}
RLE_VISIBLE = {"counts": "=420g0", "size": [6, 8]}
RLE_HIDDEN = {"counts": "i0420;", "size": [6, 8]}
RLE_EMPTY = {"counts": "`1", "size": [6, 8]}

SIZE = {"height": 6, "width": 8}
MASKS = {"segmentation": RLE_AMODAL, "visible_mask": RLE_VISIBLE}
HALF = {"iscrowd": 0, "bbox": [2, 1, 4, 4], "area": 16, "occlude_rate": 0.5}
POLYGON, VISIBLE_POLYGON = [2, 1, 6, 1, 6, 5, 2, 5], [2, 1, 4, 1, 4, 5, 2, 5]  # of the same masks


def one_object(image, category, annotation):
    """A COCO file with one object."""
    place = {"image_id": image["id"], "category_id": category["id"]}
    return {"images": [image | SIZE], "categories": [category], "annotations": [annotation | place]}


CUP_REGION = {"order": 1, "name": "cup ", "isStuff": 0, "area": 8, "occlude_rate": 0}
TRAY_REGION = {"order": 2, "name": "tray", "isStuff": 1, "area": 16, "occlude_rate": 0.5}
COCOA = {
    "images": [SIZE | {"id": 7, "file_name": "COCO_val2014_000000000007.jpg", "license": 1}],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "author": "a1",
            "size": 2,
            "depth_constraint": "1-2",
            "regions": [
                CUP_REGION | {"segmentation": [4.0, 1.0, 6.0, 1.0, 6.0, 5.0, 4.0, 5.0]},
                TRAY_REGION | {"segmentation": POLYGON, "visible_mask": RLE_VISIBLE, "invisible_mask": RLE_HIDDEN},
            ],
        }
    ],
}
COCOA_CLS = one_object(
    {"id": 285, "file_name": "COCO_val2014_000000000285.jpg"},
    {"id": 90, "name": "toothbrush"},
    {"id": 11, "invisible_mask": RLE_HIDDEN} | HALF | MASKS,
)
COCOA_CLS["categories"].insert(0, {"id": 1, "name": "person"})
LVIS = one_object(
    {"id": 391895, "coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg", "neg_category_ids": [3]},
    {"id": 7, "name": "cup", "synset": "cup.n.01", "frequency": "f"},
    {"id": 1, "bbox": [2, 1, 4, 4], "area": 16.0, "segmentation": [POLYGON]},
)
D2SA = one_object(
    {"id": 100, "file_name": "D2S_000100.jpg"},
    {"id": 1, "name": "item_a ", "supercategory": "water"},
    {"id": 1, "occl_depth": 1, "invisible_mask": RLE_HIDDEN} | HALF | MASKS,
)
KINS = one_object(
    {"id": 0, "file_name": "000001.png"},
    {"id": 4, "name": "car"},
    {"id": 5, "iscrowd": 0, "segmentation": [POLYGON], "inmodal_bbox": [2, 1, 2, 4], "inmodal_seg": RLE_VISIBLE},
)
KINS_2020 = one_object(
    {"id": 0, "file_name": "000001.png"},
    {"id": 4, "name": "car"},
    {"id": 5, "a_bbox": [2, 1, 4, 4], "a_segm": [POLYGON], "i_bbox": [2, 1, 2, 4], "i_segm": [VISIBLE_POLYGON]}
    | {"oco_id": 1, "ico_id": 2},
)
MUVA = one_object(
    {"id": 3, "file_name": "3.jpg", "scene_id": 12, "view": "front"},
    {"id": 1, "name": "mug "},
    {"id": 1, "object_id": 4} | MASKS,
)
OF_LVIS = {"source_dataset": "lvis", "source_image_id": 391895}
AMODAL_LVIS = one_object(
    {"id": 1, "file_name": "1.jpg", "pair_id": 1, "version": "occluded"} | OF_LVIS,
    {"id": 7, "name": "cup"},
    {"id": 1, "source_annotation_id": 17} | HALF | MASKS | OF_LVIS,
)
PLAIN = one_object({"id": 1, "file_name": "a/1.jpg"}, {"id": 1, "name": "cup"}, {"id": 1} | MASKS)
FIXTURES = {
    "cocoa": COCOA,
    "cocoa_cls": COCOA_CLS,
    "d2sa": D2SA,
    "kins": KINS,
    "kins_2020": KINS_2020,
    "muva": MUVA,
    "lvis": LVIS,
    "amodal_lvis": AMODAL_LVIS,
    "coco": PLAIN,
}
FILES = {
    "cocoa": "annotations/COCO_amodal_val2014.json",
    "cocoa_cls": "annotations/COCO_amodal_val2014_with_classes.json",
    "d2sa": "d2s_amodal_annotations_v1/D2S_amodal_validation.json",
    "kins": "instances_val.json",
    "kins_2020": "annotations/update_test_2020.json",
    "muva": "annotations/AiFi-MUVA_val.json",
    "lvis": "annotations/lvis_v1_val.json",
    "amodal_lvis": "annotations/amodal_lvis_val_00000-of-00001.json",
    "coco": "annotations/val.json",
}


def write(data, root, file):
    path = Path(root) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def load(name, data, root, **options):
    """The data set of `data`, written to where `name` has its annotation file."""
    write(data, root, FILES[name])
    return load_dataset(name.removesuffix("_2020"), root, **options)


def changed(data, **annotation):
    """The fixture with another value in its (only) annotation; None deletes the key."""
    record = {k: v for k, v in (data["annotations"][0] | annotation).items() if v is not None}
    return data | {"annotations": [record]}


def without(record, key):
    return {k: v for k, v in record.items() if k != key}


def accepted_by_pycocotools(ground_truth, path):
    path.write_text(json.dumps(ground_truth))
    coco = COCO(str(path))
    for annotation in coco.anns.values():
        assert coco.annToMask(annotation).sum() == annotation["area"]
    return coco


# ------------------------------------------------------------------------------------------------ by hand


def test_cocoa_by_hand(tmp_path):
    dataset = load("cocoa", COCOA, tmp_path)
    assert len(dataset) == 1 and dataset[-1] is dataset[0] and [image.image_id for image in dataset] == [7]
    assert dataset.categories == {1: "cup", 2: "tray"} and dataset.skipped == {}
    image = dataset[0]
    assert (image.height, image.width) == (6, 8)
    assert image.path == tmp_path / "val2014/COCO_val2014_000000000007.jpg"
    assert image.depth_constraint == ((1, 2),)
    cup, tray = image.instances
    assert (cup.category, cup.is_stuff, cup.order) == ("cup", False, 1)
    assert (tray.category, tray.is_stuff, tray.order) == ("tray", True, 2)
    np.testing.assert_array_equal(cup.visible, cup.amodal)  # no visible_mask: fully visible
    assert cup.occlusion_rate == 0 and tray.occlusion_rate == 0.5
    assert (tray.area, tray.visible_area) == (16, 8)
    assert tray.amodal_box.tolist() == [2, 1, 6, 5] and tray.visible_box.tolist() == [2, 1, 4, 5]
    np.testing.assert_array_equal(tray.hidden, decode_rle(RLE_HIDDEN))
    np.testing.assert_array_equal(tray.visible | tray.hidden, tray.amodal)
    counts = {"images": 1, "instances": 2, "occluded_share": 0.5, "mean_occlusion_rate": 0.25}
    assert dataset.summary() == {"name": "cocoa", "split": "val", "skipped": {}} | counts


def test_cocoa_cls_by_hand(tmp_path):
    dataset = load("cocoa_cls", COCOA_CLS, tmp_path)
    assert dataset.categories == {1: "person", 90: "toothbrush"}
    (instance,) = dataset[0].instances
    assert (instance.instance_id, instance.category_id, instance.category) == (11, 90, "toothbrush")
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    ground_truth = dataset.to_coco()
    assert ground_truth["annotations"] == [{"id": 11, "image_id": 285, "category_id": 90} | HALF | MASKS]
    coco = accepted_by_pycocotools(ground_truth, tmp_path / "coco.json")
    assert coco.getCatIds() == [1, 90] and coco.imgs[285]["height"] == 6


@pytest.mark.parametrize(
    "file", ["annotations/lvis_v1_val.json", "annotations/lvis_val.json", "lvis_v1_val.json", "lvis_val.json"]
)
def test_lvis_by_hand(tmp_path, file):
    (tmp_path / "annotations").mkdir()
    (tmp_path / file).write_text(json.dumps(LVIS))
    dataset = load_dataset("lvis", tmp_path)
    assert dataset[0].path == tmp_path / "train2017/000000391895.jpg"
    assert dataset.categories == {7: "cup"} and dataset.frequencies == {7: "f"}
    (instance,) = dataset[0].instances
    np.testing.assert_array_equal(instance.visible, decode_rle(RLE_AMODAL))
    assert instance.visible_box.tolist() == [2, 1, 6, 5] and instance.visible_area == 16
    for attribute in ("amodal", "hidden", "amodal_box", "area", "occlusion_rate"):
        with pytest.raises(InputError, match=r"instance 1 \(cup\): no amodal mask.*amodal_lvis"):
            getattr(instance, attribute)
    with pytest.raises(InputError, match="no amodal mask"):
        dataset.to_coco()
    assert dataset.summary()["instances"] == 1 and np.isnan(dataset.summary()["mean_occlusion_rate"])


def test_of_several_annotators_the_first_counts(tmp_path):
    data = copy.deepcopy(COCOA)
    data["annotations"].append(data["annotations"][0] | {"id": 2, "author": "a2", "regions": []})
    dataset = load("cocoa", data, tmp_path)
    assert len(dataset[0].instances) == 2
    assert dataset.skipped == {"another annotator of the same image": ["annotation 2 (image 7)"]}


def test_visible_outside_amodal_is_added_to_amodal(tmp_path):
    data = copy.deepcopy(COCOA_CLS)
    data["annotations"][0] |= {"segmentation": RLE_HIDDEN, "visible_mask": RLE_VISIBLE}
    (instance,) = load("cocoa_cls", data, tmp_path)[0].instances
    assert instance.amodal_rle == RLE_AMODAL and instance.occlusion_rate == 0.5


def test_a_stray_point_among_polygons_does_not_cost_the_object(tmp_path):
    data = copy.deepcopy(LVIS)
    data["annotations"][0]["segmentation"].append([2, 1, 2, 1])
    dataset = load("lvis", data, tmp_path)
    assert dataset[0].instances[0].visible_rle == RLE_AMODAL
    assert dataset.skipped == {"polygon with fewer than 6 numbers": ["annotation 1, one of its 2 polygons"]}


def test_ids_from_zero_are_shifted_for_pycocotools(tmp_path):
    data = copy.deepcopy(COCOA_CLS)
    data["annotations"][0]["id"] = 0
    data["annotations"].append(data["annotations"][0] | {"id": 1})
    ground_truth = load("cocoa_cls", data, tmp_path).to_coco()
    assert [annotation["id"] for annotation in ground_truth["annotations"]] == [1, 2]


# ------------------------------------------------------------------------------------------------ d2sa


def test_d2sa_by_hand(tmp_path):
    dataset = load("d2sa", D2SA, tmp_path)
    assert dataset.categories == {1: "item_a"} and dataset.skipped == {}
    assert dataset[0].path == tmp_path / "d2s_amodal_images_v1/images/D2S_000100.jpg"
    (instance,) = dataset[0].instances
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    assert instance.extras == {"occl_depth": 1} and (dataset[0].image_id, instance.instance_id) == (100, 1)


def test_d2sa_polygons_are_read_too(tmp_path):
    upper, lower = [2, 1, 4, 1, 4, 3, 2, 3], [2, 3, 4, 3, 4, 5, 2, 5]
    for visible in (VISIBLE_POLYGON, [VISIBLE_POLYGON], [upper, lower]):
        polygons = changed(D2SA, segmentation=[POLYGON], visible_mask=visible)
        (instance,) = load("d2sa", polygons, tmp_path)[0].instances
        assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE


def d2sa_of_two_files(root, second):
    write(D2SA, root, "d2s_amodal_annotations_v1/D2S_amodal_training_rot0.json")
    write(second, root, "d2s_amodal_annotations_v1/D2S_amodal_augmented.json")
    return load_dataset("d2sa", root, "train+augmented")


def test_an_annotation_belongs_to_an_image_of_its_own_file(tmp_path):
    second = changed(D2SA, id=9) | {"images": [D2SA["images"][0] | {"id": 7}]}  # names image 100 of the first file
    dataset = d2sa_of_two_files(tmp_path, second)
    assert [len(image.instances) for image in dataset] == [1, 0]
    assert dataset.skipped == {"annotation without image": ["D2S_amodal_augmented.json: annotation 9"]}


def test_two_files_that_name_a_category_differently_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"augmented.json, category 1: a category needs one name: found 'b' and 'item"):
        d2sa_of_two_files(tmp_path, D2SA | {"categories": [{"id": 1, "name": "b"}]})


# ------------------------------------------------------------------------------------------------ kins


@pytest.mark.parametrize("name", ["kins", "kins_2020"])
def test_kins_by_hand(tmp_path, name):
    dataset = load(name, FIXTURES[name], tmp_path)
    assert dataset.categories == {4: "car"} and dataset.skipped == {}
    assert dataset[0].image_id == 0 and dataset[0].path == tmp_path / "testing/image_2/000001.png"
    (instance,) = dataset[0].instances
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    assert instance.occlusion_rate == 0.5 and instance.instance_id == 5
    assert instance.extras == ({"oco_id": 1, "ico_id": 2} if name == "kins_2020" else {})
    assert accepted_by_pycocotools(dataset.to_coco(), tmp_path / "coco.json").getImgIds() == [0]


def test_the_edition_of_kins_is_the_one_asked_for_or_the_one_that_is_there(tmp_path):
    write(changed(KINS_2020, i_segm=[[4, 1, 6, 1, 6, 5, 4, 5]]), tmp_path, "annotations/update_test_2020.json")
    assert load_dataset("kins", tmp_path)[0].instances[0].visible_rle == RLE_HIDDEN
    with pytest.raises(InputError, match="looked for instances_val.json, annotations/instances_val.json; JSON files"):
        load_dataset("kins", tmp_path, version="2019")
    write(KINS, tmp_path, "annotations/instances_val.json")
    assert load_dataset("kins", tmp_path)[0].instances[0].visible_rle == RLE_VISIBLE  # of both, 2019
    assert load_dataset("kins", tmp_path, version="2020")[0].instances[0].visible_rle == RLE_HIDDEN
    write(KINS, tmp_path, "instances_train.json")
    assert load_dataset("kins", tmp_path, "train")[0].path == tmp_path / "training/image_2/000001.png"


# ------------------------------------------------------------------------------------------------ muva


@pytest.mark.parametrize("amodal", ["a_segm", "amodal_segm", "amodal_mask", "segmentation"])
@pytest.mark.parametrize("visible", ["visible_mask", "inmodal_seg", "i_segm", "visible_segm"])
def test_the_keys_of_muva_are_found(tmp_path, amodal, visible):
    annotation = MUVA["annotations"][0] | {"segmentation": None, "visible_mask": None}
    annotation |= {amodal: RLE_AMODAL, visible: RLE_VISIBLE}
    data = MUVA | {"annotations": [{k: v for k, v in annotation.items() if v is not None}]}
    dataset = load("muva", data, tmp_path)
    (instance,) = dataset[0].instances
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    assert dataset.categories == {1: "mug"} and instance.extras == {"object_id": 4}
    assert dataset[0].extras == {"scene_id": 12, "view": "front"} and dataset[0].path == tmp_path / "images/3.jpg"


def test_file_names_of_muva_may_begin_with_the_folder(tmp_path):
    data = MUVA | {"images": [MUVA["images"][0] | {"file_name": "images/3.jpg"}]}
    assert load("muva", data, tmp_path)[0].path == tmp_path / "images/3.jpg"


def test_unknown_keys_of_muva_are_listed(tmp_path):
    with pytest.raises(InputError) as error:
        load("muva", changed(MUVA, visible_mask=None, seen=RLE_VISIBLE), tmp_path)
    assert error.value.rule == (
        "no key for visible masks: looked for visible_mask, inmodal_seg, i_segm, visible_segm; "
        "the annotations have id, object_id, segmentation, image_id, category_id, seen"
    )


# ------------------------------------------------------------------------------------------------ amodal_lvis


def shard(number, **image):
    """A shard with one image, all of whose ids are 1, as in every other shard."""
    data = copy.deepcopy(AMODAL_LVIS)
    data["images"][0] |= {"file_name": f"{number}.jpg", "pair_id": number + 1} | image
    return data


def test_shards_of_amodal_lvis_are_one_data_set(tmp_path):
    for number in range(3):
        write(shard(number), tmp_path, f"annotations/amodal_lvis_train_{number:05d}-of-00003.json")
    write(shard(0), tmp_path, "annotations/amodal_lvis_val_00000-of-00001.json")
    dataset = load_dataset("amodal_lvis", tmp_path, "train")
    assert [image.image_id for image in dataset] == [1, 2, 3]
    assert [i.instance_id for image in dataset for i in image.instances] == [1, 2, 3]
    assert dataset[2].path == tmp_path / "images/train/00002/2.jpg"
    assert dataset[2].extras == {"pair_id": 3, "version": "occluded"} | OF_LVIS
    instance = dataset[2].instances[0]
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    assert instance.extras == OF_LVIS | {"source_annotation_id": 17}
    assert len(load_dataset("amodal_lvis", tmp_path, "val")) == 1


def test_a_missing_shard_is_named(tmp_path):
    for number in (0, 2):
        write(shard(number), tmp_path, f"annotations/amodal_lvis_val_{number:05d}-of-00003.json")
    with pytest.raises(InputError, match="looked for .*_00001-of-00003.json"):
        load_dataset("amodal_lvis", tmp_path)
    write(shard(0), tmp_path, "annotations/amodal_lvis_val_00000-of-00002.json")
    with pytest.raises(InputError, match="must be of one run, found sets of 2 and 3 shards"):
        load_dataset("amodal_lvis", tmp_path)
    with pytest.raises(InputError, match="looked for annotations/amodal_lvis_test_00000-of-00001.json; JSON files"):
        load_dataset("amodal_lvis", tmp_path, "test")


# ------------------------------------------------------------------------------------------------ plain coco


def test_plain_coco_by_hand(tmp_path):
    dataset = load("coco", PLAIN, tmp_path)
    (instance,) = dataset[0].instances
    assert instance.amodal_rle == RLE_AMODAL and instance.visible_rle == RLE_VISIBLE
    assert dataset[0].path == tmp_path / "images/a/1.jpg"
    write(PLAIN, tmp_path, "mine.json")
    dataset = load_dataset("coco", tmp_path, annotation_file="mine.json", image_folder="photos")
    assert dataset[0].path == tmp_path / "photos/a/1.jpg"


def test_what_to_coco_writes_is_read_as_the_same(tmp_path):
    first = load("cocoa_cls", COCOA_CLS, tmp_path)
    again = load("coco", first.to_coco(), tmp_path)
    assert [image.instances for image in again] == [image.instances for image in first]


def test_visible_masks_that_are_the_amodal_ones(tmp_path):
    annotation = without(PLAIN["annotations"][0], "visible_mask")
    data = PLAIN | {"annotations": [annotation, annotation | {"id": 3, "occlude_rate": 0.5}]}  # says otherwise
    dataset = load("coco", data, tmp_path, visible="same")
    assert [i.visible_rle == i.amodal_rle for i in dataset[0].instances] == [True]
    assert dataset.skipped == {"occluded but without visible mask": ["annotation 3"]}


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("d2sa", D2SA, {"split": "test"}, "d2sa has the splits train, augmented, val; found 'test'"),
        ("d2sa", D2SA, {"split": "train"}, "looked for d2s_amodal_annotations_v1/D2S_amodal_training_rot0.json"),
        ("kins", KINS, {"split": "test"}, "kins has the splits train, val; found 'test'"),
        ("kins", KINS, {"version": "2021"}, "version can be '2019' or '2020', found '2021'"),
        ("kins", changed(KINS, inmodal_seg=None, inmodal_segm=1), {}, "skipped: annotation without visible mask: 1"),
        ("muva", changed(MUVA, segmentation=None), {}, "no key for amodal masks: looked for a_segm, amodal_segm"),
        ("coco", changed(PLAIN, visible_mask=None), {}, "found none"),
        ("coco", PLAIN, {"visible": "same"}, "found both"),
        ("coco", PLAIN, {"visible": "yes"}, "visible can be 'same', found 'yes'"),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, (str, dict)) else None,
)
def test_files_and_options_that_are_refused(tmp_path, name, data, options, message):
    with pytest.raises(InputError, match=message):
        load(name, data, tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("d2sa", {"visible_mask": RLE_EMPTY}, "empty visible mask"),
        ("kins", {"inmodal_seg": None}, "annotation without visible mask"),
        ("kins_2020", {"i_bbox": [2, 1, -1, 4]}, "box outside the image or of zero area"),
        ("kins_2020", {"a_segm": [[9, 1, 12, 1, 12, 5]]}, "empty amodal mask"),
        ("muva", {"visible_mask": None}, "annotation without visible mask"),
        ("amodal_lvis", {"visible_mask": None, "occlude_rate": 0}, "annotation without visible mask"),
        ("coco", {"visible_mask": None}, "annotation without visible mask"),
        ("coco", {"segmentation": None}, "segmentation is empty"),
    ],
    ids=str,
)
def test_bad_records_of_other_formats_are_skipped_and_counted(tmp_path, name, change, rule):
    data = FIXTURES[name]
    bad = changed(data, id=12, **change)["annotations"]
    dataset = load(name, data | {"annotations": data["annotations"] + bad}, tmp_path)
    assert dataset.skipped == {rule: ["annotation 12"]}
    assert [i.instance_id for i in dataset[0].instances] == [data["annotations"][0]["id"]]


# ------------------------------------------------------------------------------------------------ bad records


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"segmentation": [[2, 1, 6, 5], [1, 1]]}, "polygon with fewer than 6 numbers"),
        ({"segmentation": RLE_AMODAL | {"size": [8, 6]}}, "RLE of another size"),
        ({"segmentation": RLE_EMPTY}, "empty amodal mask"),
        ({"segmentation": None}, "segmentation is empty"),
        ({"visible_mask": RLE_EMPTY}, "empty visible mask"),
        ({"visible_mask": None}, "occluded but without visible mask"),
        ({"visible_mask": None, "invisible_mask": None}, "occluded but without visible mask"),
        ({"category_id": 2}, "unknown category_id"),
        ({"category_id": None}, "annotation without category"),
        ({"image_id": 286}, "annotation without image"),
        ({"iscrowd": 1}, "crowd region"),
        ({"iscrowd": "1"}, "crowd region"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_bad_records_are_skipped_and_counted(tmp_path, change, rule):
    bad = COCOA_CLS["annotations"][0] | {"id": 12} | change
    dataset = load("cocoa_cls", COCOA_CLS | {"annotations": [COCOA_CLS["annotations"][0], bad]}, tmp_path)
    ((found, (record,)),) = dataset.skipped.items()
    assert found == rule and record.split(",")[0] == "annotation 12"
    assert [instance.instance_id for instance in dataset[0].instances] == [11]
    with pytest.raises(InputError, match=f"no usable annotation, skipped: .*{rule}: "):
        load("cocoa_cls", COCOA_CLS | {"annotations": [bad]}, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({"bbox": box} for box in ([], [0, 0, 0, 0], None, [2, 1, 0, 4], [8, 1, 4, 4], [2, 1, float("nan"), 4])),
        *({"iscrowd": flag} for flag in ("0", "", False, "False", 0.0, None)),
        {"id": None},
        {"id": "a"},
        {"id": 11},
    ],
    ids=str,
)
def test_what_is_beside_a_good_mask_does_not_cost_the_object(tmp_path, change):
    other = COCOA_CLS["annotations"][0] | {"id": 12} | change
    dataset = load("cocoa_cls", COCOA_CLS | {"annotations": [COCOA_CLS["annotations"][0], other]}, tmp_path)
    assert dataset.skipped == {} and [item.instance_id for item in dataset[0].instances] == [11, 12]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ids", [[0, 0, 0], [1, 2, 1], [None, 5, "5"], [3, 3, -1]], ids=str)
def test_annotations_that_share_ids_are_all_there_and_that_is_told(tmp_path, ids):
    masks = [[[x, 1, x + 2, 1, x + 2, 4, x, 4]] for x in (0, 2, 4)]
    records = [PLAIN["annotations"][0] | {"id": i, "segmentation": m} for i, m in zip(ids, masks, strict=True)]
    images = [PLAIN["images"][0] | {"id": i, "height": 6, "width": 8} for i in (1, 2)]
    records[2]["image_id"] = 2
    data = PLAIN | {"images": images, "annotations": [without(record, "visible_mask") for record in records]}
    with pytest.raises(UserWarning, match=r"\d annotations without an id of their own have new ones"):
        load("coco", data, tmp_path, visible="same")
    with pytest.warns(UserWarning):
        dataset = load("coco", data, tmp_path, visible="same")
    found = [item for image in dataset for item in image.instances]
    assert [item.amodal_box[0] for item in found] == [0, 2, 4] and len({item.instance_id for item in found}) == 3
    predictions = [{"image_id": r["image_id"], "segmentation": r["segmentation"], "score": 1.0} for r in records]
    assert evaluate_amodal(dataset, predictions)["AP"] == evaluate_amodal(data, predictions)["AP"] == 1


def test_crowds_are_told_and_can_be_taken_as_objects(tmp_path):
    polygon, mask = ({"segmentation": s} for s in ([[2, 1, 6, 1, 6, 5, 2, 5]], RLE_VISIBLE))
    first = without(PLAIN["annotations"][0], "visible_mask")
    data = PLAIN | {"annotations": [first | polygon, first | mask | {"id": 2, "iscrowd": 1}]}  # as CVAT writes masks
    with pytest.warns(UserWarning, match=r"val.json: 1 skipped: crowd region \(first annotation 2\)"):
        assert len(load("coco", data, tmp_path, visible="same")[0].instances) == 1
    dataset = load("coco", data, tmp_path, visible="same", crowds=True)
    assert len(dataset[0].instances) == 2 and dataset.skipped == {}
    with pytest.raises(InputError, match="crowd region: 1.*crowds=True"):
        load("coco", PLAIN | {"annotations": data["annotations"][1:]}, tmp_path, visible="same")


def test_an_unknown_category_is_told_with_its_value(tmp_path):
    for value, said in ((7, "7"), ("1", "'1'")):
        with pytest.raises(InputError, match=f"unknown category_id: 1 .first annotation 1, found {said}"):
            load("coco", changed(PLAIN, category_id=value), tmp_path)


def test_file_names_of_windows(tmp_path):
    for name in ("coco", "cocoa", "cocoa_cls"):
        data = FIXTURES[name] | {"images": [FIXTURES[name]["images"][0] | {"file_name": "a\\b.jpg"}]}
        image = load(name, data, tmp_path)[0]
        assert image.file_name == "a/b.jpg" and image.path.parts[-2:] == ("a", "b.jpg")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"height": None}, "image without height and width"),
        ({"width": 0}, "image without height and width"),
        ({"id": "8"}, "image without a whole-number id"),
        ({"id": 285}, "image id used twice"),
        ({"file_name": None}, "image without file name"),
    ],
    ids=str,
)
def test_bad_image_records_are_skipped_and_counted(tmp_path, change, rule):
    bad = COCOA_CLS["images"][0] | {"id": 286} | change
    dataset = load("cocoa_cls", COCOA_CLS | {"images": [*COCOA_CLS["images"], bad]}, tmp_path)
    assert dataset.skipped == {rule: [f"image {bad['id']}"]} and len(dataset) == 1


def test_skipped_regions_of_cocoa_are_named(tmp_path):
    data = copy.deepcopy(COCOA)
    data["annotations"][0]["regions"] += [
        {"name": None, "segmentation": [2, 1, 6, 1, 6, 5]},
        {"name": "speck", "segmentation": [2, 1, 6, 1]},
        "junk",
    ]
    data["images"].insert(0, data["images"][0] | {"id": 8, "file_name": "other.jpg"})
    dataset = load("cocoa", data, tmp_path)
    assert dataset.skipped == {
        "polygon with fewer than 6 numbers": ["annotation 1, region 4"],
        "region is not an object": ["region number 5"],
    }
    assert [len(image.instances) for image in dataset] == [0, 3]  # joined by id, not by position
    assert dataset[1].instances[2].category == "unnamed"


# ------------------------------------------------------------------------------------------------ bad files


def test_unknown_name():
    with pytest.raises(
        InputError, match=r"unknown data set 'cocoa-clss'; known are cocoa, .*Did you mean 'cocoa_cls'\?"
    ):
        load_dataset("cocoa-clss", "anywhere")


def test_a_missing_folder_or_file_is_told_with_what_is_there(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: the folder of cocoa must exist.*data/README.md"):
        load_dataset("cocoa", tmp_path / "nowhere")
    load("cocoa", COCOA, tmp_path)
    with pytest.raises(InputError, match="looked for .*_train2014.json; .* found: .*_val2014.json"):
        load_dataset("cocoa", tmp_path, split="train")


@pytest.mark.parametrize("name", ["cocoa", "coco"])  # read as a whole, and record by record
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b'{"images": [], "annot', "not valid JSON, it breaks at byte 15 of 21"),
        ('{"é": [1, 2'.encode(), "not valid JSON, it breaks at byte 12 of 12"),
        (b"", "not valid JSON, it breaks at byte 0 of 0"),
        (b'{"images": "\xff"}', "not valid JSON, it has a byte that is not UTF-8 at byte 12 of 15"),
        (b"[" * 100_000, "not valid JSON, it cannot be parsed"),
        (b"[1, 2]", "the file must be a JSON object with images, annotations"),
        (b'{"annotations": [], "info": 1}', 'needs a list under "images", found only the keys annotations, info'),
        (b'{"images": [], "annotations": {}}', 'needs a list under "annotations", found a dict'),
        (b'{"images": [], "annotations": [], "categories": []}', "no usable annotation"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_bad_annotation_files(tmp_path, name, text, rule):
    with pytest.raises(InputError) as error:
        load(name, text, tmp_path)
    assert error.value.file == str(tmp_path / FILES[name]) and error.value.rule.startswith(rule) and error.value.remedy


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ('{"images": ["杯"]}'.encode("gbk"), "save it as UTF-8"),
        (b"0 0.5 0.5 0.2 0.3\n1 0.5 0.5 0.2 0.3\n", "YOLO"),
        (b'{"image_id": 1}\n{"image_id": 2}\n', "one JSON value per line"),
        (b"<annotation><size>", "XML"),
        (b"PK\x03\x04....", "unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"{'images': []}", "json.dump"),
        (b"image,x,y\n1,2,3", "not JSON"),
        (b'{"images": [', "fetch it again"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_what_is_no_json_is_called_what_it_is(tmp_path, content, remedy):
    for name in ("cocoa", "coco"):
        with pytest.raises(InputError) as error:
            load(name, content, tmp_path)
        assert remedy in error.value.remedy


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16_is_named(tmp_path, encoding):
    with pytest.raises(InputError, match="UTF-16.*UTF-8"):
        load("coco", json.dumps(PLAIN).encode(encoding), tmp_path)


HARSH = {  # texts that stand in place of a value, too deep or too long to be drawn
    "@deep": b"[" * 900 + b"]" * 900,
    "@too many digits": b"9" * 5000,
    "@infinite": b"1e999",
    "@half a surrogate pair": b'"\\ud800"',
}
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-10, 2**65),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(list(HARSH)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=6,
)


damages = st.lists(
    st.tuples(
        st.sampled_from(["delete", "replace", "copy"]), st.integers(0, 2**16), st.integers(0, 2**16), json_values
    ),
    min_size=1,
    max_size=4,
)


def places(node):
    """(container, key) of everything below a JSON value."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from places(node[key])


def damaged(data, damages):
    """The data as bytes, after each of the damages: at one of its nodes, chosen among all."""
    document = [copy.deepcopy(data), None]
    for kind, where, source, value in damages:
        spots = list(places(document))
        node, key = spots[where % len(spots)]
        if kind == "copy":
            other, its_key = spots[source % len(spots)]
            value = copy.deepcopy(other[its_key])
        if kind == "delete" and node is not document:
            del node[key]
        else:
            node[key] = value
    text = json.dumps(document[0]).encode()
    for name, harsh in HARSH.items():
        text = text.replace(json.dumps(name).encode(), harsh)
    return text


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory):
    """A folder that one file after the other is written to."""
    return tmp_path_factory.mktemp("fuzz")


def check_whatever_comes_out(name, text, root):
    try:
        dataset = load(name, text, root)
    except InputError as error:
        assert error.rule and error.remedy
        return
    ids = [instance.instance_id for image in dataset for instance in image.instances]
    assert len(set(ids)) == len(ids) > 0
    for image in dataset:
        for instance in image.instances:
            assert instance.visible_area > 0
            if name != "lvis":
                inside = intersect_rle([instance.visible_rle, instance.amodal_rle])
                assert mask_area(inside) == instance.visible_area and 0 <= instance.occlusion_rate < 1
    summary = json.loads(json.dumps(dataset.summary()))
    assert summary["instances"] == len(ids)
    assert summary["skipped"] == {rule: len(records) for rule, records in dataset.skipped.items()}
    assert len(dataset.fingerprint()) == 16


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", FIXTURES)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(damages=damages)
def test_whatever_is_damaged_only_a_data_set_or_an_input_error_comes_out(anywhere, name, damages):
    check_whatever_comes_out(name, damaged(FIXTURES[name], damages), anywhere)


# ------------------------------------------------------------------------------------------------ pixels


def _image_of(tmp_path, pixels, **save):
    dataset = load("cocoa_cls", COCOA_CLS, tmp_path)
    dataset[0].path.parent.mkdir()
    pixels.save(dataset[0].path, **save)
    return dataset[0]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "LA", "P", "1"])
def test_every_colour_mode_is_read_as_rgb(tmp_path, mode):
    grey = PIL.Image.new("RGB", (8, 6), (255, 255, 255))
    image = _image_of(tmp_path, grey.convert(mode), format="TIFF" if mode == "CMYK" else "PNG")
    pixels = image.read()
    assert pixels.shape == (6, 8, 3) and pixels.dtype == np.uint8 and (pixels == 255).all()


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_images_are_read_upright_as_photographs_are(tmp_path, turned, form):
    stored = np.arange(48, dtype=np.uint8).reshape((8, 6) if turned > 4 else (6, 8)) * 5
    exif, lossless = PIL.Image.Exif(), {"lossless": True} if form == "WEBP" else {}
    exif[0x0112] = turned
    image = _image_of(tmp_path, PIL.Image.fromarray(stored).convert("RGB"), format=form, exif=exif, **lossless)
    assert np.array_equal(image.read(), read_photograph(image.path)) and image_size(image.path) == (6, 8)
    assert form == "JPEG" or turned in (1, 2, 4, 5) or image.read()[0, 0, 0] > 0


@pytest.mark.parametrize("turned", [1, 6])
def test_a_jpeg_of_twice_the_size_that_is_needed_is_decoded_reduced(tmp_path, turned):
    height, width = (400, 640) if turned == 1 else (640, 400)  # upright
    rng, exif = np.random.default_rng(0), PIL.Image.Exif()
    exif[0x0112] = turned
    stored = PIL.Image.fromarray(rng.integers(0, 255, (25, 40, 3), np.uint8)).resize((640, 400), PIL.Image.BICUBIC)
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    stored.save(tmp_path / "a.png", exif=exif)
    image = AmodalImage(1, "a.jpg", tmp_path / "a.jpg", height, width, ())
    full = image.read()
    for needed, parts in (((200, 200), 2), ((100, 1), 4), ((50, 50), 8), ((1, 1), 8)):
        found = image.read(needed)
        assert found.shape == (height // parts, width // parts, 3)
        means = full.reshape(height // parts, parts, width // parts, parts, 3).mean((1, 3))
        assert np.abs(found - means).mean() < 3
    for needed in ((height // 2 + 1, 1), (1, width // 2 + 1), (2000, 2000)):
        assert np.array_equal(image.read(needed), full)
    lossless = replace(image, path=tmp_path / "a.png")
    assert np.array_equal(lossless.read((50, 50)), lossless.read())


def test_an_orientation_that_the_record_does_not_know_is_named(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = _image_of(tmp_path, PIL.Image.new("RGB", (8, 6)), exif=exif)
    with pytest.raises(
        InputError, match=r"\(8, 6\), the annotations' \(6, 8\); upright, for its EXIF orientation is 6"
    ):
        image.read()
    assert _image_of(tmp_path / "b", PIL.Image.new("RGB", (8, 6)), exif=b"Exif\0\0rubbish").read().shape == (6, 8, 3)


def test_bad_images(tmp_path):
    image = _image_of(tmp_path, PIL.Image.new("RGB", (6, 8)))
    with pytest.raises(InputError, match=r"285.jpg, image 285: image of another size: .* \(8, 6\), .* \(6, 8\)"):
        image.read()
    PIL.Image.effect_noise((8, 6), 90).convert("RGB").save(image.path)
    image.path.write_bytes(image.path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"image 285: the image file cannot be decoded.*fetch it again"):
        image.read()
    image.path.write_text("not an image")
    with pytest.raises(InputError, match=r"image 285: the image file cannot be decoded"):
        image.read()
    PIL.Image.new("I;16", (8, 6)).save(image.path, format="PNG")
    with pytest.raises(InputError, match="8 bits a channel, found mode I;16"):
        image.read()
    image.path.unlink()
    with pytest.raises(InputError, match=r"image 285: the image file must exist.*val2014"):
        image.read()


# ------------------------------------------------------------------------------------------------ real samples


@needs_samples
def test_real_cocoa(tmp_path):
    dataset = load_dataset("cocoa", SAMPLES / "cocoa", split="val")
    stored = json.loads((SAMPLES / "cocoa" / FILES["cocoa"]).read_text())
    assert len(dataset) == 2 and dataset.skipped == {}
    assert list(dataset.categories.values()) == ["elephant", "log", "phone", "tree trunk"]
    for image, annotation in zip(dataset, stored["annotations"], strict=True):
        assert image.read().shape == (480, 640, 3)
        for instance, region in zip(image.instances, annotation["regions"], strict=True):
            assert instance.area == pytest.approx(region["area"], rel=0.01)
            assert instance.occlusion_rate == pytest.approx(region["occlude_rate"], abs=0.01)
            if "visible_mask" in region:
                visible, hidden = region["visible_mask"], region["invisible_mask"]
                assert mask_area(intersect_rle([visible, hidden])) == 0
                assert mask_area(visible) + mask_area(hidden) == region["area"]
                stored_rate = mask_area(hidden) / (region["area"] + 1e-6)  # as COCOA's authors guarded the division
                assert region["occlude_rate"] == pytest.approx(stored_rate, abs=1e-15)
                np.testing.assert_array_equal(instance.visible, decode_rle(visible))
    coco = accepted_by_pycocotools(dataset.to_coco(), tmp_path / "coco.json")
    assert len(coco.anns) == 8


@needs_samples
@pytest.mark.parametrize("version", ["v0.5", "v1"])
def test_real_lvis(tmp_path, version):
    data = json.loads((SAMPLES / "lvis/lvis_val_100.json").read_text())
    if version == "v1":
        for image in data["images"]:
            del image["file_name"]
    dataset = load("lvis", data, tmp_path)
    assert len(dataset) == 100 and dataset.summary()["instances"] == 977 and dataset.skipped == {}
    assert len(dataset.categories) == 1230 and set(dataset.frequencies.values()) == {"r", "c", "f"}
    assert dataset[0].path == tmp_path / "val2017/000000266409.jpg"
    stored = {annotation["id"]: annotation for annotation in data["annotations"]}
    for image in dataset:
        for instance in image.instances:
            x, y, w, h = stored[instance.instance_id]["bbox"]
            difference = np.abs(instance.visible_box - [x, y, x + w, y + h]).max()
            if image.image_id in TURNED:
                assert difference > 40
            else:
                assert difference < 5  # tips thinner than a pixel have no pixels
