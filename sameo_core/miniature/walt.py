"""Drawn streets as WALT's generator writes them: an npz an image and ann.json, objects pasted in any order.

Blemishes: ann.json lacks the last image and its area is x2 * y2 (both as in the original); every 8th npz has an object
that is hidden completely.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sameo_core.masks import decode_rle
from sameo_core.miniature.drawing import Scene
from sameo_core.miniature.records import DrawnImage, Layout


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """The polygons that WALT's training code makes of the npz files; annotation ids from 0."""
    annotations: list[dict] = []
    for image in images[:-1] if len(images) > 1 else images:
        for item in image.objects:
            if item.is_stuff:
                continue
            x, y, w, h = item.box
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image.id,
                    "category_id": 0,
                    "iscrowd": 0,
                    "bbox": item.box,
                    "area": (x + w) * (y + h),
                    "occ_percentage": 100 * item.occlude_rate,
                    "segmentation": [{"visible": item.visible_polygons, "full": [item.amodal_outline]}],
                }
            )
    return {
        "images": [
            {"id": i.id, "file_name": f"images/{_time(i.id)}.jpg", "height": i.height, "width": i.width}
            for i in (images[:-1] if len(images) > 1 else images)
        ],
        "categories": [{"id": 0, "name": "car", "supercategory": "car"}],
        "annotations": annotations,
    }


def write_npz(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """``mask``: uint8 (objects, h, w, 3), 1 where an object is seen, 2 where it is hidden."""
    things = [item for item in image.objects if not item.is_stuff]
    layers = [decode_rle(item.amodal) * np.uint8(2) - decode_rle(item.visible) for item in things]
    if image.id % 8 == 0:
        buried = np.zeros_like(layers[-1])
        row, column = np.argwhere(layers[-1] == 1)[0]
        buried[row, column] = 2
        layers.insert(0, buried)
    path = root / f"cwalt_{split}" / "Segmentation" / f"{_time(image.id)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, mask=np.repeat(np.array(layers)[..., None], 3, axis=3))


def names(image_id: int, split: str) -> dict[str, str]:
    return {"time": _time(image_id)}


def _time(image_id: int) -> str:
    return f"2022-06-{1 + image_id // 10_000 % 30:02d}T10-{image_id // 60 % 60:02d}-{image_id % 60:02d}.{image_id:06d}"


LAYOUT = Layout(
    "cwalt_{split}/ann.json", "cwalt_{split}/images/{time}.jpg", document, write_files=write_npz, names=names
)
