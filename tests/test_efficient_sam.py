"""EfficientSAM: parity with the released implementation, its shapes and its meaning."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sameo_core.model import build_efficient_sam
from sameo_core.model.box_decoder import CrossAttention, upscale_logits
from sameo_core.model.variants import VARIANTS

PARITY = Path(__file__).parents[2] / "shared" / "parity"  # beside the repository; not part of it
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="needs ../shared/parity")

# image encoder, prompt encoder, mask decoder
PARAMETERS = {
    "vit_t": (6_163_840, 1_024, 4_058_340),
    "vit_s": (22_353_664, 1_024, 4_058_340),
    "nano": (3_038_720, 512, 756_340),
}
SIZE = (120, 160)
BOXES = torch.tensor([[[10.0, 20, 50, 75], [80.5, 25.25, 159, 119]]])


def seeded_weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The rule of ../shared/parity/README.md: any implementation can fill itself with the same weights."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if key.endswith("positional_encoding_gaussian_matrix"):
        return noise
    if len(shape) == 1:
        return 1 + 0.1 * noise if key.endswith(".weight") else 0.02 * noise
    return noise / max(noise[0].numel(), 1) ** 0.5


def seeded_model(variant: str):
    model = build_efficient_sam(variant)
    model.load_state_dict({key: seeded_weight(key, tuple(value.shape)) for key, value in model.state_dict().items()})
    return model.eval()


def some_images(b: int = 1, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.rand((b, 3, *size), generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def nano():
    return seeded_model("nano")


@pytest.fixture(autouse=True)
def no_gradient():
    with torch.no_grad():
        yield


def difference(ours: torch.Tensor, theirs) -> float:
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


# -------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts(variant):
    model = build_efficient_sam(variant)
    parts = (model.image_encoder, model.prompt_encoder, model.mask_decoder)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == PARAMETERS[variant]
    assert sum(p.numel() for p in model.parameters()) == sum(PARAMETERS[variant])


@needs_parity
@pytest.mark.parametrize("variant", ["vit_t", "vit_s"])
def test_names_and_shapes_of_the_release(variant):
    released = json.loads((PARITY / f"{variant}_state_dict_shapes.json").read_text())
    state = build_efficient_sam(variant).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == released


def test_nano_has_the_names_of_the_release():
    nano, vit_t = build_efficient_sam("nano").state_dict(), build_efficient_sam("vit_t").state_dict()
    deeper = {key for key in vit_t if any(key.startswith(f"image_encoder.blocks.{i}.") for i in range(6, 12))}
    assert nano.keys() == vit_t.keys() - deeper


@needs_parity
def test_parity_with_the_reference_implementation():
    model, wanted = seeded_model("vit_t"), np.load(PARITY / "vit_t_parity.npz")
    embedding = model.encode_images(some_images(1, (480, 640)))
    boxes = torch.from_numpy(wanted["boxes"])
    three = model.decode_boxes(embedding, boxes, image_size=(480, 640), multimask=True)
    one = model.decode_boxes(embedding, boxes, image_size=(480, 640))
    assert difference(embedding[:, ::8, ::4, ::4], wanted["embedding"]) < 1e-3
    assert difference(three.logits[..., ::8, ::8], wanted["multimask_logits"]) < 1e-3
    assert difference(one.logits[..., ::8, ::8], wanted["single_logits"]) < 1e-3
    assert difference(three.iou, wanted["multimask_iou"]) < 1e-4
    assert difference(one.iou, wanted["single_iou"]) < 1e-4


def test_golden_values(nano):
    """From this implementation while it was at parity (1e-5) with the reference; guards it without ../shared."""
    embedding = nano.encode_images(some_images())
    one = nano.decode_boxes(embedding, BOXES, image_size=SIZE)
    three = nano.decode_boxes(embedding, BOXES, image_size=SIZE, multimask=True)
    golden_embedding = [
        [-1.7279096, -1.6230139, -2.0253851, -0.5787345],
        [0.6106682, 0.6011381, 0.4319752, -0.0355941],
        [-1.5837095, -0.5780574, -0.1733956, -1.7538811],
        [-1.2426780, -0.3236089, -0.3326943, -0.2961147],
    ]
    golden_one = [
        [-0.2930082, -0.3133062, -0.2561637, -0.6594944],
        [-0.4500848, -0.3260660, -0.7332648, -0.5628544],
    ]
    golden_three = [
        [[-0.3799877, -0.3573531, 0.1070316], [0.1229632, -0.0578624, 0.3577988], [0.3742259, 0.0109898, 0.1509183]],
        [[-0.2649114, -0.2962688, -0.1679057], [0.2336698, -0.0067256, 0.2496799], [0.2928179, -0.3433525, -0.0154459]],
    ]
    golden_iou = [[0.4944145, 0.5615618, 0.3355736, 0.5173604], [0.3071762, 0.6918317, 0.6078832, 0.6972340]]
    assert difference(embedding[0, ::40, ::5, 9], golden_embedding) < 1e-3
    assert difference(one.logits[0, :, 0, ::20, 33], golden_one) < 1e-3
    assert difference(three.logits[0, :, :, ::31, 17], golden_three) < 1e-3
    assert difference(torch.cat([one.iou, three.iou], dim=-1)[0], golden_iou) < 1e-4


# -------------------------------------------------------------------------------------------------------------- meaning


def test_images_and_boxes_do_not_see_each_other(nano):
    images, boxes = some_images(2), BOXES.repeat(2, 2, 1) + 3 * torch.arange(8.0).view(2, 4, 1)
    embedding = nano.encode_images(images)
    together = nano.decode_boxes(embedding, boxes, image_size=SIZE, multimask=True)
    assert together.logits.shape == (2, 4, 3, 64, 64) and together.iou.shape == (2, 4, 3)
    for i in range(2):
        alone_embedding = nano.encode_images(images[i : i + 1])
        assert difference(embedding[i : i + 1], alone_embedding) < 1e-4
        for j in range(4):
            alone = nano.decode_boxes(alone_embedding, boxes[i : i + 1, j : j + 1], image_size=SIZE, multimask=True)
            assert difference(together.logits[i, j], alone.logits[0, 0]) < 1e-4
            assert difference(together.iou[i, j], alone.iou[0, 0]) < 1e-4


def test_the_image_is_not_repeated_for_each_box_before_it_must_be(nano):
    seen = {}
    layer = nano.mask_decoder.transformer.layers[0]
    modules = {"key": layer.cross_attn_token_to_image.k_proj, "query": layer.cross_attn_image_to_token.q_proj}
    hooks = [
        module.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: inputs[0].shape[:3]}))
        for name, module in modules.items()
    ]
    nano.decode_boxes(nano.encode_images(some_images(2)), BOXES.repeat(2, 5, 1), image_size=SIZE)
    for hook in hooks:
        hook.remove()
    assert seen == {"key": (2, 1, 256), "query": (2, 1, 256)}


@pytest.mark.parametrize("way", ["few_to_many", "many_to_few"])
def test_folded_attention_is_attention_gradients_included(way):
    generator = torch.Generator().manual_seed(3)
    attention = CrossAttention(32, heads=4, downsample=2).double()
    for parameter in attention.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 4
    n, m = (5, 40) if way == "few_to_many" else (40, 5)
    found = {}
    for name in ("forward", way):
        generator.manual_seed(4)
        inputs = [torch.randn(2, 3, count, 32, generator=generator).double().requires_grad_() for count in (n, m, m)]
        with torch.enable_grad():
            out = getattr(attention, name)(*inputs)
            weight = torch.randn(out.shape, generator=generator).double()
            gradients = torch.autograd.grad((out * weight).sum(), [*inputs, *attention.parameters()], allow_unused=True)
        found[name] = [out.detach(), *(torch.zeros(1) if g is None else g for g in gradients)]
    for wanted, ours in zip(*found.values(), strict=True):  # the bias of the keys: nothing but rounding
        assert (wanted - ours).abs().max() < 1e-12 and out.shape == (2, 3, n, 32)
    assert sum(wanted.abs().max() > 0.01 for wanted in found["forward"]) == 11


@pytest.mark.parametrize("size", [(1, 1), (37, 500), (256, 256), (300, 7)])
def test_any_image_size(nano, size):
    embedding = nano.encode_images(some_images(2, size))
    height, width = size
    boxes = torch.tensor([[[-3.0, 0.0, width, height + 5]]]).repeat(2, 1, 1)  # may reach over the border
    out = nano.decode_boxes(embedding, boxes, image_size=size)
    assert embedding.shape == (2, 128, 16, 16)
    larger = upscale_logits(out.logits, size)
    assert larger.shape == (2, 1, 1, *size) and larger.isfinite().all()


def test_boxes_are_in_pixels_of_the_original_image(nano):
    small = F.interpolate(some_images(1, (6, 8)), SIZE, mode="bilinear")  # smooth: enlarging it loses nothing
    large = F.interpolate(small, (240, 320), mode="bilinear")
    at_small, at_large = nano.encode_images(small), nano.encode_images(large)
    out = nano.decode_boxes(at_small, BOXES, image_size=SIZE)
    assert difference(nano.decode_boxes(at_small, 2 * BOXES, image_size=(240, 320)).logits, out.logits) < 1e-5
    again = nano.decode_boxes(at_large, 2 * BOXES, image_size=(240, 320))
    assert difference(again.logits, out.logits) < 0.05 * out.logits.std().item()
    assert difference(nano.decode_boxes(at_small, 2 * BOXES - 20, image_size=SIZE).logits, out.logits) > 0.1


def test_no_boxes(nano):
    embedding = nano.encode_images(some_images(2))
    for multimask, m in ((False, 1), (True, 3)):
        out = nano.decode_boxes(embedding, torch.zeros(2, 0, 4), image_size=SIZE, multimask=multimask)
        assert out.logits.shape == (2, 0, m, 64, 64) and out.iou.shape == (2, 0, m)
        assert upscale_logits(out.logits, SIZE).shape == (2, 0, m, *SIZE)


def test_upscale_logits_is_bilinear():
    logits = torch.tensor([[0.0, 4.0], [8.0, 12.0]]).view(1, 1, 1, 2, 2)
    row = torch.tensor([0.0, 1.0, 3.0, 4.0])  # half-pixel centres at -1/4, 1/4, 3/4, 5/4 of the way, clamped
    assert torch.equal(upscale_logits(logits, (4, 4))[0, 0, 0], row + 2 * row[:, None])


def test_bfloat16_autocast(nano):
    exact = nano.decode_boxes(nano.encode_images(some_images()), BOXES, image_size=SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = nano.decode_boxes(nano.encode_images(some_images()), BOXES, image_size=SIZE)
    assert difference(rough.logits.float(), exact.logits) < 0.15 * exact.logits.std().item()
    assert difference(rough.iou.float(), exact.iou) < 0.03


def test_embedding_from_a_half_precision_cache(nano):
    embedding = nano.encode_images(some_images())
    exact = nano.decode_boxes(embedding, BOXES, image_size=SIZE)
    cached = nano.decode_boxes(embedding.half(), BOXES, image_size=SIZE)
    assert cached.logits.dtype == torch.float32 and difference(cached.logits, exact.logits) < 1e-2


def test_train_and_eval_agree_and_gradients_arrive():
    model = build_efficient_sam("nano").train()
    with torch.enable_grad():
        out = model.decode_boxes(model.encode_images(some_images()), BOXES, image_size=SIZE, multimask=True)
        (out.logits.square().mean() + out.iou.square().mean()).backward()
    unused = {
        "prompt_encoder.point_embeddings.weight",  # clicks
        *(f"mask_decoder.output_hypernetworks_mlps.0.{key}" for key in ("fc.weight", "fc.bias")),  # the single mask
        *(f"mask_decoder.output_hypernetworks_mlps.0.layers.{i}.0.{key}" for i in (0, 1) for key in ("weight", "bias")),
        "mask_decoder.transformer.layers.1.cross_attn_token_to_image.k_proj.bias",  # they change no softmax
        "mask_decoder.transformer.final_attn_token_to_image.k_proj.bias",
    }
    assert {name for name, p in model.named_parameters() if p.grad is None} == unused
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    still = model.eval().decode_boxes(model.encode_images(some_images()), BOXES, image_size=SIZE, multimask=True)
    assert difference(still.logits, out.logits.detach()) < 1e-5
