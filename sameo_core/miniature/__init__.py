"""The drawn world: images with exact amodal masks, written in the real formats of the real data sets.

`domains` says how they look, `drawing` paints them, `records` says what of them can be stored; `coco`, `lvis` and
`mask_files` say how, `files` writes them.
"""

from sameo_core.miniature.domains import (
    DOMAINS,
    HELD_OUT_PHOTOGRAPHS,
    HELD_OUT_SHAPES,
    SEEN_PHOTOGRAPHS,
    SEEN_SHAPES,
    Domain,
    domain_of,
)
from sameo_core.miniature.drawing import Scene, draw_scene
from sameo_core.miniature.files import RELATIVE_SIZE, WRITERS, draw_dataset
from sameo_core.miniature.lvis import hidden_shares

__all__ = [
    "DOMAINS",
    "HELD_OUT_PHOTOGRAPHS",
    "HELD_OUT_SHAPES",
    "RELATIVE_SIZE",
    "SEEN_PHOTOGRAPHS",
    "SEEN_SHAPES",
    "WRITERS",
    "Domain",
    "Scene",
    "domain_of",
    "draw_dataset",
    "draw_scene",
    "hidden_shares",
]
