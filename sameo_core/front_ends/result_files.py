"""Detections of a whole data set that another toolbox wrote down as COCO results: read once, checked, then a front-end.

mmdetection, detectron2, ultralytics and most others write such files: a list of records with `image_id`,
`category_id`, `bbox` (x, y, width, height in pixels), `score` and, where they find masks, `segmentation`. What does not
fit the data set is told in a sentence and never converted by a guess.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
from jaxtyping import Bool, Int, Shaped
from tqdm import tqdm

from sameo_core.arrays import BoxesXYXY, Scores
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.datasets.files import check_records, parse_json
from sameo_core.errors import InputError
from sameo_core.front_ends.base import (
    COCO80_TO_91,
    COCO_IDS,
    CategoryMap,
    Detections,
    check_limits,
    check_scores,
    counted,
    map_categories,
)
from sameo_core.front_ends.boxes import has_box, has_mask
from sameo_core.masks import RLE, mask_area, mask_box, segmentation_to_rle
from sameo_core.model.boxes import BOX_FORMATS, as_xyxy, fits_image, looks_normalised, usable

MOST_LEAVE = 0.1  # share of a detector's boxes that may leave their image; more, and the numbers mean something else
MOST_FIT = 0.99  # share of boxes that fit in another reading, for that reading to be named


@dataclass(frozen=True)
class ResultsFile:
    """A front-end that looks up what was detected in an image; `coco_results` makes it."""

    file: str
    detections: Detections  # of all images, one image after the other, highest scores first
    rows: Mapping[int, slice]  # image id -> its detections
    left_out: Mapping[str, int]  # why -> records

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


@dataclass(frozen=True)
class _Table:
    """Records of a results file, a row each."""

    number: Int[np.ndarray, " n"]  # in the file, from 0
    record: Shaped[np.ndarray, " n"]  # as in the file
    image: Int[np.ndarray, " n"]  # its number in the data set; -1: the data set does not have it
    score: Scores
    box: BoxesXYXY  # zeros where the record has none
    has_box: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: Shaped[np.ndarray, " _"]) -> "_Table":
        return _Table(**{name: column[rows] for name, column in vars(self).items()})


def coco_results(
    results: str | Path | Sequence[Mapping],
    dataset: AmodalDataset,
    *,
    category_map: CategoryMap | None = None,
    class_agnostic: bool = False,
    box_format: str | None = None,
    min_score: float | int = 0.0,
    max_per_image: int = 100,
) -> ResultsFile:
    """A front-end of the detections in a COCO-results file, any toolbox's; images that it does not mention have none.

    A `segmentation` (in any encoding) becomes the detection's mask, and its box where the `bbox` is missing or without
    area. Results for more images than the data set has are fine: the others are left out, and `repr` says how many. An
    `image_id` that is text must be the name of one image's file, with or without folder and ending, or its id.

    Args:
        results: path of the JSON file, or its list.
        dataset: what the detector ran on; says which images, sizes and categories there are.
        category_map: {the file's id: the data set's id, or None to leave it out}, or "coco80_to_91" for COCO's 80
            classes counted from 0. By default the ids are the data set's own. Each must be one of them; ids that are
            meant otherwise but all happen to be there cannot be recognised.
        class_agnostic: categories play no part: `category_id` is neither needed nor checked.
        box_format: one of `boxes.BOX_FORMATS`, where the boxes are not x, y, width, height.
        min_score: weaker ones are left out.
        max_per_image: the strongest that are kept; by default as many as COCO's AP counts.

    Raises:
        InputError: no list of results; a record without image, category, score, or both box and mask; masks in some
            records only; image ids, categories, boxes or masks that do not fit the data set; scores outside 0..1;
            limits as `check_limits`.
    """
    check_limits(min_score, max_per_image)
    file, records = _read(results)
    table, has_masks = _parse(file, records, dataset, class_agnostic)
    left_out = {"of other images": int((table.image < 0).sum())}
    table = table.take(table.image >= 0)
    sizes = np.array([(image.height, image.width) for image in dataset], int).reshape(-1, 2)[table.image]
    table.box[table.has_box] = _in_pixels(file, table.box[table.has_box], sizes[table.has_box], box_format)
    given = [record.get("category_id") for record in table.record]
    categories = np.array([i if isinstance(i, Integral) else 1 for i in given], int)
    wanted = kept = np.ones(len(table), bool)
    if not class_agnostic:
        categories, wanted = _categories(file, categories, category_map, dataset)

    for why, bad in {
        "of categories that the map leaves out": ~wanted,
        "below the least score": table.score < min_score,
        "with a box that has no area in its image": table.has_box & ~usable(table.box, sizes),
    }.items():
        left_out[why] = int((kept & bad).sum())
        kept = kept & ~bad
    order = np.lexsort((-table.score, table.image))
    order = order[kept[order]]
    rank = np.arange(len(order)) - np.searchsorted(table.image[order], table.image[order])
    left_out["beyond the strongest of their image"] = int((rank >= max_per_image).sum())
    order = order[rank < max_per_image]
    table, categories, sizes = table.take(order), categories[order], sizes[order]

    masks: tuple[RLE, ...] | None = None
    if has_masks:
        rles = _masks(file, table, sizes)
        full = table.has_box.copy()
        for row in np.flatnonzero(~full):
            full[row] = mask_area(rles[row]) > 0
        left_out["with neither a box nor a pixel"] = int((~full).sum())
        masks = tuple(mask for mask, good in zip(rles, full, strict=True) if good)
        table, categories = table.take(full), categories[full]
        for row in np.flatnonzero(~table.has_box):
            table.box[row] = mask_box(masks[row])
    ends = np.searchsorted(table.image, np.arange(len(dataset) + 1)).tolist()
    rows = {image.image_id: slice(*ends[i : i + 2]) for i, image in enumerate(dataset)}
    return ResultsFile(
        file, Detections(table.box, table.score, categories, np.full(len(table), -1), masks), rows, left_out
    )


def _read(results: str | Path | Sequence[Mapping]) -> tuple[str, list]:
    """What to call the results, and their list."""
    file, content = "results", cast(object, results)
    if isinstance(results, str | Path):
        file, content = str(results), parse_json(Path(results))
    if isinstance(content, Mapping) and "annotations" in content:
        rule = "these are COCO annotations; results are a list of records with a score"
        raise InputError(file=file, rule=rule, remedy="For annotated boxes use ground_truth_boxes(), or give results")
    if not isinstance(content, Sequence):
        rule = f"COCO results are a list, found {type(content).__name__}"
        raise InputError(file=file, rule=rule, remedy="Give [{image_id, category_id, bbox, score}, ...]")
    return file, list(content)


def _parse(file: str, records: list, dataset: AmodalDataset, class_agnostic: bool) -> tuple[_Table, bool]:
    """The records as columns, boxes as they are written; and whether they have masks."""
    needed = {"image_id": Integral | str, "score": Real} | ({} if class_agnostic else {"category_id": Integral})
    check_records(file, records, "result", needed)
    scores = check_scores(np.array([record["score"] for record in records], np.float32), file)
    boxed = np.array([has_box(record) for record in records], bool)
    masked = np.array([has_mask(record) for record in records], bool)
    for bad, rule in (
        (~boxed & ~masked, "a result has a bbox or a segmentation, found neither"),
        (masked.any() & ~masked, "all results have a segmentation or none, found some"),
    ):
        if bad.any():
            record, rule = f"result {np.flatnonzero(bad)[0]}", f"{rule}; {bad.sum():,} of {len(bad):,} lack it"
            raise InputError(file=file, record=record, rule=rule, remedy="Write the results again, all in one way")
    boxes = np.zeros((len(records), 4), np.float32)
    for row in np.flatnonzero(boxed):
        boxes[row] = _four_numbers(file, int(row), records[row]["bbox"])
    column = np.empty(len(records), object)
    column[:] = records
    images = _image_numbers(file, records, dataset)
    return _Table(np.arange(len(records)), column, images, scores, boxes, boxed), bool(masked.any())


def _four_numbers(file: str, row: int, box: object) -> np.ndarray:
    try:
        numbers = np.array(box, np.float32)
    except (TypeError, ValueError):
        numbers = np.zeros(0, np.float32)
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        rule = f"a bbox is 4 finite numbers, found {box!r}"[:200]
        raise InputError(file=file, record=f"result {row}", rule=rule, remedy="Give [x, y, width, height] in pixels")
    return numbers


# ---------------------------------------------------------------------------------------------------- which image


def _image_numbers(file: str, records: list, dataset: AmodalDataset) -> Int[np.ndarray, " n"]:
    """The number of each record's image in the data set, -1 for images that it does not have."""
    names = [(image.image_id, PurePosixPath(image.file_name)) for image in dataset]
    place: dict[int | str, int] = {image_id: number for number, (image_id, _) in enumerate(names)}
    given = Counter(record["image_id"] for record in records)
    if any(isinstance(image_id, str) for image_id in given):
        called = Counter(name for _, path in names for name in {str(path), path.name, path.stem})
        for number, (_, path) in enumerate(names):
            place |= {name: number for name in {str(path), path.name, path.stem} if called[name] == 1}
        place |= {str(i): number for number, (i, _) in enumerate(names) if str(i) not in called}
    unknown = Counter({image_id: times for image_id, times in given.items() if image_id not in place})
    if unknown:
        _check_unknown(file, given, unknown, names, dataset)
    return np.array([place.get(record["image_id"], -1) for record in records], int)


def _check_unknown(
    file: str, given: Counter, unknown: Counter, names: list[tuple[int, PurePosixPath]], dataset: AmodalDataset
) -> None:
    """Refuses unknown image ids, unless they are just those of further images."""
    stems = {digits[-1] for _, path in names if (digits := re.findall(r"\d+", path.stem))}
    numbers, ids = {int(digits) for digits in stems}, {image_id for image_id, _ in names}
    several = Counter({i: n for i, n in unknown.items() if any(i in (path.name, path.stem) for _, path in names)})
    if len(given.keys() & numbers) > len(given.keys() & ids):
        rule = f"the image ids are the numbers in the file names, not the data set's: found {counted(given)}"
        remedy = "Replace each by the image_id of the image whose file name has that number"
    elif several:
        rule = f"text as image_id is the name of one image's file, several are called {counted(several)}"
        remedy = "Write the file names with their folders, or the data set's own ids"
    elif len(unknown) == len(given):
        rule = f"no image of the data set is among these results: found {counted(unknown)}"
        remedy = "Give the results for this data set and split, with its image ids or file names"
    else:
        return
    example = f"{names[0][0]} for {names[0][1]}" if names else "none at all"
    raise InputError(file=file, rule=f"{rule}; {dataset.name} {dataset.split} has ids like {example}", remedy=remedy)


# ---------------------------------------------------------------------------------------------------- which category


def _categories(
    file: str, ids: Int[np.ndarray, " n"], category_map: CategoryMap | None, dataset: AmodalDataset
) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """`map_categories`, and all that are kept are the data set's."""
    mapped, kept = map_categories(ids, category_map, file)
    unknown = Counter(i for i in mapped[kept].tolist() if i not in dataset.categories)
    if not unknown:
        return mapped, kept
    rule = f"the data set has no category {counted(unknown)}"
    remedy = "Map them with category_map={the file's id: the data set's id, or None to leave it out}"
    known = sorted(dataset.categories)
    for meant, said, wanted in (
        (dict(enumerate(COCO_IDS)), "COCO's 80 classes counted from 0", repr(COCO80_TO_91)),
        (
            dict(enumerate(known)),
            "the data set's categories counted from 0",
            "dict(enumerate(sorted(dataset.categories)))",
        ),
        (
            dict(enumerate(known, 1)),
            "the data set's categories counted from 1",
            "dict(enumerate(sorted(dataset.categories), 1))",
        ),
    ):
        if category_map is None and all(meant.get(i) in dataset.categories for i in set(ids.tolist())):
            rule += f"; these ids look like {said}"
            remedy = f"If so, say category_map={wanted}"
            break
    raise InputError(file=file, rule=rule, remedy=f"{remedy}; or class_agnostic=True, where classes play no part")


# ---------------------------------------------------------------------------------------------------- which pixels


def _in_pixels(file: str, boxes: BoxesXYXY, sizes: Int[np.ndarray, "n 2"], box_format: str | None) -> BoxesXYXY:
    """Boxes as xyxy pixels; refused where many cannot be what they are supposed to be, unless somebody said so."""
    if box_format not in (None, *BOX_FORMATS):
        rule = f"a box format is one of {', '.join(BOX_FORMATS)}, found {box_format!r}"
        raise InputError(file="box_format", rule=rule, remedy="Give one of these, or leave it out")
    if box_format is not None:  # taken at its word
        return as_xyxy(boxes, box_format, sizes)
    fits = fits_image(boxes, "xywh", sizes)
    if looks_normalised(boxes, sizes):
        rule, remedy = "boxes are in pixels, found nothing but numbers in 0..1", 'box_format="normalised"'
        raise InputError(
            file=file, rule=rule, remedy=f"If they are x0, y0, x1, y1 as shares of the sides, say {remedy}"
        )
    if (~fits).sum() > MOST_LEAVE * len(boxes):
        row = np.flatnonzero(~fits)[0]
        height, width = sizes[row]
        rule = (
            f"boxes are x, y, width, height in their images, but {(~fits).sum():,} of {len(boxes):,} are not inside, "
        )
        rule += f"e.g. {boxes[row].tolist()} in one {width} wide and {height} high"
        remedy = "Write them in pixels of the original images, not of resized ones"
        if fits_image(boxes, "xyxy", sizes).mean() >= MOST_FIT:
            rule += "; as x0, y0, x1, y1 they are"
            remedy = 'If they are that, say box_format="xyxy"'
        raise InputError(file=file, rule=rule, remedy=f'{remedy}. If they may reach so far, say box_format="xywh"')
    return as_xyxy(boxes, "xywh", sizes)


def _masks(file: str, table: _Table, sizes: Int[np.ndarray, "n 2"]) -> list[RLE]:
    masks = []
    for i in tqdm(range(len(table)), desc=f"masks of {Path(file).name}", unit="mask", delay=2):
        try:
            masks.append(segmentation_to_rle(table.record[i]["segmentation"], *sizes[i].tolist()))
        except InputError as error:
            record = f"result {table.number[i]}"
            raise InputError(file=file, record=record, rule=error.rule, remedy=error.remedy) from error
    return masks
