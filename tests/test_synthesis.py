"""Amodal-LVIS as a set: what is written, what is refused, and the verb that makes it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import IMAGES, SMALL, World, tree

from sameo_core.__main__ import main
from sameo_core.config import CompletenessConfig, load_profile, teacher_profile
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.masks import decode_rle, mask_box
from sameo_core.miniature import draw_dataset
from sameo_core.pipeline import pool_of_profile, synthetic_set
from sameo_core.synthesis import compose, draw_pair, read_statistics, synthesize

# ------------------------------------------------------------------------------------------------------- the data set


def test_what_is_written_is_read_back(finished, objects):
    dataset = load_dataset("amodal_lvis", finished, "train")
    assert len(dataset) == IMAGES and dataset.skipped == {} and dataset.categories == {1: "a", 2: "b"}
    assert [image.image_id for image in dataset] == list(range(1, IMAGES + 1))
    assert sorted(i.instance_id for image in dataset for i in image.instances) == list(range(1, 3 * IMAGES // 2 + 1))
    for number in range(IMAGES // 2):
        original, occluded = dataset[2 * number], dataset[2 * number + 1]
        assert [image.extras["version"] for image in (original, occluded)] == ["original", "occluded"]
        assert [image.extras["pair_id"] for image in (original, occluded)] == [number] * 2
        pair = draw_pair(objects, SMALL, 0, number)
        (before,), (target, occluder) = original.instances, occluded.instances
        mask = objects.mask(pair.target)
        over = pair.occluder_mask(*mask.shape)
        assert np.array_equal(before.amodal, mask) and before.occlusion_rate == 0
        assert np.array_equal(target.amodal, mask) and np.array_equal(target.visible, mask & ~over)
        assert target.occlusion_rate == pair.achieved_rate
        assert np.array_equal(occluder.amodal, over) and occluder.occlusion_rate == 0
        assert original.read().shape == occluded.read().shape == (96, 128, 3)
        assert original.path.read_bytes() == objects.path(pair.target).read_bytes()
        for instance, index in ((before, pair.target), (target, pair.target), (occluder, pair.occluder)):
            told = {key: value for key, value in instance.extras.items() if key != "synthesis"}
            assert told == objects.provenance(index) and instance.category_id == objects.category_id[index]
        assert before.extras["synthesis"] == {"seed": 0, "pair": number, "role": "target"}
        assert target.extras["synthesis"] == before.extras["synthesis"] | {"target_rate": pair.target_rate}
        height, width = pair.alpha.shape
        assert occluder.extras["synthesis"] == {
            "seed": 0,
            "pair": number,
            "role": "occluder",
            "scale": pair.scale,
            "flipped": pair.flipped,
            "direction": pair.direction,
            "paste_box": [*pair.corner, width, height],
            "brightness_shift": compose(objects, pair, SMALL).brightness_shift,
        }


def test_shards_are_coco_files_with_statistics(finished):
    files = sorted((finished / "annotations").iterdir())
    assert [file.name for file in files] == [f"amodal_lvis_train_{i:05d}-of-00003.json" for i in range(3)]
    contents = [json.loads(file.read_text()) for file in files]
    assert [len(content["images"]) for content in contents] == [6, 6, 2]
    for content in contents:
        assert content["categories"] == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        for item in content["annotations"]:
            assert item["iscrowd"] == 0 and item["area"] == decode_rle(item["segmentation"]).sum()
            x, y, w, h = item["bbox"]
            assert [x, y, x + w, y + h] == mask_box(decode_rle(item["segmentation"])).tolist()
            hidden = decode_rle(item["segmentation"]) & ~decode_rle(item["visible_mask"])
            assert item["occlude_rate"] == hidden.sum() / item["area"]
    asked = [a["synthesis"]["target_rate"] for a in contents[0]["annotations"] if "target_rate" in a["synthesis"]]
    told = read_statistics(finished)
    assert told == [content["info"]["statistics"] for content in contents]
    assert [shard["pairs"] for shard in told] == [3, 3, 1] and len(asked) == 3
    assert told[0]["mean_rate_asked"] == pytest.approx(np.mean(asked))
    assert max(shard["largest_deviation"] for shard in told) <= 0.05
    with pytest.raises(InputError):
        read_statistics(finished, "val")


# ------------------------------------------------------------------------------------------------ what cannot be done


def test_pools_too_small_for_a_pair(objects, tmp_path):
    for found in (replace(objects, rule=np.ones(16, int)), objects.rows(np.array([0, 1]))):  # two in one image
        with pytest.raises(InputError, match="complete objects in at least two images"):
            synthesize(found, tmp_path / "out", IMAGES, config=SMALL)
    assert not (tmp_path / "out").exists()


def test_two_splits_lie_side_by_side(objects, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "both")
    before = tree(tmp_path / "both")
    synthesize(objects, tmp_path / "both", 4, split="val", seed=1, config=SMALL)
    after = tree(tmp_path / "both")
    assert before.items() < after.items() and all("val" in name for name in after.keys() - before.keys())
    assert len(load_dataset("amodal_lvis", tmp_path / "both", "val")) == 4


def test_a_folder_of_another_recipe_is_refused_and_left_alone(objects, finished):
    before = tree(finished)
    for arguments, difference in (
        ({"images": 16}, "images 14, asked for 16"),
        ({"seed": 3}, "seed 0, asked for 3"),
        ({"config": replace(SMALL, pairs_per_shard=4, feather=0.01)}, "feather 0.004, asked for 0.01; pairs_per_shard"),
        ({"pool": objects.rows(np.arange(9))}, "pool '[0-9a-f]{16}', asked for '[0-9a-f]{16}'"),
    ):
        with pytest.raises(InputError, match=f"recipe.json: .*{difference}"):
            synthesize(**{"pool": objects, "out": finished, "images": IMAGES, "config": SMALL} | arguments)
    thresholds = replace(SMALL, complete=CompletenessConfig(min_agreement=0.1), synthetic_images=9)
    synthesize(objects, finished, IMAGES, config=thresholds)  # these are not of the recipe
    assert tree(finished) == before


def test_damaged_and_foreign_folders_are_refused(objects, finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    recipe = tmp_path / "synthesis_train/recipe.json"
    for damage in (lambda: recipe.write_text("{"), lambda: recipe.write_text("7"), recipe.unlink):
        damage()
        with pytest.raises(InputError, match="recipe.json"):
            synthesize(objects, tmp_path, IMAGES, config=SMALL)


# ---------------------------------------------------------------------------------------------- the profile, the verb


def test_the_teacher_has_not_seen_what_it_judges():
    paper = teacher_profile(load_profile("paper"))
    assert paper.data.train == tuple(name for name in load_profile("paper").data.train if name != "amodal_lvis")
    mini = load_profile("mini", teacher=["cocoa", "lvis", "amodal_lvis"])
    teacher = teacher_profile(mini)
    assert teacher.data.train == ("cocoa",)
    as_they_come = mini.override(unoccluded_share=None, iterations=mini.recipes.teacher_iterations)
    assert teacher.training == as_they_come.training  # not held back from continuing objects
    assert mini.training.unoccluded_share


LENIENT = {"min_agreement": 0.0, "max_predicted_hidden": 1e9, "train_images": 10, "pairs_per_shard": 2}


def test_the_set_of_a_profile_is_made_once(world: World, capsys):
    profile = world.profile(**LENIENT, visible_only=("lvis",))
    weights = world.root / "data/weights/start.safetensors"
    out = synthetic_set(profile, weights, images=6)
    assert out.parent == profile.runs and len(load_dataset("amodal_lvis", out, "train")) == 6
    before = {p: p.stat().st_mtime_ns for p in profile.runs.rglob("*") if p.is_file()}
    assert synthetic_set(profile, weights, images=6) == out
    assert before == {p: p.stat().st_mtime_ns for p in profile.runs.rglob("*") if p.is_file()}
    assert synthetic_set(profile, weights, images=6, seed=1) != out
    named = synthetic_set(profile, weights, world.root / "named", images=6)
    assert tree(named) == tree(out)


def test_absent_sources_are_skipped_as_long_as_one_is_there(world: World, monkeypatch, capsys):
    monkeypatch.setattr("sameo_core.config.profiles.RAW", world.root / "raw")
    draw_dataset("lvis", world.root / "raw" / "lvis", "train", 10, jobs=1)
    weights = world.root / "data/weights/start.safetensors"
    changes = {key: value for key, value in LENIENT.items() if key != "train_images"}
    found = pool_of_profile(load_profile("paper", **changes), weights)
    assert found.source.tolist() == ["lvis"] and len(found.complete()) > 3
    assert "lvvis is left out" in capsys.readouterr().out
    (world.root / "raw" / "lvis" / "annotations" / "lvis_v1_train.json").write_text("{")
    with pytest.raises(InputError, match="lvis_v1_train.json: not valid JSON"):  # there, but damaged: no reason to skip
        pool_of_profile(load_profile("paper", **changes), weights)
    shutil.rmtree(world.root / "raw")
    with pytest.raises(InputError, match="the folder of lvis must exist"):
        pool_of_profile(load_profile("paper", **changes), weights)


def test_the_verb_makes_a_set_from_a_pool(objects, tmp_path, capsys):
    path = str(objects.save(tmp_path / "pool.npz"))
    command = ["synthesize", "--pool", path, "--images", "8", "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--shard", "1", "--shards", "2"]) == 0 and not list(tmp_path.glob("out/annotations/*"))
    assert main(command) == 0
    assert len(load_dataset("amodal_lvis", tmp_path / "out", "train")) == 8
    assert main([*command, "--seed", "1"]) == 2
    assert "another recipe: seed 0, asked for 1" in capsys.readouterr().err
    assert main(["synthesize", "--pool", str(tmp_path / "absent.npz"), "--out", str(tmp_path / "b")]) == 2


def test_the_verb_asks_a_teacher_that_was_fine_tuned_without_lvis(world: World, tmp_path, monkeypatch):
    profile = world.profile(**LENIENT, visible_only=("lvis",), train=("cocoa", "amodal_lvis"), synthetic_images=4)
    monkeypatch.setattr("sameo_core.__main__.load_profile", lambda name: profile)
    assert main(["synthesize", "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert len(load_dataset("amodal_lvis", tmp_path / "out", "train")) == 4
    (run,) = profile.runs.glob("sameo-*")
    assert json.loads((run / "config.json").read_text())["data"]["train"] == ["cocoa"]
