"""COCOA, and MP3D-Amodal as a pickle: regions nested in each image's annotation, with depth order."""

import re
from collections.abc import Mapping
from pathlib import Path

from sameo_core.datasets.builder import DatasetBuilder, is_int, own_file_name, records, visible_or_fully
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import find_file, read_json, read_plain_pickle
from sameo_core.datasets.images import inside
from sameo_core.errors import InputError

# ----------------------------------------------- COCOA (Zhu et al., CVPR 2017): one annotation per image and annotator

UNNAMED = "unnamed"


def read_cocoa(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """COCOA as distributed: annotations/COCO_amodal_{split}2014.json, images in {split}2014/.

    Only the first annotator of an image is read. A region is an instance; its free-text name is its category. Category
    ids are alphabetical, so they (unlike names) are comparable only within a file. Instance ids number the regions from
    1. Region masks end at the frame.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder.finish`.
    """
    path = find_file(root, [annotation_file or f"annotations/COCO_amodal_{split}2014.json"], "cocoa")
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

    names = sorted({_name(region) for a in first.values() for region in a["regions"] if isinstance(region, Mapping)})
    builder.categories = dict(enumerate(names, start=1))
    category_ids = {name: i for i, name in builder.categories.items()}
    instance_id = 0
    for annotation in first.values():
        for position, region in enumerate(annotation["regions"], start=1):
            instance_id += 1
            record = f"annotation {annotation.get('id')}, region {position}"
            if not isinstance(region, Mapping):
                builder.skip("region is not an object", record)
                continue
            visible = visible_or_fully(region, "visible_mask")
            if visible is None:
                builder.skip("occluded but without visible mask", record)
                continue
            builder.add_instance(
                record,
                image_id=annotation["image_id"],
                instance_id=instance_id,
                category_id=category_ids[_name(region)],
                amodal=region.get("segmentation") or [],
                visible=visible,
                is_stuff=bool(region.get("isStuff")),
                order=region.get("order"),
            )
    return builder.finish()


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


def read_mp3d_amodal(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """MP3D-Amodal as distributed: MP3D_seleted_{split}_10.29.pkl (sic), images in mp3d_{split}/.

    Splits are "train" and "eval" (or "val"). No code in the pickle is run (`read_plain_pickle`). Its lists
    ``images`` and ``annotations`` correspond by position. Only occluded objects are listed, so all have a visible mask.
    Category numbers are assumed to be Matterport's; names are kept. Image ids are the file's own if all images have
    one, else positions from 1; instance ids number the regions from 1.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `find_file`, `read_plain_pickle`, `DatasetBuilder.finish`; lists of different length.
    """
    split_name = "eval" if split == "val" else split
    names = [
        f"{folder}MP3D_{s}_{split_name}_10.29.pkl" for folder in ("", "annotations/") for s in ("seleted", "selected")
    ]
    path = find_file(root, [annotation_file] if annotation_file else names, "mp3d_amodal")
    images, annotations = _lists(read_plain_pickle(path), path)
    builder = DatasetBuilder("mp3d_amodal", root, split, path)
    builder.categories, category_ids = _categories(annotations)

    own_ids = all(isinstance(image, Mapping) and is_int(image.get("id")) for image in images)
    folder = _image_folder(root, split_name, images)
    instance_id = 0
    for position, (image, annotation) in enumerate(zip(images, annotations, strict=True), start=1):
        regions = annotation.get("regions") if isinstance(annotation, Mapping) else None
        if not isinstance(image, Mapping) or not isinstance(regions, list):
            builder.skip("image or its annotation without regions", f"image number {position}")
            instance_id += len(regions) if isinstance(regions, list) else 0
            continue
        image_id = image["id"] if own_ids else position
        if own_ids and annotation.get("image_id", image_id) != image_id:
            builder.skip("image and annotation at the same place have different ids", f"image {image_id}")
        else:
            _add_image(builder, {**image, "id": image_id}, folder, annotation.get("depth_constraint"))
        for number, region in enumerate(regions, start=1):
            instance_id += 1
            record = f"image {image_id}, region {number}"
            if not isinstance(region, Mapping):
                builder.skip("region is not an object", record)
                continue
            category = _category(region)
            builder.add_instance(
                record,
                image_id=image_id,
                instance_id=instance_id,
                category_id=None if category is None else category_ids.get(category),
                amodal=region.get("segmentation") or [],
                visible=region.get("visible_mask") or [],
                is_stuff=bool(region.get("isStuff")),
                order=region.get("order"),
            )
    return builder.finish()


def _lists(data: object, path: Path) -> tuple[list, list]:
    images, annotations = (data.get(key) if isinstance(data, dict) else None for key in ("images", "annotations"))
    if not (isinstance(images, list) and isinstance(annotations, list)):
        found = f"the keys {', '.join(map(str, list(data)[:20]))}" if isinstance(data, dict) else type(data).__name__
        raise InputError(
            file=path,
            rule=f"the pickle must hold a dict with lists images and annotations, found {found}",
            remedy="Use the file as distributed",
        )
    if len(images) != len(annotations):
        raise InputError(
            file=path,
            rule=f"images and annotations belong together by position: found {len(images)} and {len(annotations)}",
            remedy="Use the file as distributed",
        )
    return images, annotations


def _add_image(builder: DatasetBuilder, image: dict, folder: Path, depth_constraint: object) -> None:
    if not isinstance(image.get("file_name"), str):
        return builder.skip("image without file name", f"image {image['id']}")
    with builder.skipping(f"image {image['id']}"):
        inside(folder, image["file_name"])
        builder.add_image(image, image["file_name"], folder, depth_pairs(depth_constraint))


def _image_folder(root: Path, split: str, images: list) -> Path:
    """The folder in which the first image is found, since the archive's layout is not documented."""
    candidates = [root / f"mp3d_{split}", root / f"mp3d_{split}" / "images", root / "images", root]
    for image in images:
        if isinstance(image, Mapping) and isinstance(image.get("file_name"), str):
            for folder in candidates:
                try:
                    if inside(folder, image["file_name"]).is_file():
                        return folder
                except (InputError, OSError):  # the name leads out of the folder, or is too long
                    continue
            break
    return candidates[0]


def _category(region: object) -> int | str | None:
    """Matterport's number, or a name that Matterport lacks; None if the region has no category."""
    value = region.get("category_id") if isinstance(region, Mapping) else None
    if isinstance(value, bytes):
        value = value.decode("latin1")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = value.strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        return MPCAT40.index(value) if value in MPCAT40 else value or None
    return value if is_int(value) and value >= 0 else None


def _categories(annotations: list) -> tuple[dict[int, str], dict[int | str, int]]:
    """Id -> name, and a region's category -> id; names that Matterport lacks get ids after all numbers."""
    regions = [a["regions"] for a in annotations if isinstance(a, Mapping) and isinstance(a.get("regions"), list)]
    found = {_category(region) for listed in regions for region in listed} - {None}
    numbers = sorted({value for value in found if isinstance(value, int)} | set(range(len(MPCAT40))))
    names = {n: MPCAT40[n] if n < len(MPCAT40) else f"category {n}" for n in numbers}
    ids: dict[int | str, int] = {n: n for n in numbers}
    for i, name in enumerate(sorted(value for value in found if isinstance(value, str)), start=numbers[-1] + 1):
        names[i], ids[name] = name, i
    return names, ids
