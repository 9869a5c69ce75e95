"""Arrays on disk: what is written comes back, and whatever is wrong with the file means that there is none."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sameo_core.config import profiles
from sameo_core.datasets.files import cache_file, load_arrays, save_arrays

ARRAYS = {"a b": np.arange(5), "flags": np.array([True, False]), "none": np.zeros(0, np.int64)}


def same(loaded):
    header, arrays = loaded
    return header == {"version": 1, "é": [1]} and all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "deeper" / "cache.npz"
    assert load_arrays(path) is None
    save_arrays(path, {"version": 1, "é": [1]}, ARRAYS)
    assert same(load_arrays(path)) and [file.name for file in path.parent.iterdir()] == ["cache.npz"]


def test_the_name_follows_what_it_is_made_of_and_the_folder_where_runs_are(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "RUNS", tmp_path)
    path = cache_file("a", 1, {"b": "\ud800"})
    assert path.parent == tmp_path / "index" and path == cache_file("a", 1, {"b": "\ud800"})
    assert path != cache_file("a", 2, {"b": "\ud800"})


def test_where_nothing_can_be_written_there_is_none(tmp_path):
    (tmp_path / "file").write_text("in the way")
    save_arrays(tmp_path / "file" / "cache.npz", {}, ARRAYS)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    save_arrays(tmp_path / "cache.npz", {}, ARRAYS)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(where=st.floats(0, 1), byte=st.integers(0, 255), kept=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_a_damaged_file_is_none_or_right(tmp_path, where, byte, kept):
    path = tmp_path / "cache.npz"
    save_arrays(path, {"version": 1, "é": [1]}, ARRAYS)
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] = byte
    path.write_bytes(content[: int(kept * len(content))])
    loaded = load_arrays(path)
    assert loaded is None or set(loaded[1]) != set(ARRAYS) or same(loaded)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N.", b"\x93NUMPY\x01\x00"])
def test_other_files_are_none(tmp_path, content):
    (tmp_path / "cache.npz").write_bytes(content)
    assert load_arrays(tmp_path / "cache.npz") is None
    np.savez(tmp_path / "cache.npz", header=np.array([{"a": 1}], object))  # a pickle
    assert load_arrays(tmp_path / "cache.npz") is None
    np.savez(tmp_path / "cache.npz", header=np.frombuffer(b"[1]", np.uint8))
    assert load_arrays(tmp_path / "cache.npz") is None
