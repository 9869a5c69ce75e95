"""Several processes train one model: `torchrun` starts them, and rank 0 writes. Without it, all of this is a no-op."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

PATIENCE = timedelta(days=2)  # of ranks that wait while rank 0 prepares; if one dies, torchrun ends the others


@contextmanager
def process_group() -> Iterator[None]:
    """Join `torchrun`'s process group: nccl on GPUs, one per process, else gloo."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until all ranks are here."""
    broadcast_bool(True)


def broadcast_bool(answer: bool) -> bool:
    """Rank 0's value, on all ranks; also a barrier."""
    if ranks() == 1:
        return answer
    word = torch.tensor([answer], dtype=torch.uint8)  # on the CPU, by gloo: waiting keeps no GPU busy
    dist.broadcast(word, src=0)
    everybody = torch.ones(1)
    dist.all_reduce(everybody)  # rank 0 also waits for the others
    return bool(word.item())


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block on rank 0 first, then on the others, which find what it made."""
    if rank():
        barrier()
    yield
    if not rank():
        barrier()
