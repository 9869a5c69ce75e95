"""Drawing one object: its visible part outlined, its amodal mask dashed, its hidden region tinted and hatched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.patheffects import Normal, Stroke
from skimage.measure import find_contours

from sameo_core.arrays import BoxXYXY, Image
from sameo_core.datasets.images import FORMATS, upright
from sameo_core.errors import InputError
from sameo_core.masks import mask_box
from sameo_core.reporting.base import require
from sameo_core.reporting.style import PALETTE, styled

Mask = Bool[np.ndarray, "_ _"]  # "h w" of the image; compared by hand, so that the error says which one differs


@styled
def draw_object(
    axes: Axes,
    image: Image,
    visible: Mask,
    amodal: Mask | None,
    *,
    box: BoxXYXY | None = None,
    role: str = "amodal",
    hidden_style: Mapping[str, object] | None = None,
) -> None:
    """Draw one object: the visible part outlined, the amodal mask dashed, the hidden region tinted and hatched.

    The image is faded but for the visible part. Axes are in pixels of the image, (0, 0) the corner of its first pixel.

    Args:
        image: uint8 RGB "h w 3".
        visible, amodal: bool "h w"; without an amodal mask (None) only the visible part is drawn.
        box: the box prompt, xyxy pixels.
        role: "amodal" for what a model says, "truth" for what the annotation says.
        hidden_style: properties of the hidden region's `PathPatch` to change, e.g. ``{"hatch": "xx"}``.

    Raises:
        InputError: a mask is not of the image's size.
    """
    for name, mask in {"visible": visible, "amodal": amodal}.items():
        size = image.shape[:2] if mask is None else mask.shape
        rule = f"a mask has its image's size (h, w) {image.shape[:2]}, found {size}"
        require(size == image.shape[:2], name, rule, "Bring the mask to the original image's size")
    show_image(axes, image, visible)
    if amodal is not None:
        draw_hidden(axes, amodal & ~visible, PALETTE["hidden" if role == "amodal" else role], **(hidden_style or {}))
    draw_visible(axes, visible)
    if amodal is not None:
        draw_amodal(axes, amodal, PALETTE[role])
    if box is not None:
        draw_box(axes, box)


def show_image(axes: Axes, image: Image, objects: Mask) -> None:
    """The image, faded outside `objects`: half way to grey, then half way to white."""
    faded = 0.5 * (0.5 * image + 0.5 * image.mean(2, keepdims=True)) + 127.5
    height, width = objects.shape
    axes.imshow(np.where(objects[..., None], image, faded.astype(np.uint8)), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)


def draw_visible(axes: Axes, visible: Mask, width: float = 1.2) -> None:
    if visible.any():
        line = {"ec": PALETTE["visible"], "lw": width, "label": "visible", "path_effects": _casing(width)}
        axes.add_patch(PathPatch(_outline(visible), fill=False, **line))


def draw_amodal(axes: Axes, amodal: Mask, colour: str) -> None:
    if amodal.any():
        line = {"ec": colour, "lw": 1.5, "ls": (0, (3, 1.5)), "label": "amodal", "path_effects": _casing(1.5)}
        axes.add_patch(PathPatch(_outline(amodal), fill=False, **line))


def draw_box(axes: Axes, box: BoxXYXY) -> None:
    x0, y0, x1, y1 = (float(v) for v in box)
    line: dict[str, Any] = {"ec": PALETTE["box"], "lw": 1.0, "label": "box", "path_effects": _casing(1.0)}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **line))


def draw_hidden(axes: Axes, hidden: Mask, tint: str, **style: object) -> None:
    if hidden.any():
        style = {"fc": (tint, 0.6), "ec": "black", "lw": 0, "hatch": "/////", "label": "hidden", **style}
        axes.add_patch(PathPatch(_outline(hidden), **style))


def _outline(mask: Mask) -> Outline:
    """The outline of a mask, holes included, in pixels from the corner of the first pixel."""
    x0, y0, x1, y1 = mask_box(mask).astype(int)
    contours = find_contours(np.pad(mask[y0:y1, x0:x1], 1).astype(np.float32), 0.5)
    return Outline.make_compound_path(*(Outline(c[:, ::-1] + (x0 - 0.5, y0 - 0.5), closed=True) for c in contours))


def _casing(width: float) -> list:
    """A white line, never dashed, under a line `width` points wide: seen on any background."""
    return [Stroke(linewidth=width + 1.0, foreground="white", dashes={"dash_offset": 0, "dash_list": None}), Normal()]


def read_pixels(path: Path) -> Image:
    """The pixels of an image file as RGB."""
    try:
        with PIL.Image.open(path, formats=FORMATS) as image:
            return np.array(upright(image).convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise InputError(file=path, rule=f"an image that can be read: {error}", remedy="Fetch it again") from error


def window(box: BoxXYXY, height: int, width: int) -> tuple[float, float, float, float]:
    """A square around a box, half as large again, moved into the frame as far as it fits."""
    side = 1.5 * max(box[2] - box[0], box[3] - box[1])
    corner = []
    for low, high, size in ((box[0], box[2], width), (box[1], box[3], height)):
        slack = size - side  # negative: the square is larger than the image, which then stands in its middle
        corner.append(slack / 2 if slack < 0 else min(max((low + high - side) / 2, 0.0), slack))
    x, y = map(float, corner)
    return x, y, x + float(side), y + float(side)
