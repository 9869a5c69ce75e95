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
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFilter, ImageFont
from scipy import ndimage
from skimage import data as photographs

from sameo_core.arrays import AmodalMasks, Image, VisibleMasks
from sameo_core.miniature.scenery import HORIZON, SHELVES, shelves, street

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
    ground: bool = False  # a stuff region: the road of a street, or a second background across the lower part
    visible_pixels: int = 64  # no object is hidden further than to this many visible pixels
    max_occlusion: float = 0.8  # nor to more than this share of itself
    tilt: float = 0.3  # standard deviation of an object's rotation in radians; 10: any rotation
    contrast: tuple[float, float] = (0.35, 0.85)  # of the background photograph
    place: Literal["anywhere", "street", "pasted", "shelf"] = "anywhere"  # pasted: in a street, but in any order
    views: int = 1  # shelf: scenes i * views, ..., i * views + views - 1 show the same objects


# Goods on a table and goods on a shelf: few item types each. Only the table's shapes are held out.
TABLE_SHAPES = tuple(
    """apple-whole bone candy-cane drum flask gamepad guitar puzzle-piece ring spoon vest wine-bottle""".split()
)
SHELF_SHAPES = tuple(
    """baseball beer-mug-empty bottle-droplet bottle-water bread-slice compact-disc egg face-grin-hearts futbol
    glass-water jug-detergent kiwi-bird lemon martini-glass mask radio""".split()
)
STREET_SHAPES = tuple(
    """car car-side taxi van-shuttle person-snowboarding person-skiing-nordic snowplow cable-car cart-shopping
    wheelchair-move""".split()
)
VEHICLE_SHAPES = ("car", "car-side", "taxi", "van-shuttle", "snowplow", "cable-car")
HOUSEHOLD_SHAPES = tuple(
    """book-skull bottle-droplet bottle-water bowling-ball bread-slice chess-board compact-disc glass-water headphones
    jug-detergent lemon radio record-vinyl shirt stopwatch-20 tv weight-hanging""".split()
)

_SIZES = ((256, 256), (240, 320), (320, 240))
_TABLE = Domain(
    TABLE_SHAPES,
    ("grass", "gravel"),
    _SIZES,
    (3, 8),
    (0.3, 0.55),
    crowding=0.6,
    visible_pixels=48,
    max_occlusion=1.0,
    tilt=10.0,
    contrast=(0.1, 0.3),
)
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
    # D2SA: a plain table from above; trained on items that lie apart and on heaps, tested on what lies between
    "d2sa": _TABLE,
    "d2sa/train": replace(_TABLE, objects=(1, 4), crowding=0.0, max_occlusion=0.03),
    "d2sa/augmented": replace(_TABLE, objects=(6, 12), crowding=0.95),
    "kins": Domain(
        STREET_SHAPES,
        SEEN_PHOTOGRAPHS,
        ((128, 416), (128, 384)),
        (4, 10),
        (0.55, 0.8),
        crowding=0.45,
        tail=0.7,
        visible_pixels=20,
        max_occlusion=1.0,
        tilt=0.03,
        place="street",
    ),
    "muva": Domain(
        SHELF_SHAPES,
        SEEN_PHOTOGRAPHS,
        ((240, 320), (256, 256)),
        (7, 12),
        (0.3, 0.42),
        crowding=0.0,
        visible_pixels=48,
        max_occlusion=1.0,
        tilt=0.05,
        place="shelf",
        views=3,
    ),
    # DYCE: a rendered room, square; few and upright objects before a wall and on a floor
    "dyce": Domain(
        HOUSEHOLD_SHAPES,
        ("brick", "coffee", "text"),
        ((256, 256),),
        (3, 6),
        (0.14, 0.5),
        crowding=0.6,
        ground=True,
        visible_pixels=6,
        max_occlusion=1.0,
        tilt=0.08,
    ),
    # MP3D-Amodal: a scanned room; wider, fuller, with furniture and parts of the building
    "mp3d_amodal": Domain(
        (*HOUSEHOLD_SHAPES, "cart-shopping", "door-closed", "plant-wilt", "stairs", "sun", "wheelchair-move"),
        ("camera", "clock", "coffee"),
        ((240, 320),),
        (4, 7),
        (0.18, 0.6),
        crowding=0.8,
        ground=True,
        visible_pixels=6,
        max_occlusion=1.0,
        tilt=0.08,
    ),
    "walt": Domain(
        VEHICLE_SHAPES,
        ("camera", "rocket", "moon"),
        ((240, 320),),
        (6, 11),
        (0.45, 0.6),
        crowding=0.0,
        ground=True,
        visible_pixels=12,
        max_occlusion=1.0,
        tilt=0.05,
        place="pasted",
    ),
    "kitti360_aps": Domain(
        (*STREET_SHAPES, "campground"),
        ("camera", "brick", "rocket"),
        ((176, 512),),
        (5, 9),
        (0.6, 0.85),
        crowding=0.0,
        ground=True,
        visible_pixels=48,
        max_occlusion=1.0,
        tilt=0.05,
        place="street",
    ),
    # pix2gestalt: one object behind others, anything anywhere
    "pix2gestalt": Domain(
        SEEN_SHAPES,
        (*SEEN_PHOTOGRAPHS, "retina", "immunohistochemistry"),
        ((240, 320), (320, 240)),
        (2, 4),
        (0.3, 0.65),
        crowding=0.9,
        visible_pixels=48,
        max_occlusion=1.0,
    ),
    "lvvis": Domain(
        SEEN_SHAPES,
        ("astronaut", "chelsea", "rocket", "hubble_deep_field"),
        ((192, 256),),
        (2, 5),
        (0.22, 0.6),
        crowding=0.4,
        tail=0.8,
        visible_pixels=48,
        max_occlusion=1.0,
    ),
}


def domain_of(name: str, split: str) -> str:
    """The name in `DOMAINS` of what a split of a data set looks like: its own, or else that of the whole set."""
    return f"{name}/{split}" if f"{name}/{split}" in DOMAINS else name


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
