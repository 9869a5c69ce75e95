"""The data sets of a profile: drawn once where they are missing, and freed of stuff and of what hardly shows."""

import functools

import pytest
from conftest import plain_dataset

from sameo_core import miniature, pipeline
from sameo_core.config import load_profile
from sameo_core.errors import InputError
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
    cleaned, absent = open_clean_present(splits, profile)
    assert list(cleaned) == ["cocoa", "cocoa_cls"] and list(absent) == ["amodal_lvis"]
    prints = [found["cocoa"].fingerprint() for found in (cleaned, present)]
    assert prints[0] == open_clean_dataset("cocoa", "train", profile).fingerprint() != prints[1]


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
