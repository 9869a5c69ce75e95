"""Photographs by id: which of COCO's and COCOA's images `photo` uses, fetched one by one from COCO's image server.

`data/photo_ids.json` lists the ids. The annotations are cut to these images. A photograph that the server no longer
has, or has in another size, is named and left out, and the others count.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from sameo_core.config import DATA
from sameo_core.datasets.files import read_json
from sameo_core.datasets.mask_files import image_size
from sameo_core.errors import InputError
from sameo_core.sources import SourceFile
from sameo_core.whole_files import written_whole

IDS = DATA / "photo_ids.json"
SERVER = "http://images.cocodataset.org"
POLITENESS = 0.05  # seconds between two photographs
GIVEN_UP = 3  # photographs in a row that cannot be fetched: the server is out of reach

# set -> split -> (annotation file, folder of the photographs), below the set's folder
LAYOUT = {
    "coco_photos": {split: (f"annotations/instances_{split}2017.json", f"{split}2017") for split in ("train", "val")},
    "cocoa_photos": {"val": ("annotations/COCO_amodal_val2014.json", "val2014")},
}


def listed_ids(name: str) -> dict[str, list[int]]:
    """The ids of a set's photographs by split."""
    return json.loads(IDS.read_text())[name]


def take_from(name: str, local: Path, folder: Path) -> None:
    """Link or copy what `local`, a folder in the set's own layout, has of its files and `folder` has not.

    Raises:
        InputError: `local` has no annotation file of the set.
    """
    for split, (annotations, photographs) in LAYOUT[name].items():
        if not (local / annotations).is_file():
            rule, remedy = f"it needs {annotations}", "Give the folder that holds annotations/ and the photographs"
            raise InputError(file=local, rule=rule, remedy=remedy)
        _link(local / annotations, folder / annotations)
        cut_annotations(folder / annotations, listed_ids(name)[split])
        for image in read_json(folder / annotations, ["images"])["images"]:
            _link(local / photographs / image["file_name"], folder / photographs / image["file_name"])


def _link(source: Path, target: Path) -> None:
    if target.exists() or not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".json":  # cut in place: a copy
        shutil.copyfile(source, target)
        return
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def cut_annotations(path: Path, ids: list[int]) -> None:
    """Leave only the images with these ids, and their annotations, in a COCO or COCOA file; in place.

    Raises:
        InputError: the file is damaged, or has not all of these images: it is of another year.
    """
    content, wanted = read_json(path, ["images", "annotations"]), set(ids)
    images = [image for image in content["images"] if isinstance(image, Mapping) and image.get("id") in wanted]
    if len(images) < len(wanted):
        rule = f"it must list all {len(wanted)} images of data/photo_ids.json, found {len(images)} of them"
        raise InputError(file=path, rule=rule, remedy="Use the file of the year in its name, as COCO distributes it")
    if len(images) == len(content["images"]):
        return
    annotations = [a for a in content["annotations"] if isinstance(a, Mapping) and a.get("image_id") in wanted]
    with written_whole(path) as partial:
        partial.write_text(json.dumps(dict(content) | {"images": images, "annotations": annotations}))


def photographs(name: str, folder: Path) -> Iterator[tuple[Path, str, tuple[int, int]]]:
    """(path, address, (height, width)) of each photograph of a set, whose annotations lie in `folder`.

    Raises:
        InputError: as `cut_annotations`.
    """
    for split, (annotations, images) in LAYOUT[name].items():
        cut_annotations(folder / annotations, listed_ids(name)[split])
        for image in read_json(folder / annotations, ["images"])["images"]:
            url = image.get("coco_url") or f"{SERVER}/{images}/{image['file_name']}"
            yield folder / images / image["file_name"], url, (image["height"], image["width"])


def fetch_photographs(name: str, folder: Path, fetch: Callable[[SourceFile, str, Path], None]) -> list[SourceFile]:
    """Fetch the photographs of a set that are not there yet; print which ones could not be had, and why.

    Args:
        name: of the set.
        folder: of its files; the annotations are there.
        fetch: brings a file from an address to a path.

    Returns:
        those that are missing; runs go on without them.

    Raises:
        InputError: as `photographs`; the first `GIVEN_UP` of them cannot be fetched at all.
    """
    missing, reached = [], False
    for path, url, size in tqdm([*photographs(name, folder)], desc=f"photographs of {name}", unit="photograph"):
        if _size(path) == size:
            continue
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = SourceFile(path.name, url)
        try:
            fetch(file, url, path)
            reached = True
            if (found := _size(path)) != size:
                os.replace(path, path.with_name(f"{path.name}.corrupt"))
                rule = f"(height, width) is {found or 'unreadable'}, the annotations say {size}"
                raise InputError(file=url, rule=rule, remedy="It was changed at the server: the others count")
        except InputError as error:
            missing.append(file)
            print(f"left out: {error}")
            if not reached and len(missing) == GIVEN_UP:
                raise
        time.sleep(POLITENESS)
    if missing:
        print(f"{name}: {len(missing)} photographs are missing; runs leave them out")
    return missing


def _size(path: Path) -> tuple[int, int] | None:
    with suppress(InputError):
        return image_size(path)
    return None
