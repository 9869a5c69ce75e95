"""What the trainings of torchvision's detectors share: nano's on drawn scenes, the baseline's on data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.runs.atomic import atomic_write

PRETRAINED = ("backbone.encoder.", "backbone.body.")  # weights that a detector, nano or ResNet, does not start afresh


@dataclass(frozen=True)
class DetectionBatch:
    """What a detector learns from in one iteration, as torchvision's detectors take it."""

    images: tuple[Float[Tensor, "3 _ _"], ...]
    targets: tuple[dict[str, Tensor], ...]
    names: tuple[str, ...]  # to name in an error


def detector_losses(
    model: nn.Module, batch: DetectionBatch, iteration: int, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a detector in training mode, and its terms; seed and iteration decide which RoIs are sampled."""
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
    """AdamW; the pre-trained encoder learns at `encoder_rate` x the learning rate, vectors are not decayed."""
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
    """Write the weights in half precision, in one step."""
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(path) as partial:
        partial.write_bytes(safetensors.torch.save(weights))
    return path
