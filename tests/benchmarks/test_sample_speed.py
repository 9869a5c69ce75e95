"""What a training sample costs: an object's mask of a street of 30 objects, and a large JPEG for a small network."""

import time
from dataclasses import replace
from statistics import median

import numpy as np
import PIL.Image

from sameo_core.config import profiles
from sameo_core.datasets import dataset, load_dataset


def cpu(work, rounds):
    """Median milliseconds of CPU time, and what the last call gave."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        found = work()
        taken.append(1000 * (time.process_time() - start))
    return median(taken), found


def test_a_sample_decodes_no_npz_and_no_more_of_a_jpeg_than_is_needed(tmp_path, monkeypatch, full):
    """CPU time on a Xeon: 30 objects of 1080 x 1920, npz 800 ms, kept 5 ms; a 4K JPEG 200 ms, halved 22 to 56."""
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    objects, height, width, rounds = (30, 1080, 1920, 3) if full else (3, 54, 96, 1)
    rng, (y, x) = np.random.default_rng(0), np.ogrid[:height, :width]
    places = rng.uniform(0.1, 0.9, (objects, 2)) * (height, width)
    whole = np.array([(y - cy) ** 2 + 0.3 * (x - cx) ** 2 < (height / 8) ** 2 for cy, cx in places])
    later = np.logical_or.accumulate(whole[::-1])[::-1]  # itself, or what was pasted over it
    layers = whole.astype(np.uint8)
    layers[:-1] += whole[:-1] & later[1:]
    folder = tmp_path / "cwalt_train" / "Segmentation"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "a.npz", mask=np.repeat(layers[..., None], 3, 3))

    def first_object():
        image = load_dataset("walt", tmp_path, "train")[0]
        return len(image.instances), image.instances[0].amodal

    original, (count, mask) = cpu(first_object, rounds)
    monkeypatch.setattr(dataset, "CENSUS_KEPT_FROM", 0)
    load_dataset("walt", tmp_path, "train").census()
    kept, (kept_count, kept_mask) = cpu(first_object, rounds)
    assert count == kept_count > 0 and np.array_equal(mask, kept_mask)

    side = 2160 if full else 432
    noise = PIL.Image.fromarray(rng.integers(0, 255, (27, 48, 3), np.uint8))
    path = folder.parent / "images" / "a.jpg"
    path.parent.mkdir()
    noise.resize((side * 16 // 9, side), PIL.Image.Resampling.BICUBIC).save(path)
    image = replace(load_dataset("walt", tmp_path, "train")[0], height=side, width=side * 16 // 9)
    large, pixels = cpu(image.read, rounds)
    small, reduced = cpu(lambda: image.read((side * 10 // 21,) * 2), rounds)
    assert reduced.shape[0] * 2 == pixels.shape[0] and abs(reduced.mean() - pixels.mean()) < 1
    if not full:
        return
    print(
        f"\nan object of {objects}: {original:.0f} ms, kept {kept:.1f} ms; JPEG: {large:.0f} ms, reduced {small:.0f} ms"
    )
    assert kept < original / 20 and small < large / 2
