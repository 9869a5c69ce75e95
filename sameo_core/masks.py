"""Masks in every encoding that amodal data sets use: polygons, run lengths (RLE), bitmaps, and their boxes.

One encoding is kept in memory, COCO's compressed RLE (``RLE``); bitmaps are made when somebody looks at them.
The rule of every error reads "name of the rule: what was found", so that a reader can count by name what it skips.
Run lengths go down the columns first (Fortran order) and begin with the length of background.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from pycocotools import mask as coco_mask
from scipy import ndimage

from sameo_core.arrays import AmodalMask, BoxXYXY
from sameo_core.errors import InputError

Mask = Bool[np.ndarray, "h w"]  # amodal, visible or hidden
OtherMask = Bool[np.ndarray, "_ _"]  # a mask whose size is still to be compared with another's

MAX_PIXELS = 2**29  # beyond, pycocotools' 32-bit arithmetic overflows
MAX_OUTLINE = 10**7  # pixels; pycocotools reserves 40 bytes for each without asking whether they are there
FEW = 8  # rows or columns; of a smaller image a polygon may well cover a pixel, and as many polygons as rows be meant
CHUNK = 2**18  # characters of RLE that are looked at together: what fits a processor's cache


class RLE(TypedDict):
    """COCO's compressed run lengths: JSON-ready, accepted by pycocotools."""

    size: list[int]  # [height, width]
    counts: str


# ---------------------------------------------------------------------------------------------------- decoding


def decode_segmentation(segmentation: object, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """The bitmap of a segmentation in any encoding of the public amodal data sets.

    Args:
        segmentation: flat polygon ``[x, y, ...]``; list of polygons (their union; coordinates are pixel edges, what
            leaves the frame is clipped); RLE ``{"size": [h, w], "counts": ...}`` with counts as str, bytes or list;
            bitmap of the image's size, array or list of rows, 0 and one other value (1, 255, True).
        height, width: pixels of the image.

    Raises:
        InputError: nothing, or something malformed, stands where a segmentation should.
    """
    return _bitmap(segmentation_to_rle(segmentation, height, width))


def segmentation_to_rle(segmentation: object, height: int, width: int) -> RLE:
    """As `decode_segmentation`, but to compressed RLE and without a bitmap in between.

    Raises:
        InputError: as `decode_segmentation`. pycocotools reads past the end of corrupt counts, so all is checked first.
    """
    _check_size(height, width)
    if isinstance(segmentation, Mapping):
        return _checked_rle(segmentation, height, width)
    if not isinstance(segmentation, (list, tuple, np.ndarray)) and segmentation is not None:
        raise _error(
            f"segmentation of unknown type: {type(segmentation).__name__} {str(segmentation)[:60]!r}",
            "Give a polygon [x, y, ...], a list of polygons, or an RLE with size and counts",
        )
    if segmentation is None or len(segmentation) == 0:
        raise _error(
            f"segmentation is empty: found {segmentation!r}",
            "Give a polygon or an RLE; leave out objects that have no mask",
        )
    polygons = segmentation if isinstance(segmentation[0], (list, tuple, np.ndarray)) else [segmentation]
    if (bitmap := _as_bitmap(polygons, height, width)) is not None:
        return encode_mask(bitmap)
    checked = [_checked_polygon(polygon, i, height, width) for i, polygon in enumerate(polygons)]
    _check_pixels(checked, height, width)
    return _with_str_counts(coco_mask.merge(coco_mask.frPyObjects(checked, height, width)))


def are_canonical_rles(segmentations: Sequence, sizes: Sequence[tuple[int, int]]) -> Bool[np.ndarray, " n"]:
    """Of many masks at once: which are sound RLEs that `segmentation_to_rle` would return unchanged.

    False means that it has to be asked: the mask may be encoded otherwise, or wrong. Ten times as fast as asking it.

    Args:
        segmentations: n masks, in any encoding or none.
        sizes: (height, width) of each mask's image, pixels.
    """
    rows, counts = [], []
    for row, (segmentation, (height, width)) in enumerate(zip(segmentations, sizes, strict=True)):
        if type(segmentation) is dict and segmentation.get("size") == [height, width]:
            text = segmentation.get("counts")
            whole = all(type(side) is int for side in segmentation["size"])
            if type(text) is str and text.isascii() and whole and 0 < height * width < MAX_PIXELS and height > 0:
                rows.append(row)
                counts.append(text)
    canonical = np.zeros(len(segmentations), bool)
    start, characters = 0, 0
    for stop, text in enumerate(counts, start=1):
        characters += len(text)
        if characters > CHUNK or stop == len(counts):
            pixels = np.array([sizes[row][0] * sizes[row][1] for row in rows[start:stop]], np.int64)
            canonical[rows[start:stop]] = _are_canonical(counts[start:stop], pixels)
            start, characters = stop, 0
    return canonical


def decode_rle(rle: Mapping) -> Mask:
    """The bitmap of an RLE, of the size the RLE itself states. Raises InputError if the RLE is malformed."""
    return _bitmap(_own_size(rle))


def decode_rle_inside(rle: Mapping, box: Sequence[int]) -> Mask:
    """What `decode_rle` would show inside a box (xyxy, whole pixels, inside the frame), without decoding the rest.

    Raises:
        InputError: the RLE is malformed, or the box leaves its frame.
    """
    height, width = _stated_size(rle)
    _check_size(height, width)
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        rule = f"box outside the mask: found {list(box)}, the mask's (h, w) is ({height}, {width})"
        raise _error(rule, "Give xyxy within the frame", "box")
    counts = rle.get("counts")
    if not isinstance(counts, str):
        return _bitmap(_own_size(rle))[y0:y1, x0:x1]
    runs = _run_lengths(counts.encode("utf-8", "surrogatepass"))
    _check_fills(runs, height, width)
    ends = np.cumsum(runs)
    start, stop = x0 * height, x1 * height
    first, last = np.searchsorted(ends, [start, stop], side="right")
    cut = np.diff(np.minimum(ends[first : last + 1], stop), prepend=start)
    columns = np.repeat(np.arange(first, first + len(cut)) % 2 == 1, cut)
    return columns.reshape((height, x1 - x0), order="F")[y0:y1]


def encode_mask(mask: Mask) -> RLE:
    """A bitmap as compressed RLE with str counts."""
    return _with_str_counts(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


# ---------------------------------------------------------------------------------------------------- measures


def mask_area(rle: Mapping) -> int:
    """Pixels of the object in an RLE."""
    return int(coco_mask.area(_own_size(rle)))


def mask_box(mask: Mask | Mapping) -> BoxXYXY:
    """The tightest box of a bitmap or an RLE: float32 xyxy in pixel edges, columns 2..5 give x0 = 2, x1 = 6.

    Raises:
        InputError: the mask is empty.
    """
    if isinstance(mask, Mapping):
        box = xywh_to_xyxy(coco_mask.toBbox(_own_size(mask)))
    else:
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else np.zeros(4)
    if box[2] <= box[0]:
        raise _error("empty mask: a mask without a pixel has no box", "Leave out empty masks first", "mask")
    return box.astype(np.float32)


def mask_iou(a: Mask, b: OtherMask) -> float:
    """Intersection over union of two masks, in [0, 1]; 1 where both are empty, being equal.

    Raises:
        InputError: the sizes differ.
    """
    _check_same_size(a.shape, b.shape)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def occlusion_rate(amodal: AmodalMask, visible: OtherMask) -> float:
    """The share of the object that is hidden: |amodal minus visible| / |amodal|, in [0, 1].

    Raises:
        InputError: the amodal mask is empty, or the sizes differ.
    """
    _check_same_size(amodal.shape, visible.shape)
    area = np.count_nonzero(amodal)
    if area == 0:
        raise _error(
            "empty amodal mask: the occlusion rate divides by its area", "Leave out empty masks first", "amodal"
        )
    return np.count_nonzero(amodal & ~visible) / area


# ---------------------------------------------------------------------------------------------------- set algebra


def remove_small_regions(mask: Mask, min_area: float | int) -> Mask:
    """A mask without holes, then without parts, of fewer than `min_area` pixels; its largest part always stays.

    As SAM tidies its masks. Pixels that touch at a corner are connected.
    """
    for holes in (True, False):
        regions, _ = ndimage.label(mask ^ holes, np.ones((3, 3)))
        areas = np.bincount(regions.ravel())
        small = areas < min_area
        small[0] = False  # what is not looked at
        if not holes and len(areas) > 1:
            small[1 + areas[1:].argmax()] = False
        mask = mask ^ small[regions]
    return mask


def union_rle(rles: Sequence[Mapping]) -> RLE:
    """Pixels that are in at least one of the RLEs. Raises InputError where there is none, or the sizes differ."""
    return _merge(rles, intersect=False)


def intersect_rle(rles: Sequence[Mapping]) -> RLE:
    """Pixels that are in every one of the RLEs. Raises InputError where there is none, or the sizes differ."""
    return _merge(rles, intersect=True)


def subtract_rle(a: Mapping, b: Mapping) -> RLE:
    """Pixels of `a` that are not in `b`, e.g. the hidden region = amodal minus visible."""
    b = _own_size(b)
    runs = _run_lengths(b["counts"].encode())
    complement = runs[1:] if runs[0] == 0 else np.concatenate([[0], runs])
    return intersect_rle([a, {"size": b["size"], "counts": complement}])


# ---------------------------------------------------------------------------------------------------- boxes


def xywh_to_xyxy(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """COCO's (x, y, width, height) to (x0, y0, x1, y1), pixels."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """(x0, y0, x1, y1) to COCO's (x, y, width, height), pixels."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


# ---------------------------------------------------------------------------------------------------- outlines


def mask_to_polygons(mask: Mask) -> list[list[float]]:
    """The outline as COCO polygons ``[x, y, ...]`` along pixel edges; decoding them gives exactly the mask again.

    One polygon for each 4-connected part. COCO polygons cannot say "hole" (a list means the union), so a mask with
    holes is cut along vertical lines through them; an empty mask gives an empty list.
    """
    polygons, hole_starts = _outlines(mask)
    if not hole_starts:
        return polygons
    cut = sorted(hole_starts)[len(hole_starts) // 2]
    right = [[v + cut * (i % 2 == 0) for i, v in enumerate(polygon)] for polygon in mask_to_polygons(mask[:, cut:])]
    return mask_to_polygons(mask[:, :cut]) + right


def _outlines(mask: Mask) -> tuple[list[list[float]], list[int]]:
    """Polygons of the outer outlines, and the first column of each hole.

    Going along an outline, horizontal and vertical edges take turns. In one row of the grid of pixel edges the corners,
    sorted by x, are in pairs the ends of the horizontal edges; in one column likewise. Where two pixels meet only at
    their corners, that corner counts twice, once for each pixel.
    """
    p = np.pad(mask, 1)
    above_left, above_right, below_left, below_right = p[:-1, :-1], p[:-1, 1:], p[1:, :-1], p[1:, 1:]
    odd = above_left ^ above_right ^ below_left ^ below_right
    touching = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    y, x = np.nonzero(odd | touching)
    copies = 1 + touching[y, x]
    y, x = np.repeat(y, copies), np.repeat(x, copies)  # sorted by row, then column: the horizontal pairs
    n = len(x)
    copy = np.zeros(n, int)
    copy[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])  # of a double corner, 0 has the edge to the left, 1 to the right
    downwards = np.where(above_left[y, x], copy, 1 - copy)  # which of the two has the edge that goes down
    by_column = np.lexsort((downwards, y, x))
    vertical = np.empty(n, int)
    vertical[by_column] = by_column[np.arange(n) ^ 1]  # the other end of each corner's vertical edge

    polygons, hole_starts, seen = [], [], np.zeros(n, bool)
    for start in range(n):  # row by row, so that each outline is met at the top left, where the pixel below is inside
        if seen[start]:
            continue
        corners, i = [], start
        while not seen[i]:
            corners += [i, i ^ 1]
            seen[i] = seen[i ^ 1] = True
            i = vertical[i ^ 1]
        if below_right[y[start], x[start]]:
            polygons.append(np.stack([x[corners], y[corners]], axis=1).astype(float).ravel().tolist())
        else:
            hole_starts.append(int(x[corners].min()))
    return polygons, hole_starts


# ---------------------------------------------------------------------------------------------------- checks


def _error(rule: str, remedy: str, file: str = "segmentation", record: str | None = None) -> InputError:
    return InputError(file=file, record=record, rule=rule, remedy=remedy)


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width >= MAX_PIXELS:
        raise _error(
            f"image size out of range: (height, width) = ({height}, {width})",
            f"Give the image's size in pixels, both at least 1 and fewer than {MAX_PIXELS} pixels in all",
        )


def _check_same_size(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if tuple(a) != tuple(b):
        raise _error(
            f"masks of different size: {tuple(a)} and {tuple(b)}", "Give masks of one and the same image", "masks"
        )


def _as_bitmap(rows: Sequence | np.ndarray, height: int, width: int) -> Mask | None:
    """The bitmap, where rows of numbers are one: as many of as many as the image has, or bools. None: polygons."""
    bools = isinstance(rows[0], np.ndarray) and rows[0].dtype == bool
    if not bools and (len(rows) != height or height == 1):
        return None
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of unequal length
        return None
    if not bools and array.shape != (height, width):
        return None
    if array.dtype.kind not in "biuf" or array.ndim != 2:
        return None
    if array.shape != (height, width):
        rule = f"bitmap of another size: its (h, w) is {array.shape}, the image's ({height}, {width})"
        raise _error(rule, "Check that mask and image belong together, at the same size")
    objects = array != 0
    values = np.unique(array[objects])
    if len(values) > 1 and min(height, width) <= FEW:
        return None
    if len(values) > 1 or not np.isfinite(values).all():
        rule = f"bitmap of several values: found {values[:4].tolist()} beside 0"
        raise _error(rule, "Give the pixels of one object, e.g. mask > 0.5, or ids == 7")
    return objects


def _check_pixels(polygons: Sequence[Float64[np.ndarray, " _"]], height: int, width: int) -> None:
    """Polygons within one pixel mean something else; so do many corners of which all are 0 or 255."""
    if min(height, width) <= FEW:
        return
    numbers = np.concatenate(polygons)
    shares = numbers.min() >= 0 and numbers.max() <= 1
    corners = max(map(len, polygons)) > 8
    if (shares and (corners or (numbers % 1).any())) or (corners and np.isin(numbers, (0, 255)).all()):
        rule = f"polygon or bitmap in other units: all numbers are {'in 0..1' if shares else '0 or 255'}"
        raise _error(rule, f"Give polygons in pixels, or a bitmap of (height, width) = ({height}, {width})")


def _checked_polygon(polygon: object, index: int, height: int, width: int) -> Float64[np.ndarray, " numbers"]:
    """The polygon's numbers, such that pycocotools can draw them."""
    record, remedy = f"polygon {index}", "Correct the polygon, or leave it out"
    try:
        numbers = np.asarray(polygon)
    except ValueError:  # lists of unequal length
        numbers = np.asarray(None)
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iuf" and numbers.size):
        raise _error(f"polygon is not a flat list of numbers: {str(polygon)[:60]}", remedy, record=record)
    if len(numbers) < 6:
        raise _error(f"polygon with fewer than 6 numbers: found {len(numbers)}", remedy, record=record)
    if len(numbers) % 2:
        raise _error(f"polygon with an odd count of numbers: found {len(numbers)}", remedy, record=record)
    numbers = numbers.astype(np.float64)
    low, high, side = numbers.min(), numbers.max(), max(height, width)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _error("polygon with a number that is not finite: found NaN or infinity", remedy, record=record)
    if low < -4 * side or high > 5 * side:
        raise _error(
            f"polygon far outside the image: coordinates {low:g} to {high:g}, image (h, w) = ({height}, {width})",
            "Check that image and annotation have the same resolution",
            record=record,
        )
    if len(numbers) * (high - low) > MAX_OUTLINE:  # cheap bound first
        points = numbers.reshape(-1, 2)
        length = np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()
        if length > MAX_OUTLINE:
            raise _error(f"polygon outline too long: {length:.3g} pixels", remedy, record=record)
    return numbers


def _own_size(rle: Mapping) -> RLE:
    """The RLE, checked against the size that it states itself."""
    size = _stated_size(rle)
    _check_size(*size)
    return _checked_rle(rle, *size)


def _stated_size(rle: Mapping) -> list[int]:
    size = rle.get("size")
    try:
        numbers = np.asarray(size)
    except ValueError:
        numbers = np.asarray(None)
    if numbers.shape != (2,) or numbers.dtype.kind not in "iu":
        raise _error(f"RLE without a size: found {str(size)[:60]}", 'Give "size": [height, width]', record="RLE")
    return [int(n) for n in numbers]


def _checked_rle(rle: Mapping, height: int, width: int) -> RLE:
    """Any RLE as canonical compressed RLE of (height, width)."""
    size = _stated_size(rle)
    if size != [height, width]:
        raise _error(
            f"RLE of another size: its (h, w) is ({size[0]}, {size[1]}), the image's ({height}, {width})",
            "Check that the size is [height, width] and that mask and image belong together",
            record="RLE",
        )
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")
    runs = _run_lengths(counts) if isinstance(counts, bytes) else _listed_runs(counts)
    _check_fills(runs, height, width)
    if isinstance(counts, bytes) and runs[1:].all() and _is_shortest(counts):
        return {"size": size, "counts": counts.decode()}
    return _with_str_counts(coco_mask.frPyObjects({"size": size, "counts": _canonical(runs)}, height, width))


def _check_fills(runs: Int64[np.ndarray, " runs"], height: int, width: int) -> None:
    if runs.min(initial=0) < 0 or runs.max(initial=0) > height * width or runs.sum() != height * width:
        raise _error(
            f"RLE counts do not fill the image: {len(runs)} runs, sum {runs.sum()}, smallest {runs.min(initial=0)}; "
            f"height x width = {height * width}",
            "Write the mask anew; the counts are damaged or belong to another image",
            record="RLE",
        )


def _listed_runs(counts: object) -> Int64[np.ndarray, " runs"]:
    """Run lengths of uncompressed RLE."""
    try:
        runs = np.asarray(counts)
    except ValueError:
        runs = np.asarray(None)
    if runs.ndim != 1 or (runs.dtype.kind not in "iu" and runs.size):
        raise _error(
            f"RLE counts of unknown type: {type(counts).__name__} {str(counts)[:60]}",
            "Give counts as a string, as bytes, or as a list of whole numbers",
            record="RLE",
        )
    return np.clip(runs, -1, MAX_PIXELS).astype(np.int64)  # clipped: out of range stays out of range, sums cannot wrap


def _run_lengths(counts: bytes) -> Int64[np.ndarray, " runs"]:
    """Run lengths of COCO's compressed counts; they may be wrong in value, the caller compares them with the size.

    Each character carries 6 bits above 48: 5 of the number, low ones first, then "more follows". The last one's bit 4
    is the sign. From the fourth number on, the difference from the last but one is stored.
    """
    if not counts:
        return np.zeros(0, np.int64)
    bits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((bits & 32) == 0)
    digits = np.diff(last, prepend=-1)
    if bits.min() < 0 or bits.max() > 63 or not len(last) or last[-1] != len(bits) - 1 or digits.max() > 6:
        raise _error(
            f"RLE counts string is corrupt: {len(counts)} characters, beginning {counts[:40]!r}",
            "Write the mask anew, or fetch the file again",
            record="RLE",
        )
    first = last - digits + 1
    place = np.arange(len(bits)) - np.repeat(first, digits)
    runs = np.add.reduceat((bits & 31) << (5 * place), first)
    runs -= ((bits[last] & 16) > 0) * (np.int64(1) << (5 * digits))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _is_shortest(counts: bytes) -> bool:
    """Whether no number takes more characters than it needs: none ends in five bits that only repeat the sign."""
    bits = np.frombuffer(counts, np.uint8) - 48
    last = np.flatnonzero((bits & 32) == 0)
    last = last[np.diff(last, prepend=-1) > 1]
    tail, sign = bits[last] & 31, bits[last - 1] & 16
    return not np.any(((tail == 0) & (sign == 0)) | ((tail == 31) & (sign > 0)))


def _are_canonical(counts: list[str], pixels: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """`_run_lengths`, `_check_fills` and `_is_shortest` for many strings; False for all where one is corrupt."""
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
    """Running sums that begin anew with each stretch from a start to its stop."""
    sums = np.cumsum(values, dtype=np.int64)
    return sums - np.repeat(sums[starts] - values[starts], stops - starts)


def _bitmap(rle: RLE) -> Mask:
    runs = _run_lengths(rle["counts"].encode())
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rle["size"], order="F")


def _canonical(runs: Int64[np.ndarray, " runs"]) -> list[int]:
    """The same runs without zeros after the first: pycocotools' merge stops where two of them meet."""
    values = np.arange(len(runs)) % 2
    values, runs = values[runs > 0], runs[runs > 0]
    runs = np.add.reduceat(runs, np.flatnonzero(np.diff(values, prepend=-1)))
    return [0] * int(values[0]) + runs.tolist()


def _merge(rles: Sequence[Mapping], intersect: bool) -> RLE:
    if not rles:
        raise _error("no masks: found an empty list of RLEs", "Give at least one RLE", "masks")
    checked = [_own_size(rle) for rle in rles]
    for rle in checked:
        _check_same_size(tuple(checked[0]["size"]), tuple(rle["size"]))
    return _with_str_counts(coco_mask.merge(checked, intersect=intersect))


def _with_str_counts(rle: dict) -> RLE:
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode()}
