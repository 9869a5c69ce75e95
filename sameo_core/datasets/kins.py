"""KINS (Qi et al., CVPR 2019): street scenes of KITTI, in the two editions of its annotations."""

from dataclasses import dataclass
from pathlib import Path

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.coco_files import CocoFormat, find_key, index_coco, read_coco_files
from sameo_core.datasets.files import check_split, find_file
from sameo_core.errors import InputError


@dataclass(frozen=True)
class Edition:
    """What the editions differ in: file names by split, and keys."""

    files: dict[str, str]
    form: CocoFormat


EDITIONS = {
    "2019": Edition(  # amodal masks are polygons, visible ones RLE
        {"train": "instances_train.json", "val": "instances_val.json"},
        CocoFormat("segmentation", "inmodal_seg", visible_required=True),
    ),
    "2020": Edition(  # both are polygons; some visible boxes have no area: those records are skipped
        {"train": "update_train_2020.json", "val": "update_test_2020.json"},
        CocoFormat(
            "a_segm",
            "i_segm",
            visible_required=True,
            box_keys=("a_bbox", "i_bbox"),
            instance_keys=("oco_id", "ico_id"),  # cluster of overlapping objects; place in it: 0 is alone, from 1 by
        ),  # distance
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
        InputError: see `index_coco`, `find_file`, `find_key`, `read_coco_files`; another split or version.
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
    index = index_coco(path)
    for what in ("amodal", "visible"):
        find_key(index.tables["annotations"], [getattr(edition.form, f"{what}_key")], what, path)
    return read_coco_files("kins", root, split, [(index, root / FOLDERS[split])], edition.form)
