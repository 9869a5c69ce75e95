"""Drawn scenes as MUVA might be distributed: its schema is not published, see the reader. Three views of each scene."""

from collections.abc import Sequence

from sameo_core.miniature.drawing import DOMAINS, SHELF_SHAPES
from sameo_core.miniature.records import DrawnImage, Layout

VIEWS = ("left", "front", "right")


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """RLE in `segmentation` and `visible_mask`; `object_id` tells which objects of a scene's views are the same.

    Blemish: the names of categories end in a space.
    """
    ids = {shape: i for i, shape in enumerate(SHELF_SHAPES, start=1)}
    annotations: list[dict] = []
    for image in images:
        for item in image.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": ids[item.category],
                    "object_id": item.identity,
                    "iscrowd": 0,
                    "bbox": item.box,
                    "area": item.area,
                    "segmentation": item.amodal,
                    "visible_mask": item.visible,
                }
            )
    return {
        "images": [_image(image, split) for image in images],
        "categories": [{"id": i, "name": f"{shape} ", "supercategory": "miniature"} for shape, i in ids.items()],
        "annotations": annotations,
    }


def _image(image: DrawnImage, split: str) -> dict:
    scene, view = divmod(image.id - 1, DOMAINS["muva"].views)
    return {
        "id": image.id,
        "file_name": f"{split}_{image.id:06d}.jpg",
        "height": image.height,
        "width": image.width,
        "scene_id": scene + 1,
        "view": VIEWS[view],
    }


LAYOUT = Layout("annotations/AiFi-MUVA_{split}.json", "images/{split}_{id:06d}.jpg", document)
