"""Figures of one's own photographs: all objects drawn over the picture, and cut out of it."""

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
from matplotlib.figure import Figure

from sameo_core.arrays import BoxesXYXY, Image
from sameo_core.reporting.base import require
from sameo_core.reporting.objects import Mask, draw_amodal, draw_box, draw_hidden, draw_visible, show_image
from sameo_core.reporting.style import PALETTE, WIDTH, new_figure, panels, styled

OVERLAY_PIXELS = 1600  # on the longer side; more would not be seen, and take long to outline


@styled
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
        amodal, visible: n masks "h w"; taken one after another, so that a sequence may make them when asked.
        profile: None outside of a run (command line): then the title has to say which weights drew the masks.
        labels: n short texts; by default the objects' numbers, from 1.
        most_height: of the picture, in inch.

    Raises:
        InputError: masks, boxes or labels that differ in number, or masks in size from the image.
    """
    rule = f"one mask, box and label an object, found {len(amodal)} masks and {len(boxes)} boxes"
    counts = {len(amodal), len(boxes), len(boxes if visible is None else visible), len(labels or boxes)}
    require(len(counts) == 1, "amodal", rule, "Pass what belongs together")
    size = image.shape[:2]
    step = -(-max(size) // OVERLAY_PIXELS)
    image, boxes = image[::step, ::step], np.asarray(boxes) / step
    height, width = image.shape[:2]
    tall = float(np.clip(WIDTH * height / width, 1, most_height))  # portraits become narrower than a page instead
    wide = float(np.clip(tall * width / height, 4.5, WIDTH))
    figure = new_figure(title, profile, 0.3 + tall, wide, layout="compressed")
    axes = figure.subplots()
    objects = np.zeros((height, width), bool)
    seen = repeat(None) if visible is None else visible
    for i, (mask, part, box) in enumerate(zip(amodal, seen, boxes, strict=False)):
        for given in (mask,) if part is None else (mask, part):
            rule = f"a mask has its image's size (h, w) {size}, found {given.shape}"
            require(given.shape == size, "masks", rule, "Bring it to the image's size", f"mask {i}")
        mask = mask[::step, ::step]
        objects |= mask
        if part is not None:
            part = part[::step, ::step]
            draw_hidden(axes, mask & ~part, PALETTE["hidden"])
            draw_visible(axes, part, width=0.8)
        draw_amodal(axes, mask, PALETTE["amodal"])
        draw_box(axes, box)
        x, y = (float(np.clip(v, 0, size - 1)) for v, size in zip(box, (width, height), strict=False))
        badge = {"boxstyle": "square,pad=0.2", "fc": "white", "ec": PALETTE["box"], "lw": 0.6}
        axes.text(x, y, labels[i] if labels else str(i + 1), fontsize=7, va="top", bbox=badge, clip_on=True)
    show_image(axes, image, objects)
    return figure


@styled
def figure_cut_outs(cut_outs: Mapping[int, np.ndarray], title: str, profile: str) -> Figure:
    """A panel an object, under its number: RGBA "h w 4" on a chequered ground, which shows where it is transparent.

    Raises:
        InputError: no cut-outs.
    """
    require(len(cut_outs), "cut_outs", "at least one cut-out, found none", "Predict masks that are not empty")
    figure, grid = panels(title, profile, len(cut_outs), 5, 1.4)
    for axes, (number, cut) in zip(grid, cut_outs.items(), strict=True):
        rows, columns = np.indices(cut.shape[:2]) * 10 // max(cut.shape[:2])  # ten squares on the longer side
        axes.imshow(np.where((rows + columns) % 2, 255, 225), cmap="gray", vmin=0, vmax=255)
        axes.imshow(cut)
        axes.set(title=str(number), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure
