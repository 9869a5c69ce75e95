"""The outcome of a run: a summary for the terminal, and one page with all notebooks."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from sameo_core import __version__
from sameo_core.config import ROOT
from sameo_core.reporting import Table
from sameo_core.reproduction.notebooks import read_notebook, sections
from sameo_core.runs.atomic import atomic_write

REPORTED_PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "pycocotools", "papermill")


@dataclass
class NotebookRun:
    """The outcome of one notebook."""

    name: str  # "03_decoder_fine_tuning"
    status: str = "not run"  # "passed", "failed", "interrupted", "not run"
    seconds: int | float = 0
    checks: int = 0  # assert statements under "## Check" that were executed and held
    output: Path | None = None  # the executed copy; the committed notebook is never touched
    error: str | None = None


def summary(
    done: Sequence[NotebookRun],
    profile: str,
    elapsed: int | float,
    tables: Sequence[Path],
    figures: Sequence[Path],
    beside: Sequence[Table] = (),
) -> str:
    """A line per notebook, the files written, and how the tables compare with the committed ones."""
    width = max(len(run.name) for run in done)
    rows = [("notebook", "runtime", "checks", "status")]
    rows += [(run.name, clock(run.seconds) if run.output else "-", str(run.checks), run.status) for run in done]
    lines = [f"{name:<{width}}  {took:>7}  {checks:>6}  {status}" for name, took, checks, status in rows]
    lines.append("")
    for what, files in (("Tables", tables), ("Figures", figures)):
        lines.append(f"{what}: {len(files)} written" + (f" in {short(files[0].parent)}" if files else ""))
        lines += [f"  {path.name}" for path in files]
    lines += ["", *(f"{table}\n" for table in beside)]
    passed, checks = sum(run.status == "passed" for run in done), sum(run.checks for run in done)
    lines.append(
        f"{passed} of {len(done)} notebooks passed, {count_checks(checks)} held, profile {profile}, "
        f"{clock(elapsed)} in all"
    )
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


def write_report(done: Sequence[NotebookRun], profile: str, text: str, files: Sequence[Path], path: Path) -> Path:
    """Write one HTML page with the summary and every executed notebook; it loads no other files.

    Args:
        done: the notebooks.
        profile: for the title.
        text: of `summary`.
        files: tables and figures to link to.
        path: of the page.

    Raises:
        InputError: it cannot be written.
    """
    versions = [f"sameo {__version__}", *(f"{package} {version(package)}" for package in REPORTED_PACKAGES)]
    machine = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    errors = [run.error for run in done if run.error]
    text = "\n\n".join([text, *errors])
    links = [f"[{file.name}]({Path(os.path.relpath(file, path.parent)).as_posix()})" for file in files]
    cells: list[NotebookNode] = []
    contents = []
    for run in done:
        if run.output:
            notebook = read_notebook(run.output)
            title = next((heading for heading, _ in sections(notebook) if heading), run.name)
            contents.append(f"- [{title}](#cell-id=cell-{1 + len(cells)})")
            cells += notebook.cells
    head = [f"# SAMEO in the open: profile {profile}", f"{datetime.now():%Y-%m-%d %H:%M}. Python {machine}; "]
    head[1] += ", ".join(versions)
    head += [f"```\n{text}\n```", " ".join(links), "\n".join(contents)]
    page = new_notebook(cells=[new_markdown_cell("\n\n".join(head)), *cells])
    for number, cell in enumerate(page.cells):
        cell.id = f"cell-{number}"  # two notebooks may share one
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if "widget" in kind or "javascript" in kind]:
                del output.data[kind]  # without a kernel, the text or picture beside it is shown
    exporter = HTMLExporter(exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.embed_images = True
    folder = next((str(run.output.parent) for run in done if run.output), "")
    body, _ = exporter.from_notebook_node(page, {"metadata": {"path": folder, "name": head[0].lstrip("# ")}})
    body = re.sub(r"<script\b.*?</script\s*>", "", body, flags=re.DOTALL | re.IGNORECASE)
    body = re.sub(r"<link\b[^>]*>|@import[^;]*;", "", body, flags=re.IGNORECASE)
    with atomic_write(path) as partial:
        partial.write_text(body, encoding="utf-8")
    return path
