"""From matches to precision, recall, AP and AR, bit for bit as COCOeval.accumulate and summarize."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from sameo_core.evaluation.matching import IOU_THRESHOLDS, Matches, place_in_group

RECALLS = np.linspace(0.0, 1.0, 101)  # where precision is read off
Precision = Float64[np.ndarray, "iou=10 recall=101"]


@dataclass(frozen=True)
class PrecisionRecall:
    """-1 where a category has nothing to find in a setting, as in COCOeval."""

    precision: Float64[np.ndarray, "settings iou=10 recall=101 categories"]  # with `limits[-1]` detections an image
    recall: Float64[np.ndarray, "settings limits iou=10 categories"]
    limits: tuple[int, ...]  # so many detections of an image (and category) are looked at, the best-scored ones

    def numbers(self, setting: int) -> dict[str, float]:
        """AP (mean over IoU 0.50:0.05:0.95), AP50, AP75 and an AR for each limit, in 0..1; NaN: nothing to find."""
        precision, recall = self.precision[setting], self.recall[setting]
        return {
            "AP": mean_defined(precision),
            "AP50": mean_defined(precision[IOU_THRESHOLDS == 0.5]),
            "AP75": mean_defined(precision[IOU_THRESHOLDS == 0.75]),
            **{f"AR{limit}": mean_defined(recall[i]) for i, limit in enumerate(self.limits)},
        }

    def curve(self, setting: int) -> Precision:
        """Mean precision over the categories that have something to find, at `IOU_THRESHOLDS` x `RECALLS`."""
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
        group: as for `match`: whose first detections the limits mean.
        category: 0, 1, ...
        to_find: how many objects.
        limits: ascending.

    Source: COCOeval.accumulate. Precision only ever rises at a true positive, so its envelope (the highest precision
        at this recall or a higher one) is read off at true positives alone.
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
        found, excused = matches.found[order, s], matches.excused[order, s]
        for t in range(len(IOU_THRESHOLDS)):
            hits = np.flatnonzero(found >> t & 1)
            first, last = np.searchsorted(hits, start), np.searchsorted(hits, stop)
            for i, limit in enumerate(limits):
                within = np.bincount(of[hits[place[hits] < limit]], minlength=categories)
                recall[s, i, t, present] = within[present] / to_find[present, s]
            misses = np.concatenate([[0], np.cumsum(~(found | excused) >> t & 1, dtype=np.int64)])
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
    """True positives, at least one, after which the recall is at least each of `RECALLS`."""
    return np.searchsorted(np.arange(1, objects + 1) / objects, RECALLS, side="left") + 1
