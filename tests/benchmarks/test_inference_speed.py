"""What inference costs beside the network: memory with very many boxes, and time over a data set."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sameo_core.datasets import load_dataset
from sameo_core.front_ends import ground_truth_boxes, predict_dataset
from sameo_core.masks import decode_rle
from sameo_core.miniature import draw_dataset
from sameo_core.model import AmodalPrediction, Sameo

IMAGES, ROUNDS = 40, 4

# Peak memory (VmHWM, bytes) above what the process holds with the model loaded; Linux forgets the peak when told to.
MEMORY = """
import sys
from pathlib import Path
import numpy as np
import torch
from pycocotools.mask import area
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.model import build_efficient_sam
from sameo_core.front_ends import Detections
from sameo_core.front_ends import predict_dataset
from sameo_core.model import Sameo

def memory(field):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return 1024 * int(line.split()[1])

way, count = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
model = Sameo(build_efficient_sam("vit_t"), "vit_t")
rng = np.random.default_rng(0)
image = rng.integers(0, 256, (1024, 1024, 3), np.uint8)
corners = rng.uniform(0, 600, (count, 2)).astype(np.float32)
boxes = np.concatenate([corners, corners + rng.uniform(50, 400, (count, 2)).astype(np.float32)], 1)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
if way == "predict":
    found = model.predict(image, boxes).masks
else:
    class Picture(AmodalImage):
        def read(self):
            return image
    picture = Picture(0, "0.png", Path("0.png"), 1024, 1024, ())
    ones = np.ones(count, int)
    detections = Detections(boxes, ones.astype(np.float32), ones, -ones)
    dataset = AmodalDataset("d", Path("d"), "val", {1: "a"}, [picture], {})
    found = predict_dataset({"m": model}, dataset, {"f": lambda _: detections})
    found = found["m", "f"]
assert len(found) == count
used = memory("VmHWM") - before
pixels = found.sum() if way == "predict" else sum(area(item["segmentation"]) for item in found)
print(used, int(pixels))
"""


def peak(way: str, boxes: int) -> tuple[int, int]:
    """Bytes, and the pixels of all masks."""
    command = [sys.executable, "-c", MEMORY, way, str(boxes)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    used, pixels = run.stdout.split()
    return int(used), int(pixels)


@pytest.mark.benchmark
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux")
def test_memory_does_not_grow_with_the_number_of_boxes():
    """1024 x 1024, ViT-Ti. `predict` returns masks "n h w", one byte a pixel: they are counted for 300 boxes, and
    taken off for 1,000, for which they alone are 1.05 GB. `predict_dataset` holds none of them."""
    masks = 1000 * 1024 * 1024
    found, pixels = {}, {}
    for way, n in (("predict", 300), ("predict", 1000), ("predict_dataset", 1000)):
        found[way, n], pixels[way, n] = peak(way, n)
    assert 0 < pixels["predict", 1000] == pixels["predict_dataset", 1000]
    print("".join(f"\n{way} of {n} boxes: {value / 1e9:.2f} GB" for (way, n), value in found.items()))
    assert found["predict", 300] < 1.5e9
    assert found["predict", 1000] - masks < 1.5e9
    assert found["predict_dataset", 1000] < 1.5e9


def test_a_data_set_is_predicted_at_nine_tenths_of_the_bare_models_speed(tmp_path, full):
    """Files to results, against `embed` and `predict_embedded` of images and boxes that are in memory already.

    The shipped nano on drawn images, alternating; wall-clock time with one thread for the network and another core for
    reading: measure on an idle machine.
    """
    torch.set_num_threads(1)
    draw_dataset("cocoa_cls", tmp_path / "cocoa_cls", "val", IMAGES if full else 3, jobs=1)
    dataset = load_dataset("cocoa_cls", tmp_path / "cocoa_cls", split="val")
    model, front_end = Sameo.load("nano"), ground_truth_boxes()
    loaded = [(image.read(), (image.height, image.width), front_end(image)) for image in dataset]

    def bare() -> list[AmodalPrediction]:
        return [
            model.predict_embedded(model.embed(pixels), size, found.boxes, found.scores)
            for pixels, size, found in loaded
        ]

    def whole() -> list[dict]:
        return predict_dataset({"nano": model}, dataset, {"boxes": front_end})["nano", "boxes"]

    expected, found = bare(), whole()  # this warms up
    assert [item["score"] for item in found] == [score for one in expected for score in one.scores.tolist()]
    for item, mask in zip(found, (mask for one in expected for mask in one.masks), strict=True):
        assert np.array_equal(decode_rle(item["segmentation"]), mask)
    if not full:
        return
    seconds = {bare: [], whole: []}
    for _ in range(ROUNDS):
        for way in seconds:
            start = time.perf_counter()
            way()
            seconds[way].append(time.perf_counter() - start)
    best, ours = map(min, seconds.values())
    print(
        f"\nbare {len(loaded) / best:.1f}, data set {len(loaded) / ours:.1f} images/s: {best / ours:.2f} of the speed"
    )
    assert best / ours >= 0.9
