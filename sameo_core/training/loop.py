"""Fine-tuning of the mask decoder on boxes that are half visible, half amodal (paper, section "Training").

The image encoder is frozen, so what learns works on embeddings that are made once. Iteration `i` of a seed draws its
batch from (seed, i) alone: a run that was killed resumes from its last checkpoint, bit for bit where one thread
computes (`cpu_threads`; with more, see `EmbeddingCache`). On several GPUs, `torchrun ... -m sameo_core train` shares
each batch among them: plain DistributedDataParallel.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from sameo_core.config import WEIGHTS, TrainingConfig
from sameo_core.datasets import AmodalDataset
from sameo_core.model import EfficientSam, Sameo, SameoLoss, sameo_loss
from sameo_core.model.sameo import build_model, default_device, reuse_memory
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.distributed import barrier, broadcast_bool, rank, rank_zero_first, ranks
from sameo_core.runs.folders import append_log, load_checkpoint, locked, read_log, save_checkpoint, write_environment
from sameo_core.training.batches import Batch, BatchSampler, warn_left_out
from sameo_core.training.embeddings import EmbeddingCache

RESULT = "sameo.safetensors"  # in the run folder, of a run that is done
BEST = "best.safetensors"  # of one that was interrupted


def fine_tune(
    sets: Sequence[AmodalDataset],
    recipe: TrainingConfig,
    folder: Path,
    seed: int = 0,
    *,
    embeddings: EmbeddingCache | None = None,
    bad_images: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Fine-tune SAMEO's mask decoder on data sets, unless the folder holds the weights already; returns their path.

    The run folder holds config.json, environment.json, sampling.json (how often each set is drawn), log.csv,
    checkpoint.pt while it trains, and sameo.safetensors when it is done. A second process that asks for the same folder
    waits for the first and takes its result. All ranks of `torchrun` make the same call.

    Interrupted (Ctrl-C), it leaves best.safetensors: the weights after the `log_every` iterations with the lowest mean
    loss so far; nearly all objects of those are new to the decoder, so the loss is as good as that of a validation set.
    The same call resumes from the last checkpoint. A finished run keeps its last weights.

    Args:
        sets: with amodal masks.
        recipe: starting weights, batches, length and learning rate.
        folder: of this run alone: these sets, this recipe and this seed.
        seed: of batches and prompts; the decoder starts from the pre-trained one.
        embeddings: of the images, by the model that the recipe starts from; its decoder is trained. None: each image is
            encoded whenever it is drawn.
        bad_images: how many image files may be missing or damaged; a warning lists them at the end.
        about: JSON values for config.json, beside the recipe.

    Raises:
        InputError: weights are missing or damaged; a batch that the ranks cannot share equally; the disk is full or not
            writable; more than `bad_images` image files are missing or damaged.
        FloatingPointError: the loss is not finite; the message names the images of the batch.
        KeyboardInterrupt: with the place of the best weights so far.
    """
    result = folder / RESULT
    if broadcast_bool(is_complete(result)):
        return result
    recipe = replace(recipe, seeds=(seed,))
    embeddings = embeddings or EmbeddingCache(starting_model(recipe), None, recipe.half_embeddings)
    model = embeddings.model
    share = rank(), ranks(), model.input_size, bad_images
    sampler = BatchSampler(sets, embeddings, recipe, model.config.image_size, seed, *share)
    with _locked_by_rank_zero(folder):
        if broadcast_bool(is_complete(result)):  # another process has been at work on it
            return result
        if rank() == 0:
            config = {**(about or {}), "training": asdict(recipe)}
            frequencies = sampler.frequencies(recipe.iterations)
            for name, content in {"config.json": config, "sampling.json": frequencies}.items():
                with atomic_write(folder / name) as partial:
                    partial.write_text(json.dumps(content, indent=1))
        with cpu_threads(recipe.cpu_threads):
            if rank() == 0:
                write_environment(folder)
            _run(Sameo(model, recipe.variant), sampler, recipe, folder)
        warn_left_out(sampler.left_out, folder)
        if rank() == 0:
            Sameo(model, recipe.variant).save(result)
            for name in (BEST, "checkpoint.pt", "checkpoint.pt.corrupt"):
                (folder / name).unlink(missing_ok=True)
        barrier()
    return result


def is_complete(weights: Path) -> bool:
    """True if the file exists and its header parses."""
    try:
        with safetensors.safe_open(weights, "pt"):
            return True
    except (OSError, safetensors.SafetensorError):
        return False


def starting_model(recipe: TrainingConfig) -> EfficientSam:
    weights = WEIGHTS / recipe.weights if recipe.weights else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # matters where there are no weights to start from: the same run is found again
        return build_model(recipe.variant, weights).to(default_device())


@contextmanager
def _locked_by_rank_zero(folder: Path) -> Iterator[None]:
    if rank():
        yield
        return
    with locked(folder):
        yield


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Within it torch computes with so many threads; None: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_log(weights: str | Path) -> list[dict[str, float]]:
    """The log of the run that made `weights` (what `fine_tune` returned): step, losses, learning rate."""
    return read_log(Path(weights).parent / "log.csv")


def sampling(weights: str | Path) -> list[dict[str, str | int | float]]:
    """How often the run that made `weights` drew from each data set: the rows of `BatchSampler.frequencies`."""
    return json.loads((Path(weights).parent / "sampling.json").read_text())


class _Step(nn.Module):
    """The loss of a batch as a module, which is what DistributedDataParallel takes."""

    def __init__(self, model: EfficientSam, recipe: TrainingConfig):
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, batch: Batch) -> SameoLoss:
        return training_loss(self.model, batch, self.recipe)


def _run(sameo: Sameo, sampler: BatchSampler, recipe: TrainingConfig, folder: Path) -> None:
    """The loop. Losses and gradients are means over objects and ranks have equally many: their mean is the batch's."""
    reuse_memory()
    model = sameo.model
    parameters = list(sameo.trainable_parameters())
    step: nn.Module = _Step(model, recipe)
    if ranks() > 1:  # three of the four masks do not learn: "unused"
        step = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)
    optimiser = build_optimiser(parameters, recipe)
    checkpoint, start = folder / "checkpoint.pt", 0
    best: dict[str, Any] = {"total": math.inf, "step": 0, "decoder": {}}
    with rank_zero_first():
        state = load_checkpoint(checkpoint)
    if state is not None:
        model.mask_decoder.load_state_dict(state["decoder"])
        optimiser.load_state_dict(state["optimiser"])
        start, best = state["iteration"], state["best"]
        sampler.left_out |= state.get("left_out", {})
    barrier()  # nobody writes the next checkpoint while another reads this one
    running = np.zeros(4)
    bar = tqdm(
        range(start, recipe.iterations),
        desc="fine-tuning",
        initial=start,
        total=recipe.iterations,
        unit="it",
        disable=rank() > 0 or None,
    )
    try:
        for iteration in bar:
            rate = recipe.learning_rate * learning_rate_factor(iteration, recipe)
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = sampler.batch(iteration)
            loss = step(batch)
            if not loss.total.isfinite():
                found = f"the loss is {loss.total.item()}, with images {', '.join(batch.image_ids)}"
                remedy = "Inspect these images, or lower the learning rate"
                raise FloatingPointError(f"{folder}: iteration {iteration}: {found}. {remedy}.")
            optimiser.zero_grad()
            loss.total.backward()
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimiser.step()
            running += [term.item() for term in loss]
            done = iteration + 1
            if done % recipe.log_every == 0 or done == recipe.iterations:
                means = _mean_of_ranks(running / (done % recipe.log_every or recipe.log_every))
                running[:] = 0
                decoder = model.mask_decoder.state_dict()
                if means[0] < best["total"]:
                    kept = {name: value.detach().cpu().clone() for name, value in decoder.items()}
                    best = {"total": float(means[0]), "step": done, "decoder": kept}
                if rank() == 0:
                    losses = dict(zip(SameoLoss._fields, means.round(6), strict=True))
                    append_log(folder / "log.csv", {"step": done, **losses, "learning_rate": rate})
                    bar.set_postfix(loss=f"{means[0]:.4f}")
                    state = {"decoder": decoder, "optimiser": optimiser.state_dict(), "iteration": done, "best": best}
                    state["left_out"] = sampler.left_out
                    save_checkpoint(state, checkpoint)
    except KeyboardInterrupt:
        if rank() or not best["decoder"]:
            raise
        model.mask_decoder.load_state_dict(best["decoder"])
        path = sameo.save(folder / BEST)
        found = f"mean loss {best['total']:.4f} up to iteration {best['step']}"
        raise KeyboardInterrupt(f"best weights so far ({found}): {path}; the same call goes on from here") from None


def _mean_of_ranks(values: np.ndarray) -> np.ndarray:
    if ranks() == 1:
        return values
    total = torch.from_numpy(values.copy())  # on the CPU: float64, by gloo
    dist.all_reduce(total)
    return total.numpy() / ranks()


def training_loss(model: EfficientSam, batch: Batch, recipe: TrainingConfig) -> SameoLoss:
    """Dice + focal + 0.05 x L1 of the predicted IoU, on the single-mask output.

    Which of the decoder's outputs the paper trains is not published: the single one answers one box with one mask,
    which is what SAMEO is for, and it is the output that EfficientSAM uses for boxes.
    """
    side, device = model.config.image_size, model.pixel_mean.device
    quick = device.type != "cpu" or torch.cpu.get_capabilities().get("amx_bf16", False)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16 and quick):
        decoded = model.decode_boxes(batch.embedding.to(device), batch.boxes.to(device), (side, side))
    logits, iou = decoded.logits[:, :, 0].float(), decoded.iou[:, :, 0].float()
    return sameo_loss(logits, iou, batch.targets.to(device), recipe.iou_weight)


def build_optimiser(parameters: Sequence[nn.Parameter], recipe: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that `recipe.optimiser` names."""
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)


def learning_rate_factor(iteration: int, recipe: TrainingConfig) -> float:
    """Share of the full learning rate: a linear warm-up, then what `recipe.schedule` says."""
    warmup = min(recipe.warmup_iterations, int(recipe.max_warmup_share * recipe.iterations))
    if iteration < warmup:
        return (iteration + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    progress = (iteration - warmup) / max(1, recipe.iterations - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
