"""Numbers over seeds: means with intervals, gains, differences of arms and methods; rows and curves; calibration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from sameo_core.evaluation import IOU_THRESHOLDS, Evaluation
from sameo_core.reporting.style import Row, require

ADD = "Add what is missing"


def mean_interval(values: Sequence[float | int] | np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t: (mean, low, high); a single value has no interval: NaN.

    Raises:
        InputError: no values.
    """
    values = np.asarray(values, float).ravel()
    require(values.size, "values", "a mean needs at least one value, found none", "Give one value a seed")
    mean = float(values.mean())
    if values.size == 1:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return mean, mean - half, mean + half


def interval(row: Row) -> tuple[float, float]:
    """The ends of a difference's 95 % interval; with one seed, which has none, the difference itself, twice."""
    return (row["ci_low"], row["ci_high"]) if row["seeds"] > 1 else (row["difference"], row["difference"])


def gains(rows: Sequence[Row], before: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What fine-tuning changes: a row a data set, prompt and metric: the mean gain over seeds, its 95 % interval.

    Args:
        rows: one a data set, model, prompt and seed: `data set`, `model`, `prompt`, `seed`, and the metrics. The model
            called `before` has one row a prompt, any other is taken as a seed of "after".

    Raises:
        InputError: a prompt without the model `before`, or without another.
    """
    found = []
    for place, prompt in dict.fromkeys((row["data set"], row["prompt"]) for row in rows):
        here = [row for row in rows if (row["data set"], row["prompt"]) == (place, prompt)]
        old = [row for row in here if row["model"] == before]
        new = [row for row in here if row["model"] != before]
        rule = f"one row of {before!r} and one a seed, found {len(old)} and {len(new)}"
        require(len(old) == 1 and new, "rows", rule, "Evaluate both with the same prompts", f"{place}, {prompt}")
        for metric in metrics:
            mean, low, high = mean_interval([row[metric] - old[0][metric] for row in new])
            after = float(np.mean([row[metric] for row in new]))
            values = {"before": old[0][metric], "after": after, "gain": mean, "ci_low": low, "ci_high": high}
            found.append({"data set": place, "prompt": prompt, "metric": metric, **values, "seeds": len(new)})
    return found


def arm_differences(rows: Sequence[Row], baseline: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What an ablation's arms change: a row a data set, arm and metric; differences are paired by seed.

    Args:
        rows: one a data set, arm and seed: `data set`, `arm`, `seed`, and the metrics.
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
            for metric in metrics:
                pairs = [(by_seed[baseline, seed][metric], by_seed[arm, seed][metric]) for seed in ours]
                before, after = np.mean(pairs, axis=0).tolist()
                mean, low, high = mean_interval([new - old for old, new in pairs])
                values = {"baseline": before, "mean": after, "difference": mean, "ci_low": low, "ci_high": high}
                found.append({"data set": place, "arm": arm, "metric": metric, **values, "seeds": len(pairs)})
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
        rows: one a data set, front-end, method and seed ("" where nothing was trained): `data set`, `front-end`,
            `method`, `seed`, and the metrics.
        ours: (front-end, method).
        others: name -> (front-end, method).

    Returns:
        `data set`, `front-end` and `method` (ours), `baseline` (name), `metric`, `other` and `mean` (over seeds),
        `difference`, `ci_low`, `ci_high` (Student's t), `seeds`.

    Raises:
        InputError: rows without a column or a number; a method without rows, or with other seeds than ours.
    """
    found, keys = [], ("data set", "front-end", "method", "seed", *metrics)
    for i, row in enumerate(rows):
        missing = ", ".join(key for key in keys if key not in row)
        require(not missing, "rows", f"rows with {', '.join(keys)}, this one is without {missing}", ADD, f"row {i}")
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
            for metric in metrics:
                pairs = [(theirs[seed if seed in theirs else ""], row) for seed, row in mine.items()]
                for row in (row for pair in pairs for row in pair):
                    rule = f"{metric} is a number, found {row[metric]!r}"
                    require(isinstance(row[metric], Real), "rows", rule, "Evaluate it again", str(place))
                before, after = np.mean([(old[metric], new[metric]) for old, new in pairs], axis=0).tolist()
                mean, low, high = mean_interval([new[metric] - old[metric] for old, new in pairs])
                values = {"other": before, "mean": after, "difference": mean, "ci_low": low, "ci_high": high}
                labels = {"data set": place, "front-end": ours[0], "method": ours[1], "baseline": name}
                found.append(labels | {"metric": metric} | values | {"seeds": len(pairs)})
    return found


@dataclass(frozen=True)
class Calibration:
    """How far a predicted IoU can be trusted: bins of equal width over 0..1, by the prediction."""

    edges: Float[np.ndarray, " edges"]
    count: Int[np.ndarray, " bins"]
    predicted: Float[np.ndarray, " bins"]  # mean prediction in the bin; NaN where the bin is empty
    true: Float[np.ndarray, " bins"]  # mean true IoU in the bin; NaN where the bin is empty
    error: float  # expected calibration error: |mean predicted - mean true| of a bin, weighted with its count
    bias: float  # mean predicted - mean true: above 0 the model thinks too well of its masks
    correlation: float  # Pearson's, of all pairs; NaN where one of the two never changes


def calibration(
    predicted: Sequence[float | int] | np.ndarray, true: Sequence[float | int] | np.ndarray, bins: int = 10
) -> Calibration:
    """Predicted against true IoU, one pair a mask.

    Args:
        predicted, true: n numbers each. True ones in 0..1; a prediction outside falls into the first or the last bin.
        bins: their number; each holds its lower edge, the last one 1 too.

    Raises:
        InputError: no pairs, not as many of one as of the other, a true IoU outside 0..1, a prediction that is NaN.

    Source: expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), the
        confidence being the predicted IoU, the accuracy the true one.
    """
    predicted, true = np.asarray(predicted, float).ravel(), np.asarray(true, float).ravel()
    rule = f"as many predicted as true IoUs, at least one, found {predicted.size} and {true.size}"
    require(predicted.size and predicted.size == true.size, "predicted, true", rule, "Give one of each a mask")
    fine = np.isfinite(predicted).all() and ((true >= 0) & (true <= 1)).all()
    require(fine, "predicted, true", "predictions that are finite, true IoUs in 0..1", "Leave out masks without truth")
    require(bins > 0, "bins", f"at least one bin, found {bins}", "Give 10")
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
    """One number of a model at one place: a value a seed, their mean and its 95 % interval (Student's t)."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float


def over_seeds(rows: Sequence[Row], place: str, column: str) -> dict[str, dict[Any, OverSeeds]]:
    """model -> place -> a column over the seeds, in the order of the rows; None and NaN are left out.

    Args:
        rows: one a model, place and seed: `model`, `seed`, the place (e.g. `bucket`, `noise`) and the column.

    Raises:
        InputError: no rows, one without model, place, column or a number, or the same model, place and seed twice.
    """
    require(len(rows), "rows", "at least one row, found none", "Give one row a model, seed and " + place)
    seen: set[tuple] = set()
    found: dict[str, dict[Any, list[float]]] = {}
    for i, row in enumerate(rows):
        missing = sorted({"model", place, column} - row.keys())
        rule = f"rows with model, {place} and {column}, this one is without {', '.join(missing)}"
        require(not missing, "rows", rule, ADD, f"row {i}")
        rule = f"{column} is a number or None, found {row[column]!r}"
        require(row[column] is None or isinstance(row[column], Real), "rows", rule, "Evaluate it again", f"row {i}")
        key = row["model"], row[place], row.get("seed")
        require(
            key not in seen, "rows", f"one row a model, {place} and seed, found {key} twice", "Leave one", f"row {i}"
        )
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
    """A row each: its labels and `seed` ("" where nothing was trained), class-agnostic AP, AR, and AP by visibility.

    "AP occluded" and "AP un-occluded" count objects with and without a hidden part.
    """
    rows = []
    for (place, front_end, method, *seed), found in judged.items():
        labels: dict[str, object] = {"data set": place, "front-end": front_end, "method": method, "seed": "".join(seed)}
        parts = {f"AP {part}": found.class_agnostic[part]["AP"] for part in ("occluded", "un-occluded")}
        rows.append(labels | found.class_agnostic["all"] | parts)
    return rows


def bucket_rows(judged: Judged, place: str, names: Names) -> list[dict[str, object]]:
    """A row a named method, seed and occlusion bucket of a data set, as `figure_buckets` wants them.

    Buckets in which the data set has no object are left out.
    """
    return [
        {"model": names[front_end, method], "seed": "".join(seed), "bucket": bucket, **found.class_agnostic[bucket]}
        for (where, front_end, method, *seed), found in judged.items()
        if where == place and (front_end, method) in names
        for bucket in found.class_agnostic
        if bucket.endswith("%") and found.objects[bucket]
    ]


def detection_curves(
    judged: Judged, place: str, names: Names, thresholds: tuple[float, ...] = (0.5, 0.75)
) -> dict[str, dict[float, np.ndarray]]:
    """Name -> IoU threshold -> precision at 101 recalls, of each method's first seed on a data set.

    Raises:
        InputError: a named method without a result on this data set.
    """
    rows = [int(np.argmin(np.abs(np.asarray(IOU_THRESHOLDS) - threshold))) for threshold in thresholds]
    curves = {}
    for (front_end, method), name in names.items():
        found = [one for key, one in judged.items() if key[:3] == (place, front_end, method)]
        require(found, "judged", f"a result of {name}, found none", "Evaluate it", place)
        curves[name] = {threshold: found[0].curves["all"][row] for threshold, row in zip(thresholds, rows, strict=True)}
    return curves
