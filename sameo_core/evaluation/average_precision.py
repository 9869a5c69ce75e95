"""Match detections to objects, and compute precision at each recall, AP and AR.

COCOeval's greedy matching at all IoU thresholds and for all settings at once; then its `accumulate` and `summarize`,
bit for bit. A setting selects the objects to be found; the others are ignored, as crowds always are. Only pairs of
IoU 0.5 or more can match, so only those are listed. A set of thresholds is one number: bit t is `IOU_THRESHOLDS[t]`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt16
from pycocotools import mask as mask_ops
from tqdm import tqdm

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCOeval writes them: np.arange would be off in the last bit
EVERY_THRESHOLD = np.uint16(2 ** len(IOU_THRESHOLDS) - 1)


class Pairs(NamedTuple):
    """Detections and objects of an image that overlap enough to match at some threshold."""

    detection: Int64[np.ndarray, " pairs"]  # row
    object: Int64[np.ndarray, " pairs"]  # row
    iou: Float64[np.ndarray, " pairs"]  # for crowds: the share of the detection inside the crowd


class Matches(NamedTuple):
    """The thresholds at which a detection matches an object, per setting."""

    found: UInt16[np.ndarray, "detections settings"]  # an object to be found: true positive
    ignored: UInt16[np.ndarray, "detections settings"]  # an ignored object: counts neither way


def match(
    pairs: Pairs,
    group: Int64[np.ndarray, " detections"],
    wanted: Bool[np.ndarray, "objects settings"],
    crowd: Bool[np.ndarray, " objects"],
) -> Matches:
    """Greedy match of each detection, in turn, to the unmatched object of highest IoU; ties take the last.

    Objects to be found come before ignored ones. A crowd can be matched any number of times. The matches of the first
    n detections of an image do not depend on later ones.

    Args:
        pairs: within groups.
        group: of each detection: its image, or its image and category. Detections of a group are in order of turns.
        wanted: objects to be found; never crowds.
        crowd: of each object.

    Source: COCOeval.evaluateImg, for one image, category and area range at a time.
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

    found, ignored = np.zeros((2, len(group), wanted.shape[1]), np.uint16)
    taken = np.zeros(wanted.shape, np.uint16)
    used_up = np.where(crowd, np.uint16(0), EVERY_THRESHOLD)[:, None]
    starts = np.flatnonzero(np.diff(turn, prepend=-1) | np.diff(choice, prepend=-1))
    steps = np.split(np.arange(len(turn)), starts[1:]) if len(starts) else []
    by_turn: list[list] = [[] for _ in range(int(turn.max(initial=-1)) + 1)]
    for step in steps:  # one pair per group
        by_turn[turn[step[0]]].append(step)
    for steps_of_turn in by_turn:
        for outcome, allowed in ((found, wanted), (ignored, ~wanted)):
            for step in steps_of_turn:
                d, o = detection[step], target[step]
                new = reached[step] & ~taken[o] & ~found[d] & ~ignored[d]
                new[~allowed[o]] = 0
                taken[o] |= new & used_up[o]
                outcome[d] |= new
    return Matches(found, ignored)


def place_in_group(group: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The number of earlier rows of the same group, per row."""
    order = np.argsort(group, kind="stable")
    _, first, counts = np.unique(group[order], return_index=True, return_counts=True)
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - np.repeat(first, counts)
    return place


class Overlaps(NamedTuple):
    """The pairs that can match in a data set, and each detection's best IoU."""

    pairs: Pairs
    best: Float64[np.ndarray, " detections"]  # highest IoU with an object that is not a crowd; 0 without one


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
        found, objects: RLE masks, sorted by image.
        found_image, objects_image: index of each mask's image, 0 .. images - 1.
        crowd: for crowds, the IoU is the share of the detection inside the crowd.
    """
    found_at = np.searchsorted(found_image, np.arange(images + 1))
    objects_at = np.searchsorted(objects_image, np.arange(images + 1))
    both = np.flatnonzero((np.diff(found_at) > 0) & (np.diff(objects_at) > 0))
    best, pairs = np.zeros(len(found)), [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for image in tqdm(both.tolist(), desc="comparing masks", unit="image", delay=5):
        d, end = found_at[image : image + 2].tolist()
        o, stop = objects_at[image : image + 2].tolist()
        iou = mask_ops.iou(found[d:end], objects[o:stop], crowd[o:stop])
        rows, columns = np.nonzero(iou >= IOU_THRESHOLDS[0])
        pairs.append((rows + d, columns + o, iou[rows, columns]))
        best[d:end] = iou.max(1, where=~crowd[o:stop], initial=0)
    return Overlaps(Pairs(*map(np.concatenate, zip(*pairs, strict=True))), best)


def shared_pixels(a: Sequence, b: Sequence) -> Int64[np.ndarray, " n"]:
    """Pixels in both masks of each pair of RLE masks; equal masks are common, and quick."""
    shared = pixels(a)
    for row, pair in enumerate(zip(a, b, strict=True)):
        if pair[0] != pair[1]:
            shared[row] = mask_ops.area(mask_ops.merge(list(pair), intersect=True))
    return shared


def pixels(masks: Sequence) -> Int64[np.ndarray, " n"]:
    """Pixels of each RLE mask; pycocotools 2.0.11 counts at most 255 masks at a time."""
    areas = [mask_ops.area(list(masks[start : start + 255])) for start in range(0, len(masks), 255)]
    return np.concatenate([np.zeros(0, np.int64), *areas])


RECALLS = np.linspace(0.0, 1.0, 101)  # where precision is sampled
Precision = Float64[np.ndarray, "iou=10 recall=101"]


@dataclass(frozen=True)
class PrecisionRecall:
    """-1 where a category has no objects in a setting, as in COCOeval."""

    precision: Float64[np.ndarray, "settings iou=10 recall=101 categories"]  # with `limits[-1]` detections per image
    recall: Float64[np.ndarray, "settings limits iou=10 categories"]
    limits: tuple[int, ...]  # the number of best-scored detections per image (and category)

    def numbers(self, setting: int) -> dict[str, float]:
        """AP (mean over IoU 0.50:0.05:0.95), AP50, AP75 and one AR per limit, in 0..1; NaN: nothing to find."""
        precision, recall = self.precision[setting], self.recall[setting]
        return {
            "AP": mean_defined(precision),
            "AP50": mean_defined(precision[IOU_THRESHOLDS == 0.5]),
            "AP75": mean_defined(precision[IOU_THRESHOLDS == 0.75]),
            **{f"AR{limit}": mean_defined(recall[i]) for i, limit in enumerate(self.limits)},
        }

    def curve(self, setting: int) -> Precision:
        """Mean precision over the categories with objects, at `IOU_THRESHOLDS` x `RECALLS`."""
        defined = self.precision[setting, 0, 0] > -1
        if not defined.any():
            return np.full(self.precision.shape[1:3], np.nan)
        return self.precision[setting][..., defined].mean(-1)


def mean_defined(values: Float[np.ndarray, "..."]) -> float:
    values = values[values > -1]  # neither COCOeval's "undefined", -1, nor NaN
    return float(np.mean(values)) if values.size else math.nan


def precision_recall(
    matches: Matches,
    score: Float64[np.ndarray, " detections"],
    group: Int64[np.ndarray, " detections"],
    category: Int64[np.ndarray, " detections"],
    to_find: Int64[np.ndarray, "categories settings"],
    limits: tuple[int, ...],
) -> PrecisionRecall:
    """Precision and recall over a data set.

    Args:
        matches: of `match`.
        score: of each detection; equal scores keep the order of the detections.
        group: as for `match`; the limits apply per group.
        category: 0, 1, ...
        to_find: number of objects.
        limits: ascending.

    Source: COCOeval.accumulate. Precision only rises at true positives, so its envelope (the highest precision at this
        recall or a higher one) is computed at true positives alone.
    """
    categories, settings = to_find.shape
    order = np.lexsort((-score, category))
    order = order[place_in_group(group)[order] < limits[-1]]
    place, of = place_in_group(group)[order], category[order]
    start, stop = (np.searchsorted(of, np.arange(categories), side) for side in ("left", "right"))
    precision = np.full((settings, len(IOU_THRESHOLDS), len(RECALLS), categories), -1.0)
    recall = np.full((settings, len(limits), len(IOU_THRESHOLDS), categories), -1.0)
    needed = {n: _hits_needed(n) for n in np.unique(to_find[to_find > 0]).tolist()}
    for s in range(settings):
        present = np.flatnonzero(to_find[:, s])
        found, ignored = matches.found[order, s], matches.ignored[order, s]
        for t in range(len(IOU_THRESHOLDS)):
            hits = np.flatnonzero(found >> t & 1)
            first, last = np.searchsorted(hits, start), np.searchsorted(hits, stop)
            for i, limit in enumerate(limits):
                within = np.bincount(of[hits[place[hits] < limit]], minlength=categories)
                recall[s, i, t, present] = within[present] / to_find[present, s]
            misses = np.concatenate([[0], np.cumsum(~(found | ignored) >> t & 1, dtype=np.int64)])
            true = (np.arange(len(hits)) - first[of[hits]] + 1).astype(float)
            false = (misses[hits] - misses[start[of[hits]]]).astype(float)
            rate = true / (false + true + np.spacing(1))
            for k in present.tolist():
                envelope = np.maximum.accumulate(rate[first[k] : last[k]][::-1])[::-1]
                wanted = needed[int(to_find[k, s])]
                reached = np.searchsorted(wanted, len(envelope), side="right")
                precision[s, t, :, k] = 0
                precision[s, t, :reached, k] = envelope[wanted[:reached] - 1]
    return PrecisionRecall(precision, recall, limits)


def _hits_needed(objects: int) -> Int64[np.ndarray, "recall=101"]:
    """True positives, at least one, needed to reach each of `RECALLS`."""
    return np.searchsorted(np.arange(1, objects + 1) / objects, RECALLS, side="left") + 1
