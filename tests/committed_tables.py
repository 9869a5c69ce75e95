"""The committed tables, what follows from them, what the notebooks show of them, and checks: test_committed_results."""

import html
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np

from sameo_core import reporting
from sameo_core.apps.photo_evidence import METRICS, TUNED, UNTUNED
from sameo_core.config import DATA_SEED, NOTEBOOKS, RESULTS, Profile, ablation, load_profile
from sameo_core.front_ends import OWN_AMODAL, OWN_VISIBLE
from sameo_core.front_ends.amodal_rcnn import NAME
from sameo_core.reporting import Table, read_published, read_table, write_table
from sameo_core.reporting.statistics import grouped

RUN = load_profile("mini", seeds=(0, 1, 2))  # as the committed tables were made
DETECTOR, FIRST = RUN.evaluation.detector, RUN.data.held_out[0]
HALF = 0.00005  # half of the last decimal of a file
ROUNDED = dict.fromkeys(("before", "after", "baseline", "other", "mean"), 2 * HALF) | {"gain": 3 * HALF}
ROUNDED |= {"difference": 3 * HALF, "ci_low": 10 * HALF, "ci_high": 10 * HALF}  # t(0.975, 2) = 4.3 widens intervals
TRAINED = 0.003  # of a mean over hundreds of masks: what another CPU, thread count or half precision may change
ONE_MASK = 0.05  # of one mask's IoU or predicted IoU, for the same reasons
CURVE_RATE, CURVE_PAIRS = 0.5, 16  # of occlusion_curve.csv

Rows = list[dict]
Tables = dict[str, dict[str, Rows]]  # profile -> table -> rows


def read(folder: Path) -> dict[str, Rows]:
    """The tables of a folder; an empty seed or training set is "", as in the notebooks."""
    empty = {"seed": "", "trained on": ""}
    return {
        path.stem: [{k: empty.get(k) if v is None else v for k, v in row.items()} for row in read_table(path)]
        for path in sorted(folder.glob("*.csv"))
    }


COMMITTED: Tables = {profile: read(RESULTS / profile) for profile in ("mini", "photo")}


def near(a: object, b: object, by: float = 0) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= by + 1e-9
    return a == b


# ------------------------------------------------------------------------------------- tables that follow from others


def worked_out(of: Tables) -> dict[tuple[str, str], Rows]:
    """(profile, table) -> the rows that the package works out of the rows of other tables."""
    mini, photo, ours = of["mini"], of["photo"], (DETECTOR, "SAMEO")

    def metrics(table: str, tables: dict[str, Rows] = mini) -> list[str]:
        return list(dict.fromkeys(row["metric"] for row in tables[table]))

    def arms(tables: dict[str, Rows], run: Profile) -> Rows:
        found: Rows = []
        for (question,), rows in grouped(tables["ablations"], "question").items():
            best = list(ablation(question, run))[-1]
            differences = reporting.arm_differences(rows, best, metrics("ablation_differences", tables))
            found += [{"question": question, "paper's arm": best} | row for row in differences]
        return found

    others = {"its own masks": (DETECTOR, OWN_VISIBLE), "EfficientSAM": (DETECTOR, "EfficientSAM")}
    supervised = reporting.method_differences(own_sets(mini), ours, others, metrics("supervised_differences"))
    scores, wanted = mini["zero_shot_detector"], metrics("zero_shot_differences")
    zero_shot = reporting.method_differences(scores, ours, others | {NAME: (NAME, OWN_AMODAL)}, wanted)
    zero_shot += reporting.method_differences(scores, (NAME, "SAMEO"), {"own masks": (NAME, OWN_AMODAL)}, wanted)
    by_prompt = [{"arm": row["prompt"]} | row for row in mini["zero_shot"] if row["model"] == "SAMEO"]
    prompts = reporting.arm_differences(by_prompt, "visible boxes", metrics("prompt_differences"))
    two = [row for row in photo["zero_shot"] if row["model"] in (UNTUNED, TUNED)]
    return {
        ("mini", "ablation_differences"): arms(mini, RUN),
        ("photo", "ablation_differences"): arms(photo, load_profile("photo")),
        ("mini", "supervised_differences"): supervised,
        ("mini", "zero_shot_differences"): zero_shot,
        ("mini", "prompt_differences"): prompts,
        ("mini", "zero_shot_gains"): reporting.gains(mini["zero_shot"], "EfficientSAM", metrics("zero_shot_gains")),
        ("photo", "zero_shot_gains"): reporting.gains(two, UNTUNED, METRICS),
    }


def own_sets(mini: dict[str, Rows]) -> Rows:
    """What was trained and tested on one set, or not trained at all."""
    return [row for row in mini["supervised"] if row["trained on"] in ("", row["data set"])]


def claims_of(tables: dict[str, Rows], profile: str) -> Rows:
    """The paper's claims, worked out of tables of differences as files hold them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in tables:
            if name.endswith("_differences") or name == "rescoring":
                write_table(name, tables[name], profile, Path(folder))
        return reporting.paper_claims(Path(folder))


def follows_from_other_tables(of: Tables) -> Iterator[str]:
    derived = worked_out(of) | {(profile, "claims"): claims_of(of[profile], profile) for profile in of}
    for (profile, name), rows in derived.items():
        committed = of[profile][name]
        if [["profile", *row] for row in rows] != [list(row) for row in committed]:
            yield f"{profile}/{name}.csv: other rows or columns"
            continue
        for i, (ours, theirs) in enumerate(zip(rows, committed, strict=True)):
            for key, value in ours.items():
                if not near(value, theirs[key], 0 if name == "claims" else ROUNDED.get(key, 0)):
                    yield f"{profile}/{name}.csv, row {i}, {key}: {theirs[key]}, worked out {value}"


# --------------------------------------------------------------------------------------------- what the notebooks show


def cells_of(page: str) -> list[list[str]]:
    """The texts of an HTML table: its title, the cells of each row, and the note below."""
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    parts = [re.findall(r"<caption>(.*?)</caption>", page), *rows, re.findall(r"<p>(.*?)</p>", page)]
    return [[html.unescape(re.sub("<[^>]+>", "", text)) for text in part] for part in parts]


def lines_of(title: str, text: str) -> list[list[str]]:
    return [[title], *([line] for line in text.splitlines()), []]


def shown_tables() -> dict[str, list[list[str]]]:
    """Title or file -> texts of every table with a title that a notebook shows, and of a paper's tables."""
    notebooks = [nbformat.read(path, 4) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    outputs = [out for notebook in notebooks for cell in notebook.cells for out in cell.get("outputs", [])]
    pages = [cells_of(out.data["text/html"]) for out in outputs if "text/html" in out.get("data", {})]
    titles = [page[0][0] for page in pages if page[0]]
    assert len(set(titles)) == len(titles), "two tables have one title"
    papers = [path for path in (RESULTS / "mini").iterdir() if path.suffix in (".md", ".tex")]
    shown = {path.name: lines_of(path.name, path.read_text()) for path in papers}
    return shown | {page[0][0]: page for page in pages if page[0]}


SHOWN = shown_tables()
NO_FILE = {"Sampling, seed 0 (mini)", "Recipe (photo)", "Written (mini)"}  # shown, but no committed table holds them


def made_of_files(of: Tables) -> dict[str, list[list[str]]]:
    """Title or file -> texts of the tables that show other rows than a file holds: a paper's, the claims, mean AP."""
    mini, own, scores = of["mini"], own_sets(of["mini"]), of["mini"]["zero_shot_detector"]
    places, title = [place for (place,) in grouped(own, "data set")], "Trained and tested on one set"
    supervised = reporting.paper_table(own, read_published("supervised"), "mini", title, data_sets=places)
    detector = reporting.paper_table(scores, read_published("zero-shot"), "mini", "Zero-shot, class-agnostic")
    claims = reporting.claims_shown(mini["claims"], "Claims (mini)", of["photo"]["claims"])
    ap = reporting.table_html(crossed(mini["supervised"]), title="AP of SAMEO by training set and test set (mini)")
    tables = [supervised, detector, rescoring_table(mini), claims, ap]
    made = {table.title: cells_of(table._repr_html_()) for table in tables}
    for name, table in (("supervised_table", supervised), ("zero_shot_detector", detector)):
        made |= {f"{name}.md": lines_of(f"{name}.md", str(table))}
        made |= {f"{name}.tex": lines_of(f"{name}.tex", table.latex(f"tab:{name}"))}
    return made


def crossed(supervised: Rows) -> Rows:
    """Mean AP of each training set and front-end on each test set."""
    trained = [row for row in supervised if row["trained on"]]
    return [
        {"trained on": learnt, "front-end": front_end}
        | {place: float(np.mean([row["AP"] for row in here])) for (place,), here in grouped(rows, "data set").items()}
        for (learnt, front_end), rows in grouped(trained, "trained on", "front-end").items()
    ]


def rescoring_table(mini: dict[str, Rows]) -> Table:
    """Notebook 04's table, but for the interval "without", which no file holds."""
    metrics, title = [row["metric"] for row in mini["rescoring"]], "IoU re-scoring"
    without = {row["metric"]: row["baseline"] for row in mini["rescoring"]}
    arms = [without | {"setting": f"without {title}", "data set": FIRST}]
    arms += [row | {"setting": f"with {title}"} for row in first_detections(mini)]
    published = read_published("ablation of IoU re-scoring")
    return reporting.paper_table(arms, published, "mini", title, labels=("setting",), metrics=metrics)


def first_detections(mini: dict[str, Rows]) -> Rows:
    """SAMEO on the detector's boxes, on the first held-out set."""
    wanted = (FIRST, DETECTOR, "SAMEO")
    return [r for r in mini["zero_shot_detector"] if (r["data set"], r["front-end"], r["method"]) == wanted]


def same_text(a: str, b: str) -> bool:
    """Equal but for the last place of fractions with at most 3 decimals: one was rounded twice."""
    ours, theirs = (re.split(r"([-+]?\d+\.\d+)", text) for text in (a, b))
    if len(ours) != len(theirs):
        return False
    decimals = [len(text.partition(".")[2]) for text in ours]
    return all(
        x == y or (i % 2 and len(y.partition(".")[2]) == d < 4 and abs(float(x) - float(y)) < 1.01 * 10**-d)
        for i, (x, y, d) in enumerate(zip(ours, theirs, decimals, strict=True))
    )


def differing_texts(shown: list[list[str]], made: list[list[str]]) -> Iterator[str]:
    title = made[0][0]
    if title.startswith("IoU re-scoring"):  # the line without an interval, and the note, which counts the seeds
        shown = [[text.split(" \N{PLUS-MINUS SIGN}")[0] if i == 4 else text for text in shown[i]] for i in range(6)]
        made = made[:6]
    if [len(row) for row in shown] != [len(row) for row in made]:
        yield f"{title}: another number of rows or columns"
        return
    for number, rows in enumerate(zip(shown, made, strict=True)):
        for a, b in zip(*rows, strict=True):
            if not same_text(a, b):
                yield f"{title}, row {number}: shown {a!r}, the file gives {b!r}"


def holds_in_order(table: Rows, texts: list[list[str]]) -> bool:
    """Whether a file has all shown rows, with 3 or 4 decimals, and in their order."""
    _, header, *shown, _ = texts
    if not header or not set(header) <= table[0].keys():
        return False
    for decimals in (3, 4):
        rows = iter(cells_of(reporting.table_html(table, header, decimals=decimals)._repr_html_())[2:-1])
        if all(any(all(map(same_text, row, other)) for other in rows) for row in shown):
            return True
    return False


def is_what_is_shown(of: Tables, shown: dict | None = None) -> Iterator[str]:
    """By the notebooks, and by a paper's tables."""
    made = made_of_files(of)
    for title, texts in (SHOWN if shown is None else shown).items():
        profile = "photo" if title.endswith("(photo)") else "mini"
        if title in made:
            yield from differing_texts(texts, made.pop(title))
        elif title not in NO_FILE and not any(holds_in_order(rows, texts) for rows in of[profile].values()):
            yield f"{title}: no file holds the rows shown"
    yield from (f"{title} is not shown" for title in made)


# --------------------------------------------------------------------------------------------------------- cross-checks


def holds_within_each_row(of: Tables) -> Iterator[str]:
    """What must hold within a row, whatever the numbers; every row has a seed that some run has."""
    rows = [(f"{p}/{name}.csv, row {i}", name, row) for p in of for name in of[p] for i, row in enumerate(of[p][name])]
    for where, name, row in rows:
        for key, value in row.items():
            is_share = re.match(r"AP|AR1|mIoU|(visible|hidden|mean hidden|un-occluded) (mIoU|recall)|precision", key)
            if is_share and not (math.isnan(value) or 0 <= value <= 1):
                yield f"{where}: {key} is no share: {value}"
        for low, high in (("AP", "AP50"), ("AP75", "AP50"), ("AR1", "AR10"), ("AR10", "AR100"), ("AP", "AR100")):
            if low in row and high in row and row[low] > row[high] + 2 * HALF:
                yield f"{where}: {low} {row[low]} exceeds {high} {row[high]}"
        if name == "rescoring":
            if not near(row["difference"], row["mean"] - row["baseline"], 3 * HALF):
                yield f"{where}: the difference is not mean minus baseline"
            if not near(row["ci_low"] + row["ci_high"], 2 * row["difference"], 4 * HALF):
                yield f"{where}: the difference is not in the middle of its interval"
        if name == "fine_tuning":
            if not near(row["total"], row["dice"] + row["focal"] + 0.05 * row["iou"], 4 * HALF):
                yield f"{where}: the losses do not add up"
            if row["step"] != RUN.training.iterations:
                yield f"{where}: the last step is not the recipe's"
        if name not in EVERY_SEED and row.get("seed", DATA_SEED) != DATA_SEED:
            yield f"{where}: seed {row['seed']}"
        if row.get("seeds", 3) != len(RUN.training.seeds) and name != "claims":
            yield f"{where}: {row['seeds']} seeds"


EVERY_SEED = ("ablations", "box_noise", "fine_tuning", "supervised", "zero_shot", "zero_shot_detector")


def has_every_row(of: Tables) -> Iterator[str]:
    """Every seed of the profile once, or one row without; as many rows for each noise, pair and rate."""
    groups: dict[tuple, list] = {}
    for profile, name in [(profile, name) for profile in of for name in EVERY_SEED if name in of[profile]]:
        for row in of[profile][name]:
            own = {key: value for key, value in row.items() if key not in ("seed", "weights")}
            labels = [value for key, value in own.items() if key == "noise" or isinstance(value, str)]
            groups.setdefault((name, *labels), []).append(row["seed"])
    for group, seeds in groups.items():
        if seeds not in ([""], ["-"], list(RUN.training.seeds)):
            yield f"{group}: the seeds {seeds}"
    for name, column in (("box_noise", "noise"), ("occlusion_curve", "pair"), ("occlusion_curve", "rate")):
        found = Counter((row["model"], row[column]) for row in of["mini"][name])
        for model in {model for model, _ in found}:
            if len({found[model, kind] for _, kind in found}) > 1:
                yield f"{name}.csv: {model} has not as many rows for each {column}"


def mean_is_the_mean_of_its_buckets(of: Tables) -> Iterator[str]:
    """mIoU is the buckets' mIoU weighted with their objects: one set of weights fits all rows of a data set."""
    found: dict[tuple, list[tuple[str, dict]]] = {}
    for profile, name in [(p, name) for p in of for name in ("zero_shot", "box_noise", "ablations") if name in of[p]]:
        for i, row in enumerate(of[profile][name]):
            found.setdefault((profile, row.get("data set", FIRST)), []).append((f"{profile}/{name}.csv, row {i}", row))
    for rows in found.values():
        buckets = [k for k, v in rows[0][1].items() if re.fullmatch(r"mIoU \d.*", k) and not math.isnan(v)]
        values = np.array([[row[bucket] for bucket in buckets] for _, row in rows])
        means = np.array([row["mIoU"] for _, row in rows])
        gaps = np.abs(values @ np.linalg.lstsq(values, means)[0] - means)
        yield from (f"{rows[i][0]}: mIoU is no mean of its buckets" for i in np.flatnonzero(gaps > 4 * HALF))


def is_the_same_in_two_tables(of: Tables) -> Iterator[str]:
    """What was evaluated once and stands in several tables, or in several rows."""
    mini, jitter = of["mini"], RUN.evaluation.box_jitter
    prompts = {0.0: "visible boxes", jitter: f"visible boxes, {jitter:.0%} jitter"}
    one_training = ("prompt_random", "dual_on", "sampling_log", f"mix_{len(RUN.data.train)}")
    found: dict[tuple, list[tuple[str, dict]]] = {}
    for name in ("zero_shot", "zero_shot_detector", "box_noise", "supervised", "ablations"):
        for i, row in enumerate(mini[name]):
            boxes = row.get("prompt") or row.get("front-end") or prompts.get(row.get("noise"))
            key = (row.get("data set", FIRST), boxes, row.get("method") or row.get("model"), row["seed"])
            if name == "ablations":
                key = ("ablations", row["arm"] if row["arm"] not in one_training else one_training, row["seed"])
            if (boxes or name == "ablations") and not row.get("trained on"):
                key = tuple("" if part == "-" else part for part in key)
                found.setdefault(key, []).append((f"{name}.csv, {i}", row))
    for (first, theirs), *others in found.values():
        for where, ours in others:
            for key in ours.keys() & theirs.keys() - {"profile", "seed", "question", "arm"}:
                if not near(ours[key], theirs[key]):
                    yield f"{where}, {key}: {ours[key]}; {first}: {theirs[key]}"
    boxes = [r for r in of["photo"]["zero_shot"] if (r["data set"], r["prompt"]) == ("photo_pairs", "visible boxes")]
    tuned = {"mini": first_detections(mini), "photo": [r for r in boxes if r["model"] == TUNED]}
    for profile, rows in tuned.items():
        for row in of[profile]["rescoring"]:
            if not near(row["mean"], float(np.mean([r[row["metric"]] for r in rows])), 2 * HALF):
                yield f"{profile}/rescoring.csv, {row['metric']}: not the mean of the evaluated rows"
