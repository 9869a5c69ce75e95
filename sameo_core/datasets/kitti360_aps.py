"""KITTI-360-APS (Mohan and Valada, CVPR 2022): street scenes; each frame has a PNG of instance ids and a JSON."""

from collections.abc import Mapping, Sequence
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


def read_kitti360_aps(root: Path, split: str, sequences: Sequence[str] | None = None) -> AmodalDataset:
    """KITTI-360-APS, in the layout of AmodalSynthDrive, the sister set that the official evaluation reads.

    We have not verified this. The reader looks for ``<frame>_ampano.png`` with ``<frame>_ampano.json`` at any depth
    below {split}/amodal_panoptic_seg/ or amodal_panoptic_seg/{split}/; or, given `sequences`, below the folders of
    these names anywhere in amodal_panoptic_seg/. Images are those of KITTI-360 (data_2d_raw/<sequence>/image_00/
    data_rect/<frame>.png), or in the PNG's path with images/ instead of amodal_panoptic_seg/.

    A thing is visible where the PNG has its id; without an amodal mask in the JSON it is fully visible. Its category is
    id // 1000. Stuff (ids below 1000) is read if the JSON lists it. Image ids number the frames from 1. Image sizes are
    read at once, masks on demand.

    Args:
        sequences: the split's sequences, for a download without a folder per split.

    Raises:
        InputError: no frame is found (lists what is there); see `DatasetBuilder.finish`.
    """
    frames = _frames(root, split, sequences)
    builder = DatasetBuilder("kitti360_aps", root, split, frames[0].parent, CATEGORIES)
    for image_id, path in enumerate(frames, start=1):
        with builder.skipping(f"frame {path.parent.name}/{path.name}"):
            height, width = image_size(path)
            builder.add_image({"id": image_id, "height": height, "width": width}, _image_of(root, path), root)
            read = partial(_read_frame, path, image_id, (height, width))
            builder.add_instances_later(image_id, read, partial(list, [path, path.with_suffix(".json")]))
    return builder.finish()


def _frames(root: Path, split: str, sequences: Sequence[str] | None) -> list[Path]:
    if sequences is None:
        folders = [root / split / "amodal_panoptic_seg", root / "amodal_panoptic_seg" / split]
        frames = [path for folder in folders for path in folder.rglob("*_ampano.png")]
    else:
        everywhere = (root / "amodal_panoptic_seg").rglob("*_ampano.png")
        frames = [path for path in everywhere if set(sequences) & set(path.relative_to(root).parts)]
    if frames:
        return sorted(frames)
    sought = "" if sequences is None else f", nor in sequences {list(sequences)}"
    there = sorted(p.relative_to(root).as_posix() for pattern in ("*", "*/*") for p in root.glob(pattern))
    raise InputError(
        file=root,
        rule=f"no <frame>_ampano.png below {split}/amodal_panoptic_seg or amodal_panoptic_seg/{split}"
        f"{sought}; found {', '.join(there[:30]) or 'nothing'}",
        remedy="Where there are no folders for splits, give sequences=[...]; if the layout is another, tell us",
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
    json_path = path.with_suffix(".json")
    try:
        ids = read_ids_png(path, *size)
        if not json_path.is_file():
            return builder.skip("frame without JSON", frame)
        listed = read_json(json_path, [])
    except InputError as error:
        return builder.skip(rule_name(error).split(",")[0], frame)
    seen = set(np.unique(ids).tolist())
    for key, item in listed.items():
        record = f"{frame}, object {key[:20]}"
        if not (key.isascii() and key.isdigit() and len(key) < 6) or not isinstance(item, Mapping):
            builder.skip("object without a whole-number id", record)
        elif is_crowd(item):
            builder.skip("crowd region", record)
        else:
            _add_object(builder, record, image_id, int(key), item, ids)
    for number in sorted(seen - {int(key) for key in listed if key.isascii() and key.isdigit() and len(key) < 6}):
        if number >= FIRST_THING:
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
