"""COCOA (Zhu et al., CVPR 2017): one annotation an image and annotator, with the image's regions nested in it."""

import re
from collections.abc import Mapping
from pathlib import Path

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.builder import DatasetBuilder, is_int, own_file_name, records, visible_or_fully
from sameo_core.datasets.files import find_file, read_json

UNNAMED = "unnamed"


def read_cocoa(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """COCOA as distributed: annotations/COCO_amodal_{split}2014.json, images in {split}2014/.

    Of several annotators of an image the first counts. A region is an instance; its free-text name, stripped, is its
    category, numbered in alphabetical order, so that ids (unlike names) mean something within one file only. Instance
    ids count the regions of the file from 1. Region masks stop at the frame.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder.finish`.
    """
    path = find_file(root, [annotation_file or f"annotations/COCO_amodal_{split}2014.json"], "cocoa")
    data = read_json(path, ["images", "annotations"])
    builder = DatasetBuilder("cocoa", root, split, path)

    first: dict[object, Mapping] = {}  # image id -> the annotation that counts
    for annotation in records(builder, data["annotations"], "annotation"):
        record = f"annotation {annotation.get('id')} (image {annotation.get('image_id')})"
        if not isinstance(annotation.get("regions"), list):
            builder.skip("annotation without regions", record)
        elif not is_int(annotation.get("image_id")):
            builder.skip("annotation without image", record)
        elif annotation["image_id"] in first:
            builder.skip("another annotator of the same image", record)
        else:
            first[annotation["image_id"]] = annotation

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


def _name(region: Mapping) -> str:
    name = region.get("name")
    return name.strip() or UNNAMED if isinstance(name, str) else UNNAMED


def depth_pairs(depth_constraint: object) -> list[tuple[int, int]]:
    """Of "1-2,1-5", [(1, 2), (1, 5)]: the left region lies in front of the right one, both counted from 1."""
    if not isinstance(depth_constraint, str):
        return []
    return [(int(front), int(behind)) for front, behind in re.findall(r"(\d+)-(\d+)", depth_constraint)]
