"""Places: a street and a shelf, painted from a few rectangles and from crops of the domain's photographs."""

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image as PILImage
from PIL import ImageDraw

from sameo_core.miniature.domains import Domain
from sameo_core.miniature.painting import Canvas, crop_photograph

HORIZON = 0.36  # of a street's height: where the road begins
SHELVES = (0.5, 0.95)  # of the image's height: upper edges of the boards
BOARD = 0.05  # of the image's height: a board's thickness


def street(rng: np.random.Generator, domain: Domain, height: int, width: int) -> tuple[Canvas, Bool[np.ndarray, "h w"]]:
    """Sky, houses, verges, and a road whose edges and dashes meet on the horizon; and the road's mask."""
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
            house = _flat(crop_photograph(rng, domain, horizon + 2, side), wall, 0.3)
            canvas[top : horizon + 2, x0:x1] = house[top:, x0 - left : x1 - left]
            storey, pane = max(8, height // 12), max(3, height // 30)
            for y in range(top + pane, horizon - storey // 2, storey):
                for x in range(x0 + pane, x1 - pane, 2 * pane + 2):
                    canvas[y : y + storey // 2, x : x + pane] *= np.float32(0.55)
        left += side + int(rng.uniform(0, 0.12) * height)

    green = np.array([95, 112, 70], np.float32) + rng.uniform(-15, 15, 3).astype(np.float32)
    asphalt = np.full(3, rng.uniform(85, 125), np.float32)
    verge = _flat(crop_photograph(rng, domain, height - horizon, width), green, 0.25)
    road = _flat(crop_photograph(rng, domain, height - horizon, width), asphalt, 0.07)
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


def shelves(rng: np.random.Generator, domain: Domain, height: int, width: int, shift: float) -> Canvas:
    """A back wall and two boards, in the same colours for every `shift` of the view (pixels to the right)."""
    wall = _flat(crop_photograph(rng, domain, height, width), rng.uniform(150, 205, 3).astype(np.float32), 0.12)
    wood = crop_photograph(rng, domain, height, width)
    wood = _flat(wood, np.array([150, 112, 76], np.float32) + rng.uniform(-30, 30), 0.3)
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
