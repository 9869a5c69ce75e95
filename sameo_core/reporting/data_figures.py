"""Figures of data: images of a set with their objects, drawn scenes, how much of an object is hidden."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.miniature import Scene
from sameo_core.reporting.base import require
from sameo_core.reporting.objects import draw_hidden, draw_visible, show_image
from sameo_core.reporting.style import PALETTE, WIDTH, new_figure, panels, styled


@styled
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
    require(len(images) and count > 0 and columns > 0, "images", rule, "Load a split that has images")
    rule = f"one label an image, found {len(labels or ())} for {len(images)}"
    require(labels is None or len(labels) == len(images) <= count, "labels", rule, "Give as many, and raise count")
    named = f"{images.name}, {images.split}" if isinstance(images, AmodalDataset) else "Images"
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int))]
    rows = [chosen[i : i + columns] for i in range(0, len(chosen), columns)]
    gap, head, word = 0.05, 0.25, 0.16 if labels else 0  # inch
    waiting = iter(labels or ())
    shapes = [[image.width / image.height for image in row] for row in rows]
    widest = sum(shapes[0])  # the first row fills the width; later ones, the last above all, are not taller
    heights = [(WIDTH - gap * (len(row) - 1)) / max(sum(row), widest) for row in shapes]
    figure = new_figure(title or named, profile, head + sum(heights) + (gap + word) * len(rows), layout="none")
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
    show_image(axes, image.read(), np.any(visible or [np.ones((image.height, image.width), bool)], axis=0))
    for thing in things:
        if thing.amodal_rle is not None:
            draw_hidden(axes, thing.hidden, PALETTE["hidden"])
    for mask in visible:
        draw_visible(axes, mask, width=0.7)


@styled
def figure_scenes(scenes: Sequence[Scene], title: str, profile: str, columns: int = 6) -> Figure:
    """Drawn scenes as they are, without their truth.

    Raises:
        InputError: no scenes.
    """
    require(len(scenes), "scenes", "at least one scene, found none", "Draw some first")
    figure, grid = panels(title, profile, len(scenes), columns, 1.2)
    for axes, scene in zip(grid, scenes, strict=True):
        axes.imshow(scene.image)
        axes.set_axis_off()
    return figure


@styled
def figure_occlusion_histograms(
    rates: Mapping[str, Sequence[float | int] | np.ndarray],
    profile: str,
    title: str = "How much of an object is hidden",
) -> Figure:
    """A panel a data set: the distribution of the occlusion rate (0..1) over the objects that are occluded at all.

    Raises:
        InputError: no data set, one without objects, or a rate outside 0..1.
    """
    require(len(rates), "rates", "at least one data set, found none", "Give name -> occlusion rates")
    figure, grid = panels(title, profile, len(rates), 3, 1.5)
    for axes, (name, values) in zip(grid, rates.items(), strict=True):
        values = np.asarray(values, float).ravel()
        fine = values.size and ((values >= 0) & (values <= 1)).all()
        require(fine, "rates", f"occlusion rates in 0..1, at least one, found {values}", "Correct the rates", name)
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
