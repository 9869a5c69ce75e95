"""COCOA-cls (Follmann et al., WACV 2019): COCOA's things with the 80 classes of COCO, flat COCO annotations."""

from pathlib import Path

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.coco_files import CocoFormat, index_coco, read_coco_files
from sameo_core.datasets.files import find_file


def read_cocoa_cls(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """COCOA-cls as distributed: annotations/COCO_amodal_{split}2014_with_classes.json, images in {split}2014/.

    Category ids are COCO's own, 1..90 with gaps. Masks are RLE, in some files flat polygons.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `index_coco`, `find_file`, `read_coco_files`.
    """
    default = f"annotations/COCO_amodal_{split}2014_with_classes.json"
    path = find_file(root, [annotation_file or default], "cocoa_cls")
    return read_coco_files("cocoa_cls", root, split, [(index_coco(path), root / f"{split}2014")], CocoFormat())
