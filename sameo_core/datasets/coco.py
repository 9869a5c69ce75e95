"""Plain COCO files of one's own, with amodal masks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sameo_core.datasets.base import (
    AmodalDataset,
    AmodalInstance,
    DatasetBuilder,
    add_coco_annotations,
    find_file,
    read_json,
)
from sameo_core.errors import InputError
from sameo_core.masks import RLE, mask_area, subtract_rle, union_rle

VISIBLE = ("same",)
DEPTH_ORDERS = ("front to back", "back to front")


def read_coco(
    root: Path,
    split: str,
    annotation_file: str | None = None,
    image_folder: str = "images",
    visible: str | None = None,
    depth_order: str | None = None,
) -> AmodalDataset:
    """COCO annotations whose `segmentation` (any encoding) is the amodal mask, and `visible_mask` what is seen of it.

    Where no annotation has a `visible_mask`, one of two things must be said, for neither can be seen in the file:
    `visible="same"`, that nothing is occluded, or `depth_order`, the order in which an image's annotations are stacked;
    then an object's visible mask is what the objects in front of it leave, and one that they hide wholly is skipped.
    Where some have one, those without are skipped.

    Args:
        annotation_file: relative to `root`; by default annotations/{split}.json or annotations/instances_{split}.json.
        image_folder: relative to `root`; file names are relative to it.
        visible: "same".
        depth_order: "front to back" or "back to front".

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder`; visible masks that are neither there nor explained,
            or both.
    """
    _check_option("visible", visible, VISIBLE)
    _check_option("depth_order", depth_order, DEPTH_ORDERS)
    defaults = [f"annotations/{split}.json", f"annotations/instances_{split}.json"]
    path = find_file(root, [annotation_file] if annotation_file else defaults, "coco")
    data = read_json(path, ["images", "annotations", "categories"])
    stored = any(isinstance(a, Mapping) and a.get("visible_mask") is not None for a in data["annotations"])
    sources = ["visible_mask"] * stored + ["visible"] * (visible is not None) + ["depth_order"] * bool(depth_order)
    if data["annotations"] and len(sources) != 1:
        raise InputError(
            file=path,
            rule=f"visible masks must come from one source, found {' and '.join(sources) or 'none'}",
            remedy='Store a visible_mask with the annotations, or say visible="same" (nothing is occluded), '
            'or depth_order="front to back" or "back to front" (the order of each image\'s annotations); one of these',
        )
    builder = DatasetBuilder("coco", root, split, path)
    builder.add_categories(data["categories"])
    builder.add_images(data["images"], root / image_folder)
    visible_key = None if depth_order else "visible_mask"
    add_coco_annotations(builder, data["annotations"], "segmentation", visible_key, visible_required=stored)
    dataset = builder.finish()
    if depth_order:
        dataset.images = [
            replace(image, instances=_stacked(image.instances, depth_order, dataset.skipped)) for image in dataset
        ]
    return dataset


def _stacked(
    instances: Sequence[AmodalInstance], depth_order: str, skipped: dict[str, list[str]]
) -> tuple[AmodalInstance, ...]:
    """The instances, in their order, with what the ones in front leave visible of each."""
    front_first = instances if depth_order == "front to back" else instances[::-1]
    covered: RLE | None = None
    seen = []
    for instance in front_first:
        visible = subtract_rle(instance.amodal_rle, covered) if covered else instance.amodal_rle
        covered = union_rle([covered, instance.amodal_rle]) if covered else instance.amodal_rle
        if mask_area(visible):
            seen.append(replace(instance, visible_rle=visible))
        else:
            skipped.setdefault("empty visible mask", []).append(f"annotation {instance.instance_id}")
    return tuple(seen if depth_order == "front to back" else seen[::-1])


def _check_option(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise InputError(
            file=name,
            rule=f"{name} can be {' or '.join(map(repr, known))}, found {value!r}",
            remedy="Give one of these, or leave it out",
        )
