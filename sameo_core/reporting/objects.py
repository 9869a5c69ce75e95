"""How an object is drawn: visible part outlined, amodal mask dashed, hidden region tinted and hatched.

With matplotlib in figures; with Pillow on screen, for speed.
"""

import io
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.patheffects import Normal, Stroke
from skimage.measure import find_contours

from sameo_core.arrays import BoxXYXY, Image
from sameo_core.datasets import AmodalImage
from sameo_core.masks import mask_box, remove_small_regions
from sameo_core.reporting.style import PALETTE, styled

Mask = Bool[np.ndarray, "_ _"]  # "h w" of the image


@styled
def draw_object(
    axes: Axes,
    image: Image,
    visible: Mask,
    amodal: Mask | None,
    *,
    box: BoxXYXY | None = None,
    role: str = "amodal",
    occluder: Mask | None = None,
) -> None:
    """Draw one object on its image; the background is faded, the visible part and the occluder are not.

    Axes are in pixels of the image, (0, 0) the corner of its first pixel.

    Args:
        amodal: None: only the visible part is drawn.
        role: "amodal" for a prediction, "truth" for an annotation.
        occluder: what lies in front.
    """
    show_image(axes, image, visible if occluder is None else visible | occluder)
    if amodal is not None:
        draw_hidden(axes, amodal & ~visible, PALETTE["hidden" if role == "amodal" else role])
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


def draw_hidden(axes: Axes, hidden: Mask, tint: str) -> None:
    if hidden.any():
        style: dict[str, Any] = {"fc": (tint, 0.6), "ec": "black", "lw": 0, "hatch": "/////", "label": "hidden"}
        axes.add_patch(PathPatch(_outline(hidden), **style))


def _outline(mask: Mask) -> Outline:
    """The outline of a mask, holes included, in pixels from the corner of the first pixel."""
    x0, y0, x1, y1 = mask_box(mask).astype(int)
    contours = find_contours(np.pad(mask[y0:y1, x0:x1], 1).astype(np.float32), 0.5)
    return Outline.make_compound_path(*(Outline(c[:, ::-1] + (x0 - 0.5, y0 - 0.5), closed=True) for c in contours))


def _casing(width: float) -> list:
    """A solid white line under a line `width` points wide, for contrast on any background."""
    return [Stroke(linewidth=width + 1.0, foreground="white", dashes={"dash_offset": 0, "dash_list": None}), Normal()]


def window(box: BoxXYXY, height: int, width: int) -> tuple[float, float, float, float]:
    """A square around a box, with sides 1.5 times as long, moved into the image as far as possible."""
    side = 1.5 * max(box[2] - box[0], box[3] - box[1])
    corner = []
    for low, high, size in ((box[0], box[2], width), (box[1], box[3], height)):
        slack = size - side  # negative: the square is larger than the image, and is centred on it
        corner.append(slack / 2 if slack < 0 else min(max((low + high - side) / 2, 0.0), slack))
    x, y = map(float, corner)
    return x, y, x + float(side), y + float(side)


DASHES = MappingProxyType({"amodal": (7, 4), "truth": (2, 4)})


class Screen:
    """A picture in the style of the figures, drawn by Pillow in milliseconds; matplotlib takes tenths of a second.

    Line widths, dashes and hatches do not depend on the size of the image.
    """

    def __init__(self, image: Image, longest: int, objects: Mask | None = None):
        """The image, `longest` pixels on its longer side; faded outside `objects` if given."""
        height, width = image.shape[:2]
        self.scale = longest / max(height, width)
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        self.picture = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR)
        if objects is not None:
            grey = PIL.Image.blend(self.picture, self.picture.convert("L").convert("RGB"), 0.5)
            faded = PIL.Image.blend(grey, PIL.Image.new("RGB", size, "white"), 0.5)
            self.picture = PIL.Image.composite(self.picture, faded, self._resized(objects))

    def hidden(self, region: Mask, colour: str = PALETTE["hidden"]) -> None:
        """A region tinted and hatched."""
        mask = np.array(self._resized(region))
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        hatch = (x + y) % 8 < 2
        for value, where in ((colour, ~hatch * np.uint8(150)), ("black", hatch * np.uint8(200))):
            stencil = PIL.Image.fromarray(np.minimum(mask, where))
            self.picture.paste(PIL.Image.new("RGB", self.picture.size, value), None, stencil)

    def outline(self, mask: Mask, colour: str, width: int = 2, dash: tuple[int, int] | None = None) -> None:
        """The outline of a mask on a white casing; `dash`: pixels of line and gap."""
        if max(mask.shape) * self.scale < max(mask.shape):  # larger than on screen: outline the resized mask
            mask, scale = remove_small_regions(np.array(self._resized(mask)) >= 128, (2 * width) ** 2), 1.0
        else:
            scale = self.scale
        pen = PIL.ImageDraw.Draw(self.picture)
        lines = [(c[:, ::-1] - 0.5) * scale for c in find_contours(np.pad(mask, 1).astype(np.float32), 0.5)]
        for line in lines:
            pen.line(line.ravel().tolist(), "white", width + 2)
        for line in lines:
            for piece in _dashes(line, *dash) if dash else [line]:
                pen.line(piece.ravel().tolist(), colour, width)

    def badge(self, x: float | int, y: float | int, text: str) -> None:
        """A short text on white, centred on a pixel of the image."""
        pen, place = PIL.ImageDraw.Draw(self.picture), (x * self.scale, y * self.scale)
        font = PIL.ImageFont.load_default(15)
        left, top, right, bottom = pen.textbbox(place, text, font, anchor="mm")
        pen.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill="white", outline="black")
        pen.text(place, text, "black", font, anchor="mm")

    def jpeg(self) -> bytes:
        """For the browser: a quarter of the size of a PNG."""
        buffer = io.BytesIO()
        self.picture.save(buffer, "jpeg", quality=90, subsampling=0)
        return buffer.getvalue()

    def _resized(self, mask: Mask) -> PIL.Image.Image:
        picture = PIL.Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
        return picture.resize(self.picture.size, PIL.Image.Resampling.BILINEAR)


def _dashes(line: Float[np.ndarray, "n 2"], on: float | int, off: float | int) -> Iterator[Float[np.ndarray, "_ 2"]]:
    """Split a line into pieces of `on` pixels, `off` pixels apart."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for start in np.arange(0, along[-1], on + off):
        stops = np.concatenate([[start], along[(along > start) & (along < start + on)], [start + on]])
        yield np.stack([np.interp(stops, along, line[:, axis]) for axis in (0, 1)], 1)


def object_picture(
    image: Image,
    amodal: Mask | None,
    visible: Mask | None = None,
    *,
    truth: Mask | None = None,
    longest: int = 480,
) -> bytes:
    """One object for the screen: amodal mask dashed, visible part solid, hidden region hatched, truth dotted. JPEG.

    Args:
        amodal: the prediction.
        visible: as annotated; without it, the hidden part of `amodal` is not known.
        truth: the annotated amodal mask.
        longest: side of the picture, in pixels.
    """
    masks = [mask for mask in (amodal, visible) if mask is not None]
    screen = Screen(image, longest, np.any(masks, axis=0) if masks else None)
    if amodal is not None and visible is not None:
        screen.hidden(amodal & ~visible)
    if visible is not None:
        screen.outline(visible, PALETTE["visible"])
    if truth is not None:
        screen.outline(truth, PALETTE["truth"], 3, DASHES["truth"])
    if amodal is not None:
        screen.outline(amodal, PALETTE["amodal"], 2, DASHES["amodal"])
    return screen.jpeg()


def scene_picture(image: AmodalImage, pixels: Image, chosen: int | None = None, longest: int = 480) -> bytes:
    """All objects of an image (and its `pixels`) as annotated, numbered from 1 in the order of the file; JPEG.

    The amodal mask of the object with index `chosen` is outlined, dotted.
    """
    visible = [item.visible for item in image.instances]
    screen = Screen(pixels, longest, np.any([np.zeros(pixels.shape[:2], bool), *visible], axis=0))
    for item in image.instances:
        if item.amodal_rle is not None:
            screen.hidden(item.hidden)
    for mask in visible:
        screen.outline(mask, PALETTE["visible"])
    if chosen is not None and image.instances[chosen].amodal_rle is not None:
        screen.outline(image.instances[chosen].amodal, PALETTE["truth"], 3, DASHES["truth"])
    for number, mask in enumerate(visible, start=1):
        y, x = (float(np.median(values)) for values in np.nonzero(mask))
        screen.badge(x, y, str(number))
    return screen.jpeg()
