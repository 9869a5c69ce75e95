"""Verdicts follow from the interval alone, by the stated rule."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameo_core.errors import InputError
from sameo_core.reporting import (
    CLAIMS,
    claims_shown,
    claims_table,
    mean_interval,
    paper_claims,
    read_table,
    verdict,
    write_table,
)


@pytest.mark.parametrize(
    ("low", "high", "more", "less"),
    [
        (0.01, 0.03, "holds", "does not hold"),
        (-0.03, -0.01, "does not hold", "holds"),
        (-0.01, 0.03, "undecided", "undecided"),
        (0.0, 0.03, "undecided", "undecided"),  # includes zero
        (-0.03, 0.0, "undecided", "undecided"),
        (0.0, 0.0, "undecided", "undecided"),
        (math.nan, math.nan, "undecided", "undecided"),
        (None, None, "undecided", "undecided"),
    ],
)
def test_verdict(low, high, more, less):
    assert verdict(low, high) == more and verdict(low, high, "less") == less


@given(st.floats(-1, 1), st.floats(0, 1))
def test_mirrored_claims_have_mirrored_verdicts(low, width):
    assert verdict(low, low + width) == verdict(-low - width, -low, "less")


def test_no_interval_and_no_direction():
    with pytest.raises(InputError, match="an interval, found 0.2 to 0.1"):
        verdict(0.2, 0.1)
    with pytest.raises(InputError, match="one of more, less, found 'other'"):
        verdict(0.1, 0.2, "other")


def test_claims_from_seeds_and_from_intervals(tmp_path):
    given = {"mini_effect": -0.2, "ci_low": -0.3, "ci_high": -0.1, "seeds": 4, "metric": "excess"}
    rows = claims_table(
        [
            {"claim": "IoU re-scoring helps", "paper_effect": 0.019, "differences": [0.01, 0.02, 0.015]},
            {"claim": "dual annotation prevents excess", "paper_effect": None, "claimed": "less", **given},
            {"claim": "one seed", "differences": [0.5]},
            {"claim": "one seed, less", "differences": [0.5], "claimed": "less"},
            {"claim": "not tried", "differences": []},
        ]
    )
    mean, low, high = (round(value, 4) for value in mean_interval([0.01, 0.02, 0.015]))
    assert all(tuple(row) == CLAIMS for row in rows)
    assert [tuple(row.values())[1:] for row in rows] == [
        (0.019, mean, low, high, 3, "holds"),
        (None, -0.2, -0.3, -0.1, 4, "holds"),
        (None, 0.5, None, None, 1, "one seed: for it"),
        (None, 0.5, None, None, 1, "one seed: against it"),
        (None, None, None, None, 0, "undecided"),
    ]
    path = write_table("claims", rows, "mini", tmp_path)
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header == "profile,claim,paper_effect,mini_effect,ci_low,ci_high,seeds,verdict"
    assert [{key: row[key] for key in CLAIMS} for row in read_table(path)] == rows


def test_the_verdict_follows_from_the_numbers_as_written():
    (row,) = claims_table([{"claim": "a", "mini_effect": 0.01, "ci_low": 0.00004, "ci_high": 0.02, "seeds": 3}])
    assert row["ci_low"] == 0 and row["verdict"] == "undecided"


def test_claims_as_a_reader_sees_them():
    rows = claims_table(
        [
            {"claim": "a", "paper_effect": 0.019, "mini_effect": 0.0123, "ci_low": -0.004, "ci_high": 0.03, "seeds": 3},
            {"claim": "b", "differences": []},
        ]
    )
    assert str(claims_shown(rows)).splitlines()[2:] == [
        "| a     | +1.9          | +1.2 (-0.4 to +3.0)          |     3 | undecided |",
        "| b     |               | not tried                    |     0 | undecided |",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one claim"),
        ([{"differences": [0.1]}], "row 0: a claim of its own in words, found None"),
        ([{"claim": "a", "differences": []}] * 2, "row 1: a claim of its own in words, found 'a'"),
        ([{"claim": "a", "paper_effect": 1.9, "differences": []}], "a difference of shares, from -1 to 1, found 1.9"),
    ],
)
def test_claims_that_are_none(rows, message):
    with pytest.raises(InputError, match=message):
        claims_table(rows)


def test_claims_of_the_paper_without_any_table_are_not_tried(tmp_path):
    claims = {row["claim"]: row for row in paper_claims(tmp_path)}
    assert len(claims) == 12 and {row["verdict"] for row in claims.values()} == {"undecided"}
    effects = {claim: row["paper_effect"] for claim, row in claims.items()}
    assert effects["IoU re-scoring raises AP"] == 0.019  # 54.3 - 52.4
    assert effects["Training on both kinds of boxes beats training on amodal boxes alone"] == 0.012  # 54.2 - 53.0
    assert effects["COCOA-cls, zero-shot: a detector with SAMEO beats a network trained end to end"] == 0.138
    assert effects["D2SA, zero-shot: a detector with SAMEO beats a network trained end to end"] == 0.087


def test_claims_of_the_paper_take_their_numbers_from_the_tables(tmp_path):
    labels = {"metric": "un-occluded excess", "question": "dual annotation", "arm": "dual_off"}
    numbers = {"difference": 0.1, "ci_low": 0.05, "ci_high": 0.15, "seeds": 3}
    alone = labels | {"question": "dual annotation alone", "arm": "alone_dual_off"} | numbers
    prompts = [
        {"metric": "AP", "question": "training prompt", "arm": f"prompt_{kind}"} | numbers
        for kind in ("amodal", "visible")
    ]
    mixes = [
        {"metric": "AP", "question": "data mix", "arm": f"mix_{n}"} | numbers | {"difference": -n / 20, "ci_low": -0.2}
        for n in (1, 2)
    ]
    write_table("ablation_differences", [labels | numbers, alone, *prompts, *mixes], "mini", tmp_path)
    rescoring = {"arm": "with re-scoring", "metric": "AP"} | numbers
    write_table("rescoring", [rescoring], "mini", tmp_path)
    claims = {row["claim"]: row for row in paper_claims(tmp_path)}
    row = claims["Dual annotation keeps un-occluded objects from being continued, among the other sets"]
    found = {"mini_effect": -0.1, "ci_low": -0.15, "ci_high": -0.05, "seeds": 3, "verdict": "holds"}
    assert row == {"claim": row["claim"], "paper_effect": None} | found  # arm minus the paper's arm, turned round
    assert claims["IoU re-scoring raises AP"]["mini_effect"] == 0.1
    worse = claims["Training on both kinds of boxes beats training on visible boxes alone"]
    assert (worse["mini_effect"], worse["verdict"]) == (-0.1, "does not hold")
    added = claims["Adding Amodal-LVIS to the other training sets raises AP"]
    assert (added["mini_effect"], added["ci_high"]) == (0.1, 0.2)  # of the last mix before all sets
    write_table("rescoring", [rescoring, rescoring], "mini", tmp_path)
    with pytest.raises(InputError, match="one row with .*found 2"):
        paper_claims(tmp_path)
