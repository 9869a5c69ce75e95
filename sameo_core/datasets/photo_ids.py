"""The images of COCO and COCOA that the profile `photo` uses, by id (data/photo_ids.json).

They are fetched one by one from COCO's image server; annotation files are cut to them. A photograph that the server no
longer has, or has in another size, is reported and left out.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import PIL.Image
from tqdm import tqdm

from sameo_core.config import DATA
from sameo_core.datasets.files import find_file, read_json
from sameo_core.datasets.images import upright_size
from sameo_core.datasets.sources import SourceFile
from sameo_core.errors import InputError, Refused
from sameo_core.runs.atomic import atomic_write, make_folder

IDS = DATA / "photo_ids.json"
SERVER = "http://images.cocodataset.org"  # for records without an address
DISTRIBUTED = "distributed"  # subfolder of the uncut annotations
POLITENESS = 0.05  # seconds between two photographs
GIVEN_UP = 3  # failures in a row other than refusals by the server, such as no network or a full disk

# set -> split -> (annotation file, photographs), below the set's folder
LAYOUT = {
    "coco_photos": {
        split: (f"annotations/instances_{split}2017.json", f"{split}2017/{{:012d}}.jpg") for split in ("train", "val")
    },
    "cocoa_photos": {"val": ("annotations/COCO_amodal_val2014.json", "val2014/COCO_val2014_{:012d}.jpg")},
}


def listed_ids(name: str) -> dict[str, list[int]]:
    """The ids of a set's photographs by split."""
    return json.loads(IDS.read_text())[name]


def take_from(name: str, local: Path, folder: Path) -> None:
    """Cut the annotations in `local` (COCO's layout) to the set's, and copy those of its photographs that are there.

    Raises:
        InputError: as `cut_annotations`; `folder` is not writable.
    """
    for split, content in cut_annotations(name, local).items():
        annotations, photograph = LAYOUT[name][split]
        for image in content["images"]:
            size, target = _stated_size(image), folder / photograph.format(image["id"])
            for _, elsewhere in LAYOUT[name].values():
                source = local / elsewhere.format(image["id"])
                if _size(source) == size != _size(target):
                    with atomic_write(target) as partial:
                        shutil.copyfile(source, partial)
        with atomic_write(folder / annotations) as partial:
            partial.write_text(json.dumps(content))


def cut_annotations(name: str, folder: Path) -> dict[str, dict]:
    """The annotation files in `folder`, cut to the set's images: split -> content of a COCO or COCOA file.

    Our splits are not COCO's: some of our train images are in its val2017, and vice versa.

    Raises:
        InputError: a file is missing or damaged, or no file has a listed image with its file name (the files are of
            another year).
    """
    paths = {split: find_file(folder, [annotations], name) for split, (annotations, _) in LAYOUT[name].items()}
    contents = {split: read_json(path, ["images", "annotations"]) for split, path in paths.items()}
    images = {image.get("id"): image for content in contents.values() for image in content["images"]}
    cut = {}
    for split, ids in listed_ids(name).items():
        for i in ids:
            image = images.get(i, {})
            names = [Path(photograph.format(i)).name for _, photograph in LAYOUT[name].values()]
            if image.get("file_name") not in names:
                rule = f"it must list {names[0]}, found {image.get('file_name')}"
                remedy = "Use the files of the year in their names, as COCO distributes them"
                raise InputError(file=paths[split], record=f"image {i}", rule=rule, remedy=remedy)
        wanted = set(ids)
        cut[split] = contents[split] | {
            "images": [images[i] for i in ids],
            "annotations": [a for c in contents.values() for a in c["annotations"] if a.get("image_id") in wanted],
        }
    return cut


def fetch_photographs(name: str, folder: Path, fetch: Callable[[SourceFile, Path], None]) -> list[SourceFile]:
    """Fetch a set's missing photographs into `folder`, which holds its annotations; print which ones failed, and why.

    Returns:
        those still missing; runs go on without them.

    Raises:
        InputError: as `cut_annotations`; the network or the disk fails `GIVEN_UP` times in a row.
    """
    images: dict[str, dict] = {}
    for split, content in cut_annotations(name, folder).items():
        images |= {LAYOUT[name][split][1].format(image["id"]): image for image in content["images"]}
    missing, failures = [], 0
    for inside, image in tqdm(images.items(), desc=f"photographs of {name}", unit="photograph"):
        path, size = folder / inside, _stated_size(image)
        if _size(path) == size:
            continue
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        file = SourceFile(path.name, image.get("coco_url") or f"{SERVER}/{inside}")
        try:
            fetch(file, path)
            if (found := _size(path)) != size:
                path.unlink()
                rule = f"(height, width) is {found or 'not to be read'}, the annotations say {size}"
                raise Refused(file=str(file.url), rule=rule, remedy="It was changed at the server: look at it there")
            failures = 0
        except InputError as error:
            failures = 0 if isinstance(error, Refused) else failures + 1
            if failures == GIVEN_UP:
                raise
            missing.append(file)
            tqdm.write(f"left out: {error}")
        time.sleep(POLITENESS)
    without = f"; runs go on without the other {len(missing)}" if missing else ""
    print(f"{name}: {len(images) - len(missing)} of {len(images)} photographs are here{without}")
    return missing


def _stated_size(image: dict) -> tuple:
    return image.get("height"), image.get("width")


def _size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a JPEG; None if it is missing or damaged."""
    try:
        with PIL.Image.open(path, formats=["JPEG"]) as image:
            image.load()
            return upright_size(image)
    except Exception:  # Pillow's decoders raise many types for damaged files
        return None
