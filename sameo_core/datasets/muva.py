"""MUVA (Li et al., ICCV 2023): shelves of goods, rendered from several views.

Its annotation schema is not published and no public loader was found, so the keys of the masks are looked up among
those that amodal data sets use. The first person with the real files should compare them with this reader.
"""

from pathlib import Path

import numpy as np

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.builder import own_file_name
from sameo_core.datasets.coco_files import CocoFormat, find_key, index_coco, read_coco_files
from sameo_core.datasets.files import find_file

AMODAL_KEYS = ("a_segm", "amodal_segm", "amodal_mask", "segmentation")
VISIBLE_KEYS = ("visible_mask", "inmodal_seg", "i_segm", "visible_segm")


def read_muva(root: Path, split: str) -> AmodalDataset:
    """MUVA as distributed: annotations/AiFi-MUVA_{split}.json, images in images/ (file names may begin with that: the
    first one decides).

    `extras` hold what ties the views of a scene together, where the file has it: "scene_id" and "view" of an image,
    "object_id" of an instance (the same in all views).

    Raises:
        InputError: see `index_coco`, `find_file`, `read_coco_files`; no known key for amodal or for visible masks.
    """
    path = find_file(root, [f"annotations/AiFi-MUVA_{split}.json"], "muva")
    index = index_coco(path)
    named = np.flatnonzero(index.tables["images"].flags[own_file_name.__name__])
    first = own_file_name(index.record("images", int(named[0]))) if len(named) else None
    from_root = first is not None and first.startswith("images/")
    form = CocoFormat(
        amodal_key=find_key(index.tables["annotations"], AMODAL_KEYS, "amodal", path),
        visible_key=find_key(index.tables["annotations"], VISIBLE_KEYS, "visible", path),
        visible_required=True,
        image_keys=("scene_id", "view"),
        instance_keys=("object_id",),
    )
    return read_coco_files("muva", root, split, [(index, root if from_root else root / "images")], form)
