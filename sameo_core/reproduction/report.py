"""The outcome of a run: a summary for the terminal, and one page with all notebooks."""

import os
import re
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


@dataclass
class NotebookRun:
    """The outcome of one notebook."""

    name: str  # "03_decoder_fine_tuning"
    status: str = "not run"  # "passed", "failed", "interrupted", "not run"
    seconds: int | float = 0
    checks: int = 0  # assert statements under "## Check" that were executed and held
    output: Path = Path()  # of the executed copy; the committed notebook is never touched
    error: str | None = None


def summary(
    done: Sequence[NotebookRun], profile: str, elapsed: int | float, files: Sequence[Path], beside: Sequence[Table]
) -> str:
    """A line per notebook, where the files are, and how the tables compare with the committed ones."""
    rows = [
        {"notebook": run.name, "runtime": clock(run.seconds) if run.status != "not run" else "-", "checks": run.checks}
        | {"status": run.status}
        for run in done
    ]
    tables = [str(table_html(rows)), *map(str, beside)]
    passed, checks = sum(run.status == "passed" for run in done), sum(run.checks for run in done)
    tables.append(
        f"Files written: {len(files)}. {passed} of {len(done)} notebooks passed, {count_checks(checks)} held, "
        f"profile {profile}, {clock(elapsed)} in all"
    )
    return "\n\n".join(tables)


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


def write_report(done: Sequence[NotebookRun], profile: str, text: str, files: Sequence[Path], path: Path) -> Path:
    """Write one HTML page with the summary and every executed notebook; it loads no other files.

    Args:
        done: the notebooks.
        profile: for the title.
        text: of `summary`.
        files: to link to.
        path: of the page.

    Raises:
        InputError: it cannot be written.
    """
    text = "\n\n".join([text, *(run.error for run in done if run.error)])
    links = [f"[{file.name}]({Path(os.path.relpath(file, path.parent)).as_posix()})" for file in files]
    cells: list[NotebookNode] = []
    contents = []
    for run in done:
        if run.status != "not run" and run.output.is_file():
            notebook = read_notebook(run.output)
            heading = next((heading for heading, _ in sections(notebook) if heading), run.name)
            contents.append(f"- [{heading}](#cell-id=cell-{1 + len(cells)})")
            cells += notebook.cells
    title = f"SAMEO in the open: profile {profile}"
    head = [f"# {title}", f"{datetime.now():%Y-%m-%d %H:%M}, sameo {__version__}", f"```\n{text}\n```"]
    head += [" ".join(links), "\n".join(contents)]
    page = new_notebook(cells=[new_markdown_cell("\n\n".join(head)), *cells])
    for number, cell in enumerate(page.cells):
        cell.id = f"cell-{number}"  # two notebooks may share one
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if "widget" in kind or "javascript" in kind]:
                del output.data[kind]  # without a kernel, the text or picture beside it is shown
    exporter = HTMLExporter(exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.embed_images = True
    body, _ = exporter.from_notebook_node(page, {"metadata": {"path": str(done[0].output.parent), "name": title}})
    body = re.sub(r"<script\b.*?</script\s*>", "", body, flags=re.DOTALL | re.IGNORECASE)
    body = re.sub(r"<link\b[^>]*>|@import[^;]*;", "", body, flags=re.IGNORECASE)
    with atomic_write(path) as partial:
        partial.write_text(body, encoding="utf-8")
    return path
