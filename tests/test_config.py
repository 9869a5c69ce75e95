"""Profiles: `mini` is a visible difference from `paper`, overrides are checked, the recipe names the run."""

import re
import runpy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pytest

from sameo_core.config import (
    AmodalRcnnConfig,
    CacheConfig,
    CleaningConfig,
    CompletenessConfig,
    DataConfig,
    EvaluationConfig,
    Profile,
    RecipesConfig,
    SynthesisConfig,
    TrainingConfig,
    config_hash,
    load_profile,
    profiles,
)
from sameo_core.errors import InputError

SECTIONS = {
    "data": DataConfig,
    "synthesis": SynthesisConfig,
    "training": TrainingConfig,
    "recipes": RecipesConfig,
    "cache": CacheConfig,
    "amodal_rcnn": AmodalRcnnConfig,
    "evaluation": EvaluationConfig,
}

# ------------------------------------------------------------------------------------------------------------ profiles


def test_mini_is_the_default_and_differs_from_paper_in_these_fields_only():
    paper, mini = asdict(load_profile("paper")), asdict(load_profile())
    assert (paper["name"], mini["name"]) == ("paper", "mini")
    difference = {key: mini[s][key] for s in SECTIONS for key in mini[s] if mini[s][key] != paper[s][key]}
    assert difference == {
        "train": ("cocoa", "muva", "amodal_lvis"),
        "train_splits": (),
        "without_test_images": False,
        "train_images": 1200,
        "val_images": 300,
        "synthetic_images": 2000,
        "complete": paper["synthesis"]["complete"] | {"min_agreement": 0.88},
        "pairs_per_shard": 50,
        "variant": "nano",
        "weights": "efficient_sam_nano.safetensors",
        "iterations": 300,
        "unoccluded_share": 0.88,
        "bf16": False,
        "cpu_threads": 1,
        "learning_rate": 2e-3,
        "warmup_iterations": 40,
        "log_every": 25,
        "cocoa_cls_iterations": 150,
        "d2sa_iterations": 150,
        "muva_iterations": 150,
        "teacher_iterations": 300,
        "ablation_iterations": 60,
        "workers": 0,
        "rcnn_detector": "nano",
        "rcnn_iterations": 160,
        "rcnn_batch_images": 8,
        "rcnn_learning_rate": 1e-3,
        "rcnn_backbone_rate": 0.3,
        "rcnn_warmup_iterations": 20,
        "rcnn_bf16": False,
        "detector": "nano",
    }


def test_paper_says_what_the_paper_says():
    training = load_profile("paper").training
    assert (training.iterations, training.batch_images, training.amodal_prompt_share) == (40_000, 32, 0.5)
    assert training.iou_weight == 0.05
    assert load_profile("paper").synthesis.synthetic_images == 300_000


@pytest.mark.parametrize("name", ["mini", "paper"])
def test_held_out_sets_are_never_trained_on(name):
    data = load_profile(name).data
    assert data.held_out and not set(data.held_out) & set(data.train)


def test_unknown_profile():
    with pytest.raises(InputError, match="one of mini, photo, paper, found 'maxi'"):
        load_profile("maxi")


def test_a_field_name_belongs_to_one_section():
    sections = [*SECTIONS.values(), CleaningConfig, CompletenessConfig]
    names = [field.name for section in sections for field in fields(section)]
    assert len(names) == len(set(names))


# ----------------------------------------------------------------------------------------------------------- overrides


def test_overrides_reach_every_section_and_leave_the_rest():
    profile = load_profile("mini", val_images=7, iterations=9, box_jitter=0.2, feather=0.01, min_agreement=0.5)
    plain = load_profile("mini")
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


@pytest.mark.parametrize("name", ["mini", "paper"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iterations", 10.0),
        ("iterations", "10"),
        ("iterations", True),
        ("iterations", None),
        ("learning_rate", "1e-3"),
        ("learning_rate", True),
        ("drop_stuff", 1),
        ("variant", None),
        ("weights", 3),
        ("train_images", "many"),
        ("train_images", 2.5),
        ("train", "cocoa"),
        ("seeds", 0),
        ("seeds", (0.5,)),
        ("sampling", "Log"),
        ("sampling", None),
        ("embedding_cache_gigabytes", "5"),
    ],
)
def test_a_value_of_another_type_is_refused(name, key, value):
    with pytest.raises(InputError, match=re.escape(f"found {value!r}.")) as error:
        load_profile(name, **{key: value})
    assert (error.value.file, error.value.record) == (f"profile {name}", key)


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(InputError, match="Did you mean 'iterations'"):
        load_profile("mini", iteration=10)
    with pytest.raises(InputError, match="Known are train, teacher, .*boxes_per_pass"):
        load_profile("mini", xyz=10)
    with pytest.raises(InputError, match="unknown field"):
        load_profile("mini", training=TrainingConfig())  # a section is not a field


def test_overrides_of_a_command_line():
    words = ["iterations=10", "learning_rate=1e-3", "weights=None", "sampling=size", "dual_annotation=False"]
    words += ["train=cocoa,kins", "seeds=3,4", "teacher=cocoa,", "rate_edges=(0.1, 0.5)", "held_out=['d2sa',]"]
    found = profiles.read_overrides(words)
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
    assert profiles.read_overrides(["train=coco", "seeds=3"]) == {"train": ("coco",), "seeds": (3,)}
    assert profiles.read_overrides([]) == {}
    for word in ("iterations", "=3", "iterations="):
        with pytest.raises(InputError, match="FIELD=VALUE, found"):
            profiles.read_overrides([word])


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
