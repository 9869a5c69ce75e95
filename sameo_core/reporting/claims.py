"""The claims table: what the paper claims, what the miniature finds, and whether the claim holds there."""

import math
from collections.abc import Sequence
from numbers import Real

from sameo_core.reporting.base import Row, require
from sameo_core.reporting.statistics import mean_interval
from sameo_core.reporting.tables import Table, points, table_html

CLAIMS = ("claim", "paper_effect", "mini_effect", "ci_low", "ci_high", "seeds", "verdict")
DIRECTIONS = ("more", "less")


def verdict(ci_low: Real | None, ci_high: Real | None, claimed: str = "more") -> str:
    """Whether a claimed effect shows in an interval: "holds", "does not hold" or "undecided".

    It holds where the whole interval lies on the claimed side of zero, does not hold where it lies on the other, and is
    undecided where the interval includes zero, or where there is none (None, NaN: a single seed).

    Args:
        claimed: "more" where the paper claims an effect above zero, "less" where it claims one below.

    Raises:
        InputError: an interval whose low end is the higher, another direction.
    """
    rule = f"one of {', '.join(DIRECTIONS)}, found {claimed!r}"
    require(claimed in DIRECTIONS, "claimed", rule, "Say on which side of zero the paper's effect lies")
    if ci_low is None or ci_high is None or math.isnan(ci_low) or math.isnan(ci_high):
        return "undecided"
    require(ci_low <= ci_high, "ci_low", f"an interval, found {ci_low} to {ci_high}", "Give the lower end first")
    low, high = (ci_low, ci_high) if claimed == "more" else (-ci_high, -ci_low)
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def claims_table(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows of ``claims.csv``: `claim`, `paper_effect`, `mini_effect`, `ci_low`, `ci_high`, `seeds`, `verdict`.

    Effects are differences of shares: 0.019 for 1.9 points of AP, the paper's too. Ours are rounded to the 4 decimals
    of a CSV file before the verdict, which so follows from what the file says.

    Args:
        rows: one a claim: `claim` (text), `paper_effect` (None where the paper gives no number), `claimed` ("more" by
            default, see `verdict`), and what the miniature found: either `differences`, one a seed (none: not tried),
            or `mini_effect`, `ci_low`, `ci_high` and `seeds`, as `arm_differences` and `gains` work them out.

    Raises:
        InputError: no rows, a claim without text or found twice, an effect that is no difference of shares, and as
            `verdict`.
    """
    require(len(rows), "rows", "at least one claim, found none", "Name the paper's claims")
    found = []
    for i, row in enumerate(rows):
        record = f"row {i}"
        text = row.get("claim")
        fine = isinstance(text, str) and text and text not in [other["claim"] for other in found]
        require(fine, "rows", f"a claim of its own in words, found {text!r}", "Say what is claimed", record)
        if "differences" in row:
            values = list(row["differences"])
            numbers = (*mean_interval(values), len(values)) if values else (None, None, None, 0)
        else:
            numbers = tuple(row.get(key) for key in CLAIMS[2:6])
        effect, low, high = (None if v is None or math.isnan(v) else round(float(v), 4) for v in numbers[:3])
        paper = row.get("paper_effect")
        for value in (paper, effect, low, high):
            rule = f"a difference of shares, from -1 to 1, found {value!r}"
            require(value is None or abs(value) <= 1, "rows", rule, "Give 0.019 for 1.9 points", record)
        words = verdict(low, high, row.get("claimed", "more"))
        found.append(dict(zip(CLAIMS, (text, paper, effect, low, high, numbers[3], words), strict=True)))
    return found


def claims_shown(rows: Sequence[Row], title: str | None = None) -> Table:
    """The rows of `claims_table`, or of ``claims.csv`` read again, as a reader wants them: effects in points."""
    shown = []
    for row in rows:
        paper, effect, low, high = (row[key] for key in CLAIMS[1:5])
        found = [effect] if low is None else [effect, low, high]
        shown.append(
            {
                "claim": row["claim"],
                "paper, points": "" if paper is None else points(paper),
                "mini, points (95 % interval)": "not tried" if effect is None else points(*found),
                "seeds": row["seeds"],
                "in mini": row["verdict"],
            }
        )
    return table_html(shown, title=title)
