"""The shards of Amodal-LVIS: the same bytes whoever makes them, in whatever order, and however often interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import IMAGES, SMALL, tree

from sameo_core import synthesis
from sameo_core.errors import InputError
from sameo_core.synthesis import shards, synthesize

CODE = str(Path(synthesis.__file__).resolve().parents[2])


def test_workers_do_not_change_a_byte(objects, finished, tmp_path):
    path = objects.save(tmp_path / "pool.npz")
    synthesize(path, tmp_path / "two", IMAGES, config=SMALL, workers=2)
    assert tree(tmp_path / "two") == tree(finished)


def test_parts_in_any_order_make_the_same_set(objects, finished, tmp_path):
    for shard in (1, 0):
        synthesize(objects, tmp_path, IMAGES, config=SMALL, shard=shard, shards=2)
        done = sorted(path.name[-19:-14] for path in (tmp_path / "annotations").iterdir())
        assert done == (["00001"] if shard else ["00000", "00001", "00002"])
    assert tree(tmp_path) == tree(finished)
    synthesize(objects, tmp_path, IMAGES, config=SMALL, shard=7, shards=8)  # more parts than shards: nothing to do
    assert tree(tmp_path) == tree(finished)


def test_finished_shards_are_left_alone_and_leftovers_removed(objects, finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    killed = [
        tmp_path / "images/train/00001/00000003_original.jpg.elsewhere-7.partial",
        tmp_path / "annotations/amodal_lvis_train_00002-of-00003.json.elsewhere-7.partial",
        tmp_path / "synthesis_train/pool.npz.7.partial",
    ]
    for path in killed:
        path.write_bytes(b"half of")
    (tmp_path / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()  # killed just before it
    synthesize(objects, tmp_path, IMAGES, config=SMALL)
    assert tree(tmp_path) == tree(finished) and not list(tmp_path.rglob("*.partial"))
    assert all(p.stat().st_mtime_ns == t for p, t in times.items() if "00000-of" in p.name or "/00000/" in str(p))


def test_a_shard_is_made_twice_without_harm(objects, finished, tmp_path):
    """A scheduler that has lost sight of a worker gives its task to another."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    recipe = json.loads((tmp_path / "synthesis_train/recipe.json").read_text())
    file = tmp_path / "annotations/amodal_lvis_train_00001-of-00003.json"
    shards.write_shard(tmp_path, file, 1, recipe, SMALL)  # late: nothing is left to do
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == times
    file.unlink()
    shards.write_shard(tmp_path, file, 1, recipe, SMALL)
    assert tree(tmp_path) == tree(finished)


SCRIPT = """
import sys
from sameo_core.config import SynthesisConfig
from sameo_core.synthesis import synthesize
synthesize(*sys.argv[1:], 240, config=SynthesisConfig(pairs_per_shard=6))
"""


def test_killed_it_goes_on_to_the_same_bytes(objects, tmp_path):
    """Killed when there are shards 1, 2, ..., wherever it is in the next one."""
    path, out = objects.save(tmp_path / "pool.npz"), tmp_path / "out"
    config = replace(SMALL, pairs_per_shard=6)
    synthesize(path, tmp_path / "undisturbed", 240, config=config)
    for finished_before in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, path, out], env=os.environ | {"PYTHONPATH": CODE})
        while len(list(out.glob("annotations/*.json"))) < finished_before and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(list(out.glob("annotations/*.json"))) < 20
    synthesize(path, out, 240, config=config)
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def test_a_dask_worker_is_killed_half_way_and_nothing_is_lost(objects, tmp_path, cluster):
    path = objects.save(tmp_path / "pool.npz")
    config = replace(SMALL, pairs_per_shard=6)
    synthesize(path, tmp_path / "undisturbed", 480, config=config)
    victim = next(iter(cluster.workers.values())).pid
    shards_when_killed = []

    def kill_half_way():
        while len(list(tmp_path.glob("out/annotations/*.json"))) < 8:
            time.sleep(0.005)
        os.kill(victim, signal.SIGKILL)
        shards_when_killed.append(len(list(tmp_path.glob("out/annotations/*.json"))))

    killer = threading.Thread(target=kill_half_way, daemon=True)
    killer.start()
    synthesize(path, tmp_path / "out", 480, config=config, scheduler=cluster.scheduler_address)
    killer.join(10)
    assert shards_when_killed and shards_when_killed[0] < 40
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_a_scheduler_that_does_not_answer_is_named(objects, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    for address in ("nonsense://here:1", "tcp://localhost:1"):
        with pytest.raises(InputError, match=f"{address}: .*must answer"):
            synthesize(objects, tmp_path, IMAGES, config=SMALL, scheduler=address)
        monkeypatch.setitem(sys.modules, "distributed", None)  # as if not installed


def test_a_full_disk_is_named_and_finished_shards_are_kept(objects, finished, tmp_path, monkeypatch):
    written, write = [], Path.write_bytes

    def full(path, data):
        written.append(path)
        if len(written) > 10:
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device.*Free space"):
        synthesize(objects, tmp_path, IMAGES, config=SMALL)
    monkeypatch.undo()
    assert len(list((tmp_path / "annotations").glob("*.json"))) == 1
    synthesize(objects, tmp_path, IMAGES, config=SMALL)
    assert tree(tmp_path) == tree(finished)
