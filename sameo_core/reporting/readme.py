"""What README shows of the results: read from the committed tables, put between its marks."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import PIL.Image

from sameo_core.config import RESULTS, RUNS
from sameo_core.reporting.base import require, write_whole
from sameo_core.reporting.claims import claims_shown
from sameo_core.reporting.objects import read_pixels
from sameo_core.reporting.tables import read_table, table_markdown
from sameo_core.runs.atomic import written_whole

README_PICTURE = "06_occlusions.png"  # of `photo`: data/results/photo/occlusions.png
README_DATA_SET = "cocoa_cls"
PHOTO_SETS = {
    "photo_pairs": "pairs of val photographs",
    "cocoa_photos": "COCOA, human amodal masks",
}
PHOTO_METRICS = ("mIoU occluded", "hidden recall", "un-occluded mIoU")
README_METRICS = ("mIoU", "hidden mIoU", "hidden recall", "un-occluded mIoU", "AP")


def readme_results(folder: Path | None = None) -> str:
    """The results that README shows, as Markdown, from ``zero_shot_gains.csv`` of the mini profile.

    `folder` stands in for ``data/results/mini``. Raises InputError where there is no such table, or it lacks a column,
    the prompt or a metric.
    """
    path = (RESULTS / "mini" if folder is None else folder) / "zero_shot_gains.csv"
    rows = _read(path, ("metric", "prompt", "data set"), ("before", "after", "gain", "ci_low", "ci_high"), "05")
    named = {
        row["metric"]: row for row in rows if row["prompt"] == "visible boxes" and row["data set"] == README_DATA_SET
    }
    shown = []
    for metric in README_METRICS:
        require(metric in named, path, f"visible boxes and {metric}, found no such row", "Run notebook 05")
        row = named[metric]
        lacking = [key for key in ("before", "after", "gain", "ci_low", "ci_high") if row[key] is None]
        rule = f"numbers over several seeds, found no {', '.join(lacking)}"
        require(not lacking, path, rule, "Run notebook 05 with more seeds", metric)
        interval = f"{row['gain']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        numbers = {"EfficientSAM": row["before"], "SAMEO": row["after"], "gain (95 % interval over seeds)": interval}
        shown.append({"mini, visible boxes, set never seen": metric} | numbers)
    return table_markdown(shown)


def readme_photographs(folder: Path | None = None) -> str:
    """The results on photographs that README shows, as Markdown, from ``zero_shot_gains.csv`` of the photo profile.

    `folder` stands in for ``data/results/photo``. Raises InputError as `readme_results`.
    """
    path = (RESULTS / "photo" if folder is None else folder) / "zero_shot_gains.csv"
    columns = ("metric", "prompt", "data set"), ("before", "after", "gain", "ci_low", "ci_high", "seeds")
    rows = _read(path, *columns, "A2")
    shown = []
    for place, title in PHOTO_SETS.items():
        for metric in PHOTO_METRICS:
            here = [
                row
                for row in rows
                if (row["data set"], row["prompt"], row["metric"]) == (place, "visible boxes", metric)
            ]
            require(len(here) == 1, path, f"one row of {place}, visible boxes, {metric}", "Run notebook A2")
            numbers: dict[str, Any] = here[0]
            interval = " (one seed)"
            if numbers["seeds"] > 1:
                interval = f" ({numbers['ci_low']:+.3f} to {numbers['ci_high']:+.3f})"
            cells = {"photo, visible boxes": title, "metric": metric, "un-tuned": numbers["before"]}
            cells |= {"SAMEO": numbers["after"], "gain (95 % interval over seeds)": f"{numbers['gain']:+.3f}{interval}"}
            shown.append(cells)
    return table_markdown(shown)


def readme_claims(folder: Path | None = None) -> str:
    """The claims that README shows, as Markdown, from ``claims.csv`` of the mini profile.

    `folder` stands in for ``data/results/mini``. Raises InputError where there is no such table, or it lacks a column.
    """
    path = (RESULTS / "mini" if folder is None else folder) / "claims.csv"
    numbers = ("paper_effect", "mini_effect", "ci_low", "ci_high")
    columns = ("claim", "seeds", "verdict"), numbers
    photo = path.parent.with_name("photo") / path.name
    on_photographs = _read(photo, *columns, "A2") if photo.is_file() else []
    return str(claims_shown(_read(path, *columns, "05"), photo=on_photographs))


def _read(path: Path, texts: Sequence[str], numbers: Sequence[str], notebook: str) -> list[dict[str, object]]:
    """The rows of a table with these columns; InputError where it is not there, or not what the notebook writes."""
    remedy = f"Run notebook {notebook}"
    require(path.is_file(), path, "README needs this table", remedy)
    rows = read_table(path)
    require(rows, path, "at least one row, found none", remedy)
    missing = [key for key in (*texts, *numbers) if key not in rows[0]]
    require(not missing, path, f"README needs the columns {', '.join(missing)}", remedy)
    for i, row in enumerate(rows):
        odd = [row[key] for key in numbers if row[key] is not None and not isinstance(row[key], Real)]
        require(not odd, path, f"a number, found {odd[:1]}", remedy, f"row {i}")
    return rows


def update_readme(path: Path, folder: Path | None = None, figures: Path | None = None) -> None:
    """Put `readme_results` and `readme_claims` between their marks in README; renew its picture.

    The claims wait until there are any: without ``claims.csv`` README needs no marks for them. The picture stays as it
    is where notebook 06 had no image encoder for photographs.

    Args:
        path: of README.
        folder: instead of ``data/results/mini``, where the tables are.
        figures: instead of ``data/runs/photo/figures``, where notebook 06 leaves the picture.

    Raises:
        InputError: no README, or one without these marks; a table is missing, a table or the picture damaged.
            README is not written then.
    """
    folder, figures = folder or RESULTS / "mini", figures or RUNS / "photo" / "figures"
    require(path.is_file(), path, "README must exist", "Give its path")
    text = _between(path, path.read_text(encoding="utf-8"), "results", readme_results(folder))
    if (folder / "claims.csv").is_file():
        text = _between(path, text, "claims", readme_claims(folder))
    if (folder.parent / "photo" / "zero_shot_gains.csv").is_file():
        text = _between(path, text, "photographs", readme_photographs(folder.parent / "photo"))
    if (figures / README_PICTURE).is_file():
        update_readme_picture(folder.parent / "photo", figures)
    write_whole(path, text.encode())


def update_readme_picture(folder: Path | None = None, figures: Path | None = None) -> None:
    """README's picture, ``occlusions.png``, from the figure that notebook 06 has saved; in 192 colours.

    Args:
        folder: instead of ``data/results/photo``.
        figures: instead of ``data/runs/photo/figures``.

    Raises:
        InputError: notebook 06 has not saved it; it is damaged.
    """
    picture = (figures or RUNS / "photo" / "figures") / README_PICTURE
    require(picture.is_file(), picture, "README needs this figure", "Run notebook 06, which saves it")
    with written_whole((folder or RESULTS / "photo") / "occlusions.png") as partial:
        PIL.Image.fromarray(read_pixels(picture)).quantize(192, kmeans=2).save(partial, "PNG", optimize=True)


def _between(path: Path, text: str, name: str, block: str) -> str:
    """README's text with a block between the marks of this name; all else stays."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    found = begin in text and end in text
    require(found, path, f"README has the marks <!-- {name} --> and <!-- /{name} -->", "Put them back")
    return f"{text.split(begin)[0]}{begin}{block}\n{end}{text.split(end)[1]}"
