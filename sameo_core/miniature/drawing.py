"""Scenes: silhouettes painted back to front, so that the truth about what is hidden is exact.

Shapes are solid glyphs of Font Awesome Free (one connected silhouette, holes filled, the holes kept as interior
detail); surfaces and backgrounds are crops of the photographs inside the scikit-image wheel. An object's amodal mask
is its whole silhouette inside the frame, its visible mask is what later objects leave of it. Scene `i` of a domain
depends on (seed, domain, split, i) alone.
"""

import functools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFilter, ImageFont
from scipy import ndimage
from skimage import data as photographs

from sameo_core.arrays import AmodalMasks, Image, VisibleMasks
from sameo_core.miniature.domains import DOMAINS, HORIZON, SHELVES, Domain, shelves, street


@dataclass(frozen=True)
class Scene:
    """One drawn image and its truth; objects stand in painting order, the last one is in front."""

    image: Image
    amodal: AmodalMasks
    visible: VisibleMasks
    categories: tuple[str, ...]  # the shape's name, one an object
    identities: tuple[int, ...]  # one an object, from 1; the same in all views of a scene and frames of a video
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
    number, view = divmod(index, domain.views)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(split.encode()), number])
    height, width = frame = domain.image_sizes[rng.integers(len(domain.image_sizes))]
    amodal: list[Bool[np.ndarray, "h w"]] = []
    visible: list[Bool[np.ndarray, "h w"]] = []
    categories: list[str] = []
    identities: list[int] = []
    ground = ground_category = None
    texture = functools.partial(_crop, rng, domain)
    if domain.place in ("street", "pasted"):
        canvas, road = street(rng, texture, height, width)
        if domain.ground:
            ground, ground_category = road, "road"
        drafts = _along_the_street(rng, domain, frame)
        drafts = _in_any_order(rng, drafts) if domain.place == "pasted" else drafts
    elif domain.place == "shelf":
        angle = (view - (domain.views - 1) / 2) * 0.5  # of the camera, in radians: about 30 degrees apart
        canvas = shelves(rng, texture, height, width, shift=-0.2 * angle * width)
        drafts = _on_the_shelf(rng, domain, frame, angle)
    else:
        canvas = _background(rng, domain, height, width)
        if domain.ground:
            ground, ground_category = _lay_ground(rng, domain, canvas)
        drafts = _anywhere(rng, domain, frame, amodal)

    light = rng.uniform(0, 2 * np.pi)
    for identity, draft in enumerate(drafts, start=1):
        cut_out = _cut_out(draft.rng, draft.shape, draft.longest, domain.tilt, draft.squeeze)
        for _attempt in range(8):
            top, left = draft.corner(cut_out.shape[1:])
            placed = _paste_mask(cut_out[0], top, left, height, width)
            remaining = [seen & ~placed for seen in visible]
            if placed.sum() >= domain.visible_pixels and _all_seen(domain, amodal, remaining):
                _paint(draft.rng, domain, canvas, cut_out, placed, top, left, light)
                amodal.append(placed)
                visible = [*remaining, placed]
                categories.append(draft.shape)
                identities.append(identity)
                break
    canvas += 2 * rng.standard_normal((height, width, 1), np.float32)
    return Scene(
        image=np.clip(canvas, 0, 255).astype(np.uint8),
        amodal=np.array(amodal),
        visible=np.array(visible),
        categories=tuple(categories),
        identities=tuple(identities),
        ground=ground,
        ground_category=ground_category,
    )


def _all_seen(domain: Domain, amodal: list[Bool[np.ndarray, "h w"]], visible: list[Bool[np.ndarray, "h w"]]) -> bool:
    """Whether every object shows as much of itself as the domain asks for."""
    least = 1 - domain.max_occlusion
    return all(
        seen.sum() >= max(domain.visible_pixels, least * whole.sum())
        for whole, seen in zip(amodal, visible, strict=True)
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


def _cut_out(
    rng: np.random.Generator, shape: str, longest: float, tilt: float, squeeze: float = 1.0
) -> Float[np.ndarray, "2 h w"]:
    """The glyph, turned, stretched and scaled to `longest` pixels: coverage of silhouette and of ink, 0..1.

    `tilt`: standard deviation of the rotation, radians; `squeeze`: of its width, by a camera that looks from the side.
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


def _long_tail(rng: np.random.Generator, count: int, exponent: float) -> int:
    weights = np.arange(1, count + 1) ** -exponent
    return int(rng.choice(count, p=weights / weights.sum()))


# Composition --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    """An object before it is drawn."""

    shape: str
    longest: float  # pixels of its longer side
    corner: Callable[[tuple[int, int]], tuple[int, int]]  # of its (height, width), a proposal for its top left corner
    rng: np.random.Generator
    squeeze: float = 1.0


def _shape(rng: np.random.Generator, domain: Domain) -> str:
    return domain.shapes[_long_tail(rng, len(domain.shapes), domain.tail)]


def _anywhere(
    rng: np.random.Generator, domain: Domain, frame: tuple[int, int], amodal: list[Bool[np.ndarray, "h w"]]
) -> Iterator[_Draft]:
    """Objects on, beside and against each other. One draft is made after the last object is drawn."""
    for _ in range(rng.integers(domain.objects[0], domain.objects[1] + 1)):
        shape, longest = _shape(rng, domain), min(frame) * rng.uniform(*domain.object_size)
        yield _Draft(shape, longest, lambda size: _place(rng, size, frame, amodal, domain.crowding), rng)


def _along_the_street(rng: np.random.Generator, domain: Domain, frame: tuple[int, int]) -> Iterator[_Draft]:
    """Far to near: who stands lower in the image is larger, and in front. Some stand close to the one before."""
    height, width = frame
    count = rng.integers(domain.objects[0], domain.objects[1] + 1)
    middle = width / 2
    for nearness in np.sort(rng.uniform(0.22, 1, count) ** 1.3):
        shape, longest = _shape(rng, domain), height * nearness * rng.uniform(*domain.object_size)
        longest *= _STATURE.get(shape, 1.0)
        bottom = height * (HORIZON + (1 - HORIZON) * nearness)

        def corner(size: tuple[int, int], bottom: float = bottom, last: float = middle) -> tuple[int, int]:
            nonlocal middle
            near_the_last = rng.random() < domain.crowding
            middle = last + rng.normal(0, 0.6) * size[1] if near_the_last else rng.uniform(0, width)
            middle = float(np.clip(middle, 0.1 * size[1], width - 0.1 * size[1]))
            return int(bottom - size[0]), int(middle - size[1] / 2)

        yield _Draft(shape, longest, corner, rng)


_STATURE = {  # a person is smaller than a car, a tram larger
    "person-snowboarding": 0.6,
    "person-skiing-nordic": 0.6,
    "cart-shopping": 0.5,
    "wheelchair-move": 0.55,
    "van-shuttle": 1.15,
    "snowplow": 1.2,
    "cable-car": 1.2,
}


def _in_any_order(rng: np.random.Generator, drafts: Iterator[_Draft]) -> Iterator[_Draft]:
    """Pasted without regard to what is nearer: many occlusions are as nature does not have them."""
    all_drafts = list(drafts)
    yield from (all_drafts[i] for i in rng.permutation(len(all_drafts)))


def _on_the_shelf(rng: np.random.Generator, domain: Domain, frame: tuple[int, int], angle: float) -> Iterator[_Draft]:
    """Two boards, on each a row behind and a row in front, seen by a camera that stands `angle` radians to the side.

    Every object has its own random numbers, so that it looks the same from wherever it is seen.
    """
    height, width = frame
    slots = [(board, row) for row in (0, 1) for board in range(len(SHELVES))]  # the rows behind first
    count = rng.integers(domain.objects[0], domain.objects[1] + 1)
    counts = [count // len(slots) + (i < count % len(slots)) for i in range(len(slots))]
    for (board, row), many in zip(slots, counts, strict=True):
        offset = rng.uniform(0, 1)
        for k, own in enumerate(rng.spawn(int(many))):
            shape, size = _shape(own, domain), own.uniform(*domain.object_size)
            x = (0.12 + 0.76 * ((k + offset) / many + own.uniform(-0.06, 0.06))) * width
            x += (0.5 * row - 0.35) * -angle * 0.6 * width  # nearer things move further across
            foot = SHELVES[board] - (0.07, 0.012)[row] + own.uniform(-0.012, 0.012)

            def corner(cut: tuple[int, int], x: float = x, foot: float = foot * height) -> tuple[int, int]:
                return int(foot - cut[0] + 2), int(x - cut[1] / 2)

            longest = min(frame) * size * (0.92, 1.0)[row] * (1 - 0.1 * abs(angle))
            yield _Draft(shape, longest, corner, own, squeeze=float(np.cos(1.2 * angle)))


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
    contrast, shift = np.float32(rng.uniform(*domain.contrast)), rng.uniform(-15, 35, 3).astype(np.float32)
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


# -------------------------------------- videos: the objects of a scene move, come and go before a background that stays


def draw_frame(domain: str, video: int, frame: int, frames: int, seed: int, split: str) -> Scene:
    """Frame `frame` of a video of `frames`; the same arguments give the same pixels, whatever was drawn before.

    Returns:
        a scene whose `identities` number the objects; those out of sight in this frame are left out.
    """
    look = DOMAINS[domain]
    rng = np.random.default_rng([seed, zlib.crc32(domain.encode()), zlib.crc32(split.encode()), video])
    height, width = look.image_sizes[rng.integers(len(look.image_sizes))]
    canvas, light = _background(rng, look, height, width), rng.uniform(0, 2 * np.pi)
    at_rest: list[np.ndarray] = []  # masks of frame 0, for placing
    found: list[tuple[int, str, np.ndarray]] = []  # identity, shape and amodal mask in this frame
    for identity in range(1, 1 + int(rng.integers(look.objects[0], look.objects[1] + 1))):
        shape = _shape(rng, look)
        cut_out = _cut_out(rng, shape, min(height, width) * rng.uniform(*look.object_size), look.tilt)
        top, left = _place(rng, cut_out.shape[1:], (height, width), at_rest, look.crowding)
        step = rng.normal(0, 0.06, 2) * min(height, width)  # pixels a frame
        first, last = (0, frames) if rng.random() < 0.7 else sorted(rng.integers(0, frames + 1, 2))
        paint_seed = int(rng.integers(2**32))
        placed = _paste_mask(cut_out[0], top, left, height, width)
        if placed.any():
            at_rest.append(placed)
        if identity > 1 and not first <= frame < last:  # the first object is there from the beginning to the end
            continue
        y, x = int(top + frame * step[0]), int(left + frame * step[1])
        inside = -0.9 * cut_out.shape[1] < y < height - 8 and -0.9 * cut_out.shape[2] < x < width - 8
        placed = _paste_mask(cut_out[0], y, x, height, width) if inside else np.zeros((height, width), bool)
        if placed.sum() < look.visible_pixels:
            continue
        _paint(np.random.default_rng(paint_seed), look, canvas, cut_out, placed, y, x, light)
        found.append((identity, shape, placed))
    in_front = np.zeros((height, width), bool)
    visible = []
    for _, _, placed in reversed(found):
        visible.append(placed & ~in_front)
        in_front |= placed
    kept = [(*item, seen) for item, seen in zip(found, reversed(visible), strict=True) if seen.any()]
    canvas += 2 * np.random.default_rng([seed, video, frame]).standard_normal((height, width, 1), np.float32)
    empty = np.zeros((0, height, width), bool)
    return Scene(
        image=np.clip(canvas, 0, 255).astype(np.uint8),
        amodal=np.array([amodal for _, _, amodal, _ in kept]) if kept else empty,
        visible=np.array([seen for *_, seen in kept]) if kept else empty,
        categories=tuple(shape for _, shape, *_ in kept),
        ground=None,
        ground_category=None,
        identities=tuple(identity for identity, *_ in kept),
    )


# -------------------------- rooms: wall and floor are objects like others, as renderers and scanners of rooms list them


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
