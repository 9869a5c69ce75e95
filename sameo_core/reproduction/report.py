"""The outcome of a run: tables for the terminal, and one page with all notebooks."""

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from sameo_core import __version__
from sameo_core.config import ROOT
from sameo_core.reporting import Table, table_html
from sameo_core.reproduction.notebooks import read_notebook, sections
from sameo_core.runs.atomic import atomic_write

PICTURE = "06_occlusions.png"  # of photographs; shown first


@dataclass
class NotebookRun:
    """The outcome of one notebook."""

    name: str  # "03_decoder_fine_tuning"
    status: str = "not run"  # "passed", "failed", "interrupted", "not run"
    seconds: int | float = 0
    checks: int = 0  # assert statements under "## Check" that were executed and held
    output: Path = Path()  # of the executed copy; the committed notebook is never touched
    error: str | None = None


def notebook_table(done: Sequence[NotebookRun]) -> Table:
    """A row per notebook: runtime, checks, status."""
    rows = [
        {"notebook": run.name, "runtime": clock(run.seconds) if run.status != "not run" else "-", "checks": run.checks}
        | {"status": run.status}
        for run in done
    ]
    return table_html(rows)


def outcome(done: Sequence[NotebookRun], profile: str, elapsed: int | float) -> str:
    """A run in one line."""
    passed, checks = sum(run.status == "passed" for run in done), sum(run.checks for run in done)
    held = f"{count_checks(checks)} held, profile {profile}, {clock(elapsed)} in all"
    return f"{passed} of {len(done)} notebooks passed, {held}"


def brief(agreement: Table, claims: Table | None = None) -> str:
    """`tables_agree` and `claims_agree` in lines that a terminal holds."""
    lines = [str(agreement.title)]
    for said in dict.fromkeys(row[1] for row in agreement.cells):
        rows = [row for row in agreement.cells if row[1] == said]
        names = [f"{row[0]} ({row[3]})" if said == "different" else row[0] for row in rows]
        lines += textwrap.wrap(f"{said}: {', '.join(names)}", 118, initial_indent="  ", subsequent_indent="    ")
    if claims is None:
        return "\n".join(lines)
    lines += ["", "Claims: verdict and points, committed and of this run"]
    for verdicts in dict.fromkeys((row[4], row[6]) for row in claims.cells):
        lines.append(f"  {', '.join(verdicts)}")
        for claim, setting, metric, committed, verdict, effect, ours in claims.cells:
            if (verdict, ours) == verdicts:
                points = f"    {committed.split(' (')[0]:>5} {effect.split(' (')[0]:>5}"
                lines.append(f"{points}  {claim}, {metric} ({re.split('[,;]', setting)[0]})")
    return "\n".join(lines)


def count_checks(number: int) -> str:
    """In words."""
    return f"{number} check{'s' * (number != 1)}"


def clock(seconds: int | float) -> str:
    """As m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def short(path: Path) -> str:
    """A path, relative to the repository if it lies there."""
    return str(path).removeprefix(f"{ROOT}{os.sep}")


FOLDED = """<label><input type="checkbox" id="code"> show the code</label>
<style>body:not(:has(#code:checked)) .jp-CodeCell > .jp-Cell-inputWrapper { display: none }</style>"""


def write_report(
    done: Sequence[NotebookRun], profile: str, line: str, tables: Sequence[Table], files: Sequence[Path], path: Path
) -> Path:
    """Write one HTML page: what came out, then every executed notebook, its code folded; it loads no other files.

    Args:
        line: `outcome`.
        tables: shown first.
        files: linked last; `PICTURE`, if it is one of them, is also shown first.

    Raises:
        InputError: it cannot be written.
    """
    title = f"SAMEO in the open: profile {profile}"
    head = [f"# {title}", f"{line} ({datetime.now():%Y-%m-%d %H:%M}, sameo {__version__}).", FOLDED]
    head += [f"```\n{run.error}\n```" for run in done if run.error]
    head += [f"![What lies hidden in photographs]({_link(file, path)})" for file in files if file.name == PICTURE]
    head += [table._repr_html_() for table in tables]
    cells: list[NotebookNode] = []
    for run in done:
        if run.status != "not run" and run.output.is_file():
            notebook = read_notebook(run.output)
            heading = next((heading for heading, _ in sections(notebook) if heading), run.name)
            head.append(f"- [{heading}](#cell-id=cell-{1 + len(cells)})")
            cells += notebook.cells
    links = "\n".join(f"- [{file.name}]({_link(file, path)})" for file in files)
    page = new_notebook(cells=[new_markdown_cell("\n\n".join(head)), *cells, new_markdown_cell(f"# Files\n\n{links}")])
    for number, cell in enumerate(page.cells):
        cell.id = f"cell-{number}"  # two notebooks may share one
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if "widget" in kind or "javascript" in kind]:
                del output.data[kind]  # without a kernel, the text or picture beside it is shown
    exporter = HTMLExporter(exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.embed_images = True
    body, _ = exporter.from_notebook_node(page, {"metadata": {"path": str(path.parent), "name": title}})
    body = re.sub(r"<script\b.*?</script\s*>", "", body, flags=re.DOTALL | re.IGNORECASE)
    body = re.sub(r"<link\b[^>]*>|@import[^;]*;", "", body, flags=re.IGNORECASE)
    with atomic_write(path) as partial:
        partial.write_text(body, encoding="utf-8")
    return path


def _link(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()
