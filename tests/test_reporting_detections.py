"""Figures of detections by the data that they draw."""

import math

import numpy as np
import pytest
from conftest import rectangle
from test_reporting_objects import title

from sameo_core.evaluation import evaluate
from sameo_core.masks import encode_mask
from sameo_core.reporting import (
    bucket_rows,
    calibration,
    detection_curves,
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


def test_precision_against_recall():
    curves = {"SAMEO": {0.5: [1, 0.8, 0.6], 0.75: [0.9, 0.3, 0]}, "other": {0.5: [0.5, 0.5, -1], 0.75: [math.nan] * 3}}
    figure = figure_detection_curves(curves, "mini", "Detections")
    assert title(figure) == "Detections · mini: drawn world"
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == [
        "IoU at least 0.5",
        "IoU at least 0.75",
    ]
    assert drawn(figure.axes[0], "SAMEO") == [[[0, 1], [0.5, 0.8], [1, 0.6]]]
    assert drawn(figure.axes[0], "other")[0][:2] == [[0, 0.5], [0.5, 0.5]]
    assert np.isnan(drawn(figure.axes[0], "other")[0][2][1])
    assert legend(figure) == ["SAMEO: AP 0.800 | 0.400", "other: AP 0.500 | not defined"]
    lines = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(lines) == 2 and len({style for _, style in lines}) == 2


def rows(model, place, at, *values, **more):
    return [{"model": model, "seed": s, place: at, "AP": v} | more for s, v in enumerate(values)]


def test_buckets():
    some = rows("a", "bucket", "0-10 %", 0.5, 0.6) + rows("b", "bucket", "0-10 %", 0.3)
    figure = figure_buckets(some + rows("a", "bucket", "10-50 %", math.nan), "paper", "Buckets")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0-10 %", "10-50 %"]
    assert drawn(axes, "a") == [[[pytest.approx(-0.175), pytest.approx(0.55)]]]  # and nothing where nothing is known
    (low, high) = drawn(axes, "a interval")[0]
    assert [low[1], high[1]] == pytest.approx(mean_interval([0.5, 0.6])[1:])
    assert [y for _, y in drawn(axes, "a seeds")[0]] == [0.5, 0.6] and not drawn(axes, "b seeds")
    assert drawn(axes, "b") == [[[pytest.approx(0.175), 0.3]]] and legend(figure) == ["a", "b"]
    assert title(figure) == "Buckets · paper"


def test_noise():
    some = [row | {"mIoU": row["AP"] / 2} for n in (0.1, 0.0) for row in rows("a", "noise", n, 0.5 - n, 0.6 - n)]
    figure = figure_noise(some, "mini", ["AP", "mIoU"])
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == ["AP", "mIoU"]
    assert np.array(drawn(figure.axes[0], "a")[0]) == pytest.approx(np.array([[0, 0.55], [10, 0.45]]))
    assert np.array(drawn(figure.axes[1], "a")[0])[:, 1] == pytest.approx([0.275, 0.225])
    intervals = np.array(drawn(figure.axes[0], "a interval"))
    assert intervals[0, :, 1] == pytest.approx(mean_interval([0.5, 0.6])[1:]) and intervals[1, 0, 0] == 10
    assert figure.axes[0].get_xticks().tolist() == [0, 10]


def test_reliability():
    found = {"before": calibration([0.2, 0.9, 0.95], [0.1, 0.4, 0.5], 4), "after": calibration([0.5], [0.5], 4)}
    figure = figure_reliability(found, "mini")
    before, after, counts, _ = figure.axes
    assert title(figure) == "Predicted and true IoU · mini: drawn world"
    assert np.array(drawn(before, "bins")[0]) == pytest.approx(np.array([[0.2, 0.1], [0.925, 0.45]]))
    assert np.array(drawn(before, "gap")[1]) == pytest.approx(np.array([[0.925, 0.925], [0.925, 0.45]]))
    assert before.texts[0].get_text().splitlines()[:2] == ["calibration error 0.350", "bias +0.350"]
    assert "correlation" in before.texts[0].get_text() and "correlation" not in after.texts[0].get_text()
    assert counts.patches[0].get_data().values.tolist() == [1, 0, 0, 2] and counts.texts[0].get_text() == "3 masks"


# --------------------------------------------------------------------------------------- what `evaluate` found, as rows


@pytest.fixture
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


def test_a_row_of_scores_for_each_method(judged):
    first, second, _ = score_rows(judged)
    labels = {"data set": "d2sa", "front-end": "nano", "method": "SAMEO", "seed": "0"}
    assert labels.items() <= first.items()
    assert [first[column] for column in ("AP", "AP occluded", "AP un-occluded")] == pytest.approx([1, 1, 1])
    assert second["seed"] == ""
    assert [second[column] for column in ("AR100", "AP occluded", "AP un-occluded")] == pytest.approx([0.5, 0, 1])


def test_rows_of_buckets_are_those_of_one_set_and_of_buckets_with_objects(judged):
    rows = bucket_rows(judged, "d2sa", NAMES)
    assert [(row["model"], row["seed"], row["bucket"], row["AR100"]) for row in rows] == [
        ("ours", "0", "0-10 %", 1),
        ("ours", "0", "50-90 %", 1),
        ("theirs", "", "0-10 %", 1),
        ("theirs", "", "50-90 %", 0),
    ]
    assert {row["model"] for row in bucket_rows(judged, "d2sa", {("nano", "own"): "theirs"})} == {"theirs"}


def test_curves_are_those_of_the_thresholds_asked_for(judged):
    curves = detection_curves(judged, "d2sa", NAMES)
    assert list(curves) == ["ours", "theirs"] and list(curves["ours"]) == [0.5, 0.75]
    assert (curves["ours"][0.75] == 1).all() and curves["theirs"][0.5].shape == (101,)
    assert curves["theirs"][0.5].mean() == pytest.approx(51 / 101)  # precision 1 up to recall 0.5, then 0
