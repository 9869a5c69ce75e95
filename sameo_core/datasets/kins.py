"""KINS (Qi et al., CVPR 2019): street scenes of KITTI, in the two editions of its annotations."""

from dataclasses import dataclass
from pathlib import Path

from sameo_core.datasets.base import (
    AmodalDataset,
    DatasetBuilder,
    add_coco_annotations,
    check_split,
    find_file,
    find_key,
    read_json,
)
from sameo_core.errors import InputError


@dataclass(frozen=True)
class Edition:
    """What the editions differ in: file names by split, and keys."""

    files: dict[str, str]
    amodal_key: str  # polygons
    visible_key: str  # 2019: RLE; 2020: polygons
    box_keys: tuple[str, ...]  # that must have an area; some visible ones of 2020 have none: those records are skipped
    extra_keys: tuple[str, ...] = ()


EDITIONS = {
    "2019": Edition(
        {"train": "instances_train.json", "val": "instances_val.json"},
        "segmentation",
        "inmodal_seg",
        ("bbox",),
    ),
    "2020": Edition(
        {"train": "update_train_2020.json", "val": "update_test_2020.json"},
        "a_segm",
        "i_segm",
        ("a_bbox", "i_bbox"),
        ("oco_id", "ico_id"),  # cluster of overlapping objects; place in it: 0 is alone, from 1 by distance
    ),
}
FOLDERS = {"train": "training/image_2", "val": "testing/image_2"}


def read_kins(root: Path, split: str, version: str | None = None) -> AmodalDataset:
    """KINS as distributed: annotation files in `root` or `root`/annotations, images in training/ and testing/image_2/.

    `val` is KITTI's testing folder: the set that everyone reports on. An image's id is not the number in its file name.

    Args:
        version: "2019" (instances_{train,val}.json) or "2020" (update_{train,test}_2020.json). None: the edition whose
            file is there, 2019 if both are, because published numbers are on that one.

    Raises:
        InputError: see `read_json`, `find_file`, `find_key`, `DatasetBuilder`; another split or version.
    """
    check_split(split, FOLDERS, "kins")
    if version is not None and version not in EDITIONS:
        raise InputError(
            file="version",
            rule=f"kins has the versions {', '.join(EDITIONS)}; found {version!r}",
            remedy="Give one of these, or leave it out",
        )
    candidates = {
        folder + edition.files[split]: edition
        for name, edition in EDITIONS.items()
        for folder in ("", "annotations/")
        if version in (None, name)
    }
    path = find_file(root, list(candidates), "kins")
    edition = candidates[path.relative_to(root).as_posix()]
    data = read_json(path, ["images", "annotations", "categories"])
    builder = DatasetBuilder("kins", root, split, path)
    builder.add_categories(data["categories"])
    builder.add_images(data["images"], root / FOLDERS[split])
    add_coco_annotations(
        builder,
        data["annotations"],
        find_key(data["annotations"], [edition.amodal_key], "amodal", path),
        find_key(data["annotations"], [edition.visible_key], "visible", path),
        visible_required=True,
        box_keys=edition.box_keys,
        extra_keys=edition.extra_keys,
    )
    return builder.finish()
