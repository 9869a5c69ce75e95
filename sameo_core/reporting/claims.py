"""The claims table: what the paper claims, what the miniature finds, and whether the claim holds there."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from sameo_core.reporting.base import Row, require
from sameo_core.reporting.published import read_published
from sameo_core.reporting.statistics import mean_interval
from sameo_core.reporting.tables import Table, points, read_table, table_html

CLAIMS = ("claim", "paper_effect", "mini_effect", "ci_low", "ci_high", "seeds", "verdict")
DIRECTIONS = ("more", "less")


def verdict(ci_low: float | int | None, ci_high: float | int | None, claimed: str = "more") -> str:
    """Whether a claimed effect shows in an interval: "holds", "does not hold" or "undecided".

    It holds where the whole interval lies on the claimed side of zero, does not hold where it lies on the other, and is
    undecided where the interval includes zero, or where there is none (None, NaN: a single seed).

    Args:
        claimed: "more" where the paper claims an effect above zero, "less" where it claims one below.

    Raises:
        InputError: an interval whose low end is the higher, or whose ends are no numbers; another direction.
    """
    rule = f"one of {', '.join(DIRECTIONS)}, found {claimed!r}"
    require(claimed in DIRECTIONS, "claimed", rule, "Say on which side of zero the paper's effect lies")
    odd = [end for end in (ci_low, ci_high) if end is not None and not isinstance(end, Real)]
    require(not odd, "ci_low, ci_high", f"numbers or None, found {odd}", "Give the ends of the interval as shares")
    if ci_low is None or ci_high is None or math.isnan(ci_low) or math.isnan(ci_high):
        return "undecided"
    require(ci_low <= ci_high, "ci_low", f"an interval, found {ci_low} to {ci_high}", "Give the lower end first")
    low, high = (ci_low, ci_high) if claimed == "more" else (-ci_high, -ci_low)
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def claims_table(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows of ``claims.csv``: `claim`, `paper_effect`, `mini_effect`, `ci_low`, `ci_high`, `seeds`, `verdict`.

    Effects are differences of shares: 0.019 for 1.9 points of AP, the paper's too. Ours are rounded to the 4 decimals
    of a CSV file before the verdict, which so follows from what the file says. A single seed has no interval: the
    verdict then says on which side its effect lies.

    Args:
        rows: one a claim: `claim` (text), `paper_effect` (None where the paper gives no number), `claimed` ("more" by
            default, see `verdict`), and what the miniature found: either `differences`, one a seed (none: not tried),
            or `mini_effect`, `ci_low`, `ci_high` and `seeds`, as `arm_differences` and `gains` work them out.

    Raises:
        InputError: no rows, a claim without text or found twice, an effect that is no difference of shares, and as
            `verdict`.
    """
    require(len(rows), "rows", "at least one claim, found none", "Name the paper's claims")
    found: list[dict[str, object]] = []
    for i, row in enumerate(rows):
        record = f"row {i}"
        text = row.get("claim")
        fine = isinstance(text, str) and text and text not in [other["claim"] for other in found]
        require(fine, "rows", f"a claim of its own in words, found {text!r}", "Say what is claimed", record)
        listed = row.get("differences", ())
        given = [*listed, *(row.get(key) for key in CLAIMS[1:5])] if isinstance(listed, Sequence) else [str(listed)]
        odd = [value for value in given if value is not None and not isinstance(value, Real)]
        require(not odd, "rows", f"effects are numbers, found {odd[:1]}", "Give differences of shares", record)
        if "differences" in row:
            values = list(row["differences"])
            numbers: tuple = (*mean_interval(values), len(values)) if values else (None, None, None, 0)
        else:
            numbers = tuple(row.get(key) for key in CLAIMS[2:6])
        effect, low, high = (None if v is None or math.isnan(v) else round(float(v), 4) for v in numbers[:3])
        paper = row.get("paper_effect")
        rule = f"a difference of shares, from -1 to 1, found {paper!r}"
        require(paper is None or abs(paper) <= 1, "rows", rule, "Give 0.019 for 1.9 points", record)
        claimed = row.get("claimed", "more")
        words = verdict(low, high, claimed)
        if numbers[3] == 1 and low is None and effect is not None:
            words = "one seed: for it" if (effect if claimed == "more" else -effect) > 0 else "one seed: against it"
        found.append(dict(zip(CLAIMS, (text, paper, effect, low, high, numbers[3], words), strict=True)))
    return found


def claims_shown(rows: Sequence[Row], title: str | None = None, photo: Sequence[Row] = ()) -> Table:
    """The rows of `claims_table`, or of ``claims.csv`` read again, as a reader wants them: effects in points.

    Args:
        rows: of `mini` or `paper`.
        photo: of `photo`: two more columns, "not tried" for claims that photographs were not asked.
    """
    on_photographs = {row["claim"]: row for row in photo}
    shown = []
    for row in rows:
        paper = row["paper_effect"]
        cells = {
            "claim": row["claim"],
            "paper, points": "" if paper is None else points(paper),
            "mini, points (95 % interval)": effect_shown(row),
            "seeds": row["seeds"],
            "in mini": row["verdict"],
        }
        if photo:
            there = on_photographs.get(row["claim"], {})
            tried = there.get("mini_effect") is not None
            cells["photo, points (95 % interval)"] = effect_shown(there)
            cells["on photographs"] = there["verdict"] if tried else ""
        shown.append(cells)
    return table_html(shown, title=title)


def effect_shown(row: Row) -> str:
    effect, low, high = (row.get(key) for key in CLAIMS[2:5])
    return "not tried" if effect is None else points(*([effect] if low is None else [effect, low, high]))


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, the published numbers it rests on, and where `mini` or `paper` shows it.

    Source: the paper's section "Experiments", by way of `data/published.csv`.
    """

    text: str
    metric: str  # of our table
    table: str  # of ours, with `difference`, `ci_low`, `ci_high`, `seeds`
    where: Mapping[str, str]  # columns of its row
    published: tuple[Mapping[str, str], Mapping[str, str]] | None = None  # rows: minuend, subtrahend; None: no number
    claimed: str = "more"  # of our difference: "less" where the paper claims one below zero
    turned: bool = False  # our difference is taken the other way round: arm minus the paper's arm
    last: bool = False  # of several rows the last: the mix of all sets but one


def _arm(question: str, arm: str) -> dict[str, str]:
    return {"question": question, "arm": arm}


def _claims() -> Iterator[Claim]:
    supervised, zero_shot = {"table": "supervised"}, {"table": "zero-shot", "method": "SAMEO"}
    for place, title in (("cocoa_cls", "COCOA-cls"), ("d2sa", "D2SA")):
        here = {"data set": place, "metric": "AP"}
        end_to_end = supervised | here | {"front-end": "AISFormer", "method": "own amodal masks"}
        yield Claim(
            f"{title}, zero-shot: a detector with SAMEO beats a network trained end to end",
            "AP",
            "zero_shot_differences",
            {"data set": place, "baseline": "AISFormer-style (ours)"},
            (zero_shot | here, end_to_end),
        )
        yield Claim(
            f"{title}: SAMEO on the boxes of the end-to-end network beats that network's own masks",
            "AP",
            "zero_shot_differences",
            {"data set": place, "front-end": "AISFormer-style (ours)"},
            (supervised | here | {"front-end": "AISFormer", "method": "SAMEO"}, end_to_end),
        )
        modal = supervised | here | {"front-end": "RTMDet*"}
        yield Claim(
            f"{title}, supervised: SAMEO beats the detector's visible masks taken as they are",
            "AP",
            "supervised_differences",
            {"data set": place, "baseline": "its own masks"},
            (modal | {"method": "SAMEO"}, modal | {"method": "own visible masks"}),
        )
    rescoring = {"table": "ablation of IoU re-scoring", "metric": "AP"}
    yield Claim(
        "IoU re-scoring raises AP",
        "AP",
        "rescoring",
        {"arm": "with re-scoring"},
        (rescoring | {"setting": "with IoU re-scoring"}, rescoring | {"setting": "without IoU re-scoring"}),
    )
    prompt = {"table": "ablation of the training prompt", "metric": "AP"}
    for kind in ("amodal", "visible"):
        yield Claim(
            f"Training on both kinds of boxes beats training on {kind} boxes alone",
            "AP",
            "ablation_differences",
            _arm("training prompt", f"prompt_{kind}"),
            (prompt | {"setting": "random"}, prompt | {"setting": f"{kind} boxes"}),
            turned=True,
        )
    excess = "un-occluded excess"
    for question, arm, words in (
        ("dual annotation", "dual_off", "among the other sets"),
        ("dual annotation alone", "alone_dual_off", "when nothing else is learnt from"),
    ):
        text = f"Dual annotation keeps un-occluded objects from being continued, {words}"
        yield Claim(text, excess, "ablation_differences", _arm(question, arm), claimed="less", turned=True)
    yield Claim(
        "Adding Amodal-LVIS to the other training sets raises AP",
        "AP",
        "ablation_differences",
        {"question": "data mix"},
        turned=True,
        last=True,
    )


def paper_claims(results: Path) -> list[dict[str, object]]:
    """`claims_table` of the paper's claims, from the tables of a profile; a table that is not there: not tried.

    Args:
        results: folder of the profile's tables, e.g. ``data/results/mini``.

    Raises:
        InputError: a table without a column or the row of a claim, or with two rows of it.
    """
    published, rows = read_published(), []
    for claim in _claims():
        row: dict[str, Any] = {"claim": claim.text, "claimed": claim.claimed, "differences": ()}
        if claim.published:
            best = [max(r["value"] for r in published if _matches(r, wanted)) for wanted in claim.published]
            row["paper_effect"] = round((best[0] - best[1]) / 100, 4)
        path = results / f"{claim.table}.csv"
        if path.is_file():
            wanted = {"metric": claim.metric, **claim.where}
            columns = {*wanted, "difference", "ci_low", "ci_high", "seeds"}
            rows_there = read_table(path)
            missing = sorted(columns.difference(*rows_there[:1]))
            rule = f"the columns {', '.join(sorted(columns))}, found no {', '.join(missing)}"
            require(not (rows_there and missing), path, rule, "Run the notebook again")
            listed = [r for r in rows_there if _matches(r, wanted)]
            fine = len(listed) == 1 or (listed and claim.last)
            require(fine, path, f"one row with {wanted}, found {len(listed)}", "Run the notebook again")
            ours = listed[-1]
            signs = (-1, ours["ci_high"], ours["ci_low"]) if claim.turned else (1, ours["ci_low"], ours["ci_high"])
            del row["differences"]
            row |= {"mini_effect": signs[0] * ours["difference"], "ci_low": None, "ci_high": None}
            row["seeds"] = ours["seeds"]
            if ours["ci_low"] is not None:
                row |= {"ci_low": signs[0] * signs[1], "ci_high": signs[0] * signs[2]}
        rows.append(row)
    return claims_table(rows)


def _matches(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(row[key] == value for key, value in wanted.items())
