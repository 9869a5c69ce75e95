"""Fine-tuning: what a batch holds, what is cached, what learns; a killed run ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import seeded_nano
from joblib.externals.loky import get_reusable_executor

from sameo_core import pipeline
from sameo_core.__main__ import main
from sameo_core.config import RECIPES, TrainingConfig, load_profile, recipe
from sameo_core.model import build_efficient_sam
from sameo_core.pipeline import train, train_all, training_sets
from sameo_core.training import (
    BatchSampler,
    build_optimiser,
    fine_tuning,
    learning_rate_factor,
    loop,
    sampling,
    training_log,
)

# ------------------------------------------------------------------------------------------------- rate and optimiser


def test_learning_rate_rises_linearly_and_falls_with_a_cosine():
    recipe = TrainingConfig(iterations=110, warmup_iterations=10)
    factors = [learning_rate_factor(i, recipe) for i in range(110)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.5)  # half-way down
    assert factors[35] == pytest.approx((1 + 0.5**0.5) / 2)  # cosine of 45 degrees
    assert 0 < factors[-1] < 1e-3 and learning_rate_factor(110, recipe) == pytest.approx(0)
    assert all(a > b for a, b in zip(factors[10:], factors[11:], strict=False))
    assert learning_rate_factor(0, TrainingConfig(iterations=1, warmup_iterations=0)) == 1


def test_a_short_run_warms_up_for_a_fifth_of_it():
    recipe = TrainingConfig(iterations=100, warmup_iterations=500)
    assert [learning_rate_factor(i, recipe) for i in (0, 9, 19, 20, 60)] == pytest.approx([0.05, 0.5, 1, 1, 0.5])
    longer = TrainingConfig(iterations=100, warmup_iterations=500, max_warmup_share=0.5)
    assert learning_rate_factor(24, longer) == pytest.approx(0.5)


def test_a_constant_rate_stays_where_the_warm_up_leads():
    recipe = TrainingConfig(iterations=100, warmup_iterations=10, schedule="constant")
    assert [learning_rate_factor(i, recipe) for i in (4, 9, 10, 99)] == pytest.approx([0.5, 1, 1, 1])


@pytest.mark.parametrize(
    ("optimiser", "after"),
    [
        ("adamw", [0.9, 0.8]),  # the gradient's sign, whatever its size
        ("sgd", [1 - 0.1 * 2, 1 - 0.1 * 2 - 0.1 * (0.9 * 2 + 2)]),  # momentum 0.9
    ],
)
def test_two_steps_of_an_optimiser(optimiser, after):
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    stepper = build_optimiser([weight], TrainingConfig(optimiser=optimiser, learning_rate=0.1))
    for expected in after:
        weight.grad = torch.tensor([2.0])
        stepper.step()
        assert weight.item() == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ fine-tuning


class Killed(BaseException):
    """What a test raises in place of a kill."""


def interrupt(monkeypatch, after, module=fine_tuning, name="training_loss"):
    """The function `name` of a module stops the run at call number `after`."""
    original, calls = getattr(module, name), []

    def stopping(*arguments):
        if len(calls) == after:
            raise Killed
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(module, name, stopping)
    return calls


def test_only_the_decoder_learns(world):
    path = train(world.profile())
    before, after = seeded_nano().state_dict(), build_efficient_sam("nano", path).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    frozen = {key for key in before if key.startswith(("image_encoder.", "prompt_encoder."))}
    assert frozen and not changed & frozen
    # Of the four masks only the single one learns; the others' hypernetworks receive no gradient.
    alternatives = tuple(f"mask_decoder.output_hypernetworks_mlps.{i}." for i in (1, 2, 3))
    rest = {key for key in before.keys() - frozen if not key.startswith(alternatives)}
    assert all(key.startswith("mask_decoder.") for key in changed) and len(changed & rest) > 0.9 * len(rest)


def test_the_run_folder_says_how_it_came_about(world):
    profile = world.profile()
    path = train(profile, seed=5)
    folder = path.parent
    assert {file.name for file in folder.iterdir()} - {"lock"} == {
        "config.json",
        "environment.json",
        "sampling.json",
        "log.csv",
        "sameo.safetensors",
    }
    assert path.name == "sameo.safetensors" and folder.parent == profile.runs and folder.name.startswith("sameo-")
    written = json.loads((folder / "config.json").read_text())
    assert written["training"]["seeds"] == [5] and written["training"]["iterations"] == 6
    assert written["data"]["train"] == ["cocoa"]
    there = json.loads((folder / "environment.json").read_text())
    assert there["packages"]["torch"] == torch.__version__ and there["threads"] == profile.training.cpu_threads
    assert sampling(path) == [{"data set": "cocoa", "images": 6, "probability": 1.0, "drawn": 12, "realised": 1.0}]
    log = training_log(path)
    assert [row["step"] for row in log] == [2, 4, 6]
    assert set(log[0]) == {"step", "total", "dice", "focal", "iou", "learning_rate"}
    for row in log:
        assert row["total"] == pytest.approx(row["dice"] + row["focal"] + 0.05 * row["iou"], abs=1e-5)
        assert 0 < row["dice"] < 1
    recipe = profile.training
    rates = [recipe.learning_rate * learning_rate_factor(i, recipe) for i in (1, 3, 5)]
    assert [row["learning_rate"] for row in log] == pytest.approx(rates)


def test_the_loss_falls_on_a_batch_that_is_seen_again_and_again(world, monkeypatch):
    batch = BatchSampler.batch
    monkeypatch.setattr(BatchSampler, "batch", lambda sampler, iteration: batch(sampler, 0))
    log = training_log(train(world.profile(iterations=30, log_every=5)))
    assert log[-1]["total"] < 0.85 * log[0]["total"]


def test_bf16_on_a_cpu_that_has_it_is_close_to_float32_and_elsewhere_the_same(world, monkeypatch):
    def losses(amx, **overrides):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
        log = training_log(train(world.profile(**overrides)))
        return [row["total"] for row in log]

    exact = losses(True)  # `mini` asks for float32
    rounded = losses(True, bf16=True)
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.02)
    assert losses(False, bf16=True, log_every=3)[-1] == losses(True, bf16=False, log_every=3)[-1]


def test_the_sets_of_several_runs_are_opened_once(world, monkeypatch):
    opened, original = [], pipeline.open_clean_dataset
    monkeypatch.setattr(pipeline, "open_clean_dataset", lambda *what: opened.append(what) or original(*what))
    for seed in (0, 1):
        train(world.profile(iterations=2), seed)
    train(world.profile(iterations=2, sampling="uniform"))
    assert len(opened) == 1
    train(world.profile(iterations=2, min_visible_share=0.9))
    assert len(opened) == 2


def test_a_run_is_found_and_not_repeated(world, monkeypatch):
    path = train(world.profile())
    calls = interrupt(monkeypatch, after=0)
    assert train(world.profile()) == path
    assert train(world.profile(seeds=(3, 4))) == path  # other seeds of the profile are other runs
    assert not calls
    assert train(world.profile(min_visible_pixels=11)) == path  # the objects are the same, so is the run
    for other in ({"iterations": 7}, {"amodal_prompt_share": 0.4}, {"min_visible_share": 0.9}):
        with pytest.raises(Killed):  # it trains
            train(world.profile(**other))
    with pytest.raises(Killed):
        train(world.profile(), seed=1)


def test_without_weights_the_random_start_is_always_the_same(world, monkeypatch):
    path = train(world.profile(weights=None, iterations=1))
    torch.rand(3)
    assert train(world.profile(weights=None, iterations=1)) == path


@pytest.fixture
def undisturbed(world, monkeypatch):
    """Bytes of weights and log of a run that nothing stopped; its folder is gone."""
    path = train(world.profile())
    kept = path.read_bytes(), (path.parent / "log.csv").read_bytes()
    for file in path.parent.iterdir():
        file.unlink()
    return kept


@pytest.mark.parametrize(
    ("module", "name", "after"),
    [
        (fine_tuning, "training_loss", 1),  # before the first checkpoint
        (fine_tuning, "training_loss", 2),  # right after it
        (fine_tuning, "training_loss", 5),  # between two
        (loop, "save_checkpoint", 0),  # logged, but not saved: nothing to resume
        (loop, "save_checkpoint", 1),  # the same, with an older checkpoint
    ],
)
def test_a_stopped_run_ends_as_an_undisturbed_one(world, undisturbed, module, name, after):
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after, module, name)
        with pytest.raises(Killed):
            train(world.profile())
    path = train(world.profile())
    assert (path.read_bytes(), (path.parent / "log.csv").read_bytes()) == undisturbed


def test_an_interrupted_run_leaves_its_best_weights(world, undisturbed):
    saved, save = [], loop.save_checkpoint

    def recorded(state, path):
        saved.append({"step": state["iteration"], "decoder": {k: v.clone() for k, v in state["decoder"].items()}})
        save(state, path)

    calls, loss = iter(range(99)), fine_tuning.training_loss

    def interrupted(model, batch, recipe):
        number = next(calls)
        if number == 5:
            raise KeyboardInterrupt
        terms = loss(model, batch, recipe)  # windows of two iterations: the second is the best
        return terms._replace(total=terms.total - (10 if number in (2, 3) else 0))

    profile = world.profile(iterations=8, log_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", recorded)
        patch.setattr(fine_tuning, "training_loss", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"up to iteration 4\): .*best.safetensors; the same call goes on"):
            train(profile)
    (folder,) = [path.parent for path in profile.runs.glob("sameo-*/best.safetensors")]
    best = build_efficient_sam("nano", folder / "best.safetensors").mask_decoder.state_dict()
    assert [state["step"] for state in saved] == [2, 4]
    assert all(torch.equal(best[name], value) for name, value in saved[1]["decoder"].items())
    assert not (folder / "sameo.safetensors").exists()
    path = train(profile)
    assert path.parent == folder and not (folder / "best.safetensors").exists()


def test_the_best_weights_outlive_a_kill(world):
    """Interrupted in a later process, before anything better came: the best are those of the killed one."""
    profile = world.profile(iterations=8, log_every=2)

    calls, loss = iter(range(99)), fine_tuning.training_loss

    def lucky(model, batch, recipe):
        number = next(calls)
        if number in (3, 6):
            raise Killed if number == 3 else KeyboardInterrupt
        terms = loss(model, batch, recipe)
        return terms._replace(total=terms.total - (10 if number < 2 else 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "training_loss", lucky)
        with pytest.raises(Killed):
            train(profile)
        with pytest.raises(KeyboardInterrupt, match="up to iteration 2"):
            train(profile)


def test_an_interrupt_before_anything_was_logged_leaves_nothing(world, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "training_loss", interrupted)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        train(world.profile())
    assert not list(world.profile().runs.glob("sameo-*/*.safetensors"))


@pytest.mark.parametrize("half", [True, False])
def test_the_same_run_whether_embeddings_are_kept_or_not(world, half):
    """With a cache, without, and with one that is too small: same batches, same losses, same weights."""
    files = []
    for gigabytes in (None, 0, 1e-4 if half else 2e-4):  # the last: one embedding of 64 KiB (128 KiB), not six
        path = train(world.profile(half_embeddings=half, embedding_cache_gigabytes=gigabytes))
        kept = list((path.parent.parent / "embeddings").rglob("*.embedding"))
        assert 3 <= len(kept) <= 6 if gigabytes is None else len(kept) == (gigabytes > 0)
        files.append((path.read_bytes(), (path.parent / "log.csv").read_bytes()))
        shutil.rmtree(path.parent)
        shutil.rmtree(path.parent.parent / "embeddings", ignore_errors=True)
    assert files[0] == files[1] == files[2]


def arguments_of(profile):
    """What `load_profile` must be given in another process."""
    fields = ("weights", "iterations", "batch_images", "warmup_iterations", "log_every")
    given = {"name": "mini"} | {key: getattr(profile.training, key) for key in fields}
    fields = ("train", "teacher", "held_out", "visible_only", "train_images", "val_images")
    given |= {key: getattr(profile.data, key) for key in fields}
    assert load_profile(**given).data == profile.data
    return given


KILL = """
    import os, signal, torch
    from sameo_core.config import load_profile
    from sameo_core.pipeline import train

    torch.set_num_threads({threads})
    save = torch.save

    def half_a_checkpoint(state, file):
        save(state, file)
        if state["iteration"] == 4:
            file.truncate(1000)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half_a_checkpoint
    train(load_profile(**{profile}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_killed_while_it_wrote_a_checkpoint_resumes(world, undisturbed):
    tiny = world.profile()
    source = textwrap.dedent(KILL).format(threads=torch.get_num_threads(), profile=arguments_of(tiny))
    environment = os.environ | {"SAMEO_ROOT": str(world.root)}
    run = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    (folder,) = tiny.runs.glob("sameo-*")
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["iteration"] == 2
    path = train(tiny)
    assert path.parent == folder
    assert (path.read_bytes(), (folder / "log.csv").read_bytes()) == undisturbed


def test_a_loss_that_is_not_finite_stops_and_names_the_images(world, undisturbed):
    loss, batches = fine_tuning.training_loss, []

    def spoilt(model, batch, recipe):
        terms = loss(model, batch, recipe)
        batches.append(batch)
        return terms._replace(total=terms.total * float("nan")) if len(batches) == 4 else terms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "training_loss", spoilt)
        with pytest.raises(FloatingPointError, match="step 3: the loss is nan") as error:
            train(world.profile())
    assert len(batches[3].names) == 2 and all(name in str(error.value) for name in batches[3].names)
    (folder,) = world.profile().runs.glob("sameo-*")
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 2 and all(value.isfinite().all() for value in state["decoder"].values())
    path = train(world.profile())  # the fault removed, it goes on from there
    assert (path.read_bytes(), (path.parent / "log.csv").read_bytes()) == undisturbed


def test_several_runs_at_once_give_the_weights_of_one_after_the_other(world, undisturbed, monkeypatch):
    """Two processes, one a run; what they share is there before they start."""
    monkeypatch.setenv("SAMEO_ROOT", str(world.root))
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 2)
    get_reusable_executor().shutdown(wait=True)  # workers that started before know another root
    profile = world.profile()
    first, second, again = train_all([(profile, 0), (profile, 1), (recipe("zero_shot", profile), 0)])
    get_reusable_executor().shutdown(wait=True)
    assert again == first and first.parent != second.parent and first.read_bytes() != second.read_bytes()
    assert (first.read_bytes(), (first.parent / "log.csv").read_bytes()) == undisturbed
    assert train(profile, 1) == second  # found


def test_a_supervised_recipe_trains_on_the_training_split_of_its_set_alone(world):
    profile = recipe("supervised_cocoa_cls", world.profile(cocoa_cls_iterations=2, train_images=8, log_every=1))
    (dataset,) = training_sets(profile)
    assert (dataset.name, dataset.split) == ("cocoa_cls", "train")
    assert len(training_log(train(profile))) == 2


VERB = ["train", "--override", "train=cocoa,", "train_images=6", "iterations=2", "batch_images=2", "log_every=1"]


def test_the_verb_trains_a_recipe(world, capsys):
    assert main([*VERB, "weights=start.safetensors"]) == 0
    path = Path(capsys.readouterr().out.strip())
    fields = {"train": ("cocoa",), "train_images": 6, "iterations": 2, "batch_images": 2, "log_every": 1}
    profile = load_profile("mini", weights="start.safetensors", **fields)
    assert len(training_log(path)) == 2 and train(profile, 0) == path
    assert main([*VERB, "weights=start.safetensors", "ablation_iterations=1", "--recipe", "mix_1", "--seed", "3"]) == 0
    other = Path(capsys.readouterr().out.strip())
    config = json.loads((other.parent / "config.json").read_text())["training"]
    assert (config["seeds"], config["iterations"], config["unoccluded_share"]) == ([3], 2, None)  # the last word


def test_the_verb_lists_the_recipes_and_passes_on_what_an_interrupt_leaves(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt("best weights so far: there")

    monkeypatch.setattr(pipeline, "train", interrupted)
    assert main(["train"]) == 130 and "best weights so far: there" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)
