"""Scenes: silhouettes painted back to front, so that hidden regions are known exactly.

An object's amodal mask is its whole silhouette inside the frame, its visible mask is what later objects leave of it.
Scene `i` of a domain depends on (seed, domain, split, i) alone.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from jaxtyping import Bool, Float

from sameo_core.arrays import AmodalMask, AmodalMasks, Image, VisibleMask, VisibleMasks
from sameo_core.miniature.domains import DOMAINS, Domain
from sameo_core.miniature.painting import Canvas, background, lay_ground, paint, windows
from sameo_core.miniature.places import HORIZON, SHELVES, shelves, street
from sameo_core.miniature.shapes import cut_out_of, silhouette_of

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Scene:
    """One drawn image and its ground truth; objects are in painting order, the last one is in front."""

    image: Image
    amodal: AmodalMasks
    visible: VisibleMasks
    categories: tuple[str, ...]  # the shape's name, one per object
    identities: tuple[int, ...]  # one per object, from 1; the same in all views of a scene and frames of a video
    ground: Bool[np.ndarray, "h w"] | None  # the whole stuff region, if the domain has one
    ground_category: str | None


def draw_scene(domain: str | Domain, index: int, seed: int = 0, split: str = "train") -> Scene:
    """Draw scene `index`: the same arguments give the same pixels and masks, whatever was drawn before.

    Args:
        domain: a name of `DOMAINS`, or another `Domain`.
        index: number of the scene, from 0.
        seed: of the whole world.
        split: different splits have different scenes.
    """
    name, look = (domain, DOMAINS[domain]) if isinstance(domain, str) else ("custom", domain)
    number, view = divmod(index, look.views)
    rng = _random_numbers(name, seed, split, number)
    height, width = frame = look.image_sizes[rng.integers(len(look.image_sizes))]
    amodal: list[AmodalMask] = []
    visible: list[VisibleMask] = []
    objects: list[tuple[int, str]] = []
    ground = ground_category = None
    if look.place in ("street", "pasted"):
        canvas, road = street(rng, look, height, width)
        ground, ground_category = (road, "road") if look.ground else (None, None)
        drafts = _along_the_street(rng, look, frame)
        drafts = _shuffled(rng, drafts) if look.place == "pasted" else drafts
    elif look.place == "shelf":
        angle = (view - (look.views - 1) / 2) * 0.5  # of the camera, in radians: about 30 degrees apart
        canvas = shelves(rng, look, height, width, shift=-0.2 * angle * width)
        drafts = _on_the_shelf(rng, look, frame, angle)
    else:
        canvas = background(rng, look, height, width)
        if look.ground:
            ground, ground_category = lay_ground(rng, look, canvas)
        drafts = _anywhere(rng, look, frame, amodal)

    light = rng.uniform(0, 2 * np.pi)
    for identity, draft in enumerate(drafts, start=1):
        cut_out = cut_out_of(draft.rng, draft.shape, draft.longest, look.tilt, draft.squeeze)
        for _attempt in range(8):
            top, left = draft.corner(cut_out.shape[1:])
            placed = _place_mask(cut_out[0], top, left, frame)
            remaining = [seen & ~placed for seen in visible]
            if placed.sum() >= look.visible_pixels and _all_seen(look, amodal, remaining):
                paint(draft.rng, look, canvas, cut_out, placed, top, left, light)
                amodal.append(placed)
                visible = [*remaining, placed]
                objects.append((identity, draft.shape))
                break
    return _finish(canvas, rng, objects, amodal, visible, ground, ground_category)


def draw_frame(domain: str, video: int, frame: int, frames: int, seed: int, split: str) -> Scene:
    """Frame `frame` of a video of `frames`: objects move, come and go before a fixed background.

    `identities` number the objects of the video; those not visible in this frame are left out.
    """
    look = DOMAINS[domain]
    rng = _random_numbers(domain, seed, split, video)
    height, width = size = look.image_sizes[rng.integers(len(look.image_sizes))]
    canvas, light = background(rng, look, height, width), rng.uniform(0, 2 * np.pi)
    at_rest: list[AmodalMask] = []  # masks of frame 0, for placing
    amodal: list[AmodalMask] = []
    visible: list[VisibleMask] = []
    objects: list[tuple[int, str]] = []
    for identity in range(1, 1 + int(rng.integers(look.objects[0], look.objects[1] + 1))):
        shape = _choose_shape(rng, look)
        cut_out = cut_out_of(rng, shape, min(size) * rng.uniform(*look.object_size), look.tilt)
        top, left = _near_others(rng, cut_out.shape[1:], size, at_rest, look.crowding)
        step = rng.normal(0, 0.06, 2) * min(size)  # pixels per frame
        first, last = (0, frames) if rng.random() < 0.7 else sorted(rng.integers(0, frames + 1, 2))
        paint_seed = int(rng.integers(2**32))
        placed = _place_mask(cut_out[0], top, left, size)
        if placed.any():
            at_rest.append(placed)
        top, left = int(top + frame * step[0]), int(left + frame * step[1])
        inside = -0.9 * cut_out.shape[1] < top < height - 8 and -0.9 * cut_out.shape[2] < left < width - 8
        if not inside or (identity > 1 and not first <= frame < last):  # the first object is always there
            continue
        placed = _place_mask(cut_out[0], top, left, size)
        if placed.sum() >= look.visible_pixels:
            paint(np.random.default_rng(paint_seed), look, canvas, cut_out, placed, top, left, light)
            amodal.append(placed)
            visible = [*(seen & ~placed for seen in visible), placed]
            objects.append((identity, shape))
    return _finish(canvas, np.random.default_rng([seed, video, frame]), objects, amodal, visible)


def draw_room(domain: str, index: int, seed: int, split: str) -> Scene:
    """As `draw_scene`, for a domain with ground; wall and floor are the first objects, as in scans of rooms."""
    scene = draw_scene(domain, index, seed, split)
    ground = cast(np.ndarray, scene.ground)
    building = np.stack([~ground, ground])
    return replace(
        scene,
        amodal=np.concatenate([building, scene.amodal]),
        visible=np.concatenate([building & ~scene.amodal.any(0), scene.visible]),
        categories=("wall", "floor", *scene.categories),
        identities=tuple(range(1, len(scene.categories) + 3)),
        ground=None,
        ground_category=None,
    )


def _random_numbers(domain: str, seed: int, split: str, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(domain.encode()), zlib.crc32(split.encode()), number])


def _finish(
    canvas: Canvas,
    rng: np.random.Generator,
    objects: list[tuple[int, str]],
    amodal: list[AmodalMask],
    visible: list[VisibleMask],
    ground: Bool[np.ndarray, "h w"] | None = None,
    ground_category: str | None = None,
) -> Scene:
    """The scene, with image noise, of those objects (identity, shape) that are visible."""
    height, width, _ = canvas.shape
    kept = [k for k, seen in enumerate(visible) if seen.any()]
    canvas += 2 * rng.standard_normal((height, width, 1), np.float32)
    return Scene(
        image=np.clip(canvas, 0, 255).astype(np.uint8),
        amodal=np.array([amodal[k] for k in kept], bool).reshape(-1, height, width),
        visible=np.array([visible[k] for k in kept], bool).reshape(-1, height, width),
        categories=tuple(objects[k][1] for k in kept),
        identities=tuple(objects[k][0] for k in kept),
        ground=ground,
        ground_category=ground_category,
    )


def _all_seen(domain: Domain, amodal: list[AmodalMask], visible: list[VisibleMask]) -> bool:
    """Whether every object is as visible as the domain requires."""
    least = 1 - domain.max_occlusion
    pairs = zip(amodal, visible, strict=True)
    return all(seen.sum() >= max(domain.visible_pixels, least * whole.sum()) for whole, seen in pairs)


# ---------------------------------------------------------------------------------------------------- composition


@dataclass(frozen=True)
class _Draft:
    """An object before it is drawn."""

    shape: str
    longest: float  # pixels of its longer side
    corner: Callable[[Size], tuple[int, int]]  # its size -> a proposal for its top left corner
    rng: np.random.Generator
    squeeze: float = 1.0  # of its width


def _choose_shape(rng: np.random.Generator, domain: Domain) -> str:
    weights = np.arange(1, len(domain.shapes) + 1) ** -domain.tail
    return domain.shapes[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _anywhere(rng: np.random.Generator, domain: Domain, frame: Size, amodal: list[AmodalMask]) -> Iterator[_Draft]:
    """Objects anywhere or against those drawn so far, whose masks are `amodal`."""
    for _ in range(rng.integers(domain.objects[0], domain.objects[1] + 1)):
        shape, longest = _choose_shape(rng, domain), min(frame) * rng.uniform(*domain.object_size)
        yield _Draft(shape, longest, lambda size: _near_others(rng, size, frame, amodal, domain.crowding), rng)


def _near_others(
    rng: np.random.Generator, cut_out_size: Size, frame: Size, amodal: list[AmodalMask], crowding: float
) -> tuple[int, int]:
    """Top left corner of the next object: against an earlier one, or anywhere; up to a quarter may leave the frame."""
    size = np.array(cut_out_size)
    if amodal and rng.random() < crowding:
        rows, columns = np.nonzero(amodal[rng.integers(len(amodal))])
        anchor = np.array([rows.mean(), columns.mean()])
        reach = 0.5 * size + 0.5 * np.array([np.ptp(rows), np.ptp(columns)])
        angle = rng.uniform(0, 2 * np.pi)
        centre = anchor + rng.uniform(0.25, 0.85) * reach * np.array([np.sin(angle), np.cos(angle)])
        corner = centre - size / 2
    else:
        corner = rng.uniform(-0.1, 1.1, 2) * (np.array(frame) - size)
    top, left = np.clip(corner, -0.25 * size, np.array(frame) - 0.75 * size)
    return int(top), int(left)


def _along_the_street(rng: np.random.Generator, domain: Domain, frame: Size) -> Iterator[_Draft]:
    """Far to near: objects lower in the image are larger, and in front. Some are close to the previous one."""
    height, width = frame
    count = rng.integers(domain.objects[0], domain.objects[1] + 1)
    middle = width / 2
    for nearness in np.sort(rng.uniform(0.22, 1, count) ** 1.3):
        shape, longest = _choose_shape(rng, domain), height * nearness * rng.uniform(*domain.object_size)
        bottom = height * (HORIZON + (1 - HORIZON) * nearness)

        def corner(size: Size, bottom: float = bottom, last: float = middle) -> tuple[int, int]:
            nonlocal middle
            near_the_last = rng.random() < domain.crowding
            middle = last + rng.normal(0, 0.6) * size[1] if near_the_last else rng.uniform(0, width)
            middle = float(np.clip(middle, 0.1 * size[1], width - 0.1 * size[1]))
            return int(bottom - size[0]), int(middle - size[1] / 2)

        yield _Draft(shape, longest * _STATURE.get(shape, 1.0), corner, rng)


_STATURE = {  # a person is smaller than a car, a tram larger
    "person-snowboarding": 0.6,
    "person-skiing-nordic": 0.6,
    "cart-shopping": 0.5,
    "wheelchair-move": 0.55,
    "van-shuttle": 1.15,
    "snowplow": 1.2,
    "cable-car": 1.2,
}


def _shuffled(rng: np.random.Generator, drafts: Iterator[_Draft]) -> Iterator[_Draft]:
    """Pasted in random depth order: many occlusions are unnatural."""
    in_order = list(drafts)
    yield from (in_order[i] for i in rng.permutation(len(in_order)))


def _on_the_shelf(rng: np.random.Generator, domain: Domain, frame: Size, angle: float) -> Iterator[_Draft]:
    """Two boards, each with a row behind and a row in front, seen by a camera `angle` radians to the side.

    Every object has its own random numbers, so that it looks the same in every view.
    """
    height, width = frame
    slots = [(board, row) for row in (0, 1) for board in range(len(SHELVES))]  # the rows behind first
    count = rng.integers(domain.objects[0], domain.objects[1] + 1)
    counts = [count // len(slots) + (i < count % len(slots)) for i in range(len(slots))]
    for (board, row), many in zip(slots, counts, strict=True):
        offset = rng.uniform(0, 1)
        for k, own in enumerate(rng.spawn(int(many))):
            shape, size = _choose_shape(own, domain), own.uniform(*domain.object_size)
            x = (0.12 + 0.76 * ((k + offset) / many + own.uniform(-0.06, 0.06))) * width
            x += (0.5 * row - 0.35) * -angle * 0.6 * width  # nearer objects move further
            foot = SHELVES[board] - (0.07, 0.012)[row] + own.uniform(-0.012, 0.012)

            def corner(cut: Size, x: float = x, foot: float = foot * height) -> tuple[int, int]:
                return int(foot - cut[0] + 2), int(x - cut[1] / 2)

            longest = min(frame) * size * (0.92, 1.0)[row] * (1 - 0.1 * abs(angle))
            yield _Draft(shape, longest, corner, own, squeeze=float(np.cos(1.2 * angle)))


def _place_mask(coverage: Float[np.ndarray, "ch cw"], top: int, left: int, frame: Size) -> AmodalMask:
    """The object's amodal mask: its largest connected part inside the frame, without holes."""
    mask = np.zeros(frame, bool)
    in_frame, in_cut_out = windows(coverage.shape, top, left, *frame)
    mask[in_frame] = silhouette_of(coverage[in_cut_out] >= 0.5)
    return mask
