"""A number that is changed in a committed table, or in a committed notebook, is found.

Three kinds of checks, none with a number of its own. *Rebuilt*: what notebooks work out of a table of rows (gains,
differences, claims, the Markdown and LaTeX tables, what they show) is worked out again by their own cells, from the
committed rows. *Cross-checks*: what stands in two tables is the same, and numbers of a row fit each other. *Computed
again*: what drawing and the shipped weights give within seconds. A number is then changed in every column of every
table, and one of them must notice; `UNSEEN` names the columns that nothing holds.
nbval itself compares the tables that are shown to the last digit.

Tables hold 4 decimals. What is worked out of rounded rows differs from what was worked out of exact ones: by `slack`.
"""

import ast
import copy
import csv
import functools
import html
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace

import jaxtyping
import nbformat
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog

from sameo_core.apps.playground import occlusion_curve, stages
from sameo_core.config import DATA, DATA_SEED, NOTEBOOKS, QUESTIONS, RESULTS, ROOT, WEIGHTS, ablation, load_profile
from sameo_core.datasets import clean, cleaning_table, load_dataset
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_predictions
from sameo_core.front_ends import OWN_AMODAL, OWN_VISIBLE, ground_truth_boxes, predict_dataset
from sameo_core.front_ends.amodal_rcnn import NAME
from sameo_core.miniature import RELATIVE_SIZE, draw_dataset
from sameo_core.miniature.pretraining import visible_ious
from sameo_core.model import Sameo, build_efficient_sam
from sameo_core.reporting import read_table, table_html, tables, write_table

MINI = RESULTS / "mini"
RUN = load_profile("mini", seeds=(0, 1, 2))  # as the committed tables were made
HALF = 0.00005  # half of the last decimal of a table
TRAINED = 0.003  # of a mean over hundreds of masks: what another CPU, thread count or half precision may change
CURVE_RATE = 0.5  # of occlusion_curve.csv, whose model answers are computed again
ONE_MASK = 0.05  # of one mask's IoU or predicted IoU, for the same reasons

# --------------------------------------------------------------------------------------------------- reading both sides


@functools.cache
def code_of(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


class Committed:
    """Tables of a folder and notebooks of another, read when asked for."""

    def __init__(self, folder: Path = MINI, notebooks: Path = NOTEBOOKS):
        self.folder, self.notebooks = folder, notebooks

    def rows(self, name: str) -> list[dict]:
        """The rows of a table; an empty seed or training set is "", as in the notebooks."""
        rows = read_table(self.folder / f"{name}.csv")
        return [{k: "" if v is None and k in ("seed", "trained on") else v for k, v in row.items()} for row in rows]

    def cell(self, number: str, text: str) -> nbformat.NotebookNode:
        """The one code cell of a notebook that holds a text."""
        (path,) = self.notebooks.glob(f"{number}_*.ipynb")
        found = [cell for cell in code_of(path) if text in cell.source]
        assert len(found) == 1, f"{path.name}: {len(found)} cells with {text}"
        return copy.deepcopy(found[0])

    def shown(self, number: str, text: str) -> str:
        """The table that the cell shows, as HTML."""
        outputs = [output.data for output in self.cell(number, text).outputs if "data" in output]
        assert len(outputs) == 1 and "text/html" in outputs[0], f"notebook {number}, {text}: one table is shown"
        return outputs[0]["text/html"]


def cells_of(page: str) -> list[list[str]]:
    """The texts of a table's cells: its title, its rows, and the note below."""
    body = [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page)
    ]
    return [re.findall(r"<caption>(.*?)</caption>", page), *body, re.findall(r"<p>(.*?)</p>", page)]


FRACTION = re.compile(r"[-+]?\d+\.\d+")


def same_text(a: str, b: str) -> bool:
    """Equal but for fractions with at most 3 decimals: one in the last place. They were rounded once or twice."""
    if a == b:
        return True
    pairs = list(zip(FRACTION.findall(a), FRACTION.findall(b), strict=False))
    if FRACTION.split(a) != FRACTION.split(b):
        return False
    decimals = [len(x.partition(".")[2]) for x, _ in pairs]
    return all(
        x == y or (d < 4 and len(y.partition(".")[2]) == d and abs(float(x) - float(y)) < 1.01 * 10**-d)
        for (x, y), d in zip(pairs, decimals, strict=True)
    )


def differing_cells(what: str, shown: str, table: object) -> Iterator[str]:
    a, b = cells_of(shown), cells_of(table._repr_html_())
    if [len(row) for row in a] != [len(row) for row in b]:
        yield f"{what}: another number of rows or columns"
        return
    for row, (ours, theirs) in enumerate(zip(a, b, strict=True)):
        yield from (
            f"{what}, row {row}: shown {x!r}, from the table {y!r}"
            for x, y in zip(ours, theirs, strict=True)
            if not same_text(x, y)
        )


def slack(column: str, seeds: int) -> float:
    """How far a number worked out of `seeds` rounded values may be from the one of exact values, rounded itself."""
    if column in ("before", "after", "baseline", "mean", "other"):
        return 2 * HALF  # a mean of rounded values, and its own rounding
    if column in ("gain", "difference"):
        return 3 * HALF
    if column in ("ci_low", "ci_high"):  # half the interval is t s / sqrt(n); s moves by at most 2 HALF sqrt(n / (n-1))
        return 3 * HALF + 2 * HALF * stats.t.ppf(0.975, seeds - 1) / math.sqrt(seeds - 1) if seeds > 1 else 0
    return 0


def near(a: object, b: object, by: float) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= by + 1e-9
    return a == b


def differing_rows(what: str, ours: list[dict], theirs: list[dict], by: float | None = None) -> Iterator[str]:
    """Differences of two tables; by: of any fraction, else `slack`."""
    if [list(row) for row in ours] != [list(row) for row in theirs]:
        yield f"{what}: other rows or columns"
        return
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for key in a:
            allowed = slack(key, b.get("seeds") or 0) if by is None else by if isinstance(b[key], float) else 0
            if not near(a[key], b[key], allowed):
                yield f"{what}, row {i}, {key}: {a[key]} is not {b[key]}"


# -------------------------------------------------------------------------------------- rebuilt by the notebooks' cells


def run_cell(source: str, names: dict) -> object:
    """Execute a cell among names; the value of its last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


REBUILT = (  # the cells, in the order of their notebooks: later ones use what earlier ones import
    ("03", 'write_table("supervised"'),
    ("03", 'write_table("supervised_differences"'),
    ("04", 'write_table("ablation_differences"'),
    ("05", 'write_table("zero_shot"'),
    ("05", 'save_table(table, "zero_shot_detector"'),
    ("05", 'write_table("zero_shot_differences"'),
    ("05", 'write_table("claims"'),
)
RESCORING = ("04", 'write_table("rescoring"')


def committed_rows(of: Committed, results: Path, seeds: Collection = RUN.training.seeds) -> dict[str, dict]:
    """A notebook's number -> the names that its cells among `REBUILT` ask for: the committed rows of some seeds."""

    def rows(name: str) -> list[dict]:
        return [row for row in of.rows(name) if row["seed"] in ("", "-", *seeds)]

    run = SimpleNamespace(results=results, evaluation=RUN.evaluation, data=RUN.data)
    common = {"profile": "mini", "run": run, "detector": RUN.evaluation.detector, "NAME": NAME}
    common |= {
        "OWN_VISIBLE": OWN_VISIBLE,
        "OWN_AMODAL": OWN_AMODAL,
        "RESULTS": RESULTS,
        "read_table": read_table,
        "table_html": table_html,
        "write_table": write_table,
    }
    supervised, arms = rows("supervised"), rows("ablations")
    places = dict.fromkeys(row["data set"] for row in supervised)
    differences = of.rows("ablation_differences")
    return {
        "03": common | {"rows": supervised, "tests": places},
        "04": common
        | {"rows": arms, "arms": {question: ablation(question, RUN) for question in QUESTIONS}}
        | {"metrics": list(dict.fromkeys(row["metric"] for row in differences))},
        "05": common | {"rows": rows("zero_shot"), "scores": rows("zero_shot_detector")},
    }


def rebuilt(of: Committed, out: Path) -> Iterator[str]:
    """The cells that make tables of rows, given the committed rows; they write into `out`."""
    names = committed_rows(of, of.folder)
    for number, text in REBUILT:
        table = run_cell(of.cell(number, text).source, names[number])
        yield from differing_cells(f"notebook {number}, {text}", of.shown(number, text), table)
    for path in sorted((out / "mini" / "results").iterdir()):
        committed = of.folder / path.name
        if path.suffix == ".csv" and path.stem != "claims":
            yield from differing_rows(path.name, read_table(committed), read_table(path))
        elif path.suffix == ".csv":  # worked out of tables, not of what they were rounded from
            yield from differing_rows(path.name, read_table(committed), read_table(path), 0)
        else:
            a, b = committed.read_text().splitlines(), path.read_text().splitlines()
            if len(a) != len(b) or not all(map(same_text, a, b)):
                yield f"{path.name} does not follow from its table"


SHOWN = {  # table -> the cell that shows it whole, and with how many decimals
    "datasets": ("01", 'write_table("datasets"', 3),
    "cleaning": ("01", 'write_table("cleaning"', 3),
    "complete_objects": ("02", 'write_table("complete_objects"', 3),
    "completeness": ("02", 'write_table("completeness"', 3),
    "synthesis": ("02", 'write_table("synthesis"', 3),
    "fine_tuning": ("03", 'write_table("fine_tuning"', 4),
    "nano_weights": ("A1", 'write_table("nano_weights"', 3),
}


def added(name: str) -> tuple[str, ...]:
    """The columns that `write_table` puts before those of the rows."""
    return ("profile",) if name == "fine_tuning" else ("profile", "seed")


def shown_whole(of: Committed) -> Iterator[str]:
    """Tables that a notebook shows as they are."""
    for name, (number, text, decimals) in SHOWN.items():
        shown = of.shown(number, text)
        (title,) = cells_of(shown)[0]
        rows = [{key: value for key, value in row.items() if key not in added(name)} for row in of.rows(name)]
        yield from differing_cells(
            f"{name}.csv", shown, table_html(rows, title=html.unescape(title), decimals=decimals)
        )


def seeds(of: Committed) -> Iterator[str]:
    """Every row says its seed: that of the data, or one of the fine-tunings; empty for what was not fine-tuned."""
    for path in sorted(of.folder.glob("*.csv")):
        for i, row in enumerate(of.rows(path.stem)):
            of_data = path.stem == "occlusion_curve" or path.stem in SHOWN and path.stem != "fine_tuning"
            known = (DATA_SEED,) if of_data else (*RUN.training.seeds, "", "-")
            if "seeds" not in row and row["seed"] not in known:
                yield f"{path.name}, row {i}: a seed {row['seed']} that no run has"


def rescoring_shown(of: Committed) -> Iterator[str]:
    """Notebook 04 shows means in per cent, the table holds them as shares."""
    page = cells_of(of.shown(*RESCORING))
    lines = {row[0]: row[1:] for row in page if row and row[0] in ("without IoU re-scoring", "with IoU re-scoring")}
    rows = of.rows("rescoring")
    for column, line in (("baseline", "without IoU re-scoring"), ("mean", "with IoU re-scoring")):
        ours = lines[line][-len(rows) :]
        for row, text in zip(rows, ours, strict=True):
            if abs(float(text.split(" ")[0]) - 100 * row[column]) > 0.05 + 100 * HALF + 1e-9:
                yield f"rescoring.csv, {row['metric']}, {column}: {row[column]} is shown as {text}"


# --------------------------------------------------------------------------------------------------------- cross-checks


def fits_its_bytes(of: Committed) -> Iterator[str]:
    """A table is as `write_table` writes it: no decimal more or less, one profile."""
    for path in sorted(of.folder.glob("*.csv")):
        again = write_table(path.stem, read_table(path), "mini")  # into RUNS, which the caller has moved
        if again.read_bytes() != path.read_bytes():
            yield f"{path.name} is not as write_table writes it"
        again.unlink()


def the_same_in_two_tables(of: Committed) -> Iterator[str]:
    """What was evaluated once and stands in several tables."""
    zero_shot, noise = of.rows("zero_shot"), of.rows("box_noise")
    supervised, detector = of.rows("supervised"), of.rows("zero_shot_detector")
    first = RUN.data.held_out[0]

    def compare(what, ours, theirs):
        common = [key for key in ours if key in theirs and key not in ("seed", "profile")]
        yield from (f"{what}, {k}: {ours[k]} is not {theirs[k]}" for k in common if not near(ours[k], theirs[k], 0))

    by_prompt = {(r["data set"], r["prompt"], r["model"], str(r["seed"]) or "-"): r for r in zero_shot}
    jitter = RUN.evaluation.box_jitter
    prompts = {0.0: "visible boxes", jitter: f"visible boxes, {jitter:.0%} jitter"}
    for row in noise:
        if row["noise"] in prompts:
            other = by_prompt[first, prompts[row["noise"]], row["model"], str(row["seed"])]
            yield from compare(f"box_noise.csv, {row['model']}, {row['seed']}, zero_shot.csv", row, other)
    for row in supervised:
        key = row["data set"], row["front-end"], row["method"], "-"
        if key in by_prompt and not row["seed"]:
            yield from compare(f"supervised.csv, {key}, zero_shot.csv", row, by_prompt[key])
        for other in detector:
            labels = ("data set", "front-end", "method")
            if row["seed"] == other["seed"] == "" and all(row[k] == other[k] for k in labels):
                yield from compare(f"supervised.csv, {key}, zero_shot_detector.csv", row, other)
    one_training = ("prompt_random", "dual_on", "sampling_log", f"mix_{len(RUN.data.train)}")
    arms = {
        (r["arm"], r["seed"]): {k: v for k, v in r.items() if k not in ("arm", "question")}
        for r in of.rows("ablations")
    }
    for arm, seed in arms:
        if arm in one_training:
            yield from compare(f"ablations.csv, {arm}, {seed}", arms[arm, seed], arms[one_training[0], seed])
    ours = [
        r for r in detector if (r["data set"], r["front-end"], r["method"]) == (first, RUN.evaluation.detector, "SAMEO")
    ]
    for row in of.rows("rescoring"):
        mean = float(np.mean([r[row["metric"]] for r in ours]))
        if not near(row["mean"], mean, slack("mean", row["seeds"])):
            yield f"rescoring.csv, {row['metric']}: {row['mean']}, of zero_shot_detector.csv {mean:.4f}"


def numbers_of_a_row(of: Committed) -> Iterator[str]:
    """What must hold within a row, whatever the numbers."""
    for path in sorted(of.folder.glob("*.csv")):
        for i, row in enumerate(of.rows(path.stem)):
            where = f"{path.name}, row {i}"
            shares = [
                k for k in row if re.match(r"AP|AR1|mIoU|(visible|hidden|mean hidden|un-occluded) (mIoU|recall)", k)
            ]
            for key in shares:
                if not (math.isnan(row[key]) or 0 <= row[key] <= 1):
                    yield f"{where}: {key} is no share: {row[key]}"
            for low, high in (("AP", "AP50"), ("AP75", "AP50"), ("AR1", "AR10"), ("AR10", "AR100"), ("AP", "AR100")):
                if low in row and high in row and row[low] > row[high] + 2 * HALF:
                    yield f"{where}: {low} {row[low]} exceeds {high} {row[high]}"
            for change, new, old in (
                ("gain", "after", "before"),
                ("difference", "mean", "other"),
                ("difference", "mean", "baseline"),
            ):
                if {change, new, old} <= row.keys() and isinstance(row[old], float):
                    if not near(row[change], row[new] - row[old], 3 * HALF):
                        yield f"{where}: {change} is not {new} minus {old}"
                    if not near(row["ci_low"] + row["ci_high"], 2 * row[change], 4 * HALF):
                        yield f"{where}: the {change} is not in the middle of its interval"
            if "dice" in row and not near(row["total"], row["dice"] + row["focal"] + 0.05 * row["iou"], 4 * HALF):
                yield f"{where}: the losses do not add up"
            if "dice" in row and row["step"] != RUN.training.iterations:
                yield f"{where}: the last step is not the recipe's"


def means_of_buckets(of: Committed) -> Iterator[str]:
    """mIoU is the mean of the buckets' mIoU, weighted with their objects: one set of weights fits all rows of a set."""
    found: dict[str, list[tuple[str, dict]]] = {}
    for name in ("zero_shot", "box_noise", "ablations"):
        for i, row in enumerate(of.rows(name)):
            found.setdefault(row.get("data set", RUN.data.held_out[0]), []).append((f"{name}.csv, row {i}", row))
    for rows in found.values():
        buckets = [k for k in rows[0][1] if re.fullmatch(r"mIoU \d.*", k) and not math.isnan(rows[0][1][k])]
        values = np.array([[row[bucket] for bucket in buckets] for _, row in rows])
        means = np.array([row["mIoU"] for _, row in rows])
        weights = fitting_weights(values, means)
        for (where, row), gap in zip(rows, np.abs(values @ weights - means), strict=True):
            if math.isnan(gap) or gap > 4 * HALF:
                yield f"{where}: mIoU {row['mIoU']} is no mean of its buckets"


def fitting_weights(values: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The weights with the smallest sum of distances, by linear programming: one bad row hardly moves them."""
    rows, buckets = values.shape
    cost = np.r_[np.zeros(buckets), np.ones(rows)]
    above = np.block([[values, -np.eye(rows)], [-values, -np.eye(rows)]])
    total = np.r_[np.ones(buckets), np.zeros(rows)][None]
    solved = linprog(cost, above, np.r_[means, -means], total, [1.0], bounds=[(0, 1)] * buckets + [(0, None)] * rows)
    return solved.x[:buckets]


LABELS = {  # what tells the rows of a table apart, besides the seed
    "ablations": ("question", "data set", "arm"),
    "box_noise": ("model", "noise"),
    "fine_tuning": (),
    "supervised": ("data set", "front-end", "method", "trained on"),
    "zero_shot": ("data set", "prompt", "model"),
    "zero_shot_detector": ("data set", "front-end", "method"),
}


def nothing_is_missing(of: Committed) -> Iterator[str]:
    """Every seed of the profile once, or one row without; every noise with every model."""
    seeds = sorted(RUN.training.seeds)
    for name, labels in LABELS.items():
        groups: dict[tuple, list] = {}
        for row in of.rows(name):
            groups.setdefault(tuple(row[label] for label in labels), []).append(row["seed"])
        for group, found in groups.items():
            if found not in ([""], ["-"]) and sorted(found, key=str) != seeds:
                yield f"{name}.csv, {group}: the seeds {found}, the profile has {seeds}"
    for name, column in (("box_noise", "noise"), ("occlusion_curve", "pair"), ("occlusion_curve", "rate")):
        kinds: dict[object, list] = {}
        for row in of.rows(name):
            kinds.setdefault(row[column], []).append(row["model"])
        shares = {model: {kind.count(model) / len(kind) for kind in kinds.values()} for model in kinds[row[column]]}
        if any(len(share) > 1 for share in shares.values()):
            yield f"{name}.csv: not every {column} has as many rows of each model"
    for path in sorted(of.folder.glob("*.csv")):
        for i, row in enumerate(of.rows(path.stem)):
            if row.get("seeds") not in (None, len(seeds)) and path.stem != "claims":
                yield f"{path.name}, row {i}: {row['seeds']} seeds, the profile has {len(seeds)}"


def counts(of: Committed) -> Iterator[str]:
    """Numbers of objects that stand in several tables."""
    data = {row["name"]: row for row in of.rows("datasets")}
    for row in of.rows("cleaning"):
        removed = sum(v or 0 for k, v in row.items() if k not in ("profile", "data set", "in", "out"))
        if row["in"] - removed != row["out"]:
            yield f"cleaning.csv, {row['data set']}: in - removed is not out"
        if row["in"] != data[row["data set"]]["instances"]:
            yield f"cleaning.csv, {row['data set']}: not the instances of datasets.csv"
    for name, row in data.items():
        train = row["split"] == "train"
        images = RUN.data.train_images * RELATIVE_SIZE.get(name, 1) if train else RUN.data.val_images
        if row["images"] != round(images):
            yield f"datasets.csv, {name}: {row['images']} images, the profile draws {images}"
    steps = {row["step"]: row["objects"] for row in of.rows("complete_objects")}
    first, *excluded, last = steps.values()
    if first - sum(excluded) != last:
        yield "complete_objects.csv does not add up"
    if first != sum(data[name]["instances"] for name in RUN.data.visible_only):
        yield "complete_objects.csv: candidates are not the objects of the visible sets"
    for row in of.rows("completeness"):
        if row["threshold"] < RUN.synthesis.complete.min_agreement or row["kept"] > last:
            yield f"completeness.csv, {row['complete means']}: threshold or objects kept"
    facts = {row["what"]: row["value"] for row in of.rows("synthesis")}
    if facts["pairs"] != RUN.synthesis.synthetic_images // 2:
        yield "synthesis.csv: pairs are not half the images"
    known = {
        place for name in ("zero_shot", "supervised", "ablations") for place in (r["data set"] for r in of.rows(name))
    }
    if not known <= data.keys():
        yield f"data sets that datasets.csv does not have: {known - data.keys()}"


# ------------------------------------------------------------------------------------------------------- computed again


@pytest.fixture(scope="module")
def unhindered():
    """Without jaxtyping, which would look at every mask of a thousand."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory, unhindered):
    """The first held-out set, as the notebooks draw it."""
    (name, *_), root = RUN.data.held_out, tmp_path_factory.mktemp("held_out")
    draw_dataset(name, root, "val", RUN.data.val_images, jobs=1)
    return load_dataset(name, root, "val")


@pytest.fixture(scope="module")
def shipped():
    weights = {"EfficientSAM": WEIGHTS / RUN.training.weights, "SAMEO": WEIGHTS / "sameo_nano.safetensors"}
    return {name: Sameo.load(path, RUN.training.variant) for name, path in weights.items()}


@pytest.fixture(scope="module")
def drawn(held_out, tmp_path_factory):
    """Rows of datasets.csv and cleaning.csv for two sets; drawing has no room for tolerance."""
    root, other = tmp_path_factory.mktemp("other"), "mp3d_amodal"  # quick to draw, and three filters apply to it
    draw_dataset(other, root, "train", round(RUN.data.train_images * RELATIVE_SIZE[other]), jobs=1)
    sets = [held_out, load_dataset(other, root, "train")]
    summaries = [dataset.summary() for dataset in sets]
    for row in summaries:
        row["skipped"] = sum(row["skipped"].values())
    rows = {"datasets": summaries, "cleaning": cleaning_table([clean(dataset, RUN.data)[1] for dataset in sets])}

    def check(of: Committed) -> Iterator[str]:
        for name, key in (("datasets", "name"), ("cleaning", "data set")):
            committed = {row[key]: row for row in of.rows(name)}
            for row in rows[name]:
                yield from (
                    f"{name}.csv, {row[key]}, {k}: {committed[row[key]][k]} is not {v}"
                    for k, v in row.items()
                    if not near(committed[row[key]][k], v, HALF if isinstance(v, float) else 0)
                )

    return check


@pytest.fixture(scope="module")
def evaluated(held_out, shipped):
    """Rows of zero_shot.csv: both shipped models, visible boxes, the whole set; SAMEO's is seed 0."""
    dataset = clean(held_out, RUN.data)[0]
    found = predict_dataset(shipped, dataset, {"visible boxes": ground_truth_boxes("visible")})
    numbers = {model: evaluate_predictions(dataset, results) for (model, _), results in found.items()}

    def check(of: Committed) -> Iterator[str]:
        for row in of.rows("zero_shot"):
            if (row["data set"], row["prompt"]) == (RUN.data.held_out[0], "visible boxes") and row["seed"] in ("", 0):
                for key, value in numbers[row["model"]].items():
                    if not near(row[key], value, TRAINED):
                        yield f"zero_shot.csv, {row['model']}, {key}: {row[key]}, the shipped weights give {value:.4f}"

    return check


@pytest.fixture(scope="module")
def curve(held_out, shipped):
    """Rows of occlusion_curve.csv: every pair, at one of the rates; what the pairs show, at all of them."""
    pairs = stages(clean(held_out, RUN.data)[0], 16)
    answers = occlusion_curve(shipped, pairs, [CURVE_RATE])

    @functools.cache
    def shown_rate(pair: int, rate: float) -> float:
        return pairs[pair].at(pairs[pair].position(rate)).rate if pair < len(pairs) else math.nan

    def check(of: Committed) -> Iterator[str]:
        rows = {(row["pair"], row["model"], row["rate"]): row for row in of.rows("occlusion_curve")}
        for (pair, model, rate), row in rows.items():
            if not near(row["shown rate"], shown_rate(pair, rate), HALF):
                yield f"occlusion_curve.csv, pair {pair}, {model}, {rate}: shown rate {row['shown rate']}"
        if {key for key in rows if key[2] == CURVE_RATE} != {(r["pair"], r["model"], r["rate"]) for r in answers}:
            yield f"occlusion_curve.csv: other pairs or models at {CURVE_RATE}"
            return
        for other in answers:
            row = rows[other["pair"], other["model"], CURVE_RATE]
            for key in ("hidden IoU", "IoU", "predicted IoU"):
                if not near(row[key], float(other[key]), ONE_MASK):
                    yield f"occlusion_curve.csv, pair {row['pair']}, {row['model']}, {key}: {other[key]:.4f}"

    return check


@pytest.fixture(scope="module")
def pretrained(unhindered):
    """A row of nano_weights.csv; the other is as dear."""
    ious = visible_ious(build_efficient_sam("nano", WEIGHTS / RUN.training.weights), "cocoa_cls", 100)

    def check(of: Committed) -> Iterator[str]:
        (row,) = [row for row in of.rows("nano_weights") if row["shapes"] == "unseen shapes"]
        if row["scenes"] != 100 or row["objects"] != len(ious) or not near(row["visible mIoU"], ious.mean(), TRAINED):
            yield f"nano_weights.csv, unseen shapes: {len(ious)} objects, {ious.mean():.4f}"

    return check


COMPUTED = ("drawn", "evaluated", "curve", "pretrained")


# ------------------------------------------------------------------------------------------------------------ the tests

QUICK = (
    numbers_of_a_row,
    nothing_is_missing,
    counts,
    means_of_buckets,
    the_same_in_two_tables,
    shown_whole,
    seeds,
    rescoring_shown,
    fits_its_bytes,
    rebuilt,
)


@pytest.fixture
def out(tmp_path, monkeypatch):
    """Where the notebooks' cells write their tables instead of data/runs."""
    folder = tmp_path / "rebuilt"
    monkeypatch.setattr(tables, "RUNS", folder)
    return folder


def quick_problems(of: Committed, out: Path) -> Iterator[str]:
    for check in QUICK:
        yield from check(of, out) if check is rebuilt else check(of)


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_committed_tables_agree_with_each_other_and_with_the_notebooks(check, out):
    assert list(check(Committed(), out) if check is rebuilt else check(Committed())) == []


@pytest.mark.parametrize("fixture", COMPUTED)
def test_what_can_be_computed_again_in_seconds_is_what_is_committed(fixture, request):
    assert list(request.getfixturevalue(fixture)(Committed())) == []


CHECKS = (("03", "better = [change"), ("04", "dual = claims["), ("05", "least = {"))  # "Check" cells that ask tables


@pytest.mark.parametrize("seeds", [(0,), (1,), (2,), RUN.training.seeds], ids=str)
def test_the_notebooks_checks_and_claims_hold_with_one_seed_as_with_three(seeds, out):
    """No check and no verdict asks one seed for an interval."""
    results = out / "mini" / "results"
    names = committed_rows(Committed(), results, seeds)
    without = {} if len(seeds) > 1 else {"seeds": 1, "ci_low": math.nan}
    names["04"]["rescoring"] = [row | without for row in Committed().rows("rescoring")]
    write_table("rescoring", names["04"]["rescoring"], "mini")
    for number, text in (*REBUILT, *CHECKS):
        run_cell(Committed().cell(number, text).source, names[number])
    verdicts = [row["verdict"] for row in read_table(results / "claims.csv")]
    assert all(verdict.startswith("one seed: ") == (len(seeds) == 1) for verdict in verdicts), verdicts


# ------------------------------------------------------------------------------------------ a changed number is noticed


def changed_digit(text: str) -> str:
    """A number with another digit: a share's second decimal, the last digit before the point of anything else."""
    whole, _, decimals = text.partition(".")
    place = len(whole) + 2 if len(decimals) > 2 else len(whole) - 1
    return f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}"


def numeric_columns() -> Iterator[tuple[str, str]]:
    for path in sorted(MINI.glob("*.csv")):
        rows = read_table(path)
        for column in rows[0]:
            if any(isinstance(row[column], (int, float)) and not math.isnan(row[column]) for row in rows):
                yield path.stem, column


def changed_table(folder: Path, name: str, column: str, which: float) -> str:
    """Change a number of a column in a folder's table, from the first (0) to the last (1); what was changed."""
    path = folder / f"{name}.csv"
    header, *lines = csv.reader(path.read_text().splitlines())
    place = header.index(column)
    numbers = [i for i, line in enumerate(lines) if re.fullmatch(r"-?\d+(\.\d+)?", line[place])]
    line = lines[numbers[round(which * (len(numbers) - 1))]]
    before, line[place] = line[place], changed_digit(line[place])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return f"{name}.csv, {column}, {numbers[round(which * (len(numbers) - 1))]}: {before} -> {line[place]}"


def noticed(of: Committed, out: Path, computed: list) -> bool:
    try:
        return any(True for _ in itertools.chain(quick_problems(of, out), *(check(of) for check in computed)))
    except (AssertionError, InputError, KeyError, IndexError, ValueError):
        return True


# Columns that no check binds in every row: what a table alone says. (Some of their rows are bound all the same.)
ONE_ROW = "neither worked on nor shown as a number, but for the rows that stand in a second table or are computed again"
UNSEEN = {
    "ablations": (ONE_ROW, "AP50, AP75, AR1, AR10, AR100, visible mIoU, hidden mIoU, mean hidden recall"),
    "box_noise": (
        "a figure shows it, and nothing else; noise 0 and the jitter of zero_shot.csv are bound",
        "AP, AP50, AP75, AR1, AR10, AR100, visible mIoU, hidden mIoU, hidden recall, mean hidden recall, "
        "un-occluded mIoU, un-occluded excess",
    ),
    "occlusion_curve": ("one rate in eight is computed again", "hidden IoU, IoU, predicted IoU"),
    "supervised": (ONE_ROW, "AP50, AP75, AR1, AR10, AR100"),
    "zero_shot": (  # of the last bucket: it holds so few objects that their mean hardly weighs in mIoU
        ONE_ROW,
        "AR1, AR10, visible mIoU, mean hidden recall, un-occluded excess, mIoU 90-100 %",
    ),
    "zero_shot_detector": (ONE_ROW, "AP75, AR1, AR10, AR100"),
}


@pytest.mark.parametrize(("name", "column"), [*numeric_columns()])
def test_a_changed_number_is_noticed(name, column, out, tmp_path, request):
    if column in UNSEEN.get(name, ("", ""))[1].split(", "):
        pytest.skip("nothing holds it")
    folder = shutil.copytree(MINI, tmp_path / "changed")
    changed = changed_table(folder, name, column, which=len(column) % 3 / 2)
    computed = [request.getfixturevalue(fixture) for fixture in COMPUTED]
    assert noticed(Committed(folder), out, computed), changed


def test_what_nothing_holds_is_there():
    for name, (_, columns) in UNSEEN.items():
        assert {(name, column) for column in columns.split(", ")} <= set(numeric_columns())


@pytest.mark.parametrize("name", sorted(path.name for path in MINI.iterdir() if path.suffix in (".md", ".tex")))
def test_a_changed_number_of_a_table_for_a_paper_is_noticed(name, out, tmp_path):
    path = shutil.copytree(MINI, tmp_path / "changed") / name
    text = path.read_text()
    number = FRACTION.findall(text)[-1]
    before, _, after = text.rpartition(number)
    path.write_text(f"{before}{changed_digit(number)}{after}")
    assert list(rebuilt(Committed(path.parent), out))


@pytest.mark.parametrize(("number", "text"), [place[:2] for place in SHOWN.values()] + [*REBUILT, RESCORING])
def test_a_changed_number_in_a_notebook_is_noticed(number, text, out, tmp_path):
    for path in NOTEBOOKS.glob("*.ipynb"):
        (tmp_path / path.name).symlink_to(path)
    (path,) = tmp_path.glob(f"{number}_*.ipynb")
    notebook = nbformat.read(path, 4)
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
    page = cell.outputs[-1].data["text/html"]
    *_, last = re.finditer(r"(?<=>)[-+]?\d+(\.\d+)?", page)
    cell.outputs[-1].data["text/html"] = f"{page[: last.start()]}{changed_digit(last[0])}{page[last.end() :]}"
    path.unlink()
    nbformat.write(notebook, path)
    of = Committed(MINI, tmp_path)
    assert list(itertools.chain(shown_whole(of), rescoring_shown(of), rebuilt(of, out))), last[0]


# --------------------------------------------------------------------------------------------------------------- nbval

EXACT = ("cleaning", "complete_objects", "fine_tuning")  # shown whole, with no digit less than the table has
SETUP = """
from sameo_core.config import RESULTS, load_profile
from sameo_core.reporting import claims_shown, paper_claims, read_table, table_html, write_table

run = load_profile(profile)
"""


def table_notebook(of: Committed) -> nbformat.NotebookNode:
    """The cells that show what stands in a table to the last digit, with their committed outputs, the table read."""
    cells = [of.cell("05", 'profile: str = "mini"'), nbformat.v4.new_code_cell(SETUP.strip())]
    for name in EXACT:
        cell = of.cell(*SHOWN[name][:2])
        last = cell.source.splitlines()[-1]
        rows = re.match(r"table_html\((\w+)", last)[1]
        read = f'read_table(run.results / "{name}.csv")'
        cell.source = f"{rows} = [{{k: v for k, v in row.items() if k not in {added(name)}}} for row in {read}]\n{last}"
        cells.append(cell)
    cells.append(of.cell("05", 'write_table("claims"'))  # as it stands: it reads the tables of differences
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


@pytest.mark.parametrize("changed", [False, True], ids=["as committed", "a digit changed"])
def test_nbval_compares_committed_outputs_with_committed_tables(changed, tmp_path):
    data = tmp_path / "root" / "data"
    results = shutil.copytree(MINI, data / "runs" / "mini" / "results")
    shutil.copy(DATA / "published.csv", data)
    shutil.copytree(RESULTS / "photo", data / "results" / "photo")
    if changed:
        columns = dict.fromkeys(EXACT) | {"cleaning": "out", "complete_objects": "objects", "fine_tuning": "dice"}
        for name, column in (columns | {"rescoring": "difference"}).items():
            changed_table(results, name, column, 0)
    nbformat.write(table_notebook(Committed()), tmp_path / "tables.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "tables.ipynb"],
        cwd=tmp_path,
        env=os.environ | {"SAMEO_ROOT": str(tmp_path / "root"), "PYTHONPATH": paths, "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    failed = re.findall(r"^FAILED tables.ipynb::Cell (\d+)", found.stdout, re.MULTILINE)
    assert "6 passed" in found.stdout if not changed else failed == ["2", "3", "4", "5"], found.stdout + found.stderr
