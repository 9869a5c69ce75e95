"""Unpack zip and tar archives, and report a full disk."""

import errno
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path

from tqdm import tqdm

from sameo_core.errors import InputError
from sameo_core.runs.atomic import make_folder, unwritable


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder; the filters of zipfile and tarfile keep all members inside.

    Raises:
        InputError: not an archive, a damaged one, or one that tarfile's filter refuses.
    """
    make_folder(folder)
    title = f"unpacking {archive.name}"
    with full_disk(folder):
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as unzipped:
                    members = unzipped.infolist()
                    check_space(folder, sum(member.file_size for member in members), title)
                    for member in tqdm(members, desc=title, unit="file"):
                        unzipped.extract(member, folder)
            else:
                with tarfile.open(archive, "r:*") as tar:
                    tar.extractall(folder, members=tqdm(tar, desc=title, unit="file"), filter="data")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError, RuntimeError) as error:
            rule = f"cannot be unpacked, damaged or not an archive: {error}"
            raise InputError(file=archive, rule=rule, remedy="Delete it and run this again") from error


def lift(folder: Path, inside: str) -> bool:
    """Remove an archive's single top folder: `folder`/*/`inside` becomes `folder`/`inside`.

    False if there is no such folder, or something would be overwritten.
    """
    around = [outer for outer in folder.iterdir() if (outer / inside).exists()]
    children = list(around[0].iterdir()) if len(around) == 1 else []
    if not children or any((folder / child.name).exists() for child in children):
        return False
    for child in children:
        os.replace(child, folder / child.name)
    around[0].rmdir()
    return True


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise InputError if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        rule = f"{what} needs {needed:,} bytes, the disk has {free:,} free"
        raise InputError(file=folder, rule=rule, remedy="Free some space, or choose another disk with --root")


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn the error of a full disk, met while `path` is written, into an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise unwritable(path, error) from error
        raise
