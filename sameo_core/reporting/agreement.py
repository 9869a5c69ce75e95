"""Do the tables of a run agree with the committed ones, as far as another kind of CPU lets them?

`mini` asks for AVX2 wherever there is more (`reproduction.kernel_environment`); the two kinds of x86 CPU that were
tried then train the same bytes. Elsewhere sums are added in another order, which training multiplies. Measured between
two CPUs that were not held to it: a final loss differed by 2 %, AP by 0.1 to 0.3 points. The tolerances leave room for
smaller groups of objects.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from sameo_core.reporting.base import Row
from sameo_core.reporting.claims import effect_shown
from sameo_core.reporting.tables import Table, is_number, read_table, table_html

EXACT = ("datasets", "cleaning")  # drawn and counted: not a digit may differ
LOSS = 0.05  # of a loss, as a share of it
SHARE = 0.02  # of AP, a mean IoU, a recall or a difference of them
ONE_MASK = 0.05  # of the IoU of a single mask
COUNT = 3.0  # times the square root of a number of objects
NUMBERED = ("seed", "pair", "rate", "noise")  # numbers that tell rows apart, as texts do
FOUND = ("verdict", "weights")  # texts that do not, as they are results


def tables_agree(ours: Sequence[Path], committed: Path) -> Table:
    """A row a table: equal, within tolerance or different, how many numbers were compared, which is the farthest off.

    A run with fewer seeds is compared with the committed rows of its seeds. Of a mean over other seeds only the
    difference is compared: a single one of n values lies within (n - 1) / t half intervals of their mean.

    Args:
        ours: the CSV files of a run.
        committed: the folder of the committed ones.
    """
    rows = []
    for path in ours:
        found = [*_compared(path, committed / path.name)] if (committed / path.name).is_file() else []
        worst, what = max(found, key=lambda one: one[0], default=(math.inf, "not committed"))
        words = "equal" if worst == 0 else "within tolerance" if worst <= 1 else "different"
        rows.append({"table": path.stem, "agrees": words, "numbers": len(found), "farthest": what if worst else ""})
    return table_html(rows, title=f"Beside the committed tables in {committed.parent.name}/{committed.name}")


def claims_agree(ours: Path, committed: Path) -> Table:
    """The claims of a run beside the committed ones: effects in points, and verdicts."""
    theirs = {row["claim"]: row for row in read_table(committed)}
    rows = []
    for row in read_table(ours):
        other = theirs.get(row["claim"], {})
        shown = {"committed": effect_shown(other), "verdict": other.get("verdict")}
        rows.append({"claim": row["claim"]} | shown | {"this run": effect_shown(row), "its verdict": row["verdict"]})
    return table_html(rows, title="The claims, in points (95 % interval over seeds)")


def _compared(ours: Path, committed: Path) -> Iterator[tuple[float, str]]:
    """Of each number its distance from the committed one, 1 being as far as is tolerated, and what differs."""
    rows, theirs = read_table(ours), read_table(committed)
    labels = [key for key in rows[0] if key in theirs[0] and key not in FOUND and _label(key, rows + theirs)]
    seeds = {row.get("seed") for row in rows}
    known = {tuple(row[key] for key in labels): row for row in theirs if row.get("seed") in seeds}
    for row in rows:
        name = tuple(row[key] for key in labels)
        where = ", ".join(str(value) for key, value in zip(labels, name, strict=True) if key != "profile")
        other = known.pop(name, None)
        if other is None:
            yield math.inf, f"{where}: not committed"
            continue
        if row.get("seeds") == 0:  # a claim whose tables this run did not make
            continue
        fewer = row.get("seeds") != other.get("seeds")
        keys = ("difference", "gain", "mini_effect") if fewer else [key for key in row if key not in labels]
        for key in keys:
            if key in row and key in other and key not in ("verdict", "seeds"):
                distance = _distance(ours.stem, row[key], other[key], _spread(other) if fewer else 0)
                yield distance, f"{where}: {key} {other[key]} -> {row[key]}"
    yield from ((math.inf, f"{', '.join(map(str, name))}: missing here") for name in known)


def _label(key: str, rows: Sequence[Row]) -> bool:
    return key in NUMBERED or any(isinstance(row[key], str) for row in rows)


def _distance(table: str, ours: Any, theirs: Any, spread: float | int) -> float:
    """0: equal; up to 1: as near as is asked for."""
    if ours == theirs or (ours != ours and theirs != theirs):  # NaN beside NaN
        return 0.0
    if not is_number(ours) or not is_number(theirs):
        return 1.0 if isinstance(ours, str) and isinstance(theirs, str) else math.inf  # weights: other digests
    if table in EXACT:
        return math.inf
    room = COUNT * math.sqrt(abs(theirs)) if isinstance(theirs, int) else SHARE
    room = {"fine_tuning": LOSS * abs(theirs), "occlusion_curve": ONE_MASK}.get(table, room) + spread
    distance = abs(ours - theirs) / room if room else math.inf
    return distance if distance == distance else math.inf


def _spread(row: Row) -> float:
    """How far one of the values may lie from their mean, of which the row has the interval."""
    if row["seeds"] < 2 or not is_number(row["ci_low"]):
        return 0.0
    return (row["seeds"] - 1) / stats.t.ppf(0.975, row["seeds"] - 1) * (row["ci_high"] - row["ci_low"]) / 2
