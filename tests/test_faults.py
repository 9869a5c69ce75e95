"""Whatever happens to a process, to the disk or to the clock: a clear message, and the same results afterwards.

Training and embeddings are here, synthesis, tables and other files in test_faults_files. Elsewhere:

    killed: test_training, test_process_group (a rank of several), test_shards, test_downloads
    disk full: test_shards, test_embedding_cache, test_array_cache, test_downloads
    cut short, damaged: test_embedding_cache, test_sameo (weights), test_json_index, test_array_cache,
        test_datasets_on_demand (JSON), test_photographs (images), test_downloads
    two processes: test_run_folder (a claim waits, and ends with its process), test_training, test_embedding_cache
"""

import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import tree
from faults import another_byte, empty, half, read_only, small_disk, zeros
from test_training import Killed, interrupt

from sameo_core import miniature, pipeline
from sameo_core.errors import InputError
from sameo_core.pipeline import open_clean_dataset, train, training_sets
from sameo_core.runs.folders import locked
from sameo_core.training import EmbeddingCache

# ------------------------------------------------------------------------------------------------------------ training


def results(path):
    return path.read_bytes(), (path.parent / "log.csv").read_bytes()


@pytest.fixture(scope="session")
def trained():
    """Bytes of weights and log of a training that nothing stopped; filled by the first test that asks."""
    return []


@pytest.fixture
def undisturbed(world, trained):
    if not trained:
        path = train(world.profile())
        trained.append(results(path))
        shutil.rmtree(path.parent)
    return trained[0]


@pytest.fixture
def stopped(world, undisturbed):
    """The folder of a run that was stopped in its fourth step, with a checkpoint and a log of two."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=3)
        with pytest.raises(Killed):
            train(world.profile())
    (folder,) = world.profile().runs.glob("sameo-*")
    return folder


@pytest.mark.parametrize("damage", [empty, zeros, another_byte])
def test_a_damaged_checkpoint_is_put_aside_and_the_run_begins_again(world, stopped, undisturbed, damage, monkeypatch):
    damage(stopped / "checkpoint.pt")
    steps = interrupt(monkeypatch, after=99)
    with pytest.warns(UserWarning, match="put aside as checkpoint.pt.corrupt"):
        path = train(world.profile())
    assert path.parent == stopped and results(path) == undisturbed and len(steps) == 6


@pytest.mark.parametrize("damage", [half, Path.unlink])
def test_a_damaged_log_comes_back_with_the_checkpoint(world, stopped, undisturbed, damage, monkeypatch):
    damage(stopped / "log.csv")
    steps = interrupt(monkeypatch, after=99)
    assert results(train(world.profile())) == undisturbed and len(steps) == 4


def test_weights_that_are_cut_short_are_trained_again(world, undisturbed):
    path = train(world.profile())
    half(path)
    assert train(world.profile()) == path and results(path) == undisturbed


def test_a_damaged_image_stops_a_training_that_goes_on_when_it_is_mended(world, stopped, undisturbed):
    shutil.rmtree(world.profile().runs / "embeddings")
    images = [image.path for image in open_clean_dataset("cocoa", "train", world.profile())]
    whole = {path: path.read_bytes() for path in images}
    for path in images:
        half(path)
    with pytest.raises(InputError, match=r"\.jpg, image \d+: .*fetch it again") as error:
        train(world.profile())
    assert Path(error.value.file) in images
    for path, content in whole.items():
        path.write_bytes(content)
    assert results(train(world.profile())) == undisturbed


def test_a_training_goes_on_without_a_damaged_image_where_that_is_allowed(world):
    profile = world.profile()
    half(next(image.path for image in open_clean_dataset("cocoa", "train", profile)))
    with pytest.raises(InputError, match="bad_images=10"):
        train(profile)
    (folder,) = profile.runs.glob("sameo-*")
    with pytest.warns(UserWarning, match=r"1 images were left out:\n.*jpg: the image file cannot be decoded"):
        weights = train(profile.override(bad_images=1))
    assert weights.parent == folder  # the same run: the number does not belong to its name


@pytest.mark.parametrize(("kilobytes", "steps"), [(1_000, 0), (16_000, 2)])
def test_a_full_disk_stops_a_training_that_goes_on_when_there_is_room(
    world, undisturbed, kilobytes, steps, monkeypatch
):
    """Of 12 MB each, no checkpoint fits, or the second does not beside the first."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        interrupt(patch, after=0)
        train(world.profile())
    (folder,) = world.profile().runs.glob("sameo-*")
    with small_disk(folder, kilobytes) as resize:
        with pytest.raises(InputError, match=r"it cannot be written: .*[\d,]+ bytes are free\)\. Free space") as error:
            train(world.profile())
        assert error.value.file == str(folder / "checkpoint.pt") and not list(folder.glob("*.partial"))
        assert (folder / "checkpoint.pt").exists() == (steps > 0)
        resize(60_000)
        calls = interrupt(monkeypatch, after=99)
        path = train(world.profile())
        assert path.parent == folder and results(path) == undisturbed and len(calls) == 6 - steps


def test_what_another_process_draws_meanwhile_is_taken(world, monkeypatch):
    """A file that the second process replaced would have changed under a reader of the first."""
    profile, waited = world.profile(), []

    @contextmanager
    def waiting(folder):  # the other process comes to its end while this one waits
        waited.append(folder)
        miniature.draw_dataset("d2sa", folder, "val", profile.data.val_images, jobs=1)
        monkeypatch.setattr(miniature, "_write", None)  # from here on nothing is drawn
        yield

    monkeypatch.setattr(pipeline, "locked", waiting)
    assert len(pipeline.open_dataset("d2sa", "val", profile)) == profile.data.val_images
    assert waited == [profile.data_folder / "d2sa"]


def test_a_clock_that_jumps_changes_no_training(world, stopped, undisturbed, monkeypatch):
    hours = iter(range(10**6))
    now, now_ns = time.time(), time.time_ns()
    monkeypatch.setattr(time, "time", lambda: now + 3600.0 * (-1) ** next(hours) * next(hours))
    monkeypatch.setattr(time, "time_ns", lambda: now_ns + 3600 * 10**9 * (-1) ** next(hours) * next(hours))
    for path, day in zip(sorted(stopped.iterdir()), (-1, 1) * 9, strict=False):
        os.utime(path, (now + 86400 * day,) * 2)
    assert results(train(world.profile())) == undisturbed


def test_in_a_read_only_folder_what_is_finished_is_found(world, undisturbed):
    path = train(world.profile())
    with read_only(world.root):
        assert train(world.profile()) == path and results(path) == undisturbed
        pipeline._open_sets.cache_clear()
        assert len(training_sets(world.profile())[0])


def test_in_a_read_only_folder_a_run_says_what_it_cannot_write(world, stopped, undisturbed):
    before = tree(stopped)
    with read_only(world.root):
        with pytest.raises(InputError, match=r"(Read-only file system|Permission denied).*correct the rights") as error:
            train(world.profile())
        assert Path(error.value.file).parent == stopped
        with pytest.raises(InputError, match="correct the rights"):
            train(world.profile(), seed=1)  # a folder that is not there yet
    assert tree(stopped) == before
    assert results(train(world.profile())) == undisturbed


def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_claims_the_folder(tmp_path):
    with locked(tmp_path / "run"):
        (tmp_path / "run/checkpoint.pt.elsewhere-7.partial").write_bytes(b"half of")
        with locked(tmp_path / "run"):  # by the same process: it may be writing just then
            assert list((tmp_path / "run").glob("*.partial"))
    with locked(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


# ---------------------------------------------------------------------------------------------------------- embeddings


@pytest.fixture
def images(world):
    return list(open_clean_dataset("cocoa", "train", world.profile()))


def test_half_an_embedding_of_a_killed_process_is_passed_over(nano, images, tmp_path):
    expected = EmbeddingCache(nano.model, tmp_path / "kept").embed(images)
    killed = next((tmp_path / "kept").rglob("*.embedding"))
    half(killed)
    killed.rename(f"{killed}.elsewhere-7.partial")
    cache = EmbeddingCache(nano.model, tmp_path / "kept")
    assert torch.equal(cache.embed(images), expected) and cache.encoded == 1


def test_in_a_read_only_folder_images_are_encoded_anew(nano, images, tmp_path):
    folder = tmp_path / "kept"
    EmbeddingCache(nano.model, folder).embed(images[:1])
    expected, before = EmbeddingCache(nano.model, None).embed(images[:2]), tree(folder)
    with read_only(folder):
        cache = EmbeddingCache(nano.model, folder)
        with pytest.warns(UserWarning, match="are not kept: .*(Read-only|Permission).*encoded anew"):
            found = cache.embed(images[:2])
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
        assert cache.encoded == 1
    assert tree(folder) == before
