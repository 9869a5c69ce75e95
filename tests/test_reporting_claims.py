"""Verdicts follow from the interval alone, by the stated rule."""

import math

import pytest

from sameo_core.errors import InputError
from sameo_core.reporting import claims_shown, paper_claims, write_table
from sameo_core.reporting.claims import CLAIMS, claim_key, verdict


@pytest.mark.parametrize(
    ("low", "high", "more", "less"),
    [
        (0.01, 0.03, "holds", "does not hold"),
        (-0.03, -0.01, "does not hold", "holds"),
        (-0.01, 0.03, "undecided", "undecided"),
        (0.0, 0.03, "undecided", "undecided"),  # includes zero
        (-0.03, 0.0, "undecided", "undecided"),
        (math.nan, math.nan, "undecided", "undecided"),
    ],
)
def test_verdict(low, high, more, less):
    assert verdict(low, high) == more and verdict(low, high, "less") == less


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.009, 0.009, "holds"),
        (0.001, 0.009, "holds"),
        (-0.011, 0.009, "undecided"),
        (0.009, 0.02, "undecided"),
        (0.01, 0.02, "does not hold"),
        (-0.05, -0.04, "does not hold"),
    ],
)
def test_similar_is_within_a_point_of_zero(low, high, words):
    assert verdict(low, high, "similar") == words


def test_claims_as_a_reader_sees_them():
    tried = ("zero-shot", "AP", 0.019, 0.0123, -0.004, 0.03, 3, "undecided")
    values = (("a", *tried), ("b", "zero-shot", "AP50", *[None] * 4, 0, "undecided"))
    rows = [dict(zip(CLAIMS, value, strict=True)) for value in values]
    assert str(claims_shown(rows)).splitlines()[2:] == [
        "| a     | zero-shot | AP        | +1.9          | +1.2 (-0.4 to +3.0)          |     3 | undecided |",
        "| b     | zero-shot | AP50      |               | not tried                    |     0 | undecided |",
    ]
    other = rows[0] | {"metric": "AP50"}  # another claim, although of the same words
    assert str(claims_shown(rows[:1], photo=[other])).endswith(
        "| undecided |                               |                |"
    )


def test_claims_of_the_paper_without_any_table_are_not_tried(tmp_path):
    claims = paper_claims(tmp_path)
    assert {row["verdict"] for row in claims} == {"undecided"}
    assert len({claim_key(row) for row in claims}) == len(claims)
    effects = {(row["claim"], row["metric"]): row["paper_effect"] for row in claims}
    assert effects["IoU re-scoring raises AP", "AP"] == 0.019  # 54.3 - 52.4
    assert effects["Training on both kinds of boxes beats training on amodal boxes alone", "AP"] == 0.012  # 54.2 - 53.0
    assert effects["COCOA-cls: a detector with SAMEO beats a network trained end to end", "AP"] == 0.138
    assert effects["D2SA: a detector with SAMEO beats a network trained end to end", "AP"] == 0.087
    own = "COCOA-cls: SAMEO on the boxes of the end-to-end network beats that network's own masks"
    assert effects[own, "AP50"] == 0.035 and effects[own, "AP occluded"] is None  # 74.0 - 70.5; not published


def test_claims_of_the_paper_take_their_numbers_from_the_tables(tmp_path):
    labels = {"metric": "un-occluded excess", "question": "dual annotation", "arm": "dual_off"}
    numbers = {"difference": 0.1, "ci_low": 0.05, "ci_high": 0.15, "seeds": 3}
    alone = labels | {"question": "dual annotation alone", "arm": "alone_dual_off"} | numbers
    prompt = {"metric": "AP", "question": "training prompt"} | numbers
    prompts = [prompt | {"arm": f"prompt_{kind}"} for kind in ("amodal", "visible")]
    mix = {"metric": "AP", "question": "data mix"} | numbers | {"ci_low": -0.2}
    mixes = [mix | {"arm": f"mix_{n}", "difference": -n / 20} for n in (1, 2)]
    write_table("ablation_differences", [labels | numbers, alone, *prompts, *mixes], "mini", tmp_path)
    rescoring = {"arm": "with re-scoring", "metric": "AP"} | numbers
    write_table("rescoring", [rescoring], "mini", tmp_path)
    claims = {row["claim"]: row for row in paper_claims(tmp_path)}
    row = claims["Dual annotation lowers the over-prediction of un-occluded objects, among the other sets"]
    found = {"paper_effect": None, "mini_effect": -0.1, "ci_low": -0.15, "ci_high": -0.05, "seeds": 3}
    found["verdict"] = "holds"
    assert row | found == row  # arm minus the paper's arm, turned round
    assert claims["IoU re-scoring raises AP"]["mini_effect"] == 0.1
    worse = claims["Training on both kinds of boxes beats training on visible boxes alone"]
    assert (worse["mini_effect"], worse["verdict"]) == (-0.1, "does not hold")
    added = claims["Adding Amodal-LVIS to the other training sets raises AP"]
    assert (added["mini_effect"], added["ci_high"]) == (0.1, 0.2)  # of the last mix before all sets
    write_table("rescoring", [rescoring, rescoring], "mini", tmp_path)
    with pytest.raises(InputError, match="one row with .*found 2"):
        paper_claims(tmp_path)


@pytest.mark.parametrize(("difference", "words"), [(0.1, "one seed: against it"), (-0.1, "one seed: for it")])
def test_a_single_seed_says_on_which_side_it_lies(difference, words, tmp_path):
    """The paper claims more from both kinds of boxes; the table holds the arm minus the paper's."""
    numbers = {"difference": difference, "ci_low": math.nan, "ci_high": math.nan, "seeds": 1, "metric": "AP"}
    rows = [{"question": "training prompt", "arm": f"prompt_{kind}"} | numbers for kind in ("amodal", "visible")]
    labels = (("dual annotation", "dual_off"), ("dual annotation alone", "alone_dual_off"), ("data mix", "mix_1"))
    for question, arm in labels:
        metric = "AP" if arm == "mix_1" else "un-occluded excess"
        rows.append({"question": question, "arm": arm} | numbers | {"metric": metric})
    write_table("ablation_differences", rows, "mini", tmp_path)
    claims = {row["claim"]: row for row in paper_claims(tmp_path)}
    row = claims["Training on both kinds of boxes beats training on visible boxes alone"]
    assert (row["mini_effect"], row["ci_low"], row["seeds"], row["verdict"]) == (-difference, None, 1, words)
    less = next(row for claim, row in claims.items() if "on Amodal-LVIS alone" in claim)
    assert less["verdict"] == ("one seed: for it" if difference > 0 else "one seed: against it")
