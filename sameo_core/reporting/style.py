"""The style of results: the profile in every title, one palette, one style, and figures as files.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; line style or hatching repeats the colour, for
greyscale prints. Figures are made without pyplot, so no state is kept.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sameo_core.config import RUNS
from sameo_core.errors import InputError
from sameo_core.runs.atomic import atomic_write

Row = Mapping[str, Any]

PROFILES = MappingProxyType({"mini": "mini: drawn world", "photo": "photographs", "paper": "paper"})  # as in titles


def titled(title: str, profile: str) -> str:
    """A title with the profile behind it."""
    check_profile(profile)
    return f"{title} \N{MIDDLE DOT} {PROFILES[profile]}"


def check_profile(profile: str) -> None:
    rule = f"one of {', '.join(PROFILES)}, found {profile!r}"
    require(profile in PROFILES, "profile", rule, "Give the profile of the run")


def require(holds: object, argument: str | Path, rule: str, remedy: str, record: str | None = None) -> None:
    if not holds:
        raise InputError(file=argument, record=record, rule=rule, remedy=remedy)


def named_file(name: str, profile: str, folder: Path) -> Path:
    """The path of a file, without suffix. Raises InputError for a name that is not plain, or an unknown profile."""
    check_profile(profile)
    rule = f"a plain file name without folder or ending, found {name!r}"
    require(re.fullmatch(r"[\w-]+", name), "name", rule, "Use letters, digits, - and _")
    return folder / name


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises InputError if it cannot be written."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


# The meaning of each colour, in every figure.
PALETTE = MappingProxyType(
    {
        "visible": "#0072B2",  # blue: outline of the visible mask, solid
        "amodal": "#D55E00",  # vermillion: outline of the amodal mask, dashed
        "hidden": "#E69F00",  # orange: the hidden region, tinted and hatched
        "truth": "#009E73",  # green: the annotated amodal mask
        "box": "#000000",  # black: box prompt
        "before": "#56B4E9",  # light blue: the un-tuned model
        "after": "#0072B2",  # blue: the fine-tuned model
    }
)

# Line styles for comparing models or arms, the most important first: colour, dashes, marker.
SERIES = (
    ("#0072B2", "-", "D"),
    ("#D55E00", "--", "o"),
    ("#009E73", "-.", "s"),
    ("#CC79A7", ":", "^"),
    ("#000000", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#E69F00", (0, (1, 2, 5, 2)), "X"),
    ("#56B4E9", (0, (8, 2)), "P"),
)

WIDTH = 6.9  # inch: both columns of a page; one column is 3.3

STYLE: Any = MappingProxyType(  # Any: matplotlib's types list every key
    {
        "figure.dpi": 80,
        "figure.constrained_layout.w_pad": 0.03,
        "figure.constrained_layout.h_pad": 0.03,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.titlelocation": "left",
        "axes.labelsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.axisbelow": True,
        "figure.titlesize": 9,
        "figure.titleweight": "bold",
        "grid.color": "0.9",
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.8,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "lines.solid_capstyle": "round",
        "svg.fonttype": "path",
        "svg.hashsalt": "sameo",  # the same figure gives the same bytes
        "text.parse_math": False,  # a "$" in a category is a dollar
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    }
)


def styled(function: Callable) -> Callable:
    return matplotlib.rc_context(dict(STYLE))(function)


def series(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """name -> colour, line style and marker of `SERIES`. Raises InputError for more names than there are styles."""
    names = list(names)
    rule = f"at most {len(SERIES)} lines in a figure, found {len(names)}"
    require(len(names) <= len(SERIES), "names", rule, "Draw two figures")
    keys = ("color", "ls", "marker")
    return {name: dict(zip(keys, line, strict=True)) for name, line in zip(names, SERIES, strict=False)}


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend under a figure, in as many columns as fit."""
    wide = 0.55 + 0.055 * max(map(len, labels))  # inch: handle and gap, and letters of 7 points
    columns = int(np.clip(figure.get_figwidth() / wide, 1, len(labels)))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.6)


SHOWN = 100  # dots per inch of a figure on screen; with more, it is a photograph, kept at its dots
SHARP = 160


class Picture(Figure):
    """A Figure that notebooks show as PNG or JPEG, the same with and without pyplot; its titles are the alt text."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        titles = [self.get_suptitle(), *(axes.get_title("left") for axes in self.axes)]
        about: dict[str, object] = {"alt": "; ".join(filter(None, titles))}
        kind, buffer = "png", io.BytesIO()
        with matplotlib.rc_context(dict(STYLE)), PIL.Image.open(io.BytesIO(rendered(self, "png", self.dpi))) as image:
            reduced = image.convert("RGB")
            if self.dpi > SHOWN:
                kind, about["width"] = "jpeg", round(SHOWN * self.get_figwidth())
            else:  # 256 colours: a third of the bytes in committed notebooks
                reduced = reduced.quantize(256, kmeans=2, dither=PIL.Image.Dither.NONE)
            reduced.save(buffer, kind, optimize=True, quality=88)
        return {f"image/{kind}": buffer.getvalue(), "text/plain": repr(self)}, {f"image/{kind}": about}


def new_figure(
    title: str, profile: str | None, height: float, width: float = WIDTH, layout: str = "constrained"
) -> Picture:
    figure = Picture(figsize=(width, height), layout=layout)  # type: ignore[arg-type]  # its types forget "none"
    figure.suptitle(title if profile is None else titled(title, profile), x=0.005, ha="left")
    return figure


def panels(title: str, profile: str, count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of `height` inch, at most `across` in a row."""
    across = min(across, count)
    rows = math.ceil(count / across)
    figure = new_figure(title, profile, 0.35 + rows * height, WIDTH * (0.5 if across == 1 else 1))
    axes = list(figure.subplots(rows, across, squeeze=False).ravel())
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def rendered(figure: Figure, kind: str, dpi: float | int, texts: Mapping[str, str] = MappingProxyType({})) -> bytes:
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[kind] | dict(texts)
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


@styled
def save_figure(figure: Figure, name: str, profile: str, dpi: int = 150) -> Figure:
    """Write ``<name>.svg`` (for papers) and ``<name>.png`` (with `dpi`) to ``data/runs/<profile>/figures``.

    Returns the figure, so that a notebook shows it; the same figure gives the same bytes.
    """
    path = named_file(name, profile, RUNS / profile / "figures").with_suffix(".svg")
    write_whole(path.with_suffix(".png"), rendered(figure, "png", dpi))
    write_whole(path, rendered(figure, "svg", 150))
    return figure


@styled
def save_overlay(figure: Figure, path: Path, mark: str) -> None:
    """Write a figure as PNG (150 dpi), atomically, with a text chunk that identifies its inputs."""
    write_whole(path, rendered(figure, "png", 150, {"sameo": mark}))


def overlay_mark(path: Path) -> str | None:
    """The text chunk that `save_overlay` wrote; None if there is no such file or text."""
    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            return picture.info.get("sameo")
    except Exception:  # Pillow's readers of headers raise many types
        return None
