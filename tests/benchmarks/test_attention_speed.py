"""Fused attention against the textbook formula: the same network, weights and images, side by side in one run."""

import time
from dataclasses import replace

import torch
import torch.nn.functional as F

from sameo_core.model import EfficientSam
from sameo_core.model.variants import VARIANTS

ROUNDS = 5


def explicit_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax attention as it is written down: the whole n x n matrix of every head in memory."""
    weights = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    return weights.softmax(dim=-1) @ v


@torch.inference_mode()
def test_fused_attention_is_three_times_as_fast_as_explicit_softmax(monkeypatch, full):
    """ViT-Ti sees an image of 1024 x 1024 (4,096 tokens) in float32; best of five alternating rounds, all threads.

    On a shared Xeon (AVX-512): 2.99 and 3.07 with one thread (CPU time), 3.13 with two; 3.5 for attention alone. Fused
    attention already runs at the speed of the matrix products; the MLPs, the same on both sides, keep the network below
    its attention's ratio. So 3 is close to what float32 allows here: measure on an idle machine.
    """
    side, rounds = (1024, ROUNDS) if full else (128, 0)
    torch.manual_seed(0)
    model = EfficientSam(replace(VARIANTS["vit_t"], image_size=side)).eval()
    images, boxes = torch.rand(1, 3, side, side), side * torch.tensor([[[0.1, 0.2, 0.6, 0.7]]])
    attentions = {"fused": F.scaled_dot_product_attention, "explicit": explicit_attention}
    seconds, answers = {name: [] for name in attentions}, {}
    for _ in range(1 + rounds):
        for name, attention in attentions.items():
            monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
            start = time.perf_counter()
            embedding = model.encode_images(images)
            seconds[name].append(time.perf_counter() - start)
            answers[name] = embedding, model.decode_boxes(embedding, boxes, image_size=(side, side)).logits
    for ours, theirs in zip(answers["fused"], answers["explicit"], strict=True):
        assert 0 < (ours - theirs).abs().max() < 1e-3  # two ways, hence rounded differently
    if not full:
        return
    fused, explicit = (min(seconds[name][1:]) for name in attentions)  # the first round warms up
    ratio = explicit / fused
    print(f"\nfused {fused:.2f} s, explicit {explicit:.2f} s: {ratio:.2f} x, {torch.get_num_threads()} threads")
    assert ratio >= 3
