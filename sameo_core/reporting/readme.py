"""What README shows of the results: read from the committed tables, put between its marks."""

from pathlib import Path

import PIL.Image

from sameo_core.config import RESULTS, RUNS
from sameo_core.reporting.base import require, write_whole
from sameo_core.reporting.tables import read_table, table_markdown

README_PICTURE = "05_before_after.png"
README_METRICS = ("mIoU", "hidden mIoU", "hidden recall", "un-occluded mIoU", "AP")


def readme_results(folder: Path | None = None) -> str:
    """The results that README shows, as Markdown, from ``zero_shot_gains.csv`` of the mini profile.

    `folder` stands in for ``data/results/mini``. Raises InputError where the table lacks the prompt or a metric.
    """
    rows = read_table((RESULTS / "mini" if folder is None else folder) / "zero_shot_gains.csv")
    named = {row["metric"]: row for row in rows if row["prompt"] == "visible boxes"}
    shown = []
    for metric in README_METRICS:
        require(metric in named, "zero_shot_gains.csv", f"visible boxes and {metric}, found no such row", "Run 05")
        row = named[metric]
        interval = f"{row['gain']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        numbers = {"EfficientSAM": row["before"], "SAMEO": row["after"], "gain (95 % interval over seeds)": interval}
        shown.append({"mini, visible boxes, set never seen": metric} | numbers)
    return table_markdown(shown)


def update_readme(path: Path, folder: Path | None = None, figures: Path | None = None) -> None:
    """Put `readme_results` between the two ``results`` marks of README, and its picture, in 256 colours, beside them.

    Args:
        path: of README.
        folder: instead of ``data/results/mini``, where the tables are and the picture goes.
        figures: instead of ``data/runs/mini/figures``, where `save_figure` left the picture.

    Raises:
        InputError: README without these marks.
    """
    folder, figures = folder or RESULTS / "mini", figures or RUNS / "mini" / "figures"
    with PIL.Image.open(figures / README_PICTURE) as picture:
        picture.convert("RGB").quantize(256).save(folder / README_PICTURE, optimize=True)
    text, begin, end = path.read_text(), "<!-- results -->\n", "<!-- /results -->"
    found = begin in text and end in text
    require(found, path, "README has the marks <!-- results --> and <!-- /results -->", "Put them back")
    before, after = text.split(begin)[0], text.split(end)[1]
    write_whole(path, f"{before}{begin}{readme_results(folder)}\n{end}{after}".encode())
