"""Fine-tuning: what a batch holds, what is cached, what learns; a killed run ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import plain_dataset, rectangle, seeded_nano

from sameo_core import training
from sameo_core.collection import open_clean_dataset
from sameo_core.config import TrainingConfig, load_profile
from sameo_core.efficient_sam import build_efficient_sam
from sameo_core.errors import InputError
from sameo_core.training import (
    BatchSampler,
    EmbeddingCache,
    fine_tune,
    learning_rate_factor,
    set_probabilities,
    shrink_masks,
    training_log,
)

# ------------------------------------------------------------------------------------------------------- by hand


def test_sets_are_drawn_by_the_logarithm_of_their_size():
    assert set_probabilities([1, 7]) == pytest.approx([1 / 4, 3 / 4])  # log 2 : log 8
    assert set_probabilities([5]) == pytest.approx([1])
    assert set_probabilities([9, 9, 99]) == pytest.approx([1 / 4, 1 / 4, 1 / 2])  # log 10 : log 10 : log 100


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


def test_shrunken_masks_are_soft_at_the_border():
    # Half as large, antialiased: a cell weighs pixels at distance 1/2, 1/2, 3/2 from its centre with 3/4, 3/4, 1/4.
    left_half = rectangle((4, 4), 0, 0, 2, 4)
    found = shrink_masks(np.stack([left_half, left_half.T, ~left_half, left_half | True]), (2, 2))
    assert found.dtype == torch.float32
    row = torch.tensor([[6 / 7, 1 / 7]]).expand(2, 2)
    assert torch.allclose(found, torch.stack([row, row.T, 1 - row, torch.ones(2, 2)]), atol=1e-6)
    assert shrink_masks(left_half[None], (8, 8)).shape == (1, 8, 8)  # an image smaller than the decoder's output
    assert torch.equal(shrink_masks(left_half[None], (4, 4))[0] >= 0.5, torch.from_numpy(left_half))


# --------------------------------------------------------------------------------------------------------- batches


class Numbered(EmbeddingCache):
    """Instead of embeddings, the image's index everywhere: "2 4 4"."""

    def __init__(self, images):
        self._embeddings = np.broadcast_to(np.arange(images, dtype=np.float16)[:, None, None, None], (images, 2, 4, 4))


def plain_sampler(sizes=(1, 7), seed=0, **recipe):
    sets = [plain_dataset(size, f"set{size}") for size in sizes]
    recipe = TrainingConfig(**{"batch_images": 4, "boxes_per_image": 2} | recipe)
    return BatchSampler(sets, [Numbered(size) for size in sizes], recipe, 120, seed)  # from 40 x 60 pixels: x 3 and x 2


def equal(a, b):
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("embedding", "boxes", "targets"))
    return tensors and a.image_ids == b.image_ids


def test_a_batch_depends_on_seed_and_iteration_alone():
    used, fresh = plain_sampler(), plain_sampler()
    for iteration in (0, 1, 2):
        used.batch(iteration)
    assert equal(used.batch(3), fresh.batch(3)) and equal(used.batch(3), fresh.batch(3))
    assert not equal(fresh.batch(3), fresh.batch(4))
    assert not equal(fresh.batch(3), plain_sampler(seed=1).batch(3))


def test_shapes_of_a_batch():
    batch = plain_sampler(boxes_per_image=3).batch(0)  # images have two objects: one of them comes twice
    assert batch.embedding.shape == (4, 2, 4, 4) and batch.embedding.dtype == torch.float32
    assert batch.boxes.shape == (4, 3, 4) and batch.targets.shape == (4, 3, 16, 16)
    assert all(len(row.unique(dim=0)) >= 2 for row in batch.targets)


def drawn_objects(sampler, iterations):
    """(data set's size, image, object, kind of box) of every prompt; asserts that everything belongs together."""
    sets = {dataset.name: dataset for dataset in sampler.sets}
    for batch in map(sampler.batch, range(iterations)):
        for name, embedding, boxes, targets in zip(
            batch.image_ids, batch.embedding, batch.boxes, batch.targets, strict=True
        ):
            dataset = sets[name.split()[0]]
            image = dataset[int(name.split()[1])]
            assert (embedding == image.image_id).all()
            for box, target in zip((boxes / torch.tensor([2, 3, 2, 3])).tolist(), targets, strict=True):
                kinds = [
                    (j, kind)
                    for j, item in enumerate(image.instances)
                    for kind in ("visible", "amodal")
                    if np.allclose(getattr(item, f"{kind}_box"), box, atol=1e-3)
                ]
                number = kinds[0][0]
                assert torch.equal(target, shrink_masks(image.instances[number].amodal[None], (16, 16))[0])
                yield len(dataset), image.image_id, number, kinds[0][1] if len(kinds) == 1 else "both"


def test_prompts_targets_and_embeddings_are_of_the_same_object():
    drawn = list(drawn_objects(plain_sampler(), 100))
    assert len(drawn) == 800
    assert {(size, image) for size, image, *_ in drawn} == {(1, 0)} | {(7, image) for image in range(7)}
    large = np.mean([size == 7 for size, *_ in drawn[::2]])  # one draw an image
    assert abs(large - 3 / 4) < 4 * (3 / 16 / 400) ** 0.5


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_share_of_amodal_prompts(share):
    drawn = list(drawn_objects(plain_sampler(amodal_prompt_share=share), 150))
    kinds = [kind for _, _, number, kind in drawn if number == 0]  # occluded: its two boxes differ
    assert {kind for _, _, number, kind in drawn if number == 1} == {"both"}
    assert len(kinds) == 600
    found = np.mean([kind == "amodal" for kind in kinds])
    assert abs(found - share) <= 4 * (share * (1 - share) / len(kinds)) ** 0.5


# ----------------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def dataset(world, monkeypatch):
    monkeypatch.setattr(training, "ENCODING_BATCH", 2)
    return open_clean_dataset("cocoa", "train", world.profile())


@pytest.fixture
def encoded(monkeypatch):
    """How many images each call of the encoder got; `encoded.fail_at` interrupts that call."""

    class Calls(list):
        fail_at = None

    calls, encode = Calls(), training.EfficientSam.encode_images

    def counted(model, images):
        if len(calls) == calls.fail_at:
            raise KeyboardInterrupt
        calls.append(len(images))
        return encode(model, images)

    monkeypatch.setattr(training.EfficientSam, "encode_images", counted)
    return calls


def test_the_cache_holds_what_the_encoder_says(nano, dataset, tmp_path, encoded):
    cache = EmbeddingCache(nano.model, dataset, tmp_path)
    assert len(cache) == len(dataset) == sum(encoded) and cache[0].dtype == torch.float16
    assert len({(image.height, image.width) for image in dataset}) > 1 and max(encoded) == 2  # groups of one size
    for index, image in enumerate(dataset):
        expected = nano.embed(image.read())[0].half().float()
        assert torch.allclose(cache[index].float(), expected, rtol=2e-3, atol=1e-3)


def test_every_image_is_encoded_once(nano, dataset, tmp_path, encoded):
    first = EmbeddingCache(nano.model, dataset, tmp_path)
    second = EmbeddingCache(seeded_nano(), dataset, tmp_path)  # equal weights
    assert sum(encoded) == len(dataset) and first.path == second.path
    assert torch.equal(first[1], second[1]) and [path.name for path in tmp_path.glob("*.*")] == [first.path.name]


def test_an_interrupted_cache_goes_on_where_it_stopped(nano, dataset, tmp_path, encoded):
    whole = EmbeddingCache(nano.model, dataset, tmp_path / "whole")
    calls = len(encoded)
    assert calls > 2
    encoded.clear()
    encoded.fail_at = 2
    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(nano.model, dataset, tmp_path / "parts")
    assert not list((tmp_path / "parts").glob("*.npy"))
    encoded.fail_at = None
    resumed = EmbeddingCache(nano.model, dataset, tmp_path / "parts")
    assert len(encoded) == calls  # nothing was encoded twice
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [whole.path.name]


def test_other_weights_or_images_have_another_cache(nano, dataset, tmp_path):
    path = EmbeddingCache(nano.model, dataset, tmp_path).path
    other = EmbeddingCache(seeded_nano(seed=1), dataset, tmp_path)
    assert other.path != path and other.path.read_bytes() != path.read_bytes()
    kept = dataset.census().image > 0  # all but the first image
    assert EmbeddingCache(nano.model, dataset.select(kept), tmp_path).path not in (path, other.path)


# ------------------------------------------------------------------------------------------------------ fine-tuning


class Killed(BaseException):
    """What a test raises in place of a kill."""


def interrupt(monkeypatch, after, name="training_loss"):
    """The function `name` of the module stops the run at call number `after`."""
    original, calls = getattr(training, name), []

    def stopping(*arguments):
        if len(calls) == after:
            raise Killed
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(training, name, stopping)
    return calls


def test_only_the_decoder_learns(world):
    path = fine_tune(world.profile())
    before, after = seeded_nano().state_dict(), build_efficient_sam("nano", path).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    frozen = {key for key in before if key.startswith(("image_encoder.", "prompt_encoder."))}
    assert frozen and not changed & frozen
    # Of the four masks only the single one learns; the others' hypernetworks receive no gradient.
    alternatives = tuple(f"mask_decoder.output_hypernetworks_mlps.{i}." for i in (1, 2, 3))
    rest = {key for key in before.keys() - frozen if not key.startswith(alternatives)}
    assert changed == {key for key in changed if key.startswith("mask_decoder.")} and len(changed & rest) > 0.9 * len(
        rest
    )


def test_the_run_folder_says_how_it_came_about(world):
    profile = world.profile()
    path = fine_tune(profile, seed=5)
    folder = path.parent
    assert path.name == "sameo.safetensors" and folder.parent == profile.runs and folder.name.startswith("sameo-")
    written = json.loads((folder / "config.json").read_text())
    assert written["training"]["seeds"] == [5] and written["training"]["iterations"] == 6
    assert written["data"]["train"] == ["cocoa"]
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
    log = training_log(fine_tune(world.profile(iterations=30, log_every=5)))
    assert log[-1]["total"] < 0.85 * log[0]["total"]


def test_a_run_is_found_and_not_repeated(world, monkeypatch):
    path = fine_tune(world.profile())
    calls = interrupt(monkeypatch, after=0)
    assert fine_tune(world.profile()) == path
    assert fine_tune(world.profile(seeds=(3, 4))) == path  # other seeds of the profile are other runs
    assert not calls
    assert fine_tune(world.profile(min_visible_pixels=11)) == path  # the objects are the same, so is the run
    for other in ({"iterations": 7}, {"amodal_prompt_share": 0.4}, {"min_visible_share": 0.9}):
        with pytest.raises(Killed):  # it trains
            fine_tune(world.profile(**other))
    with pytest.raises(Killed):
        fine_tune(world.profile(), seed=1)


def test_seeds_differ(world):
    a, b = fine_tune(world.profile(iterations=2), seed=0), fine_tune(world.profile(iterations=2), seed=1)
    assert a != b and a.read_bytes() != b.read_bytes()


def test_without_weights_the_random_start_is_always_the_same(world, monkeypatch):
    path = fine_tune(world.profile(weights=None, iterations=1))
    torch.rand(3)
    assert fine_tune(world.profile(weights=None, iterations=1)) == path


@pytest.fixture
def undisturbed(world, monkeypatch):
    """Bytes of weights and log of a run that nothing stopped; its folder is gone."""
    path = fine_tune(world.profile())
    kept = path.read_bytes(), (path.parent / "log.csv").read_bytes()
    for file in path.parent.iterdir():
        file.unlink()
    return kept


@pytest.mark.parametrize(
    ("where", "after"),
    [
        ("training_loss", 1),  # before the first checkpoint
        ("training_loss", 2),  # right after it
        ("training_loss", 5),  # between two
        ("save_checkpoint", 0),  # logged, but not saved: nothing to resume
        ("save_checkpoint", 1),  # the same, with an older checkpoint
    ],
)
def test_a_stopped_run_ends_as_an_undisturbed_one(world, undisturbed, where, after):
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after, where)
        with pytest.raises(Killed):
            fine_tune(world.profile())
    path = fine_tune(world.profile())
    assert (path.read_bytes(), (path.parent / "log.csv").read_bytes()) == undisturbed


KILL = """
    import os, signal, torch
    from sameo_core import training
    from sameo_core.config import load_profile

    torch.set_num_threads({threads})
    save = torch.save

    def half_a_checkpoint(state, path):
        save(state, path)
        if state["iteration"] == 4:
            os.truncate(path, 1000)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half_a_checkpoint
    training.fine_tune(load_profile(**{profile}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_killed_while_it_wrote_a_checkpoint_resumes(world, undisturbed):
    tiny = world.profile()
    keys = ("weights", "iterations", "batch_images", "warmup_iterations", "log_every")
    profile = {"name": "mini"} | {key: getattr(tiny.training, key) for key in keys}
    profile |= {"train_images": tiny.data.train_images, "val_images": tiny.data.val_images}
    assert load_profile(**profile).data == tiny.data
    source = textwrap.dedent(KILL).format(threads=torch.get_num_threads(), profile=profile)
    environment = os.environ | {"SAMEO_ROOT": str(world.root)}
    run = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    (folder,) = tiny.runs.glob("sameo-*")
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["iteration"] == 2
    path = fine_tune(tiny)
    assert path.parent == folder
    assert (path.read_bytes(), (folder / "log.csv").read_bytes()) == undisturbed


def test_a_loss_that_is_not_finite_stops_and_names_the_images(world, undisturbed):
    loss, batches = training.training_loss, []

    def spoilt(model, batch, recipe):
        terms = loss(model, batch, recipe)
        batches.append(batch)
        return terms._replace(total=terms.total * float("nan")) if len(batches) == 4 else terms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "training_loss", spoilt)
        with pytest.raises(FloatingPointError, match="iteration 3: the loss is nan") as error:
            fine_tune(world.profile())
    assert len(batches[3].image_ids) == 2 and all(name in str(error.value) for name in batches[3].image_ids)
    (folder,) = world.profile().runs.glob("sameo-*")
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 2 and all(value.isfinite().all() for value in state["decoder"].values())
    path = fine_tune(world.profile())  # the fault removed, it goes on from there
    assert (path.read_bytes(), (path.parent / "log.csv").read_bytes()) == undisturbed


def test_missing_weights_are_named(world):
    with pytest.raises(InputError, match="must exist") as error:
        fine_tune(world.profile(weights="absent.safetensors"))
    assert error.value.file == str(world.root / "data/weights/absent.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_share_of_unoccluded_objects(share):
    """In images that have one object of each kind: with probability `share` the one that nothing hides."""
    recipe = replace(load_profile("mini").training, unoccluded_share=share, batch_images=8, boxes_per_image=2)
    dataset = plain_dataset(4)
    sampler = BatchSampler([dataset], [], recipe, 256, seed=0)
    rng = np.random.default_rng(0)
    chosen = [item for _ in range(500) for item in sampler._choose(rng, dataset[0])]
    found = np.mean([item.occlusion_rate == 0 for item in chosen])
    assert abs(found - share) <= 4 * (share * (1 - share) / len(chosen)) ** 0.5
