"""Which detection finds which object: COCOeval's greedy matching, at all IoU thresholds and for all settings at once.

A setting says which objects are to be found; the others are "ignore", as crowds always are. Only pairs of IoU 0.5 and
more can ever match, so they are listed once and everything else follows from the list. A set of thresholds is one
number: bit t stands for `IOU_THRESHOLDS[t]`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt16

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCOeval writes them: np.arange would be off in the last bit
EVERY_THRESHOLD = np.uint16(2 ** len(IOU_THRESHOLDS) - 1)


class Pairs(NamedTuple):
    """Detections and objects of one image that overlap enough to match at some threshold."""

    detection: Int64[np.ndarray, " pairs"]  # row
    object: Int64[np.ndarray, " pairs"]  # row
    iou: Float64[np.ndarray, " pairs"]  # of crowds: the share of the detection that lies in it


class Matches(NamedTuple):
    """Of each detection and setting, the thresholds at which it found an object."""

    found: UInt16[np.ndarray, "detections settings"]  # one that was to be found: a true positive
    excused: UInt16[np.ndarray, "detections settings"]  # one that is ignored: counts neither way


def match(
    pairs: Pairs,
    group: Int64[np.ndarray, " detections"],
    wanted: Bool[np.ndarray, "objects settings"],
    crowd: Bool[np.ndarray, " objects"],
) -> Matches:
    """Every detection in its turn takes the free object of highest IoU; of equal ones the last.

    One that is to be found goes before one that is ignored. A crowd is never used up. So whoever looks at the first n
    detections of an image only gets the same matches.

    Args:
        pairs: within a group: the pairs of an image, or of one category of an image.
        group: of each detection; detections of a group stand in the order of their turns, others may stand between.
        wanted: whether an object is to be found; crowds never.
        crowd: of each object.

    Source: COCOeval.evaluateImg, which does this for one image, category and range of areas at a time.
    """
    best_first = np.lexsort((-pairs.object, -pairs.iou, pairs.detection))
    detection, target, iou = (column[best_first] for column in pairs)
    rows, first, of_row = np.unique(detection, return_index=True, return_inverse=True)
    choice = np.arange(len(detection)) - first[of_row]  # 0: the detection's best object, 1: its second best ...
    turn = place_in_group(group[rows])[of_row]
    in_turn = np.lexsort((choice, turn))
    detection, target, iou, choice, turn = (c[in_turn] for c in (detection, target, iou, choice, turn))
    bits = np.uint16(1) << np.arange(len(IOU_THRESHOLDS), dtype=np.uint16)
    reached = ((iou[:, None] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)) * bits).sum(1, dtype=np.uint16)[:, None]

    found, excused = np.zeros((2, len(group), wanted.shape[1]), np.uint16)
    taken = np.zeros(wanted.shape, np.uint16)
    used_up = np.where(crowd, np.uint16(0), EVERY_THRESHOLD)[:, None]
    starts = np.flatnonzero(np.diff(turn, prepend=-1) | np.diff(choice, prepend=-1))
    steps = np.split(np.arange(len(turn)), starts[1:]) if len(starts) else []
    by_turn: list[list] = [[] for _ in range(int(turn.max(initial=-1)) + 1)]
    for step in steps:  # one pair of one detection of each group
        by_turn[turn[step[0]]].append(step)
    for steps_of_turn in by_turn:
        for outcome, allowed in ((found, wanted), (excused, ~wanted)):
            for step in steps_of_turn:
                d, o = detection[step], target[step]
                new = reached[step] & ~taken[o] & ~found[d] & ~excused[d]
                new[~allowed[o]] = 0
                taken[o] |= new & used_up[o]
                outcome[d] |= new
    return Matches(found, excused)


def place_in_group(group: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """How many rows before a row are of its group."""
    order = np.argsort(group, kind="stable")
    _, first, counts = np.unique(group[order], return_index=True, return_counts=True)
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - np.repeat(first, counts)
    return place
