"""Figures by the data that they draw."""

from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from test_reporting_objects import AMODAL, IMAGE, VISIBLE, H, W, patches, title
from test_reporting_statistics import arm_rows

from sameo_core.config import SynthesisConfig
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.masks import encode_mask
from sameo_core.reporting import (
    figure_arms,
    figure_contact_sheet,
    figure_ladder,
    figure_occlusion_curve,
    figure_occlusion_histograms,
    figure_pool,
    figure_precision_recall,
    figure_rates,
    figure_training_curves,
    mean_interval,
    occlusion_svg,
)
from sameo_core.synthesis import CurvePoint, ladder


def dataset(folder, count, amodal=True):
    path = folder / "image.png"
    PIL.Image.fromarray(IMAGE).save(path)
    thing = AmodalInstance(1, 1, "cup", False, encode_mask(AMODAL) if amodal else None, encode_mask(VISIBLE))
    stuff = AmodalInstance(2, 2, "table", True, encode_mask(~VISIBLE), encode_mask(~AMODAL))
    images = [AmodalImage(i, path.name, path, H, W, (thing, stuff) if i else ()) for i in range(count)]
    return AmodalDataset("cocoa", folder, "val", {1: "cup", 2: "table"}, images, {})


def test_contact_sheet(tmp_path):
    figure = figure_contact_sheet(dataset(tmp_path, 9), "mini", count=5, columns=3)
    assert title(figure) == "cocoa, val · mini: drawn world"
    assert [set(patches(axes)) for axes in figure.axes] == [set(), *[{"visible", "hidden"}] * 4]
    assert all(len(axes.patches) == 2 for axes in figure.axes[1:])  # the table is stuff
    places = np.array([axes.get_position().bounds for axes in figure.axes])
    assert len(np.unique(places[:, 1].round(6))) == 2 and (places[:, :2] >= 0).all()
    assert (places[:, :2] + places[:, 2:] <= 1 + 1e-9).all()
    size = places[:, 2:] * figure.get_size_inches()
    assert size[:, 0] / size[:, 1] == pytest.approx(np.full(5, W / H))


def test_a_contact_sheet_of_visible_masks_with_words(tmp_path):
    images = dataset(tmp_path, 4, amodal=False)[1:]
    figure = figure_contact_sheet(images, "paper", title="LVIS", labels=["a", "b", "c"], columns=2)
    assert title(figure) == "LVIS · paper" and [set(patches(axes)) for axes in figure.axes] == [{"visible"}] * 3
    assert [axes.get_title("left") for axes in figure.axes] == ["a", "b", "c"]
    places = np.array([axes.get_position().bounds for axes in figure.axes])
    assert (places[:, 1] + places[:, 3] < 1).all() and places[2, 1] + places[2, 3] < places[0, 1]  # room for the words


def test_occlusion_histograms():
    figure = figure_occlusion_histograms({"a": [0, 0.12, 0.13, 0.99], "b": np.zeros(3)}, "mini")
    assert title(figure).endswith("· mini: drawn world") and len(figure.axes) == 2
    heights = np.array([bar.get_height() for bar in figure.axes[0].patches])
    assert heights[2] == pytest.approx(2 / 3) and heights[19] == pytest.approx(1 / 3) and heights.sum() == 1
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["4 objects\n75 % occluded", "3 objects\n0 % occluded"]


def test_training_curves():
    logs = {
        "seed 0": [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4, "mIoU": 0.8}],
        "seed 1": [{"step": 0, "loss": 2.0}, {"step": 2, "loss": 0.6, "mIoU": 0.6}],
    }
    figure = figure_training_curves(logs, "mini", ["loss", "mIoU"])
    assert title(figure) == "Training, bold: mean of 2 runs · mini: drawn world"
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == ["loss", "mIoU"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["seed 0"] == [[0, 1], [1, 0.5], [2, 0.4]] and lines["mean"] == [[0, 1.5], [2, 0.5]]
    alone = figure_training_curves({"seed 0": logs["seed 0"]}, "mini", ["loss"])
    assert len(alone.axes[0].lines) == 1 and title(alone) == "Training · mini: drawn world"


def test_arms():
    figure = figure_arms(arm_rows("a", 0.1, 0.3) + arm_rows("b", 0.5, 0.5), ["AP"], "mini", "Arms")
    (axes,) = figure.axes
    drawn = [(line.get_gid(), line.get_xdata()) for line in axes.lines if line.get_gid()]
    assert title(figure) == "Arms · mini: drawn world" and [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert [list(x) for gid, x in drawn if gid == "mean"] == [[pytest.approx(0.2)], [0.5]]
    assert drawn[0][1] == pytest.approx(mean_interval([0.1, 0.3])[1:])


def curve_rows():
    values = {"un-tuned": ((0.1, 0.2), (0.3, 0.4)), "SAMEO": ((0.5, 0.6), (0.7, 0.8))}
    return [
        {"pair": pair, "model": name, "rate": rate, "hidden IoU": value}
        for name, pairs in values.items()
        for pair, numbers in enumerate(pairs)
        for rate, value in zip((0.25, 0.5), numbers, strict=True)
    ]


def test_occlusion_curve_shows_pairs_and_their_mean():
    figure = figure_occlusion_curve(curve_rows(), "mini")
    lines = {line.get_gid(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["SAMEO"].get_xydata(), [[0.25, 0.6], [0.5, 0.7]])
    np.testing.assert_allclose(lines["un-tuned"].get_xydata(), [[0.25, 0.2], [0.5, 0.3]])
    assert lines["SAMEO"].get_linestyle() != lines["un-tuned"].get_linestyle()
    assert sum(line.get_gid() == "SAMEO pair" for line in figure.axes[0].lines) == 2
    assert "drawn world" in figure.get_suptitle()


def test_the_curve_on_a_page_has_a_line_per_model_through_its_known_points():
    nan = float("nan")
    curves = {"un-tuned <1>": [(0.0, nan), (0.5, 0.0)], "SAMEO": [(0.0, nan), (0.5, 0.5), (1.0, 1.0)]}
    svg = ElementTree.fromstring(occlusion_svg(curves, 0.5))
    lines = [line.get("points") for line in svg.iter("polyline")]
    assert lines == ["190.0,210.0", "190.0,115.0 340.0,20.0"]
    assert "un-tuned <1>" in [text.text for text in svg.iter("text")]
    assert len([*svg.iter("circle")]) == 3


def test_precision_and_recall():
    points = [CurvePoint(0.5, 0.6, 1.0, 10), CurvePoint(0.7, 0.8, 0.5, 4), CurvePoint(0.9, 1.0, 0.1, 1)]
    figure = figure_precision_recall({"strict": points}, 0.71, "mini", "Complete?")
    precision, recall, both = figure.axes
    assert precision.lines[0].get_xydata().tolist() == [[0.5, 0.6], [0.7, 0.8], [0.9, 1.0]]
    assert recall.lines[0].get_xydata().tolist() == [[0.5, 1.0], [0.7, 0.5], [0.9, 0.1]]
    marks = {line.get_gid(): line.get_xydata().tolist() for line in both.lines}
    assert marks["chosen"] == [[0.5, 0.8]]  # the point nearest to the threshold


def test_rates_asked_for_and_achieved():
    figure = figure_rates([0.12, 0.52, 0.53], [0.13, 0.5, 0.58], 0.05, "paper")
    left, right = figure.axes
    heights = {round(bar.get_x(), 2): bar.get_height() for bar in left.patches[:20] if bar.get_height()}
    assert heights == {0.1: 1, 0.5: 1, 0.55: 1} and title(figure).endswith("· paper")
    assert [line.get_xdata()[0] for line in right.lines] == [-0.05, 0.05]


def test_the_pool_and_a_ladder_of_one_pair(objects):
    figure = figure_pool(objects, "mini", "Complete")
    assert len(figure.axes) == len(objects) and all(len(axes.patches) == 1 for axes in figure.axes)
    rates = [0.1, 0.3, 0.5]
    steps = ladder(objects, SynthesisConfig(), seed=0, number=0, rates=rates)
    figure = figure_ladder(objects, steps, SynthesisConfig(), "mini")
    words = [axes.get_title() or axes.get_title("left") for axes in figure.axes]
    assert words == [f"asked {step.target_rate:.2f}, got {step.achieved_rate:.2f}" for step in steps]
