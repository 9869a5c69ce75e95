"""Runs the notebooks from end to end, shows how far they are, and binds what they showed into one page."""

import ast
import html
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import cast

import nbformat
import papermill
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from papermill.translators import PythonTranslator

from sameo_core import __version__
from sameo_core.config import NOTEBOOKS, QUESTIONS, RESULTS, ROOT, RUNS, SUPERVISED, ablation, load_profile, recipe
from sameo_core.errors import InputError
from sameo_core.pipeline import train, train_amodal_rcnn
from sameo_core.reporting import Table, claims_agree, tables_agree
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.folders import write_environment

NUMBERED = re.compile(r"(\d\d|[A-Z]\d)_\w+\.ipynb")
# Seconds; a stalled kernel must not wait for ever
CELL_TIMEOUT = {"mini": 3600.0, "photo": 12 * 3600.0, "paper": 7 * 24 * 3600.0}
OF_PROFILE = {"photo": ("A2",)}  # the notebooks of a profile that is not for all of them
TRAINING = ("03", "04", "05")  # the notebooks that train most: they come last, see `trainings_ahead`
# The same instructions, so the same sums, on any x86 CPU of these years; on those with more it costs 1 % of the speed
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
REPORTED_PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "pycocotools", "papermill")


@dataclass
class NotebookRun:
    """What became of one notebook."""

    name: str  # "03_decoder_fine_tuning"
    status: str = "not run"  # "passed", "failed", "interrupted", "not run"
    seconds: int | float = 0
    checks: int = 0  # assert statements under "## Check" that were executed and held
    output: Path | None = None  # the executed copy; the committed notebook is never touched
    error: str | None = None


# ---------------------------------------------------------------------------------------------- what is in a notebook


def find_notebooks(folder: Path = NOTEBOOKS, only: Sequence[str] | None = None) -> list[Path]:
    """The numbered notebooks of a folder in reading order: 01, 02, ..., then the appendix A1, ...

    Args:
        folder: where they lie.
        only: numbers (``"03"``) or names (``"03_decoder_fine_tuning"``) of those wanted; None means all.
    """
    found = sorted(path for path in folder.glob("*.ipynb") if NUMBERED.fullmatch(path.name))
    if not found:
        raise InputError(
            file=folder, rule="no numbered notebook (01_name.ipynb) lies here", remedy="Check out notebooks/ again"
        )
    if only is None:
        return found
    unknown = [wanted for wanted in only if not any(wanted in _names(path) for path in found)]
    if unknown:
        raise InputError(
            file="--notebook",
            rule=f"there is no notebook {unknown[0]!r}",
            remedy=f"Choose from {', '.join(path.stem.split('_')[0] for path in found)}",
        )
    return [path for path in found if any(wanted in _names(path) for wanted in only)]


def _names(path: Path) -> tuple[str, str, str]:
    return path.stem.split("_")[0], path.stem, path.name


def sections(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, nbformat.NotebookNode]]:
    """Every cell with the heading it stands under; a heading's own cell stands under that heading."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            heading = ([heading, *re.findall(r"^#{1,6}\s+(.+?)\s*$", prose, re.MULTILINE)])[-1]
        yield heading, cell


def code_cells(notebook: nbformat.NotebookNode) -> list[tuple[str, nbformat.NotebookNode]]:
    """The cells that will be executed, each with the heading it stands under."""
    return [(heading, cell) for heading, cell in sections(notebook) if cell.cell_type == "code" and cell.source.strip()]


def count_asserts(source: str, before_line: int | None = None) -> int:
    """Assert statements in a cell's source, or only those that end before a line."""
    try:
        tree = ast.parse(re.sub(r"^[%!?].*$", "", source, flags=re.MULTILINE))
    except SyntaxError:
        return 0
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return sum(before_line is None or cast(int, node.end_lineno) < before_line for node in asserts)


def parameters_of(path: Path) -> set[str]:
    """The names in a notebook's cell tagged 'parameters'."""
    tagged = [cell for cell in _read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    return {parameter.name for parameter in PythonTranslator.inspect(tagged[0])} if tagged else set()


def check_parameters(path: Path, parameters: dict) -> None:
    """Raises InputError for a parameter that the notebook does not have; papermill itself would only warn."""
    known = parameters_of(path)
    for name in parameters:
        if name not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise InputError(
                file=path,
                rule=f"the notebook has no parameter {name!r}; {has}",
                remedy=f"Set {name!r} in its cell tagged 'parameters'",
            )


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a file that is not a notebook
        raise InputError(
            file=path, rule=f"not a readable notebook ({_first_line(error)})", remedy="Restore it from git"
        ) from error


# ------------------------------------------------------------------------------------------------------- running them


def reproduce(
    profile: str = "mini",
    notebooks: Sequence[str] | None = None,
    *,
    seeds: int | None = None,
    update: bool = False,
    folder: Path = NOTEBOOKS,
    runs: Path = RUNS,
    committed: Path = RESULTS,
    cell_timeout: int | float | None = None,
) -> list[NotebookRun]:
    """Runs notebooks headlessly, stops at the first that fails, compares their tables with the committed ones.

    All that it writes goes to ``runs/<profile>/``: executed copies, tables (``results/``), figures, ``report.html`` and
    ``environment.json``. Nothing that is tracked is touched without `update`.

    Args:
        profile: the parameter that every notebook gets: ``"mini"``, ``"photo"`` or ``"paper"``. One that has a
            parameter `interactive` gets False for it.
        notebooks: numbers or names of those to run; None means all, or those of the profile (`OF_PROFILE`).
        seeds: how often each model is trained, for the notebooks with this parameter; None: as they say, once.
        update: once all have passed, make their tables the committed ones and keep their outputs in the notebooks.
        folder: where the notebooks lie.
        runs: where a run may write.
        committed: where the committed tables lie, a folder a profile.
        cell_timeout: seconds that one cell may take; None means the profile's.

    Returns:
        One NotebookRun a notebook, also for those that were not reached.
    """
    load_profile(profile)
    paths = find_notebooks(folder, notebooks or OF_PROFILE.get(profile))
    parameters: dict[Path, dict[str, object]] = {path: {"profile": profile} for path in paths}
    for path in paths:
        check_parameters(path, parameters[path])
        if "interactive" in parameters_of(path):  # nobody is there to drag a box
            parameters[path]["interactive"] = False
        if seeds and "seeds" in parameters_of(path):
            parameters[path]["seeds"] = seeds
    if seeds and not any("seeds" in given for given in parameters.values()):
        check_parameters(paths[0], {"seeds": seeds})  # none has it: said, not ignored
    here = runs / profile
    numbers = [path.name[:2] for path in paths if path.name[:2] in TRAINING]
    ahead: AbstractContextManager = nullcontext()
    if profile == "mini" and folder == NOTEBOOKS and numbers and (os.cpu_count() or 1) > 1:
        paths.sort(key=lambda path: path.name[:2] in TRAINING)
        ahead = trainings_ahead(numbers, seeds or 1, here / "trainings.log")

    timeout = cell_timeout or CELL_TIMEOUT.get(profile, CELL_TIMEOUT["mini"])
    write_environment(here)
    started = time.time()
    done = [NotebookRun(path.stem) for path in paths]
    width = max(len(run.name) for run in done)
    minutes = [expected_minutes(path, seeds or 1) if profile == "mini" else 0 for path in paths]
    print(f"{len(paths)} notebook{'s' * (len(paths) > 1)}, profile {profile}", flush=True)
    with kernel_environment(profile), quiet_logs(), ahead:
        for i, (path, run) in enumerate(zip(paths, done, strict=True)):
            run.output = here / "notebooks" / path.name
            if minutes[i]:
                pace = (time.time() - started) / 60 / sum(minutes[:i]) if any(minutes[:i]) else 1
                left = f"about {pace * minutes[i]:.0f} min, then {pace * sum(minutes[i + 1 :]):.0f} more"
                print(f"{run.name:<{width}}  {left}", flush=True)
            execute(path, run, parameters[path], timeout, width)
            if run.status != "passed":
                print(run.error, flush=True)
                break

    elapsed = time.time() - started
    tables, figures = _files_since(started, here / "results", "*"), _files_since(started, here / "figures", "*")
    beside = compare([path for path in tables if path.suffix == ".csv"], committed / profile)
    done.sort(key=lambda run: run.name)
    report = write_report(done, profile, elapsed, tables, figures, here / "report.html", beside)
    print(_summary(done, profile, elapsed, tables, figures, report, beside), flush=True)
    if update and all(run.status == "passed" for run in done):
        (committed / profile).mkdir(parents=True, exist_ok=True)
        for table in tables:
            shutil.copy(table, committed / profile)
        for run in done:
            save_outputs(folder / f"{run.name}.ipynb", cast(Path, run.output))
    return done


def compare(tables: Sequence[Path], committed: Path) -> list[Table]:
    """A run's tables beside the committed ones, and its claims; nothing where none are committed."""
    if not tables or not committed.is_dir():
        return []
    claims = [path for path in tables if path.name == "claims.csv" and (committed / path.name).is_file()]
    return [tables_agree(tables, committed), *(claims_agree(path, committed / path.name) for path in claims)]


def expected_minutes(path: Path, seeds: int = 1) -> int | float:
    """What a notebook's run card says of `mini` with one seed and with three, drawn out to others; 0: nothing."""
    found = re.search(r"mini: (\d+) minutes? on 2 cores(?:, (\d+) with three seeds)?", _read(path).cells[0].source)
    if not found:
        return 0
    one, three = (int(minutes or found[1]) for minutes in found.groups())
    return one + (three - one) / 2 * (seeds - 1)


@contextmanager
def trainings_ahead(numbers: Sequence[str], seeds: int, log: Path) -> Iterator[None]:
    """A process that trains what the notebooks of these numbers will ask for, while others run: no core waits."""
    code = "import sys; from sameo_core.reproduction import train_ahead; train_ahead(sys.argv[2:], int(sys.argv[1]))"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        command = [sys.executable, "-c", code, str(seeds), *numbers]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def train_ahead(numbers: Sequence[str], seeds: int) -> None:
    """The trainings of notebooks 03 to 05, first those that need no Amodal-LVIS; a notebook finds or awaits them."""
    run = load_profile("mini", seeds=tuple(range(seeds)))
    supervised = [(train, recipe(f"supervised_{name}", run)) for name in SUPERVISED]
    arms = [(train, arm) for question in QUESTIONS for arm in ablation(question, run).values()]
    jobs = {"03": supervised, "05": [(train, run), (train_amodal_rcnn, run)], "04": arms}
    for work, profile in [job for number, listed in jobs.items() if number in numbers for job in listed]:
        for seed in run.training.seeds:
            work(profile, seed)


def save_outputs(path: Path, executed: Path) -> None:
    """Takes the outputs of an executed copy into a notebook: of cells tagged ``keep_output``; all others are stripped.

    For a reader on the web, after a ``mini`` run worth showing. What goes to stderr is left out.

    Args:
        path: the notebook, rewritten.
        executed: its executed copy, ``NotebookRun.output``.
    """
    notebook = _read(path)
    shown = {cell.id: cell for cell in _read(executed).cells}
    for _, cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        if "keep_output" in cell.metadata.get("tags", []) and cell.id in shown:
            cell.outputs = [output for output in shown[cell.id].outputs if output.get("name") != "stderr"]
            cell.execution_count = shown[cell.id].execution_count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    nbformat.write(notebook, path)


def execute(path: Path, run: NotebookRun, parameters: dict, timeout: int | float, width: int = 0) -> None:
    """Runs one notebook with papermill and fills in its NotebookRun; nothing the notebook does is raised."""
    notebook = _read(path)
    notebook.metadata.pop("widgets", None)
    output = cast(Path, run.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, output)
    cells = len(code_cells(notebook))
    failing_line = None
    with Progress(run.name, cells, width) as progress:
        try:
            papermill.execute_notebook(
                output,
                output,
                parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=path.parent,
                execution_timeout=timeout,
                coalesce_streams=True,
                store_widget_state=False,
                extra_arguments=["--IPKernelApp.log_level=50"],
                on_cell_execute=progress.cell_begins,
            )
            if progress.begun < cells:  # sys.exit() ends a notebook without an error
                raise RuntimeError("the notebook stopped before its end")
            run.status = "passed"
        except KeyboardInterrupt:
            run.status, run.error = "interrupted", f"{run.name} was interrupted by Ctrl-C"
            logging.getLogger("asyncio").disabled = True  # else it may tell, with a traceback, of the cell that was cut
        except Exception as error:
            failing_line = _failing_line(error)
            run.status, run.error = "failed", _explain(error, run, notebook, progress, failing_line, timeout)
        executed_cells = progress.begun - (run.status != "passed")
        run.checks = _checks_held(notebook, executed_cells, failing_line)
        run.seconds = progress.seconds
        progress.end(run)


def _checks_held(notebook: nbformat.NotebookNode, executed_cells: int, failing_line: int | None) -> int:
    """Asserts under "## Check" in the first code cells, and in the failing one those before the failing line."""
    checks = 0
    for position, (heading, cell) in enumerate(code_cells(notebook), start=1):
        if heading == "Check" and position <= executed_cells:
            checks += count_asserts(cell.source)
        elif heading == "Check" and position == executed_cells + 1 and failing_line:
            checks += count_asserts(cell.source, before_line=failing_line)
    return checks


def _explain(
    error: Exception,
    run: NotebookRun,
    notebook: nbformat.NotebookNode,
    progress: "Progress",
    failing_line: int | None,
    timeout: int | float,
) -> str:
    """Notebook, cell, heading, line and error: what a reader needs to go and look."""
    match error:
        case PapermillExecutionError():
            what = f"{error.ename}: {_plain(str(error.evalue)).strip()}".rstrip(": ")
            places = re.findall(r"^File (.+?:\d+)", _plain("\n".join(error.traceback)), re.MULTILINE)
            ours = [place for place in places if place.startswith(str(ROOT / "sameo_core"))]
            if places:
                what += f"\n(raised in {(ours or places)[-1].removeprefix(f'{ROOT}{os.sep}')})"
        case DeadKernelError():
            what = "the kernel died: out of memory, or a crash in compiled code"
        case CellTimeoutError():
            what = f"the cell took longer than its {timeout:g} s"
        case _:
            what = f"{type(error).__name__}: {_plain(str(error)).strip()}".rstrip(": ")
    lines = what.splitlines()
    what = "\n".join(lines if len(lines) <= 12 else [*lines[:10], "...", lines[-1]])

    cells = code_cells(notebook)
    if not 1 <= progress.begun <= len(cells):
        return f"{run.name} failed before its first cell\n{what}"
    heading, cell = cells[progress.begun - 1]
    where = f'{run.name} failed in code cell {progress.begun} of {len(cells)}, under "{heading}"'
    if failing_line and failing_line <= len(cell.source.splitlines()):
        where += f", line {failing_line}:\n    {cell.source.splitlines()[failing_line - 1].strip()}"
    return f"{where}\n{what}\nAs far as it came: {_shown(cast(Path, run.output))}"


def _failing_line(error: Exception) -> int | None:
    """The line of the failing cell, from IPython's traceback."""
    if not isinstance(error, PapermillExecutionError):
        return None
    lines = re.findall(rf"Cell In\[{error.exec_count}\], line (\d+)", _plain("\n".join(error.traceback)))
    return int(lines[-1]) if lines else None


@contextmanager
def kernel_environment(profile: str = "") -> Iterator[None]:
    """What the kernels inherit: this checkout's sameo_core, no progress bars, in `mini` no instructions but AVX2's."""
    before = dict(os.environ)
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the debugger's warning at each start of a kernel
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before.get("PYTHONPATH")]))
    if profile == "mini" and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        os.environ.update(AVX2)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Errors are told here, once; papermill and asyncio would tell them again."""
    loggers = [logging.getLogger(name) for name in ("papermill", "asyncio", "traitlets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


# ---------------------------------------------------------------------------------------------------- in the terminal


class Progress:
    """One line a notebook: on a terminal it is rewritten each second, elsewhere repeated each half minute."""

    def __init__(self, name: str, cells: int, width: int = 0):
        self.name, self.cells, self.width = name, cells, width
        self.begun = 0  # code cells that were begun, papermill's own not counted
        self.live = sys.stdout.isatty()
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def seconds(self) -> float:
        """Since the notebook was started."""
        return time.monotonic() - self._started

    def __enter__(self) -> "Progress":
        self._show()
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._ticker.join()

    def cell_begins(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Called by nbclient before each code cell."""
        if "injected-parameters" in cell.metadata.get("tags", []):
            return
        self.begun += 1
        if self.live:
            self._show()

    def end(self, run: NotebookRun) -> None:
        """The notebook's last line."""
        self.__exit__()
        line = f"{run.name:<{self.width}}  {run.status:<11}  {_clock(run.seconds):>7}  {_checks(run.checks)}"
        print(f"\r\x1b[K{line}" if self.live else line, flush=True)

    def _tick(self) -> None:
        while not self._stop.wait(1 if self.live else 30):
            self._show()

    def _show(self) -> None:
        line = f"{self.name:<{self.width}}  cell {self.begun:>2} of {self.cells}  {_clock(self.seconds):>7}"
        print(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n", flush=True)


def _summary(
    done: Sequence[NotebookRun],
    profile: str,
    elapsed: int | float,
    tables: Sequence[Path],
    figures: Sequence[Path],
    report: Path,
    beside: Sequence[Table],
) -> str:
    width = max(len(run.name) for run in done)
    rows = [("notebook", "runtime", "checks", "status")]
    rows += [(run.name, _clock(run.seconds) if run.output else "-", str(run.checks), run.status) for run in done]
    lines = ["", *(f"{name:<{width}}  {took:>7}  {checks:>6}  {status}" for name, took, checks, status in rows), ""]
    for what, files in (("Tables", tables), ("Figures", figures)):
        lines.append(f"{what}: {len(files)} written" + (f" in {_shown(files[0].parent)}" if files else ""))
        lines += [f"  {path.name}" for path in files]
    passed = sum(run.status == "passed" for run in done)
    lines += ["", *(f"{table}\n" for table in beside)]
    lines += [f"Report: {_shown(report)}"]
    lines += [
        f"{passed} of {len(done)} notebooks passed, {_checks(sum(run.checks for run in done))} held,"
        f" profile {profile}, {_clock(elapsed)} in all"
    ]
    return "\n".join(lines)


def _checks(number: int) -> str:
    return f"{number} check{'s' * (number != 1)}"


def _clock(seconds: int | float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _plain(text: str) -> str:
    """Without ANSI colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _shown(path: Path) -> str:
    return str(path).removeprefix(f"{ROOT}{os.sep}")


def _files_since(started: float, folder: Path, pattern: str) -> list[Path]:
    """Files written since then; a second of grace for coarse file systems."""
    files = folder.rglob(pattern) if folder.is_dir() else ()
    return sorted(path for path in files if path.is_file() and path.stat().st_mtime >= started - 1)


# --------------------------------------------------------------------------------------------------------- the report


def write_report(
    done: Sequence[NotebookRun],
    profile: str,
    elapsed: int | float,
    tables: Sequence[Path],
    figures: Sequence[Path],
    path: Path,
    beside: Sequence[Table] = (),
) -> Path:
    """One page with a summary and every executed notebook; it needs neither a network nor a second file.

    Raises InputError where it cannot be written.
    """
    escape = html.escape
    versions = [f"sameo {__version__}", *(f"{package} {version(package)}" for package in REPORTED_PACKAGES)]
    rows, contents, bodies = [], [], []
    for run in done:
        title, body = (run.name, "") if run.output is None else _notebook_html(run.output)
        anchor = f"notebook-{run.name.split('_')[0]}"
        rows.append(
            f"<tr><td>{escape(run.name)}</td><td class='number'>{_clock(run.seconds) if run.output else '-'}</td>"
            f"<td class='number'>{run.checks}</td><td class='{run.status.split()[0]}'>{run.status}</td></tr>"
        )
        if body:
            contents.append(f"<li><a href='#{anchor}'>{escape(title)}</a></li>")
            bodies.append(f"<article id='{anchor}'>{body}</article>")
    written = "".join(
        f"<p>{what} written: {', '.join(_link(file, path.parent) for file in files) or 'none'}</p>"
        for what, files in (("Tables", tables), ("Figures", figures))
    )
    written += "".join(table._repr_html_() for table in beside)
    errors = "".join(f"<pre class='error'>{escape(run.error)}</pre>" for run in done if run.error)
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>SAMEO in the open: profile {escape(profile)}</title><style>{STYLE}</style></head><body>
<header><h1>SAMEO in the open</h1>
<p>Profile <b>{escape(profile)}</b>, {datetime.now():%Y-%m-%d %H:%M}, {_clock(elapsed)} in all</p>
<p>Python {platform.python_version()} on {escape(platform.system())} {platform.machine()}, {os.cpu_count()} cores;
{escape(", ".join(versions))}</p>
<table><tr><th>notebook</th><th>runtime</th><th>checks</th><th>status</th></tr>{"".join(rows)}</table>
{errors}{written}<nav><h2>Contents</h2><ul>{"".join(contents)}</ul></nav></header>
{"".join(bodies)}</body></html>
"""
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _notebook_html(path: Path) -> tuple[str, str]:
    """Title and HTML of an executed notebook: no prompts, no widgets, nothing fetched from elsewhere."""
    notebook = _read(path)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if "widget" in kind or "javascript" in kind]:
                del output.data[kind]  # what a reader sees without a kernel is the text or picture beside it
    exporter = HTMLExporter(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(path.parent)}})
    body = re.sub(r"<script\b[^>]*\bsrc\s*=.*?</script\s*>", "", body, flags=re.DOTALL | re.IGNORECASE)
    body = re.sub(r"<link\b[^>]*>|@import[^;]*;", "", body, flags=re.IGNORECASE)
    title = next((heading for heading, _ in sections(notebook) if heading), path.stem)
    return title, body


def _link(file: Path, start: Path) -> str:
    return f"<a href='{html.escape(Path(os.path.relpath(file, start)).as_posix())}'>{html.escape(file.name)}</a>"


STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1, h2, h3 { line-height: 1.25; font-weight: 600; }
h1 { font-size: 1.7rem; margin: 0 0 .6rem; } h2 { font-size: 1.25rem; margin: 1.8rem 0 .5rem; }
a { color: #1a5fa8; } article { border-top: 3px solid #ddd; margin-top: 3rem; padding-top: 2rem; }
nav ul { padding-left: 1.2rem; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #999; } td.number { text-align: right; }
.passed { color: #19692c; } .failed, .interrupted { color: #b3261e; font-weight: 600; } .not { color: #777; }
pre, code { font: .86rem/1.45 ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: 0; overflow-x: auto; } img, svg { max-width: 100%; height: auto; }
.input_area { background: #f6f7f8; border-left: 3px solid #c8d3de; padding: .5rem .8rem; margin: .6rem 0; }
.highlight .k, .highlight .kn, .highlight .ow, .highlight .kc { color: #7a3e9d; } .highlight .c1 { color: #6a737d; }
.highlight [class^="s"] { color: #3a6b1f; } .highlight [class^="m"] { color: #9a5b00; }
.output_area { margin: .4rem 0 .8rem; overflow-x: auto; }
.output_stderr, pre.error, .output_error { background: #fdf1f0; padding: .5rem .8rem; }
.ansi-red-fg, .ansi-red-intense-fg { color: #b3261e; } .ansi-green-fg, .ansi-green-intense-fg { color: #19692c; }
.ansi-blue-fg, .ansi-cyan-fg { color: #1a5fa8; } .ansi-bold { font-weight: 600; }
@media print { body { max-width: none; } article { break-before: page; } }
"""
