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

import nbformat
import papermill
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from sameo_core.config import NOTEBOOKS, RESULTS, ROOT, RUNS, load_profile
from sameo_core.pipeline import trainings
from sameo_core.reporting import Table
from sameo_core.reporting.committed import claims_agree, tables_agree
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
from sameo_core.reproduction.report import (
    NotebookRun,
    brief,
    clock,
    count_checks,
    notebook_table,
    outcome,
    short,
    write_report,
)
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
        folder, runs, committed: of the notebooks, of all output, and of the committed tables.
        cell_timeout: seconds per cell; None: the profile's.

    Returns:
        One NotebookRun per notebook, also for those that were not reached.
    """
    load_profile(profile)
    paths = find_notebooks(folder, notebooks or OF_PROFILE.get(profile))
    parameters = _parameters(paths, profile, seeds)
    here, started = runs / profile, time.time()
    numbers = [path.name[:2] for path in paths if path.name[:2] in TRAINING]
    ahead: AbstractContextManager = nullcontext()
    if profile == "mini" and folder == NOTEBOOKS and numbers and (os.cpu_count() or 1) > 1:
        paths.sort(key=lambda path: path.name[:2] in TRAINING)
        ahead = trainings_ahead(numbers, seeds or 1, here / "trainings.log")
    write_environment(here)
    done = [NotebookRun(path.stem, output=here / "notebooks" / path.name) for path in paths]
    minutes = [expected_minutes(path, seeds or 1) if profile == "mini" else 0 for path in paths]
    print(f"{len(paths)} notebook{'s' * (len(paths) > 1)}, profile {profile}", flush=True)
    with kernel_environment(profile), quiet_logs(), ahead:
        _run_in_order(paths, done, parameters, cell_timeout or CELL_TIMEOUT[profile], minutes)
    tables, figures = _files_since(started, here / "results"), _files_since(started, here / "figures")
    beside = _compare([path for path in tables if path.suffix == ".csv"], committed / profile)
    done.sort(key=lambda run: run.name)
    line, listed = outcome(done, profile, time.time() - started), notebook_table(done)
    files = [*_files_since(started, runs / "photo" / "figures"), here / "environment.json", *tables, *figures]
    report = write_report(
        done, profile, line, [*reversed(beside), listed], [*dict.fromkeys(files)], here / "report.html"
    )
    print("", listed, *([brief(*beside)] if beside else []), f"{line}\nReport: {short(report)}", sep="\n\n", flush=True)
    if update and all(run.status == "passed" for run in done):
        _commit(done, tables, folder, committed / profile)
    return done


def _commit(runs: Sequence[NotebookRun], tables: Sequence[Path], notebooks: Path, results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    for table in tables:
        shutil.copy(table, results)
    for run in runs:
        save_outputs(notebooks / f"{run.name}.ipynb", run.output)


def _run_in_order(
    paths: Sequence[Path],
    runs: Sequence[NotebookRun],
    parameters: Mapping[Path, dict[str, object]],
    timeout: int | float,
    minutes: Sequence[int | float],
) -> None:
    """Execute notebooks until one fails.

    Before each, prints the minutes that it and the rest will take at the pace so far; 0 minutes: unknown, not printed.
    """
    started, width = time.time(), max(len(run.name) for run in runs)
    for i, (path, run) in enumerate(zip(paths, runs, strict=True)):
        if minutes[i]:
            pace = (time.time() - started) / 60 / sum(minutes[:i]) if any(minutes[:i]) else 1
            left = f"about {pace * minutes[i]:.0f} min, then {pace * sum(minutes[i + 1 :]):.0f} more"
            print(f"{run.name:<{width}}  {left}", flush=True)
        execute(path, run, parameters[path], timeout)
        print(f"{run.name:<{width}}  {run.status:<11}  {clock(run.seconds):>7}  {count_checks(run.checks)}", flush=True)
        if run.status != "passed":
            print(run.error, flush=True)
            break


def _parameters(paths: Sequence[Path], profile: str, seeds: int | None) -> dict[Path, dict[str, object]]:
    """Each notebook's parameters; InputError if one lacks `profile`, or all lack `seeds`."""
    wanted: dict[str, object] = {"profile": profile, "interactive": False}  # there is no user to drag a box
    if seeds:
        wanted["seeds"] = seeds
    parameters = {}
    for path in paths:
        check_parameters(path, {"profile": profile})
        parameters[path] = {name: value for name, value in wanted.items() if name in parameters_of(path)}
    if seeds and not any("seeds" in given for given in parameters.values()):
        check_parameters(paths[0], {"seeds": seeds})
    return parameters


def _compare(tables: Sequence[Path], committed: Path) -> list[Table]:
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


def execute(path: Path, run: NotebookRun, parameters: dict, timeout: int | float) -> None:
    """Run one notebook with papermill and fill in its NotebookRun; its errors are recorded, not raised."""
    cells, begun, started = code_cells(read_notebook(path)), 0, time.monotonic()
    run.output.parent.mkdir(parents=True, exist_ok=True)

    def cell_begins(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal begun
        begun += "injected-parameters" not in cell.metadata.get("tags", [])

    try:
        papermill.execute_notebook(
            path,
            run.output,
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
        if begun < len(cells):  # sys.exit() ends a notebook without an error
            raise RuntimeError("the notebook stopped before its end")
        run.status = "passed"
    except KeyboardInterrupt:
        run.status, run.error = "interrupted", f"{run.name} was interrupted by Ctrl-C"
        logging.getLogger("asyncio").disabled = True  # it may print a traceback of the interrupted cell
    except Exception as error:
        heading, _ = cells[max(begun, 1) - 1]
        where = f'{run.name} failed in code cell {begun} of {len(cells)}, under "{heading}"'
        run.status, run.error = "failed", f"{where}\n{_reason(error, timeout)}\nExecuted so far: {short(run.output)}"
    finished = cells[: begun - (run.status != "passed")]
    run.checks = sum(count_asserts(cell.source) for heading, cell in finished if heading == "Check")
    run.seconds = time.monotonic() - started


def _reason(error: Exception, timeout: int | float) -> str:
    """What went wrong: of a cell, its traceback without ANSI colours."""
    if isinstance(error, DeadKernelError):
        return "the kernel died: out of memory, or a crash in compiled code"
    if isinstance(error, CellTimeoutError):
        return f"the cell took longer than its {timeout:g} s"
    trace = error.traceback if isinstance(error, PapermillExecutionError) else [f"{type(error).__name__}: {error}"]
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(trace))


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
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _files_since(started: float, folder: Path) -> list[Path]:
    """Files written since `started`, with a second of tolerance for coarse file systems."""
    return sorted(path for path in folder.glob("*") if path.stat().st_mtime >= started - 1)
