"""Without a GPU, fake ones show that nothing mixes devices, and that no training step waits for the GPU.

Reading a value back (`.item()`, `.tolist()`, an `if` on a tensor) raises on a fake or a meta tensor. Autograd cannot
run on a fake GPU without a driver, so the backward pass and the optimiser run on the meta device.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from sameo_core.config import TrainingConfig
from sameo_core.model import Sameo, build_efficient_sam
from sameo_core.model.sam import build_sam_decoder
from sameo_core.training import EmbeddingCache, build_optimiser, loop, training_loss
from sameo_core.training.batches import Batch
from sameo_core.training.embeddings import LookedUp

MODELS = {"nano": lambda: build_efficient_sam("nano"), "sam": build_sam_decoder}


@pytest.fixture(autouse=True)
def no_driver(monkeypatch):
    """What asks the driver: whether bf16 is emulated, and autocast."""
    for module in ("sameo_core.model.efficient_sam", "sameo_core.training.fine_tuning"):
        monkeypatch.setattr(f"{module}.multiplies_in_bf16", lambda _: True)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def moved(model, device):
    """The model with new, empty weights on a device."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(torch.empty(value.shape, device=device))
        for name, value in module._buffers.items():
            module._buffers[name] = torch.empty(value.shape, device=device)
    return model


@pytest.fixture(params=MODELS)
def on_fake_gpu(request, unchecked):
    model = MODELS[request.param]()
    with FakeTensorMode(allow_non_fake_inputs=False):
        yield moved(model, "cuda:0")


def random_batch(model, device):
    side, cells = model.config.image_size, model.config.image_size // model.config.patch_size
    embedding = torch.rand(2, model.config.embedding_dim, cells, cells, device=device, dtype=torch.float16)
    boxes, targets = torch.rand(2, 3, 4, device=device), torch.rand(2, 3, side // 4, side // 4, device=device)
    return Batch(embedding, boxes, targets, ("a", "b"))


def test_a_fake_gpu_shows_what_these_tests_look_for(on_fake_gpu):
    loss = training_loss(on_fake_gpu, random_batch(on_fake_gpu, "cuda:0"), TrainingConfig()).total
    with pytest.raises(DataDependentOutputException):
        loss.item()
    with pytest.raises(RuntimeError, match="device"):
        on_fake_gpu.pixel_mean + torch.rand(3, 1, 1)


def test_a_training_step_stays_on_the_gpu(on_fake_gpu):
    losses = training_loss(on_fake_gpu, random_batch(on_fake_gpu, "cuda:0"), TrainingConfig())
    assert {term.device.type for term in losses} == {"cuda"}


def test_images_are_encoded_and_cached_on_the_gpu(on_fake_gpu):
    if hasattr(on_fake_gpu, "encoder"):  # SAM's encoder runs in onnxruntime
        on_fake_gpu.encoder = lambda squares: torch.empty(len(squares), 256, 64, 64, device=squares.device)
    cache = EmbeddingCache(on_fake_gpu, None)
    kept = torch.empty(2, *cache._shape, dtype=torch.float16)
    found = cache.complete(LookedUp(kept, {1: (torch.zeros(30, 40, 3, dtype=torch.uint8), None)}))
    assert found.shape == (3, *cache._shape) and found.device.type == "cuda" and found.dtype == torch.float16


def test_masks_are_thresholded_on_the_gpu(on_fake_gpu):
    sameo, batch = Sameo(on_fake_gpu, "nano"), random_batch(on_fake_gpu, "cuda:0")
    logits, iou = sameo._decode(batch.embedding[:1], batch.boxes[:1], (48, 64))
    assert (logits >= 0).device.type == iou.device.type == "cuda" and logits.shape == (3, 48, 64)


@pytest.mark.parametrize("model", MODELS)
def test_a_step_of_the_optimiser_waits_for_nothing(model, unchecked):
    model = moved(MODELS[model](), "meta")
    optimiser = build_optimiser([*model.mask_decoder.parameters()], TrainingConfig())
    run = loop.TrainingRun(
        "", {"decoder": model.mask_decoder}, {"optimiser": optimiser}, list, None, 1, lambda _: 1.0, 1.0, 100
    )
    since = loop._SinceLog()
    for iteration in range(2):
        terms = training_loss(model, random_batch(model, "meta"), TrainingConfig())._asdict()
        run._step(terms["total"])
        since.add(iteration, ("a", "b"), terms)
    with pytest.raises((NotImplementedError, RuntimeError)):  # logging reads values back
        since.means("folder")
