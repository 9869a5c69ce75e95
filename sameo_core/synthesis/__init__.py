"""Amodal-LVIS, the paper's second contribution: occlusions made from complete objects, both versions annotated.

`completeness` finds the complete objects and `pool` holds them, `composition` draws pairs, `painting` paints them,
`annotations` describes them, `shards` writes the set.
"""

from sameo_core.synthesis.annotations import read_statistics
from sameo_core.synthesis.completeness import CurvePoint, collect_complete_objects, completeness_curve
from sameo_core.synthesis.composition import Pair, draw_pair, ladder
from sameo_core.synthesis.painting import compose, measure_speed
from sameo_core.synthesis.pool import RULES, Pool, join_pools
from sameo_core.synthesis.shards import synthesize

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
