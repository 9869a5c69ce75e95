"""Compare a run's tables with the committed ones, within tolerances for other CPUs; README's numbers.

`mini` limits CPUs to AVX2 (`reproduction.kernel_environment`); then the two kinds of AMD CPU that were tried train the
same bytes. Intel's and others sum in another order, and training amplifies the difference: a final loss differed by
2 %, AP by 0.1 to 0.3 points. The tolerances leave room for smaller groups of objects.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from scipy.special import stdtrit

from sameo_core.config import RESULTS, RUNS
from sameo_core.datasets.images import read_photograph
from sameo_core.reporting.claims import claim_key, claims_shown, effect_shown
from sameo_core.reporting.style import Row, require, write_whole
from sameo_core.reporting.tables import Table, is_number, read_table, table_html
from sameo_core.runs.atomic import atomic_write

EXACT = ("datasets", "cleaning")  # drawn and counted: no difference is tolerated
LOSS = 0.05  # share of a loss
SHARE = 0.02  # for AP, mean IoU, recall and their differences
ONE_MASK = 0.05  # for the IoU of a single mask
COUNT = 3.0  # times the square root of a number of objects
NUMBERED = ("seed", "pair", "rate", "noise")  # numbers that identify rows, as texts do
FOUND = ("verdict", "weights")  # texts that are results and do not identify rows


def tables_agree(ours: Sequence[Path], committed: Path) -> Table:
    """One row per table: equal, within tolerance or different; how many numbers were compared; the largest deviation.

    A run with fewer seeds is compared with the committed rows of its seeds. Of means over other seeds, only differences
    are compared: one of n values lies within (n - 1) / t half intervals of their mean.

    Args:
        ours: the CSV files of a run.
        committed: the folder of the committed ones.
    """
    rows = []
    for path in ours:
        found = [*_compared(path, committed / path.name)] if (committed / path.name).is_file() else []
        worst, what = max(found, key=lambda one: one[0], default=(math.inf, "not committed"))
        words = "equal" if worst == 0 else "within tolerance" if worst <= 1 else "different"
        rows.append({"table": path.stem, "agrees": words, "numbers": len(found), "farthest": what if worst else ""})
    return table_html(rows, title=f"Beside the committed tables in {committed.parent.name}/{committed.name}")


def claims_agree(ours: Path, committed: Path) -> Table:
    """The claims of a run beside the committed ones: effects in points, verdicts."""
    theirs = {claim_key(row): row for row in read_table(committed)}
    rows = []
    for row in read_table(ours):
        other = theirs.get(claim_key(row), {})
        shown = {"committed": effect_shown(other), "verdict": other.get("verdict")}
        labels = {"claim": row["claim"], "setting": row["setting"], "points of": row["metric"]}
        rows.append(labels | shown | {"this run": effect_shown(row), "its verdict": row["verdict"]})
    return table_html(rows, title="The claims, in points (95 % interval over seeds)")


def _compared(ours: Path, committed: Path) -> Iterator[tuple[float, str]]:
    """Each number's distance from the committed one, in units of its tolerance, and what differs."""
    rows, theirs = read_table(ours), read_table(committed)
    labels = [key for key in rows[0] if key in theirs[0] and key not in FOUND and _label(key, rows + theirs)]
    seeds = {row.get("seed") for row in rows}
    known = {tuple(row[key] for key in labels): row for row in theirs if row.get("seed") in seeds}
    for row in rows:
        name = tuple(row[key] for key in labels)
        where = ", ".join(str(value) for key, value in zip(labels, name, strict=True) if key != "profile")
        other = known.pop(name, None)
        if other is None:
            yield math.inf, f"{where}: not committed"
            continue
        if row.get("seeds") == 0:  # a claim that this run did not test
            continue
        fewer = row.get("seeds") != other.get("seeds")
        keys = ("difference", "gain", "mini_effect") if fewer else [key for key in row if key not in labels]
        for key in keys:
            if key in row and key in other and key not in ("verdict", "seeds"):
                distance = _distance(ours.stem, row[key], other[key], _spread(other) if fewer else 0)
                yield distance, f"{where}: {key} {other[key]} -> {row[key]}"
    yield from ((math.inf, f"{', '.join(map(str, name))}: missing here") for name in known)


def _label(key: str, rows: Sequence[Row]) -> bool:
    return key in NUMBERED or any(isinstance(row[key], str) for row in rows)


def _distance(table: str, ours: Any, theirs: Any, spread: float | int) -> float:
    """0: equal; up to 1: within tolerance."""
    if ours == theirs or (ours != ours and theirs != theirs):  # NaN beside NaN
        return 0.0
    if not is_number(ours) or not is_number(theirs):
        return 1.0 if isinstance(ours, str) and isinstance(theirs, str) else math.inf  # weights: other digests
    if table in EXACT:
        return math.inf
    room = COUNT * math.sqrt(abs(theirs)) if isinstance(theirs, int) else SHARE
    room = {"fine_tuning": LOSS * abs(theirs), "occlusion_curve": ONE_MASK}.get(table, room) + spread
    distance = abs(ours - theirs) / room if room else math.inf
    return distance if distance == distance else math.inf


def _spread(row: Row) -> float:
    """How far one of the values may lie from their mean, from the row's interval of the mean."""
    if row["seeds"] < 2 or not is_number(row["ci_low"]):
        return 0.0
    return (row["seeds"] - 1) / stdtrit(row["seeds"] - 1, 0.975) * (row["ci_high"] - row["ci_low"]) / 2


README_PICTURE = "06_occlusions.png"  # of `photo`: data/results/photo/occlusions.png
README_METRICS = ("mIoU", "hidden mIoU", "hidden recall", "un-occluded mIoU", "AP")
PHOTO_SETS = {
    "photo_pairs": "pairs of val photographs",
    "cocoa_photos": "COCOA, human amodal masks",
}
PHOTO_METRICS = ("mIoU occluded", "hidden recall", "un-occluded mIoU")


def readme_results(folder: Path = RESULTS / "mini") -> str:
    """The results in README, as Markdown, from ``zero_shot_gains.csv`` of the mini profile.

    Raises:
        InputError: no such table, or none of its rows has the data set and metric.
    """
    shown = {("cocoa_cls", metric): {"mini, visible boxes, set never seen": metric} for metric in README_METRICS}
    return _gains_shown(folder, shown, "EfficientSAM")


def readme_photographs(folder: Path = RESULTS / "photo") -> str:
    """The same of the photo profile.

    Raises:
        InputError: as `readme_results`.
    """
    shown = {
        (place, metric): {"photo, visible boxes": title, "metric": metric}
        for place, title in PHOTO_SETS.items()
        for metric in PHOTO_METRICS
    }
    return _gains_shown(folder, shown, "un-tuned")


def _gains_shown(folder: Path, shown: Mapping[tuple[str, str], dict[str, str]], before: str) -> str:
    """The gains from visible boxes; `shown`: (data set, metric) -> the first cells of its row."""
    path, cells = folder / "zero_shot_gains.csv", []
    rows = {(row["data set"], row["metric"]): row for row in read_table(path) if row["prompt"] == "visible boxes"}
    for key, labels in shown.items():
        require(key in rows, path, f"a row of {', '.join(key)} from visible boxes", "Run its notebook again")
        row = rows[key]
        interval = "one seed" if row["seeds"] == 1 else f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
        numbers = {before: float(row["before"]), "SAMEO": float(row["after"])}
        cells.append({**labels, **numbers, "gain (95 % interval over seeds)": f"{row['gain']:+.3f} ({interval})"})
    return str(table_html(cells))


def readme_claims(folder: Path = RESULTS / "mini") -> str:
    """The claims in README, as Markdown, from ``claims.csv`` of the mini profile, with photo's beside them.

    Raises:
        InputError: no such table.
    """
    path = folder / "claims.csv"
    photo = folder.with_name("photo") / path.name
    return str(claims_shown(read_table(path), photo=read_table(photo) if photo.is_file() else []))


def update_readme(path: Path, folder: Path = RESULTS / "mini", figures: Path = RUNS / "photo" / "figures") -> None:
    """Put results and claims between their marks in README, and renew its picture.

    The photographs' results, the claims and the picture stay unchanged if their table or figure does not exist (06
    draws the picture only with the image encoder for photographs).

    Args:
        path: of README.
        folder: of the tables; photo's are in ``photo`` beside it.
        figures: where notebook 06 leaves the picture.

    Raises:
        InputError: no README, or one without these marks; a table is missing; a damaged picture. README is then not
            written.
    """
    photo = folder.with_name("photo")
    require(path.is_file(), path, "README must exist", "Give its path")
    text = _between(path, path.read_text(encoding="utf-8"), "results", readme_results(folder))
    if (folder / "claims.csv").is_file():
        text = _between(path, text, "claims", readme_claims(folder))
    if (photo / "zero_shot_gains.csv").is_file():
        text = _between(path, text, "photographs", readme_photographs(photo))
    if (figures / README_PICTURE).is_file():
        pixels = read_photograph(figures / README_PICTURE)
        with atomic_write(photo / "occlusions.png") as partial:
            PIL.Image.fromarray(pixels).quantize(192, kmeans=2).save(partial, "PNG", optimize=True)
    write_whole(path, text.encode())


def _between(path: Path, text: str, name: str, block: str) -> str:
    """README's text with a block between the marks of this name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    found = begin in text and end in text
    require(found, path, f"README has the marks <!-- {name} --> and <!-- /{name} -->", "Put them back")
    return f"{text.split(begin)[0]}{begin}{block}\n{end}{text.split(end)[1]}"
