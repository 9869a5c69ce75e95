"""COCOA, and MP3D-Amodal as a pickle: regions nested in each image's annotation, with depth order."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sameo_core.datasets.builder import DatasetBuilder, is_int, own_file_name, records, visible_or_fully
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import find_file, read_json, read_plain_pickle
from sameo_core.datasets.images import inside
from sameo_core.errors import InputError

# ----------------------------------------------- COCOA (Zhu et al., CVPR 2017): one annotation per image and annotator

UNNAMED = "unnamed"


def read_cocoa(root: Path, split: str) -> AmodalDataset:
    """COCOA as distributed: annotations/COCO_amodal_{split}2014.json, images in {split}2014/.

    Only the first annotator of an image is read. A region is an instance; its free-text name is its category. Category
    ids are alphabetical, so they (unlike names) are comparable only within a file. Instance ids number the regions from
    1. Region masks end at the frame.

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder.finish`.
    """
    path = find_file(root, [f"annotations/COCO_amodal_{split}2014.json"], "cocoa")
    data = read_json(path, ["images", "annotations"])
    builder = DatasetBuilder("cocoa", root, split, path)

    first = _first_annotators(builder, data["annotations"])
    for image in records(builder, data["images"], "image"):
        name = own_file_name(image)
        if name is None:
            builder.skip("image without file name", f"image {image.get('id')}")
            continue
        annotation = first.get(image["id"], {}) if is_int(image.get("id")) else {}
        builder.add_image(image, name, root / f"{split}2014", depth_pairs(annotation.get("depth_constraint")))

    listed = [(a, list(records(builder, a["regions"], "region"))) for a in first.values()]
    names = sorted({_name(region) for _, regions in listed for region in regions})
    builder.categories = dict(enumerate(names, start=1))
    category_ids = {name: i for i, name in builder.categories.items()}
    instance_id = 0
    for annotation, regions in listed:
        for position, region in enumerate(regions, start=1):
            instance_id += 1
            record = f"annotation {annotation.get('id')}, region {position}"
            visible = visible_or_fully(region, "visible_mask")
            if visible is None:
                builder.skip("occluded but without visible mask", record)
            else:
                about = {"image_id": annotation["image_id"], "category_id": category_ids[_name(region)]}
                _add_region(builder, record, region, instance_id=instance_id, visible=visible, **about)
    return builder.finish()


def _add_region(builder: DatasetBuilder, record: str, region: Mapping, **about: Any) -> None:
    amodal, stuff = region.get("segmentation") or [], bool(region.get("isStuff"))
    builder.add_instance(record, amodal=amodal, is_stuff=stuff, order=region.get("order"), **about)


def _first_annotators(builder: DatasetBuilder, annotations: list) -> dict[int, Mapping]:
    """Image id -> its first annotation; the others are skipped."""
    first: dict[int, Mapping] = {}
    for annotation in records(builder, annotations, "annotation"):
        record = f"annotation {annotation.get('id')} (image {annotation.get('image_id')})"
        if not isinstance(annotation.get("regions"), list):
            builder.skip("annotation without regions", record)
        elif not is_int(annotation.get("image_id")):
            builder.skip("annotation without image", record)
        elif annotation["image_id"] in first:
            builder.skip("another annotator of the same image", record)
        else:
            first[annotation["image_id"]] = annotation
    return first


def _name(region: Mapping) -> str:
    name = region.get("name")
    return name.strip() or UNNAMED if isinstance(name, str) else UNNAMED


def depth_pairs(depth_constraint: object) -> list[tuple[int, int]]:
    """Parse "1-2,1-5" to [(1, 2), (1, 5)]: pairs (front, behind) of regions, numbered from 1."""
    if not isinstance(depth_constraint, str):
        return []
    return [(int(front), int(behind)) for front, behind in re.findall(r"(\d+)-(\d+)", depth_constraint)]


# ---------------------- MP3D-Amodal (Zhan et al., CVPR 2024): occluded objects of scanned rooms, masks from the 3D mesh

MPCAT40 = tuple(  # Matterport's categories; a category's number is its index
    """void wall floor chair door table picture cabinet cushion window sofa bed curtain chest_of_drawers plant sink
    stairs ceiling toilet stool towel mirror tv_monitor shower column bathtub counter fireplace lighting beam railing
    shelving blinds gym_equipment seating board_panel furniture appliances clothes objects misc unlabeled""".split()
)


def read_mp3d_amodal(root: Path, split: str) -> AmodalDataset:
    """MP3D-Amodal as distributed: MP3D_seleted_{split}_10.29.pkl (sic), images in mp3d_{split}/.

    Splits are "train" and "eval" (or "val"). No code in the pickle is run (`read_plain_pickle`). Its lists
    ``images`` and ``annotations`` correspond by position. Only occluded objects are listed, so all have a visible mask.
    Category numbers are assumed to be Matterport's; names are kept. Image ids are the file's own if all images have
    one, else positions from 1; instance ids number the regions from 1.

    Raises:
        InputError: see `find_file`, `read_plain_pickle`, `DatasetBuilder.finish`; lists of different length.
    """
    part = "eval" if split == "val" else split
    names = [f"{folder}MP3D_{s}_{part}_10.29.pkl" for folder in ("", "annotations/") for s in ("seleted", "selected")]
    path = find_file(root, names, "mp3d_amodal")
    images, annotations = _lists(path)
    builder = DatasetBuilder("mp3d_amodal", root, split, path)
    listed = [a["regions"] for a in annotations if isinstance(a, Mapping) and isinstance(a.get("regions"), list)]
    found = {name for regions in listed for name in map(_category, regions) if name}
    builder.categories = dict(enumerate([*MPCAT40, *sorted(found.difference(MPCAT40))]))
    category_ids = {name: i for i, name in builder.categories.items()}

    own_ids = all(isinstance(image, Mapping) and is_int(image.get("id")) for image in images)
    folder = _image_folder(root, part, images)
    instance_id = 0
    for position, (image, annotation) in enumerate(zip(images, annotations, strict=True), start=1):
        regions = annotation.get("regions") if isinstance(annotation, Mapping) else None
        if not isinstance(image, Mapping) or not isinstance(regions, list):
            builder.skip("image or its annotation without regions", f"image number {position}")
            continue
        image_id, name = image["id"] if own_ids else position, own_file_name(image)
        if own_ids and annotation.get("image_id", image_id) != image_id:
            builder.skip("image and annotation at the same place have different ids", f"image {image_id}")
        elif name is None:
            builder.skip("image without file name", f"image {image_id}")
        else:
            with builder.skipping(f"image {image_id}"):
                inside(folder, name)
                pairs = depth_pairs(annotation.get("depth_constraint"))
                builder.add_image({**image, "id": image_id}, name, folder, pairs)
        for number, region in enumerate(records(builder, regions, "region"), start=1):
            instance_id += 1
            visible, category_id = region.get("visible_mask") or [], category_ids.get(_category(region) or "")
            about = {"image_id": image_id, "instance_id": instance_id, "category_id": category_id, "visible": visible}
            _add_region(builder, f"image {image_id}, region {number}", region, **about)
    return builder.finish()


def _lists(path: Path) -> tuple[list, list]:
    """The images and annotations in the pickle."""
    data = read_plain_pickle(path)
    images, annotations = (data.get(key) if isinstance(data, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list) or len(images) != len(annotations):
        rule = "the pickle must hold a dict with images and annotations, two lists of the same length"
        raise InputError(file=path, rule=rule, remedy="Use the file as distributed")
    return images, annotations


def _image_folder(root: Path, split: str, images: list) -> Path:
    """The folder in which the first image is found, since the archive's layout is not documented."""
    candidates = [root / f"mp3d_{split}", root / f"mp3d_{split}" / "images", root / "images", root]
    first = own_file_name(images[0]) if images and isinstance(images[0], Mapping) else None
    return next((folder for folder in candidates if first and os.path.isfile(folder / first)), candidates[0])


def _category(region: object) -> str | None:
    """Its name, for a number Matterport's; None if the region has no category."""
    value = region.get("category_id") if isinstance(region, Mapping) else None
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return value.strip() or None
    if not (isinstance(value, str) or is_int(value)) or int(value) < 0:
        return None
    return MPCAT40[int(value)] if int(value) < len(MPCAT40) else f"category {value}"
