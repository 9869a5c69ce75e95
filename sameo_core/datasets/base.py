"""What all amodal data sets have in common: data set, image, instance, and the builder that readers fill.

A reader walks through its format and hands every record to `DatasetBuilder`, which holds the invariants: visible is
part of amodal, boxes, areas and rates come from the masks, ids are unique, unusable records are skipped and counted by
rule. Faults of a whole file are an InputError; so is a data set of which nothing is left.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import PIL.Image
from pycocotools import mask as coco_mask

from sameo_core import AmodalMask, BoxXYXY, Image, VisibleMask
from sameo_core.errors import InputError
from sameo_core.masks import (
    RLE,
    decode_rle,
    intersect_rle,
    mask_area,
    mask_box,
    segmentation_to_rle,
    subtract_rle,
    union_rle,
    xyxy_to_xywh,
)

FULLY_VISIBLE = "fully visible"  # in place of a visible mask: the format says so by leaving the mask out


# ---------------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class AmodalInstance:
    """One object of one image. Masks are kept as RLE and decoded when asked for.

    `visible_rle` is part of `amodal_rle`, neither is empty. In visible-only data sets (LVIS) `amodal_rle` is None, and
    whatever needs the amodal mask raises InputError.
    """

    instance_id: int  # the file's own, or the count of the record in the file, from 1
    category_id: int
    category: str
    is_stuff: bool
    amodal_rle: RLE | None
    visible_rle: RLE
    order: int | None = None  # COCOA: 1 is front-most
    extras: Mapping[str, object] = field(default_factory=dict)  # what only this format says, under the file's own keys

    @property
    def amodal(self) -> AmodalMask:
        return decode_rle(self._amodal_rle())

    @property
    def visible(self) -> VisibleMask:
        return decode_rle(self.visible_rle)

    @property
    def hidden(self) -> AmodalMask:
        """The hidden region: amodal minus visible."""
        return decode_rle(subtract_rle(self._amodal_rle(), self.visible_rle))

    @property
    def amodal_box(self) -> BoxXYXY:
        return mask_box(self._amodal_rle())

    @property
    def visible_box(self) -> BoxXYXY:
        return mask_box(self.visible_rle)

    @property
    def area(self) -> int:
        """Pixels of the amodal mask."""
        return mask_area(self._amodal_rle())

    @property
    def visible_area(self) -> int:
        """Pixels of the visible mask."""
        return mask_area(self.visible_rle)

    @property
    def occlusion_rate(self) -> float:
        """Hidden pixels / amodal pixels, in [0, 1)."""
        area = self.area
        return (area - self.visible_area) / area

    def _amodal_rle(self) -> RLE:
        if self.amodal_rle is None:
            raise InputError(
                file="data set",
                record=f"instance {self.instance_id} ({self.category})",
                rule="no amodal mask: this data set (LVIS, LV-VIS) has visible masks only",
                remedy="Use .visible, or the data set amodal_lvis",
            )
        return self.amodal_rle


class InstancesOnDemand(Sequence):
    """The objects of an image whose masks lie in files of their own: read when first asked for, then kept as RLE."""

    def __init__(self, make: Callable[[], tuple[AmodalInstance, ...]]):
        self._make, self._made = make, None

    def _all(self) -> tuple[AmodalInstance, ...]:
        if self._made is None:
            self._made, self._make = self._make(), None
        return self._made

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: SupportsIndex | slice) -> AmodalInstance | tuple[AmodalInstance, ...]:
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __repr__(self) -> str:
        return "InstancesOnDemand(not read yet)" if self._made is None else repr(self._made)


@dataclass(frozen=True)
class AmodalImage:
    """One image and its objects, in the order of the file."""

    image_id: int
    file_name: str
    path: Path
    height: int
    width: int
    instances: tuple[AmodalInstance, ...] | InstancesOnDemand  # on demand where masks are files
    depth_constraint: tuple[tuple[int, int], ...] = ()  # COCOA: (front, behind), values of `order`
    extras: Mapping[str, object] = field(default_factory=dict)  # what only this format says, under the file's own keys

    def occluders(self) -> list[list[int]]:
        """For each object, in their order, the places of those that are seen where it is hidden.

        Empty where nothing annotated stands in front of it; always empty in visible-only data sets.
        """
        found = []
        for item in self.instances:
            hidden = subtract_rle(item.amodal_rle, item.visible_rle) if item.amodal_rle else None
            seen = [intersect_rle([hidden, other.visible_rle]) for other in self.instances] if hidden else []
            found.append([place for place, rle in enumerate(seen) if mask_area(rle)])
        return found

    def read(self) -> Image:
        """The pixels as RGB; greyscale, palette, CMYK are converted and alpha dropped.

        EXIF orientation is not applied: annotations are in pixels as stored.

        Raises:
            InputError: the file is missing, cannot be decoded, or has not the size of its record.
        """
        record = f"image {self.image_id}"
        if not self.path.is_file():
            raise InputError(
                file=self.path,
                record=record,
                rule="the image file must exist",
                remedy=f"Download the images to {self.path.parent}, see data/README.md",
            )
        try:
            with PIL.Image.open(self.path) as image:
                if image.size != (self.width, self.height):
                    raise InputError(
                        file=self.path,
                        record=record,
                        rule=f"image of another size: the file's (h, w) is ({image.height}, {image.width}), "
                        f"the annotations' ({self.height}, {self.width})",
                        remedy="Use the original images, not resized or rotated ones",
                    )
                if image.mode == "F" or image.mode.startswith("I"):
                    raise InputError(
                        file=self.path,
                        record=record,
                        rule=f"image must have 8 bits a channel, found mode {image.mode}",
                        remedy="Save it as 8-bit RGB or greyscale",
                    )
                return np.array(image.convert("RGB"))
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise many types for damaged files
            raise InputError(
                file=self.path,
                record=record,
                rule=f"the image file cannot be decoded: {error}",
                remedy="The file is damaged or incomplete: fetch it again",
            ) from error


class AmodalDataset(Sequence):
    """A sequence of `AmodalImage`s. `skipped` names, by rule, the records that could not be used.

    Where masks are files (dyce, walt, kitti360_aps, pix2gestalt), an image's objects are read when first asked for, and
    `skipped` grows as images are; `summary` and `to_coco` ask for all.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        split: str,
        categories: dict[int, str],
        images: Sequence[AmodalImage],
        skipped: dict[str, list[str]],
        frequencies: dict[int, str] | None = None,
    ):
        self.name, self.root, self.split = name, root, split
        self.categories, self.images, self.skipped = categories, list(images), skipped
        self.frequencies = frequencies or {}  # LVIS: category id -> "r", "c" or "f"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: SupportsIndex) -> AmodalImage:
        return self.images[index]

    def __iter__(self) -> Iterator[AmodalImage]:
        return iter(self.images)

    def __repr__(self) -> str:
        return f"AmodalDataset({self.name!r}, split={self.split!r}, {len(self)} images)"

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the images' names, sizes and bytes a file, and with the masks.

        It names what was computed from the data set. No pixel is read; masks that lie in files of their own count by
        their image only.
        """
        digest = hashlib.sha256(f"{self.name} {self.split} {self.root}".encode())
        for image in self.images:
            size = image.path.stat().st_size if image.path.exists() else -1
            digest.update(f"{image.image_id} {image.file_name} {image.height} {image.width} {size}".encode())
            for item in image.instances if isinstance(image.instances, tuple) else ():
                digest.update(f"{item.instance_id} {item.category_id} {item.amodal_rle} {item.visible_rle}".encode())
        return digest.hexdigest()[:16]

    def to_coco(self) -> dict:
        """COCO ground truth whose `segmentation` is the amodal mask; JSON-ready, accepted by pycocotools.

        Besides COCO's keys each annotation has `visible_mask` (RLE) and `occlude_rate`. Annotation ids are the
        instances' own, shifted where the file counts from 0, because pycocotools takes id 0 for "no match".

        Raises:
            InputError: the data set has no amodal masks (LVIS, LV-VIS).
        """
        pairs = [(image, instance) for image in self.images for instance in image.instances]
        shift = max(0, 1 - min((instance.instance_id for _, instance in pairs), default=1))
        annotations = [
            {
                "id": instance.instance_id + shift,
                "image_id": image.image_id,
                "category_id": instance.category_id,
                "iscrowd": 0,
                "bbox": xyxy_to_xywh(instance.amodal_box).tolist(),
                "area": instance.area,
                "segmentation": dict(instance.amodal_rle or {}),
                "visible_mask": dict(instance.visible_rle),
                "occlude_rate": instance.occlusion_rate,
            }
            for image, instance in pairs
        ]
        return {
            "info": {"description": f"{self.name} {self.split}: amodal ground truth"},
            "images": [
                {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
                for image in self.images
            ],
            "categories": [{"id": i, "name": name} for i, name in self.categories.items()],
            "annotations": annotations,
        }

    def summary(self) -> dict:
        """Counts: images, instances, occluded_share and mean_occlusion_rate (NaN without amodal masks), skipped."""
        instances = [instance for image in self.images for instance in image.instances]
        amodal = all(instance.amodal_rle is not None for instance in instances)
        rates = np.array([instance.occlusion_rate for instance in instances] if amodal and instances else [np.nan])
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "instances": len(instances),
            "occluded_share": float((rates > 0).mean()) if amodal and instances else float("nan"),
            "mean_occlusion_rate": float(rates.mean()),
            "skipped": {rule: len(records) for rule, records in self.skipped.items()},
        }


# ---------------------------------------------------------------------------------------------------- how it is built


@dataclass
class DatasetBuilder:
    """Collects the records of an annotation file, or of several. The `add_*` methods skip and count what breaks a rule.

    Everything is checked and brought to RLE here, once: on one core 1e5 records take 5 s (LVIS) to 18 s (COCOA, whose
    regions are larger and come in pairs of masks).
    """

    name: str
    root: Path
    split: str
    source: Path  # the annotation file, for error messages
    categories: dict[int, str] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    _images: dict[int, dict] = field(default_factory=dict)
    _instances: dict[int, list[AmodalInstance]] = field(default_factory=dict)
    _instance_ids: set[int] = field(default_factory=set)
    _later: dict[int, InstancesOnDemand] = field(default_factory=dict)
    _reader_alone: "DatasetBuilder | None" = None  # of the file that is being read: see `add_instances_later`
    _own_images: set[int] = field(default_factory=set)  # of the file that is being read
    _label: str = ""  # in front of a skipped record's name: its file, where there are several
    _image_shift: int = 0  # added to every image id of the file that is being read
    _instance_shift: int = 0

    def next_file(self, source: Path, images: Iterable, annotations: Iterable) -> None:
        """Another file begins; for sets that come in several, to be called before each.

        Ids remain the file's own, unless one of them is taken by an earlier file: then all of this file's (of its
        images, or of its annotations) are shifted past the largest so far.
        """
        self.source, self._label = source, f"{source.name}: "
        self._own_images, self._reader_alone = set(), None
        self._image_shift = _shift_past(self._images, images)
        self._instance_shift = _shift_past(self._instance_ids, annotations)

    def skip(self, rule: str, record: str) -> None:
        self.skipped.setdefault(rule, []).append(self._label + record)

    def add_image(
        self,
        record: Mapping,
        file_name: str,
        folder: Path,
        depth_constraint: Iterable = (),
        extra_keys: Iterable[str] = (),
    ) -> None:
        """An image record with id, height and width, whose file is `folder / file_name`."""
        image_id, name = record.get("id"), f"image {record.get('id')}"
        if is_int(image_id):
            image_id += self._image_shift
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
                "path": folder / file_name,
                "height": height,
                "width": width,
                "depth_constraint": tuple(depth_constraint),
                "extras": {key: record[key] for key in extra_keys if key in record},
            }
            self._instances[image_id] = []
            self._own_images.add(image_id)

    def add_images(self, items: Iterable, folder: Path, extra_keys: Sequence[str] = ()) -> None:
        """COCO's list of images, whose files are `folder / file_name`."""
        for image in records(self, items, "image"):
            if isinstance(image.get("file_name"), str):
                self.add_image(image, image["file_name"], folder, extra_keys=extra_keys)
            else:
                self.skip("image without file name", f"image {image.get('id')}")

    def add_categories(self, records: Iterable) -> None:
        """COCO's list of categories, with their own, possibly not contiguous ids.

        Raises:
            InputError: one id has two names, in this file or in an earlier one; then no label could be trusted.
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
                self.skip("category without id and name", str(record)[:60])

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
        """An object.

        Args:
            record: its name in the list of skipped records, e.g. "annotation 17".
            amodal: segmentation in any encoding; None in a visible-only data set.
            visible: segmentation in any encoding, or FULLY_VISIBLE.
            order: kept where it is a whole number.
            boxes: the file's own, xywh pixels; only checked, boxes come from the masks. None: the file has none.
        """
        if is_int(image_id):
            image_id += self._image_shift
        if is_int(instance_id):
            instance_id += self._instance_shift
        if not is_int(image_id) or image_id not in self._own_images:
            return self.skip("annotation without image", record)
        if not is_int(instance_id):
            return self.skip("annotation without a whole-number id", record)
        if instance_id in self._instance_ids:
            return self.skip("annotation id used twice", record)
        if category_id is None:
            return self.skip("annotation without category", record)
        if not is_int(category_id) or category_id not in self.categories:
            return self.skip("unknown category_id", record)
        height, width = self._images[image_id]["height"], self._images[image_id]["width"]
        if not all(box is None or _box_meets_image(box, height, width) for box in boxes):
            return self.skip("box outside the image or of zero area", record)
        try:
            masks = self._masks(record, amodal, visible, height, width)
        except InputError as error:
            return self.skip(error.rule.split(":")[0], record)  # masks.py: the rule's name stands before the colon
        self._instance_ids.add(instance_id)
        order = order if is_int(order) else None
        category = self.categories[category_id]
        instance = AmodalInstance(instance_id, category_id, category, is_stuff, *masks, order, extras or {})
        self._instances[image_id].append(instance)

    def add_instances_later(
        self, image_id: int, read: Callable[["DatasetBuilder"], None], instance_ids: Iterable[int] = ()
    ) -> None:
        """The objects of an image are added when somebody asks for them.

        Args:
            image_id: of an image that `add_image` was given; nothing happens if that was skipped.
            read: called with a builder that knows this image alone and, of the file that is being read now, the shifts
                and the label; it calls `add_instance` and `skip` as usual, with instance ids that no other image of
                the file uses. Picklable: worker processes may do the reading.
            instance_ids: those that `read` will use; needed where another file follows, see `next_file`.
        """
        image_id += self._image_shift
        if image_id not in self._own_images or image_id in self._later:
            return
        self._instance_ids.update(number + self._instance_shift for number in instance_ids)
        if self._reader_alone is None:  # one for all images of a file, for there may be a million
            self._reader_alone = replace(
                self, _images={}, _instances={}, _instance_ids=set(), _own_images=set(), _later={}
            )
        sizes = {key: self._images[image_id][key] for key in ("height", "width")}
        self._later[image_id] = InstancesOnDemand(partial(_read_instances, self._reader_alone, image_id, sizes, read))

    def _masks(self, record: str, amodal: object, visible: object, height: int, width: int) -> tuple[RLE | None, RLE]:
        """Amodal and visible RLE, neither empty, the second part of the first."""

        def to_rle(segmentation: object, which: str) -> RLE:
            segmentation = self._without_degenerate_polygons(segmentation, record)
            rle = segmentation_to_rle(segmentation, height, width)
            if coco_mask.area(rle) == 0:  # checked a line above: mask_area would check once more
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
        """Of several polygons, those with area: a stray point or line does not cost the object. Each one is counted."""
        if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
            return segmentation
        kept = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not kept or len(kept) == len(segmentation):
            return segmentation
        for _ in range(len(segmentation) - len(kept)):
            self.skip("polygon with fewer than 6 numbers", f"{record}, one of its {len(segmentation)} polygons")
        return kept

    def finish(self) -> AmodalDataset:
        """The data set. Raises InputError if no object is left; images to be read on demand are until one is found."""
        images = [
            AmodalImage(image_id=i, instances=self._later.get(i, tuple(self._instances[i])), **image)
            for i, image in self._images.items()
        ]
        if not any(len(image.instances) for image in images):
            counts = "; ".join(f"{rule}: {len(records)} (first {records[0]})" for rule, records in self.skipped.items())
            raise InputError(
                file=self.source,
                rule=f"no usable annotation, skipped: {counts or 'none, the file has none'}",
                remedy=f"Check that this is the annotation file of {self.name} ({self.split})",
            )
        return AmodalDataset(self.name, self.root, self.split, self.categories, images, self.skipped)


def _read_instances(
    template: DatasetBuilder, image_id: int, sizes: dict[str, int], read: Callable[[DatasetBuilder], None]
) -> tuple[AmodalInstance, ...]:
    """What `read` finds of one image; skipped records join those of the data set, whose dict `template` holds."""
    own = {"_images": {image_id: sizes}, "_instances": {image_id: []}, "_own_images": {image_id}}
    alone = replace(template, _instance_ids=set(), **own)
    read(alone)
    return tuple(alone._instances[image_id])


def add_coco_annotations(
    builder: DatasetBuilder,
    annotations: Iterable,
    amodal_key: str | None,
    visible_key: str | None,
    visible_required: bool = False,
    box_keys: Sequence[str] = ("bbox",),
    extra_keys: Sequence[str] = (),
) -> None:
    """Flat COCO annotations, one an object.

    Args:
        amodal_key: None in a visible-only data set.
        visible_key: None to take every object as fully visible.
        visible_required: skip an object without visible mask, where False takes it as fully visible unless the record
            says that it is occluded.
        box_keys: xywh boxes that must meet the image, where the record has them.
        extra_keys: what to keep in `AmodalInstance.extras`.
    """
    for number, annotation in enumerate(annotations, start=1):
        if not isinstance(annotation, Mapping):
            builder.skip("annotation is not an object", f"annotation number {number}")
            continue
        record = f"annotation {annotation.get('id')}"
        if annotation.get("iscrowd"):
            builder.skip("crowd region", record)
            continue
        amodal = annotation.get(amodal_key) if amodal_key else None
        if visible_key is None:
            visible = FULLY_VISIBLE
        elif amodal_key is None:
            visible = annotation.get(visible_key, [])
        elif visible_required:
            visible = annotation.get(visible_key)
        else:
            visible = visible_or_fully(annotation, visible_key)
        if visible is None:
            rule = "annotation without visible mask" if visible_required else "occluded but without visible mask"
            builder.skip(rule, record)
            continue
        builder.add_instance(
            record,
            image_id=annotation.get("image_id"),
            instance_id=annotation.get("id"),
            category_id=annotation.get("category_id"),
            amodal=[] if amodal is None and amodal_key else amodal,
            visible=visible,
            boxes=[annotation.get(key) for key in box_keys],
            extras={key: annotation[key] for key in extra_keys if key in annotation},
        )


def find_key(annotations: Iterable, candidates: Sequence[str], what: str, path: Path) -> str:
    """The first of `candidates` that any annotation has; of a file without annotations, the first.

    Raises:
        InputError: none of them is there; it lists the keys that are.
    """
    found = dict.fromkeys(key for annotation in annotations if isinstance(annotation, Mapping) for key in annotation)
    for candidate in candidates:
        if candidate in found or not found:
            return candidate
    raise InputError(
        file=path,
        rule=f"no key for {what} masks: looked for {', '.join(candidates)}; "
        f"the annotations have {', '.join(list(found)[:40])}",
        remedy="Use the files as distributed; if these are, add the key to the reader",
    )


def visible_or_fully(record: Mapping, key: str) -> object:
    """The visible mask, FULLY_VISIBLE if it was left out, or None if it is missing although the object is occluded."""
    if record.get(key) is not None:
        return record[key]
    rate = record.get("occlude_rate") or 0
    return None if record.get("invisible_mask") or rate != 0 else FULLY_VISIBLE


# ---------------------------------------------------------------------------------------------------- files


def find_file(root: Path, candidates: Sequence[str], name: str) -> Path:
    """The first of `candidates` (paths below `root`) that exists. InputError names what was looked for and found."""
    if not root.is_dir():
        raise InputError(
            file=root,
            rule=f"the folder of {name} must exist",
            remedy="Give the folder as distributed, see data/README.md for the download",
        )
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    kinds = sorted({Path(candidate).suffix for candidate in candidates})
    folders = (root, root / "annotations")
    found = sorted(p.relative_to(root).as_posix() for d in folders for kind in kinds for p in d.glob(f"*{kind}"))
    kinds = [kind.removeprefix(".").upper() for kind in kinds]
    raise InputError(
        file=root / candidates[0],
        rule=f"annotation file of {name} must exist; looked for {', '.join(candidates)}; "
        f"{'/'.join(kinds)} files found: {', '.join(found[:20]) or 'none'}",
        remedy="Check root and split, see data/README.md for the download",
    )


def parse_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        InputError: not JSON (with the byte where it breaks).
    """
    text = path.read_bytes()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"breaks at byte {len(error.doc[: error.pos].encode())} of {len(text)}: {error.msg}"
        elif isinstance(error, UnicodeDecodeError):
            where = f"has a byte that is not UTF-8 at byte {error.start} of {len(text)}"
        else:
            where = f"cannot be parsed: {error}"
        raise InputError(
            file=path, rule=f"not valid JSON, it {where}", remedy="The file is damaged or incomplete: fetch it again"
        ) from error


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """A JSON object whose `keys` hold lists.

    Raises:
        InputError: not JSON (see `parse_json`), not an object, or without one of the keys.
    """
    data = parse_json(path)
    if not isinstance(data, dict):
        raise InputError(
            file=path,
            rule=f"the file must be a JSON object with {', '.join(keys)}, found a {type(data).__name__}",
            remedy="Use the annotation file as distributed",
        )
    for key in keys:
        if not isinstance(data.get(key), list):
            found = f"a {type(data[key]).__name__}" if key in data else f"only the keys {', '.join(data) or '(none)'}"
            raise InputError(
                file=path, rule=f'needs a list under "{key}", found {found}', remedy="Use the file as distributed"
            )
    return data


def check_split(split: str, known: Iterable[str], name: str) -> None:
    """Raises InputError unless `split` is one of those that the data set has."""
    known = list(known)
    if split not in known:
        raise InputError(
            file="split", rule=f"{name} has the splits {', '.join(known)}; found {split!r}", remedy="Give one of these"
        )


def records(builder: DatasetBuilder, items: Iterable, kind: str) -> Iterator[Mapping]:
    """The items that are JSON objects; others are skipped and counted."""
    for number, item in enumerate(items, start=1):
        if isinstance(item, Mapping):
            yield item
        else:
            builder.skip(f"{kind} is not an object", f"{kind} number {number}")


def _shift_past(taken: Collection[int], items: Iterable) -> int:
    """What to add to the ids of `items` so that none of them is taken; 0 if none is."""
    ids = [item["id"] for item in items if isinstance(item, Mapping) and is_int(item.get("id"))]
    if not any(number in taken for number in ids):
        return 0
    return max(taken) + 1 - min(ids)


def is_int(value: object) -> bool:
    """Whether a JSON value is a whole number, and so can be an id."""
    return isinstance(value, int) and not isinstance(value, bool)


def _box_meets_image(box: object, height: int, width: int) -> bool:
    """Whether an xywh box is 4 finite numbers, has an area and overlaps the image."""
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(isinstance(v, (int, float)) for v in box):
        return False
    x, y, w, h = box
    return 0 < w < np.inf and 0 < h < np.inf and -w < x < width and -h < y < height
