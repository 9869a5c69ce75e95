"""Figures of detections by the data that they draw."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import rectangle
from test_reporting_objects import title

from sameo_core.evaluation import evaluate
from sameo_core.masks import encode_mask
from sameo_core.reporting import (
    figure_buckets,
    figure_detection_curves,
    figure_noise,
    figure_reliability,
    mean_interval,
    score_rows,
)


def drawn(axes, gid):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == gid]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture(scope="module")
def judged():
    """Two objects, one of them half hidden; a sure method finds both exactly, a blind one the first alone."""
    whole, half = rectangle((20, 20), 0, 0, 10, 10), rectangle((20, 20), 10, 10, 20, 20)
    shown = rectangle((20, 20), 10, 10, 15, 20)
    objects = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": encode_mask(a), "visible_mask": encode_mask(v)}
        for i, (a, v) in enumerate([(whole, whole), (half, shown)], start=1)
    ]
    truth = {"images": [{"id": 1, "height": 20, "width": 20}], "categories": [{"id": 1}], "annotations": objects}
    found = [{"image_id": 1, "category_id": 1, "segmentation": o["segmentation"], "score": 0.9} for o in objects]
    sure, blind = evaluate(truth, found), evaluate(truth, found[:1])
    return {("d2sa", "nano", "SAMEO", "0"): sure, ("d2sa", "nano", "own"): blind, ("kins", "nano", "own"): sure}


NAMES = {("nano", "SAMEO"): "ours", ("nano", "own"): "theirs"}


def test_precision_against_recall(judged):
    figure = figure_detection_curves(judged, "d2sa", NAMES, "mini")
    assert title(figure) == "Detections on d2sa · mini: drawn world"
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == [
        "IoU at least 0.5",
        "IoU at least 0.75",
    ]
    recalls, precision = np.array(drawn(figure.axes[0], "theirs")[0]).T
    assert recalls.tolist() == np.linspace(0, 1, 101).tolist()
    assert precision.round(9).tolist() == [1] * 51 + [0] * 50  # one of two objects is found
    assert legend(figure) == ["ours: AP 1.000 | 1.000", "theirs: AP 0.505 | 0.505"]
    lines = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(lines) == 2 and len({style for _, style in lines}) == 2


def rows(model, place, at, *values, **more):
    return [{"model": model, "seed": s, place: at, "AP": v} | more for s, v in enumerate(values)]


def test_buckets(judged):
    found = judged["d2sa", "nano", "own"]  # at 0-10 % and 50-90 % hidden

    def with_ap(*aps):
        tables = dict(zip(("0-10 %", "50-90 %", "90-100 %"), ({"AP": ap} for ap in aps), strict=True))
        return replace(found, class_agnostic=tables)

    some = {("d2sa", "nano", "SAMEO", str(seed)): with_ap(ap, math.nan, 1.0) for seed, ap in enumerate((0.5, 0.6))}
    some |= {("d2sa", "nano", "own"): with_ap(0.3, math.nan, 1.0), ("kins", "nano", "own"): with_ap(0.0, 0.0, 0.0)}
    figure = figure_buckets(some | {("d2sa", "nano", "other"): found}, "d2sa", NAMES, "paper")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0-10 %", "50-90 %"]  # those with objects
    assert drawn(axes, "ours") == [[[pytest.approx(-0.175), pytest.approx(0.55)]]]  # and nothing where AP is NaN
    (low, high) = drawn(axes, "ours interval")[0]
    assert [low[1], high[1]] == pytest.approx(mean_interval([0.5, 0.6])[1:])
    assert [y for _, y in drawn(axes, "ours seeds")[0]] == [0.5, 0.6] and not drawn(axes, "theirs seeds")
    assert drawn(axes, "theirs") == [[[pytest.approx(0.175), 0.3]]] and legend(figure) == ["ours", "theirs"]
    assert title(figure) == "d2sa, by hidden share · paper"


def test_noise():
    some = [row | {"mIoU": row["AP"] / 2} for n in (0.1, 0.0) for row in rows("a", "noise", n, 0.5 - n, 0.6 - n)]
    figure = figure_noise(some, "mini", ["AP", "mIoU"])
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == ["AP", "mIoU"]
    assert np.array(drawn(figure.axes[0], "a")[0]) == pytest.approx(np.array([[0, 0.55], [10, 0.45]]))
    assert np.array(drawn(figure.axes[1], "a")[0])[:, 1] == pytest.approx([0.275, 0.225])
    intervals = np.array(drawn(figure.axes[0], "a interval"))
    assert intervals[0, :, 1] == pytest.approx(mean_interval([0.5, 0.6])[1:]) and intervals[1, 0, 0] == 10
    assert figure.axes[0].get_xticks().tolist() == [0, 10]


def test_reliability(judged):
    found = judged["d2sa", "nano", "own"]
    pairs = {"before": ([0.2, 0.9, 0.95], [0.1, 0.4, 0.5]), "after": ([0.5], [0.5])}
    ious = {name: (np.array(predicted), np.array(true)) for name, (predicted, true) in pairs.items()}
    judged = {name: replace(found, score=p, predicted_iou=p, true_iou=t) for name, (p, t) in ious.items()}
    figure = figure_reliability(judged, "mini")
    before, after, counts, _ = figure.axes
    assert title(figure) == "Predicted and true IoU · mini: drawn world"
    assert np.array(drawn(before, "bins")[0]) == pytest.approx(np.array([[0.2, 0.1], [0.925, 0.45]]))
    assert np.array(drawn(before, "gap")[1]) == pytest.approx(np.array([[0.925, 0.925], [0.925, 0.45]]))
    assert before.texts[0].get_text().splitlines()[:2] == ["calibration error 0.350", "bias +0.350"]
    assert "correlation" in before.texts[0].get_text() and "correlation" not in after.texts[0].get_text()
    assert counts.patches[0].get_data().values.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert counts.texts[0].get_text() == "3 masks"


def test_a_row_of_scores_for_each_method(judged):
    first, second, _ = score_rows(judged)
    labels = {"data set": "d2sa", "front-end": "nano", "method": "SAMEO", "seed": "0"}
    assert labels.items() <= first.items()
    assert [first[column] for column in ("AP", "AP occluded", "AP un-occluded")] == pytest.approx([1, 1, 1])
    assert second["seed"] == ""
    assert [second[column] for column in ("AR100", "AP occluded", "AP un-occluded")] == pytest.approx([0.5, 0, 1])
