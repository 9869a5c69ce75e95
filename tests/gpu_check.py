"""Check this project on a GPU in one command, in at most eight minutes: `python tests/gpu_check.py`.

Needs neither data nor weights: images are noise, with the sizes of the paper's data sets, and the networks have random
weights. Without a GPU the same checks run on the CPU, smaller. A table at the end lists the results; the exit code is 1
if a check fails.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from conftest import plain_dataset, with_images
from PIL import Image

from sameo_core.config import TrainingConfig
from sameo_core.datasets import AmodalDataset
from sameo_core.model import EfficientSam, Sameo
from sameo_core.model.efficient_sam import multiplies_in_bf16
from sameo_core.model.sameo import default_device
from sameo_core.model.variants import VARIANTS
from sameo_core.training import BatchSampler, EmbeddingCache, fine_tune, fine_tuning

# Height, width and number of images of some of the paper's data sets
SIZES = {
    "cocoa": (480, 640, 2_500),
    "kins": (375, 1242, 7_500),
    "d2sa": (1440, 1920, 2_000),
    "walt": (2160, 3840, 36_000),
    "pix2gestalt": (512, 512, 837_000),
}
Row = tuple[str, str, str]  # check, figure, verdict

SECONDS = 8.0  # per speed measurement
GPU = torch.cuda.is_available()
VARIANT, BATCH = ("vit_s", 32) if GPU else ("nano", 4)


def network(device: torch.device | str) -> EfficientSam:
    """A network with the same random weights on any device."""
    torch.manual_seed(0)
    return EfficientSam(VARIANTS[VARIANT]).eval().to(device)


def noise_sets(folder: Path, images: int) -> list[AmodalDataset]:
    """A set for each of `SIZES`: JPEGs, two objects in each. Smooth noise, which compresses as photographs do."""
    sets = []
    for seed, (name, (height, width, _)) in enumerate(SIZES.items()):
        dataset = plain_dataset(images, name, (height, width))
        pictures = []
        for i, image in enumerate(dataset):
            path = folder / f"{name}{i}.jpg"
            small = np.random.default_rng([seed, i]).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
            Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
            pictures.append(replace(image, path=path))
        sets.append(with_images(dataset, pictures))
    return sets


def devices(_: Path) -> Iterator[Row]:
    yield "torch", torch.__version__, ""
    yield "CPU cores", str(os.cpu_count()), ""
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield f"GPU {number}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB", ""
    yield "multiplies in bf16", str(multiplies_in_bf16(default_device())), ""


@torch.inference_mode()
def parity(_: Path) -> Iterator[Row]:
    """Encoder and decoder against float32 on the CPU."""
    model, device = network("cpu"), default_device()
    images, boxes = torch.rand(2, 3, 480, 640), torch.tensor([[[50.0, 60, 300, 400], [200, 100, 600, 300]]] * 2)
    embedding = model.encode_images(images)
    logits = model.decode_boxes(embedding, boxes, (480, 640)).logits
    model = network(device)
    ways = (
        {"float32": (False, 1e-3), "TF32": (False, 2e-2), "half": (True, 1e-1)} if GPU else {"float32": (False, 1e-5)}
    )
    for name, (model.half_encoder, limit) in ways.items():
        torch.set_float32_matmul_precision("high" if name == "TF32" else "highest")
        found = model.encode_images(images.to(device))
        off = ((found.cpu() - embedding).abs().mean() / embedding.std()).item()
        yield f"encoder in {name}: mean error / spread", f"{off:.1e}", verdict(off <= limit)
        masks = model.decode_boxes(found, boxes.to(device), (480, 640)).logits.cpu() >= 0
        alike = (masks == (logits >= 0)).float().mean().item()
        yield "masks after it: equal pixels", f"{alike:.4f}", verdict(alike >= 0.98)
    torch.set_float32_matmul_precision("highest")


@torch.inference_mode()
def encoding(_: Path) -> Iterator[Row]:
    device, side = default_device(), VARIANTS[VARIANT].image_size
    model, images = network(device), torch.rand(16 if GPU else 2, 3, side, side, device=device)
    for name in ("float32", "half") if GPU else ("float32",):
        model.half_encoder = name == "half"
        model.encode_images(images)
        start, rounds = finished(), 0
        while finished() - start < SECONDS:
            model.encode_images(images)
            rounds += 1
        yield f"encoding in {name}, images/s", f"{rounds * len(images) / (finished() - start):.1f}", ""


def finished() -> float:
    """Seconds on a clock, once the GPU has done all its work."""
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def training(folder: Path) -> Iterator[Row]:
    """Encoding every image and training the decoder, with workers and without."""
    recipe = TrainingConfig(
        variant=VARIANT, weights=None, batch_images=BATCH, iterations=60 if GPU else 6, log_every=20
    )
    sets = noise_sets(folder, 4)
    weights = np.log1p([SIZES[dataset.name][2] for dataset in sets])  # drawn as often as the paper's would be
    for workers in (0, 4, 8) if GPU else (0, 1):
        model = network(default_device())
        sampler = BatchSampler(sets, EmbeddingCache(model, None), recipe, model.config.image_size, 0)
        sampler.probabilities = weights / weights.sum()
        run = fine_tuning._training_run(Sameo(model, VARIANT), sampler, recipe, workers)
        (folder / f"{workers}").mkdir()
        run.run(folder / f"{workers}")
        images, waiting = run.speed
        yield f"training with {workers} workers, images/s", f"{images:.1f}", ""
        yield f"training with {workers} workers, share of the time waiting", f"{waiting:.0%}", ""
    if GPU:
        yield f"memory at {BATCH} images, GiB", f"{torch.cuda.max_memory_allocated() / 2**30:.1f}", ""


def short_training(folder: Path) -> Path:
    """Twelve iterations on noise, with a checkpoint after every four."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = TrainingConfig(variant="nano", weights=None, batch_images=2, iterations=12, log_every=4, cpu_threads=1)
    embeddings = EmbeddingCache(fine_tuning.starting_model(recipe), None)
    return fine_tune(noise_sets(folder, 2)[:1], recipe, folder / "run", embeddings)


def resuming(folder: Path) -> Iterator[Row]:
    """A training that is killed and started again ends with the weights of one that was not."""
    whole = short_training(folder / "whole")
    command = [sys.executable, __file__, "--short-training", str(folder / "killed")]
    process = subprocess.Popen(command)
    while process.poll() is None and not (folder / "killed/run/checkpoint.pt").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = short_training(folder / "killed")
    pairs = [Sameo.load(path).model.mask_decoder.state_dict() for path in (whole, again)]
    off = max(float((pairs[0][name] - pairs[1][name]).abs().max()) for name in pairs[0])
    yield "killed and resumed: largest difference of a weight", f"{off:.1e}", verdict(off <= (1e-2 if GPU else 0))


def verdict(good: bool) -> str:
    return "passed" if good else "FAILED"


CHECKS = (devices, parity, encoding, training, resuming)


def main() -> int:
    if sys.argv[1:2] == ["--short-training"]:
        short_training(Path(sys.argv[2]))
        return 0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root:
        for check in CHECKS:
            folder = Path(root) / check.__name__
            folder.mkdir()
            for row in check(folder):
                rows.append(row)
                print(*row, flush=True)
    width = max(len(what) for what, *_ in rows)
    print("", *(f"{what:<{width}}  {figure:<40} {found}".rstrip() for what, figure, found in rows), sep="\n")
    return int(any(found == "FAILED" for *_, found in rows))


if __name__ == "__main__":
    sys.exit(main())
