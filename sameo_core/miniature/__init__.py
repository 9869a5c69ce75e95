"""The drawn world: images with exact amodal masks, written in the real formats of the real data sets.

`drawing` paints scenes, `formats` writes them down; `draw_dataset` does both.
"""

from sameo_core.miniature.drawing import (
    DOMAINS,
    HELD_OUT_PHOTOGRAPHS,
    HELD_OUT_SHAPES,
    SEEN_PHOTOGRAPHS,
    SEEN_SHAPES,
    Domain,
    Scene,
    draw_scene,
)
from sameo_core.miniature.formats import WRITERS, draw_dataset

__all__ = [
    "DOMAINS",
    "HELD_OUT_PHOTOGRAPHS",
    "HELD_OUT_SHAPES",
    "SEEN_PHOTOGRAPHS",
    "SEEN_SHAPES",
    "WRITERS",
    "Domain",
    "Scene",
    "draw_dataset",
    "draw_scene",
]
