"""Amodal-LVIS, the paper's second contribution: complete objects, occlusions made of them, both versions annotated.

`completeness` finds the complete objects, `composition` draws pairs, `painting` paints them, `shards` writes the set.
"""

from sameo_core.synthesis.completeness import (
    RULES,
    CurvePoint,
    Pool,
    collect_complete_objects,
    completeness_curve,
    join_pools,
)
from sameo_core.synthesis.composition import Pair, draw_pair, ladder
from sameo_core.synthesis.painting import compose
from sameo_core.synthesis.shards import measure_speed, read_statistics, synthesize

__all__ = [
    "RULES",
    "CurvePoint",
    "Pair",
    "Pool",
    "collect_complete_objects",
    "completeness_curve",
    "compose",
    "draw_pair",
    "join_pools",
    "ladder",
    "measure_speed",
    "read_statistics",
    "synthesize",
]
