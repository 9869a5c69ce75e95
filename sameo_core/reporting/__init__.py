"""Tables and figures: the only room that draws, and the only one that writes result tables.

Every function takes data. Figures come back as `matplotlib.figure.Figure`, made without pyplot, so nothing is shown,
kept or leaked; every title and every CSV row carries the profile, so that numbers of the drawn world can never be
taken for the paper's. `style` holds the one palette, `statistics` the numbers over seeds.
"""

from sameo_core.reporting.agreement import claims_agree, tables_agree
from sameo_core.reporting.base import PROFILES, Row
from sameo_core.reporting.claims import CLAIMS, claims_shown, claims_table, paper_claims, verdict
from sameo_core.reporting.comparison import (
    Comparison,
    compare_moment,
    comparisons,
    figure_before_after,
    worst_median_best,
)
from sameo_core.reporting.data_figures import figure_contact_sheet, figure_occlusion_histograms, figure_scenes
from sameo_core.reporting.detection_figures import (
    figure_buckets,
    figure_detection_curves,
    figure_noise,
    figure_reliability,
)
from sameo_core.reporting.detections import bucket_rows, detection_curves, score_rows
from sameo_core.reporting.evaluation_figures import figure_arms, figure_gains, figure_occlusion_curve
from sameo_core.reporting.figure_files import figure_png, overlay_mark, save_figure, save_overlay
from sameo_core.reporting.objects import Mask, draw_object
from sameo_core.reporting.photograph_figures import OVERLAY_PIXELS, figure_cut_outs, figure_overlay
from sameo_core.reporting.published import paper_table, read_published
from sameo_core.reporting.readme import (
    README_METRICS,
    README_PICTURE,
    readme_claims,
    readme_photographs,
    readme_results,
    update_readme,
)
from sameo_core.reporting.screen import DASHES, Screen, object_picture, scene_picture
from sameo_core.reporting.statistics import (
    Calibration,
    arm_differences,
    calibration,
    gains,
    interval,
    mean_interval,
    method_differences,
    over_seeds,
)
from sameo_core.reporting.style import PALETTE, STYLE, WIDTH, Picture
from sameo_core.reporting.synthesis_figures import figure_ladder, figure_pool, figure_precision_recall, figure_rates
from sameo_core.reporting.tables import (
    Table,
    per_cent,
    points,
    read_table,
    save_table,
    table_html,
    table_markdown,
    write_table,
)
from sameo_core.reporting.training_figures import figure_training_curves

__all__ = [
    "CLAIMS",
    "DASHES",
    "OVERLAY_PIXELS",
    "PALETTE",
    "PROFILES",
    "README_METRICS",
    "README_PICTURE",
    "STYLE",
    "WIDTH",
    "Calibration",
    "Comparison",
    "Mask",
    "Picture",
    "Row",
    "Screen",
    "Table",
    "arm_differences",
    "bucket_rows",
    "calibration",
    "claims_agree",
    "claims_shown",
    "claims_table",
    "compare_moment",
    "comparisons",
    "detection_curves",
    "draw_object",
    "figure_arms",
    "figure_before_after",
    "figure_buckets",
    "figure_contact_sheet",
    "figure_cut_outs",
    "figure_detection_curves",
    "figure_gains",
    "figure_ladder",
    "figure_noise",
    "figure_occlusion_curve",
    "figure_occlusion_histograms",
    "figure_overlay",
    "figure_png",
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
    "over_seeds",
    "overlay_mark",
    "paper_claims",
    "paper_table",
    "per_cent",
    "points",
    "read_published",
    "read_table",
    "readme_claims",
    "readme_photographs",
    "readme_results",
    "save_figure",
    "save_overlay",
    "save_table",
    "scene_picture",
    "score_rows",
    "table_html",
    "table_markdown",
    "tables_agree",
    "update_readme",
    "verdict",
    "worst_median_best",
    "write_table",
]
