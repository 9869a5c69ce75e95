"""Drawn rooms as MP3D-Amodal is distributed: a pickle of plain data, occluded objects only, the building among them.

Blemish: in every 10th image one region's visible mask is empty.
"""

import pickle
from collections.abc import Sequence

import numpy as np

from sameo_core.masks import RLE, encode_mask
from sameo_core.miniature.records import DrawnImage, DrawnObject, Layout
from sameo_core.miniature.room import draw_room

_MATTERPORT = {  # the number of Matterport's category for each drawn shape
    "wall": 1, "floor": 2, "wheelchair-move": 3, "door-closed": 4, "chess-board": 6, "cart-shopping": 36,
    "plant-wilt": 14, "stairs": 16, "tv": 22, "sun": 28, "bowling-ball": 33, "weight-hanging": 33, "radio": 37,
    "shirt": 38,
}  # fmt: skip
_OBJECTS = 39  # Matterport's "objects": everything else


def document(images: Sequence[DrawnImage], split: str) -> bytes:
    """Parallel lists of images and their regions; counts are bytes, as pycocotools leaves them."""
    records = {
        "images": [
            {
                "id": i.id,
                "file_name": LAYOUT.image_name(i.id, split).split("/")[-1],
                "width": i.width,
                "height": i.height,
            }
            for i in images
        ],
        "annotations": [_annotation(image) for image in images],
    }
    return pickle.dumps(records, protocol=4)


def _annotation(image: DrawnImage) -> dict:
    listed = [k for k in reversed(range(len(image.objects))) if image.objects[k].hidden]  # front to back
    place = {k: i for i, k in enumerate(listed, start=1)}
    pairs = [f"{place[k]}-{place[j]}" for k in listed for j in image.objects[k].occludes if j in place]
    regions = [_region(image.objects[k]) for k in listed]
    if regions and image.id % 10 == 0:
        regions[0]["visible_mask"] = _with_bytes(encode_mask(np.zeros((image.height, image.width), bool)))
    return {"image_id": image.id, "depth_constraint": ",".join(pairs), "regions": regions}


def _region(item: DrawnObject) -> dict:
    return {
        "category_id": _MATTERPORT.get(item.category, _OBJECTS),
        "isStuff": int(item.category in ("wall", "floor")),
        "segmentation": _with_bytes(item.amodal),
        "visible_mask": _with_bytes(item.visible),
    }


def _with_bytes(rle: RLE) -> dict:
    return {"size": list(rle["size"]), "counts": rle["counts"].encode()}


def names(image_id: int, split: str) -> dict[str, str]:
    """Images are called by scan and viewpoint."""
    return {"view": f"17DRP5sb8fy_{image_id:04d}_i1_{image_id % 6}"}


LAYOUT = Layout(
    "MP3D_seleted_{part}_10.29.pkl",
    "mp3d_{part}/{view}.jpg",
    document,
    words={"train": {"part": "train"}, "val": {"part": "eval"}},
    names=names,
    draw=draw_room,
)
