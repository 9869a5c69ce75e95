"""An index of the records of a large JSON file: any record can be read alone, and the file is never loaded whole.

The first opening parses the file once, in chunks, and stores the place and a few integers and flags per record. The
index is cached on disk and valid until the file changes.
"""

import codecs
import hashlib
import json
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool, Int64
from tqdm import tqdm

from sameo_core.datasets.files import HEAD, cache_file, check_lists, load_arrays, not_json, save_arrays
from sameo_core.errors import InputError

VERSION = 4  # of the format on disk and the readers' flags
CHUNK = 2**22  # bytes read at once
KEPT_FROM = 2**20  # bytes; smaller files are parsed again within milliseconds
MISSING = -(2**63)  # stands for a number that is missing, or not a 64-bit integer

_UTF8 = "utf-8", "surrogatepass"  # as json.loads reads bytes
_LOOKAHEAD = 3  # characters that must follow a value: a number may continue in the next chunk ("1" of "1e+5")
_decode = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\n\r]*").match


@dataclass(frozen=True)
class Columns:
    """What the index stores per record of a list, besides offset and length."""

    whole: tuple[str, ...] = ()  # keys of integers
    flags: tuple[Callable[[Mapping], object], ...] = ()  # predicates, false for {}; each names its column


@dataclass(frozen=True)
class Table:
    """The records of a list, in file order, as columns.

    "offset" and "length" in bytes; one per key of `Columns.whole` (or MISSING); one per flag.
    """

    columns: dict[str, Int64[np.ndarray, " records"] | Bool[np.ndarray, " records"]]
    keys: tuple[str, ...]  # all keys of the records, in order of first occurrence

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self.columns["offset"])


@dataclass(frozen=True)
class JsonFile:
    """A JSON file in the state in which it was indexed."""

    path: Path
    stamp: tuple[int, ...]  # changes when the file does

    def read(self, places: Iterable[tuple[int, int]]) -> list:
        """The values at `places`, each (offset, length) in bytes.

        Raises:
            InputError: the file is gone, or has changed since it was indexed.
        """
        try:
            with self.path.open("rb") as file:
                pieces = []
                for offset, length in places:
                    file.seek(offset)
                    pieces.append(file.read(length))
                stamp = _stamp(file)  # last, to detect a change while reading
        except OSError as error:
            rule = f"the file can no longer be read: {error}"
            raise InputError(file=self.path, rule=rule, remedy="Put it back, and load the data set again") from error
        if stamp != self.stamp:
            raise _changed(self.path)
        try:
            return [json.loads(piece.decode(*_UTF8)) for piece in pieces]
        except (ValueError, RecursionError) as error:  # an undetected change, or the call stack is already deep
            rule = f"a record can no longer be parsed: {error}"
            raise InputError(file=self.path, rule=rule, remedy="Load the data set again") from error


@dataclass(frozen=True)
class JsonIndex:
    """The records of some lists of a JSON object."""

    file: JsonFile
    sha256: str  # of the whole file
    tables: dict[str, Table]

    @property
    def path(self) -> Path:
        return self.file.path

    def record(self, name: str, row: int) -> Any:
        """Value `row` (from 0) of a list. Raises InputError if the file has changed."""
        table = self.tables[name]
        return self.file.read([(int(table["offset"][row]), int(table["length"][row]))])[0]

    def records(self, name: str) -> Iterator:
        """All values of a list, one by one. Raises InputError if the file has changed."""
        for row in range(len(self.tables[name])):
            yield self.record(name, row)


def index_json(path: Path, lists: Mapping[str, Columns]) -> JsonIndex:
    """The index of a JSON object: from disk if this version of the file was indexed before, else by reading the file.

    Args:
        lists: the keys that must hold a list, and what to store per record. Of a repeated key the last counts.

    Raises:
        InputError: not JSON (with the byte where it breaks), not an object, without one of the lists, or changed while
            being read.
    """
    columns = {name: (kept.whole, [flag.__qualname__ for flag in kept.flags]) for name, kept in lists.items()}
    cache = cache_file("json", VERSION, str(path.resolve()), columns)
    try:
        with path.open("rb") as file:
            stamp = _stamp(file)
            index = _load(cache, path, stamp) if stamp[0] >= KEPT_FROM else None
            if index is None:
                index = _read_through(file, path, stamp, lists)
                if _stamp(file) != stamp:
                    raise _changed(path)
                if stamp[0] >= KEPT_FROM:
                    _save(cache, index)
    except OSError as error:
        rule, remedy = f"the file cannot be read: {error}", "Check the disk, and who may read the file"
        raise InputError(file=path, rule=rule, remedy=remedy) from error
    return index


# --------------------------------------------------------------------------------------------- reading the file


def _read_through(file: BinaryIO, path: Path, stamp: tuple[int, ...], lists: Mapping[str, Columns]) -> JsonIndex:
    found: dict[str, str] = {}  # key -> type of its value
    tables: dict[str, Table] = {}
    size = stamp[0]
    with tqdm(total=size, desc=f"indexing {path.name}", unit="B", unit_scale=True, disable=size < 2**26) as bar:
        text = _Text(file, path, size, bar)
        if text.peek() == "{":
            kind = "dict"
            for key in text.members():
                if text.peek() == "[":
                    found[key], tables[key] = "list", _table(text, lists.get(key, Columns()))
                else:
                    found[key] = type(text.value()).__name__
        elif text.peek() == "[":
            kind = "list"
            _table(text, Columns())
        else:
            kind = type(text.value()).__name__
        if text.peek():
            raise text.breaks("Extra data")
    check_lists(path, kind, found, list(lists))
    return JsonIndex(JsonFile(path, stamp), text.digest.hexdigest(), {key: tables[key] for key in lists})


class _Text:
    """The part of a file that is read but not yet parsed: `text[at:]`, which begins at byte `place`."""

    def __init__(self, file: BinaryIO, path: Path, size: int, bar: tqdm):
        self.file, self.path, self.size, self.bar = file, path, size, bar
        self.text, self.at, self.place, self.ended = "", 0, 0, False
        self.digest = hashlib.sha256()
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        self.more()
        if self.text.startswith("\ufeff"):  # a byte order mark
            self.at, self.place = 1, 3

    def more(self) -> None:
        """Drop the parsed part, and read at least as much as is left, so that a long value takes few attempts."""
        left = self.text[self.at :]
        start = self.file.tell() - len(self.decoder.getstate()[0])  # of what is decoded next
        piece = self.file.read(max(CHUNK, len(left)))
        self.ended = not piece
        try:
            self.text, self.at = left + self.decoder.decode(piece, final=self.ended), 0
        except UnicodeDecodeError as error:
            raise self.invalid(f"has a byte that is not UTF-8 at byte {start + error.start} of {self.size}") from error
        self.digest.update(piece)
        self.bar.update(len(piece))

    def peek(self) -> str:
        """Move to the next non-whitespace character and return it; "" at the end of the file."""
        while True:
            self.skip(_space(self.text, self.at).end() - self.at)  # type: ignore[union-attr]  # it always matches
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()

    def skip(self, count: int) -> None:
        """Move past ASCII characters."""
        self.at += count
        self.place += count

    def value(self) -> Any:
        """Parse the value at `at` and move past it. If the text ends within it, read more and try again."""
        while True:
            try:
                value, end = _decode(self.text, self.at)
                if end + _LOOKAHEAD <= len(self.text) or self.ended:
                    self.place += len(self.text[self.at : end].encode(*_UTF8))
                    self.at = end
                    return value
            except RecursionError as error:
                raise self.invalid("cannot be parsed: it is nested too deeply") from error
            except json.JSONDecodeError as error:
                if self.ended:
                    raise self.breaks(error.msg, error.pos) from error
            except ValueError as error:  # more digits than Python parses
                if self.ended:
                    raise self.invalid(f"cannot be parsed: {error}") from error
            self.more()

    def members(self) -> Iterator[str]:
        """The keys of the object at `at`; the caller must parse each value before taking the next key."""
        for _ in self.items("}"):
            if self.peek() != '"':
                raise self.breaks("Expecting property name enclosed in double quotes")
            key = self.value()
            if self.peek() != ":":
                raise self.breaks("Expecting ':' delimiter")
            self.skip(1)
            self.peek()
            yield key

    def items(self, bracket: str) -> Iterator[None]:
        """Yield before each item up to the closing bracket; the caller parses the item."""
        self.skip(1)
        if self.peek() != bracket:
            yield
            while self.peek() == ",":
                self.skip(1)
                self.peek()
                yield
            if self.peek() != bracket:
                raise self.breaks("Expecting ',' delimiter")
        self.skip(1)

    def breaks(self, what: str, at: int | None = None) -> InputError:
        """The error for text that is not JSON, by default at `at`."""
        place = self.place + len(self.text[self.at : at].encode(*_UTF8)) if at is not None else self.place
        return self.invalid(f"breaks at byte {place} of {self.size}: {what}")

    def invalid(self, where: str) -> InputError:
        self.file.seek(0)
        return not_json(self.path, where, self.file.read(HEAD))


def _table(text: _Text, kept: Columns) -> Table:
    """The list at `at`."""
    numbers = {key: array("q") for key in ("offset", "length", *kept.whole)}
    truths = {flag.__name__: array("b") for flag in kept.flags}
    keys: dict[str, None] = {}
    for _ in text.items("]"):
        start = text.place
        value = text.value()
        record = value if type(value) is dict else {}
        numbers["offset"].append(start)
        numbers["length"].append(text.place - start)
        for key in kept.whole:
            number = record.get(key)
            numbers[key].append(number if type(number) is int and -(2**63) <= number < 2**63 else MISSING)
        for flag in kept.flags:
            truths[flag.__name__].append(bool(flag(record)))
        if not record.keys() <= keys.keys():
            keys.update(dict.fromkeys(record))
    columns = {key: np.frombuffer(column, np.int64) for key, column in numbers.items()}
    columns |= {key: np.frombuffer(column, bool) for key, column in truths.items()}
    return Table(columns, tuple(keys))


# --------------------------------------------------------------------------------------------- the index on disk


def _save(cache: Path, index: JsonIndex) -> None:
    arrays = {f"{name}/{key}": c for name, table in index.tables.items() for key, c in table.columns.items()}
    keys = {name: table.keys for name, table in index.tables.items()}
    save_arrays(cache, {"stamp": index.file.stamp, "sha256": index.sha256, "keys": keys}, arrays)


def _load(cache: Path, path: Path, stamp: tuple[int, ...]) -> JsonIndex | None:
    """The cached index if there is one of the file as it is now."""
    header, arrays = load_arrays(cache) or ({}, {})
    if header.get("stamp") != list(stamp):
        return None
    tables = {name: Table({}, tuple(keys)) for name, keys in header["keys"].items()}
    for key, values in arrays.items():
        name, column = key.split("/", 1)
        tables[name].columns[column] = values
    return JsonIndex(JsonFile(path, stamp), header["sha256"], tables)


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    """Size, mtime and ctime in ns, and inode."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _changed(path: Path) -> InputError:
    rule, remedy = "the file changed while it was in use", "Wait until it is complete, and load the data set again"
    return InputError(file=path, rule=rule, remedy=remedy)
