"""Boxes that somebody wrote down, in a list or a JSON file: read as what they are, or refused in a sentence."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from sameo_core import BoxesXYXY
from sameo_core.datasets.builder import is_int
from sameo_core.datasets.files import parse_json
from sameo_core.errors import InputError
from sameo_core.front_ends import Detections, Sizes, as_array, usable
from sameo_core.masks import xywh_to_xyxy

LARGEST_ID = 2**53  # from here on JavaScript, and with it many a reader of JSON, rounds whole numbers
BOX_FORMATS = ("xyxy", "xywh", "normalised")  # pixels; x, y, width, height in pixels; xyxy as shares of the picture


def boxes_in_pixels(
    boxes: ArrayLike,
    image_size: tuple[int, int],
    box_format: str | None = None,
    *,
    usual: str = "xyxy",
    file: str | Path = "boxes",
) -> BoxesXYXY:
    """Boxes somebody wrote down, as xyxy pixels of the upright picture; doubtful ones are refused, never converted.

    Args:
        boxes: "n 4", or nothing at all.
        image_size: (height, width) of the picture.
        box_format: one of `BOX_FORMATS`: then they are taken as that. None: as `usual`, unless they cannot be that and
            would fit as another (xywh instead of xyxy or the reverse, or all numbers in 0..1).
        usual: what the source is supposed to hold.
        file: what to call the boxes in errors.

    Raises:
        InputError: unknown format; not n x 4 finite numbers; boxes that look like another format; a box without area,
            or outside the picture.
    """
    if box_format not in (None, *BOX_FORMATS):
        rule = f"a box format is one of {', '.join(BOX_FORMATS)}, found {box_format!r}"
        raise InputError(file="box_format", rule=rule, remedy="Give one of these, or leave it out")
    try:
        array = as_array(boxes, np.float32)
    except (TypeError, ValueError) as error:
        rule = f"boxes are lists of 4 numbers, found {boxes!r}"[:200]
        raise InputError(file=file, rule=rule, remedy="Give [[x0, y0, x1, y1], ...]") from error
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        found = f"{array.shape}" if np.isfinite(array).all() else "NaN or infinity"
        remedy = "Give [[x0, y0, x1, y1], ...], the outer brackets also for one box"
        raise InputError(file=file, rule=f"boxes are n lists of 4 finite numbers, found {found}", remedy=remedy)
    height, width = image_size
    if box_format is None:
        _check_plausible(array, image_size, usual, file)
    form = box_format or usual
    if form == "normalised" and array.max() > 2:
        rule = f"normalised boxes are shares 0..1 of the picture, found {array.max():g}"
        raise InputError(file=file, rule=rule, remedy="These look like pixels: leave the box format out")
    array = as_xyxy(array, form, image_size)
    bad = np.flatnonzero(~usable(array, image_size))
    if len(bad):
        rule = f"a box has x0 < x1 and y0 < y1 and meets the picture, {width} wide and {height} high upright; found "
        rule += f"{np.round(array[bad[0]], 2).tolist()} (x0, y0, x1, y1)"
        remedy = f"Correct or drop it; boxes are pixels of the upright picture. Were they read rightly, as {form}?"
        raise InputError(file=file, record=f"box {bad[0]}", rule=rule, remedy=remedy)
    return array


def _check_plausible(boxes: BoxesXYXY, image_size: tuple[int, int], usual: str, file: str | Path) -> None:
    """Refuses boxes that cannot well be what they are supposed to be and would fit as something else."""
    height, width = image_size
    if looks_normalised(boxes, image_size):
        rule = f"boxes are pixels of a picture {width} wide and {height} high, found nothing but numbers in 0..1"
        remedy = 'If they are shares of its sides, say so: box_format="normalised" (--box-format normalised)'
        raise InputError(file=file, rule=rule, remedy=remedy)
    other = "xywh" if usual == "xyxy" else "xyxy"
    fits = {form: fits_image(boxes, form, image_size) for form in (usual, other)}
    if not fits[usual].all() and fits[other].all():
        i = int(np.flatnonzero(~fits[usual])[0])
        rule = f"boxes here are {usual}, but {boxes[i].tolist()} does not fit so into the picture, {width} wide and "
        rule += f"{height} high; as {other} all {len(boxes)} do"
        remedy = f'Say which they are: box_format="{other}" or "{usual}" (--box-format)'
        raise InputError(file=file, record=f"box {i}", rule=rule, remedy=remedy)


def as_xyxy(boxes: BoxesXYXY, box_format: str, image_sizes: Sizes) -> BoxesXYXY:
    """Boxes of one of `BOX_FORMATS` as xyxy pixels."""
    if box_format == "xywh":
        return xywh_to_xyxy(boxes)
    if box_format == "normalised":
        return boxes * np.asarray(image_sizes, np.float32)[..., [1, 0, 1, 0]]
    return boxes


def fits_image(boxes: BoxesXYXY, box_format: str, image_sizes: Sizes) -> Bool[np.ndarray, " n"]:
    """Which boxes, read as one of `BOX_FORMATS`, have an area and leave the picture by no more than a pixel."""
    boxes, limits = as_xyxy(boxes, box_format, image_sizes), np.asarray(image_sizes)[..., ::-1] + 1
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.all((low < high) & (low >= -1) & (high <= limits), axis=1)


def looks_normalised(boxes: BoxesXYXY, image_sizes: Sizes) -> bool:
    """Whether all numbers are in 0..1, which is hardly a pixel's."""
    return bool(len(boxes) > 0 and boxes.min() >= 0 and boxes.max() <= 1 and np.min(image_sizes) > 1)


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a JSON file, for one photograph (a plain list) or for many (COCO)."""

    path: Path
    box_format: str | None  # what the person said; None: as the kind of file has it
    boxes: list | None  # a plain list of [x0, y0, x1, y1]; None for COCO
    records: Sequence[Mapping] = ()  # COCO: each with image_id, bbox and perhaps category_id, score
    images: Sequence[Mapping] = ()  # COCO annotations: each with id, file_name and perhaps height, width
    categories: Mapping[int, str] = field(default_factory=lambda: {1: "object"})

    def image_id(self, name: str, alone: bool = False) -> int | str | None:
        """The file's own id of the photograph called `name` (with ending); None where it is not found in here.

        COCO annotations are searched by file name. COCO results have none: theirs is the record's `file_name` if it is
        there, else an id that is the name without ending, or its number (000000000139.jpg, COCO_val2014_...139.jpg).
        A photograph that stands `alone` may be called otherwise in a file that knows one image only.
        """
        stem, number = PurePosixPath(name).stem, re.fullmatch(r"(?:COCO_\w+_)?(\d+)", PurePosixPath(name).stem)
        names = {name, stem} | ({str(int(number[1]))} if number else set())
        if self.images:
            found = [image["id"] for image in self.images if _base_name(image) == name]
            known = [image["id"] for image in self.images]
        else:
            called = {r["image_id"]: _base_name(r) if "file_name" in r else str(r["image_id"]) for r in self.records}
            found = [image_id for image_id, called_so in called.items() if called_so in names]
            known = list(called)
        if len(found) > 1:
            rule = f"one image is called {name}, found {len(found)}"
            raise InputError(file=self.path, rule=rule, remedy="Make file names unique")
        return found[0] if found else known[0] if alone and len(known) == 1 else None

    def detections(self, name: str, image_size: tuple[int, int], alone: bool = False) -> Detections:
        """The boxes of the photograph called `name`; score 1 and category 1 where none is said.

        A photograph that COCO results do not mention has no boxes: a detector may have found nothing.

        Raises:
            InputError: see `boxes_in_pixels`; a plain list for more than one photograph; a photograph that is not among
                COCO annotations, or stands alone and is not among the results; sizes, scores or categories that are
                wrong.
        """
        if self.boxes is not None:
            if not alone:
                rule, remedy = "a plain list of boxes belongs to one photograph", "Give COCO, or a folder of lists"
                raise InputError(file=self.path, rule=rule, remedy=f"{remedy} named after the photographs")
            boxes = boxes_in_pixels(self.boxes, image_size, self.box_format, file=self.path)
            return _detections(boxes, [1.0] * len(boxes), [1] * len(boxes))
        image_id = self.image_id(name, alone)
        if image_id is None and (self.images or alone):
            rule = f"no image here is called {name}"
            remedy = "Name the photograph as the file does, or give each record its file_name"
            raise InputError(file=self.path, rule=rule, remedy=remedy)
        self._check_image_size(image_id, image_size)
        mine = [record for record in self.records if record["image_id"] == image_id and not record.get("iscrowd")]
        listed = [record["bbox"] for record in mine]
        boxes = boxes_in_pixels(listed, image_size, self.box_format, usual="xywh", file=self.path)
        scores, categories = [r.get("score", 1.0) for r in mine], [r.get("category_id", 1) for r in mine]
        for record, score, category in zip(mine, scores, categories, strict=True):
            good = isinstance(score, int | float) and 0 <= score <= 1 and is_int(category)
            rule = f"a score in 0..1 and a whole number as category_id, found {score!r} and {category!r}"
            if not good:
                where = f"a box of image {record['image_id']}"
                raise InputError(file=self.path, record=where, rule=rule, remedy="Correct the record")
        return _detections(boxes, scores, categories)

    def _check_image_size(self, image_id: int | str | None, image_size: tuple[int, int]) -> None:
        for image in self.images:
            stated = (image.get("height"), image.get("width"))
            if image["id"] == image_id and None not in stated and stated != image_size:
                rule = f"its (height, width) is {stated}, the upright photograph's {image_size}"
                remedy = "Use the photograph that was annotated, at its size"
                if stated == image_size[::-1]:
                    remedy = "It was annotated as stored, unrotated: remove its EXIF orientation, or turn the boxes"
                raise InputError(file=self.path, record=f"image {image_id}", rule=rule, remedy=remedy)


def read_box_file(path: str | Path, box_format: str | None = None) -> BoxFile:
    """Boxes from JSON: a list of [x0, y0, x1, y1], COCO results (`bbox` as x, y, width, height) or COCO annotations.

    Args:
        path: of the file.
        box_format: one of `BOX_FORMATS` for boxes that are written otherwise; see `boxes_in_pixels`.

    Raises:
        InputError: no such file, not JSON, or none of the three kinds.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(file=path, rule="the file of boxes must exist", remedy="Check the path")
    data = parse_json(path)
    remedy = "Give [[x0, y0, x1, y1], ...], COCO results or COCO annotations"
    if isinstance(data, dict):
        parts = [data.get(key) for key in ("images", "annotations", "categories")]
        if not (isinstance(parts[0], list) and isinstance(parts[1], list)):
            rule = f"an object here is COCO annotations with images and annotations, found the keys {', '.join(data)}"
            raise InputError(file=path, rule=rule, remedy=remedy)
        images, records, categories = (part if isinstance(part, list) else [] for part in parts)
        check_records(path, images, "image", {"id": int | str, "file_name": str})
        check_records(path, categories, "category", {"id": int, "name": str})
        check_records(path, records, "annotation", {"image_id": int | str, "bbox": list})
        named = {category["id"]: category["name"] for category in categories}
        return BoxFile(path, box_format, None, records, images, named or {1: "object"})
    if not isinstance(data, list):
        raise InputError(file=path, rule=f"boxes are a list, found {type(data).__name__}", remedy=remedy)
    if data and all(isinstance(item, dict) for item in data):
        check_records(path, data, "result", {"image_id": int | str, "bbox": list})
        ids = sorted({r["category_id"] for r in data if is_int(r.get("category_id"))} | {1})
        return BoxFile(
            path, box_format, None, data, categories={i: f"category {i}" if i != 1 else "object" for i in ids}
        )
    return BoxFile(path, box_format, data)


def number_of(name: str) -> int:
    """A whole number for a photograph that has none: that in its name if it is one, else one made of the name.

    It is less than `LARGEST_ID`.
    """
    number = re.fullmatch(r"(?:COCO_\w+_)?(\d{1,16})", PurePosixPath(name).stem)
    named = number is not None and int(number[1]) < LARGEST_ID
    return int(number[1]) if number and named else zlib.crc32(name.encode()) >> 1


def check_records(path: str | Path, records: Sequence[object], kind: str, wanted: Mapping[str, Any]) -> None:
    """Raises InputError for the first of some JSON records that lacks a key, or holds another type under it."""
    for i, record in enumerate(records):
        for key, form in wanted.items():
            value = record.get(key) if isinstance(record, Mapping) else None
            if not isinstance(value, form):
                rule = f"needs {key} ({getattr(form, '__name__', form)}), found {value!r}"[:200]
                raise InputError(file=path, record=f"{kind} {i}", rule=rule, remedy="Correct the record")


def _base_name(record: Mapping) -> str:
    return PurePosixPath(str(record["file_name"]).replace("\\", "/")).name


def _detections(boxes: BoxesXYXY, scores: Sequence[float | int], categories: Sequence[int]) -> Detections:
    ids = np.array(categories, int)
    return Detections(boxes, np.array(scores, np.float32), ids, np.full(len(boxes), -1))
