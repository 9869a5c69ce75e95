"""The folder of a run: one process at a time works on it; checkpoint and log are always whole."""

import csv
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from sameo_core.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder that results go to, and those above it; raises InputError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file is in the way, or no rights
        rule, remedy = f"the folder cannot be made: {error.strerror}", "Choose another folder, or correct the rights"
        raise InputError(file=folder, rule=rule, remedy=remedy) from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder, made if it is missing, for this process alone; waits, and says so, while another has it.

    A process that dies, however, no longer has it: the operating system releases the lock, a file `lock` in the folder.
    A process may claim a folder again that it has already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", is_singleton=True)
    try:
        lock.acquire(timeout=5, poll_interval=0.2)  # seconds; what is quicker is not worth a word
    except Timeout:
        print(f"{folder.name}: another process is at work on it; waiting for what it finds", file=sys.stderr)
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


def save_checkpoint(state: dict, path: Path) -> None:
    """Write a checkpoint in one step: a kill leaves the old one or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def append_log(path: Path, row: dict[str, int | float | str]) -> None:
    """Add a row to a CSV log, with a header where it is the first."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def truncate_log(path: Path, step: int) -> None:
    """Forget what was logged after the checkpoint, at `step`, that is resumed; in one step."""
    if not path.exists():
        return
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        lines = _whole_lines(path)
        for row, line in zip([None, *csv.DictReader(lines)], lines, strict=True):
            if row is None or int(row["step"]) <= step:
                file.write(line)
    os.replace(partial, path)


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log; of one that is being written, those that are whole."""
    return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(_whole_lines(path))]


def _whole_lines(path: Path) -> list[str]:
    with path.open(newline="") as file:
        lines = file.read().splitlines(keepends=True)
    return lines if not lines or lines[-1].endswith("\n") else lines[:-1]


def follow_log(
    folder: str | Path, result: str = "sameo.safetensors", seconds: float | int = 2.0
) -> Iterator[list[dict[str, float]]]:
    """The log of a run while another process works on it: all its rows so far, whenever there are more.

    It ends when the run is done, after all of its rows. A live curve, in a notebook beside the one that trains:

        for rows in follow_log(unfinished_runs(profile)[0]):
            clear_output(wait=True)
            display(figure_training_curves({"run": rows}, profile.name, ["total"]))

    Args:
        folder: of the run; it need not be there yet.
        result: the name of the file that the run ends with.
        seconds: between two looks.
    """
    folder, known = Path(folder), 0
    while True:
        done = (folder / result).exists()
        rows = read_log(folder / "log.csv") if (folder / "log.csv").exists() else []
        if len(rows) != known:
            known = len(rows)
            yield rows
        if done:
            return
        time.sleep(seconds)
