"""How data sets are built: a reader parses its format and passes every record to `DatasetBuilder`.

The builder ensures the invariants: visible is part of amodal, ids are unique, unusable records are skipped and counted
by rule. Boxes, areas and rates come from the masks. A faulty file, or one without usable objects, is an InputError.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeGuard

import numpy as np
from pycocotools import mask as coco_mask

from sameo_core.datasets.base import AmodalImage, AmodalInstance, Instances, InstancesOnDemand, LazyImages
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import LENIENT, kept_digest, size_and_time
from sameo_core.datasets.kept_masks import unpack
from sameo_core.errors import InputError
from sameo_core.masks import RLE, segmentation_to_rle, union_rle

FULLY_VISIBLE = "fully visible"  # replaces a visible mask that the format omits for unoccluded objects


@dataclass
class DatasetBuilder:
    """Collects the records of an annotation file. The `add_*` methods skip and count records that break a rule.

    `add_instance` converts masks to RLE at once, in 50 us (LVIS) to 180 us (COCOA) per object; `add_instances_later`
    when the image's objects are first accessed. A reader uses one or the other.
    """

    name: str
    root: Path
    split: str
    source: Path  # the annotation file, for error messages
    categories: dict[int, str] = field(default_factory=dict)
    label: str = ""  # prefix of a skipped record's name: its file, if there are several
    skipped: dict[str, list[str]] = field(default_factory=dict)
    _images: dict[int, dict] = field(default_factory=dict)
    _instances: dict[int, list[AmodalInstance]] = field(default_factory=dict)
    _instance_ids: set[int] = field(default_factory=set)
    _later: dict[int, tuple[partial, Callable]] = field(default_factory=dict)  # see `add_instances_later`

    def skip(self, rule: str, record: str) -> None:
        self.skipped.setdefault(rule, []).append(self.label + record)

    def add_image(
        self,
        record: Mapping,
        file_name: str,
        folder: Path,
        depth_constraint: Iterable = (),
    ) -> None:
        """Add an image from its record (id, height, width) and its file, `folder / file_name`."""
        image_id, name = record.get("id"), f"image {shown(record.get('id'))}"
        height, width = record.get("height"), record.get("width")
        if not is_int(image_id):
            self.skip("image without a whole-number id", name)
        elif image_id in self._images:
            self.skip("image id used twice", name)
        elif not (is_int(height) and is_int(width) and height > 0 and width > 0):
            self.skip("image without height and width", name)
        else:
            self._images[image_id] = {
                "file_name": file_name,
                "folder": folder,
                "height": height,
                "width": width,
                "depth_constraint": tuple(depth_constraint),
            }
            self._instances[image_id] = []

    def add_categories(self, records: Iterable) -> None:
        """Add COCO's list of categories; ids may have gaps.

        Raises:
            InputError: an id has two names, in this file or an earlier one, so no label can be trusted.
        """
        for record in records:
            if isinstance(record, Mapping) and is_int(record.get("id")) and isinstance(record.get("name"), str):
                name = record["name"].strip()
                if self.categories.setdefault(record["id"], name) != name:
                    raise InputError(
                        file=self.source,
                        record=f"category {record['id']}",
                        rule=f"a category needs one name: found {name!r} and {self.categories[record['id']]!r}",
                        remedy="Use the files of one and the same release, as distributed",
                    )
            else:
                self.skip("category without id and name", shown(record))

    def add_instance(
        self,
        record: str,
        *,
        image_id: object,
        instance_id: object,
        category_id: object,
        amodal: object,
        visible: object,
        is_stuff: bool = False,
        order: object = None,
        boxes: Iterable[object] = (),
        extras: Mapping[str, object] | None = None,
    ) -> None:
        """Add an object.

        Args:
            record: its name in the list of skipped records, e.g. "annotation 17".
            amodal: segmentation in any encoding; None in a visible-only data set.
            visible: segmentation in any encoding, or FULLY_VISIBLE.
            boxes: the file's own boxes, xywh pixels, or None; checked, not stored.
        """
        if not is_int(image_id) or image_id not in self._images:
            return self.skip("annotation without image", record)
        if not is_int(instance_id):
            return self.skip("annotation without a whole-number id", record)
        if instance_id in self._instance_ids:
            return self.skip("annotation id used twice", record)
        if category_id is None:
            return self.skip("annotation without category", record)
        if not is_int(category_id) or category_id not in self.categories:
            return self.skip("unknown category_id", f"{record}, found {shown(category_id, repr)}")
        height, width = self._images[image_id]["height"], self._images[image_id]["width"]
        if not all(box is None or _box_meets_image(box, height, width) for box in boxes):
            return self.skip("box outside the image or of zero area", record)
        try:
            masks = self._masks(record, amodal, visible, height, width)
        except InputError as error:
            return self.skip(rule_name(error), record)
        except RecursionError:
            return self.skip("segmentation nested too deeply", record)
        self._instance_ids.add(instance_id)
        place = order if is_int(order) else None
        category = self.categories[category_id]
        instance = AmodalInstance(instance_id, category_id, category, is_stuff, *masks, place, extras or {})
        self._instances[image_id].append(instance)

    @contextmanager
    def skipping(self, record: str, prefix: str = "") -> Iterator[None]:
        """Skip the record if the with block raises an error about it."""
        try:
            yield
        except InputError as error:
            self.skip(prefix + rule_name(error), record)

    def add_instances_later(self, image_id: int, read: partial[None], files: Callable[[], Iterable[Path]]) -> None:
        """Add the objects of an image when they are first accessed; nothing if the image was skipped.

        Args:
            read: called with a builder that holds only this image; it calls `add_instance` and `skip` as usual, with
                instance ids that no other image uses, and without extras. Picklable. The data set's fingerprint changes
                with its arguments.
            files: the files that `read` reads; the fingerprint changes with their sizes and times. Picklable.
        """
        if image_id in self._images:
            self._later.setdefault(image_id, (read, files))

    def instances_on_demand(
        self, image_id: int, height: int, width: int, read: Callable[["DatasetBuilder"], None]
    ) -> InstancesOnDemand:
        """The objects that `read` will add to an image, see `add_instances_later`."""
        about = self.name, self.root, self.split, self.source, self.categories, self.label
        size = {"height": height, "width": width}
        alone = DatasetBuilder(*about, _images={image_id: size}, _instances={image_id: []})
        return InstancesOnDemand(partial(_read_instances, alone, image_id, read))

    def _masks(self, record: str, amodal: object, visible: object, height: int, width: int) -> tuple[RLE | None, RLE]:
        """Amodal and visible RLE, neither empty, the visible one part of the amodal one."""

        def to_rle(segmentation: object, which: str) -> RLE:
            rle = segmentation_to_rle(self._without_degenerate_polygons(segmentation, record), height, width)
            if coco_mask.area(rle) == 0:  # mask_area would check it again
                raise InputError(file=self.source, record=record, rule=f"empty {which} mask", remedy="Leave it out")
            return rle

        if amodal is None:
            return None, to_rle(visible, "visible")
        amodal_rle = to_rle(amodal, "amodal")
        if visible is FULLY_VISIBLE:
            return amodal_rle, amodal_rle
        visible_rle = to_rle(visible, "visible")
        inside = coco_mask.merge([amodal_rle, visible_rle], intersect=True)
        if coco_mask.area(inside) < coco_mask.area(visible_rle):
            amodal_rle = union_rle([amodal_rle, visible_rle])
        return amodal_rle, visible_rle

    def _without_degenerate_polygons(self, segmentation: object, record: str) -> object:
        """Drop and count points and lines among several polygons; the object is kept."""
        if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
            return segmentation
        kept = [polygon for polygon in segmentation if len(polygon) >= 6]
        for _ in range(len(segmentation) - len(kept) if kept else 0):
            self.skip("polygon with fewer than 6 numbers", f"{record}, one of its {len(segmentation)} polygons")
        return kept or segmentation

    def image(self, image_id: int, instances: tuple[AmodalInstance, ...] | InstancesOnDemand) -> AmodalImage:
        """An added image with these objects. Its path is joined only here: a million images would take a minute."""
        about = {**self._images[image_id], "instances": instances}
        return AmodalImage(image_id, path=about.pop("folder") / about["file_name"], **about)

    def finish(self, images: Sequence | None = None) -> AmodalDataset:
        """The data set of the added images, or of `images`.

        Raises:
            InputError: no object is left; to check, lazy images are read until one has an object.
        """
        if images is None:
            listed = (self.image(image_id, tuple(found)) for image_id, found in self._instances.items())
            images = _MaskFileImages(self) if self._later else list(listed)
        dataset = AmodalDataset(self.name, self.root, self.split, self.categories, images, self.skipped)
        census, numbers = dataset.known_census(), dataset.images.occupied().tolist()
        if not (any(len(dataset[number].instances) for number in numbers) if census is None else len(census)):
            counts = [f"{rule}: {len(records)} (first {records[0]})" for rule, records in dataset.skipped.items()]
            raise InputError(
                file=self.source,
                rule=f"no usable annotation, skipped: {'; '.join(counts) or 'none, the file has none'}",
                remedy=f"Check that this is the annotation file of {self.name} ({self.split})"
                + ("; crowds=True takes crowd regions as objects" if "crowd region" in dataset.skipped else ""),
            )
        return dataset


class _MaskFileImages(LazyImages):
    """The images of a builder, with instances read on demand."""

    in_mask_files = True

    def __init__(self, builder: DatasetBuilder):
        super().__init__()
        self.builder, self.ids = replace(builder, skipped={}), list(builder._images)
        self._contents: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _make(self, number: int) -> AmodalImage:
        image_id, builder = self.ids[number], self.builder
        size = builder._images[image_id]["height"], builder._images[image_id]["width"]
        instances = builder.instances_on_demand(image_id, *size, builder._later[image_id][0])
        if self._kept_masks:
            path, ends = self._kept_masks
            start, stop = ends[number : number + 2].tolist()
            instances = InstancesOnDemand(partial(unpack, path, start, stop, size, builder.categories, instances))
        return builder.image(image_id, instances)

    def contents(self) -> str:
        """A digest of the mask files' names, sizes and times at the first call, and of their readers' arguments."""
        if self._contents is None:
            key = hashlib.sha256()
            for image_id in self.ids:
                key.update(f"{self._identity(image_id)}{self.builder._later[image_id][0].args}".encode(*LENIENT))
            self._contents = kept_digest(key.hexdigest(), len(self), self._texts)
        return self._contents

    def _identity(self, image_id: int) -> str:
        about = self.builder._images[image_id]
        return f"{image_id} {about['file_name']} {about['height']} {about['width']}"

    def _texts(self, numbers: Iterable[int]) -> Iterator[tuple[str, list[Path]]]:
        for image_id in map(self.ids.__getitem__, numbers):
            read, find_files = self.builder._later[image_id]
            files = list(find_files())
            stamps = [(str(path), *size_and_time(path)) for path in files]
            yield f"{self._identity(image_id)}{[read.args, *stamps]}", files


def _read_instances(alone: DatasetBuilder, image_id: int, read: Callable[[DatasetBuilder], None]) -> Instances:
    """The objects that `read` adds to the builder's only image, and the records that it skips."""
    read(alone)
    return tuple(alone._instances[image_id]), alone.skipped


def rule_name(error: InputError) -> str:
    """The name under which an error is counted: its rule up to the colon."""
    return error.rule.split(":")[0]


def visible_or_fully(record: Mapping, key: str) -> object:
    """The visible mask; without one, None if the record marks the object as occluded, else FULLY_VISIBLE."""
    if record.get(key) is not None:
        return record[key]
    rate = record.get("occlude_rate") or 0
    return None if record.get("invisible_mask") or rate != 0 else FULLY_VISIBLE


def own_file_name(image: Mapping) -> str | None:
    """COCO's `file_name` with forward slashes; None if it is not a string."""
    name = image.get("file_name")
    return name.replace("\\", "/") if isinstance(name, str) else None


def is_crowd(record: Mapping) -> bool:
    """True if `iscrowd` is set, as a number or, as some tools write it, a string."""
    flag = record.get("iscrowd")
    return flag.strip().lower() not in ("", "0", "0.0", "false", "no", "none") if isinstance(flag, str) else bool(flag)


def records(builder: DatasetBuilder, items: Iterable, kind: str) -> Iterator[Mapping]:
    """The items that are JSON objects; others are skipped and counted."""
    for number, item in enumerate(items, start=1):
        if isinstance(item, Mapping):
            yield item
        else:
            builder.skip(f"{kind} is not an object", f"{kind} number {number}")


def is_int(value: object) -> TypeGuard[int]:
    """True if a JSON value is a 64-bit integer, and so can be an id."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def shown(value: object, text: Callable[[object], str] = str) -> str:
    """The beginning of a value, for messages."""
    try:
        return text(value)[:60]
    except RecursionError:
        return f"a {type(value).__name__}, nested too deeply"


def _box_meets_image(box: object, height: int, width: int) -> bool:
    """True if an xywh box is 4 finite numbers, has positive area and overlaps the image."""
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(isinstance(v, (int, float)) for v in box):
        return False
    x, y, w, h = box
    return 0 < w < np.inf and 0 < h < np.inf and -w < x < width and -h < y < height
