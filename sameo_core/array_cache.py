"""Arrays that took long to compute, kept on disk: one file a name, read without pickle, and made anew when in doubt."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sameo_core.config import profiles

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
