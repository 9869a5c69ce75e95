"""Drawn scenes as pix2gestalt distributes its occlusions: squashed to 256 x 256, one occluded object annotated.

The release has no split; the miniature has a folder for each, so that what one call draws does not move what another
drew from "train" to "val". Blemish: for every 12th image there is one more picture, without masks.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image as PILImage

from sameo_core.masks import decode_rle
from sameo_core.miniature.drawing import Scene, draw_scene
from sameo_core.miniature.records import DrawnImage, Layout
from sameo_core.miniature.room import save_mask, save_whole
from sameo_core.runs.atomic import written_whole

SIDE = 256  # pixels
_ATTEMPTS = 50
_LEAST_OCCLUSION = 0.05  # after squashing


def draw_occlusion(domain: str, index: int, seed: int, split: str) -> Scene:
    """A scene squashed to a square, and of its objects the most occluded one; drawn anew until there is one."""
    for attempt in range(_ATTEMPTS):
        scene = draw_scene(domain, index + attempt * 1_000_000_000, seed, split)
        amodal, visible = _squash(scene.amodal), _squash(scene.visible)
        rates = 1 - visible.sum((1, 2)) / np.maximum(amodal.sum((1, 2)), 1)
        rates[~visible.any((1, 2))] = 0
        k = int(np.argmax(rates))
        if rates[k] >= _LEAST_OCCLUSION:
            break
    image = PILImage.fromarray(scene.image).resize((SIDE, SIDE), PILImage.Resampling.BILINEAR)
    one = np.s_[k : k + 1]
    return replace(
        scene,
        image=np.asarray(image),
        amodal=amodal[one],
        visible=visible[one],
        categories=scene.categories[one],
        identities=(1,),
    )


def _squash(masks: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n 256 256"]:
    rows, columns = ((np.arange(SIDE) + 0.5) * side / SIDE for side in masks.shape[1:])
    return masks[:, rows.astype(int)[:, None], columns.astype(int)]


def write_masks(scene: Scene, image: DrawnImage, root: Path, split: str) -> None:
    """whole/, whole_mask/ and visible_object_mask/ of one picture."""
    name, (item,) = names(image.id, split)["name"], image.objects
    amodal, visible = decode_rle(item.amodal), decode_rle(item.visible)
    folder = root / split
    save_whole(folder / "whole" / f"{name}_whole.png", scene.image, amodal, visible)
    save_mask(folder / "whole_mask" / f"{name}_whole_mask.png", amodal)
    save_mask(folder / "visible_object_mask" / f"{name}_visible_mask.png", visible)
    if image.id % 12 == 0:
        with written_whole(folder / "occlusion" / f"{name}0_occlusion.png") as partial:
            PILImage.fromarray(scene.image).save(partial, "PNG")


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """The set has no annotation file; this one only says that all pictures are there."""
    return {}


def names(image_id: int, split: str) -> dict[str, str]:
    """Numbers of SA-1B: with gaps, and of unequal length, so that they do not sort as they count."""
    return {"name": str(37 * image_id + 5)}


LAYOUT = Layout(
    "miniature_{split}.json",
    "{split}/occlusion/{name}_occlusion.png",
    document,
    draw=draw_occlusion,
    write_files=write_masks,
    names=names,
)
