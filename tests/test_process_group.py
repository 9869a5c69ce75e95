"""One training in two processes, started by torchrun: the curve and the weights of one with the same batches."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sameo_core.config import load_profile
from sameo_core.efficient_sam import build_efficient_sam
from sameo_core.process_group import agreed, barrier, rank, rank_zero_first, ranks
from sameo_core.run_folder import read_log
from sameo_core.training import fine_tune

TINY = {"iterations": 6, "batch_images": 4, "log_every": 1}


def test_one_process_is_rank_zero_of_one():
    assert (rank(), ranks(), agreed(True), agreed(False)) == (0, 1, True, False)
    barrier()
    with rank_zero_first():
        pass


def torchrun(root: Path, processes: int, **overrides) -> subprocess.Popen:
    """`train` in that many processes."""
    given = {"train": "cocoa,", "train_images": 6, "weights": "start.safetensors", **overrides}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "sameo_core", "train", "--recipe", "zero_shot", "--profile", "mini"]
    command += ["--override", *(f"{name}={value}" for name, value in given.items())]
    environment = os.environ | {"SAMEO_ROOT": str(root), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed training")
def test_two_processes_train_as_one(world, tmp_path):
    """The two are stopped in the middle, as a scheduler does it, and go on; the one is not."""
    together = Path(shutil.copytree(world.root, tmp_path / "together"))
    first = torchrun(together, 2, **TINY)
    one = fine_tune(load_profile("mini", train=("cocoa",), train_images=6, weights="start.safetensors", **TINY))
    log = together / one.relative_to(world.root).with_name("log.csv")  # the name of the run knows no ranks
    deadline = time.monotonic() + 300
    while not (log.exists() and len(read_log(log)) >= 2) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.02)
    first.terminate()
    _, error = first.communicate(timeout=60)
    assert first.returncode, "not stopped in the middle"
    assert (log.parent / "checkpoint.pt").exists() and not (log.parent / "sameo.safetensors").exists(), error

    second = torchrun(together, 2, **TINY)
    answer, error = second.communicate(timeout=300)
    assert second.returncode == 0, error
    assert answer.split() == [str(log.with_name("sameo.safetensors"))]  # rank 0 alone speaks
    curves = [read_log(path) for path in (one.with_name("log.csv"), log)]
    assert [row["step"] for row in curves[1]] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(*curves, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    paths = (world.root / "data/weights/start.safetensors", one, log.with_name("sameo.safetensors"))
    start, alone, shared = (build_efficient_sam("nano", path).state_dict() for path in paths)
    moved = max(float((alone[name] - start[name]).abs().max()) for name in start)
    apart = max(float((alone[name] - shared[name]).abs().max()) for name in start)
    assert apart < 0.02 * moved


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed training")
def test_a_batch_that_two_processes_cannot_share_is_refused(world):
    run = torchrun(world.root, 2, batch_images=3, iterations=1)
    _, error = run.communicate(timeout=300)
    assert run.returncode and "shared equally by all 2 processes, found 3 images" in error
