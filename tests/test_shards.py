"""The shards of Amodal-LVIS: the same bytes whoever makes them, in whatever order, and however often interrupted."""

import json
import os
import random
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
from sameo_core.synthesis import compose, shards, synthesize


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
    (tmp_path / "images/train/00002/00000006_original.jpg").touch()  # not looked at
    synthesize(objects, tmp_path, IMAGES, config=SMALL)
    assert tree(tmp_path) == tree(finished) and not list(tmp_path.rglob("*.partial"))
    again = {p for p, t in times.items() if p.stat().st_mtime_ns == t}
    assert {p.name for p in times.keys() - again} == {"amodal_lvis_train_00001-of-00003.json", "00000006_original.jpg"}


def test_a_shard_is_made_twice_without_harm(objects, finished, tmp_path):
    """A scheduler that has lost sight of a worker gives its task to another."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    recipe = json.loads((tmp_path / "synthesis_train/recipe.json").read_text())
    shards.write_shard(tmp_path, "train", 1, 3, recipe, SMALL)  # late: nothing is left to do
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == times
    (tmp_path / "annotations/amodal_lvis_train_00001-of-00003.json").unlink()
    shards.write_shard(tmp_path, "train", 1, 3, recipe, SMALL)
    assert tree(tmp_path) == tree(finished)
    assert all(p.stat().st_mtime_ns == times[p] for p in (tmp_path / "images/train/00001").iterdir())  # perhaps in use


def test_ctrl_c_leaves_finished_shards(objects, finished, tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return compose(*arguments)

    monkeypatch.setattr(shards, "compose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize(objects, tmp_path, IMAGES, config=SMALL)
    assert [p.name[-19:-14] for p in (tmp_path / "annotations").iterdir()] == ["00000"]
    synthesize(objects, tmp_path, IMAGES, config=SMALL)
    assert len(calls) == 5 + 4 and tree(tmp_path) == tree(finished)


SCRIPT = """
import sys
from sameo_core.config import SynthesisConfig
from sameo_core.synthesis import synthesize
pool, out, images, size, workers = sys.argv[1:]
if __name__ == "__main__":
    print("ready", flush=True)
    synthesize(pool, out, int(images), config=SynthesisConfig(pairs_per_shard=int(size)), workers=int(workers))
    print("done", flush=True)
"""


def killed_and_resumed(folder, pool_file, images, size, workers, moments):
    """Run the synthesis in a process group of its own, SIGKILL it after each of these seconds; then let it finish.

    Returns how many were really killed: whoever is done before its moment comes was not.
    """
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(pool_file), str(folder / "out"), str(images), str(size), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(Path(synthesis.__file__).resolve().parents[2])}
    kills = 0
    for moment in [*moments, None]:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
        )
        assert process.stdout.readline() == b"ready\n", process.stderr.read().decode()
        if moment is None:
            assert process.wait(300) == 0, process.stderr.read().decode()
        else:
            time.sleep(moment)
            kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.communicate()
    return kills


@pytest.mark.parametrize(
    ("images", "size", "workers", "kills"),
    [
        (240, 6, 1, 2),
        pytest.param(4000, 10, 1, 10, marks=pytest.mark.benchmark),
        pytest.param(4000, 10, 2, 10, marks=pytest.mark.benchmark),
    ],
)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(objects, tmp_path, images, size, workers, kills):
    path = objects.save(tmp_path / "pool.npz")
    start = time.perf_counter()
    synthesize(path, tmp_path / "undisturbed", images, config=replace(SMALL, pairs_per_shard=size))
    longest = max(0.5, (time.perf_counter() - start) / 25)
    moments = [random.Random(i).uniform(0.02, longest) + 2.0 * (workers > 1) for i in range(kills)]
    assert killed_and_resumed(tmp_path, path, images, size, workers, moments) >= kills / 2
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


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
    with pytest.raises(InputError, match="nonsense://.*a Dask scheduler must answer"):
        synthesize(objects, tmp_path / "a", IMAGES, config=SMALL, scheduler="nonsense://here:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r'needs the package distributed.*pip install -e "\.\[cluster\]"'):
        synthesize(objects, tmp_path / "b", IMAGES, config=SMALL, scheduler="tcp://localhost:1")


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
