"""The paper's tables and claims: published numbers beside ours, and whether each claim holds here.

`data/published.csv` holds the published numbers, in per cent as printed, with their sources. Those of SAMEO's paper
come from public notes on it; numbers missing there (all of MUVA, every AR) have no row and become empty cells. Our own
tables hold shares in 0..1; `tables.per_cent` and `tables.points` format them as papers do.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sameo_core.config import DATA
from sameo_core.reporting.statistics import grouped, mean_interval
from sameo_core.reporting.style import Row, require, titled
from sameo_core.reporting.tables import Table, per_cent, points, read_table, table_html

PUBLISHED = DATA / "published.csv"
TITLES = {"cocoa": "COCOA", "cocoa_cls": "COCOA-cls", "d2sa": "D2SA", "kins": "KINS", "muva": "MUVA"}
NO_COMPARISON = (
    "Ours are numbers of a drawn world and a miniature model: they cannot be compared with the published ones."
)


def read_published(table: str | None = None) -> list[dict[str, Any]]:
    """Published numbers, one row each; `value` in per cent, None if unknown.

    Args:
        table: "supervised", "zero-shot", ...; by default all of them.

    Raises:
        InputError: no such table.
    """
    rows = read_table(PUBLISHED)
    tables = {row["table"] for row in rows}
    require(table is None or table in tables, "table", f"one of {sorted(tables)}, found {table!r}", "Choose one")
    return [row for row in rows if table in (None, row["table"])]


def paper_table(
    ours: Sequence[Row],
    published: Sequence[Row],
    profile: str,
    title: str,
    *,
    labels: Sequence[str] = ("front-end", "method"),
    metrics: Sequence[str] = ("AP", "AP50"),
    data_sets: Sequence[str] | None = None,
) -> Table:
    """The paper's layout: published numbers, and ours (means over seeds) in a second group of columns.

    One row per combination of labels: published ones first, then those that only we have. Unknown cells are empty.

    Args:
        ours: one per label, data set and seed: the labels, `data set`, `seed`, and the metrics as shares in 0..1.
        published: of `read_published`.
        profile: of ours. In mini the table says that the two groups cannot be compared.
        labels: columns that identify a row of the table, e.g. "setting" for an ablation.
        data_sets: shown in both groups, in this order; by default each group shows its own.

    Raises:
        InputError: rows of two protocols; two rows of one label, data set and seed.
    """
    protocols = sorted({row["protocol"] for row in published})
    require(len(protocols) < 2, "published", f"one protocol per table, found {protocols}", "Choose the rows of one")
    mine = grouped([row for row in ours if data_sets is None or row["data set"] in data_sets], *labels, "data set")
    groups = {
        "published": {
            (tuple(row[label] or "" for label in labels), row["data set"], row["metric"]): str(float(row["value"]))
            for row in published
            if row["metric"] in metrics and (data_sets is None or row["data set"] in data_sets)
        },
        "ours" if profile == "paper" else "mini, drawn world": dict(_means(mine, metrics)),
    }
    rows = list(dict.fromkeys(key[0] for cells in groups.values() for key in cells))
    wanted = [
        (name, place, metric)
        for name, cells in groups.items()
        for place in (dict.fromkeys(key[1] for key in cells) if data_sets is None else data_sets)
        for metric in metrics
    ]
    tops = [(name, TITLES.get(place, place or "")) for name, place, _ in wanted]
    above = [[(key[-1], len(list(run))) for key, run in groupby(top[:depth] for top in tops)] for depth in (1, 2)]
    return Table(
        columns=(*labels, *(metric for _, _, metric in wanted)),
        cells=tuple((*row, *(groups[name].get((row, *key), "") for name, *key in wanted)) for row in rows),
        numeric=(False,) * len(labels) + (True,) * len(wanted),
        title=titled(title, profile),
        heads=tuple((("", len(labels)), *line) for line in above if any(text for text, _ in line)),
        note=_note(protocols, sorted({len(rows) for rows in mine.values()}), profile),
    )


def _means(cells: Mapping[tuple, Sequence[Row]], metrics: Sequence[str]) -> Iterator[tuple[tuple, str]]:
    """(label, data set, metric), and its mean and half interval in per cent; nothing where nothing is known."""
    for (*label, place), rows in cells.items():
        seeds = [row.get("seed") for row in rows]
        rule = f"one row per seed, found the seeds {seeds} of {place}"
        require(len(set(seeds)) == len(seeds), "ours", rule, "Add the label that differs", ", ".join(label))
        for metric in metrics:
            values = [row[metric] for row in rows if row.get(metric) is not None and not math.isnan(row[metric])]
            if values:
                yield (tuple(label), place, metric), per_cent(*mean_interval(values))


def _note(protocols: Sequence[str], seeds: Sequence[int], profile: str) -> str:
    """The note below the table; `seeds`: the sorted numbers of seeds per cell."""
    sentences = [f"Per cent{''.join(f'; published: {protocol}' for protocol in protocols)}."]
    if seeds and seeds[-1] > 1:
        numbers = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else seeds[0]
        sentences.append(f"Ours: mean \N{PLUS-MINUS SIGN} half of the 95 % interval over {numbers} seeds.")
    if seeds and protocols and profile == "mini":
        sentences.append(NO_COMPARISON)
    return " ".join(sentences)


CLAIMS = ("claim", "setting", "metric", "paper_effect", "mini_effect", "ci_low", "ci_high", "seeds", "verdict")
SHORT = "short trainings, visible boxes of the ground truth"
SIMILAR = 0.01  # of AP: results that differ by less are called similar. Ours


def verdict(ci_low: float | int, ci_high: float | int, claimed: str = "more") -> str:
    """The verdict on a claimed effect: "holds" if the whole interval is as claimed, "does not hold" if none of it is.

    Otherwise, or without an interval (NaN), "undecided".

    Args:
        claimed: "more": above zero; "less": below zero; "similar": within `SIMILAR` of zero.
    """
    if claimed == "similar":
        nearest = max(ci_low, -ci_high, 0)  # distance of the interval from zero
        return "holds" if max(-ci_low, ci_high) < SIMILAR else "does not hold" if nearest >= SIMILAR else "undecided"
    low, high = (ci_low, ci_high) if claimed == "more" else (-ci_high, -ci_low)
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def claims_shown(rows: Sequence[Row], title: str | None = None, photo: Sequence[Row] = ()) -> Table:
    """The rows of `paper_claims`, or of ``claims.csv``, as a table with effects in points.

    Args:
        rows: of `mini` or `paper`.
        photo: of `photo`, for two more columns.
    """
    on_photographs = {claim_key(row): row for row in photo}
    shown = []
    for row in rows:
        paper = row["paper_effect"]
        cells = {
            "claim": row["claim"],
            "setting": row["setting"],
            "points of": row["metric"],
            "paper, points": "" if paper is None else points(paper),
            "mini, points (95 % interval)": effect_shown(row),
            "seeds": row["seeds"],
            "in mini": row["verdict"],
        }
        if photo:
            there = on_photographs.get(claim_key(row), {})
            tried = there.get("mini_effect") is not None
            cells["photo, points (95 % interval)"] = effect_shown(there) if tried else ""
            cells["on photographs"] = there["verdict"] if tried else ""
        shown.append(cells)
    return table_html(shown, title=title)


def claim_key(row: Row) -> tuple[object, ...]:
    """What tells a claim from the others: its text, setting and metric."""
    return tuple(row[key] for key in CLAIMS[:3])


def effect_shown(row: Row) -> str:
    """The effect of a row of ``claims.csv`` in points, with its interval; "not tried" if there is none."""
    effect, low, high = (row.get(key) for key in CLAIMS[4:7])
    return "not tried" if effect is None else points(*([effect] if low is None else [effect, low, high]))


@dataclass(frozen=True)
class Claim:
    """A claim of the paper (section "Experiments"), the published numbers behind it, and our row that tests it."""

    text: str
    setting: str  # of both sides, and where the paper's differs
    metric: str  # of our table
    table: str  # of ours, with `difference`, `ci_low`, `ci_high`, `seeds`
    where: Mapping[str, str]  # column -> value in its row
    published: tuple[Mapping[str, str], Mapping[str, str]] | None = None  # rows: minuend, subtrahend
    claimed: str = "more"  # of our difference; see `verdict`
    negate: bool = False  # our table has the opposite difference: arm minus the paper's arm
    last: bool = False  # take the last of several rows: the mix of all sets but one


def _on_a_test_set(place: str) -> Iterator[Claim]:
    title, network, boxes = TITLES[place], "AISFormer-style (ours)", "the detector's boxes"
    labels, tables = {"data set": place}, ("zero_shot_differences", "supervised_differences")
    for metric in ("AP", "AP50", "AP occluded"):
        here = labels | {"metric": metric}
        end_to_end = here | {"table": "supervised", "front-end": "AISFormer", "method": "own amodal masks"}
        pair = (here | {"table": "zero-shot", "method": "SAMEO"}, end_to_end)
        text = f"{title}: a detector with SAMEO beats a network trained end to end"
        setting = "both zero-shot; in the paper the network has seen the set's train split"
        yield Claim(text, setting, metric, tables[0], labels | {"baseline": network}, pair)
        text = f"{title}: SAMEO on the boxes of the end-to-end network beats that network's own masks"
        pair = (end_to_end | {"method": "SAMEO"}, end_to_end)
        setting = "both zero-shot; in the paper both supervised"
        yield Claim(text, setting, metric, tables[0], labels | {"front-end": network}, pair)
    supervised = labels | {"table": "supervised", "metric": "AP", "front-end": "RTMDet*"}
    pair = (supervised | {"method": "SAMEO"}, supervised | {"method": "own visible masks"})
    text = f"{title}: SAMEO beats the detector's visible masks taken as they are"
    yield Claim(text, f"supervised, {boxes}", "AP", tables[1], labels | {"baseline": "its own masks"}, pair)
    text = f"{title}: SAMEO beats un-tuned EfficientSAM"
    for setting, table in zip((f"zero-shot, {boxes}", f"supervised, {boxes}"), tables, strict=True):
        yield Claim(text, setting, "AP", table, labels | {"baseline": "EfficientSAM"})
    text = f"{title}: visible and amodal boxes give similar results (within {100 * SIMILAR:g} point)"
    where = labels | {"arm": "amodal boxes"}
    yield Claim(text, "zero-shot, ground-truth boxes", "AP", "prompt_differences", where, claimed="similar")


def _of_the_ablations() -> Iterator[Claim]:
    by_arm = "ablation_differences"
    rescoring = {"table": "ablation of IoU re-scoring", "metric": "AP"}
    pair = (rescoring | {"setting": "with IoU re-scoring"}, rescoring | {"setting": "without IoU re-scoring"})
    where = {"arm": "with re-scoring"}
    setting = "zero-shot, the detector's boxes (photographs: ground-truth boxes of score 1)"
    yield Claim("IoU re-scoring raises AP", setting, "AP", "rescoring", where, pair)
    prompt = {"table": "ablation of the training prompt", "metric": "AP"}
    for kind in ("amodal", "visible"):
        text = f"Training on both kinds of boxes beats training on {kind} boxes alone"
        where = {"question": "training prompt", "arm": f"prompt_{kind}"}
        pair = (prompt | {"setting": "random"}, prompt | {"setting": f"{kind} boxes"})
        yield Claim(text, SHORT, "AP", by_arm, where, pair, negate=True)
    for question, arm, words in (
        ("dual annotation", "dual_off", "among the other sets"),
        ("dual annotation alone", "alone_dual_off", "on Amodal-LVIS alone"),
    ):
        text = f"Dual annotation lowers the over-prediction of un-occluded objects, {words}"
        where = {"question": question, "arm": arm}
        yield Claim(text, SHORT, "un-occluded excess", by_arm, where, claimed="less", negate=True)
    text = "Adding Amodal-LVIS to the other training sets raises AP"
    yield Claim(text, SHORT, "AP", by_arm, {"question": "data mix"}, negate=True, last=True)


def paper_claims(results: Path) -> list[dict[str, object]]:
    """Rows of ``claims.csv``, with the columns `CLAIMS`.

    Effects are differences of shares: 0.019 for 1.9 points of AP. A claim without its table has not been tried. One
    seed has no interval; the verdict then gives the sign of the effect.

    Args:
        results: folder of a profile's tables, e.g. ``data/results/mini``.

    Raises:
        InputError: a table without the columns or the row of a claim, or with two such rows.
    """
    published = read_published()
    claims = [*_on_a_test_set("cocoa_cls"), *_on_a_test_set("d2sa"), *_of_the_ablations()]
    return [_judged(claim, _paper_effect(claim, published), _our_row(claim, results)) for claim in claims]


def _paper_effect(claim: Claim, published: Sequence[Row]) -> float | None:
    if claim.published is None:
        return None
    values = [[row["value"] for row in published if _matches(row, wanted)] for wanted in claim.published]
    return round((max(values[0]) - max(values[1])) / 100, 4) if all(values) else None


def _our_row(claim: Claim, results: Path) -> Row | None:
    path = results / f"{claim.table}.csv"
    if not path.is_file():
        return None
    wanted, numbers = {"metric": claim.metric, **claim.where}, {"difference", "ci_low", "ci_high", "seeds"}
    rows = read_table(path)
    if claim.where.get("question") not in (None, *(row.get("question") for row in rows)):
        return None  # this profile asked other questions
    listed = [row for row in rows if _matches(row, wanted) and numbers <= row.keys()]
    listed = [row for row in listed if row.get("data set") == listed[0].get("data set")]  # the first test set's
    rule = f"one row with {wanted} and {', '.join(sorted(numbers))}, found {len(listed)}"
    require(len(listed) == 1 or (listed and claim.last), path, rule, "Run the notebook again")
    return listed[-1]


def _judged(claim: Claim, paper_effect: float | None, ours: Row | None) -> dict[str, object]:
    effect = low = high = None
    seeds, words = 0, "undecided"
    if ours is not None:
        sign, seeds = -1 if claim.negate else 1, ours["seeds"]
        effect = sign * ours["difference"]
        if seeds > 1:
            low, high = sorted((sign * ours["ci_low"], sign * ours["ci_high"]))
            words = verdict(low, high, claim.claimed)
        else:
            words = "one seed: for it" if verdict(effect, effect, claim.claimed) == "holds" else "one seed: against it"
    cells = (claim.text, claim.setting, claim.metric, paper_effect, effect, low, high, seeds, words)
    return dict(zip(CLAIMS, cells, strict=True))


def _matches(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(row.get(key) == value for key, value in wanted.items())
