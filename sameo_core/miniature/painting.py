"""Painting: photographs as surfaces and backgrounds, and objects with a shadow, a texture and a lit bevel.

The photographs are those inside the scikit-image wheel.
"""

import functools

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PILImage
from PIL import ImageFilter
from scipy import ndimage
from skimage import data as photographs

from sameo_core.miniature.domains import Domain

Canvas = Float[np.ndarray, "h w 3"]  # RGB, about 0..255


@functools.cache
def _photograph(name: str) -> UInt8[np.ndarray, "h w 3"]:
    pixels = photographs.stereo_motorcycle()[0] if name == "motorcycle" else getattr(photographs, name)()
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2))


def crop_photograph(rng: np.random.Generator, domain: Domain, height: int, width: int) -> Canvas:
    """A random crop of one of the domain's photographs, at 1 to 2 times its own scale, perhaps mirrored."""
    photograph = _photograph(domain.photographs[rng.integers(len(domain.photographs))])
    zoom = rng.uniform(0.5, 1.0)
    crop_height = min(photograph.shape[0], int(height * zoom) + 2)
    crop_width = min(photograph.shape[1], int(width * zoom) + 2)
    top = rng.integers(photograph.shape[0] - crop_height + 1)
    left = rng.integers(photograph.shape[1] - crop_width + 1)
    crop = PILImage.fromarray(photograph[top : top + crop_height, left : left + crop_width])
    crop = crop.resize((width, height), PILImage.Resampling.BILINEAR)
    if rng.random() < 0.5:
        crop = crop.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)
    return np.array(crop, np.float32)


def background(rng: np.random.Generator, domain: Domain, height: int, width: int) -> Canvas:
    """A photograph with reduced contrast and a tint."""
    photograph = crop_photograph(rng, domain, height, width)
    mean = photograph[::8, ::8].mean((0, 1))
    contrast, shift = np.float32(rng.uniform(*domain.contrast)), rng.uniform(-15, 35, 3).astype(np.float32)
    photograph *= contrast
    photograph += (np.float32(0.8) - contrast) * mean + shift
    return photograph


def lay_ground(rng: np.random.Generator, domain: Domain, canvas: Canvas) -> tuple[Bool[np.ndarray, "h w"], str]:
    """Paint a stuff region over the lower part of the canvas, in place; return its mask and name."""
    height, width = canvas.shape[:2]
    horizon = rng.uniform(0.45, 0.75) * height + rng.uniform(-0.12, 0.12) * (np.arange(width) - width / 2)
    mask = np.arange(height)[:, None] >= horizon
    surface = background(rng, domain, height, width)
    canvas[mask] = surface[mask]
    return mask, ("floor", "table", "lawn ", "carpet")[rng.integers(4)]  # with the trailing space real COCOA has


def _colour(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A random colour: any hue, from muted to strong, neither black nor white."""
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.15, 0.8), rng.uniform(0.4, 0.95)
    ramp = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (255 * value * (1 - saturation + saturation * ramp)).astype(np.float32)


def _blur(plane: Float[np.ndarray, "h w"], radius: float) -> Float[np.ndarray, "h w"]:
    blurred = PILImage.fromarray((plane * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / 255


def paint(
    rng: np.random.Generator,
    domain: Domain,
    canvas: Canvas,
    cut_out: Float[np.ndarray, "2 ch cw"],
    placed: Bool[np.ndarray, "h w"],
    top: int,
    left: int,
    light: float,
) -> None:
    """Paint one object onto the canvas, in place: drop shadow, textured two-tone surface, bevel lit from `light`."""
    height, width = canvas.shape[:2]
    margin = 8
    coverage, ink = np.pad(cut_out, ((0, 0), (margin, margin), (margin, margin)))
    in_frame, in_cut_out = windows(coverage.shape, top - margin, left - margin, height, width)
    size = max(cut_out.shape[1:])
    towards = np.array([np.sin(light), np.cos(light)], np.float32)

    bevel = _blur(coverage, 0.04 * size)
    slope = np.float32(0.04 * size) * (
        towards[0] * np.gradient(bevel, axis=0) + towards[1] * np.gradient(bevel, axis=1)
    )
    relief = 1 + np.float32(0.9) * slope * coverage + np.float32(0.35) * np.clip(2 * bevel - 2, -1, 0)
    shadow = np.float32(0.5) * np.roll(_blur(coverage, 3.0), tuple(np.round(3 * towards).astype(int)), (0, 1))

    texture = crop_photograph(rng, domain, *coverage.shape)
    texture -= texture[::8, ::8].mean((0, 1))
    texture *= np.float32(rng.uniform(0.1, 0.5))
    outside, inside = _colour(rng), _colour(rng)
    inside = np.float32(0.45) * outside + np.float32(0.55) * inside  # the holes of the glyph, in a second tone
    surface = ink[..., None] * (outside - inside)
    surface += inside + texture
    surface *= relief[..., None]

    alpha = (coverage[in_cut_out] * ndimage.binary_dilation(placed[in_frame]))[..., None]
    patch = canvas[in_frame]
    patch *= 1 - shadow[in_cut_out][..., None]
    patch += alpha * (surface[in_cut_out] - patch)


def windows(size: tuple[int, int], top: int, left: int, height: int, width: int) -> tuple[tuple, tuple]:
    """The part of a cut-out that lies inside the frame, as slices of the frame and of the cut-out."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + size[0], height), min(left + size[1], width)
    return np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
