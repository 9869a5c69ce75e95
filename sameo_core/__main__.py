"""The command line: each verb is a few words about its options and one call of a function elsewhere."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from sameo_core.config import PROFILES
from sameo_core.errors import InputError


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"1 or above, found {number}")
    return number


def add_profile(verb: argparse.ArgumentParser) -> None:
    """``--profile``."""
    about = "mini: drawn, minutes; photo: photographs of COCO, an hour; paper: all data sets, GPUs (default: mini)"
    verb.add_argument("--profile", choices=PROFILES, default="mini", help=about)


def add_reproduce(verbs: argparse._SubParsersAction) -> None:
    """``reproduce``: run the notebooks."""
    verb = verbs.add_parser("reproduce", help="run the notebooks and write the report")
    add_profile(verb)
    verb.add_argument("--notebook", nargs="+", metavar="NN", help="only these, e.g. 03 05 (default: all)")
    verb.add_argument("--seeds", type=positive, metavar="N", help="trainings of each model (default: 1; 3: intervals)")
    about = "maintainers: let its tables, outputs and README's numbers replace the committed ones"
    verb.add_argument("--update", action="store_true", help=about)
    verb.set_defaults(run=run_reproduce)


def run_reproduce(options: argparse.Namespace) -> int:
    """0: all passed, 1: one failed, 130: interrupted."""
    from sameo_core.config import ROOT
    from sameo_core.reporting import update_readme
    from sameo_core.reproduction import find_notebooks, parameters_of, reproduce

    if options.update and (options.seeds or 1) < 2:
        trained = [path for path in find_notebooks(only=options.notebook) if "seeds" in parameters_of(path)]
        if options.profile == "mini" and trained:
            raise InputError(file="--update", rule="committed tables have intervals", remedy="Give --seeds 3")
    runs = reproduce(options.profile, options.notebook, seeds=options.seeds, update=options.update)
    statuses = {run.status for run in runs}
    if options.update and statuses == {"passed"}:
        update_readme(ROOT / "README.md")
    return 0 if statuses == {"passed"} else 130 if "interrupted" in statuses else 1


def add_pretrain(verbs: argparse._SubParsersAction) -> None:
    """``pretrain``: make the nano weights anew."""
    verb = verbs.add_parser("pretrain", help="pre-train EfficientSAM-nano on the drawn world (notebook A1)")
    verb.add_argument("--out", type=Path, required=True, help="run folder; an interrupted run there goes on")
    verb.add_argument("--steps", type=positive, help="default: as the shipped weights")
    verb.add_argument("--threads", type=positive, help="of torch; the last digits depend on it")
    verb.set_defaults(run=run_pretrain)


def run_pretrain(options: argparse.Namespace) -> int:
    """0: done."""
    import torch

    from sameo_core.miniature.pretraining import PretrainingConfig, pretrain

    if options.threads:
        torch.set_num_threads(options.threads)
    config = PretrainingConfig()
    print(pretrain(replace(config, steps=options.steps) if options.steps else config, options.out))
    return 0


def add_pretrain_detector(verbs: argparse._SubParsersAction) -> None:
    """``pretrain-detector``: make the detector of `mini` anew."""
    verb = verbs.add_parser("pretrain-detector", help="train the nano detector on the drawn world")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="an interrupted run there goes on")
    verb.add_argument("--steps", type=positive, help="default: as the shipped weights")
    verb.add_argument("--threads", type=positive, help="of torch; the last digits depend on it")
    verb.set_defaults(run=run_pretrain_detector)


def run_pretrain_detector(options: argparse.Namespace) -> int:
    """0: done, 130: interrupted (the next run goes on from there)."""
    import torch

    from sameo_core.miniature.nano_detector import DetectorConfig, pretrain_detector

    if options.threads:
        torch.set_num_threads(options.threads)
    config = DetectorConfig()
    try:
        print(pretrain_detector(replace(config, steps=options.steps) if options.steps else config, options.out))
    except KeyboardInterrupt:
        print("\ninterrupted; run this again to go on from here", file=sys.stderr)
        return 130
    return 0


def add_download(verbs: argparse._SubParsersAction) -> None:
    """``download``: fetch a data set or checkpoint."""
    verb = verbs.add_parser("download", help="fetch a data set or checkpoint, or say how to fetch it by hand")
    verb.add_argument("name", metavar="NAME", help="as in data/sources.yaml, e.g. lvis, coco2014, efficient_sam")
    verb.add_argument("--root", metavar="DIR", help="folder of the sets' folders (default: data/raw)")
    verb.add_argument("--from", dest="local", metavar="DIR", help="of coco_photos, cocoa_photos: files that are here")
    verb.set_defaults(run=run_download)


def run_download(options: argparse.Namespace) -> int:
    """0: complete, 1: something must be fetched by hand, 130: interrupted (the next run goes on from there)."""
    from sameo_core.datasets.downloads import download

    try:
        return 1 if download(options.name, options.root, local=options.local) else 0
    except KeyboardInterrupt:
        print("\ninterrupted; run this again to go on from here", file=sys.stderr)
        return 130


def add_datasets(verbs: argparse._SubParsersAction) -> None:
    """``datasets``: what is here."""
    verb = verbs.add_parser("datasets", help="list the data sets: present or not, counts found and published, licence")
    add_profile(verb)
    verb.add_argument("--check", action="store_true", help="read every image, too, and name those that cannot be read")
    verb.set_defaults(run=run_datasets)


def run_datasets(options: argparse.Namespace) -> int:
    """0, whatever is here; 1: images that cannot be read, with --check."""
    from sameo_core.config import load_profile
    from sameo_core.datasets.registry import bad_images, inventory, inventory_table

    folder, bad = load_profile(options.profile).data_folder, 0
    holdings, problems = inventory(folder)
    print(inventory_table(holdings), "", "Counts: found / published (data/sources.yaml).", *problems, sep="\n")
    if options.check:
        for error in bad_images(folder):
            print(error)
            bad += 1
        print(f"{bad} images cannot be read; a training goes on without as many with --override bad_images={bad}")
    return 1 if bad else 0


def add_synthesize(verbs: argparse._SubParsersAction) -> None:
    """``synthesize``: make Amodal-LVIS."""
    verb = verbs.add_parser("synthesize", help="make Amodal-LVIS from objects that a fine-tuned SAMEO finds complete")
    add_profile(verb)
    verb.add_argument("--images", type=int, metavar="N", help="half of them un-occluded (default: the profile's)")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="an interrupted run there goes on")
    verb.add_argument("--workers", type=int, default=-1, metavar="K", help="processes here (default: one a core)")
    verb.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, e.g. tcp://host:8786; its workers do it then")
    verb.add_argument("--shard", type=int, metavar="K", help="part of the shards, from 0, e.g. $SLURM_ARRAY_TASK_ID")
    verb.add_argument("--shards", type=int, metavar="N", help="number of parts")
    verb.add_argument("--pool", type=Path, metavar="FILE", help="objects collected before; no teacher is needed then")
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=run_synthesize)


def run_synthesize(options: argparse.Namespace) -> int:
    """0: complete (or this part of it), 130: interrupted."""
    from sameo_core.config import load_profile, teacher_profile
    from sameo_core.pipeline import pool_of_profile, train
    from sameo_core.synthesis import synthesize

    profile = load_profile(options.profile)
    config = profile.synthesis
    try:
        pool = options.pool or pool_of_profile(profile, train(teacher_profile(profile)))
        synthesize(
            pool,
            options.out,
            config.synthetic_images if options.images is None else options.images,
            config=config,
            seed=options.seed,
            workers=options.workers,
            scheduler=options.scheduler,
            shard=options.shard,
            shards=options.shards,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; run this again to go on from here", file=sys.stderr)
        return 130
    return 0


def add_train(verbs: argparse._SubParsersAction) -> None:
    """``train``: fine-tune the mask decoder."""
    from sameo_core.config import RECIPES

    about = "\n".join(["recipes:", *(f"  {name:<21} {entry.sentence}" for name, entry in RECIPES.items())])
    verb = verbs.add_parser(
        "train",
        help="fine-tune the mask decoder; on several GPUs: torchrun --nproc-per-node=N -m sameo_core train ...",
        epilog=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--recipe", default="zero_shot", metavar="NAME", help="see below (default: zero_shot)")
    add_profile(verb)
    verb.add_argument("--seed", type=int, help="of batches and prompts (default: the profile's first)")
    fields = "fields of the profile, e.g. iterations=2000 batch_images=64 train=cocoa,kins"
    verb.add_argument("--override", nargs="+", default=[], metavar="FIELD=VALUE", help=fields)
    verb.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> int:
    """0: done, 130: interrupted (the next run goes on from there)."""
    from sameo_core.config import load_profile, read_overrides, recipe
    from sameo_core.pipeline import train
    from sameo_core.runs.distributed import process_group, rank

    overrides = read_overrides(options.override)
    profile = recipe(options.recipe, load_profile(options.profile, **overrides)).override(**overrides)
    seed = profile.training.seeds[0] if options.seed is None else options.seed
    try:
        with process_group():
            weights = train(profile, seed)
            if rank() == 0:
                print(weights)
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted; run this again to go on from here\n{interrupt}", file=sys.stderr)
        return 130
    return 0


def add_predict(verbs: argparse._SubParsersAction) -> None:
    """``predict``: amodal masks of one's own photographs."""
    verb = verbs.add_parser("predict", help="amodal masks of your own photographs")
    verb.add_argument("photographs", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    boxes = "[[x0, y0, x1, y1], ...] in pixels, COCO results or COCO annotations; or a folder, a JSON a photograph"
    source = verb.add_mutually_exclusive_group()
    source.add_argument("--boxes", type=Path, metavar="JSON", help=boxes)
    named = "everything (default without --boxes): SAM's automatic masks; nano; torchvision's name of one, e.g. "
    named += "maskrcnn_resnet50_fpn_v2; or the JSON that one wrote down"
    source.add_argument("--detector", metavar="NAME", help=f"what finds the boxes: {named}")
    verb.add_argument("--detector-weights", metavar="W", help="a name of torchvision's, or a checkpoint")
    verb.add_argument("--min-score", type=float, help="leave weaker boxes out (default: 0.5 without --boxes)")
    verb.add_argument("--box-format", metavar="F", help="xyxy, xywh or normalised, where the boxes are not as usual")
    verb.add_argument("--crowds", action="store_true", help="take COCO's crowd regions (iscrowd 1) as objects")
    verb.add_argument("--weights", help="name or checkpoint (default: photo)")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="for PHOTO.json and PHOTO.png")
    verb.set_defaults(run=run_predict)


def run_predict(options: argparse.Namespace) -> int:
    """0: all done, 1: some photographs could not be used, 130: interrupted (the next run goes on from there)."""
    from sameo_core.apps.predict import SHOWN_SCORE, box_source, predict_photographs

    score = options.min_score
    if score is None:
        score = 0 if options.boxes else SHOWN_SCORE
    try:
        boxes = box_source(options.boxes, options.detector, options.detector_weights, score)
        how = options.weights, options.box_format, score, options.crowds
        run = predict_photographs(options.photographs, boxes, options.out, *how)
    except KeyboardInterrupt:
        print("\ninterrupted; run this again to go on from here", file=sys.stderr)
        return 130
    for failure in run.failures:
        print(f"not done: {failure}", file=sys.stderr)
    if run.note:
        print(f"note: {run.note}", file=sys.stderr)
    print(f"{options.out}: {len(run.written)} written, {len(run.skipped)} there already, {len(run.failures)} not done")
    return 1 if run.failures else 0


def add_export_onnx(verbs: argparse._SubParsersAction) -> None:
    """``export-onnx``: the network for programs without PyTorch."""
    verb = verbs.add_parser("export-onnx", help="write encoder and decoder as ONNX files")
    verb.add_argument("--weights", default="nano", help="name or checkpoint (default: nano)")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR")
    verb.set_defaults(run=run_export_onnx)


def run_export_onnx(options: argparse.Namespace) -> int:
    """0: written."""
    from sameo_core.model import Sameo
    from sameo_core.model.onnx import export_onnx

    print(*export_onnx(Sameo.load(options.weights), options.out), sep="\n")
    return 0


VERBS = [
    add_reproduce,
    add_pretrain,
    add_pretrain_detector,
    add_download,
    add_datasets,
    add_synthesize,
    add_train,
    add_predict,
    add_export_onnx,
]


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code (2: bad input, told in one line)."""
    parser = argparse.ArgumentParser(prog="python -m sameo_core", description="SAMEO in the open")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for add in VERBS:
        add(verbs)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except InputError as error:
        print(f"sameo_core: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
