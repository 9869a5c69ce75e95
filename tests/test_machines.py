"""The same numbers elsewhere: what is exact does not depend on threads and instruction set, what is trained hardly.

Each machine is a process of its own: 1 thread, 2 threads, and, where the machine can do more, a torch that was told to
know AVX2 only. All draw, synthesise, train and evaluate the same; what they leave is compared.
"""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sameo_core.config import ROOT, WEIGHTS

# Of the losses of a short training, and of its weights, as a share of how far they moved: README states both. What
# separates two machines is the order of float32 additions, some 1e-7 a step, which training multiplies.
LOSS, WEIGHT = 5e-4, 1e-2

ON_THIS_MACHINE = """
import json
import sys
from hashlib import sha256

import numpy as np
import torch
from conftest import AgreeingTeacher, tree

from sameo_core import config, pipeline
from sameo_core.config import SynthesisConfig
from sameo_core.evaluation import evaluate_predictions
from sameo_core.masks import encode_mask
from sameo_core.miniature import draw_dataset
from sameo_core.pipeline import open_clean_dataset
from sameo_core.runs.folders import environment
from sameo_core.synthesis import collect_complete_objects, synthesize
from sameo_core.training import sampling, training_log

threads = int(sys.argv[1])
torch.set_num_threads(threads)
run = config.load_profile(
    "mini", train=("cocoa",), held_out=("cocoa_cls",), train_images=12, val_images=6, iterations=8, batch_images=4,
    warmup_iterations=2, log_every=2, seeds=(0,), cpu_threads=threads,
)
for name, split, images in (("cocoa", "train", run.data.train_images), ("cocoa_cls", "val", run.data.val_images)):
    draw_dataset(name, run.data_folder / name, split, images, jobs=1)
val, train = open_clean_dataset("cocoa_cls", "val", run), open_clean_dataset("cocoa", "train", run)
pool = collect_complete_objects(AgreeingTeacher(train), train, run.synthesis.complete, config.RUNS / "pool")
synthesize(pool, config.RUNS / "set", 12, config=SynthesisConfig(pairs_per_shard=3))

answers = []  # masks that are a few pixels off
for image in val:
    for i, item in enumerate(image.instances):
        shifted = np.roll(item.amodal, (i % 3, 2), (0, 1))
        answers.append({
            "image_id": image.image_id, "category_id": item.category_id, "instance_id": item.instance_id,
            "segmentation": encode_mask(shifted), "score": 1 / (2 + len(answers)),
        })
weights = pipeline.train(run, 0)
print(json.dumps({
    "environment": environment(),
    "data": {name: sha256(content).hexdigest() for name, content in tree(run.data_folder).items()},
    "synthesis": {name: sha256(content).hexdigest() for name, content in tree(config.RUNS / "set").items()},
    "evaluation": {name: repr(float(value)) for name, value in evaluate_predictions(val, answers).items()},
    "log": training_log(weights),
    "weights": str(weights),
    "sampling": sampling(weights),
}))
"""


def machine(root: Path, threads: int, **environment: str) -> dict:
    """What a process with so many threads finds, all of it anew in `root`/data/runs."""
    paths = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    environment |= {"SAMEO_ROOT": str(root), "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", ON_THIS_MACHINE, str(threads)]
    found = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout.splitlines()[-1])
    told["weights"] = load_file(told["weights"])
    shutil.rmtree(root / "data" / "runs")  # the next one finds nothing
    return told


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One place for all, one after the other: what is drawn knows its path."""
    root = tmp_path_factory.mktemp("machines")
    (root / "data").mkdir()
    (root / "data" / "weights").symlink_to(WEIGHTS)
    return root


@pytest.fixture(scope="module")
def one_thread(root):
    return machine(root, 1)


@pytest.fixture(scope="module", params=["two threads", "AVX2"])
def other(request, root, one_thread):
    if request.param == "two threads":
        found = machine(root, 2)
        assert (one_thread["environment"]["threads"], found["environment"]["threads"]) == (1, 2)
        return found
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2"):
        pytest.skip("this machine knows nothing beyond AVX2")
    found = machine(root, 1, ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
    assert one_thread["environment"]["cpu_capability"] != found["environment"]["cpu_capability"] == "AVX2"
    return found


@pytest.mark.parametrize("what", ["data", "synthesis", "evaluation", "sampling"])
def test_what_is_exact_is_the_same_to_the_last_bit(one_thread, other, what):
    assert one_thread[what] and one_thread[what] == other[what]


def moved(found: dict, start: dict) -> float:
    """How far the weights moved in training: the length of the way."""
    return sum((found["weights"][name].double() - start[name].double()).square().sum().item() for name in start) ** 0.5


def test_what_is_trained_is_the_same_within_the_tolerance(one_thread, other):
    for ours, theirs in zip(one_thread["log"], other["log"], strict=True):
        assert ours == pytest.approx(theirs, rel=LOSS, abs=1e-6)
    steps = [row["total"] for row in one_thread["log"]]
    assert min(abs(a - b) / a for a, b in pairwise(steps)) > 3 * LOSS, "the tolerance would hide an iteration more"
    start = load_file(WEIGHTS / "efficient_sam_nano.safetensors")
    assert moved(one_thread, start) > 0
    assert moved(one_thread, other["weights"]) <= WEIGHT * moved(one_thread, start)
