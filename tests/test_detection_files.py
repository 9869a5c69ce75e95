"""Result files of any toolbox: read as what they are, or refused with what was found and what to write instead."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import rectangle, with_images
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends import coco_results
from sameo_core.front_ends.base import COCO_IDS
from sameo_core.masks import decode_rle, encode_mask, mask_to_polygons

H, W = 48, 64
BOX, XYXY = [10, 20, 30, 15], [10, 20, 40, 35]


def dataset(ids=(3, 7, 8), categories=(1, 2), names="{}.jpg"):
    """Images of 48 x 64 pixels without annotations."""
    images = [AmodalImage(i, names.format(i), Path("nowhere"), H, W, ()) for i in ids]
    return AmodalDataset("plain", Path("nowhere"), "val", {i: f"class {i}" for i in categories}, images, {})


def result(image_id=7, box=BOX, score=0.5, category_id=1, **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score} | more


def masked(mask, **more):
    """A record without a box, as pycocotools' users write them."""
    record = result(segmentation=encode_mask(mask), **more)
    del record["bbox"]
    return record


def refused(results, data=None, **options):
    with pytest.raises(InputError) as error:
        coco_results(results, dataset() if data is None else data, **options)
    return str(error.value)


# ------------------------------------------------------------------------------------------------------ what is read


def test_boxes_scores_and_categories_by_hand(tmp_path):
    records = [result(score=0.25), result(8, [0, 0, 64, 48], 1), result(7, [1.5, 2, 3, 4.25], 0.75, 2)]
    (tmp_path / "r.json").write_text(json.dumps(records))
    for given_results in (records, tmp_path / "r.json", str(tmp_path / "r.json")):
        front_end = coco_results(given_results, dataset())
        found = [front_end(image) for image in dataset()]
        assert [len(item.boxes) for item in found] == [0, 2, 1]
        assert found[1].boxes.tolist() == [[1.5, 2, 4.5, 6.25], XYXY] and found[1].boxes.dtype == np.float32
        assert found[1].scores.tolist() == [0.75, 0.25] and found[1].category_ids.tolist() == [2, 1]
        assert found[1].instance_ids.tolist() == [-1, -1] and found[1].masks is None
        assert found[2].boxes.tolist() == [[0, 0, 64, 48]]
    assert repr(front_end) == f"{tmp_path / 'r.json'}: 3 detections in 2 of 3 images"


def test_results_are_only_of_the_data_set_they_were_read_for():
    with pytest.raises(InputError) as error:
        coco_results([], dataset())(dataset([99])[0])
    assert error.value.record == "image 99"


corner = st.integers(0, 40)
boxes = st.tuples(corner, corner, st.integers(1, 24), st.integers(1, 8)).map(list)
scores = st.integers(0, 1000).map(lambda n: n / 1000)
records = st.lists(st.builds(result, st.sampled_from([3, 7, 8]), boxes, scores, st.sampled_from([1, 2])), max_size=30)


@given(records, st.integers(0, 5))
def test_nothing_is_lost_or_mixed_up(records, most):
    """Against the plain way: sort and cut the list of each image."""
    front_end = coco_results(records, dataset(), max_per_image=most, box_format="xywh")
    kept = 0
    for image in dataset():
        mine = [r for r in records if r["image_id"] == image.image_id]
        mine = sorted(mine, key=lambda r: -r["score"])[:most]  # stable: equal scores in the order of the file
        found = front_end(image)
        expected = [[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in mine)]
        assert found.boxes.tolist() == expected
        assert found.scores.tolist() == [np.float32(r["score"]) for r in mine]
        assert found.category_ids.tolist() == [r["category_id"] for r in mine]
        kept += len(mine)
    assert kept + sum(front_end.left_out.values()) == len(records)


# ------------------------------------------------------------------------------------------------------ masks


MASKS = [rectangle((H, W), 5, 6, 20, 30), rectangle((H, W), 0, 0, 64, 3), rectangle((H, W), 40, 10, 41, 11)]


@pytest.mark.parametrize("kind", ["RLE", "bitmap", "polygons"])
def test_masks_in_every_encoding(kind):
    encode = {"RLE": encode_mask, "polygons": mask_to_polygons, "bitmap": lambda mask: mask.tolist()}[kind]
    records = [result(score=0.9 - i / 10, segmentation=encode(mask)) for i, mask in enumerate(MASKS)]
    found = coco_results(records, dataset())(dataset()[1])
    assert all(np.array_equal(decode_rle(rle), mask) for rle, mask in zip(found.masks, MASKS, strict=True))
    assert found.boxes.tolist() == [XYXY] * 3  # of the record, not of the mask


def test_a_record_without_box_has_that_of_its_mask():
    records = [masked(mask, score=0.9 - i / 10) for i, mask in enumerate(MASKS)] + [masked(MASKS[0] & False, score=1)]
    front_end = coco_results(records, dataset())
    found = front_end(dataset()[1])
    assert found.boxes.tolist() == [[5, 6, 20, 30], [0, 0, 64, 3], [40, 10, 41, 11]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7]) and len(found.masks) == 3
    assert "left out: 1 with neither a box nor a pixel" in repr(front_end)
    assert coco_results(records, dataset())(dataset()[0]).masks == ()


@pytest.mark.parametrize("box", [[], [0, 0, 0, 0], [5, 5, 0, 0], np.zeros(4)], ids=str)
def test_a_box_without_area_beside_a_mask_is_that_of_the_mask(box):
    found = coco_results([result(box=box, segmentation=encode_mask(MASKS[0]))], dataset())(dataset()[1])
    assert found.boxes.tolist() == [[5, 6, 20, 30]]
    assert coco_results([result(segmentation=[])], dataset())(dataset()[1]).masks is None


def test_numbers_of_numpy_rounded_scores_and_ids_as_text():
    records = [
        result(np.int64(7), np.array(BOX), np.float32(0.5), np.int32(2)),
        result("7", score=np.float64(1.0000001)),
        result(7.0, score=-1e-9),
    ]
    data = dataset(names="photo_{}.jpg")
    found = coco_results(records[:2], data)(data[1])
    assert found.scores.tolist() == [1, 0.5] and found.category_ids.tolist() == [1, 2]
    assert coco_results([result("photo_7", score=-1e-9)], data)(data[1]).scores.tolist() == [0]


def test_masks_of_foreign_records_are_not_even_read():
    records = [result(segmentation="rubbish", image_id=55), masked(MASKS[0])]
    assert coco_results(records, dataset()).left_out["of other images"] == 1


@pytest.mark.parametrize(
    "segmentation",
    [encode_mask(np.ones((W, H), bool)), {"size": [H, W], "counts": "~~~"}, "rubbish", [[1, 2, 3]]],
    ids=["of another size", "corrupt", "text", "an open polygon"],
)
def test_a_bad_mask_is_named_by_its_record(segmentation):
    message = refused([masked(MASKS[0], image_id=55), masked(MASKS[0]), result(segmentation=segmentation)])
    assert message.startswith("results, result 2: ")


# ------------------------------------------------------------------------------------------------------ what is refused


BAD = {  # results; where the error is
    "annotations": ({"images": [], "annotations": []}, None),
    "no image": ([{"bbox": BOX, "score": 1.0}], "result 0"),
    "no score": ([{"image_id": 7, "category_id": 1, "bbox": BOX}], "result 0"),
    "no category": ([{"image_id": 7, "score": 1.0, "bbox": BOX}], "result 0"),
    "a category by name": ([result(), result(category_id="cup")], "result 1"),
    "neither box nor mask": ([result(), result(box=None)], "result 1"),
    "three numbers": ([result(box=[1, 2, 3])], "result 0"),
    "a box of nested lists": ([result(box=[[1, 2], [3]])], "result 0"),
    "NaN in a box": ([result(), result(box=[1, 2, float("nan"), 4])], "result 1"),
    "per cent": ([result(score=0.5), result(score=90)], "detection 1"),
    "logits": ([result(score=-2.5)], "detection 0"),
    "a NaN score": ([result(), result(score=float("nan"))], "detection 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_meant(kind, tmp_path):
    content, record = BAD[kind]
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        coco_results(tmp_path / "r.json", dataset())
    assert (error.value.file, error.value.record) == (str(tmp_path / "r.json"), record)


# ------------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize("name", ["7.jpg", "val/7.jpg", "7"])
def test_file_names_as_image_ids(name):
    found = coco_results([result(name)], dataset(names="val/{}.jpg"))(dataset()[1])
    assert found.boxes.tolist() == [XYXY]


def test_a_name_that_several_images_have():
    data = dataset([1, 2, 3])
    first, second, third = data
    data = with_images(data, [replace(first, file_name="a/x.jpg"), replace(second, file_name="b/x.jpg"), third])
    message = refused([result("x"), result("3.jpg")], data)
    assert "several are called 'x' (1 times)" in message and "with their folders" in message
    assert coco_results([result("b/x.jpg")], data)(data[1]).boxes.tolist() == [XYXY]


def test_another_split():
    message = refused([result(100), result(101), result(101)])
    assert "found 101 (2 times), 100 (1 times)" in message and "plain val has ids like 3 for 3.jpg" in message
    assert "no image of the data set" in refused([result("street")])
    assert "ids like none at all" in refused([result()], dataset([]))
    front_end = coco_results([result(3), result(100, category_id=50), result("street")], dataset())
    assert repr(front_end) == "results: 1 detections in 1 of 3 images; left out: 2 of other images"


def test_numbers_of_file_names_in_the_place_of_ids():
    data = dataset([0, 1, 2, 3], names="COCO_val2014_{:06d}.jpg")
    data = with_images(data, [replace(image, image_id=10 * image.image_id) for image in data])
    message = refused([result(1), result(2), result(0)], data)
    assert "the numbers in the file names" in message and "ids like 0 for COCO_val2014_000000.jpg" in message
    few = dataset([0, 2, 4])  # named 1.jpg, 3.jpg, 5.jpg: results by id, for more images, are no such case
    few = with_images(few, [replace(image, file_name=f"{image.image_id + 1}.jpg") for image in few])
    assert coco_results([result(i) for i in range(6)], few).left_out["of other images"] == 3


# ------------------------------------------------------------------------------------------------------ categories


def test_coco_ids_are_those_of_torchvision():
    names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    assert [i for i, name in enumerate(names) if i and name != "N/A"] == list(COCO_IDS) and len(COCO_IDS) == 80


def test_dense_ids_against_coco_s_own():
    data = dataset(categories=COCO_IDS)
    records = [result(category_id=i) for i in (0, 0, 0, 11, 79)]
    message = refused(records, data)
    assert "no category 0 (3 times)" in message and "category_map='coco80_to_91'" in message
    found = coco_results(records, data, category_map="coco80_to_91")(data[1])
    assert found.category_ids.tolist() == [1, 1, 1, 13, 90]
    message = refused([result(category_id=i) for i in (1, 90, 90)], data, category_map="coco80_to_91")
    assert "missing are 90 (2 times)" in message
    assert "and 9 others" in refused([result(category_id=i) for i in range(1, 20)])


def test_a_map_of_one_s_own():
    records = [result(category_id=i) for i in (4, 5, 6, 6)]
    front_end = coco_results(records, dataset(), category_map={4: 2, 5: 1, 6: None})
    assert front_end(dataset()[1]).category_ids.tolist() == [2, 1]
    assert "2 of categories that the map leaves out" in repr(front_end)
    assert "missing are 6 (2 times)" in refused(records, category_map={4: 2, 5: 1})
    assert "no category 9 (1 times)" in refused([result(category_id=0)], category_map={0: 9})


def test_class_agnostic():
    records = [result(category_id=77), result(category_id="cup", score=0.4), result(score=0.3)]
    records.append(result(category_id=-1, score=0.2))
    del records[2]["category_id"]
    assert coco_results(records, dataset(), class_agnostic=True)(dataset()[1]).category_ids.tolist() == [77, 1, 1, -1]


# ------------------------------------------------------------------------------------------------------ boxes


def many(box, images=(3, 7, 8), count=20):
    return [result(images[i % len(images)], [value + (i % 3) for value in box]) for i in range(count)]


def test_boxes_that_are_xyxy():
    records = many([30, 20, 50, 40])
    assert 'box_format="xyxy"' in refused(records)
    found = coco_results(records, dataset(), box_format="xyxy")(dataset()[0])
    assert found.boxes[0].tolist() == [30, 20, 50, 40]


def test_normalised_boxes():
    records = [result(box=[0.25, 0.5, 0.5, 1])]
    assert 'box_format="normalised"' in refused(records)
    found = coco_results(records, dataset(), box_format="normalised")(dataset()[1])
    assert found.boxes.tolist() == [[16, 24, 32, 48]]


def test_a_few_boxes_may_reach_beyond_and_some_are_useless():
    records = many([10, 20, 30, 15]) + [result(box=[50, 20, 30, 15], score=0.9)]
    assert coco_results(records, dataset())(dataset()[1]).boxes[0].tolist() == [50, 20, 80, 35]
    useless = [result(box=box) for box in ([5, 5, 0, 9], [5, 5, 9, -1], [-20, 5, 10, 9], [5, 48, 4, 4])]
    front_end = coco_results(records + useless, dataset(), box_format="xywh")
    assert front_end.left_out["with a box that has no area in its image"] == 4
    assert len(front_end.detections.boxes) == len(records)
