"""Objects by the outlines that are drawn, on a 6 x 8 fixture worked by hand."""

import matplotlib
import numpy as np
import PIL.Image
import pytest
from conftest import plain_dataset, rectangle
from matplotlib.figure import Figure

from sameo_core.errors import InputError
from sameo_core.masks import encode_mask
from sameo_core.reporting import (
    PALETTE,
    Comparison,
    comparisons,
    figure_before_after,
    figure_cut_outs,
    figure_overlay,
    objects,
    overlay_mark,
    pictures,
    save_overlay,
)
from sameo_core.reporting.objects import draw_object

H, W = 6, 8
IMAGE = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)
AMODAL = np.zeros((H, W), bool)
AMODAL[1:5, 2:6] = True
VISIBLE = AMODAL & (np.arange(W) < 4)
BOX = np.array([2, 1, 6, 5], np.float32)


def patches(axes):
    return {patch.get_label(): patch for patch in axes.patches}


def extent(patch):
    path = patch.get_path()
    if patch.get_label() == "box":
        path = patch.get_patch_transform().transform_path(path)
    return [*path.vertices.min(0), *path.vertices.max(0)]


def title(figure):
    return figure.get_suptitle()


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
    draw_object(axes[0], IMAGE, AMODAL, AMODAL, role="truth")
    draw_object(axes[1], IMAGE, VISIBLE, None)
    draw_object(axes[2], IMAGE, VISIBLE, np.zeros_like(AMODAL))
    assert [set(patches(a)) for a in axes] == [{"visible", "amodal"}, {"visible"}, {"visible"}]
    assert patches(axes[0])["amodal"].get_edgecolor() == matplotlib.colors.to_rgba(PALETTE["truth"])


def test_a_hole_is_not_hatched():
    ring = AMODAL.copy()
    ring[2, 3] = False
    axes = Figure().add_subplot()
    draw_object(axes, IMAGE, np.zeros_like(ring), ring)
    hidden = patches(axes)["hidden"]
    rings = [p for p in hidden.get_path().to_polygons(closed_only=True)]
    areas = [np.sum(p[:-1, 0] * p[1:, 1] - p[1:, 0] * p[:-1, 1]) / 2 for p in rings]
    assert len(areas) == 2 and areas[0] * areas[1] < 0  # the hole goes the other way round: fills leave it out


def test_the_background_fades_and_the_occluder_does_not():
    figure = Figure()
    plain, kept = figure.subplots(1, 2)
    occluder = ~VISIBLE & (np.arange(W) < 7)
    draw_object(plain, IMAGE, VISIBLE, AMODAL)
    draw_object(kept, IMAGE, VISIBLE, AMODAL, occluder=occluder)
    for axes, clear in ((plain, VISIBLE), (kept, VISIBLE | occluder)):
        same = (axes.images[0].get_array() == IMAGE).all(axis=2)
        assert same[clear].all() and not same[~clear].any()


# -------------------------------------------------------------------------------------------------------- side by side


def compared(**predictions):
    return Comparison(IMAGE, VISIBLE, AMODAL, BOX, predictions)


def test_before_and_after():
    half = AMODAL & (np.arange(W) < 5)
    figure = figure_before_after([compared(before=VISIBLE, after=half)] * 2, "Gains", "mini", rows=("worst", "best"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["worst", "", "", "", "best", "", "", ""]
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


def test_compared_behind_a_detector(tmp_path):
    def hiding(columns):
        """Image i: the object behind is continued by so many of its 10 hidden columns."""
        for i, hidden in enumerate(columns):
            box = (4 + i, 10, 14 + i + hidden, 30)
            mask = encode_mask(rectangle((40, 60), *box))
            yield {"image_id": i, "box": list(box), "score": 0.5, "segmentation": mask, "instance_id": 2 * i}

    dataset = plain_dataset(2)
    for image in dataset.images:
        object.__setattr__(image, "path", tmp_path / image.file_name)
        PIL.Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(image.path)
    (item,) = comparisons(dataset, [2], {"front-end": [*hiding([0, 0])], "SAMEO": [*hiding([5, 2])]})
    assert list(item.predictions) == ["front-end", "SAMEO"] and item.box.tolist() == [5, 10, 15, 30]
    assert [mask.sum() for mask in item.predictions.values()] == [10 * 20, 12 * 20]
    with pytest.raises(InputError, match="SAMEO: a mask of object 2 in image 1, found none"):
        comparisons(dataset, [2], {"front-end": [*hiding([0, 0])], "SAMEO": [*hiding([0])]})


def test_panels_are_cut_out_around_the_object():
    image, mask = np.zeros((100, 200, 3), np.uint8), np.zeros((100, 200), bool)
    mask[0:20, 100:140] = True
    figure = figure_before_after([Comparison(image, mask, mask, BOX, {})], "x", "paper")
    for axes in figure.axes:  # 1.5 * 40 pixels, not beyond the upper edge
        assert axes.get_xlim() == (90, 150) and axes.get_ylim() == (60, 0)
    assert objects.window(np.array([0, 0, 180, 90], np.float32), 100, 200) == (-35, -85, 235, 185)
    assert objects.window(np.array([180, 80, 200, 100], np.float32), 100, 200) == (170, 70, 200, 100)


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


def test_overlay_of_a_large_photograph_is_drawn_smaller(monkeypatch):
    monkeypatch.setattr(pictures, "OVERLAY_PIXELS", 4)  # the image has 8: every second pixel
    axes = overlay().axes[0]
    assert axes.images[0].get_array().shape == (3, 4, 3)
    assert extent(axes.patches[0]) == [1, 1, 3, 3] and extent(axes.patches[1]) == [1, 0.5, 3, 2.5]


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
