"""Boxes of photographs in a JSON file: a plain list, COCO results or COCO annotations."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path, PurePosixPath

import numpy as np

from sameo_core.datasets.builder import is_crowd, is_int, shown
from sameo_core.datasets.files import check_records, parse_json
from sameo_core.errors import InputError
from sameo_core.front_ends.base import Detections, check_scores
from sameo_core.masks import RLE, mask_box, segmentation_to_rle
from sameo_core.model.boxes import boxes_in_pixels

TAKE_CROWDS = "Some tools (CVAT) set iscrowd for every mask: take them as objects with --crowds (crowds=True)"
LARGEST_ID = 2**53  # from here on JavaScript, and with it many a reader of JSON, rounds whole numbers


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a JSON file, for one photograph (a plain list) or for many (COCO); `read_box_file` makes it."""

    path: Path
    box_format: str | None  # what the person said; None: as the kind of file has it
    boxes: list | None  # a plain list of [x0, y0, x1, y1]; None for COCO
    records: Sequence[Mapping] = ()  # COCO: each with image_id, bbox or mask, and perhaps category_id, score
    images: Sequence[Mapping] = ()  # COCO annotations: each with id, file_name and perhaps height, width
    categories: Mapping[int, str] = field(default_factory=lambda: {1: "object"})
    crowds: bool = False  # crowd regions are taken as objects
    notes: tuple[str, ...] = ()  # what was left out, or taken to be meant

    def image_id(self, name: str, alone: bool = False) -> int | str | None:
        """The file's own id of the photograph called `name` (with ending); None if it is not in the file.

        COCO annotations name their images. A COCO result belongs to the photograph that its `file_name` names; without
        one, to that whose name, stem or `file_number` is its `image_id`. The single image of a file also matches a
        photograph that stands `alone`, whatever its name.
        """
        number = file_number(name)
        names = {name} if self.images else {name, PurePosixPath(name).stem, name if number is None else str(number)}
        known: dict[str, int | str] = {}
        found = []
        for record in self.images or self.records:
            image_id = record["id" if self.images else "image_id"]
            key, image_id = _key(image_id), int(image_id) if isinstance(image_id, float) else image_id
            called = PurePosixPath(str(record["file_name"]).replace("\\", "/")).name if "file_name" in record else key
            if key not in known and called in names:
                found.append(image_id)
            known.setdefault(key, image_id)
        if len(found) > 1:
            rule = f"one image is called {name}, found {len(found)}"
            raise InputError(file=self.path, rule=rule, remedy="Make file names unique")
        return found[0] if found else next(iter(known.values())) if alone and len(known) == 1 else None

    def detections(self, name: str, image_size: tuple[int, int], alone: bool = False) -> Detections:
        """The boxes of the photograph called `name`; score and category default to 1.

        A photograph that COCO results do not mention has no boxes: a detector may have found nothing.

        Raises:
            InputError: see `boxes_in_pixels`; a plain list for more than one photograph; a photograph that is not among
                COCO annotations, or stands alone and is not among the results; sizes, scores, categories or masks that
                are wrong; nothing but crowd regions.
        """
        if self.boxes is not None:
            if not alone:
                rule, remedy = "a plain list of boxes belongs to one photograph", "Give COCO, or a folder of lists"
                raise InputError(file=self.path, rule=rule, remedy=f"{remedy} named after the photographs")
            return Detections.of_boxes(boxes_in_pixels(self.boxes, image_size, self.box_format, file=self.path))
        image_id = self.image_id(name, alone)
        if image_id is None and (self.images or alone):
            rule = f"no image here is called {name}"
            remedy = "Name the photograph as the file does, or give each record its file_name"
            raise InputError(file=self.path, rule=rule, remedy=remedy)
        self._check_image_size(image_id, image_size)
        own = [] if image_id is None else [r for r in self.records if _key(r["image_id"]) == _key(image_id)]
        mine = [record for record in own if self.crowds or not is_crowd(record)]
        if own and not mine:
            rule = f"all its {len(own)} annotations are crowd regions (iscrowd 1)"
            raise InputError(file=self.path, record=f"image {image_id}", rule=rule, remedy=TAKE_CROWDS)
        where, boxed = f"image {image_id}", np.array([has_box(record) for record in mine], bool)
        boxes = np.zeros((len(mine), 4), np.float32)
        listed = [record["bbox"] for record in mine if has_box(record)]
        boxes[boxed] = boxes_in_pixels(listed, image_size, self.box_format, usual="xywh", file=self.path)
        for row in np.flatnonzero(~boxed):
            boxes[row] = mask_box(record_mask(mine[row], image_size, self.path, where))
        scores, categories = [r.get("score", 1.0) for r in mine], [r.get("category_id", 1) for r in mine]
        for score, category in zip(scores, categories, strict=True):
            if not isinstance(score, Real) or not is_int(category):
                rule = f"a score in 0..1 and a whole number as category_id, found {score!r} and {category!r}"
                raise InputError(file=self.path, record=f"a box of {where}", rule=rule, remedy="Correct the record")
        checked = check_scores(np.array(scores, np.float32), f"{self.path}, {where}")
        return Detections(boxes, checked, np.array(categories, int), np.full(len(mine), -1))

    def _check_image_size(self, image_id: int | str | None, image_size: tuple[int, int]) -> None:
        for image in self.images:
            stated = (image.get("height"), image.get("width"))
            if _key(image["id"]) == _key(image_id) and None not in stated and stated != image_size:
                rule = f"its (height, width) is {stated}, the upright photograph's {image_size}"
                remedy = "Use the photograph that was annotated, at its size"
                if stated == image_size[::-1]:
                    remedy = "It was annotated as stored, unrotated: remove its EXIF orientation, or turn the boxes"
                raise InputError(file=self.path, record=f"image {image_id}", rule=rule, remedy=remedy)


def read_box_file(path: str | Path, box_format: str | None = None, crowds: bool = False) -> BoxFile:
    """Boxes from JSON: a list of [x0, y0, x1, y1], COCO results (`bbox` as x, y, width, height) or COCO annotations.

    A record without `bbox`, or with one without area, gets that of its `segmentation`.

    Args:
        path: of the file.
        box_format: one of `BOX_FORMATS`, for other boxes than these; see `boxes_in_pixels`.
        crowds: take crowd regions (`iscrowd` 1) as objects; else they are left out and counted in `notes`.

    Raises:
        InputError: no such file, not JSON, or none of the three kinds; annotations of other images only.
    """
    path = Path(path)
    data = parse_json(path)
    remedy = "Give [[x0, y0, x1, y1], ...], COCO results or COCO annotations"
    if isinstance(data, dict):
        parts = [data.get(key) for key in ("images", "annotations", "categories")]
        if not (isinstance(parts[0], list) and isinstance(parts[1], list)):
            rule = f"an object here is COCO annotations with images and annotations, found the keys {', '.join(data)}"
            raise InputError(file=path, rule=rule, remedy=remedy)
        images, records, categories = (part if isinstance(part, list) else [] for part in parts)
        check_records(path, images, "image", {"id": int | float | str, "file_name": str})
        check_records(path, categories, "category", {"id": int, "name": str})
        _check_boxes(path, records, "annotation")
        named = {category["id"]: category["name"] for category in categories}
        notes = _notes(path, records, {_key(image["id"]): image["id"] for image in images}, crowds)
        return BoxFile(path, box_format, None, records, images, named or {1: "object"}, crowds, notes)
    if not isinstance(data, list):
        raise InputError(file=path, rule=f"boxes are a list, found {type(data).__name__}", remedy=remedy)
    if data and all(isinstance(item, dict) for item in data):
        _check_boxes(path, data, "result")
        ids = sorted({r["category_id"] for r in data if is_int(r.get("category_id"))} | {1})
        named = {i: f"category {i}" if i != 1 else "object" for i in ids}
        return BoxFile(path, box_format, None, data, categories=named)
    return BoxFile(path, box_format, data)


def number_of(name: str) -> int:
    """An image id below `LARGEST_ID` for a photograph without one: its `file_number`, else a checksum of its name."""
    number = file_number(name)
    return number if number is not None and number < LARGEST_ID else zlib.crc32(name.encode()) >> 1


def file_number(name: str) -> int | None:
    """The number that a file is named by: 139 for 000000000139.jpg and COCO_val2014_000000000139.jpg."""
    number = re.fullmatch(r"(?:COCO_\w+_)?(\d{1,30})", PurePosixPath(name).stem)
    return int(number[1]) if number else None


def has_mask(record: Mapping) -> bool:
    """Whether a record has a `segmentation` that is not empty."""
    mask = record.get("segmentation")
    return mask is not None and not (isinstance(mask, list | tuple | dict | str) and not mask)


def has_box(record: Mapping) -> bool:
    """Whether a record's `bbox` counts: beside a mask, some tools write [] or zeros."""
    box = record.get("bbox")
    if box is None or not has_mask(record):
        return box is not None
    try:
        return len(box) > 0 and not (len(box) == 4 and min(box[2:]) <= 0)
    except (TypeError, ValueError):  # not a box, which its reader refuses
        return True


def record_mask(record: Mapping, image_size: tuple[int, int], file: str | Path, where: str) -> RLE:
    """A record's `segmentation`, in any encoding. InputError, with file and record, where it is none."""
    try:
        return segmentation_to_rle(record["segmentation"], *image_size)
    except InputError as error:
        raise InputError(file=file, record=where, rule=error.rule, remedy=error.remedy) from error


def _check_boxes(path: Path, records: Sequence, kind: str) -> None:
    check_records(path, records, kind, {"image_id": int | float | str})
    boxes = [{"bbox": []} if has_mask(record) and not has_box(record) else record for record in records]
    check_records(path, boxes, kind, {"bbox": list})


def _key(image_id: object) -> str:
    """An image's id as text: 7, 7.0 and "7" are one."""
    return str(int(image_id) if isinstance(image_id, float) and image_id.is_integer() else image_id).strip()


def _notes(path: Path, records: Sequence[Mapping], images: Mapping[str, object], crowds: bool) -> tuple[str, ...]:
    """What is to be said of annotations. InputError where none belongs to an image of the file."""
    astray = [record for record in records if _key(record["image_id"]) not in images]
    otherwise = [r for r in records if images.get(_key(r["image_id"]), r["image_id"]) != r["image_id"]]
    crowd = [] if crowds else [record for record in records if is_crowd(record)]
    if astray and len(astray) == len(records):
        rule = f"no annotation is of an image in it: image_id {shown(astray[0]['image_id'], repr)}, but the images are "
        rule += ", ".join(map(repr, list(images.values())[:3])) or "none"
        raise InputError(file=path, rule=rule, remedy="Make image_id the id of the annotation's image")
    kinds = {
        "are of images that it does not list, and left out": astray,
        "have their image's id as another type, and are taken as its own": otherwise,
        f"are crowd regions, and left out. {TAKE_CROWDS}": crowd,
    }
    return tuple(
        f"{path}: {len(found)} of {len(records)} annotations (first {shown(found[0].get('id'))}) {what}"
        for what, found in kinds.items()
        if found
    )
