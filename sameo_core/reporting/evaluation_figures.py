"""Figures of evaluation: metrics before and after, of an ablation's arms, and against the occlusion rate."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sameo_core.reporting.base import Row, require
from sameo_core.reporting.statistics import mean_interval
from sameo_core.reporting.style import PALETTE, WIDTH, new_figure, styled


@styled
def figure_gains(rows: Sequence[Row], profile: str, title: str = "Before and after fine-tuning") -> Figure:
    """A line a metric: mean over seeds before and after with its 95 % interval, and each seed as a faint dot.

    Args:
        rows: one a metric and seed: `metric` (text), `before`, `after` (numbers on one scale).

    Raises:
        InputError: no rows, or a row without one of the three.
    """
    require(len(rows), "rows", "at least one row, found none", "Give one row a metric and seed")
    for i, row in enumerate(rows):
        missing = sorted({"metric", "before", "after"} - row.keys())
        require(not missing, "rows", f"metric, before and after, without {missing}", "Add what is missing", f"row {i}")
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    figure = new_figure(title, profile, 0.75 + 0.42 * len(metrics), width=WIDTH * 0.65)
    axes = figure.subplots()
    for side, lift, marker in (("before", -0.1, "o"), ("after", 0.1, "D")):
        colour = PALETTE[side]
        for y, metric in enumerate(metrics):
            values = [float(row[side]) for row in rows if row["metric"] == metric]
            mean, low, high = mean_interval(values)
            label = side if y == 0 else None
            seeds: dict[str, Any] = {"ms": 3, "mew": 0, "alpha": 0.5, "gid": f"{side} seeds"}
            axes.plot(values, [y + 2.5 * lift] * len(values), "o", color=colour, **seeds)
            axes.plot([low, high], [y + lift] * 2, color=colour, lw=1.5, gid=f"{side} interval")
            axes.plot(mean, y + lift, marker, ms=5, color=colour, mec="white", mew=0.6, ls="", label=label, gid=side)
    axes.set(yticks=range(len(metrics)), yticklabels=metrics, ylim=(len(metrics) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    figure.legend(loc="outside lower left", ncols=2, handletextpad=0.2)
    return figure


@styled
def figure_arms(rows: Sequence[Row], metrics: Sequence[str], profile: str, title: str) -> Figure:
    """A panel a metric, a line an arm: mean over seeds with its 95 % interval, and each seed as a faint dot.

    Args:
        rows: one an arm and seed: `arm` (text) and the metrics (numbers).

    Raises:
        InputError: no rows.
    """
    require(rows and metrics, "rows, metrics", "at least one row and one metric, found none", "Evaluate the arms")
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure = new_figure(title, profile, 0.8 + 0.28 * len(arms))
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


@styled
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
    require(1 <= len(names) <= 2, "rows", rule, "Compare two at a time")
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    title = f"{title}: {len(pairs)} pairs, bold: mean" if len(pairs) > 1 else title
    figure = new_figure(title, profile, 2.4, WIDTH * 0.65)
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
