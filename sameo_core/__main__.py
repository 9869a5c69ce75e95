"""The command line: each verb parses its options and calls one function."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sameo_core.config import PROFILES, RECIPES, ROOT, load_profile, read_overrides, recipe, teacher_profile
from sameo_core.errors import InputError

Option = tuple[tuple[str, ...], dict[str, Any]]
Run = Callable[[argparse.Namespace], int]  # returns the exit code
VERBS: dict[str, tuple[Run, tuple[Option, ...]]] = {}


def verb(*options: Option) -> Callable[[Run], Run]:
    """Register a function as a verb: its name without the first underscore, its docstring is the help."""

    def register(run: Run) -> Run:
        VERBS[run.__name__[1:].replace("_", "-")] = run, options
        return run

    return register


def option(*flags: str, **settings: Any) -> Option:
    """Arguments of `argparse`'s `add_argument`."""
    return flags, settings


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"1 or above, found {number}")
    return number


KINDS = "mini: drawn, minutes; photo: photographs of COCO, an hour; paper: all data sets, GPUs (default: mini)"
PROFILE = option("--profile", choices=PROFILES, default="mini", help=KINDS)
PRETRAINING = (
    option("--out", type=Path, required=True, metavar="DIR", help="run folder; an interrupted run resumes"),
    option("--steps", type=positive, help="default: as the shipped weights"),
    option("--threads", type=positive, help="of torch; the last digits of the weights depend on it"),
)
PART = (
    option("--shard", type=int, metavar="K", help="only this part of the work, from 0, e.g. $SLURM_ARRAY_TASK_ID"),
    option("--shards", type=int, metavar="N", help="number of parts"),
)


@verb(
    PROFILE,
    option("--notebook", nargs="+", metavar="NN", help="only these, e.g. 03 05 (default: all)"),
    option("--seeds", type=positive, metavar="N", help="trainings per model (default: 1; 3: intervals)"),
    option("--update", action="store_true", help="maintainers: write committed tables, outputs and README's numbers"),
)
def _reproduce(options: argparse.Namespace) -> int:
    """run the notebooks and write the report"""
    from sameo_core import reproduction
    from sameo_core.reporting.committed import update_readme

    if options.update and options.profile == "mini" and (options.seeds or 1) < 2:
        paths = reproduction.find_notebooks(only=options.notebook)
        if any("seeds" in reproduction.parameters_of(path) for path in paths):
            raise InputError(file="--update", rule="committed tables have intervals", remedy="Give --seeds 3")
    runs = reproduction.reproduce(options.profile, options.notebook, seeds=options.seeds, update=options.update)
    statuses = {run.status for run in runs}
    if options.update and statuses == {"passed"}:
        update_readme(ROOT / "README.md")
    return 0 if statuses == {"passed"} else 130 if "interrupted" in statuses else 1


@verb(*PRETRAINING)
def _pretrain(options: argparse.Namespace) -> int:
    """pre-train EfficientSAM-nano on the drawn world (notebook A1)"""
    from sameo_core.miniature.pretraining import PretrainingConfig, pretrain

    return _print_result(pretrain, PretrainingConfig(), options)


@verb(*PRETRAINING)
def _pretrain_detector(options: argparse.Namespace) -> int:
    """train the nano detector on the drawn world"""
    from sameo_core.miniature.nano_detector import DetectorConfig, pretrain_detector

    return _print_result(pretrain_detector, DetectorConfig(), options)


def _print_result(work: Callable[[Any, Path], Path], config: Any, options: argparse.Namespace) -> int:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    print(work(replace(config, steps=options.steps or config.steps), options.out))
    return 0


@verb(
    option("name", metavar="NAME", help="as in data/sources.yaml, e.g. lvis, coco2014, efficient_sam"),
    option("--root", metavar="DIR", help="folder of the sets' folders (default: data/raw)"),
    option("--from", dest="local", metavar="DIR", help="coco_photos, cocoa_photos: take local files"),
)
def _download(options: argparse.Namespace) -> int:
    """fetch a data set or checkpoint, or say how to fetch it by hand"""
    from sameo_core.datasets.downloads import download

    return 1 if download(options.name, options.root, local=options.local) else 0


@verb(
    PROFILE,
    option("--check", action="store_true", help="also read every image, and name those that cannot be read"),
)
def _datasets(options: argparse.Namespace) -> int:
    """list the data sets: present or not, counts found and published, licence"""
    from sameo_core.datasets.registry import bad_images, inventory, inventory_table

    folder, bad = load_profile(options.profile).data_folder, 0
    rows, problems = inventory(folder)
    print(inventory_table(rows), "", "Counts: found / published (data/sources.yaml).", *problems, sep="\n")
    if options.check:
        for error in bad_images(folder):
            print(error)
            bad += 1
        print(f"{bad} images cannot be read; to train without them: --override bad_images={bad}")
    return 1 if bad else 0


@verb(
    PROFILE,
    option("--images", type=int, metavar="N", help="half of them un-occluded (default: the profile's)"),
    option("--out", type=Path, required=True, metavar="DIR", help="an interrupted run resumes"),
    option("--workers", type=int, default=-1, metavar="K", help="processes here (default: one per core)"),
    option("--scheduler", metavar="ADDRESS", help="of Dask, e.g. tcp://host:8786; uses its workers"),
    *PART,
    option("--pool", type=Path, metavar="FILE", help="objects collected before: no teacher is needed"),
    option("--seed", type=int, default=0),
)
def _synthesize(options: argparse.Namespace) -> int:
    """make Amodal-LVIS from objects that a fine-tuned SAMEO finds complete"""
    from sameo_core import pipeline
    from sameo_core.synthesis import synthesize

    profile = load_profile(options.profile)
    config = profile.synthesis
    images = config.synthetic_images if options.images is None else options.images
    pool = options.pool or pipeline.pool_of_profile(profile, pipeline.train(teacher_profile(profile)))
    how = {name: getattr(options, name) for name in ("seed", "workers", "scheduler", "shard", "shards")}
    synthesize(pool, options.out, images, config=config, **how)
    return 0


@verb(
    option("--recipe", default="zero_shot", metavar="NAME", help="see below (default: zero_shot)"),
    PROFILE,
    *PART,
    option("--seed", type=int, help="of batches and prompts (default: the profile's first)"),
    option("--override", nargs="+", default=[], metavar="FIELD=VALUE", help="e.g. iterations=2000 train=cocoa,kins"),
)
def _train(options: argparse.Namespace) -> int:
    """fine-tune the mask decoder; on several GPUs: torchrun --nproc-per-node=N -m sameo_core train ..."""
    from sameo_core import pipeline
    from sameo_core.runs.distributed import process_group, rank
    from sameo_core.synthesis.shards import part_of

    overrides, seed = read_overrides(options.override), options.seed
    profile, part = load_profile(options.profile, **overrides), part_of(options.shard, options.shards)
    if options.recipe == "all":
        jobs = [job[1:] for job in pipeline.trainings(profile) if seed in (None, job[-1])]
    else:
        trained = recipe(options.recipe, profile).override(**overrides)
        jobs = [(pipeline.train, trained, trained.training.seeds[0] if seed is None else seed)]
    with process_group():
        for work, trained, seed in jobs[part]:
            weights = work(trained, seed)
            if rank() == 0:
                print(weights, flush=True)
    return 0


BOXES = "[[x0, y0, x1, y1], ...] in pixels, COCO results or annotations; or a folder, one JSON per photograph"
DETECTOR = "finds the boxes: everything (SAM's automatic masks; default without --boxes), nano, one of torchvision, "
DETECTOR += "e.g. maskrcnn_resnet50_fpn_v2, or a detector's JSON results"


@verb(
    option("photographs", type=Path, metavar="PHOTO", help="a photograph, or a folder of them"),
    option("--boxes", type=Path, metavar="JSON", help=BOXES),
    option("--detector", metavar="NAME", help=DETECTOR),
    option("--detector-weights", metavar="W", help="a name of torchvision's, or a checkpoint"),
    option("--min-score", type=float, help="drop weaker boxes (default: 0.5 without --boxes)"),
    option("--box-format", metavar="F", help="xyxy, xywh or normalised, if not the file's default"),
    option("--crowds", action="store_true", help="take COCO's crowd regions (iscrowd 1) as objects"),
    option("--weights", help="name or checkpoint (default: photo)"),
    option("--out", type=Path, default="predictions", metavar="DIR", help="for JSON and PNG (default: %(default)s)"),
)
def _predict(options: argparse.Namespace) -> int:
    """amodal masks of your own photographs"""
    from sameo_core.apps.predict import SHOWN_SCORE, box_source, predict_photographs

    score = options.min_score
    if score is None:
        score = 0 if options.boxes else SHOWN_SCORE
    boxes = box_source(options.boxes, options.detector, options.detector_weights, score)
    how = options.weights, options.box_format, score, options.crowds
    run = predict_photographs(options.photographs, boxes, options.out, *how)
    for failure in run.failures:
        print(f"not done: {failure}", file=sys.stderr)
    if run.note:
        print(f"note: {run.note}", file=sys.stderr)
    print(f"{options.out}: {len(run.written)} written, {len(run.skipped)} there already, {len(run.failures)} not done")
    return 1 if run.failures else 0


@verb(
    option("--weights", default="nano", help="name or checkpoint (default: nano)"),
    option("--out", type=Path, required=True, metavar="DIR"),
)
def _export_onnx(options: argparse.Namespace) -> int:
    """write encoder and decoder as ONNX files"""
    from sameo_core.model import Sameo
    from sameo_core.model.onnx import export_onnx

    print(*export_onnx(Sameo.load(options.weights), options.out), sep="\n")
    return 0


ALL = "recipes (all: every one that the notebooks use, or with --shard and --shards every N-th of them):"


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code: 1: not all could be done, 2: bad input (one line), 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sameo_core", description="SAMEO in the open")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    recipes = "\n".join([ALL, *(f"  {name:<21} {entry.sentence}" for name, entry in RECIPES.items())])
    for name, (run, given) in VERBS.items():
        one = verbs.add_parser(name, help=run.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        one.epilog = recipes if name == "train" else None
        for flags, settings in given:
            one.add_argument(*flags, **settings)
    options = parser.parse_args(arguments)
    try:
        return VERBS[options.verb][0](options)
    except InputError as error:
        print(f"sameo_core: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print("\ninterrupted; run this again to go on from here", *interrupt.args, sep="\n", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
