"""Means over seeds with intervals; gains and differences between arms and methods; calibration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from sameo_core.evaluation import Evaluation
from sameo_core.reporting.style import Row, require


def mean_interval(values: Sequence[float | int] | np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t: (mean, low, high); NaN for the interval of one value.

    Raises:
        InputError: no values.
    """
    values = np.asarray(values, float).ravel()
    require(values.size, "values", "a mean needs at least one value, found none", "Give one value per seed")
    mean = float(values.mean())
    if values.size == 1:
        return mean, math.nan, math.nan
    half = float(stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / math.sqrt(values.size))
    return mean, mean - half, mean + half


def interval(row: Row) -> tuple[float, float]:
    """The ends of a difference's 95 % interval; for one seed, the difference itself, twice."""
    return (row["ci_low"], row["ci_high"]) if row["seeds"] > 1 else (row["difference"], row["difference"])


def gains(rows: Sequence[Row], before: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """The gain of fine-tuning per data set, prompt and metric: mean over seeds and 95 % interval.

    Args:
        rows: one per data set, model, prompt and seed: `data set`, `model`, `prompt`, `seed`, and the metrics. The
            model `before` has one row per prompt; every other row is a seed of the fine-tuned model.

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
    """The differences of an ablation's arms from a baseline, per data set, arm and metric; paired by seed.

    Args:
        rows: one per data set, arm and seed: `data set`, `arm`, `seed`, and the metrics.
        baseline: an arm.

    Returns:
        `data set`, `arm`, `metric`, `baseline` and `mean` (over seeds), `difference`, its 95 % interval `ci_low`,
        `ci_high` (Student's t), and `seeds`.

    Raises:
        InputError: an arm with other seeds than the baseline; no other arm.
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
    """The differences of one method from others, per data set and metric: mean over seeds and 95 % interval.

    Differences are paired by seed; a method without seeds (nothing was trained) is the same for every seed.

    Args:
        rows: one per data set, front-end, method and seed ("" if nothing was trained): `data set`, `front-end`,
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
    """Per metric: means before and after and of the difference (called `names`), its interval, the number of pairs."""
    for metric in metrics:
        before, after = np.array([(old[metric], new[metric]) for old, new in pairs], float).T
        mean, low, high = mean_interval(after - before)
        means = dict(zip(names, (float(before.mean()), float(after.mean()), mean), strict=True))
        yield {"metric": metric, **means, "ci_low": low, "ci_high": high, "seeds": len(pairs)}


@dataclass(frozen=True)
class Calibration:
    """How reliable a predicted IoU is: bins of equal width over 0..1, by the prediction."""

    edges: Float[np.ndarray, " edges"]
    count: Int[np.ndarray, " bins"]
    predicted: Float[np.ndarray, " bins"]  # mean prediction in the bin; NaN if it is empty
    true: Float[np.ndarray, " bins"]  # mean true IoU in the bin; NaN if it is empty
    error: float  # expected calibration error: |mean predicted - mean true| per bin, weighted by its count
    bias: float  # mean predicted - mean true: above 0 the model is over-confident
    correlation: float  # Pearson's, of all pairs; NaN if one of the two is constant


def calibration(
    predicted: Sequence[float | int] | np.ndarray, true: Sequence[float | int] | np.ndarray, bins: int = 10
) -> Calibration:
    """Predicted against true IoU, one pair per mask.

    Args:
        predicted, true: n numbers each, true ones in 0..1. A prediction outside counts in the first or last bin.
        bins: their number; each includes its lower edge, the last one 1 too.

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
    """One value per seed, their mean and its 95 % interval (Student's t)."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float


def over_seeds(rows: Sequence[Row], place: str, column: str) -> dict[str, dict[Any, OverSeeds]]:
    """model -> place -> a column over the seeds, in row order, without None and NaN.

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
        require(key not in seen, "rows", rule, "Keep one", f"row {i}")
        seen.add(key)
        values = found.setdefault(row["model"], {}).setdefault(row[place], [])
        if row[column] is not None and not math.isnan(row[column]):
            values.append(float(row[column]))
    return {
        model: {at: OverSeeds(tuple(values), *mean_interval(values)) for at, values in places.items() if values}
        for model, places in found.items()
    }


Judged = Mapping[tuple[str, ...], Evaluation]  # (data set, front-end, method), and the seed if something was trained


def score_rows(judged: Judged) -> list[dict[str, object]]:
    """One row per evaluation: labels, `seed` ("" if nothing was trained), class-agnostic AP and AR, and two more AP.

    "AP occluded" and "AP un-occluded" count objects with and without a hidden part.
    """
    rows = []
    for (place, front_end, method, *seed), found in judged.items():
        labels: dict[str, object] = {"data set": place, "front-end": front_end, "method": method, "seed": "".join(seed)}
        parts = {f"AP {part}": found.class_agnostic[part]["AP"] for part in ("occluded", "un-occluded")}
        rows.append(labels | found.class_agnostic["all"] | parts)
    return rows
