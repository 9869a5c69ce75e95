"""LVIS (Gupta et al., CVPR 2019): visible masks only; the source of Amodal-LVIS, not a set to evaluate on."""

from collections.abc import Mapping
from pathlib import Path

from sameo_core.datasets.base import (
    AmodalDataset,
    DatasetBuilder,
    add_coco_annotations,
    find_file,
    is_int,
    read_json,
    records,
)


def read_lvis(root: Path, split: str, annotation_file: str | None = None) -> AmodalDataset:
    """LVIS as distributed: lvis_v1_{split}.json or lvis_{split}.json in `root` or `root`/annotations.

    Images lie in train2017/ and val2017/, as the last two parts of `coco_url` say: v1 has no `file_name`, v0.5 has one
    that names COCO 2014, and both draw their val set from either folder. `dataset.frequencies` maps category id to
    "r", "c" or "f". Not every object of an image is annotated. In a few images polygons and boxes of the file differ
    by a quarter turn (3 of 100 in the v0.5 sample; lvis-dataset/lvis-api issue 1); here the polygons count.

    Args:
        annotation_file: another file of the same format, relative to `root`.

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder.finish`.
    """
    names = [f"{folder}lvis_{version}{split}.json" for version in ("v1_", "") for folder in ("annotations/", "")]
    path = find_file(root, [annotation_file] if annotation_file else names, "lvis")
    data = read_json(path, ["images", "annotations", "categories"])
    builder = DatasetBuilder("lvis", root, split, path)
    builder.add_categories(data["categories"])
    for image in records(builder, data["images"], "image"):
        file_name = _file_name(image)
        if file_name:
            builder.add_image(image, file_name, root)
        else:
            builder.skip("image without coco_url", f"image {image.get('id')}")
    add_coco_annotations(builder, data["annotations"], amodal_key=None, visible_key="segmentation")
    dataset = builder.finish()
    for category in records(builder, data["categories"], "category"):
        if is_int(category.get("id")) and isinstance(category.get("frequency"), str):
            dataset.frequencies[category["id"]] = category["frequency"]
    return dataset


def _file_name(image: Mapping) -> str | None:
    url = image.get("coco_url")
    if isinstance(url, str) and url.count("/") >= 1:
        return "/".join(url.split("/")[-2:])
    return image.get("file_name") if isinstance(image.get("file_name"), str) else None
