"""Scenes: silhouettes painted back to front, so that the truth about what is hidden is exact.

Shapes are solid glyphs of Font Awesome Free (one connected silhouette, holes filled, the holes kept as interior
detail); surfaces and backgrounds are crops of the photographs inside the scikit-image wheel. An object's amodal mask
is its whole silhouette inside the frame, its visible mask is what later objects leave of it. Scene `i` of a domain
depends on (seed, domain, split, i) alone.
"""

import functools
import json
import zlib
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFilter, ImageFont
from scipy import ndimage
from skimage import data as photographs

from sameo_core import AmodalMasks, Image, VisibleMasks

# Silhouettes in two families that share no first word and no look-alike: models may be trained on the first only.
SEEN_SHAPES = tuple(
    """anchor baseball beer-mug-empty bell bolt book-skull bottle-droplet bottle-water bowling-ball bread-slice building
    cable-car campground car car-side car-battery cart-shopping charging-station chess-board city cloud clover
    compact-disc compass cookie-bite crow diamond dice-five door-closed drumstick-bite egg face-grin-hearts feather
    feather-pointed fire fire-flame-curved fire-flame-simple frog futbol gas-pump gauge-high glass-water glasses gopuram
    headphones heart hippo hotel house house-chimney-window hurricane icicles industry jug-detergent kiwi-bird lemon
    locust martini-glass mask moon mosquito mountain music oil-can oil-well paper-plane person-skiing-nordic
    person-snowboarding plane plane-up plant-wilt radio record-vinyl road rocket ruler ruler-combined sheet-plastic
    shield-halved shirt shuttle-space snowflake snowplow spider stairs stopwatch-20 stroopwafel sun taxi
    temperature-half tent tower-observation tree trowel tv van-shuttle vihara volume-low vr-cardboard weight-hanging
    wheat-awn wheelchair-move wrench""".split()
)
HELD_OUT_SHAPES = tuple(
    """apple-whole bicycle bone bus candy-cane caravan champagne-glasses cow dove drum fan fish fish-fins flask gamepad
    ghost guitar horse horse-head jet-fighter leaf meteor otter puzzle-piece ring school skull snowman spoon toilet
    train train-tram truck truck-pickup vest whiskey-glass wine-bottle wine-glass worm""".split()
)
SEEN_PHOTOGRAPHS = ("astronaut", "brick", "chelsea", "coffee", "rocket", "hubble_deep_field", "coins")
HELD_OUT_PHOTOGRAPHS = ("grass", "gravel", "motorcycle")


@dataclass(frozen=True)
class Domain:
    """What one miniature data set looks like: its shapes, its photographs and how its scenes are composed."""

    shapes: tuple[str, ...]
    photographs: tuple[str, ...]
    image_sizes: tuple[tuple[int, int], ...]  # (height, width) in pixels, one is drawn for each image
    objects: tuple[int, int]  # fewest and most objects of a scene
    object_size: tuple[float, float]  # longest side as a fraction of the image's shorter side
    crowding: float  # probability that an object is placed against an earlier one instead of anywhere
    tail: float = 0.0  # exponent of the long tail: shape k is drawn with probability ~ (k + 1) ** -tail
    ground: bool = False  # a stuff region (a second background) across the lower part of the image
    visible_pixels: int = 64  # no object is hidden further than to this many visible pixels
    max_occlusion: float = 0.8  # nor to more than this share of itself


_SIZES = ((256, 256), (240, 320), (320, 240))
DOMAINS = {
    # the stand-in for SA-1B: every seen shape equally often
    "pretraining": Domain(SEEN_SHAPES, SEEN_PHOTOGRAPHS, _SIZES, (3, 5), (0.28, 0.7), crowding=0.5),
    "lvis": Domain(SEEN_SHAPES, SEEN_PHOTOGRAPHS, _SIZES, (1, 5), (0.25, 0.7), crowding=0.4, tail=1.1),
    "cocoa": Domain(
        SEEN_SHAPES,
        SEEN_PHOTOGRAPHS,
        _SIZES,
        (2, 4),
        (0.28, 0.7),
        crowding=0.55,
        ground=True,
        visible_pixels=24,
        max_occlusion=0.98,  # objects to clean away: there is next to nothing to be seen of them
    ),
    "cocoa_cls": Domain(HELD_OUT_SHAPES, HELD_OUT_PHOTOGRAPHS, _SIZES, (2, 5), (0.28, 0.7), crowding=0.6),
}


@dataclass(frozen=True)
class Scene:
    """One drawn image and its truth; objects stand in painting order, the last one is in front."""

    image: Image
    amodal: AmodalMasks
    visible: VisibleMasks
    categories: tuple[str, ...]  # the shape's name, one an object
    ground: Bool[np.ndarray, "h w"] | None  # the whole stuff region, where the domain has one
    ground_category: str | None


def draw_scene(domain: str | Domain, index: int, seed: int = 0, split: str = "train") -> Scene:
    """Draw scene `index`: the same (domain, split, seed, index) gives the same pixels and masks, whatever came before.

    Args:
        domain: a name of `DOMAINS`, or a `Domain` of one's own.
        index: number of the scene, from 0.
        seed: seed of the whole world.
        split: scenes of different splits are different scenes.

    Returns:
        the scene; image UInt8 "h w 3", masks Bool "n h w"; every object shows at least `visible_pixels` pixels.
    """
    name = domain if isinstance(domain, str) else "custom"
    domain = DOMAINS[domain] if isinstance(domain, str) else domain
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(split.encode()), index])
    height, width = domain.image_sizes[rng.integers(len(domain.image_sizes))]
    canvas = _background(rng, domain, height, width)
    ground = ground_category = None
    if domain.ground:
        ground, ground_category = _lay_ground(rng, domain, canvas)

    light = rng.uniform(0, 2 * np.pi)
    amodal: list[Bool[np.ndarray, "h w"]] = []
    visible: list[Bool[np.ndarray, "h w"]] = []
    categories: list[str] = []
    for _ in range(rng.integers(domain.objects[0], domain.objects[1] + 1)):
        shape = domain.shapes[_long_tail(rng, len(domain.shapes), domain.tail)]
        cut_out = _cut_out(rng, shape, min(height, width) * rng.uniform(*domain.object_size))
        for _attempt in range(8):
            top, left = _place(rng, cut_out.shape[1:], (height, width), amodal, domain.crowding)
            placed = _paste_mask(cut_out[0], top, left, height, width)
            remaining = [seen & ~placed for seen in visible]
            enough = [max(domain.visible_pixels, (1 - domain.max_occlusion) * m.sum()) for m in [*amodal, placed]]
            if all(seen.sum() >= least for seen, least in zip([*remaining, placed], enough, strict=True)):
                _paint(rng, domain, canvas, cut_out, placed, top, left, light)
                amodal.append(placed)
                visible = [*remaining, placed]
                categories.append(shape)
                break
    canvas += 2 * rng.standard_normal((height, width, 1), np.float32)
    return Scene(
        image=np.clip(canvas, 0, 255).astype(np.uint8),
        amodal=np.array(amodal),
        visible=np.array(visible),
        categories=tuple(categories),
        ground=ground,
        ground_category=ground_category,
    )


# Shapes -------------------------------------------------------------------------------------------------------------


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
    silhouette = _silhouette(ink > 127)
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edge = ndimage.binary_dilation(silhouette)
    inner = ndimage.binary_erosion(silhouette, iterations=2)
    soft = np.where(edge & ~inner, ink, 255 * silhouette).astype(np.uint8)
    return PILImage.fromarray(soft[box]), PILImage.fromarray((ink * silhouette)[box])


def _silhouette(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest connected part of a mask, its holes filled (a hole: background that does not reach the border)."""
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    outside, count = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return mask if count <= 1 else (outside != outside[0, 0])[1:-1, 1:-1]


def _cut_out(rng: np.random.Generator, shape: str, longest: float) -> Float[np.ndarray, "2 h w"]:
    """The glyph, turned, stretched and scaled to `longest` pixels: coverage of silhouette and of ink, 0..1."""
    silhouette, ink = _glyph(shape)
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    angle = rng.normal(0, 0.3)
    flip = rng.choice((-1.0, 1.0))
    scale = longest / max(silhouette.size)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = turn @ np.diag([flip * scale * stretch, scale / stretch])  # glyph pixels -> scene pixels
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


def _long_tail(rng: np.random.Generator, count: int, exponent: float) -> int:
    weights = np.arange(1, count + 1) ** -exponent
    return int(rng.choice(count, p=weights / weights.sum()))


# Composition --------------------------------------------------------------------------------------------------------


def _place(
    rng: np.random.Generator,
    cut_out_size: tuple[int, int],
    image_size: tuple[int, int],
    amodal: list[Bool[np.ndarray, "h w"]],
    crowding: float,
) -> tuple[int, int]:
    """Top left corner of the next object: against an earlier one, or anywhere; up to a quarter may leave the frame."""
    size, frame = np.array(cut_out_size), np.array(image_size)
    if amodal and rng.random() < crowding:
        rows, columns = np.nonzero(amodal[rng.integers(len(amodal))])
        anchor = np.array([rows.mean(), columns.mean()])
        reach = 0.5 * size + 0.5 * np.array([np.ptp(rows), np.ptp(columns)])
        angle = rng.uniform(0, 2 * np.pi)
        centre = anchor + rng.uniform(0.25, 0.85) * reach * np.array([np.sin(angle), np.cos(angle)])
        corner = centre - size / 2
    else:
        corner = rng.uniform(-0.1, 1.1, 2) * (frame - size)
    corner = np.clip(corner, -0.25 * size, frame - 0.75 * size)
    return int(corner[0]), int(corner[1])


def _windows(size: tuple[int, int], top: int, left: int, height: int, width: int) -> tuple[tuple, tuple]:
    """The part of a cut-out that lies inside the frame, as slices of the frame and of the cut-out."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + size[0], height), min(left + size[1], width)
    return np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]


def _paste_mask(
    coverage: Float[np.ndarray, "h w"], top: int, left: int, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """The object's amodal mask: its largest connected part inside the frame, without holes."""
    mask = np.zeros((height, width), bool)
    in_frame, in_cut_out = _windows(coverage.shape, top, left, height, width)
    mask[in_frame] = _silhouette(coverage[in_cut_out] >= 0.5)
    return mask


# Painting -----------------------------------------------------------------------------------------------------------


@functools.cache
def _photograph(name: str) -> UInt8[np.ndarray, "h w 3"]:
    pixels = photographs.stereo_motorcycle()[0] if name == "motorcycle" else getattr(photographs, name)()
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2))


def _crop(rng: np.random.Generator, domain: Domain, height: int, width: int) -> Float[np.ndarray, "h w 3"]:
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


def _background(rng: np.random.Generator, domain: Domain, height: int, width: int) -> Float[np.ndarray, "h w 3"]:
    """A photograph, a little flattened and tinted, as behind a table-top still life."""
    photograph = _crop(rng, domain, height, width)
    mean = photograph[::8, ::8].mean((0, 1))
    contrast, shift = np.float32(rng.uniform(0.35, 0.85)), rng.uniform(-15, 35, 3).astype(np.float32)
    photograph *= contrast
    photograph += (np.float32(0.8) - contrast) * mean + shift
    return photograph


def _lay_ground(
    rng: np.random.Generator, domain: Domain, canvas: Float[np.ndarray, "h w 3"]
) -> tuple[Bool[np.ndarray, "h w"], str]:
    """Paint a stuff region over the lower part of the canvas, in place; return its mask and name."""
    height, width = canvas.shape[:2]
    horizon = rng.uniform(0.45, 0.75) * height + rng.uniform(-0.12, 0.12) * (np.arange(width) - width / 2)
    mask = np.arange(height)[:, None] >= horizon
    surface = _background(rng, domain, height, width)
    canvas[mask] = surface[mask]
    return mask, ("floor", "table", "lawn ", "carpet")[rng.integers(4)]  # with the trailing space real COCOA has


def _colour(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A paint: any hue, from muted to strong, neither black nor white."""
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.15, 0.8), rng.uniform(0.4, 0.95)
    ramp = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (255 * value * (1 - saturation + saturation * ramp)).astype(np.float32)


def _blur(plane: Float[np.ndarray, "h w"], radius: float) -> Float[np.ndarray, "h w"]:
    blurred = PILImage.fromarray((plane * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / 255


def _paint(
    rng: np.random.Generator,
    domain: Domain,
    canvas: Float[np.ndarray, "h w 3"],
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
    in_frame, in_cut_out = _windows(coverage.shape, top - margin, left - margin, height, width)
    size = max(cut_out.shape[1:])
    towards = np.array([np.sin(light), np.cos(light)], np.float32)

    bevel = _blur(coverage, 0.04 * size)
    slope = np.float32(0.04 * size) * (
        towards[0] * np.gradient(bevel, axis=0) + towards[1] * np.gradient(bevel, axis=1)
    )
    relief = 1 + np.float32(0.9) * slope * coverage + np.float32(0.35) * np.clip(2 * bevel - 2, -1, 0)
    shadow = np.float32(0.5) * np.roll(_blur(coverage, 3.0), tuple(np.round(3 * towards).astype(int)), (0, 1))

    texture = _crop(rng, domain, *coverage.shape)
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
