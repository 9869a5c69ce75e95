"""Sources of boxes and scores for an image, which SAMEO turns into amodal masks."""

from sameo_core.front_ends.base import CategoryMap, Detections, FrontEnd, ground_truth_boxes, jittered
from sameo_core.front_ends.everything import EverythingDetector, box_from_point
from sameo_core.front_ends.live import from_supervision, load_detector, supervision_front_end
from sameo_core.front_ends.predict import (
    OWN_AMODAL,
    OWN_VISIBLE,
    check_same_encoder,
    predict_dataset,
    without_rescoring,
)
from sameo_core.front_ends.result_files import ResultsFile, coco_results

__all__ = [
    "OWN_AMODAL",
    "OWN_VISIBLE",
    "CategoryMap",
    "Detections",
    "EverythingDetector",
    "FrontEnd",
    "ResultsFile",
    "box_from_point",
    "check_same_encoder",
    "coco_results",
    "from_supervision",
    "ground_truth_boxes",
    "jittered",
    "load_detector",
    "predict_dataset",
    "supervision_front_end",
    "without_rescoring",
]
