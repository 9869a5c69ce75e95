"""As test_faults, of synthesis, drawn data, tables and all other files that are written."""

import json
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
from sameo_core.config import CompletenessConfig, profiles
from sameo_core.datasets import json_index, load_dataset
from sameo_core.errors import InputError
from sameo_core.miniature import draw_dataset
from sameo_core.miniature.mask_files import save_mask
from sameo_core.model import Sameo
from sameo_core.reporting import read_table, write_table
from sameo_core.reproduction import NotebookRun, write_report
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.folders import save_checkpoint
from sameo_core.synthesis import collect_complete_objects, shards, synthesize
from sameo_core.training.detectors import save_detector

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
    untouched = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file() and path != shard}
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}


@pytest.mark.parametrize("damage", [zeros, another_byte, Path.unlink])
def test_damaged_images_of_a_shard_that_is_made_again_are_mended(objects, finished, copy, damage):
    (copy / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()
    for image in list((copy / "images/train/00001").iterdir())[::2]:
        damage(image)
    synthesize(objects, copy, IMAGES, config=SMALL)
    assert tree(copy) == tree(finished)


@pytest.mark.parametrize("damage", [half, another_byte])
def test_a_damaged_pool_of_a_set_is_written_again(objects, finished, copy, damage):
    (copy / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()
    damage(copy / "synthesis_train/pool.npz")
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
    for i in range(3):
        out = tmp_path / str(i)
        both = [child(lambda: synthesize(objects, out, IMAGES, config=SMALL)) for _ in range(2)]  # noqa: B023
        assert all([ends_well(process) for process in both])
        assert tree(out) == tree(finished)


def test_a_worker_whose_partial_file_another_has_removed_is_done(objects, finished, copy, monkeypatch):
    """The other was given the same shard, finished it first, and removed what it took for a dead worker's."""
    annotations = copy / "annotations/amodal_lvis_train_00001-of-00003.json"
    whole, image = annotations.read_bytes(), next((copy / "images/train/00001").iterdir())
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
    for i in range(6):
        (tmp_path / "table.csv").unlink(missing_ok=True)
        process = child(write_for_ever)
        while not (tmp_path / "table.csv").exists():
            time.sleep(0.001)
        time.sleep(0.006 * i)
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


@pytest.mark.parametrize("day", [0, 1000])
def test_an_index_is_right_whatever_the_clock_says(tmp_path, monkeypatch, day):
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(json_index, "KEPT_FROM", 0)
    reads, read = [], json_index._read_through
    monkeypatch.setattr(json_index, "_read_through", lambda *arguments: reads.append(1) or read(*arguments))
    path = tmp_path / "a.json"
    for images in (3, 5):
        path.write_text(json.dumps({"images": [{"id": i} for i in range(images)]}))
        os.utime(path, (1e9 + 86400 * day,) * 2 if day <= 0 else (time.time() + 86400 * day,) * 2)
        for kept in (tmp_path / "runs").rglob("*.npz"):
            os.utime(kept, (time.time() + 86400 * (day or 1000),) * 2)  # nobody looks at the time of the index itself
        for _ in range(2):
            index = json_index.index_json(path, LISTS)
            assert index.tables["images"]["id"].tolist() == list(range(images))
    assert len(reads) == 2
