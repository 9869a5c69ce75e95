"""Drawn scenes in the formats of the sets whose masks are separate files, or a pickle."""

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8, UInt16
from PIL import Image as PILImage

from sameo_core.arrays import AmodalMask, Image, VisibleMask
from sameo_core.masks import RLE, decode_rle, encode_mask
from sameo_core.miniature.drawing import Scene, draw_room, draw_scene
from sameo_core.miniature.records import DrawnImage, Layout, image_record
from sameo_core.runs.atomic import atomic_write


def save_png(path: Path, pixels: Image | UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]) -> None:
    with atomic_write(path) as partial:
        PILImage.fromarray(pixels).save(partial, "PNG")


def save_mask(path: Path, mask: AmodalMask | VisibleMask) -> None:
    """A mask as PNG: 8-bit greyscale, 0 and 255."""
    save_png(path, mask.astype(np.uint8) * 255)


def save_whole(path: Path, image: Image, amodal: AmodalMask, visible: VisibleMask) -> None:
    """The whole object on white, its hidden part in the mean colour of the visible part; readers do not need it."""
    pixels = np.full_like(image, 255)
    pixels[amodal] = image[visible].mean(0).astype(np.uint8)
    pixels[visible] = image[visible]
    save_png(path, pixels)


def no_document(images: Sequence[DrawnImage], split: str) -> dict:
    """For a set without an annotation file; its recipe alone marks the set as complete."""
    return {}


# ---------------------------------- DYCE: a text index, full-frame PNG masks, tags with spaces, the building as objects
# Blemishes: every 12th image lists a fully hidden object; every 9th has an object tagged "default (1)".

_ROOMS = 7  # DYCE has 7 scenes for train and val


def dyce_document(images: Sequence[DrawnImage], split: str) -> str:
    """One line per object: image, modal mask, amodal mask, amodal box in 1000 x 1000 units, tag, whole object."""
    lines = []
    for image in images:
        scale = np.tile([1000 / image.width, 1000 / image.height], 2)
        boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in (item.box for item in image.objects)]) * scale
        listed = [(" ".join(str(round(v)) for v in box), tag) for box, tag in zip(boxes, _tags(image), strict=True)]
        if image.id % 12 == 0:
            listed.append(("0 0 40 40", "kitchen knife"))
        for k, (box, tag) in enumerate(listed):
            modal, amodal, full = (_mask(image, split, kind, k) for kind in ("modal", "amodal", "full"))
            lines.append(f"{DYCE.file_name(image.id, split)} {modal} {amodal} {box} {tag} {full}\n")
    return "".join(lines)


def write_dyce_masks(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """modal/, amodal/ and FullObj/ of one image."""
    for k, item in enumerate(image.objects):
        amodal, visible = decode_rle(item.amodal), decode_rle(item.visible)
        save_mask(root / "modal" / _mask(image, split, "modal", k), visible)
        save_mask(root / "amodal" / _mask(image, split, "amodal", k), amodal)
        save_whole(root / "FullObj" / _mask(image, split, "full", k), scene.image, amodal, visible)
    if image.id % 12 == 0:
        k, corner = len(image.objects), np.zeros((image.height, image.width), bool)
        save_mask(root / "modal" / _mask(image, split, "modal", k), corner)
        corner[:10, :10] = True
        save_mask(root / "amodal" / _mask(image, split, "amodal", k), corner)


def _tags(image: DrawnImage) -> list[str]:
    """Names as a modelling program gives them: the second glass of an image is "glass water (2)"."""
    names = [item.category.replace("-", " ") for item in image.objects]
    if image.id % 9 == 0:
        names[-1] = "default (1)"
    so_far = [names[: k + 1].count(name) for k, name in enumerate(names)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(names, so_far, strict=True)]


def _mask(image: DrawnImage, split: str, kind: str, k: int) -> str:
    return f"{dyce_names(image.id, split)['name']}_{kind}_{k}.png"


def dyce_names(image_id: int, split: str) -> dict[str, str]:
    return {"name": f"room{1 + image_id % _ROOMS}_{split}_cam{image_id}"}


DYCE = Layout(
    "annotations/{split}.txt",
    "Images/{name}.png",
    dyce_document,
    draw=draw_room,
    write_files=write_dyce_masks,
    names=dyce_names,
)

# ---------------------------------- MP3D-Amodal: a pickle of plain data, occluded objects only, the building among them
# Blemish: in every 10th image one region's visible mask is empty.

_MATTERPORT = {  # the number of Matterport's category for each drawn shape
    "wall": 1, "floor": 2, "wheelchair-move": 3, "door-closed": 4, "chess-board": 6, "cart-shopping": 36,
    "plant-wilt": 14, "stairs": 16, "tv": 22, "sun": 28, "bowling-ball": 33, "weight-hanging": 33, "radio": 37,
    "shirt": 38,
}  # fmt: skip
_OBJECTS = 39  # Matterport's "objects": everything else


def mp3d_document(images: Sequence[DrawnImage], split: str) -> bytes:
    """Parallel lists of images and their regions; counts are bytes, as in pycocotools."""
    records = []
    for image in images:
        name = MP3D_AMODAL.file_name(image.id, split)
        records.append({"id": image.id, "file_name": name, "width": image.width, "height": image.height})
    return pickle.dumps({"images": records, "annotations": [_annotation(image) for image in images]}, protocol=4)


def _annotation(image: DrawnImage) -> dict:
    listed = [k for k in reversed(range(len(image.objects))) if image.objects[k].hidden]  # front to back
    place = {k: i for i, k in enumerate(listed, start=1)}
    pairs = [f"{place[k]}-{place[j]}" for k in listed for j in image.objects[k].occludes if j in place]
    regions = [
        {
            "category_id": _MATTERPORT.get(item.category, _OBJECTS),
            "isStuff": int(item.category in ("wall", "floor")),
            "segmentation": _with_bytes(item.amodal),
            "visible_mask": _with_bytes(item.visible),
        }
        for item in (image.objects[k] for k in listed)
    ]
    if regions and image.id % 10 == 0:
        regions[0]["visible_mask"] = _with_bytes(encode_mask(np.zeros((image.height, image.width), bool)))
    return {"image_id": image.id, "depth_constraint": ",".join(pairs), "regions": regions}


def _with_bytes(rle: RLE) -> dict:
    return {"size": list(rle["size"]), "counts": rle["counts"].encode()}


def mp3d_names(image_id: int, split: str) -> dict[str, str]:
    """Images are named by scan and viewpoint."""
    return {"view": f"17DRP5sb8fy_{image_id:04d}_i1_{image_id % 6}"}


MP3D_AMODAL = Layout(
    "MP3D_seleted_{part}_10.29.pkl",
    "mp3d_{part}/{view}.jpg",
    mp3d_document,
    words={"train": {"part": "train"}, "val": {"part": "eval"}},
    names=mp3d_names,
    draw=draw_room,
)


# ------------------- WALT, as its generator writes streets: an npz per image and ann.json, objects pasted in any order
# Blemishes: ann.json lacks the last image and its area is x2 * y2 (both as in the original); every 8th npz has a fully
# hidden object.


def walt_document(images: Sequence[DrawnImage], split: str) -> dict:
    """The polygons that WALT's training code makes from the npz files; annotation ids from 0."""
    listed = images[:-1] if len(images) > 1 else images
    things = [(image, item) for image in listed for item in image.objects if not item.is_stuff]
    annotations = []
    for number, (image, item) in enumerate(things):
        x, y, w, h = item.box
        annotation: dict = {"id": number, "image_id": image.id, "category_id": 0, "iscrowd": 0}
        annotation |= {"bbox": item.box, "area": (x + w) * (y + h), "occ_percentage": 100 * item.occlude_rate}
        polygons = {"visible": item.visible_polygons, "full": [item.amodal_outline]}
        annotations.append(annotation | {"segmentation": [polygons]})
    return {
        "images": [image_record(i, f"images/{WALT.file_name(i.id, split)}") for i in listed],
        "categories": [{"id": 0, "name": "car", "supercategory": "car"}],
        "annotations": annotations,
    }


def write_npz(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """``mask``: uint8 (objects, h, w, 3), 1 where an object is visible, 2 where it is hidden."""
    things = [item for item in image.objects if not item.is_stuff]
    layers = [decode_rle(item.amodal) * np.uint8(2) - decode_rle(item.visible) for item in things]
    if image.id % 8 == 0:
        buried = np.zeros_like(layers[-1])
        row, column = np.argwhere(layers[-1] == 1)[0]
        buried[row, column] = 2
        layers.insert(0, buried)
    path = root / f"cwalt_{split}" / "Segmentation" / f"{walt_names(image.id, split)['time']}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, mask=np.repeat(np.array(layers)[..., None], 3, axis=3))


def walt_names(image_id: int, split: str) -> dict[str, str]:
    day, minute, second = 1 + image_id // 10_000 % 30, image_id // 60 % 60, image_id % 60
    return {"time": f"2022-06-{day:02d}T10-{minute:02d}-{second:02d}.{image_id:06d}"}


WALT = Layout(
    "cwalt_{split}/ann.json", "cwalt_{split}/images/{time}.jpg", walt_document, write_files=write_npz, names=walt_names
)

# ------------------------------------------------ KITTI-360-APS, as far as known: a uint16 PNG and a JSON per frame
# Images lie where KITTI-360 has them. Blemishes: every 7th frame lists one object with another object's category, every
# 11th has an empty amodal mask.

_ROAD, _BUILDING = 7, 11  # stuff: pixels hold the category itself
_THINGS = {
    "person-snowboarding": 24, "wheelchair-move": 24, "person-skiing-nordic": 25, "car": 26, "car-side": 26,
    "taxi": 26, "snowplow": 27, "cable-car": 28, "van-shuttle": 29, "campground": 29, "cart-shopping": 30,
}  # fmt: skip


def write_frame(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """The PNG of visible ids, and the JSON, which has masks of occluded objects only."""
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
        about = {"category_id": category, "iscrowd": 0, "occluded": item.hidden is not None}
        masks = {"occlusion_mask": item.hidden or [], "amodal_mask": item.amodal if item.hidden else []}
        listed[str(number)] = about | masks
    hidden = [item for item in listed.values() if item["occluded"]]
    if image.id % 7 == 0:
        listed[min(listed)]["category_id"] = 33
    if image.id % 11 == 0 and hidden:
        hidden[-1]["amodal_mask"] = encode_mask(np.zeros((image.height, image.width), bool))
    at = kitti360_names(image.id, split)
    stem = root / split / "amodal_panoptic_seg" / at["sequence"] / f"{at['frame']}_ampano"
    save_png(stem.with_suffix(".png"), ids)
    with atomic_write(stem.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(listed))


def kitti360_names(image_id: int, split: str) -> dict[str, str]:
    """Sequence and frame, named as in KITTI-360; each split is its own sequence."""
    drive = {"train": 0, "val": 10}.get(split, 18)
    return {"sequence": f"2013_05_28_drive_{drive:04d}_sync", "frame": f"{image_id:010d}"}


KITTI360_APS = Layout(
    "miniature_{split}.json",
    "data_2d_raw/{sequence}/image_00/data_rect/{frame}.png",
    no_document,
    write_files=write_frame,
    names=kitti360_names,
)

# ---------------------------------------------------- pix2gestalt: squashed to 256 x 256, one occluded object annotated
# The release has no splits; the miniature has a folder per split, so that drawing one does not change another. Blemish:
# every 12th image has a second picture, without masks.

SIDE = 256  # pixels
_ATTEMPTS = 50
_LEAST_OCCLUSION = 0.05  # after squashing


def draw_occlusion(domain: str, index: int, seed: int, split: str) -> Scene:
    """A scene squashed to a square, with its most occluded object only; redrawn until there is one."""
    for attempt in range(_ATTEMPTS):
        scene = draw_scene(domain, index + attempt * 1_000_000_000, seed, split)
        amodal, visible = _squash(scene.amodal), _squash(scene.visible)
        rates = 1 - visible.sum((1, 2)) / np.maximum(amodal.sum((1, 2)), 1)
        rates[~visible.any((1, 2))] = 0
        k = int(np.argmax(rates))
        if rates[k] >= _LEAST_OCCLUSION:
            break
    image = PILImage.fromarray(scene.image).resize((SIDE, SIDE), PILImage.Resampling.BILINEAR)
    one = np.s_[k : k + 1]
    return replace(
        scene,
        image=np.asarray(image),
        amodal=amodal[one],
        visible=visible[one],
        categories=scene.categories[one],
        identities=(1,),
    )


def _squash(masks: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n 256 256"]:
    rows, columns = ((np.arange(SIDE) + 0.5) * side / SIDE for side in masks.shape[1:])
    return masks[:, rows.astype(int)[:, None], columns.astype(int)]


def write_pix2gestalt_masks(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """whole/, whole_mask/ and visible_object_mask/ of one picture."""
    name, (item,) = pix2gestalt_names(image.id, split)["name"], image.objects
    amodal, visible = decode_rle(item.amodal), decode_rle(item.visible)
    folder = root / split
    save_whole(folder / "whole" / f"{name}_whole.png", scene.image, amodal, visible)
    save_mask(folder / "whole_mask" / f"{name}_whole_mask.png", amodal)
    save_mask(folder / "visible_object_mask" / f"{name}_visible_mask.png", visible)
    if image.id % 12 == 0:
        save_png(folder / "occlusion" / f"{name}0_occlusion.png", scene.image)


def pix2gestalt_names(image_id: int, split: str) -> dict[str, str]:
    """Numbers as in SA-1B: with gaps and of unequal length, so that they do not sort numerically as text."""
    return {"name": str(37 * image_id + 5)}


PIX2GESTALT = Layout(
    "miniature_{split}.json",
    "{split}/occlusion/{name}_occlusion.png",
    no_document,
    draw=draw_occlusion,
    write_files=write_pix2gestalt_masks,
    names=pix2gestalt_names,
)
