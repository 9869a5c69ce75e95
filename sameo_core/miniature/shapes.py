"""Shapes: solid glyphs of Font Awesome Free, one connected silhouette each; holes are filled, and kept as detail."""

import functools
import json
from importlib.resources import files

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from scipy import ndimage


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(files("fontawesomefree") / "static/fontawesomefree/webfonts/fa-solid-900.ttf"), size)


@functools.cache
def _code_points() -> dict[str, int]:
    icons = json.loads((files("fontawesomefree") / "static/fontawesomefree/metadata/icons.json").read_text())
    return {name: int(icon["unicode"], 16) for name, icon in icons.items()}


@functools.cache
def _glyph(name: str, size: int = 160) -> tuple[PILImage.Image, PILImage.Image]:
    """Silhouette and ink of a glyph (8-bit greyscale, tightly cropped): ink is the silhouette without its holes."""
    sheet = PILImage.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(sheet).text((size // 2, size // 2), chr(_code_points()[name]), font=_font(size), fill=255)
    ink = np.asarray(sheet)
    silhouette = silhouette_of(ink > 127)
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edge = ndimage.binary_dilation(silhouette)
    inner = ndimage.binary_erosion(silhouette, iterations=2)
    soft = np.where(edge & ~inner, ink, 255 * silhouette).astype(np.uint8)
    return PILImage.fromarray(soft[box]), PILImage.fromarray((ink * silhouette)[box])


def silhouette_of(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest connected part of a mask, its holes filled; a hole is background that does not reach the border."""
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    outside, count = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return mask if count <= 1 else (outside != outside[0, 0])[1:-1, 1:-1]


def cut_out_of(
    rng: np.random.Generator, shape: str, longest: float, tilt: float, squeeze: float = 1.0
) -> Float[np.ndarray, "2 h w"]:
    """The glyph, rotated, stretched and scaled to `longest` pixels: coverage of silhouette and of ink, 0..1.

    `tilt`: standard deviation of the rotation, radians; `squeeze`: factor on its width, for a camera at the side.
    """
    silhouette, ink = _glyph(shape)
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    angle = rng.normal(0, tilt)
    flip = rng.choice((-1.0, 1.0))
    scale = longest / max(silhouette.size)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = turn @ np.diag([flip * scale * stretch * squeeze, scale / stretch])  # glyph pixels -> scene pixels
    extent = np.abs(forward) @ np.array(silhouette.size) + 4
    width, height = int(np.ceil(extent[0])), int(np.ceil(extent[1]))
    back = np.linalg.inv(forward)
    offset = np.array(silhouette.size) / 2 - back @ np.array([width / 2, height / 2])
    matrix = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    layers = [
        glyph.transform((width, height), PILImage.Transform.AFFINE, matrix, PILImage.Resampling.BILINEAR)
        for glyph in (silhouette, ink)
    ]
    return np.stack([np.asarray(layer, np.float32) for layer in layers]) / 255
