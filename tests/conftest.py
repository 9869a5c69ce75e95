"""What several test files share: a nano model with lively weights, and a miniature world that is drawn once."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch

from sameo_core import config, sameo, training
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.efficient_sam import EfficientSam, build_efficient_sam
from sameo_core.masks import encode_mask
from sameo_core.miniature import draw_dataset
from sameo_core.sameo import Sameo

# A busy machine is not a bug; the same examples every time, so that a test fails for whoever broke it.
hypothesis.settings.register_profile("sameo", deadline=None, derandomize=True)
hypothesis.settings.load_profile("sameo")


@pytest.fixture
def unchecked():
    """As in a notebook: no jaxtyping between the caller and our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def seeded_nano(seed: int = 0) -> EfficientSam:
    """EfficientSAM-nano with random weights, scaled such that masks and predicted IoU vary from box to box."""
    model, generator = build_efficient_sam("nano"), torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim == 1:
            noise = 1 + 0.1 * noise if key.endswith(".weight") else 0.02 * noise
        elif not key.endswith("positional_encoding_gaussian_matrix"):
            noise /= max(value[0].numel(), 1) ** 0.5
        value.copy_(noise)
    return model.eval()


@pytest.fixture
def nano() -> Sameo:
    return Sameo(seeded_nano(), "nano")


@dataclass(frozen=True)
class World:
    """A folder like the repository's, with `start.safetensors` and drawn data sets; nothing else is written to."""

    root: Path

    def profile(self, **overrides) -> config.Profile:
        tiny = {
            "train": ("cocoa",),
            "teacher": ("cocoa",),
            "held_out": ("cocoa_cls",),
            "visible_only": ("lvis",),
            "weights": "start.safetensors",
            "train_images": 6,
            "val_images": 4,
            "iterations": 6,
            "teacher_iterations": 6,
            "batch_images": 2,
            "warmup_iterations": 2,
            "log_every": 2,
            "seeds": (0,),
        }
        return config.load_profile("mini", **tiny | overrides)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """COCOA (train) and COCOA-cls (val) where `open_dataset` looks for them, and weights to start from."""
    root = tmp_path_factory.mktemp("world")
    profile = World(root).profile()
    folder = root / "data/runs/mini/datasets"
    draw_dataset("cocoa", folder / "cocoa", "train", profile.data.train_images, jobs=1)
    draw_dataset("cocoa_cls", folder / "cocoa_cls", "val", profile.data.val_images, jobs=1)
    Sameo(seeded_nano(), "nano").save(root / "data/weights/start.safetensors")
    return root


@pytest.fixture
def world(drawn, tmp_path, monkeypatch) -> World:
    """A copy of the drawn world of its own for each test; the package's paths lead there."""
    root = shutil.copytree(drawn, tmp_path / "repository")
    monkeypatch.setattr(config, "RUNS", root / "data/runs")
    for module in (config, sameo, training):
        monkeypatch.setattr(module, "WEIGHTS", root / "data/weights")
    return World(root)


def rectangle(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def plain_dataset(images: int, name: str = "plain", size: tuple[int, int] = (40, 60)) -> AmodalDataset:
    """Images without pixels, each with two objects; in image i, object 2i + 1 hides the right half of object 2i."""

    def instances(i: int) -> tuple[AmodalInstance, ...]:
        behind, front = rectangle(size, 4 + i, 10, 24 + i, 30), rectangle(size, 14 + i, 5, 44 + i, 35)
        visible = (behind & ~front, front)
        return tuple(
            AmodalInstance(2 * i + j, 10 + j, "ab"[j], False, encode_mask(amodal), encode_mask(visible[j]))
            for j, amodal in enumerate((behind, front))
        )

    height, width = size
    pictures = [AmodalImage(i, f"{i}.png", Path(f"{i}.png"), height, width, instances(i)) for i in range(images)]
    return AmodalDataset(name, Path("nowhere"), "train", {10: "a", 11: "b"}, pictures, {})
