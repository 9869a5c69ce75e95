"""The committed tables agree with each other, with what the notebooks show, and with the shipped weights.

No check holds a number of its own. Tables that follow from others are worked out again by the package; the tables that
notebooks show are made again from the files; numbers that stand in two places are compared; drawing and the shipped
weights are measured anew. Then the first and the last number of every column is changed, and a check must notice.
`UNSEEN` names the columns in which it may not. README's tables are checked in test_readme.

Files hold 4 decimals, so a number worked out of a file differs a little from one worked out of exact rows (`ROUNDED`).
"""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import jaxtyping
import nbformat
import pytest
from committed_tables import (
    COMMITTED,
    CURVE_PAIRS,
    CURVE_RATE,
    FIRST,
    HALF,
    NO_FILE,
    ONE_MASK,
    RUN,
    SHOWN,
    TRAINED,
    Rows,
    Tables,
    claims_of,
    follows_from_other_tables,
    has_every_row,
    holds_within_each_row,
    is_the_same_in_two_tables,
    is_what_is_shown,
    mean_is_the_mean_of_its_buckets,
    near,
    worked_out,
)

from sameo_core.apps.playground import occlusion_curve, stages
from sameo_core.config import NOTEBOOKS, RESULTS, ROOT, WEIGHTS
from sameo_core.datasets import clean, cleaning_table, load_dataset
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_predictions
from sameo_core.front_ends import ground_truth_boxes, predict_dataset
from sameo_core.miniature import RELATIVE_SIZE, draw_dataset
from sameo_core.miniature.pretraining import visible_ious
from sameo_core.model import Sameo, build_efficient_sam
from sameo_core.reporting import read_table, write_table
from sameo_core.reporting.claims import claim_key

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
    root = tmp_path_factory.mktemp("held_out")
    draw_dataset(FIRST, root, "val", RUN.data.val_images, jobs=1)
    return load_dataset(FIRST, root, "val")


@pytest.fixture(scope="module")
def shipped():
    weights = {"EfficientSAM": WEIGHTS / RUN.training.weights, "SAMEO": WEIGHTS / "sameo_nano.safetensors"}
    return {name: Sameo.load(path, RUN.training.variant) for name, path in weights.items()}


def measured_anew(table: str, labels: tuple[str, ...], rows: Rows, by: dict[str, float]):
    """A check: the committed rows with these labels hold these numbers, within `by` of a column (else equal)."""

    def check(of: Tables) -> Iterator[str]:
        committed = {tuple(row[label] for label in labels): row for row in of["mini"][table]}
        for row in rows:
            theirs = committed[tuple(row[label] for label in labels)]
            yield from (
                f"{table}.csv, {key}: {theirs[key]}, measured {value}"
                for key, value in row.items()
                if not near(theirs[key], value, by.get(key, by.get("", 0) if isinstance(value, float) else 0))
            )

    return check


@pytest.fixture(scope="module")
def drawn(held_out, tmp_path_factory):
    """Two rows of datasets.csv and cleaning.csv; drawing has no room for tolerance."""
    root, other = tmp_path_factory.mktemp("other"), "mp3d_amodal"  # quick to draw, and three filters apply to it
    draw_dataset(other, root, "train", round(RUN.data.train_images * RELATIVE_SIZE[other]), jobs=1)
    sets = [held_out, load_dataset(other, root, "train")]
    summaries = [dataset.summary() for dataset in sets]
    summaries = [row | {"skipped": sum(row["skipped"].values())} for row in summaries]
    cleaned = cleaning_table([clean(dataset, RUN.data)[1] for dataset in sets])
    return [
        measured_anew("datasets", ("name",), summaries, {"": HALF}),
        measured_anew("cleaning", ("data set",), cleaned, {}),
    ]


@pytest.fixture(scope="module")
def evaluated(held_out, shipped):
    """Rows of zero_shot.csv: both shipped models, visible boxes, the whole set; SAMEO's is seed 0."""
    dataset = clean(held_out, RUN.data)[0]
    found = predict_dataset(shipped, dataset, {"visible boxes": ground_truth_boxes("visible")})
    rows = [
        {"data set": FIRST, "prompt": prompt, "model": model, "seed": 0 if model == "SAMEO" else ""}
        | evaluate_predictions(dataset, results)
        for (model, prompt), results in found.items()
    ]
    return [measured_anew("zero_shot", ("data set", "prompt", "model", "seed"), rows, {"": TRAINED})]


@pytest.fixture(scope="module")
def curve(held_out, shipped):
    """Rows of occlusion_curve.csv at one of the rates; what the pairs show, at all of them."""
    pairs = stages(clean(held_out, RUN.data)[0], CURVE_PAIRS)
    rows = occlusion_curve(shipped, pairs, [CURVE_RATE])
    labels, by = ("pair", "model", "rate"), {"": ONE_MASK, "shown rate": HALF}
    shown = [{label: row[label] for label in labels} for row in COMMITTED["mini"]["occlusion_curve"]]
    for row in shown:
        pair = pairs[row["pair"]]
        row["shown rate"] = pair.at(pair.position(row["rate"])).rate
    return [measured_anew("occlusion_curve", labels, listed, by) for listed in (rows, shown)]


@pytest.fixture(scope="module")
def pretrained(unhindered):
    """A row of nano_weights.csv; the other is as dear."""
    ious = visible_ious(build_efficient_sam("nano", WEIGHTS / RUN.training.weights), "cocoa_cls", 100)
    row = {"shapes": "unseen shapes", "scenes": 100, "objects": len(ious), "visible mIoU": float(ious.mean())}
    return [measured_anew("nano_weights", ("shapes",), [row], {"": TRAINED})]


# ------------------------------------------------------------------------------------------------------------ the tests

QUICK = (
    holds_within_each_row,
    has_every_row,
    mean_is_the_mean_of_its_buckets,
    is_the_same_in_two_tables,
    follows_from_other_tables,
    is_what_is_shown,
)
COMPUTED = ("drawn", "evaluated", "curve", "pretrained")


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_what_is_committed(check):
    assert list(check(COMMITTED)) == []


@pytest.mark.parametrize("fixture", COMPUTED)
def test_what_can_be_measured_in_seconds_is_what_is_committed(fixture, request):
    assert [problem for check in request.getfixturevalue(fixture) for problem in check(COMMITTED)] == []


@pytest.mark.parametrize("profile", COMMITTED)
def test_files_are_as_they_are_written(profile, tmp_path):
    """No decimal more or less, one profile."""
    for path in (RESULTS / profile).glob("*.csv"):
        assert write_table(path.stem, read_table(path), profile, tmp_path).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("seed", RUN.training.seeds)
def test_a_single_seed_sides_with_each_claim_that_holds_over_three(seed):
    """And it is never asked for an interval, which it does not have."""
    mini = {
        name: [row for row in rows if row.get("seed", "") in ("", "-", seed)]
        for name, rows in COMMITTED["mini"].items()
    }
    alone = {name: rows for (of, name), rows in worked_out(COMMITTED | {"mini": mini}).items() if of == "mini"}
    alone["rescoring"] = [row | {"seeds": 1, "ci_low": math.nan, "ci_high": math.nan} for row in mini["rescoring"]]
    verdicts = {claim_key(row): row["verdict"] for row in claims_of(alone, "mini")}
    assert all(verdict.startswith("one seed: ") for verdict in verdicts.values())
    held = {claim_key(row) for row in COMMITTED["mini"]["claims"] if row["verdict"] == "holds"}
    assert held and {verdicts[claim] for claim in held} == {"one seed: for it"}


# Columns in which a changed number may pass: no check binds all of their rows.
UNSEEN = {
    ("mini", "ablations"): "AP50, AP75, AR1, AR10, AR100, visible mIoU, hidden mIoU, mean hidden recall",
    ("mini", "box_noise"): "AP, AP50, AP75, AR1, AR10, AR100, visible mIoU, hidden mIoU, hidden recall, "
    "mean hidden recall, un-occluded mIoU, un-occluded excess",  # only a figure shows them
    ("mini", "occlusion_curve"): "hidden IoU, IoU, predicted IoU",  # one rate in eight is measured anew
    ("mini", "supervised"): "AP50, AP75, AR1, AR10, AR100",
    ("mini", "zero_shot"): "AR1, AR10, visible mIoU, mean hidden recall, un-occluded excess, mIoU 90-100 %",
    ("mini", "zero_shot_detector"): "AP75, AR1, AR10, AR100",
    ("photo", "ablations"): "AP50, AP75, AR1, AR10, AR100, visible mIoU, mean hidden recall",
    ("photo", "zero_shot"): "AP50, AP75, AR1, AR10, AR100, visible mIoU, mean hidden recall",
}


def changed(of: Tables, profile: str, name: str, column: str, place: int) -> Tables:
    """The tables with another number in a column: the first (0) or the last (-1)."""
    rows = list(of[profile][name])
    numbers = [i for i, row in enumerate(rows) if isinstance(row[column], (int, float)) and row[column] == row[column]]
    i = numbers[place]
    value = rows[i][column]
    rows[i] = rows[i] | {column: value + 1 if isinstance(value, int) else value - 0.01 if value > 0.5 else value + 0.01}
    return of | {profile: of[profile] | {name: rows}}


@pytest.fixture
def noticed(request):
    """Whether any of the checks finds something in changed tables."""
    checks = [*QUICK, *(check for fixture in COMPUTED for check in request.getfixturevalue(fixture))]

    def look(tables: Tables) -> bool:
        try:
            return any(problem for check in checks for problem in check(tables))
        except (InputError, KeyError, IndexError, ValueError):
            return True

    return look


@pytest.mark.parametrize(("profile", "name"), [(profile, name) for profile in COMMITTED for name in COMMITTED[profile]])
def test_an_omitted_row_and_a_changed_number_are_noticed(profile, name, noticed):
    rows = COMMITTED[profile][name]
    for i in {0, len(rows) // 2, len(rows) - 1}:
        assert noticed(COMMITTED | {profile: COMMITTED[profile] | {name: rows[:i] + rows[i + 1 :]}}), rows[i]
    columns = [c for c in rows[0] if any(isinstance(row[c], (int, float)) and row[c] == row[c] for row in rows)]
    unseen = set(UNSEEN[profile, name].split(", ")) if (profile, name) in UNSEEN else set()
    assert unseen <= set(columns)
    assert {
        c for c in columns for place in (0, -1) if not noticed(changed(COMMITTED, profile, name, c, place))
    } <= unseen


def with_another_last_digit(texts: list[list[str]]) -> list[list[str]]:
    """The last number with another digit in its second last place, or its only one."""
    i, j = [(i, j) for i, row in enumerate(texts[:-1]) for j, text in enumerate(row) if re.search(r"\d", text)][-1]
    place = [found.start() for found in re.finditer(r"\d", texts[i][j])][-2:][0]
    text = texts[i][j]
    text = f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}"
    return [*texts[:i], [*texts[i][:j], text, *texts[i][j + 1 :]], *texts[i + 1 :]]


@pytest.mark.parametrize("title", sorted(SHOWN.keys() - NO_FILE))
def test_a_changed_number_that_is_shown_is_noticed(title):
    assert list(is_what_is_shown(COMMITTED, SHOWN | {title: with_another_last_digit(SHOWN[title])}))


# --------------------------------------------------------------------------------------------------------------- nbval


def test_nbval_compares_the_tables_that_a_notebook_shows(tmp_path):
    """Those of A2, which reads the committed tables of `photo`, to the last digit."""
    (path,) = NOTEBOOKS.glob("A2_*.ipynb")
    notebook = nbformat.read(path, 4)
    tables = [c for c in notebook.cells if any("text/html" in out.get("data", {}) for out in c.get("outputs", []))]
    parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells = parameters + tables
    nbformat.write(notebook, tmp_path / "tables.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "tables.ipynb"]
    environment = os.environ | {"PYTHONPATH": paths, "TQDM_DISABLE": "1"}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert "7 passed" in found.stdout and "failed" not in found.stdout, found.stdout + found.stderr
