"""What all amodal data sets have in common: instance, image, census and data set; masks are read when asked for.

Memory does not grow with a data set whose images are read on demand: what is asked of all its instances (counts, areas,
what was skipped, what cleaning removes) is answered by the census, one table of whole numbers.
"""

import hashlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float64, Int64
from pycocotools import mask as coco_mask
from tqdm import tqdm

from sameo_core.arrays import AmodalMask, BoxXYXY, Image, VisibleMask
from sameo_core.datasets.files import cache_file, load_arrays, save_arrays
from sameo_core.datasets.images import FORMATS, orientation, upright, upright_size
from sameo_core.errors import InputError
from sameo_core.masks import RLE, decode_rle, intersect_rle, mask_area, mask_box, subtract_rle, xyxy_to_xywh

BOX_KINDS = ("visible", "amodal")
CENSUS_VERSION = 2  # of what a census holds and of the rules that instances are checked by: another one is taken anew
CENSUS_KEPT_FROM = 500  # images; fewer are counted again in a second
RECENT_IMAGES = 2000  # of a data set, kept with the masks that were read
_LENIENT = "utf-8", "backslashreplace"  # names found in files may hold half of a surrogate pair


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
        return decode_rle(self.known_amodal_rle())

    @property
    def visible(self) -> VisibleMask:
        return decode_rle(self.visible_rle)

    @property
    def hidden(self) -> AmodalMask:
        """The hidden region: amodal minus visible."""
        return decode_rle(subtract_rle(self.known_amodal_rle(), self.visible_rle))

    @property
    def amodal_box(self) -> BoxXYXY:
        return mask_box(self.known_amodal_rle())

    @property
    def visible_box(self) -> BoxXYXY:
        return mask_box(self.visible_rle)

    @property
    def area(self) -> int:
        """Pixels of the amodal mask."""
        return mask_area(self.known_amodal_rle())

    @property
    def visible_area(self) -> int:
        """Pixels of the visible mask."""
        return mask_area(self.visible_rle)

    @property
    def occlusion_rate(self) -> float:
        """Hidden pixels / amodal pixels, in [0, 1)."""
        area = self.area
        return (area - self.visible_area) / area

    def known_amodal_rle(self) -> RLE:
        """`amodal_rle` for those who need it. Raises InputError where the data set has visible masks only."""
        if self.amodal_rle is None:
            raise InputError(
                file="data set",
                record=f"instance {self.instance_id} ({self.category})",
                rule="no amodal mask: this data set (LVIS, LV-VIS) has visible masks only",
                remedy="Use .visible, or the data set amodal_lvis",
            )
        return self.amodal_rle


class InstancesOnDemand(Sequence):
    """The objects of an image, read when first asked for, then kept as RLE.

    Args:
        make: reads them; and the records that it could not use, as rule -> records.
        contents: a text that changes whenever what `make` would read does; nothing is decoded for it.
    """

    def __init__(
        self,
        make: Callable[[], tuple[tuple[AmodalInstance, ...], dict[str, list[str]]]],
        contents: Callable[[], str],
    ):
        self._make: Any = make  # let go with its arguments, once it was called
        self._made: tuple[tuple[AmodalInstance, ...], dict[str, list[str]]] | None = None
        self.contents = contents

    def _all(self) -> tuple[tuple[AmodalInstance, ...], dict[str, list[str]]]:
        if self._made is None:
            self._made, self._make = self._make(), None
        return self._made

    @property
    def skipped(self) -> dict[str, list[str]]:
        """The image's records that could not be used, by rule."""
        return self._all()[1]

    def __len__(self) -> int:
        return len(self._all()[0])

    @overload
    def __getitem__(self, index: SupportsIndex) -> AmodalInstance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AmodalInstance, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> AmodalInstance | tuple[AmodalInstance, ...]:
        return self._all()[0][index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all()[0] == tuple(other)

    def __repr__(self) -> str:
        return "InstancesOnDemand(not read yet)" if self._made is None else repr(self._made[0])


@dataclass(frozen=True)
class AmodalImage:
    """One image and its objects, in the order of the file."""

    image_id: int
    file_name: str
    path: Path
    height: int
    width: int
    instances: tuple[AmodalInstance, ...] | InstancesOnDemand
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

        EXIF orientation is applied, as annotation tools do: masks are in pixels of the upright picture.

        Raises:
            InputError: the file is missing, cannot be decoded, or has not the size of its record.
        """
        record = f"image {self.image_id}"
        if file_size(self.path) < 0:
            raise InputError(
                file=self.path,
                record=record,
                rule="the image file must exist",
                remedy=f"Download the images to {self.path.parent}, see data/README.md",
            )
        try:
            with PIL.Image.open(self.path, formats=FORMATS) as image:
                size, stated, turned = upright_size(image), (self.height, self.width), orientation(image)
                if size != stated:
                    rule = f"image of another size: the file's (h, w) is {size}, the annotations' {stated}"
                    remedy = "Use the original images, not resized or rotated ones"
                    if turned != 1:
                        rule += f"; upright, for its EXIF orientation is {turned}"
                        remedy = "Correct height and width, or, if it was annotated as stored, unrotated, remove its "
                        remedy += "EXIF orientation"
                    raise InputError(file=self.path, record=record, rule=rule, remedy=remedy)
                if image.mode == "F" or image.mode.startswith("I"):
                    raise InputError(
                        file=self.path,
                        record=record,
                        rule=f"image must have 8 bits a channel, found mode {image.mode}",
                        remedy="Save it as 8-bit RGB or greyscale",
                    )
                return np.array(upright(image).convert("RGB"))
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise many types for damaged files
            raise InputError(
                file=self.path,
                record=record,
                rule=f"the image file cannot be decoded: {error}",
                remedy="The file is damaged or incomplete: fetch it again",
            ) from error


class LazyImages(Sequence):
    """Images that are made when asked for; the last ones, with their masks where they were read, are kept."""

    def __init__(self) -> None:
        self._recent: OrderedDict[int, AmodalImage] = OrderedDict()

    def __getitem__(self, index: SupportsIndex) -> AmodalImage:  # type: ignore[override]  # one: AmodalDataset slices
        number = range(len(self))[index]
        with suppress(KeyError):
            self._recent.move_to_end(number)
            return self._recent[number]
        image = self._recent[number] = self._make(number)
        if len(self._recent) > RECENT_IMAGES:
            self._recent.popitem(last=False)
        return image

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_recent": OrderedDict()}  # what travels to worker processes is small

    @abstractmethod
    def _make(self, number: int) -> AmodalImage: ...

    def contents(self) -> str:
        """A text that changes whenever a record or a mask does; nothing is decoded for it."""
        return _contents_of(iter(self))

    def occupied(self) -> Int64[np.ndarray, " some"]:
        """Numbers of the images that may have objects, ascending."""
        return np.arange(len(self))

    def skipped(self) -> dict[str, list[str]]:
        """Records that could be seen to be of no use before anything was read, by rule."""
        return {}


def file_size(path: Path) -> int:
    """Bytes of a file; -1 if there is none, or the name cannot be one."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


ImageSequence = Sequence  # of AmodalImage; not said to the type checker of the tests, which would look at one of them


# ---------------------------------------------------------------------------------------------------- what is counted


@dataclass(frozen=True)
class Census:
    """Every instance of a data set as a row of numbers, in the data set's order; and all records that were skipped."""

    image: Int64[np.ndarray, " n"]  # number of the image in the data set, ascending
    instance_id: Int64[np.ndarray, " n"]
    category_id: Int64[np.ndarray, " n"]
    name: Int64[np.ndarray, " n"]  # of the category: place in `names`
    is_stuff: Bool[np.ndarray, " n"]
    image_area: Int64[np.ndarray, " n"]  # pixels of the image
    amodal_area: Int64[np.ndarray, " n"]  # pixels; -1 in visible-only data sets
    visible_area: Int64[np.ndarray, " n"]  # pixels
    names: tuple[str, ...]
    skipped: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def occlusion_rates(self) -> Float64[np.ndarray, " n"]:
        """Hidden pixels / amodal pixels, in [0, 1); NaN in visible-only data sets."""
        amodal = np.where(self.amodal_area < 0, np.nan, self.amodal_area)
        return (amodal - self.visible_area) / amodal


_COLUMNS = ("image", "instance_id", "category_id", "name", "is_stuff", "image_area", "amodal_area", "visible_area")


def _take_census(images: ImageSequence, skipped: Mapping[str, list[str]], title: str) -> Census:
    """Reads all masks once."""
    skipped = {rule: list(records) for rule, records in skipped.items()}
    names: dict[str, int] = {}
    batches, rows = [np.zeros((0, len(_COLUMNS)), np.int64)], []
    numbers = images.occupied().tolist() if isinstance(images, LazyImages) else range(len(images))
    few = len(images) < CENSUS_KEPT_FROM
    for number in tqdm(numbers, desc=f"measuring {title}", unit="image", disable=few, delay=2):
        image = images[number]
        items = list(image.instances)
        amodal = iter(_areas([item.amodal_rle for item in items if item.amodal_rle is not None]))
        for item, visible in zip(items, _areas([item.visible_rle for item in items]), strict=True):
            name, area = names.setdefault(item.category, len(names)), -1 if item.amodal_rle is None else next(amodal)
            numbers_of = number, item.instance_id, item.category_id, name, item.is_stuff
            rows.append((*numbers_of, image.height * image.width, area, visible))
        if isinstance(image.instances, InstancesOnDemand):
            for rule, records in image.instances.skipped.items():
                skipped.setdefault(rule, []).extend(records)
        if len(rows) > 10_000:
            batches.append(np.array(rows, np.int64))
            rows.clear()
    table = np.concatenate([*batches, np.array(rows, np.int64).reshape(-1, len(_COLUMNS))])
    return _census_of({name: column.copy() for name, column in zip(_COLUMNS, table.T, strict=True)}, names, skipped)


def _areas(rles: list[RLE]) -> list[int]:
    few = (rles[i : i + 255] for i in range(0, len(rles), 255))  # pycocotools counts the masks of a list in 8 bits
    return [area for part in few for area in coco_mask.area(part).tolist()]


def _census_of(columns: Mapping[str, np.ndarray], names: Iterable[str], skipped: dict[str, list[str]]) -> Census:
    columns = {name: columns[name] for name in _COLUMNS} | {"is_stuff": columns["is_stuff"] > 0}
    return Census(**columns, names=tuple(names), skipped=skipped)


# ---------------------------------------------------------------------------------------------------- the data set


class AmodalDataset(Sequence):
    """A sequence of `AmodalImage`s, whose objects may be read on demand.

    Args:
        images: a list, or `LazyImages`.
        skipped: by rule, the records that were seen to be of no use before anything is read on demand.
        frequencies: LVIS: category id -> "r", "c" or "f".
        census: where it is known already.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        split: str,
        categories: dict[int, str],
        images: ImageSequence,
        skipped: dict[str, list[str]],
        frequencies: dict[int, str] | None = None,
        census: Census | None = None,
    ):
        self.name, self.root, self.split = name, root, split
        self.categories, self.frequencies = categories, frequencies or {}
        self.images = images if isinstance(images, LazyImages) else list(images)
        self._skipped, self._census = skipped, census

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: SupportsIndex) -> AmodalImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[AmodalImage]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> AmodalImage | list[AmodalImage]:
        if isinstance(index, slice):
            return [self.images[i] for i in range(*index.indices(len(self)))]
        return self.images[index]

    def __iter__(self) -> Iterator[AmodalImage]:
        return iter(self.images)

    def __repr__(self) -> str:
        return f"AmodalDataset({self.name!r}, split={self.split!r}, {len(self)} images)"

    @property
    def skipped(self) -> dict[str, list[str]]:
        """By rule, the records that could not be used. All are known once all masks are read: see `census`."""
        return self.census().skipped if self._on_demand() else self._skipped

    def census(self) -> Census:
        """All instances in numbers, and what was skipped: one pass over all masks, the first time that it is asked for.

        Of a large data set it is kept on disk; it is taken again when the files have changed.

        Raises:
            InputError: an annotation file changed after the data set was loaded.
        """
        if self._census is None:
            self._census = self._kept_census()
        return self._census

    def _on_demand(self) -> bool:
        if isinstance(self.images, LazyImages):
            return True
        return any(isinstance(image.instances, InstancesOnDemand) for image in self.images)

    def _kept_census(self) -> Census:
        keep = len(self) >= CENSUS_KEPT_FROM and self._on_demand()
        cache = cache_file("census", CENSUS_VERSION, self._contents()) if keep else None
        header, columns = (load_arrays(cache) if cache else None) or ({}, {})
        with suppress(KeyError):  # not kept, or not a census
            return _census_of(columns, header["names"], header["skipped"])
        skipped = {rule: list(records) for rule, records in self._skipped.items()}
        if isinstance(self.images, LazyImages):
            for rule, records in self.images.skipped().items():
                skipped.setdefault(rule, []).extend(records)
        census = _take_census(self.images, skipped, f"{self.name} {self.split}")
        if cache:
            columns = {name: getattr(census, name) for name in _COLUMNS}
            save_arrays(cache, {"names": census.names, "skipped": census.skipped}, columns)
        return census

    def select(self, kept: Bool[np.ndarray, " n"]) -> "AmodalDataset":
        """The data set with the instances that are marked, in the order of `census`, and the images that have any.

        Nothing is read; what was skipped is skipped here, too.
        """
        census = self.census()
        rows = np.flatnonzero(kept)
        numbers, starts, image = np.unique(census.image[rows], return_index=True, return_inverse=True)
        first, counts = (np.searchsorted(census.image, numbers, side) for side in ("left", "right"))
        counts -= first
        positions = rows - np.repeat(first, np.diff(starts, append=len(rows)))
        columns = {name: getattr(census, name)[rows] for name in _COLUMNS} | {"image": image.astype(np.int64)}
        images = _Selection(self.images, numbers, counts, np.append(starts, len(rows)), positions)
        about = self.name, self.root, self.split, self.categories
        selected = _census_of(columns, census.names, census.skipped)
        return AmodalDataset(*about, images, self._skipped, self.frequencies, selected)

    def _contents(self) -> str:
        """What changes with any record or mask; nothing is decoded for it, and images are not looked at."""
        digest = hashlib.sha256(repr((self.name, self.split, self.categories, self._skipped)).encode(*_LENIENT))
        digest.update(_contents_of(self.images).encode(*_LENIENT))
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the images' names, sizes and bytes a file, and with the masks.

        It names what was computed from the data set. Neither pixels nor masks are read: masks count by the contents of
        the annotation file they are in, or by size and time of the mask file.
        """
        digest = hashlib.sha256(f"{self.root} {self._contents()}".encode(*_LENIENT))
        for image in self.images:
            about = f"{image.image_id} {image.file_name} {image.height} {image.width} {file_size(image.path)}"
            digest.update(about.encode(*_LENIENT))
        return digest.hexdigest()[:16]

    def to_coco(self) -> dict:
        """COCO ground truth whose `segmentation` is the amodal mask; JSON-ready, accepted by pycocotools.

        Besides COCO's keys each annotation has `visible_mask` (RLE) and `occlude_rate`. Annotation ids are the
        instances' own, shifted where the file counts from 0, because pycocotools takes id 0 for "no match".

        Raises:
            InputError: the data set has no amodal masks (LVIS, LV-VIS).
        """
        images, annotations = [], []
        for image in self.images:
            about = {"file_name": image.file_name, "height": image.height, "width": image.width}
            images.append({"id": image.image_id, **about})
            annotations += [
                {
                    "id": instance.instance_id,
                    "image_id": image.image_id,
                    "category_id": instance.category_id,
                    "iscrowd": 0,
                    "bbox": xyxy_to_xywh(instance.amodal_box).tolist(),
                    "area": instance.area,
                    "segmentation": dict(instance.amodal_rle or {}),
                    "visible_mask": dict(instance.visible_rle),
                    "occlude_rate": instance.occlusion_rate,
                }
                for instance in image.instances
            ]
        shift = max(0, 1 - min((annotation["id"] for annotation in annotations), default=1))
        for annotation in annotations:
            annotation["id"] += shift
        return {
            "info": {"description": f"{self.name} {self.split}: amodal ground truth"},
            "images": images,
            "categories": [{"id": i, "name": name} for i, name in self.categories.items()],
            "annotations": annotations,
        }

    def summary(self) -> dict:
        """Counts: images, instances, occluded_share and mean_occlusion_rate (NaN without amodal masks), skipped."""
        census = self.census()
        rates = census.occlusion_rates
        known = len(rates) and not np.isnan(rates).any()
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "instances": len(census),
            "occluded_share": float((rates > 0).mean()) if known else float("nan"),
            "mean_occlusion_rate": float(rates.mean()) if known else float("nan"),
            "skipped": {rule: len(records) for rule, records in census.skipped.items()},
        }


class _Selection(LazyImages):
    """Some images of `source`, each with some of its objects.

    Args:
        numbers: of the images in `source`.
        counts: how many objects each of them has there.
        starts: image i has the objects `positions[starts[i] : starts[i + 1]]` of the image `numbers[i]`.
    """

    def __init__(
        self,
        source: ImageSequence,
        numbers: Int64[np.ndarray, " images"],
        counts: Int64[np.ndarray, " images"],
        starts: Int64[np.ndarray, " images+1"],
        positions: Int64[np.ndarray, " n"],
    ):
        super().__init__()
        self.source, self.numbers, self.counts, self.starts, self.positions = source, numbers, counts, starts, positions

    def __len__(self) -> int:
        return len(self.numbers)

    def _make(self, number: int) -> AmodalImage:
        image = self.source[int(self.numbers[number])]
        positions = self.positions[self.starts[number] : self.starts[number + 1]].tolist()
        make = partial(_chosen, image, positions, int(self.counts[number]))
        if isinstance(image.instances, tuple):
            return replace(image, instances=make()[0])
        return replace(image, instances=InstancesOnDemand(make, partial(_chosen_contents, image.instances, positions)))

    def contents(self) -> str:
        chosen = [hashlib.sha256(array.tobytes()).hexdigest() for array in (self.numbers, self.starts, self.positions)]
        return f"{_contents_of(self.source)} {chosen}"


def _chosen(image: AmodalImage, positions: list[int], count: int) -> tuple[tuple[AmodalInstance, ...], dict]:
    if len(image.instances) != count:
        raise InputError(
            file=image.path,
            record=f"image {image.image_id}",
            rule=f"it had {count} objects when they were counted, now {len(image.instances)}: the masks have changed",
            remedy="Load the data set again",
        )
    return tuple(image.instances[position] for position in positions), {}


def _chosen_contents(instances: InstancesOnDemand, positions: list[int]) -> str:
    return f"{positions} of {instances.contents()}"


def _contents_of(images: Iterable) -> str:
    """See `LazyImages.contents`."""
    if isinstance(images, LazyImages):
        return images.contents()
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.image_id} {image.file_name} {image.height} {image.width}".encode(*_LENIENT))
        if isinstance(image.instances, InstancesOnDemand):
            digest.update(image.instances.contents().encode(*_LENIENT))
            continue
        for item in image.instances:
            about = f"{item.instance_id} {item.category_id} {item.is_stuff} {item.amodal_rle} {item.visible_rle}"
            digest.update(about.encode(*_LENIENT))
    return digest.hexdigest()
