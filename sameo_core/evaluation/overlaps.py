"""How much masks overlap: pycocotools' IoU, once for all numbers of an evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pycocotools import mask as mask_ops
from tqdm import tqdm

from sameo_core.evaluation.matching import IOU_THRESHOLDS, Pairs

MANY = 500  # images; fewer are a matter of a second


class Overlaps(NamedTuple):
    """What is kept of the IoUs of a data set."""

    pairs: Pairs
    best: Float64[np.ndarray, " detections"]  # IoU with the object of highest IoU, crowds left aside; 0 without one


def overlaps(
    found: Sequence,
    found_image: Int64[np.ndarray, " detections"],
    objects: Sequence,
    objects_image: Int64[np.ndarray, " objects"],
    crowd: Bool[np.ndarray, " objects"],
    images: int,
) -> Overlaps:
    """IoU of every detection with every object of its image.

    Args:
        found, objects: RLE masks, those of an image together, images in ascending order.
        found_image, objects_image: place of each mask's image, 0 .. images - 1.
        crowd: of a crowd the IoU is the share of the detection that lies in it.
    """
    found_at = np.searchsorted(found_image, np.arange(images + 1))
    objects_at = np.searchsorted(objects_image, np.arange(images + 1))
    both = np.flatnonzero((np.diff(found_at) > 0) & (np.diff(objects_at) > 0))
    best, pairs = np.zeros(len(found)), [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for image in tqdm(both.tolist(), desc="comparing masks", unit="image", disable=len(both) < MANY, delay=5):
        d, end = found_at[image : image + 2].tolist()
        o, stop = objects_at[image : image + 2].tolist()
        iou = mask_ops.iou(found[d:end], objects[o:stop], crowd[o:stop])
        rows, columns = np.nonzero(iou >= IOU_THRESHOLDS[0])
        pairs.append((rows + d, columns + o, iou[rows, columns]))
        best[d:end] = iou.max(1, where=~crowd[o:stop], initial=0)
    return Overlaps(Pairs(*map(np.concatenate, zip(*pairs, strict=True))), best)


def shared_pixels(a: Sequence, b: Sequence) -> Int64[np.ndarray, " n"]:
    """Pixels that are in both of two RLE masks, pair by pair; equal masks are common and quick."""
    shared = pixels(a)
    for row, pair in enumerate(zip(a, b, strict=True)):
        if pair[0] != pair[1]:
            shared[row] = mask_ops.area(mask_ops.merge(list(pair), intersect=True))
    return shared


def pixels(masks: Sequence) -> Int64[np.ndarray, " n"]:
    """Pixels of RLE masks; pycocotools 2.0.11 cannot count more than 255 masks at a time."""
    areas = [mask_ops.area(list(masks[start : start + 255])) for start in range(0, len(masks), 255)]
    return np.concatenate([np.zeros(0, np.int64), *areas])
