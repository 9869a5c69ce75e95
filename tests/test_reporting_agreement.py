"""A run's tables beside the committed ones: equal, within tolerance, or different, and where."""

import pytest

from sameo_core.config import RESULTS
from sameo_core.reporting import write_table
from sameo_core.reporting.committed import claims_agree, tables_agree

MINI = RESULTS / "mini"
NUMBERS = {"paper_effect": 0.1, "mini_effect": 0.055, "ci_low": 0.045, "ci_high": 0.065, "seeds": 3}
CLAIM = {"setting": "zero-shot", "metric": "AP"} | NUMBERS
COMMITTED = {
    "zero_shot": [{"data set": name, "seed": seed, "AP": 0.5} for name in ("kins", "cocoa") for seed in (0, 1)],
    "fine_tuning": [{"model": model, "seed": 0, "total": 0.07, "weights": "aa"} for model in ("first", "second")],
    "complete_objects": [{"rule": rule, "objects": 900, "seed": 0} for rule in ("complete", "cut off")],
    "occlusion_curve": [{"rate": rate, "IoU": 0.8, "seed": 0} for rate in (0.1, 0.2)],
    "datasets": [{"data set": name, "instances": 40, "seed": 0} for name in ("kins", "cocoa")],
    "gains": [{"metric": "mIoU", "gain": 0.058, "ci_low": 0.054, "ci_high": 0.062, "seeds": 3}],
    "claims": [{"claim": name} | CLAIM | {"verdict": "holds"} for name in "abc"],
}


@pytest.fixture
def committed(tmp_path):
    for name, rows in COMMITTED.items():
        write_table(name, rows, "mini", tmp_path / "committed")
    return tmp_path / "committed"


def agreed(folder, committed):
    """The table -> (what is said, how many numbers were compared, the farthest)."""
    return {row[0]: row[1:] for row in tables_agree(sorted(folder.glob("*.csv")), committed).cells}


@pytest.fixture
def compared(committed, tmp_path):
    """These rows beside the committed ones: what is said, how many numbers were compared, the farthest."""

    def compare(name, rows):
        write_table(name, rows, "mini", tmp_path / "ours")
        return agreed(tmp_path / "ours", committed)[name]

    return compare


def test_the_committed_tables_equal_themselves():
    found = agreed(MINI, MINI)
    assert found.keys() == {path.stem for path in MINI.glob("*.csv")}
    assert {said for said, *_ in found.values()} == {"equal"} and all(int(count) for _, count, _ in found.values())


def test_one_seed_is_compared_with_the_committed_rows_of_that_seed(compared):
    rows = [row for row in COMMITTED["zero_shot"] if row["seed"] == 0]
    assert compared("zero_shot", rows)[:2] == ("equal", "2")
    said, _, where = compared("zero_shot", rows[:-1])
    assert said == "different" and "missing" in where


@pytest.mark.parametrize(
    ("name", "column", "change", "said"),
    [
        ("zero_shot", "AP", 0.003, "within tolerance"),  # what was measured between two CPUs
        ("zero_shot", "AP", 0.03, "different"),
        ("fine_tuning", "total", -0.0016, "within tolerance"),  # the same
        ("fine_tuning", "total", 0.01, "different"),
        ("complete_objects", "objects", 20, "within tolerance"),
        ("complete_objects", "objects", 200, "different"),
        ("occlusion_curve", "IoU", 0.04, "within tolerance"),
        ("occlusion_curve", "IoU", 0.06, "different"),
        ("datasets", "instances", 1, "different"),  # drawn, not trained
    ],
)
def test_what_another_cpu_may_change(name, column, change, said, compared):
    first, second, *others = COMMITTED[name]
    found, _, where = compared(name, [first, second | {column: second[column] + change}, *others])
    assert found == said and column in where


def test_other_weights_are_seen_where_all_numbers_are_equal(compared):
    said, count, where = compared("fine_tuning", [row | {"weights": "bb"} for row in COMMITTED["fine_tuning"]])
    assert (said, count) == ("within tolerance", "4") and "aa -> bb" in where


@pytest.mark.parametrize(("gain", "said"), [(0.065, "within tolerance"), (0.1, "different")])
def test_a_single_seed_lies_near_the_mean_of_three(gain, said, compared):
    (row,) = COMMITTED["gains"]
    one = row | {"gain": gain, "ci_low": float("nan"), "ci_high": float("nan"), "seeds": 1}
    assert compared("gains", [one])[0] == said


def test_verdicts_side_by_side(committed, compared, tmp_path):
    alone = {"mini_effect": 0.05, "ci_low": None, "ci_high": None, "seeds": 1, "verdict": "one seed: for it"}
    absent = {"mini_effect": None, "ci_low": None, "ci_high": None, "seeds": 0, "verdict": "undecided"}
    first, second, third = COMMITTED["claims"]
    assert compared("claims", [first | alone, second | absent, third])[0] == "within tolerance"  # of what was tried
    one, other, same = claims_agree(tmp_path / "ours/claims.csv", committed / "claims.csv").cells
    assert one[3:] == ("+5.5 (+4.5 to +6.5)", "holds", "+5.0", "one seed: for it")
    assert other[5] == "not tried" and same[3:5] == same[5:]
