"""Figures of training: what the log of each run says."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from sameo_core.reporting.base import Row, require
from sameo_core.reporting.style import PALETTE, panels, styled


@styled
def figure_training_curves(
    logs: Mapping[str, Sequence[Row]], profile: str, columns: Sequence[str], title: str = "Training"
) -> Figure:
    """A panel a column: a thin line a run (seed), and bold the mean over the steps that every run has logged.

    Args:
        logs: name of the run -> rows of its log: `step`, and numbers, which a row may lack (validation is rare).

    Raises:
        InputError: no runs, or a run that never logged one of the columns.
    """
    require(logs and columns, "logs, columns", "at least one run and one column, found none", "Train first")
    title = f"{title}, bold: mean of {len(logs)} runs" if len(logs) > 1 else title
    figure, grid = panels(title, profile, len(columns), 3, 1.75)
    for axes, column in zip(grid, columns, strict=True):
        curves = {}
        for name, log in logs.items():
            curve = {row["step"]: float(row[column]) for row in log if "step" in row and row.get(column) is not None}
            require(curve, "logs", f"rows with step and {column}, found none", "Choose columns of the log", name)
            curves[name] = curve
            axes.plot(*zip(*sorted(curve.items()), strict=True), color=PALETTE["after"], lw=0.6, alpha=0.5, label=name)
        if len(curves) > 1:
            steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
            means = [np.mean([curve[step] for curve in curves.values()]) for step in steps]
            axes.plot(steps, means, color=PALETTE["after"], lw=1.8, label="mean")
        axes.set(title=column, xlabel="step")
        axes.grid(axis="y")
    return figure
