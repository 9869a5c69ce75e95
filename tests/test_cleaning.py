"""The filters, each on instances worked by hand, and the report; cleaning at random: test_datasets_on_demand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sameo_core.config import CleaningConfig, DataConfig, load_profile
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance, clean, cleaning_table
from sameo_core.datasets.cleaning import CleaningReport, normalised
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask

SIZE = 20  # images are 20 x 20 = 400 pixels
KEEP_ALL = CleaningConfig(
    drop_stuff=False,
    max_image_share=1.0,
    drop_architecture=False,
    min_visible_pixels=0,
    min_visible_share=0.0,
    walt_occlusion_band=(0.0, 1.0),
)


def rle(pixels):
    """A mask of so many pixels, in reading order."""
    return encode_mask((np.arange(SIZE * SIZE) < pixels).reshape(SIZE, SIZE))


def instance(amodal=100, visible=100, category="cup", stuff=False, number=1):
    return AmodalInstance(number, 1, category, stuff, None if amodal is None else rle(amodal), rle(visible))


def dataset(*images, name="cocoa"):
    images = [
        AmodalImage(i, f"{i}.png", Path(f"{i}.png"), SIZE, SIZE, tuple(instances))
        for i, instances in enumerate(images, start=1)
    ]
    return AmodalDataset(name, Path("root"), "train", {1: "cup"}, images, {"crowd region": ["annotation 1"]}, {1: "f"})


def removed_by(item, name="cocoa", **thresholds):
    """The rule that removes an instance, or None."""
    _, report = clean(dataset([item], name=name), DataConfig(cleaning=replace(KEEP_ALL, **thresholds)))
    (reason,) = [rule for rule, count in report.removed.items() if count] or [None]
    return reason


# ---------------------------------------------------------------------------------------------------------- each rule


@pytest.mark.parametrize(
    ("rule", "thresholds", "removed", "kept"),
    [
        ("stuff", {"drop_stuff": True}, {"stuff": True}, {"category": "sky"}),
        ("stuff", {"drop_stuff": False}, None, {"stuff": True}),
        ("whole image", {"max_image_share": 0.9}, {"amodal": 361, "visible": 50}, {"amodal": 360, "visible": 50}),
        ("few visible pixels", {"min_visible_pixels": 10}, {"amodal": 9, "visible": 9}, {"amodal": 10, "visible": 10}),
        (
            "small visible share",
            {"min_visible_share": 0.05},
            {"amodal": 200, "visible": 9},
            {"amodal": 200, "visible": 10},
        ),
    ],
)
def test_a_rule_at_its_threshold(rule, thresholds, removed, kept):
    assert removed is None or removed_by(instance(**removed), **thresholds) == rule
    assert removed_by(instance(**kept), **thresholds) is None


def test_the_band_of_occlusion_rates_is_for_walt():
    band = {"walt_occlusion_band": (0.25, 0.75)}
    for visible, rule in ((76, "occlusion band"), (75, None), (25, None), (24, "occlusion band")):
        assert removed_by(instance(100, visible), "walt", **band) == rule
    assert removed_by(instance(100, 24), "cocoa", **band) is None


@pytest.mark.parametrize(
    ("name", "architecture", "things"),
    [
        (
            "dyce",
            ["wall", "Wall (2)", " walls", "default (1)", "cube.001", "objects", "door 4"],
            ["chair_tolix (2)", "book 4", "wallet", "doorbell", "carpet", "kitchen knife", "2"],
        ),
        ("mp3d_amodal", ["wall", "Ceiling", "stairs", "unlabeled"], ["chair", "curtain", "board_panel"]),
    ],
)
def test_architecture_goes_and_furniture_stays(name, architecture, things):
    for tag in architecture:
        assert removed_by(instance(category=tag), name, drop_architecture=True) == "architecture"
        assert removed_by(instance(category=tag), "cocoa", drop_architecture=True) is None
        assert removed_by(instance(category=tag), name, drop_architecture=False) is None
    for tag in things:
        assert removed_by(instance(category=tag), name, drop_architecture=True) is None


def test_normalised_tags():
    tags = ["chair_tolix (2)", "tomato  slice", "Book 4", "wall (1) (2)", "cube.001", "7"]
    assert [normalised(tag) for tag in tags] == ["chair tolix", "tomato slice", "book", "wall", "cube.001", "7"]


def test_visible_only_sets_are_cleaned_by_what_is_visible():
    few, enough = instance(amodal=None, visible=9), instance(amodal=None, visible=399)
    cleaned, report = clean(dataset([few, enough], name="lvis"), DataConfig(cleaning=CleaningConfig()))
    assert [i.visible_area for i in cleaned[0].instances] == [399]
    assert report.removed["few visible pixels"] == 1 and sum(report.removed.values()) == 1


# --------------------------------------------------------------------------------------------------------- the report


def test_the_first_rule_that_applies_counts_and_empty_images_go():
    both = instance(amodal=5, visible=5, stuff=True)
    before = dataset([both, instance(number=2)], [both], [])
    cleaned, report = clean(before, DataConfig())
    assert report.removed["stuff"] == 2 and report.removed["few visible pixels"] == 0
    assert (report.instances_in, report.instances_out) == (3, 1) and sum(report.removed.values()) == 2
    assert [image.image_id for image in cleaned] == [1] and [i.instance_id for i in cleaned[0].instances] == [2]
    assert (cleaned.name, cleaned.split, cleaned.root) == ("cocoa", "train", Path("root"))
    assert (cleaned.skipped, cleaned.frequencies) == (before.skipped, before.frequencies)
    assert len(before) == 3 and len(before[0].instances) == 2, "the data set that came in is left as it is"
    assert "architecture" not in report.removed and "occlusion band" not in report.removed


@pytest.mark.parametrize(
    "thresholds",
    [
        {"max_image_share": 90},
        {"min_visible_share": -0.1},
        {"walt_occlusion_band": [0.5, 0.1]},
        {"walt_occlusion_band": [0.5]},
        {"walt_occlusion_band": [0.5, float("nan")]},
    ],
    ids=str,
)
def test_impossible_thresholds_are_refused(thresholds):
    with pytest.raises(InputError, match="cleaning"):
        load_profile("mini", **thresholds)


def test_the_table_has_a_column_for_every_rule_and_empty_cells_where_one_does_not_apply():
    reports = [
        CleaningReport("dyce", 5, 2, {"stuff": 0, "architecture": 3}),
        CleaningReport("cocoa", 4, 3, {"stuff": 1}),
    ]
    assert cleaning_table(reports) == [
        {"data set": "dyce", "in": 5, "stuff": 0, "architecture": 3, "out": 2},
        {"data set": "cocoa", "in": 4, "stuff": 1, "architecture": None, "out": 3},
    ]
