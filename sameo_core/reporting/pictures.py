"""Figures of images: data sets, pools of objects, synthesised pairs, predictions side by side."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from types import MappingProxyType
from typing import Any

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sameo_core.arrays import BoxXYXY, Image
from sameo_core.config import SynthesisConfig
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.datasets.images import read_photograph
from sameo_core.evaluation import region_iou
from sameo_core.masks import decode_rle, mask_box
from sameo_core.miniature import Scene
from sameo_core.reporting.objects import (
    Mask,
    draw_amodal,
    draw_box,
    draw_hidden,
    draw_object,
    draw_visible,
    show_image,
    window,
)
from sameo_core.reporting.style import PALETTE, SHARP, WIDTH, new_figure, panels, require, styled
from sameo_core.synthesis import Pair, Pool, compose


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
    """Images, evenly spread over a data set, with objects outlined and hidden regions hatched.

    Stuff regions are left out, since everything occludes them. Visible-only sets (LVIS) have outlines only.
    At most `count` images are shown; `labels`: a word above each.
    """
    named = f"{images.name}, {images.split}" if isinstance(images, AmodalDataset) else "Images"
    chosen = [images[i] for i in _spread(len(images), count)]
    rows = [chosen[i : i + columns] for i in range(0, len(chosen), columns)]
    gap, head, word = 0.05, 0.25, 0.16 if labels else 0  # inch
    waiting = iter(labels or ())
    shapes = [[image.width / image.height for image in row] for row in rows]
    widest = sum(shapes[0])  # the first row fills the width; the others are no taller
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


def _spread(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(int)).tolist()


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
def figure_scenes(scenes: Sequence[Scene], title: str, profile: str) -> Figure:
    """Drawn scenes without annotation."""
    figure, grid = panels(title, profile, len(scenes), 6, 1.2)
    for axes, scene in zip(grid, scenes, strict=True):
        axes.imshow(scene.image)
        axes.set_axis_off()
    return figure


@styled
def figure_pool(pool: Pool, profile: str, title: str) -> Figure:
    """Up to 18 objects, evenly spread over a pool, each cropped with some context and outlined."""
    chosen = _spread(len(pool), 18)
    figure, grid = panels(title, profile, len(chosen), 9, 0.8)
    for axes, index in zip(grid, chosen, strict=True):
        mask = pool.mask(index)
        axes.imshow(read_photograph(pool.path(index)))
        draw_visible(axes, mask)
        left, top, right, bottom = window(mask_box(mask), *mask.shape)
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        axes.set_axis_off()
    return figure


@styled
def figure_ladder(pool: Pool, steps: Sequence[Pair], config: SynthesisConfig, profile: str) -> Figure:
    """One pair composed at several occlusion rates, with the rate achieved and the hidden part hatched."""
    figure, grid = panels("The same pair at rising occlusion", profile, len(steps), 5, 1.5)
    for axes, pair in zip(grid, steps, strict=True):
        with PIL.Image.open(io.BytesIO(compose(pool, pair, config).occluded)) as image:
            axes.imshow(np.array(image.convert("RGB")))
        target = pool.mask(pair.target)
        occluder = pair.occluder_mask(*target.shape)
        draw_hidden(axes, target & occluder, PALETTE["hidden"])
        draw_visible(axes, target & ~occluder, width=0.8)
        axes.set_title(f"asked {pair.target_rate:.2f}, got {pair.achieved_rate:.2f}", fontsize=7)
        axes.set_axis_off()
    return figure


@dataclass(frozen=True)
class Comparison:
    """One object, its box prompt, and each model's prediction."""

    image: Image
    visible: Mask  # truth
    amodal: Mask  # truth
    box: BoxXYXY  # the prompt
    predictions: Mapping[str, Mask]  # name of the model -> predicted amodal mask
    occluder: Mask | None = None  # what lies in front


def comparisons(
    dataset: AmodalDataset, chosen: Sequence[int], results: Mapping[str, Sequence[Mapping]]
) -> list[Comparison]:
    """Objects of a data set with each model's prediction.

    Args:
        chosen: indices among all objects of the data set, as the rows of `region_table`.
        results: model -> COCO results with `instance_id` and `box`, one per object, all of one front-end; for a
            detector, its `covering_detections`.

    Raises:
        InputError: a model has no mask of a chosen object.
    """
    objects = [(image, item) for image in dataset for item in image.instances]
    by_object = {name: {(r["image_id"], r["instance_id"]): r for r in listed} for name, listed in results.items()}
    compared = []
    for image, item in (objects[i] for i in chosen):
        key = (image.image_id, item.instance_id)
        rule = f"a mask of object {key[1]} in image {key[0]}, found none"
        for name, listed in by_object.items():
            require(key in listed, "results", rule, "Choose objects that all models have", name)
        found = {name: listed[key] for name, listed in by_object.items()}
        box = np.array(next(iter(found.values()))["box"], np.float32)
        masks = {name: decode_rle(result["segmentation"]) for name, result in found.items()}
        in_front = [other.visible for other in image.instances if (other.visible & item.hidden).any()]
        occluder = np.any(in_front, axis=0) if in_front else None
        compared.append(Comparison(image.read(), item.visible, item.amodal, box, masks, occluder))
    return compared


@styled
def figure_before_after(
    objects: Sequence[Comparison],
    title: str,
    profile: str,
    rows: Sequence[str] | None = None,
    prompt: str = "box prompt, visible part",
) -> Figure:
    """One row per object: prompt and visible part | each model's amodal mask and its IoU | the truth.

    A model's panel hatches its prediction minus the true visible mask. Panels are cropped around the object.

    Args:
        rows: a word beside each object, e.g. ("worst", "median", "best").
        prompt: heading of the first column; "photograph" shows the whole image with the box.
    """
    names = list(objects[0].predictions)
    views = []  # x0, y0, x1, y1: around each object, cropped to the image
    for item in objects:
        height, width = item.amodal.shape
        views.append(np.clip(window(mask_box(item.amodal), height, width), 0, (width, height, width, height)))
    ratios = [(y1 - y0) / (x1 - x0) for x0, y0, x1, y1 in views]
    figure = new_figure(
        title, profile, 0.35 + sum(0.2 + 1.7 * r for r in ratios) * 4 / (len(names) + 2), layout="compressed"
    )
    grid = figure.subplots(len(objects), len(names) + 2, squeeze=False, height_ratios=ratios)
    for heading, axes in zip([prompt, *names, "truth"], grid[0], strict=True):
        axes.set_title(heading)
    for i, (item, row) in enumerate(zip(objects, grid, strict=True)):
        if prompt == "photograph":
            show_image(row[0], item.image, np.ones_like(item.visible))
            draw_box(row[0], item.box)
        else:
            draw_object(row[0], item.image, item.visible, None, box=item.box, occluder=item.occluder)
        for axes, mask in zip(row[1:], item.predictions.values(), strict=False):
            draw_object(axes, item.image, item.visible, mask, occluder=item.occluder)
            iou = region_iou(mask, item.amodal, item.visible)
            hidden = "" if math.isnan(iou.hidden) else f", hidden {iou.hidden:.2f}"
            axes.set_xlabel(f"IoU {iou.full:.2f}{hidden}", loc="left", labelpad=2)
        draw_object(row[-1], item.image, item.visible, item.amodal, role="truth", occluder=item.occluder)
        rate = 1 - np.count_nonzero(item.visible & item.amodal) / np.count_nonzero(item.amodal)
        row[-1].set_xlabel(f"{100 * rate:.0f} % hidden", loc="left", labelpad=2)
        row[0].set_ylabel(rows[i] if rows else "")
        x0, y0, x1, y1 = views[i]
        for axes in row:
            axes.set(xlim=(x0, x1), ylim=(y1, y0))
    return figure


LAYERS: Mapping[str, Callable] = MappingProxyType(
    {
        "hidden": partial(draw_hidden, tint=PALETTE["hidden"]),
        "visible": draw_visible,
        "amodal": partial(draw_amodal, colour=PALETTE["amodal"]),
        "box": draw_box,
    }
)


@styled
def figure_layers(
    image: Image, contents: Mapping[str, Mapping[str, Any]], title: str, profile: str, columns: int = 2
) -> Figure:
    """The same photograph in several panels, each with some of `LAYERS`, faded outside its masks.

    `contents`: heading -> layer -> mask, or box, xyxy pixels; a panel without masks is not faded.
    """
    height, width = image.shape[:2]
    figure, grid = panels(title, profile, len(contents), columns, 0.2 + WIDTH / columns * height / width)
    for axes, (heading, layers) in zip(grid, contents.items(), strict=True):
        masks = [layer for name, layer in layers.items() if name != "box"]
        show_image(axes, image, np.any(masks or [np.ones((height, width), bool)], axis=0))
        for name, draw in LAYERS.items():
            if name in layers:
                draw(axes, np.asarray(layers[name], np.float32 if name == "box" else bool))
        axes.set_title(heading)
    figure.set_dpi(SHARP)
    return figure


OVERLAY_PIXELS = 1600  # on the longer side; more would be slow and not visible


@styled
def figure_overlay(
    image: Image,
    boxes: ArrayLike,
    amodal: Sequence[Mask] | np.ndarray,
    title: str,
    profile: str | None,
    *,
    visible: Sequence[Mask] | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    most_height: float | int = 5.5,
) -> Figure:
    """A photograph with the amodal masks of its objects, their box prompts and numbers; the rest is faded.

    With visible masks, these are outlined and the hidden regions hatched. A photograph of more than `OVERLAY_PIXELS`
    is subsampled.

    Args:
        boxes: "n 4", xyxy pixels; may leave the image.
        amodal, visible: n masks "h w"; accessed one at a time, so a sequence may compute them on demand.
        profile: None outside a run (command line); then the title must name the weights.
        labels: n short texts; by default the objects' numbers, from 1.
        most_height: of the picture, in inch.
    """
    step = -(-max(image.shape[:2]) // OVERLAY_PIXELS)
    image, prompts = image[::step, ::step], np.asarray(boxes) / step
    height, width = image.shape[:2]
    tall = float(np.clip(WIDTH * height / width, 1, most_height))  # portraits become narrower
    wide = float(np.clip(tall * width / height, 4.5, WIDTH))
    figure = new_figure(title, profile, 0.3 + tall, wide, layout="compressed")
    axes = figure.subplots()
    objects = np.zeros((height, width), bool)
    seen = repeat(None) if visible is None else visible
    for i, (mask, part, box) in enumerate(zip(amodal, seen, prompts, strict=False)):
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
    """One panel per object, titled with its number: RGBA "h w 4" on a checkerboard that shows transparency."""
    figure, grid = panels(title, profile, len(cut_outs), 5, 1.4)
    for axes, (number, cut) in zip(grid, cut_outs.items(), strict=True):
        rows, columns = np.indices(cut.shape[:2]) * 10 // max(cut.shape[:2])  # ten squares on the longer side
        axes.imshow(np.where((rows + columns) % 2, 255, 225), cmap="gray", vmin=0, vmax=255)
        axes.imshow(cut)
        axes.set(title=str(number), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure
