"""Arrays on disk: what is written comes back, and whatever is wrong with the file means that there is none."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sameo_core.datasets.files import load_arrays, save_arrays

ARRAYS = {"a b": np.arange(5), "flags": np.array([True, False]), "none": np.zeros(0, np.int64)}


def same(loaded):
    header, arrays = loaded
    return header == {"version": 1, "é": [1]} and all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_where_nothing_can_be_written_nothing_is_left(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("in the way")
    save_arrays(tmp_path / "file" / "cache.npz", {}, ARRAYS)
    monkeypatch.setattr(np, "savez", full)
    save_arrays(tmp_path / "cache.npz", {}, ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(where=st.floats(0, 1), byte=st.integers(0, 255), kept=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_a_damaged_file_is_none_or_right(tmp_path, where, byte, kept):
    path = tmp_path / "deeper" / "cache.npz"
    path.unlink(missing_ok=True)
    assert load_arrays(path) is None
    save_arrays(path, {"version": 1, "é": [1]}, ARRAYS)
    assert same(load_arrays(path)) and [file.name for file in path.parent.iterdir()] == ["cache.npz"]
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] = byte
    path.write_bytes(content[: int(kept * len(content))])
    loaded = load_arrays(path)
    assert loaded is None or set(loaded[1]) != set(ARRAYS) or same(loaded)
