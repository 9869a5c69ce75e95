"""LVIS (Gupta et al., CVPR 2019): visible masks only; the source of Amodal-LVIS, not a set to evaluate on."""

from collections.abc import Mapping
from pathlib import Path

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.builder import is_int, own_file_name
from sameo_core.datasets.coco_files import CocoFormat, index_coco, read_coco_files
from sameo_core.datasets.files import find_file


def read_lvis(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """LVIS as distributed: lvis_v1_{split}.json or lvis_{split}.json in `root` or `root`/annotations.

    Images lie in train2017/ and val2017/, as the last two parts of `coco_url` say: v1 has no `file_name`, v0.5 has one
    that names COCO 2014, and both draw their val set from either folder. `dataset.frequencies` maps category id to
    "r", "c" or "f". Not every object of an image is annotated. In a few images polygons and boxes of the file differ
    by a quarter turn (3 of 100 in the v0.5 sample; lvis-dataset/lvis-api issue 1); here the polygons count.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `index_coco`, `find_file`, `read_coco_files`.
    """
    names = [f"{folder}lvis_{version}{split}.json" for version in ("v1_", "") for folder in ("annotations/", "")]
    path = find_file(root, [annotation_file] if annotation_file else names, "lvis")
    index = index_coco(path, file_name)
    dataset = read_coco_files("lvis", root, split, [(index, root)], FORM)
    for category in index.records("categories"):
        if isinstance(category, Mapping) and is_int(category.get("id")) and isinstance(category.get("frequency"), str):
            dataset.frequencies[category["id"]] = category["frequency"]
    return dataset


def file_name(image: Mapping) -> str | None:
    """Folder and name of an image's file."""
    url = image.get("coco_url")
    if isinstance(url, str) and url.count("/") >= 1:
        return "/".join(url.split("/")[-2:])
    return own_file_name(image)


FORM = CocoFormat(None, "segmentation", file_name=file_name, nameless="image without coco_url")
