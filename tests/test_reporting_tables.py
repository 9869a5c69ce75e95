"""Tables by round trip and exact text. What is refused: test_bad_input."""

import math

import numpy as np
import pytest

from sameo_core.reporting import Table, read_table, save_table, table_html, tables, write_table
from sameo_core.reporting.tables import per_cent, points

ROWS = [{"model": "un-tuned", "AP": 0.41234, "seeds": 5}, {"model": "SAMEO", "AP": 0.5, "seeds": None}]


def test_a_table_is_written_and_read_back(tmp_path):
    path = write_table("gains", ROWS, "mini", tmp_path / "new")
    assert path == tmp_path / "new" / "gains.csv" and [*path.parent.iterdir()] == [path]
    assert path.read_bytes() == b"profile,model,AP,seeds\nmini,un-tuned,0.4123,5\nmini,SAMEO,0.5000,\n"
    assert read_table(path) == [
        {"profile": "mini", "model": "un-tuned", "AP": 0.4123, "seeds": 5},
        {"profile": "mini", "model": "SAMEO", "AP": 0.5, "seeds": None},
    ]


@pytest.mark.parametrize(
    ("value", "text", "back"),
    [
        (np.float32(0.25), "0.2500", 0.25),
        (np.int64(-3), "-3", -3),
        (-1e-9, "0.0000", 0.0),
        (math.inf, "inf", math.inf),
        (math.nan, "nan", math.nan),
        ("1e-04", "1e-04", 1e-4),
        ("007", "007", "007"),
        ("2024_01", "2024_01", "2024_01"),
        ('a, "b"\nc', '"a, ""b""\nc"', 'a, "b"\nc'),
        (True, "True", "True"),
    ],
)
def test_cells(tmp_path, value, text, back):
    path = write_table("a", [{"x": value, "y": "|"}], "mini", tmp_path, seed=3)
    assert path.read_text(encoding="utf-8") == f"profile,seed,x,y\nmini,3,{text},|\n"
    assert repr(read_table(path)[0]["x"]) == repr(back)


def test_markdown_text():
    assert str(table_html(ROWS, title="Gains")) == (
        "**Gains**\n"
        "\n"
        "| model    |    AP | seeds |\n"
        "| -------- | ----: | ----: |\n"
        "| un-tuned | 0.412 |     5 |\n"
        "| SAMEO    | 0.500 |       |"
    )
    assert table_html(ROWS, ["AP"], decimals=4).cells == (("0.4123",), ("0.5000",))


def test_html_text_and_what_a_cell_shows():
    table = table_html([{"a|b": "x < y", "n": 0.00049}, {"n": math.nan}], ["n", "a|b"], title="A & B")
    assert table._repr_html_().splitlines() == [
        "<table>",
        "<caption>A &amp; B</caption>",
        '<tr><th style="text-align: right">n</th><th style="text-align: left">a|b</th></tr>',
        '<tr><td style="text-align: right">0.000</td><td style="text-align: left">x &lt; y</td></tr>',
        '<tr><td style="text-align: right"></td><td style="text-align: left"></td></tr>',
        "</table>",
    ]
    assert "a\\|b" in repr(table)


# ------------------------------------------------------------------------------------------------------- for a paper


def test_shares_as_a_paper_prints_them():
    assert per_cent(0.5431) == "54.3" and per_cent(0.5, 0.496, 0.504) == "50.0 ± 0.4"
    assert points(0.019) == "+1.9" and points(-0.01, -0.0123, 0.002) == "-1.0 (-1.2 to +0.2)"


NESTED = Table(
    columns=("method", "AP", "AP50", "AP"),
    cells=(("A & B_1", "40.6", "70.5", ""), ("50 % {x}", "-0.3", "", "54.3 ± 0.4")),
    numeric=(False, True, True, True),
    title="Gains · mini",
    heads=((("", 1), ("published", 2), ("ours", 1)), (("", 1), ("COCOA-cls", 2), ("D2SA", 1))),
    note="Per cent.",
)


def test_headings_over_columns_in_markdown_and_html():
    assert str(NESTED) == (
        "**Gains · mini**\n"
        "\n"
        "| method   | published · COCOA-cls · AP | published · COCOA-cls · AP50 | ours · D2SA · AP |\n"
        "| -------- | -------------------------: | ---------------------------: | ---------------: |\n"
        "| A & B_1  |                       40.6 |                         70.5 |                  |\n"
        "| 50 % {x} |                       -0.3 |                              |       54.3 ± 0.4 |\n"
        "\n"
        "Per cent."
    )
    lines = NESTED._repr_html_().splitlines()
    assert lines[2] == (
        '<tr><th colspan="1" style="text-align: center"></th><th colspan="2" style="text-align: center">published</th>'
        '<th colspan="1" style="text-align: center">ours</th></tr>'
    )
    assert lines[-2:] == ["</table>", "<p>Per cent.</p>"]


def test_latex_text():
    assert NESTED.latex("tab:gains").splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{Gains $\cdot$ mini. Per cent.}",
        r"\label{tab:gains}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{published} & \multicolumn{1}{c}{ours} \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}",
        r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{COCOA-cls} & \multicolumn{1}{c}{D2SA} \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}",
        r"method & AP & AP50 & AP \\",
        r"\midrule",
        r"A \& B\_1 & 40.6 & 70.5 &  \\",
        r"50 \% \{x\} & $-$0.3 &  & 54.3 $\pm$ 0.4 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_latex_prints_what_the_cell_says():
    text = table_html([{"a": r"x-3 \ ~ ^ <> | $ # →", "b": -3}]).latex("a")
    escaped = r"\textbackslash{} \textasciitilde{} \textasciicircum{} \textless{}\textgreater{} \textbar{} \$ \# $\to$"
    assert rf"x-3 {escaped} & $-$3 \\" in text.splitlines() and r"\caption" not in text


def test_rendered_tables_lie_beside_the_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    path = write_table("gains", ROWS, "paper")
    assert save_table(NESTED, "gains", "paper") is NESTED
    assert path == tmp_path / "paper" / "results" / "gains.csv"
    assert path.with_suffix(".md").read_text(encoding="utf-8") == str(NESTED) + "\n"
    assert path.with_suffix(".tex").read_text(encoding="utf-8") == NESTED.latex("tab:gains") + "\n"
