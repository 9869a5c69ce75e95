"""Ground truth and predictions as columns, checked for all that would silently falsify a metric."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sameo_core.datasets import AmodalDataset
from sameo_core.datasets.builder import is_crowd
from sameo_core.datasets.files import parse_json
from sameo_core.errors import InputError
from sameo_core.masks import are_canonical_rles, segmentation_to_rle

Source = dict | list | str | Path  # JSON as Python objects, or a file of it
Truth = Source | AmodalDataset
Sizes = Mapping[Any, tuple[int, int, int]]  # image id -> index, height, width
Masks = list  # of RLE, or None
Where = Callable[[int], dict[str, str]]  # row -> file and record, for errors


@dataclass(frozen=True)
class Objects:
    """Ground truth, one row per object in file order."""

    sizes: Sizes  # images are indexed by ascending id, as in COCOeval
    image: Int64[np.ndarray, " n"]  # index
    category: list  # as found: `known_categories` checks it for class-aware numbers
    categories: list  # ids of the categories, as found
    crowd: Bool[np.ndarray, " n"]
    amodal: Masks
    visible: Masks  # None where the record has none
    stated_rate: list  # `occlude_rate` as found
    stuff: Bool[np.ndarray, " n"] | None  # None if no record has `isStuff`
    ids: list  # of the records
    where: Where


@dataclass(frozen=True)
class Predictions:
    """Predictions, one row per detection in file order."""

    image: Int64[np.ndarray, " n"]  # index, as in `Objects.sizes`
    category: list  # as found
    score: Float64[np.ndarray, " n"]
    predicted_iou: Float64[np.ndarray, " n"]  # NaN where the record has none
    amodal: Masks
    visible: Masks  # None where the record has none
    instance: list  # `instance_id` as found; None where the record has none
    where: Where


def read_objects(source: Truth, with_visible: bool) -> Objects:
    """Ground truth of a COCO dict, of a file of one, or of a data set; visible masks are read only on request.

    Raises:
        InputError: see `evaluate_amodal`.
    """
    if isinstance(source, AmodalDataset):
        return _objects_of(source)
    file, content = _read(source, "ground_truth")
    sizes = _image_sizes(content, file)
    records = content["annotations"]

    def where(row: int) -> dict[str, str]:
        record = records[row]
        named = isinstance(record, dict) and "id" in record
        return {"file": file, "record": f"annotation {record['id']}" if named else f"annotations[{row}]"}

    images = _images_of(records, ("image_id", "segmentation"), sizes, where, "annotations[{}]")
    category = [record.get("category_id") for record in records]
    listed = content.get("categories") or []
    if not isinstance(listed, list):
        rule = f"categories are a list of records, found a {type(listed).__name__}"
        raise InputError(file=file, rule=rule, remedy="Write records of the COCO format")
    for row, entry in enumerate(listed):
        _check_keys(entry, ("id",), {"file": file, "record": f"categories[{row}]"})
    categories = [entry["id"] for entry in listed]
    stuff = [record.get("isStuff") for record in records]
    return Objects(
        sizes=sizes,
        image=np.array([place for place, _, _ in images], np.int64),
        category=category,
        categories=categories or category,
        crowd=np.array([_is_crowd(record, where(row)) for row, record in enumerate(records)], bool),
        amodal=_checked([record["segmentation"] for record in records], images, where),
        visible=_checked_visible(records, images, where) if with_visible else [None] * len(records),
        stated_rate=[record.get("occlude_rate") for record in records],
        stuff=None if all(flag is None for flag in stuff) else np.array([bool(flag) for flag in stuff], bool),
        ids=[record.get("id") for record in records],
        where=where,
    )


def read_found(source: Source, sizes: Sizes, with_visible: bool) -> Predictions:
    """Predictions of a COCO results list, or of a file of one; visible masks are read only on request.

    Raises:
        InputError: see `evaluate_amodal`.
    """
    file, records = _read(source, "predictions")
    if not isinstance(records, list):
        keys = f" with keys {list(records)}" if isinstance(records, dict) else ""
        rule = f"predictions are a COCO results list, found a {type(records).__name__}{keys}"
        remedy = "Give the list alone, e.g. result['annotations'] of a COCO dict"
        raise InputError(file=file, rule=rule, remedy=remedy)

    def where(row: int) -> dict[str, str]:
        return {"file": file, "record": f"prediction {row}"}

    images = _images_of(records, ("image_id", "segmentation", "score"), sizes, where, "prediction {}")
    scores = [record["score"] for record in records]
    for row, score in enumerate(scores):
        if not isinstance(score, Real) or not math.isfinite(score):
            rule = f"a score is a finite number, found {score!r}"
            raise InputError(**where(row), rule=rule, remedy="Look for overflow in the model's output")
    return Predictions(
        image=np.array([place for place, _, _ in images], np.int64),
        category=[record.get("category_id") for record in records],
        score=np.array(scores, np.float64),
        predicted_iou=np.array([_number(record.get("predicted_iou")) for record in records], np.float64),
        amodal=_checked([record["segmentation"] for record in records], images, where),
        visible=_checked_visible(records, images, where) if with_visible else [None] * len(records),
        instance=[record.get("instance_id") for record in records],
        where=where,
    )


def category_places(
    objects: Objects, found: Predictions
) -> tuple[Int64[np.ndarray, " objects"], Int64[np.ndarray, " found"]]:
    """Rank of each record's category among all ids: COCOeval breaks score ties by it, even with useCats=0.

    Ids that are not whole numbers count as 0.
    """
    columns = [[c if isinstance(c, Integral) else 0 for c in column] for column in (objects.category, found.category)]
    places = {category: place for place, category in enumerate(sorted({c for column in columns for c in column}))}
    of_objects, of_found = (np.array([places[c] for c in column], np.int64) for column in columns)
    return of_objects, of_found


class Categories(NamedTuple):
    """For class-aware numbers; rows in file order."""

    number: int
    of_objects: Int64[np.ndarray, " objects"]  # index among the ground truth's categories
    of_found: Int64[np.ndarray, " detections"]


def known_categories(objects: Objects, found: Predictions) -> Categories:
    """The number of categories in the ground truth, and each record's index among them.

    Raises:
        InputError: a record of another category. pycocotools silently drops those: the classic AP 0.
    """
    known = sorted({c for c in objects.categories if isinstance(c, Integral)})
    places = {category: place for place, category in enumerate(known)}
    columns = []
    for records in (objects, found):
        for row, category in enumerate(records.category):
            if not isinstance(category, Integral) or category not in places:
                raise _unknown_category(records, row, known)
        columns.append(np.array([places[category] for category in records.category], np.int64))
    return Categories(len(known), *columns)


def _unknown_category(records: Objects | Predictions, row: int, known: list) -> InputError:
    ours = {c for c in records.category if isinstance(c, Integral)}
    used, there = (f"{min(ids)}..{max(ids)} ({len(ids)} ids)" if ids else "no ids" for ids in (ours, known))
    rule = f"category id {records.category[row]!r} is none of the ground truth's categories; here category ids are "
    rule += f"{used}, the ground truth's categories {there}"
    remedy = "Map the detector's classes to the ids under 'categories' (for COCO's 80 classes, detectors often say "
    remedy += "0..79, files 1..90 with gaps), or evaluate with class_agnostic=True (class_aware=False in `evaluate`)"
    return InputError(**records.where(row), rule=rule, remedy=remedy)


# ---------------------------------------------------------------------------------------------------- reading records


def _objects_of(dataset: AmodalDataset) -> Objects:
    """The objects of a data set, whose masks are checked already."""
    file, listed = f"{dataset.name} {dataset.split}", []
    sizes = _places({image.image_id: (image.height, image.width) for image in dataset})
    if len(sizes) != len(dataset):
        rule = f"an image id twice: {len(dataset)} images have {len(sizes)} ids"
        raise InputError(file=file, rule=rule, remedy="Number images afresh where data sets are joined")
    for image in dataset:
        place = sizes[image.image_id][0]
        listed += [(place, instance) for instance in image.instances]
    instances = [instance for _, instance in listed]
    if any(instance.amodal_rle is None for instance in instances):
        rule = "no amodal masks: this data set (LVIS, LV-VIS) has visible masks only"
        raise InputError(file=file, rule=rule, remedy="Evaluate on a data set with amodal masks")
    categories = [instance.category_id for instance in instances]
    return Objects(
        sizes=sizes,
        image=np.array([place for place, _ in listed], np.int64),
        category=categories,
        categories=list(dataset.categories) or categories,
        crowd=np.zeros(len(listed), bool),
        amodal=[instance.amodal_rle for instance in instances],
        visible=[instance.visible_rle for instance in instances],
        stated_rate=[None] * len(listed),
        stuff=np.array([instance.is_stuff for instance in instances], bool),
        ids=[instance.instance_id for instance in instances],
        where=lambda row: {"file": file, "record": f"instance {instances[row].instance_id}"},
    )


def _read(source: Source, name: str) -> tuple[str, Any]:
    """The name of a source for errors, and its content."""
    if not isinstance(source, str | Path):
        return name, source
    return str(source), parse_json(Path(source))


def _check_keys(record: Any, keys: Sequence[str], where: dict[str, str]) -> None:
    if missing := [key for key in keys if not isinstance(record, dict) or key not in record]:
        found = f"the keys {list(record)}" if isinstance(record, dict) else repr(record)
        rule = f"lacks {', '.join(map(repr, missing))}, found {found}"
        raise InputError(**where, rule=rule, remedy="Write records of the COCO format")


def _image_sizes(content: Any, file: str) -> Sizes:
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        found = f"a dict with keys {list(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        rule = f"ground truth is a COCO dict with the lists 'images' and 'annotations', found {found}"
        raise InputError(file=file, rule=rule, remedy="Give ground truth first, predictions second")
    sizes = {}
    for index, image in enumerate(content["images"]):
        where = {"file": file, "record": f"images[{index}]"}
        _check_keys(image, ("id", "height", "width"), where)
        whole = all(isinstance(image[k], Integral) for k in ("height", "width"))
        if not isinstance(image["id"], Integral | str) or not whole:
            rule = f"an id is a number or a name, height and width whole numbers, found {image!r:.150}"
            raise InputError(**where, rule=rule, remedy="Write records of the COCO format")
        if image["id"] in sizes:
            rule = f"an earlier image has the id {image['id']} too"
            raise InputError(**where, rule=rule, remedy="Number images afresh where data sets are joined")
        sizes[image["id"]] = (int(image["height"]), int(image["width"]))
    return _places(sizes)


def _places(sizes: Mapping[Any, tuple[int, int]]) -> Sizes:
    try:
        ids = sorted(sizes)
    except TypeError:  # numbers and names
        ids = sorted(sizes, key=lambda image_id: (type(image_id).__name__, str(image_id)))
    return {image_id: (place, *sizes[image_id]) for place, image_id in enumerate(ids)}


def _images_of(
    records: list, keys: Sequence[str], sizes: Sizes, where: Where, place: str
) -> list[tuple[int, int, int]]:
    """Index, height and width of each record's image; checks that each record has the keys."""
    images, wanted = [], set(keys)
    for row, record in enumerate(records):
        if not isinstance(record, dict) or not wanted <= record.keys():
            _check_keys(record, keys, where(row) | {"record": place.format(row)})
        try:
            images.append(sizes[record["image_id"]])
        except (KeyError, TypeError):
            ids = list(sizes)
            rule = f"image id {record['image_id']!r} is none of the ground truth's {len(ids)} images, e.g. {ids[:3]}"
            raise InputError(**where(row), rule=rule, remedy="Use the split that was predicted on") from None
    return images


def _checked(segmentations: list, images: list[tuple[int, int, int]], where: Where) -> Masks:
    """Masks as RLE of their images' size; pycocotools would silently compare masks of unequal size."""
    sizes = [(height, width) for _, height, width in images]
    masks = list(segmentations)
    for row in np.flatnonzero(~are_canonical_rles(segmentations, sizes)).tolist():
        try:
            masks[row] = segmentation_to_rle(segmentations[row], *sizes[row])
        except InputError as error:
            raise InputError(**where(row), rule=error.rule, remedy=error.remedy) from None
    return masks


def _checked_visible(records: list, images: list[tuple[int, int, int]], where: Where) -> Masks:
    """As `_checked`; None where a record has no `visible_mask`."""
    given = [record.get("visible_mask") for record in records]
    rows = [row for row, mask in enumerate(given) if isinstance(mask, np.ndarray) or mask]
    given = [given[row] for row in rows]
    masks: Masks = [None] * len(records)
    for row, mask in zip(rows, _checked(given, [images[row] for row in rows], lambda i: where(rows[i])), strict=True):
        masks[row] = mask
    return masks


def _is_crowd(record: dict, where: dict[str, str]) -> bool:
    flag = record.get("iscrowd")
    if flag not in (0, 1, None, "0", "1"):
        rule = f"'iscrowd' is 0 or 1, found {flag!r}"
        raise InputError(**where, rule=rule, remedy="Write records of the COCO format")
    return is_crowd(record)


def _number(value: object) -> float:
    return float(value) if isinstance(value, Real) else math.nan
