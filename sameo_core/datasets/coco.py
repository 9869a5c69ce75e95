"""Data sets in COCO's format (images, categories, flat annotations): their file names and mask keys.

The readers raise InputError as `find_file`, `index_coco` and `read_coco_files` do. Start at COCOA-cls, the shortest.
MUVA has no published schema and no public loader: its mask keys are looked up among those that amodal data sets use.
Check this reader against the real files before use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sameo_core.datasets.builder import is_int, own_file_name
from sameo_core.datasets.coco_files import CocoFormat, find_key, has_visible_mask, index_coco, read_coco_files
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import check_option, check_split, find_file
from sameo_core.errors import InputError

# ------------------------------------- COCOA-cls (Follmann et al., WACV 2019): COCOA's things with COCO's 80 classes


def read_cocoa_cls(root: Path, split: str) -> AmodalDataset:
    """COCOA-cls as distributed: annotations/COCO_amodal_{split}2014_with_classes.json, images in {split}2014/.

    Category ids are COCO's, 1..90 with gaps. Masks are RLE, in some files flat polygons.
    """
    path = find_file(root, [f"annotations/COCO_amodal_{split}2014_with_classes.json"], "cocoa_cls")
    return read_coco_files("cocoa_cls", root, split, [(index_coco(path), root / f"{split}2014")], CocoFormat())


# ------------- D2SA (Follmann et al., WACV 2019): shop items on a turntable, seen from above; the amodal version of D2S

D2SA_PARTS = {"train": "training_rot0", "augmented": "augmented", "val": "validation"}  # split -> word in file names


def read_d2sa(root: Path, split: str) -> AmodalDataset:
    """D2SA as distributed: d2s_amodal_annotations_v1/D2S_amodal_{...}.json, images in d2s_amodal_images_v1/images/.

    `train` (training_rot0, hardly occluded), `augmented` (items pasted over each other), `val` (validation), or several
    of them: training is usually on "train+augmented". Ids collide across files; those of later files are shifted.
    The published test file has no masks, so evaluation uses `val`. `extras` of an instance may hold "occl_depth".
    """
    parts = split.split("+")
    for part in parts:
        check_split(part, D2SA_PARTS, "d2sa")
    names = [f"d2s_amodal_annotations_v1/D2S_amodal_{D2SA_PARTS[part]}.json" for part in dict.fromkeys(parts)]
    folder = root / "d2s_amodal_images_v1" / "images"
    files = [(index_coco(find_file(root, [name], "d2sa")), folder) for name in names]
    return read_coco_files("d2sa", root, split, files, CocoFormat(instance_keys=("occl_depth",)))


# ------------------------------------------- MUVA (Li et al., ICCV 2023): shelves of goods, rendered from several views

MUVA_AMODAL_KEYS = ("a_segm", "amodal_segm", "amodal_mask", "segmentation")
MUVA_VISIBLE_KEYS = ("visible_mask", "inmodal_seg", "i_segm", "visible_segm")


def read_muva(root: Path, split: str) -> AmodalDataset:
    """MUVA as distributed: annotations/AiFi-MUVA_{split}.json, images in images/.

    File names may begin with "images/"; the first one decides for all. If the file has them, `extras` link the views of
    a scene: "scene_id" and "view" per image, "object_id" per instance (the same in all views).
    """
    path = find_file(root, [f"annotations/AiFi-MUVA_{split}.json"], "muva")
    index = index_coco(path)
    named = np.flatnonzero(index.tables["images"][own_file_name.__name__])
    first = own_file_name(index.record("images", int(named[0]))) if len(named) else None
    from_root = first is not None and first.startswith("images/")
    form = CocoFormat(
        amodal_key=find_key(index.tables["annotations"], MUVA_AMODAL_KEYS, "amodal", path),
        visible_key=find_key(index.tables["annotations"], MUVA_VISIBLE_KEYS, "visible", path),
        visible_required=True,
        image_keys=("scene_id", "view"),
        instance_keys=("object_id",),
    )
    return read_coco_files("muva", root, split, [(index, root if from_root else root / "images")], form)


# -------------------------- KINS (Qi et al., CVPR 2019): street scenes of KITTI, in the two editions of its annotations


@dataclass(frozen=True)
class Edition:
    """An edition's file names by split, and its keys."""

    files: dict[str, str]
    form: CocoFormat


KINS_EDITIONS = {
    "2019": Edition(  # amodal masks are polygons, visible ones RLE
        {"train": "instances_train.json", "val": "instances_val.json"},
        CocoFormat("segmentation", "inmodal_seg", visible_required=True),
    ),
    "2020": Edition(  # both are polygons; records whose visible box has no area are skipped
        {"train": "update_train_2020.json", "val": "update_test_2020.json"},
        CocoFormat(
            "a_segm",
            "i_segm",
            visible_required=True,
            box_keys=("a_bbox", "i_bbox"),
            # cluster of overlapping objects; order in it by distance: 0 if alone, else from 1
            instance_keys=("oco_id", "ico_id"),
        ),
    ),
}
KINS_FOLDERS = {"train": "training/image_2", "val": "testing/image_2"}


def read_kins(root: Path, split: str, version: str | None = None) -> AmodalDataset:
    """KINS as distributed: annotation files in `root` or `root`/annotations, images in training/ and testing/image_2/.

    `val` is KITTI's testing folder, on which results are published. Image ids are not the numbers in the file names.

    Args:
        version: "2019" (instances_{train,val}.json) or "2020" (update_{train,test}_2020.json). None: the edition whose
            exists; 2019 if both do, because published results use it.
    """
    check_split(split, KINS_FOLDERS, "kins")
    check_option("version", version, KINS_EDITIONS)
    candidates = {
        folder + edition.files[split]: edition
        for name, edition in KINS_EDITIONS.items()
        for folder in ("", "annotations/")
        if version in (None, name)
    }
    path = find_file(root, list(candidates), "kins")
    edition = candidates[path.relative_to(root).as_posix()]
    return read_coco_files("kins", root, split, [(index_coco(path), root / KINS_FOLDERS[split])], edition.form)


# ------------------------------------------------------------------------- your own COCO files, with amodal masks


def read_coco(
    root: Path,
    split: str,
    annotation_file: str | None = None,
    image_folder: str = "images",
    visible: str | None = None,
    crowds: bool = False,
) -> AmodalDataset:
    """COCO annotations with the amodal mask in `segmentation` (any encoding) and its visible part in `visible_mask`.

    If some annotations have a `visible_mask`, those without are skipped.

    Args:
        annotation_file: relative to `root`; by default annotations/{split}.json or annotations/instances_{split}.json.
        image_folder: relative to `root`; file names are relative to it.
        visible: "same", if no annotation has a `visible_mask` because nothing is occluded.
        crowds: keep `iscrowd` annotations as objects: CVAT sets `iscrowd` for every mask that is not a polygon.
    """
    check_option("visible", visible, ["same"])
    defaults = [f"annotations/{split}.json", f"annotations/instances_{split}.json"]
    path = find_file(root, [annotation_file] if annotation_file else defaults, "coco")
    index = index_coco(path)
    stored = bool(index.tables["annotations"][has_visible_mask.__name__].any())
    if len(index.tables["annotations"]) and stored == (visible == "same"):
        raise InputError(
            file=path,
            rule=f"visible masks must come from visible_mask or visible='same', found {'both' if stored else 'none'}",
            remedy='Store a visible_mask with the annotations, or say visible="same": nothing is occluded',
        )
    form = CocoFormat(visible_required=stored, crowds=crowds)
    return read_coco_files("coco", root, split, [(index, root / image_folder)], form)


# -------- visible masks only: LVIS (Gupta et al., CVPR 2019), the source of Amodal-LVIS; COCO 2017 photographs by id


def read_lvis(root: Path, split: str) -> AmodalDataset:
    """LVIS as distributed: lvis_v1_{split}.json or lvis_{split}.json in `root` or `root`/annotations.

    Images are in train2017/ and val2017/. The last two parts of `coco_url` give folder and file: v1 has no `file_name`,
    v0.5 has COCO 2014's, and the val sets of both use both folders. `dataset.frequencies` maps category id to "r", "c"
    or "f". Not every object of an image is annotated. In a few images polygons and boxes differ by a 90-degree rotation
    (3 of 100 in the v0.5 sample; lvis-dataset/lvis-api issue 1); the polygons are used.
    """
    names = [f"{folder}lvis_{version}{split}.json" for version in ("v1_", "") for folder in ("annotations/", "")]
    path = find_file(root, names, "lvis")
    index = index_coco(path, name_in_url)
    dataset = read_coco_files("lvis", root, split, [(index, root)], LVIS)
    for category in index.records("categories"):
        if isinstance(category, Mapping) and is_int(category.get("id")) and isinstance(category.get("frequency"), str):
            dataset.frequencies[category["id"]] = category["frequency"]
    return dataset


def name_in_url(image: Mapping) -> str | None:
    """Folder and file name of an image."""
    url = image.get("coco_url")
    if isinstance(url, str) and url.count("/") >= 1:
        return "/".join(url.split("/")[-2:])
    return own_file_name(image)


LVIS = CocoFormat(None, "segmentation", file_name=name_in_url, nameless="image without coco_url")


def coco_number(name: str) -> str:
    """COCO's number of a photograph, the same in all releases: the twelve digits that end its file name; else ""."""
    found = re.search(r"(?<!\d)\d{12}(?=\.\w+$)", name)
    return found.group() if found else ""


def read_coco_photos(root: Path, split: str) -> AmodalDataset:
    """COCO's layout: annotations/instances_{split}2017.json, images in {split}2017/.

    Images are in the folder of our split, regardless of `coco_url`: some of our train images come from COCO's val2017.
    Crowd regions are skipped, and so are images without a photograph: the server may lack one.
    """
    path = find_file(root, [f"annotations/instances_{split}2017.json"], "coco_photos")
    form = replace(LVIS, file_name=own_file_name, nameless="image without file_name")
    dataset = read_coco_files("coco_photos", root, split, [(index_coco(path), root / f"{split}2017")], form)
    here = np.array([image.path.is_file() for image in dataset], bool)
    return dataset.select(here[dataset.census().image])
