"""The room as a whole: nobody else draws; its colours and style; figures as files and in notebooks."""

import io
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure
from test_reporting_objects import AMODAL, IMAGE, VISIBLE, compared, title
from test_structure import MODULES, imports_of, module_name

from sameo_core.errors import InputError
from sameo_core.reporting import (
    PALETTE,
    figure_before_after,
    figure_layers,
    figure_occlusion_histograms,
    save_figure,
    style,
)
from sameo_core.reporting.style import SERIES, WIDTH, series

FOLDERS = {"playground": {"matplotlib"}}  # where its sample pictures lie


def test_no_other_room_draws():
    """Others may hand figures on and ask for the parts of a colour."""
    for path in MODULES:
        if module_name(path).partition(".")[0] != "reporting":
            used = {name for name in imports_of(path.read_text(encoding="utf-8")) if name.startswith("matplotlib")}
            allowed = {"matplotlib.figure.Figure", "matplotlib.colors.to_rgb"}
            assert used <= allowed | FOLDERS.get(path.stem, set()), f"{path.name}: {used}"


def test_colours_are_okabe_and_itos():
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(PALETTE.values()) | {colour for colour, _, _ in SERIES} <= okabe_ito
    one_panel = [PALETTE[role] for role in ("visible", "amodal", "hidden", "truth", "box")]
    assert len(set(one_panel)) == 5 and PALETTE["before"] != PALETTE["after"]


def test_lines_of_a_figure_differ_in_more_than_colour():
    assert all(len({line[i] for line in SERIES}) == len(SERIES) for i in range(3))
    assert series(["a", "b"])["a"] == {"color": PALETTE["after"], "ls": "-", "marker": "D"}
    with pytest.raises(InputError, match="at most 7 lines in a figure, found 8"):
        series("abcdefgh")


def test_style_stays_inside():
    before = dict(matplotlib.rcParams)
    figure_occlusion_histograms({"a": [0.5]}, "mini")
    assert dict(matplotlib.rcParams) == before


# ------------------------------------------------------------------------------------------------------------- files


def test_a_saved_figure_is_the_same_each_time(tmp_path, monkeypatch):
    def bytes_in(runs):
        monkeypatch.setattr(style, "RUNS", runs)
        figure = figure_before_after([compared(a=AMODAL)], "x", "mini")
        assert save_figure(figure, "fig", "mini") is figure
        folder = runs / "mini" / "figures"
        assert sorted(path.name for path in folder.iterdir()) == ["fig.png", "fig.svg"]
        return [(folder / name).read_bytes() for name in ("fig.svg", "fig.png")]

    svg, png = bytes_in(tmp_path / "one")
    assert [svg, png] == bytes_in(tmp_path / "two")
    assert ElementTree.fromstring(svg).tag.endswith("svg") and b"<pattern" in svg and b"dc:date" not in svg
    with PIL.Image.open(io.BytesIO(png)) as image:
        assert image.width == round(WIDTH * 150) and "Software" not in image.info
    save_figure(figure_occlusion_histograms({"$a$": [0.5]}, "paper"), "g", "paper")  # a dollar is a dollar
    with pytest.raises(InputError, match="plain file name"):
        save_figure(Figure(), "a/b", "mini")


def test_a_notebook_shows_a_figure_by_itself():
    figure = figure_before_after([compared(a=AMODAL)], "x", "mini")
    shown, about = figure._repr_mimebundle_()
    with PIL.Image.open(io.BytesIO(shown["image/png"])) as image:
        assert image.mode == "P" and image.width == round(WIDTH * 80)
    assert shown["text/plain"].startswith("<Picture size 552x") and shown["text/plain"].endswith(" with 3 Axes>")
    assert about == {"image/png": {"alt": f"{title(figure)}; box prompt, visible part; a; truth"}}


def test_a_photograph_has_more_dots_than_it_is_shown_with():
    layers = {"whole": {"box": [1, 1, 5, 4]}, "masks": {"visible": VISIBLE, "hidden": AMODAL & ~VISIBLE}}
    figure = figure_layers(IMAGE, layers, "x", "photo")
    shown, about = figure._repr_mimebundle_()
    with PIL.Image.open(io.BytesIO(shown["image/jpeg"])) as image:
        assert image.width == round(WIDTH * 160)
    assert about["image/jpeg"] == {"alt": "x \N{MIDDLE DOT} photographs; whole; masks", "width": round(WIDTH * 100)}
    whole, masks = figure.axes
    assert np.array_equal(whole.images[0].get_array(), IMAGE)  # nothing is faded
    assert np.array_equal((masks.images[0].get_array() == IMAGE).all(2), AMODAL)
    assert [patch.get_label() for patch in masks.patches] == ["hidden", "visible"]
