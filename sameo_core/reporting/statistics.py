"""Numbers over seeds: means with intervals, gains, differences of arms and methods; rows and curves; calibration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from sameo_core.evaluation import IOU_THRESHOLDS, Evaluation
from sameo_core.reporting.style import Row, require


def mean_interval(values: Sequence[float | int] | np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t: (mean, low, high); a single value has no interval: NaN.

    Raises:
        InputError: no values.
    """
    values = np.asarray(values, float).ravel()
    require(values.size, "values", "a mean needs at least one value, found none", "Give one value per seed")
    mean = float(values.mean())
    if values.size == 1:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return mean, mean - half, mean + half


def interval(row: Row) -> tuple[float, float]:
    """The ends of a difference's 95 % interval; with one seed, which has none, the difference itself, twice."""
    return (row["ci_low"], row["ci_high"]) if row["seeds"] > 1 else (row["difference"], row["difference"])


def gains(rows: Sequence[Row], before: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What fine-tuning changes: one row per data set, prompt and metric: mean gain over seeds, 95 % interval.

    Args:
        rows: one per data set, model, prompt and seed: `data set`, `model`, `prompt`, `seed`, and the metrics. The
            model called `before` has one row per prompt; each other row is a seed of "after".

    Raises:
        InputError: a prompt without the model `before`, or without another.
    """
    found = []
    for place, prompt in dict.fromkeys((row["data set"], row["prompt"]) for row in rows):
        here = [row for row in rows if (row["data set"], row["prompt"]) == (place, prompt)]
        old = [row for row in here if row["model"] == before]
        new = [row for row in here if row["model"] != before]
        rule = f"one row of {before!r} and one per seed, found {len(old)} and {len(new)}"
        require(len(old) == 1 and new, "rows", rule, "Evaluate both with the same prompts", f"{place}, {prompt}")
        labels = {"data set": place, "prompt": prompt}
        for change in _changes([(old[0], row) for row in new], metrics, ("before", "after", "gain")):
            found.append(labels | change)
    return found


def arm_differences(rows: Sequence[Row], baseline: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What an ablation's arms change: one row per data set, arm and metric; differences are paired by seed.

    Args:
        rows: one per data set, arm and seed: `data set`, `arm`, `seed`, and the metrics.
        baseline: the arm that the others are compared with.

    Returns:
        `data set`, `arm`, `metric`, `baseline` and `mean` (over seeds), `difference`, its 95 % interval `ci_low`,
        `ci_high` (Student's t), and `seeds`.

    Raises:
        InputError: an arm whose seeds are not the baseline's, or no other arm.
    """
    found = []
    arms = [arm for arm in dict.fromkeys(row["arm"] for row in rows) if arm != baseline]
    require(arms, "rows", f"{baseline!r} and another arm, found no other", "Evaluate the arms")
    for place in dict.fromkeys(row["data set"] for row in rows):
        by_seed = {(row["arm"], row["seed"]): row for row in rows if row["data set"] == place}
        for arm in arms:
            ours, theirs = ([s for a, s in by_seed if a == name] for name in (arm, baseline))
            rule = f"the same seeds as {baseline!r}, found {ours} and {theirs}"
            require(ours and sorted(ours) == sorted(theirs), "rows", rule, "Train all arms with the same seeds", arm)
            pairs = [(by_seed[baseline, seed], by_seed[arm, seed]) for seed in ours]
            for change in _changes(pairs, metrics, ("baseline", "mean", "difference")):
                found.append({"data set": place, "arm": arm} | change)
    return found


def method_differences(
    rows: Sequence[Row],
    ours: tuple[str, str],
    others: Mapping[str, tuple[str, str]],
    metrics: Sequence[str],
) -> list[dict[str, object]]:
    """How much better one method is than others, on each data set: mean over seeds and 95 % interval.

    Where both have the same seeds, differences are paired by seed; where the other has none (nothing in it was
    trained), it is the same for every seed.

    Args:
        rows: one per data set, front-end, method and seed ("" where nothing was trained): `data set`, `front-end`,
            `method`, `seed`, and the metrics.
        ours: (front-end, method).
        others: name -> (front-end, method).

    Returns:
        `data set`, `front-end` and `method` (ours), `baseline` (name), `metric`, `other` and `mean` (over seeds),
        `difference`, `ci_low`, `ci_high` (Student's t), `seeds`.

    Raises:
        InputError: a method without rows, or with other seeds than ours.
    """
    found = []
    for place in dict.fromkeys(row["data set"] for row in rows):
        by_method: dict[tuple[str, str], dict[object, Row]] = {}
        for row in rows:
            if row["data set"] == place:
                by_method.setdefault((row["front-end"], row["method"]), {})[row["seed"]] = row
        mine = by_method.get(ours, {})
        require(mine, "rows", f"rows of {ours}, found none", "Evaluate it", str(place))
        for name, key in others.items():
            theirs = by_method.get(key, {})
            rule = f"the seeds {list(mine)} or one row without a seed, found {list(theirs)}"
            require(theirs.keys() in (mine.keys(), {""}), "rows", rule, "Train both with the same seeds", str(key))
            pairs = [(theirs[seed if seed in theirs else ""], row) for seed, row in mine.items()]
            labels = {"data set": place, "front-end": ours[0], "method": ours[1], "baseline": name}
            found += [labels | change for change in _changes(pairs, metrics, ("other", "mean", "difference"))]
    return found


def _changes(
    pairs: Sequence[tuple[Row, Row]], metrics: Sequence[str], names: tuple[str, str, str]
) -> Iterator[dict[str, object]]:
    """Per metric: means before and after and of their difference, called `names`, its interval, the number of pairs."""
    for metric in metrics:
        before, after = np.array([(old[metric], new[metric]) for old, new in pairs], float).T
        mean, low, high = mean_interval(after - before)
        means = dict(zip(names, (float(before.mean()), float(after.mean()), mean), strict=True))
        yield {"metric": metric, **means, "ci_low": low, "ci_high": high, "seeds": len(pairs)}


@dataclass(frozen=True)
class Calibration:
    """How far a predicted IoU can be trusted: bins of equal width over 0..1, by the prediction."""

    edges: Float[np.ndarray, " edges"]
    count: Int[np.ndarray, " bins"]
    predicted: Float[np.ndarray, " bins"]  # mean prediction in the bin; NaN where the bin is empty
    true: Float[np.ndarray, " bins"]  # mean true IoU in the bin; NaN where the bin is empty
    error: float  # expected calibration error: |mean predicted - mean true| per bin, weighted with its count
    bias: float  # mean predicted - mean true: above 0 the model thinks too well of its masks
    correlation: float  # Pearson's, of all pairs; NaN where one of the two never changes


def calibration(
    predicted: Sequence[float | int] | np.ndarray, true: Sequence[float | int] | np.ndarray, bins: int = 10
) -> Calibration:
    """Predicted against true IoU, one pair per mask.

    Args:
        predicted, true: n numbers each. True ones in 0..1; a prediction outside falls into the first or the last bin.
        bins: their number; each holds its lower edge, the last one 1 too.

    Source: expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), the
        confidence being the predicted IoU, the accuracy the true one.
    """
    predicted, true = np.asarray(predicted, float).ravel(), np.asarray(true, float).ravel()
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    means = [
        np.divide(np.bincount(place, values, bins), count, where=count > 0, out=np.full(bins, math.nan))
        for values in (predicted, true)
    ]
    gaps = np.abs(means[0] - means[1])[count > 0]
    varies = min(predicted.std(), true.std()) > 1e-12
    return Calibration(
        edges=edges,
        count=count,
        predicted=means[0],
        true=means[1],
        error=float(gaps @ count[count > 0] / predicted.size),
        bias=float(predicted.mean() - true.mean()),
        correlation=float(np.corrcoef(predicted, true)[0, 1]) if varies else math.nan,
    )


class OverSeeds(NamedTuple):
    """One number of a model at one place: one value per seed, their mean and its 95 % interval (Student's t)."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float


def over_seeds(rows: Sequence[Row], place: str, column: str) -> dict[str, dict[Any, OverSeeds]]:
    """model -> place -> a column over the seeds, in the order of the rows; None and NaN are left out.

    Args:
        rows: one per model, place and seed: `model`, `seed`, the place (e.g. `bucket`, `noise`) and the column.

    Raises:
        InputError: the same model, place and seed twice.
    """
    seen: set[tuple] = set()
    found: dict[str, dict[Any, list[float]]] = {}
    for i, row in enumerate(rows):
        key = row["model"], row[place], row.get("seed")
        rule = f"one row per model, {place} and seed, found {key} twice"
        require(key not in seen, "rows", rule, "Leave one", f"row {i}")
        seen.add(key)
        values = found.setdefault(row["model"], {}).setdefault(row[place], [])
        if row[column] is not None and not math.isnan(row[column]):
            values.append(float(row[column]))
    return {
        model: {at: OverSeeds(tuple(values), *mean_interval(values)) for at, values in places.items() if values}
        for model, places in found.items()
    }


Judged = Mapping[tuple[str, ...], Evaluation]  # (data set, front-end, method), and the seed where something was trained
Names = Mapping[tuple[str, str], str]  # (front-end, method) -> what to call it


def score_rows(judged: Judged) -> list[dict[str, object]]:
    """One row each: its labels and `seed` ("" where nothing was trained), class-agnostic AP, AR, and AP by visibility.

    "AP occluded" and "AP un-occluded" count objects with and without a hidden part.
    """
    rows = []
    for (place, front_end, method, *seed), found in judged.items():
        labels: dict[str, object] = {"data set": place, "front-end": front_end, "method": method, "seed": "".join(seed)}
        parts = {f"AP {part}": found.class_agnostic[part]["AP"] for part in ("occluded", "un-occluded")}
        rows.append(labels | found.class_agnostic["all"] | parts)
    return rows


def bucket_rows(judged: Judged, place: str, names: Names) -> list[dict[str, object]]:
    """One row per named method, seed and occlusion bucket of a data set, as `figure_buckets` wants them.

    Buckets in which the data set has no object are left out.
    """
    return [
        {"model": names[front_end, method], "seed": "".join(seed), "bucket": bucket, **found.class_agnostic[bucket]}
        for (where, front_end, method, *seed), found in judged.items()
        if where == place and (front_end, method) in names
        for bucket in found.class_agnostic
        if bucket.endswith("%") and found.objects[bucket]
    ]


def detection_curves(judged: Judged, place: str, names: Names) -> dict[str, dict[float, np.ndarray]]:
    """Name -> IoU threshold 0.5, 0.75 -> precision at 101 recalls, of each method's first seed on a data set."""
    curves = {}
    for (front_end, method), name in names.items():
        found = next(one for key, one in judged.items() if key[:3] == (place, front_end, method))
        thresholds = {round(threshold, 2): row for row, threshold in enumerate(IOU_THRESHOLDS)}
        curves[name] = {threshold: found.curves["all"][thresholds[threshold]] for threshold in (0.5, 0.75)}
    return curves
