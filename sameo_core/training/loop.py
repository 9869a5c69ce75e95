"""The training loop shared by SAMEO's decoder, the nano model, the nano detector and the baseline.

A killed run resumes from its last checkpoint, bit for bit with one thread (`cpu_threads`; for more, see
`EmbeddingCache`): batches depend on the seed and the iteration alone.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from sameo_core.config import TrainingConfig
from sameo_core.model.sameo import reuse_memory
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.distributed import barrier, broadcast_bool, rank, rank_zero_first, ranks
from sameo_core.runs.folders import append_log, load_checkpoint, locked, save_checkpoint, write_environment

BEST = "best.safetensors"  # in the folder of an interrupted run
FIRST_LOOK = 50  # iterations after which the progress bar shows the speed
CHECKPOINT = "checkpoint.pt"  # in the folder of an unfinished run


@dataclass
class TrainingRun:
    """A training: modules, optimisers, batches, losses and length."""

    task: str  # for the progress bar
    modules: Mapping[str, nn.Module]  # trained modules
    optimisers: Mapping[str, torch.optim.Optimizer]  # of their parameters, each group with its full learning rate
    batches: Callable[[int], Iterable[Any]]  # from a given iteration on; a batch has the `names` of its images
    losses: Callable[[int, Any], tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]]  # total and terms
    iterations: int
    rate_factor: Callable[[int], float]  # factor on the full learning rate at an iteration
    clip: float | int  # maximum gradient norm
    log_every: int
    measure: Callable[[], Mapping[str, float]] = dict  # further columns of the log
    left_out: dict[str, str] = field(default_factory=dict)  # image files left out of the batches, with the reason
    save_best: Callable[[Path], object] | None = None  # writes the weights of an interrupted run
    best: dict[str, Any] = field(default_factory=lambda: {"total": math.inf, "step": 0})
    speed: tuple[float, float] = (0.0, 0.0)  # at the last log row: images per second, share of time waiting

    def run(self, folder: Path) -> None:
        """Train, resuming from a checkpoint in the folder. Writes log.csv and checkpoint every `log_every` iterations.

        Each rank has an equal share of a batch, so losses and gradients are means over equally many objects.

        Raises:
            InputError: the disk is full or not writable.
            FloatingPointError: the loss is not finite; the message names the images of the batch. Raised when the next
                log row is due, before anything is written.
            KeyboardInterrupt: with `save_best`, the message gives the path of the best weights so far.
        """
        reuse_memory()
        full_rates = [group["lr"] for group in self._groups()]
        start = self._resume(folder / CHECKPOINT)
        since = _SinceLog()
        numbered = zip(range(start, self.iterations), since.timed(self.batches(start)), strict=False)
        bar = tqdm(numbered, self.task, self.iterations, initial=start, disable=rank() > 0 or None)
        try:
            for iteration, batch in bar:
                for group, rate in zip(self._groups(), full_rates, strict=True):
                    group["lr"] = rate * self.rate_factor(iteration)
                total, terms = self.losses(iteration, batch)
                self._step(total)
                since.add(iteration, batch.names, {"total": total, **terms})
                done = iteration + 1
                if done % self.log_every == 0 or done == self.iterations:
                    means = since.means(folder)
                    self.speed = since.speed()
                    bar.set_postfix_str(f"loss {means['total']:.4f}, {_in_words(self.speed)}")
                    self._record(folder, done, means)
                    since.clear()
                elif iteration - start + 1 == FIRST_LOOK:
                    bar.set_postfix_str(_in_words(since.speed()))
        except KeyboardInterrupt:
            if rank() or self.save_best is None or not self.best["step"]:
                raise
            for name, module in self.modules.items():
                module.load_state_dict(self.best[name])
            self.save_best(folder / BEST)
            found = f"mean loss {self.best['total']:.4f} up to iteration {self.best['step']}"
            told = f"best weights so far ({found}): {folder / BEST}; the same call goes on from here"
            raise KeyboardInterrupt(told) from None

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self.optimisers.values() for group in optimiser.param_groups]

    def _step(self, loss: Float[Tensor, ""]) -> None:
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for module in self.modules.values() for p in module.parameters()], self.clip)
        for optimiser in self.optimisers.values():
            optimiser.step()

    def _record(self, folder: Path, done: int, means: Mapping[str, float]) -> None:
        """Write a log row and a checkpoint; keep the weights if their loss is the lowest so far."""
        weights = {name: module.state_dict() for name, module in self.modules.items()}
        if self.save_best and means["total"] < self.best["total"]:
            kept = {name: {key: value.cpu().clone() for key, value in state.items()} for name, state in weights.items()}
            self.best = {"total": means["total"], "step": done, **kept}
        if rank() == 0:
            rounded = {name: float(np.round(value, 6)) for name, value in means.items()}
            append_log(folder / "log.csv", {"step": done, **rounded, **self.measure()})
            state = {"iteration": done, "best": self.best, "left_out": self.left_out, **weights}
            state |= {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
            save_checkpoint(state, folder / CHECKPOINT)

    def _resume(self, checkpoint: Path) -> int:
        """Restore a checkpoint, if there is one; returns the next iteration."""
        with rank_zero_first():
            state = load_checkpoint(checkpoint)
        if state is not None:
            for name, module in self.modules.items():
                module.load_state_dict(state[name])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state[name])
            self.best = state["best"]
            self.left_out |= state["left_out"]
        barrier()  # no rank writes the next checkpoint while another reads this one
        return state["iteration"] if state else 0


class _SinceLog:
    """The iterations since the last log row. Losses stay on their device until they are logged.

    Reading a value waits for the GPU's pending work, so it is not done in every iteration.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.names: list[tuple[int, Sequence[str]]] = []  # iteration, images of its batch
        self.losses: list[Float[Tensor, " terms"]] = []
        self.started, self.waited = time.perf_counter(), 0.0  # seconds

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches; add up the time spent waiting for them."""
        before = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - before
            yield batch
            before = time.perf_counter()

    def add(self, iteration: int, names: Sequence[str], losses: Mapping[str, Float[Tensor, ""]]) -> None:
        self.names.append((iteration, names))
        self.losses.append(torch.stack([value.detach() for value in losses.values()]))
        self.terms = [*losses]

    def means(self, folder: Path) -> dict[str, float]:
        """Mean of each loss over iterations and ranks.

        Raises FloatingPointError for a loss that is not finite, with the images of the first such batch.
        """
        values = torch.stack(self.losses).double().cpu()
        for (iteration, names), total in zip(self.names, values[:, 0].tolist(), strict=True):
            if not math.isfinite(total):
                found = f"step {iteration}: the loss is {total}, with images {', '.join(names)}"
                raise FloatingPointError(f"{folder}: {found}. Inspect these images, or lower the learning rate.")
        means = values.sum(0) / len(values)
        if ranks() > 1:
            dist.all_reduce(means)  # on the CPU, by gloo
            means /= ranks()
        return dict(zip(self.terms, means.tolist(), strict=True))

    def speed(self) -> tuple[float, float]:
        """This process's images per second, and its share of time spent waiting for batches."""
        seconds = time.perf_counter() - self.started
        return sum(len(names) for _, names in self.names) / seconds, self.waited / seconds


def _in_words(speed: tuple[float, float]) -> str:
    return f"{speed[0]:.1f} images/s, {speed[1]:.0%} of the time waiting for them"


def train_once(result: Path, config: Mapping[str, Any], threads: int | None, work: Callable[[], object]) -> Path:
    """Call `work`, which writes `result`, unless `result` exists already; returns `result`.

    Also writes config.json and environment.json to its folder. A second process with the same folder waits for the
    first and uses its result. All ranks of `torchrun` make the same call.

    Raises:
        InputError: the disk is full or not writable.
    """
    folder = result.parent
    if broadcast_bool(is_complete(result)):
        return result
    with nullcontext() if rank() else locked(folder):
        if broadcast_bool(is_complete(result)):  # another process has made it
            return result
        if rank() == 0:
            with atomic_write(folder / "config.json") as partial:
                partial.write_text(json.dumps(config, indent=1))
        with cpu_threads(threads):
            if rank() == 0:
                write_environment(folder)
            work()
        if rank() == 0:
            for name in (BEST, CHECKPOINT, f"{CHECKPOINT}.corrupt"):
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


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Context in which torch uses `count` threads; None: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate_factor(iteration: int, recipe: TrainingConfig) -> float:
    """Factor on the full learning rate: linear warm-up, then `recipe.schedule`."""
    warmup = min(recipe.warmup_iterations, int(recipe.max_warmup_share * recipe.iterations))
    if iteration < warmup:
        return (iteration + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    progress = (iteration - warmup) / max(1, recipe.iterations - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear_factor(iteration: int, iterations: int, warmup: int, decay_share: float) -> float:
    """Factor on the full learning rate: linear warm-up, constant, linear decay to zero over the last `decay_share`."""
    rise = (iteration + 1) / warmup
    fall = (iterations - iteration) / (decay_share * iterations)
    return min(1.0, rise, fall)
