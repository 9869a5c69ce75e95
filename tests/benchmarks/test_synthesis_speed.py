"""What synthesis costs beside the codec, on two workers, in memory; and 10,000 pairs against what was asked for.

Sources are drawn at LVIS's usual size, 640 x 480, with grain: what decoding costs depends on the bytes, and a drawn
scene has fewer of them than a photograph of COCO, about 160 KB. `python -m pytest -m benchmark -s tests/benchmarks`.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import AgreeingTeacher, tree
from peak_memory import peak_megabytes

import sameo_core
from sameo_core.config import CompletenessConfig, SynthesisConfig
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance, load_dataset
from sameo_core.masks import encode_mask
from sameo_core.miniature import DOMAINS, draw_scene
from sameo_core.synthesis import Pool, collect_complete_objects, draw_pair, measure_speed, synthesize

PHOTOGRAPHS = 48
GRAIN = 9  # standard deviation, grey levels
DOMAIN = replace(DOMAINS["lvis"], image_sizes=((480, 640),), objects=(3, 6), object_size=(0.15, 0.6))


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory, full) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    images = []
    for number in range(PHOTOGRAPHS if full else 6):
        scene = draw_scene(DOMAIN, number)
        path = root / f"{number}.jpg"
        grain = np.random.default_rng(number).normal(0, GRAIN, (480, 640, 1))
        PIL.Image.fromarray(np.clip(scene.image + grain, 0, 255).astype(np.uint8)).save(path, quality=92)
        instances = tuple(
            AmodalInstance(10 * number + k, 1, "thing", False, None, encode_mask(whole))
            for k, (whole, seen) in enumerate(zip(scene.amodal, scene.visible, strict=True))
            if np.array_equal(whole, seen)
        )
        images.append(AmodalImage(number, path.name, path, 480, 640, instances))
    dataset = AmodalDataset("lvis", root, "train", {1: "thing"}, images, {})
    with_objects = [image for image in images if image.instances]
    pool = collect_complete_objects(AgreeingTeacher(with_objects), dataset, CompletenessConfig(), root / "record")
    kilobytes = np.mean([image.path.stat().st_size for image in images]) / 1024
    print(f"\n{len(pool.complete())} complete of {len(pool)} objects; a photograph has {kilobytes:.0f} KB")
    return pool.save(root / "pool.npz")


def measured_alone(pool_file: Path, folder: Path, what: str, *sizes: int) -> list[float]:
    """What one of the functions below prints in a process of its own: without pytest, and without its type checks."""
    code = Path(sameo_core.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{code}{os.pathsep}{code / 'tests'}"}
    command = [sys.executable, __file__, str(pool_file), str(folder), what, *map(str, sizes)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [float(number) for number in run.stdout.split()]


def throughput(pool_file: Path, folder: Path, pairs: int, rounds: int) -> None:
    """Prints CPU seconds a pair: of the codec, of everything; the best of the rounds, in turn."""
    pool, config = Pool.load(pool_file).complete(), SynthesisConfig(pairs_per_shard=50)
    bound, whole = [], []
    for turn in range(rounds):
        bound.append(measure_speed(pool, config, pairs)["codec seconds a pair"])
        start = time.process_time()
        synthesize(pool, folder / str(turn), 2 * pairs, config=config)
        whole.append((time.process_time() - start) / pairs)
    print(min(bound), min(whole))


def two_workers(pool_file: Path, folder: Path, images: int, shards: int, rounds: int) -> None:
    """Prints wall seconds of so many images by one worker and by two; the best of the rounds, in turn."""
    config, seconds = SynthesisConfig(pairs_per_shard=images // 2 // shards), {1: [], 2: []}
    synthesize(pool_file, folder / "warm", images // 4, config=config, workers=2)
    for turn in range(rounds):
        for workers, measured in seconds.items():
            start = time.perf_counter()
            synthesize(pool_file, folder / f"{turn}-{workers}", images, config=config, workers=workers)
            measured.append(time.perf_counter() - start)
    print(min(seconds[1]), min(seconds[2]))


def peak_memory(pool_file: Path, folder: Path, images: int) -> None:
    """Prints the peak resident memory in MB of making so many images."""
    synthesize(pool_file, folder / str(images), images)
    print(peak_megabytes())


def test_one_core_reaches_half_of_the_codec_bound(pool_file, tmp_path, full):
    """Decode two and encode one, against everything that is done for a pair. 150 pairs, best of five rounds."""
    pairs, rounds = (150, 5) if full else (4, 1)
    bound, whole = measured_alone(pool_file, tmp_path, "throughput", pairs, rounds)
    assert len(load_dataset("amodal_lvis", tmp_path / "0", "train")) == 2 * pairs
    if not full:
        return
    print(f"\n{1000 * whole:.1f} ms a pair, codec {1000 * bound:.1f} ms: {bound / whole:.0%} of the codec bound")
    print(f"300,000 images on one core: {150_000 * whole / 3600:.2f} h")
    assert bound >= 0.5 * whole


@pytest.mark.benchmark
@pytest.mark.parametrize("full", [True], indirect=True)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_two_workers_are_nearly_twice_as_fast(pool_file, tmp_path):
    """The workers are there already, as in any long run; 1,000 images, best of three rounds. Needs an idle machine."""
    images, shards = 1000, 20
    one, two = measured_alone(pool_file, tmp_path, "two_workers", images, shards, 3)
    assert tree(tmp_path / "0-1") == tree(tmp_path / "0-2")
    print(f"\n1,000 images: one worker {one:.1f} s, two {two:.1f} s: {one / two:.2f} x")
    assert one >= 1.8 * two


def test_memory_does_not_grow_with_the_number_of_images(pool_file, tmp_path, full):
    sizes = (1000, 10_000) if full else (4,)
    peaks = [measured_alone(pool_file, tmp_path, "peak_memory", images)[0] for images in sizes]
    for images in sizes:
        assert len(load_dataset("amodal_lvis", tmp_path / str(images), "train")) == images
    if not full:
        return
    few, many = peaks
    print(f"\npeak RSS: {few:.0f} MB for 1,000 images, {many:.0f} MB for 10,000")
    assert many <= 1.1 * few


def test_ten_thousand_pairs_are_as_asked_for(pool_file, full):
    """Masks alone: the path that decides every pair of a data set."""
    pool, config, redraws = Pool.load(pool_file).complete(), SynthesisConfig(), Counter()
    pairs, deviations, start = 10_000 if full else 100, [], time.process_time()
    for number in range(pairs):
        pair = draw_pair(pool, config, 0, number)
        whole = pool.mask(pair.target)
        over = pair.occluder_mask(*whole.shape)
        rate = np.count_nonzero(whole & over) / np.count_nonzero(whole)
        deviations.append(abs(rate - pair.target_rate))
        redraws.update(pair.redraws)
    within = np.mean(np.array(deviations) <= 0.05)
    milliseconds = 1000 * (time.process_time() - start) / pairs
    if full:
        print(f"\n{within:.2%} within 0.05, mean deviation {np.mean(deviations):.4f}, {milliseconds:.1f} ms a pair")
        print(redraws)
    assert within >= 0.99


if __name__ == "__main__":
    pool_path, out, what, *arguments = sys.argv[1:]
    {"throughput": throughput, "two_workers": two_workers, "peak_memory": peak_memory}[what](
        Path(pool_path), Path(out), *map(int, arguments)
    )
