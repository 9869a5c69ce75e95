"""Means over seeds with intervals; gains and differences between arms and methods; calibration.

Tables of gains and differences have a row per metric: the means of both sides over seeds, the mean of their difference,
its 95 % interval `ci_low`, `ci_high` (Student's t; NaN for one seed), and `seeds`, how many. Differences are paired by
seed; a model without a seed (nothing was trained) is the same for every seed of the other.
"""

import math
from collections.abc import Mapping, Sequence
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


def grouped(rows: Sequence[Row], *columns: str) -> dict[tuple, list[Row]]:
    """The rows by their values in some columns, in the order of first appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups


def gains(rows: Sequence[Row], before: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """The gain of fine-tuning per data set and prompt: columns `before`, `after`, `gain`.

    Args:
        rows: one per `data set`, `prompt`, `model` and `seed`. The model `before` has no seed; every other row is a
            seed of the fine-tuned model.

    Raises:
        InputError: a prompt without the model `before`, or without another.
    """
    found = []
    for (place, prompt), here in grouped(rows, "data set", "prompt").items():
        old = [row for row in here if row["model"] == before]
        new = [row for row in here if row["model"] != before]
        labels = {"data set": place, "prompt": prompt}
        found += _changes(labels, old, new, metrics, ("before", "after", "gain"))
    return found


def arm_differences(rows: Sequence[Row], baseline: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """The differences of an ablation's other arms from one: columns `baseline`, `mean`, `difference`.

    Args:
        rows: one per `data set`, `arm` and `seed`.
        baseline: an arm.

    Raises:
        InputError: an arm with other seeds than the baseline.
    """
    found = []
    for (place,), here in grouped(rows, "data set").items():
        arms = grouped(here, "arm")
        before = arms.pop((baseline,), [])
        for (arm,), after in arms.items():
            labels = {"data set": place, "arm": arm}
            found += _changes(labels, before, after, metrics, ("baseline", "mean", "difference"))
    return found


def method_differences(
    rows: Sequence[Row],
    ours: tuple[str, str],
    others: Mapping[str, tuple[str, str]],
    metrics: Sequence[str],
) -> list[dict[str, object]]:
    """The differences of one method from others, by name in `baseline`: columns `other`, `mean`, `difference`.

    Args:
        rows: one per `data set`, `front-end`, `method` and `seed` ("" if nothing was trained).
        ours: (front-end, method).
        others: name -> (front-end, method).

    Raises:
        InputError: a method without rows, or with other seeds than ours.
    """
    found = []
    for (place,), here in grouped(rows, "data set").items():
        methods = grouped(here, "front-end", "method")
        for name, key in others.items():
            labels = {"data set": place, "front-end": ours[0], "method": ours[1], "baseline": name}
            before, after = methods.get(key, []), methods.get(ours, [])
            found += _changes(labels, before, after, metrics, ("other", "mean", "difference"))
    return found


def _changes(
    labels: dict[str, Any],
    before: Sequence[Row],
    after: Sequence[Row],
    metrics: Sequence[str],
    names: tuple[str, str, str],
) -> list[dict[str, object]]:
    """A row per metric; `names`: of the columns for both means and the difference."""
    known = {row["seed"]: row for row in before}
    seeds = [row["seed"] for row in after]
    untrained = known.keys() in ({""}, {None})
    rule = f"rows of two sides with the same seeds (or none), found {list(known)} and {seeds}"
    same = seeds and (untrained or known.keys() == set(seeds))
    require(same, "rows", rule, "Evaluate both, trained with the same seeds", ", ".join(map(str, labels.values())))
    pairs = [(known.get(row["seed"], before[0]), row) for row in after]
    found = []
    for metric in metrics:
        old, new = np.array([(one[metric], other[metric]) for one, other in pairs], float).T
        mean, low, high = mean_interval(new - old)
        means = dict(zip(names, (float(old.mean()), float(new.mean()), mean), strict=True))
        found.append(labels | {"metric": metric, **means, "ci_low": low, "ci_high": high, "seeds": len(pairs)})
    return found


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
    """Predicted against true IoU, one pair per mask; a prediction outside 0..1 counts in the first or last bin.

    Source: expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), the
        confidence being the predicted IoU, the accuracy the true one.
    """
    predicted, true = np.asarray(predicted, float).ravel(), np.asarray(true, float).ravel()
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin has no mean: NaN
        means = [np.bincount(place, values, bins) / count for values in (predicted, true)]
    varies = min(predicted.std(), true.std()) > 1e-12
    return Calibration(
        edges=edges,
        count=count,
        predicted=means[0],
        true=means[1],
        error=float(np.nansum(np.abs(means[0] - means[1]) * count) / predicted.size),
        bias=float(predicted.mean() - true.mean()),
        correlation=float(np.corrcoef(predicted, true)[0, 1]) if varies else math.nan,
    )


class OverSeeds(NamedTuple):
    """One value per seed, their mean and its 95 % interval."""

    values: list[float]
    mean: float
    low: float
    high: float


def over_seeds(rows: Sequence[Row], place: str, column: str) -> dict[str, dict[Any, OverSeeds]]:
    """`model` -> place (e.g. `bucket`, `noise`) -> a column over the seeds, in row order, without None and NaN."""
    found: dict[str, dict[Any, OverSeeds]] = {}
    for (model, at), here in grouped(rows, "model", place).items():
        values = [float(row[column]) for row in here if row[column] is not None and not math.isnan(row[column])]
        places = found.setdefault(model, {})
        if values:
            places[at] = OverSeeds(values, *mean_interval(values))
    return found


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
