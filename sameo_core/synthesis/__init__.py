"""Amodal-LVIS, the paper's second contribution: complete objects, occlusions made of them, both versions annotated.

`pool` finds the complete objects, `composition` draws pairs, `painting` paints them, `shards` writes the set. Here they
are put together for a profile.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sameo_core.collection import open_dataset
from sameo_core.config import DATA_SEED, CompletenessConfig, Profile, config_hash, teacher_profile
from sameo_core.errors import InputError
from sameo_core.model import Sameo
from sameo_core.runs.folders import claimed
from sameo_core.synthesis.composition import Pair, draw_pair, ladder
from sameo_core.synthesis.painting import compose
from sameo_core.synthesis.pool import (
    RULES,
    CurvePoint,
    Pool,
    chosen_threshold,
    collect_complete_objects,
    completeness_curve,
    join_pools,
)
from sameo_core.synthesis.shards import read_statistics, synthesize
from sameo_core.synthesis.speed import measure_speed

__all__ = [
    "RULES",
    "CurvePoint",
    "Pair",
    "Pool",
    "chosen_threshold",
    "collect_complete_objects",
    "completeness_curve",
    "compose",
    "draw_pair",
    "join_pools",
    "ladder",
    "measure_speed",
    "pool_of_profile",
    "read_statistics",
    "synthesize",
    "synthetic_set",
    "teacher_profile",
]


def pool_of_profile(profile: Profile, teacher_weights: str | Path | None, split: str = "train") -> Pool:
    """The objects of the profile's visible-only sets, as a teacher sees them; collected now unless they have been.

    Of several sets those that are here are taken, and those that are not are named.

    Args:
        profile: says which sets, where they lie, and the thresholds.
        teacher_weights: what `training.fine_tune(teacher_profile(profile))` returned; None: geometry alone judges.
        split: of the source sets.

    Raises:
        InputError: none of the sets is here; see `collect_complete_objects`.
    """
    datasets, missing = [], []
    for name in profile.data.visible_only:
        try:
            datasets.append(open_dataset(name, split, profile))
        except InputError as error:
            if (profile.data_folder / name).exists():
                raise
            print(f"{name} is left out: {error}")
            missing.append(error)
    if not datasets:
        if missing:
            raise missing[0]
        rule = "at least one set of visible masks to take objects from, found none"
        raise InputError(file=f"profile {profile.name}", record="visible_only", rule=rule, remedy='Give ("lvis",)')
    teacher = Sameo.load(teacher_weights, limits=profile.evaluation) if teacher_weights else None
    folder = profile.runs / "pools"
    config = profile.synthesis.complete
    judges = [None if dataset.name in config.whole_sets else teacher for dataset in datasets]
    pairs = zip(judges, datasets, strict=True)
    with claimed(profile.runs / "preparation"):  # a second process finds what the first has collected
        return join_pools([collect_complete_objects(judge, dataset, config, folder) for judge, dataset in pairs])


def synthetic_set(
    profile: Profile,
    teacher_weights: str | Path | None,
    out: str | Path | None = None,
    images: int | None = None,
    split: str = "train",
    seed: int = DATA_SEED,
    **how: Any,
) -> Path:
    """The Amodal-LVIS of a profile; made now unless it is there, read with `load_dataset("amodal_lvis", out, split)`.

    Args:
        profile: sources, thresholds, curriculum and number of images.
        teacher_weights: what `training.fine_tune(teacher_profile(profile))` returned.
        out: its folder; `data/runs/<profile>/amodal_lvis-<hash>` if None.
        images: instead of the profile's number.
        split: of the sources and of the result.
        seed: of the set.
        how: workers, scheduler, shard, shards: see `synthesize`.

    Returns:
        the folder.

    Raises:
        InputError: see `pool_of_profile`, `synthesize`.
    """
    pool = pool_of_profile(profile, teacher_weights, split).complete()
    if (few := profile.synthesis.complete_objects) is not None:
        source = pool.image_source[pool.image]
        drawn = np.random.default_rng(seed).permutation(len(pool))
        pool = pool.rows(np.sort(np.concatenate([drawn[source[drawn] == i][:few] for i in range(len(pool.source))])))
    images = profile.synthesis.synthetic_images if images is None else images
    if out is None:
        painted = replace(profile.synthesis, complete=CompletenessConfig(), complete_objects=None, synthetic_images=0)
        out = profile.runs / f"amodal_lvis-{config_hash(pool.fingerprint(), images, seed, painted)}"
    return synthesize(pool, out, images, split, profile.synthesis, seed, **how)
