"""AP and AR, by occlusion bucket too: equal to pycocotools, and worked by hand on 4x4 masks."""

import copy
import json
import math

import numpy as np
import pytest
from evaluation_scenes import (
    FULL,
    LEFT,
    NUMBERS,
    TOP,
    TOP_3,
    WIDE,
    bitmap,
    by_bucket,
    found,
    ground_truth,
    nan,
    pycocotools_stats,
    random_data,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate, evaluate_amodal
from sameo_core.masks import decode_rle, encode_mask


def test_numbers_worked_by_hand():
    # Object 0 found with IoU 12/16 = 0.75: right at the 6 thresholds 0.50 ... 0.75. Object 1 not found.
    # Recall 1/2 there, precision 1 at the recalls 0, 0.01 ... 0.50, that is 51 of 101 points.
    stats = evaluate_amodal(ground_truth(FULL, LEFT), [found(0, TOP_3)])
    ap, ar = 51 / 101, 1 / 2
    expected = {"AP": 0.6 * ap, "AP50": ap, "AP75": ap, "AR1": 0.6 * ar, "AR10": 0.6 * ar, "AR100": 0.6 * ar}
    assert stats == pytest.approx(expected)


def test_a_better_scored_false_positive_halves_precision_and_hides_from_ar_1():
    stats = evaluate_amodal(ground_truth(FULL), [found(0, LEFT & TOP, score=0.9), found(0, FULL, score=0.8)])
    assert stats == pytest.approx({"AP": 0.5, "AP50": 0.5, "AP75": 0.5, "AR1": 0, "AR10": 1, "AR100": 1})


@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools(seed, class_agnostic):
    truth, predictions = random_data(seed)
    stats = evaluate_amodal(truth, predictions, class_agnostic)
    same(stats, pycocotools_stats(truth, predictions, class_agnostic))
    assert list(stats) == NUMBERS and 0 < stats["AP"] < 1


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_equals_pycocotools_with_tied_scores_and_many_detections(class_agnostic):
    truth, predictions = random_data(11)
    predictions = [p | {"score": round(p["score"], 1)} for p in predictions * 25]
    assert max(np.unique([p["image_id"] for p in predictions], return_counts=True)[1]) > 100
    stats = evaluate_amodal(truth, predictions, class_agnostic)
    same(stats, pycocotools_stats(truth, predictions, class_agnostic))


CORNER = TOP | LEFT  # 12 pixels, of IoU 8/12 with both; TOP and LEFT have IoU 4/12


@pytest.mark.parametrize(
    ("masks", "categories", "ar"),
    [
        ((TOP, LEFT), (1, 1), (0.4 * 2 + 0.6) / 2),  # CORNER takes LEFT, TOP is left for the second
        # up to IoU 0.65 CORNER takes TOP, and the second finds nothing; above it is reverse
        ((LEFT, TOP), (1, 1), 0.5),
        ((LEFT, TOP), (2, 1), (0.4 * 2 + 0.6) / 2),  # objects stand by category, even class-agnostic
    ],
)
def test_of_objects_of_equal_iou_the_last_is_taken(masks, categories, ar):
    truth = ground_truth(*masks, id=[1, 2], image_id=[0, 0], category_id=categories, iscrowd=[0, 0])
    truth["categories"].append({"id": 2, "name": "other"})
    predictions = [found(0, CORNER, 0.9), found(0, TOP, 0.8)]
    stats = evaluate_amodal(truth, predictions)
    assert stats["AR100"] == pytest.approx(ar)
    same(stats, pycocotools_stats(truth, predictions, True))


@pytest.mark.parametrize("categories", [(1, 1), (1, 2), (2, 1)])
def test_of_equal_scores_the_first_has_its_turn_first_by_category_then_by_file(categories):
    truth = ground_truth(FULL, id=[1], iscrowd=[0])
    truth["categories"].append({"id": 2, "name": "other"})
    predictions = [found(0, m, 0.5, category_id=c) for m, c in zip((LEFT & TOP, FULL), categories, strict=True)]
    stats = evaluate_amodal(truth, predictions)
    same(stats, pycocotools_stats(truth, predictions, True))
    assert stats["AR1"] == (categories == (2, 1)) and stats["AP"] == pytest.approx(1 if categories == (2, 1) else 0.5)


def test_an_object_that_is_to_be_found_goes_before_one_of_higher_iou_that_is_not():
    truth = ground_truth(FULL, TOP_3, image_id=[0, 0], occlude_rate=[0, 0.7])
    stats = by_bucket(truth, [found(0, TOP_3)])
    assert stats["50-90 %"]["AR1"] == 1
    assert stats["0-10 %"]["AR1"] == pytest.approx(0.6)  # FULL, IoU 0.75, up to where it is reached
    assert stats["0-10 %"]["AP"] == pytest.approx(0.6)  # above, TOP_3 excuses the detection


def test_a_crowd_is_not_to_be_found_and_excuses_detections():
    truth = ground_truth(FULL, LEFT, iscrowd=[1, 0], occlude_rate=[None, 0.0])
    predictions = [found(0, TOP, 0.95), found(0, TOP_3, 0.94), found(1, LEFT)]
    assert evaluate_amodal(truth, predictions)["AP"] == pytest.approx(1)
    assert by_bucket(truth, predictions)["0-10 %"]["AP"] == pytest.approx(1)


def test_annotations_need_no_id_area_bbox_iscrowd_or_category():
    truth, predictions = random_data(3, crowds=False)
    bare = copy.deepcopy(truth)
    bare["annotations"] = [{k: a[k] for k in ("image_id", "segmentation")} for a in bare["annotations"]]
    del bare["categories"]
    same(evaluate_amodal(bare, predictions), evaluate_amodal(truth, predictions))


def test_an_annotation_with_id_zero_can_be_found():
    truth = ground_truth(FULL)
    assert truth["annotations"][0]["id"] == 0
    assert evaluate_amodal(truth, [found(0, FULL)])["AP"] == pytest.approx(1)
    truth["annotations"][0]["iscrowd"] = 0
    assert pycocotools_stats(truth, [found(0, FULL)], True)["AP"] == 0  # what we are guarding against


def test_visible_masks_that_are_not_needed_are_not_looked_at():
    damaged = found(0, FULL, visible_mask=WIDE)
    assert evaluate_amodal(ground_truth(FULL, visible_mask=[WIDE]), [damaged])["AR1"] == 1
    truth = ground_truth(FULL, visible_mask=[encode_mask(LEFT)])
    with pytest.raises(InputError, match="prediction 0"):
        evaluate(truth, [damaged])


@pytest.mark.parametrize("category", [None, 0, 999, "person"])
def test_class_agnostic_does_not_look_at_categories(category):
    truth, predictions = random_data(5, categories=(1,))
    foreign = [p | {"category_id": category} for p in predictions]
    same(evaluate_amodal(truth, foreign), evaluate_amodal(truth, predictions))
    without = [{k: v for k, v in p.items() if k != "category_id"} for p in predictions]
    same(evaluate_amodal(truth, without), evaluate_amodal(truth, predictions))


@pytest.mark.parametrize("predictions", [[], [found(0, FULL)]])
def test_nothing_found_is_0_and_nothing_to_find_is_nan(predictions):
    assert evaluate_amodal(ground_truth(FULL), []) == dict.fromkeys(NUMBERS, 0.0)
    truth = ground_truth(FULL) | {"annotations": []}
    same(evaluate_amodal(truth, predictions), dict.fromkeys(NUMBERS, nan))
    only_crowd = ground_truth(FULL, iscrowd=[1])
    same(evaluate_amodal(only_crowd, predictions), dict.fromkeys(NUMBERS, nan))


@pytest.mark.parametrize("form", [np.asarray, lambda m: m * 255, lambda m: m.tolist(), lambda m: m * 1.0])
def test_bitmaps_are_masks_on_both_sides(form):
    truth, predictions = random_data(5)
    for record in (*truth["annotations"], *predictions):
        for key in {"segmentation", "visible_mask"} & record.keys():
            record[key] = form(decode_rle(record[key]))
    same(by_bucket(truth, predictions)["10-50 %"], by_bucket(*random_data(5))["10-50 %"])


def test_numbers_of_numpy_and_flags_in_words_are_what_they_say():
    truth = ground_truth(FULL, LEFT, iscrowd=["1", "0"])
    for image in truth["images"]:
        image |= {key: np.int64(value) for key, value in image.items()}
    predictions = [found(np.int64(1), LEFT, np.float32(0.5), category_id=np.int32(1))]
    plain = evaluate_amodal(ground_truth(FULL, LEFT, iscrowd=[1, 0]), [found(1, LEFT, 0.5)])
    same(evaluate_amodal(truth, predictions, class_agnostic=False), plain)


def test_paths_and_dicts_give_the_same(tmp_path):
    truth, predictions = random_data(6)
    before = copy.deepcopy((truth, predictions))
    for name, content in (("truth.json", truth), ("results.json", predictions)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8-sig")  # a byte order mark is no part of it
    from_files = evaluate_amodal(tmp_path / "truth.json", str(tmp_path / "results.json"))
    same(from_files, evaluate_amodal(truth, predictions))
    assert (truth, predictions) == before


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 50), st.booleans())
def test_the_order_of_records_does_not_matter(random, seed, class_agnostic):
    truth, predictions = random_data(seed, images=3)  # scores are distinct
    shuffled = copy.deepcopy(truth)
    random.shuffle(shuffled["images"])
    random.shuffle(shuffled["annotations"])
    same(
        evaluate_amodal(shuffled, random.sample(predictions, len(predictions)), class_agnostic),
        evaluate_amodal(truth, predictions, class_agnostic),
    )


def test_what_counts_in_a_bucket():
    # Object 0 not occluded, found. Object 1 half hidden, not found. A detection that matches nothing scores best.
    truth = ground_truth(FULL, FULL, visible_mask=[encode_mask(FULL), encode_mask(LEFT)])
    hit, stray = found(0, FULL, 0.5), found(1, LEFT & TOP, 0.9)
    stats = by_bucket(truth, [hit])
    assert stats["0-10 %"] == dict.fromkeys(NUMBERS, pytest.approx(1))  # object 1 is not missed here
    assert stats["50-90 %"] == dict.fromkeys(NUMBERS, 0)  # and the hit is no false positive here
    same(stats["10-50 %"], dict.fromkeys(NUMBERS, nan))
    assert by_bucket(truth, [hit, stray])["0-10 %"]["AP"] == pytest.approx(0.5)  # a stray is, everywhere
    both = [stray, found(1, FULL, 0.5)]
    assert by_bucket(truth, both)["50-90 %"]["AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rate", "bucket"),
    [(0, "0-10 %"), (0.0999, "0-10 %"), (0.1, "10-50 %"), (0.5, "50-90 %"), (0.9, "90-100 %"), (1, "90-100 %")],
)
def test_bucket_edges_belong_to_the_upper_bucket_and_occlude_rate_serves_without_a_visible_mask(rate, bucket):
    stats = by_bucket(ground_truth(FULL, occlude_rate=[rate]), [found(0, FULL)])
    assert [name for name, s in stats.items() if not math.isnan(s["AP"])] == [bucket]


def test_one_pixel_of_ten_hidden_is_ten_per_cent_in_spite_of_rounding():
    """And the visible mask goes before the stated rate."""
    amodal = bitmap("####", "####", "##..", "....")
    visible = encode_mask(amodal & ~bitmap("#...", "....", "....", "...."))
    truth = ground_truth(amodal, visible_mask=[visible], occlude_rate=[0.99])
    stats = by_bucket(truth, [found(0, amodal)])  # 1 - 9 / 10 would be less than 0.1
    assert [name for name, s in stats.items() if not math.isnan(s["AP"])] == ["10-50 %"]
