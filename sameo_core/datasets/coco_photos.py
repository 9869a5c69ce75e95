"""Photographs of COCO 2017 by id, with the instance masks of its annotators: visible only; the objects of `photo`."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.builder import own_file_name
from sameo_core.datasets.coco_files import index_coco, read_coco_files
from sameo_core.datasets.files import find_file
from sameo_core.datasets.lvis import FORM


def read_coco_photos(root: Path, split: str) -> AmodalDataset:
    """COCO's layout: annotations/instances_{split}2017.json, images in {split}2017/.

    Images lie in the folder of our split, whatever their `coco_url` says: some of our train images are of COCO's
    val2017. Crowd regions are skipped. Images whose photograph is not there are left out, so that one which its server
    no longer has does not end a run.

    Raises:
        InputError: see `index_coco`, `find_file`, `read_coco_files`.
    """
    path = find_file(root, [f"annotations/instances_{split}2017.json"], "coco_photos")
    form = replace(FORM, file_name=own_file_name, nameless="image without file_name")
    dataset = read_coco_files("coco_photos", root, split, [(index_coco(path), root / f"{split}2017")], form)
    here = np.array([image.path.is_file() for image in dataset], bool)
    return dataset.select(here[dataset.census().image])
