"""COCOA-cls (Follmann et al., WACV 2019): COCOA's things with the 80 classes of COCO, flat COCO annotations."""

from pathlib import Path

from sameo_core.datasets.base import AmodalDataset, DatasetBuilder, add_coco_annotations, find_file, read_json


def read_cocoa_cls(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """COCOA-cls as distributed: annotations/COCO_amodal_{split}2014_with_classes.json, images in {split}2014/.

    Category ids are COCO's own, 1..90 with gaps. Masks are RLE, in some files flat polygons.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder.finish`.
    """
    default = f"annotations/COCO_amodal_{split}2014_with_classes.json"
    path = find_file(root, [annotation_file or default], "cocoa_cls")
    data = read_json(path, ["images", "annotations", "categories"])
    builder = DatasetBuilder("cocoa_cls", root, split, path)
    builder.add_categories(data["categories"])
    builder.add_images(data["images"], root / f"{split}2014")
    add_coco_annotations(builder, data["annotations"], amodal_key="segmentation", visible_key="visible_mask")
    return builder.finish()
