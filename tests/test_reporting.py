"""Tables by round trip and exact text; figures by the data they draw, on the 6 x 8 fixture worked by hand."""

import io
import math
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import PIL.Image
import pytest
from conftest import rectangle
from matplotlib.figure import Figure

from sameo_core import reporting
from sameo_core.config import CompletenessConfig, SynthesisConfig
from sameo_core.datasets.base import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask
from sameo_core.reporting import (
    DASHES,
    PALETTE,
    Comparison,
    Screen,
    arm_differences,
    draw_object,
    figure_arms,
    figure_before_after,
    figure_contact_sheet,
    figure_cut_outs,
    figure_gains,
    figure_ladder,
    figure_occlusion_curve,
    figure_occlusion_histograms,
    figure_overlay,
    figure_png,
    figure_pool,
    figure_precision_recall,
    figure_rates,
    figure_training_curves,
    mean_interval,
    object_picture,
    overlay_mark,
    read_table,
    save_figure,
    save_overlay,
    scene_picture,
    table_html,
    table_markdown,
    write_table,
)
from sameo_core.sameo import AmodalPrediction, Sameo
from sameo_core.synthesis import CurvePoint, collect_complete_objects, ladder

H, W = 6, 8
IMAGE = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)
AMODAL = np.zeros((H, W), bool)
AMODAL[1:5, 2:6] = True
VISIBLE = AMODAL & (np.arange(W) < 4)
BOX = np.array([2, 1, 6, 5], np.float32)
ROWS = [{"model": "un-tuned", "AP": 0.41234, "seeds": 5}, {"model": "SAMEO", "AP": 0.5, "seeds": None}]


def patches(axes):
    return {patch.get_label(): patch for patch in axes.patches}


def extent(patch):
    path = (
        patch.get_patch_transform().transform_path(patch.get_path()) if patch.get_label() == "box" else patch.get_path()
    )
    return [*path.vertices.min(0), *path.vertices.max(0)]


def title(figure):
    return figure.get_suptitle()


# ------------------------------------------------------------------------------------------------------------- tables


def test_a_table_is_written_and_read_back(tmp_path):
    path = write_table("gains", ROWS, "mini", tmp_path / "new")
    assert path == tmp_path / "new" / "gains.csv" and [*path.parent.iterdir()] == [path]
    assert path.read_bytes() == b"profile,model,AP,seeds\nmini,un-tuned,0.4123,5\nmini,SAMEO,0.5000,\n"
    assert read_table(path) == [
        {"profile": "mini", "model": "un-tuned", "AP": 0.4123, "seeds": 5},
        {"profile": "mini", "model": "SAMEO", "AP": 0.5, "seeds": None},
    ]
    again = write_table("gains", read_table(path), "mini", tmp_path)
    assert again.read_bytes() == path.read_bytes()


def test_tables_go_to_the_results_of_their_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "RESULTS", tmp_path)
    assert write_table("a", ROWS, "paper") == tmp_path / "paper" / "a.csv"


@pytest.mark.parametrize(
    ("value", "text", "back"),
    [
        (np.float32(0.25), "0.2500", 0.25),
        (np.int64(-3), "-3", -3),
        (-1e-9, "0.0000", 0.0),
        (-0.5, "-0.5000", -0.5),
        (math.inf, "inf", math.inf),
        (12345.0, "12345.0000", 12345.0),
        ("1e-04", "1e-04", 1e-4),
        ("007", "007", "007"),
        ("2024_01", "2024_01", "2024_01"),
        ('a, "b"\nc', '"a, ""b""\nc"', 'a, "b"\nc'),
        (True, "True", "True"),
    ],
)
def test_cells(tmp_path, value, text, back):
    path = write_table("a", [{"x": value, "y": "|"}], "mini", tmp_path)
    assert path.read_text(encoding="utf-8") == f"profile,x,y\nmini,{text},|\n"
    assert read_table(path)[0]["x"] == back and type(read_table(path)[0]["x"]) is type(back)


def test_nan_is_a_number(tmp_path):
    assert math.isnan(read_table(write_table("a", [{"x": np.nan}], "mini", tmp_path))[0]["x"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", [], "mini"), "at least one row"),
        (("a", [{"x": 1}, {"y": 1}], "mini"), "row 1: all rows have the same keys, only some have x, y"),
        (("a", [{"x": 1}, {"x": 1, "y": 1}], "mini"), "only some have y"),
        (("a", [{"profile": "paper", "x": 1}], "mini"), "one profile a table: 'mini', found 'paper'"),
        (("a", [{"x": [1]}], "mini"), r"row 0: a cell is .* found \[1\]"),
        (("a", [{"x": 1}], "tiny"), "one of mini, paper, found 'tiny'"),
        (("../a", [{"x": 1}], "mini"), "plain file name"),
    ],
)
def test_what_is_no_table_is_not_written(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        write_table(*arguments, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = write_table("a", ROWS, "mini", tmp_path)
    monkeypatch.setattr(reporting.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_table("a", ROWS[:1], "mini", tmp_path)
    assert len(read_table(path)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "must exist"), ("", "empty"), ("a,b\n1\n", "row 0: 2 cells a row .* found 1"), ("a\n1,2\n", "found 2")],
)
def test_what_is_no_table_is_not_read(tmp_path, content, message):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_markdown_text():
    assert table_markdown(ROWS, title="Gains", best={"AP": max}) == (
        "**Gains**\n"
        "\n"
        "| model    |        AP | seeds |\n"
        "| -------- | --------: | ----: |\n"
        "| un-tuned |     0.412 |     5 |\n"
        "| SAMEO    | **0.500** |       |"
    )


def test_html_text_and_what_a_cell_shows():
    table = table_html([{"a|b": "x < y", "n": 0.00049}, {"n": math.nan}], ["n", "a|b"], title="A & B", best={"n": min})
    assert table._repr_html_().splitlines() == [
        "<table>",
        "<caption>A &amp; B</caption>",
        '<tr><th style="text-align: right">n</th><th style="text-align: left">a|b</th></tr>',
        '<tr><td style="text-align: right"><b>0.000</b></td><td style="text-align: left">x &lt; y</td></tr>',
        '<tr><td style="text-align: right"></td><td style="text-align: left"></td></tr>',
        "</table>",
    ]
    assert repr(table) == str(table) == table._repr_markdown_()
    assert "a\\|b" in repr(table)


def test_ties_are_all_bold_and_decimals_can_be_chosen():
    text = table_markdown([{"x": 0.12341}, {"x": 0.12339}, {"x": 0.1}], best={"x": max}, decimals=4)
    assert text.splitlines()[2:] == ["| **0.1234** |", "| **0.1234** |", "|     0.1000 |"]


@pytest.mark.parametrize("options", [{"columns": ["AR"]}, {"best": {"AR": max}}])
def test_a_column_that_no_row_has(options):
    with pytest.raises(InputError, match="found 'AR'. Choose from model, AP, seeds"):
        table_html(ROWS, **options)
    with pytest.raises(InputError, match="at least one row"):
        table_html([])


def test_mean_interval():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, standard error 1 / sqrt(3)
    assert mean == 2 and low == pytest.approx(2 - 4.302653 / 3**0.5) and high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert mean_interval(np.array([0.5, 0.5])) == (0.5, 0.5, 0.5)
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    with pytest.raises(InputError, match="at least one value"):
        mean_interval([])


# ------------------------------------------------------------------------------------------------------------- colours


def test_colours_are_okabe_and_itos():
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(PALETTE.values()) <= okabe_ito
    one_panel = [PALETTE[role] for role in ("visible", "amodal", "hidden", "truth", "box")]
    assert len(set(one_panel)) == 5 and PALETTE["before"] != PALETTE["after"]


def test_style_stays_inside():
    before = dict(matplotlib.rcParams)
    figure_occlusion_histograms({"a": [0.5]}, "mini")
    assert dict(matplotlib.rcParams) == before


# ------------------------------------------------------------------------------------------------------------- objects


def test_an_object_is_drawn_where_it_is():
    axes = Figure().add_subplot()
    draw_object(axes, IMAGE, VISIBLE, AMODAL, box=BOX)
    drawn = patches(axes)
    assert {name: extent(patch) for name, patch in drawn.items()} == {
        "hidden": [4, 1, 6, 5],
        "visible": [2, 1, 4, 5],
        "amodal": [2, 1, 6, 5],
        "box": [2, 1, 6, 5],
    }
    assert {name for name, patch in drawn.items() if patch.get_hatch()} == {"hidden"}
    assert drawn["visible"].get_linestyle() == "solid" and drawn["amodal"].get_linestyle() != "solid"
    assert axes.get_xlim() == (0, W) and axes.get_ylim() == (H, 0)
    shown = axes.images[0].get_array()
    assert (shown[VISIBLE] == IMAGE[VISIBLE]).all() and shown[~VISIBLE].min() >= 127


def test_only_what_is_there_is_drawn():
    axes = Figure().subplots(1, 3)
    draw_object(axes[0], IMAGE, AMODAL, AMODAL)
    draw_object(axes[1], IMAGE, VISIBLE, None)
    draw_object(axes[2], IMAGE, VISIBLE, np.zeros_like(AMODAL))
    assert [set(patches(a)) for a in axes] == [{"visible", "amodal"}, {"visible"}, {"visible"}]


def test_a_hole_is_not_hatched():
    ring = AMODAL.copy()
    ring[2, 3] = False
    axes = Figure().add_subplot()
    draw_object(axes, IMAGE, np.zeros_like(ring), ring, hidden_style={"hatch": "xx"})
    hidden = patches(axes)["hidden"]
    rings = [p for p in hidden.get_path().to_polygons(closed_only=True)]
    areas = [np.sum(p[:-1, 0] * p[1:, 1] - p[1:, 0] * p[:-1, 1]) / 2 for p in rings]
    assert len(areas) == 2 and areas[0] * areas[1] < 0  # the hole goes the other way round: fills leave it out
    assert hidden.get_hatch() == "xx"


def test_the_truth_has_its_own_colour():
    axes = Figure().add_subplot()
    draw_object(axes, IMAGE, VISIBLE, AMODAL, role="truth")
    for name, colour in (("amodal", "truth"), ("visible", "visible")):
        assert patches(axes)[name].get_edgecolor() == matplotlib.colors.to_rgba(PALETTE[colour])


def test_a_mask_of_another_image():
    for visible, amodal, name in ((VISIBLE, AMODAL[:-1], "amodal"), (VISIBLE.T, AMODAL, "visible")):
        with pytest.raises(InputError, match=rf"{name}: a mask has its image's size \(h, w\) \(6, 8\), found"):
            draw_object(Figure().add_subplot(), IMAGE, visible, amodal)


# ------------------------------------------------------------------------------------------------------------- figures


def compared(**predictions):
    return Comparison(IMAGE, VISIBLE, AMODAL, BOX, predictions)


def test_before_and_after():
    half = AMODAL & (np.arange(W) < 5)
    figure = figure_before_after([compared(before=VISIBLE, after=half)] * 2, "Gains", "mini")
    assert title(figure) == "Gains · mini: drawn world"
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes[:4]] == [
        "box prompt, visible part", "before", "after", "truth",
    ]  # fmt: skip
    assert [axes.get_xlabel() for axes in figure.axes[4:]] == [
        "", "IoU 0.50, hidden 0.00", "IoU 0.75, hidden 0.50", "50 % hidden",
    ]  # fmt: skip
    drawn = [patches(axes) for axes in figure.axes[:4]]
    assert ["hidden" in panel for panel in drawn] == [False, False, True, True]
    assert ["box" in panel for panel in drawn] == [True, False, False, False]
    assert extent(drawn[2]["hidden"]) == [4, 1, 5, 5] and extent(drawn[3]["hidden"]) == [4, 1, 6, 5]


def test_panels_are_cut_out_around_the_object():
    image, mask = np.zeros((100, 200, 3), np.uint8), np.zeros((100, 200), bool)
    mask[0:20, 100:140] = True
    figure = figure_before_after([Comparison(image, mask, mask, BOX, {})], "x", "paper")
    for axes in figure.axes:  # 1.5 * 40 pixels, not beyond the upper edge
        assert axes.get_xlim() == (90, 150) and axes.get_ylim() == (60, 0)
    assert reporting._window(np.array([0, 0, 180, 90], np.float32), 100, 200) == (-35, -85, 235, 185)
    assert reporting._window(np.array([180, 80, 200, 100], np.float32), 100, 200) == (170, 70, 200, 100)


def test_comparisons_that_cannot_be_drawn():
    with pytest.raises(InputError, match="at least one object"):
        figure_before_after([], "x", "mini")
    with pytest.raises(InputError, match="object 1: all objects have the same models"):
        figure_before_after([compared(a=VISIBLE), compared(b=VISIBLE)], "x", "mini")
    with pytest.raises(InputError, match="found 'huge'"):
        figure_before_after([compared(a=VISIBLE)], "x", "huge")


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


def test_contact_sheet_of_visible_masks(tmp_path):
    figure = figure_contact_sheet(dataset(tmp_path, 2, amodal=False).images[1:], "paper", title="LVIS")
    assert title(figure) == "LVIS · paper" and [set(patches(axes)) for axes in figure.axes] == [{"visible"}]
    with pytest.raises(InputError, match="at least one image"):
        figure_contact_sheet([], "mini")


def test_a_contact_sheet_with_words(tmp_path):
    images = dataset(tmp_path, 3).images
    figure = figure_contact_sheet(images, "mini", labels=["a", "b", "c"], columns=2)
    assert [axes.get_title("left") for axes in figure.axes] == ["a", "b", "c"]
    places = np.array([axes.get_position().bounds for axes in figure.axes])
    assert (places[:, 1] + places[:, 3] < 1).all() and places[2, 1] + places[2, 3] < places[0, 1]  # room for the words
    with pytest.raises(InputError, match="one label an image, found 2 for 3"):
        figure_contact_sheet(images, "mini", labels=["a", "b"])
    with pytest.raises(InputError, match="labels"):
        figure_contact_sheet(images, "mini", labels=["a", "b", "c"], count=2)


def test_occlusion_histograms():
    figure = figure_occlusion_histograms({"a": [0, 0.12, 0.13, 0.99], "b": np.zeros(3)}, "mini")
    assert title(figure).endswith("· mini: drawn world") and len(figure.axes) == 2
    heights = np.array([bar.get_height() for bar in figure.axes[0].patches])
    assert heights[2] == pytest.approx(2 / 3) and heights[19] == pytest.approx(1 / 3) and heights.sum() == 1
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["4 objects\n75 % occluded", "3 objects\n0 % occluded"]
    for rates in ({}, {"a": []}, {"a": [1.2]}, {"a": [math.nan]}):
        with pytest.raises(InputError, match="rates"):
            figure_occlusion_histograms(rates, "mini")


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
    with pytest.raises(InputError, match="seed 0: rows with step and AP, found none"):
        figure_training_curves(logs, "mini", ["AP"])
    with pytest.raises(InputError, match="at least one run"):
        figure_training_curves({}, "mini", ["loss"])


def test_gains():
    rows = [{"metric": m, "seed": s, "before": 0.4, "after": 0.5 + s / 10} for m in ("AP", "mIoU") for s in range(3)]
    figure = figure_gains(rows, "paper")
    axes = figure.axes[0]
    assert title(figure).endswith("· paper") and [t.get_text() for t in axes.get_yticklabels()] == ["AP", "mIoU"]
    drawn = {line.get_gid(): line.get_xdata() for line in axes.lines}
    assert drawn["before"] == pytest.approx([0.4]) and drawn["after"] == pytest.approx([0.6])
    assert drawn["after seeds"] == pytest.approx([0.5, 0.6, 0.7])
    assert drawn["after interval"] == pytest.approx(mean_interval([0.5, 0.6, 0.7])[1:])
    with pytest.raises(InputError, match="row 0: metric, before and after, without"):
        figure_gains([{"metric": "AP", "after": 1}], "mini")
    with pytest.raises(InputError, match="at least one row"):
        figure_gains([], "mini")


def arm_rows(arm, *values, place="d2sa"):
    return [{"data set": place, "arm": arm, "seed": seed, "AP": value} for seed, value in enumerate(values)]


def test_differences_between_arms_are_paired_by_seed():
    rows = arm_rows("plain", 0.1, 0.5) + arm_rows("rich", 0.2, 0.62)[::-1]
    (row,) = arm_differences(rows, "plain", ["AP"])
    mean, low, high = mean_interval([0.1, 0.12])
    assert row == pytest.approx(
        {
            "data set": "d2sa",
            "arm": "rich",
            "metric": "AP",
            "baseline": 0.3,
            "mean": 0.41,
            "difference": mean,
            "ci_low": low,
            "ci_high": high,
            "seeds": 2,
        }
    )
    with pytest.raises(InputError, match="rich: the same seeds as 'plain', found .0. and .0, 1."):
        arm_differences(rows[:2] + arm_rows("rich", 0.2), "plain", ["AP"])
    with pytest.raises(InputError, match="another arm, found no other"):
        arm_differences(rows[:2], "plain", ["AP"])


def test_arms():
    figure = figure_arms(arm_rows("a", 0.1, 0.3) + arm_rows("b", 0.5, 0.5), ["AP"], "mini", "Arms")
    (axes,) = figure.axes
    drawn = [(line.get_gid(), line.get_xdata()) for line in axes.lines if line.get_gid()]
    assert title(figure) == "Arms · mini: drawn world" and [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert [list(x) for gid, x in drawn if gid == "mean"] == [[pytest.approx(0.2)], [0.5]]
    assert drawn[0][1] == pytest.approx(mean_interval([0.1, 0.3])[1:])
    with pytest.raises(InputError, match="at least one row"):
        figure_arms([], ["AP"], "mini", "Arms")


def test_precision_and_recall():
    points = [CurvePoint(0.5, 0.6, 1.0, 10), CurvePoint(0.7, 0.8, 0.5, 4), CurvePoint(0.9, 1.0, 0.1, 1)]
    figure = figure_precision_recall({"strict": points}, 0.71, "mini", "Complete?")
    precision, recall, both = figure.axes
    assert precision.lines[0].get_xydata().tolist() == [[0.5, 0.6], [0.7, 0.8], [0.9, 1.0]]
    assert recall.lines[0].get_xydata().tolist() == [[0.5, 1.0], [0.7, 0.5], [0.9, 0.1]]
    marks = {line.get_gid(): line.get_xydata().tolist() for line in both.lines}
    assert marks["chosen"] == [[0.5, 0.8]]  # the point nearest to the threshold
    with pytest.raises(InputError, match="at least one point"):
        figure_precision_recall({"strict": []}, 0.7, "mini", "Complete?")


def test_rates_asked_for_and_achieved():
    figure = figure_rates([0.12, 0.52, 0.53], [0.13, 0.5, 0.58], 0.05, "paper")
    left, right = figure.axes
    heights = {round(bar.get_x(), 2): bar.get_height() for bar in left.patches[:20] if bar.get_height()}
    assert heights == {0.1: 1, 0.5: 1, 0.55: 1} and title(figure).endswith("· paper")
    assert [line.get_xdata()[0] for line in right.lines] == [-0.05, 0.05]
    with pytest.raises(InputError, match="as many rates asked for as achieved"):
        figure_rates([0.1], [0.1, 0.2], 0.05, "mini")


class BoxTeacher(Sameo):
    """Every object fills its box."""

    def __init__(self):
        pass

    def fingerprint(self):
        return "boxes"

    def embed(self, image):
        return image

    def predict_embedded(self, embedding, image_size, boxes, scores=None):
        masks = np.stack([rectangle(image_size, *map(int, box)) for box in boxes])
        return AmodalPrediction(masks, np.ones(len(masks), np.float32), np.ones(len(masks), np.float32))


def known_pool(folder, count):
    """Photographs of two rectangles each, all of them complete."""
    size, images = (96, 128), []
    for number in range(1, count + 1):
        masks = [rectangle(size, 10, 20 + number, 50, 70), rectangle(size, 70, 30, 110 + number, 80)]
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
        items = [AmodalInstance(10 * number + j, 1, "a", False, None, encode_mask(m)) for j, m in enumerate(masks)]
        images.append(AmodalImage(number, f"{number}.png", folder / f"{number}.png", *size, tuple(items)))
    dataset = AmodalDataset("lvis", folder, "train", {1: "a"}, images, {})
    found = collect_complete_objects(BoxTeacher(), dataset, CompletenessConfig(), folder / "record").complete()
    assert len(found) == 2 * count
    return found


def test_the_pool_and_a_ladder_of_one_pair(tmp_path):
    pool = known_pool(tmp_path, 4)
    figure = figure_pool(pool, "mini", "Complete")
    assert len(figure.axes) == len(pool) and all(len(axes.patches) == 1 for axes in figure.axes)
    rates = [0.1, 0.3, 0.5]
    steps = ladder(pool, SynthesisConfig(), seed=0, number=0, rates=rates)
    assert {(step.target, step.occluder, step.scale, step.direction) for step in steps} == {
        (steps[0].target, steps[0].occluder, steps[0].scale, steps[0].direction)
    }
    assert [step.achieved_rate for step in steps] == pytest.approx(rates, abs=0.05)
    figure = figure_ladder(pool, steps, SynthesisConfig(), "mini")
    words = [axes.get_title() or axes.get_title("left") for axes in figure.axes]
    assert words == [f"asked {step.target_rate:.2f}, got {step.achieved_rate:.2f}" for step in steps]
    with pytest.raises(InputError, match="at least one pair"):
        figure_ladder(pool, [], SynthesisConfig(), "mini")
    with pytest.raises(InputError, match="at least one object"):
        figure_pool(pool._rows(np.zeros(0, int)), "mini", "Complete")


# ------------------------------------------------------------------------------------------------------------- files


def test_a_saved_figure_is_the_same_each_time(tmp_path, monkeypatch):
    def bytes_in(folder):
        path = save_figure(figure_before_after([compared(a=AMODAL)], "x", "mini"), "fig", "mini", folder)
        assert path == folder / "fig.svg"
        return [path.read_bytes(), path.with_suffix(".png").read_bytes()]

    svg, png = bytes_in(tmp_path / "one")
    assert [svg, png] == bytes_in(tmp_path / "two")
    assert ElementTree.fromstring(svg).tag.endswith("svg") and b"<pattern" in svg and b"dc:date" not in svg
    with PIL.Image.open(io.BytesIO(png)) as image:
        assert image.width == round(reporting.WIDTH * 150) and "Software" not in image.info
    monkeypatch.setattr(reporting, "RUNS", tmp_path)
    path = save_figure(figure_gains([{"metric": "$AP$", "before": 0.1, "after": 0.2}], "paper"), "g", "paper")
    assert path == tmp_path / "paper" / "figures" / "g.svg"
    with pytest.raises(InputError, match="plain file name"):
        save_figure(Figure(), "a/b", "mini", tmp_path)


def test_a_notebook_shows_a_figure_by_itself():
    figure = figure_before_after([compared(a=AMODAL)], "x", "mini")
    shown = figure._repr_mimebundle_()
    with PIL.Image.open(io.BytesIO(shown["image/png"])) as image:
        assert image.mode == "P" and image.width == round(reporting.WIDTH * 80)
    assert shown["text/plain"].startswith("<Picture size 552x") and shown["text/plain"].endswith(" with 3 Axes>")


# ------------------------------------------------------------------------------------------------- one's own pictures


def overlay(**options):
    boxes = np.stack([BOX, BOX])
    return figure_overlay(IMAGE, boxes, np.stack([AMODAL, VISIBLE]), "Mine", None, **options)


def test_overlay_draws_every_object_with_box_and_number():
    figure = overlay()
    (axes,) = figure.axes
    drawn = [(patch.get_label(), extent(patch)) for patch in axes.patches]
    assert drawn == [
        ("amodal", [2, 1, 6, 5]),
        ("box", [2, 1, 6, 5]),
        ("amodal", [2, 1, 4, 5]),
        ("box", [2, 1, 6, 5]),
    ]
    assert [text.get_text() for text in axes.texts] == ["1", "2"] and title(figure) == "Mine"
    shown = axes.images[0].get_array()
    assert np.array_equal(shown[AMODAL], IMAGE[AMODAL]) and not np.array_equal(shown[~AMODAL], IMAGE[~AMODAL])
    assert [text.get_text() for text in overlay(labels=["a", "b"]).axes[0].texts] == ["a", "b"]


def test_overlay_hatches_what_is_hidden_where_that_is_known():
    figure = overlay(visible=np.stack([VISIBLE, VISIBLE]))
    labels = [patch.get_label() for patch in figure.axes[0].patches]
    assert labels == ["hidden", "visible", "amodal", "box", "visible", "amodal", "box"]
    assert extent(figure.axes[0].patches[0]) == [4, 1, 6, 5]


def test_overlay_of_a_run_says_which():
    figure = figure_overlay(IMAGE, BOX[None], AMODAL[None], "Mine", "mini")
    assert title(figure) == "Mine \N{MIDDLE DOT} mini: drawn world"


def test_overlay_of_a_large_photograph_is_drawn_smaller(monkeypatch):
    monkeypatch.setattr(reporting, "OVERLAY_PIXELS", 4)  # the image has 8: every second pixel
    axes = overlay().axes[0]
    assert axes.images[0].get_array().shape == (3, 4, 3)
    assert extent(axes.patches[0]) == [1, 1, 3, 3] and extent(axes.patches[1]) == [1, 0.5, 3, 2.5]


def test_overlay_without_objects():
    axes = figure_overlay(IMAGE, np.zeros((0, 4), np.float32), np.zeros((0, H, W), bool), "Nothing", None).axes[0]
    assert len(axes.patches) == len(axes.texts) == 0


def test_overlay_needs_what_belongs_together():
    with pytest.raises(InputError, match="found 1 masks and 2 boxes"):
        figure_overlay(IMAGE, np.stack([BOX, BOX]), AMODAL[None], "", None)
    with pytest.raises(InputError, match="one mask, box and label"):
        overlay(labels=["a"])
    with pytest.raises(InputError, match=r"mask 0.*\(6, 8\), found \(8, 6\)"):
        figure_overlay(IMAGE, BOX[None], AMODAL.T[None], "", None)


def test_overlays_carry_a_mark(tmp_path):
    path = tmp_path / "deeper" / "a.png"
    save_overlay(overlay(), path, "made from this")
    assert overlay_mark(path) == "made from this" and [file.name for file in path.parent.iterdir()] == ["a.png"]
    assert overlay_mark(tmp_path / "none.png") is None
    PIL.Image.fromarray(IMAGE).save(tmp_path / "other.png")
    assert overlay_mark(tmp_path / "other.png") is None


def test_cut_outs_lie_on_chequers():
    cut = np.dstack([IMAGE, np.where(AMODAL, 255, 0).astype(np.uint8)])
    figure = figure_cut_outs({1: cut, 4: cut[:3]}, "Cut out", "mini")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["1", "4"]
    ground, picture = figure.axes[0].images
    assert np.array_equal(picture.get_array(), cut) and set(np.unique(ground.get_array())) == {225, 255}
    with pytest.raises(InputError, match="at least one cut-out"):
        figure_cut_outs({}, "", "mini")


# ------------------------------------------------------------------------------------------------------- on the screen


def square(size=40):
    """A grey image whose left half is the visible part of a centred square, 20 x 20 pixels."""
    amodal = np.zeros((size, size), bool)
    amodal[10:30, 10:30] = True
    return np.full((size, size, 3), 128, np.uint8), amodal, amodal & (np.arange(size) < 20)


def shown(jpeg):
    return np.asarray(PIL.Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def distance(pixels, colour):
    return np.abs(pixels - rgb(colour)).max(-1)


def test_an_objects_picture_says_everything_twice():
    image, amodal, visible = square()
    pixels = shown(object_picture(image, amodal, visible, truth=np.roll(amodal, 5, 0), longest=400))
    assert pixels.shape == (400, 400, 3)
    hidden = pixels[120:280, 220:280]
    assert (distance(hidden, "#000000") < 60).mean() > 0.1, "hatched"
    assert (hidden[..., 0] > hidden[..., 2] + 60).mean() > 0.5, "and tinted orange"
    seen = pixels[170:280, 120:180]
    assert np.abs(seen - 128).max() < 40, "the visible part is as photographed"
    top = pixels[96:104, 210:290]
    drawn = (distance(top, PALETTE["amodal"]) < 60).any(0)
    assert 0.4 < drawn.mean() < 0.9, "dashed: 7 of 11"
    seam = pixels[170:280, 196:204]
    assert (distance(seam, PALETTE["visible"]) < 60).any(1).mean() > 0.95, "the visible part ends in a solid line"
    below = pixels[346:354, 120:280]
    assert 0.1 < (distance(below, PALETTE["truth"]) < 70).any(0).mean() < 0.7, "dotted"


def test_without_a_visible_mask_nothing_is_called_hidden():
    image, amodal, visible = square()
    assert (np.abs(shown(object_picture(image, amodal, longest=200))[70:130, 70:130] - 128) < 30).all()
    assert np.abs(shown(object_picture(image, None, longest=200)) - 128).max() < 5


def test_a_box_on_the_screen_is_where_it_is_in_the_image():
    image, amodal, _ = square()
    boxed = shown(object_picture(image, None, box=np.array([5, 8, 35, 30], np.float32), longest=400))
    dark = distance(boxed, PALETTE["box"]) < 60
    assert (np.flatnonzero(dark.sum(0) > 100)[[0, -1]] // 10).tolist() == [5, 35]
    assert (np.flatnonzero(dark.sum(1) > 100)[[0, -1]] // 10).tolist() == [8, 30]


def test_a_large_photograph_is_outlined_at_the_size_of_the_screen():
    mask = np.zeros((900, 1200), bool)
    mask[300:600, 300:900] = True
    pixels = shown(object_picture(np.full((900, 1200, 3), 128, np.uint8), None, mask, longest=400))
    assert pixels.shape == (300, 400, 3)
    blue = distance(pixels, PALETTE["visible"]) < 80
    assert np.flatnonzero(blue[110:190].any(0))[0] in range(98, 103)


def test_dashes_are_as_long_as_asked_for():
    line = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 30.0]])
    pieces = list(reporting._dashes(line, 7, 4))
    assert [np.hypot(*np.diff(piece, axis=0).T).sum() for piece in pieces[:5]] == pytest.approx([7] * 5)
    assert pieces[1][0].tolist() == [11, 0]
    assert len(pieces) == 6
    assert DASHES["amodal"] != DASHES["truth"]


def test_numbers_and_outlines_of_a_scene(tmp_path):
    image, amodal, visible = square()
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    front = AmodalInstance(2, 1, "b", False, encode_mask(amodal & ~visible), encode_mask(amodal & ~visible))
    behind = AmodalInstance(1, 1, "a", False, encode_mask(amodal), encode_mask(visible))
    scene = AmodalImage(1, "a.png", tmp_path / "a.png", 40, 40, (behind, front))
    assert scene.occluders() == [[1], []]
    plain, chosen = (shown(scene_picture(scene, image, which, 400)) for which in (None, 0))
    assert (distance(plain[185:215, 140:160], "#ffffff") < 30).mean() > 0.2, "a number in a white field"
    assert (distance(chosen, PALETTE["truth"]) < 60).sum() > (distance(plain, PALETTE["truth"]) < 60).sum() + 100


def test_screen_keeps_the_shape_of_the_image():
    assert Screen(np.zeros((30, 60, 3), np.uint8), 200).picture.size == (200, 100)


def curve_rows():
    values = {"un-tuned": ((0.1, 0.2), (0.3, 0.4)), "SAMEO": ((0.5, 0.6), (0.7, 0.8))}
    return [
        {"pair": pair, "model": name, "rate": rate, "hidden IoU": value}
        for name, pairs in values.items()
        for pair, numbers in enumerate(pairs)
        for rate, value in zip((0.25, 0.5), numbers, strict=True)
    ]


def test_occlusion_curve_shows_pairs_and_their_mean():
    figure = figure_occlusion_curve(curve_rows(), "mini", here=0.3)
    lines = {line.get_gid(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["SAMEO"].get_xydata(), [[0.25, 0.6], [0.5, 0.7]])
    np.testing.assert_allclose(lines["un-tuned"].get_xydata(), [[0.25, 0.2], [0.5, 0.3]])
    assert lines["SAMEO"].get_linestyle() != lines["un-tuned"].get_linestyle()
    assert lines["here"].get_xdata()[0] == 0.3
    assert sum(line.get_gid() == "SAMEO pair" for line in figure.axes[0].lines) == 2
    assert "drawn world" in figure.get_suptitle()
    assert PIL.Image.open(io.BytesIO(figure_png(figure))).width == round(reporting.WIDTH * 65)


def test_a_curve_of_nothing_or_of_three_models_is_refused():
    with pytest.raises(InputError, match="one or two models, found 0"):
        figure_occlusion_curve([], "mini")
    with pytest.raises(InputError, match="found 3"):
        figure_occlusion_curve([row | {"model": name} for name in "abc" for row in curve_rows()], "mini")
