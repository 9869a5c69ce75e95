"""The common part of COCO-like annotation formats: one record per object in a flat list, read on demand.

Opening needs only the file's index (see `json_index`). Rules about ids are applied then, to all records at once; the
other rules when an image's objects are accessed. A record with several faults counts under the first of: not an object,
crowd, image, visible mask missing, category, box, mask. Annotations without a unique id (missing, not a whole number,
or used by an earlier one) are kept, with new ids above the file's largest.
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
from sameo_core.datasets.builder import FULLY_VISIBLE, DatasetBuilder, is_crowd, own_file_name, shown, visible_or_fully
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.json_index import Columns, JsonFile, JsonIndex, Table, index_json
from sameo_core.errors import InputError


@dataclass(frozen=True)
class CocoFormat:
    """How to read the records of a format."""

    amodal_key: str | None = "segmentation"  # None for a visible-only data set
    visible_key: str | None = "visible_mask"  # None: every object is fully visible
    visible_required: bool = False  # skip objects without visible mask; else they are fully visible, unless the record
    # marks them as occluded
    box_keys: tuple[str, ...] = ()  # keys of xywh boxes that, if present, must overlap the image
    image_keys: tuple[str, ...] = ()  # kept in `AmodalImage.extras`
    instance_keys: tuple[str, ...] = ()  # kept in `AmodalInstance.extras`
    file_name: Callable[[Mapping], str | None] = own_file_name  # of an image record, below the image folder
    nameless: str = "image without file name"  # the rule that an image without `file_name` breaks
    crowds: bool = False  # keep crowd regions as objects
    depth_order: str | None = None  # "front to back", "back to front": visible = not covered by objects in front

    def described(self) -> str:
        """A text that is unique to the format; part of fingerprints."""
        return repr(asdict(self) | {"file_name": self.file_name.__qualname__})


def has_visible_mask(annotation: Mapping) -> bool:
    return annotation.get("visible_mask") is not None


def index_coco(path: Path, file_name: Callable[[Mapping], str | None] = own_file_name) -> JsonIndex:
    """The index of a file with images, annotations and categories, as `read_coco_files` needs it.

    Raises:
        InputError: see `index_json`.
    """
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
    builder = DatasetBuilder(name, root, split, files[0][0].path)
    parts: list[_Part] = []
    skipped: dict[str, list[str]] = {}
    renumbered = 0
    for index, folder in files:
        builder.source, builder.label = index.path, f"{index.path.name}: " if len(files) > 1 else ""
        builder.add_categories(index.records("categories"))
        part_builder = replace(builder, skipped=skipped)
        part, new_ids = _part(index, folder, part_builder, parts, form)
        parts.append(part)
        renumbered += new_ids
    builder.source, builder.label = files[0][0].path, ""
    dataset = builder.finish(_RecordedImages(parts, form, skipped))
    told = [f"{len(records)} skipped: {rule} (first {records[0]})" for rule, records in skipped.items()]
    if renumbered:
        told.append(f"{renumbered} annotations without an id of their own have new ones")
    if told:
        warnings.warn(f"{files[0][0].path}: {'; '.join(told)}", stacklevel=4)  # points at the caller of load_dataset
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
    table = index.tables["annotations"]
    images = _usable_images(index, builder, form)
    ids = index.tables["images"]["id"][images]
    by_id = np.argsort(ids)
    rows, position = _usable_annotations(index, builder, ids[by_id], form.crowds)
    image = by_id[position]
    order = np.argsort(image, kind="stable")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(image, minlength=len(images)))])
    own = np.zeros(len(rows), bool)  # has an id that no earlier annotation has
    with_id = np.flatnonzero(table["has id"][rows])
    own[with_id[np.unique(table["id"][rows[with_id]], return_index=True)[1]]] = True
    largest = int(table["id"][table["has id"]].max(initial=0))
    instance_ids = np.where(own, table["id"][rows], largest + np.cumsum(~own))
    instance_ids += _shift(instance_ids, [part.instance_ids for part in earlier])
    ids = ids + _shift(ids, [part.image_ids for part in earlier])
    about = index, folder, replace(builder, skipped={})
    return _Part(*about, images, ids, starts, rows[order], instance_ids[order]), int((~own).sum())


def _usable_images(index: JsonIndex, builder: DatasetBuilder, form: CocoFormat) -> Int64[np.ndarray, " used"]:
    """Rows of the usable images; of several with the same id, the first usable one."""
    table = index.tables["images"]
    sized = table["has height"] & table["has width"] & (table["height"] > 0) & (table["width"] > 0)
    fine = table["is_object"] & table[form.file_name.__name__] & table["has id"]
    rows = np.flatnonzero(fine & sized)
    used_ids, first = np.unique(table["id"][rows], return_index=True)
    used = rows[first]  # in the order of `used_ids`
    position = _positions(used_ids, table["id"])
    again = fine & (position >= 0)
    again[again] = np.flatnonzero(again) > used[position[again]]
    rules = {
        "image is not an object": ~table["is_object"],
        form.nameless: ~table[form.file_name.__name__],
        "image without a whole-number id": ~table["has id"],
        "image id used twice": again,
        "image without height and width": ~sized,
    }
    _skip_rows(index, builder, "image", rules)
    return np.sort(used)


def _usable_annotations(
    index: JsonIndex, builder: DatasetBuilder, image_ids: Int64[np.ndarray, " images"], crowds: bool
) -> tuple[Int64[np.ndarray, " used"], Int64[np.ndarray, " used"]]:
    """Rows of the usable annotations, and the position of their image in `image_ids` (ascending)."""
    table = index.tables["annotations"]
    position = _positions(image_ids, table["image_id"])
    rules = {
        "annotation is not an object": ~table["is_object"],
        "crowd region": table["is_crowd"] & (not crowds),
        "annotation without image": ~table["has image_id"] | (position < 0),
    }
    rows = _skip_rows(index, builder, "annotation", rules)
    return rows, position[rows]


def _skip_rows(
    index: JsonIndex, builder: DatasetBuilder, kind: str, rules: Mapping[str, np.ndarray]
) -> Int64[np.ndarray, " used"]:
    """Skip each row that breaks a rule, under the first rule it breaks; return the other rows."""
    table = index.tables[f"{kind}s"]
    codes = np.select(list(rules.values()), list(range(1, len(rules) + 1)), 0)
    for row in np.flatnonzero(codes).tolist():
        name = f"number {row + 1}"
        if table["is_object"][row]:
            name = str(table["id"][row]) if table["has id"][row] else shown(index.record(f"{kind}s", row).get("id"))
        builder.skip(list(rules)[codes[row] - 1], f"{kind} {name}")
    return np.flatnonzero(codes == 0)


def _positions(ascending: Int64[np.ndarray, " n"], values: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
    """The position of each value in an ascending array, -1 if absent."""
    if not len(ascending):
        return np.full(len(values), -1)
    position = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    return np.where(ascending[position] == values, position, -1)


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
    if form.depth_order:
        builder.stack_instances(image_id, front_first=form.depth_order == "front to back")


def _visible(annotation: Mapping, form: CocoFormat) -> object:
    """The visible mask, FULLY_VISIBLE, or None if the record should have one."""
    if form.visible_key is None:
        return FULLY_VISIBLE
    if form.amodal_key is None:
        return annotation.get(form.visible_key, [])
    if form.visible_required:
        return annotation.get(form.visible_key)
    return visible_or_fully(annotation, form.visible_key)
