"""The two protocols of the field: AP and AR of scored detections, and mIoU with one predicted mask an object.

AP / AR: pycocotools' COCOeval 'segm' on amodal masks is the arbiter; this module checks what goes in and reads what
comes out, so its numbers equal COCOeval's bit for bit. Tables of SAMEO are class-agnostic, those of AISFormer are not.

mIoU: per object, P predicted amodal mask, A true amodal mask, V its visible part (V within A), H = A minus V hidden:
full = IoU(P, A), visible = IoU(P minus H, V), hidden = IoU(P minus V, H). Spilling outside A costs in all three.
"""

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as mask_ops
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sameo_core.datasets import AmodalDataset
from sameo_core.errors import InputError
from sameo_core.masks import RLE, encode_mask, segmentation_to_rle

# Share of an object's amodal area that is hidden: low <= rate < high, the last bucket includes 1.
OCCLUSION_BUCKETS = {"0-10 %": (0.0, 0.1), "10-50 %": (0.1, 0.5), "50-90 %": (0.5, 0.9), "90-100 %": (0.9, 1.0)}

Source = dict | list | str | Path  # JSON as Python objects, or a file of it
Buckets = Mapping[str, tuple[float | int, float | int]]
Mask = Bool[np.ndarray, "_ _"] | Mapping  # a bitmap or an RLE; "_": objects of one list differ in size
Masks = Sequence[Mask] | Bool[np.ndarray, "n h w"]


def evaluate_amodal(ground_truth: Source, predictions: Source, class_agnostic: bool = True) -> dict[str, float]:
    """AP and AR of amodal masks over a data set, exactly as pycocotools' COCOeval 'segm' counts them.

    Args:
        ground_truth: COCO dict or path of one, its `segmentation` the amodal mask in any encoding. `iscrowd` defaults
            to 0; `id`, `area` and `bbox` play no part (annotations are numbered afresh: COCOeval takes id 0 for
            "unmatched"; no number here depends on the area).
        predictions: COCO results list or path of one: `image_id`, `segmentation`, `score`, and `category_id` when
            class-aware. A `bbox` plays no part. An empty list is legitimate: every number is 0.
        class_agnostic: True as in SAMEO's tables: category ids, missing or unknown ones too, are not looked at.

    Returns:
        "AP" (mean over IoU 0.50:0.05:0.95), "AP50", "AP75", "AR1", "AR10", "AR100" (at most so many detections an
        image), each in 0..1, or NaN where COCOeval says -1: there is no ground truth to find.

    Raises:
        InputError: unreadable file, unknown image or category id, mask of another size than its image, missing key,
            score that is not finite. Inputs are not modified.

    Source: COCOeval; class-agnostic on amodal masks as in SAMEO's tables (CVPR 2025).
    """
    return _evaluate(ground_truth, predictions, class_agnostic, buckets=None)["all"]


def evaluate_by_occlusion(
    ground_truth: Source,
    predictions: Source,
    class_agnostic: bool = True,
    buckets: Buckets = OCCLUSION_BUCKETS,
) -> dict[str, dict[str, float]]:
    """`evaluate_amodal` for the objects of each occlusion bucket; mask IoUs are computed once for all buckets.

    Ground truth outside a bucket is "ignore", as in COCO's area ranges: missing it costs nothing, and a detection
    matched to it counts neither way. A detection matched to no object at all is a false positive in every bucket (it
    has no occlusion rate that could excuse it), so AP of a bucket with few objects is low by nature: compare AP
    between models within a bucket, and AR between buckets.

    Args:
        ground_truth: as in `evaluate_amodal`; the occlusion rate of an object is that of its `visible_mask`, or its
            `occlude_rate` where it has none. Crowds need neither: they are ignored everywhere.
        predictions: as in `evaluate_amodal`.
        class_agnostic: as in `evaluate_amodal`.
        buckets: name -> (low, high), shares in 0..1, for low <= rate < high (rate <= 1 if high is 1). May overlap.

    Returns:
        Bucket name -> the dict of `evaluate_amodal`; all NaN for a bucket without objects.

    Raises:
        InputError: as `evaluate_amodal`; also an object without an occlusion rate, and a bucket that is none.

    Source: COCOeval's area ranges, with the occlusion rate in the place of the area.
    """
    return _evaluate(ground_truth, predictions, class_agnostic, buckets)


def _evaluate(
    ground_truth: Source, predictions: Source, class_agnostic: bool, buckets: Buckets | None
) -> dict[str, dict[str, float]]:
    file, content = _read(ground_truth, "ground_truth")
    sizes = _image_sizes(content, file)
    objects = [_object(a, i, sizes, file, buckets is not None) for i, a in enumerate(content["annotations"])]
    detections = _detections(predictions, sizes)
    if class_agnostic:  # one category of all: what useCats=0 does, which would drop ids that it does not know
        categories = {1}
        for records in (objects, detections):  # COCOeval lines up equal scores by category, even with useCats=0
            records.sort(key=lambda r: r["category_id"] if isinstance(r["category_id"], Integral) else 0)
            for record in records:
                record["category_id"] = 1
    else:
        listed = content.get("categories") or [{"id": o["category_id"]} for o in objects]
        categories = {c["id"] for c in listed if isinstance(c["id"], Integral)}
        for records in (objects, detections):
            _check_categories(records, categories)
    ranges = {"all": (0.0, 1.0)} if buckets is None else {name: _closed(name, *b) for name, b in buckets.items()}
    return _cocoeval(sizes, categories, objects, detections, ranges)


def _cocoeval(sizes: dict, categories: set, objects: list, detections: list, ranges: dict) -> dict[str, dict]:
    """COCOeval, once for all ranges, over records of `_object` and `_detections`."""
    images = [{"id": image_id, "height": height, "width": width} for image_id, (height, width) in sizes.items()]
    truth, found = COCO(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):  # COCOeval talks
        for coco, records in ((truth, objects), (found, detections)):
            numbered = [record | {"id": number} for number, record in enumerate(records, start=1)]
            listed = [{"id": category} for category in categories]
            coco.dataset = {"images": images, "categories": listed, "annotations": numbered}
            coco.createIndex()
        run = COCOeval(truth, found, "segm")
        run.params.maxDets = [1, 10, 100]
        run.params.areaRng, run.params.areaRngLbl = list(ranges.values()), list(ranges)
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]  # iou recall category range maxdets; iou category ...
    iou = run.params.iouThrs
    return {
        name: {
            "AP": _mean_defined(precision[..., r, -1]),
            "AP50": _mean_defined(precision[iou == 0.5, ..., r, -1]),
            "AP75": _mean_defined(precision[iou == 0.75, ..., r, -1]),
            **{f"AR{m}": _mean_defined(recall[..., r, i]) for i, m in enumerate(run.params.maxDets)},
        }
        for r, name in enumerate(ranges)
    }


def _mean_defined(values: Float[np.ndarray, "..."]) -> float:
    values = values[values > -1]  # neither COCOeval's "undefined", -1, nor NaN
    return float(np.mean(values)) if values.size else math.nan


def _closed(name: str, low: float | int, high: float | int) -> tuple[float, float]:
    """The bucket low <= rate < high as the closed interval that COCOeval compares with."""
    if not 0 <= low < high <= 1:
        rule = f"a bucket needs 0 <= low < high <= 1, found ({low}, {high})"
        raise InputError(file="buckets", record=repr(name), rule=rule, remedy="Give shares, not per cent")
    return float(low), 1.0 if high == 1 else float(np.nextafter(high, 0))


def _read(source: Source, name: str) -> tuple[str, Any]:
    """What to call a source in an error, and its content."""
    if not isinstance(source, str | Path):
        return name, source
    try:
        return str(source), json.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        rule, remedy = f"cannot be read ({error.strerror})", "Check the path"
    except (ValueError, RecursionError) as error:  # broken or too deep JSON, or bytes that are no text
        rule, remedy = f"not complete JSON ({error})", "Write or download the file again: it may have been cut short"
    raise InputError(file=source, rule=rule, remedy=remedy)


def _check_keys(record: Any, keys: Sequence[str], where: dict[str, str]) -> None:
    if missing := [key for key in keys if not isinstance(record, dict) or key not in record]:
        found = f"the keys {list(record)}" if isinstance(record, dict) else repr(record)
        rule = f"lacks {', '.join(map(repr, missing))}, found {found}"
        raise InputError(**where, rule=rule, remedy="Write records of the COCO format")


def _image_sizes(content: Any, file: str) -> dict[Any, tuple[int, int]]:
    """image id -> (height, width)"""
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        found = f"a dict with keys {list(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        rule = f"ground truth is a COCO dict with the lists 'images' and 'annotations', found {found}"
        raise InputError(file=file, rule=rule, remedy="Give ground truth first, predictions second")
    sizes = {}
    for index, image in enumerate(content["images"]):
        where = {"file": file, "record": f"images[{index}]"}
        _check_keys(image, ("id", "height", "width"), where)
        if image["id"] in sizes:
            rule = f"an earlier image has the id {image['id']} too"
            raise InputError(**where, rule=rule, remedy="Number images afresh where data sets are joined")
        sizes[image["id"]] = (int(image["height"]), int(image["width"]))
    return sizes


def _object(annotation: Any, index: int, sizes: dict, file: str, with_rate: bool) -> dict[str, Any]:
    """One ground-truth object as COCOeval reads it."""
    where = {"file": file, "record": f"annotations[{index}]"}
    _check_keys(annotation, ("image_id", "segmentation"), where)
    if "id" in annotation:
        where["record"] = f"annotation {annotation['id']}"
    size = _size_of(annotation, sizes, where)
    amodal, crowd = _rle(annotation["segmentation"], size, where), int(annotation.get("iscrowd") or 0)
    return {
        "image_id": annotation["image_id"],
        "category_id": annotation.get("category_id"),
        "segmentation": amodal,
        "iscrowd": crowd,
        "area": _rate(annotation, amodal, size, where) if with_rate and not crowd else 0.0,  # what ranges compare
        "where": where,
    }


def _rate(annotation: dict, amodal: RLE, size: tuple[int, int], where: dict[str, str]) -> float:
    if annotation.get("visible_mask"):
        visible = _rle(annotation["visible_mask"], size, where)
        area, shown = map(int, mask_ops.area([amodal, mask_ops.merge([amodal, visible], intersect=True)]))
        return (area - shown) / max(area, 1)
    rate = annotation.get("occlude_rate")
    if not isinstance(rate, Real) or not 0 <= rate <= 1:
        rule = f"needs a 'visible_mask' or an 'occlude_rate' in 0..1, found {rate!r}"
        raise InputError(**where, rule=rule, remedy="Add the visible mask of the object")
    return float(rate)


def _detections(predictions: Source, sizes: dict) -> list[dict[str, Any]]:
    file, content = _read(predictions, "predictions")
    if not isinstance(content, list):
        keys = f" with keys {list(content)}" if isinstance(content, dict) else ""
        rule = f"predictions are a COCO results list, found a {type(content).__name__}{keys}"
        remedy = "Give the list alone: that is result['annotations'] where the masks lie in a COCO dict"
        raise InputError(file=file, rule=rule, remedy=remedy)
    detections = []
    for index, prediction in enumerate(content):
        where = {"file": file, "record": f"prediction {index}"}
        _check_keys(prediction, ("image_id", "segmentation", "score"), where)
        if not isinstance(prediction["score"], Real) or not math.isfinite(prediction["score"]):
            rule = f"a score is a finite number, found {prediction['score']!r}"
            raise InputError(**where, rule=rule, remedy="Look for overflow in the model's output")
        rle = _rle(prediction["segmentation"], _size_of(prediction, sizes, where), where)
        detection = {key: prediction.get(key) for key in ("image_id", "category_id", "score")}
        # An area of NaN is outside no range, being neither less nor greater than its ends.
        detections.append(detection | {"segmentation": rle, "area": math.nan, "where": where})
    return detections


def _size_of(record: dict, sizes: dict, where: dict[str, str]) -> tuple[int, int]:
    """(height, width) of the record's image"""
    try:
        return sizes[record["image_id"]]
    except (KeyError, TypeError):
        ids = list(sizes)
        rule = f"image id {record['image_id']!r} is none of the ground truth's {len(ids)} images, e.g. {ids[:3]}"
        raise InputError(**where, rule=rule, remedy="Use the split that was predicted on") from None


def _rle(segmentation: Any, size: tuple[int, int], where: dict[str, str]) -> RLE:
    """A mask as RLE of its image's size; pycocotools would compare masks of unequal size without a word."""
    try:
        return segmentation_to_rle(segmentation, *size)
    except InputError as error:
        raise InputError(**where, rule=error.rule, remedy=error.remedy) from None


def _check_categories(records: list, categories: set) -> None:
    """The classic AP 0: pycocotools drops what has another category id, without a word."""
    for record in records:
        if isinstance(record["category_id"], Integral) and record["category_id"] in categories:
            continue
        used = {r["category_id"] for r in records if isinstance(r["category_id"], Integral)}
        used, known = (f"{min(ids)}..{max(ids)} ({len(ids)} ids)" if ids else "no ids" for ids in (used, categories))
        rule = (
            f"category id {record['category_id']!r} is none of the ground truth's categories, so class-aware its mask "
            f"would count for nothing; here category ids are {used}, the ground truth's categories {known}"
        )
        remedy = (
            "Map the detector's classes to the ids under 'categories' (for COCO's 80 classes, detectors often say "
            "0..79 and the files 1..90 with gaps), or evaluate with class_agnostic=True"
        )
        raise InputError(**record["where"], rule=rule, remedy=remedy)


def evaluate_predictions(dataset: AmodalDataset, results: Sequence[dict]) -> dict[str, float]:
    """Both protocols for predictions that were prompted with the data set's own boxes, one mask for each object.

    Args:
        dataset: amodal ground truth.
        results: COCO results with `instance_id`, one an object, as `predict_dataset` gives them.

    Returns:
        `evaluate_amodal` (class-agnostic) and `RegionTable.summary` in one dict.

    Raises:
        InputError: as those two, and results that are not one for each object.
    """
    return evaluate_amodal(dataset.to_coco(), list(results)) | region_table(dataset, results).summary()


def region_table(dataset: AmodalDataset, results: Sequence[dict]) -> "RegionTable":
    """`evaluate_regions`, a row for each object of a data set in its order; arguments as `evaluate_predictions`."""
    objects = {(image.image_id, item.instance_id): item for image in dataset for item in image.instances}
    predicted = {(r["image_id"], r["instance_id"]): r["segmentation"] for r in results}
    if len(results) != len(objects) or predicted.keys() != objects.keys():
        rule = f"one mask for each of the {len(objects)} objects, found {len(results)} for {len(predicted)} objects"
        remedy = "Use front-ends made of ground-truth boxes; a detector's masks are for evaluate_amodal"
        raise InputError(file="results", rule=rule, remedy=remedy)
    amodal, visible = zip(*((item.amodal_rle, item.visible_rle) for item in objects.values()), strict=True)
    return evaluate_regions([predicted[key] for key in objects], amodal, visible)


class Failure(NamedTuple):
    """One object, and how little of its hidden region was found."""

    row: int  # of `region_table`: the object's number in the data set
    image: int  # place in the data set
    instance: int  # place in the image
    hidden: float  # IoU of the hidden region, 0..1


def worst_hidden(dataset: AmodalDataset, results: Sequence[dict], least: float | int = 0.1) -> list[Failure]:
    """The objects of which at least `least` is hidden, from the worst IoU of the hidden region to the best.

    Arguments and errors as `evaluate_predictions`.
    """
    table = region_table(dataset, results)
    places = [(i, j) for i, image in enumerate(dataset) for j in range(len(image.instances))]
    return [Failure(row, *places[row], float(table.hidden[row])) for row in table.ranked("hidden", least)]


class RegionIoU(NamedTuple):
    """IoU of one object's regions, in 0..1; see the module's head. NaN: the true region has no pixel."""

    full: float
    visible: float
    hidden: float


@dataclass(frozen=True)
class RegionTable:
    """One row an object, in the order given: sort by a column to find worst, median and best (NaN sorts last)."""

    full: Float[np.ndarray, " n"]  # IoU in 0..1, see the module's head
    visible: Float[np.ndarray, " n"]  # IoU; NaN where nothing of the object is visible
    hidden: Float[np.ndarray, " n"]  # IoU; NaN where nothing is hidden
    recalled_pixels: Int[np.ndarray, " n"]  # hidden pixels that the prediction covers
    hidden_pixels: Int[np.ndarray, " n"]
    occlusion_rate: Float[np.ndarray, " n"]  # hidden share of the amodal area, 0..1
    excess: Float[np.ndarray, " n"]  # predicted pixels outside the amodal mask / pixels of the amodal mask

    def at_quantiles(self, column: str, quantiles: Sequence[float | int], least: float | int = 0) -> list[int]:
        """Rows that stand at these quantiles (0 worst, 0.5 median, 1 best) of a column, to be shown without choosing.

        Args:
            column: "full", "visible" or "hidden"; rows with NaN are passed over.
            quantiles: each in 0..1.
            least: only rows with at least this occlusion rate.

        Raises:
            InputError: no row is left.
        """
        ranked = self.ranked(column, least)
        if not ranked:
            rule = f"a row with {column} and an occlusion rate of at least {least}, found none"
            raise InputError(file="least", rule=rule, remedy="Lower it")
        return [ranked[round(q * (len(ranked) - 1))] for q in quantiles]

    def ranked(self, column: str, least: float | int = 0) -> list[int]:
        """Rows from the worst of a column to its best, without those that have NaN there or are occluded less."""
        values = getattr(self, column)
        rows = np.flatnonzero(~np.isnan(values) & (self.occlusion_rate >= least))
        return rows[np.argsort(values[rows], kind="stable")].tolist()

    def summary(self, buckets: Buckets = OCCLUSION_BUCKETS) -> dict[str, float]:
        """Means over objects, in 0..1; NaN where no object has the region or lies in the bucket.

        "mIoU", "visible mIoU", "hidden mIoU" (objects with a hidden part), "hidden recall" (hidden pixels of all
        objects pooled: large objects weigh more), "mean hidden recall" (mean over objects with a hidden part),
        "un-occluded mIoU" (full mask, occlusion rate exactly 0), "un-occluded excess" (the same objects: what was
        invented around them, as a share of their area), and "mIoU 0-10 %" ...: the full mask by bucket.

        Raises:
            InputError: a bucket that is not 0 <= low < high <= 1.
        """
        occluded = self.hidden_pixels > 0
        recalled, hidden = self.recalled_pixels[occluded], self.hidden_pixels[occluded]
        numbers = {
            "mIoU": _mean_defined(self.full),
            "visible mIoU": _mean_defined(self.visible),
            "hidden mIoU": _mean_defined(self.hidden),
            "hidden recall": float(recalled.sum() / hidden.sum()) if occluded.any() else math.nan,
            "mean hidden recall": _mean_defined(recalled / hidden),
            "un-occluded mIoU": _mean_defined(self.full[~occluded]),
            "un-occluded excess": _mean_defined(self.excess[~occluded]),
        }
        for name, bucket in buckets.items():
            low, high = _closed(name, *bucket)
            inside = (self.occlusion_rate >= low) & (self.occlusion_rate <= high)
            numbers[f"mIoU {name}"] = _mean_defined(self.full[inside])
        return numbers


def region_iou(predicted_amodal: Mask, amodal: Mask, visible: Mask) -> RegionIoU:
    """IoU of one object's full, visible and hidden region, each mask a bool bitmap "h w" or a compressed RLE.

    Raises:
        InputError: as `evaluate_regions`.

    Source: as `evaluate_regions`.
    """
    table = evaluate_regions([predicted_amodal], [amodal], [visible])
    return RegionIoU(float(table.full[0]), float(table.visible[0]), float(table.hidden[0]))


def evaluate_regions(predicted: Masks, amodal: Masks, visible: Masks) -> RegionTable:
    """The mIoU protocol: one predicted mask for each ground-truth object (prompted by its own box).

    Args:
        predicted, amodal, visible: n masks each, in the same order; bool bitmaps, or compressed RLE so that a data
            set fits in memory. The masks of one object have one size; objects may differ. Visible pixels outside
            the amodal mask are dropped: they exist in some data sets as rounding.

    Raises:
        InputError: lists of unequal length, masks of one object that differ in size, an empty amodal mask.

    Source: full and hidden as the mIoU and "invisible mIoU" of C2F-Seg (ICCV 2023): visible truth is subtracted from
        both masks, un-occluded objects do not enter the mean. Visible mirrors hidden: that definition is ours.
    """
    if not len(predicted) == len(amodal) == len(visible):
        rule = f"one mask of each kind an object, found {len(predicted)} predicted, {len(amodal)}, {len(visible)}"
        raise InputError(file="predicted, amodal, visible", rule=rule, remedy="Keep objects that were not predicted")
    areas = [_region_areas(i, *masks) for i, masks in enumerate(zip(predicted, amodal, visible, strict=True))]
    p, a, v, pa, pv = np.array(areas, dtype=np.int64).reshape(-1, 5).T
    hidden, recalled = a - v, pa - pv
    return RegionTable(
        full=pa / (p + a - pa),
        visible=np.where(v > 0, pv / np.maximum(p - recalled + v - pv, 1), np.nan),
        hidden=np.where(hidden > 0, recalled / np.maximum(p - pv + hidden - recalled, 1), np.nan),
        recalled_pixels=recalled,
        hidden_pixels=hidden,
        occlusion_rate=hidden / a,
        excess=(p - pa) / a,
    )


def _region_areas(index: int, *masks: Mask) -> Int[np.ndarray, "5"]:
    """Pixels of P, A, V, P and A, P and V: every number of the protocol follows from these."""
    where = {"file": "predicted, amodal, visible", "record": f"object {index}"}
    sizes = [mask.shape if isinstance(mask, np.ndarray) else tuple(mask.get("size", (0, 0))) for mask in masks]
    if len(set(sizes)) > 1:
        rule = f"the three masks of an object have one size (height, width), found {sizes}"
        raise InputError(**where, rule=rule, remedy="Bring predictions to the original image's size")
    p, a, v = (encode_mask(m) if isinstance(m, np.ndarray) else _rle(m, sizes[0], where) for m in masks)
    v = mask_ops.merge([v, a], intersect=True)
    areas = mask_ops.area([p, a, v, mask_ops.merge([p, a], intersect=True), mask_ops.merge([p, v], intersect=True)])
    if areas[1] == 0:
        raise InputError(**where, rule="the amodal mask is empty", remedy="Leave out objects without a pixel")
    return areas.astype(np.int64)
