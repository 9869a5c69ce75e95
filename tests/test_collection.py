"""The data sets of a profile: drawn once where they are missing, and freed of stuff and of what hardly shows."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from conftest import plain_dataset, rectangle

from sameo_core import miniature, pipeline
from sameo_core.config import load_profile
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask
from sameo_core.pipeline import open_clean_dataset, open_clean_present, open_dataset, open_present


def files_of(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_mini_draws_what_is_missing_and_nothing_twice(world, monkeypatch):
    monkeypatch.setattr(pipeline, "draw_dataset", functools.partial(miniature.draw_dataset, jobs=1))
    profile = world.profile(train_images=2, val_images=1)
    folder = profile.data_folder / "lvis"
    assert not folder.exists()
    train = open_dataset("lvis", "train", profile)
    assert len(train) == 2 and train[0].read().shape == (train[0].height, train[0].width, 3)
    before = files_of(folder)
    assert len(open_dataset("lvis", "val", profile)) == 1
    open_dataset("lvis", "train", profile)
    after = files_of(folder)
    assert before.items() < after.items() and len(after) == len(before) + 2  # one image and its annotations
    assert len(open_dataset("lvis", "train", world.profile(train_images=3))) == 3  # another number: drawn anew


def test_sets_are_drawn_in_sizes_that_differ(world, monkeypatch):
    drawn = {}
    monkeypatch.setattr(pipeline, "draw_dataset", lambda name, root, split, images: drawn.update({name: images}))
    monkeypatch.setattr(pipeline, "load_dataset", lambda *where: plain_dataset(1))
    for name in ("cocoa", "kins", "dyce", "amodal_lvis"):
        open_dataset(name, "train", world.profile(train_images=40))
    assert drawn == {"cocoa": 40, "kins": 10, "dyce": 5}  # Amodal-LVIS is synthesised, not drawn
    open_dataset("kins", "val", world.profile(val_images=7))
    open_dataset("dyce", "train", world.profile(train_images=1))
    assert drawn["kins"] == 7 and drawn["dyce"] == 1  # val splits in full; no set is empty


def test_of_several_sets_those_that_are_here(world):
    profile = world.profile()
    splits = {"cocoa": "train", "amodal_lvis": "train", "cocoa_cls": "val"}
    present, absent = open_present(splits, profile)
    assert {name: len(dataset) for name, dataset in present.items()} == {"cocoa": 6, "cocoa_cls": 4}
    assert list(absent) == ["amodal_lvis"] and absent["amodal_lvis"].file == str(profile.data_folder / "amodal_lvis")


def test_of_several_sets_those_that_are_here_are_cleaned(world):
    profile = world.profile()
    present, absent = open_clean_present({"cocoa": "val", "amodal_lvis": "train"}, profile)
    assert list(present) == ["cocoa"] and list(absent) == ["amodal_lvis"]
    assert present["cocoa"].fingerprint() == open_clean_dataset("cocoa", "val", profile).fingerprint()
    assert present["cocoa"].fingerprint() != open_dataset("cocoa", "val", profile).fingerprint()


def test_none_of_several_sets_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr("sameo_core.config.profiles.RAW", tmp_path)
    with pytest.raises(InputError, match="at least one of kins, muva must be here.*download NAME"):
        open_present({"kins": "train", "muva": "train"}, load_profile("paper"))


def test_paper_draws_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("sameo_core.config.profiles.RAW", tmp_path)
    with pytest.raises(InputError, match=str(tmp_path / "cocoa")):
        open_dataset("cocoa", "val", load_profile("paper"))
    assert not list(tmp_path.iterdir())


def test_cleaning_a_drawn_set_removes_its_stuff(world):
    profile = world.profile()
    raw, clean = open_dataset("cocoa", "train", profile), open_clean_dataset("cocoa", "train", profile)
    stuff = {(i.image_id, o.instance_id) for i in raw for o in i.instances if o.is_stuff}
    assert stuff and not any(item.is_stuff for image in clean for item in image.instances)
    kept = open_clean_dataset("cocoa", "train", world.profile(drop_stuff=False))
    assert stuff <= {(i.image_id, o.instance_id) for i in kept for o in i.instances}
    assert (clean.name, clean.root, clean.split, clean.categories) == (raw.name, raw.root, raw.split, raw.categories)


@pytest.fixture
def by_hand(monkeypatch, tmp_path):
    """Objects of 100 amodal pixels, a square, that show 1, 4, 5, 10 or 100; one of stuff, and one alone in an image."""
    square = rectangle((20, 20), 0, 0, 10, 10)

    def instance(number, pixels, is_stuff=False):
        visible = square & (np.cumsum(square).reshape(square.shape) <= pixels)
        return AmodalInstance(number, 1, "a", is_stuff, encode_mask(square), encode_mask(visible))

    first = tuple(instance(pixels, pixels) for pixels in (1, 4, 5, 10, 100)) + (instance(7, 100, True),)
    image = AmodalImage(1, "1.png", tmp_path / "1.png", 20, 20, first)
    images = [image, replace(image, image_id=2, instances=(instance(8, 100, True),))]
    dataset = AmodalDataset("cocoa", tmp_path, "train", {1: "a"}, images, {"a rule": ["a record"]})
    monkeypatch.setattr(pipeline, "open_dataset", lambda name, split, profile: dataset)
    return dataset


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({}, [[10, 100]]),
        ({"min_visible_pixels": 4}, [[5, 100, 10]]),  # 4 of 100 is less than 5 per cent
        ({"min_visible_pixels": 0, "min_visible_share": 0.0}, [[1, 4, 5, 10, 100]]),
        ({"min_visible_share": 0.11}, [[100]]),
        ({"drop_stuff": False}, [[10, 100, 7], [8]]),
    ],
)
def test_rules_by_hand(by_hand, rules, left):
    clean = open_clean_dataset("cocoa", "train", load_profile("mini", **rules))
    found = [[item.instance_id for item in image.instances] for image in clean]
    assert [sorted(ids) for ids in found] == [sorted(ids) for ids in left]
    assert clean.skipped == {"a rule": ["a record"]}
    assert len(by_hand[0].instances) == 6  # the data set it came from is as it was


def test_nothing_left(by_hand):
    with pytest.raises(InputError, match="no object is left.*thresholds in CleaningConfig"):
        open_clean_dataset("cocoa", "train", load_profile("mini", min_visible_pixels=101))


def test_the_drawn_world_needs_a_number_of_images():
    with pytest.raises(InputError, match="number of images for split 'train'.*Set train_images"):
        open_clean_dataset("cocoa", "train", load_profile("mini", train_images=None))
