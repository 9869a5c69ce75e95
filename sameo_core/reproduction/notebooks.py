"""A notebook's sections, parameters, checks and expected minutes; which outputs it keeps."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from papermill.translators import PythonTranslator

from sameo_core.config import NOTEBOOKS
from sameo_core.errors import InputError

NUMBERED = re.compile(r"(\d\d|[A-Z]\d)_\w+\.ipynb")


def find_notebooks(folder: Path = NOTEBOOKS, only: Sequence[str] | None = None) -> list[Path]:
    """The numbered notebooks of a folder in reading order: 00, 01, ..., then the appendix A1, ...

    Args:
        only: numbers (``"03"``) or names (``"03_decoder_fine_tuning"``); None: all.
    """
    found = sorted(path for path in folder.glob("*.ipynb") if NUMBERED.fullmatch(path.name))
    if not found:
        rule = "no numbered notebook (01_name.ipynb) lies here"
        raise InputError(file=folder, rule=rule, remedy="Check out notebooks/ again")
    if only is None:
        return found
    names = {name: path for path in found for name in (path.stem.split("_")[0], path.stem)}
    for wanted in only:
        if wanted not in names:
            remedy = f"Choose from {', '.join(path.stem.split('_')[0] for path in found)}"
            raise InputError(file="--notebook", rule=f"there is no notebook {wanted!r}", remedy=remedy)
    return sorted({names[wanted] for wanted in only})


def sections(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, nbformat.NotebookNode]]:
    """Every cell with its heading; a heading's own cell belongs to that heading."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            heading = ([heading, *re.findall(r"^#{1,6}\s+(.+?)\s*$", prose, re.MULTILINE)])[-1]
        yield heading, cell


def code_cells(notebook: nbformat.NotebookNode) -> list[tuple[str, nbformat.NotebookNode]]:
    """The cells that will be executed, each with its heading."""
    return [(heading, cell) for heading, cell in sections(notebook) if cell.cell_type == "code" and cell.source.strip()]


def count_asserts(source: str) -> int:
    """Assert statements in a cell's source."""
    return sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source)))


def parameters_of(path: Path) -> set[str]:
    """The names in a notebook's cell tagged 'parameters'."""
    tagged = [cell for cell in read_notebook(path).cells if "parameters" in cell.metadata.get("tags", [])]
    return {parameter.name for parameter in PythonTranslator.inspect(tagged[0])} if tagged else set()


def check_parameters(path: Path, parameters: dict) -> None:
    """Raises InputError for a parameter that the notebook does not have; papermill itself would only warn."""
    known = parameters_of(path)
    for name in parameters:
        if name not in known:
            rule = f"the notebook has no parameter {name!r}; it has {', '.join(sorted(known)) or 'none'}"
            raise InputError(file=path, rule=rule, remedy=f"Set {name!r} in its cell tagged 'parameters'")


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook, whatever its version, as version 4."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a file that is not a notebook
        raise InputError(file=path, rule=f"not a readable notebook ({error})", remedy="Restore it from git") from error


def expected_minutes(path: Path, seeds: int = 1) -> int | float:
    """The minutes of `mini` on a notebook's run card, linear in the number of seeds; 0 if it has none."""
    card = read_notebook(path).cells[0].source
    found = re.search(r"mini: (\d+) minutes? on 2 cores(?:, (\d+) with three seeds)?", card)
    if not found:
        return 0
    one, three = (int(minutes or found[1]) for minutes in found.groups())
    return one + (three - one) / 2 * (seeds - 1)


def save_outputs(path: Path, executed: Path) -> None:
    """Copy the outputs of cells tagged ``keep_output`` from an executed copy into a notebook, except stderr.

    All other outputs are stripped.
    """
    notebook = read_notebook(path)
    shown = {cell.id: cell for cell in read_notebook(executed).cells}
    for _, cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        if "keep_output" in cell.metadata.get("tags", []) and cell.id in shown:
            cell.outputs = [output for output in shown[cell.id].outputs if output.get("name") != "stderr"]
            cell.execution_count = shown[cell.id].execution_count
    nbformat.write(notebook, path)
