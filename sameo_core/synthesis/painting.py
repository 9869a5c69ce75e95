"""Painting a pair: the occluder's pixels over the target's photograph, without a visible seam."""

import math
import time
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Bool, UInt8
from PIL import ImageStat, JpegImagePlugin

from sameo_core.config import SynthesisConfig
from sameo_core.datasets.images import FORMATS, orientation
from sameo_core.errors import InputError
from sameo_core.synthesis.composition import MARGIN, Pair, draw_pair, region_of, resampled
from sameo_core.synthesis.pool import Pool

# Pixels and their neighbours, as slices of the same mask.
_BESIDE = (
    (np.s_[1:], np.s_[:-1]),
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:, 1:], np.s_[:, :-1]),
    (np.s_[:, :-1], np.s_[:, 1:]),
)


@dataclass(frozen=True)
class Composed:
    """The two versions of a pair as files, and the grey levels (of 255) added to the occluder."""

    original: bytes
    occluded: bytes
    suffix: str  # of the occluded one; the original's is the source file's
    brightness_shift: int


def compose(pool: Pool, pair: Pair, config: SynthesisConfig) -> Composed:
    """Paint a pair. The original is the source file, byte for byte.

    The occluded version uses the source's quantisation tables and block grid: outside the pasted region coefficients
    hardly change, so compression does not reveal which images are occluded. Sources other than JPEG (grey or RGB) give
    PNG.

    Raises:
        InputError: a source image is missing, damaged, or has another size than the pool says.
    """
    data, scene = _open(pool, pair.target)
    source = scene
    if scene.mode not in ("L", "RGB"):
        scene = scene.convert("RGB")
    cut_out, shift = _cut_out_colours(pool, pair, scene, config)
    cut_out = cut_out if scene.mode == "RGB" else cut_out.convert(scene.mode)
    scene.paste(cut_out, pair.corner, PIL.Image.fromarray(pair.alpha))
    file = BytesIO()
    if source.format == "JPEG" and isinstance(source, JpegImagePlugin.JpegImageFile) and source.mode == scene.mode:
        sampling = JpegImagePlugin.get_sampling(source)
        scene.save(file, "JPEG", qtables=source.quantization, subsampling=sampling)
        suffix = ".jpg"
    else:
        scene.save(file, "PNG")
        suffix = ".png"
    return Composed(data, file.getvalue(), suffix, shift)


def _cut_out_colours(
    pool: Pool, pair: Pair, scene: PIL.Image.Image, config: SynthesisConfig
) -> tuple[PIL.Image.Image, int]:
    """The occluder's pixels, of the size of `pair.alpha`, and their brightness shift."""
    _, image = _open(pool, pair.occluder)
    region, size = region_of(pool.bounds(pair.occluder), pair.scale)
    image = image if image.mode == "RGB" else image.convert("RGB")
    filters = PIL.Image.Resampling
    resampling = filters.HAMMING if pair.scale <= 1 else filters.BICUBIC  # equally sharp at 1
    colours = np.array(resampled(image, region, size, pair.flipped, resampling))
    solid = pair.alpha >= 128
    _replace_rim(colours, solid, rim=1 + math.ceil(pair.scale))
    (x, y), (width, height) = pair.corner, size
    around = scene.crop((max(0, x), max(0, y), min(scene.width, x + width), min(scene.height, y + height)))
    own = PIL.Image.fromarray(colours)
    difference = _luminance(around.reduce(4)) - _luminance(own, PIL.Image.fromarray(solid.view(np.uint8)))
    shift = round(min(max(config.brightness_share * difference, -config.brightness_cap), config.brightness_cap))
    return own.point(np.clip(np.arange(256) + shift, 0, 255).tolist() * 3), shift


def _luminance(image: PIL.Image.Image, mask: PIL.Image.Image | None = None) -> float:
    """Mean luminance (ITU-R 601) of an image, 0..255; where the mask is not 0."""
    return float(ImageStat.Stat(image.convert("L"), mask).mean[0])


def _replace_rim(colours: UInt8[np.ndarray, "ch cw 3"], solid: Bool[np.ndarray, "ch cw"], rim: int) -> None:
    """Paint an object's rim, and some pixels around it, in the colours just inside the rim; in place.

    An object's edge contains its old background (outlines are drawn by hand, and resampling mixes), which would show
    as a fringe. Ring by ring, outwards, each pixel takes the mean of its finished neighbours. Parts as thin as the rim
    have no inside and stay unchanged, except within a few pixels of thicker parts.
    """
    core = solid.copy()
    for _ in range(rim):
        inner = core.copy()
        for here, beside in _BESIDE:
            inner[here] &= core[beside]
        core = inner
    edge = np.zeros_like(core)
    for here, beside in _BESIDE:
        edge[here] |= core[beside]
    ring = np.flatnonzero(edge & ~core)
    steps = np.array([[-core.shape[1]], [-1], [1], [core.shape[1]]])
    pixels, known, place = colours.reshape(-1, 3), core.ravel(), np.empty(core.size, np.int32)
    for _ in range(rim + MARGIN - 2):  # rings stay inside the margin, so every pixel has neighbours
        neighbours = ring + steps
        weights = known.take(neighbours).astype(np.float32)
        mean = np.einsum("kn,knc->nc", weights, pixels.take(neighbours, axis=0)) / weights.sum(0)[:, None]
        pixels[ring] = mean.round()
        known[ring] = True
        further = neighbours.ravel()
        further = further[~known.take(further)]
        number = np.arange(len(further), dtype=np.int32)
        place[further] = number  # of duplicates the last counts
        ring = further[place.take(further) == number]


def _open(pool: Pool, index: int) -> tuple[bytes, PIL.Image.Image]:
    """The bytes and the pixels of an object's image."""
    path, size = pool.path(index), pool.size(index)
    record = f"image {pool.image_id[pool.image[index]]}"
    try:
        data = path.read_bytes()
        image = PIL.Image.open(BytesIO(data), formats=FORMATS)
        image.load()
        if orientation(image) != 1:
            PIL.ImageOps.exif_transpose(image, in_place=True)  # stays a JPEG
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        rule = f"the source image must exist and be whole: {error}"
        raise InputError(file=path, record=record, rule=rule, remedy="Fetch the data set again") from error
    if [image.height, image.width] != size:
        rule = f"image of another size: the file's (h, w) is ({image.height}, {image.width}), the pool's {tuple(size)}"
        raise InputError(file=path, record=record, rule=rule, remedy="Collect the objects again, or restore the image")
    return data, image


def measure_speed(pool: Pool, config: SynthesisConfig, pairs: int = 60) -> dict[str, float]:
    """CPU time of one core for drawing and composing pairs, and for the image codec alone.

    Nothing is written. The pool holds complete objects only (`Pool.complete`).

    Returns:
        "seconds a pair", "codec seconds a pair" (two images decoded, one encoded), "share of codec bound" = the second
        / the first, and "megapixels", the mean of an image.

    Raises:
        InputError: as `draw_pair` and `compose`.
    """
    codec = made = pixels = 0.0
    for number in range(pairs):  # alternating, so that a slowdown of the machine affects both
        start = time.process_time()
        pair = draw_pair(pool, config, 0, number)
        compose(pool, pair, config)
        middle = time.process_time()
        scene, _ = (_open(pool, i)[1] for i in (pair.target, pair.occluder))
        scene.save(BytesIO(), scene.format, **({"quality": "keep"} if scene.format == "JPEG" else {}))
        codec, made = codec + time.process_time() - middle, made + middle - start
        pixels += float(np.prod(scene.size))
    return {
        "seconds a pair": made / pairs,
        "codec seconds a pair": codec / pairs,
        "share of codec bound": codec / made,
        "megapixels": pixels / pairs / 1e6,
    }
