"""What the answer to a new box costs: notebook 06's explorer, with the weights that are shipped."""

import time

import numpy as np
import pytest
import torch

from sameo_core.apps.pages import DatasetExplorer
from sameo_core.config import WEIGHTS
from sameo_core.model import Sameo
from sameo_core.pipeline import open_dataset

BOXES, PATIENCE = 50, 0.150  # seconds, from a box to its new picture


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(not (WEIGHTS / "sameo_nano.safetensors").exists(), reason="the nano weights are not here")
def test_a_new_box_is_answered_at_once(world, one_thread, full):
    """50 boxes drawn on a picture of 240 x 320, both decoders and the truth shown.

    One thread, its CPU time: what a person waits for on an idle machine, and what a busy one cannot blur. On a shared
    Xeon 18 to 27 ms, 95th percentile 27 to 43 ms.
    """
    profile = world.profile()
    dataset = open_dataset("cocoa_cls", "val", profile)
    models = {name: Sameo.load(WEIGHTS / f"{name}.safetensors") for name in ("efficient_sam_nano", "sameo_nano")}
    explorer = DatasetExplorer(models, profile, {"cocoa_cls": dataset})
    size = explorer.image.height, explorer.image.width
    boxes = 5 + BOXES if full else 3
    rng, seconds, painted = np.random.default_rng(0), [], set()
    for _ in range(boxes):
        low = rng.uniform(0, 0.5, 2) * size
        y0, x0, y1, x1 = *low, *(low + rng.uniform(0.2, 0.5, 2) * size)
        start = time.process_time()
        explorer.x.value, explorer.y.value = (int(x0), int(x1)), (int(y0), int(y1))  # as the sliders do it: two answers
        seconds.append((time.process_time() - start) / 2)
        logits, _ = models["sameo_nano"].decode_embedded(explorer.embedding, size, explorer.box)
        assert explorer.box.tolist() == [int(x0), int(y0), int(x1), int(y1)]
        assert np.array_equal(explorer.logits["sameo_nano"], logits)
        painted.add(explorer.pictures["efficient_sam_nano"].picture)
    assert len(painted) == boxes
    if full:
        p50, p95 = np.percentile(seconds[5:], [50, 95])
        print(f"\n{1000 * p50:.0f} ms, 95 %: {1000 * p95:.0f} ms")
        assert p95 < PATIENCE
