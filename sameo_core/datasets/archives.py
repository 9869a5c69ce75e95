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
from sameo_core.runs.atomic import make_folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder; the filters of zipfile and tarfile keep all members inside.

    Raises:
        InputError: not an archive, a damaged one, or one that tarfile's filter refuses.
    """
    make_folder(folder)
    title = f"unpacking {archive.name}"
    with full_disk(folder, archive):
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

    Returns:
        False if there is no such folder, or something would be overwritten.
    """
    around = {folder / path.relative_to(folder).parts[0] for path in folder.glob(f"*/{inside}")}
    if len(around) != 1:
        return False
    outer = around.pop()
    children = list(outer.iterdir())
    if any((folder / child.name).exists() for child in children):
        return False
    for child in children:
        os.replace(child, folder / child.name)
    outer.rmdir()
    return True


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise InputError if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        rule = f"{what} needs {needed:,} bytes, the disk has {free:,} free"
        raise InputError(file=folder, rule=rule, remedy="Free some space, or choose another disk with --root")


@contextmanager
def full_disk(folder: Path, kept: Path) -> Iterator[None]:
    """Turn a full-disk error into an InputError that says how many bytes of `kept` exist."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        size = kept.stat().st_size if kept.exists() else 0
        rule = f"the disk is full; {size:,} bytes are kept in {kept}"
        remedy = "Free some space and run this again: it goes on from there"
        raise InputError(file=folder, rule=rule, remedy=remedy) from error
