"""The index of a JSON file: the same records as json.loads, at the same places, refused for the same bytes."""

import hashlib
import json
import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sameo_core.config import profiles
from sameo_core.datasets import json_index
from sameo_core.datasets.json_index import MISSING, Columns, index_json
from sameo_core.errors import InputError


def is_crowd(record):
    return record.get("iscrowd")


LISTS = {"a": Columns(("id", "size"), (is_crowd,)), "b": Columns()}
HAND = """{"info": {"é": [1]},  "a" : [ {"id": 7, "name": "Zoë", "size": 3} ,
 {"id": "7", "size": 3.0, "iscrowd": 1}, null, {"id": true, "size": -5, "ü": {"id": 1}},
 {"id": 9223372036854775808, "size": 9223372036854775807, "iscrowd": 0}],
 "c": [[1, 2], NaN], "b": []}"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.json"


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """However small a file is, its index is kept."""
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(json_index, "KEPT_FROM", 0)
    return tmp_path / "runs" / "index"


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def write_at_the_same_time(path, text):
    """Another text, with the time of the file that it replaces."""
    status = path.stat()
    time.sleep(0.02)  # a clock's tick: times of files are no finer
    write(path, text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def index_in_pieces(path, lists, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_index, "CHUNK", chunk)
        return index_json(path, lists)


def numbers(index):
    return [index.tables["a"][key].tolist() for key in ("id", "size")]


# ------------------------------------------------------------------------------------------------ what it holds


@pytest.mark.parametrize("chunk", [3, 2**20])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])  # a byte order mark
def test_by_hand(path, chunk, start):
    data = start + HAND.encode()
    index = index_in_pieces(write(path, data), LISTS, chunk)
    table = index.tables["a"]
    assert numbers(index) == [[7, *[MISSING] * 4], [3, MISSING, MISSING, -5, 2**63 - 1]]
    assert table["is_crowd"].tolist() == [False, True, False, False, False]
    assert table.keys == ("id", "name", "size", "iscrowd", "ü") and len(index.tables["b"]) == 0
    spans = zip(table["offset"], table["length"], strict=True)
    assert [data[o : o + n].decode() for o, n in spans][:3:2] == ['{"id": 7, "name": "Zoë", "size": 3}', "null"]
    assert list(index.records("a")) == json.loads(HAND)["a"] and index.record("a", 0)["name"] == "Zoë"
    assert index.sha256 == hashlib.sha256(data).hexdigest()


def test_of_a_key_that_stands_twice_the_last_counts(path):
    index = index_json(write(path, '{"a": [{"id": 1}], "b": 3, "a": [{"id": 2}, {"id": 3}], "b": []}'), LISTS)
    assert numbers(index)[0] == [2, 3]
    with pytest.raises(InputError, match='needs a list under "a", found a int'):
        index_json(write(path, '{"a": [{"id": 1}], "b": [], "a": 5}'), LISTS)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)
records = st.one_of(
    json_values,
    st.fixed_dictionaries({}, optional={"id": json_values, "size": st.integers(), "iscrowd": json_values}),
)
documents = st.fixed_dictionaries(
    {"a": st.lists(records, max_size=6), "b": st.lists(json_values, max_size=3)},
    optional={"info": json_values, "c": st.lists(json_values, max_size=3)},
)
layouts = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 3])})
chunks = st.one_of(st.integers(1, 300), st.just(json_index.CHUNK))
fuzzed = settings(max_examples=300, suppress_health_check=list(HealthCheck))


def fitting(value):
    return value if type(value) is int and -(2**63) <= value < 2**63 else MISSING


@fuzzed
@given(documents, layouts, chunks)
def test_any_document_is_read_as_json_loads_does(path, document, layout, chunk):
    text = json.dumps(document, **layout)
    index = index_in_pieces(write(path, text), LISTS, chunk)
    expected = json.loads(text)
    for name in LISTS:
        assert list(map(repr, index.records(name))) == list(map(repr, expected[name]))  # NaN is not equal to itself
    objects = [record if isinstance(record, dict) else {} for record in expected["a"]]
    assert numbers(index) == [[fitting(record.get(key)) for record in objects] for key in ("id", "size")]
    assert index.tables["a"]["is_crowd"].tolist() == [bool(record.get("iscrowd")) for record in objects]
    assert index.tables["a"].keys == tuple(dict.fromkeys(key for record in objects for key in record))


def test_whatever_is_cut_at_the_end_of_a_piece_is_read_whole(path):
    values = '[-12.75, 1.5e+10, 2E-5, 0, -Infinity, NaN, true, null, 123456789012345, {}, [], {"é": 12.5}]'
    for pad in range(200):
        index = index_in_pieces(write(path, " " * pad + f'{{"a": {values}, "b": []}}'), LISTS, 1)
        assert list(map(repr, index.records("a"))) == list(map(repr, json.loads(values)))


def test_a_long_record_is_tried_a_few_times(path, monkeypatch):
    calls, more = [], json_index._Text.more
    monkeypatch.setattr(json_index._Text, "more", lambda text: calls.append(len(calls)) or more(text))
    record = json.dumps({"id": 1, "text": "x" * 300_000})
    index = index_in_pieces(write(path, f'{{"a": [{record}], "b": []}}'), LISTS, 100)
    assert len(calls) <= 16 and numbers(index)[0] == [1]


# ------------------------------------------------------------------------------------------------ what it refuses


def verdict(data):
    """What json.loads says: None, or the byte where it breaks (-1: it does not say)."""
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Illegal trailing comma"):
            return -1
        return len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        return error.start
    except (ValueError, RecursionError):
        return -1
    return None


tokens = [b"", b"\x00", b"\xc3", b"\xed\xa0\x80", b"\xe2\x82\xac", b"9" * 5000, b"[" * 3000]
tokens += [token.encode() for token in '" [ ] { } , : \\ \\u12 1 - 1e tru NaN -Infinit'.split()] + [b"\n", b" "]


@fuzzed
@given(documents, layouts, st.floats(0, 1), st.integers(0, 3), st.sampled_from(tokens), st.booleans(), chunks)
@example({"a": [12345], "b": []}, {}, 0.0, 0, b"", False, 1)
def test_the_same_bytes_are_refused_at_the_same_place(path, document, layout, where, removed, token, cut, chunk):
    data = json.dumps(document, **layout).encode()
    place = int(where * len(data))
    data = data[:place] + token + (b"" if cut else data[place + removed :])
    expected = verdict(data)
    if json.detect_encoding(data) != "utf-8":  # zeros at the beginning: json takes them for UTF-16
        return
    try:
        index = index_in_pieces(write(path, data), {"a": Columns()}, chunk)
    except InputError as error:
        if error.rule.startswith("not valid JSON"):
            assert expected is not None and f"{len(data)}" in error.rule or expected == -1
            assert expected == -1 or f" at byte {expected} of " in error.rule
        else:
            value = json.loads(data)
            assert not isinstance(value, dict) or not isinstance(value.get("a"), list)
        return
    assert expected is None and list(map(repr, index.records("a"))) == list(map(repr, json.loads(data)["a"]))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "not valid JSON, it breaks at byte 0 of 0: Expecting value"),
        (" [1, 2] ", "the file must be a JSON object with a, b, found a list"),
        ("3", "the file must be a JSON object with a, b, found a int"),
        ('{"c": 1}', 'needs a list under "a", found only the keys c'),
        ('{"a": [1 2]}', "not valid JSON, it breaks at byte 9 of 12: Expecting ',' delimiter"),
        ('{"a": [1]} {', "not valid JSON, it breaks at byte 11 of 12: Extra data"),
        ('{"a": [{"x": "é\n"}]}', "not valid JSON, it breaks at byte 16 of 21: Invalid control character"),
        (b'{"a": ["\xe2\x82"]}', "not valid JSON, it has a byte that is not UTF-8 at byte 8 of 13"),
        (b'{"a": ["\xe2\x82', "not valid JSON, it has a byte that is not UTF-8 at byte 8 of 10"),
        ('{"a": ' + "[" * 100_000, "not valid JSON, it cannot be parsed: it is nested too deeply"),
        ("[" * 100_000, "not valid JSON, it cannot be parsed: it is nested too deeply"),
        ('{"a": [' + "9" * 5000 + "]}", "not valid JSON, it cannot be parsed: Exceeds the limit"),
    ],
    ids=lambda v: repr(v)[:30],
)
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_files_that_are_refused(path, text, rule, chunk):
    with pytest.raises(InputError) as error:
        index_in_pieces(write(path, text), LISTS, chunk)
    assert error.value.rule.startswith(rule) and error.value.file == str(path) and error.value.remedy


def test_a_folder_or_a_missing_file_is_an_input_error(tmp_path):
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError, match="the file cannot be read"):
            index_json(path, LISTS)


# ------------------------------------------------------------------------------------------------ keeping it


def assert_equal(first, second):
    for name, a in first.tables.items():
        b = second.tables[name]
        assert a.keys == b.keys and a.columns.keys() == b.columns.keys()
        assert all(np.array_equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a.columns)
    assert first.sha256 == second.sha256 and first.file == second.file


@pytest.fixture
def reads(monkeypatch):
    """How often a file was read through."""
    calls, read = [], json_index._read_through
    monkeypatch.setattr(json_index, "_read_through", lambda *args: calls.append(args[1]) or read(*args))
    return calls


def test_a_kept_index_serves_until_the_file_changes(path, kept, reads):
    first = index_json(write(path, HAND), LISTS)
    assert_equal(first, index_json(path, LISTS))
    assert len(reads) == 1 and len(list(kept.iterdir())) == 1
    write_at_the_same_time(path, HAND.replace('"id": 7', '"id": 8'))
    assert numbers(index_json(path, LISTS))[0][0] == 8 and len(reads) == 2
    replaced = write(path.with_suffix(".new"), HAND.replace('"id": 7', '"id": 9'))
    os.replace(replaced, path)
    assert numbers(index_json(path, LISTS))[0][0] == 9 and len(reads) == 3
    assert len(list(kept.iterdir())) == 1  # the old ones are overwritten
    other = index_json(path, {"a": Columns(("id",)), "b": Columns()})
    assert len(reads) == 4 and "size" not in other.tables["a"].columns


def test_a_damaged_index_is_made_anew(path, kept, reads):
    right = index_json(write(path, HAND), LISTS)
    (cache,) = kept.iterdir()
    content = cache.read_bytes()
    for place in range(0, len(content), 211):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]):
            cache.write_bytes(damaged)
            assert_equal(index_json(path, LISTS), right)
    assert len(reads) > 10


# ------------------------------------------------------------------------------------------------ changes


def test_a_file_that_changes_while_it_is_read_is_refused(path, kept, monkeypatch):
    write(path, HAND)
    more = json_index._Text.more

    def meanwhile(text):
        write(path, HAND + " ")
        more(text)

    monkeypatch.setattr(json_index._Text, "more", meanwhile)
    with pytest.raises(InputError, match="the file changed while it was in use"):
        index_in_pieces(path, LISTS, 100)
    assert not kept.exists()


def test_a_file_that_changes_after_it_was_indexed_is_refused(path):
    index = pickle.loads(pickle.dumps(index_json(write(path, HAND), LISTS)))
    assert index.record("a", 0)["id"] == 7
    write_at_the_same_time(path, HAND.replace('"id": 7', '"id": 8'))
    with pytest.raises(InputError, match=r"file.json: the file changed while it was in use.*load the data set again"):
        index.record("a", 0)
    path.unlink()
    with pytest.raises(InputError, match="the file can no longer be read"):
        list(index.records("a"))
