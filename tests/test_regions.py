"""mIoU by region, worked by hand on 4x4 masks; which detection covers which object."""

import math

import numpy as np
import pytest
from conftest import plain_dataset
from evaluation_scenes import FULL, LEFT, NONE, QUARTER, TOP, TOP_3, bitmap, found, nan, own_box_results, small_dataset

from sameo_core.errors import InputError
from sameo_core.evaluation import covering_detections, evaluate_regions, region_iou, region_table, worst_hidden
from sameo_core.masks import encode_mask

SPILL = bitmap("###.", "###.", "##..", "##..")  # LEFT and 2 pixels more
# predicted, amodal, visible -> full, visible, hidden
BY_HAND = {
    "perfect": (LEFT, LEFT, QUARTER, (1, 1, 1)),
    "the visible part only": (QUARTER, LEFT, QUARTER, (4 / 8, 1, 0)),
    "three rows of four": (TOP_3, FULL, TOP, (12 / 16, 1, 4 / 8)),
    "spills 2 pixels": (SPILL, LEFT, QUARTER, (8 / 10, 4 / 6, 4 / 6)),
    "the hidden part only": (LEFT & ~QUARTER, LEFT, QUARTER, (4 / 8, 0, 1)),
    "nothing": (NONE, LEFT, QUARTER, (0, 0, 0)),
    "un-occluded": (TOP_3, FULL, FULL, (12 / 16, 12 / 16, nan)),
    "invisible": (QUARTER, LEFT, NONE, (4 / 8, nan, 4 / 8)),
    "visible outside amodal is dropped": (LEFT, LEFT, TOP, (1, 1, 1)),
}


@pytest.mark.parametrize("encode", [lambda m: m, encode_mask], ids=["bitmap", "rle"])
@pytest.mark.parametrize("case", BY_HAND)
def test_regions_worked_by_hand(case, encode):
    *masks, expected = BY_HAND[case]
    assert region_iou(*map(encode, masks)) == pytest.approx(expected, nan_ok=True)


def test_regions_follow_their_definition_on_random_masks():
    rng = np.random.default_rng(0)
    p, a, v = rng.random((3, 50, 9, 7)) < np.array([0.6, 0.7, 0.5])[:, None, None, None]
    v &= a
    hidden = a & ~v

    def iou(x, y):
        return (x & y).sum((1, 2)) / (x | y).sum((1, 2))

    table = evaluate_regions(p, a, v)
    np.testing.assert_allclose(table.full, iou(p, a))
    np.testing.assert_allclose(table.visible, iou(p & ~hidden, v))
    np.testing.assert_allclose(table.hidden, iou(p & ~v, hidden))
    np.testing.assert_array_equal(table.recalled_pixels, (p & hidden).sum((1, 2)))
    np.testing.assert_array_equal(table.hidden_pixels, hidden.sum((1, 2)))
    np.testing.assert_allclose(table.occlusion_rate, hidden.sum((1, 2)) / a.sum((1, 2)))
    np.testing.assert_allclose(table.excess, (p & ~a).sum((1, 2)) / a.sum((1, 2)))


def test_summary_worked_by_hand():
    cases = ["un-occluded", "the visible part only", "three rows of four", "invisible"]
    predicted, amodal, visible = zip(*(BY_HAND[case][:3] for case in cases), strict=True)
    table = evaluate_regions(list(map(encode_mask, predicted)), list(amodal), visible)
    assert table.hidden_pixels.tolist() == [0, 4, 8, 8]
    assert table.recalled_pixels.tolist() == [0, 0, 4, 4]
    assert table.occlusion_rate.tolist() == [0, 0.5, 0.5, 1]
    assert np.argsort(table.full).tolist()[0] == 1  # the worst
    assert table.summary() == pytest.approx(
        {
            "mIoU": (0.75 + 0.5 + 0.75 + 0.5) / 4,
            "visible mIoU": (0.75 + 1 + 1) / 3,
            "hidden mIoU": (0 + 0.5 + 0.5) / 3,
            "hidden recall": 8 / 20,
            "mean hidden recall": (0 + 0.5 + 0.5) / 3,
            "un-occluded mIoU": 0.75,
            "un-occluded excess": 0,
            "mIoU 0-10 %": 0.75,
            "mIoU 10-50 %": nan,
            "mIoU 50-90 %": (0.5 + 0.75) / 2,
            "mIoU 90-100 %": 0.5,
        },
        nan_ok=True,
    )


def test_one_hidden_pixel_is_occluded_and_one_visible_one_visible():
    corner = bitmap("#...", "....", "....", "....")
    assert region_iou(FULL, FULL, corner) == (1, 1, 1)
    assert region_iou(FULL & ~corner, FULL, corner) == (15 / 16, 0, 1)
    table = evaluate_regions([FULL, TOP], [FULL, FULL], [FULL & ~corner, FULL])
    assert table.hidden[0] == 1 and math.isnan(table.hidden[1])
    summary = table.summary()
    assert (summary["un-occluded mIoU"], summary["mIoU 0-10 %"]) == (0.5, 0.75)


def test_rows_from_the_worst_to_the_best_and_at_quantiles():
    cases = ["perfect", "un-occluded", "nothing", "three rows of four", "invisible", "the visible part only"]
    table = evaluate_regions(*zip(*(BY_HAND[case][:3] for case in cases), strict=True))
    assert table.occlusion_rate.tolist() == [0.5, 0, 0.5, 0.5, 1, 0.5]
    assert table.ranked("hidden") == [2, 5, 3, 4, 0]  # 0, 0, 1/2, 1/2, 1; of equals the first; un-occluded: NaN
    assert table.ranked("full") == [2, 4, 5, 1, 3, 0] and table.ranked("visible") == [2, 1, 0, 3, 5]
    assert table.ranked("hidden", 0.5) == table.ranked("hidden") and table.ranked("full", 0.51) == [4]
    assert table.at_quantiles("hidden", [0, 0.5, 0.7, 1]) == [2, 3, 4, 0]
    assert table.at_quantiles("full", [0.5], least=1) == [4]
    with pytest.raises(InputError, match="least: a row with visible and an occlusion rate of at least 1, found none"):
        table.at_quantiles("visible", [0.5], least=1)


def test_the_worst_hidden_regions_are_named_by_image_and_place():
    dataset = small_dataset()  # hidden: the lower half of FULL, nothing, the lower half of LEFT
    results = [found(i, mask, instance_id=k) for k, (i, mask) in enumerate({8: LEFT, 2: TOP, 5: QUARTER}.items())]
    assert worst_hidden(dataset, results) == [(2, 2, 0, 0.0), (0, 0, 0, 0.5)]
    assert worst_hidden(dataset, results[:1]) == [(0, 0, 0, 0.5)] and worst_hidden(dataset, []) == []


def test_the_table_of_a_data_set_wants_one_mask_for_each_object():
    dataset, results = small_dataset(), own_box_results()
    stranger = results[2] | {"instance_id": 7}
    for others in (results[:2], [*results, stranger], [*results[:2], stranger], [*results[:2], results[0]]):
        with pytest.raises(InputError, match="results: one mask for each of the 3 objects, found"):
            region_table(dataset, others)


def test_excess_counts_un_occluded_objects_only():
    summary = evaluate_regions([FULL, FULL, FULL], [TOP, TOP_3, LEFT], [TOP, TOP_3, QUARTER]).summary()
    assert summary["un-occluded excess"] == pytest.approx((8 / 8 + 4 / 12) / 2)
    assert all(math.isnan(value) for value in evaluate_regions([], [], []).summary().values())


BEHIND, FRONT = (4, 10, 14, 30), (14, 5, 44, 35)  # visible boxes of image 0 of `plain_dataset`


def boxed(image, box, score=0.5, **more):
    return {"image_id": image, "box": list(box), "score": score, "instance_id": -1} | more


def ids(found):
    return [(r["image_id"], r["instance_id"], r["box"]) for r in found]


def test_each_object_has_the_detection_with_the_best_box():
    near = (4, 10, 16, 30)
    results = [boxed(0, near, 0.9), boxed(0, BEHIND, 0.1), boxed(0, FRONT), boxed(1, FRONT)]
    found = covering_detections(plain_dataset(1), results)
    assert ids(found) == [(0, 0, list(BEHIND)), (0, 1, list(FRONT))]
    assert all(r["instance_id"] == -1 for r in results), "the input stays as it was"
    assert ids(covering_detections(plain_dataset(1), results[:1])) == [(0, 0, list(near))]


def test_the_surer_of_two_equal_boxes_by_the_front_ends_score():
    unsure, sure = boxed(0, FRONT, 0.9, front_end_score=0.2), boxed(0, FRONT, 0.1, front_end_score=0.3)
    for results in ([unsure, sure], [sure, unsure]):
        (found,) = covering_detections(plain_dataset(1), results)
        assert found["front_end_score"] == 0.3


def test_a_detection_is_taken_once_and_only_where_it_covers():
    both = (4, 5, 44, 35)  # IoU 200 / 1200 with one, 900 / 1200 with the other object
    found = covering_detections(plain_dataset(1), [boxed(0, both)])
    assert ids(found) == [(0, 1, list(both))]
    assert covering_detections(plain_dataset(1), [boxed(0, (4, 10, 14, 19))]) == []  # 0.45 of the object behind
    assert covering_detections(plain_dataset(1), []) == []


@pytest.mark.parametrize("encode", [lambda m: m, encode_mask], ids=["bitmap", "rle"])
@pytest.mark.parametrize(
    ("predicted", "amodal", "visible", "record"),
    [
        ([FULL, FULL], [FULL], [FULL], None),
        ([FULL], [FULL, FULL], [FULL, FULL], None),
        ([FULL], [FULL], [FULL, FULL], None),
        ([FULL, np.ones((4, 5), bool)], [FULL, FULL], [FULL, FULL], "object 1"),
        ([FULL], [NONE], [NONE], "object 0"),
    ],
)
def test_bad_regions(predicted, amodal, visible, record, encode):
    with pytest.raises(InputError) as error:
        evaluate_regions(*([encode(m) for m in masks] for masks in (predicted, amodal, visible)))
    assert error.value.record == record
