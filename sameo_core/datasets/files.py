"""Finding, reading and keeping files: JSON, pickles of plain data, and arrays that took long to compute."""

import codecs
import hashlib
import io
import json
import os
import pickle
import pickletools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sameo_core.config import profiles
from sameo_core.errors import InputError

MAX_BYTES = 2**32  # of a JSON file that is held in memory as a whole; LV-VIS has the largest, below 1 GiB
HEAD = 4096  # bytes that tell what a file is

# How a file begins that somebody took for JSON -> what to do; the first that fits
_REMEDIES = {
    rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!": "This is an archive: unpack it, and give the file in it",
    rb"\x89PNG|\xff\xd8\xff|RIFF|GIF8|%PDF": "This is a picture or a document: give the file of annotations",
    rb"version https://git-lfs": "This is a pointer of Git LFS: fetch the file itself with `git lfs pull`",
    rb"\s*<": "This is XML or a web page: export as COCO JSON, or download the file itself",
    rb"\xff\xfe|\xfe\xff|[{[\"]\x00|\x00[{[\"]": "This is UTF-16 text: save it as UTF-8",
    rb"\s*\d+([ \t]+[-+.\deE]+){4,}(\s|$)": "This looks like labels of YOLO: convert them to COCO JSON",
    rb"\s*[\[{]\s*'": "This is Python's notation: write it with json.dump",
    rb"\s*[^\s{\[\"\-\dtfnNI]": "This is no JSON: give the file of annotations, as COCO JSON",
}


def find_file(root: Path, candidates: Sequence[str], name: str) -> Path:
    """The first of `candidates` (paths below `root`) that exists. InputError names what was looked for and found."""
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
    """What a JSON file holds.

    Raises:
        InputError: missing or unreadable; not JSON (with the byte where it breaks), nested too deeply, or larger than
            `MAX_BYTES`.
    """
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:
        rule = f"the file must exist and be readable ({getattr(error, 'strerror', error)})"
        raise InputError(file=path, rule=rule, remedy="Check the path") from error
    if size > MAX_BYTES:
        rule = f"a JSON file has at most {MAX_BYTES:,} bytes, found {size:,}"
        raise InputError(file=path, rule=rule, remedy="Split it, or look whether this is the right file")
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
    """The error for a file that is no JSON, with what it seems to be instead.

    Args:
        where: the place at which it breaks, and how.
        head: its first bytes.
    """
    remedy = "The file is damaged or incomplete: fetch it again"
    if "Extra data" in where:
        remedy = "If this is a JSON value a line, join them to one list, [..., ...]; else fetch it again"
    elif "not UTF-8" in where:
        remedy = "If it was saved in another encoding (GBK, Latin-1), save it as UTF-8; else fetch it again"
    head = head.removeprefix(codecs.BOM_UTF8)
    remedy = next((meant for start, meant in _REMEDIES.items() if re.match(start, head)), remedy)
    return InputError(file=path, rule=f"not valid JSON, it {where}", remedy=remedy)


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """A JSON object whose `keys` hold lists.

    Raises:
        InputError: not JSON (see `parse_json`), not an object, or without one of the keys.
    """
    data = parse_json(path)
    if not isinstance(data, dict):
        raise InputError(
            file=path,
            rule=f"the file must be a JSON object with {', '.join(keys)}, found a {type(data).__name__}",
            remedy="Use the annotation file as distributed",
        )
    for key in keys:
        if not isinstance(data.get(key), list):
            found = f"a {type(data[key]).__name__}" if key in data else f"only the keys {', '.join(data) or '(none)'}"
            raise InputError(
                file=path, rule=f'needs a list under "{key}", found {found}', remedy="Use the file as distributed"
            )
    return data


def check_split(split: str, known: Iterable[str], name: str) -> None:
    """Raises InputError unless `split` is one of those that the data set has."""
    known = list(known)
    if split not in known:
        raise InputError(
            file="split", rule=f"{name} has the splits {', '.join(known)}; found {split!r}", remedy="Give one of these"
        )


_NAMED = {int: "whole number", Integral: "whole number", float: "number", Real: "number", str: "text", list: "list"}


def check_records(path: str | Path, records: Sequence[object], kind: str, wanted: Mapping[str, Any]) -> None:
    """Raises InputError for the first of some JSON records that lacks a key, or holds another type under it."""
    for i, record in enumerate(records):
        for key, form in wanted.items():
            value = record.get(key) if isinstance(record, Mapping) else None
            if not isinstance(value, form):
                forms = " or ".join(dict.fromkeys(_NAMED.get(kind, str(kind)) for kind in get_args(form) or (form,)))
                rule = f"needs {key} ({forms}), found {value!r}"[:200]
                raise InputError(file=path, record=f"{kind} {i}", rule=rule, remedy="Correct the record")


HEADER = "header"


def cache_file(*parts: object) -> Path:
    """Where the arrays named by `parts` (their `repr`) are kept, in `data/runs/index`; whether they are or not."""
    name = hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]
    return profiles.RUNS / "index" / f"{name}.npz"


def load_arrays(path: Path) -> tuple[dict, dict[str, np.ndarray]] | None:
    """The header and the arrays of a cache file; None where it is missing or damaged in whatever way."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
    except Exception:  # zip, zlib, npy and JSON each have errors of their own; they all mean: not to be used
        return None
    return (header, arrays) if isinstance(header, dict) else None


def save_arrays(path: Path, header: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a cache file in one step. Where that is not possible (full disk, no permission) there is just none.

    Args:
        header: JSON values.
        arrays: by name, none of them "header".
    """
    partial = path.with_suffix(f".{os.getpid()}.partial")
    content = np.frombuffer(json.dumps(header).encode(), np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                np.savez(file, **{HEADER: content}, **arrays)  # type: ignore[arg-type]  # as if a name were allow_pickle
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError:
        pass


# ------------------------------------------------------------------------------------------------ pickles of plain data
# A pickle is a program. This reader refuses, by name, every global that the program wants to import, except a few that
# real data needs (numpy numbers and arrays, the bytes of old protocols), for which it has harmless stand-ins. What
# comes out is dicts, lists, tuples, strings, bytes and numbers, no larger than the file can account for.

MAX_DEPTH = 50  # of lists in lists; real annotation files have 8
_MODULES = {  # names that numpy and Python have used for the same thing
    "numpy.core.multiarray": "numpy",
    "numpy._core.multiarray": "numpy",
    "numpy.core.numeric": "numpy",
    "numpy._core.numeric": "numpy",
    "__builtin__": "builtins",
}


def read_plain_pickle(path: Path) -> object:
    """The data of a pickle of any protocol.

    Raises:
        InputError: a forbidden global (it is named), anything else than plain data, a damaged file, or a small file
            that unfolds into a large structure.
    """
    data = path.read_bytes()
    try:
        _check_memo(data)
        value = _PlainUnpickler(data, path).load()
    except InputError:
        raise
    except Exception as error:  # the byte code can go wrong in any way
        raise _error(path, f"not a pickle of plain data: {str(error)[:200] or type(error).__name__}") from error
    budget = [2 * len(data) + 1000]
    return _plain(value, path, budget, 0)


def _check_memo(data: bytes) -> None:
    """A pickle may number its memos at will, and Python reserves memory up to the largest number."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument is not None and argument > count:
            raise ValueError(f"memo number {argument} at instruction {count}")


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path):
        super().__init__(io.BytesIO(data), encoding="latin1")  # Python 2 wrote numpy's bytes as text
        self.path, self.stand_ins = path, _stand_ins()

    def find_class(self, module: str, name: str) -> Callable:
        known = self.stand_ins.get((_MODULES.get(module, module), name))
        if known is None:
            raise _error(
                self.path,
                f"pickle asks for a forbidden global: {module}.{name}",
                "Do not load this file with anything else: a pickle can run code. Use the file as distributed",
            )
        return known

    def persistent_load(self, pid: object) -> None:
        raise pickle.UnpicklingError("pickle refers to objects outside the file")


def _stand_ins() -> dict[tuple[str, str], Callable]:
    """Made anew for each file: its program may alter what it is given, which must not outlive it."""

    class Dtype:
        def __init__(self, code: str, *_: object):
            self.code, self.order = str(code), "="

        def __setstate__(self, state: tuple) -> None:
            self.order = str(state[1])

        def decode(self, raw: bytes | bytearray | str) -> np.ndarray:
            dtype = np.dtype(self.order.replace("|", "=") + self.code)
            if dtype.kind not in "biuf":
                raise ValueError(f"numpy array of {dtype}, only numbers are read")
            return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype)

    class Array(list):
        def __setstate__(self, state: tuple) -> None:
            _, shape, dtype, fortran, raw = state
            values = dtype.decode(raw)
            if len(shape) > 8 or values.size != np.prod(shape, dtype=float):
                raise ValueError("numpy array whose bytes do not fill its shape")
            self[:] = values.reshape(shape, order="F" if fortran else "C").tolist() if values.size and shape else []

    def scalar(dtype: Dtype, raw: bytes | str) -> int | float | bool:
        return dtype.decode(raw)[0].item()

    def reconstruct(*_: object) -> Array:
        return Array()

    def frombuffer(raw: bytes | bytearray, dtype: Dtype, shape: tuple, order: str) -> Array:
        array = Array()
        array.__setstate__((1, shape, dtype, order == "F", raw))
        return array

    def latin1(text: str, encoding: str) -> bytes:
        return text.encode("latin1")

    def empty_bytes() -> bytes:
        return b""

    return {
        ("numpy", "scalar"): scalar,
        ("numpy", "_reconstruct"): reconstruct,
        ("numpy", "_frombuffer"): frombuffer,
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): latin1,
        ("builtins", "bytes"): empty_bytes,
        ("collections", "OrderedDict"): dict,
    }


def _plain(value: object, path: Path, budget: list[int], depth: int) -> object:
    """A copy that shares no lists, so that cycles and lists of lists of the same list are found while it is made."""
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise _error(path, "pickle unfolds into more than its size accounts for: lists within themselves, or too deep")
    if isinstance(value, dict):
        return {
            _plain(key, path, budget, depth + 1): _plain(item, path, budget, depth + 1) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, path, budget, depth + 1) for item in value]
    if value is None or type(value) in (str, bytes, bool, float) or (type(value) is int and abs(value) < 2**63):
        return value
    raise _error(path, f"pickle with something else than plain data: found {type(value).__name__}")


def _error(
    path: Path, rule: str, remedy: str = "The file is damaged or not as distributed: fetch it again"
) -> InputError:
    return InputError(file=path, rule=rule, remedy=remedy)
