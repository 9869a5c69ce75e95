"""How the domains of the drawn world look: their shapes, their photographs, and their places."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image as PILImage
from PIL import ImageDraw

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


# ---------------------------------------------------------------------------------------- places: a street, and shelves
# Both are painted from a few rectangles and from `texture(height, width)`, a random crop of the domain's photographs.

Canvas = Float[np.ndarray, "h w 3"]  # RGB, about 0..255
Texture = Callable[[int, int], Canvas]

HORIZON = 0.36  # of a street's height: where the road begins
SHELVES = (0.5, 0.95)  # of the image's height: upper edges of the boards
BOARD = 0.05  # of the image's height: a board's thickness


def street(
    rng: np.random.Generator, texture: Texture, height: int, width: int
) -> tuple[Canvas, Bool[np.ndarray, "h w"]]:
    """Sky, a row of houses, verges, and a road whose edges and dashes meet on the horizon; and the road's mask."""
    horizon = round(HORIZON * height)
    shades = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.array([165, 190, 215], np.float32) + rng.uniform(-25, 15, 3).astype(np.float32)
    canvas = np.broadcast_to(sky + 90 * shades, (height, width, 3)).copy()

    left = int(rng.uniform(-30, 0))
    while left < width:  # houses
        side, top = int(rng.uniform(0.15, 0.5) * height), int(rng.uniform(0.02, 0.26) * height)
        x0, x1 = max(left, 0), min(left + side, width)
        if x1 - x0 > 1:
            wall = rng.uniform(70, 190, 3).astype(np.float32) * np.float32(0.6) + 45
            house = _flat(texture(horizon + 2, side), wall, 0.3)
            canvas[top : horizon + 2, x0:x1] = house[top:, x0 - left : x1 - left]
            storey, pane = max(8, height // 12), max(3, height // 30)
            for y in range(top + pane, horizon - storey // 2, storey):
                for x in range(x0 + pane, x1 - pane, 2 * pane + 2):
                    canvas[y : y + storey // 2, x : x + pane] *= np.float32(0.55)
        left += side + int(rng.uniform(0, 0.12) * height)

    green = np.array([95, 112, 70], np.float32) + rng.uniform(-15, 15, 3).astype(np.float32)
    asphalt = np.full(3, rng.uniform(85, 125), np.float32)
    verge = _flat(texture(height - horizon, width), green, 0.25)
    road = _flat(texture(height - horizon, width), asphalt, 0.07)
    vanishing = width * rng.uniform(0.35, 0.65)
    spread = rng.uniform(1.5, 1.9) * height  # half of the road's width at the bottom edge
    nearness = np.linspace(0.02, 1, height - horizon, dtype=np.float32)[:, None]
    across = (np.arange(width, dtype=np.float32) - np.float32(vanishing)) / (np.float32(spread) * nearness)
    road *= (0.8 + 0.3 * nearness)[..., None]
    dashed = (np.log(nearness) * 4) % 1 < 0.55
    lines = (np.abs(across) < 0.012) & dashed | (np.abs(np.abs(across) - 0.9) < 0.012)
    road[lines] = 0.35 * road[lines] + 150
    kerb = np.abs(np.abs(across) - 1.02) < 0.03
    verge[kerb] = 0.3 * verge[kerb] + 115
    on_road = np.zeros((height, width), bool)
    on_road[horizon:] = np.abs(across) < 1
    canvas[horizon:] = np.where(on_road[horizon:, :, None], road, verge)
    return canvas, on_road


def shelves(rng: np.random.Generator, texture: Texture, height: int, width: int, shift: float) -> Canvas:
    """A back wall and two boards, in the same colours for every `shift` (pixels, to the right) of the view."""
    wall = _flat(texture(height, width), rng.uniform(150, 205, 3).astype(np.float32), 0.12)
    wood = _flat(texture(height, width), np.array([150, 112, 76], np.float32) + rng.uniform(-30, 30), 0.3)
    wall = np.roll(wall, round(0.4 * shift), axis=1)  # far behind the goods
    wood = np.roll(wood, round(shift), axis=1)
    for edge in SHELVES:
        top, front = round(edge * height), round((edge - 0.09) * height)
        below = round((edge + BOARD) * height)
        wall[front:top] = wood[front:top] * np.linspace(0.6, 0.9, top - front, dtype=np.float32)[:, None, None]
        wall[top:below] = 1.12 * wood[top:below]
        reach = max(0, min(height, below + round(0.13 * height)) - below)  # the board's shadow on the wall
        wall[below : below + reach] *= np.linspace(0.5, 1, reach, dtype=np.float32)[:, None, None]
    posts = PILImage.new("L", (width, height))
    for x in (0.02, 0.98):
        middle = x * width + shift
        ImageDraw.Draw(posts).rectangle((middle - 4, 0, middle + 4, height), fill=255)
    return np.where(np.asarray(posts)[..., None] > 0, 0.45 * wood, wall)


def _flat(photograph: Canvas, colour: Float[np.ndarray, "3"], contrast: float) -> Canvas:
    """A surface of one colour that keeps a little of a photograph's structure."""
    grey = photograph.mean(axis=2, keepdims=True)
    return colour + np.float32(contrast) * (grey - grey.mean())
