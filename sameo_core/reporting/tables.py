"""Tables: CSV files, and tables shown as HTML, Markdown and LaTeX."""

import csv
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from sameo_core.config import RUNS
from sameo_core.errors import InputError
from sameo_core.reporting.style import Row, named_file, require, write_whole

# ------------------------------------------------------------------------------------------------------ CSV files


def write_table(
    name: str, rows: Sequence[Row], profile: str, folder: Path | None = None, seed: int | None = None
) -> Path:
    """Write rows to ``<name>.csv``, atomically; the same rows give the same bytes.

    Args:
        rows: the first row's keys are the columns, after `profile` and `seed`. Fractions get 4 decimals, None an empty
            cell.
        folder: by default ``data/runs/<profile>/results``.
        seed: the random seed behind all rows, if they have neither `seed` nor, for means, `seeds` (how many).

    Raises:
        InputError: no plain name; no rows, rows with different keys, no seed; a value that is not a number, text, bool
            or None.
    """
    path = named_file(name, profile, RUNS / profile / "results" if folder is None else folder).with_suffix(".csv")
    require(len(rows), "rows", f"table {name} needs at least one row, found none", "Write it once there is a result")
    first = {"profile": profile} if seed is None else {"profile": profile, "seed": seed}
    rows = [{**first, **row} for row in rows]
    columns = list(rows[0])
    rule = f"rows need a seed, those of {name} have only {', '.join(columns)}"
    require({"seed", "seeds"} & set(columns), "rows", rule, "Give `seed=`, or a column `seed` (or `seeds`, how many)")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for i, row in enumerate(rows):
        odd = ", ".join(sorted(row.keys() ^ set(columns)))
        require(not odd, "rows", f"only some rows have {odd}", "Use None for no value", f"row {i}")
        writer.writerow([cell_text(row[column], 4, f"row {i}", nan="nan") for column in columns])
    write_whole(path, buffer.getvalue().encode())
    return path


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a CSV file: whole numbers as int, other numbers as float, empty cells as None, the rest as text.

    Raises:
        InputError: no such file, not CSV, a row of another length than the header.
    """
    path = Path(path)
    require(path.is_file(), path, "the table must exist", "Run the notebook that writes it")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
    except (ValueError, csv.Error) as error:  # ValueError: not UTF-8, or empty
        raise InputError(file=path, rule=f"cannot be read as CSV: {error}", remedy="Write the table again") from error
    for i, line in enumerate(lines):
        rule = f"{len(header)} cells per row as in the header, found {len(line)}"
        require(len(line) == len(header), path, rule, "Correct the row, or write the table again", f"row {i}")
    return [dict(zip(header, map(_parsed, line), strict=True)) for line in lines]


def _parsed(text: str) -> int | float | str | None:
    if re.fullmatch(r"-?(0|[1-9]\d{0,300})", text):  # Python reads 4,300 digits at most
        return int(text)
    if re.fullmatch(r"-?((0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?|inf)|nan", text):
        return float(text)
    return text or None


def cell_text(value: object, decimals: int, record: str = "", nan: str = "") -> str:
    """A value as text, fractions with `decimals`, None as "". Raises InputError for other types, e.g. a list."""
    value = value.item() if isinstance(value, np.generic) else value
    rule = f"a cell is a number, text, bool or None, found {value!r}"
    require(value is None or isinstance(value, (int, float, str)), "rows", rule, "Convert it first", record)
    if isinstance(value, float):
        text = nan if math.isnan(value) else f"{value:.{decimals}f}"
        return text.lstrip("-") if not text.strip("-0.") else text  # no -0.0000
    return "" if value is None else str(value)


# ------------------------------------------------------------------------------------------------------ tables to show


@dataclass(frozen=True)
class Table:
    """A table as HTML (notebooks), Markdown (GitHub, terminals) and LaTeX (papers)."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]  # one tuple per row
    numeric: tuple[bool, ...]  # per column: right-aligned
    title: str | None
    heads: tuple[tuple[tuple[str, int], ...], ...] = ()  # lines above `columns`: (text, number of columns)
    note: str | None = None  # a sentence below the table

    def _repr_markdown_(self) -> str:
        above = [[text for text, span in line for _ in range(span)] for line in self.heads]
        columns = [" \N{MIDDLE DOT} ".join(filter(None, texts)) for texts in zip(*above, self.columns, strict=True)]
        rows = [[text.replace("|", "\\|") for text in row] for row in (columns, *self.cells)]
        widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * (w - n) + ":" * n for w, n in zip(widths, self.numeric, strict=True)])
        aligned = [
            [text.rjust(w) if n else text.ljust(w) for text, w, n in zip(row, widths, self.numeric, strict=True)]
            for row in rows
        ]
        title = [f"**{self.title}**", ""] if self.title else []
        note = ["", self.note] if self.note else []
        return "\n".join([*title, *(f"| {' | '.join(row)} |" for row in aligned), *note])

    def _repr_html_(self) -> str:
        def line(tag: str, texts: Sequence[str]) -> str:
            sides = ["right" if numeric else "left" for numeric in self.numeric]
            cells = [
                f'<{tag} style="text-align: {side}">{html.escape(text, quote=False)}</{tag}>'
                for text, side in zip(texts, sides, strict=True)
            ]
            return f"<tr>{''.join(cells)}</tr>"

        lines = ["<table>"]
        if self.title:
            lines.append(f"<caption>{html.escape(self.title, quote=False)}</caption>")
        for above in self.heads:
            cells = [
                f'<th colspan="{n}" style="text-align: center">{html.escape(s, quote=False)}</th>' for s, n in above
            ]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines += [line("th", self.columns), *(line("td", row) for row in self.cells), "</table>"]
        if self.note:
            lines.append(f"<p>{html.escape(self.note, quote=False)}</p>")
        return "\n".join(lines)

    __repr__ = __str__ = _repr_markdown_

    def latex(self, label: str) -> str:
        """A float for the package booktabs, with a `label` such as "tab:zero-shot"."""
        lines = [r"\begin{table}", r"\centering"]
        if caption := ". ".join(_latex_text(text) for text in (self.title, self.note) if text):
            lines.append(rf"\caption{{{caption}}}")
        lines += [rf"\label{{{label}}}", rf"\begin{{tabular}}{{{''.join('lr'[n] for n in self.numeric)}}}", r"\toprule"]
        for above in self.heads:
            lines.append(_latex_row(rf"\multicolumn{{{span}}}{{c}}{{{_latex_text(text)}}}" for text, span in above))
            ends = np.cumsum([span for _, span in above])
            rules = [f"{end - span + 1}-{end}" for (text, span), end in zip(above, ends, strict=True) if text]
            lines.append(" ".join(rf"\cmidrule(lr){{{rule}}}" for rule in rules))
        lines += [_latex_row(map(_latex_text, self.columns)), r"\midrule"]
        lines += [_latex_row(map(_latex_text, row)) for row in self.cells]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
}


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_text(text: str) -> str:
    """Text escaped for LaTeX, with a proper minus before numbers."""
    escaped = "".join(_LATEX.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def table_html(
    rows: Sequence[Row], columns: Sequence[str] | None = None, title: str | None = None, decimals: int = 3
) -> Table:
    """Rows as a `Table` for a notebook.

    Args:
        columns: those to show, in order; by default all. Missing values, None and NaN are empty cells.
        decimals: of fractions.

    Raises:
        InputError: no rows, or a column that no row has.
    """
    require(len(rows), "rows", "a table needs at least one row, found none", "Show it once there is a result")
    known = list(dict.fromkeys(key for row in rows for key in row))
    columns = tuple(known if columns is None else columns)
    unknown = [column for column in columns if column not in known]
    require(not unknown, "columns", f"columns of the rows, found {unknown}", f"Choose from {', '.join(known)}")
    cells = tuple(tuple(cell_text(row.get(c), decimals, f"row {i}") for c in columns) for i, row in enumerate(rows))
    values = [[row.get(c) for row in rows if row.get(c) is not None] for c in columns]
    numeric = tuple(bool(column) and all(map(is_number, column)) for column in values)
    return Table(columns, cells, numeric, title)


def per_cent(mean: float | int, low: float | int = math.nan, high: float | int = math.nan) -> str:
    """A share as per cent with one decimal, "plus-minus" half of its interval if there is one."""
    half = "" if math.isnan(low) else f" \N{PLUS-MINUS SIGN} {50 * (high - low):.1f}"
    return f"{100 * mean:.1f}{half}"


def points(difference: float | int, low: float | int = math.nan, high: float | int = math.nan) -> str:
    """A difference of shares in percentage points, with its sign, and its interval in brackets if there is one."""
    interval = "" if math.isnan(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * difference:+.1f}{interval}"


def save_table(table: Table, name: str, profile: str) -> Table:
    """Write ``<name>.md`` and ``<name>.tex`` (label ``tab:<name>``) to ``data/runs/<profile>/results``.

    Returns the table, so that a notebook shows it.
    """
    path = named_file(name, profile, RUNS / profile / "results").with_suffix(".md")
    write_whole(path.with_suffix(".tex"), (table.latex(f"tab:{name}") + "\n").encode())
    write_whole(path, (str(table) + "\n").encode())
    return table


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
