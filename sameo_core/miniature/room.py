"""Indoor scenes: wall and floor are objects like others, as renderers and scanners of rooms list them."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image as PILImage

from sameo_core.arrays import AmodalMask, Image, VisibleMask
from sameo_core.miniature.drawing import Scene, draw_scene
from sameo_core.runs.atomic import written_whole


def draw_room(domain: str, index: int, seed: int, split: str) -> Scene:
    """As `draw_scene`, of a domain with ground; the first two objects are the wall and the floor."""
    scene = draw_scene(domain, index, seed, split)
    ground = cast(np.ndarray, scene.ground)
    building = np.stack([~ground, ground])
    seen = building & ~scene.amodal.any(0)
    return replace(
        scene,
        amodal=np.concatenate([building, scene.amodal]),
        visible=np.concatenate([seen, scene.visible]),
        categories=("wall", "floor", *scene.categories),
        identities=tuple(range(1, len(scene.categories) + 3)),
        ground=None,
        ground_category=None,
    )


def save_mask(path: Path, mask: AmodalMask | VisibleMask) -> None:
    """A mask as PNG: 8-bit greyscale, 0 and 255."""
    with written_whole(path) as partial:
        PILImage.fromarray(mask.astype(np.uint8) * 255).save(partial, "PNG")


def save_whole(path: Path, image: Image, amodal: AmodalMask, visible: VisibleMask) -> None:
    """The whole object on white, its hidden part in the mean colour of what is seen; readers do not need it."""
    pixels = np.full_like(image, 255)
    pixels[amodal] = image[visible].mean(0).astype(np.uint8)
    pixels[visible] = image[visible]
    with written_whole(path) as partial:
        PILImage.fromarray(pixels).save(partial, "PNG")
