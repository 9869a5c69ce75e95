"""Drawn scenes as D2SA is distributed: three files that count their ids independently, so that these collide."""

from collections.abc import Sequence

from sameo_core.miniature.drawing import TABLE_SHAPES
from sameo_core.miniature.records import DrawnImage, Layout

FILES = {  # split -> words of its file names; the images of all splits lie in one folder
    "train": {"part": "training_rot0", "first": 0},
    "augmented": {"part": "augmented", "first": 1},
    "val": {"part": "validation", "first": 2},
}


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal `segmentation` and `visible_mask` always, `invisible_mask` where something is hidden; all RLE.

    `occl_depth` counts the objects that lie on top of an object. Blemish: names end in a space.
    """
    ids = {shape: i for i, shape in enumerate(TABLE_SHAPES, start=1)}
    annotations: list[dict] = []
    for image in images:
        for position, item in enumerate(image.objects):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image.id,
                "category_id": ids[item.category],
                "iscrowd": 0,
                "bbox": item.box,
                "area": item.area,
                "occlude_rate": item.occlude_rate,
                "occl_depth": sum(position in other.occludes for other in image.objects),
                "segmentation": item.amodal,
                "visible_mask": item.visible,
            }
            annotations.append(annotation | ({"invisible_mask": item.hidden} if item.hidden else {}))
    return {
        "images": [
            {"id": image.id, "file_name": file_name(image.id, split), "height": image.height, "width": image.width}
            for image in images
        ],
        "categories": [{"id": i, "name": f"{shape} ", "supercategory": "miniature"} for shape, i in ids.items()],
        "annotations": annotations,
    }


def file_name(image_id: int, split: str) -> str:
    return f"D2S_{FILES[split]['first']}{image_id:05d}.jpg"


LAYOUT = Layout(
    "d2s_amodal_annotations_v1/D2S_amodal_{part}.json",
    "d2s_amodal_images_v1/images/D2S_{first}{id:05d}.jpg",
    document,
    words=FILES,
)
