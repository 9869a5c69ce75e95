"""Every data set by name, with the function that reads it."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sameo_core.datasets.amodal_lvis import read_amodal_lvis
from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.coco import (
    read_coco,
    read_coco_photos,
    read_cocoa_cls,
    read_d2sa,
    read_kins,
    read_lvis,
    read_muva,
)
from sameo_core.datasets.cocoa import read_cocoa
from sameo_core.datasets.duts import read_duts
from sameo_core.datasets.dyce import read_dyce
from sameo_core.datasets.kitti360_aps import read_kitti360_aps
from sameo_core.datasets.lvvis import read_lvvis
from sameo_core.datasets.mp3d_amodal import read_mp3d_amodal
from sameo_core.datasets.pix2gestalt import read_pix2gestalt
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
    """The annotations of one data set; images are read when asked for, and so are most formats' masks.

    Args:
        name: one of `READERS`.
        root: the data set's folder, laid out as distributed.
        split: as in the names of its files.
        options: the reader's own, see its docstring.

    Raises:
        InputError: unknown name, missing or damaged files, or nothing in them that can be used. Single records that
            break a rule are skipped and counted in `AmodalDataset.skipped`.
    """
    if name not in READERS:
        close = difflib.get_close_matches(name.lower().replace("-", "_"), READERS, n=1, cutoff=0.5)
        raise InputError(
            file="name",
            rule=f"unknown data set {name!r}; known are {', '.join(READERS)}",
            remedy=f"Did you mean {close[0]!r}?" if close else "Give one of these names",
        )
    return READERS[name](Path(root), split, **options)
