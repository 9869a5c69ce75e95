"""The training loop of torchvision's detectors: nano's on drawn scenes, the end-to-end baseline's on data sets."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.folders import append_log, load_checkpoint, save_checkpoint

PRETRAINED = ("backbone.encoder.", "backbone.body.")  # weights that a detector, nano or ResNet, does not start afresh


@dataclass(frozen=True)
class DetectionBatch:
    """What a detector learns from in one step, as torchvision's detectors take it."""

    images: tuple[Float[Tensor, "3 _ _"], ...]
    targets: tuple[dict[str, Tensor], ...]
    names: tuple[str, ...]  # to name in an error


def run_detector_training(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[DetectionBatch]],
    folder: Path,
    *,
    end: int,
    factor: Callable[[int], float],
    seed: int,
    clip: float | int,
    log_every: int,
    measure: Callable[[], dict[str, float]] = dict,
) -> None:
    """The loop of a torchvision detector, in training mode; goes on from checkpoint.pt in `folder`.

    Args:
        batches: from a step on, one batch a step, up to `end`.
        folder: receives log.csv (mean losses, what `measure` says, seconds a step) and checkpoint.pt.
        end: steps to have been done at last.
        factor: share of the full learning rate at a step.
        seed: with the step it decides which anchors and proposals are sampled.
        clip: largest norm of the gradient.
        log_every: steps.
        measure: more columns for the log.

    Raises:
        FloatingPointError: the loss is not finite; the message names the images of the batch.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    device = next(model.parameters()).device
    checkpoint, start = folder / "checkpoint.pt", 0
    if (state := load_checkpoint(checkpoint)) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    running: dict[str, float] = {}
    logged, began = start, time.perf_counter()
    bar = tqdm(batches(start), desc="training the detector", initial=start, total=end, unit="step")
    for step, batch in enumerate(bar, start):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor(step)
        images = [image.to(device) for image in batch.images]
        targets = [{key: value.to(device) for key, value in target.items()} for target in batch.targets]
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.default_rng([seed, step, 2]).integers(2**31)))
            terms = model(images, targets)
        loss = sum(terms.values())
        if not loss.isfinite():
            rule = f"step {step}: the loss is {loss.item()}, with images {', '.join(batch.names)}"
            raise FloatingPointError(f"{folder}: {rule}. Inspect these images, or lower the learning rate.")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        for name, value in terms.items():
            running[name] = running.get(name, 0.0) + value.item()
        done = step + 1
        if done % log_every == 0 or done == end:
            row = {"step": done} | {name: round(total / (done - logged), 5) for name, total in running.items()}
            row |= measure()
            row["seconds_a_step"] = round((time.perf_counter() - began) / (done - logged), 3)
            append_log(folder / "log.csv", row)
            save_checkpoint(
                {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": done}, checkpoint
            )
            running, logged, began = {}, done, time.perf_counter()


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
