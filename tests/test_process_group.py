"""One training in two processes, started by torchrun: the curve and the weights of one with the same batches."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from sameo_core.config import load_profile
from sameo_core.model import build_efficient_sam
from sameo_core.pipeline import train
from sameo_core.runs.folders import read_log

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTED = pytest.mark.skipif(
    not torch.distributed.is_available() or not hasattr(signal, "SIGKILL"), reason="needs gloo, and SIGKILL"
)
TINY = {"iterations": 5, "batch_images": 4, "log_every": 1}
KILLED = """
    import os, signal, sys
    from sameo_core import __main__
    from sameo_core.training import loop

    save = loop.save_checkpoint

    def killed(state, path):
        save(state, path)
        if state["iteration"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.save_checkpoint = killed
    sys.exit(__main__.main())
"""


def torchrun(root: Path, *program: str, **overrides) -> subprocess.Popen:
    """`train` in two processes; `program` instead of `-m sameo_core`."""
    given = {"train": "cocoa,", "train_images": 6, "weights": "start.safetensors", **overrides}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [*(program or ("-m", "sameo_core")), "train", "--recipe", "zero_shot", "--profile", "mini"]
    command += ["--override", *(f"{name}={value}" for name, value in given.items())]
    environment = {"SAMEO_ROOT": str(root), "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


@DISTRIBUTED
def test_two_processes_train_as_one(world, tmp_path):
    """Of the two, rank 0 is killed in the middle, and both go on; the one is not."""
    together = Path(shutil.copytree(world.root, tmp_path / "together"))
    (tmp_path / "killed.py").write_text(textwrap.dedent(KILLED))
    first = torchrun(together, str(tmp_path / "killed.py"), **TINY)
    _, error = first.communicate(timeout=300)
    assert first.returncode and "Signal 9 (SIGKILL) received" in error, error
    (checkpoint,) = (together / "data/runs/mini").glob("sameo-*/checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["iteration"] == 2

    second = torchrun(together, **TINY)
    one = train(load_profile("mini", train=("cocoa",), train_images=6, weights="start.safetensors", **TINY))
    answer, error = second.communicate(timeout=300)
    assert second.returncode == 0, error
    two = checkpoint.with_name("sameo.safetensors")
    assert answer.split() == [str(two)]  # rank 0 alone speaks
    curves = [read_log(path) for path in (one.with_name("log.csv"), two.with_name("log.csv"))]
    assert [row["step"] for row in curves[1]] == [1, 2, 3, 4, 5]
    for ours, theirs in zip(*curves, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    paths = (world.root / "data/weights/start.safetensors", one, two)
    start, alone, shared = (build_efficient_sam("nano", path).state_dict() for path in paths)
    # As a whole: where a gradient is nothing but rounding (the biases of keys), Adam makes steps of it all the same.
    moved = sum(float((alone[name] - start[name]).square().sum()) for name in start)
    apart = sum(float((alone[name] - shared[name]).square().sum()) for name in start)
    assert apart < 0.01**2 * moved
