"""Figures of detections by the data that they draw."""

import math

import numpy as np
import pytest
from test_reporting_objects import title

from sameo_core.errors import InputError
from sameo_core.reporting import (
    calibration,
    figure_buckets,
    figure_detection_curves,
    figure_noise,
    figure_reliability,
    mean_interval,
)


def drawn(axes, gid):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == gid]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_precision_against_recall():
    curves = {"SAMEO": {0.5: [1, 0.8, 0.6], 0.75: [0.9, 0.3, 0]}, "other": {0.5: [0.5, 0.5, -1], 0.75: [math.nan] * 3}}
    figure = figure_detection_curves(curves, "mini")
    assert title(figure) == "Precision and recall of detections · mini: drawn world"
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


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one model"),
        ({"a": {}}, "at least one model"),
        ({"a": {0.5: [1, 1]}, "b": {0.75: [1, 1]}}, r"b: the thresholds \[0.5\] of every model, found \[0.75\]"),
        ({"a": {0.5: [1, 1.1]}}, "a: two precisions or more, in 0..1"),
        ({"a": {0.5: [1]}}, "two precisions or more"),
    ],
)
def test_curves_that_are_none(curves, message):
    with pytest.raises(InputError, match=message):
        figure_detection_curves(curves, "mini")


def rows(model, place, at, *values, **more):
    return [{"model": model, "seed": s, place: at, "AP": v} | more for s, v in enumerate(values)]


def test_buckets():
    some = rows("a", "bucket", "0-10 %", 0.5, 0.6) + rows("b", "bucket", "0-10 %", 0.3)
    figure = figure_buckets(
        some + rows("a", "bucket", "10-50 %", math.nan), "paper", counts={"0-10 %": 1200, "10-50 %": 0}
    )
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0-10 %\n1,200 objects", "10-50 %\n0 objects"]
    assert drawn(axes, "a") == [[[pytest.approx(-0.175), pytest.approx(0.55)]]]  # and nothing where nothing is known
    (low, high) = drawn(axes, "a interval")[0]
    assert [low[1], high[1]] == pytest.approx(mean_interval([0.5, 0.6])[1:])
    assert [y for _, y in drawn(axes, "a seeds")[0]] == [0.5, 0.6] and not drawn(axes, "b seeds")
    assert drawn(axes, "b") == [[[pytest.approx(0.175), 0.3]]] and legend(figure) == ["a", "b"]
    assert title(figure) == "By occlusion rate · paper"


def test_noise():
    some = [row | {"mIoU": row["AP"] / 2} for n in (0.1, 0.0) for row in rows("a", "noise", n, 0.5 - n, 0.6 - n)]
    figure = figure_noise(some, "mini", columns=["AP", "mIoU"])
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == ["AP", "mIoU"]
    assert np.array(drawn(figure.axes[0], "a")[0]) == pytest.approx(np.array([[0, 0.55], [10, 0.45]]))
    assert np.array(drawn(figure.axes[1], "a")[0])[:, 1] == pytest.approx([0.275, 0.225])
    intervals = np.array(drawn(figure.axes[0], "a interval"))
    assert intervals[0, :, 1] == pytest.approx(mean_interval([0.5, 0.6])[1:]) and intervals[1, 0, 0] == 10
    assert figure.axes[0].get_xticks().tolist() == [0, 10]
    with pytest.raises(InputError, match="at least one column"):
        figure_noise(some, "mini", columns=[])


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
    with pytest.raises(InputError, match="at least one model"):
        figure_reliability({}, "mini")
