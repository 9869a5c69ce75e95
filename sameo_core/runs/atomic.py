"""Atomic writes: a file is complete or absent, even after a kill, on a full disk, or with several writers."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sameo_core.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder for results and its parents; raises InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file is in the way, or no rights
        rule, remedy = f"the folder cannot be made: {error.strerror}", "Choose another folder, or correct the rights"
        raise InputError(file=folder, rule=rule, remedy=remedy) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success.

    Each process has its own, `<name>.<host>-<process>.partial`; a killed process may leave it behind.

    Raises:
        InputError: the disk is full or not writable; the old file is untouched.
    """
    partial = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    make_folder(path.parent)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def unwritable(path: Path, error: OSError) -> InputError:
    """The error of a failed write, with the free space and a remedy."""
    room = ""
    with suppress(OSError):
        there = next(folder for folder in path.parents if folder.is_dir())
        room = f" ({shutil.disk_usage(there).free:,} bytes are free)"
    remedy = "Free space or correct the rights, and run this again"
    return InputError(file=path, rule=f"it cannot be written: {error.strerror or error}{room}", remedy=remedy)
