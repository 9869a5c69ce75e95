"""Drawn scenes as COCOA-cls is distributed: flat COCO annotations, category ids 1..90 with gaps."""

from collections.abc import Sequence

from sameo_core.miniature.cocoa import coco_image
from sameo_core.miniature.drawing import DOMAINS
from sameo_core.miniature.records import DrawnImage, Layout

_COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # COCO's 80 ids have gaps


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal `segmentation`, `visible_mask` always, `invisible_mask` where something is hidden; all RLE."""
    shapes = DOMAINS["cocoa_cls"].shapes
    ids = {shape: _COCO_IDS[i * len(_COCO_IDS) // len(shapes)] for i, shape in enumerate(shapes)}
    annotations: list[dict] = []
    for image in images:
        for item in image.objects:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image.id,
                "category_id": ids[item.category],
                "iscrowd": 0,
                "bbox": item.box,
                "area": item.area,
                "occlude_rate": item.occlude_rate,
                "segmentation": item.amodal,
                "visible_mask": item.visible,
            }
            annotations.append(annotation | ({"invisible_mask": item.hidden} if item.hidden else {}))
    return {
        "images": [coco_image(i, split) for i in images],
        "categories": [{"id": ids[s], "name": s, "supercategory": s.split("-")[0]} for s in shapes],
        "annotations": annotations,
    }


LAYOUT = Layout(
    "annotations/COCO_amodal_{split}2014_with_classes.json", "{split}2014/COCO_{split}2014_{id:012d}.jpg", document
)
