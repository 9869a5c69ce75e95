"""Drawn rooms as DYCE is distributed: a text index, full-frame PNG masks, tags with spaces, the building as objects.

Blemishes: every 12th image lists an object that is hidden completely; every 9th has an object tagged "default (1)".
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sameo_core.masks import decode_rle
from sameo_core.miniature.drawing import Scene
from sameo_core.miniature.records import DrawnImage, Layout
from sameo_core.miniature.room import draw_room, save_mask, save_whole

_ROOMS = 7  # DYCE has 7 scenes for train and val


def document(images: Sequence[DrawnImage], split: str) -> str:
    """A line an object: image, modal mask, amodal mask, amodal box in 1000 x 1000 units, tag, whole object."""
    lines = []
    for image in images:
        scale = np.tile([1000 / image.width, 1000 / image.height], 2)
        for k, (item, tag) in enumerate(zip(image.objects, _tags(image), strict=True)):
            x, y, w, h = item.box
            box = " ".join(str(round(v)) for v in np.array([x, y, x + w, y + h]) * scale)
            lines.append(
                f"{_name(image, split)}.png {_mask(image, split, 'modal', k)} "
                f"{_mask(image, split, 'amodal', k)} {box} {tag} {_mask(image, split, 'full', k)}"
            )
        if _lists_a_hidden_object(image):
            k = len(image.objects)
            lines.append(
                f"{_name(image, split)}.png {_mask(image, split, 'modal', k)} "
                f"{_mask(image, split, 'amodal', k)} 0 0 40 40 kitchen knife {_mask(image, split, 'full', k)}"
            )
    return "".join(line + "\n" for line in lines)


def write_masks(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """modal/, amodal/ and FullObj/ of one image."""
    for k, item in enumerate(image.objects):
        amodal, visible = decode_rle(item.amodal), decode_rle(item.visible)
        save_mask(root / "modal" / _mask(image, split, "modal", k), visible)
        save_mask(root / "amodal" / _mask(image, split, "amodal", k), amodal)
        save_whole(root / "FullObj" / _mask(image, split, "full", k), scene.image, amodal, visible)
    if _lists_a_hidden_object(image):
        k, corner = len(image.objects), np.zeros((image.height, image.width), bool)
        save_mask(root / "modal" / _mask(image, split, "modal", k), corner)
        corner[:10, :10] = True
        save_mask(root / "amodal" / _mask(image, split, "amodal", k), corner)


def _tags(image: DrawnImage) -> list[str]:
    """Names as a modelling program gives them: the second glass of an image is "glass water (2)"."""
    names = [item.category.replace("-", " ") for item in image.objects]
    if image.id % 9 == 0:
        names[-1] = "default (1)"
    so_far: Counter[str] = Counter()
    tags = []
    for name in names:
        so_far[name] += 1
        tags.append(name if so_far[name] == 1 else f"{name} ({so_far[name]})")
    return tags


def _lists_a_hidden_object(image: DrawnImage) -> bool:
    return image.id % 12 == 0


def _name(image: DrawnImage, split: str) -> str:
    return image_names(image.id, split)["name"]


def _mask(image: DrawnImage, split: str, kind: str, k: int) -> str:
    return f"{_name(image, split)}_{kind}_{k}.png"


def image_names(image_id: int, split: str) -> dict[str, str]:
    return {"name": f"room{1 + image_id % _ROOMS}_{split}_cam{image_id}"}


LAYOUT = Layout(
    "annotations/{split}.txt",
    "Images/{name}.png",
    document,
    draw=draw_room,
    write_files=write_masks,
    names=image_names,
)
