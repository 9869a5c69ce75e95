"""Means, intervals and differences over seeds, and calibration, worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameo_core.errors import InputError
from sameo_core.reporting import arm_differences, gains, mean_interval, method_differences
from sameo_core.reporting.statistics import calibration, over_seeds


def test_mean_interval():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, standard error 1 / sqrt(3)
    assert mean == 2 and low == pytest.approx(2 - 4.302653 / 3**0.5) and high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert mean_interval(np.array([0.5, 0.5])) == (0.5, 0.5, 0.5)
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    with pytest.raises(InputError):
        mean_interval([])


def arm_rows(arm, *values, place="d2sa"):
    return [{"data set": place, "arm": arm, "seed": seed, "AP": value} for seed, value in enumerate(values)]


def test_differences_between_arms_are_paired_by_seed():
    rows = arm_rows("plain", 0.1, 0.5) + arm_rows("rich", 0.2, 0.62)[::-1]
    (row,) = arm_differences(rows, "plain", ["AP"])
    mean, low, high = mean_interval([0.1, 0.12])
    labels = {"data set": "d2sa", "arm": "rich", "metric": "AP", "baseline": 0.3, "mean": 0.41}
    assert row == pytest.approx(labels | {"difference": mean, "ci_low": low, "ci_high": high, "seeds": 2})
    with pytest.raises(InputError, match="d2sa, rich: .*found .0, 1. and .0."):
        arm_differences(rows[:2] + arm_rows("rich", 0.2), "plain", ["AP"])


# --------------------------------------------------------------------------------------------------------- calibration


def test_calibration_by_hand():
    found = calibration([0.2, 0.3, 0.6, 0.7, 0.7], [0.1, 0.2, 0.6, 0.5, 0.4], bins=2)
    assert found.edges.tolist() == [0, 0.5, 1] and found.count.tolist() == [2, 3]
    assert found.predicted == pytest.approx([0.25, 2 / 3]) and found.true == pytest.approx([0.15, 0.5])
    assert found.error == pytest.approx((2 * 0.1 + 3 * (2 / 3 - 0.5)) / 5)  # 0.14
    assert found.bias == pytest.approx(0.5 - 0.36)
    assert found.correlation == pytest.approx(0.17 / math.sqrt(0.22 * 0.172))  # sums of products of deviations


def test_a_bin_holds_its_lower_edge_and_the_last_one_its_upper():
    found = calibration([0.0, 0.5, 1.0, -0.1, 1.2], [0.0, 0.5, 1.0, 0.0, 1.0], bins=2)
    assert found.count.tolist() == [2, 3]
    empty = calibration([0.1], [0.3], bins=4)
    assert empty.count.tolist() == [1, 0, 0, 0]
    assert np.isnan(empty.true[1:]).all() and np.isnan(empty.predicted[1:]).all()
    assert empty.error == pytest.approx(0.2) and math.isnan(empty.correlation)


shares = st.floats(0, 1)


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=30), st.integers(1, 12))
def test_calibration_error_lies_between_bias_and_mean_distance(pairs, bins):
    predicted, true = np.array(pairs).T
    found = calibration(predicted, true, bins)
    assert found.count.sum() == len(pairs)
    assert abs(found.bias) - 1e-9 <= found.error <= np.abs(predicted - true).mean() + 1e-9
    assert calibration(true, true, bins).error == pytest.approx(0)


# ---------------------------------------------------------------------------------------------------------- over seeds


def seeded(model, place, *values):
    return [{"model": model, "bucket": place, "seed": seed, "AP": value} for seed, value in enumerate(values)]


def test_numbers_over_seeds():
    rows = seeded("a", "low", 0.1, 0.2, None) + seeded("a", "high", math.nan) + seeded("b", "low", 0.3)
    found = over_seeds(rows, "bucket", "AP")
    assert list(found) == ["a", "b"] and list(found["a"]) == ["low"]  # nothing is known of "high"
    assert found["a"]["low"].values == [0.1, 0.2] and found["a"]["low"][1:] == mean_interval([0.1, 0.2])
    assert found["b"]["low"].mean == 0.3 and math.isnan(found["b"]["low"].low)


def test_gains_of_each_set_and_prompt():
    rows = [
        {"data set": place, "prompt": "visible", "model": model, "seed": seed, "AP": value}
        for place, model, seed, value in [
            ("d2sa", "EfficientSAM", "", 0.5),
            ("d2sa", "SAMEO", "0", 0.6),
            ("d2sa", "SAMEO", "1", 0.7),
            ("kins", "EfficientSAM", "", 0.4),
            ("kins", "SAMEO", "0", 0.3),
        ]
    ]
    first, second = gains(rows, "EfficientSAM", ["AP"])
    mean, low, high = mean_interval([0.1, 0.2])
    numbers = {"before": 0.5, "after": 0.65, "gain": mean, "ci_low": low, "ci_high": high, "seeds": 2}
    assert first == pytest.approx({"data set": "d2sa", "prompt": "visible", "metric": "AP"} | numbers)
    assert second["gain"] == pytest.approx(-0.1) and math.isnan(second["ci_low"])
    with pytest.raises(InputError, match="kins, visible"):
        gains(rows[:4], "EfficientSAM", ["AP"])


def method_row(method, seed, value, front_end="nano", place="d2sa"):
    return {"data set": place, "front-end": front_end, "method": method, "seed": seed, "AP": value}


def test_differences_between_methods_are_paired_by_seed_where_both_have_seeds():
    rows = [method_row("SAMEO", "0", 0.6), method_row("SAMEO", "1", 0.8), method_row("own", "", 0.5)]
    rows += [method_row("own", "1", 0.7, "end to end"), method_row("own", "0", 0.3, "end to end")]
    others = {"its own": ("nano", "own"), "end to end": ("end to end", "own")}
    constant, paired = method_differences(rows, ("nano", "SAMEO"), others, ["AP"])
    for row, name, other, differences in (
        (constant, "its own", 0.5, [0.1, 0.3]),
        (paired, "end to end", 0.5, [0.3, 0.1]),
    ):
        mean, low, high = mean_interval(differences)
        labels = {"data set": "d2sa", "front-end": "nano", "method": "SAMEO", "baseline": name, "metric": "AP"}
        numbers = {"other": other, "mean": 0.7, "difference": mean, "ci_low": low, "ci_high": high, "seeds": 2}
        assert row == pytest.approx(labels | numbers)
    with pytest.raises(InputError, match="d2sa, nano, other"):
        method_differences(rows, ("nano", "other"), others, ["AP"])
    with pytest.raises(InputError, match="nano, SAMEO, end to end: .*found .'1'. and .'0', '1'."):
        method_differences(rows[:4], ("nano", "SAMEO"), others, ["AP"])
