"""The two protocols of the field: AP and AR of scored detections, and mIoU with one predicted mask an object.

`evaluate` gives everything in one pass; the others give one table each. What is checked of the input: `records`.

AP and AR (`detection`, on top of `average_precision`): pycocotools' COCOeval 'segm' on amodal masks is the arbiter; the
tests hold the numbers equal to it bit for bit. Tables of SAMEO are class-agnostic, those of AISFormer are not. mIoU
and what is hidden of an object: `regions`.
"""

from collections.abc import Sequence

from sameo_core.datasets import AmodalDataset
from sameo_core.evaluation.average_precision import IOU_THRESHOLDS, RECALLS
from sameo_core.evaluation.detection import (
    Evaluation,
    covering_detections,
    evaluate,
    evaluate_amodal,
)
from sameo_core.evaluation.regions import (
    OCCLUSION_BUCKETS,
    Buckets,
    Failure,
    RegionIoU,
    RegionTable,
    evaluate_regions,
    region_iou,
    region_table,
    worst_hidden,
)

__all__ = [
    "IOU_THRESHOLDS",
    "OCCLUSION_BUCKETS",
    "RECALLS",
    "Evaluation",
    "Failure",
    "RegionIoU",
    "RegionTable",
    "covering_detections",
    "evaluate",
    "evaluate_amodal",
    "evaluate_predictions",
    "evaluate_regions",
    "region_iou",
    "region_table",
    "worst_hidden",
]


def evaluate_predictions(
    dataset: AmodalDataset, results: Sequence[dict], buckets: Buckets = OCCLUSION_BUCKETS
) -> dict[str, float]:
    """Both protocols for predictions that were prompted with the data set's own boxes, one mask for each object.

    Args:
        dataset: amodal ground truth.
        results: COCO results with `instance_id`, one an object, as `predict_dataset` gives them.
        buckets: of occlusion rates, for "mIoU <name>".

    Returns:
        `evaluate_amodal` (class-agnostic) and `RegionTable.summary` in one dict.

    Raises:
        InputError: as those two, and results that are not one for each object.
    """
    return evaluate_amodal(dataset, list(results)) | region_table(dataset, results).summary(buckets)
