"""Flat COCO-like annotation files, one record an object, read on demand: what their formats have in common.

Opening needs the file's index only (see `json_index`). What can be told from ids is decided there and then, for all
records at once; the rest when an image's objects are asked for. A record with several faults counts for the first of:
not an object, crowd, image, visible mask missing, category, box, mask. Annotations without an id of their own (none, no
whole number, or that of an earlier one) are objects as others: they get new ids behind the file's largest.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Int8, Int64

from sameo_core.datasets.base import AmodalDataset, AmodalImage, AmodalInstance, InstancesOnDemand, LazyImages
from sameo_core.datasets.builder import FULLY_VISIBLE, DatasetBuilder, is_crowd, own_file_name, shown, visible_or_fully
from sameo_core.datasets.json_index import Columns, JsonFile, JsonIndex, Table, index_json
from sameo_core.errors import InputError


@dataclass(frozen=True)
class CocoFormat:
    """How the records of a format are read."""

    amodal_key: str | None = "segmentation"  # None in a visible-only data set
    visible_key: str | None = "visible_mask"  # None to take every object as fully visible
    visible_required: bool = False  # skip an object without visible mask, where False takes it as fully visible unless
    # the record says that it is occluded
    box_keys: tuple[str, ...] = ()  # xywh boxes that must meet the image, where the record has them
    image_keys: tuple[str, ...] = ()  # what to keep in `AmodalImage.extras`
    instance_keys: tuple[str, ...] = ()  # what to keep in `AmodalInstance.extras`
    file_name: Callable[[Mapping], str | None] = own_file_name  # of an image's record, below the folder of images
    nameless: str = "image without file name"  # the rule that an image without `file_name` breaks
    crowds: bool = False  # take crowd regions as objects
    depth_order: str | None = None  # "front to back", "back to front": visible is what those in front leave

    def described(self) -> str:
        """A text that is another for every other format."""
        return repr(asdict(self) | {"file_name": self.file_name.__qualname__})


def has_visible_mask(annotation: Mapping) -> bool:
    return annotation.get("visible_mask") is not None


def index_coco(path: Path, file_name: Callable[[Mapping], str | None] = own_file_name) -> JsonIndex:
    """The index of a file with images, annotations and categories; what it keeps is what `read_coco_files` needs.

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
    """The first of `candidates` that any annotation has; of a file without annotations, the first.

    Raises:
        InputError: none of them is there; it lists the keys that are.
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
    """One data set of one or several files.

    Ids remain the file's own, unless one of them is taken by an earlier file: then all of this file's (of its images,
    or of its annotations) are shifted past the largest so far. What is skipped or numbered anew is told as a warning.

    Args:
        files: from `index_coco`, each with the folder of its images.

    Raises:
        InputError: no object is left; two names for one category; ids that leave no room for those of a later file.
    """
    builder = DatasetBuilder(name, root, split, files[0][0].path)
    parts: list[_Part] = []
    for index, folder in files:
        builder.source, builder.label = index.path, f"{index.path.name}: " if len(files) > 1 else ""
        builder.add_categories(index.records("categories"))
        parts.append(_part(index, folder, parts, replace(builder, skipped={}), form))
    builder.source, builder.label = files[0][0].path, ""
    images = _RecordedImages(parts, form)
    dataset = builder.finish(images)
    told = [f"{len(records)} skipped: {rule} (first {records[0]})" for rule, records in images.skipped().items()]
    if anew := sum(part.numbered_anew for part in parts):
        told.append(f"{anew} annotations without an id of their own have new ones")
    if told:
        warnings.warn(f"{files[0][0].path}: {'; '.join(told)}", stacklevel=4)  # of who calls load_dataset
    return dataset


# ------------------------------------------------------------------------------------------- decided at opening

# Why a record is not used; the number is its code in `_Part`, 0 means that it is.
_IMAGE_RULES = (
    "",
    "image is not an object",
    "",  # CocoFormat.nameless
    "image without a whole-number id",
    "image id used twice",
    "image without height and width",
)
_ANNOTATION_RULES = (
    "",
    "annotation is not an object",
    "crowd region",
    "annotation without image",
)


@dataclass(frozen=True)
class _Part:
    """What one file gives."""

    index: JsonIndex
    folder: Path  # of its images
    builder: DatasetBuilder  # empty, with the file's label
    image_codes: Int8[np.ndarray, " images_of_file"]
    annotation_codes: Int8[np.ndarray, " annotations_of_file"]
    images: Int64[np.ndarray, " used"]  # rows of the images that are used
    starts: Int64[np.ndarray, " used+1"]  # image i of these has the annotations `rows[starts[i] : starts[i + 1]]`
    rows: Int64[np.ndarray, " objects"]
    image_ids: Int64[np.ndarray, " used"]
    instance_ids: Int64[np.ndarray, " objects"]
    numbered_anew: int  # annotations


def _part(index: JsonIndex, folder: Path, earlier: Sequence[_Part], builder: DatasetBuilder, form: CocoFormat) -> _Part:
    images, annotations = index.tables["images"], index.tables["annotations"]
    image_codes, used = _images_used(images)
    ids = images.whole["id"][used]
    by_id = np.argsort(ids)
    codes, place = _annotations_used(annotations, ids[by_id], form.crowds)
    rows = np.flatnonzero(codes == 0)
    number = by_id[place[rows]]  # of the image, among those that are used
    order = np.argsort(number, kind="stable")
    counts = np.bincount(number, minlength=len(used))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    instance_ids, anew = _numbered(annotations, rows, index.path)
    ids = ids + _shift(ids, [part.image_ids for part in earlier], index.path)
    instance_ids += _shift(instance_ids, [part.instance_ids for part in earlier], index.path)
    about = index, folder, builder, image_codes, codes
    return _Part(*about, used, starts, rows[order], ids, instance_ids[order], anew)


def _images_used(images: Table) -> tuple[Int8[np.ndarray, " images"], Int64[np.ndarray, " used"]]:
    """A code for each image, and the rows of those that are used: of several with one id, the first that is fine."""
    (named,) = images.flags.values()
    ids, height, width = (images.whole[key] for key in ("id", "height", "width"))
    sized = images.is_whole["height"] & images.is_whole["width"] & (height > 0) & (width > 0)
    codes = np.select([~images.is_object, ~named, ~images.is_whole["id"], ~sized], [1, 2, 3, 5], 0).astype(np.int8)
    fine = np.flatnonzero(codes == 0)
    used_ids, first = np.unique(ids[fine], return_index=True)
    rows = fine[first]  # in the order of `used_ids`
    doubtful = np.flatnonzero((codes == 0) | (codes == 5))
    place = _places(used_ids, ids[doubtful])
    again = (place >= 0) & (doubtful > rows[place]) if len(rows) else np.zeros(len(doubtful), bool)
    codes[doubtful[again]] = 4
    return codes, np.sort(rows)


def _annotations_used(
    annotations: Table, image_ids: Int64[np.ndarray, " images"], crowds: bool
) -> tuple[Int8[np.ndarray, " annotations"], Int64[np.ndarray, " annotations"]]:
    """A code for each annotation, and the place of its image in `image_ids` (ascending), -1 for none."""
    place = _places(image_ids, annotations.whole["image_id"])
    astray = ~annotations.is_whole["image_id"] | (place < 0)
    crowd = annotations.flags["is_crowd"] & (not crowds)
    return np.select([~annotations.is_object, crowd, astray], [1, 2, 3], 0).astype(np.int8), place


def _numbered(
    annotations: Table, rows: Int64[np.ndarray, " objects"], path: Path
) -> tuple[Int64[np.ndarray, " objects"], int]:
    """An id for each of some annotations, and how many are not the file's: those get the next ones."""
    ids, whole = annotations.whole["id"][rows], annotations.is_whole["id"]
    own = np.flatnonzero(whole[rows])
    anew = np.ones(len(rows), bool)
    anew[own[np.unique(ids[own], return_index=True)[1]]] = False
    count, largest = int(anew.sum()), int(annotations.whole["id"][whole].max(initial=0))
    if count:
        _check_room(largest + count, largest, path)
        ids[anew] = largest + 1 + np.arange(count)
    return ids, count


def _places(ascending: Int64[np.ndarray, " n"], values: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
    """Where each value stands among others, -1 where it does not."""
    if not len(ascending):
        return np.full(len(values), -1)
    place = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    return np.where(ascending[place] == values, place, -1)


def _shift(ids: Int64[np.ndarray, " n"], taken: Sequence[Int64[np.ndarray, " _"]], path: Path) -> int:
    """What to add to a file's ids so that none of them is taken; 0 if none is."""
    taken = [others for others in taken if len(others)]
    largest = max((int(others.max()) for others in taken), default=None)
    if (
        largest is None
        or not len(ids)
        or ids.min() > largest
        or not any(np.isin(ids, others).any() for others in taken)
    ):
        return 0
    shift = largest + 1 - int(ids.min())
    _check_room(int(ids.max()) + shift, largest, path)
    return shift


def _check_room(wanted: int, largest: int, path: Path) -> None:
    if wanted >= 2**63:
        rule = f"ids of 64 bits, found no room for new ones behind {largest}"
        raise InputError(file=path, rule=rule, remedy="Number the records anew")


# ------------------------------------------------------------------------------------------- read on demand


class _RecordedImages(LazyImages):
    """The images of one or several files; an image's record is read when it is asked for, its objects' records then."""

    def __init__(self, parts: Sequence[_Part], form: CocoFormat):
        super().__init__()
        self.parts, self.form = parts, form
        self.ends = np.cumsum([len(part.images) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def occupied(self) -> Int64[np.ndarray, " some"]:
        """Numbers of the images that have annotations, ascending."""
        return np.flatnonzero(np.concatenate([np.diff(part.starts) for part in self.parts]))

    def contents(self) -> str:
        return repr([(part.index.sha256, str(part.folder), self.form.described()) for part in self.parts])

    def skipped(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for part in self.parts:
            image_rules = [*_IMAGE_RULES[:2], self.form.nameless, *_IMAGE_RULES[3:]]
            kinds = ("image", image_rules, part.image_codes), ("annotation", _ANNOTATION_RULES, part.annotation_codes)
            for kind, rules, codes in kinds:
                for row in np.flatnonzero(codes).tolist():
                    record = part.builder.label + _name_of(part.index, kind, row)
                    found.setdefault(rules[codes[row]], []).append(record)
        return found

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
            places = list(zip(table.offset[rows].tolist(), table.length[rows].tolist(), strict=True))
            ids = part.instance_ids[objects].tolist()
            read = partial(_read_annotations, part.index.file, places, image_id, ids, self.form)
            contents = partial(_contents, part.index.sha256, places, self.form)
            instances = part.builder.instances_on_demand(image_id, height, width, read, contents)
        name = cast(str, self.form.file_name(record))  # those without one were left out
        extras = {key: record[key] for key in self.form.image_keys if key in record}
        return AmodalImage(image_id, name, part.folder / name, height, width, instances, extras=extras)


def _name_of(index: JsonIndex, kind: str, row: int) -> str:
    """What a record is called in the list of those that were skipped."""
    table = index.tables[f"{kind}s"]
    if not table.is_object[row]:
        return f"{kind} number {row + 1}"
    if table.is_whole["id"][row]:
        return f"{kind} {table.whole['id'][row]}"
    return f"{kind} {shown(index.record(f'{kind}s', row).get('id'))}"


def _contents(sha256: str, places: list[tuple[int, int]], form: CocoFormat) -> str:
    return f"{sha256} {places} {form.described()}"


def _read_annotations(
    file: JsonFile,
    places: list[tuple[int, int]],
    image_id: int,
    instance_ids: list[int],
    form: CocoFormat,
    builder: DatasetBuilder,
) -> None:
    """The objects of one image."""
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
    """The visible mask, FULLY_VISIBLE, or None where the record should have one."""
    if form.visible_key is None:
        return FULLY_VISIBLE
    if form.amodal_key is None:
        return annotation.get(form.visible_key, [])
    if form.visible_required:
        return annotation.get(form.visible_key)
    return visible_or_fully(annotation, form.visible_key)
