"""Files that are written whole or not at all, whoever is killed, runs out of disk, or writes the same at once."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sameo_core.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder that results go to, and those above it; raises InputError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file is in the way, or no rights
        rule, remedy = f"the folder cannot be made: {error.strerror}", "Choose another folder, or correct the rights"
        raise InputError(file=folder, rule=rule, remedy=remedy) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Where to write what shall become `path`: it takes that place in one step when the block ends without an error.

    Each process writes to a file of its own, `<name>.<host>-<process>.partial`; a kill may leave it behind.

    Raises:
        InputError: the disk is full, or nothing may be written there. What was there before is still there.
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
    """What the disk refuses, in words that say what to do."""
    room = ""
    with suppress(OSError):
        there = next(folder for folder in path.parents if folder.is_dir())
        room = f" ({shutil.disk_usage(there).free:,} bytes are free)"
    remedy = "Free space or correct the rights, and run this again"
    return InputError(file=path, rule=f"it cannot be written: {error.strerror or error}{room}", remedy=remedy)
