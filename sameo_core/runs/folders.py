"""Run folders: one process at a time writes, checkpoint and log stay consistent, the environment is recorded."""

import csv
import errno
import json
import os
import platform
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from sameo_core import __version__
from sameo_core.runs.atomic import atomic_write, unwritable
from sameo_core.runs.kept import read_kept

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it for this process; wait, and say so, while another process holds it.

    The operating system releases the lock, the file `lock`, when its process dies; the next holder removes partial
    files. A process may lock a folder twice. On a read-only file system this is a no-op.

    Raises:
        InputError: the folder cannot be made: full disk, or a file in its place.
    """
    lock = FileLock(folder / "lock", is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=5, poll_interval=0.2)  # seconds
        except Timeout:
            print(f"{folder.name}: another process is at work on it; waiting for its result", file=sys.stderr)
            lock.acquire(poll_interval=0.2)
        if lock.lock_counter == 1:
            for leftover in folder.glob("*.partial"):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        lock.release()
        if error.errno not in READ_ONLY:
            raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def save_checkpoint(state: dict, path: Path) -> None:
    """Write a checkpoint atomically, with the current content of `log.csv` beside it.

    Raises:
        InputError: the disk is full, or nothing may be written there.
    """
    log = path.with_name("log.csv")
    state = state | {"log": log.read_bytes().decode() if log.exists() else ""}
    with atomic_write(path) as partial, partial.open("wb") as file:  # closed after an error, it frees the disk
        try:
            torch.save(state, file)
        except RuntimeError as error:  # on a full disk: "unexpected pos"
            raise OSError(f"PyTorch says {error}") from error


def load_checkpoint(path: Path) -> dict | None:
    """Load a checkpoint to the CPU and restore the log that was saved with it; None if there is none.

    A damaged checkpoint is renamed to `<name>.corrupt` with a warning, and the run starts over. `torch.load` does not
    verify checksums, so this does.

    Raises:
        InputError: the log cannot be written.
    """
    log = path.with_name("log.csv")
    if not path.exists():
        log.unlink(missing_ok=True)
        return None
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f"{damaged} has another checksum")
        state = torch.load(path, weights_only=True, map_location="cpu")
        lines = state.pop("log").encode()
    except Exception as error:  # zip, pickle and torch each have their own errors
        aside = path.with_name(f"{path.name}.corrupt")
        os.replace(path, aside)
        found = f"{path}: the checkpoint is damaged ({error}); it is put aside as {aside.name}"
        warnings.warn(f"{found}, and the run begins again", stacklevel=2)
        return load_checkpoint(path)  # there is none
    with atomic_write(log) as partial:
        partial.write_bytes(lines)
    return state


def append_log(path: Path, row: Mapping[str, int | float | str]) -> None:
    """Append a row to a CSV log, with a header if it is the first. Raises InputError if it cannot be written."""
    try:
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise unwritable(path, error) from error


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


# ----------------------------------------------------------------------- environment: what else results depend on

ENVIRONMENT = "environment.json"  # in the run folder
PACKAGES = ("torchvision", "numpy", "pycocotools")
CODE = Path(__file__).resolve().parents[2]


def environment(code: Path = CODE) -> dict[str, object]:
    """This process, for JSON: package versions, Python, system, CPU, torch's threads and instruction set, git commit.

    Args:
        code: the checkout of `git_commit`, which is None without one, or without git. `git_dirty`: `sameo_core` or
            `notebooks` differ from that commit.
    """
    status = _git(code, "status", "--porcelain", "--", "sameo_core", "notebooks")
    return {
        "packages": {"sameo": __version__, "torch": torch.__version__} | {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "git_commit": _git(code, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def write_environment(folder: Path) -> Path:
    """Write `environment` of this process to `environment.json` in a run folder; returns the path.

    A run that resumes elsewhere keeps its earlier environments, under `earlier`, the latest last.
    """
    path, now = folder / ENVIRONMENT, environment()
    before = read_kept(path) or {}
    known = [*before.pop("earlier", []), before] if before else []
    earlier = [one for one in known if one != now]
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(now | ({"earlier": earlier} if earlier else {}), indent=1), encoding="utf-8")
    return path


def _cpu_model() -> str:
    """The CPU's name, or else the machine type."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name = line.partition(":")[2].strip()
            if line.startswith("model name") and name:
                return name
    return platform.processor() or platform.machine()


def _git(code: Path, *arguments: str) -> str | None:
    """The output of git in a checkout; None without one, or without git."""
    if not (code / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(code), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
