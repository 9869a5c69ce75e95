"""COCO results of a data set, as most detection toolboxes write them, as a front-end: read and checked once.

A results file is a list of records with `image_id`, `category_id`, `bbox` (x, y, width, height in pixels), `score` and,
with masks, `segmentation`. Results that do not fit the data set are refused, never converted by guessing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from sameo_core.arrays import BoxesXYXY, Scores
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.datasets.files import check_records, parse_json
from sameo_core.errors import InputError
from sameo_core.front_ends.base import CategoryMap, Detections, check_limits, counted, map_categories
from sameo_core.front_ends.boxes import Columns, Flags, file_number, record_columns, record_mask
from sameo_core.masks import RLE, mask_area, mask_box
from sameo_core.model.boxes import as_xyxy, check_format, check_plausible, usable

Rows = Int[np.ndarray, " _"]
Sizes = Int[np.ndarray, "n 2"]
MOST_OUTSIDE = 0.1  # share of a detector's boxes that may leave their image; with more, the format is another one


@dataclass(frozen=True)
class ResultsFile:
    """A front-end that looks up an image's detections; `coco_results` makes it."""

    file: str
    detections: Detections  # of all images, one image after the other, highest scores first
    rows: Mapping[int, slice]  # image id -> its detections
    left_out: Mapping[str, int]  # reason -> number of records

    def __call__(self, image: AmodalImage) -> Detections:
        """Its detections, instance ids -1; none where the file has none. InputError for an image of another set."""
        if image.image_id not in self.rows:
            rule, remedy = "these results were read for another data set", "Read them again for the one in use"
            raise InputError(file=self.file, record=f"image {image.image_id}", rule=rule, remedy=remedy)
        return self.detections.take(self.rows[image.image_id])

    def __repr__(self) -> str:
        found = sum(rows.stop > rows.start for rows in self.rows.values())
        text = f"{self.file}: {len(self.detections.boxes):,} detections in {found:,} of {len(self.rows):,} images"
        left_out = ", ".join(f"{records:,} {why}" for why, records in self.left_out.items() if records)
        return text + (f"; left out: {left_out}" if left_out else "")


def coco_results(
    results: str | Path | Sequence[Mapping],
    dataset: AmodalDataset,
    *,
    category_map: CategoryMap | None = None,
    class_agnostic: bool = False,
    box_format: str | None = None,
    max_per_image: int = 100,
) -> ResultsFile:
    """A front-end of the detections in a COCO-results file; images that it does not mention have none.

    A `segmentation` (in any encoding) becomes the detection's mask, and its box where `bbox` is missing or without
    area. Records of other images are left out; `repr` counts them. A text `image_id` must be an image's id or file
    name, with or without folder and ending.

    Args:
        results: path of the JSON file, or its list.
        category_map: {the file's id: the data set's id, or None to leave it out}, or "coco80_to_91" for COCO's 80
            classes counted from 0. By default ids are the data set's; others are noticed only if it lacks one.
        class_agnostic: `category_id` is neither needed nor checked.
        box_format: one of `BOX_FORMATS`, for boxes other than x, y, width, height.
        max_per_image: the strongest are kept; by default as many as COCO's AP counts.

    Raises:
        InputError: no list of results; incomplete records; masks in some records only; image ids, categories, boxes or
            masks that do not fit the data set; scores outside 0..1; bad limits.
    """
    check_limits(max_per_image=max_per_image)
    check_format(box_format)
    file, records, (boxes, boxed, masked, scores) = _read(results, class_agnostic)
    images = _image_numbers(file, records, dataset)
    sizes = np.array([(image.height, image.width) for image in dataset], int).reshape(-1, 2)[images]
    known = images >= 0
    given = known & boxed
    if box_format is None:
        check_plausible(boxes[given], sizes[given], "xywh", file, MOST_OUTSIDE)
    boxes[given] = as_xyxy(boxes[given], box_format or "xywh", sizes[given])
    categories, wanted = _categories(file, records, known, category_map, class_agnostic, dataset)
    dropped = {
        "of other images": ~known,
        "of categories that the map leaves out": ~wanted,
        "with a box that has no area in its image": boxed & ~usable(boxes, sizes),
    }
    rows, left_out = _strongest(images, scores, max_per_image, dropped)
    rows, masks = _masks(records, rows, sizes, boxes, boxed, file, left_out) if masked.any() else (rows, None)
    ends = np.searchsorted(images[rows], np.arange(len(dataset) + 1)).tolist()
    places = {image.image_id: slice(*ends[i : i + 2]) for i, image in enumerate(dataset)}
    found = Detections(boxes[rows], scores[rows], categories[rows], np.full(len(rows), -1), masks)
    return ResultsFile(file, found, places, left_out)


def _read(results: str | Path | Sequence[Mapping], class_agnostic: bool) -> tuple[str, list, Columns]:
    """The results' name for errors, their records, and these as columns."""
    file, content = "results", cast(object, results)
    if isinstance(results, str | Path):
        file, content = str(results), parse_json(Path(results))
    if not isinstance(content, Sequence):
        rule = f"COCO results are a list, found {type(content).__name__}"
        remedy = "Give [{image_id, category_id, bbox, score}, ...]; for annotated boxes use ground_truth_boxes()"
        raise InputError(file=file, rule=rule, remedy=remedy)
    records = list(content)
    needed = {"image_id": Integral | str, "score": Real} | ({} if class_agnostic else {"category_id": Integral})
    check_records(file, records, "result", needed)
    columns = record_columns(file, records, "result")
    lacking = np.flatnonzero(~columns.masked)
    if columns.masked.any() and len(lacking):
        rule = f"all results have a segmentation or none, found some; {len(lacking):,} of {len(records):,} lack it"
        remedy = "Write the results again, all in one way"
        raise InputError(file=file, record=f"result {lacking[0]}", rule=rule, remedy=remedy)
    return file, records, columns


def _strongest(images: Rows, scores: Scores, most: int, dropped: Mapping[str, Any]) -> tuple[Rows, dict[str, int]]:
    """The rows that are not `dropped`, by image and score, at most `most` per image; reason -> number of the others."""
    rows, left_out = np.arange(len(images)), {}
    for why, bad in dropped.items():
        left_out[why] = int(bad[rows].sum())
        rows = rows[~bad[rows]]
    rows = rows[np.lexsort((-scores[rows], images[rows]))]
    rank = np.arange(len(rows)) - np.searchsorted(images[rows], images[rows])
    left_out["beyond the strongest of their image"] = int((rank >= most).sum())
    return rows[rank < most], left_out


def _masks(
    records: list, rows: Rows, sizes: Sizes, boxes: BoxesXYXY, boxed: Flags, file: str, left_out: dict[str, int]
) -> tuple[Rows, tuple[RLE, ...]]:
    """The rows with a box or a mask that is not empty, and their masks; fills in missing boxes."""
    bar = tqdm(rows.tolist(), desc=f"masks of {Path(file).name}", unit="mask", delay=2)
    rles = {row: record_mask(records[row], tuple(sizes[row].tolist()), file, f"result {row}") for row in bar}
    full = np.array([boxed[row] or mask_area(rle) > 0 for row, rle in rles.items()], bool)
    left_out["with neither a box nor a pixel"] = int((~full).sum())
    rows = rows[full]
    for row in rows[~boxed[rows]].tolist():
        boxes[row] = mask_box(rles[row])
    return rows, tuple(rles[row] for row in rows.tolist())


def _image_numbers(file: str, records: list, dataset: AmodalDataset) -> Rows:
    """The index of each record's image in the data set, -1 for other images."""
    called: dict[int | str, set[int]] = {}  # id, file name with and without folder and ending -> images
    for number, image in enumerate(dataset):
        path = PurePosixPath(image.file_name)
        for name in (image.image_id, str(image.image_id), str(path), path.name, path.stem):
            called.setdefault(name, set()).add(number)
    given = Counter(record["image_id"] for record in records)
    unknown = Counter({image_id: times for image_id, times in given.items() if image_id not in called})
    several = Counter({image_id: times for image_id, times in given.items() if len(called.get(image_id, ())) > 1})
    ids = {image.image_id: image.file_name for image in dataset}
    numbers = {file_number(file_name) for file_name in ids.values()}
    if several:
        rule = f"a text image_id is the name of one image's file, several are called {counted(several)}"
        remedy = "Write the file names with their folders, or the data set's own ids"
    elif unknown and len(given.keys() & numbers) > len(given.keys() & ids.keys()):
        rule = f"the image ids are the numbers in the file names, not the data set's: found {counted(given)}"
        remedy = "Replace each by the image_id of the image whose file name has that number"
    elif unknown and len(unknown) == len(given):
        rule = f"no image of the data set is among these results: found {counted(unknown)}"
        remedy = "Give the results for this data set and split, with its image ids or file names"
    else:
        return np.array([min(called.get(record["image_id"], {-1})) for record in records], int)
    example = next((f"{image_id} for {name}" for image_id, name in ids.items()), "none at all")
    raise InputError(file=file, rule=f"{rule}; {dataset.name} {dataset.split} has ids like {example}", remedy=remedy)


def _categories(
    file: str,
    records: list,
    ours: Flags,
    category_map: CategoryMap | None,
    class_agnostic: bool,
    dataset: AmodalDataset,
) -> tuple[Int[np.ndarray, " n"], Flags]:
    """`map_categories` for the data set's images; InputError for ids that the data set does not have."""
    ids = [record.get("category_id") for record in records]
    categories = np.array([i if isinstance(i, Integral) else 1 for i in ids], int)
    wanted = np.ones(len(records), bool)
    if class_agnostic:
        return categories, wanted
    categories[ours], wanted[ours] = map_categories(categories[ours], category_map, file)
    unknown = Counter(i for i in categories[ours & wanted].tolist() if i not in dataset.categories)
    if unknown:
        rule = f"the data set has no category {counted(unknown)}; its ids are like {sorted(dataset.categories)[:5]}"
        remedy = "Give category_map='coco80_to_91' if COCO's 80 classes are counted from 0, else {the file's id: the "
        remedy += "data set's id, or None to leave it out}; or class_agnostic=True, to ignore classes"
        raise InputError(file=file, rule=rule, remedy=remedy)
    return categories, wanted
