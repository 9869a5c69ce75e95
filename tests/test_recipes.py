"""Trainings by name: what each changes of a profile, and that nothing else changes with it."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import dataset_of

from sameo_core import pipeline
from sameo_core.__main__ import main
from sameo_core.config import (
    PHOTO_QUESTIONS,
    QUESTIONS,
    RECIPES,
    Profile,
    ablation,
    config_hash,
    load_profile,
    recipe,
    teacher_profile,
)
from sameo_core.datasets import coco_number
from sameo_core.errors import InputError
from sameo_core.pipeline import training_sets, trainings

PROFILES = pytest.mark.parametrize("name", ["paper", "mini"])
PAPER_AMODAL = ("cocoa", "kins", "kitti360_aps", "muva", "dyce", "mp3d_amodal", "walt", "pix2gestalt")


def changed(profile, other):
    """Fields of data and training that differ, with the values of `other`."""
    sections = [(asdict(getattr(profile, s)), asdict(getattr(other, s))) for s in ("data", "training")]
    return {key: after[key] for before, after in sections for key in before if before[key] != after[key]}


def test_the_zero_shot_recipe_is_the_papers():
    paper = recipe("zero_shot", load_profile("paper"))
    assert set(paper.data.train) == {*PAPER_AMODAL, "amodal_lvis"}
    assert (paper.training.batch_images, paper.training.iterations) == (32, 40_000)
    assert recipe("zero_shot", load_profile("mini")) == load_profile("mini")
    with_held_out = load_profile("paper", train=("d2sa", "kins", "cocoa_cls"))
    assert recipe("zero_shot", with_held_out).data.train == ("kins",)


@pytest.mark.parametrize(("name", "iterations"), [("cocoa_cls", 1_440), ("d2sa", 2_340), ("muva", 22_500)])
def test_a_supervised_recipe_learns_from_its_set_alone(name, iterations):
    for profile, length in ((load_profile("paper"), iterations), (load_profile("mini"), 150)):
        supervised = recipe(f"supervised_{name}", profile)
        assert supervised.data.train == (name,) and supervised.training.iterations == length
        assert name not in supervised.data.held_out
        assert changed(profile, supervised).keys() <= {"train", "held_out", "iterations"}


@PROFILES
def test_the_teacher_learns_the_same_whatever_an_arm_varies(name):
    profile = load_profile(name)
    teacher = teacher_profile(profile)
    assert teacher.data.train == PAPER_AMODAL and teacher.training.unoccluded_share is None
    assert teacher.training.iterations == {"paper": 40_000, "mini": 300}[name]
    for arm in RECIPES:
        if arm.startswith("mix_") and int(arm[4:]) > len(profile.data.train):
            continue
        seen = teacher_profile(recipe(arm, profile))
        assert (seen.training, seen.data.train) == (teacher.training, teacher.data.train), arm
    assert teacher_profile(profile.override(half_embeddings=False)).training == teacher.training


@PROFILES
def test_arms_differ_from_the_common_one_in_what_their_name_says(name):
    profile = load_profile(name)
    common = recipe("prompt_random", profile)
    assert common == recipe("dual_on", profile) == recipe("sampling_log", profile)
    assert common == recipe(f"mix_{len(profile.data.train)}", profile)
    assert common == recipe("zero_shot", profile) or name == "mini"
    assert common.training.amodal_prompt_share == 0.5 and common.training.sampling == "log"
    assert common.data.dual_annotation and common.training.unoccluded_share is None
    assert common.training.iterations == {"paper": 40_000, "mini": 60}[name]
    expected = {
        "prompt_amodal": {"amodal_prompt_share": 1.0},
        "prompt_visible": {"amodal_prompt_share": 0.0},
        "dual_off": {"dual_annotation": False},
        "alone_dual_on": {"train": ("amodal_lvis",)},
        "alone_dual_off": {"train": ("amodal_lvis",), "dual_annotation": False},
        "mix_1": {"train": ("cocoa",)},
        "mix_2": {"train": profile.data.train[:2]},
        "sampling_uniform": {"sampling": "uniform"},
        "sampling_size": {"sampling": "size"},
    }
    for arm, difference in expected.items():
        assert changed(common, recipe(arm, profile)) == difference, arm


def test_arms_do_not_take_over_what_another_arm_is_about():
    profile = load_profile("mini", amodal_prompt_share=1.0, sampling="size", dual_annotation=False, iterations=7)
    assert changed(recipe("prompt_visible", load_profile("mini")), recipe("prompt_visible", profile)) == {}
    kept = recipe("prompt_visible", load_profile("mini", learning_rate=0.5, seeds=(4,)))
    assert (kept.training.learning_rate, kept.training.seeds) == (0.5, (4,))


def test_questions_of_the_ablations_and_their_arms():
    mini = load_profile("mini")
    arms = {question: ablation(question, mini) for question in QUESTIONS}
    assert list(arms["training prompt"]) == ["prompt_amodal", "prompt_visible", "prompt_random"]
    assert [arm.data.train for arm in arms["data mix"].values()] == [mini.data.train[:n] for n in (1, 2, 3)]
    assert len(ablation("data mix", load_profile("paper"))) == 9
    common = recipe("prompt_random", mini)
    assert all(common == list(arms[q].values())[-1] for q in QUESTIONS if q != "dual annotation alone")
    different = {str(asdict(arm)) for question in arms for arm in arms[question].values()}
    assert len(different) == 10  # the common one, and 2 + 1 + 2 + 2 + 2 others
    assert {name for names in (QUESTIONS | PHOTO_QUESTIONS).values() for name in names} == RECIPES.keys() - {
        "zero_shot",
        "teacher",
        *(name for name in RECIPES if name.startswith("supervised_")),
    }


def test_each_set_is_trained_on_with_its_split(monkeypatch, tmp_path):
    monkeypatch.setattr(Profile, "runs", tmp_path)
    opened = []
    monkeypatch.setattr(
        pipeline, "open_clean_dataset", lambda *asked: opened.append(asked[:2]) or dataset_of([], tmp_path)
    )
    training_sets(load_profile("paper", train=("d2sa", "kins")))
    training_sets(load_profile("mini", train=("d2sa",)))
    assert opened == [("d2sa", "train+augmented"), ("kins", "train"), ("d2sa", "train")]
    with pytest.raises(InputError, match="train_splits"):
        load_profile("paper", train_splits=("d2sa",))


@pytest.mark.parametrize(("how", "left_out"), [({}, [3]), ({"split": "val"}, []), ({"without": False}, [])])
def test_amodal_lvis_shows_no_photograph_that_a_held_out_set_tests_on(how, left_out, monkeypatch, tmp_path, objects):
    pool = replace(objects, image_file=np.array([f"train2017/{number:012d}.jpg" for number in range(1, 9)]))
    tests_on = [SimpleNamespace(path=Path(f"val2014/COCO_val2014_{number:012d}.jpg")) for number in (3, 99)]
    monkeypatch.setattr(Profile, "data_folder", tmp_path)
    (tmp_path / "cocoa_cls").mkdir()
    monkeypatch.setattr(pipeline, "open_dataset", lambda *_: tests_on)
    monkeypatch.setattr(pipeline, "pool_of_profile", lambda *_: pool)
    used = []
    monkeypatch.setattr(pipeline, "synthesize", lambda pool, *_: used.append(pool) or tmp_path)
    profile = load_profile("paper", without_test_images=how.get("without", True))
    pipeline.synthetic_set(profile, None, tmp_path, split=how.get("split", "train"))
    (found,) = used
    assert found.image_file.tolist() == [n for i, n in enumerate(pool.image_file.tolist(), 1) if i not in left_out]
    assert len(found) == 16 - 2 * len(left_out)


def test_numbers_of_coco_are_the_same_in_all_its_releases():
    assert coco_number("train2014/COCO_train2014_000000000009.jpg") == coco_number("000000000009.jpg") == "000000000009"
    assert coco_number("00012.jpg") == coco_number("0000000000091.jpg") == coco_number("000000000009_1.jpg") == ""


@pytest.mark.parametrize("name", ["paper", "mini", "photo"])
def test_the_trainings_of_the_notebooks_are_listed_once(name):
    profile = load_profile(name, seeds=(0, 1))
    jobs = trainings(profile)
    keys = [config_hash(work.__name__, *rest) for _, work, *rest in jobs]
    assert len(set(keys)) == len(keys)
    questions = PHOTO_QUESTIONS if name == "photo" else QUESTIONS
    wanted = [profile, *(arm for question in questions for arm in ablation(question, profile).values())]
    for seed in (0, 1):
        assert {config_hash("train", arm, seed) for arm in wanted} <= set(keys)
    assert {number for number, *_ in jobs} == ({"A2"} if name == "photo" else {"03", "04", "05"})


def test_parts_of_all_trainings_are_trained_in_order(monkeypatch, capsys):
    profile = load_profile("mini")
    jobs = [("03", lambda _, seed: f"weights {seed}", profile, seed) for seed in range(5)]
    monkeypatch.setattr(pipeline, "trainings", lambda _: jobs)
    assert main(["train", "--recipe", "all", "--shard", "1", "--shards", "2"]) == 0
    assert capsys.readouterr().out == "weights 1\nweights 3\n"
    assert main(["train", "--recipe", "all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["train", "--recipe", "all", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "weights 3\n"
    assert main(["train", "--recipe", "all", "--shard", "2", "--shards", "2"]) == 2  # parts count from 0
