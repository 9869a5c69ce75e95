"""Training batches: images of several data sets, two objects per image, prompted by visible or amodal boxes.

Each image depends on the seed, the iteration and its place in the batch alone, so any rank can compute its share of any
batch, and a resumed run sees the same batches as an uninterrupted one.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sameo_core.arrays import BoxPrompts, ImageEmbedding
from sameo_core.config import TrainingConfig
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.training.embeddings import EmbeddingCache, LookedUp

TARGET_BYTES = 2**29  # of recent targets stay in memory: objects recur, and decoding their RLEs is slow


@dataclass(frozen=True)
class Batch:
    """A training batch of the decoder, in the frame of the square network input."""

    embedding: ImageEmbedding  # b c he we, in the cache's precision
    boxes: BoxPrompts  # b q 4
    targets: Float[Tensor, "b q hm wm"]  # amodal masks at the decoder's resolution: share of each cell
    names: tuple[str, ...]  # data set and image, for error messages


class Loaded(NamedTuple):
    """A batch before its missing embeddings are computed. A NamedTuple, which a `DataLoader` can pin in memory."""

    images: LookedUp
    boxes: BoxPrompts
    targets: Float[Tensor, "b q hm wm"]  # half precision
    names: Sequence[str]
    left_out: dict[str, str]  # by the process that loaded the batch


def set_probabilities(
    sizes: Sequence[int], sampling: Literal["log", "uniform", "size"] = "log"
) -> Float[np.ndarray, " sets"]:
    """Probability of drawing an image from each data set, given the numbers of images.

    "log" is the paper's (section "Training"): proportional to the logarithm of the size. log(1 + images), so that a set
    of one image still counts, is ours.
    """
    weigh: dict[str, Callable[[np.ndarray], np.ndarray]] = {"log": np.log1p, "uniform": np.ones_like, "size": np.array}
    weights = weigh[sampling](np.array(sizes, float))
    return weights / weights.sum()


class BatchSampler:
    """Samples batches by iteration: images, their objects, and visible or amodal boxes.

    With `unoccluded_share`, a prompted object is un-occluded with that probability if its image has both kinds. Use it
    for collections without the paper's dual annotation (each object occluded and whole): without it, the decoder learns
    from them to invent hidden parts of un-occluded objects.

    Args:
        side: of the network's square input, in pixels.
        rank, ranks: this process takes images `rank * n ... (rank + 1) * n - 1` of a batch of `ranks * n`.
        input_size: maps an image's (height, width) to its size in the square; None: it fills the square.
        bad_images: maximum number of unreadable image files to leave out; `left_out` lists them, with the reason. The
            next image of the set replaces each, so a batch does not depend on when the damage is noticed.

    Raises:
        InputError: a batch that cannot be divided equally among the ranks.
    """

    def __init__(
        self,
        sets: Sequence[AmodalDataset],
        embeddings: EmbeddingCache,
        recipe: TrainingConfig,
        side: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        input_size: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
        bad_images: int = 0,
    ):
        if recipe.batch_images % ranks:
            rule = f"a batch is shared equally by all {ranks} processes, found {recipe.batch_images} images"
            remedy = f"Start another number of processes, or override batch_images, e.g. with {ranks}"
            raise InputError(file="training", record="batch_images", rule=rule, remedy=remedy)
        share = recipe.batch_images // ranks
        self.places = range(rank * share, (rank + 1) * share)
        self.sets, self.embeddings, self.recipe, self.side, self.seed = sets, embeddings, recipe, side, seed
        self.input_size = input_size or (lambda _: (side, side))
        self.probabilities = set_probabilities([len(dataset) for dataset in sets], recipe.sampling)
        self.bad_images = bad_images
        self.left_out: dict[str, str] = {}
        self._kept = [embeddings.largest_set is None or len(dataset) <= embeddings.largest_set for dataset in sets]
        self._target = lru_cache(TARGET_BYTES // (2 * (side // 4) ** 2))(self._find_target)

    def frequencies(self, iterations: int) -> list[dict[str, str | int | float]]:
        """One row per data set: number of images, probability (0..1), and realised share of a run's draws."""
        drawn = np.zeros(len(self.sets), int)
        for iteration in range(iterations):
            drawn += np.bincount(self._sources(iteration), minlength=len(self.sets))
        names = [dataset.name for dataset in self.sets]
        columns = zip(names, map(len, self.sets), self.probabilities.tolist(), drawn.tolist(), strict=True)
        return [
            {"data set": name, "images": images, "probability": share, "drawn": count, "realised": count / drawn.sum()}
            for name, images, share, count in columns
        ]

    def _sources(self, iteration: int) -> Int[np.ndarray, " images"]:
        """The data set of each image of a batch."""
        rng = np.random.default_rng([self.seed, iteration])
        return rng.choice(len(self.sets), self.recipe.batch_images, p=self.probabilities)

    def batch(self, iteration: int) -> Batch:
        """This rank's share of a batch. Raises InputError if more than `bad_images` image files cannot be read."""
        return self._finished(self._load(iteration))

    def batches(self, start: int, end: int, workers: int = 0) -> Iterator[Batch]:
        """The batches of iterations `start` to `end` - 1, prefetched by `workers` processes, which do not affect them.

        Raises InputError as `batch`.
        """
        if not workers:
            yield from map(self.batch, range(start, end))
            return
        how: dict[str, Any] = {"pin_memory": torch.cuda.is_available(), "multiprocessing_context": "fork"}
        for loaded in DataLoader(_Ahead(self), None, sampler=range(start, end), num_workers=workers, **how):
            if isinstance(loaded, InputError):
                raise loaded
            for file, rule in loaded.left_out.items():
                if file not in self.left_out:
                    error = InputError(file=file, rule=rule, remedy="Fetch it again")
                    leave_out(self.left_out, error, [file], self.bad_images)
            yield self._finished(loaded)

    def _load(self, iteration: int) -> Loaded:
        """The first half of `batch`; needs no model, so worker processes can prefetch it."""
        while True:
            images, objects, boxes = self._drawn(iteration)
            try:
                found = self.embeddings.look_up(images, [self._kept[keys[0][0]] for keys in objects])
                break
            except InputError as error:
                leave_out(self.left_out, error, [str(image.path) for image in images], self.bad_images)
        targets = [torch.stack([self._target(*key) for key in keys]) for keys in objects]
        names = (f"{self.sets[keys[0][0]].name} {im.image_id}" for im, keys in zip(images, objects, strict=True))
        return Loaded(found, torch.stack(boxes), torch.stack(targets), tuple(names), dict(self.left_out))

    def _finished(self, loaded: Loaded) -> Batch:
        embedding = self.embeddings.complete(loaded.images)
        boxes, targets = (part.to(embedding.device, non_blocking=True) for part in (loaded.boxes, loaded.targets))
        return Batch(embedding, boxes, targets.float(), tuple(loaded.names))

    def _drawn(self, iteration: int) -> tuple[list[AmodalImage], list[list[tuple[int, int, int]]], list[Tensor]]:
        """The images of a batch, with each image's prompted objects (set, image, object) and their boxes."""
        sources = self._sources(iteration)
        images: list[AmodalImage] = []
        objects, boxes = [], []
        for place in self.places:
            rng = np.random.default_rng([self.seed, iteration, 1 + place])
            source = int(sources[place])
            index, image = self._readable(source, int(rng.integers(len(self.sets[source]))))
            chosen = self._choose(rng, image)
            amodal = (rng.random(len(chosen)) < self.recipe.amodal_prompt_share).tolist()
            items = [(image.instances[i], kind) for i, kind in zip(chosen, amodal, strict=True)]
            prompts = [item.amodal_box if kind else item.visible_box for item, kind in items]
            height, width = self.input_size((image.height, image.width))
            scale = np.array([width / image.width, height / image.height] * 2, np.float32)
            boxes.append(torch.from_numpy(self._jittered(rng, np.stack(prompts), image) * scale))
            images.append(image)
            objects.append([(source, index, i) for i in chosen])
        return images, objects, boxes

    def _readable(self, source: int, first: int) -> tuple[int, AmodalImage]:
        """An image that is not left out, and its number: the first one from `first` on."""
        dataset = self.sets[source]
        for number in range(first, first + len(dataset)):
            image = dataset[number % len(dataset)]
            if str(image.path) not in self.left_out:
                return number % len(dataset), image
        remedy = "Fetch the images again, see data/README.md"
        raise InputError(file=dataset.root, rule="no image of the set can be read", remedy=remedy)

    def _jittered(self, rng: np.random.Generator, boxes: np.ndarray, image: AmodalImage) -> np.ndarray:
        """Add noise to the sides of a random half of the boxes, to imitate a detector."""
        if not self.recipe.prompt_jitter:
            return boxes
        moved = (rng.random((len(boxes), 1)) < 0.5) * rng.uniform(-1, 1, boxes.shape)
        boxes = boxes + self.recipe.prompt_jitter * moved * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        return boxes.clip(0, [image.width, image.height] * 2).astype(np.float32)

    def _choose(self, rng: np.random.Generator, image: AmodalImage) -> list[int]:
        """Indices of an image's prompted objects; objects repeat only if there are too few."""
        items = rng.permutation(len(image.instances)).tolist()
        share = self.recipe.unoccluded_share
        if share is None:
            return [items[i % len(items)] for i in range(self.recipe.boxes_per_image)]
        occluded = [item.occlusion_rate > 0 for item in image.instances]
        kinds = [[item for item in items if occluded[item] == kind] for kind in (False, True)]
        wanted = [kinds[int(rng.random() >= share)] or items for _ in range(self.recipe.boxes_per_image)]
        return [kind[i % len(kind)] for i, kind in enumerate(wanted)]

    def _find_target(self, source: int, index: int, number: int) -> Float[Tensor, "hm wm"]:
        """An object's amodal mask at the decoder's resolution (a quarter of the input's), in half precision."""
        image = self.sets[source][index]
        inner = self.input_size((image.height, image.width))
        size = self.side // 4, self.side // 4
        return shrink_masks(image.instances[number].amodal[None], size, inner, self.side)[0].half()


class _Ahead(Dataset[Loaded | InputError]):
    """Loaded batches by iteration; returns an `InputError`, since a `DataLoader` cannot re-raise it."""

    def __init__(self, sampler: BatchSampler):
        self.sampler = sampler

    def __getitem__(self, iteration: int) -> Loaded | InputError:
        try:
            return self.sampler._load(iteration)
        except InputError as error:
            return error


def leave_out(left_out: dict[str, str], error: InputError, files: Sequence[str], limit: int) -> None:
    """Add the image file of an error to `left_out`, with the reason.

    Re-raises the error if `limit` other files are left out already, or if it concerns none of `files`.
    """
    if error.file not in files:
        raise error
    if error.file not in left_out and len(left_out) >= limit:
        already = f"; {len(left_out)} other images were left out" if left_out else ""
        remedy = f"{error.remedy}. Or let the training leave out more: --override bad_images=10, say"
        raise InputError(file=error.file, record=error.record, rule=error.rule + already, remedy=remedy) from error
    left_out[error.file] = error.rule


def warn_left_out(left_out: Mapping[str, str], folder: Path) -> None:
    """Warn about image files that a run left out."""
    if left_out:
        told = "".join(f"\n  {file}: {rule}" for file, rule in left_out.items())
        warnings.warn(f"{folder}: {len(left_out)} images were left out:{told}", stacklevel=3)


def shrink_masks(
    masks: Bool[np.ndarray, "n h w"], size: tuple[int, int], inner: tuple[int, int] = (1, 1), side: int = 1
) -> Float[Tensor, "n hm wm"]:
    """Resize masks to the decoder's `size` = (hm, wm): roughly the object's share of each cell, 0..1.

    They fill `size` or, if the image covers only `inner` = (height, width) of a square of `side` pixels, that part of
    it. The antialiasing (triangle) filter reaches beyond a cell, so a full cell at an edge stays below 1.
    """
    pixels = torch.from_numpy(masks)[:, None].float()
    if inner != (side, side):
        pixels = F.interpolate(pixels, inner, mode="bilinear", antialias=True)
        pixels = F.pad(pixels, (0, side - inner[1], 0, side - inner[0]))
    return F.interpolate(pixels, size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)
