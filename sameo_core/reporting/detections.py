"""Rows and curves of several methods behind detectors, for tables and figures, from what `evaluate` found of each."""

from collections.abc import Mapping

import numpy as np

from sameo_core.evaluation import IOU_THRESHOLDS, Evaluation
from sameo_core.reporting.base import require

Judged = Mapping[tuple[str, ...], Evaluation]  # (data set, front-end, method), and the seed where something was trained
Names = Mapping[tuple[str, str], str]  # (front-end, method) -> what to call it


def score_rows(judged: Judged) -> list[dict[str, object]]:
    """A row each: its labels and `seed` ("" where nothing was trained), class-agnostic AP, AR, and AP by visibility.

    "AP occluded" and "AP un-occluded" count objects with and without a hidden part.
    """
    rows = []
    for (place, front_end, method, *seed), found in judged.items():
        labels: dict[str, object] = {"data set": place, "front-end": front_end, "method": method, "seed": "".join(seed)}
        parts = {f"AP {part}": found.class_agnostic[part]["AP"] for part in ("occluded", "un-occluded")}
        rows.append(labels | found.class_agnostic["all"] | parts)
    return rows


def bucket_rows(judged: Judged, place: str, names: Names) -> list[dict[str, object]]:
    """A row a named method, seed and occlusion bucket of a data set, as `figure_buckets` wants them.

    Buckets in which the data set has no object are left out.
    """
    return [
        {"model": names[front_end, method], "seed": "".join(seed), "bucket": bucket, **found.class_agnostic[bucket]}
        for (where, front_end, method, *seed), found in judged.items()
        if where == place and (front_end, method) in names
        for bucket in found.class_agnostic
        if bucket.endswith("%") and found.objects[bucket]
    ]


def detection_curves(
    judged: Judged, place: str, names: Names, thresholds: tuple[float, ...] = (0.5, 0.75)
) -> dict[str, dict[float, np.ndarray]]:
    """Name -> IoU threshold -> precision at 101 recalls, of each method's first seed on a data set.

    Raises:
        InputError: a named method without a result on this data set.
    """
    rows = [int(np.argmin(np.abs(np.asarray(IOU_THRESHOLDS) - threshold))) for threshold in thresholds]
    curves = {}
    for (front_end, method), name in names.items():
        found = [one for key, one in judged.items() if key[:3] == (place, front_end, method)]
        require(found, "judged", f"a result of {name}, found none", "Evaluate it", place)
        curves[name] = {threshold: found[0].curves["all"][row] for threshold, row in zip(thresholds, rows, strict=True)}
    return curves
