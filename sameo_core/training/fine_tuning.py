"""Fine-tuning of the mask decoder on boxes, half visible and half amodal (paper, section "Training").

The image encoder is frozen, so the decoder learns from embeddings that are computed once. On several GPUs,
`torchrun ... -m sameo_core train` splits each batch among them, with plain DistributedDataParallel.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sameo_core.config import WEIGHTS, TrainingConfig
from sameo_core.datasets import AmodalDataset
from sameo_core.model import EfficientSam, Sameo, SameoLoss, sameo_loss
from sameo_core.model.efficient_sam import multiplies_in_bf16
from sameo_core.model.sameo import build_model, default_device
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.distributed import rank, ranks
from sameo_core.runs.folders import read_log
from sameo_core.training.batches import Batch, BatchSampler, warn_left_out
from sameo_core.training.embeddings import EmbeddingCache
from sameo_core.training.loop import TrainingRun, learning_rate_factor, train_once

RESULT = "sameo.safetensors"  # in the folder of a finished run


def fine_tune(
    sets: Sequence[AmodalDataset],
    recipe: TrainingConfig,
    folder: Path,
    embeddings: EmbeddingCache,
    seed: int = 0,
    *,
    bad_images: int = 0,
    workers: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Fine-tune SAMEO's mask decoder on data sets, unless the folder has the weights already; returns their path.

    The run folder has config.json, environment.json, sampling.json (how often each set is drawn), log.csv,
    checkpoint.pt during training, and sameo.safetensors, the last weights, at the end.

    On interruption (Ctrl-C), it writes best.safetensors: the weights after the `log_every` iterations of lowest mean
    loss so far; nearly all their objects are new to the decoder, so this loss is as good as that of a validation set.
    The same call resumes from the last checkpoint.

    Args:
        sets: with amodal masks.
        recipe: batches, length and learning rate.
        folder: for this run alone: these sets, this recipe and this seed.
        embeddings: of the images, by the recipe's `starting_model`, whose decoder is trained.
        seed: of batches and prompts; the decoder starts from pre-trained weights.
        bad_images: how many image files may be missing or damaged; a warning lists them at the end.
        workers: processes that prefetch batches; they do not affect the result.
        about: JSON values to add to the recipe in config.json.

    Raises:
        InputError: a batch that the ranks cannot share equally; more than `bad_images` image files are missing or
            damaged. This and other errors as `train_once` and `TrainingRun.run`.
    """
    recipe = replace(recipe, seeds=(seed,))

    def work() -> None:
        model = embeddings.model
        share = rank(), ranks(), model.input_size, bad_images
        sampler = BatchSampler(sets, embeddings, recipe, model.config.image_size, seed, *share)
        if rank() == 0:
            with atomic_write(folder / "sampling.json") as partial:
                partial.write_text(json.dumps(sampler.frequencies(recipe.iterations), indent=1))
        sameo = Sameo(model, recipe.variant)
        _training_run(sameo, sampler, recipe, workers).run(folder)
        warn_left_out(sampler.left_out, folder)
        if rank() == 0:
            sameo.save(folder / RESULT)

    return train_once(folder / RESULT, {**(about or {}), "training": asdict(recipe)}, recipe.cpu_threads, work)


class _Step(nn.Module):
    """The loss of a batch as a module, as DistributedDataParallel requires."""

    def __init__(self, model: EfficientSam, recipe: TrainingConfig):
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, batch: Batch) -> SameoLoss:
        return training_loss(self.model, batch, self.recipe)


def _training_run(sameo: Sameo, sampler: BatchSampler, recipe: TrainingConfig, workers: int) -> TrainingRun:
    optimiser = build_optimiser([*sameo.trainable_parameters()], recipe)
    step: nn.Module = _Step(sameo.model, recipe)
    if ranks() > 1:  # the parameters of three of the four masks are unused
        step = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)

    def losses(_: int, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        terms = step(batch)._asdict()
        return terms["total"], terms

    return TrainingRun(
        task="fine-tuning",
        modules={"decoder": sameo.model.mask_decoder},
        optimisers={"optimiser": optimiser},
        batches=lambda start: sampler.batches(start, recipe.iterations, workers),
        losses=losses,
        iterations=recipe.iterations,
        rate_factor=lambda iteration: learning_rate_factor(iteration, recipe),
        clip=recipe.clip,
        log_every=recipe.log_every,
        measure=lambda: {"learning_rate": optimiser.param_groups[0]["lr"]},
        left_out=sampler.left_out,
        save_best=sameo.save,
    )


def training_loss(model: EfficientSam, batch: Batch, recipe: TrainingConfig) -> SameoLoss:
    """Dice + focal + 0.05 x L1 of the predicted IoU, on the single-mask output.

    The paper does not say which output it trains. The single one gives one mask per box, as SAMEO needs, and
    EfficientSAM uses it for boxes.
    """
    device = model.pixel_mean.device
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16 and multiplies_in_bf16(device)):
        tokens = model.prompt_encoder(batch.boxes, model.config.image_size)
        decoded = model.decode_prompts(batch.embedding, tokens, multimask=False)
    logits, iou = decoded.logits[:, :, 0].float(), decoded.iou[:, :, 0].float()
    return sameo_loss(logits, iou, batch.targets, recipe.iou_weight)


def build_optimiser(parameters: Sequence[nn.Parameter], recipe: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser named in `recipe.optimiser`."""
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)


def starting_model(recipe: TrainingConfig) -> EfficientSam:
    """The model with a recipe's starting weights, on the GPU if there is one."""
    weights = WEIGHTS / recipe.weights if recipe.weights else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # without starting weights: makes the run reproducible
        return build_model(recipe.variant, weights).to(default_device())


def training_log(weights: str | Path) -> list[dict[str, float]]:
    """The log of the run that made `weights` (as returned by `fine_tune`): step, losses, learning rate."""
    return read_log(Path(weights).parent / "log.csv")


def sampling(weights: str | Path) -> list[dict[str, str | int | float]]:
    """How often the run that made `weights` drew from each data set: rows of `BatchSampler.frequencies`."""
    return json.loads((Path(weights).parent / "sampling.json").read_text())
