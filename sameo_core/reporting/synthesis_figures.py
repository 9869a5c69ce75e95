"""Figures of Amodal-LVIS: which objects are complete, the pool, and the occlusions made of it."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from sameo_core.config import SynthesisConfig
from sameo_core.masks import mask_box
from sameo_core.reporting.base import require
from sameo_core.reporting.objects import draw_hidden, draw_visible, read_pixels, window
from sameo_core.reporting.style import PALETTE, new_figure, panels, styled
from sameo_core.synthesis import CurvePoint, Pair, Pool, compose


@styled
def figure_precision_recall(
    curves: Mapping[str, Sequence[CurvePoint]], chosen: float | int, profile: str, title: str
) -> Figure:
    """Precision and recall of "complete" against the threshold, a colour a notion of complete; `chosen` is marked.

    Raises:
        InputError: no curves, or one without points.
    """
    require(curves and all(map(len, curves.values())), "curves", "at least one point each", "Give curves with points")
    figure = new_figure(title, profile, 2.3)
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


@styled
def figure_pool(pool: Pool, profile: str, title: str, count: int = 18, columns: int = 9) -> Figure:
    """Objects of a pool, evenly spread over it, each cut out with some surroundings and outlined.

    Raises:
        InputError: an empty pool, or an image that cannot be read.
    """
    require(len(pool), "pool", "at least one object, found none", "Collect from more images, or weaken the rules")
    chosen = np.unique(np.linspace(0, len(pool) - 1, min(count, len(pool))).astype(int)).tolist()
    figure, grid = panels(title, profile, len(chosen), columns, 0.8)
    for axes, index in zip(grid, chosen, strict=True):
        mask = pool.mask(index)
        axes.imshow(read_pixels(pool.path(index)))
        draw_visible(axes, mask)
        left, top, right, bottom = window(mask_box(mask), *mask.shape)
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        axes.set_axis_off()
    return figure


@styled
def figure_ladder(pool: Pool, steps: Sequence[Pair], config: SynthesisConfig, profile: str) -> Figure:
    """One pair at several occlusion rates, composed, with the rate that was achieved and the hidden part hatched.

    Raises:
        InputError: no steps, or an image that cannot be read.
    """
    require(len(steps), "steps", "at least one pair, found none", "Give `synthesis.ladder` some rates")
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


@styled
def figure_rates(
    asked: Sequence[float | int] | np.ndarray,
    achieved: Sequence[float | int] | np.ndarray,
    tolerance: float | int,
    profile: str,
) -> Figure:
    """Occlusion rates asked for and achieved: their distributions, and the difference within its tolerance.

    Raises:
        InputError: no rates, or not as many of one kind as of the other.
    """
    asked, achieved = np.asarray(asked, float), np.asarray(achieved, float)
    rule = f"as many rates asked for as achieved, at least one, found {asked.size} and {achieved.size}"
    require(asked.size and asked.shape == achieved.shape, "asked, achieved", rule, "Give one of each a pair")
    figure = new_figure("Occlusion rates asked for and achieved", profile, 2.1)
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
