"""The data set, and its census: one row of numbers per instance.

Counts, areas, skipped records and cleaning use the census, so masks are read only once.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, SupportsIndex, overload

import numpy as np
from jaxtyping import Bool, Float64, Int64
from joblib import Parallel, delayed
from pycocotools import mask as coco_mask
from tqdm import tqdm

from sameo_core.datasets.base import AmodalImage, AmodalInstance, Instances, InstancesOnDemand, LazyImages
from sameo_core.datasets.files import LENIENT, cache_file, kept_digest, load_arrays, save_arrays, size_and_time
from sameo_core.datasets.kept_masks import pack
from sameo_core.errors import InputError
from sameo_core.masks import RLE, xyxy_to_xywh
from sameo_core.runs.atomic import atomic_write

CENSUS_VERSION = 3  # of its format and of the rules that check instances
CENSUS_KEPT_FROM = 500  # images; fewer take a second, or a few minutes if masks are files
ALONE = 5  # s, before worker processes help with a census: starting them takes as long
TASK = 16  # images per task of a worker process


@dataclass(frozen=True)
class Census:
    """All instances of a data set, in order, as columns of numbers; and all skipped records."""

    image: Int64[np.ndarray, " n"]  # index of the image in the data set, ascending
    instance_id: Int64[np.ndarray, " n"]
    category_id: Int64[np.ndarray, " n"]
    name: Int64[np.ndarray, " n"]  # of the category: index into `names`
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

    def columns(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in _COLUMNS}


_COLUMNS = ("image", "instance_id", "category_id", "name", "is_stuff", "image_area", "amodal_area", "visible_area")


def _take_census(
    images: LazyImages, skipped: Mapping[str, list[str]], title: str, file: BinaryIO | None = None
) -> tuple[Census, Int64[np.ndarray, " ends"]]:
    """Read all masks once and pack them into `file`; also returns each image's end in it, in bytes, after a leading 0.

    `skipped`: the unusable records found before the images were made.
    """
    names: dict[str, int] = {}
    found: dict[str, list[str]] = {}
    tables, sizes = [np.zeros((0, len(_COLUMNS)), np.int64)], [0]

    def add_skipped(more: Mapping[str, list[str]]) -> None:
        for rule, records in more.items():
            found.setdefault(rule, []).extend(records)

    add_skipped(skipped)
    add_skipped(images.skipped)
    numbers = images.occupied().tolist()
    measured, few = _measured(images, numbers, file is not None), len(images) < CENSUS_KEPT_FROM
    for rows, more, masks in tqdm(measured, f"measuring {title}", len(numbers), unit="image", disable=few, delay=2):
        coded = [(*row[:3], names.setdefault(row[3], len(names)), *row[4:]) for row in rows]
        tables.append(np.array(coded, np.int64).reshape(-1, len(_COLUMNS)))
        add_skipped(more)
        if file:
            file.write(masks)
            sizes.append(len(masks))
    columns = dict(zip(_COLUMNS, np.concatenate(tables).T.copy(), strict=True))
    columns["is_stuff"] = columns["is_stuff"] > 0
    return Census(**columns, names=tuple(names), skipped=found), np.cumsum(sizes)


_Measured = tuple[list[tuple], Mapping[str, list[str]], bytes]  # rows of the census, skipped records, packed masks


def _measured(images: LazyImages, numbers: Sequence[int], keep: bool) -> Iterator[_Measured]:
    """`_measure` for each image, in order; in several processes after `ALONE` seconds."""
    starts = range(0, len(numbers), TASK)
    tasks = (([(number, images[number]) for number in numbers[start : start + TASK]], keep) for start in starts)
    end = time.monotonic() + ALONE
    for task in tasks:
        yield from _measure(*task)
        if time.monotonic() > end:
            break
    else:
        return
    for done in Parallel(n_jobs=-1, return_as="generator")(delayed(_measure)(*task) for task in tasks):
        yield from done


def _measure(images: Sequence[tuple[int, AmodalImage]], keep: bool) -> list[_Measured]:
    """Measure numbered images; rows hold category names. Masks are packed if `keep`."""
    found: list[_Measured] = []
    for number, image in images:
        pixels, items = image.height * image.width, list(image.instances)
        rows = [
            (number, item.instance_id, item.category_id, item.category, item.is_stuff, pixels)
            + (_area(item.amodal_rle), _area(item.visible_rle))
            for item in items
        ]
        skipped = image.instances.skipped if isinstance(image.instances, InstancesOnDemand) else {}
        found.append((rows, skipped, pack(items, skipped) if keep else b""))
    return found


def _area(rle: RLE | None) -> int:
    return -1 if rle is None else int(coco_mask.area(rle))


class AmodalDataset(Sequence):
    """A sequence of `AmodalImage`s.

    Args:
        images: of `AmodalImage`.
        skipped: unusable records by rule, except those that the images list themselves.
        frequencies: LVIS: category id -> "r", "c" or "f".
        census: if already known.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        split: str,
        categories: dict[int, str],
        images: Sequence,  # a type argument would make the tests' type checker read an image
        skipped: dict[str, list[str]],
        frequencies: dict[int, str] | None = None,
        census: Census | None = None,
    ):
        self.name, self.root, self.split = name, root, split
        self.categories, self.frequencies = categories, frequencies or {}
        self.images = images if isinstance(images, LazyImages) else _ListedImages(images)
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
        """The unusable records, by rule; takes the census."""
        return self.census().skipped

    def census(self) -> Census:
        """All instances in numbers, and the skipped records; the first call reads all masks.

        For a large data set the census, and mask files as RLE, are cached on disk until the files change.

        Raises:
            InputError: an annotation file changed after the data set was loaded.
        """
        census = self.known_census()
        if census is None:
            census = self._census = self._new_census()
        return census

    def known_census(self) -> Census | None:
        """The census if this or another process has taken it, else None; reads no mask."""
        if self._census is None and self._census_is_kept():
            cache = self._census_file()
            header, columns = load_arrays(cache) or ({}, {})
            with suppress(KeyError, OSError):  # missing or incomplete
                if self.images.in_mask_files:
                    ends, masks = columns.pop("ends"), cache.with_suffix(".masks")
                    if masks.stat().st_size != ends[-1]:
                        return None
                    self.images.use_kept_masks(masks, ends)
                self._census = Census(**columns, names=tuple(header["names"]), skipped=header["skipped"])
        return self._census

    def _census_is_kept(self) -> bool:
        return len(self) >= CENSUS_KEPT_FROM and not isinstance(self.images, _ListedImages)

    def _census_file(self) -> Path:
        return cache_file("census", CENSUS_VERSION, self._contents())

    def _new_census(self) -> Census:
        take = partial(_take_census, self.images, self._skipped, f"{self.name} {self.split}")
        if not self._census_is_kept():
            return take()[0]
        cache, kept = self._census_file(), {}
        if self.images.in_mask_files:
            masks = cache.with_suffix(".masks")
            with suppress(InputError), atomic_write(masks) as unfinished, unfinished.open("wb") as file:
                census, kept["ends"] = take(file)
        if kept:
            self.images.use_kept_masks(masks, kept["ends"])
        else:  # no mask files; or the disk is full, or an error that will recur
            census, _ = take()
        save_arrays(cache, {"names": census.names, "skipped": census.skipped}, census.columns() | kept)
        return census

    def select(self, kept: Bool[np.ndarray, " n"]) -> "AmodalDataset":
        """A data set of the instances where `kept` is true, in `census` order, and of their images.

        No mask is read; `skipped` stays the same.
        """
        census = self.census()
        rows = np.flatnonzero(kept)
        numbers, starts, image = np.unique(census.image[rows], return_index=True, return_inverse=True)
        positions = rows - np.searchsorted(census.image, numbers)[image]
        images = _Selection(self.images, numbers, np.append(starts, len(rows)), positions)
        columns = {name: column[rows] for name, column in census.columns().items()} | {"image": image.astype(np.int64)}
        about = self.name, self.root, self.split, self.categories
        selected = Census(**columns, names=census.names, skipped=census.skipped)
        return AmodalDataset(*about, images, self._skipped, self.frequencies, selected)

    def _contents(self) -> str:
        """A digest that changes with any record or mask. Decodes nothing and opens no image."""
        about = repr((self.name, self.split, self.categories, self._skipped)) + self.images.contents()
        return hashlib.sha256(about.encode(*LENIENT)).hexdigest()

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the images' names, sizes and bytes per file, and with the masks.

        Used to name results computed from the data set. Pixels are not read. Masks on demand are represented by the
        contents of the annotation file, or by size and time of the mask file.
        """

        def texts(numbers: Iterable[int]) -> Iterator[tuple[str, list[Path]]]:
            for image in map(self.images.__getitem__, numbers):
                yield f"{_identity(image)} {size_and_time(image.path)[0]}", [image.path]

        return kept_digest("", len(self), texts, start=f"{self.root} {self._contents()}")[:16]

    def to_coco(self) -> dict:
        """COCO ground truth whose `segmentation` is the amodal mask; JSON-ready, accepted by pycocotools.

        Each annotation also has `visible_mask` (RLE) and `occlude_rate`. Annotation ids are the instances' own, shifted
        if the file counts from 0, because pycocotools takes id 0 for "no match".

        Raises:
            InputError: the data set has no amodal masks (LVIS, LV-VIS).
        """
        images, annotations = [], []
        for image in self.images:
            about = {"file_name": image.file_name, "height": image.height, "width": image.width}
            images.append({"id": image.image_id, **about})
            annotations += [_coco_annotation(image, instance) for instance in image.instances]
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


def _coco_annotation(image: AmodalImage, instance: AmodalInstance) -> dict:
    return {
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


class _ListedImages(LazyImages):
    """Images in memory."""

    def __init__(self, images: Sequence):
        super().__init__()
        self.images = list(images)

    def __len__(self) -> int:
        return len(self.images)

    def _make(self, number: int) -> AmodalImage:
        return self.images[number]

    def contents(self) -> str:
        """A digest of the masks themselves."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(_identity(image).encode(*LENIENT))
            for item in image.instances:
                about = f"{item.instance_id} {item.category_id} {item.is_stuff} {item.amodal_rle} {item.visible_rle}"
                digest.update(about.encode(*LENIENT))
        return digest.hexdigest()


class _Selection(LazyImages):
    """Some images of `source`, each with some of its objects.

    Args:
        numbers: indices of the images in `source`.
        starts: image i has the objects `positions[starts[i] : starts[i + 1]]` of the image `numbers[i]`.
    """

    def __init__(
        self,
        source: LazyImages,
        numbers: Int64[np.ndarray, " images"],
        starts: Int64[np.ndarray, " images+1"],
        positions: Int64[np.ndarray, " n"],
    ):
        super().__init__()
        self.source, self.numbers, self.starts, self.positions = source, numbers, starts, positions

    def __len__(self) -> int:
        return len(self.numbers)

    def _make(self, number: int) -> AmodalImage:
        image = self.source[int(self.numbers[number])]
        chosen = partial(_chosen, image, self.positions[self.starts[number] : self.starts[number + 1]].tolist())
        on_demand = isinstance(image.instances, InstancesOnDemand)
        return replace(image, instances=InstancesOnDemand(chosen) if on_demand else chosen()[0])

    def contents(self) -> str:
        chosen = [hashlib.sha256(array.tobytes()).hexdigest() for array in (self.numbers, self.starts, self.positions)]
        return f"{self.source.contents()} {chosen}"


def _chosen(image: AmodalImage, positions: list[int]) -> Instances:
    return tuple(image.instances[position] for position in positions), {}


def _identity(image: AmodalImage) -> str:
    return f"{image.image_id} {image.file_name} {image.height} {image.width}"
