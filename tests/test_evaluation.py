"""AP against pycocotools itself, every number against 4x4 masks worked by hand, and the bad input people bring."""

import contextlib
import copy
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import plain_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_ops
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sameo_core import evaluate_amodal as public_evaluate_amodal
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.evaluation import (
    IOU_THRESHOLDS,
    OCCLUSION_BUCKETS,
    RECALLS,
    covering_detections,
    evaluate,
    evaluate_amodal,
    evaluate_predictions,
    evaluate_regions,
    region_iou,
    region_table,
    worst_hidden,
)
from sameo_core.masks import decode_rle, encode_mask

NUMBERS = ["AP", "AP50", "AP75", "AR1", "AR10", "AR100"]
nan = math.nan


def bitmap(*rows):
    """Rows of a drawing: '#' is object."""
    return np.array([[c == "#" for c in row] for row in rows])


LEFT = bitmap("##..", "##..", "##..", "##..")  # 8 pixels
FULL = bitmap("####", "####", "####", "####")  # 16
TOP = bitmap("####", "####", "....", "....")  # 8
NONE = bitmap("....", "....", "....", "....")
TOP_3 = bitmap("####", "####", "####", "....")  # 12, IoU with FULL 0.75


def ground_truth(*masks, **fields):
    """One 4x4 image an object; a field is a list over objects."""
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "segmentation": encode_mask(mask)} for i, mask in enumerate(masks)
    ]
    for key, values in fields.items():
        for annotation, value in zip(annotations, values, strict=True):
            annotation[key] = value
    images = [{"id": i, "height": 4, "width": 4} for i in range(len(masks))]
    return {"images": images, "categories": [{"id": 1, "name": "thing"}], "annotations": annotations}


def found(image_id, mask, score=0.9, **fields):
    return {"image_id": image_id, "category_id": 1, "segmentation": encode_mask(mask), "score": score} | fields


def random_data(seed=0, images=6, categories=(1, 18, 90), crowds=True, size=(24, 30)):
    """Rectangles, and detections around them; distinct scores. Complete records, as pycocotools itself needs them."""
    rng = np.random.default_rng(seed)

    def rectangle(y, x, h, w):
        mask = np.zeros(size, bool)
        mask[max(y, 0) : max(y + h, 1), max(x, 0) : max(x + w, 1)] = True
        return mask

    truth, predictions = [], []
    scores = iter(rng.permutation(10_000) / 10_000)
    for image_id in range(1, images + 1):
        for _ in range(rng.integers(0, 7)):
            box = rng.integers(1, (15, 18, 12, 14))
            amodal = rectangle(*box)
            visible = amodal & ~rectangle(box[0], box[1], rng.integers(0, 13), box[3])
            category = int(rng.choice(categories))
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": encode_mask(amodal),
                    "visible_mask": encode_mask(visible),
                    "iscrowd": int(crowds and rng.random() < 0.15),
                    "area": int(amodal.sum()),
                    "bbox": [0, 0, 1, 1],
                }
            )
            for _ in range(rng.integers(0, 4)):
                guess = category if rng.random() < 0.8 else int(rng.choice(categories))
                mask = rectangle(*(box + rng.integers(-1, 2, 4)))
                score = float(next(scores))
                record = {"image_id": image_id, "category_id": guess, "segmentation": encode_mask(mask), "score": score}
                predictions.append(record)
    listed = [{"id": i, "height": size[0], "width": size[1]} for i in range(1, images + 1)]
    cats = [{"id": c, "name": str(c)} for c in categories]
    return {"images": listed, "categories": cats, "annotations": truth}, predictions


class IgnoringCOCOeval(COCOeval):
    """pycocotools overwrites a ground truth's 'ignore'; this keeps it, and changes nothing else."""

    def _prepare(self):
        wanted = {a["id"]: a.get("ignore", 0) for a in self.cocoGt.dataset["annotations"]}
        super()._prepare()
        for group in self._gts.values():
            for gt in group:
                gt["ignore"] = gt["ignore"] or wanted[gt["id"]]


def pycocotools_stats(truth, predictions, class_agnostic, evaluator=COCOeval):
    """The usual five lines around pycocotools."""
    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        run = evaluator(coco, coco.loadRes(copy.deepcopy(predictions)), "segm")
        run.params.useCats = 0 if class_agnostic else 1
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats = [nan if s == -1 else float(s) for s in run.stats]
    return dict(zip(NUMBERS, [*stats[:3], *stats[6:9]], strict=True))


def same(ours, theirs):
    np.testing.assert_equal(ours, theirs)  # exactly; NaN equals NaN


# --- AP and AR ------------------------------------------------------------------------------------------------------


def test_perfect_predictions_score_one():
    stats = evaluate_amodal(ground_truth(LEFT, TOP), [found(0, LEFT), found(1, TOP)])
    assert stats == dict.fromkeys(NUMBERS, pytest.approx(1))


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


def test_a_score_decides_the_order_across_images():
    stats = evaluate_amodal(ground_truth(FULL, FULL), [found(0, LEFT & TOP, score=0.1), found(1, FULL, score=0.8)])
    assert stats["AP"] == pytest.approx(51 / 101)


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
        (
            (LEFT, TOP),
            (1, 1),
            0.5,
        ),  # up to IoU 0.65 CORNER takes TOP, and the second finds nothing; above it is reverse
        ((LEFT, TOP), (2, 1), (0.4 * 2 + 0.6) / 2),  # objects stand by category, even class-agnostic
    ],
)
def test_of_objects_of_equal_iou_the_last_is_taken(masks, categories, ar):
    truth = ground_truth(*masks, id=[1, 2], image_id=[0, 0], category_id=categories, area=[8, 8], iscrowd=[0, 0])
    truth["categories"].append({"id": 2, "name": "other"})
    predictions = [found(0, CORNER, 0.9), found(0, TOP, 0.8)]
    stats = evaluate_amodal(truth, predictions)
    assert stats["AR100"] == pytest.approx(ar)
    same(stats, pycocotools_stats(truth, predictions, True))


@pytest.mark.parametrize("categories", [(1, 1), (1, 2), (2, 1)])
def test_of_equal_scores_the_first_has_its_turn_first_by_category_then_by_file(categories):
    truth = ground_truth(FULL, id=[1], area=[16], iscrowd=[0])
    truth["categories"].append({"id": 2, "name": "other"})
    predictions = [found(0, m, 0.5, category_id=c) for m, c in zip((LEFT & TOP, FULL), categories, strict=True)]
    stats = evaluate_amodal(truth, predictions)
    same(stats, pycocotools_stats(truth, predictions, True))
    assert stats["AR1"] == (categories == (2, 1)) and stats["AP"] == pytest.approx(1 if categories == (2, 1) else 0.5)


def by_bucket(truth, predictions, class_agnostic=True, buckets=OCCLUSION_BUCKETS):
    """AP and AR of each occlusion bucket alone."""
    everything = evaluate(truth, predictions, not class_agnostic, buckets)
    table = everything.class_agnostic if class_agnostic else everything.class_aware
    return {name: table[name] for name in buckets}


def test_an_object_that_is_to_be_found_goes_before_one_of_higher_iou_that_is_not():
    truth = ground_truth(FULL, TOP_3, image_id=[0, 0], occlude_rate=[0, 0.7])
    stats = by_bucket(truth, [found(0, TOP_3)])
    assert stats["50-90 %"]["AR1"] == 1
    assert stats["0-10 %"]["AR1"] == pytest.approx(0.6)  # FULL, IoU 0.75, up to where it is reached
    assert stats["0-10 %"]["AP"] == pytest.approx(0.6)  # above, TOP_3 excuses the detection


def test_a_crowd_is_not_to_be_found_and_excuses_detections():
    truth = ground_truth(FULL, LEFT, iscrowd=[1, 0])
    predictions = [found(0, TOP, 0.95), found(0, TOP_3, 0.94), found(1, LEFT)]
    assert evaluate_amodal(truth, predictions)["AP"] == pytest.approx(1)


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
    truth["annotations"][0] |= {"area": 16, "bbox": [0, 0, 4, 4], "iscrowd": 0}
    assert pycocotools_stats(truth, [found(0, FULL)], True)["AP"] == 0  # what we are guarding against


def test_a_bbox_in_the_results_plays_no_part():
    truth, predictions = random_data(4)
    boxed = [p | {"bbox": [0, 0, 1e6, 1e6]} for p in predictions]
    same(evaluate_amodal(truth, boxed), evaluate_amodal(truth, predictions))
    same(by_bucket(truth, boxed), by_bucket(truth, predictions))


def test_visible_masks_that_are_not_needed_are_not_looked_at():
    damaged = found(0, FULL, visible_mask=WIDE)
    assert evaluate_amodal(ground_truth(FULL, visible_mask=[WIDE]), [damaged])["AR1"] == 1
    truth = ground_truth(FULL, visible_mask=[encode_mask(LEFT)])
    with pytest.raises(InputError, match="prediction 0"):
        evaluate(truth, [damaged])


def test_polygons_and_uncompressed_rle_are_ground_truth_too():
    truth = ground_truth(LEFT, LEFT, LEFT)
    polygon = [0, 0, 2, 0, 2, 4, 0, 4]
    for annotation, encoding in zip(
        truth["annotations"], ([polygon], polygon, {"size": [4, 4], "counts": [0, 8, 8]}), strict=True
    ):
        annotation["segmentation"] = encoding
    assert evaluate_amodal(truth, [found(i, LEFT) for i in range(3)])["AP"] == pytest.approx(1)


@pytest.mark.parametrize("category", [None, 0, 999, "person"])
def test_class_agnostic_does_not_look_at_categories(category):
    truth, predictions = random_data(5, categories=(1,))
    foreign = [p | {"category_id": category} for p in predictions]
    same(evaluate_amodal(truth, foreign), evaluate_amodal(truth, predictions))
    without = [{k: v for k, v in p.items() if k != "category_id"} for p in predictions]
    same(evaluate_amodal(truth, without), evaluate_amodal(truth, predictions))


def test_class_aware_tells_categories_apart():
    truth = ground_truth(FULL)
    truth["categories"].append({"id": 2, "name": "other"})
    predictions = [found(0, FULL, category_id=2)]
    assert evaluate_amodal(truth, predictions, class_agnostic=False)["AP"] == 0
    assert evaluate_amodal(truth, predictions, class_agnostic=True)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_no_predictions_score_zero(class_agnostic):
    truth, _ = random_data(0)
    assert evaluate_amodal(truth, [], class_agnostic) == dict.fromkeys(NUMBERS, 0.0)


@pytest.mark.parametrize("predictions", [[], [found(0, FULL)]])
def test_nothing_to_find_is_nan(predictions):
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
    for name, content in (("truth.json", truth), ("results.json", predictions)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8-sig")  # a byte order mark is no part of it
    from_files = evaluate_amodal(tmp_path / "truth.json", str(tmp_path / "results.json"))
    same(from_files, evaluate_amodal(truth, predictions))


def test_inputs_are_not_modified_and_nothing_is_printed(capsys):
    truth, predictions = random_data(7)
    before = copy.deepcopy((truth, predictions))
    for class_agnostic in (True, False):
        evaluate_amodal(truth, predictions, class_agnostic)
        by_bucket(truth, predictions, class_agnostic)
    assert (truth, predictions) == before
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


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


def test_it_is_a_public_name():
    assert public_evaluate_amodal is evaluate_amodal


# --- occlusion buckets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_buckets_equal_pycocotools_rerun_with_ignore_flags(seed, class_agnostic):
    truth, predictions = random_data(seed, images=10)
    stats = by_bucket(truth, predictions, class_agnostic)
    assert list(stats) == list(OCCLUSION_BUCKETS)
    for name, (low, high) in OCCLUSION_BUCKETS.items():
        flagged = copy.deepcopy(truth)
        for a in flagged["annotations"]:
            area, shown = (int(mask_ops.area(a[key])) for key in ("segmentation", "visible_mask"))
            rate = (area - shown) / area
            a["ignore"] = int(not (low <= rate < high or rate == high == 1))
        assert 0 < sum(a["ignore"] for a in flagged["annotations"]) < len(flagged["annotations"])
        same(stats[name], pycocotools_stats(flagged, predictions, class_agnostic, IgnoringCOCOeval))


def test_one_bucket_of_everything_is_plain_evaluation():
    truth, predictions = random_data(2)
    stats = by_bucket(truth, predictions, buckets={"all": (0.0, 1.0)})
    same(stats["all"], evaluate_amodal(truth, predictions))


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


def test_the_visible_mask_goes_before_the_occlude_rate():
    truth = ground_truth(FULL, occlude_rate=[0.99], visible_mask=[encode_mask(LEFT)])
    stats = by_bucket(truth, [found(0, FULL)])
    assert [name for name, s in stats.items() if not math.isnan(s["AP"])] == ["50-90 %"]


def test_one_pixel_of_ten_hidden_is_ten_per_cent_in_spite_of_rounding():
    amodal = bitmap("####", "####", "##..", "....")
    truth = ground_truth(amodal, visible_mask=[encode_mask(amodal & ~bitmap("#...", "....", "....", "...."))])
    stats = by_bucket(truth, [found(0, amodal)])  # 1 - 9 / 10 would be less than 0.1
    assert [name for name, s in stats.items() if not math.isnan(s["AP"])] == ["10-50 %"]


def test_a_crowd_needs_no_occlusion_rate():
    truth = ground_truth(FULL, LEFT, iscrowd=[1, 0], occlude_rate=[None, 0.0])
    assert by_bucket(truth, [found(1, LEFT)])["0-10 %"]["AP"] == pytest.approx(1)


# --- everything in one pass -----------------------------------------------------------------------------------------

# Both ends belong to a range: 0.1 is of the bucket above 10 %, and 5e-324 is the least that is hidden.
BUCKETS = {name: (low, high if high == 1 else np.nextafter(high, 0)) for name, (low, high) in OCCLUSION_BUCKETS.items()}
SETTINGS = {"all": (0, 1), **BUCKETS, "occluded": (5e-324, 1), "un-occluded": (0, 0)}
COCOA = {"all": (0, 1), "none": (0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1)}  # as amodalAPI has them


def rate_of(annotation):
    amodal, visible = (decode_rle(annotation[key]) for key in ("segmentation", "visible_mask"))
    return (amodal & ~visible).sum() / max(amodal.sum(), 1)


def cocoeval(truth, predictions, class_agnostic, ranges, limits=(1, 10, 100)):
    """One COCOeval for all ranges, by its own means: an object's "area" is its occlusion rate, a detection has none."""
    coco, results = COCO(), COCO()
    coco.dataset = truth | {"annotations": [a | {"area": rate_of(a)} for a in truth["annotations"]]}
    listed = [p | {"id": i, "area": nan, "iscrowd": 0} for i, p in enumerate(predictions, start=1)]
    results.dataset = truth | {"annotations": listed}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results.createIndex()
        run = COCOeval(coco, results, "segm")
        run.params.useCats, run.params.maxDets = 0 if class_agnostic else 1, list(limits)
        run.params.areaRng = [list(ends) for ends in ranges.values()]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


def numbers_of(precision, recall, limits):
    """As COCOeval.summarize: precision "iou recall category", recall "iou category limit"."""

    def mean(values):
        return np.mean(values[values > -1]) if (values > -1).any() else nan

    stats = {"AP": mean(precision), "AP50": mean(precision[:1]), "AP75": mean(precision[5:6])}
    return stats | {f"AR{limit}": mean(recall[..., i]) for i, limit in enumerate(limits)}


def table_of(truth, predictions, class_agnostic, ranges, limits=(1, 10, 100)):
    precision, recall = cocoeval(truth, predictions, class_agnostic, ranges, limits)
    return {name: numbers_of(precision[..., r, -1], recall[..., r, :], limits) for r, name in enumerate(ranges)}


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
        same(
            found.visible[name],
            table_of(*with_visible_masks(truth, predictions), class_agnostic, {"all": (0, 1)})["all"],
        )
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
    for class_agnostic, curves in ((True, found.curves), (False, found.class_aware_curves)):
        precision, _ = cocoeval(truth, predictions, class_agnostic, SETTINGS)
        assert list(curves) == list(SETTINGS)
        for r, name in enumerate(SETTINGS):
            theirs = precision[..., r, -1]
            defined = theirs[..., theirs[0, 0] > -1]
            expected = defined.mean(-1) if defined.size else np.full((10, 101), nan)
            np.testing.assert_array_equal(curves[name], expected)
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
    visible = [FULL, LEFT, LEFT, FULL]
    truth = ground_truth(*[FULL] * 4, iscrowd=[0, 0, 1, 0], visible_mask=list(map(encode_mask, visible)))
    counts = evaluate(truth, []).objects
    expected = {"all": 3, "0-10 %": 2, "10-50 %": 0, "50-90 %": 1, "90-100 %": 0, "occluded": 1, "un-occluded": 2}
    assert counts == expected


def test_what_is_hidden_by_a_hair_is_occluded():
    counts = evaluate(ground_truth(FULL, LEFT, occlude_rate=[1e-3, 0]), []).objects
    assert (counts["occluded"], counts["un-occluded"], counts["0-10 %"]) == (1, 1, 2)


def test_more_masks_than_pycocotools_counts_at_once():
    truth = ground_truth(*[FULL] * 600, visible_mask=[encode_mask(m) for m in [FULL] * 254 + [LEFT] * 346])
    table = evaluate(truth, [found(i, FULL, instance_id=i) for i in range(600)])
    assert (table.objects["un-occluded"], table.objects["50-90 %"]) == (254, 346)
    assert table.regions.hidden_pixels.tolist() == [0] * 254 + [8] * 346 and table.regions.full.tolist() == [1] * 600


def test_buckets_of_ones_own():
    truth, predictions = random_data(2)
    halves = {"less": (0, 0.5), "more": (0.5, 1)}
    table = evaluate(truth, predictions, buckets=halves).class_agnostic
    assert list(table) == ["all", "less", "more", "occluded", "un-occluded"]
    ranges = {"less": (0, np.nextafter(0.5, 0)), "more": (0.5, 1)}
    same({name: table[name] for name in halves}, table_of(truth, predictions, True, ranges))


def test_things_and_stuff_are_told_apart_where_the_ground_truth_does():
    truth = ground_truth(FULL, LEFT, occlude_rate=[0, 1e-5], isStuff=[1, 0])
    cocoa = evaluate(truth, [found(0, FULL, 0.9), found(1, TOP, 0.8)]).cocoa
    assert list(cocoa) == ["both", "things", "stuff"]
    assert [cocoa[part]["all"]["AR1000"] for part in cocoa] == [0.5, 0, 1]
    assert [cocoa["things"][name]["AR1"] for name in ("none", "partial")] == [0, 0]  # its end belongs to both
    assert math.isnan(cocoa["things"]["heavy"]["AR1"]) and math.isnan(cocoa["stuff"]["partial"]["AR1"])
    assert cocoa["stuff"]["all"]["AP"] == pytest.approx(
        1
    )  # the missed thing, and what was found there, count neither way
    assert list(evaluate(ground_truth(FULL, occlude_rate=[0], isStuff=[0]), []).cocoa) == ["both"]


def test_numbers_are_plain_and_complete():
    truth, predictions = random_data(3)
    found = evaluate(truth, with_visible(predictions))
    numbers = json.loads(json.dumps(found.numbers()))
    assert list(numbers) == ["class_agnostic", "class_aware", "visible", "cocoa", "regions", "objects"]
    assert numbers["class_aware"]["10-50 %"]["AR10"] == found.class_aware["10-50 %"]["AR10"]
    assert numbers["regions"] == {}


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


def test_a_prediction_without_visible_mask_among_others_is_named():
    truth = ground_truth(FULL, visible_mask=[encode_mask(FULL)])
    predictions = [found(0, FULL, visible_mask=encode_mask(FULL)), found(0, FULL)]
    with pytest.raises(InputError, match="predictions, prediction 1: lacks a 'visible_mask', as 1 of 2"):
        evaluate(truth, predictions)


def test_foreign_categories_are_refused_unless_class_aware_numbers_are_left_out():
    truth = ground_truth(FULL, visible_mask=[encode_mask(FULL)])
    predictions = [found(0, FULL, category_id=7, visible_mask=encode_mask(FULL))]
    with pytest.raises(InputError, match="prediction 0: category id 7"):
        evaluate(truth, predictions)
    found_ = evaluate(truth, predictions, class_aware=False)
    assert found_.class_aware == found_.class_aware_curves == {} and list(found_.visible) == ["class-agnostic"]
    assert found_.class_agnostic["all"]["AP"] == pytest.approx(1)


def small_dataset():
    """Three images in another order than their ids; instance ids from 0, as some files count."""
    images = []
    for i, (amodal, visible) in ((8, (FULL, TOP)), (2, (TOP_3, TOP_3)), (5, (LEFT, QUARTER))):
        items = [AmodalInstance(len(images), 4, "thing", i == 2, encode_mask(amodal), encode_mask(visible))]
        images.append(AmodalImage(i, f"{i}.png", Path(), 4, 4, tuple(items)))
    return AmodalDataset("cocoa", Path(), "val", {4: "thing"}, images, {})


def own_box_results():
    guesses = {8: TOP_3, 2: TOP, 5: LEFT}
    return [
        found(i, mask, 0.5, category_id=4, instance_id=number, visible_mask=encode_mask(mask & TOP))
        for number, (i, mask) in enumerate(guesses.items())
    ]


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


def test_visible_pixels_outside_the_amodal_mask_are_dropped_in_the_miou_protocol():
    truth = ground_truth(LEFT, visible_mask=[encode_mask(TOP)])
    table = evaluate(truth, [found(0, TOP, instance_id=0)]).regions
    assert [table.full[0], table.visible[0], table.hidden[0]] == [4 / 12, 4 / 8, 0] == [*region_iou(TOP, LEFT, TOP)]


def test_a_data_set_without_amodal_masks_is_refused():
    seen = AmodalInstance(1, 4, "thing", False, None, encode_mask(TOP))
    images = [AmodalImage(1, "1.png", Path(), 4, 4, (seen,))]
    with pytest.raises(InputError, match="lvis val: no amodal masks"):
        evaluate_amodal(AmodalDataset("lvis", Path(), "val", {4: "thing"}, images, {}), [])


def test_image_ids_may_be_names():
    truth, predictions = random_data(4)
    names = {i: f"image {chr(122 - i)}" for i in range(1, 7)}
    for record in [*truth["annotations"], *predictions]:
        record["image_id"] = names[record["image_id"]]
    for image in truth["images"]:
        image["id"] = names[image["id"]]
    same(evaluate_amodal(truth, predictions), pycocotools_stats(truth, predictions, True))


def test_image_ids_may_be_numbers_and_names():
    truth, predictions = random_data(4)
    mixed = {i: i if i % 2 else f"image {i}" for i in range(1, 7)}
    expected = evaluate_amodal(truth, predictions)
    for record in [*truth["annotations"], *predictions]:
        record["image_id"] = mixed[record["image_id"]]
    for image in truth["images"]:
        image["id"] = mixed[image["id"]]
    assert evaluate_amodal(truth, predictions) == pytest.approx(expected)


def test_a_data_set_with_an_image_id_twice_is_refused():
    dataset = small_dataset()
    twice = AmodalDataset("cocoa", Path(), "val", {4: "thing"}, [dataset[0], dataset[1], dataset[0]], {})
    with pytest.raises(InputError, match="cocoa val: an image id twice: 3 images have 2 ids"):
        evaluate_amodal(twice, [])


# --- bad input ------------------------------------------------------------------------------------------------------


def without(record, key):
    return {k: v for k, v in record.items() if k != key}


HIT = found(0, FULL)
TRUTH = ground_truth(FULL)
ANNOTATION = TRUTH["annotations"][0]
WIDE = encode_mask(np.ones((4, 5), bool))


@pytest.mark.parametrize(
    ("predictions", "said"),
    [
        ([HIT, found(7, FULL)], ["predictions, prediction 1", "image id 7", "split"]),
        ([HIT | {"image_id": "0"}], ["image id '0'"]),
        ([HIT | {"image_id": [0]}], ["image id [0]"]),
        ([HIT | {"segmentation": WIDE}], ["prediction 0", "(4, 5)", "(4, 4)"]),
        ([HIT | {"segmentation": {"counts": WIDE["counts"]}}], ["prediction 0", "without a size"]),
        ([HIT | {"segmentation": "??"}], ["prediction 0"]),
        ([without(HIT, "score")], ["prediction 0", "lacks 'score'"]),
        ([without(HIT, "segmentation")], ["prediction 0", "lacks 'segmentation'", "'score'"]),
        ([without(HIT, "image_id")], ["prediction 0", "lacks 'image_id'"]),
        (["HIT"], ["prediction 0", "lacks", "'HIT'"]),
        ([HIT | {"score": nan}], ["prediction 0", "finite", "nan"]),
        ([HIT | {"score": math.inf}], ["finite", "inf"]),
        ([HIT | {"score": "0.9"}], ["finite", "'0.9'"]),
        ([HIT | {"score": None}], ["finite", "None"]),
        ({"images": [], "annotations": [HIT]}, ["predictions", "result['annotations']", "dict with keys"]),
    ],
)
def test_bad_predictions(predictions, said):
    for protocol in (evaluate, evaluate_amodal):
        truth = ground_truth(FULL, occlude_rate=[0.0])
        with pytest.raises(InputError) as error:
            protocol(truth, predictions)
        assert error.value.remedy and all(words in str(error.value) for words in said), str(error.value)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ([HIT], ["ground_truth", "found a list", "ground truth first"]),
        (without(TRUTH, "annotations"), ["'annotations'", "keys ['images', 'categories']"]),
        (without(TRUTH, "images"), ["'images'"]),
        (TRUTH | {"images": TRUTH["images"] * 2}, ["images[1]", "id 0 too"]),
        (TRUTH | {"images": [{"id": 0}]}, ["images[0]", "lacks 'height', 'width'"]),
        (TRUTH | {"annotations": [ANNOTATION | {"image_id": 9}]}, ["annotation 0", "image id 9"]),
        (TRUTH | {"annotations": [ANNOTATION | {"segmentation": WIDE}]}, ["annotation 0", "(4, 5)", "(4, 4)"]),
        (TRUTH | {"annotations": [without(ANNOTATION, "segmentation")]}, ["annotations[0]", "lacks 'segmentation'"]),
        (TRUTH | {"annotations": ["x"]}, ["annotations[0]", "'x'"]),
        (TRUTH | {"annotations": [ANNOTATION | {"iscrowd": 2}]}, ["annotation 0", "'iscrowd' is 0 or 1, found 2"]),
        (TRUTH | {"categories": {"id": 1}}, ["categories are a list of records, found a dict"]),
        (TRUTH | {"categories": [{"name": "thing"}]}, ["categories[0]", "lacks 'id'"]),
        (TRUTH | {"images": [{"id": 0.5, "height": 4, "width": 4}]}, ["images[0]", "a number or a name"]),
        (TRUTH | {"images": [{"id": 0, "height": "4", "width": 4}]}, ["images[0]", "whole numbers"]),
        (TRUTH | {"images": [{"id": 0, "height": 4, "width": 4.0}]}, ["images[0]", "whole numbers"]),
    ],
)
def test_bad_ground_truth(truth, said):
    with pytest.raises(InputError) as error:
        evaluate_amodal(truth, [HIT])
    assert error.value.remedy and all(words in str(error.value) for words in said), str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ["annotation 0", "'visible_mask'", "'occlude_rate'", "None"]),
        ({"occlude_rate": [1.2]}, ["annotation 0", "1.2"]),
        ({"occlude_rate": [nan]}, ["annotation 0", "nan"]),
        ({"visible_mask": [WIDE]}, ["annotation 0", "(4, 5)"]),
    ],
)
def test_ground_truth_without_an_occlusion_rate(fields, said):
    with pytest.raises(InputError) as error:
        by_bucket(ground_truth(FULL, **fields), [HIT])
    assert all(words in str(error.value) for words in said), str(error.value)


@pytest.mark.parametrize("bucket", [(0, 10), (0.5, 0.1), (0.2, 0.2), (nan, 1.0)])
def test_bad_buckets(bucket):
    table = evaluate_regions([FULL], [FULL], [FULL])
    with pytest.raises(InputError, match="buckets, 'mine': .*not per cent"):
        table.summary({"mine": bucket})
    with pytest.raises(InputError, match="buckets, 'mine': .*not per cent"):
        by_bucket(ground_truth(FULL, occlude_rate=[0]), [HIT], buckets={"mine": bucket})


def test_dense_category_ids_are_explained():
    truth, predictions = random_data(0)  # categories 1, 18, 90
    dense = [p | {"category_id": {1: 0, 18: 16, 90: 79}[p["category_id"]]} for p in predictions]
    with pytest.raises(InputError) as error:
        evaluate_amodal(truth, dense, class_agnostic=False)
    for words in ("prediction 0", "0..79 (3 ids)", "1..90 (3 ids)", "class_agnostic=True", "Map the detector"):
        assert words in str(error.value)
    evaluate_amodal(truth, dense)


@pytest.mark.parametrize("category", [None, "person", [1]])
def test_class_aware_needs_category_ids(category):
    with pytest.raises(InputError, match="prediction 0"):
        evaluate_amodal(TRUTH, [HIT | {"category_id": category}], class_agnostic=False)
    with pytest.raises(InputError, match="annotation 0"):
        evaluate_amodal(TRUTH | {"annotations": [ANNOTATION | {"category_id": category}]}, [HIT], class_agnostic=False)


def test_broken_files(tmp_path):
    cut = tmp_path / "results.json"
    cut.write_text(json.dumps([HIT])[:-5])
    with pytest.raises(InputError, match=r"results\.json: not valid JSON"):
        evaluate_amodal(TRUTH, cut)
    with pytest.raises(InputError, match=r"nowhere\.json: the file must exist.*Check the path"):
        evaluate_amodal(tmp_path / "nowhere.json", [HIT])
    cut.write_text(json.dumps([without(HIT, "score")]))
    with pytest.raises(InputError, match=r"results\.json, prediction 0: lacks 'score'"):
        evaluate_amodal(TRUTH, cut)


# --- mIoU by region -------------------------------------------------------------------------------------------------

SPILL = bitmap("###.", "###.", "##..", "##..")  # LEFT and 2 pixels more
QUARTER = bitmap("##..", "##..", "....", "....")

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


def test_one_hidden_pixel_is_occluded():
    corner = bitmap("#...", "....", "....", "....")
    table = evaluate_regions([FULL, TOP], [FULL, FULL], [FULL & ~corner, FULL])
    assert table.hidden[0] == 1 and math.isnan(table.hidden[1])
    summary = table.summary()
    assert (summary["un-occluded mIoU"], summary["mIoU 0-10 %"]) == (0.5, 0.75)


def test_one_visible_pixel_is_visible():
    corner = bitmap("#...", "....", "....", "....")
    assert region_iou(FULL, FULL, corner) == (1, 1, 1)
    assert region_iou(FULL & ~corner, FULL, corner) == (15 / 16, 0, 1)


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
    assert worst_hidden(dataset, results, least=0.51) == []
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


def test_no_objects_summarise_to_nan():
    assert all(math.isnan(value) for value in evaluate_regions([], [], []).summary().values())


def test_objects_may_differ_in_size():
    masks = [np.ones((3, 5), bool), FULL]
    assert evaluate_regions(masks, masks, masks).full.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("predicted", "amodal", "visible", "said"),
    [
        ([FULL], [FULL, FULL], [FULL, FULL], "1 predicted, 2, 2"),
        ([FULL, FULL], [FULL], [FULL], "2 predicted, 1, 1"),
        ([FULL, FULL], [FULL, FULL], [FULL], "2 predicted, 2, 1"),
        ([FULL], [FULL], [FULL, FULL], "1 predicted, 1, 2"),
        ([FULL, np.ones((4, 5), bool)], [FULL, FULL], [FULL, FULL], r"object 1: .*size.*\(4, 5\)"),
        ([FULL], [NONE], [NONE], "object 0: the amodal mask is empty"),
    ],
)
def test_bad_regions(predicted, amodal, visible, said):
    with pytest.raises(InputError, match=said):
        evaluate_regions(predicted, amodal, visible)
    with pytest.raises(InputError, match=said):
        evaluate_regions(*([encode_mask(m) for m in masks] for masks in (predicted, amodal, visible)))


# --------------------------------------------------------------------------------- detections that cover an object

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
    found = covering_detections(plain_dataset(1), [boxed(0, both)], least=0.1)
    assert ids(found) == [(0, 1, list(both))]
    assert covering_detections(plain_dataset(1), [boxed(0, both)], least=0.76) == []
    assert covering_detections(plain_dataset(1), []) == []
