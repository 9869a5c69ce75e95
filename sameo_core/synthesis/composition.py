"""Second stage of Amodal-LVIS: pairs of complete objects, one of which hides a given share of the other.

The scene is the target's own photograph, so the target has no seam. The occluder is cut out of its photograph, scaled
to the target's size and pasted over it. `draw_pair` decides everything from masks alone; `painting` paints.
Pair `i` depends on (seed, `i`), the pool and the config, not on earlier pairs.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, UInt8
from PIL import ImageFilter

from sameo_core.arrays import AmodalMask
from sameo_core.config import SynthesisConfig
from sameo_core.errors import InputError
from sameo_core.masks import mask_box
from sameo_core.synthesis.pool import CroppedMask, Pool

MARGIN = 5  # pixels around a cut-out, for its soft edge
SMALLEST_BLUR, LARGEST_BLUR = 0.5, 1.0  # pixels (sigma): less shows steps, more is softer than real edges

Alpha = UInt8[np.ndarray, "ch cw"]  # 0..255; the mask is where it is at least 128


@dataclass(frozen=True)
class Pair:
    """A pair before it is painted."""

    number: int
    seed: int
    target: int  # position in the pool
    occluder: int
    target_rate: float  # drawn from the curriculum
    achieved_rate: float  # hidden pixels / amodal pixels
    scale: float  # of the occluder's pixels
    flipped: bool
    direction: float  # in which the occluder was moved off the target; radians, 0 right, pi / 2 down
    corner: tuple[int, int]  # x, y of the cut-out's upper left pixel in the target's image; may lie outside
    alpha: Alpha
    target_mask: CroppedMask
    redraws: Mapping[str, int]  # reason -> how often something was drawn again

    def occluder_mask(self, height: int, width: int) -> AmodalMask:
        """The occluder's mask in the target's image; the frame cuts it."""
        mask = np.zeros((height, width), bool, order="F")  # as run lengths go
        (x, y), (ch, cw) = self.corner, self.alpha.shape
        frame = mask[max(y, 0) : max(y + ch, 0), max(x, 0) : max(x + cw, 0)]
        cut_out = self.alpha[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
        frame[:] = cut_out >= 128
        return mask


def check_curriculum(config: SynthesisConfig) -> None:
    """Raises InputError unless rates ascend within (0, 1) and each band between two of them has a weight."""
    edges, weights = config.rate_edges, config.rate_weights
    ascending = len(edges) >= 2 and edges[0] > 0 and edges[-1] < 1 and all(np.diff(edges) > 0)
    if not ascending or len(weights) != len(edges) - 1 or min(weights) < 0 or sum(weights) <= 0:
        rule = f"rates ascend within (0, 1), with a weight per band; found {edges} with weights {weights}"
        remedy = "Correct SynthesisConfig (sameo_core/config/profiles.py) or its overrides"
        raise InputError(file="synthesis", record="rate_edges", rule=rule, remedy=remedy)


# ---------------------------------------------------------------------------------------------------- geometry


def draw_pair(pool: Pool, config: SynthesisConfig, seed: int, number: int) -> Pair:
    """Draw pair `number`: target, occluder, occlusion rate and direction.

    The rate is drawn once, from the curriculum; objects, size and direction are redrawn until the masks show that rate
    within the tolerance, so that hard pairs do not bias the curriculum. Redraws are counted by reason.

    The pool holds complete objects only (`Pool.complete`).

    Raises:
        InputError: no pair fits after `pairs_per_image` redraws.
    """
    rng = np.random.default_rng([seed, number])
    weights = np.array(config.rate_weights)
    band = rng.choice(len(weights), p=weights / weights.sum())
    rate = rng.uniform(config.rate_edges[band], config.rate_edges[band + 1])
    redraws: Counter[str] = Counter()
    for _ in range(config.pairs_per_image):
        target, occluder = (int(i) for i in rng.integers(len(pool), size=2))
        ratio = rng.uniform(config.smallest_occluder, config.largest_occluder)
        flipped = bool(rng.random() < config.flip_share)
        scale = ratio * _longest_side(pool, target) / _longest_side(pool, occluder)
        if pool.image[target] == pool.image[occluder]:
            redraws["same image"] += 1
        elif scale > config.max_enlargement:
            redraws["enlarged too much"] += 1
        elif pool.area[occluder] * scale**2 < rate * pool.area[target]:
            redraws["too small to hide so much"] += 1
        else:
            alpha = cut_out_alpha(pool.cropped_mask(occluder), scale, flipped, config.feather)
            behind = pool.cropped_mask(target)
            place = _place(rng, pool, target, behind, alpha, rate, config, redraws)
            if place:
                achieved, direction, corner = place
                look = (scale, flipped, direction, corner, alpha, behind, dict(redraws))
                return Pair(number, seed, target, occluder, rate, achieved, *look)
    rule = f"no object of {len(pool)} hides {rate:.2f} of another, after {config.pairs_per_image} draws"
    remedy = "Use a larger pool, or another curriculum (rate_edges) or range of sizes"
    raise InputError(file="pool", record=f"pair {number}", rule=f"{rule}: {dict(redraws)}", remedy=remedy)


def _longest_side(pool: Pool, index: int) -> float:
    x0, y0, x1, y1 = pool.box[index].tolist()
    return max(x1 - x0, y1 - y0)


def _cropped(mask: Bool[np.ndarray, "_ _"]) -> tuple[CroppedMask, int, int]:
    """A mask cropped to its box, and the box's left and top."""
    x0, y0, x1, y1 = mask_box(mask).astype(int).tolist()
    return np.ascontiguousarray(mask[y0:y1, x0:x1]), x0, y0


def _place(
    rng: np.random.Generator,
    pool: Pool,
    target: int,
    behind: CroppedMask,
    alpha: Alpha,
    rate: float,
    config: SynthesisConfig,
    redraws: Counter[str],
) -> tuple[float, float, tuple[int, int]] | None:
    """(rate achieved, direction, corner of the cut-out), or None if no direction works.

    The cut-out starts near the middle of the target and moves off it in a random direction.
    """
    solid = alpha >= 128
    if not solid.any():
        redraws["occluder vanishes"] += 1
        return None
    height, width = pool.size(target)
    x0, y0, _, _ = pool.bounds(target)
    behind = np.ascontiguousarray(behind)
    front, left, top = _cropped(solid)
    front_pixels, behind_pixels = np.count_nonzero(front), np.count_nonzero(behind)
    for _ in range(config.directions_per_pair):
        direction = rng.uniform(0, 2 * np.pi)
        aim = (0.5 + rng.uniform(-0.25, 0.25, 2)) * behind.shape[::-1]
        found = find_offset(behind, front, aim, direction, rate)
        if abs(found.rate - rate) > config.rate_tolerance:
            redraws["rate missed"] += 1
            continue
        x, y = x0 + found.x, y0 + found.y
        inside = np.count_nonzero(front[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)])
        if inside < config.min_inside * front_pixels:
            redraws["occluder outside the frame"] += 1
        elif round(behind_pixels * (1 - found.rate)) < config.min_pixels_left:
            redraws["target vanishes"] += 1
        else:
            return found.rate, direction, (x - left, y - top)
    return None


def ladder(pool: Pool, config: SynthesisConfig, seed: int, number: int, rates: Sequence[float]) -> list[Pair]:
    """The pair of `draw_pair` at several occlusion rates: its occluder moves along its direction.

    `achieved_rate` is the nearest possible. Raises InputError as `draw_pair`.
    """
    pair = draw_pair(pool, config, seed, number)
    x0, y0, _, _ = pool.bounds(pair.target)
    front, left, top = _cropped(pair.alpha >= 128)
    middle = np.array(pair.target_mask.shape[::-1]) / 2
    steps = []
    for rate in rates:
        found = find_offset(pair.target_mask, front, middle, pair.direction, rate)
        corner = (x0 + found.x - left, y0 + found.y - top)
        steps.append(replace(pair, target_rate=rate, achieved_rate=found.rate, corner=corner))
    return steps


class Offset(NamedTuple):
    """The upper left corner of the occluder's box relative to the target's, and the occlusion rate there."""

    x: int
    y: int
    rate: float


def find_offset(
    target: CroppedMask,
    occluder: Bool[np.ndarray, "_ _"],
    aim: Float[np.ndarray, "2"],
    direction: float | int,
    rate: float | int,
) -> Offset:
    """Move an occluder away from `aim` until it hides `rate` of a target; returns the best position tried.

    It starts at the distance where the occluder's box covers that share of the target's box, and bisects the distance
    on the masks, in whole pixels.

    Args:
        target, occluder: masks, each cropped to its box.
        aim: x, y of the occluder's middle before it is moved; pixels from the target's upper left corner.
        direction: radians, 0 right, pi / 2 down.
        rate: hidden pixels / pixels of the target.
    """
    (th, tw), (oh, ow) = target.shape, occluder.shape
    pixels = np.count_nonzero(target)
    step = np.array([math.cos(direction), math.sin(direction)])
    away = math.ceil(min((tw + ow) / max(abs(step[0]), 1e-9), (th + oh) / max(abs(step[1]), 1e-9)))
    start = aim - np.array([ow, oh]) / 2
    corners = np.rint(start + np.arange(away + 1)[:, None] * step).astype(int)
    x, y = corners.T
    covered_width = np.clip(np.minimum(x + ow, tw) - np.maximum(x, 0), 0, None)
    covered = covered_width * np.clip(np.minimum(y + oh, th) - np.maximum(y, 0), 0, None)

    def at(distance: int) -> Offset:
        x, y = corners[distance].tolist()
        part = target[max(0, y) : max(0, y + oh), max(0, x) : max(0, x + ow)]
        over = occluder[max(0, -y) : max(0, th - y), max(0, -x) : max(0, tw - x)]
        return Offset(x, y, float(np.count_nonzero(part & over) / pixels))

    best = at(0)
    near, far = 0, away
    middle = int(np.clip(np.argmin(np.abs(covered - rate * tw * th)), 1, max(1, away - 1)))
    while far - near > 1:
        found = at(middle)
        best = min(best, found, key=lambda offset: abs(offset.rate - rate))  # the first of equal ones
        near, far = (middle, far) if found.rate >= rate else (near, middle)
        middle = (near + far) // 2
    return best


# ---------------------------------------------------------------------------------------------------- cutting out


def cut_out_alpha(mask: CroppedMask, scale: float | int, flipped: bool, feather: float | int) -> Alpha:
    """The opacity of each pixel of a cut-out, with a margin of 5 pixels around the object's box.

    Both sides are scaled by the same factor. The blurred edge crosses 128 at the outline, so that mask and image agree.

    Args:
        mask: of the object, inside its box.
        scale: pixels of the cut-out / pixels of the image.
        flipped: mirrored left to right.
        feather: blur (sigma) / longest side of the cut-out; see `SynthesisConfig`.
    """
    height, width = mask.shape
    region, size = region_of((0, 0, width, height), scale)
    inside = PIL.Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)).copy("C"))
    alpha = resampled(inside, region, size, flipped, PIL.Image.Resampling.BILINEAR)
    sigma = min(max(feather * max(height, width) * scale, SMALLEST_BLUR), LARGEST_BLUR)
    return np.asarray(alpha.filter(ImageFilter.BoxBlur((math.sqrt(12 * sigma**2 + 1) - 1) / 2)))


def region_of(
    box: tuple[int, int, int, int], scale: float | int
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The region of an image that a cut-out shows (xyxy, fractions of pixels), and the cut-out's width and height."""
    x0, y0, x1, y1 = box
    width, height = (math.ceil(side * scale) + 2 * MARGIN for side in (x1 - x0, y1 - y0))
    x, y, half_width, half_height = (x0 + x1) / 2, (y0 + y1) / 2, width / scale / 2, height / scale / 2
    return (x - half_width, y - half_height, x + half_width, y + half_height), (width, height)


def resampled(
    image: PIL.Image.Image,
    region: tuple[float, float, float, float],
    size: tuple[int, int],
    flipped: bool,
    resampling: PIL.Image.Resampling,
) -> PIL.Image.Image:
    """A region of an image at another size; black outside the image."""
    left, top = math.floor(region[0]), math.floor(region[1])
    crop = image.crop((left, top, math.ceil(region[2]), math.ceil(region[3])))
    inner = (region[0] - left, region[1] - top, region[2] - left, region[3] - top)
    crop = crop.resize(size, resampling, box=inner, reducing_gap=2.0)
    return crop.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if flipped else crop
