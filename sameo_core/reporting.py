"""Tables and figures: the only module that draws, and the only one that writes result tables.

Every function takes data. Figures come back as `matplotlib.figure.Figure`, made without pyplot, so nothing is shown,
kept or leaked; every title and every CSV row carries the profile, so that numbers of the drawn world can never be
taken for the paper's. Colours are those of Okabe and Ito, which colour-blind readers tell apart; what colour says,
line style or hatching says too, so that a greyscale print is enough.
"""

import csv
import html
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.patheffects import Normal, Stroke
from scipy import stats
from skimage.measure import find_contours

from sameo_core import BoxesXYXY, BoxXYXY, Image
from sameo_core.config import RESULTS, RUNS, SynthesisConfig
from sameo_core.datasets.base import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.evaluation import region_iou
from sameo_core.masks import decode_rle, mask_box
from sameo_core.miniature import Scene
from sameo_core.synthesis import CurvePoint, Pair, Pool, compose

Mask = Bool[np.ndarray, "_ _"]  # "h w" of the image; compared by hand, so that the error says which one differs
Row = Mapping[str, object]

PROFILES = MappingProxyType({"mini": "mini: drawn world", "paper": "paper"})  # as titles say it

# The roles of colours, the same in every figure.
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

WIDTH = 6.9  # inch: both columns of a page; one column is 3.3
OVERLAY_PIXELS = 1600  # on the longer side; more would not be seen, and take long to outline

STYLE = MappingProxyType(
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


def _check_profile(profile: str) -> None:
    rule = f"one of {', '.join(PROFILES)}, found {profile!r}"
    _require(profile in PROFILES, "profile", rule, "Give the profile of the run")


def _styled(function: Callable) -> Callable:
    return matplotlib.rc_context(dict(STYLE))(function)


def _require(holds: object, argument: str | Path, rule: str, remedy: str, record: str | None = None) -> None:
    if not holds:
        raise InputError(file=argument, record=record, rule=rule, remedy=remedy)


def _file(name: str, profile: str, folder: Path) -> Path:
    """Where a file goes, without ending; InputError where `name` is no plain name, or there is no such profile."""
    _check_profile(profile)
    rule = f"a plain file name without folder or ending, found {name!r}"
    _require(re.fullmatch(r"[\w-]+", name), "name", rule, "Use letters, digits, - and _")
    return Path(folder) / name


# ------------------------------------------------------------------------------------------------------ CSV files


def write_table(name: str, rows: Sequence[Row], profile: str, folder: Path | None = None) -> Path:
    """Write rows to ``<folder>/<name>.csv``, whole or not at all; the same rows give the same bytes.

    Args:
        name: of the table, e.g. "cross_dataset".
        rows: the first row's keys are the columns, in their order, after `profile`. Fractions get 4 decimals (a number
            that needs more goes in as text), None an empty cell.
        folder: instead of ``data/results/<profile>``.

    Raises:
        InputError: no rows, rows with different keys, a row of another profile, a value that is not a number, text,
            bool or None.
    """
    path = _file(name, profile, RESULTS / profile if folder is None else folder).with_suffix(".csv")
    _require(len(rows), "rows", f"table {name} needs at least one row, found none", "Write it once there is a result")
    columns = ["profile", *(key for key in rows[0] if key != "profile")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for i, row in enumerate(rows):
        row, record = {"profile": profile, **row}, f"row {i}"
        odd = ", ".join(sorted(row.keys() ^ set(columns)))
        _require(not odd, "rows", f"all rows have the same keys, only some have {odd}", "Use None for no value", record)
        rule = f"one profile a table: {profile!r}, found {row['profile']!r}"
        _require(row["profile"] == profile, "rows", rule, "Write one table a profile", record)
        writer.writerow([_cell(row[column], 4, record, nan="nan") for column in columns])
    _replace(path, buffer.getvalue().encode())
    return path


def read_table(path: str | Path) -> list[dict[str, object]]:
    """The rows of a CSV file: whole numbers as int, other numbers as float, empty cells as None, the rest as text.

    Raises:
        InputError: no such file, no header, a row with more or fewer cells than the header.
    """
    path = Path(path)
    _require(path.is_file(), path, "the table must exist", "Run the notebook that writes it")
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = [*csv.reader(file)] or [[]]
    _require(header, path, "a table needs a header, the file is empty", "Write it again")
    for i, line in enumerate(lines):
        rule = f"{len(header)} cells a row as in the header, found {len(line)}"
        _require(len(line) == len(header), path, rule, "Correct the row, or write the table again", f"row {i}")
    return [dict(zip(header, map(_parsed, line), strict=True)) for line in lines]


def _parsed(text: str) -> int | float | str | None:
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    if re.fullmatch(r"-?((0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?|inf)|nan", text):
        return float(text)
    return text or None


def _cell(value: object, decimals: int, record: str = "", nan: str = "") -> str:
    """A value as text: fractions with `decimals`, None as nothing. InputError for what is no cell, e.g. a list."""
    value = value.item() if isinstance(value, np.generic) else value
    rule = f"a cell is a number, text, bool or None, found {value!r}"
    _require(value is None or isinstance(value, (int, float, str)), "rows", rule, "Convert it first", record)
    if isinstance(value, float):
        text = nan if math.isnan(value) else f"{value:.{decimals}f}"
        return text.lstrip("-") if not text.strip("-0.") else text  # no -0.0000
    return "" if value is None else str(value)


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, for whoever reads it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)


# ------------------------------------------------------------------------------------------------------ tables to read


@dataclass(frozen=True)
class Table:
    """A table that a notebook shows as HTML, GitHub as Markdown, and a terminal as the same Markdown text."""

    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]  # a tuple a row
    numeric: tuple[bool, ...]  # a flag a column: right-aligned
    bold: frozenset[tuple[int, int]]  # (row, column)
    title: str | None

    def _repr_markdown_(self) -> str:
        rows = [
            [f"**{text}**" if (i, j) in self.bold else text.replace("|", "\\|") for j, text in enumerate(row)]
            for i, row in enumerate(self.cells)
        ]
        rows.insert(0, [column.replace("|", "\\|") for column in self.columns])
        widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * (w - n) + ":" * n for w, n in zip(widths, self.numeric, strict=True)])
        aligned = [
            [text.rjust(w) if n else text.ljust(w) for text, w, n in zip(row, widths, self.numeric, strict=True)]
            for row in rows
        ]
        title = [f"**{self.title}**", ""] if self.title else []
        return "\n".join([*title, *(f"| {' | '.join(row)} |" for row in aligned)])

    def _repr_html_(self) -> str:
        def line(tag: str, texts: Sequence[str], row: int) -> str:
            cells = []
            for j, text in enumerate(texts):
                text = html.escape(text, quote=False)
                text = f"<b>{text}</b>" if (row, j) in self.bold else text
                cells.append(f'<{tag} style="text-align: {"right" if self.numeric[j] else "left"}">{text}</{tag}>')
            return f"<tr>{''.join(cells)}</tr>"

        caption = [f"<caption>{html.escape(self.title, quote=False)}</caption>"] if self.title else []
        body = [line("td", row, i) for i, row in enumerate(self.cells)]
        return "\n".join(["<table>", *caption, line("th", self.columns, -1), *body, "</table>"])

    __repr__ = __str__ = _repr_markdown_


def table_html(
    rows: Sequence[Row],
    columns: Sequence[str] | None = None,
    title: str | None = None,
    best: Mapping[str, Callable] | None = None,
    decimals: int = 3,
) -> Table:
    """Rows as a `Table`, the last line of a notebook cell.

    Args:
        columns: those to show, in order; by default all, in the order in which the rows name them. What a row does not
            have, None and NaN are empty cells.
        best: column -> max or min: that value of the column is bold (as shown: ties of the rounded numbers too).
        decimals: of fractions.

    Raises:
        InputError: no rows, or a column that no row has.
    """
    _require(len(rows), "rows", "a table needs at least one row, found none", "Show it once there is a result")
    known = list(dict.fromkeys(key for row in rows for key in row))
    columns, best = list(known if columns is None else columns), best or {}
    for column in [*columns, *best]:
        rule = f"a column of the rows, found {column!r}"
        _require(column in known, "columns", rule, f"Choose from {', '.join(known)}")
    cells = tuple(tuple(_cell(row.get(c), decimals, f"row {i}") for c in columns) for i, row in enumerate(rows))
    values = [[row.get(c) for row in rows if row.get(c) is not None] for c in columns]
    bold = set()
    for column, choose in best.items():
        numbers = [row[column] for row in rows if _is_number(row.get(column)) and not math.isnan(row[column])]
        if numbers and column in columns:
            j, winner = columns.index(column), _cell(choose(numbers), decimals)
            bold |= {(i, j) for i, row in enumerate(cells) if row[j] == winner}
    numeric = tuple(bool(column) and all(map(_is_number, column)) for column in values)
    return Table(tuple(columns), cells, numeric, frozenset(bold), title)


def table_markdown(rows: Sequence[Row], *args: object, **options: object) -> str:
    """Rows as Markdown text, for a README; everything as in `table_html`."""
    return str(table_html(rows, *args, **options))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def mean_interval(values: Sequence[Real] | np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t: (mean, low, high); a single value has no interval: NaN.

    Raises:
        InputError: no values.
    """
    values = np.asarray(values, float).ravel()
    _require(values.size, "values", "a mean needs at least one value, found none", "Give one value a seed")
    mean = float(values.mean())
    if values.size == 1:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return mean, mean - half, mean + half


# ------------------------------------------------------------------------------------------------------ one object


@_styled
def draw_object(
    axes: Axes,
    image: Image,
    visible: Mask,
    amodal: Mask | None,
    *,
    box: BoxXYXY | None = None,
    role: str = "amodal",
    hidden_style: Mapping[str, object] | None = None,
) -> None:
    """Draw one object: the visible part outlined, the amodal mask dashed, the hidden region tinted and hatched.

    The image is faded but for the visible part. Axes are in pixels of the image, (0, 0) the corner of its first pixel.

    Args:
        image: uint8 RGB "h w 3".
        visible, amodal: bool "h w"; without an amodal mask (None) only the visible part is drawn.
        box: the box prompt, xyxy pixels.
        role: "amodal" for what a model says, "truth" for what the annotation says.
        hidden_style: properties of the hidden region's `PathPatch` to change, e.g. ``{"hatch": "xx"}``.

    Raises:
        InputError: a mask is not of the image's size.
    """
    for name, mask in {"visible": visible, "amodal": amodal}.items():
        size = image.shape[:2] if mask is None else mask.shape
        rule = f"a mask has its image's size (h, w) {image.shape[:2]}, found {size}"
        _require(size == image.shape[:2], name, rule, "Bring the mask to the original image's size")
    _show(axes, image, visible)
    if amodal is not None:
        _draw_hidden(axes, amodal & ~visible, PALETTE["hidden" if role == "amodal" else role], **(hidden_style or {}))
    _draw_visible(axes, visible)
    if amodal is not None:
        _draw_amodal(axes, amodal, PALETTE[role])
    if box is not None:
        _draw_box(axes, box)


def _show(axes: Axes, image: Image, objects: Mask) -> None:
    """The image, faded outside `objects`: half way to grey, then half way to white."""
    faded = 0.5 * (0.5 * image + 0.5 * image.mean(2, keepdims=True)) + 127.5
    height, width = objects.shape
    axes.imshow(np.where(objects[..., None], image, faded.astype(np.uint8)), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)


def _draw_visible(axes: Axes, visible: Mask, width: float = 1.2) -> None:
    if visible.any():
        line = {"ec": PALETTE["visible"], "lw": width, "label": "visible", "path_effects": _casing(width)}
        axes.add_patch(PathPatch(_outline(visible), fill=False, **line))


def _draw_amodal(axes: Axes, amodal: Mask, colour: str) -> None:
    if amodal.any():
        line = {"ec": colour, "lw": 1.5, "ls": (0, (3, 1.5)), "label": "amodal", "path_effects": _casing(1.5)}
        axes.add_patch(PathPatch(_outline(amodal), fill=False, **line))


def _draw_box(axes: Axes, box: BoxXYXY) -> None:
    x0, y0, x1, y1 = (float(v) for v in box)
    line = {"ec": PALETTE["box"], "lw": 1.0, "label": "box", "path_effects": _casing(1.0)}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **line))


def _draw_hidden(axes: Axes, hidden: Mask, tint: str, **style: object) -> None:
    if hidden.any():
        style = {"fc": (tint, 0.6), "ec": "black", "lw": 0, "hatch": "/////", "label": "hidden", **style}
        axes.add_patch(PathPatch(_outline(hidden), **style))


def _outline(mask: Mask) -> Outline:
    """The outline of a mask, holes included, in pixels from the corner of the first pixel."""
    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    return Outline.make_compound_path(*(Outline(c[:, ::-1] - 0.5, closed=True) for c in contours))


def _casing(width: float) -> list:
    """A white line, never dashed, under a line `width` points wide: seen on any background."""
    return [Stroke(linewidth=width + 1.0, foreground="white", dashes={"dash_offset": 0, "dash_list": None}), Normal()]


# ------------------------------------------------------------------------------------------------------ figures


class Picture(Figure):
    """A Figure that a notebook shows by itself, small and always alike, whether or not anybody has imported pyplot."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        with matplotlib.rc_context(dict(STYLE)), PIL.Image.open(io.BytesIO(_rendered(self, "png", self.dpi))) as image:
            buffer = io.BytesIO()  # 256 colours: a third of the bytes, as notebooks are committed with their pictures
            reduced = image.convert("RGB").quantize(256, kmeans=2, dither=PIL.Image.Dither.NONE)
            reduced.save(buffer, "png", optimize=True)
        return {"image/png": buffer.getvalue(), "text/plain": repr(self)}


def _new_figure(
    title: str, profile: str | None, height: float, width: float = WIDTH, layout: str = "constrained"
) -> Picture:
    if profile is not None:
        _check_profile(profile)
        title = f"{title} \N{MIDDLE DOT} {PROFILES[profile]}"
    figure = Picture(figsize=(width, height), layout=layout)
    figure.suptitle(title, x=0.005, ha="left")
    return figure


def _panels(title: str, profile: str, count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of `height` inch, at most `across` in a row."""
    across = min(across, count)
    rows = math.ceil(count / across)
    figure = _new_figure(title, profile, 0.35 + rows * height, WIDTH * (0.5 if across == 1 else 1))
    axes = list(figure.subplots(rows, across, squeeze=False).ravel())
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


@dataclass(frozen=True)
class Comparison:
    """One object, its box prompt, and what each model makes of it."""

    image: Image
    visible: Mask  # truth, bool "h w"
    amodal: Mask  # truth, bool "h w"
    box: BoxXYXY  # the prompt
    predictions: Mapping[str, Mask]  # name of the model -> predicted amodal mask, bool "h w"


@_styled
def figure_before_after(objects: Sequence[Comparison], title: str, profile: str) -> Figure:
    """A row an object: the prompt and the visible part | each model's amodal mask | the truth.

    Hatched in a model's panel is what it says is hidden: prediction minus visible truth. The IoU of the whole object
    and of its hidden region are computed here, by `region_iou`. Panels are cut out around the object.

    Raises:
        InputError: no objects, objects with different models, masks of different size.
    """
    _require(len(objects), "objects", "a comparison needs at least one object, found none", "Choose objects first")
    names = list(objects[0].predictions)
    figure = _new_figure(title, profile, 0.35 + 1.9 * len(objects) * 4 / (len(names) + 2), layout="compressed")
    grid = figure.subplots(len(objects), len(names) + 2, squeeze=False)
    for heading, axes in zip(["box prompt, visible part", *names, "truth"], grid[0], strict=True):
        axes.set_title(heading)
    for i, (item, row) in enumerate(zip(objects, grid, strict=True)):
        rule = f"all objects have the same models {names}, found {list(item.predictions)}"
        _require(list(item.predictions) == names, "objects", rule, "Predict all with every model", f"object {i}")
        draw_object(row[0], item.image, item.visible, None, box=item.box)
        for axes, mask in zip(row[1:], item.predictions.values(), strict=False):
            draw_object(axes, item.image, item.visible, mask)
            iou = region_iou(mask, item.amodal, item.visible)
            hidden = "" if math.isnan(iou.hidden) else f", hidden {iou.hidden:.2f}"
            axes.set_xlabel(f"IoU {iou.full:.2f}{hidden}", loc="left", labelpad=2)
        draw_object(row[-1], item.image, item.visible, item.amodal, role="truth")
        rate = 1 - np.count_nonzero(item.visible & item.amodal) / np.count_nonzero(item.amodal)
        row[-1].set_xlabel(f"{100 * rate:.0f} % hidden", loc="left", labelpad=2)
        x0, y0, x1, y1 = _window(mask_box(item.amodal), *item.amodal.shape)
        for axes in row:
            axes.set(xlim=(x0, x1), ylim=(y1, y0))
    return figure


def _read(path: Path) -> Image:
    """The pixels of an image file as RGB."""
    try:
        with PIL.Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise InputError(file=path, rule=f"an image that can be read: {error}", remedy="Fetch it again") from error


def _window(box: BoxXYXY, height: int, width: int) -> tuple[float, float, float, float]:
    """A square around a box, half as large again, moved into the frame as far as it fits."""
    side = 1.5 * max(box[2] - box[0], box[3] - box[1])
    corner = []
    for low, high, size in ((box[0], box[2], width), (box[1], box[3], height)):
        slack = size - side  # negative: the square is larger than the image, which then stands in its middle
        corner.append(slack / 2 if slack < 0 else min(max((low + high - side) / 2, 0.0), slack))
    x, y = map(float, corner)
    return x, y, x + float(side), y + float(side)


@_styled
def figure_contact_sheet(
    images: AmodalDataset | Sequence[AmodalImage],
    profile: str,
    *,
    count: int = 12,
    columns: int = 6,
    title: str | None = None,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Images, evenly spread over a data set, with their objects outlined and the hidden regions hatched.

    Stuff regions are left out: everything stands in front of them. Visible-only sets (LVIS) have outlines only.

    Args:
        count: at most so many images.
        labels: a word above each image; then `images` are shown as they are, all of them.

    Raises:
        InputError: no images; or an image file cannot be read.
    """
    rule = f"at least one image, found {len(images)}, count={count}, columns={columns}"
    _require(len(images) and count > 0 and columns > 0, "images", rule, "Load a split that has images")
    rule = f"one label an image, found {len(labels or ())} for {len(images)}"
    _require(labels is None or len(labels) == len(images) <= count, "labels", rule, "Give as many, and raise count")
    named = f"{images.name}, {images.split}" if isinstance(images, AmodalDataset) else "Images"
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int))]
    rows = [chosen[i : i + columns] for i in range(0, len(chosen), columns)]
    gap, head, word = 0.05, 0.25, 0.16 if labels else 0  # inch
    waiting = iter(labels or ())
    shapes = [[image.width / image.height for image in row] for row in rows]
    widest = sum(shapes[0])  # the first row fills the width; later ones, the last above all, are not taller
    heights = [(WIDTH - gap * (len(row) - 1)) / max(sum(row), widest) for row in shapes]
    figure = _new_figure(title or named, profile, head + sum(heights) + (gap + word) * len(rows), layout="none")
    total, top = figure.get_figheight(), head
    for row, shape, height in zip(rows, shapes, heights, strict=True):
        left, top = 0.0, top + word
        for image, aspect in zip(row, shape, strict=True):
            place = (left / WIDTH, 1 - (top + height) / total, aspect * height / WIDTH, height / total)
            axes = figure.add_axes(place)
            _draw_scene(axes, image)
            axes.set_title(next(waiting, ""), loc="left", fontsize=7, pad=2)
            left += aspect * height + gap
        top += height + gap
    return figure


def _draw_scene(axes: Axes, image: AmodalImage) -> None:
    things = [instance for instance in image.instances if not instance.is_stuff]
    visible = [thing.visible for thing in things]
    _show(axes, image.read(), np.any(visible or [np.ones((image.height, image.width), bool)], axis=0))
    for thing in things:
        if thing.amodal_rle is not None:
            _draw_hidden(axes, thing.hidden, PALETTE["hidden"])
    for mask in visible:
        _draw_visible(axes, mask, width=0.7)


@_styled
def figure_scenes(scenes: Sequence[Scene], title: str, profile: str, columns: int = 6) -> Figure:
    """Drawn scenes as they are, without their truth.

    Raises:
        InputError: no scenes.
    """
    _require(len(scenes), "scenes", "at least one scene, found none", "Draw some first")
    figure, grid = _panels(title, profile, len(scenes), columns, 1.2)
    for axes, scene in zip(grid, scenes, strict=True):
        axes.imshow(scene.image)
        axes.set_axis_off()
    return figure


@_styled
def figure_overlay(
    image: Image,
    boxes: BoxesXYXY,
    amodal: Sequence[Mask] | np.ndarray,
    title: str,
    profile: str | None,
    *,
    visible: Sequence[Mask] | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    most_height: float | int = 5.5,
) -> Figure:
    """A photograph with the amodal masks of its objects, dashed, their box prompts and numbers; the rest is faded.

    Where visible masks are given they are outlined, and the hidden regions hatched. Of a photograph with more than
    `OVERLAY_PIXELS` on its longer side every second, third, ... pixel is drawn.

    Args:
        boxes: "n 4", xyxy pixels; a box that the frame cuts is drawn as far as it goes.
        amodal, visible: n masks "h w".
        profile: None outside of a run (command line): then the title has to say which weights drew the masks.
        labels: n short texts; by default the objects' numbers, from 1.
        most_height: of the picture, in inch.

    Raises:
        InputError: masks, boxes or labels that differ in number, or masks in size from the image.
    """
    shown = [*amodal] if visible is None else [*amodal, *visible]
    rule = f"one mask, box and label an object, found {len(amodal)} masks and {len(boxes)} boxes"
    counts = {len(amodal), len(boxes), len(boxes if visible is None else visible), len(labels or boxes)}
    _require(len(counts) == 1, "amodal", rule, "Pass what belongs together")
    for i, mask in enumerate(shown):
        rule = f"a mask has its image's size (h, w) {image.shape[:2]}, found {mask.shape}"
        _require(mask.shape == image.shape[:2], "masks", rule, "Bring it to the image's size", f"mask {i}")
    step = -(-max(image.shape[:2]) // OVERLAY_PIXELS)
    image, boxes = image[::step, ::step], np.asarray(boxes) / step
    amodal = [mask[::step, ::step] for mask in amodal]
    seen = amodal if visible is None else [mask[::step, ::step] for mask in visible]
    height, width = image.shape[:2]
    tall = float(np.clip(WIDTH * height / width, 1, most_height))  # portraits become narrower than a page instead
    wide = float(np.clip(tall * width / height, 4.5, WIDTH))
    figure = _new_figure(title, profile, 0.3 + tall, wide, layout="compressed")
    axes = figure.subplots()
    _show(axes, image, np.any([np.zeros((height, width), bool), *amodal], axis=0))
    for i, (mask, part, box) in enumerate(zip(amodal, seen, boxes, strict=True)):
        if visible is not None:
            _draw_hidden(axes, mask & ~part, PALETTE["hidden"])
            _draw_visible(axes, part, width=0.8)
        _draw_amodal(axes, mask, PALETTE["amodal"])
        _draw_box(axes, box)
        x, y = (float(np.clip(v, 0, size - 1)) for v, size in zip(box, (width, height), strict=False))
        badge = {"boxstyle": "square,pad=0.2", "fc": "white", "ec": PALETTE["box"], "lw": 0.6}
        axes.text(x, y, labels[i] if labels else str(i + 1), fontsize=7, va="top", bbox=badge, clip_on=True)
    return figure


@_styled
def figure_cut_outs(cut_outs: Mapping[int, np.ndarray], title: str, profile: str) -> Figure:
    """A panel an object, under its number: RGBA "h w 4" on a chequered ground, which shows where it is transparent.

    Raises:
        InputError: no cut-outs.
    """
    _require(len(cut_outs), "cut_outs", "at least one cut-out, found none", "Predict masks that are not empty")
    figure, grid = _panels(title, profile, len(cut_outs), 5, 1.4)
    for axes, (number, cut) in zip(grid, cut_outs.items(), strict=True):
        rows, columns = np.indices(cut.shape[:2]) * 10 // max(cut.shape[:2])  # ten squares on the longer side
        axes.imshow(np.where((rows + columns) % 2, 255, 225), cmap="gray", vmin=0, vmax=255)
        axes.imshow(cut)
        axes.set(title=str(number), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


@_styled
def figure_occlusion_histograms(
    rates: Mapping[str, Sequence[Real] | np.ndarray], profile: str, title: str = "How much of an object is hidden"
) -> Figure:
    """A panel a data set: the distribution of the occlusion rate (0..1) over the objects that are occluded at all.

    Raises:
        InputError: no data set, one without objects, or a rate outside 0..1.
    """
    _require(len(rates), "rates", "at least one data set, found none", "Give name -> occlusion rates")
    figure, grid = _panels(title, profile, len(rates), 3, 1.5)
    for axes, (name, values) in zip(grid, rates.items(), strict=True):
        values = np.asarray(values, float).ravel()
        fine = values.size and ((values >= 0) & (values <= 1)).all()
        _require(fine, "rates", f"occlusion rates in 0..1, at least one, found {values}", "Correct the rates", name)
        occluded = values[values > 0]
        shares = np.histogram(occluded, bins=20, range=(0, 1))[0] / max(len(occluded), 1)
        axes.bar(np.arange(20) / 20, shares, width=0.05, align="edge", color=PALETTE["hidden"], ec="white", lw=0.4)
        axes.set(title=name, xlim=(0, 1), xticks=[0, 0.5, 1])
        note = f"{len(values):,} objects\n{100 * len(occluded) / len(values):.0f} % occluded"
        axes.text(0.98, 0.96, note, transform=axes.transAxes, ha="right", va="top", fontsize=7)
    for axes in grid:
        axes.set_ylim(0, max(other.get_ylim()[1] for other in grid))
    figure.supxlabel("occlusion rate", fontsize=8)
    figure.supylabel("share of occluded objects", fontsize=8)
    return figure


@_styled
def figure_training_curves(
    logs: Mapping[str, Sequence[Row]], profile: str, columns: Sequence[str], title: str = "Training"
) -> Figure:
    """A panel a column: a thin line a run (seed), and bold the mean over the steps that every run has logged.

    Args:
        logs: name of the run -> rows of its log: `step`, and numbers, which a row may lack (validation is rare).

    Raises:
        InputError: no runs, or a run that never logged one of the columns.
    """
    _require(logs and columns, "logs, columns", "at least one run and one column, found none", "Train first")
    title = f"{title}, bold: mean of {len(logs)} runs" if len(logs) > 1 else title
    figure, grid = _panels(title, profile, len(columns), 3, 1.75)
    for axes, column in zip(grid, columns, strict=True):
        curves = {}
        for name, log in logs.items():
            curve = {row["step"]: float(row[column]) for row in log if "step" in row and row.get(column) is not None}
            _require(curve, "logs", f"rows with step and {column}, found none", "Choose columns of the log", name)
            curves[name] = curve
            axes.plot(*zip(*sorted(curve.items()), strict=True), color=PALETTE["after"], lw=0.6, alpha=0.5, label=name)
        if len(curves) > 1:
            steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
            means = [np.mean([curve[step] for curve in curves.values()]) for step in steps]
            axes.plot(steps, means, color=PALETTE["after"], lw=1.8, label="mean")
        axes.set(title=column, xlabel="step")
        axes.grid(axis="y")
    return figure


def gains(rows: Sequence[Row], before: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What fine-tuning changes: a row a prompt and metric, with the mean gain over seeds and its 95 % interval.

    Args:
        rows: one a model, prompt and seed: `model`, `prompt`, `seed`, and the metrics. The model called `before` has
            one row a prompt, any other is taken as a seed of "after".

    Raises:
        InputError: a prompt without the model `before`, or without another.
    """
    found = []
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        old = [row for row in rows if row["prompt"] == prompt and row["model"] == before]
        new = [row for row in rows if row["prompt"] == prompt and row["model"] != before]
        rule = f"one row of {before!r} and one a seed, found {len(old)} and {len(new)}"
        _require(len(old) == 1 and new, "rows", rule, "Evaluate both with the same prompts", str(prompt))
        for metric in metrics:
            mean, low, high = mean_interval([row[metric] - old[0][metric] for row in new])
            after = float(np.mean([row[metric] for row in new]))
            values = {"before": old[0][metric], "after": after, "gain": mean, "ci_low": low, "ci_high": high}
            found.append({"prompt": prompt, "metric": metric, **values, "seeds": len(new)})
    return found


def arm_differences(rows: Sequence[Row], baseline: str, metrics: Sequence[str]) -> list[dict[str, object]]:
    """What an ablation's arms change: a row a data set, arm and metric; differences are paired by seed.

    Args:
        rows: one a data set, arm and seed: `data set`, `arm`, `seed`, and the metrics.
        baseline: the arm that the others are compared with.

    Returns:
        `data set`, `arm`, `metric`, `baseline` and `mean` (over seeds), `difference`, its 95 % interval `ci_low`,
        `ci_high` (Student's t), and `seeds`.

    Raises:
        InputError: an arm whose seeds are not the baseline's, or no other arm.
    """
    found = []
    arms = [arm for arm in dict.fromkeys(row["arm"] for row in rows) if arm != baseline]
    _require(arms, "rows", f"{baseline!r} and another arm, found no other", "Evaluate the arms")
    for place in dict.fromkeys(row["data set"] for row in rows):
        by_seed = {(row["arm"], row["seed"]): row for row in rows if row["data set"] == place}
        for arm in arms:
            ours, theirs = ([s for a, s in by_seed if a == name] for name in (arm, baseline))
            rule = f"the same seeds as {baseline!r}, found {ours} and {theirs}"
            _require(ours and sorted(ours) == sorted(theirs), "rows", rule, "Train all arms with the same seeds", arm)
            for metric in metrics:
                pairs = [(by_seed[baseline, seed][metric], by_seed[arm, seed][metric]) for seed in ours]
                before, after = np.mean(pairs, axis=0).tolist()
                mean, low, high = mean_interval([new - old for old, new in pairs])
                values = {"baseline": before, "mean": after, "difference": mean, "ci_low": low, "ci_high": high}
                found.append({"data set": place, "arm": arm, "metric": metric, **values, "seeds": len(pairs)})
    return found


def comparisons(
    dataset: AmodalDataset, chosen: Sequence[int], results: Mapping[str, Sequence[Mapping]]
) -> list[Comparison]:
    """Objects by their number in the data set (as the rows of `region_table`), with what each model made of them.

    Args:
        chosen: numbers of objects, counted over the whole data set in its order.
        results: model -> COCO results with `instance_id` and `box`, one an object, all of one front-end.

    Raises:
        InputError: an image cannot be read.
    """
    objects = [(image, item) for image in dataset for item in image.instances]
    by_object = {name: {(r["image_id"], r["instance_id"]): r for r in listed} for name, listed in results.items()}
    found = []
    for image, item in (objects[i] for i in chosen):
        key = (image.image_id, item.instance_id)
        box = np.array(next(iter(by_object.values()))[key]["box"], np.float32)
        masks = {name: decode_rle(listed[key]["segmentation"]) for name, listed in by_object.items()}
        found.append(Comparison(image.read(), item.visible, item.amodal, box, masks))
    return found


@_styled
def figure_arms(rows: Sequence[Row], metrics: Sequence[str], profile: str, title: str) -> Figure:
    """A panel a metric, a line an arm: mean over seeds with its 95 % interval, and each seed as a faint dot.

    Args:
        rows: one an arm and seed: `arm` (text) and the metrics (numbers).

    Raises:
        InputError: no rows.
    """
    _require(rows and metrics, "rows, metrics", "at least one row and one metric, found none", "Evaluate the arms")
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure = _new_figure(title, profile, 0.8 + 0.28 * len(arms))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for y, arm in enumerate(arms):
            values = [float(row[metric]) for row in rows if row["arm"] == arm]
            mean, low, high = mean_interval(values)
            axes.plot(values, [y + 0.2] * len(values), "o", color=PALETTE["after"], ms=3, mew=0, alpha=0.5)
            axes.plot([low, high], [y, y], color=PALETTE["after"], lw=1.5, gid="interval")
            axes.plot(mean, y, "D", ms=5, color=PALETTE["after"], mec="white", mew=0.6, gid="mean")
        axes.set(yticks=range(len(arms)), yticklabels=arms, ylim=(len(arms) - 0.5, -0.5))
        axes.set_title(metric, fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=3)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
    return figure


@_styled
def figure_precision_recall(
    curves: Mapping[str, Sequence[CurvePoint]], chosen: float | int, profile: str, title: str
) -> Figure:
    """Precision and recall of "complete" against the threshold, a colour a notion of complete; `chosen` is marked.

    Raises:
        InputError: no curves, or one without points.
    """
    _require(curves and all(map(len, curves.values())), "curves", "at least one point each", "Give curves with points")
    figure = _new_figure(title, profile, 2.3)
    precision, recall, both = figure.subplots(1, 3)
    for (name, points), style in zip(curves.items(), ("-", "--", ":", "-."), strict=False):
        columns = np.array([(p.threshold, p.precision, p.recall) for p in points])
        colour = {"color": PALETTE["after"], "ls": style, "lw": 1.4}
        precision.plot(columns[:, 0], columns[:, 1], **colour, label=name)
        recall.plot(columns[:, 0], columns[:, 2], **colour)
        both.plot(columns[:, 2], columns[:, 1], **colour)
        nearest = columns[np.abs(columns[:, 0] - chosen).argmin()]
        both.plot(nearest[2], nearest[1], "o", color=PALETTE["before"], ms=5, gid="chosen")
    for axes, label in ((precision, "precision"), (recall, "recall")):
        axes.axvline(chosen, color=PALETTE["before"], lw=1, gid="chosen")
        axes.set(xlabel="threshold of agreement (IoU)", ylabel=label, ylim=(0, 1.02))
    both.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    for axes in (precision, recall, both):
        axes.grid()
    figure.legend(*precision.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


@_styled
def figure_pool(pool: Pool, profile: str, title: str, count: int = 18, columns: int = 9) -> Figure:
    """Objects of a pool, evenly spread over it, each cut out with some surroundings and outlined.

    Raises:
        InputError: an empty pool, or an image that cannot be read.
    """
    _require(len(pool), "pool", "at least one object, found none", "Collect from more images, or weaken the rules")
    chosen = np.unique(np.linspace(0, len(pool) - 1, min(count, len(pool))).astype(int)).tolist()
    figure, grid = _panels(title, profile, len(chosen), columns, 0.8)
    for axes, index in zip(grid, chosen, strict=True):
        mask = pool.mask(index)
        axes.imshow(_read(pool.path(index)))
        _draw_visible(axes, mask)
        left, top, right, bottom = _window(mask_box(mask), *mask.shape)
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        axes.set_axis_off()
    return figure


@_styled
def figure_ladder(pool: Pool, steps: Sequence[Pair], config: SynthesisConfig, profile: str) -> Figure:
    """One pair at several occlusion rates, composed, with the rate that was achieved and the hidden part hatched.

    Raises:
        InputError: no steps, or an image that cannot be read.
    """
    _require(len(steps), "steps", "at least one pair, found none", "Give `synthesis.ladder` some rates")
    figure, grid = _panels("The same pair at rising occlusion", profile, len(steps), 5, 1.5)
    for axes, pair in zip(grid, steps, strict=True):
        with PIL.Image.open(io.BytesIO(compose(pool, pair, config).occluded)) as image:
            axes.imshow(np.array(image.convert("RGB")))
        target = pool.mask(pair.target)
        occluder = pair.occluder_mask(*target.shape)
        _draw_hidden(axes, target & occluder, PALETTE["hidden"])
        _draw_visible(axes, target & ~occluder, width=0.8)
        axes.set_title(f"asked {pair.target_rate:.2f}, got {pair.achieved_rate:.2f}", fontsize=7)
        axes.set_axis_off()
    return figure


@_styled
def figure_rates(
    asked: Sequence[Real] | np.ndarray, achieved: Sequence[Real] | np.ndarray, tolerance: float | int, profile: str
) -> Figure:
    """Occlusion rates asked for and achieved: their distributions, and the difference within its tolerance.

    Raises:
        InputError: no rates, or not as many of one kind as of the other.
    """
    asked, achieved = np.asarray(asked, float), np.asarray(achieved, float)
    rule = f"as many rates asked for as achieved, at least one, found {asked.size} and {achieved.size}"
    _require(asked.size and asked.shape == achieved.shape, "asked, achieved", rule, "Give one of each a pair")
    figure = _new_figure("Occlusion rates asked for and achieved", profile, 2.1)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    edges = np.linspace(0, 1, 21)
    left.hist(achieved, edges, color=PALETTE["hidden"], ec="white", lw=0.4, label="achieved, on the masks")
    left.stairs(np.histogram(asked, edges)[0], edges, color=PALETTE["after"], lw=1.4, label="asked for")
    left.set(xlabel="occlusion rate", ylabel="pairs", xlim=(0, 1))
    right.hist(achieved - asked, 21, color=PALETTE["hidden"], ec="white", lw=0.4)
    for side in (-tolerance, tolerance):
        right.axvline(side, color=PALETTE["after"], lw=1)
    right.set(xlabel="achieved - asked for")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


@_styled
def figure_gains(rows: Sequence[Row], profile: str, title: str = "Before and after fine-tuning") -> Figure:
    """A line a metric: mean over seeds before and after with its 95 % interval, and each seed as a faint dot.

    Args:
        rows: one a metric and seed: `metric` (text), `before`, `after` (numbers on one scale).

    Raises:
        InputError: no rows, or a row without one of the three.
    """
    _require(len(rows), "rows", "at least one row, found none", "Give one row a metric and seed")
    for i, row in enumerate(rows):
        missing = sorted({"metric", "before", "after"} - row.keys())
        _require(not missing, "rows", f"metric, before and after, without {missing}", "Add what is missing", f"row {i}")
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    figure = _new_figure(title, profile, 0.75 + 0.42 * len(metrics), width=WIDTH * 0.65)
    axes = figure.subplots()
    for side, lift, marker in (("before", -0.1, "o"), ("after", 0.1, "D")):
        colour = PALETTE[side]
        for y, metric in enumerate(metrics):
            values = [float(row[side]) for row in rows if row["metric"] == metric]
            mean, low, high = mean_interval(values)
            label = side if y == 0 else None
            seeds = {"ms": 3, "mew": 0, "alpha": 0.5, "gid": f"{side} seeds"}
            axes.plot(values, [y + 2.5 * lift] * len(values), "o", color=colour, **seeds)
            axes.plot([low, high], [y + lift] * 2, color=colour, lw=1.5, gid=f"{side} interval")
            axes.plot(mean, y + lift, marker, ms=5, color=colour, mec="white", mew=0.6, ls="", label=label, gid=side)
    axes.set(yticks=range(len(metrics)), yticklabels=metrics, ylim=(len(metrics) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    figure.legend(loc="outside lower left", ncols=2, handletextpad=0.2)
    return figure


# ------------------------------------------------------------------------------------------------------ on the screen


class Screen:
    """A picture for the screen, drawn as the figures are but with Pillow: milliseconds, where a Figure takes tenths.

    Lines keep their width, dashes and hatches whatever the size of the image.
    """

    def __init__(self, image: Image, longest: int, objects: Mask | None = None):
        """The image, `longest` pixels on its longer side; faded outside `objects` where these are given."""
        height, width = image.shape[:2]
        self.scale = longest / max(height, width)
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        self.picture = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR)
        if objects is not None:
            grey = PIL.Image.blend(self.picture, self.picture.convert("L").convert("RGB"), 0.5)
            faded = PIL.Image.blend(grey, PIL.Image.new("RGB", size, "white"), 0.5)
            self.picture = PIL.Image.composite(self.picture, faded, self._resized(objects))

    def hidden(self, region: Mask, colour: str = PALETTE["hidden"]) -> None:
        """A region tinted and hatched."""
        mask = np.array(self._resized(region))
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        hatch = (x + y) % 8 < 2
        for value, where in ((colour, ~hatch * np.uint8(150)), ("black", hatch * np.uint8(200))):
            stencil = PIL.Image.fromarray(np.minimum(mask, where))
            self.picture.paste(PIL.Image.new("RGB", self.picture.size, value), None, stencil)

    def outline(self, mask: Mask, colour: str, width: int = 2, dash: tuple[int, int] | None = None) -> None:
        """The outline of a mask on a white casing; dashed: `dash` = pixels of line and of gap."""
        if max(mask.shape) * self.scale < max(mask.shape):  # larger than the screen: outline what is shown
            mask, scale = np.array(self._resized(mask)) >= 128, 1.0
        else:
            scale = self.scale
        pen = PIL.ImageDraw.Draw(self.picture)
        lines = [(c[:, ::-1] - 0.5) * scale for c in find_contours(np.pad(mask, 1).astype(np.float32), 0.5)]
        for line in lines:
            pen.line(line.ravel().tolist(), "white", width + 2)
        for line in lines:
            for piece in _dashes(line, *dash) if dash else [line]:
                pen.line(piece.ravel().tolist(), colour, width)

    def box(self, box: BoxXYXY) -> None:
        """A box prompt."""
        x0, y0, x1, y1 = (float(v) * self.scale for v in box)
        pen = PIL.ImageDraw.Draw(self.picture)
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="white", width=4)
        pen.rectangle((x0, y0, x1, y1), outline=PALETTE["box"], width=2)

    def badge(self, x: float | int, y: float | int, text: str) -> None:
        """A short text in a white field, centred on a pixel of the image."""
        pen, place = PIL.ImageDraw.Draw(self.picture), (x * self.scale, y * self.scale)
        font = PIL.ImageFont.load_default(15)
        left, top, right, bottom = pen.textbbox(place, text, font, anchor="mm")
        pen.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill="white", outline="black")
        pen.text(place, text, "black", font, anchor="mm")

    def jpeg(self) -> bytes:
        """The bytes of a JPEG file: a quarter of a PNG's, to be sent to the browser."""
        buffer = io.BytesIO()
        self.picture.save(buffer, "jpeg", quality=90, subsampling=0)
        return buffer.getvalue()

    def _resized(self, mask: Mask) -> PIL.Image.Image:
        picture = PIL.Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
        return picture.resize(self.picture.size, PIL.Image.Resampling.BILINEAR)


def _dashes(line: Float[np.ndarray, "n 2"], on: float | int, off: float | int) -> Iterator[Float[np.ndarray, "_ 2"]]:
    """Pieces `on` pixels long of a line, `off` pixels apart."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for start in np.arange(0, along[-1], on + off):
        stops = np.concatenate([[start], along[(along > start) & (along < start + on)], [start + on]])
        yield np.stack([np.interp(stops, along, line[:, axis]) for axis in (0, 1)], 1)


DASHES = MappingProxyType({"amodal": (7, 4), "truth": (2, 4)})


def object_picture(
    image: Image,
    amodal: Mask | None,
    visible: Mask | None = None,
    *,
    truth: Mask | None = None,
    box: BoxXYXY | None = None,
    longest: int = 480,
) -> bytes:
    """One object for the screen: amodal mask dashed, visible part solid, hidden region hatched, truth dotted. JPEG.

    Args:
        image: uint8 RGB "h w 3".
        amodal: what a model says, bool "h w"; None before it was asked.
        visible: the annotated visible mask; without it, nobody knows which part of `amodal` is hidden.
        truth: the annotated amodal mask, drawn dotted where it is given.
        longest: side of the picture, in pixels.
    """
    masks = [mask for mask in (amodal, visible) if mask is not None]
    screen = Screen(image, longest, np.any(masks, axis=0) if masks else None)
    if amodal is not None and visible is not None:
        screen.hidden(amodal & ~visible)
    if visible is not None:
        screen.outline(visible, PALETTE["visible"])
    if truth is not None:
        screen.outline(truth, PALETTE["truth"], 3, DASHES["truth"])
    if amodal is not None:
        screen.outline(amodal, PALETTE["amodal"], 2, DASHES["amodal"])
    if box is not None:
        screen.box(box)
    return screen.jpeg()


def scene_picture(image: AmodalImage, pixels: Image, chosen: int | None = None, longest: int = 480) -> bytes:
    """All objects of an image as annotated, numbered from 1 in the order of the file; JPEG.

    Args:
        pixels: ``image.read()``.
        chosen: place of the object that is outlined once more, dotted; its whole extent.
        longest: side of the picture, in pixels.
    """
    visible = [item.visible for item in image.instances]
    screen = Screen(pixels, longest, np.any([np.zeros(pixels.shape[:2], bool), *visible], axis=0))
    for item in image.instances:
        if item.amodal_rle is not None:
            screen.hidden(item.hidden)
    for mask in visible:
        screen.outline(mask, PALETTE["visible"])
    if chosen is not None and image.instances[chosen].amodal_rle is not None:
        screen.outline(image.instances[chosen].amodal, PALETTE["truth"], 3, DASHES["truth"])
    for number, mask in enumerate(visible, start=1):
        y, x = (float(np.median(values)) for values in np.nonzero(mask))
        screen.badge(x, y, str(number))
    return screen.jpeg()


@_styled
def figure_occlusion_curve(
    rows: Sequence[Row],
    profile: str,
    title: str = "The more is hidden",
    *,
    column: str = "hidden IoU",
    here: float | int | None = None,
) -> Figure:
    """A number against the occlusion rate: a thin line a pair of objects, bold the mean of each model.

    Args:
        rows: of `playground.occlusion_curve`; two models at most, first the one before, then the one after fine-tuning.
        column: of the rows.
        here: an occlusion rate to be marked.

    Raises:
        InputError: no rows, or more than two models.
    """
    names = list(dict.fromkeys(row["model"] for row in rows))
    rule = f"rows of one or two models, found {len(names)}: {names}"
    _require(1 <= len(names) <= 2, "rows", rule, "Compare two at a time")
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    title = f"{title}: {len(pairs)} pairs, bold: mean" if len(pairs) > 1 else title
    figure = _new_figure(title, profile, 2.4, WIDTH * 0.65)
    axes = figure.subplots()
    for name, side, style, marker in zip(names, ("before", "after"), ("--", "-"), "oD", strict=False):
        mine = [row for row in rows if row["model"] == name]
        for pair in pairs if len(pairs) > 1 else []:
            curve = [(row["rate"], row[column]) for row in mine if row["pair"] == pair]
            axes.plot(*zip(*curve, strict=True), style, color=PALETTE[side], lw=0.5, alpha=0.4, gid=f"{name} pair")
        rates = sorted({row["rate"] for row in mine})
        means = [np.mean([row[column] for row in mine if row["rate"] == rate]) for rate in rates]
        axes.plot(rates, means, style, marker=marker, ms=4, color=PALETTE[side], lw=1.8, label=name, gid=name)
    if here is not None:
        axes.axvline(here, color="0.3", lw=1, ls=":", gid="here")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="occlusion rate", ylabel=column)
    axes.grid()
    axes.legend(loc="upper right")
    return figure


def figure_png(figure: Figure, dpi: Real = 100) -> bytes:
    """The bytes of a figure's PNG, for `ipywidgets.Image`."""
    with matplotlib.rc_context(dict(STYLE)):
        return _rendered(figure, "png", dpi)


# ------------------------------------------------------------------------------------------------------ README

README_PICTURE = "05_before_after.png"
README_METRICS = ("mIoU", "hidden mIoU", "hidden recall", "un-occluded mIoU", "AP")


def readme_results(folder: Path | None = None) -> str:
    """The results that README shows, as Markdown, from ``zero_shot_gains.csv`` of the mini profile.

    `folder` stands in for ``data/results/mini``. Raises InputError where the table lacks the prompt or a metric.
    """
    rows = read_table((RESULTS / "mini" if folder is None else folder) / "zero_shot_gains.csv")
    named = {row["metric"]: row for row in rows if row["prompt"] == "visible boxes"}
    shown = []
    for metric in README_METRICS:
        _require(metric in named, "zero_shot_gains.csv", f"visible boxes and {metric}, found no such row", "Run 05")
        row = named[metric]
        interval = f"{row['gain']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        numbers = {"EfficientSAM": row["before"], "SAMEO": row["after"], "gain (95 % interval over seeds)": interval}
        shown.append({"mini, visible boxes, set never seen": metric} | numbers)
    return table_markdown(shown)


def update_readme(path: Path, folder: Path | None = None, figures: Path | None = None) -> None:
    """Put `readme_results` between the two ``results`` marks of README, and its picture, in 256 colours, beside them.

    Args:
        path: of README.
        folder: instead of ``data/results/mini``, where the tables are and the picture goes.
        figures: instead of ``data/runs/mini/figures``, where `save_figure` left the picture.

    Raises:
        InputError: README without these marks.
    """
    folder, figures = folder or RESULTS / "mini", figures or RUNS / "mini" / "figures"
    with PIL.Image.open(figures / README_PICTURE) as picture:
        picture.convert("RGB").quantize(256).save(folder / README_PICTURE, optimize=True)
    text, begin, end = path.read_text(), "<!-- results -->\n", "<!-- /results -->"
    found = begin in text and end in text
    _require(found, path, "README has the marks <!-- results --> and <!-- /results -->", "Put them back")
    before, after = text.split(begin)[0], text.split(end)[1]
    _replace(path, f"{before}{begin}{readme_results(folder)}\n{end}{after}".encode())


# ------------------------------------------------------------------------------------------------------ files


@_styled
def save_figure(figure: Figure, name: str, profile: str, folder: Path | None = None) -> Path:
    """Write ``<name>.svg`` (for the paper) and ``<name>.png`` (150 dpi), the same bytes each time; the SVG's path.

    `folder` stands in for ``data/runs/<profile>/figures``.
    """
    path = _file(name, profile, RUNS / profile / "figures" if folder is None else folder).with_suffix(".svg")
    _replace(path.with_suffix(".png"), _rendered(figure, "png", 150))
    _replace(path, _rendered(figure, "svg", 150))
    return path


@_styled
def save_overlay(figure: Figure, path: Path, mark: str) -> None:
    """Write a figure as PNG (150 dpi), whole or not at all, with a text in it under the name ``sameo``.

    The text says what the picture was made from; `overlay_mark` reads it again.
    """
    _replace(path, _rendered(figure, "png", 150, {"sameo": mark}))


def overlay_mark(path: Path) -> str | None:
    """The text that `save_overlay` left in a picture; None where there is no such picture, or no text in it."""
    try:
        with PIL.Image.open(path) as picture:
            return picture.info.get("sameo")
    except OSError:
        return None


def _rendered(figure: Figure, kind: str, dpi: Real, texts: Mapping[str, str] = MappingProxyType({})) -> bytes:
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[kind] | dict(texts)
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
