"""Bad ground truth, predictions and buckets: what is named. Ids of images that are names."""

import math
from pathlib import Path

import pytest
from evaluation_scenes import FULL, TOP, WIDE, by_bucket, found, ground_truth, nan, random_data, small_dataset

from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate, evaluate_amodal, evaluate_regions
from sameo_core.masks import encode_mask


def without(record, key):
    return {k: v for k, v in record.items() if k != key}


HIT = found(0, FULL)
TRUTH = ground_truth(FULL, occlude_rate=[0.0])
ANNOTATION = TRUTH["annotations"][0]
SEEN = {"visible_mask": encode_mask(FULL)}


def named(call, *arguments, **options):
    """File and record of the error."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    assert error.value.remedy
    return error.value.file, error.value.record


@pytest.mark.parametrize("protocol", [evaluate, evaluate_amodal])
@pytest.mark.parametrize(
    ("predictions", "record"),
    [
        ([HIT, found(7, FULL)], "prediction 1"),
        ([HIT | {"image_id": "0"}], "prediction 0"),
        ([HIT | {"image_id": [0]}], "prediction 0"),
        ([HIT | {"segmentation": WIDE}], "prediction 0"),
        ([HIT | {"segmentation": without(WIDE, "size")}], "prediction 0"),
        ([without(HIT, "score")], "prediction 0"),
        ([without(HIT, "segmentation")], "prediction 0"),
        ([without(HIT, "image_id")], "prediction 0"),
        (["HIT"], "prediction 0"),
        ([HIT | {"score": math.inf}], "prediction 0"),
        ([HIT | {"score": "0.9"}], "prediction 0"),
        ({"images": [], "annotations": [HIT]}, None),
    ],
)
def test_bad_predictions(protocol, predictions, record):
    assert named(protocol, TRUTH, predictions) == ("predictions", record)


@pytest.mark.parametrize(
    ("truth", "record"),
    [
        ([HIT], None),
        (without(TRUTH, "annotations"), None),
        (without(TRUTH, "images"), None),
        (TRUTH | {"images": TRUTH["images"] * 2}, None),
        (TRUTH | {"images": [{"id": 0}]}, "image 0"),
        (TRUTH | {"images": [{"id": 0.5, "height": 4, "width": 4}]}, "image 0"),
        (TRUTH | {"images": [{"id": 0, "height": "4", "width": 4}]}, "image 0"),
        (TRUTH | {"annotations": [ANNOTATION | {"image_id": 9}]}, "annotation 0"),
        (TRUTH | {"annotations": [ANNOTATION | {"segmentation": WIDE}]}, "annotation 0"),
        (TRUTH | {"annotations": [without(ANNOTATION, "segmentation")]}, "annotation 0"),
        (TRUTH | {"annotations": ["x"]}, "annotation 0"),
        (TRUTH | {"annotations": [ANNOTATION | {"iscrowd": 2}]}, "annotation 0"),
        (TRUTH | {"categories": {"id": 1}}, None),
        (TRUTH | {"categories": [{"name": "thing"}]}, "category 0"),
    ],
)
def test_bad_ground_truth(truth, record):
    assert named(evaluate_amodal, truth, [HIT]) == ("ground_truth", record)


@pytest.mark.parametrize(
    "fields", [{}, {"occlude_rate": [1.2]}, {"occlude_rate": [nan]}, {"visible_mask": [WIDE]}], ids=str
)
def test_ground_truth_without_an_occlusion_rate(fields):
    assert named(by_bucket, ground_truth(FULL, **fields), [HIT]) == ("ground_truth", "annotation 0")


@pytest.mark.parametrize("bucket", [(0, 10), (0.5, 0.1), (0.2, 0.2), (nan, 1.0)])
def test_bad_buckets(bucket):
    table = evaluate_regions([FULL], [FULL], [FULL])
    assert named(table.summary, {"mine": bucket}) == ("buckets", "'mine'")


def test_a_prediction_without_visible_mask_among_others_is_named():
    truth = ground_truth(FULL, **{key: [mask] for key, mask in SEEN.items()})
    assert named(evaluate, truth, [HIT | SEEN, HIT]) == ("predictions", "prediction 1")


def test_dense_category_ids_are_explained():
    truth, predictions = random_data(0)  # categories 1, 18, 90
    dense = [p | {"category_id": {1: 0, 18: 16, 90: 79}[p["category_id"]]} for p in predictions]
    with pytest.raises(InputError, match=r"category id \d+ is none of .*\[1, 18, 90\].*0\.\.79") as error:
        evaluate_amodal(truth, dense, class_agnostic=False)
    assert error.value.record == "prediction 0"
    evaluate_amodal(truth, dense)


@pytest.mark.parametrize("category", [None, "person", [1]])
def test_class_aware_needs_category_ids(category):
    foreign = {"category_id": category}
    truth = TRUTH | {"annotations": [ANNOTATION | foreign]}
    assert named(evaluate_amodal, TRUTH, [HIT | foreign], class_agnostic=False)[1] == "prediction 0"
    assert named(evaluate_amodal, truth, [HIT], class_agnostic=False)[1] == "annotation 0"


def test_foreign_categories_are_refused_unless_class_aware_numbers_are_left_out():
    truth = TRUTH | {"annotations": [ANNOTATION | SEEN]}
    predictions = [HIT | SEEN | {"category_id": 7}]
    assert named(evaluate, truth, predictions)[1] == "prediction 0"
    table = evaluate(truth, predictions, class_aware=False)
    assert table.class_aware == {} and list(table.visible) == ["class-agnostic"]
    assert table.class_agnostic["all"]["AP"] == pytest.approx(1)


def test_a_data_set_without_amodal_masks_or_with_an_image_id_twice_is_refused():
    seen = AmodalInstance(1, 4, "thing", False, None, encode_mask(TOP))
    visible = AmodalDataset("lvis", Path(), "val", {4: "thing"}, [AmodalImage(1, "", Path(), 4, 4, (seen,))], {})
    twice = AmodalDataset("cocoa", Path(), "val", {4: "thing"}, [*small_dataset(), small_dataset()[0]], {})
    for dataset, rule in ((visible, "no amodal masks"), (twice, "an image id twice")):
        with pytest.raises(InputError, match=rule):
            evaluate_amodal(dataset, [])


@pytest.mark.parametrize("rename", [lambda i: f"image {chr(122 - i)}", lambda i: i if i % 2 else f"image {i}"])
def test_image_ids_may_be_names_or_some_of_them(rename):
    truth, predictions = random_data(4)
    expected = evaluate_amodal(truth, predictions)
    for record in [*truth["annotations"], *predictions]:
        record["image_id"] = rename(record["image_id"])
    for image in truth["images"]:
        image["id"] = rename(image["id"])
    assert evaluate_amodal(truth, predictions) == pytest.approx(expected)
