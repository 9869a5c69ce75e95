"""Profiles: overrides are checked, the recipe names the run, paths follow the profile."""

import re
import runpy
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import pytest

from sameo_core.config import Profile, TrainingConfig, config_hash, load_profile, profiles, read_overrides
from sameo_core.errors import InputError

SECTIONS = ("data", "synthesis", "training", "recipes", "cache", "amodal_rcnn", "evaluation")


# ------------------------------------------------------------------------------------------------------------ profiles


@pytest.mark.parametrize("name", ["mini", "paper"])
def test_held_out_sets_are_never_trained_on(name):
    data = load_profile(name).data
    assert data.held_out and not set(data.held_out) & set(data.train)


def test_a_field_name_belongs_to_one_section():
    def names(config):
        for field in fields(config):
            value = getattr(config, field.name)
            yield from names(value) if is_dataclass(value) else [field.name]

    found = list(names(load_profile()))
    assert len(found) == len(set(found))


# ----------------------------------------------------------------------------------------------------------- overrides


def test_overrides_reach_every_section_and_leave_the_rest():
    profile = load_profile("mini", val_images=7, iterations=9, box_jitter=0.2, feather=0.01, min_agreement=0.5)
    plain = load_profile()
    assert profile.data == replace(plain.data, val_images=7)
    complete = replace(plain.synthesis.complete, min_agreement=0.5)
    assert profile.synthesis == replace(plain.synthesis, feather=0.01, complete=complete)
    assert profile.training == replace(plain.training, iterations=9)
    assert profile.evaluation == replace(plain.evaluation, box_jitter=0.2)
    assert load_profile("mini") == plain


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("learning_rate", 1, 1.0),  # an int for a float
        ("seeds", [3, 4], (3, 4)),  # papermill passes lists
        ("train", ["cocoa", "kins"], ("cocoa", "kins")),
        ("train", "cocoa", ("cocoa",)),  # a command line passes a single value
        ("train_images", None, None),
        ("embedding_cache_gigabytes", 5, 5.0),
        ("embedding_cache_gigabytes", None, None),
        ("sampling", "uniform", "uniform"),
        ("weights", None, None),
    ],
)
def test_values_that_mean_the_same_are_taken(key, given, stored):
    profile = load_profile("mini", **{key: given})
    (value,) = [getattr(s, key) for s in map(profile.__getattribute__, SECTIONS) if hasattr(s, key)]
    assert value == stored and type(value) is type(stored)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iterations", 10.0),
        ("iterations", True),
        ("iterations", None),
        ("learning_rate", "1e-3"),
        ("drop_stuff", 1),
        ("weights", 3),
        ("train_images", "many"),
        ("seeds", (0.5,)),
        ("sampling", "Log"),
    ],
)
def test_a_value_of_another_type_is_refused(key, value):
    with pytest.raises(InputError, match=re.escape(f"found {value!r}.")) as error:
        load_profile("mini", **{key: value})
    assert (error.value.file, error.value.record) == ("profile mini", key)


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(InputError, match="Did you mean 'iterations'"):
        load_profile("mini", iteration=10)
    with pytest.raises(InputError, match="unknown field"):
        load_profile("mini", training=TrainingConfig())  # a section is not a field


def test_overrides_of_a_command_line():
    words = ["iterations=10", "learning_rate=1e-3", "weights=None", "sampling=size", "dual_annotation=False"]
    words += ["train=cocoa,kins", "seeds=3,4", "teacher=cocoa,", "rate_edges=(0.1, 0.5)", "held_out=['d2sa',]"]
    found = read_overrides(words)
    assert found == {
        "iterations": 10,
        "learning_rate": 1e-3,
        "weights": None,
        "sampling": "size",
        "dual_annotation": False,
        "train": ("cocoa", "kins"),
        "seeds": (3, 4),
        "teacher": ("cocoa",),
        "rate_edges": (0.1, 0.5),
        "held_out": ("d2sa",),
    }
    assert load_profile("mini", **found).data.train == ("cocoa", "kins")
    assert read_overrides(["seeds=()", "train=,"]) == {"seeds": (), "train": ()}


# -------------------------------------------------------------------------------------------------- the name of a run


@dataclass(frozen=True)
class Recipe:
    rate: float = 0.1
    sets: tuple[str, ...] = ("a",)


def test_hash_is_pinned():
    """A change of these would lose every run that was made before."""
    assert config_hash("mini", {"b": 1, "a": [None, 2.5]}) == "c827e066"
    assert config_hash(Recipe()) == config_hash({"sets": ["a"], "rate": 0.1}) == "7ffe2311"


def test_hash_depends_on_order_and_number_of_parts():
    assert len({config_hash(1, 2), config_hash(2, 1), config_hash(1), config_hash()}) == 4


# --------------------------------------------------------------------------------------------------------------- paths


def test_paths_carry_the_profile(monkeypatch):
    for name in ("RAW", "RUNS"):
        monkeypatch.setattr(profiles, name, Path(name.lower()))
    mini, paper = load_profile("mini"), Profile()
    assert (mini.runs, paper.runs) == (Path("runs/mini"), Path("runs/paper"))
    assert (mini.results, paper.results) == (Path("runs/mini/results"), Path("runs/paper/results"))
    assert (mini.figures, paper.figures) == (Path("runs/mini/figures"), Path("runs/paper/figures"))
    assert (mini.data_folder, paper.data_folder) == (Path("runs/mini/datasets"), Path("raw"))  # drawn | downloaded


def test_paths_start_at_the_repository_or_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("SAMEO_ROOT", raising=False)
    assert runpy.run_path(profiles.__file__)["ROOT"] == Path(__file__).resolve().parents[1]
    monkeypatch.setenv("SAMEO_ROOT", str(tmp_path))
    moved = runpy.run_path(profiles.__file__)
    places = [moved[name] for name in ("WEIGHTS", "RESULTS", "RAW", "RUNS", "NOTEBOOKS")]
    below = ["data/weights", "data/results", "data/raw", "data/runs", "notebooks"]
    assert places == [tmp_path / place for place in below]
