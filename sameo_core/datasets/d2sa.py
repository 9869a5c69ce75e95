"""D2SA (Follmann et al., WACV 2019): shop items on a turntable, seen from above; the amodal version of MVTec D2S."""

from pathlib import Path

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.coco_files import CocoFormat, index_coco, read_coco_files
from sameo_core.datasets.files import check_split, find_file

PARTS = {"train": "training_rot0", "augmented": "augmented", "val": "validation"}  # split -> word in the file's name


def read_d2sa(root: Path, split: str) -> AmodalDataset:
    """D2SA as distributed: d2s_amodal_annotations_v1/D2S_amodal_{...}.json, images in d2s_amodal_images_v1/images/.

    `train` (training_rot0, hardly occluded), `augmented` (items pasted over each other), `val` (validation), or several
    of them as in "train+augmented", which is what is usually trained on. The files of D2SA count their images and
    annotations independently, so their ids collide: those of each later part are shifted. The published test file has
    no masks, hence evaluation is on `val`. `extras` of an instance may hold "occl_depth".

    Raises:
        InputError: see `index_coco`, `find_file`, `read_coco_files`; a split that is not one of the above.
    """
    parts = split.split("+")
    for part in parts:
        check_split(part, PARTS, "d2sa")
    names = [f"d2s_amodal_annotations_v1/D2S_amodal_{PARTS[part]}.json" for part in dict.fromkeys(parts)]
    folder = root / "d2s_amodal_images_v1" / "images"
    files = [(index_coco(find_file(root, [name], "d2sa")), folder) for name in names]
    return read_coco_files("d2sa", root, split, files, CocoFormat(instance_keys=("occl_depth",)))
