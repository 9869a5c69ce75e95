"""Figures of detections: precision against recall, AP by occlusion, box noise, and how far a predicted IoU holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sameo_core.reporting.base import Row, require
from sameo_core.reporting.statistics import Calibration, OverSeeds, over_seeds
from sameo_core.reporting.style import PALETTE, WIDTH, legend_below, new_figure, panels, series, styled


@styled
def figure_detection_curves(
    curves: Mapping[str, Mapping[float, Sequence[float | int] | np.ndarray]],
    profile: str,
    title: str = "Precision and recall of detections",
) -> Figure:
    """A panel an IoU threshold: precision against recall, a line a model, with its AP at that threshold.

    Args:
        curves: model -> IoU threshold -> precision at evenly spaced recalls from 0 to 1, as COCOeval has them at 101;
            -1 or NaN where it is not defined. All models have the same thresholds, ten at most.

    Raises:
        InputError: no curves, models with different thresholds, a precision above 1.

    Source: COCOeval's `precision`; AP is its mean over the recalls.
    """
    require(curves and all(curves.values()), "curves", "at least one model and threshold, found none", "Evaluate first")
    thresholds = list(next(iter(curves.values())))
    figure, grid = panels(title, profile, len(thresholds), 2, 2.6)
    legend = {}
    for (name, by_threshold), line in zip(curves.items(), series(curves).values(), strict=True):
        rule = f"the thresholds {thresholds} of every model, found {list(by_threshold)}"
        require(list(by_threshold) == thresholds, "curves", rule, "Evaluate all with the same", name)
        aps = []
        for axes, threshold in zip(grid, thresholds, strict=True):
            precision = np.array(by_threshold[threshold], float)
            precision[precision == -1] = math.nan
            known = precision[~np.isnan(precision)]
            fine = precision.size > 1 and ((known >= 0) & (known <= 1)).all()
            require(fine, "curves", "two precisions or more, in 0..1, -1 or NaN", "Give COCOeval's own", name)
            aps.append(f"{known.mean():.3f}" if known.size else "not defined")
            look: dict[str, Any] = {"color": line["color"], "ls": line["ls"], "lw": 1.5, "gid": name}
            (drawn,) = axes.plot(np.linspace(0, 1, precision.size), precision, **look)
        legend[f"{name}: AP {' | '.join(aps)}"] = drawn
    for axes, threshold in zip(grid, thresholds, strict=True):
        axes.set(title=f"IoU at least {threshold:g}", xlabel="recall", xlim=(0, 1.01), ylim=(0, 1.02))
        axes.grid()
    grid[0].set_ylabel("precision")
    legend_below(figure, list(legend.values()), list(legend))
    return figure


@styled
def figure_buckets(
    rows: Sequence[Row],
    profile: str,
    title: str = "By occlusion rate",
    *,
    column: str = "AP",
    counts: Mapping[str, int] | None = None,
) -> Figure:
    """A column against the occlusion bucket: grouped dots, the mean over seeds with its 95 % interval, seeds faint.

    Args:
        rows: one a model, bucket and seed: `model`, `bucket` (text), `seed` and the column, a share in 0..1; NaN or
            None where a bucket has no objects.
        counts: objects of each bucket, said under its name.

    Raises:
        InputError: as `over_seeds`.
    """
    found = over_seeds(rows, "bucket", column)
    buckets = list(dict.fromkeys(row["bucket"] for row in rows))
    figure = new_figure(title, profile, 2.6, WIDTH * 0.75)
    axes = figure.subplots()
    step = 0.7 / len(found)
    for i, (name, line) in enumerate(series(found).items()):
        shift = step * (i - (len(found) - 1) / 2)
        for bucket, numbers in found[name].items():
            _dot(axes, buckets.index(bucket) + shift, numbers, line, name, seeds_at=-0.25 * step)
        axes.plot([], [], color=line["color"], marker=line["marker"], ls="", ms=5, label=name)  # for the legend
    for border in range(1, len(buckets)):
        axes.axvline(border - 0.5, color="0.9", lw=0.6)
    words = [f"{bucket}\n{counts[bucket]:,} objects" if counts else bucket for bucket in buckets]
    axes.set(xticks=range(len(buckets)), xticklabels=words, xlim=(-0.5, len(buckets) - 0.5), ylabel=column)
    axes.set(xlabel="hidden share of the object", ylim=(0, None))
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    legend_below(figure, *axes.get_legend_handles_labels())
    return figure


@styled
def figure_noise(
    rows: Sequence[Row],
    profile: str,
    title: str = "Inexact box prompts",
    *,
    columns: Sequence[str] = ("AP", "hidden mIoU"),
) -> Figure:
    """A panel a column, against the noise of the boxes at test time: means over seeds, 95 % intervals, a line a model.

    Args:
        rows: one a model, noise and seed: `model`, `noise` (share of the box's sides, see `front_ends.jittered`),
            `seed` and the columns.

    Raises:
        InputError: as `over_seeds`; no columns.
    """
    require(len(columns), "columns", "at least one column, found none", "Choose what to show")
    found = {column: over_seeds(rows, "noise", column) for column in columns}
    figure, grid = panels(title, profile, len(columns), 3, 2.1)
    for axes, column in zip(grid, columns, strict=True):
        for name, line in series(found[column]).items():
            noises = sorted(found[column][name])
            means = [found[column][name][noise].mean for noise in noises]
            per_cent = [100 * noise for noise in noises]
            axes.plot(per_cent, means, **line, ms=5, lw=1.4, mec="white", mew=0.5, label=name, gid=name)
            for x, noise in zip(per_cent, noises, strict=True):
                numbers = found[column][name][noise]
                axes.plot([x, x], [numbers.low, numbers.high], color=line["color"], lw=1.2, gid=f"{name} interval")
        ticks = sorted({100 * row["noise"] for row in rows})
        axes.set(title=column, xlabel="error of a side, % of the box", xticks=ticks)
        axes.grid(axis="y")
    legend_below(figure, *grid[0].get_legend_handles_labels())
    return figure


@styled
def figure_reliability(
    calibrations: Mapping[str, Calibration], profile: str, title: str = "Predicted and true IoU"
) -> Figure:
    """A panel a model: mean true IoU by bins of the predicted IoU, on the diagonal where it is right; counts below.

    Args:
        calibrations: model -> `calibration` of its masks, two to four as a rule.

    Raises:
        InputError: no calibrations.
    """
    require(len(calibrations), "calibrations", "at least one model, found none", "Work out `calibration` first")
    figure = new_figure(title, profile, 3.1, max(0.5 * WIDTH, 2.3 * len(calibrations)))
    grid = figure.subplots(2, len(calibrations), sharex=True, sharey="row", squeeze=False, height_ratios=(4, 1))
    ticks = np.linspace(0, 1, 6).round(1)
    for (name, found), upper, lower in zip(calibrations.items(), *grid, strict=True):
        some = found.count > 0
        upper.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls="--")
        for x, y in zip(found.predicted[some], found.true[some], strict=True):
            upper.plot([x, x], [x, y], color=PALETTE["hidden"], lw=3, solid_capstyle="butt", alpha=0.7, gid="gap")
        line = {"color": PALETTE["after"], "ms": 4, "mec": "white", "mew": 0.5, "lw": 1.2, "gid": "bins"}
        upper.plot(found.predicted[some], found.true[some], "D-", **line)
        words = f"calibration error {found.error:.3f}\nbias {found.bias:+.3f}"
        words += "" if math.isnan(found.correlation) else f"\ncorrelation {found.correlation:.2f}"
        upper.text(0.03, 0.97, words, transform=upper.transAxes, va="top", fontsize=7)
        upper.set(title=name, xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
        upper.grid()
        lower.stairs(found.count, found.edges, fill=True, color=PALETTE["before"], ec="white", lw=0.4)
        lower.set(xlabel="predicted IoU", ylim=(0, None))
        lower.text(0.03, 0.95, f"{found.count.sum():,} masks", transform=lower.transAxes, va="top", fontsize=7)
    grid[0, 0].set_ylabel("true IoU")
    grid[1, 0].set_ylabel("masks")
    return figure


def _dot(
    axes: Axes, x: float | int, numbers: OverSeeds, line: Mapping[str, Any], name: str, seeds_at: float | int
) -> None:
    """Mean and interval at x, the seeds faint beside them."""
    seeds: dict[str, Any] = {"color": line["color"], "ms": 3, "mew": 0, "alpha": 0.5, "gid": f"{name} seeds"}
    if len(numbers.values) > 1:
        axes.plot([x + seeds_at] * len(numbers.values), numbers.values, "o", **seeds)
    axes.plot([x, x], [numbers.low, numbers.high], color=line["color"], lw=1.5, gid=f"{name} interval")
    look = {"color": line["color"], "marker": line["marker"]}
    axes.plot([x], [numbers.mean], **look, ms=5, mec="white", mew=0.6, ls="", gid=name)
