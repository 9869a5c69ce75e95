"""Figures as files: SVG and PNG for a paper, PNG for a widget, and overlays that say what they were made from."""

from pathlib import Path

import matplotlib
import PIL.Image
from matplotlib.figure import Figure

from sameo_core.config import RUNS
from sameo_core.reporting.base import named_file, write_whole
from sameo_core.reporting.style import STYLE, rendered, styled


@styled
def save_figure(
    figure: Figure, name: str, profile: str, folder: Path | None = None, pdf: bool = False, dpi: int = 150
) -> Path:
    """Write ``<name>.svg`` (for the paper) and ``<name>.png``, the same bytes each time; the SVG's path.

    `folder` stands in for ``data/runs/<profile>/figures``; `pdf`: ``<name>.pdf`` too, as LaTeX takes no SVG; `dpi`: of
    the PNG.
    """
    path = named_file(name, profile, RUNS / profile / "figures" if folder is None else folder).with_suffix(".svg")
    write_whole(path.with_suffix(".png"), rendered(figure, "png", dpi))
    write_whole(path, rendered(figure, "svg", 150))
    if pdf:
        write_whole(path.with_suffix(".pdf"), rendered(figure, "pdf", 150))
    return path


@styled
def save_overlay(figure: Figure, path: Path, mark: str) -> None:
    """Write a figure as PNG (150 dpi), whole or not at all, with a text in it under the name ``sameo``.

    The text says what the picture was made from; `overlay_mark` reads it again.
    """
    write_whole(path, rendered(figure, "png", 150, {"sameo": mark}))


def overlay_mark(path: Path) -> str | None:
    """The text that `save_overlay` left in a picture; None where there is no such picture, or no text in it."""
    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            return picture.info.get("sameo")
    except Exception:  # Pillow's readers of headers raise many types
        return None


def figure_png(figure: Figure, dpi: float | int = 100) -> bytes:
    """The bytes of a figure's PNG, for `ipywidgets.Image`."""
    with matplotlib.rc_context(dict(STYLE)):
        return rendered(figure, "png", dpi)
