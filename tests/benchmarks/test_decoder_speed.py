"""The decoder's training step against the network as it is written down: same weights, side by side in one process."""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from sameo_core.model import EfficientSam
from sameo_core.model.box_decoder import CrossAttention
from sameo_core.model.sameo import reuse_memory
from sameo_core.model.variants import VARIANTS

ROUNDS = 3


def attention(layer: CrossAttention, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax attention with every n x m matrix in memory; "b n c" each."""
    q, k, v = (
        project(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for project, x in ((layer.q_proj, q), (layer.k_proj, k), (layer.v_proj, v))
    )
    x = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1) @ v
    return layer.out_proj(x.transpose(1, 2).flatten(2))


def straightforward(model: EfficientSam, embedding: torch.Tensor, boxes: torch.Tensor) -> tuple:
    """Single masks "q h w" and IoU "q" of one image's boxes; the image is repeated for each box from the beginning."""
    decoder, (he, we) = model.mask_decoder, embedding.shape[-2:]
    prompt = model.prompt_encoder(boxes, model.config.image_size)[0]
    prompt = torch.cat(
        [torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(len(prompt), -1, -1), prompt], 1
    )
    positions = model.prompt_encoder.pe_layer.grid(he, we).repeat(len(prompt), 1, 1)  # q s c
    image = embedding.repeat(len(prompt), 1, 1, 1).flatten(2).transpose(1, 2)  # q s c
    tokens = prompt
    for number, layer in enumerate(decoder.transformer.layers):
        if number:
            tokens = tokens + prompt
        tokens = layer.norm1(tokens + attention(layer.self_attn, tokens, tokens, tokens))
        seen = attention(layer.cross_attn_token_to_image, tokens + prompt, image + positions, image)
        tokens = layer.norm2(tokens + seen)
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        answer = attention(layer.cross_attn_image_to_token, image + positions, tokens + prompt, tokens)
        image = layer.norm4(image + answer)
    last = decoder.transformer.final_attn_token_to_image
    tokens = decoder.transformer.norm_final_attn(tokens + attention(last, tokens + prompt, image + positions, image))
    pixels = decoder.final_output_upscaling_layers(image.transpose(1, 2).unflatten(2, (he, we)))
    weights = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
    masks = (torch.stack(weights, 1) @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:])  # all four, one is used
    return masks[:, 0], decoder.iou_prediction_head(tokens[:, 0])[:, 0]


def ours(model: EfficientSam, embedding: torch.Tensor, boxes: torch.Tensor) -> tuple:
    decoded = model.decode_boxes(embedding, boxes, (model.config.image_size,) * 2)
    return decoded.logits[0, :, 0], decoded.iou[0, :, 0]


def measured(way: str, side: int, rounds: int) -> dict:
    """Seconds of a step, the best of some, and its numbers; in a process of its own, with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.pt"
        subprocess.run([sys.executable, __file__, way, str(side), str(rounds), str(path)], check=True)
        return torch.load(path)


def measure(way: str, side: int, rounds: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if way in ("ours", "ours in bf16"):
        assert reuse_memory()
    model = EfficientSam(replace(VARIANTS["vit_t"], image_size=side)).requires_grad_(False)
    model.mask_decoder.requires_grad_(True)
    corners = torch.rand(1, 8, 2) * 0.4
    boxes = side * torch.cat([corners, corners + 0.1 + torch.rand(1, 8, 2) * 0.4], -1)
    embedding, target, seconds = torch.randn(1, 256, side // 16, side // 16), torch.rand(8, side // 4, side // 4), []
    for _ in range(rounds):
        model.zero_grad()
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "ours in bf16"):
            logits, iou = (straightforward if way == "straightforward" else ours)(model, embedding, boxes)
        logits, iou = logits.float(), iou.float()
        ((logits.sigmoid() - target).square().mean() + iou.square().mean()).backward()
        seconds.append(time.process_time() - start)
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.mask_decoder.named_parameters()
    }
    numbers = {"logits": logits.detach(), "iou": iou.detach(), "gradients": gradients}
    torch.save({"seconds": min(seconds[-ROUNDS:]), **numbers}, path)


def test_a_decoder_step_takes_a_quarter_of_the_straightforward_one(full):
    """Forward and backward, eight boxes on one image at 1024 (64 x 64 cells); CPU time with one thread.

    Gradients are compared in float32. `ours` runs as trainings do, with `reuse_memory`; in bf16 where the CPU
    multiplies matrices in it, which is when `TrainingConfig.bf16` takes effect. How much each part brings is printed.
    """
    side, rounds = (1024, 2 + ROUNDS) if full else (128, 1)  # the first two rounds warm up
    amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    ways = [
        "straightforward",
        "ours",
        *(["ours, memory fetched anew"] if full else []),
        *(["ours in bf16"] if amx else []),
    ]
    found = {way: measured(way, side, rounds) for way in ways}
    slow, fast = found["straightforward"], found["ours"]
    assert (slow["logits"] - fast["logits"]).abs().max() < 1e-3 and (slow["iou"] - fast["iou"]).abs().max() < 1e-4
    for name, gradient in slow["gradients"].items():
        # a share of the largest gradient of the same weight; the biases of keys have none but rounding
        assert (gradient - fast["gradients"][name]).abs().max() <= 1e-4 * gradient.abs().max() + 1e-7, name
    assert any(gradient.abs().max() > 1e-3 for gradient in slow["gradients"].values())
    if not full:
        return
    ratios = {way: slow["seconds"] / answer["seconds"] for way, answer in found.items()}
    print("".join(f"\n{way}: {answer['seconds']:.2f} s, {ratios[way]:.2f} x" for way, answer in found.items()))
    assert ratios["ours"] >= 2.5
    if amx:
        assert ratios["ours in bf16"] >= 4


if __name__ == "__main__":
    way, side, rounds, path = sys.argv[1:]
    measure(way, int(side), int(rounds), path)
