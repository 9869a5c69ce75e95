"""Box prompts: their formats, and checks that boxes are in the stated format."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

from sameo_core.arrays import BoxesXYXY
from sameo_core.errors import InputError
from sameo_core.masks import xywh_to_xyxy

BOX_FORMATS = ("xyxy", "xywh", "normalised")  # pixels; pixels; xyxy as shares of the image's sides
Sizes = tuple[int, int] | Int[np.ndarray, "n 2"]  # (height, width) of one image, or of each box's image


def boxes_in_pixels(
    boxes: ArrayLike,
    image_size: tuple[int, int],
    box_format: str | None = None,
    *,
    usual: str = "xyxy",
    file: str | Path = "boxes",
) -> BoxesXYXY:
    """Convert a user's boxes to xyxy pixels of the upright image; doubtful boxes are refused.

    Args:
        boxes: "n 4", or empty.
        image_size: (height, width) of the image.
        box_format: one of `BOX_FORMATS`, taken as given. None: `usual`; boxes that fit only another format are refused
            (xywh instead of xyxy or the reverse, or all numbers in 0..1).
        usual: the source's usual format.
        file: the name of the boxes in errors.

    Raises:
        InputError: unknown format; not n x 4 finite numbers; boxes that look like another format; a box without area,
            or outside the image.
    """
    check_format(box_format)
    try:
        array = as_array(boxes, np.float32)
        array = array if array.size else np.zeros((0, 4), np.float32)
        if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
            raise ValueError(f"found the shape {array.shape}, finite: {bool(np.isfinite(array).all())}")
    except (TypeError, ValueError) as error:
        rule = f"boxes are n lists of 4 finite numbers; {error}"[:200]
        remedy = "Give [[x0, y0, x1, y1], ...], the outer brackets also for one box"
        raise InputError(file=file, rule=rule, remedy=remedy) from error
    if box_format is None:
        check_plausible(array, image_size, usual, file)
    form = box_format or usual
    if form == "normalised" and array.max(initial=0) > 2:
        rule = f"normalised boxes are shares 0..1 of the picture, found {array.max():g}"
        raise InputError(file=file, rule=rule, remedy="These look like pixels: leave the box format out")
    array = as_xyxy(array, form, image_size)
    bad = np.flatnonzero(~usable(array, image_size))
    if len(bad):
        height, width = image_size
        rule = f"a box has x0 < x1 and y0 < y1 and meets the picture, {width} wide and {height} high upright; found "
        rule += f"{np.round(array[bad[0]], 2).tolist()} (x0, y0, x1, y1)"
        remedy = f"Correct or drop it; boxes are pixels of the upright picture. Were they read rightly, as {form}?"
        raise InputError(file=file, record=f"box {bad[0]}", rule=rule, remedy=remedy)
    return array


def check_format(box_format: str | None) -> None:
    """Raise InputError unless the box format is None or one of `BOX_FORMATS`."""
    if box_format not in (None, *BOX_FORMATS):
        rule = f"a box format is one of {', '.join(BOX_FORMATS)}, found {box_format!r}"
        raise InputError(file="box_format", rule=rule, remedy="Give one of these, or leave it out")


def check_plausible(
    boxes: BoxesXYXY, image_sizes: Sizes, usual: str, file: str | Path, most_outside: float | int = 0
) -> None:
    """Raise InputError for boxes that are unlikely to be in the `usual` format, "xyxy" or "xywh".

    Args:
        most_outside: the share of a detector's boxes that may leave their image. With 0, boxes that leave it are
            refused only if all boxes fit the other format.
    """
    if len(boxes) and boxes.min() >= 0 and boxes.max() <= 1 and np.min(image_sizes) > 1:
        rule = "boxes are in pixels, found nothing but numbers in 0..1"
        remedy = 'If they are xyxy as shares of the sides, say box_format="normalised" (--box-format normalised)'
        raise InputError(file=file, rule=rule, remedy=remedy)
    other = "xywh" if usual == "xyxy" else "xyxy"
    outside, as_other = ~fits_image(boxes, usual, image_sizes), fits_image(boxes, other, image_sizes)
    if outside.sum() <= most_outside * len(boxes) or not (most_outside or as_other.all()):
        return
    row = int(np.flatnonzero(outside)[0])
    height, width = np.broadcast_to(image_sizes, (len(boxes), 2))[row]
    rule = f"boxes here are {usual}, but {outside.sum():,} of {len(boxes):,} do not fit into their image, e.g. "
    rule += f"{boxes[row].tolist()} into one {width} wide and {height} high; as {other} {as_other.sum():,} do"
    remedy = "Give pixels of the original image, not of a resized one; or say which they are: "
    remedy += f'box_format="{other}" or "{usual}" (--box-format)'
    raise InputError(file=file, record=None if most_outside else f"box {row}", rule=rule, remedy=remedy)


def as_xyxy(boxes: BoxesXYXY, box_format: str, image_sizes: Sizes) -> BoxesXYXY:
    """Convert boxes from one of `BOX_FORMATS` to xyxy pixels."""
    if box_format == "xywh":
        return xywh_to_xyxy(boxes)
    if box_format == "normalised":
        return boxes * np.asarray(image_sizes, np.float32)[..., [1, 0, 1, 0]]
    return boxes


def fits_image(boxes: BoxesXYXY, box_format: str, image_sizes: Sizes) -> Bool[np.ndarray, " n"]:
    """Which boxes, read as `box_format`, have an area and leave the image by at most one pixel."""
    boxes, limits = as_xyxy(boxes, box_format, image_sizes), np.asarray(image_sizes)[..., ::-1] + 1
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.all((low < high) & (low >= -1) & (high <= limits), axis=1)


def usable(boxes: BoxesXYXY, image_sizes: Sizes) -> Bool[np.ndarray, " n"]:
    """Which xyxy boxes have an area and overlap their image."""
    low, high, limits = boxes[:, :2], boxes[:, 2:], np.asarray(image_sizes)[..., ::-1]
    return np.all((low < high) & (low < limits) & (high > 0), axis=1)


def as_array(numbers: Any, dtype: type) -> np.ndarray:
    """Convert numbers to an array; tensors may have a gradient, be bfloat16, on a GPU, or in lists.

    Raises:
        TypeError, ValueError: not numbers, or lists of unequal length.
    """

    def plain(part: Any, depth: int) -> Any:
        if isinstance(part, torch.Tensor):
            part = part.detach().cpu()
            return (part.float() if part.dtype == torch.bfloat16 else part).numpy()
        return [plain(item, depth - 1) for item in part] if depth and isinstance(part, list | tuple) else part

    return np.asarray(plain(numbers, 2), dtype)
