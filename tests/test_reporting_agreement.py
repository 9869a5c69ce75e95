"""A run's tables beside the committed ones: equal, within tolerance, or different, and where."""

import shutil

import pytest

from sameo_core.config import RESULTS
from sameo_core.reporting import claims_agree, read_table, tables_agree, write_table

MINI = RESULTS / "mini"


def agreed(folder):
    """The table -> (what is said, how many numbers were compared, the farthest)."""
    return {row[0]: row[1:] for row in tables_agree(sorted(folder.glob("*.csv")), MINI).cells}


def test_the_committed_tables_equal_themselves():
    found = agreed(MINI)
    assert found.keys() == {path.stem for path in MINI.glob("*.csv")}
    assert {said for said, *_ in found.values()} == {"equal"} and all(int(count) for _, count, _ in found.values())


def test_one_seed_is_compared_with_the_committed_rows_of_that_seed(tmp_path):
    rows = [row for row in read_table(MINI / "zero_shot.csv") if row["seed"] in (None, 0)]
    write_table("zero_shot", rows, "mini", tmp_path)
    said, count, _ = agreed(tmp_path)["zero_shot"]
    assert said == "equal" and 0 < int(count) < int(agreed(MINI)["zero_shot"][1])
    write_table("zero_shot", rows[:-1], "mini", tmp_path)
    said, _, where = agreed(tmp_path)["zero_shot"]
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
        ("datasets", "instances", 1, "different"),  # drawn, not trained
    ],
)
def test_what_another_cpu_may_change(name, column, change, said, tmp_path):
    rows = read_table(MINI / f"{name}.csv")
    rows[1] |= {column: rows[1][column] + change}
    write_table(name, rows, "mini", tmp_path)
    found, _, where = agreed(tmp_path)[name]
    assert found == said and column in where


def test_other_weights_are_seen_where_all_numbers_are_equal(tmp_path):
    committed, ours = tmp_path / "committed", tmp_path / "ours"
    for folder, digest in ((committed, "aa"), (ours, "bb")):
        write_table("fine_tuning", [{"seed": 0, "total": 0.07, "weights": digest}], "mini", folder)
    ((_, said, count, where),) = tables_agree([ours / "fine_tuning.csv"], committed).cells
    assert (said, count) == ("within tolerance", "2") and "aa -> bb" in where


@pytest.mark.parametrize(("effect", "said"), [(0.065, "within tolerance"), (0.1, "different")])
def test_a_single_seed_lies_near_the_mean_of_three(effect, said, tmp_path):
    shutil.copy(MINI / "zero_shot_gains.csv", tmp_path)
    (row, *_) = read_table(tmp_path / "zero_shot_gains.csv")
    one = row | {"gain": effect, "ci_low": float("nan"), "ci_high": float("nan"), "seeds": 1}
    others = [{**row, "seeds": 3} for row in read_table(MINI / "zero_shot_gains.csv")[1:]]
    write_table("zero_shot_gains", [one, *others], "mini", tmp_path)
    assert agreed(tmp_path)["zero_shot_gains"][0] == said


def test_verdicts_side_by_side(tmp_path):
    rows = read_table(MINI / "claims.csv")
    rows[0] |= {"mini_effect": 0.05, "ci_low": None, "ci_high": None, "seeds": 1, "verdict": "one seed: for it"}
    rows[1] |= {"mini_effect": None, "ci_low": None, "ci_high": None, "seeds": 0, "verdict": "undecided"}
    first, second, *others = claims_agree(write_table("claims", rows, "mini", tmp_path), MINI / "claims.csv").cells
    assert first[1:] == ("+5.5 (+4.5 to +6.5)", "holds", "+5.0", "one seed: for it")
    assert second[3] == "not tried" and all(cells[1:3] == cells[3:] for cells in others)
    assert agreed(tmp_path)["claims"][0] == "within tolerance"  # of what was tried
