"""Published numbers keep their sources; the paper's tables put ours beside them and never mix the two."""

import math

import pytest

from sameo_core.datasets import READERS
from sameo_core.errors import InputError
from sameo_core.reporting import mean_interval, paper_table, read_published
from sameo_core.reporting.claims import NO_COMPARISON

COLUMNS = "table,method,front-end,setting,data set,metric,value,protocol,source,address,note".split(",")


def test_every_published_number_has_a_source_and_is_a_percentage():
    rows = read_published()
    assert len(rows) >= 40 and list(rows[0]) == COLUMNS
    for row in rows:
        assert all(row[key] for key in ("table", "method", "metric", "source")) and 0 <= row["value"] <= 100, row
        assert row["data set"] is None or row["data set"] in READERS, row
        assert row["address"] or not ("arXiv" in row["source"] or "issue" in row["source"]), row
    assert {row["protocol"] for row in rows} == {"class-agnostic", "class-aware", "mIoU"}
    keys = [tuple(value for key, value in row.items() if key not in ("value", "note")) for row in rows]
    assert len(set(keys)) == len(keys), "a number twice"
    assert not [row for row in rows if row["data set"] == "muva" or row["metric"].startswith("AR")]  # none is known


def test_the_papers_own_rows():
    """As printed; the second and third lines of its table, its zero-shot row, and an ablation."""
    supervised = {
        (row["front-end"], row["method"], row["data set"], row["metric"]): row["value"]
        for row in read_published("supervised")
    }
    assert len(supervised) == 20
    assert supervised["RTMDet*", "own visible masks", "d2sa", "AP50"] == 81.3
    assert supervised["AISFormer", "SAMEO", "cocoa_cls", "AP"] == 54.3
    zero_shot = {(row["front-end"], row["data set"]): row["value"] for row in read_published("zero-shot")}
    alone = [supervised["AISFormer", "own amodal masks", place, "AP"] for place in ("cocoa_cls", "d2sa")]
    assert zero_shot["RTMDet*", "cocoa_cls"] - alone[0] == pytest.approx(13.8)
    assert zero_shot["CO-DETR*", "d2sa"] - alone[1] == pytest.approx(8.7)
    gains = {(row["setting"], row["metric"]): row["value"] for row in read_published("ablation of IoU re-scoring")}
    assert gains["with IoU re-scoring", "AP75"] - gains["without IoU re-scoring", "AP75"] == pytest.approx(1.9)


# -------------------------------------------------------------------------------------------------------- side by side


def theirs(front_end, value, metric="AP", place="cocoa_cls", protocol="class-agnostic"):
    row = {"front-end": front_end, "method": "SAMEO", "data set": place, "metric": metric, "value": value}
    return row | {"protocol": protocol}


def mine(front_end, *values, place="cocoa_cls", **more):
    rows = enumerate(values)
    return [{"front-end": front_end, "method": "SAMEO", "data set": place, "seed": s, "AP": v} | more for s, v in rows]


def test_ours_stand_beside_the_published_ones():
    ours = mine("A", 0.5, 0.52) + mine("drawn", 0.25, place="d2sa", AP50=0.4)
    table = paper_table(ours, [theirs("A", 54.3), theirs("B", 81.82, "AP50")], "mini", "Zero-shot")
    half = 100 * (mean_interval([0.5, 0.52])[2] - 0.51)
    assert table.columns == ("front-end", "method", "AP", "AP50", "AP", "AP50", "AP", "AP50")
    assert table.heads == (
        (("", 2), ("published", 2), ("mini, drawn world", 4)),
        (("", 2), ("COCOA-cls", 2), ("COCOA-cls", 2), ("D2SA", 2)),
    )
    assert table.cells == (
        ("A", "SAMEO", "54.3", "", f"51.0 ± {half:.1f}", "", "", ""),
        ("B", "SAMEO", "", "81.82", "", "", "", ""),
        ("drawn", "SAMEO", "", "", "", "", "25.0", "40.0"),
    )
    assert table.title == "Zero-shot · mini: drawn world" and table.note.endswith(NO_COMPARISON)
    assert "published: class-agnostic" in table.note and "over 1 to 2 seeds" in table.note
    for text in (str(table), table.latex("a"), table._repr_html_()):
        assert NO_COMPARISON in text and "54.3" in text and "drawn world" in text


def test_in_paper_the_same_rows_can_be_compared():
    table = paper_table(mine("A", 0.5), [theirs("A", 54.3)], "paper", "Zero-shot", metrics=["AP"])
    assert table.cells == (("A", "SAMEO", "54.3", "50.0"),) and table.heads[0][2] == ("ours", 1)
    assert "compared" not in table.note and "seeds" not in table.note and table.title == "Zero-shot · paper"


def test_data_sets_that_are_asked_for_stand_in_both_groups():
    table = paper_table(
        mine("A", 0.5) + mine("A", 0.1, place="kins"), [theirs("A", 54.3)], "mini", "T",
        metrics=["AP"], data_sets=["muva", "cocoa_cls"],
    )  # fmt: skip
    assert table.heads[1] == (("", 2), ("MUVA", 1), ("COCOA-cls", 1), ("MUVA", 1), ("COCOA-cls", 1))
    assert table.cells == (("A", "SAMEO", "", "54.3", "", "50.0"),)


def test_an_ablation_without_a_stated_data_set():
    ours = [{"setting": "with IoU re-scoring", "data set": "cocoa_cls", "seed": 0, "AP75": 0.4}]
    rows = read_published("ablation of IoU re-scoring")
    table = paper_table(ours, rows, "mini", "IoU", labels=["setting"], metrics=["AP75"])
    assert table.cells == (("without IoU re-scoring", "57.8", ""), ("with IoU re-scoring", "59.7", "40.0"))
    assert table.heads == ((("", 1), ("published", 1), ("mini, drawn world", 1)), (("", 1), ("", 1), ("COCOA-cls", 1)))


def test_published_alone_and_ours_alone():
    alone = paper_table([], read_published("supervised"), "paper", "Supervised", data_sets=["cocoa_cls", "d2sa"])
    assert len(alone.cells) == 5 and alone.cells[0][2:6] == ("40.6", "70.5", "66.3", "89.9")
    ours = paper_table(mine("A", math.nan) + mine("B", 0.5), [], "mini", "T", metrics=["AP"])
    assert ours.cells == (("B", "SAMEO", "50.0"),) and NO_COMPARISON not in ours.note


def test_what_is_not_known_is_an_empty_cell():
    table = paper_table(mine("A", math.nan, None, 0.5), [theirs("A", 50.0)], "paper", "T", metrics=["AP"])
    assert table.cells == (("A", "SAMEO", "50.0", "50.0"),)


def test_rows_that_make_no_table():
    with pytest.raises(InputError, match=r"A, SAMEO: .* found the seeds \[0, 0\] of cocoa_cls"):
        paper_table(mine("A", 0.5) * 2, [], "mini", "T")
    with pytest.raises(InputError, match="one protocol"):
        paper_table([], [theirs("A", 1.0), theirs("B", 1.0, protocol="class-aware")], "mini", "T")
