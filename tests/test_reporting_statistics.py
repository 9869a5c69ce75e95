"""Means, intervals and differences over seeds, worked by hand."""

import math

import numpy as np
import pytest

from sameo_core.errors import InputError
from sameo_core.reporting import arm_differences, mean_interval


def test_mean_interval():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, standard error 1 / sqrt(3)
    assert mean == 2 and low == pytest.approx(2 - 4.302653 / 3**0.5) and high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert mean_interval(np.array([0.5, 0.5])) == (0.5, 0.5, 0.5)
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    with pytest.raises(InputError, match="at least one value"):
        mean_interval([])


def arm_rows(arm, *values, place="d2sa"):
    return [{"data set": place, "arm": arm, "seed": seed, "AP": value} for seed, value in enumerate(values)]


def test_differences_between_arms_are_paired_by_seed():
    rows = arm_rows("plain", 0.1, 0.5) + arm_rows("rich", 0.2, 0.62)[::-1]
    (row,) = arm_differences(rows, "plain", ["AP"])
    mean, low, high = mean_interval([0.1, 0.12])
    assert row == pytest.approx(
        {
            "data set": "d2sa",
            "arm": "rich",
            "metric": "AP",
            "baseline": 0.3,
            "mean": 0.41,
            "difference": mean,
            "ci_low": low,
            "ci_high": high,
            "seeds": 2,
        }
    )
    with pytest.raises(InputError, match="rich: the same seeds as 'plain', found .0. and .0, 1."):
        arm_differences(rows[:2] + arm_rows("rich", 0.2), "plain", ["AP"])
    with pytest.raises(InputError, match="another arm, found no other"):
        arm_differences(rows[:2], "plain", ["AP"])
