"""COCO's run-length encoding (RLE): checked, parsed and made canonical.

Run lengths go down the columns first (Fortran order) and start with background.
"""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Int, Int64
from pycocotools import mask as coco_mask

from sameo_core.errors import InputError

Mask = Bool[np.ndarray, "h w"]  # amodal, visible or hidden

MAX_PIXELS = 2**29  # beyond, pycocotools' 32-bit arithmetic overflows


class RLE(TypedDict):
    """COCO's compressed run lengths: JSON-ready, accepted by pycocotools."""

    size: list[int]  # [height, width]
    counts: str


def mask_error(rule: str, remedy: str, file: str = "segmentation", record: str | None = None) -> InputError:
    return InputError(file=file, record=record, rule=rule, remedy=remedy)


def check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width >= MAX_PIXELS:
        rule = f"image size out of range: (height, width) = ({height}, {width})"
        raise mask_error(rule, f"Give the image's size in pixels, at least 1, with fewer than {MAX_PIXELS} in all")


def own_size(rle: Mapping) -> RLE:
    """The RLE, checked against the size that it states itself."""
    size = stated_size(rle)
    check_size(*size)
    return checked_rle(rle, *size)


def stated_size(rle: Mapping) -> list[int]:
    size = rle.get("size")
    try:
        numbers = np.asarray(size)
    except ValueError:
        numbers = np.asarray(None)
    if numbers.shape != (2,) or numbers.dtype.kind not in "iu":
        raise mask_error(f"RLE without a size: found {str(size)[:60]}", 'Give "size": [height, width]', record="RLE")
    return [int(n) for n in numbers]


def checked_rle(rle: Mapping, height: int, width: int) -> RLE:
    """Any RLE as canonical compressed RLE of (height, width)."""
    size = stated_size(rle)
    if size != [height, width]:
        rule = f"RLE of another size: its (h, w) is ({size[0]}, {size[1]}), the image's ({height}, {width})"
        remedy = "Check that the size is [height, width] and that mask and image belong together"
        raise mask_error(rule, remedy, record="RLE")
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")
    runs = run_lengths(counts) if isinstance(counts, bytes) else _listed_runs(counts)
    check_fills(runs, height, width)
    if isinstance(counts, bytes) and runs[1:].all() and _is_shortest(counts):
        return {"size": size, "counts": counts.decode()}
    return with_str_counts(coco_mask.frPyObjects({"size": size, "counts": _canonical(runs)}, height, width))


def check_fills(runs: Int64[np.ndarray, " runs"], height: int, width: int) -> None:
    if runs.min(initial=0) < 0 or runs.max(initial=0) > height * width or runs.sum() != height * width:
        rule = f"RLE counts do not fill the image: {len(runs)} runs, sum {runs.sum()}, smallest {runs.min(initial=0)}; "
        rule += f"height x width = {height * width}"
        remedy = "Write the mask again: its counts are damaged, or belong to another image"
        raise mask_error(rule, remedy, record="RLE")


def _listed_runs(counts: object) -> Int64[np.ndarray, " runs"]:
    """Run lengths of uncompressed RLE."""
    try:
        runs = np.asarray(counts)
    except ValueError:
        runs = np.asarray(None)
    if runs.ndim != 1 or (runs.dtype.kind not in "iu" and runs.size):
        rule = f"RLE counts of unknown type: {type(counts).__name__} {str(counts)[:60]}"
        raise mask_error(rule, "Give counts as a string, as bytes, or as a list of whole numbers", record="RLE")
    return np.clip(runs, -1, MAX_PIXELS).astype(np.int64)  # clipped: out of range stays out of range, sums cannot wrap


def run_lengths(counts: bytes) -> Int64[np.ndarray, " runs"]:
    """Run lengths of COCO's compressed counts; the caller checks that they fit the size.

    Each character minus 48 holds 6 bits: 5 of the number, low ones first, then "more follows". Bit 4 of the last
    character is the sign. From the fourth number on, a number is the difference from the last but one.
    """
    if not counts:
        return np.zeros(0, np.int64)
    bits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((bits & 32) == 0)
    digits = np.diff(last, prepend=-1)
    if bits.min() < 0 or bits.max() > 63 or not len(last) or last[-1] != len(bits) - 1 or digits.max() > 6:
        rule = f"RLE counts string is corrupt: {len(counts)} characters, beginning {counts[:40]!r}"
        raise mask_error(rule, "Write the mask again, or fetch the file again", record="RLE")
    first = last - digits + 1
    place = np.arange(len(bits)) - np.repeat(first, digits)
    runs = np.add.reduceat((bits & 31) << (5 * place), first)
    runs -= ((bits[last] & 16) > 0) * (np.int64(1) << (5 * digits))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _is_shortest(counts: bytes) -> bool:
    """True if no number has a last character that only repeats its sign."""
    bits = np.frombuffer(counts, np.uint8) - 48
    last = np.flatnonzero((bits & 32) == 0)
    last = last[np.diff(last, prepend=-1) > 1]
    tail, sign = bits[last] & 31, bits[last - 1] & 16
    return not np.any(((tail == 0) & (sign == 0)) | ((tail == 31) & (sign > 0)))


def are_canonical(counts: list[str], pixels: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """`run_lengths`, `check_fills` and `_is_shortest` for many strings at once; all False if any string is corrupt."""
    bits = np.frombuffer("".join(counts).encode(), np.uint8) - np.uint8(48)
    ends = np.cumsum([len(text) for text in counts])  # of strings, in characters
    last = np.flatnonzero((bits & 32) == 0)  # characters of the numbers
    digits = np.diff(last, prepend=-1).astype(np.int32)
    empty = not all(counts)
    if empty or bits.max() > 63 or (bits[ends - 1] & 32).any() or digits.max() > 6:
        return np.zeros(len(counts), bool)
    stops = np.searchsorted(last, ends)  # of strings, in numbers
    starts = np.concatenate([[0], stops[:-1]])
    top = bits[last]
    values = (top & 31).astype(np.int32)
    negative = (top & 16) > 0
    wasteful = np.zeros(len(last), bool)
    for digit in range(1, int(digits.max())):
        longer = np.flatnonzero(digits > digit)
        lower = bits[last[longer] - digit]
        if digit == 1:
            repeated = np.where((lower & 16) > 0, 31, 0)
            wasteful[longer] = values[longer] == repeated
        values[longer] = (values[longer] << 5) | (lower & 31)
    values -= np.where(negative, np.int32(1) << (5 * digits), 0).astype(np.int32)
    place = np.arange(len(values)) - np.repeat(starts, stops - starts)
    odd = (place & 1) > 0
    runs = np.where(odd, _sums_since(np.where(odd, values, 0), starts, stops), 0)
    later = ~odd & (place > 0)
    runs += np.where(later, _sums_since(np.where(later, values, 0), starts, stops), 0)
    runs[starts] = values[starts]
    wrong = wasteful | (runs < (place > 0))
    return (np.add.reduceat(runs, starts) == pixels) & ~np.logical_or.reduceat(wrong, starts)


def _sums_since(
    values: Int[np.ndarray, " numbers"], starts: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"]
) -> Int64[np.ndarray, " numbers"]:
    """Cumulative sums that start again at each `starts`."""
    sums = np.cumsum(values, dtype=np.int64)
    return sums - np.repeat(sums[starts] - values[starts], stops - starts)


def bitmap(rle: RLE) -> Mask:
    """The bitmap of a checked RLE."""
    runs = run_lengths(rle["counts"].encode())
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rle["size"], order="F")


def _canonical(runs: Int64[np.ndarray, " runs"]) -> list[int]:
    """The same runs without zeros after the first: pycocotools' merge stops where two of them meet."""
    values = np.arange(len(runs)) % 2
    values, runs = values[runs > 0], runs[runs > 0]
    runs = np.add.reduceat(runs, np.flatnonzero(np.diff(values, prepend=-1)))
    return [0] * int(values[0]) + runs.tolist()


def with_str_counts(rle: dict) -> RLE:
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode()}
