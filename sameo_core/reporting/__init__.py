"""Tables and figures: the only room that draws, and the only one that writes result tables.

Every function takes data. Figures come back as `matplotlib.figure.Figure`, made without pyplot, so nothing is shown,
kept or leaked; every title and every CSV row carries the profile, so that numbers of the drawn world can never be
taken for the paper's. `style` holds the one palette, `statistics` the numbers over seeds.
"""

from sameo_core.reporting.base import PROFILES, Row
from sameo_core.reporting.comparison import Comparison, comparisons, figure_before_after
from sameo_core.reporting.data_figures import figure_contact_sheet, figure_occlusion_histograms, figure_scenes
from sameo_core.reporting.evaluation_figures import figure_arms, figure_gains, figure_occlusion_curve
from sameo_core.reporting.figure_files import figure_png, overlay_mark, save_figure, save_overlay
from sameo_core.reporting.objects import Mask, draw_object
from sameo_core.reporting.photograph_figures import OVERLAY_PIXELS, figure_cut_outs, figure_overlay
from sameo_core.reporting.readme import README_METRICS, README_PICTURE, readme_results, update_readme
from sameo_core.reporting.screen import DASHES, Screen, object_picture, scene_picture
from sameo_core.reporting.statistics import arm_differences, gains, mean_interval
from sameo_core.reporting.style import PALETTE, STYLE, WIDTH, Picture
from sameo_core.reporting.synthesis_figures import figure_ladder, figure_pool, figure_precision_recall, figure_rates
from sameo_core.reporting.tables import Table, read_table, table_html, table_markdown, write_table
from sameo_core.reporting.training_figures import figure_training_curves

__all__ = [
    "DASHES",
    "OVERLAY_PIXELS",
    "PALETTE",
    "PROFILES",
    "README_METRICS",
    "README_PICTURE",
    "STYLE",
    "WIDTH",
    "Comparison",
    "Mask",
    "Picture",
    "Row",
    "Screen",
    "Table",
    "arm_differences",
    "comparisons",
    "draw_object",
    "figure_arms",
    "figure_before_after",
    "figure_contact_sheet",
    "figure_cut_outs",
    "figure_gains",
    "figure_ladder",
    "figure_occlusion_curve",
    "figure_occlusion_histograms",
    "figure_overlay",
    "figure_png",
    "figure_pool",
    "figure_precision_recall",
    "figure_rates",
    "figure_scenes",
    "figure_training_curves",
    "gains",
    "mean_interval",
    "object_picture",
    "overlay_mark",
    "read_table",
    "readme_results",
    "save_figure",
    "save_overlay",
    "scene_picture",
    "table_html",
    "table_markdown",
    "update_readme",
    "write_table",
]
