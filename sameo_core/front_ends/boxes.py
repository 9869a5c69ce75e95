"""Boxes of photographs in a JSON file: a plain list, COCO results or COCO annotations."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from sameo_core.arrays import BoxesXYXY, Scores
from sameo_core.datasets.builder import is_crowd, is_int, shown
from sameo_core.datasets.files import check_records, parse_json
from sameo_core.errors import InputError
from sameo_core.front_ends.base import Detections, check_scores
from sameo_core.masks import RLE, mask_box, segmentation_to_rle
from sameo_core.model.boxes import boxes_in_pixels

Flags = Bool[np.ndarray, " n"]

TAKE_CROWDS = "Some tools (CVAT) set iscrowd for every mask: take them as objects with --crowds (crowds=True)"
LARGEST_ID = 2**53  # from here on JavaScript and many JSON readers round whole numbers


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a JSON file, for one photograph (a plain list) or for many (COCO); `read_box_file` makes it."""

    path: Path
    box_format: str | None  # as given; None: that of the kind of file
    plain: list | None  # [x0, y0, x1, y1] of one photograph; None for COCO
    records: Sequence[Mapping] = ()  # COCO: each with image_id, bbox or mask, and perhaps category_id, score
    images: Mapping[str, Mapping] = field(default_factory=dict)  # id as text -> id, file_name, perhaps height, width
    annotations: bool = False  # COCO annotations: images without objects are listed, too
    categories: Mapping[int, str] = field(default_factory=lambda: {1: "object"})
    crowds: bool = False  # crowd regions are taken as objects
    notes: tuple[str, ...] = ()  # what was left out

    def image_id(self, name: str, alone: bool = False) -> int | str | None:
        """The file's own id of the photograph called `name` (with ending); None if it is not in the file.

        COCO's images are named by `file_name`; in results without one, by an `image_id` that is the photograph's name,
        stem or `file_number`. If the photograph is `alone`, the only image of a file matches it, too.
        """
        names = {name, PurePosixPath(name).stem, str(number_of(name))}
        found = [image["id"] for image in self.images.values() if _base_name(image["file_name"]) in names]
        if len(found) > 1:
            rule = f"one image is called {name}, found {len(found)}"
            raise InputError(file=self.path, rule=rule, remedy="Make file names unique")
        if alone and len(self.images) == 1:
            found = [image["id"] for image in self.images.values()]
        return _whole(found[0]) if found else None

    def detections(self, name: str, image_size: tuple[int, int], alone: bool = False) -> Detections:
        """The boxes of the photograph called `name`; score and category default to 1.

        A photograph missing from COCO results has no boxes: a detector may have found nothing.

        Raises:
            InputError: see `boxes_in_pixels`; a plain list for more than one photograph; a photograph that is not among
                COCO annotations, or stands alone and is not among the results; sizes, scores, categories, boxes or
                masks that are wrong; nothing but crowd regions.
        """
        if self.plain is not None:
            if not alone:
                rule, remedy = "a plain list of boxes belongs to one photograph", "Give COCO, or a folder of lists"
                raise InputError(file=self.path, rule=rule, remedy=f"{remedy} named after the photographs")
            return Detections.of_boxes(boxes_in_pixels(self.plain, image_size, self.box_format, file=self.path))
        image_id = self.image_id(name, alone)
        if image_id is None and (self.annotations or alone):
            rule = f"no image here is called {name}"
            remedy = "Name the photograph as the file does, or give each record its file_name"
            raise InputError(file=self.path, rule=rule, remedy=remedy)
        where = f"image {image_id}"
        records = [] if image_id is None else self._records(image_id, image_size)
        records = [{"score": 1.0, "category_id": 1, **record} for record in records]
        check_records(self.path, records, f"{where}, box", {"score": Real, "category_id": int})
        boxes, boxed, _, scores = record_columns(self.path, records, f"{where}, box")
        boxes[boxed] = boxes_in_pixels(boxes[boxed], image_size, self.box_format, usual="xywh", file=self.path)
        for row in np.flatnonzero(~boxed):
            boxes[row] = mask_box(record_mask(records[row], image_size, self.path, where))
        categories = np.array([record["category_id"] for record in records], int)
        return Detections(boxes, scores, categories, np.full(len(records), -1))

    def _records(self, image_id: int | str, image_size: tuple[int, int]) -> list[Mapping]:
        """The objects of an image; InputError if it has another size than the file says, or only crowd regions."""
        stated = tuple(self.images[_key(image_id)].get(side) for side in ("height", "width"))
        record, remedy = f"image {image_id}", "Use the photograph that was annotated, at its size"
        if None not in stated and stated != image_size:
            if stated == image_size[::-1]:
                remedy = "It was annotated as stored, unrotated: remove its EXIF orientation, or turn the boxes"
            rule = f"its (height, width) is {stated}, the upright photograph's {image_size}"
            raise InputError(file=self.path, record=record, rule=rule, remedy=remedy)
        own = [record for record in self.records if _key(record["image_id"]) == _key(image_id)]
        objects = [record for record in own if self.crowds or not is_crowd(record)]
        if own and not objects:
            rule = f"all its {len(own)} annotations are crowd regions (iscrowd 1)"
            raise InputError(file=self.path, record=record, rule=rule, remedy=TAKE_CROWDS)
        return objects


def read_box_file(path: str | Path, box_format: str | None = None, crowds: bool = False) -> BoxFile:
    """Boxes from JSON: a list of [x0, y0, x1, y1], COCO results (`bbox` as x, y, width, height) or COCO annotations.

    A record whose `bbox` is missing or without area gets the box of its `segmentation`.

    Args:
        path: of the file.
        box_format: one of `BOX_FORMATS`, if boxes are not as above; see `boxes_in_pixels`.
        crowds: take crowd regions (`iscrowd` 1) as objects; else they are left out and counted in `notes`.

    Raises:
        InputError: no such file, not JSON, or none of the three kinds; annotations of other images only.
    """
    path, image_ids = Path(path), {"image_id": int | float | str}
    data = parse_json(path)
    if isinstance(data, list) and not (data and all(isinstance(item, dict) for item in data)):
        return BoxFile(path, box_format, data)
    if isinstance(data, list):
        check_records(path, data, "result", image_ids)
        named = ((_key(r["image_id"]), r) for r in data)
        images = {key: {"id": r["image_id"], "file_name": r.get("file_name", key)} for key, r in named}
        ids = sorted({r["category_id"] for r in data if is_int(r.get("category_id"))} | {1})
        categories = {i: f"category {i}" if i != 1 else "object" for i in ids}
        return BoxFile(path, box_format, None, data, images, False, categories)
    found = f"the keys {', '.join(data)}" if isinstance(data, dict) else type(data).__name__
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        rule = f"boxes are a list, or COCO annotations with images and annotations, found {found}"
        raise InputError(file=path, rule=rule, remedy="Give [[x0, y0, x1, y1], ...], COCO results or COCO annotations")
    records, listed = data["annotations"], data.get("categories") or []
    check_records(path, data["images"], "image", {"id": int | float | str, "file_name": str})
    check_records(path, listed, "category", {"id": int, "name": str})
    check_records(path, records, "annotation", image_ids)
    images = {_key(image["id"]): image for image in data["images"]}
    categories = {category["id"]: category["name"] for category in listed} or {1: "object"}
    notes = _notes(path, records, images, crowds)
    return BoxFile(path, box_format, None, records, images, True, categories, crowds, notes)


def _notes(path: Path, records: Sequence[Mapping], images: Mapping[str, Mapping], crowds: bool) -> tuple[str, ...]:
    """The annotations that are left out. InputError where none belongs to an image of the file."""
    astray = [record for record in records if _key(record["image_id"]) not in images]
    if astray and len(astray) == len(records):
        ids = ", ".join(repr(image["id"]) for image in [*images.values()][:3]) or "none"
        rule = f"no annotation is of an image in it: image_id {shown(astray[0]['image_id'], repr)}, but the images are "
        raise InputError(file=path, rule=rule + ids, remedy="Make image_id the id of the annotation's image")
    crowd = [] if crowds else [record for record in records if is_crowd(record)]
    reasons = {
        "belong to images that it does not list, and are left out": len(astray),
        f"are crowd regions, and left out. {TAKE_CROWDS}": len(crowd),
    }
    return tuple(f"{path}: {count} of {len(records)} annotations {why}" for why, count in reasons.items() if count)


# ---------------------------------------------------------------------------------------------- names and numbers


def number_of(name: str) -> int:
    """An image id below `LARGEST_ID` for a photograph without one: its `file_number`, else a checksum of its name."""
    number = file_number(name)
    return number if number is not None and number < LARGEST_ID else zlib.crc32(name.encode()) >> 1


def file_number(name: str) -> int | None:
    """The number in a file's name: 139 for 000000000139.jpg and COCO_val2014_000000000139.jpg."""
    number = re.fullmatch(r"(?:COCO_\w+_)?(\d{1,30})", PurePosixPath(name).stem)
    return int(number[1]) if number else None


def _whole(image_id: int | float | str) -> int | str:
    if isinstance(image_id, float):
        return int(image_id) if image_id.is_integer() else str(image_id)
    return image_id


def _key(image_id: int | float | str) -> str:
    """An image's id as text: 7, 7.0 and "7" are equal."""
    return str(_whole(image_id)).strip()


def _base_name(file_name: object) -> str:
    return PurePosixPath(str(file_name).replace("\\", "/")).name


# ---------------------------------------------------------------------------------------------- COCO's records


class Columns(NamedTuple):
    """COCO records as columns."""

    boxes: BoxesXYXY  # `bbox` as written, zeros without one
    boxed: Flags  # the `bbox` is valid
    masked: Flags  # there is a `segmentation`
    scores: Scores


def record_columns(file: str | Path, records: Sequence[Mapping], kind: str) -> Columns:
    """The columns of COCO records that have scores.

    Some tools write an empty box, or one without area, beside a mask: it is not valid.

    Raises:
        InputError: a record with neither a box nor a mask; a box that is not 4 finite numbers; a score outside 0..1.
    """
    scores = check_scores(np.array([record["score"] for record in records], np.float32), file)
    boxes, boxed, masked = np.zeros((len(records), 4), np.float32), np.zeros(len(records), bool), list[bool]()
    for row, record in enumerate(records):
        box, mask = record.get("bbox"), record.get("segmentation")
        masked.append(mask is not None and not (isinstance(mask, list | tuple | dict | str) and not mask))
        try:
            numbers = np.array([] if box is None else box, np.float32)
        except (TypeError, ValueError):
            numbers = np.full(1, np.nan)
        if masked[row] and numbers.size == 0:
            continue
        if numbers.shape != (4,) or not np.isfinite(numbers).all():
            rule = "a bbox is 4 finite numbers" if box is not None else "a record has a bbox or a segmentation"
            remedy = "Give [x, y, width, height] in pixels"
            raise InputError(file=file, record=f"{kind} {row}", rule=f"{rule}, found {box!r}"[:200], remedy=remedy)
        boxes[row], boxed[row] = numbers, not (masked[row] and numbers[2:].min() <= 0)
    return Columns(boxes, boxed, np.array(masked, bool), scores)


def record_mask(record: Mapping, image_size: tuple[int, int], file: str | Path, where: str) -> RLE:
    """A record's `segmentation`, in any encoding. InputError, with file and record, if it is invalid."""
    try:
        return segmentation_to_rle(record["segmentation"], *image_size)
    except InputError as error:
        raise InputError(file=file, record=where, rule=error.rule, remedy=error.remedy) from error
