"""The mIoU protocol: one predicted mask per object, prompted by the object's own box; and occlusion rates.

Per object, P predicted amodal mask, A true amodal mask, V its visible part (V within A), H = A minus V hidden:
full = IoU(P, A), visible = IoU(P minus H, V), hidden = IoU(P minus V, H). Pixels of P outside A lower all three.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from pycocotools import mask as mask_ops

from sameo_core.datasets import AmodalDataset
from sameo_core.errors import InputError
from sameo_core.evaluation.average_precision import mean_defined, pixels, shared_pixels
from sameo_core.evaluation.records import Objects, Predictions
from sameo_core.masks import encode_mask, intersect_rle, segmentation_to_rle

# Share of an object's amodal area that is hidden: low <= rate < high, the last bucket includes 1.
OCCLUSION_BUCKETS = {"0-10 %": (0.0, 0.1), "10-50 %": (0.1, 0.5), "50-90 %": (0.5, 0.9), "90-100 %": (0.9, 1.0)}
COCOA_RANGES = {"all": (0.0, 1.0), "none": (0.0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1.0)}  # both ends in

Buckets = Mapping[str, tuple[float | int, float | int]]
Wanted = dict[str, Bool[np.ndarray, " objects"]]  # setting -> objects to be found


def closed_bucket(name: str, low: float | int, high: float | int) -> tuple[float, float]:
    """The bucket low <= rate < high as a closed interval.

    Raises:
        InputError: not 0 <= low < high <= 1.
    """
    if not (isinstance(low, Real) and isinstance(high, Real) and 0 <= low < high <= 1):
        rule = f"a bucket needs 0 <= low < high <= 1, found ({low}, {high})"
        raise InputError(file="buckets", record=repr(name), rule=rule, remedy="Give shares, not per cent")
    return float(low), 1.0 if high == 1 else float(np.nextafter(high, 0))


def occlusion_rates(objects: Objects) -> Float64[np.ndarray, " objects"]:
    """Hidden pixels / amodal pixels in 0..1: from the visible mask, else the stated `occlude_rate`. NaN for crowds.

    Raises:
        InputError: an object without either.
    """
    rates = np.full(len(objects.amodal), np.nan)
    rows = [row for row, mask in enumerate(objects.visible) if mask is not None and not objects.crowd[row]]
    amodal, visible = ([masks[row] for row in rows] for masks in (objects.amodal, objects.visible))
    area = pixels(amodal)
    rates[rows] = (area - shared_pixels(amodal, visible)) / np.maximum(area, 1)
    for row in np.flatnonzero(np.isnan(rates) & ~objects.crowd).tolist():
        rate = objects.stated_rate[row]
        if not isinstance(rate, Real) or not 0 <= rate <= 1:  # type: ignore[operator]  # to typeshed no Real has an order
            rule = f"needs a 'visible_mask' or an 'occlude_rate' in 0..1, found {rate!r}"
            raise InputError(**objects.where(row), rule=rule, remedy="Add the visible mask of the object")
        rates[row] = rate
    return rates


def visible_masks(objects: Objects, rates: Float64[np.ndarray, " objects"]) -> list | None:
    """The visible mask of each object; as in COCOA, the amodal one if nothing is hidden. None if any is unknown."""
    whole = objects.crowd | (rates == 0)
    rows = zip(objects.amodal, objects.visible, whole.tolist(), strict=True)
    masks = [amodal if visible is None and complete else visible for amodal, visible, complete in rows]
    return None if any(mask is None for mask in masks) else masks


def inside(rates: Float64[np.ndarray, " objects"], ranges: Mapping[str, tuple[float, float]]) -> Wanted:
    """The objects whose rate lies in each of the closed ranges."""
    return {name: (low <= rates) & (rates <= high) for name, (low, high) in ranges.items()}


Mask = Bool[np.ndarray, "_ _"] | Mapping  # a bitmap or an RLE; "_": objects of one list differ in size
Masks = Sequence[Mask] | Bool[np.ndarray, "n h w"]


def region_table(dataset: AmodalDataset, results: Sequence[Mapping]) -> "RegionTable":
    """`evaluate_regions`, one row per object of a data set in its order; arguments as `evaluate_predictions`."""
    count, places, table = _predicted_regions(dataset, results)
    if not len(places) == len(results) == count:
        rule = f"one mask for each of the {count} objects, found {len(results)}, of {len(places)} objects"
        remedy = "Use front-ends made of ground-truth boxes; a detector's masks are for evaluate_amodal"
        raise InputError(file="results", rule=rule, remedy=remedy)
    return table


def _predicted_regions(
    dataset: AmodalDataset, results: Sequence[Mapping]
) -> tuple[int, list[tuple[int, int, int]], "RegionTable"]:
    """The number of objects, the places of the predicted ones (as in `Failure`), and their regions."""
    masks = {(r["image_id"], r["instance_id"]): r["segmentation"] for r in results}
    number, places, predicted, amodal, visible = 0, [], [], [], []
    for i, image in enumerate(dataset):
        for j, item in enumerate(image.instances):
            if (image.image_id, item.instance_id) in masks:
                places.append((number, i, j))
                predicted.append(masks[image.image_id, item.instance_id])
                amodal.append(item.known_amodal_rle())
                visible.append(item.visible_rle)
            number += 1
    return number, places, evaluate_regions(predicted, amodal, visible)


class Failure(NamedTuple):
    """An object and the IoU of its hidden region."""

    row: int  # index among all objects of the data set, as the rows of `region_table`
    image: int  # index in the data set
    instance: int  # index in the image
    hidden: float  # IoU of the hidden region, 0..1


def worst_hidden(dataset: AmodalDataset, results: Sequence[Mapping]) -> list[Failure]:
    """The predicted objects with an occlusion rate of 0.1 or more, by IoU of the hidden region, worst first.

    Args:
        results: COCO results with `instance_id`, at most one per object; for a detector, its `covering_detections`.
    """
    _, places, table = _predicted_regions(dataset, results)
    return [Failure(*places[k], float(table.hidden[k])) for k in table.ranked("hidden", 0.1)]


class RegionIoU(NamedTuple):
    """IoU of one object's regions, in 0..1; NaN: the true region is empty."""

    full: float
    visible: float
    hidden: float


@dataclass(frozen=True)
class RegionTable:
    """One row per object, in the order given."""

    full: Float[np.ndarray, " n"]  # IoU in 0..1; the regions are defined at the top of this module
    visible: Float[np.ndarray, " n"]  # IoU; NaN where nothing of the object is visible
    hidden: Float[np.ndarray, " n"]  # IoU; NaN where nothing is hidden
    recalled_pixels: Int[np.ndarray, " n"]  # hidden pixels that the prediction covers
    hidden_pixels: Int[np.ndarray, " n"]
    occlusion_rate: Float[np.ndarray, " n"]  # hidden share of the amodal area, 0..1
    excess: Float[np.ndarray, " n"]  # predicted pixels outside the amodal mask / pixels of the amodal mask

    def at_quantiles(self, column: str, quantiles: Sequence[float | int], least: float | int = 0) -> list[int]:
        """The rows at these quantiles (0 worst, 0.5 median, 1 best) of a column.

        Args:
            column: "full", "visible" or "hidden"; rows with NaN are left out.
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
        """Rows sorted by a column, worst first, without NaN and occlusion rates below `least`."""
        values = getattr(self, column)
        rows = np.flatnonzero(~np.isnan(values) & (self.occlusion_rate >= least))
        return rows[np.argsort(values[rows], kind="stable")].tolist()

    def summary(self, buckets: Buckets = OCCLUSION_BUCKETS) -> dict[str, float]:
        """Means over objects, in 0..1; NaN if no object has the region or lies in the bucket.

        "mIoU", "visible mIoU", "hidden mIoU" (objects with a hidden part), "hidden recall" (hidden pixels of all
        objects pooled: large objects weigh more), "mean hidden recall" (mean over objects with a hidden part),
        "un-occluded mIoU" (full mask, occlusion rate exactly 0), "un-occluded excess" (the same objects: predicted
        pixels outside them, as a share of their area), and "mIoU 0-10 %" ...: the full mask by bucket.

        Raises:
            InputError: a bucket that is not 0 <= low < high <= 1.
        """
        occluded = self.hidden_pixels > 0
        recalled, hidden = self.recalled_pixels[occluded], self.hidden_pixels[occluded]
        numbers = {
            "mIoU": mean_defined(self.full),
            "visible mIoU": mean_defined(self.visible),
            "hidden mIoU": mean_defined(self.hidden),
            "hidden recall": float(recalled.sum() / hidden.sum()) if occluded.any() else math.nan,
            "mean hidden recall": mean_defined(recalled / hidden),
            "un-occluded mIoU": mean_defined(self.full[~occluded]),
            "un-occluded excess": mean_defined(self.excess[~occluded]),
        }
        for name, bucket in buckets.items():
            low, high = closed_bucket(name, *bucket)
            inside = (self.occlusion_rate >= low) & (self.occlusion_rate <= high)
            numbers[f"mIoU {name}"] = mean_defined(self.full[inside])
        return numbers


def region_iou(predicted_amodal: Mask, amodal: Mask, visible: Mask) -> RegionIoU:
    """`evaluate_regions` of one object. Raises InputError as that function."""
    table = evaluate_regions([predicted_amodal], [amodal], [visible])
    return RegionIoU(float(table.full[0]), float(table.visible[0]), float(table.hidden[0]))


def evaluate_regions(predicted: Masks, amodal: Masks, visible: Masks) -> RegionTable:
    """The mIoU protocol: one predicted mask per ground-truth object (prompted by its own box).

    Args:
        predicted, amodal, visible: n masks each, in the same order; bool bitmaps or compressed RLE. The masks of an
            object have one size; objects may differ. Visible pixels outside the amodal mask, which rounding leaves in
            some data sets, are dropped.

    Raises:
        InputError: lists of unequal length, masks of one object that differ in size, an empty amodal mask.

    Source: full and hidden as the mIoU and "invisible mIoU" of C2F-Seg (ICCV 2023): the true visible mask is subtracted
        from both masks, and un-occluded objects are left out of the mean. Visible mirrors hidden, by our definition.
    """
    if not len(predicted) == len(amodal) == len(visible):
        rule = f"one mask of each kind per object, found {len(predicted)} predicted, {len(amodal)}, {len(visible)}"
        raise InputError(file="predicted, amodal, visible", rule=rule, remedy="Keep objects that were not predicted")
    checked = [_checked(i, *masks) for i, masks in enumerate(zip(predicted, amodal, visible, strict=True))]
    return _table(*([masks[kind] for masks in checked] for kind in range(3)))


def _checked(index: int, *masks: Mask) -> list[Mapping]:
    """The three masks of an object as RLE."""
    where = {"file": "predicted, amodal, visible", "record": f"object {index}"}
    sizes = [mask.shape if isinstance(mask, np.ndarray) else tuple(mask.get("size", (0, 0))) for mask in masks]
    if len(set(sizes)) > 1:
        rule = f"the three masks of an object have one size (height, width), found {sizes}"
        raise InputError(**where, rule=rule, remedy="Bring predictions to the original image's size")
    try:
        rles = [encode_mask(m) if isinstance(m, np.ndarray) else segmentation_to_rle(m, *sizes[0]) for m in masks]
    except InputError as error:
        raise InputError(**where, rule=error.rule, remedy=error.remedy) from None
    if not mask_ops.area(rles[1]):
        raise InputError(**where, rule="the amodal mask is empty", remedy="Leave out objects without a pixel")
    return list(rles)


def regions_of_own_boxes(objects: Objects, found: Predictions, visible: list | None) -> RegionTable | None:
    """`evaluate_regions` if there is exactly one prediction with the `instance_id` of each object, else None.

    Rows are the objects in their order, without crowds. Masks are already checked.

    Args:
        visible: masks of all objects; None if they are not known.
    """
    rows = np.flatnonzero(~objects.crowd).tolist()
    keys = [(image, instance) for image, instance in zip(found.image.tolist(), found.instance, strict=True)]
    of_object = {key: row for row, key in enumerate(keys) if isinstance(key[1], Integral) and int(key[1]) >= 0}
    wanted = [(int(objects.image[row]), objects.ids[row]) for row in rows]
    given = sum(isinstance(instance, Integral) and int(instance) >= 0 for instance in found.instance)
    if visible is None or not rows or given != len(rows) or of_object.keys() != set(wanted):
        return None
    predicted, amodal = [found.amodal[of_object[key]] for key in wanted], [objects.amodal[row] for row in rows]
    return _table(predicted, amodal, [visible[row] for row in rows])


def _table(p: list, a: list, v: list) -> RegionTable:
    """The protocol's numbers from the masks P, A, V of each object as checked RLE."""
    amodal, predicted, shown = pixels(a), pixels(p), shared_pixels(a, v)
    for i in np.flatnonzero(shown < pixels(v)).tolist():  # visible pixels outside the amodal mask
        v[i] = intersect_rle([v[i], a[i]])
    in_amodal = shared_pixels(p, a)
    in_visible, occluded = in_amodal.copy(), np.flatnonzero(shown < amodal).tolist()
    in_visible[occluded] = shared_pixels([p[i] for i in occluded], [v[i] for i in occluded])
    hidden, recalled = amodal - shown, in_amodal - in_visible
    seen, unseen = predicted - recalled + shown - in_visible, predicted - in_visible + hidden - recalled  # unions
    return RegionTable(
        full=in_amodal / (predicted + amodal - in_amodal),
        visible=np.where(shown > 0, in_visible / np.maximum(seen, 1), np.nan),
        hidden=np.where(hidden > 0, recalled / np.maximum(unseen, 1), np.nan),
        recalled_pixels=recalled,
        hidden_pixels=hidden,
        occlusion_rate=hidden / amodal,
        excess=(predicted - in_amodal) / amodal,
    )
