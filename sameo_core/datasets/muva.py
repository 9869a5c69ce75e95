"""MUVA (Li et al., ICCV 2023): shelves of goods, rendered from several views.

Its annotation schema is not published and no public loader was found, so the keys of the masks are looked up among
those that amodal data sets use. The first person with the real files should compare them with this reader.
"""

from pathlib import Path

from sameo_core.datasets.base import AmodalDataset, DatasetBuilder, add_coco_annotations, find_file, find_key, read_json

AMODAL_KEYS = ("a_segm", "amodal_segm", "amodal_mask", "segmentation")
VISIBLE_KEYS = ("visible_mask", "inmodal_seg", "i_segm", "visible_segm")


def read_muva(root: Path, split: str) -> AmodalDataset:
    """MUVA as distributed: annotations/AiFi-MUVA_{split}.json, images in images/ (file names may begin with that).

    `extras` hold what ties the views of a scene together, where the file has it: "scene_id" and "view" of an image,
    "object_id" of an instance (the same in all views).

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder`; no known key for amodal or for visible masks.
    """
    path = find_file(root, [f"annotations/AiFi-MUVA_{split}.json"], "muva")
    data = read_json(path, ["images", "annotations", "categories"])
    builder = DatasetBuilder("muva", root, split, path)
    builder.add_categories(data["categories"])
    names = [image.get("file_name") for image in data["images"] if isinstance(image, dict)]
    from_root = any(isinstance(name, str) and name.startswith("images/") for name in names)
    builder.add_images(data["images"], root if from_root else root / "images", extra_keys=["scene_id", "view"])
    add_coco_annotations(
        builder,
        data["annotations"],
        find_key(data["annotations"], AMODAL_KEYS, "amodal", path),
        find_key(data["annotations"], VISIBLE_KEYS, "visible", path),
        visible_required=True,
        extra_keys=["object_id"],
    )
    return builder.finish()
