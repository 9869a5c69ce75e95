"""Charts of data sets, synthesis, trainings and evaluations."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sameo_core.evaluation import IOU_THRESHOLDS, Evaluation
from sameo_core.reporting.statistics import Judged, calibration, grouped, mean_interval, over_seeds
from sameo_core.reporting.style import PALETTE, WIDTH, Row, legend_below, new_figure, panels, series, styled
from sameo_core.synthesis import CurvePoint

Names = Mapping[tuple[str, str], str]  # (front-end, method) -> label


@styled
def figure_occlusion_histograms(rates: Mapping[str, ArrayLike], profile: str) -> Figure:
    """One panel per data set: histogram of the occlusion rate (0..1) of the occluded objects."""
    figure, grid = panels("How much of an object is hidden", profile, len(rates), 3, 1.5)
    for axes, (name, values) in zip(grid, rates.items(), strict=True):
        values = np.asarray(values, float).ravel()
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


@styled
def figure_precision_recall(
    curves: Mapping[str, Sequence[CurvePoint]], chosen: float | int, profile: str, title: str
) -> Figure:
    """Precision and recall of "complete" against the threshold, one line per definition; `chosen` is marked."""
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
def figure_rates(asked: ArrayLike, achieved: ArrayLike, tolerance: float | int, profile: str) -> Figure:
    """Histograms of target and achieved occlusion rates, and of their difference, with its tolerance."""
    asked, achieved = np.asarray(asked, float), np.asarray(achieved, float)
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


@styled
def figure_training_curves(
    logs: Mapping[str, Sequence[Row]], profile: str, columns: Sequence[str], title: str = "Training"
) -> Figure:
    """One panel per column: a thin line per run (seed), and their mean in bold, at the steps that all runs logged.

    `logs`: name of the run -> rows of its log, with `step` and the columns, which may be missing.
    """
    title = f"{title}, bold: mean of {len(logs)} runs" if len(logs) > 1 else title
    figure, grid = panels(title, profile, len(columns), 3, 1.75)
    for axes, column in zip(grid, columns, strict=True):
        curves = {}
        for name, log in logs.items():
            curve = {row["step"]: float(row[column]) for row in log if row.get(column) is not None}
            curves[name] = curve
            axes.plot(*zip(*sorted(curve.items()), strict=True), color=PALETTE["after"], lw=0.6, alpha=0.5, label=name)
        if len(curves) > 1:
            steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
            means = [np.mean([curve[step] for curve in curves.values()]) for step in steps]
            axes.plot(steps, means, color=PALETTE["after"], lw=1.8, label="mean")
        axes.set(title=column, xlabel="step")
        axes.grid(axis="y")
    return figure


@styled
def figure_detection_curves(judged: Judged, place: str, names: Names, profile: str) -> Figure:
    """Precision against recall at IoU 0.5 and 0.75 on a data set, one line per method (its first seed), with its AP.

    Source: COCOeval's `precision`; AP is its mean over the recalls.
    """
    thresholds = (0.5, 0.75)
    figure, grid = panels(f"Detections on {place}", profile, len(thresholds), 2, 2.6)
    legend = {}
    for ((front_end, method), name), line in zip(names.items(), series(names.values()).values(), strict=True):
        found = next(one for key, one in judged.items() if key[:3] == (place, front_end, method))
        aps = []
        for axes, threshold in zip(grid, thresholds, strict=True):
            precision = found.curves["all"][np.abs(IOU_THRESHOLDS - threshold).argmin()]
            aps.append(f"{precision.mean():.3f}")
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
def figure_buckets(judged: Judged, place: str, names: Names, profile: str) -> Figure:
    """AP by occlusion bucket on a data set: mean over seeds with its 95 % interval, seeds faint; no empty buckets."""
    rows = [
        {"model": names[front_end, method], "seed": "".join(seed), "bucket": bucket, "AP": numbers["AP"]}
        for (where, front_end, method, *seed), found in judged.items()
        if where == place and (front_end, method) in names
        for bucket, numbers in found.class_agnostic.items()
        if bucket.endswith("%") and found.objects[bucket]
    ]
    found = over_seeds(rows, "bucket", "AP")
    buckets = list(dict.fromkeys(row["bucket"] for row in rows))
    figure = new_figure(f"{place}, by hidden share", profile, 2.6, WIDTH * 0.75)
    axes = figure.subplots()
    step = 0.7 / len(found)
    for i, (name, line) in enumerate(series(found).items()):
        shift = step * (i - (len(found) - 1) / 2)
        for bucket, numbers in found[name].items():
            x, colour = buckets.index(bucket) + shift, line["color"]
            if len(numbers.values) > 1:
                seeds: dict[str, Any] = {"color": colour, "ms": 3, "mew": 0, "alpha": 0.5, "gid": f"{name} seeds"}
                axes.plot([x - 0.25 * step] * len(numbers.values), numbers.values, "o", **seeds)
            axes.plot([x, x], [numbers.low, numbers.high], color=colour, lw=1.5, gid=f"{name} interval")
            look: dict[str, Any] = {"color": colour, "marker": line["marker"], "ls": "", "gid": name}
            axes.plot([x], [numbers.mean], **look, ms=5, mec="white", mew=0.6)
        axes.plot([], [], color=line["color"], marker=line["marker"], ls="", ms=5, label=name)  # for the legend
    for border in range(1, len(buckets)):
        axes.axvline(border - 0.5, color="0.9", lw=0.6)
    axes.set(xticks=range(len(buckets)), xticklabels=buckets, xlim=(-0.5, len(buckets) - 0.5), ylabel="AP")
    axes.set(xlabel="hidden share of the object", ylim=(0, None))
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    legend_below(figure, *axes.get_legend_handles_labels())
    return figure


@styled
def figure_noise(rows: Sequence[Row], profile: str, columns: Sequence[str]) -> Figure:
    """One panel per column against the box noise at test time: one line per model, mean and 95 % interval.

    `rows`: one per `model`, `noise` (share of the box's sides, see `front_ends.jittered`) and seed.
    """
    found = {column: over_seeds(rows, "noise", column) for column in columns}
    figure, grid = panels("Inexact box prompts", profile, len(columns), 3, 2.1)
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
def figure_reliability(judged: Mapping[str, Evaluation], profile: str) -> Figure:
    """One panel per model: mean true IoU per bin of predicted IoU, ideally on the diagonal; counts below."""
    figure = new_figure("Predicted and true IoU", profile, 3.1, max(0.5 * WIDTH, 2.3 * len(judged)))
    grid = figure.subplots(2, len(judged), sharex=True, sharey="row", squeeze=False, height_ratios=(4, 1))
    ticks = np.linspace(0, 1, 6).round(1)
    for (name, one), upper, lower in zip(judged.items(), *grid, strict=True):
        found = calibration(one.predicted_iou, one.true_iou)
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


@styled
def figure_arms(rows: Sequence[Row], metrics: Sequence[str], profile: str, title: str) -> Figure:
    """One panel per metric, one line per `arm`: mean over seeds with its 95 % interval, each seed as a faint dot."""
    arms = grouped(rows, "arm")
    figure = new_figure(title, profile, 0.8 + 0.28 * len(arms))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for y, seeds in enumerate(arms.values()):
            values = [float(row[metric]) for row in seeds]
            mean, low, high = mean_interval(values)
            axes.plot(values, [y + 0.2] * len(values), "o", color=PALETTE["after"], ms=3, mew=0, alpha=0.5)
            axes.plot([low, high], [y, y], color=PALETTE["after"], lw=1.5, gid="interval")
            axes.plot(mean, y, "D", ms=5, color=PALETTE["after"], mec="white", mew=0.6, gid="mean")
        axes.set(yticks=range(len(arms)), yticklabels=[arm for (arm,) in arms], ylim=(len(arms) - 0.5, -0.5))
        axes.set_title(metric, fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=3)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
    return figure


@styled
def figure_occlusion_curve(rows: Sequence[Row], profile: str) -> Figure:
    """Hidden IoU against the occlusion rate: a thin line per pair of objects, the mean of each model in bold.

    `rows`: of `playground.occlusion_curve`, for up to two models, before and after fine-tuning.
    """
    models = grouped(rows, "model")
    pairs = {row["pair"] for row in rows}
    title = "The more is hidden" + (f": {len(pairs)} pairs, bold: mean" if len(pairs) > 1 else "")
    figure = new_figure(title, profile, 2.4, WIDTH * 0.65)
    axes = figure.subplots()
    for ((name,), mine), side, style, marker in zip(
        models.items(), ("before", "after"), ("--", "-"), "oD", strict=False
    ):
        for curve in grouped(mine, "pair").values() if len(pairs) > 1 else ():
            points = [(row["rate"], row["hidden IoU"]) for row in curve]
            axes.plot(*zip(*points, strict=True), style, color=PALETTE[side], lw=0.5, alpha=0.4, gid=f"{name} pair")
        rates = grouped(sorted(mine, key=lambda row: row["rate"]), "rate")
        means = [np.mean([row["hidden IoU"] for row in here]) for here in rates.values()]
        look: dict[str, Any] = {"marker": marker, "ms": 4, "color": PALETTE[side], "lw": 1.8}
        axes.plot([rate for (rate,) in rates], means, style, **look, label=name, gid=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="occlusion rate", ylabel="hidden IoU")
    axes.grid()
    axes.legend(loc="upper right")
    return figure


def occlusion_svg(curves: Mapping[str, Sequence[tuple[float, float]]], here: float) -> str:
    """Hidden IoU against the occlusion rate as SVG for a page, in a millisecond; the axes are labelled in per cent.

    Args:
        curves: of up to two models, before and after fine-tuning: (occlusion rate, hidden IoU) in order; NaN: no value.
        here: an occlusion rate to mark.
    """
    x, y = (lambda rate: 40 + 300 * rate), (lambda iou: 210 - 190 * iou)
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f"<path d='M40 {y(share):.0f}H340' stroke='#ddd'/>")
        parts.append(f"<text x='34' y='{y(share) + 4:.0f}' text-anchor='end'>{share:.0%}</text>")
        parts.append(f"<text x='{x(share):.0f}' y='226' text-anchor='middle'>{share:.0%}</text>")
    parts.append(f"<path d='M{x(here):.1f} 20V210' stroke='#555' stroke-dasharray='2 3'/>")
    for row, ((name, points), side) in enumerate(zip(curves.items(), ("before", "after"), strict=False)):
        known = [(x(rate), y(iou)) for rate, iou in points if not math.isnan(iou)]
        line, dash = " ".join(f"{a:.1f},{b:.1f}" for a, b in known), "6 4" if side == "before" else "none"
        ink = f"stroke='{PALETTE[side]}' stroke-width='2'"
        parts.append(f"<polyline points='{line}' fill='none' stroke-dasharray='{dash}' {ink}/>")
        parts += [f"<circle cx='{a:.1f}' cy='{b:.1f}' r='3.5' fill='{PALETTE[side]}'/>" for a, b in known]
        parts.append(f"<path d='M50 {30 + 16 * row}h24' stroke-dasharray='{dash}' {ink}/>")
        parts.append(f"<text x='80' y='{34 + 16 * row}'>{html.escape(name)}</text>")
    parts.append("<text x='40' y='12'>hidden IoU</text><text x='340' y='242' text-anchor='end'>occlusion rate</text>")
    style = "width: 360px; max-width: 100%; font: 11px sans-serif"
    return f"<svg viewBox='0 0 360 248' style='{style}' role='img'>{''.join(parts)}</svg>"
