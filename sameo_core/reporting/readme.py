"""What README shows of the results: read from the committed tables, put between its marks."""

from pathlib import Path

import PIL.Image

from sameo_core.config import RESULTS, RUNS
from sameo_core.reporting.base import require, write_whole
from sameo_core.reporting.claims import claims_shown
from sameo_core.reporting.tables import read_table, table_markdown

README_PICTURE = "05_before_after.png"
README_DATA_SET = "cocoa_cls"
README_METRICS = ("mIoU", "hidden mIoU", "hidden recall", "un-occluded mIoU", "AP")


def readme_results(folder: Path | None = None) -> str:
    """The results that README shows, as Markdown, from ``zero_shot_gains.csv`` of the mini profile.

    `folder` stands in for ``data/results/mini``. Raises InputError where the table lacks the prompt or a metric.
    """
    rows = read_table((RESULTS / "mini" if folder is None else folder) / "zero_shot_gains.csv")
    named = {
        row["metric"]: row for row in rows if row["prompt"] == "visible boxes" and row["data set"] == README_DATA_SET
    }
    shown = []
    for metric in README_METRICS:
        require(metric in named, "zero_shot_gains.csv", f"visible boxes and {metric}, found no such row", "Run 05")
        row = named[metric]
        interval = f"{row['gain']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        numbers = {"EfficientSAM": row["before"], "SAMEO": row["after"], "gain (95 % interval over seeds)": interval}
        shown.append({"mini, visible boxes, set never seen": metric} | numbers)
    return table_markdown(shown)


def readme_claims(folder: Path | None = None) -> str:
    """The claims that README shows, as Markdown, from ``claims.csv`` of the mini profile.

    `folder` stands in for ``data/results/mini``. Raises InputError where there is no such table.
    """
    return str(claims_shown(read_table((RESULTS / "mini" if folder is None else folder) / "claims.csv")))


def update_readme(path: Path, folder: Path | None = None, figures: Path | None = None) -> None:
    """Put `readme_results` and `readme_claims` between their marks in README, and the picture beside the tables.

    The claims wait until there are any: without ``claims.csv`` README needs no marks for them.

    Args:
        path: of README.
        folder: instead of ``data/results/mini``, where the tables are and the picture goes, in 256 colours.
        figures: instead of ``data/runs/mini/figures``, where `save_figure` left the picture.

    Raises:
        InputError: README without these marks.
    """
    folder, figures = folder or RESULTS / "mini", figures or RUNS / "mini" / "figures"
    text = _between(path, path.read_text(), "results", readme_results(folder))
    if (folder / "claims.csv").is_file():
        text = _between(path, text, "claims", readme_claims(folder))
    with PIL.Image.open(figures / README_PICTURE) as picture:
        picture.convert("RGB").quantize(256).save(folder / README_PICTURE, optimize=True)
    write_whole(path, text.encode())


def _between(path: Path, text: str, name: str, block: str) -> str:
    """README's text with a block between the marks of this name; all else stays."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    found = begin in text and end in text
    require(found, path, f"README has the marks <!-- {name} --> and <!-- /{name} -->", "Put them back")
    return f"{text.split(begin)[0]}{begin}{block}\n{end}{text.split(end)[1]}"
