"""The paper's tables: what is published, and ours beside it.

`data/published.csv` holds every number, in per cent as printed, with its source. Those of SAMEO's paper are taken from
public notes on it; what these do not give (all of MUVA, every AR) has no row and stays an empty cell. Our own tables
hold shares in 0..1; `tables.per_cent` and `tables.points` turn them into what a paper prints.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sameo_core.config import DATA
from sameo_core.datasets import READERS
from sameo_core.reporting.base import PROFILES, Row, check_profile, require
from sameo_core.reporting.statistics import mean_interval
from sameo_core.reporting.tables import Table, is_number, per_cent, read_table

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
    """Published numbers, a row each; `value` in per cent, what is unknown None.

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
        ours: one a label, data set and seed: the labels, `data set`, `seed`, and the metrics as shares in 0..1.
        published: of `read_published`.
        profile: of ours. In mini the table says that the two groups cannot be compared.
        labels: columns of either that tell the rows of the table apart, e.g. "setting" for an ablation.
        metrics: shown of each data set.
        data_sets: shown in both groups, in this order; by default each group shows those it has. None among them: not
            stated.

    Raises:
        InputError: nothing to show; rows of two protocols; two rows of one label, data set and seed; a metric that is
            no share.
    """
    check_profile(profile)
    require(ours or published, "ours, published", "at least one row, found none", "Evaluate, or name a published table")
    protocols = sorted({row["protocol"] for row in published})
    require(len(protocols) < 2, "published", f"one protocol a table, found {protocols}", "Choose the rows of one")
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
        bold=frozenset(),
        title=f"{title} \N{MIDDLE DOT} {PROFILES[profile]}",
        heads=tuple(tuple(line) for line in over if any(text for text, _ in line)),
        note=_note(protocols, seeds, profile),
    )


def _label(row: Row, labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row.get(label) or "") for label in labels)


def _by_cell(ours: Sequence[Row], labels: Sequence[str]) -> dict[tuple, list[Row]]:
    """(label, data set) -> its rows, one a seed."""
    cells: dict[tuple, list[Row]] = {}
    for i, row in enumerate(ours):
        require("data set" in row, "ours", "each row names its data set, this one does not", "Add it", f"row {i}")
        cells.setdefault((_label(row, labels), row["data set"]), []).append(row)
    for (label, place), rows in cells.items():
        seeds = [row.get("seed") for row in rows]
        rule = f"one row a seed, found the seeds {seeds} of {place}"
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
