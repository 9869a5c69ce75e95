"""What the tests of evaluation share: 4x4 masks drawn by hand, records made of them, random scenes, pycocotools."""

import contextlib
import io
import math
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.evaluation import OCCLUSION_BUCKETS, evaluate
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
QUARTER = bitmap("##..", "##..", "....", "....")
WIDE = encode_mask(np.ones((4, 5), bool))


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
    """Rectangles, and detections around them; distinct scores."""
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


def rate_of(annotation):
    amodal = decode_rle(annotation["segmentation"])
    visible = decode_rle(annotation.get("visible_mask", annotation["segmentation"]))
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


def pycocotools_stats(truth, predictions, class_agnostic):
    return table_of(truth, predictions, class_agnostic, {"all": (0, 1)})["all"]


def same(ours, theirs):
    np.testing.assert_equal(ours, theirs)  # exactly; NaN equals NaN


def by_bucket(truth, predictions):
    """Class-agnostic AP and AR of each occlusion bucket alone."""
    table = evaluate(truth, predictions, class_aware=False).class_agnostic
    return {name: table[name] for name in OCCLUSION_BUCKETS}


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
