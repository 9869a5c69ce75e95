"""pix2gestalt (Ozguroglu et al., CVPR 2024): synthetic occlusions; one annotated object per picture."""

import os
from functools import partial
from pathlib import Path

from sameo_core.datasets.builder import DatasetBuilder
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import check_split
from sameo_core.datasets.images import image_size, read_mask_png
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask

FOLDERS = {  # folder -> ending of its file names; whole/, with pictures of the object alone, is not read
    "occlusion": "_occlusion.png",
    "whole_mask": "_whole_mask.png",
    "visible_object_mask": "_visible_mask.png",
}


def read_pix2gestalt(root: Path, split: str) -> AmodalDataset:
    """The release as distributed: occlusion/, whole_mask/ and visible_object_mask/, with or without sub-folders.

    Files whose names begin with the same id belong together. The release has no split: of the complete ids, sorted by
    name, the first 99 % are "train" and the rest, at least one, "val". If `root` has a folder {split} with the three
    folders, that is the split instead. All pictures are assumed to have the size of the first (256 x 256). Masks are
    read on demand. Only one object per picture is annotated, so there is no ground truth for detection.

    Raises:
        InputError: a folder is missing, fewer than 2 complete ids, see `DatasetBuilder.finish`.
    """
    whole = (root / split / "occlusion").is_dir()
    if whole:
        root = root / split
    else:
        check_split(split, ["train", "val"], "pix2gestalt")
    builder = DatasetBuilder("pix2gestalt", root, split, root / "occlusion", {1: "object"})
    found = {folder: _files(root, folder, ending) for folder, ending in FOLDERS.items()}
    every = set().union(*found.values())
    complete = [name for name in every if all(name in files for files in found.values())]
    for name in sorted(every.difference(complete)):
        missing = [folder for folder, files in found.items() if name not in files]
        builder.skip(f"no file in {' and '.join(missing)}", f"id {name}")
    complete.sort(key=lambda name: found["occlusion"][name])
    if not whole:
        if len(complete) < 2:
            raise InputError(
                file=root / "occlusion",
                rule=f"train and val need at least one picture each, found {len(complete)} complete",
                remedy="Unpack the release completely",
            )
        cut = len(complete) * 99 // 100
        complete = complete[:cut] if split == "train" else complete[cut:]

    numeric = all(name.isascii() and name.isdigit() and len(name) < 19 for name in complete)
    size = None
    for position, name in enumerate(complete, start=1):
        image_id = int(name) if numeric else position
        picture, whole_mask, visible = (files[name] for files in found.values())
        with builder.skipping(f"id {name}", prefix="image "):
            size = size or image_size(root / picture)
            builder.add_image({"id": image_id, "height": size[0], "width": size[1]}, picture, root)
            read = partial(_read_object, root, image_id, size, name, whole_mask, visible)
            builder.add_instances_later(image_id, read, partial(_mask_files, root, whole_mask, visible))
    return builder.finish()


def _read_object(
    root: Path, image_id: int, size: tuple[int, int], name: str, whole: str, visible: str, builder: DatasetBuilder
) -> None:
    with builder.skipping(f"id {name}"):
        builder.add_instance(
            f"id {name}",
            image_id=image_id,
            instance_id=image_id,
            category_id=1,
            amodal=encode_mask(read_mask_png(root / whole, *size)),
            visible=encode_mask(read_mask_png(root / visible, *size)),
        )


def _mask_files(root: Path, *names: str) -> list[Path]:
    """The files that `_read_object` reads."""
    return [root / name for name in names]


def _files(root: Path, folder: str, ending: str) -> dict[str, str]:
    """id -> path below `root` of the files at any depth of `folder` whose names end in `ending`."""
    if not (root / folder).is_dir():
        raise InputError(
            file=root / folder,
            rule=f"pix2gestalt needs the folders {', '.join(FOLDERS)}",
            remedy="Unpack the release below the root, see data/README.md",
        )
    files: dict[str, str] = {}
    for at, folders, names in os.walk(root / folder):
        folders.sort()
        below = os.path.relpath(at, root)
        for name in names:
            if name.endswith(ending):
                files.setdefault(name.removesuffix(ending), f"{below}/{name}")
    return files
