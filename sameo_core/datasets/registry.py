"""All data sets by name, each with its reader, and an inventory of those on disk."""

import difflib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sameo_core.config import DataConfig
from sameo_core.datasets.amodal_lvis import read_amodal_lvis
from sameo_core.datasets.base import AmodalImage
from sameo_core.datasets.coco import (
    read_coco,
    read_coco_photos,
    read_cocoa_cls,
    read_d2sa,
    read_kins,
    read_lvis,
    read_muva,
)
from sameo_core.datasets.cocoa import read_cocoa, read_mp3d_amodal
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.duts import read_duts
from sameo_core.datasets.dyce import read_dyce
from sameo_core.datasets.kitti360_aps import read_kitti360_aps
from sameo_core.datasets.lvvis import read_lvvis
from sameo_core.datasets.pix2gestalt import read_pix2gestalt
from sameo_core.datasets.sources import Published, load_sources
from sameo_core.datasets.walt import read_walt
from sameo_core.errors import InputError

READERS: dict[str, Callable[..., AmodalDataset]] = {  # reader(root, split, **options)
    "cocoa": read_cocoa,
    "cocoa_cls": read_cocoa_cls,
    "d2sa": read_d2sa,
    "kins": read_kins,
    "muva": read_muva,
    "dyce": read_dyce,
    "mp3d_amodal": read_mp3d_amodal,
    "walt": read_walt,
    "kitti360_aps": read_kitti360_aps,
    "pix2gestalt": read_pix2gestalt,
    "lvis": read_lvis,
    "lvvis": read_lvvis,
    "amodal_lvis": read_amodal_lvis,
    "coco": read_coco,
    "coco_photos": read_coco_photos,
    "cocoa_photos": read_cocoa,
    "duts": read_duts,
}


def load_dataset(name: str, root: str | Path, split: str = "val", **options: Any) -> AmodalDataset:
    """Load a data set's annotations; images, and most formats' masks, are read on demand.

    Args:
        name: one of `READERS`.
        root: the data set's folder, laid out as distributed.
        split: as in the names of its files.
        options: the reader's own, see its docstring.

    Raises:
        InputError: unknown name, missing or damaged files, or no usable record. Single records that break a rule are
            skipped and counted in `AmodalDataset.skipped`.
    """
    if name not in READERS:
        close = difflib.get_close_matches(name.lower().replace("-", "_"), READERS, n=1, cutoff=0.5)
        raise InputError(
            file="name",
            rule=f"unknown data set {name!r}; known are {', '.join(READERS)}",
            remedy=f"Did you mean {close[0]!r}?" if close else "Give one of these names",
        )
    return READERS[name](Path(root), split, **options)


# ------------------------------------------------------------------------------------------------- what is on the disk


@dataclass(frozen=True)
class Holding:
    """One line of the inventory: a split as found on disk and as published."""

    name: str
    split: str
    state: str  # "present", "absent", "not readable"; followed by "(no reader)" if load_dataset has none
    images: int | None
    instances: int | None
    published: Published
    licence: str
    folder: Path


def inventory(root: Path) -> tuple[list[Holding], list[str]]:
    """Whether each data set is on disk, and how many images and instances it has and should have.

    Args:
        root: the folder that holds the sets' folders; `Profile.data_folder`.

    Returns:
        one line per set and split, and the errors of those that cannot be read.
    """
    paper = DataConfig()
    names = dict.fromkeys([*paper.train, *paper.held_out, *paper.visible_only, *READERS])
    holdings, problems = [], []
    for name, source in load_sources().items():
        if name not in names:
            continue
        folder = root / name
        for published in source.counts or (Published("all", "unknown"),):
            state, images, instances, problem = _holding(name, folder, published.split)
            holdings.append(Holding(name, published.split, state, images, instances, published, source.licence, folder))
            problems += [problem] if problem else []
    return holdings, problems


def _holding(name: str, folder: Path, split: str) -> tuple[str, int | None, int | None, str | None]:
    """State, images, instances and error of a split; for "all", the sum of the splits on disk."""
    here = "present" if folder.is_dir() else "absent"
    if name not in READERS:
        return f"{here} (no reader)", None, None, None
    if here == "absent":
        return here, None, None, None
    found, problem = [], None
    for part in ("train", "val", "test") if split == "all" else (split,):
        try:
            found.append(load_dataset(name, folder, part).summary())
        except InputError as error:
            problem = problem or str(error)
    if not found:
        return "not readable", None, None, problem
    return "present", sum(part["images"] for part in found), sum(part["instances"] for part in found), None


def bad_images(root: Path) -> Iterator[InputError]:
    """Read every image of every data set on disk; yield an error per unreadable image.

    Args:
        root: as for `inventory`.
    """
    for name, split in itertools.product(READERS, ("train", "val", "test")):
        try:
            dataset = load_dataset(name, root / name, split)
        except InputError:  # `inventory` reports it
            continue
        bar = tqdm(range(0, len(dataset), 1000), desc=f"reading {name} {split}", unit="1000 images")
        with ThreadPoolExecutor() as pool:
            for start in bar:
                yield from filter(None, pool.map(_fault, dataset[start : start + 1000]))


def _fault(image: AmodalImage) -> InputError | None:
    try:
        image.read()
    except InputError as error:
        return error
    return None


def inventory_table(holdings: Sequence[Holding]) -> str:
    """The inventory as aligned columns; counts are "found / published", "-" if unknown or absent."""
    rows = [("data set", "split", "state", "images", "instances", "folder", "licence")]
    named = set()
    for holding in holdings:
        images, instances = (
            f"{_count(getattr(holding, what))} / {_count(getattr(holding.published, what))}"
            for what in ("images", "instances")
        )
        about = (holding.name, str(holding.folder), holding.licence) if holding.name not in named else ("", "", "")
        named.add(holding.name)  # name, folder and licence on its first line only
        rows.append((about[0], holding.split, holding.state, images, instances, *about[1:]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
