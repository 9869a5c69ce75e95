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
from sameo_core.datasets.files import check_records, parse_json
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
    stuff: Bool[np.ndarray, " n"]  # `isStuff`
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
    """Ground truth; visible masks are read only on request. Raises InputError, see `evaluate_amodal`."""
    if isinstance(source, AmodalDataset):
        return _objects_of(source)
    file, content = _read(source, "ground_truth")
    keys = list(content) if isinstance(content, dict) else []
    images, records, listed = (content.get(key) if keys else None for key in ("images", "annotations", "categories"))
    if not (isinstance(images, list) and isinstance(records, list) and isinstance(listed or [], list)):
        found = f"a {type(content).__name__}" + (f" with keys {keys}" if keys else "")
        rule = f"ground truth is a COCO dict with lists of images, annotations and perhaps categories, found {found}"
        raise InputError(file=file, rule=rule, remedy="Give ground truth first, predictions second")
    listed = listed or []
    check_records(file, images, "image", {"id": Integral | str, "height": Integral, "width": Integral})
    check_records(file, records, "annotation", {"image_id": Real | str})
    check_records(file, listed, "category", {"id": Integral | str})
    sizes = _places(file, [(image["id"], int(image["height"]), int(image["width"])) for image in images])

    def where(row: int) -> dict[str, str]:
        return {"file": file, "record": f"annotation {records[row].get('id', row)}"}

    places = _images_of(records, sizes, where)
    category = [record.get("category_id") for record in records]
    return Objects(
        sizes=sizes,
        image=np.array([place for place, _, _ in places], np.int64),
        category=category,
        categories=[entry["id"] for entry in listed] or category,
        crowd=np.array([_is_crowd(record, where(row)) for row, record in enumerate(records)], bool),
        amodal=_checked(records, "segmentation", places, where),
        visible=_checked(records, "visible_mask", places, where) if with_visible else [None] * len(records),
        stated_rate=[record.get("occlude_rate") for record in records],
        stuff=np.array([bool(record.get("isStuff")) for record in records], bool),
        ids=[record.get("id") for record in records],
        where=where,
    )


def read_found(source: Source, sizes: Sizes, with_visible: bool) -> Predictions:
    """Predictions; visible masks are read only on request. Raises InputError, see `evaluate_amodal`."""
    file, records = _read(source, "predictions")
    if not isinstance(records, list):
        keys = f" with keys {list(records)}" if isinstance(records, dict) else ""
        rule = f"predictions are a COCO results list, found a {type(records).__name__}{keys}"
        remedy = "Give the list alone, e.g. result['annotations'] of a COCO dict"
        raise InputError(file=file, rule=rule, remedy=remedy)
    check_records(file, records, "prediction", {"image_id": Real | str, "score": Real})

    def where(row: int) -> dict[str, str]:
        return {"file": file, "record": f"prediction {row}"}

    images = _images_of(records, sizes, where)
    score = np.array([record["score"] for record in records], np.float64)
    for row in np.flatnonzero(~np.isfinite(score)).tolist():
        rule = f"a score is a finite number, found {score[row]}"
        raise InputError(**where(row), rule=rule, remedy="Look for overflow in the model's output")
    return Predictions(
        image=np.array([place for place, _, _ in images], np.int64),
        category=[record.get("category_id") for record in records],
        score=score,
        predicted_iou=np.array([_number(record.get("predicted_iou")) for record in records], np.float64),
        amodal=_checked(records, "segmentation", images, where),
        visible=_checked(records, "visible_mask", images, where) if with_visible else [None] * len(records),
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
                ids = f"{known[:5]} ... {known[-1]}" if len(known) > 5 else str(known)
                rule = f"category id {category!r} is none of the ground truth's categories, {ids}"
                remedy = "Map the detector's classes to them (COCO's 80 classes are often counted 0..79), or evaluate "
                remedy += "with class_agnostic=True (class_aware=False in `evaluate`)"
                raise InputError(**records.where(row), rule=rule, remedy=remedy)
        columns.append(np.array([places[category] for category in records.category], np.int64))
    return Categories(len(known), *columns)


# ---------------------------------------------------------------------------------------------------- reading records


def _objects_of(dataset: AmodalDataset) -> Objects:
    """The objects of a data set, whose masks are checked already."""
    file, listed = f"{dataset.name} {dataset.split}", []
    sizes = _places(file, [(image.image_id, image.height, image.width) for image in dataset])
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


def _places(file: str, images: Sequence[tuple[Any, int, int]]) -> Sizes:
    """Images (id, height, width) numbered by ascending id; ids that are names come last."""
    in_order = sorted(images, key=lambda image: (isinstance(image[0], str), image[0]))
    sizes = {image_id: (place, height, width) for place, (image_id, height, width) in enumerate(in_order)}
    if len(sizes) != len(images):
        rule = f"an image id twice: {len(images)} images have {len(sizes)} ids"
        raise InputError(file=file, rule=rule, remedy="Number images afresh where data sets are joined")
    return sizes


def _images_of(records: list, sizes: Sizes, where: Where) -> list[tuple[int, int, int]]:
    """Index, height and width of each record's image."""
    for row, record in enumerate(records):
        if record["image_id"] not in sizes:
            ids = list(sizes)
            rule = f"image id {record['image_id']!r} is none of the ground truth's {len(ids)} images, e.g. {ids[:3]}"
            raise InputError(**where(row), rule=rule, remedy="Use the split that was predicted on")
    return [sizes[record["image_id"]] for record in records]


def _checked(records: list, key: str, images: list[tuple[int, int, int]], where: Where) -> Masks:
    """Masks as RLE of their images' size; pycocotools would silently compare masks of unequal size.

    None where a record has no visible mask.
    """
    masks, sizes = [record.get(key) for record in records], [(height, width) for _, height, width in images]
    for row in np.flatnonzero(~are_canonical_rles(masks, sizes)).tolist():
        if key == "visible_mask" and not isinstance(masks[row], np.ndarray) and not masks[row]:
            masks[row] = None
            continue
        try:
            masks[row] = segmentation_to_rle(masks[row], *sizes[row])
        except InputError as error:
            raise InputError(**where(row), rule=error.rule, remedy=error.remedy) from None
    return masks


def _is_crowd(record: dict, where: dict[str, str]) -> bool:
    if record.get("iscrowd") not in (0, 1, None, "0", "1"):
        rule = f"'iscrowd' is 0 or 1, found {record['iscrowd']!r}"
        raise InputError(**where, rule=rule, remedy="Write records of the COCO format")
    return is_crowd(record)


def _number(value: object) -> float:
    return float(value) if isinstance(value, Real) else math.nan
