"""Fine-tuning of the mask decoder on boxes that are half visible, half amodal (paper, section "Training").

The image encoder is frozen, so every image is encoded once; what learns works on cached embeddings. Iteration `i` of a
seed draws its batch from (seed, i) alone: a run that was killed resumes from its last checkpoint, bit for bit.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from joblib import Parallel, delayed
from torch import Tensor, nn
from tqdm import tqdm

from sameo_core import BoxPrompts, ImageEmbedding
from sameo_core.collection import open_clean_dataset
from sameo_core.config import WEIGHTS, Profile, TrainingConfig, config_hash
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.efficient_sam import EfficientSam, build_efficient_sam
from sameo_core.losses import SameoLoss, sameo_loss
from sameo_core.sameo import Sameo, default_device
from sameo_core.synthesis import synthetic_set, teacher_profile

ENCODING_BATCH = 16  # images encoded at once


@dataclass(frozen=True)
class Batch:
    """What the decoder learns from in one iteration; everything in the frame of the square network input."""

    embedding: ImageEmbedding  # b c he we
    boxes: BoxPrompts  # b q 4
    targets: Float[Tensor, "b q hm wm"]  # amodal masks at the decoder's resolution, share of each cell
    image_ids: tuple[str, ...]  # data set and image, to name in an error


def fine_tune(profile: Profile, seed: int = 0) -> Path:
    """The weights of a SAMEO fine-tuned with the profile's recipe; trained now unless an earlier run has left them.

    The run folder `data/runs/<profile>/sameo-<hash>` holds config.json, sampling.json (how often each set is drawn),
    log.csv, checkpoint.pt while it trains, and sameo.safetensors when it is done.

    Args:
        profile: data sets and recipe.
        seed: of batches, prompts and nothing else: the decoder starts from the pre-trained one.

    Raises:
        InputError: weights or data sets are missing or damaged.
        FloatingPointError: the loss is not finite; the message names the images of the batch.
    """
    recipe = replace(profile.training, seeds=(seed,))
    model, sets = _starting_model(recipe), open_training_sets(profile)
    key = config_hash(profile.name, recipe, model.fingerprint(), [dataset.fingerprint() for dataset in sets])
    folder = profile.runs / f"sameo-{key}"
    result = folder / "sameo.safetensors"
    if result.exists():
        return result
    folder.mkdir(parents=True, exist_ok=True)
    config = {"data": asdict(profile.data), "training": asdict(recipe)}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    sampler = BatchSampler(sets, _caches(model, sets, profile), recipe, model.config.image_size, seed)
    (folder / "sampling.json").write_text(json.dumps(sampler.frequencies(recipe.iterations), indent=1))
    with cpu_threads(recipe.cpu_threads):
        _run(Sameo(model, recipe.variant), sampler, recipe, folder)
    return Sameo(model, recipe.variant).save(result)


def fine_tune_all(runs: Sequence[tuple[Profile, int]]) -> list[Path]:
    """`fine_tune` for several (profile, seed), on a CPU as many at once as there are cores.

    What the runs share, data sets and embeddings, is made before and once. The weights do not depend on how many run
    at once where the profile states `cpu_threads`.

    Returns:
        the weights of each run, in order.

    Raises:
        InputError, FloatingPointError: as `fine_tune`.
    """
    if runs_at_once(len(runs)) > 1:
        for profile in {config_hash(profile): profile for profile, _ in runs}.values():
            _caches(_starting_model(profile.training), open_training_sets(profile), profile)
    return run_all(fine_tune, runs, "fine-tuning")


def runs_at_once(runs: int) -> int:
    """How many trainings run at the same time: on a CPU as many as there are cores, on a GPU one."""
    return 1 if default_device().type != "cpu" else max(1, min(runs, os.cpu_count() or 1))


def run_all(train: Callable[[Profile, int], Path], runs: Sequence[tuple[Profile, int]], what: str) -> list[Path]:
    """What `train` returns for each (profile, seed), in order; several at once (`runs_at_once`)."""
    at_once = runs_at_once(len(runs))
    weights = Parallel(n_jobs=at_once, return_as="generator")(delayed(train)(*run) for run in runs)
    return list(tqdm(weights, total=len(runs), desc=f"{what}, {at_once} at once", unit="run"))


def open_training_sets(profile: Profile) -> list[AmodalDataset]:
    """The data sets a profile trains on, cleaned; Amodal-LVIS is synthesised first where nobody has done it yet.

    Raises:
        InputError: one of them is missing or damaged, or nothing is left of it.
    """
    return [
        open_amodal_lvis(profile) if name == "amodal_lvis" else open_clean_dataset(name, "train", profile)
        for name in profile.data.train
    ]


def open_amodal_lvis(profile: Profile) -> AmodalDataset:
    """Amodal-LVIS: as it lies with the other data sets, or else made of what the profile's teacher finds complete.

    The teacher is a SAMEO that the profile's recipe trains on the other amodal sets (paper, section "Amodal-LVIS").

    Raises:
        InputError: as `fine_tune` and `synthetic_set`.
    """
    root = profile.data_folder / "amodal_lvis"
    if not root.is_dir():
        teacher = fine_tune(teacher_profile(profile), profile.training.seeds[0])
        root = synthetic_set(profile, teacher, workers=-1)
    dataset = open_clean_dataset("amodal_lvis", "train", profile, root)
    if not profile.data.dual_annotation:
        census = dataset.census()
        dataset = dataset.select(census.visible_area < census.amodal_area)
    return dataset


def _starting_model(recipe: TrainingConfig) -> EfficientSam:
    weights = WEIGHTS / recipe.weights if recipe.weights else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # matters where there are no weights to start from: the same run is found again
        return build_efficient_sam(recipe.variant, weights).to(default_device())


def _caches(model: EfficientSam, sets: Sequence[AmodalDataset], profile: Profile) -> list["EmbeddingCache"]:
    return [EmbeddingCache(model, dataset, profile.runs / "embeddings") for dataset in sets]


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
    """The log of the run that made `weights` (what `fine_tune` returned): iteration, losses, learning rate."""
    with (Path(weights).parent / "log.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def sampling(weights: str | Path) -> list[dict[str, str | int | float]]:
    """How often the run that made `weights` drew from each data set: the rows of `BatchSampler.frequencies`."""
    return json.loads((Path(weights).parent / "sampling.json").read_text())


def _run(sameo: Sameo, sampler: "BatchSampler", recipe: TrainingConfig, folder: Path) -> None:
    """The loop."""
    model = sameo.model
    parameters = list(sameo.trainable_parameters())
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    checkpoint, start = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.mask_decoder.load_state_dict(state["decoder"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["iteration"]
    truncate_log(folder / "log.csv", start)  # a row may be there without its checkpoint
    running = np.zeros(4)
    bar = tqdm(range(start, recipe.iterations), desc="fine-tuning", initial=start, total=recipe.iterations, unit="it")
    for iteration in bar:
        rate = recipe.learning_rate * learning_rate_factor(iteration, recipe)
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = sampler.batch(iteration)
        loss = training_loss(model, batch, recipe)
        if not loss.total.isfinite():
            rule = f"iteration {iteration}: the loss is {loss.total.item()}, with images {', '.join(batch.image_ids)}"
            raise FloatingPointError(f"{folder}: {rule}. Inspect these images, or lower the learning rate.")
        optimiser.zero_grad()
        loss.total.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimiser.step()
        running += [term.item() for term in loss]
        done = iteration + 1
        if done % recipe.log_every == 0 or done == recipe.iterations:
            means = running / (recipe.log_every if done % recipe.log_every == 0 else done % recipe.log_every)
            row = {"step": done, **dict(zip(SameoLoss._fields, means.round(6), strict=True)), "learning_rate": rate}
            append_log(folder / "log.csv", row)
            running[:] = 0
            state = {"decoder": model.mask_decoder.state_dict(), "optimiser": optimiser.state_dict(), "iteration": done}
            save_checkpoint(state, checkpoint)


def training_loss(model: EfficientSam, batch: Batch, recipe: TrainingConfig) -> SameoLoss:
    """Dice + focal + 0.05 x L1 of the predicted IoU, on the single-mask output.

    Which of the decoder's outputs the paper trains is not published: the single one answers one box with one mask,
    which is what SAMEO is for, and it is the output that EfficientSAM uses for boxes.
    """
    side, device = model.config.image_size, model.prompt_encoder.invalid_points.weight.device
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16 and device.type != "cpu"):
        decoded = model.decode_boxes(batch.embedding.to(device), batch.boxes.to(device), (side, side))
    logits, iou = decoded.logits[:, :, 0].float(), decoded.iou[:, :, 0].float()
    return sameo_loss(logits, iou, batch.targets.to(device), recipe.iou_weight)


def learning_rate_factor(iteration: int, recipe: TrainingConfig) -> float:
    """Share of the full learning rate: linear warm-up, then half a cosine to zero (ours; the paper says nothing)."""
    if iteration < recipe.warmup_iterations:
        return (iteration + 1) / recipe.warmup_iterations
    progress = (iteration - recipe.warmup_iterations) / max(1, recipe.iterations - recipe.warmup_iterations)
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_probabilities(sizes: Sequence[int]) -> Float[np.ndarray, " sets"]:
    """Probability that an image of a batch comes from each data set: proportional to the logarithm of its size.

    Paper, section "Training"; the normalisation is ours: log(1 + images), so that a set of one image still counts.
    """
    weights = np.log1p(np.array(sizes, float))
    return weights / weights.sum()


class BatchSampler:
    """Batches by number: which images, which of their objects, visible or amodal box, all from (seed, iteration).

    With `unoccluded_share` a prompted object is un-occluded with that probability, where its image has both kinds.
    It is for collections without the paper's dual annotation (each object shown occluded and whole), on which the
    decoder learns to invent hidden parts of objects that nothing hides.
    """

    def __init__(
        self,
        sets: Sequence[AmodalDataset],
        caches: Sequence["EmbeddingCache"],
        recipe: TrainingConfig,
        side: int,
        seed: int,
    ):
        self.sets, self.caches, self.recipe, self.side, self.seed = sets, caches, recipe, side, seed
        self.probabilities = set_probabilities([len(dataset) for dataset in sets])

    def frequencies(self, iterations: int) -> list[dict[str, str | int | float]]:
        """A row a data set: its images, its probability (0..1), and which share of the draws of a run it really has."""
        drawn = np.zeros(len(self.sets), int)
        for iteration in range(iterations):
            drawn += np.bincount(self._sources(self._generator(iteration)), minlength=len(self.sets))
        names = [dataset.name for dataset in self.sets]
        columns = zip(names, map(len, self.sets), self.probabilities.tolist(), drawn.tolist(), strict=True)
        return [
            {"data set": name, "images": images, "probability": share, "drawn": count, "realised": count / drawn.sum()}
            for name, images, share, count in columns
        ]

    def _generator(self, iteration: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, iteration])

    def _sources(self, rng: np.random.Generator) -> Int[np.ndarray, " images"]:
        """Which set each image of a batch comes from: the first thing that is drawn for it."""
        return rng.choice(len(self.sets), self.recipe.batch_images, p=self.probabilities)

    def batch(self, iteration: int) -> Batch:
        rng = self._generator(iteration)
        sources = self._sources(rng)
        embeddings, boxes, targets, names = [], [], [], []
        for source in sources:
            index = int(rng.integers(len(self.sets[source])))
            image, embedding = self.sets[source][index], self.caches[source][index]
            items = self._choose(rng, image)
            amodal_prompt = rng.random(len(items)) < self.recipe.amodal_prompt_share
            prompts = [
                item.amodal_box if amodal else item.visible_box
                for item, amodal in zip(items, amodal_prompt, strict=True)
            ]
            scale = np.array([self.side / image.width, self.side / image.height] * 2, np.float32)
            low = 4 * np.array(embedding.shape[-2:])  # the decoder's resolution
            embeddings.append(embedding)
            boxes.append(torch.from_numpy(np.stack(prompts) * scale))
            targets.append(shrink_masks(np.stack([item.amodal for item in items]), (int(low[0]), int(low[1]))))
            names.append(f"{self.sets[source].name} {image.image_id}")
        return Batch(torch.stack(embeddings).float(), torch.stack(boxes), torch.stack(targets), tuple(names))

    def _choose(self, rng: np.random.Generator, image: AmodalImage) -> list[AmodalInstance]:
        """The objects of an image that are prompted; one comes again only where there are too few."""
        items, share = [image.instances[i] for i in rng.permutation(len(image.instances))], self.recipe.unoccluded_share
        if share is None:
            return [items[i % len(items)] for i in range(self.recipe.boxes_per_image)]
        kinds = [[item for item in items if (item.occlusion_rate > 0) == occluded] for occluded in (False, True)]
        wanted = [kinds[int(rng.random() >= share)] or items for _ in range(self.recipe.boxes_per_image)]
        return [kind[i % len(kind)] for i, kind in enumerate(wanted)]


def shrink_masks(masks: Bool[np.ndarray, "n h w"], size: tuple[int, int]) -> Float[Tensor, "n hm wm"]:
    """Masks stretched to the decoder's resolution `size` = (hm, wm): about how much of each cell is object, 0..1.

    An antialiased (triangle) filter looks a little beyond the cell, so a full cell at an edge stays below 1.
    """
    pixels = torch.from_numpy(masks)[:, None].float()
    return F.interpolate(pixels, size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)


class EmbeddingCache:
    """The image embeddings of a data set on disk, half precision, one memory-mapped file; built at first use.

    Images are encoded in groups of one size. An interrupted build goes on where it stopped.
    """

    def __init__(self, model: EfficientSam, dataset: AmodalDataset, folder: Path):
        key = config_hash(dataset.fingerprint(), model.fingerprint())
        self.path = folder / f"{dataset.name}-{dataset.split}-{key}.npy"
        if not self.path.exists():
            self._build(model, dataset)
        self._embeddings = np.load(self.path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._embeddings)

    def __getitem__(self, index: int) -> Float[Tensor, "c he we"]:
        return torch.from_numpy(np.array(self._embeddings[index]))

    @torch.inference_mode()
    def _build(self, model: EfficientSam, dataset: AmodalDataset) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial, count = self.path.with_suffix(".partial"), self.path.with_suffix(".count")
        config = model.config
        grid = config.image_size // config.patch_size
        done = int(count.read_text() or 0) if count.exists() and partial.exists() else 0
        mode, shape = ("r+" if done else "w+"), (len(dataset), config.embedding_dim, grid, grid)
        file = np.lib.format.open_memmap(partial, mode, None if done else np.float16, None if done else shape)
        groups = _groups_of_one_size(dataset)
        device = model.prompt_encoder.invalid_points.weight.device
        for number, group in enumerate(tqdm(groups, desc=f"encoding {dataset.name} {dataset.split}", unit="batch")):
            if number < done:
                continue
            pixels = np.stack([dataset[int(i)].read() for i in group])
            images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2) / 255
            file[group] = model.encode_images(images).half().cpu().numpy()
            file.flush()
            count.write_text(str(number + 1))
        del file
        os.replace(partial, self.path)
        count.unlink()


def _groups_of_one_size(dataset: AmodalDataset) -> list[Int[np.ndarray, " images"]]:
    sizes = np.array([(image.height, image.width) for image in dataset])
    groups = []
    for size in np.unique(sizes, axis=0):
        members = np.flatnonzero((sizes == size).all(1))
        groups += np.split(members, range(ENCODING_BATCH, len(members), ENCODING_BATCH))
    return groups


def save_checkpoint(state: dict, path: Path) -> None:
    """Write a checkpoint in one step: a kill leaves the old one or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def append_log(path: Path, row: dict[str, int | float | str]) -> None:
    """Add a row to a CSV log, with a header where it is the first."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def truncate_log(path: Path, step: int) -> None:
    """Forget what was logged after the checkpoint, at `step`, that is resumed."""
    rows = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    path.unlink(missing_ok=True)
    for row in rows:
        if int(row["step"]) <= step:
            append_log(path, row)
