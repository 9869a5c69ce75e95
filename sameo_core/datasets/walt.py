"""CWALT (Reddy et al., "WALT", CVPR 2022): vehicles of one camera pasted over each other, in random order."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sameo_core.datasets.builder import DatasetBuilder, is_crowd, own_file_name, records
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import read_json
from sameo_core.datasets.images import inside, npz_layers, npz_shape
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask

HIDDEN, VISIBLE = 2, 1  # values in the npz; 0 is background


def read_walt(root: Path, split: str) -> AmodalDataset:
    """Composed images in one of the two forms that WALT's generator writes; if both are there, in the exact first one.

    "npz": images/<time>.jpg with Segmentation/<time>.npz, whose array ``mask`` (objects, h, w, 3) holds 1 where an
    object is visible and 2 where it is hidden; objects in paste order, the last in front. "json": ann.json with
    polygons ``visible`` and ``full``, as in WALT's training code. Both in cwalt_{split}/, {split}/ or `root` itself;
    split is "train" or "test" (or "val" for "test"). The paste order is random, so many occlusions are unnatural: see
    `cleaning`. Of the npz form only headers are read at once, masks on demand.

    Raises:
        InputError: neither form is found; see `read_json`, `DatasetBuilder.finish`.
    """
    folder_names = [name for s in dict.fromkeys([split, split.replace("val", "test")]) for name in (f"cwalt_{s}", s)]
    folders = [root / name for name in folder_names] + [root]
    for folder in folders:
        if (folder / "Segmentation").is_dir():
            return _read_npz(root, split, folder)
        if (folder / "ann.json").is_file():
            return _read_json(root, split, folder)
    there = sorted(p.name for p in root.iterdir())[:20] if root.is_dir() else []
    raise InputError(
        file=root,
        rule=f"walt needs a folder Segmentation or a file ann.json in {', '.join(folder_names)} or the root itself; "
        f"found {', '.join(there) or 'nothing'}",
        remedy="Check root and split, see data/README.md for the download",
    )


def _read_npz(root: Path, split: str, folder: Path) -> AmodalDataset:
    builder = DatasetBuilder("walt", root, split, folder / "Segmentation", {0: "car"})
    first_id = 1
    for image_id, path in enumerate(sorted((folder / "Segmentation").glob("*.npz")), start=1):
        with builder.skipping(f"file {path.name}"):
            objects, height, width = npz_shape(path, "mask")
            builder.add_image({"id": image_id, "height": height, "width": width}, f"images/{path.stem}.jpg", folder)
            read = partial(_read_objects, path, image_id, first_id, objects)
            builder.add_instances_later(image_id, read, partial(list, [path]))
            first_id += objects
    return builder.finish()


def _read_objects(path: Path, image_id: int, first_id: int, objects: int, builder: DatasetBuilder) -> None:
    with builder.skipping(f"file {path.name}"):
        for i, layer in enumerate(npz_layers(path, "mask")):
            record = f"file {path.name}, object {i}"
            if layer.max(initial=0) > HIDDEN:
                builder.skip("value other than 0, 1 and 2", record)
                continue
            builder.add_instance(
                record,
                image_id=image_id,
                instance_id=first_id + i,
                category_id=0,
                amodal=encode_mask(layer > 0),
                visible=encode_mask(layer == VISIBLE),
                order=objects - i,
            )


def _read_json(root: Path, split: str, folder: Path) -> AmodalDataset:
    path = folder / "ann.json"
    data = read_json(path, ["images", "annotations", "categories"])
    builder = DatasetBuilder("walt", root, split, path)
    builder.add_categories(data["categories"])
    for image in records(builder, data["images"], "image"):
        name = own_file_name(image)
        if name is None:
            builder.skip("image without file name", f"image {image.get('id')}")
            continue
        with builder.skipping(f"image {image.get('id')}"):
            inside(folder, name)
            builder.add_image(image, name, folder)
    for annotation in records(builder, data["annotations"], "annotation"):
        record = f"annotation {annotation.get('id')}"
        if is_crowd(annotation):
            builder.skip("crowd region", record)
            continue
        parts = annotation.get("segmentation")
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
            builder.skip("segmentation without visible and full polygons", record)
            continue
        builder.add_instance(
            record,
            image_id=annotation.get("image_id"),
            instance_id=annotation.get("id"),
            category_id=annotation.get("category_id"),
            amodal=_polygons(parts, "full"),
            visible=_polygons(parts, "visible"),
        )
    return builder.finish()


def _polygons(parts: list[Mapping], key: str) -> list:
    """All polygons under `key` in the parts of an object."""
    return [polygon for part in parts if isinstance(part.get(key), list) for polygon in part[key]]
