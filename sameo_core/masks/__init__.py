"""Masks in every encoding that amodal data sets use: polygons, run lengths (RLE), bitmaps; and their boxes.

In memory, masks are COCO's compressed RLE (`RLE`); bitmaps are made on demand. The rule of every error reads "name of
the rule: what was found", so that readers can count skipped records by name.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64
from pycocotools import mask as coco_mask
from scipy import ndimage

from sameo_core.arrays import AmodalMask, BoxXYXY
from sameo_core.masks.run_lengths import RLE as RLE
from sameo_core.masks.run_lengths import Mask as Mask
from sameo_core.masks.run_lengths import are_canonical_rles as are_canonical_rles
from sameo_core.masks.run_lengths import (
    as_array,
    check_size,
    checked_rle,
    checked_runs,
    mask_error,
    stated_size,
    with_str_counts,
)

OtherMask = Bool[np.ndarray, "_ _"]  # a mask whose size is still to be compared with another's

MAX_OUTLINE = 10**7  # pixels; pycocotools allocates 40 bytes for each without checking
FEW = 8  # rows or columns; in a smaller image, a polygon may lie within one pixel or have 0 and 255 as coordinates


# ---------------------------------------------------------------------------------------------------- decoding


def decode_segmentation(segmentation: object, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """The bitmap of a segmentation in any encoding of the public amodal data sets.

    Args:
        segmentation: flat polygon ``[x, y, ...]``; list of polygons (their union; coordinates are pixel edges, and
            parts outside the image are clipped); RLE ``{"size": [h, w], "counts": ...}`` with counts as str, bytes or
            list; bitmap of the image's size, array or list of rows, 0 and one other value (1, 255, True).
        height, width: pixels of the image.

    Raises:
        InputError: no segmentation, or a malformed one.
    """
    return decode_rle(segmentation_to_rle(segmentation, height, width))


def segmentation_to_rle(segmentation: object, height: int, width: int) -> RLE:
    """As `decode_segmentation`, but to compressed RLE and without a bitmap in between.

    Raises:
        InputError: as `decode_segmentation`. pycocotools reads past the end of corrupt counts, so all is checked first.
    """
    check_size(height, width)
    if isinstance(segmentation, Mapping):
        if (stated := stated_size(segmentation)) != [height, width]:
            rule = f"RLE of another size: its (h, w) is {tuple(stated)}, the image's ({height}, {width})"
            remedy = "Check that the size is [height, width] and that mask and image belong together"
            raise mask_error(rule, remedy, record="RLE")
        return checked_rle(segmentation)
    if not isinstance(segmentation, (list, tuple, np.ndarray)) and segmentation is not None:
        rule = f"segmentation of unknown type: {type(segmentation).__name__} {str(segmentation)[:60]!r}"
        raise mask_error(rule, "Give a polygon [x, y, ...], a list of polygons, or an RLE with size and counts")
    if segmentation is None or len(segmentation) == 0:
        rule = f"segmentation is empty: found {segmentation!r}"
        raise mask_error(rule, "Give a polygon or an RLE; leave out objects that have no mask")
    polygons = segmentation if isinstance(segmentation[0], (list, tuple, np.ndarray)) else [segmentation]
    if (pixels := _as_bitmap(polygons, height, width)) is not None:
        return encode_mask(pixels)
    checked = [_checked_polygon(polygon, i, height, width) for i, polygon in enumerate(polygons)]
    _check_units(checked, height, width)
    return with_str_counts(coco_mask.merge(coco_mask.frPyObjects(checked, height, width)))


def decode_rle(rle: Mapping) -> Mask:
    """The bitmap of an RLE, of the size the RLE itself states. Raises InputError if the RLE is malformed."""
    size, runs = checked_runs(rle)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


def encode_mask(mask: Mask) -> RLE:
    """A bitmap as compressed RLE with str counts."""
    return with_str_counts(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


# ---------------------------------------------------------------------------------------------------- measures


def mask_area(rle: Mapping) -> int:
    """Pixels of the object in an RLE."""
    return int(checked_runs(rle)[1][1::2].sum())


def mask_box(mask: Mask | Mapping) -> BoxXYXY:
    """The tightest box of a bitmap or an RLE: float32 xyxy in pixel edges; columns 2..5 give x0 = 2, x1 = 6.

    Raises:
        InputError: the mask is empty.
    """
    if isinstance(mask, Mapping):
        box = xywh_to_xyxy(coco_mask.toBbox(checked_rle(mask)))
    else:
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else np.zeros(4)
    if box[2] <= box[0]:
        raise mask_error("empty mask: a mask without a pixel has no box", "Leave out empty masks first", "mask")
    return box.astype(np.float32)


def mask_iou(a: Mask, b: OtherMask) -> float:
    """Intersection over union of two masks, in [0, 1]; 1 if both are empty.

    Raises:
        InputError: the sizes differ.
    """
    _check_same_size(a.shape, b.shape)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def occlusion_rate(amodal: AmodalMask, visible: OtherMask) -> float:
    """The hidden share of an object: |amodal minus visible| / |amodal|, in [0, 1].

    Raises:
        InputError: the amodal mask is empty, or the sizes differ.
    """
    _check_same_size(amodal.shape, visible.shape)
    area = np.count_nonzero(amodal)
    if area == 0:
        rule = "empty amodal mask: the occlusion rate divides by its area"
        raise mask_error(rule, "Leave out empty masks first", "amodal")
    return np.count_nonzero(amodal & ~visible) / area


# ---------------------------------------------------------------------------------------------------- set algebra


def remove_small_regions(mask: Mask, min_area: float | int) -> Mask:
    """Fill holes, then remove parts, of fewer than `min_area` pixels; the largest part always stays.

    As SAM's post-processing. Pixels that touch at a corner are connected.
    """
    for holes in (True, False):
        regions, _ = ndimage.label(mask ^ holes, np.ones((3, 3)))
        areas = np.bincount(regions.ravel())
        small = areas < min_area
        small[0] = False  # not a region
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
    size, runs = checked_runs(b)
    complement = runs[1:] if runs[0] == 0 else np.concatenate([[0], runs])
    return intersect_rle([a, {"size": size, "counts": complement}])


def _merge(rles: Sequence[Mapping], intersect: bool) -> RLE:
    if not rles:
        raise mask_error("no masks: found an empty list of RLEs", "Give at least one RLE", "masks")
    checked = [checked_rle(rle) for rle in rles]
    for rle in checked:
        _check_same_size(tuple(checked[0]["size"]), tuple(rle["size"]))
    return with_str_counts(coco_mask.merge(checked, intersect=intersect))


def _check_same_size(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if tuple(a) != tuple(b):
        rule = f"masks of different size: {tuple(a)} and {tuple(b)}"
        raise mask_error(rule, "Give masks of one and the same image", "masks")


# ---------------------------------------------------------------------------------------------------- boxes


def xywh_to_xyxy(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """COCO's (x, y, width, height) to (x0, y0, x1, y1), pixels."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """(x0, y0, x1, y1) to COCO's (x, y, width, height), pixels."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def box_ious(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """IoU of each box of `a` with each of `b`; xyxy, pixels."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.maximum(sides, 0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


# ---------------------------------------------------------------------------------------------------- outlines


def mask_to_polygons(mask: Mask) -> list[list[float]]:
    """The outline as COCO polygons ``[x, y, ...]`` along pixel edges; decoding them gives exactly the mask again.

    One polygon per 4-connected part. COCO polygons have no holes (a list means the union), so a mask with holes is cut
    along vertical lines through them; an empty mask gives an empty list.
    """
    polygons, hole_starts = _outlines(mask)
    if not hole_starts:
        return polygons
    cut = sorted(hole_starts)[len(hole_starts) // 2]
    right = [[v + cut * (i % 2 == 0) for i, v in enumerate(polygon)] for polygon in mask_to_polygons(mask[:, cut:])]
    return mask_to_polygons(mask[:, :cut]) + right


def _outlines(mask: Mask) -> tuple[list[list[float]], list[int]]:
    """Polygons of the outer outlines, and the first column of each hole.

    Horizontal and vertical edges alternate along an outline. In a row of the grid of pixel edges, the corners sorted
    by x are, in pairs, the ends of the horizontal edges; likewise in a column. Where two pixels meet only at their
    corners, that corner counts twice, once for each pixel.
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
    for start in range(n):  # row by row: each outline is met at its top left, where the pixel below is inside
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


def _as_bitmap(rows: Sequence | np.ndarray, height: int, width: int) -> Mask | None:
    """The bitmap if the rows are one: bools, or as many rows and columns of numbers as the image. None: polygons."""
    bools = isinstance(rows[0], np.ndarray) and rows[0].dtype == bool
    if not bools and (len(rows) != height or height == 1):
        return None
    array = as_array(rows)
    if array.dtype.kind not in "biuf" or array.ndim != 2 or (not bools and array.shape != (height, width)):
        return None
    if array.shape != (height, width):
        rule = f"bitmap of another size: its (h, w) is {array.shape}, the image's ({height}, {width})"
        raise mask_error(rule, "Check that mask and image belong together, at the same size")
    objects = array != 0
    values = np.unique(array[objects])
    if len(values) > 1 and min(height, width) <= FEW:
        return None
    if len(values) > 1 or not np.isfinite(values).all():
        rule = f"bitmap of several values: found {values[:4].tolist()} beside 0"
        raise mask_error(rule, "Give the pixels of one object, e.g. mask > 0.5, or ids == 7")
    return objects


def _check_units(polygons: Sequence[Float64[np.ndarray, " _"]], height: int, width: int) -> None:
    """Refuse polygons within one pixel, and those with many corners that are all 0 or 255: they are in other units."""
    if min(height, width) <= FEW:
        return
    numbers = np.concatenate(polygons)
    shares = numbers.min() >= 0 and numbers.max() <= 1
    corners = max(map(len, polygons)) > 8
    if (shares and (corners or (numbers % 1).any())) or (corners and np.isin(numbers, (0, 255)).all()):
        rule = f"polygon or bitmap in other units: all numbers are {'in 0..1' if shares else '0 or 255'}"
        raise mask_error(rule, f"Give polygons in pixels, or a bitmap of (height, width) = ({height}, {width})")


def _checked_polygon(polygon: object, index: int, height: int, width: int) -> Float64[np.ndarray, " numbers"]:
    """The polygon's numbers, safe for pycocotools to draw."""
    record, remedy = f"polygon {index}", "Correct the polygon, or leave it out"
    numbers = as_array(polygon)
    if numbers.ndim != 1 or (numbers.dtype.kind not in "iuf" and numbers.size):
        raise mask_error(f"polygon is not a flat list of numbers: {str(polygon)[:60]}", remedy, record=record)
    if len(numbers) < 6:
        raise mask_error(f"polygon with fewer than 6 numbers: found {len(numbers)}", remedy, record=record)
    if len(numbers) % 2:
        raise mask_error(f"polygon with an odd count of numbers: found {len(numbers)}", remedy, record=record)
    numbers = numbers.astype(np.float64)
    low, high, side = numbers.min(), numbers.max(), max(height, width)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise mask_error("polygon with a number that is not finite: found NaN or infinity", remedy, record=record)
    if low < -4 * side or high > 5 * side:
        rule = f"polygon far outside the image: coordinates {low:g} to {high:g}, image (h, w) = ({height}, {width})"
        raise mask_error(rule, "Check that image and annotation have the same resolution", record=record)
    if len(numbers) * (high - low) > MAX_OUTLINE:  # cheap bound first
        points = numbers.reshape(-1, 2)
        length = np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()
        if length > MAX_OUTLINE:
            raise mask_error(f"polygon outline too long: {length:.3g} pixels", remedy, record=record)
    return numbers
