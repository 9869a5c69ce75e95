"""The paper's tables and claims: what is published, and ours beside it; whether each claim holds here.

`data/published.csv` holds every number, in per cent as printed, with its source. Those of SAMEO's paper are taken from
public notes on it; what these do not give (all of MUVA, every AR) has no row and stays an empty cell. Our own tables
hold shares in 0..1; `tables.per_cent` and `tables.points` turn them into what a paper prints.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sameo_core.config import DATA
from sameo_core.datasets import READERS
from sameo_core.reporting.statistics import mean_interval
from sameo_core.reporting.style import PROFILES, Row, check_profile, require
from sameo_core.reporting.tables import Table, is_number, per_cent, points, read_table, table_html

PUBLISHED = DATA / "published.csv"
COLUMNS = (
    "table",
    "method",
    "front-end",
    "setting",
    "data set",
    "metric",
    "value",
    "protocol",
    "source",
    "address",
    "note",
)
PROTOCOLS = ("class-agnostic", "class-aware", "mIoU")  # never to be mixed in one column
TITLES = {"cocoa": "COCOA", "cocoa_cls": "COCOA-cls", "d2sa": "D2SA", "kins": "KINS", "muva": "MUVA"}
NO_COMPARISON = (
    "Ours are numbers of a drawn world and a miniature model: they cannot be compared with the published ones."
)


def read_published(table: str | None = None, path: Path | None = None) -> list[dict[str, Any]]:
    """Published numbers, one row each; `value` in per cent, what is unknown None.

    Args:
        table: "supervised", "zero-shot", ...; by default all of them.
        path: instead of ``data/published.csv``.

    Raises:
        InputError: no such table; a row without source, with another protocol or data set than we know, or whose value
            is no number in 0..100; the same number given twice.
    """
    path = PUBLISHED if path is None else path
    rows = read_table(path)
    seen: dict[tuple, int] = {}
    for i, row in enumerate(rows):
        record, remedy = f"row {i}", "Correct the row"
        require(tuple(row) == COLUMNS, path, f"the columns {', '.join(COLUMNS)}", "Keep them, in their order")
        empty = [key for key in ("table", "method", "metric", "source") if not row[key]]
        require(not empty, path, f"table, method, metric and source, without {', '.join(empty)}", remedy, record)
        rule = f"a number in 0..100, found {row['value']!r}"
        require(is_number(row["value"]) and 0 <= row["value"] <= 100, path, rule, remedy, record)
        rule = f"one of {', '.join(PROTOCOLS)}, found {row['protocol']!r}"
        require(row["protocol"] in PROTOCOLS, path, rule, remedy, record)
        rule = f"a name of `load_dataset`, or nothing, found {row['data set']!r}"
        require(row["data set"] is None or row["data set"] in READERS, path, rule, remedy, record)
        key = tuple(row[column] for column in COLUMNS if column not in ("value", "note"))
        require(key not in seen, path, f"each number once, this one is row {seen.get(key)} too", remedy, record)
        seen[key] = i
    tables = list(dict.fromkeys(row["table"] for row in rows))
    require(table in [None, *tables], "table", f"one of {', '.join(tables)}, found {table!r}", "Choose one of them")
    return [row for row in rows if table in (None, row["table"])]


def paper_table(
    ours: Sequence[Row],
    published: Sequence[Row],
    profile: str,
    title: str,
    *,
    labels: Sequence[str] = ("front-end", "method"),
    metrics: Sequence[str] = ("AP", "AP50"),
    data_sets: Sequence[str | None] | None = None,
) -> Table:
    """The paper's layout: published numbers, and ours in a second group of columns; what nobody knows is left empty.

    A row of the table is a combination of labels: published ones first, in their order, then those that are only ours.
    Ours are means over seeds, with half of the 95 % interval (Student's t) after the sign "plus-minus"; per cent.

    Args:
        ours: one per label, data set and seed: the labels, `data set`, `seed`, and the metrics as shares in 0..1.
        published: of `read_published`.
        profile: of ours. In mini the table says that the two groups cannot be compared.
        labels: columns of either that tell the rows of the table apart, e.g. "setting" for an ablation.
        metrics: shown of each data set.
        data_sets: shown in both groups, in this order; by default each group shows those it has. None among them: not
            stated.

    Raises:
        InputError: rows of two protocols; two rows of one label, data set and seed; a metric that is no share.
    """
    check_profile(profile)
    protocols = sorted({row["protocol"] for row in published})
    require(len(protocols) < 2, "published", f"one protocol per table, found {protocols}", "Choose the rows of one")
    mine = _by_cell([row for row in ours if data_sets is None or row.get("data set") in data_sets], labels)
    groups = {
        "published": {
            (_label(row, labels), row["data set"], row["metric"]): str(float(row["value"]))
            for row in published
            if row["metric"] in metrics and (data_sets is None or row["data set"] in data_sets)
        },
        "ours" if profile == "paper" else "mini, drawn world": dict(_means(mine, metrics)),
    }
    groups = {name: cells for name, cells in groups.items() if cells or data_sets is not None}
    rows = list(dict.fromkeys(key[0] for cells in groups.values() for key in cells))
    wanted = [
        (name, place, metric)
        for name, cells in groups.items()
        for place in (dict.fromkeys(key[1] for key in cells) if data_sets is None else data_sets)
        for metric in metrics
    ]
    body = [(*row, *(groups[name].get((row, place, metric), "") for name, place, metric in wanted)) for row in rows]
    tops = [name for name, _, _ in wanted]
    places = [TITLES.get(place, place) if place else "" for _, place, _ in wanted]
    over = [[("", len(labels)), *_runs(tops)], [("", len(labels)), *_runs(places, tops)]]
    seeds = sorted({len(rows) for rows in mine.values()})
    return Table(
        columns=(*labels, *(metric for _, _, metric in wanted)),
        cells=tuple(body),
        numeric=(False,) * len(labels) + (True,) * len(wanted),
        title=f"{title} \N{MIDDLE DOT} {PROFILES[profile]}",
        heads=tuple(tuple(line) for line in over if any(text for text, _ in line)),
        note=_note(protocols, seeds, profile),
    )


def _label(row: Row, labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row.get(label) or "") for label in labels)


def _by_cell(ours: Sequence[Row], labels: Sequence[str]) -> dict[tuple, list[Row]]:
    """(label, data set) -> its rows, one per seed."""
    cells: dict[tuple, list[Row]] = {}
    for row in ours:
        cells.setdefault((_label(row, labels), row["data set"]), []).append(row)
    for (label, place), rows in cells.items():
        seeds = [row.get("seed") for row in rows]
        rule = f"one row per seed, found the seeds {seeds} of {place}"
        require(len(set(seeds)) == len(seeds), "ours", rule, "Add the label that differs", ", ".join(label))
    return cells


def _means(cells: dict[tuple, list[Row]], metrics: Sequence[str]) -> Iterator[tuple[tuple, str]]:
    """(label, data set, metric) -> mean and half of its interval, in per cent."""
    for (label, place), rows in cells.items():
        for metric in metrics:
            values = [row[metric] for row in rows if row.get(metric) is not None]
            values = [value for value in values if not is_number(value) or not math.isnan(value)]
            fine = all(is_number(value) and 0 <= value <= 1 for value in values)
            require(fine, "ours", f"{metric} as a share in 0..1, found {values}", "Divide by 100", ", ".join(label))
            if values:
                yield (label, place, metric), per_cent(*mean_interval(values))


def _runs(texts: Sequence[str], within: Sequence[str] | None = None) -> list[tuple[str, int]]:
    """Equal neighbours as (text, number), never across a change of `within`."""
    runs: list[list] = []
    for key in zip(texts, within or texts, strict=True):
        if runs and runs[-1][0] == key:
            runs[-1][1] += 1
        else:
            runs.append([key, 1])
    return [(key[0], count) for key, count in runs]


def _note(protocols: Sequence[str], seeds: Sequence[int], profile: str) -> str:
    """What a reader of the table has to know; `seeds`: how many each cell of ours has, in order."""
    sentences = [f"Per cent{''.join(f'; published: {protocol}' for protocol in protocols)}."]
    if seeds and seeds[-1] > 1:
        numbers = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else seeds[0]
        sentences.append(f"Ours: mean \N{PLUS-MINUS SIGN} half of the 95 % interval over {numbers} seeds.")
    if seeds and protocols and profile == "mini":
        sentences.append(NO_COMPARISON)
    return " ".join(sentences)


CLAIMS = ("claim", "paper_effect", "mini_effect", "ci_low", "ci_high", "seeds", "verdict")


def verdict(ci_low: float | int | None, ci_high: float | int | None, claimed: str = "more") -> str:
    """Whether a claimed effect shows in an interval: "holds", "does not hold" or "undecided".

    It holds where the whole interval lies on the claimed side of zero, does not hold where it lies on the other, and is
    undecided where the interval includes zero, or where there is none (None, NaN: a single seed).

    Args:
        claimed: "more" where the paper claims an effect above zero, "less" where it claims one below.
    """
    if ci_low is None or ci_high is None or math.isnan(ci_low) or math.isnan(ci_high):
        return "undecided"
    low, high = (ci_low, ci_high) if claimed == "more" else (-ci_high, -ci_low)
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def claims_shown(rows: Sequence[Row], title: str | None = None, photo: Sequence[Row] = ()) -> Table:
    """The rows of `paper_claims`, or of ``claims.csv``, as a reader wants them: effects in points.

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
    negate: bool = False  # our difference is taken the other way round: arm minus the paper's arm
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
            negate=True,
        )
    excess = "un-occluded excess"
    for question, arm, words in (
        ("dual annotation", "dual_off", "among the other sets"),
        ("dual annotation alone", "alone_dual_off", "when nothing else is learnt from"),
    ):
        text = f"Dual annotation keeps un-occluded objects from being continued, {words}"
        yield Claim(text, excess, "ablation_differences", _arm(question, arm), claimed="less", negate=True)
    yield Claim(
        "Adding Amodal-LVIS to the other training sets raises AP",
        "AP",
        "ablation_differences",
        {"question": "data mix"},
        negate=True,
        last=True,
    )


def paper_claims(results: Path) -> list[dict[str, object]]:
    """Rows of ``claims.csv``: `claim`, `paper_effect`, `mini_effect`, `ci_low`, `ci_high`, `seeds`, `verdict`.

    Effects are differences of shares: 0.019 for 1.9 points of AP, the paper's too. A claim whose table is not there has
    not been tried. A single seed has no interval: the verdict then says on which side its effect lies.

    Args:
        results: folder of a profile's tables, e.g. ``data/results/mini``.

    Raises:
        InputError: a table without a column or the row of a claim, or with two rows of it.
    """
    published = read_published()
    return [_judged(claim, _paper_effect(claim, published), _our_row(claim, results)) for claim in _claims()]


def _paper_effect(claim: Claim, published: Sequence[Row]) -> float | None:
    if claim.published is None:
        return None
    best = [max(row["value"] for row in published if _matches(row, wanted)) for wanted in claim.published]
    return round((best[0] - best[1]) / 100, 4)


def _our_row(claim: Claim, results: Path) -> Row | None:
    path = results / f"{claim.table}.csv"
    if not path.is_file():
        return None
    wanted, numbers = {"metric": claim.metric, **claim.where}, {"difference", "ci_low", "ci_high", "seeds"}
    listed = [row for row in read_table(path) if _matches(row, wanted) and numbers <= row.keys()]
    rule = f"one row with {wanted} and {', '.join(sorted(numbers))}, found {len(listed)}"
    require(len(listed) == 1 or (listed and claim.last), path, rule, "Run the notebook again")
    return listed[-1]


def _judged(claim: Claim, paper_effect: float | None, ours: Row | None) -> dict[str, object]:
    """The row of a claim."""
    effect = low = high = None
    seeds, words = 0, "undecided"
    if ours is not None:
        sign, seeds = -1 if claim.negate else 1, ours["seeds"]
        effect = sign * ours["difference"]
        if seeds > 1:
            low, high = sorted((sign * ours["ci_low"], sign * ours["ci_high"]))
            words = verdict(low, high, claim.claimed)
        else:
            words = "one seed: for it" if (effect > 0) == (claim.claimed == "more") else "one seed: against it"
    return dict(zip(CLAIMS, (claim.text, paper_effect, effect, low, high, seeds, words), strict=True))


def _matches(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(row.get(key) == value for key, value in wanted.items())
