"""From a profile to its data sets, its Amodal-LVIS, the teacher and the weights.

Expensive results are kept in the profile's run folders and reused.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from sameo_core.config import (
    DATA_SEED,
    PHOTO_QUESTIONS,
    QUESTIONS,
    SUPERVISED,
    CompletenessConfig,
    Profile,
    ablation,
    config_hash,
    geometry,
    recipe,
    teacher_profile,
)
from sameo_core.datasets import AmodalDataset, clean, coco_number, load_dataset
from sameo_core.errors import InputError
from sameo_core.miniature import RELATIVE_SIZE, WRITERS, draw_dataset
from sameo_core.model import EfficientSam, Sameo
from sameo_core.model.checkpoints import fingerprint_weights
from sameo_core.model.sameo import default_device
from sameo_core.runs.distributed import broadcast_bool, rank_zero_first
from sameo_core.runs.folders import locked
from sameo_core.synthesis import Pool, collect_complete_objects, join_pools, synthesize
from sameo_core.training import EmbeddingCache, fine_tune
from sameo_core.training.fine_tuning import starting_model


def open_dataset(name: str, split: str, profile: Profile) -> AmodalDataset:
    """Open split "train" or "val" of a data set without cleaning it; `mini` draws its files if they are missing.

    Raises InputError for missing or damaged files, or an unknown set; in `mini` without a number of images.
    """
    root = profile.data_folder / name
    if profile.name == "mini":
        images = profile.data.train_images if split == "train" else profile.data.val_images
        if images is None:
            rule = f"the drawn world needs a number of images for split {split!r}, found None"
            raise InputError(file="profile mini", rule=rule, remedy="Set train_images and val_images")
        if name in WRITERS:  # amodal_lvis is synthesised, not drawn
            share = RELATIVE_SIZE[name] if split == "train" else 1
            with locked(root):  # else two processes draw it, and one reads a file that the other replaces
                draw_dataset(name, root, split, max(1, round(images * share)))
    return load_dataset(name, root, split)


def open_present(
    splits: Mapping[str, str], profile: Profile, cleaned: bool = False
) -> tuple[dict[str, AmodalDataset], dict[str, InputError]]:
    """Those of several data sets (name -> split) that are here, and the error of each that is missing, by name.

    Raises InputError if none of them is here.
    """
    present, absent = {}, {}
    for name, split in splits.items():
        try:
            present[name] = (open_clean_dataset if cleaned else open_dataset)(name, split, profile)
        except InputError as error:
            absent[name] = error
    if not present:
        rule = f"at least one of {', '.join(splits)} must be here; {next(iter(absent.values()))}"
        remedy = "`python -m sameo_core download NAME` fetches them or says how"
        raise InputError(file=profile.data_folder, rule=rule, remedy=remedy)
    return present, absent


def open_clean_present(
    splits: Mapping[str, str], profile: Profile
) -> tuple[dict[str, AmodalDataset], dict[str, InputError]]:
    """`open_present`, then cleaned as by `open_clean_dataset`."""
    return open_present(splits, profile, cleaned=True)


def open_clean_dataset(name: str, split: str, profile: Profile, root: Path | None = None) -> AmodalDataset:
    """`open_dataset`, or the set in `root`, cleaned with the profile's thresholds (`cleaning.clean`).

    Raises InputError as `open_dataset`, or if no object is left.
    """
    dataset = load_dataset(name, root, split) if root else open_dataset(name, split, profile)
    cleaned, report = clean(dataset, profile.data)
    if not len(cleaned):
        rule = f"no object is left after cleaning: of {report.instances_in} it removed {report.removed}"
        remedy = "Change the thresholds in CleaningConfig (sameo_core/config/profiles.py)"
        raise InputError(file=dataset.root, rule=rule, remedy=remedy)
    return cleaned


def pool_of_profile(profile: Profile, teacher_weights: str | Path | None, split: str = "train") -> Pool:
    """The objects of the profile's visible-only sets with the teacher's masks, collected once.

    Missing sets are printed and left out. `teacher_weights` are those of `teacher(profile)`; None: geometry alone
    decides. Raises InputError if none of the sets is here, and as `collect_complete_objects`.
    """
    present, absent = open_present(dict.fromkeys(profile.data.visible_only, split), profile)
    for name, error in absent.items():
        if (profile.data_folder / name).exists():  # damaged
            raise error
        print(f"{name} is left out: {error}")
    teacher = Sameo.load(teacher_weights, limits=profile.evaluation) if teacher_weights else None
    config, folder = profile.synthesis.complete, profile.runs / "pools"
    with locked(profile.runs / "preparation"):
        return join_pools(
            [
                collect_complete_objects(None if each.name in config.whole_sets else teacher, each, config, folder)
                for each in present.values()
            ]
        )


def synthetic_set(
    profile: Profile,
    teacher_weights: str | Path | None,
    out: str | Path | None = None,
    images: int | None = None,
    split: str = "train",
    seed: int = DATA_SEED,
    **how: Any,
) -> Path:
    """Synthesise a profile's Amodal-LVIS once; returns its folder, for `load_dataset("amodal_lvis", out, split)`.

    Args:
        teacher_weights: from `teacher(profile)`.
        out: None: `data/runs/<profile>/amodal_lvis-<hash>`.
        images: None: the profile's number.
        split: of the sources and of the result.
        how: workers, scheduler, shard, shards: see `synthesize`.

    Raises InputError as `pool_of_profile` and `synthesize`.
    """
    pool = pool_of_profile(profile, teacher_weights, split).complete()
    if split == "train" and profile.data.without_test_images:
        pool = pool.without(_tested(profile))
    if (few := profile.synthesis.complete_objects) is not None:
        source = pool.image_source[pool.image]
        drawn = np.random.default_rng(seed).permutation(len(pool))
        pool = pool.rows(np.sort(np.concatenate([drawn[source[drawn] == i][:few] for i in range(len(pool.source))])))
    images = profile.synthesis.synthetic_images if images is None else images
    if out is None:
        painted = replace(profile.synthesis, complete=CompletenessConfig(), complete_objects=None, synthetic_images=0)
        out = profile.runs / f"amodal_lvis-{config_hash(pool.fingerprint(), images, seed, painted)}"
    return synthesize(pool, out, images, split, profile.synthesis, seed, **how)


def _tested(profile: Profile) -> set[str]:
    """COCO's numbers of the photographs on which the held-out sets test."""
    here = [name for name in profile.data.held_out if (profile.data_folder / name).exists()]
    return {coco_number(image.path.name) for name in here for image in open_dataset(name, "val", profile)} - {""}


def amodal_lvis_folder(profile: Profile) -> Path:
    """The folder of the profile's Amodal-LVIS: as downloaded, else synthesised once, with its teacher.

    Raises InputError as `teacher` and `synthetic_set`.
    """
    key = replace(profile, training=teacher_profile(profile).training)  # of the training, only the teacher's matters
    return _amodal_lvis_folder(key, profile.runs, profile.data_folder)


@lru_cache(maxsize=32)
def _amodal_lvis_folder(profile: Profile, *folders: Path) -> Path:
    """`folders`, of runs and data sets, are part of the cache key: they may change between calls."""
    asked = profile.synthesis.complete.ask_teacher
    return _distributed(profile) or _made(profile, teacher(profile) if asked else None)


def _distributed(profile: Profile) -> Path | None:
    root = profile.data_folder / "amodal_lvis"
    return root if broadcast_bool(profile.name != "photo" and root.is_dir()) else None


def _made(profile: Profile, teacher_weights: Path | None, **how: Any) -> Path:
    with rank_zero_first(), locked(profile.runs / "preparation"):
        return synthetic_set(profile, teacher_weights, workers=-1, **how)


def teacher(profile: Profile) -> Path:
    """The weights of Amodal-LVIS's teacher, a SAMEO fine-tuned on the other amodal sets (paper); trained once.

    Without such sets, it learns from a first Amodal-LVIS of objects that are complete by geometry alone.
    Raises as `training.fine_tune`, by all ranks together.
    """
    first = teacher_profile(profile)
    model = starting_model(first.training)
    root = (_distributed(first) or _made(first, None)) if "amodal_lvis" in first.data.train else None
    return _trained(first, model, training_sets(first, root), first.training.seeds[0])


def open_amodal_lvis(profile: Profile) -> AmodalDataset:
    """Amodal-LVIS, cleaned; without dual annotation its occluded objects only.

    Raises InputError as `amodal_lvis_folder` and `open_clean_dataset`.
    """
    return _open_amodal_lvis(profile, amodal_lvis_folder(profile))


def _open_amodal_lvis(profile: Profile, root: Path) -> AmodalDataset:
    with rank_zero_first():
        dataset = open_clean_dataset("amodal_lvis", "train", profile, root)
    if profile.data.dual_annotation:
        return dataset
    census = dataset.census()
    return dataset.select(census.visible_area < census.amodal_area)


def training_sets(profile: Profile, amodal_lvis: Path | None = None) -> list[AmodalDataset]:
    """The data sets that a profile trains on, cleaned; opened once per process, because it takes seconds.

    `amodal_lvis` is the folder of Amodal-LVIS; None: `amodal_lvis_folder`. Raises InputError if a set is missing or
    damaged, or if nothing is left of it.
    """
    if "amodal_lvis" in profile.data.train:
        amodal_lvis = amodal_lvis or amodal_lvis_folder(profile)
    key = Profile(name=profile.name, data=profile.data)  # all that the sets depend on
    return [*_open_sets(key, amodal_lvis, profile.runs, profile.data_folder)]


@lru_cache(maxsize=32)
def _open_sets(profile: Profile, amodal_lvis: Path | None, *folders: Path) -> tuple[AmodalDataset, ...]:
    made = {"amodal_lvis": _open_amodal_lvis(profile, amodal_lvis)} if amodal_lvis else {}
    with rank_zero_first(), locked(profile.runs / "preparation"):
        splits, names = dict(text.split(":") for text in profile.data.train_splits), profile.data.train
        made |= {n: open_clean_dataset(n, splits.get(n, "train"), profile) for n in names if n not in made}
        return tuple(made[name] for name in names)


def open_held_out(profile: Profile, split: str = "val") -> dict[str, AmodalDataset]:
    """The profile's test sets by name, cleaned.

    "photo_pairs" is an Amodal-LVIS of val photographs, which no training has seen. Geometry alone selects its objects,
    so no model under test influences them. Raises InputError as `open_clean_dataset` and `synthetic_set`.
    """
    sets = {}
    for name in profile.data.held_out:
        root = None
        if name == "photo_pairs":
            first = profile.override(**geometry(profile))
            root = _made(first, None, images=profile.data.val_images, split=split)
        sets[name] = open_clean_dataset("amodal_lvis" if root else name, split, profile, root)
    return sets


# ------------------------------------------------------------------------------------------------------------ training


def train(profile: Profile, seed: int = 0) -> Path:
    """Fine-tune SAMEO with the profile's data sets and recipe, once; returns the weights.

    The run folder is `data/runs/<profile>/sameo-<hash>`. All ranks of `torchrun` make the same call.

    Raises:
        InputError: weights or data sets are missing or damaged, or as `training.fine_tune`.
        FloatingPointError, KeyboardInterrupt: as `training.fine_tune`.
    """
    model = starting_model(replace(profile.training, seeds=(seed,)))
    return _trained(profile, model, training_sets(profile), seed)


def _trained(profile: Profile, model: EfficientSam, sets: Sequence[AmodalDataset], seed: int) -> Path:
    recipe = replace(profile.training, seeds=(seed,))
    key = config_hash(profile.name, recipe, model.fingerprint(), [dataset.fingerprint() for dataset in sets])
    folder, about = profile.runs / f"sameo-{key}", {"data": asdict(profile.data)}
    how: dict[str, Any] = {"bad_images": profile.cache.bad_images, "workers": profile.cache.workers, "about": about}
    return fine_tune(sets, recipe, folder, embedding_cache(profile, model), seed, **how)


def embedding_cache(profile: Profile, model: EfficientSam) -> EmbeddingCache:
    """The image embeddings of a profile's runs, by the encoder of a model."""
    limits = profile.cache.embedding_cache_gigabytes, profile.cache.largest_cached_set
    return EmbeddingCache(model, profile.runs / "embeddings", profile.training.half_embeddings, *limits)


Work = Callable[[Profile, int], Path]  # a training: of a profile and a seed, returns the weights


def train_all(runs: Sequence[tuple[Profile, int]], work: Work = train, what: str = "fine-tuning") -> list[Path]:
    """`work` for several (profile, seed), on a CPU one process per core; returns the weights in order.

    Equal runs are trained once. With `cpu_threads` set, the weights do not depend on the number of processes. Raises
    InputError and FloatingPointError as `work`.
    """
    different = {config_hash(*run): run for run in runs}
    at_once = runs_at_once(len(different))
    if at_once > 1:  # else each process would draw and synthesise them
        for profile, _ in different.values():
            training_sets(profile)
    done = Parallel(n_jobs=at_once, return_as="generator")(delayed(work)(*run) for run in different.values())
    bar = tqdm(done, total=len(different), desc=f"{what}, {at_once} at once", unit="run")
    weights = dict(zip(different, bar, strict=True))
    return [weights[config_hash(*run)] for run in runs]


def runs_at_once(runs: int) -> int:
    """How many trainings run at once: on a CPU one per core, on a GPU one."""
    return 1 if default_device().type != "cpu" else max(1, min(runs, os.cpu_count() or 1))


def train_amodal_rcnn(profile: Profile, seed: int = 0) -> Path:
    """Train the end-to-end baseline with the profile's data sets and recipe, once; returns the weights.

    The run folder is `data/runs/<profile>/amodal_rcnn-<hash>`. Raises InputError and FloatingPointError as
    `front_ends.amodal_rcnn.fit_amodal_rcnn`.
    """
    from sameo_core.front_ends.amodal_rcnn import fit_amodal_rcnn, starting_amodal_rcnn  # imports torchvision: seconds

    recipe, shared = profile.amodal_rcnn, profile.training
    model, sets = starting_amodal_rcnn(recipe, seed), training_sets(profile)
    common = {"seed": seed, "clip": shared.clip, "cpu_threads": shared.cpu_threads, "log_every": shared.log_every}
    key = config_hash(profile.name, recipe, common, fingerprint_weights(model), [s.fingerprint() for s in sets])
    folder, about = profile.runs / f"amodal_rcnn-{key}", {"data": asdict(profile.data)}
    return fit_amodal_rcnn(model, sets, recipe, shared, folder, seed, profile.cache.bad_images, about)


def train_all_amodal_rcnn(profile: Profile) -> dict[int, Path]:
    """`train_all` of the baseline with the profile's seeds; returns seed -> weights. Raises InputError as there."""
    seeds = profile.training.seeds
    weights = train_all([(profile, seed) for seed in seeds], train_amodal_rcnn, "the baseline")
    return dict(zip(seeds, weights, strict=True))


Job = tuple[str, Work, Profile, int]  # notebook, work, and its arguments


def trainings(profile: Profile) -> list[Job]:
    """All that the notebooks train with a profile, done by `work(profile, seed)`; equal trainings are listed once.

    First what needs no Amodal-LVIS.
    """
    photo = profile.name == "photo"
    questions = PHOTO_QUESTIONS if photo else QUESTIONS
    arms = [("A2" if photo else "04", train, arm) for name in questions for arm in ablation(name, profile).values()]
    supervised = [("03", train, recipe(f"supervised_{name}", profile)) for name in SUPERVISED]
    end = [("05", train, profile), ("05", train_amodal_rcnn, profile)]
    jobs = [("A2", train, profile), *arms] if photo else [*supervised, *end, *arms]
    listed: dict[str, Job] = {}
    for number, work, each in jobs:
        for seed in profile.training.seeds:
            listed.setdefault(config_hash(work.__name__, each, seed), (number, work, each, seed))
    return list(listed.values())
