"""Whatever happens to a process, to the disk or to the clock: a clear message, and the same results afterwards.

Which fault is tested where (randomised, over all of them: `benchmarks/soak.py`):

    fault                training           synthesis          embeddings            tables, other files
    killed (SIGKILL)     test_training (1)  test_synthesis     here                  here: tables; test_downloads
    disk full            here               test_synthesis     test_embedding_cache  here; test_array_cache,
                                                                                     test_downloads
    cut short, damaged   here: checkpoint,  here: shard, pool  test_embedding_cache  test_sameo: weights;
                         log, weights,                                               test_json_index, test_array_cache:
                         image                                                       index; test_datasets_on_demand,
                                                                                     test_detection_files: JSON;
                                                                                     test_datasets, test_photographs:
                                                                                     images; test_downloads
    two processes        here; (2)          here               test_embedding_cache  here: drawn data
    clock wrong          here               (3)                here                  here: index
    read-only            here               here (4)           here                  here

    (1) and a rank of several: test_process_group. (2) that a claim waits, and ends with its process: test_run_folder.
    (3) looks at no clock. (4) as all that `atomic_write` writes, and a pool is written first.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import AgreeingTeacher, seeded_nano
from test_synthesis import IMAGES, SMALL, tree
from test_training import Killed, arguments_of, interrupt

from sameo_core import pipeline
from sameo_core.apps.predict import write_json
from sameo_core.config import CompletenessConfig, profiles
from sameo_core.datasets import json_index, load_dataset
from sameo_core.errors import InputError
from sameo_core.miniature import draw_dataset
from sameo_core.miniature.mask_files import save_mask
from sameo_core.model import Sameo
from sameo_core.pipeline import open_clean_dataset, train, training_sets
from sameo_core.reporting import read_table, write_table
from sameo_core.reproduction import NotebookRun, write_report
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.folders import locked, save_checkpoint
from sameo_core.synthesis import collect_complete_objects, shards, synthesize
from sameo_core.training import EmbeddingCache
from sameo_core.training.detectors import save_detector

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


# ------------------------------------------------------------------------------------------------ what does the damage


def half(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def zeros(path):
    """The last third, as a file system may leave it after a crash."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + bytes(len(content) - len(content) * 2 // 3))


def another_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def mount(*arguments):
    if sys.platform != "linux" or subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode:
        pytest.skip("mounting a disk is not permitted here")


@contextmanager
def small_disk(folder, kilobytes):
    """A disk of its own at `folder`, while the block lasts; yields a function that changes its size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder)
    try:
        yield lambda kilobytes: mount("-o", f"remount,size={kilobytes}k", folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder):
    """Nothing in the folder can be written while the block lasts; as root, to whom rights mean nothing, by a mount."""
    if os.getuid():
        below = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        rights = {path: path.stat().st_mode for path in below}
        try:
            for path in below:
                path.chmod(0o555)
            yield
        finally:
            for path, mode in rights.items():
                path.chmod(mode)
        return
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,ro,bind", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def child(work):
    """A process that does the work, which must be free of PyTorch: a fork has none of its threads. Its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def ends_well(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


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


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("damage", [half, empty, zeros, another_byte])
def test_a_damaged_checkpoint_is_put_aside_and_the_run_begins_again(world, stopped, undisturbed, damage, monkeypatch):
    damage(stopped / "checkpoint.pt")
    damaged = (stopped / "checkpoint.pt").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=0)
        told = (
            r"checkpoint.pt: the checkpoint is damaged .* put aside as checkpoint.pt.corrupt, and the run begins again"
        )
        with pytest.warns(UserWarning, match=told), pytest.raises(Killed):
            train(world.profile())
    assert (stopped / "checkpoint.pt.corrupt").read_bytes() == damaged and not (stopped / "log.csv").exists()
    steps = interrupt(monkeypatch, after=99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = train(world.profile())
    assert path.parent == stopped and results(path) == undisturbed and len(steps) == 6
    assert not list(stopped.glob("checkpoint*"))


@pytest.mark.parametrize("damage", [half, empty, another_byte, Path.unlink])
def test_a_damaged_log_comes_back_with_the_checkpoint(world, stopped, undisturbed, damage, monkeypatch):
    damage(stopped / "log.csv")
    steps = interrupt(monkeypatch, after=99)
    assert results(train(world.profile())) == undisturbed and len(steps) == 4


@pytest.mark.parametrize("damage", [half, empty])
def test_weights_that_are_cut_short_are_trained_again(world, undisturbed, damage):
    path = train(world.profile())
    damage(path)
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


BESIDE = """
    import torch
    from sameo_core import pipeline
    from sameo_core.config import load_profile
    from sameo_core.training import loop

    torch.set_num_threads({threads})
    loss, steps = loop.training_loss, []
    loop.training_loss = lambda *arguments: steps.append(1) or loss(*arguments)
    profile = load_profile(**{profile})
    print("ready", flush=True)
    input()
    path = pipeline.train(profile)
    print(len(steps), path)
"""


def test_two_processes_train_the_same_run_once(world, undisturbed, monkeypatch):
    tiny = world.profile()
    source = textwrap.dedent(BESIDE).format(threads=torch.get_num_threads(), profile=arguments_of(tiny))
    environment = os.environ | {"SAMEO_ROOT": str(world.root)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", source], env=environment, **pipes)
    assert other.stdout.readline() == "ready\n", other.communicate()[1]
    other.stdin.write("go\n")
    other.stdin.flush()
    steps = interrupt(monkeypatch, after=99)
    path = train(tiny)
    out, error = other.communicate(timeout=120)
    assert other.returncode == 0, error
    theirs, place = out.split()
    assert sorted([len(steps), int(theirs)]) == [0, 6] and Path(place) == path and results(path) == undisturbed


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


# ----------------------------------------------------------------------------------------------------------- synthesis


@pytest.fixture(scope="module")
def finished(objects, tmp_path_factory):
    return synthesize(objects, tmp_path_factory.mktemp("finished"), IMAGES, config=SMALL)


@pytest.fixture
def copy(finished, tmp_path):
    """A finished set, to be damaged."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.mark.parametrize("damage", [half, empty, zeros])
def test_a_shard_that_is_cut_short_is_told_and_made_again(objects, finished, copy, damage):
    shard = copy / "annotations/amodal_lvis_train_00001-of-00003.json"
    damage(shard)
    with pytest.raises(InputError, match="amodal_lvis_train_00001-of-00003.json: not valid JSON") as error:
        load_dataset("amodal_lvis", copy, "train")
    assert error.value.file == str(shard)
    untouched = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file() and path != shard}
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}


@pytest.mark.parametrize("damage", [half, empty, zeros, another_byte, Path.unlink])
def test_damaged_images_of_a_shard_that_is_made_again_are_mended(objects, finished, copy, damage):
    (copy / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()
    for image in list((copy / "images/train/00001").iterdir())[::2]:
        damage(image)
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)


@pytest.mark.parametrize("damage", [half, empty, zeros, another_byte])
def test_a_damaged_pool_of_a_set_is_written_again(objects, finished, copy, damage):
    (copy / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()
    damage(copy / "synthesis_train/pool.npz")
    shards._pool_of.cache_clear()
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)


@pytest.mark.parametrize("damage", [half, empty, zeros, another_byte])
def test_a_damaged_record_of_objects_is_made_again(source, objects, tmp_path, damage):
    teacher = AgreeingTeacher(source)
    assert len(collect_complete_objects(teacher, source, CompletenessConfig(), tmp_path)) == len(objects)
    (record,) = tmp_path.rglob("*.npz")
    whole = record.read_bytes()
    damage(record)
    found = collect_complete_objects(teacher, source, CompletenessConfig(), tmp_path)
    assert found.fingerprint() == objects.fingerprint() and record.read_bytes() == whole
    assert len(teacher.seen) == 2 * len(source)


@fork
def test_two_processes_make_the_same_set(objects, finished, tmp_path):
    for i in range(3):
        out = tmp_path / str(i)
        both = [child(lambda: synthesize(objects, out, IMAGES, config=SMALL)) for _ in range(2)]  # noqa: B023
        assert all([ends_well(process) for process in both])
        assert tree(out) == tree(finished)


def test_a_worker_whose_folder_another_has_tidied_up_is_done(objects, finished, copy, monkeypatch):
    """The other was given the same shard, finished it first, and removed what it took for a dead worker's."""
    annotations = copy / "annotations/amodal_lvis_train_00001-of-00003.json"
    whole = annotations.read_bytes()
    annotations.unlink()
    compose = shards.compose

    def overtaken(*arguments):
        if not annotations.exists():
            annotations.write_bytes(whole)
            for folder in (copy / "images/train").glob("*.partial"):
                shutil.rmtree(folder)
        return compose(*arguments)

    monkeypatch.setattr(shards, "compose", overtaken)
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)


# ---------------------------------------------------------------------------------------------------------- embeddings


@pytest.fixture
def images(world):
    return list(open_clean_dataset("cocoa", "train", world.profile()))


ENCODING = """
    import os, signal, sys
    from pathlib import Path
    from sameo_core.training import embeddings
    from sameo_core.pipeline import open_clean_dataset
    from sameo_core.config import load_profile
    from sameo_core.model import build_efficient_sam

    images = list(open_clean_dataset("cocoa", "train", load_profile("mini", train_images=6)))
    model = build_efficient_sam("nano", Path(sys.argv[1])).eval()
    checksum, calls = embeddings._checksum, []

    def killed(content):  # in the middle of the fourth file: the values are written, the checksum is not
        calls.append(content)
        if len(calls) == 4:
            (partial,) = Path(sys.argv[2]).rglob("*.partial")
            os.sync()
            os.kill(os.getpid(), signal.SIGKILL)
        return checksum(content)

    embeddings._checksum = killed
    embeddings.EmbeddingCache(model, sys.argv[2]).embed(images)
"""


@fork
def test_embeddings_outlive_a_kill(world, images, tmp_path):
    weights = world.root / "data/weights/start.safetensors"
    environment = os.environ | {"SAMEO_ROOT": str(world.root), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", textwrap.dedent(ENCODING), str(weights), str(tmp_path / "kept")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert len(list((tmp_path / "kept").rglob("*.embedding"))) == 3
    assert len(list((tmp_path / "kept").rglob("*.partial"))) == 1
    cache = EmbeddingCache(seeded_nano(), tmp_path / "kept")
    found, expected = cache.embed(images), EmbeddingCache(seeded_nano(), None).embed(images)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)  # the last digit: they were encoded with others
    assert cache.encoded == 3 and torch.equal(EmbeddingCache(seeded_nano(), tmp_path / "kept").embed(images), found)


@pytest.mark.parametrize("day", [-1000, 1000])
def test_a_clock_that_jumps_changes_no_embedding_and_no_bound(nano, images, tmp_path, day):
    folder = tmp_path / "kept"
    expected = EmbeddingCache(nano.model, None).embed(images)
    EmbeddingCache(nano.model, folder).embed(images[:3])
    other_time = time.time() + 86400 * day
    for path in folder.rglob("*.embedding"):
        os.utime(path, (other_time,) * 2)
    size = 128 * 16 * 16 * 2 + 4
    for _ in range(3):
        cache = EmbeddingCache(nano.model, folder, gigabytes=4 * size / 1e9)
        found = torch.cat([cache.embed([image]) for image in images])
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 4 * size


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


# ------------------------------------------------------------------------------------------------ tables, other files

ROWS = {age: [{"method": f"{age} {i}", "seed": 0, "AP": i / 7} for i in range(3000)] for age in ("old", "new")}
LISTS = {"images": json_index.Columns(("id",))}


def write_detector(folder, value):
    model = torch.nn.Linear(64, 64)
    torch.nn.init.constant_(model.weight, value)
    torch.nn.init.constant_(model.bias, value)
    return save_detector(model, folder / "detector.safetensors")


def write_checkpoint(folder, value):
    save_checkpoint({"step": int(value), "model": torch.full((9999,), float(value))}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def write_weights(folder, value):
    return Sameo(seeded_nano(int(value)), "nano").save(folder / "weights.safetensors")


def write_mask(folder, value):
    path = folder / "mask.png"
    save_mask(path, np.random.default_rng(value).random((400, 400)) < 0.5)
    return path


WRITERS = {
    "table": lambda folder, value: write_table("table", ROWS["new" if value else "old"], "mini", folder),
    "json": lambda folder, value: write_json([value] * 9999, folder / "found.json"),
    "detector": write_detector,
    "checkpoint": write_checkpoint,
    "weights": write_weights,
    "mask": write_mask,
    "report": lambda folder, value: write_report(
        [NotebookRun("01", error=f"{value}" * 9999)], "mini", "", (), folder / "report.html"
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, writer, fault):
    folder = tmp_path / "disk"
    with small_disk(folder, 40_000):
        path = WRITERS[writer](folder, 0)
        before = tree(folder)
        if fault == "full":
            free = shutil.disk_usage(folder).free
            (folder / "filler").write_bytes(bytes(free - 8192))
        told = pytest.raises(InputError, match=r"it cannot be written: .*Free space or correct the rights")
        with read_only(folder) if fault == "read-only" else nullcontext(), told as error:
            WRITERS[writer](folder, 1)
        assert error.value.file == str(path)
        if fault == "full":
            assert "No space left" in str(error.value) or "PyTorch says" in str(error.value)
            (folder / "filler").unlink()
        assert tree(folder) == before
        WRITERS[writer](folder, 1)
        assert tree(folder) != before and len(tree(folder)) == len(before)


@fork
def test_a_killed_process_leaves_the_old_table_or_the_new_one(tmp_path):
    whole = {age: write_table("table", rows, "mini", tmp_path / age).read_bytes() for age, rows in ROWS.items()}

    def write_for_ever():
        while True:
            for rows in ROWS.values():
                write_table("table", rows, "mini", tmp_path)

    found = set()
    for i in range(12):
        (tmp_path / "table.csv").unlink(missing_ok=True)
        process = child(write_for_ever)
        while not (tmp_path / "table.csv").exists():
            time.sleep(0.001)
        time.sleep(0.003 * i)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        found.add((tmp_path / "table.csv").read_bytes())
    assert found and found <= set(whole.values())
    write_table("table", ROWS["new"], "mini", tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == whole["new"] and len(read_table(tmp_path / "table.csv")) == 3000


@fork
def test_two_processes_that_write_a_file_do_not_mix(tmp_path):
    path = tmp_path / "file"

    def another():
        with atomic_write(path) as partial:
            partial.write_bytes(b"another's")

    with atomic_write(path) as partial:
        partial.write_bytes(b"one's ")
        assert ends_well(child(another)) and path.read_bytes() == b"another's"
        with partial.open("ab") as file:
            file.write(b"own")
    assert path.read_bytes() == b"one's own" and list(tmp_path.iterdir()) == [path]


@fork
def test_two_processes_draw_the_same_data(tmp_path):
    """Without a lock: both write the same bytes, each to files of its own until they are whole."""
    draw_dataset("cocoa", tmp_path / "alone", "train", 4, jobs=1)
    both = [child(lambda: draw_dataset("cocoa", tmp_path / "both", "train", 4, jobs=1)) for _ in range(2)]
    assert all([ends_well(process) for process in both])
    assert tree(tmp_path / "both") == tree(tmp_path / "alone")


def test_a_full_disk_stops_the_drawing_of_data_that_goes_on_when_there_is_room(tmp_path):
    draw_dataset("cocoa", tmp_path / "alone", "train", 6, jobs=1)
    size = sum(len(content) for content in tree(tmp_path / "alone").values())
    with small_disk(tmp_path / "disk", size // 2048) as resize:
        with pytest.raises(InputError, match=r"it cannot be written: .* bytes are free\). Free space") as error:
            draw_dataset("cocoa", tmp_path / "disk/cocoa", "train", 6, jobs=1)
        assert error.value.file.startswith(str(tmp_path / "disk/cocoa"))
        with pytest.raises(InputError, match="annotation file"):  # nothing half-drawn is taken for a data set
            load_dataset("cocoa", tmp_path / "disk/cocoa", "train")
        resize(4 * size // 1024)
        draw_dataset("cocoa", tmp_path / "disk/cocoa", "train", 6, jobs=1)
        assert tree(tmp_path / "disk/cocoa") == tree(tmp_path / "alone")


@pytest.mark.parametrize("day", [-1000, 0, 1000])
def test_an_index_is_right_whatever_the_clock_says(tmp_path, monkeypatch, day):
    """A file from the future is read again and again, for it may still change unseen; others are read once."""
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(json_index, "KEPT_FROM", 0)
    reads, read = [], json_index._read_through
    monkeypatch.setattr(json_index, "_read_through", lambda *arguments: reads.append(1) or read(*arguments))
    path = tmp_path / "a.json"
    for images in (3, 5):
        path.write_text(json.dumps({"images": [{"id": i} for i in range(images)]}))
        os.utime(path, (1e9 + 86400 * day,) * 2 if day <= 0 else (time.time() + 86400 * day,) * 2)
        time.sleep(1.2 * json_index.RACE / 1e9)
        for kept in (tmp_path / "runs").rglob("*.npz"):
            os.utime(kept, (time.time() + 86400 * (day or 1000),) * 2)  # nobody looks at the time of the index itself
        for _ in range(2):
            index = json_index.index_json(path, LISTS)
            assert index.tables["images"].whole["id"].tolist() == list(range(images))
    assert len(reads) == (4 if day > 0 else 2)
