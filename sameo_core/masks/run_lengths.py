"""COCO's run-length encoding (RLE): checked, parsed and made canonical.

Run lengths go down the columns first (Fortran order) and start with background.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Int, Int64
from pycocotools import mask as coco_mask

from sameo_core.errors import InputError

Mask = Bool[np.ndarray, "h w"]  # amodal, visible or hidden

MAX_PIXELS = 2**29  # beyond, pycocotools' 32-bit arithmetic overflows
AT_ONCE = 256  # masks checked together: their characters fit the CPU cache


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


def as_array(value: object) -> np.ndarray:
    """The value as an array; lists of unequal length become an array without axes."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(None)


def stated_size(rle: Mapping) -> list[int]:
    numbers = as_array(rle.get("size"))
    if numbers.shape != (2,) or numbers.dtype.kind not in "iu":
        rule = f"RLE without a size: found {str(rle.get('size'))[:60]}"
        raise mask_error(rule, 'Give "size": [height, width]', record="RLE")
    return [int(n) for n in numbers]


def checked_rle(rle: Mapping) -> RLE:
    """Any RLE as canonical compressed RLE."""
    size, runs = checked_runs(rle)
    return with_str_counts(coco_mask.frPyObjects({"size": size, "counts": _canonical(runs)}, *size))


def checked_runs(rle: Mapping) -> tuple[list[int], Int64[np.ndarray, " runs"]]:
    """The size that an RLE states, and its run lengths, which fill that size."""
    size, counts = stated_size(rle), rle.get("counts")
    check_size(*size)
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")
    runs = run_lengths(counts) if isinstance(counts, bytes) else _listed_runs(counts)
    pixels = size[0] * size[1]
    if runs.min(initial=0) < 0 or runs.max(initial=0) > pixels or runs.sum() != pixels:
        rule = f"RLE counts do not fill the image: {len(runs)} runs, sum {runs.sum()}, smallest {runs.min(initial=0)}; "
        rule += f"height x width = {pixels}"
        remedy = "Write the mask again: its counts are damaged, or belong to another image"
        raise mask_error(rule, remedy, record="RLE")
    return size, runs


def _listed_runs(counts: object) -> Int64[np.ndarray, " runs"]:
    """Run lengths of uncompressed RLE."""
    runs = as_array(counts)
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


def are_canonical_rles(segmentations: Sequence, sizes: Sequence[tuple[int, int]]) -> Bool[np.ndarray, " n"]:
    """For many masks at once: True for sound RLEs that `segmentation_to_rle` would return unchanged.

    Ten times as fast as that function, which must handle those that are False: another encoding, or an error.

    Args:
        segmentations: n masks, in any encoding or none.
        sizes: (height, width) of each mask's image, pixels.
    """
    pairs = enumerate(zip(segmentations, sizes, strict=True))
    rows = [row for row, (segmentation, size) in pairs if _has_text_counts(segmentation, *size)]
    canonical = np.zeros(len(segmentations), bool)
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        pixels = np.array([sizes[row][0] * sizes[row][1] for row in some], np.int64)
        canonical[some] = _are_canonical([segmentations[row]["counts"] for row in some], pixels)
    return canonical


def _has_text_counts(segmentation: object, height: int, width: int) -> bool:
    if type(segmentation) is not dict or segmentation.get("size") != [height, width]:
        return False
    counts, whole = segmentation.get("counts"), all(type(side) is int for side in segmentation["size"])
    return type(counts) is str and counts.isascii() and whole and height > 0 and 0 < height * width < MAX_PIXELS


def _are_canonical(counts: list[str], pixels: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """`checked_runs` for many strings at once; also False where zero runs or surplus characters can be left out.

    All are False if any string is corrupt.
    """
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


def _canonical(runs: Int64[np.ndarray, " runs"]) -> list[int]:
    """The same runs without zeros after the first: pycocotools' merge stops where two of them meet."""
    values = np.arange(len(runs)) % 2
    values, runs = values[runs > 0], runs[runs > 0]
    runs = np.add.reduceat(runs, np.flatnonzero(np.diff(values, prepend=-1)))
    return [0] * int(values[0]) + runs.tolist()


def with_str_counts(rle: dict) -> RLE:
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode()}
