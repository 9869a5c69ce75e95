"""Pickles that hold data and nothing else, read without running what they ask for.

A pickle is a program. This reader refuses, by name, every global that the program wants to import, except a few that
real data needs (numpy numbers and arrays, the bytes of old protocols), for which it has harmless stand-ins of its own.
What comes out is dicts, lists, tuples, strings, bytes and numbers, no larger than the file can account for.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sameo_core.errors import InputError

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
