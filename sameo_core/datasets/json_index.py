"""Where the records of a JSON file stand, so that each can be read alone: files too large to be held at once.

The first opening reads the file from end to end in pieces, decodes one record after the other and keeps of each its
place and a few whole numbers. That index is kept on disk and serves until the file changes. Bytes are checked to be
UTF-8 and then parsed as Latin-1, where a character is a byte: the parser's places are places in the file. Only keys,
numbers and flags are taken from that text; whoever wants strings reads the record.
"""

import codecs
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from tqdm import tqdm

from sameo_core.datasets.files import HEAD, cache_file, load_arrays, not_json, save_arrays
from sameo_core.errors import InputError

VERSION = 2  # of what the index holds, and of the flags that readers ask for; another one is made anew
CHUNK = 2**22  # bytes read at once
KEPT_FROM = 2**20  # bytes; a smaller file is parsed again in milliseconds
RACE = 50_000_000  # ns; a file changed so shortly ago could change again without another time stamp: nothing is kept
MAX_KEYS = 1000  # remembered of an object or of a list's records; only a damaged file has more
BATCH = 8192  # records brought to arrays at once

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # there, though not documented
_space = re.compile(r"[ \t\n\r]*").match
_LOOKAHEAD = 16  # characters behind a value that must be there: a number goes on until something else follows
_MORE = 64  # characters, read at least: longer than any token that is not a string


@dataclass(frozen=True)
class Columns:
    """What is kept of each record of a list, beside its place."""

    whole: tuple[str, ...] = ()  # keys of whole numbers
    flags: tuple[
        Callable[[Mapping], object], ...
    ] = ()  # questions, kept as yes or no; columns have the functions' names


@dataclass(frozen=True)
class Table:
    """The records of a list, in the order of the file."""

    offset: Int64[np.ndarray, " records"]  # bytes from the start of the file
    length: Int64[np.ndarray, " records"]  # bytes
    is_object: Bool[np.ndarray, " records"]
    whole: dict[str, Int64[np.ndarray, " records"]]  # 0 where `is_whole` is not
    is_whole: dict[str, Bool[np.ndarray, " records"]]  # there, a whole number and not a boolean, within 64 bits
    flags: dict[str, Bool[np.ndarray, " records"]]
    keys: tuple[str, ...]  # of the records that are objects, in the order in which they were met

    def __len__(self) -> int:
        return len(self.offset)


class Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class JsonFile:
    """A JSON file as it was when it was indexed."""

    path: Path
    stamp: Stamp

    def read(self, places: Iterable[tuple[int, int]]) -> list:
        """The values at some places, each an offset and a length in bytes.

        Raises:
            InputError: the file is gone, or has changed since it was indexed.
        """
        try:
            with self.path.open("rb") as file:
                pieces = []
                for offset, length in places:
                    file.seek(offset)
                    pieces.append(file.read(length))
                stamp = _stamp(file)  # looked at last: whatever changed before or during the reading is seen
        except OSError as error:
            rule = f"the file can no longer be read: {error}"
            raise _error(self.path, rule, "Put it back, and load the data set again") from error
        if stamp != self.stamp:
            raise _changed(self.path)
        try:
            return [json.loads(piece.decode("utf-8", "surrogatepass")) for piece in pieces]
        except (ValueError, RecursionError) as error:  # unseen change; or asked from deep inside other calls
            raise _error(self.path, f"a record can no longer be parsed: {error}", "Load the data set again") from error


@dataclass(frozen=True)
class JsonIndex:
    """The records of the asked lists of a JSON object."""

    file: JsonFile
    sha256: str  # of the whole file
    tables: dict[str, Table]

    @property
    def path(self) -> Path:
        return self.file.path

    def record(self, name: str, row: int) -> Any:
        """The value number `row` (from 0) of a list. Raises InputError if the file has changed."""
        table = self.tables[name]
        return self.file.read([(int(table.offset[row]), int(table.length[row]))])[0]

    def records(self, name: str) -> Iterator:
        """All values of a list, one after the other. Raises InputError if the file has changed."""
        for row in range(len(self.tables[name])):
            yield self.record(name, row)


def index_json(path: Path, lists: Mapping[str, Columns], chunk: int = CHUNK) -> JsonIndex:
    """The index of a JSON object: from disk, if this very file was indexed before, else by reading it through.

    Args:
        lists: the keys that must hold a list, and what to keep of their records. Of a key that stands twice the last
            one counts, as everywhere in JSON.
        chunk: bytes read at once.

    Raises:
        InputError: not JSON (with the byte where it breaks), not an object, without one of the lists, or changed while
            it was read. Errors of the parser come as soon as they are reached, whatever the file's size.
    """
    started = time.time_ns()
    columns = {
        name: (kept.whole, [f"{f.__module__}.{f.__qualname__}" for f in kept.flags]) for name, kept in lists.items()
    }
    cache = cache_file("json", str(path.resolve()), columns)
    try:
        with path.open("rb") as file:
            stamp = _stamp(file)
            index = _load(cache, path, stamp, lists) if stamp.size >= KEPT_FROM else None
            if index is None:
                index = _read_through(file, path, stamp, lists, chunk)
                if _stamp(file) != stamp:
                    raise _changed(path)
                if stamp.size >= KEPT_FROM and started - RACE > max(stamp.mtime_ns, stamp.ctime_ns):
                    _save(cache, index)
    except OSError as error:
        raise _error(path, f"the file cannot be read: {error}", "Check the disk, and who may read the file") from error
    return index


# --------------------------------------------------------------------------------------------- reading it through


def _read_through(file: BinaryIO, path: Path, stamp: Stamp, lists: Mapping[str, Columns], chunk: int) -> JsonIndex:
    found: dict[str, str] = {}  # key -> the type of what it holds
    tables: dict[str, Table] = {}
    with tqdm(
        total=stamp.size, desc=f"indexing {path.name}", unit="B", unit_scale=True, disable=stamp.size < 2**26
    ) as bar:
        text = _Text(file, path, stamp.size, chunk, bar)
        opening = text.peek()
        if opening == "{":
            kind = "object"
            for key in text.members():
                if text.peek() != "[":
                    holds = type(text.value()).__name__
                elif key in lists:
                    holds, tables[key] = "list", _table(text, lists[key])
                else:
                    holds = _pass_over(text)
                if len(found) < MAX_KEYS or key in lists:
                    found[key] = holds
        else:
            kind = _pass_over(text) if opening == "[" else type(text.value()).__name__
        if text.peek():
            raise text.breaks("Extra data")
    if kind != "object":
        rule = f"the file must be a JSON object with {', '.join(lists)}, found a {kind}"
        raise _error(path, rule, "Use the annotation file as distributed")
    for key in lists:
        if found.get(key) != "list":
            there = f"a {found[key]}" if key in found else f"only the keys {', '.join(found) or '(none)'}"
            raise _error(path, f'needs a list under "{key}", found {there}', "Use the file as distributed")
    return JsonIndex(JsonFile(path, stamp), text.digest.hexdigest(), {key: tables[key] for key in lists})


def _pass_over(text: "_Text") -> str:
    """Checks a list that nobody asked for."""
    for _ in text.elements():
        pass
    return "list"


class _Text:
    """What has been read of a file and not yet used. `at` is the place in `text`, `start` the bytes before `text`."""

    def __init__(self, file: BinaryIO, path: Path, size: int, chunk: int, bar: tqdm):
        self.file, self.path, self.size, self.chunk, self.bar = file, path, size, chunk, bar
        self.text, self.at, self.start, self.ended = "", 0, 0, False
        self.digest = hashlib.sha256()
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        self.more()
        if self.text.startswith("\xef\xbb\xbf"):  # a byte order mark
            self.at = 3

    def more(self) -> None:
        """Forgets what lies before `at`, reads at least as much as is left: a long value takes few attempts."""
        left, read = self.text[self.at :], self.start + len(self.text)
        piece = self.file.read(min(max(self.chunk, _MORE, len(left)), self.size - read))
        self.ended = not piece or read + len(piece) == self.size  # also where the file has grown since
        begun = read - len(self.decoder.getstate()[0])
        try:
            self.decoder.decode(piece, final=self.ended)
        except UnicodeDecodeError as error:
            raise self.invalid(f"has a byte that is not UTF-8 at byte {begun + error.start} of {self.size}") from error
        self.digest.update(piece)
        self.bar.update(len(piece))
        self.text, self.start, self.at = left + piece.decode("latin-1"), self.start + self.at, 0

    def peek(self) -> str:
        """The next character that is not white space, to which `at` moves; "" at the end of the file."""
        while True:
            character = self.text[self.at : self.at + 1]
            if character > " ":
                return character
            self.at = _space(self.text, self.at).end()  # type: ignore[union-attr]  # nothing matches, too
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()

    def value(self) -> object:
        """The value that begins at `at`, which moves behind it.

        Where the text breaks off, more is read and the value tried again. A fault that more text does not move is real;
        only a string that does not end may still do so.
        """
        seen = None
        while True:
            try:
                value, end = _scan(self.text, self.at)
                if end + _LOOKAHEAD < len(self.text) or self.ended:
                    self.at = end
                    return value
                fault = None
            except StopIteration as error:
                fault = "Expecting value", self.start + error.value
            except json.JSONDecodeError as error:
                fault = error.msg, self.start + error.pos
            except RecursionError as error:
                raise self.invalid("cannot be parsed: it is nested too deeply") from error
            except ValueError as error:  # a number of more digits than Python reads
                fault = f"cannot be parsed: {error}", None
            if fault and (self.ended or (fault == seen and not fault[0].startswith("Unterminated string"))):
                raise self.invalid(fault[0]) if fault[1] is None else self.breaks(fault[0], fault[1])
            seen = fault
            self.more()

    def members(self) -> Iterator[str]:
        """The keys of the object that begins at `at`; the caller takes the value before it asks for the next key."""
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                raise self.breaks("Expecting property name enclosed in double quotes")
            key: Any = self.value()  # after a quotation mark: a str
            if self.peek() != ":":
                raise self.breaks("Expecting ':' delimiter")
            self.at += 1
            self.peek()
            yield key
            if not self._goes_on("}"):
                return

    def elements(self) -> Iterator[tuple[object, int, int]]:
        """The values of the list that begins at `at`, each with its offset and length in bytes."""
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            before = self.start + self.at
            value = self.value()
            yield value, before, self.start + self.at - before
            if not self._goes_on("]"):
                return

    def _goes_on(self, bracket: str) -> bool:
        character = self.peek()
        if character not in (",", bracket):
            raise self.breaks("Expecting ',' delimiter")
        self.at += 1
        if character == ",":
            self.peek()
        return character == ","

    def breaks(self, what: str, place: int | None = None) -> InputError:
        place = self.start + self.at if place is None else place
        return self.invalid(f"breaks at byte {place} of {self.size}: {what}")

    def invalid(self, where: str) -> InputError:
        self.file.seek(0)
        return not_json(self.path, where, self.file.read(HEAD))


def _table(text: _Text, columns: Columns) -> Table:
    """The list that begins at `at`."""
    rows: list[tuple] = []
    batches: list[dict[str, np.ndarray]] = []
    keys: dict[str, None] = {}
    whole, flags = columns.whole, columns.flags
    nothing = (False, *[None] * len(whole), *[False] * len(flags))
    for value, offset, length in text.elements():
        if type(value) is dict:
            rows.append((offset, length, True, *map(value.get, whole), *[bool(flag(value)) for flag in flags]))
            if not value.keys() <= keys.keys():
                keys.update(dict.fromkeys(list(value)[: MAX_KEYS - len(keys)]))
        else:
            rows.append((offset, length, *nothing))
        if len(rows) == BATCH:
            batches.append(_arrays(rows, columns))
            rows.clear()
    batches.append(_arrays(rows, columns))
    arrays = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return _table_of(arrays, columns, [_as_utf8(key) for key in keys])


def _arrays(rows: list[tuple], columns: Columns) -> dict[str, np.ndarray]:
    values = list(zip(*rows, strict=True)) or [()] * (3 + len(columns.whole) + len(columns.flags))
    arrays = {"offset": np.array(values[0], np.int64), "length": np.array(values[1], np.int64)}
    arrays["is_object"] = np.array(values[2], bool)
    for key, column in zip(columns.whole, values[3:], strict=False):
        arrays[f"whole {key}"], arrays[f"is_whole {key}"] = _whole_numbers(column)
    for flag, column in zip(columns.flags, values[3 + len(columns.whole) :], strict=True):
        arrays[f"flag {flag.__name__}"] = np.array(column, bool)
    return arrays


def _whole_numbers(values: tuple) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The values that are whole numbers of 64 bits, 0 in place of others, and which those are."""
    try:
        if set(map(type, values)) <= {int}:
            return np.array(values, np.int64), np.ones(len(values), bool)
    except OverflowError:
        pass
    fits = [type(value) is int and -(2**63) <= value < 2**63 for value in values]
    numbers = [value if fit else 0 for value, fit in zip(values, fits, strict=True)]
    return np.array(numbers, np.int64), np.array(fits, bool)


def _as_utf8(key: str) -> str:
    """A key of the Latin-1 text as it is meant; one that was written with escapes may stay as it is."""
    try:
        return key.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return key


# --------------------------------------------------------------------------------------------- keeping it


def _save(cache: Path, index: JsonIndex) -> None:
    header = {
        "version": VERSION,
        "path": str(index.path),
        "stamp": list(index.file.stamp),
        "sha256": index.sha256,
        "keys": {name: table.keys for name, table in index.tables.items()},
    }
    arrays: dict[str, np.ndarray] = {}
    for name, table in index.tables.items():
        arrays |= {f"{name} {key}": getattr(table, key) for key in ("offset", "length", "is_object")}
        for kind in ("whole", "is_whole"):
            arrays |= {f"{name} {kind} {key}": array for key, array in getattr(table, kind).items()}
        arrays |= {f"{name} flag {key}": array for key, array in table.flags.items()}
    save_arrays(cache, header, arrays)


def _load(cache: Path, path: Path, stamp: Stamp, lists: Mapping[str, Columns]) -> JsonIndex | None:
    """The kept index, if it is of this very file and complete."""
    loaded = load_arrays(cache)
    if loaded is None:
        return None
    header, arrays = loaded
    if (header.get("version"), header.get("stamp")) != (VERSION, list(stamp)):
        return None
    try:
        tables = {}
        for name, columns in lists.items():
            own = {key.removeprefix(f"{name} "): value for key, value in arrays.items() if key.startswith(f"{name} ")}
            tables[name] = _table_of(own, columns, header["keys"][name])
        return JsonIndex(JsonFile(path, stamp), header["sha256"], tables)
    except (KeyError, TypeError):  # somebody else's file
        return None


def _table_of(arrays: Mapping[str, np.ndarray], columns: Columns, keys: Iterable[str]) -> Table:
    return Table(
        offset=arrays["offset"],
        length=arrays["length"],
        is_object=arrays["is_object"],
        whole={key: arrays[f"whole {key}"] for key in columns.whole},
        is_whole={key: arrays[f"is_whole {key}"] for key in columns.whole},
        flags={flag.__name__: arrays[f"flag {flag.__name__}"] for flag in columns.flags},
        keys=tuple(keys),
    )


def _stamp(file: BinaryIO) -> Stamp:
    status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _changed(path: Path) -> InputError:
    return _error(
        path, "the file changed while it was in use", "Wait until it is complete, and load the data set again"
    )


def _error(path: Path, rule: str, remedy: str) -> InputError:
    return InputError(file=path, rule=rule, remedy=remedy)
