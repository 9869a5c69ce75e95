"""AP and AR of scored detections: class-agnostic, class-aware, by occlusion, of visible masks, COCOA's protocol.

Sources. AP and AR: pycocotools' COCOeval, bit for bit. Visible masks: AISFormer (BMVC 2022),
detectron2/evaluation/amodal_visible_evaluation.py: plain 'segm' with visible masks as `segmentation` on both sides. Its
forked pycocotools also replaces the area by 1 - occlude_rate, which affects only APs/APm/APl. COCOA: amodalAPI (CVPR
2017), myPyAmodalEvalDemo.py and amodaleval.py: class-agnostic, amodal masks, no crowds, at most 1000 detections per
image; occlusion none 0..0.00001, partial 0.00001..0.25, heavy 0.25..1, both ends included; objects outside, and stuff
or things, are ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sameo_core.datasets import AmodalDataset
from sameo_core.errors import InputError
from sameo_core.evaluation.average_precision import (
    Overlaps,
    Precision,
    PrecisionRecall,
    match,
    overlaps,
    precision_recall,
)
from sameo_core.evaluation.records import (
    Categories,
    Objects,
    Predictions,
    Source,
    Truth,
    category_places,
    known_categories,
    read_found,
    read_objects,
)
from sameo_core.evaluation.regions import (
    COCOA_RANGES,
    OCCLUSION_BUCKETS,
    RegionTable,
    Wanted,
    closed_bucket,
    inside,
    occlusion_rates,
    regions_of_own_boxes,
    visible_masks,
)
from sameo_core.masks import box_ious

LIMITS = (1, 10, 100)  # detections per image
COCOA_LIMITS = (*LIMITS, 1000)
COVERING_IOU = 0.5  # of a detection's and an object's visible boxes

Numbers = dict[str, float]
Table = dict[str, Numbers]  # setting -> numbers


@dataclass(frozen=True)
class Evaluation:
    """The results of `evaluate`. Shares are in 0..1; NaN: there is nothing to find.

    Numbers are those of `evaluate_amodal`. The settings: "all"; the occlusion buckets; "occluded" and "un-occluded",
    the objects with and without a hidden pixel. Objects outside a setting are ignored, see `evaluate`.
    """

    class_agnostic: Table  # as in SAMEO's tables
    class_aware: Table  # as in AISFormer's; {} if not requested
    visible: Table  # "class-agnostic" and "class-aware"; {} if visible masks are not known on both sides
    cocoa: dict[str, Table]  # "both"; "things" and "stuff" if there is stuff; then "all", "none", "partial", "heavy"
    regions: RegionTable | None  # the mIoU protocol; None unless each object has exactly one prediction of its own box
    objects: dict[str, int]  # setting -> objects to be found
    curves: dict[str, Precision]  # setting -> class-agnostic precision at IOU_THRESHOLDS x RECALLS
    score: Float64[np.ndarray, " detections"]  # in the order of the predictions
    predicted_iou: Float64[np.ndarray, " detections"]  # NaN if the record has none
    true_iou: Float64[np.ndarray, " detections"]  # with the object of highest IoU, whatever its category; no crowds


def evaluate(ground_truth: Truth, predictions: Source, class_aware: bool = True) -> Evaluation:
    """All metrics of a data set in one pass that computes each IoU once.

    Objects outside a setting are ignored, as in COCO's area ranges: missing one costs nothing, and a detection matched
    to one counts neither way. A detection that matches no object is a false positive in every setting, so AP of a
    bucket with few objects is always low: compare AP between models within a bucket, and AR between buckets.

    Args:
        ground_truth: as in `evaluate_amodal`; a data set is quicker than its `to_coco()`. The occlusion rate of an
            object is that of its `visible_mask`, else its `occlude_rate`; crowds need neither. Visible masks are
            needed for `visible` and `regions`; an object without one is fully visible if its `occlude_rate` is 0.
            `isStuff` as in COCOA.
        predictions: as in `evaluate_amodal`. Optional: `visible_mask` (RLE), `predicted_iou` and `instance_id`, the
            object whose box was the prompt.
        class_aware: False skips class-aware numbers, for front-ends with categories of their own.

    Raises:
        InputError: as `evaluate_amodal` class-aware; an object without an occlusion rate; visible masks for some
            predictions only.
    """
    closed = {name: closed_bucket(name, *bucket) for name, bucket in OCCLUSION_BUCKETS.items()}
    objects = read_objects(ground_truth, with_visible=True)
    found = read_found(predictions, objects.sizes, with_visible=True)
    rates = occlusion_rates(objects)
    wanted = {"all": ~objects.crowd, **inside(rates, closed), "occluded": rates > 0, "un-occluded": rates == 0}
    categories = known_categories(objects, found) if class_aware else None
    lined_up = _LinedUp.of(objects, found)
    amodal = lined_up.compare(objects.amodal, found.amodal)
    agnostic = lined_up.precision_recall(amodal, wanted, LIMITS)
    aware = lined_up.precision_recall(amodal, wanted, LIMITS, categories) if categories else None
    cocoa = {}
    for part, members in _parts(objects).items():
        ranges = {name: chosen & members for name, chosen in inside(rates, COCOA_RANGES).items()}
        cocoa[part] = _table(lined_up.precision_recall(amodal, ranges, COCOA_LIMITS), ranges)
    visible, truth = {}, visible_masks(objects, rates)
    if _carry_visible_masks(found) and truth is not None:
        compared, everything = lined_up.compare(truth, found.visible), {"all": wanted["all"]}
        for name, by in {"class-agnostic": None, **({"class-aware": categories} if categories else {})}.items():
            visible[name] = lined_up.precision_recall(compared, everything, LIMITS, by).numbers(0)
    return Evaluation(
        class_agnostic=_table(agnostic, wanted),
        class_aware=_table(aware, wanted) if aware else {},
        visible=visible,
        cocoa=cocoa,
        regions=regions_of_own_boxes(objects, found, truth),
        objects={name: int(chosen.sum()) for name, chosen in wanted.items()},
        curves={name: agnostic.curve(i) for i, name in enumerate(wanted)},
        score=found.score,
        predicted_iou=found.predicted_iou,
        true_iou=lined_up.in_file_order(amodal.best),
    )


def evaluate_amodal(ground_truth: Truth, predictions: Source, class_agnostic: bool = True) -> Numbers:
    """AP and AR of amodal masks over a data set, exactly as pycocotools' COCOeval 'segm' counts them.

    Args:
        ground_truth: COCO dict or path of one, its `segmentation` the amodal mask in any encoding; or a data set.
            `id`, `area` and `bbox` are not used (COCOeval takes id 0 for "unmatched").
        predictions: COCO results list or path of one: `image_id`, `segmentation`, `score`, and `category_id` when
            class-aware.
        class_agnostic: True as in SAMEO's tables (CVPR 2025): category ids may be missing or unknown.

    Returns:
        "AP" (mean over IoU 0.50:0.05:0.95), "AP50", "AP75", "AR1", "AR10", "AR100" (with at most that many detections
        per image), each in 0..1, or NaN where there is no object to find.

    Raises:
        InputError: unreadable file, unknown image or category id, mask of another size than its image, missing key,
            score that is not finite.
    """
    objects = read_objects(ground_truth, with_visible=False)
    found = read_found(predictions, objects.sizes, with_visible=False)
    categories = None if class_agnostic else known_categories(objects, found)
    lined_up = _LinedUp.of(objects, found)
    compared = lined_up.compare(objects.amodal, found.amodal)
    return lined_up.precision_recall(compared, {"all": ~objects.crowd}, LIMITS, categories).numbers(0)


def _table(measured: PrecisionRecall, wanted: Wanted) -> Table:
    return {name: measured.numbers(i) for i, name in enumerate(wanted)}


def _parts(objects: Objects) -> Wanted:
    """The parts of COCOA's protocol: things and stuff together, and each alone."""
    parts = {"both": ~objects.crowd}
    if objects.stuff.any():
        parts |= {"things": ~objects.crowd & ~objects.stuff, "stuff": ~objects.crowd & objects.stuff}
    return parts


def _carry_visible_masks(found: Predictions) -> bool:
    missing = [row for row, mask in enumerate(found.visible) if mask is None]
    if missing and len(missing) < len(found.visible):
        rule = f"lacks a 'visible_mask', as {len(missing)} of {len(found.visible)} predictions do"
        remedy = "Give visible masks to all predictions or to none"
        raise InputError(**found.where(missing[0]), rule=rule, remedy=remedy)
    return bool(found.visible) and not missing


@dataclass(frozen=True)
class _LinedUp:
    """Objects and detections in COCOeval's order:

    by image; detections then by descending score; ties by category, even class-agnostic, then as in the file.
    """

    images: int
    crowd: Bool[np.ndarray, " objects"]
    objects_image: Int64[np.ndarray, " objects"]
    found_image: Int64[np.ndarray, " detections"]
    score: Float64[np.ndarray, " detections"]
    objects_order: Int64[np.ndarray, " objects"]  # rows of the file
    found_order: Int64[np.ndarray, " detections"]  # rows of the file

    @classmethod
    def of(cls, objects: Objects, found: Predictions) -> "_LinedUp":
        category_of_objects, category_of_found = category_places(objects, found)
        by_object = np.lexsort((category_of_objects, objects.image))
        by_found = np.lexsort((category_of_found, -found.score, found.image))
        return cls(
            images=len(objects.sizes),
            crowd=objects.crowd[by_object],
            objects_image=objects.image[by_object],
            found_image=found.image[by_found],
            score=found.score[by_found],
            objects_order=by_object,
            found_order=by_found,
        )

    def compare(self, objects: list, found: list) -> Overlaps:
        """IoUs of masks in file order."""
        ordered = [found[row] for row in self.found_order], [objects[row] for row in self.objects_order]
        return overlaps(ordered[0], self.found_image, ordered[1], self.objects_image, self.crowd, self.images)

    def in_file_order(self, values: Float64[np.ndarray, " detections"]) -> Float64[np.ndarray, " detections"]:
        back = np.empty_like(values)
        back[self.found_order] = values
        return back

    def precision_recall(
        self, compared: Overlaps, wanted: Wanted, limits: tuple[int, ...], categories: Categories | None = None
    ) -> PrecisionRecall:
        """For each setting; class-agnostic without `categories`."""
        chosen = np.stack(list(wanted.values()), axis=1)[self.objects_order]
        pairs, count = compared.pairs, 1
        of_objects, of_found = np.zeros(len(chosen), np.int64), np.zeros(len(self.score), np.int64)
        if categories:
            count = categories.number
            of_objects, of_found = categories.of_objects[self.objects_order], categories.of_found[self.found_order]
            same = of_objects[pairs.object] == of_found[pairs.detection]
            pairs = type(pairs)(*(column[same] for column in pairs))
        group = self.found_image * count + of_found
        to_find = np.stack([np.bincount(of_objects[column], minlength=count) for column in chosen.T], axis=1)
        return precision_recall(match(pairs, group, chosen, self.crowd), self.score, group, of_found, to_find, limits)


def covering_detections(dataset: AmodalDataset, results: Sequence[Mapping]) -> list[dict]:
    """The detections that cover an annotated object, each with the `instance_id` of that object.

    Detections and objects are matched one to one by the IoU of their visible boxes, from the best down to 0.5; of equal
    ones, by score. Masks are not used, so for one front-end the same detections are chosen for every model.

    Args:
        results: COCO results with `box` (xyxy), and `front_end_score` or `score`, from `predict_dataset`.

    Returns:
        In the order of the data set's objects, without those that no detection covers.
    """
    by_image: dict[object, list[Mapping]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    covering = []
    for image in dataset:
        found = by_image.get(image.image_id, [])
        boxes = [item.visible_box for item in image.instances]
        ious = box_ious(*(np.array(listed, float).reshape(-1, 4) for listed in (boxes, [r["box"] for r in found])))
        scores = np.array([r.get("front_end_score", r.get("score")) for r in found], float)
        taken: dict[int, int] = {}  # object -> detection
        order = np.lexsort((np.broadcast_to(-scores, ious.shape).ravel(), -ious.ravel()))
        for i, j in zip(*np.unravel_index(order, ious.shape), strict=True):
            if ious[i, j] >= COVERING_IOU and i not in taken and j not in taken.values():
                taken[int(i)] = int(j)
        for i, item in enumerate(image.instances):
            if i in taken:
                covering.append({**found[taken[i]], "instance_id": item.instance_id})
    return covering
