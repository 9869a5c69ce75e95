"""The effect of fine-tuning on photographs: rows for the tables of `photo`, shown by notebook A2."""

from collections.abc import Mapping, Sequence
from itertools import product

from sameo_core.config import WEIGHTS, Profile, ablation, geometry, teacher_profile
from sameo_core.datasets import AmodalDataset
from sameo_core.evaluation import OCCLUSION_BUCKETS, evaluate_amodal, evaluate_predictions
from sameo_core.front_ends import FrontEnd, ground_truth_boxes, jittered, predict_dataset, without_rescoring
from sameo_core.model import Sameo
from sameo_core.pipeline import embedding_cache, pool_of_profile, train, train_all
from sameo_core.reporting import arm_differences

UNTUNED, BEST_OF_THREE, TUNED = "un-tuned", "un-tuned, best of three", "SAMEO"
OCCLUDED = 0.05  # hidden share from which an object counts as occluded: annotated outlines are off by a few pixels
METRICS = ("mIoU occluded", "hidden mIoU", "hidden recall", "un-occluded mIoU", "un-occluded excess", "AP")

Rows = list[dict[str, object]]
Models = Mapping[tuple[str, object], Sameo]  # (method, seed; None where nothing was trained)


def untuned(run: Profile) -> dict[tuple[str, object], Sameo]:
    """The base model: its single mask, and the best of its three masks by predicted IoU."""
    base = Sameo.load(WEIGHTS / str(run.training.weights), run.training.variant, limits=run.evaluation)
    return {(UNTUNED, None): base, (BEST_OF_THREE, None): Sameo(base.model, base.variant, True, run.evaluation)}


def tuned(run: Profile) -> dict[tuple[str, object], Sameo]:
    """One SAMEO per seed, trained unless it exists; InputError as `train`."""
    weights = train_all([(run, seed) for seed in run.training.seeds])
    seeds = zip(run.training.seeds, weights, strict=True)
    return {(TUNED, seed): Sameo.load(path, limits=run.evaluation) for seed, path in seeds}


def prompts_of(run: Profile) -> dict[str, FrontEnd]:
    """Boxes of the annotated objects: visible, amodal, and visible with jitter."""
    visible, share = ground_truth_boxes("visible"), run.evaluation.box_jitter
    found = {"visible boxes": visible, "amodal boxes": ground_truth_boxes("amodal")}
    return found | {f"visible boxes, {share:.0%} error": jittered(visible, share, run.evaluation.jitter_seed)}


def pool_steps(run: Profile) -> Rows:
    """The number of objects at each step of the bootstrap: one row per step and rule.

    Geometry gives the first pool; a decoder tuned on pairs from it judges all objects, as the paper's teacher does
    (section "Amodal-LVIS"). Sets curated for whole objects are judged by geometry alone.
    """
    first = pool_of_profile(run.override(**geometry(run)), None)
    pool = pool_of_profile(run, train(teacher_profile(run), run.training.seeds[0]))
    steps = {f"{first.source[0]}, first pool: geometry": first}
    for source in pool.source.tolist():
        judge = "geometry" if source in run.synthesis.complete.whole_sets else "the teacher"
        steps[f"{source}, judged by {judge}"] = pool.of(source)
    rows: Rows = []
    for step, found in steps.items():
        counts = {"candidates": len(found)} | found.excluded() | {"complete": len(found.complete())}
        rows += [{"step": step, "rule": rule, "objects": count} for rule, count in counts.items()]
    return rows


def compare(
    run: Profile, models: Models, sets: Mapping[str, AmodalDataset], prompts: Mapping[str, FrontEnd]
) -> tuple[Rows, Rows]:
    """Every model (of one image encoder) on every test set, prompted with the objects' own boxes.

    Returns:
        A row per set, prompt, model and seed with both protocols (`evaluate_predictions`; "mIoU occluded" is over
        objects with at least `OCCLUDED` hidden), and, for the tuned models, a row per set, prompt, seed and arm: AP
        with and without IoU re-scoring.
    """
    names = {str(number): key for number, key in enumerate(models)}
    listed = dict(zip(names, models.values(), strict=True))
    some = next(iter(models.values()))
    cache = embedding_cache(run, some.model)
    buckets = {"occluded": (OCCLUDED, 1.0)} | OCCLUSION_BUCKETS
    rows: Rows = []
    scored: Rows = []
    for place, dataset in sets.items():
        for (name, prompt), results in predict_dataset(listed, dataset, prompts, cache).items():
            method, seed = names[name]
            about = {"data set": place, "prompt": prompt, "model": method, "seed": seed}
            rows.append(about | evaluate_predictions(dataset, results, buckets))
            if method == TUNED:
                arms = {"without re-scoring": without_rescoring(results), "with re-scoring": results}
                scored += [about | {"arm": arm} | evaluate_amodal(dataset, answers) for arm, answers in arms.items()]
    return rows, scored


def ablations(run: Profile, sets: Mapping[str, AmodalDataset], asked: Sequence[str]) -> tuple[Rows, Rows]:
    """The arms of some `PHOTO_QUESTIONS`, trained with every seed and compared on the test sets with visible boxes.

    Returns:
        Rows `question`, `data set`, `arm`, `seed` and metrics; and `arm_differences` against the paper's arm.

    Raises:
        InputError: an unknown question; as `pipeline.train`.
    """
    questions = {question: ablation(question, run) for question in asked}
    recipes = {arm: profile for arms in questions.values() for arm, profile in arms.items()}
    runs = [(arm, seed) for arm in recipes for seed in run.training.seeds]
    weights = dict(zip(runs, train_all([(recipes[arm], seed) for arm, seed in runs]), strict=True))
    models: Models = {(str(path), None): Sameo.load(path, limits=run.evaluation) for path in {*weights.values()}}
    measured, _ = compare(run, models, sets, {"visible boxes": ground_truth_boxes("visible")})
    by_model = {(row["data set"], row["model"]): row for row in measured}
    rows: Rows = []
    changes: Rows = []
    for question, arms in questions.items():
        here: Rows = []
        for place, (arm, seed) in product(sets, runs):
            if arm in arms:
                about = {"question": question, "data set": place, "arm": arm, "seed": seed}
                numbers = by_model[place, str(weights[arm, seed])]
                here.append(about | {k: v for k, v in numbers.items() if k not in ("model", "prompt", *about)})
        baseline = list(arms)[-1]
        rows += here
        differences = arm_differences(here, baseline, METRICS)
        changes += [{"question": question, "paper's arm": baseline} | row for row in differences]
    return rows, changes
