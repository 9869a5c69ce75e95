"""Plain COCO files of one's own, with amodal masks."""

from collections.abc import Sequence
from pathlib import Path

from sameo_core.datasets.base import AmodalDataset
from sameo_core.datasets.coco_files import CocoFormat, has_visible_mask, index_coco, read_coco_files
from sameo_core.datasets.files import find_file
from sameo_core.errors import InputError

VISIBLE = ("same",)
DEPTH_ORDERS = ("front to back", "back to front")


def read_coco(
    root: Path,
    split: str,
    annotation_file: str | None = None,
    image_folder: str = "images",
    visible: str | None = None,
    depth_order: str | None = None,
    crowds: bool = False,
) -> AmodalDataset:
    """COCO annotations whose `segmentation` (any encoding) is the amodal mask, and `visible_mask` what is seen of it.

    Where no annotation has a `visible_mask`, one of two things must be said, for neither can be seen in the file:
    `visible="same"`, that nothing is occluded, or `depth_order`, the order in which an image's annotations are stacked;
    then an object's visible mask is what the objects in front of it leave, and one that they hide wholly is skipped.
    Where some have one, those without are skipped.

    Args:
        annotation_file: relative to `root`; by default annotations/{split}.json or annotations/instances_{split}.json.
        image_folder: relative to `root`; file names are relative to it.
        visible: "same".
        depth_order: "front to back" or "back to front".
        crowds: take what has `iscrowd` as objects, too: CVAT sets it for every mask that is no polygon.

    Raises:
        InputError: see `index_coco`, `find_file`, `read_coco_files`; visible masks that are neither there nor
            explained, or both.
    """
    _check_option("visible", visible, VISIBLE)
    _check_option("depth_order", depth_order, DEPTH_ORDERS)
    defaults = [f"annotations/{split}.json", f"annotations/instances_{split}.json"]
    path = find_file(root, [annotation_file] if annotation_file else defaults, "coco")
    index = index_coco(path)
    stored = bool(index.tables["annotations"].flags[has_visible_mask.__name__].any())
    sources = ["visible_mask"] * stored + ["visible"] * (visible is not None) + ["depth_order"] * bool(depth_order)
    if len(index.tables["annotations"]) and len(sources) != 1:
        raise InputError(
            file=path,
            rule=f"visible masks must come from one source, found {' and '.join(sources) or 'none'}",
            remedy='Store a visible_mask with the annotations, or say visible="same" (nothing is occluded), '
            'or depth_order="front to back" or "back to front" (the order of each image\'s annotations); one of these',
        )
    visible_key = None if depth_order else "visible_mask"
    form = CocoFormat(visible_key=visible_key, visible_required=stored, crowds=crowds, depth_order=depth_order)
    return read_coco_files("coco", root, split, [(index, root / image_folder)], form)


def _check_option(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise InputError(
            file=name,
            rule=f"{name} can be {' or '.join(map(repr, known))}, found {value!r}",
            remedy="Give one of these, or leave it out",
        )
