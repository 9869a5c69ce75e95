"""The common part of COCO-like annotation formats: one record per object in a flat list, read on demand.

Opening needs only the file's index (see `json_index`). Rules about ids are applied then, to all records at once; the
other rules when an image's objects are accessed. A record with several faults counts under the first. Annotations
without a unique id (missing, not a whole number, or used by an earlier one) have new ids above the file's largest.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Int64

from sameo_core.datasets.base import AmodalImage, AmodalInstance, InstancesOnDemand, LazyImages
from sameo_core.datasets.builder import DatasetBuilder, is_crowd, own_file_name, shown, visible_or_fully
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.json_index import MISSING, Columns, JsonFile, JsonIndex, Table, index_json
from sameo_core.errors import InputError


@dataclass(frozen=True)
class CocoFormat:
    """How to read the records of a format."""

    amodal_key: str | None = "segmentation"  # None for a visible-only data set
    visible_key: str = "visible_mask"
    visible_required: bool = False  # skip all objects without visible mask; else those that are marked as occluded
    box_keys: tuple[str, ...] = ()  # keys of xywh boxes that, if present, must overlap the image
    image_keys: tuple[str, ...] = ()  # kept in `AmodalImage.extras`
    instance_keys: tuple[str, ...] = ()  # kept in `AmodalInstance.extras`
    file_name: Callable[[Mapping], str | None] = own_file_name  # of an image record, below the image folder
    nameless: str = "image without file name"  # the rule that an image without `file_name` breaks
    crowds: bool = False  # keep crowd regions as objects

    def described(self) -> str:
        """A text that is unique to the format; part of fingerprints, so it names an option of earlier versions."""
        return repr(asdict(self) | {"file_name": self.file_name.__qualname__, "depth_order": None})


def has_visible_mask(annotation: Mapping) -> bool:
    return annotation.get("visible_mask") is not None


def index_coco(path: Path, file_name: Callable[[Mapping], str | None] = own_file_name) -> JsonIndex:
    """The index of a file with images, annotations and categories. Raises InputError, see `index_json`."""
    return index_json(
        path,
        {
            "images": Columns(("id", "height", "width"), (file_name,)),
            "annotations": Columns(("id", "image_id"), (is_crowd, has_visible_mask)),
            "categories": Columns(),
        },
    )


def find_key(annotations: Table, candidates: Sequence[str], what: str, path: Path) -> str:
    """The first of `candidates` that any annotation has; `candidates[0]` if there are no annotations.

    Raises:
        InputError: no annotation has any of them; the error lists the keys found.
    """
    for candidate in candidates:
        if candidate in annotations.keys or not annotations.keys:
            return candidate
    raise InputError(
        file=path,
        rule=f"no key for {what} masks: looked for {', '.join(candidates)}; "
        f"the annotations have {', '.join(annotations.keys[:40])}",
        remedy="Use the files as distributed; if these are, add the key to the reader",
    )


def read_coco_files(
    name: str, root: Path, split: str, files: Sequence[tuple[JsonIndex, Path]], form: CocoFormat
) -> AmodalDataset:
    """One data set from one or several files.

    Ids are the file's own. If an earlier file has one of its image (annotation) ids, all image (annotation) ids of this
    file are shifted above the largest so far. A warning lists skipped and renumbered records.

    Args:
        files: from `index_coco`, each with the folder of its images.

    Raises:
        InputError: no object is left, or two names for one category.
    """
    first = files[0][0].path
    builder = DatasetBuilder(name, root, split, first)
    parts: list[_Part] = []
    skipped: dict[str, list[str]] = {}
    renumbered = 0
    for index, folder in files:
        builder.source, builder.label = index.path, f"{index.path.name}: " if len(files) > 1 else ""
        builder.add_categories(index.records("categories"))
        part, new_ids = _part(index, folder, replace(builder, skipped=skipped), parts, form)
        parts.append(part)
        renumbered += new_ids
    builder.source = first
    dataset = builder.finish(_RecordedImages(parts, form, skipped))
    told = [f"{len(records)} skipped: {rule} (first {records[0]})" for rule, records in skipped.items()]
    if renumbered:
        told.append(f"{renumbered} annotations without an id of their own have new ones")
    if told:
        warnings.warn(f"{first}: {'; '.join(told)}", stacklevel=4)  # points at the caller of load_dataset
    return dataset


# ------------------------------------------------------------------------------------------- decided at opening


@dataclass(frozen=True)
class _Part:
    """The usable images and annotations of one file."""

    index: JsonIndex
    folder: Path  # of its images
    builder: DatasetBuilder  # without records, with the file's label
    images: Int64[np.ndarray, " images"]  # their rows in the file
    image_ids: Int64[np.ndarray, " images"]
    starts: Int64[np.ndarray, " images+1"]  # image i has the annotations `rows[starts[i] : starts[i + 1]]`
    rows: Int64[np.ndarray, " objects"]
    instance_ids: Int64[np.ndarray, " objects"]


def _part(
    index: JsonIndex, folder: Path, builder: DatasetBuilder, earlier: Sequence[_Part], form: CocoFormat
) -> tuple[_Part, int]:
    """The part, and the number of annotations with new ids; unusable records are skipped in `builder`."""
    images = _usable_images(index, builder, form)
    image_ids = index.tables["images"]["id"][images]
    by_id = np.argsort(image_ids)
    rows, position = _usable_annotations(index, builder, image_ids[by_id], form.crowds)
    image = by_id[position]
    order = np.argsort(image, kind="stable")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(image, minlength=len(images)))])
    all_ids = index.tables["annotations"]["id"]
    ids = all_ids[rows]
    own = np.zeros(len(ids), bool)  # has an id that no earlier annotation has
    own[np.unique(ids, return_index=True)[1]] = True
    own &= ids != MISSING
    ids = np.where(own, ids, all_ids.max(initial=0) + np.cumsum(~own))
    ids += _shift(ids, [part.instance_ids for part in earlier])
    image_ids = image_ids + _shift(image_ids, [part.image_ids for part in earlier])
    about = index, folder, replace(builder, skipped={})
    return _Part(*about, images, image_ids, starts, rows[order], ids[order]), int((~own).sum())


def _usable_images(index: JsonIndex, builder: DatasetBuilder, form: CocoFormat) -> Int64[np.ndarray, " used"]:
    """Rows of the usable images; of several with the same id, the first usable one."""
    table = index.tables["images"]
    unnamed = ~table[form.file_name.__name__]
    without_id = table["id"] == MISSING
    unsized = (table["height"] <= 0) | (table["width"] <= 0)
    rows = np.flatnonzero(~(unnamed | without_id | unsized))
    again = np.zeros(len(table), bool)
    again[np.delete(rows, np.unique(table["id"][rows], return_index=True)[1])] = True
    rules = {
        form.nameless: unnamed,
        "image without a whole-number id": without_id,
        "image without height and width": unsized,
        "image id used twice": again,
    }
    return _skip_rows(index, builder, "image", rules)


def _usable_annotations(
    index: JsonIndex, builder: DatasetBuilder, image_ids: Int64[np.ndarray, " images"], crowds: bool
) -> tuple[Int64[np.ndarray, " used"], Int64[np.ndarray, " used"]]:
    """Rows of the usable annotations, and the position of their image in `image_ids` (ascending)."""
    table = index.tables["annotations"]
    position = np.searchsorted(image_ids, table["image_id"])
    known = (table["image_id"] != MISSING) & (np.append(image_ids, MISSING)[position] == table["image_id"])
    rules = {
        "crowd region": table["is_crowd"] & (not crowds),
        "annotation without image": ~known,
    }
    rows = _skip_rows(index, builder, "annotation", rules)
    return rows, position[rows]


def _skip_rows(
    index: JsonIndex, builder: DatasetBuilder, kind: str, rules: Mapping[str, np.ndarray]
) -> Int64[np.ndarray, " used"]:
    """Skip each row that breaks a rule, under the first rule it breaks; return the other rows."""
    ids = index.tables[f"{kind}s"]["id"]
    codes = np.select(list(rules.values()), list(range(1, len(rules) + 1)), 0)
    for row in np.flatnonzero(codes).tolist():
        name = str(ids[row])
        if ids[row] == MISSING:
            record = index.record(f"{kind}s", row)
            name = shown(record.get("id")) if isinstance(record, Mapping) else f"number {row + 1}"
        builder.skip(list(rules)[codes[row] - 1], f"{kind} {name}")
    return np.flatnonzero(codes == 0)


def _shift(ids: Int64[np.ndarray, " n"], earlier: Sequence[Int64[np.ndarray, " _"]]) -> int:
    """The number to add to a file's ids so that no earlier file has them; 0 if none collide."""
    taken = np.concatenate([*earlier, np.zeros(0, np.int64)])
    return int(taken.max()) + 1 - int(ids.min()) if np.isin(ids, taken).any() else 0


# ------------------------------------------------------------------------------------------- read on demand


class _RecordedImages(LazyImages):
    """The images of one or several files; records are read on access, annotations after images."""

    def __init__(self, parts: Sequence[_Part], form: CocoFormat, skipped: dict[str, list[str]]):
        super().__init__(skipped)
        self.parts, self.form = parts, form
        self.ends = np.cumsum([len(part.images) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def occupied(self) -> Int64[np.ndarray, " some"]:
        """Indices of the images that have annotations, ascending."""
        return np.flatnonzero(np.concatenate([np.diff(part.starts) for part in self.parts]))

    def contents(self) -> str:
        return repr([(part.index.sha256, str(part.folder), self.form.described()) for part in self.parts])

    def _make(self, number: int) -> AmodalImage:
        at = int(np.searchsorted(self.ends, number, side="right"))
        part = self.parts[at]
        number -= int(self.ends[at]) - len(part.images)
        record = part.index.record("images", int(part.images[number]))
        image_id, height, width = int(part.image_ids[number]), record["height"], record["width"]
        objects = slice(*part.starts[number : number + 2].tolist())
        rows = part.rows[objects]
        instances: tuple[AmodalInstance, ...] | InstancesOnDemand = ()
        if len(rows):
            table = part.index.tables["annotations"]
            places = list(zip(table["offset"][rows].tolist(), table["length"][rows].tolist(), strict=True))
            ids = part.instance_ids[objects].tolist()
            read = partial(_read_annotations, part.index.file, places, image_id, ids, self.form)
            instances = part.builder.instances_on_demand(image_id, height, width, read)
        name = cast(str, self.form.file_name(record))  # images without one are skipped
        extras = {key: record[key] for key in self.form.image_keys if key in record}
        return AmodalImage(image_id, name, part.folder / name, height, width, instances, extras=extras)


def _read_annotations(
    file: JsonFile,
    places: list[tuple[int, int]],
    image_id: int,
    instance_ids: list[int],
    form: CocoFormat,
    builder: DatasetBuilder,
) -> None:
    """Add the objects of one image."""
    for annotation, instance_id in zip(file.read(places), instance_ids, strict=True):
        record = f"annotation {shown(annotation.get('id'))}"
        visible = _visible(annotation, form)
        if visible is None:
            rule = "annotation without visible mask" if form.visible_required else "occluded but without visible mask"
            builder.skip(rule, record)
            continue
        amodal = annotation.get(form.amodal_key) if form.amodal_key else None
        builder.add_instance(
            record,
            image_id=image_id,
            instance_id=instance_id,
            category_id=annotation.get("category_id"),
            amodal=[] if amodal is None and form.amodal_key else amodal,
            visible=visible,
            boxes=[annotation.get(key) for key in form.box_keys],
            extras={key: annotation[key] for key in form.instance_keys if key in annotation},
        )


def _visible(annotation: Mapping, form: CocoFormat) -> object:
    """The visible mask, FULLY_VISIBLE, or None if it is missing."""
    if form.amodal_key is None:
        return annotation.get(form.visible_key, [])
    if form.visible_required:
        return annotation.get(form.visible_key)
    return visible_or_fully(annotation, form.visible_key)
