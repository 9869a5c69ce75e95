"""Shared training code of torchvision detectors: nano's (on drawn scenes) and the baseline (on data sets)."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.runs.atomic import atomic_write

PRETRAINED = ("backbone.encoder.", "backbone.body.")  # weights that start pre-trained, in nano or a ResNet


@dataclass(frozen=True)
class DetectionBatch:
    """A training batch in the format of torchvision's detectors."""

    images: tuple[Float[Tensor, "3 _ _"], ...]
    targets: tuple[dict[str, Tensor], ...]
    names: tuple[str, ...]  # for error messages


def detector_losses(
    model: nn.Module, batch: DetectionBatch, iteration: int, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a detector in training mode, and its terms; RoIs are sampled by seed and iteration."""
    device = next(model.parameters()).device
    images = [image.to(device) for image in batch.images]
    targets = [{key: value.to(device) for key, value in target.items()} for target in batch.targets]
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng([seed, iteration, 2]).integers(2**31)))
        terms = model(images, targets)
    return cast(Tensor, sum(terms.values())), terms


def detector_optimiser(
    model: nn.Module, learning_rate: float | int, encoder_rate: float | int, weight_decay: float | int
) -> torch.optim.AdamW:
    """AdamW; the pre-trained encoder has `encoder_rate` x the learning rate; vectors have no weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith(PRETRAINED), parameter.ndim > 1), []).append(parameter)
    options = [
        {
            "params": parameters,
            "lr": learning_rate * (encoder_rate if pretrained else 1),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (pretrained, decayed), parameters in groups.items()
    ]
    return torch.optim.AdamW(options)


def save_detector(model: nn.Module, path: Path) -> Path:
    """Write the weights in half precision, atomically."""
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(path) as partial:
        partial.write_bytes(safetensors.torch.save(weights))
    return path
