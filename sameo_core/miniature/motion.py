"""Short videos: the objects of a scene move, come and go before a background that stays."""

import zlib

import numpy as np

from sameo_core.miniature.drawing import DOMAINS, Scene, _background, _cut_out, _paint, _paste_mask, _place, _shape


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
