"""All data sets by name, each with its reader, and an inventory of those on disk."""

import difflib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

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


def inventory(root: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """Whether each data set is in a folder below `root`, and how many images and instances it has and should have.

    Returns:
        one row per set and split: name, split, state, images, instances (both "found / published", "-" if unknown or
        absent), folder, licence; and the errors of those that cannot be read.
    """
    rows, problems = [], []
    for name, source in load_sources().items():
        folder = root / name
        for published in source.counts or (Published("all", "unknown"),) if name in READERS else ():
            state = "absent"
            found: tuple[int | None, int | None] = (None, None)
            if folder.is_dir():
                try:
                    state, found = "present", _count(name, folder, published.split)
                except InputError as error:
                    state = "not readable"
                    problems.append(str(error))
            counts = zip(found, (published.images, published.instances), strict=True)
            shown = (" / ".join("-" if n is None else f"{n:,}" for n in pair) for pair in counts)
            rows.append((name, published.split, state, *shown, str(folder), source.licence))
    return rows, problems


def _count(name: str, folder: Path, split: str) -> tuple[int, int]:
    """Images and instances on disk of a split; for "all", of all splits that can be read."""
    found, problem = [], None
    for part in ("train", "val", "test") if split == "all" else (split,):
        try:
            found.append(load_dataset(name, folder, part).summary())
        except InputError as error:
            problem = problem or error
    if problem and not found:
        raise problem
    return sum(part["images"] for part in found), sum(part["instances"] for part in found)


def bad_images(root: Path) -> Iterator[InputError]:
    """Read every image of every data set below `root`; yield an error per unreadable image."""
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


def inventory_table(rows: Sequence[tuple[str, ...]]) -> str:
    """The inventory as aligned columns; name, folder and licence on a set's first line only."""
    shown: list[tuple[str, ...]] = [("data set", "split", "state", "images", "instances", "folder", "licence")]
    named = ""
    for row in rows:
        shown.append(row if row[0] != named else ("", *row[1:5], "", ""))
        named = row[0]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)
