"""Third stage of Amodal-LVIS: both versions of each pair, written in shards that any worker can make.

The format is documented in `datasets/amodal_lvis.py`. A shard is a task: its annotation file is written after its
images, so a shard with that file is finished; otherwise it is made again, to the same bytes. joblib runs the tasks,
with its own workers or those of a Dask scheduler.
"""

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from sameo_core.config import SynthesisConfig
from sameo_core.datasets.amodal_lvis import FILE
from sameo_core.errors import InputError
from sameo_core.runs.atomic import atomic_write, make_folder
from sameo_core.synthesis.annotations import annotate, image_records, statistics
from sameo_core.synthesis.composition import check_curriculum, draw_pair
from sameo_core.synthesis.painting import compose
from sameo_core.synthesis.pool import Pool

RECIPE = "synthesis_{split}/recipe.json"  # beside the format's own folders: the settings and the pool's fingerprint
POOL = "synthesis_{split}/pool.npz"


def synthesize(
    pool: Pool | str | Path,
    out: str | Path,
    images: int,
    split: str = "train",
    config: SynthesisConfig | None = None,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    shard: int | None = None,
    shards: int | None = None,
) -> Path:
    """Write a split of Amodal-LVIS below `out`, and return `out`; paper, section "Amodal-LVIS", stages two and three.

    With the pinned package versions, every byte depends on pool, images, config and seed alone: not on workers,
    scheduler, parts or interruptions. The same call resumes an interrupted one; finished shards are kept.

    Args:
        pool: the collected objects, or their file; incomplete ones are left out.
        out: root of the data set, to be read with `load_dataset("amodal_lvis", out, split)`.
        images: in all; half of them un-occluded.
        split, seed: its name, and the seed of all its pairs.
        config: see `SynthesisConfig`; the defaults if None.
        workers: processes on this machine, -1 for one per core.
        scheduler: address of a Dask scheduler whose workers are used instead; they must see `out` and the source
            images under the same paths.
        shard, shards: make part `shard` (from 0) of `shards` parts only, e.g. one per task of a Slurm array.

    Raises:
        InputError: an argument or a curriculum that makes no sense; fewer than two images in the pool; a folder that
            holds another set; source images missing; `out` not writable.
    """
    out, config = Path(out), config or SynthesisConfig()
    _check_arguments(images, seed, workers)
    check_curriculum(config)
    part = part_of(shard, shards)
    pool = _complete(pool)
    recipe = {"images": images, "split": split, "seed": seed, "pool": pool.fingerprint(), **asdict(config)}
    for key in ("complete", "complete_objects", "synthetic_images"):  # these determined the pool
        del recipe[key]
    recipe = json.loads(json.dumps(recipe))  # as it will be read back
    _claim(out, split, recipe, pool)
    count = -(-images // 2 // config.pairs_per_shard)
    files = [out / FILE.format(split=split, shard=number, shards=count) for number in range(count)]
    todo = [number for number in range(count)[part] if not _is_whole(files[number])]
    work = (delayed(write_shard)(out, files[number], number, recipe, config) for number in todo)
    with _backend(scheduler, workers) as n_jobs:
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs", batch_size=1)(work)
        for _ in tqdm(done, total=len(files[part]), initial=len(files[part]) - len(todo), desc=f"synthesising {split}"):
            pass
    if all(map(_is_whole, files)):
        _remove_partial_files(out, split)
    return out


def _complete(pool: Pool | str | Path) -> Pool:
    pool = (pool if isinstance(pool, Pool) else Pool.load(pool)).complete()
    if len(pool.image_id) < 2:
        rule = f"complete objects in at least two images, found {len(pool)} objects in {len(pool.image_id)} images"
        raise InputError(file="pool", rule=rule, remedy="Collect from more images, or lower the thresholds")
    return pool


def _check_arguments(images: int, seed: int, workers: int) -> None:
    if images < 2 or images % 2:
        rule = f"an even number, since each pair is an original and an occluded image; found {images}"
        raise InputError(file="images", rule=rule, remedy=f"Ask for {max(2, images + 1)}")
    if seed < 0:
        raise InputError(file="seed", rule=f"0 or above, found {seed}", remedy="Give a whole number from 0")
    if workers == 0:
        raise InputError(file="workers", rule="one or more, or -1, found 0", remedy="Give -1 for one per core")


def part_of(shard: int | None, shards: int | None) -> slice:
    """The k-th of n parts of a list: every n-th entry from k; the whole list without numbers.

    Raises:
        InputError: one number without the other, or no such part.
    """
    if shard is None and shards is None:
        return slice(None)
    if shard is None or shards is None or not 0 <= shard < shards:
        rule = f"parts are numbered 0 .. shards - 1, found shard {shard} of {shards}"
        raise InputError(file="shard", rule=rule, remedy="Give both --shard and --shards, e.g. --shard 0 --shards 8")
    return slice(shard, None, shards)


@contextlib.contextmanager
def _backend(scheduler: str | None, workers: int) -> Iterator[int]:
    """joblib's own workers, or those of a Dask scheduler."""
    if scheduler is None:
        yield workers
        return
    try:
        from distributed import Client

        client = Client(scheduler, timeout=30)
    except (ImportError, OSError, ValueError, TypeError) as error:
        rule = f"a Dask scheduler must answer there: {error}"
        remedy = 'Start it, correct the address, or install distributed: pip install -e ".[cluster]"'
        raise InputError(file=scheduler, rule=rule, remedy=remedy) from error
    with client, parallel_config(backend="dask"):
        yield -1


def _claim(out: Path, split: str, recipe: dict, pool: Pool) -> None:
    """Make `out` the folder of this recipe. Raises InputError if it belongs to another."""
    path, pool_file = out / RECIPE.format(split=split), out / POOL.format(split=split)
    if path.exists() or any((out / "annotations").glob(f"amodal_lvis_{split}_*.json")):
        try:
            found = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):  # missing or damaged
            found = {}
        if found != recipe:
            differs = [key for key in sorted(recipe | found) if recipe.get(key) != found.get(key)]
            what = "; ".join(f"{key} {found.get(key)!r}, asked for {recipe.get(key)!r}" for key in differs)
            rule = f"the folder holds a split {split!r} of another recipe: {what if found else 'unknown'}"
            remedy = "Ask for the same, delete the folder, or give another one"
            raise InputError(file=path, rule=rule, remedy=remedy)
        with contextlib.suppress(InputError):
            Pool.load(pool_file)
            return
    make_folder(out)
    pool.save(pool_file)
    with atomic_write(path) as partial:
        partial.write_bytes(json.dumps(recipe, indent=1).encode())


# ---------------------------------------------------------------------------------------------------- one shard


def write_shard(out: Path, annotation_file: Path, number: int, recipe: dict, config: SynthesisConfig) -> None:
    """Make shard `number` unless it is finished. May be interrupted, or run twice at once.

    Raises:
        InputError: see `draw_pair`, `compose`; or the folder is not writable.
    """
    if _is_whole(annotation_file):
        return
    split = recipe["split"]
    pool = _pool_of(str(out / POOL.format(split=split)), recipe["pool"])
    images, annotations, pairs = [], [], []
    try:
        first = number * config.pairs_per_shard
        for pair_number in range(first, min(first + config.pairs_per_shard, recipe["images"] // 2)):
            pair = draw_pair(pool, config, recipe["seed"], pair_number)
            composed = compose(pool, pair, config)
            records = image_records(pool, pair, composed)
            for record, data in zip(records, (composed.original, composed.occluded), strict=True):
                with atomic_write(out / "images" / split / f"{number:05d}" / record["file_name"]) as partial:
                    partial.write_bytes(data)
            images += records
            annotations += annotate(pool, pair, composed.brightness_shift)
            pairs.append(pair)
        about = {"shard": number, "recipe": recipe, "statistics": statistics(pairs)}
        content = {
            "info": {"description": "Amodal-LVIS in the open", **about},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in pool.categories.items()],
        }
        with atomic_write(annotation_file) as partial:
            partial.write_bytes(json.dumps(content).encode())
    except InputError:
        if not _is_whole(annotation_file):  # else another worker finished it, and removed our partial file
            raise


def _remove_partial_files(out: Path, split: str) -> None:
    """Remove what killed processes left behind."""
    for pattern in (f"images/{split}/*/*", f"annotations/amodal_lvis_{split}_*", f"synthesis_{split}/*"):
        for leftover in out.glob(f"{pattern}.partial"):
            leftover.unlink(missing_ok=True)


@functools.lru_cache(maxsize=1)
def _pool_of(path: str, fingerprint: str) -> Pool:
    """The pool, loaded once per process; `fingerprint` tells it from an earlier one at the same path."""
    return Pool.load(path)


def _is_whole(annotation_file: Path) -> bool:
    """True if the file exists and ends in its closing brackets: neither truncated nor filled with zeros."""
    try:
        with annotation_file.open("rb") as file:
            file.seek(-3, os.SEEK_END)
            return file.read() == b"}]}"
    except OSError:
        return False
