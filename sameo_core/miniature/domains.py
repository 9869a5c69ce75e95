"""The domains of the drawn world: their shapes, their photographs, and how their scenes are composed."""

from dataclasses import dataclass, replace
from typing import Literal

# Silhouettes in two families that share no first word and no look-alike: models are trained on the first only.
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
    """The look of one miniature data set: its shapes, its photographs and how its scenes are composed."""

    shapes: tuple[str, ...]
    photographs: tuple[str, ...]
    image_sizes: tuple[tuple[int, int], ...]  # (height, width) in pixels, one is drawn for each image
    objects: tuple[int, int]  # fewest and most objects of a scene
    object_size: tuple[float, float]  # longest side as a fraction of the image's shorter side
    crowding: float  # probability that an object is placed against an earlier one instead of anywhere
    tail: float = 0.0  # exponent of the long tail: shape k is drawn with probability ~ (k + 1) ** -tail
    ground: bool = False  # a stuff region: the road of a street, or a second background across the lower part
    visible_pixels: int = 64  # every object keeps at least this many visible pixels
    max_occlusion: float = 0.8  # and at most this share of it is hidden
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
_STILL = Domain(SEEN_SHAPES, SEEN_PHOTOGRAPHS, _SIZES, (3, 5), (0.28, 0.7), crowding=0.5)
_ANY = replace(_STILL, visible_pixels=48, max_occlusion=1.0)
_TABLE = replace(
    _ANY,
    shapes=TABLE_SHAPES,
    photographs=("grass", "gravel"),
    objects=(3, 8),
    object_size=(0.3, 0.55),
    crowding=0.6,
    tilt=10.0,
    contrast=(0.1, 0.3),
)
_STREET = replace(_ANY, place="street", crowding=0.0, ground=True, tilt=0.05)
_ROOM = replace(_ANY, shapes=HOUSEHOLD_SHAPES, ground=True, visible_pixels=6, tilt=0.08)
DOMAINS = {
    # the stand-in for SA-1B: every seen shape equally often
    "pretraining": _STILL,
    "lvis": replace(_STILL, objects=(1, 5), object_size=(0.25, 0.7), crowding=0.4, tail=1.1),
    "cocoa": replace(
        _STILL,
        objects=(2, 4),
        crowding=0.55,
        ground=True,
        visible_pixels=24,
        max_occlusion=0.98,  # leaves almost invisible objects, for cleaning to remove
    ),
    "cocoa_cls": Domain(HELD_OUT_SHAPES, HELD_OUT_PHOTOGRAPHS, _SIZES, (2, 5), (0.28, 0.7), crowding=0.6),
    # D2SA: a plain table from above; "train" has separate items, "augmented" heaps, "val" something in between
    "d2sa": _TABLE,
    "d2sa/train": replace(_TABLE, objects=(1, 4), crowding=0.0, max_occlusion=0.03),
    "d2sa/augmented": replace(_TABLE, objects=(6, 12), crowding=0.95),
    "kins": replace(
        _STREET,
        shapes=STREET_SHAPES,
        image_sizes=((128, 416), (128, 384)),
        objects=(4, 10),
        object_size=(0.55, 0.8),
        crowding=0.45,
        tail=0.7,
        ground=False,
        visible_pixels=20,
        tilt=0.03,
    ),
    "muva": replace(
        _ANY,
        shapes=SHELF_SHAPES,
        image_sizes=((240, 320), (256, 256)),
        objects=(7, 12),
        object_size=(0.3, 0.42),
        crowding=0.0,
        tilt=0.05,
        place="shelf",
        views=3,
    ),
    # DYCE: a rendered room, square; few and upright objects before a wall and on a floor
    "dyce": replace(
        _ROOM,
        photographs=("brick", "coffee", "text"),
        image_sizes=((256, 256),),
        objects=(3, 6),
        object_size=(0.14, 0.5),
        crowding=0.6,
    ),
    # MP3D-Amodal: a scanned room; wider, fuller, with furniture and parts of the building
    "mp3d_amodal": replace(
        _ROOM,
        shapes=(*HOUSEHOLD_SHAPES, "cart-shopping", "door-closed", "plant-wilt", "stairs", "sun", "wheelchair-move"),
        photographs=("camera", "clock", "coffee"),
        image_sizes=((240, 320),),
        objects=(4, 7),
        object_size=(0.18, 0.6),
        crowding=0.8,
    ),
    "walt": replace(
        _STREET,
        shapes=VEHICLE_SHAPES,
        photographs=("camera", "rocket", "moon"),
        image_sizes=((240, 320),),
        objects=(6, 11),
        object_size=(0.45, 0.6),
        visible_pixels=12,
        place="pasted",
    ),
    "kitti360_aps": replace(
        _STREET,
        shapes=(*STREET_SHAPES, "campground"),
        photographs=("camera", "brick", "rocket"),
        image_sizes=((176, 512),),
        objects=(5, 9),
        object_size=(0.6, 0.85),
    ),
    # pix2gestalt: one object behind others, anything anywhere
    "pix2gestalt": replace(
        _ANY,
        photographs=(*SEEN_PHOTOGRAPHS, "retina", "immunohistochemistry"),
        image_sizes=((240, 320), (320, 240)),
        objects=(2, 4),
        object_size=(0.3, 0.65),
        crowding=0.9,
    ),
    "lvvis": replace(
        _ANY,
        photographs=("astronaut", "chelsea", "rocket", "hubble_deep_field"),
        image_sizes=((192, 256),),
        objects=(2, 5),
        object_size=(0.22, 0.6),
        crowding=0.4,
        tail=0.8,
    ),
}


def domain_of(name: str, split: str) -> str:
    """The name in `DOMAINS` for a split of a data set: the split's own, or else the set's."""
    return f"{name}/{split}" if f"{name}/{split}" in DOMAINS else name
