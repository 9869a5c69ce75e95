"""Third stage of Amodal-LVIS and its output: both versions of each pair, in shards that any worker can make.

The format is documented in `datasets/amodal_lvis.py`. A shard is a task: its images are written to a folder of their
own that is renamed when it is whole, its annotation file comes last and in one step. Where that file is, the shard is
finished; where it is not, the shard is made again, to the same bytes. One engine runs the tasks here and on a cluster:
joblib, with its own workers or those of a Dask scheduler.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from sameo_core.config import SynthesisConfig
from sameo_core.datasets.amodal_lvis import FILE
from sameo_core.datasets.images import FORMATS
from sameo_core.errors import InputError
from sameo_core.masks import RLE, encode_mask, mask_box, xyxy_to_xywh
from sameo_core.runs.atomic import atomic_write
from sameo_core.synthesis.completeness import Pool, is_pool
from sameo_core.synthesis.composition import Pair, check_curriculum, draw_pair
from sameo_core.synthesis.painting import compose

RECIPE = "synthesis_{split}/recipe.json"  # beside the format's own folders: what was asked for, and of which objects
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
    """Write a split of Amodal-LVIS; paper, section "Amodal-LVIS", second and third stage.

    Which pair lies in which shard, and every byte, depends on pool, images, config and seed alone: not on workers,
    scheduler, parts or interruptions (with the same versions of the packages that are pinned). Finished shards are
    kept, so an interrupted call is continued by the same call.

    Args:
        pool: the collected objects, or their file; incomplete ones are left out.
        out: root of the data set, to be read with `load_dataset("amodal_lvis", out, split)`.
        images: in all; half of them un-occluded.
        split: its name.
        config: see `SynthesisConfig`; the defaults if None.
        seed: of the whole split.
        workers: processes on this machine, -1 for one a core.
        scheduler: address of a Dask scheduler whose workers do it instead; they must see `out` and the source images
            under the same paths.
        shard, shards: do part `shard` (from 0) of `shards` parts of the shards, e.g. one a task of a Slurm array.

    Returns:
        `out`.

    Raises:
        InputError: an odd number of images; a negative seed; no workers; a curriculum that contradicts itself; fewer
            than two images in the pool; a folder that holds another set; a part that does not exist; source images
            missing; `out` not writable.
    """
    out, config = Path(out), config or SynthesisConfig()
    if images < 2 or images % 2:
        rule = f"an even number, for each pair is an original and an occluded image; found {images}"
        raise InputError(file="images", rule=rule, remedy=f"Ask for {max(2, images + 1)}")
    if seed < 0:
        raise InputError(file="seed", rule=f"0 or above, found {seed}", remedy="Give a whole number from 0")
    if workers == 0:
        raise InputError(file="workers", rule="one or more, or -1, found 0", remedy="Give -1 for one a core")
    check_curriculum(config)
    part = _part(shard, shards)
    pool = (pool if isinstance(pool, Pool) else Pool.load(pool)).complete()
    if len(pool.image_id) < 2:
        rule = f"complete objects in at least two images, found {len(pool)} objects in {len(pool.image_id)} images"
        raise InputError(file="pool", rule=rule, remedy="Collect from more images, or lower the thresholds")
    recipe = {"images": images, "split": split, "seed": seed, "pool": pool.fingerprint()}
    recipe |= {
        key: value
        for key, value in asdict(config).items()
        if key not in ("complete", "complete_objects", "synthetic_images")
    }
    recipe = json.loads(json.dumps(recipe))  # as it is read back
    with _writing(out):
        _claim(out, split, recipe, pool)
    count = -(-images // 2 // config.pairs_per_shard)
    todo = [number for number in range(count)[part] if not _is_whole(_annotation_file(out, split, number, count))]
    work = (delayed(write_shard)(out, split, number, count, recipe, config) for number in todo)
    with _backend(scheduler, workers) as n_jobs:
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs", batch_size=1)(work)
        bar = tqdm(done, total=len(range(count)[part]), initial=len(range(count)[part]) - len(todo))
        bar.set_description(f"synthesising {split}")
        for _ in bar:
            pass
    if all(_is_whole(_annotation_file(out, split, number, count)) for number in range(count)):
        _sweep(out, split)
    return out


def _sweep(out: Path, split: str) -> None:
    """Remove what killed processes left behind."""
    for leftover in (out / "images" / split).glob("*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    for folder, names in (("annotations", f"amodal_lvis_{split}_*"), (f"synthesis_{split}", "*")):
        for leftover in (out / folder).glob(f"{names}.partial"):
            leftover.unlink(missing_ok=True)


def _part(shard: int | None, shards: int | None) -> slice:
    """The k-th of n parts of the list of shards: every n-th from k."""
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
    except ImportError as error:
        rule = "a scheduler needs the package distributed, which is not installed"
        raise InputError(file="scheduler", rule=rule, remedy='Install it: pip install -e ".[cluster]"') from error
    try:
        client = Client(scheduler, timeout=30)
    except (OSError, ValueError, TypeError) as error:
        rule = f"a Dask scheduler must answer there: {error}"
        raise InputError(file=scheduler, rule=rule, remedy="Start it, or correct the address") from error
    with client, parallel_config(backend="dask"):
        yield -1


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What the disk refuses, in words that say what to do."""
    try:
        yield
    except OSError as error:
        rule = f"the data set cannot be written: {error.strerror or error}"
        remedy = "Free space or correct the rights, and run this again: finished shards are kept"
        raise InputError(file=error.filename or out, rule=rule, remedy=remedy) from error


def _claim(out: Path, split: str, recipe: dict, pool: Pool) -> None:
    """Make `out` the folder of this recipe. Raises InputError where it is another's."""
    path = out / RECIPE.format(split=split)
    if path.exists():
        try:
            found = json.loads(path.read_text())
            differs = {key for key in recipe | found if recipe.get(key) != found.get(key)}
        except (ValueError, TypeError, RecursionError) as error:
            remedy = "Delete the folder, or give another one"
            raise InputError(file=path, rule=f"not a recipe: {error}", remedy=remedy) from error
        if differs:
            what = "; ".join(f"{key} {found.get(key)!r}, asked for {recipe.get(key)!r}" for key in sorted(differs))
            remedy = "Ask for the same, delete the folder, or give another one"
            raise InputError(file=path, rule=f"the folder holds a set of another recipe: {what}", remedy=remedy)
    elif any((out / "annotations").glob(f"amodal_lvis_{split}_*.json")):
        remedy = "Give an empty folder, or another split"
        raise InputError(file=out, rule=f"the folder holds a split {split!r} without its recipe", remedy=remedy)
    if not path.exists() or not is_pool(out / POOL.format(split=split)):
        pool.save(out / POOL.format(split=split))
    if not path.exists():
        with atomic_write(path) as partial:
            partial.write_bytes(json.dumps(recipe, indent=1).encode())


# ---------------------------------------------------------------------------------------------------- one shard


def write_shard(out: Path, split: str, number: int, count: int, recipe: dict, config: SynthesisConfig) -> int:
    """Make shard `number` of `count`, unless it is there; returns its number.

    A worker's task: it can be given up at any moment and done again by anybody. Two that do it at once do not disturb
    each other.

    Raises:
        InputError: see `draw_pair`, `compose`; or the folder is not writable.
    """
    annotation_file = _annotation_file(out, split, number, count)
    if _is_whole(annotation_file):
        return number
    folder = out / "images" / split / f"{number:05d}"
    mine = folder.with_name(f"{folder.name}.{socket.gethostname()}-{os.getpid()}.partial")
    with _writing(out):
        pool = _pool_of(str(out / POOL.format(split=split)), recipe["pool"])
        shutil.rmtree(mine, ignore_errors=True)
        try:
            mine.mkdir(parents=True)
            content = _make_pairs(mine, pool, config, recipe, number)
            try:
                os.rename(mine, folder)
            except OSError:  # it is there: of somebody who was stopped before the annotations, or was faster
                if not folder.is_dir():
                    raise
                _repair(folder, mine)
        except FileNotFoundError:  # whoever was faster has tidied up
            if not _is_whole(annotation_file):
                raise
            return number
        with atomic_write(annotation_file) as partial:
            partial.write_bytes(json.dumps(content).encode())
        for leftover in folder.parent.glob(f"{folder.name}.*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
    return number


def _repair(folder: Path, made: Path) -> None:
    """What is missing in a shard's folder, or is not to the byte what was just made, is taken from there."""
    for image in made.iterdir():
        there = folder / image.name
        if not there.is_file() or there.read_bytes() != image.read_bytes():
            os.replace(image, there)


def _make_pairs(folder: Path, pool: Pool, config: SynthesisConfig, recipe: dict, shard: int) -> dict:
    """Write the images of a shard to a folder; return its annotation file's content."""
    images: list[dict] = []
    annotations, pairs = [], []
    first = shard * config.pairs_per_shard
    for number in range(first, min(first + config.pairs_per_shard, recipe["images"] // 2)):
        pair = draw_pair(pool, config, recipe["seed"], number)
        composed = compose(pool, pair, config)
        height, width = pool.image_size[pool.image[pair.target]].tolist()
        source = pool.provenance(pair.target)
        files = {
            "original": (composed.original, pool.path(pair.target).suffix),
            "occluded": (composed.occluded, composed.suffix),
        }
        for version, (data, suffix) in files.items():
            name = f"{number:08d}_{version}{suffix}"
            (folder / name).write_bytes(data)
            images.append(
                {
                    "id": 2 * number + 1 + len(images) % 2,
                    "file_name": name,
                    "height": height,
                    "width": width,
                    "pair_id": number,
                    "version": version,
                    "source_dataset": source["source_dataset"],
                    "source_image_id": source["source_image_id"],
                }
            )
        annotations += annotate(pool, pair, composed.brightness_shift)
        pairs.append(pair)
    info = {"description": "Amodal-LVIS in the open", "shard": shard, "recipe": recipe, "statistics": statistics(pairs)}
    categories = [{"id": number, "name": name} for number, name in pool.categories.items()]
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def annotate(pool: Pool, pair: Pair, brightness_shift: int) -> list[dict]:
    """The three annotations of a pair ("dual annotation"): the target as it was and occluded, and the occluder, whole.

    Their keys: see `datasets/amodal_lvis.py`.
    """
    size = pool.image_size[pool.image[pair.target]].tolist()
    front, seen = pair.occluder_mask(*size), np.zeros(size, bool, order="F")
    x0, y0, x1, y1 = pool.bounds(pair.target)
    seen[y0:y1, x0:x1] = pair.target_mask & ~front[y0:y1, x0:x1]
    amodal, visible, occluder = pool.rle(pair.target), encode_mask(seen), encode_mask(front)
    left, top, inside = pair.occluder_inside(*size)
    boxes = {pair.target: pool.box[pair.target], pair.occluder: mask_box(inside) + np.array([left, top] * 2)}
    areas = {pair.target: int(pool.area[pair.target]), pair.occluder: int(np.count_nonzero(inside))}
    shared = {"seed": pair.seed, "pair": pair.number}
    asked = {"target_rate": pair.target_rate}
    pasted = {
        "scale": pair.scale,
        "flipped": pair.flipped,
        "direction": pair.direction,
        "paste_box": [*pair.corner, *pair.alpha.shape[::-1]],
        "brightness_shift": brightness_shift,
    }

    def record(image: int, index: int, whole: RLE, visible: RLE, rate: float, how: dict) -> dict:
        return {
            "id": 0,
            "image_id": 2 * pair.number + image,
            "category_id": int(pool.category_id[index]),
            "iscrowd": 0,
            "bbox": xyxy_to_xywh(boxes[index]).tolist(),
            "area": areas[index],
            "segmentation": whole,
            "visible_mask": visible,
            "occlude_rate": rate,
            **pool.provenance(index),
            "synthesis": {**shared, "role": "target" if index == pair.target else "occluder", **how},
        }

    records = [
        record(1, pair.target, amodal, amodal, 0.0, {}),
        record(2, pair.target, amodal, visible, pair.achieved_rate, asked),
        record(2, pair.occluder, occluder, occluder, 0.0, pasted),
    ]
    return [item | {"id": 3 * pair.number + place} for place, item in enumerate(records, start=1)]


def statistics(pairs: list[Pair]) -> dict:
    """What was asked for and what was achieved: numbers of pairs, rates, redraws by reason."""
    asked = np.array([pair.target_rate for pair in pairs])
    achieved = np.array([pair.achieved_rate for pair in pairs])
    redraws = sum((Counter(pair.redraws) for pair in pairs), Counter())
    return {
        "pairs": len(pairs),
        "mean_rate_asked": float(asked.mean()),
        "mean_rate_achieved": float(achieved.mean()),
        "largest_deviation": float(np.abs(asked - achieved).max()),
        "redraws": dict(sorted(redraws.items())),
    }


def read_statistics(root: str | Path, split: str = "train") -> list[dict]:
    """What the shards say of themselves ("statistics" of their "info"), in order, without reading it all into memory.

    Raises:
        InputError: no shard is there, or one of them does not begin with its info.
    """
    found = []
    pattern = re.compile(rf"amodal_lvis_{re.escape(split)}_\d{{5}}-of-\d{{5}}\.json")
    for path in sorted((Path(root) / "annotations").glob("*.json")):
        if pattern.fullmatch(path.name):
            try:
                start = path.read_text()[:1_000_000]
                info, _ = json.JSONDecoder().raw_decode(start, start.index('"info":') + len('"info": '))
                found.append(info["statistics"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                rule, remedy = f"a shard begins with its info: {error}", "Synthesise it again"
                raise InputError(file=path, rule=rule, remedy=remedy) from error
    if not found:
        remedy = "Synthesise the split first"
        raise InputError(file=root, rule=f"at least one shard of split {split!r}", remedy=remedy)
    return found


@functools.lru_cache(maxsize=1)
def _pool_of(path: str, fingerprint: str) -> Pool:
    """The pool, loaded once in each process. `fingerprint` tells it from another that lay at the same place."""
    pool = Pool.load(path)
    if pool.fingerprint() != fingerprint:
        raise InputError(file=path, rule="the pool is not the recipe's", remedy="Delete the folder and start anew")
    return pool


def _annotation_file(out: Path, split: str, number: int, count: int) -> Path:
    return out / FILE.format(split=split, shard=number, shards=count)


def _is_whole(annotation_file: Path) -> bool:
    """It is there up to its last brackets; one that was cut short, or ends in zeros, is made again."""
    try:
        with annotation_file.open("rb") as file:
            file.seek(-3, os.SEEK_END)
            return file.read() == b"}]}"
    except OSError:
        return False


def measure_speed(pool: Pool, config: SynthesisConfig, pairs: int = 60, seed: int = 0) -> dict[str, float]:
    """Processor time of one core for drawing and composing some pairs, and of the codec alone for the same pairs.

    Args:
        pool: complete objects alone (`Pool.complete`).
        config: as `synthesize`.
        pairs: how many are made, twice; nothing is written.
        seed: of the pairs.

    Returns:
        "seconds a pair", "codec seconds a pair" (two images decoded, one encoded), "share of codec bound" = the second
        / the first, and "megapixels" of an image on average.

    Raises:
        InputError: no pairs asked for; as `draw_pair` and `compose`.
    """
    if pairs < 1:
        raise InputError(file="pairs", rule=f"at least one pair, found {pairs}", remedy="Ask for some tens")
    codec = made = pixels = 0.0
    for number in range(pairs):  # in turn, so that a machine that slows down slows both
        start = time.process_time()
        pair = draw_pair(pool, config, seed, number)
        compose(pool, pair, config)
        middle = time.process_time()
        scene, other = (
            PIL.Image.open(BytesIO(pool.path(i).read_bytes()), formats=FORMATS) for i in (pair.target, pair.occluder)
        )
        scene.load()
        other.load()
        jpeg = {"quality": "keep"} if scene.format == "JPEG" else {}
        scene.save(BytesIO(), scene.format, **jpeg)
        codec, made = codec + time.process_time() - middle, made + middle - start
        pixels += float(np.prod(scene.size))
    return {
        "seconds a pair": made / pairs,
        "codec seconds a pair": codec / pairs,
        "share of codec bound": codec / made,
        "megapixels": pixels / pairs / 1e6,
    }
