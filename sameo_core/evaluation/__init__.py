"""The field's two protocols: AP and AR of scored detections, and mIoU with one predicted mask per object.

`evaluate` computes everything in one pass; the other functions one table each. Input is checked in `records`.

AP and AR (`detection`, `average_precision`) equal pycocotools' COCOeval 'segm' on amodal masks bit for bit. SAMEO's
tables are class-agnostic, AISFormer's class-aware. mIoU and occlusion are in `regions`.
"""

from collections.abc import Sequence

from sameo_core.datasets import AmodalDataset
from sameo_core.evaluation.average_precision import IOU_THRESHOLDS, RECALLS
from sameo_core.evaluation.detection import Evaluation, covering_detections, evaluate, evaluate_amodal
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
    """Both protocols for predictions prompted with the data set's own boxes, one mask per object.

    Args:
        dataset: amodal ground truth.
        results: COCO results with `instance_id`, one per object, from `predict_dataset`.
        buckets: of occlusion rates, for "mIoU <name>".

    Returns:
        `evaluate_amodal` (class-agnostic) and `RegionTable.summary` in one dict.

    Raises:
        InputError: as those two; results that are not one per object.
    """
    return evaluate_amodal(dataset, list(results)) | region_table(dataset, results).summary(buckets)
