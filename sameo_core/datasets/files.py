"""Find and read files (JSON, pickles of plain data), and cache arrays that are slow to compute."""

import codecs
import hashlib
import io
import json
import os
import pickle
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from sameo_core.config import profiles
from sameo_core.errors import InputError
from sameo_core.runs.atomic import atomic_write

HEAD = 4096  # bytes, enough to identify a file type
LENIENT = "utf-8", "backslashreplace"  # names in files may contain a lone surrogate

# First bytes of a file that is not JSON -> remedy; the first match counts
_REMEDIES = {
    rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!": "This is an archive: unpack it, and give the file in it",
    rb"\x89PNG|\xff\xd8\xff|RIFF|GIF8|%PDF": "This is a picture or a document: give the file of annotations",
    rb"version https://git-lfs": "This is a pointer of Git LFS: fetch the file itself with `git lfs pull`",
    rb"\s*<": "This is XML or a web page: export as COCO JSON, or download the file itself",
    rb"\xff\xfe|\xfe\xff|[{[\"]\x00|\x00[{[\"]": "This is UTF-16 text: save it as UTF-8",
    rb"\s*\d+([ \t]+[-+.\deE]+){4,}(\s|$)": "This looks like labels of YOLO: convert them to COCO JSON",
    rb"\s*[\[{]\s*'": "This is Python's notation: write it with json.dump",
    rb"\s*[^\s{\[\"\-\dtfnNI]": "This is not JSON: give the file of annotations, as COCO JSON",
}


def find_file(root: Path, candidates: Sequence[str], name: str) -> Path:
    """The first of `candidates` (paths below `root`) that exists; the InputError lists candidates and files found."""
    if not root.is_dir():
        raise InputError(
            file=root,
            rule=f"the folder of {name} must exist",
            remedy="Give the folder as distributed, see data/README.md for the download",
        )
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    kinds = sorted({Path(candidate).suffix for candidate in candidates})
    folders = (root, root / "annotations")
    found = sorted(p.relative_to(root).as_posix() for d in folders for kind in kinds for p in d.glob(f"*{kind}"))
    kinds = [kind.removeprefix(".").upper() for kind in kinds]
    raise InputError(
        file=root / candidates[0],
        rule=f"annotation file of {name} must exist; looked for {', '.join(candidates)}; "
        f"{'/'.join(kinds)} files found: {', '.join(found[:20]) or 'none'}",
        remedy="Check root and split, see data/README.md for the download",
    )


def parse_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        InputError: missing or unreadable; not JSON (with the byte where it breaks), or nested too deeply.
    """
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as error:
        rule = f"the file must exist and be readable ({getattr(error, 'strerror', error)})"
        raise InputError(file=path, rule=rule, remedy="Check the path") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            place = len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))
            where = f"breaks at byte {place} of {len(text)}: {error.msg}"
        elif isinstance(error, UnicodeDecodeError):
            where = f"has a byte that is not UTF-8 at byte {error.start} of {len(text)}"
        else:
            where = f"cannot be parsed: {error}"
        raise not_json(path, where, text[:HEAD]) from error


def not_json(path: Path, where: str, head: bytes) -> InputError:
    """The error for a file that is not JSON, with its first bytes; the remedy depends on its apparent type."""
    remedy = "The file is damaged or incomplete: fetch it again"
    if "Extra data" in where:
        remedy = "If this is one JSON value per line, join them to one list, [..., ...]; else fetch it again"
    elif "not UTF-8" in where:
        remedy = "If it was saved in another encoding (GBK, Latin-1), save it as UTF-8; else fetch it again"
    head = head.removeprefix(codecs.BOM_UTF8)
    remedy = next((meant for start, meant in _REMEDIES.items() if re.match(start, head)), remedy)
    return InputError(file=path, rule=f"not valid JSON, it {where}", remedy=remedy)


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """A JSON object whose `keys` hold lists. Raises InputError, see `parse_json` and `check_lists`."""
    data = parse_json(path)
    found = {key: type(value).__name__ for key, value in data.items()} if isinstance(data, dict) else {}
    check_lists(path, type(data).__name__, found, keys)
    return cast(dict, data)


def check_lists(path: Path, kind: str, found: Mapping[str, str], keys: Sequence[str]) -> None:
    """Refuse a JSON file that is not an object (`kind`: "dict") with a list under each of `keys`.

    `found`: the object's keys and the types of their values.
    """
    if kind != "dict":
        rule = f"the file must be a JSON object with {', '.join(keys)}, found a {kind}"
        raise InputError(file=path, rule=rule, remedy="Use the annotation file as distributed")
    for key in keys:
        if found.get(key) != "list":
            there = f"a {found[key]}" if key in found else f"only the keys {', '.join(list(found)[:40]) or '(none)'}"
            rule = f'needs a list under "{key}", found {there}'
            raise InputError(file=path, rule=rule, remedy="Use the file as distributed")


def check_split(split: str, known: Collection[str], name: str) -> None:
    """Raise InputError unless the data set has this split."""
    if split not in known:
        rule = f"{name} has the splits {', '.join(known)}; found {split!r}"
        raise InputError(file="split", rule=rule, remedy="Give one of these")


def check_option(name: str, value: str | None, known: Collection[str]) -> None:
    """Refuse a reader option's value that is neither None nor one of `known`."""
    if value is not None and value not in known:
        rule = f"{name} can be {' or '.join(map(repr, known))}, found {value!r}"
        raise InputError(file=name, rule=rule, remedy="Give one of these, or leave it out")


_NAMED = {int: "whole number", Integral: "whole number", float: "number", Real: "number", str: "text", list: "list"}


def check_records(path: str | Path, records: Sequence[object], kind: str, wanted: Mapping[str, Any]) -> None:
    """Raise InputError for the first JSON record with a missing key or a value of the wrong type."""
    for i, record in enumerate(records):
        for key, form in wanted.items():
            value = record.get(key) if isinstance(record, Mapping) else None
            if not isinstance(value, form):
                forms = " or ".join(dict.fromkeys(_NAMED.get(kind, str(kind)) for kind in get_args(form) or (form,)))
                rule = f"needs {key} ({forms}), found {value!r}"[:200]
                raise InputError(file=path, record=f"{kind} {i}", rule=rule, remedy="Correct the record")


HEADER = "header"


def cache_file(*parts: object) -> Path:
    """The file in `data/runs/index` for the arrays identified by the `repr` of `parts`; it need not exist."""
    name = hashlib.sha256(repr(parts).encode(*LENIENT)).hexdigest()[:32]
    return profiles.RUNS / "index" / f"{name}.npz"


def load_arrays(path: Path) -> tuple[dict, dict[str, np.ndarray]] | None:
    """The header and the arrays of a cache file; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return dict(json.loads(arrays.pop(HEADER).tobytes())), arrays
    except Exception:  # zip, zlib, npy and JSON each raise their own errors
        return None


def save_arrays(path: Path, header: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a cache file atomically; on failure (full disk, no permission) none is written.

    Args:
        header: JSON values.
        arrays: by name; "header" is reserved.
    """
    content = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with suppress(InputError), atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **{HEADER: content}, **arrays)  # type: ignore[arg-type]  # not allow_pickle


SAMPLE = 1000  # texts; digests of more are cached


def kept_digest(
    key: str, count: int, texts: Callable[[Iterable[int]], Iterator[tuple[str, Iterable[Path]]]], start: str = ""
) -> str:
    """The sha256 of `start` and `count` texts, as hexadecimal digits; for more than SAMPLE texts it is cached.

    It is recomputed if `key`, one of at least SAMPLE evenly spaced texts or an entry of a folder (created, renamed,
    removed) changes. So a few files overwritten in place among many go unnoticed.

    Args:
        key: what the texts depend on besides the files.
        texts: from numbers, texts with the sizes or times of some files, and these files.
    """
    cache = cache_file("digest", key, start, [text for text, _ in texts(range(0, count, max(1, count // SAMPLE)))])
    kept = (load_arrays(cache) or ({}, {}))[0] if count > SAMPLE else {}
    if kept and all(size_and_time(folder)[1] == changed for folder, changed in kept["folders"].items()):
        return kept["digest"]
    folders: set[str] = set()
    started, digest = time.time_ns(), hashlib.sha256(start.encode(*LENIENT))
    for text, files in texts(range(count)):
        digest.update(text.encode(*LENIENT))
        folders.update(map(os.path.dirname, files))
    times = {folder: size_and_time(folder)[1] for folder in folders}
    if count > SAMPLE and max(times.values(), default=0) < started:  # nothing came or went meanwhile
        save_arrays(cache, {"digest": digest.hexdigest(), "folders": times}, {})
    return digest.hexdigest()


def size_and_time(path: str | Path) -> tuple[int, int]:
    """Bytes and time of the last change, ns; (-1, -1) if there is no such file or folder, or its name is invalid."""
    try:
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    except (OSError, ValueError):
        return -1, -1


# ------------------------------------------------------------------------------------------------ pickles of plain data
# A pickle is a program. The reader refuses, by name, every global that it tries to import, except those needed for
# numpy arrays and scalars and for the bytes of old protocols.


class _Dtype:
    """A numeric numpy dtype: a code such as "i8", and the byte order."""

    def __init__(self, code: str, *_: object):
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = str(state[1]).replace("|", "=")

    def decode(self, raw: bytes | bytearray | str) -> np.ndarray:
        dtype = np.dtype(self.order + self.code)
        if dtype.kind not in "biuf":
            raise ValueError(f"numpy array of {dtype}, only numbers are read")
        return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype)


class _Array(list):
    """A numpy array as nested lists."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        self[:] = dtype.decode(raw).reshape(shape, order="F" if fortran else "C").tolist()


def _frombuffer(raw: bytes | bytearray, dtype: _Dtype, shape: tuple, order: str) -> list:
    return dtype.decode(raw).reshape(shape, order="F" if order == "F" else "C").tolist()


_STAND_INS: dict[tuple[str, str], Callable] = {  # by package: numpy's names stand in different modules of it
    ("numpy", "scalar"): lambda dtype, raw: dtype.decode(raw)[0].item(),
    ("numpy", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",
    ("collections", "OrderedDict"): dict,
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path):
        super().__init__(io.BytesIO(data), encoding="latin1")  # Python 2 stored numpy's bytes as str
        self.path = path

    def find_class(self, module: str, name: str) -> Callable:
        known = _STAND_INS.get((module.partition(".")[0], name))
        if known is None:
            raise InputError(
                file=self.path,
                rule=f"pickle asks for a forbidden global: {module}.{name}",
                remedy="Do not load this file with anything else: a pickle can run code. Use the file as distributed",
            )
        return known


def read_plain_pickle(path: Path) -> object:
    """The data of a pickle of any protocol: dicts, lists, tuples, strings, bytes and numbers; arrays become lists.

    Raises:
        InputError: a forbidden global (named in the error), or a damaged file.
    """
    try:
        return _PlainUnpickler(path.read_bytes(), path).load()
    except InputError:
        raise
    except Exception as error:  # the byte code can fail in any way
        rule = f"not a pickle of plain data: {str(error)[:200] or type(error).__name__}"
        remedy = "The file is damaged or not as distributed: fetch it again"
        raise InputError(file=path, rule=rule, remedy=remedy) from error
