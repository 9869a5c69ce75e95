"""Drawn streets as KITTI-360-APS is believed to be: a uint16 PNG and a JSON a frame, images where KITTI-360 has them.

Blemishes: every 7th frame lists one object with another object's category, every 11th has an empty amodal mask.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from sameo_core.masks import decode_rle, encode_mask
from sameo_core.miniature.drawing import Scene
from sameo_core.miniature.records import DrawnImage, Layout
from sameo_core.runs.atomic import written_whole

_ROAD, _BUILDING = 7, 11  # stuff: pixels hold the category itself
_THINGS = {
    "person-snowboarding": 24, "wheelchair-move": 24, "person-skiing-nordic": 25, "car": 26, "car-side": 26,
    "taxi": 26, "snowplow": 27, "cable-car": 28, "van-shuttle": 29, "campground": 29, "cart-shopping": 30,
}  # fmt: skip


def write_frame(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """The PNG of visible ids and the JSON, whose masks are filled only where something is hidden."""
    ids = np.full((image.height, image.width), _BUILDING, np.uint16)
    listed: dict[str, dict] = {}
    so_far: Counter[int] = Counter()
    for item in image.objects:
        if item.is_stuff:
            ids[decode_rle(item.visible)] = _ROAD
            continue
        category = _THINGS[item.category]
        so_far[category] += 1
        number = 1000 * category + so_far[category]
        ids[decode_rle(item.visible)] = number
        listed[str(number)] = {
            "category_id": category,
            "iscrowd": 0,
            "occluded": item.hidden is not None,
            "occlusion_mask": item.hidden or [],
            "amodal_mask": item.amodal if item.hidden else [],
        }
    hidden = [item for item in listed.values() if item["occluded"]]
    if image.id % 7 == 0:
        listed[min(listed)]["category_id"] = 33
    if image.id % 11 == 0 and hidden:
        hidden[-1]["amodal_mask"] = encode_mask(np.zeros((image.height, image.width), bool))
    at = names(image.id, split)
    stem = root / split / "amodal_panoptic_seg" / at["sequence"] / f"{at['frame']}_ampano"
    with written_whole(stem.with_suffix(".png")) as partial:
        PILImage.fromarray(ids).save(partial, "PNG")
    with written_whole(stem.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(listed))


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """The set has no file about all frames; this one only says that they are complete."""
    return {}


def names(image_id: int, split: str) -> dict[str, str]:
    """Sequence and frame in KITTI-360's words; each split is a sequence of its own."""
    drive = {"train": 0, "val": 10}.get(split, 18)
    return {"sequence": f"2013_05_28_drive_{drive:04d}_sync", "frame": f"{image_id:010d}"}


LAYOUT = Layout(
    "miniature_{split}.json",
    "data_2d_raw/{sequence}/image_00/data_rect/{frame}.png",
    document,
    write_files=write_frame,
    names=names,
)
