"""Tables and figures: the only package that draws or writes result tables.

Figures are `matplotlib.figure.Figure`, made without pyplot. Every title and CSV row names the profile, so that numbers
of the drawn world are not mistaken for the paper's.
"""

from sameo_core.reporting.charts import (
    figure_arms,
    figure_buckets,
    figure_detection_curves,
    figure_noise,
    figure_occlusion_curve,
    figure_occlusion_histograms,
    figure_precision_recall,
    figure_rates,
    figure_reliability,
    figure_training_curves,
    occlusion_svg,
)
from sameo_core.reporting.claims import claims_shown, paper_claims, paper_table, read_published
from sameo_core.reporting.objects import object_picture, scene_picture
from sameo_core.reporting.pictures import (
    Comparison,
    comparisons,
    figure_before_after,
    figure_contact_sheet,
    figure_cut_outs,
    figure_ladder,
    figure_layers,
    figure_overlay,
    figure_pool,
    figure_scenes,
)
from sameo_core.reporting.statistics import (
    arm_differences,
    gains,
    interval,
    mean_interval,
    method_differences,
    score_rows,
)
from sameo_core.reporting.style import PALETTE, overlay_mark, save_figure, save_overlay
from sameo_core.reporting.tables import Table, read_table, save_table, table_html, write_table

__all__ = [
    "PALETTE",
    "Comparison",
    "Table",
    "arm_differences",
    "claims_shown",
    "comparisons",
    "figure_arms",
    "figure_before_after",
    "figure_buckets",
    "figure_contact_sheet",
    "figure_cut_outs",
    "figure_detection_curves",
    "figure_ladder",
    "figure_layers",
    "figure_noise",
    "figure_occlusion_curve",
    "figure_occlusion_histograms",
    "figure_overlay",
    "figure_pool",
    "figure_precision_recall",
    "figure_rates",
    "figure_reliability",
    "figure_scenes",
    "figure_training_curves",
    "gains",
    "interval",
    "mean_interval",
    "method_differences",
    "object_picture",
    "occlusion_svg",
    "overlay_mark",
    "paper_claims",
    "paper_table",
    "read_published",
    "read_table",
    "save_figure",
    "save_overlay",
    "save_table",
    "scene_picture",
    "score_rows",
    "table_html",
    "write_table",
]
