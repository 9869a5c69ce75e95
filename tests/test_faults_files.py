"""As test_faults, of synthesis, drawn data, tables and all other files that are written."""

import os
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import IMAGES, SMALL, AgreeingTeacher, seeded_nano, tree
from faults import another_byte, child, empty, ends_well, fork, half, read_only, small_disk, zeros

from sameo_core.apps.predict import write_json
from sameo_core.config import CompletenessConfig
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.miniature import draw_dataset
from sameo_core.miniature.mask_files import save_mask
from sameo_core.model import Sameo
from sameo_core.reporting import read_table, write_table
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.folders import save_checkpoint
from sameo_core.synthesis import collect_complete_objects, shards, synthesize

# ----------------------------------------------------------------------------------------------------------- synthesis


@pytest.fixture
def copy(finished, tmp_path):
    """A finished set, to be damaged."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.mark.parametrize("damage", [half, zeros])
def test_a_shard_that_is_cut_short_is_told_and_made_again(objects, finished, copy, damage):
    shard = copy / "annotations/amodal_lvis_train_00001-of-00003.json"
    damage(shard)
    with pytest.raises(InputError, match="amodal_lvis_train_00001-of-00003.json: not valid JSON") as error:
        load_dataset("amodal_lvis", copy, "train")
    assert error.value.file == str(shard)
    others = [path for number in ("00000", "00002") for path in (copy / "images/train" / number).iterdir()]
    untouched = {path: path.stat().st_mtime_ns for path in others}
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}


@pytest.mark.parametrize("damage", [zeros, another_byte, Path.unlink])
@pytest.mark.parametrize("what", ["images/train/00001/*", "synthesis_train/pool.npz"])
def test_what_a_shard_that_is_made_again_finds_damaged_is_mended(objects, finished, copy, what, damage):
    (copy / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()
    for path in list(copy.glob(what))[::2]:
        damage(path)
    shards._pool_of.cache_clear()
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)


@pytest.mark.parametrize("damage", [empty, another_byte])
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
    both = [child(lambda: synthesize(objects, tmp_path, IMAGES, config=SMALL)) for _ in range(2)]
    assert all([ends_well(process) for process in both])
    assert tree(tmp_path) == tree(finished)


def test_a_worker_whose_partial_file_another_has_removed_is_done(objects, finished, copy, monkeypatch):
    """The other was given the same shard, finished it first, and removed what it took for a dead worker's."""
    annotations = copy / "annotations/amodal_lvis_train_00001-of-00003.json"
    whole, image = annotations.read_bytes(), copy / "images/train/00001/00000003_original.jpg"  # written first
    annotations.unlink()
    image.unlink()
    write = Path.write_bytes

    def overtaken(partial, data):
        write(image, data)
        write(annotations, whole)

    monkeypatch.setattr(Path, "write_bytes", overtaken)
    synthesize(objects, copy, IMAGES, config=SMALL)
    monkeypatch.undo()
    assert tree(copy) == tree(finished)


# ------------------------------------------------------------------------------------------------ tables, other files

ROWS = {age: [{"method": f"{age} {i}", "seed": 0, "AP": i / 7} for i in range(3000)] for age in ("old", "new")}


def write_checkpoint(folder, value):
    save_checkpoint({"model": torch.full((9999,), float(value))}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def write_weights(folder, value):
    return Sameo(seeded_nano(value), "nano").save(folder / "weights.safetensors")


def write_mask(folder, value):
    path = folder / "mask.png"
    save_mask(path, np.random.default_rng(value).random((400, 400)) < 0.5)
    return path


WRITERS = {
    "table": lambda folder, value: write_table("table", ROWS["new" if value else "old"], "mini", folder),
    "json": lambda folder, value: write_json([value] * 9999, folder / "found.json"),
    "checkpoint": write_checkpoint,
    "weights": write_weights,
    "mask": write_mask,
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
    path = write_table("table", ROWS["old"], "mini", tmp_path)

    def write_for_ever():
        while True:
            for rows in ROWS.values():
                write_table("table", rows, "mini", tmp_path)

    for i in range(6):
        process = child(write_for_ever)
        time.sleep(0.02 + 0.006 * i)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert path.read_bytes() in whole.values()
    write_table("table", ROWS["new"], "mini", tmp_path)
    assert path.read_bytes() == whole["new"] and len(read_table(path)) == 3000


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
