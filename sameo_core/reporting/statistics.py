"""Numbers over seeds: means with intervals, what fine-tuning gains, what the arms of an ablation change."""

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
from scipy import stats

from sameo_core.reporting.base import Row, require


def mean_interval(values: Sequence[Real] | np.ndarray) -> tuple[float, float, float]:
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


def gains(rows: Sequence[Row], before: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What fine-tuning changes: a row a prompt and metric, with the mean gain over seeds and its 95 % interval.

    Args:
        rows: one a model, prompt and seed: `model`, `prompt`, `seed`, and the metrics. The model called `before` has
            one row a prompt, any other is taken as a seed of "after".

    Raises:
        InputError: a prompt without the model `before`, or without another.
    """
    found = []
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        old = [row for row in rows if row["prompt"] == prompt and row["model"] == before]
        new = [row for row in rows if row["prompt"] == prompt and row["model"] != before]
        rule = f"one row of {before!r} and one a seed, found {len(old)} and {len(new)}"
        require(len(old) == 1 and new, "rows", rule, "Evaluate both with the same prompts", str(prompt))
        for metric in metrics:
            mean, low, high = mean_interval([row[metric] - old[0][metric] for row in new])
            after = float(np.mean([row[metric] for row in new]))
            values = {"before": old[0][metric], "after": after, "gain": mean, "ci_low": low, "ci_high": high}
            found.append({"prompt": prompt, "metric": metric, **values, "seeds": len(new)})
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
