"""The cache of image embeddings: named by content, checked when read, bounded, shared by processes, never needed."""

import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace

import pytest
import torch
from conftest import seeded_nano

from sameo_core.model import EfficientSam
from sameo_core.pipeline import open_clean_dataset
from sameo_core.training import EmbeddingCache, embeddings

BYTES = 128 * 16 * 16 * 2 + 4  # of a file: half precision and checksum


@pytest.fixture
def images(world):
    return list(open_clean_dataset("cocoa", "train", world.profile()))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


@pytest.fixture
def encoded(monkeypatch):
    """How many images each call of the encoder got."""
    calls, encode = [], EfficientSam.encode_images

    def counted(model, pixels):
        calls.append(len(pixels))
        return encode(model, pixels)

    monkeypatch.setattr(EfficientSam, "encode_images", counted)
    return calls


def files(folder):
    return sorted(folder.rglob("*.embedding"))


@pytest.mark.parametrize("half", [True, False])
def test_the_cache_holds_what_the_encoder_says(nano, images, folder, half):
    cache = EmbeddingCache(nano.model, folder, half)
    found = cache.embed(images)
    assert found.dtype == (torch.float16 if half else torch.float32) and found.shape == (len(images), 128, 16, 16)
    assert len({(image.height, image.width) for image in images}) > 1  # encoded together all the same
    for image, embedding in zip(images, found, strict=True):
        expected = nano.embed(image.read())[0]
        assert torch.allclose(embedding.float(), expected, rtol=2e-3 if half else 1e-4, atol=1e-3 if half else 1e-4)
    again = EmbeddingCache(nano.model, folder, half)
    assert torch.equal(again.embed(images), found) and again.encoded == 0
    assert len(files(folder)) == len(images)


def test_images_are_encoded_in_groups(nano, images, folder, encoded, monkeypatch):
    monkeypatch.setattr(embeddings, "ENCODING_BATCH", 4)
    EmbeddingCache(nano.model, folder).embed(images)
    assert encoded == [4, len(images) - 4]


def test_every_image_is_encoded_once_for_all_decoders(nano, images, folder, encoded):
    first = EmbeddingCache(nano.model, folder).embed(images[:2])
    other = seeded_nano()
    with torch.no_grad():
        other.mask_decoder.iou_token.weight += 1
    cache = EmbeddingCache(other, folder)
    assert torch.equal(cache.embed([images[1], images[2], images[0]])[[2, 0]], first)
    assert encoded == [2, 1] and cache.encoded == 1


def test_another_encoder_or_precision_has_other_files(nano, images, folder):
    other = seeded_nano()
    with torch.no_grad():
        other.image_encoder.neck[0].weight[0, 0] += 1e-3
    assert other.encoder_fingerprint() != nano.model.encoder_fingerprint() == seeded_nano().encoder_fingerprint()
    for model, half in ((nano.model, True), (nano.model, False), (other, True)):
        cache = EmbeddingCache(model, folder, half)
        cache.embed(images[:1])
        assert cache.encoded == 1
    assert len({path.parent for path in files(folder)}) == 3 and len({path.name for path in files(folder)}) == 1


def test_an_image_is_known_by_its_bytes(nano, images, folder, tmp_path):
    cache = EmbeddingCache(nano.model, folder)
    before = cache.embed(images[:1])
    moved = shutil.copy(images[0].path, tmp_path / "elsewhere.jpg")
    assert torch.equal(cache.embed([replace(images[0], path=moved, image_id=77)]), before) and cache.encoded == 1
    alike = next(image for image in images[1:] if (image.height, image.width) == (images[0].height, images[0].width))
    state = moved.stat()
    shutil.copy(alike.path, moved)
    os.utime(moved, ns=(state.st_atime_ns, state.st_mtime_ns))  # the same name and time, other pixels
    after = cache.embed([replace(images[0], path=moved)])
    assert cache.encoded == 2 and not torch.equal(after, before)


DAMAGES = {
    "half": lambda content: content[: BYTES // 2],
    "nothing": lambda content: b"",
    "one bit": lambda content: bytes([content[0] ^ 4]) + content[1:],
    "more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(BYTES),  # what a file system may leave after a crash
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_made_anew(nano, images, folder, damage):
    found = EmbeddingCache(nano.model, folder).embed(images[:1])
    (path,) = files(folder)
    assert path.stat().st_size == BYTES
    path.write_bytes(damage(path.read_bytes()))
    cache = EmbeddingCache(nano.model, folder)
    assert torch.equal(cache.embed(images[:1]), found) and cache.encoded == 1
    assert torch.equal(cache.embed(images[:1]), found) and cache.encoded == 1


# ------------------------------------------------------------------------------------------------------------- bound


def bounded(model, folder, entries):
    return EmbeddingCache(model, folder, gigabytes=entries * BYTES / 1e9)


def test_a_full_cache_keeps_what_it_has(nano, images, folder):
    cache = bounded(nano.model, folder, 3)
    for image in images[:5]:
        cache.embed([image])
    assert len(files(folder)) == 3 and cache.encoded == 5
    cache.embed(images[:3])
    assert cache.encoded == 5
    cache.embed(images[3:5])
    assert cache.encoded == 7


def test_what_others_keep_counts(nano, images, folder):
    """Another encoder's, and those of a cache that is at work in the same folder."""
    EmbeddingCache(seeded_nano(seed=1), folder).embed(images[:3])
    bounded(nano.model, folder, 4).embed(images[:2])
    assert len(files(folder)) == 4
    both = [bounded(nano.model, folder, 6) for _ in range(2)]
    for i, image in enumerate(images[2:6]):
        both[i % 2].embed([image])
    assert len(files(folder)) == 6


@pytest.mark.parametrize("how", [{"folder": None}, {"gigabytes": 0}, {"gigabytes": 0.9 * BYTES / 1e9}])
def test_without_a_cache_every_look_encodes(nano, images, folder, how):
    cache = EmbeddingCache(nano.model, **{"folder": folder} | how)
    assert torch.equal(cache.embed(images[:2]), cache.embed(images[:2]))
    assert cache.encoded == 4 and not files(folder)


def test_a_full_disk_is_told_once_and_stops_nothing(nano, images, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    expected = EmbeddingCache(nano.model, None).embed(images)
    cache = EmbeddingCache(nano.model, folder)
    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device.*Every image is encoded anew"):
        assert torch.equal(cache.embed(images), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(cache.embed(images[:1]), expected[:1])  # encoded in a batch of another size
    assert not [path for path in folder.rglob("*") if path.is_file()]


SHARING = """
    import sys, torch
    from pathlib import Path
    from sameo_core.pipeline import open_clean_dataset
    from sameo_core.config import load_profile
    from sameo_core.training import EmbeddingCache
    from sameo_core.model import build_efficient_sam

    torch.set_num_threads(1)
    images = list(open_clean_dataset("cocoa", "train", load_profile("mini", train_images=6)))
    model = build_efficient_sam("nano", Path(sys.argv[1])).eval()
    plain = EmbeddingCache(model, None).embed(images)
    cache = EmbeddingCache(model, sys.argv[2], gigabytes=float(sys.argv[3]))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(4):
        assert torch.equal(cache.embed(images), plain)
    print(cache.encoded)
"""


@pytest.mark.parametrize("entries", [None, 4])
def test_two_processes_share_a_folder(world, folder, entries):
    """Both write and read the same six embeddings at once; there may be room for four."""
    gigabytes = str(1e3 if entries is None else entries * BYTES / 1e9)
    weights = str(world.root / "data/weights/start.safetensors")
    command = [sys.executable, "-c", textwrap.dedent(SHARING), weights, str(folder / "shared"), gigabytes]
    environment = os.environ | {"SAMEO_ROOT": str(world.root), "TQDM_DISABLE": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "Warning" not in err, err
        assert entries or int(out) <= 6
    assert len(files(folder)) == 6 if entries is None else len(files(folder)) <= entries + 1
