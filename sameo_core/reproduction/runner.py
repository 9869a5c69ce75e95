"""Runs the notebooks, shows their progress, and combines their outputs into one page."""

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import cast

import nbformat
import papermill
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from sameo_core.config import NOTEBOOKS, RESULTS, ROOT, RUNS, load_profile
from sameo_core.pipeline import trainings
from sameo_core.reporting import Table, claims_agree, tables_agree
from sameo_core.reproduction.notebooks import (
    check_parameters,
    code_cells,
    count_asserts,
    expected_minutes,
    find_notebooks,
    parameters_of,
    read_notebook,
    save_outputs,
)
from sameo_core.reproduction.report import NotebookRun, clock, count_checks, short, summary, write_report
from sameo_core.runs.folders import write_environment

# Seconds, in case a kernel stalls
CELL_TIMEOUT = {"mini": 3600.0, "photo": 12 * 3600.0, "paper": 7 * 24 * 3600.0}
OF_PROFILE = {"photo": ("A2",)}  # for profiles that not all notebooks support
TRAINING = ("03", "04", "05")  # the notebooks that train most: they run last, see `trainings_ahead`
# One instruction set for all recent x86 CPUs, so that sums differ less; costs those with more 1 % of the speed
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}


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
    """Run notebooks headlessly, stop at the first that fails, compare their tables with the committed ones.

    Everything is written to ``runs/<profile>/``: executed copies, tables (``results/``), figures, ``report.html`` and
    ``environment.json``. Nothing tracked changes without `update`.

    Args:
        profile: parameter of every notebook; a parameter `interactive` is set to False.
        notebooks: numbers or names; None: all, or those of the profile (`OF_PROFILE`).
        seeds: trainings of each model, for the notebooks with this parameter; None: as they say, once.
        update: if all pass, replace the committed tables and outputs.
        folder, runs: folders of the notebooks and of all output.
        committed: folder of the committed tables, with one folder per profile.
        cell_timeout: seconds per cell; None: the profile's.

    Returns:
        One NotebookRun per notebook, also for those that were not reached.
    """
    load_profile(profile)
    paths = find_notebooks(folder, notebooks or OF_PROFILE.get(profile))
    parameters = _parameters(paths, profile, seeds)
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
    minutes = [expected_minutes(path, seeds or 1) if profile == "mini" else 0 for path in paths]
    print(f"{len(paths)} notebook{'s' * (len(paths) > 1)}, profile {profile}", flush=True)
    with kernel_environment(profile), quiet_logs(), ahead:
        _run_in_order(paths, done, here / "notebooks", parameters, timeout, minutes)
    elapsed = time.time() - started
    tables, figures = _files_since(started, here / "results", "*"), _files_since(started, here / "figures", "*")
    beside = compare([path for path in tables if path.suffix == ".csv"], committed / profile)
    done.sort(key=lambda run: run.name)
    text = summary(done, profile, elapsed, tables, figures, beside)
    report = write_report(done, profile, text, [*tables, *figures], here / "report.html")
    print(f"\n{text}\nReport: {short(report)}", flush=True)
    if update and all(run.status == "passed" for run in done):
        _commit(done, tables, folder, committed / profile)
    return done


def _commit(runs: Sequence[NotebookRun], tables: Sequence[Path], notebooks: Path, results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    for table in tables:
        shutil.copy(table, results)
    for run in runs:
        save_outputs(notebooks / f"{run.name}.ipynb", cast(Path, run.output))


def _run_in_order(
    paths: Sequence[Path],
    runs: Sequence[NotebookRun],
    executed: Path,
    parameters: Mapping[Path, dict[str, object]],
    timeout: int | float,
    minutes: Sequence[int | float],
) -> None:
    """Execute notebooks, into the folder `executed`, until one fails.

    Before each, prints the minutes that it and the rest will take at the pace so far; 0 minutes: unknown, not printed.
    """
    started, width = time.time(), max(len(run.name) for run in runs)
    for i, (path, run) in enumerate(zip(paths, runs, strict=True)):
        if minutes[i]:
            pace = (time.time() - started) / 60 / sum(minutes[:i]) if any(minutes[:i]) else 1
            left = f"about {pace * minutes[i]:.0f} min, then {pace * sum(minutes[i + 1 :]):.0f} more"
            print(f"{run.name:<{width}}  {left}", flush=True)
        run.output = executed / path.name
        execute(path, run, parameters[path], timeout, width)
        if run.status != "passed":
            print(run.error, flush=True)
            break


def _parameters(paths: Sequence[Path], profile: str, seeds: int | None) -> dict[Path, dict[str, object]]:
    """Each notebook's parameters; InputError if one lacks `profile`, or all lack `seeds`."""
    parameters: dict[Path, dict[str, object]] = {path: {"profile": profile} for path in paths}
    for path, given in parameters.items():
        check_parameters(path, given)
        if "interactive" in parameters_of(path):  # there is no user to drag a box
            given["interactive"] = False
        if seeds and "seeds" in parameters_of(path):
            given["seeds"] = seeds
    if seeds and not any("seeds" in given for given in parameters.values()):
        check_parameters(paths[0], {"seeds": seeds})
    return parameters


def compare(tables: Sequence[Path], committed: Path) -> list[Table]:
    """A run's tables and claims beside the committed ones, if there are any."""
    if not tables or not committed.is_dir():
        return []
    claims = [path for path in tables if path.name == "claims.csv" and (committed / path.name).is_file()]
    return [tables_agree(tables, committed), *(claims_agree(path, committed / path.name) for path in claims)]


@contextmanager
def trainings_ahead(numbers: Sequence[str], seeds: int, log: Path) -> Iterator[None]:
    """Train in another process, while other notebooks run, the models that these notebooks need."""
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
    """Train the models of notebooks 03 to 05, first those without Amodal-LVIS; notebooks find or await them."""
    for number, work, profile, seed in trainings(load_profile("mini", seeds=tuple(range(seeds)))):
        if number in numbers:
            work(profile, seed)


def execute(path: Path, run: NotebookRun, parameters: dict, timeout: int | float, width: int = 0) -> None:
    """Run one notebook with papermill and fill in its NotebookRun; its errors are recorded, not raised."""
    notebook = read_notebook(path)
    notebook.metadata.pop("widgets", None)
    output = cast(Path, run.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, output)
    cells, begun, started = len(code_cells(notebook)), 0, time.monotonic()

    def cell_begins(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal begun
        begun += "injected-parameters" not in cell.metadata.get("tags", [])

    try:
        papermill.execute_notebook(
            output,
            output,
            parameters,
            kernel_name="python3",
            language="python",
            progress_bar={"desc": run.name, "leave": False, "mininterval": 1 if sys.stderr.isatty() else 30},
            cwd=path.parent,
            execution_timeout=timeout,
            coalesce_streams=True,
            store_widget_state=False,
            extra_arguments=["--IPKernelApp.log_level=50"],
            on_cell_execute=cell_begins,
        )
        if begun < cells:  # sys.exit() ends a notebook without an error
            raise RuntimeError("the notebook stopped before its end")
        run.status = "passed"
    except KeyboardInterrupt:
        run.status, run.error = "interrupted", f"{run.name} was interrupted by Ctrl-C"
        logging.getLogger("asyncio").disabled = True  # it may print a traceback of the interrupted cell
    except Exception as error:
        run.status, run.error = "failed", _explain(error, run, notebook, begun, timeout)
    finished = code_cells(notebook)[: begun - (run.status != "passed")]
    run.checks = sum(count_asserts(cell.source) for heading, cell in finished if heading == "Check")
    run.seconds = time.monotonic() - started
    print(f"{run.name:<{width}}  {run.status:<11}  {clock(run.seconds):>7}  {count_checks(run.checks)}", flush=True)


def _explain(
    error: Exception, run: NotebookRun, notebook: nbformat.NotebookNode, begun: int, timeout: int | float
) -> str:
    """Notebook, cell, heading, line and error."""
    name, text, trace = type(error).__name__, str(error), ""
    if isinstance(error, PapermillExecutionError):
        name, text, trace = error.ename, str(error.evalue), _plain("\n".join(error.traceback))
    what = f"{name}: {_plain(text).strip()}".rstrip(": ")
    if isinstance(error, DeadKernelError):
        what = "the kernel died: out of memory, or a crash in compiled code"
    elif isinstance(error, CellTimeoutError):
        what = f"the cell took longer than its {timeout:g} s"
    lines = what.splitlines()
    what = "\n".join(lines if len(lines) <= 12 else [*lines[:10], "...", lines[-1]])
    places = re.findall(r"^File (.+?:\d+)", trace, re.MULTILINE)
    if places:
        ours = [place for place in places if place.startswith(str(ROOT / "sameo_core"))]
        what += f"\n(raised in {short(Path((ours or places)[-1]))})"

    cells = code_cells(notebook)
    if not 1 <= begun <= len(cells):
        return f"{run.name} failed before its first cell\n{what}"
    heading, cell = cells[begun - 1]
    where = f'{run.name} failed in code cell {begun} of {len(cells)}, under "{heading}"'
    numbers = re.findall(rf"Cell In\[{getattr(error, 'exec_count', None)}\], line (\d+)", trace)
    if numbers and int(numbers[-1]) <= len(cell.source.splitlines()):
        where += f", line {numbers[-1]}:\n    {cell.source.splitlines()[int(numbers[-1]) - 1].strip()}"
    return f"{where}\n{what}\nExecuted so far: {short(cast(Path, run.output))}"


@contextmanager
def kernel_environment(profile: str = "") -> Iterator[None]:
    """The environment of kernels: this checkout's sameo_core, no progress bars; in `mini` one thread and AVX2 only."""
    before = dict(os.environ)
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # silences a warning at each start of a kernel
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before.get("PYTHONPATH")]))
    if profile == "mini":  # with nano's small matrices two threads take 1.5 times as long as one
        os.environ["OMP_NUM_THREADS"] = "1"
    if profile == "mini" and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        os.environ.update(AVX2)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence papermill and asyncio: errors are reported here, once."""
    loggers = [logging.getLogger(name) for name in ("papermill", "asyncio", "traitlets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _plain(text: str) -> str:
    """Without ANSI colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _files_since(started: float, folder: Path, pattern: str) -> list[Path]:
    """Files written since `started`, with a second of tolerance for coarse file systems."""
    files = folder.rglob(pattern) if folder.is_dir() else ()
    return sorted(path for path in files if path.is_file() and path.stat().st_mtime >= started - 1)
