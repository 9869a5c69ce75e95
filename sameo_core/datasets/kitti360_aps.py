"""KITTI-360-APS (Mohan and Valada, CVPR 2022): street scenes; each frame has a PNG of instance ids and a JSON."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from sameo_core.datasets.builder import DatasetBuilder, is_crowd, rule_name
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import read_json
from sameo_core.datasets.images import image_size, read_ids_png
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask

FIRST_THING = 1000  # a pixel of stuff holds the semantic id, one of a thing 1000 * the semantic id + a count
CATEGORIES = dict(  # Cityscapes' ids (not its train ids)
    enumerate(
        """unlabeled|ego vehicle|rectification border|out of roi|static|dynamic|ground|road|sidewalk|parking|rail track|
        building|wall|fence|guard rail|bridge|tunnel|pole|polegroup|traffic light|traffic sign|vegetation|terrain|sky|
        person|rider|car|truck|bus|caravan|trailer|train|motorcycle|bicycle""".replace("\n        ", "").split("|")
    )
)
FIRST_THING_CATEGORY = 24


def read_kitti360_aps(root: Path, split: str) -> AmodalDataset:
    """KITTI-360-APS, in the layout of AmodalSynthDrive, the sister set that the official evaluation reads.

    We have not verified this. The reader looks for ``<frame>_ampano.png`` with ``<frame>_ampano.json`` at any depth
    below {split}/amodal_panoptic_seg/ or amodal_panoptic_seg/{split}/. Images are those of KITTI-360
    (data_2d_raw/<sequence>/image_00/data_rect/<frame>.png), or in the PNG's path with images/ instead of
    amodal_panoptic_seg/.

    A thing is visible where the PNG has its id; without an amodal mask in the JSON it is fully visible. Its category is
    id // 1000. Stuff (ids below 1000) is read if the JSON lists it. Image ids number the frames from 1. Image sizes are
    read at once, masks on demand.

    Raises:
        InputError: no frame is found (lists what is there); see `DatasetBuilder.finish`.
    """
    frames = _frames(root, split)
    builder = DatasetBuilder("kitti360_aps", root, split, frames[0].parent, CATEGORIES)
    for image_id, path in enumerate(frames, start=1):
        with builder.skipping(f"frame {path.parent.name}/{path.name}"):
            height, width = image_size(path)
            builder.add_image({"id": image_id, "height": height, "width": width}, _image_of(root, path), root)
            read = partial(_read_frame, path, image_id, (height, width))
            builder.add_instances_later(image_id, read, partial(list, [path, path.with_suffix(".json")]))
    return builder.finish()


def _frames(root: Path, split: str) -> list[Path]:
    folders = [root / split / "amodal_panoptic_seg", root / "amodal_panoptic_seg" / split]
    if frames := sorted(path for folder in folders for path in folder.rglob("*_ampano.png")):
        return frames
    there = sorted(p.relative_to(root).as_posix() for pattern in ("*", "*/*") for p in root.glob(pattern))
    raise InputError(
        file=root,
        rule=f"no <frame>_ampano.png below {split}/amodal_panoptic_seg or amodal_panoptic_seg/{split}; "
        f"found {', '.join(there[:30]) or 'nothing'}",
        remedy="Move the split's folders there",
    )


def _image_of(root: Path, ids_png: Path) -> str:
    """The frame's image, relative to `root`: the first known place that exists, else KITTI-360's."""
    frame, sequence = ids_png.name.removesuffix("_ampano.png"), ids_png.parent.name
    raw = f"data_2d_raw/{sequence}/image_00/data_rect/{frame}.png"
    beside = ids_png.parent.relative_to(root).as_posix().replace("amodal_panoptic_seg", "images")
    candidates = [raw, *(f"{beside}/{frame}{ending}" for ending in ("_rgb.jpg", "_rgb.png", ".png", ".jpg"))]
    return next((name for name in candidates if (root / name).is_file()), raw)


def _read_frame(path: Path, image_id: int, size: tuple[int, int], builder: DatasetBuilder) -> None:
    frame = f"frame {path.parent.name}/{path.name.removesuffix('_ampano.png')}"
    try:
        ids = read_ids_png(path, *size)
        content = read_json(path.with_suffix(".json"), [])
    except InputError as error:
        return builder.skip(rule_name(error).split(",")[0], frame)
    listed = {int(key) if key.isdecimal() and len(key) < 6 else key: item for key, item in content.items()}
    for number, item in listed.items():
        record = f"{frame}, object {number!s:.20}"
        if isinstance(number, str) or not isinstance(item, Mapping):
            builder.skip("object without a whole-number id", record)
        elif is_crowd(item):
            builder.skip("crowd region", record)
        else:
            _add_object(builder, record, image_id, number, item, ids)
    for number in np.unique(ids[ids >= FIRST_THING]).tolist():
        if number not in listed:
            builder.skip("thing in the PNG that the JSON does not list", f"{frame}, object {number}")


def _add_object(
    builder: DatasetBuilder, record: str, image_id: int, number: int, item: Mapping, ids: np.ndarray
) -> None:
    category = number // FIRST_THING if number >= FIRST_THING else number
    if number >= FIRST_THING and category < FIRST_THING_CATEGORY:
        return builder.skip("thing with the category of stuff", record)
    if item.get("category_id", category) != category:
        return builder.skip("category_id is not id // 1000", record)
    visible = encode_mask(ids == number)
    amodal = item.get("amodal_mask")
    if not amodal and (item.get("occluded") or item.get("occlusion_mask")):
        return builder.skip("occluded but without amodal mask", record)
    builder.add_instance(
        record,
        image_id=image_id,
        instance_id=image_id * 2**16 + number,
        category_id=category,
        amodal=amodal or visible,
        visible=visible,
        is_stuff=number < FIRST_THING,
    )
