"""Every number of `evaluate` equals COCOeval's, where scores and IoUs tie as well; data sets as ground truth."""

import copy
import math

import numpy as np
import pytest
from evaluation_scenes import (
    FULL,
    LEFT,
    NONE,
    TOP,
    TOP_3,
    bitmap,
    cocoeval,
    found,
    ground_truth,
    nan,
    own_box_results,
    random_data,
    rate_of,
    same,
    small_dataset,
    table_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sameo_core.evaluation import (
    IOU_THRESHOLDS,
    OCCLUSION_BUCKETS,
    RECALLS,
    evaluate,
    evaluate_amodal,
    evaluate_predictions,
    region_table,
)
from sameo_core.masks import decode_rle, encode_mask

# Both ends belong to a range: 0.1 is of the bucket above 10 %, and 5e-324 is the least that is hidden.
BUCKETS = {name: (low, high if high == 1 else np.nextafter(high, 0)) for name, (low, high) in OCCLUSION_BUCKETS.items()}
SETTINGS = {"all": (0, 1), **BUCKETS, "occluded": (5e-324, 1), "un-occluded": (0, 0)}
COCOA = {"all": (0, 1), "none": (0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1)}  # as amodalAPI has them


def with_visible_masks(truth, predictions):
    """Both sides' visible masks in the place of the amodal ones, as AISFormer's evaluator."""
    swapped = [a | {"segmentation": a["visible_mask"]} for a in truth["annotations"]]
    return truth | {"annotations": swapped}, [p | {"segmentation": p["visible_mask"]} for p in predictions]


@st.composite
def tied_scenes(draw):
    """Few shapes, few scores, so that IoUs and scores are equal and objects are found twice; crowds, empty images."""
    side = st.integers(0, 4)
    shapes = []
    for y, x, h, w in draw(
        st.lists(st.tuples(side, side, st.integers(2, 6), st.integers(2, 6)), min_size=2, max_size=5)
    ):
        shapes.append(np.zeros((6, 6), bool))
        shapes[-1][y : y + h, x : x + w] = True
    image, category, shape = st.sampled_from([3, 7, 10]), st.sampled_from([9, 2, 5]), st.sampled_from(shapes)
    truth, predictions = [], []
    for i, c, amodal, crowd, hidden in draw(
        st.lists(st.tuples(image, category, shape, st.sampled_from([0, 0, 0, 1]), st.integers(0, 6)), max_size=8)
    ):
        visible = amodal.copy()
        visible[:, :hidden] = False
        masks = {"segmentation": encode_mask(amodal), "visible_mask": encode_mask(visible)}
        truth.append({"id": len(truth) + 1, "image_id": i, "category_id": c, "iscrowd": crowd, **masks})
    for i, c, mask, seen, score in draw(
        st.lists(st.tuples(image, category, shape, shape, st.sampled_from([0.25, 0.5, 0.75])), min_size=1, max_size=14)
    ):
        masks = {"segmentation": encode_mask(mask), "visible_mask": encode_mask(seen & mask)}
        predictions.append({"image_id": i, "category_id": c, "score": score, **masks})
    images = [{"id": i, "height": 6, "width": 6} for i in (10, 3, 7)]
    return {"images": images, "categories": [{"id": c} for c in (5, 9, 2)], "annotations": truth}, predictions


def check_against_cocoeval(truth, predictions):
    found = evaluate(truth, predictions)
    for class_agnostic, table in ((True, found.class_agnostic), (False, found.class_aware)):
        same(table, table_of(truth, predictions, class_agnostic, SETTINGS))
        name = "class-agnostic" if class_agnostic else "class-aware"
        theirs = table_of(*with_visible_masks(truth, predictions), class_agnostic, {"all": (0, 1)})
        same(found.visible[name], theirs["all"])
    same(found.cocoa["both"], table_of(truth, predictions, True, COCOA, (1, 10, 100, 1000)))
    return found


@settings(max_examples=40)
@given(tied_scenes())
def test_every_number_equals_cocoeval_where_scores_and_ious_tie(scene):
    check_against_cocoeval(*scene)


@pytest.mark.parametrize("seed", range(3))
def test_every_number_equals_cocoeval_on_random_scenes(seed):
    truth, predictions = random_data(seed, images=8)
    found = check_against_cocoeval(truth, with_visible(predictions))
    assert 0 < found.visible["class-aware"]["AP"] < found.class_aware["all"]["AP"] < 1


def with_visible(predictions):
    """What lies to the right of column 25 is hidden."""
    for p in predictions:
        mask = decode_rle(p["segmentation"])
        mask[:, 25:] = False
        p["visible_mask"] = encode_mask(mask)
    return predictions


def test_more_detections_than_are_looked_at():
    """One object; the 1st, 11th, 101st, 1000th and 1001st best detection find it, each better than the one before."""
    masks = [TOP, bitmap("####", "####", "#...", "...."), bitmap("####", "####", "##..", "...."), TOP_3, FULL]
    predictions = [found(0, NONE, 1 - i / 2000) for i in range(1001)]
    for place, mask in zip([0, 10, 100, 999, 1000], masks, strict=True):
        predictions[place]["segmentation"] = encode_mask(mask)
    truth = ground_truth(FULL, id=[1], visible_mask=[encode_mask(FULL)], iscrowd=[0])
    stats = evaluate(truth, predictions[::-1]).cocoa["both"]["all"]
    expected = [(np.array(iou) >= IOU_THRESHOLDS).mean() for iou in (8 / 16, 8 / 16, 9 / 16, 12 / 16)]
    assert [stats[f"AR{n}"] for n in (1, 10, 100, 1000)] == expected == [0.1, 0.1, 0.2, 0.6]
    same(stats, table_of(truth, predictions[::-1], True, COCOA, (1, 10, 100, 1000))["all"])


def test_curves_are_cocoevals():
    truth, predictions = random_data(1)
    found = evaluate(truth, predictions)
    precision, _ = cocoeval(truth, predictions, True, SETTINGS)
    assert list(found.curves) == list(SETTINGS)
    for r, name in enumerate(SETTINGS):
        theirs = precision[..., r, -1]
        defined = theirs[..., theirs[0, 0] > -1]
        expected = defined.mean(-1) if defined.size else np.full((10, 101), nan)
        np.testing.assert_array_equal(found.curves[name], expected)
    assert found.curves["all"].shape == (len(IOU_THRESHOLDS), len(RECALLS))


def test_true_iou_stands_beside_the_predicted_one_in_the_order_of_the_predictions():
    truth = ground_truth(FULL, LEFT, FULL, iscrowd=[0, 0, 1], visible_mask=[encode_mask(FULL)] * 3)
    truth["annotations"].append(truth["annotations"][0] | {"id": 9, "segmentation": encode_mask(TOP)})
    predictions = [
        found(1, LEFT, 0.2, predicted_iou=0.7, category_id=1),
        found(0, TOP_3, 0.9, predicted_iou=0.8),
        found(2, FULL, 0.5),  # in a crowd only
        found(0, NONE, 0.1, predicted_iou=0.1),
    ]
    scored = evaluate(truth, predictions)
    assert scored.true_iou.tolist() == [1, 12 / 16, 0, 0]
    assert scored.score.tolist() == [0.2, 0.9, 0.5, 0.1]
    np.testing.assert_array_equal(scored.predicted_iou, [0.7, 0.8, nan, 0.1])


def test_objects_are_counted_by_setting_and_crowds_by_none():
    by_a_hair = evaluate(ground_truth(FULL, LEFT, occlude_rate=[1e-3, 0]), []).objects
    assert (by_a_hair["occluded"], by_a_hair["un-occluded"], by_a_hair["0-10 %"]) == (1, 1, 2)
    visible = [FULL, LEFT, LEFT, FULL]
    truth = ground_truth(*[FULL] * 4, iscrowd=[0, 0, 1, 0], visible_mask=list(map(encode_mask, visible)))
    counts = evaluate(truth, []).objects
    expected = {"all": 3, "0-10 %": 2, "10-50 %": 0, "50-90 %": 1, "90-100 %": 0, "occluded": 1, "un-occluded": 2}
    assert counts == expected


def test_more_masks_than_pycocotools_counts_at_once():
    truth = ground_truth(*[FULL] * 600, visible_mask=[encode_mask(m) for m in [FULL] * 254 + [LEFT] * 346])
    table = evaluate(truth, [found(i, FULL, instance_id=i) for i in range(600)])
    assert (table.objects["un-occluded"], table.objects["50-90 %"]) == (254, 346)
    assert table.regions.hidden_pixels.tolist() == [0] * 254 + [8] * 346 and table.regions.full.tolist() == [1] * 600


def test_things_and_stuff_are_told_apart_where_the_ground_truth_does():
    truth = ground_truth(FULL, LEFT, occlude_rate=[0, 1e-5], isStuff=[1, 0])
    cocoa = evaluate(truth, [found(0, FULL, 0.9), found(1, TOP, 0.8)]).cocoa
    assert list(cocoa) == ["both", "things", "stuff"]
    assert [cocoa[part]["all"]["AR1000"] for part in cocoa] == [0.5, 0, 1]
    assert [cocoa["things"][name]["AR1"] for name in ("none", "partial")] == [0, 0]  # its end belongs to both
    assert math.isnan(cocoa["things"]["heavy"]["AR1"]) and math.isnan(cocoa["stuff"]["partial"]["AR1"])
    # the missed thing, and what was found there, count neither way
    assert cocoa["stuff"]["all"]["AP"] == pytest.approx(1)
    assert list(evaluate(ground_truth(FULL, occlude_rate=[0], isStuff=[0]), []).cocoa) == ["both"]


def test_without_visible_masks_there_are_no_numbers_of_them():
    truth, predictions = random_data(3, crowds=False)
    assert evaluate(truth, predictions).visible == {} == evaluate(truth, []).visible
    stated = copy.deepcopy(truth)
    for a in stated["annotations"]:
        a["occlude_rate"] = rate_of(a)
        del a["visible_mask"]
    found = evaluate(stated, with_visible(predictions))
    assert found.visible == {}
    same(found.class_agnostic, evaluate(truth, predictions).class_agnostic)


def test_what_is_not_occluded_needs_no_visible_mask_nor_does_a_crowd():
    truth = ground_truth(FULL, TOP, LEFT, occlude_rate=[0, 0.5, None], iscrowd=[0, 0, 1])
    truth["annotations"][1]["visible_mask"] = encode_mask(bitmap("####", "....", "....", "...."))
    seen = [found(0, NONE, visible_mask=encode_mask(FULL)), found(1, NONE, visible_mask=encode_mask(TOP))]
    assert evaluate(truth, seen).visible["class-agnostic"]["AR1"] == pytest.approx((1 + 0.1) / 2)


def test_a_data_set_is_ground_truth():
    dataset, results = small_dataset(), own_box_results()
    from_dataset, from_coco = evaluate(dataset, results), evaluate(dataset.to_coco(), results)
    for name in ("class_agnostic", "class_aware", "visible"):
        same(getattr(from_dataset, name), getattr(from_coco, name))
    assert list(from_dataset.cocoa) == ["both", "things", "stuff"]
    assert from_dataset.cocoa["stuff"]["all"]["AR1"] == pytest.approx(0.4)  # 8 of 12 pixels: 0.50 .. 0.65
    same(evaluate_amodal(dataset, results), evaluate_amodal(dataset.to_coco(), results))
    same(evaluate_predictions(dataset, results), evaluate_amodal(dataset, results) | from_dataset.regions.summary())


def test_the_miou_protocol_is_there_for_one_prediction_of_each_objects_own_box():
    dataset, results = small_dataset(), own_box_results()
    same(evaluate(dataset, results[::-1]).regions.__dict__, region_table(dataset, results).__dict__)
    strays = [r | {"instance_id": -1} for r in results]
    same(evaluate(dataset, results + strays).regions.summary(), region_table(dataset, results).summary())
    for others in (strays, results[:2], results + results[:1], [*results[:2], results[2] | {"instance_id": 7}]):
        assert evaluate(dataset, others).regions is None
