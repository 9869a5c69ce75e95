"""SAM's decoder: equal to the public package with any weights, its checkpoints, its padding, and how it trains."""

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide
from torch import nn

from sameo_core.errors import InputError
from sameo_core.model import Sameo, build_efficient_sam, sameo_loss
from sameo_core.model.sam import build_sam_decoder

SIZE = (90, 160)
POINTS = torch.tensor([[[30.0, 40], [0, 89.5], [160, 12.25]]])
BOXES = torch.tensor([[[10.0, 20, 50, 75], [80.5, 25.25, 159, 89], [-4, -3, 30, 95]]])


class NoEncoder(nn.Module):
    """Stands for SAM's image encoder, whose size `Sam.postprocess_masks` asks for."""

    img_size = 1024


@pytest.fixture(scope="module")
def sam() -> Sam:
    """SAM as `build_sam` puts it together, but for the image encoder; lively random weights."""
    prompts = PromptEncoder(256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    model = Sam(NoEncoder(), prompts, MaskDecoder(transformer_dim=256, transformer=transformer)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            scale = noise[0].numel() ** -0.5 if value.ndim > 1 else 0.1
            value.copy_(scale * noise + (1 if value.ndim == 1 and name.endswith("weight") else 0))
    return model


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def ours(sam, tmp_path_factory):
    """Our decoder with these weights, from a file as released: a state dict, with an image encoder in it."""
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    torch.save(sam.state_dict() | {"image_encoder.pos_embed": torch.zeros(1, 2, 2, 3)}, path)
    return build_sam_decoder(path)


@torch.no_grad()
def published(sam, embedding, multimask, of_points):
    """Logits in the padded square, masks' logits in the image, IoU; by SAM's own code from end to end."""
    resize = ResizeLongestSide(1024)
    boxes, points = torch.from_numpy(resize.apply_boxes(BOXES[0].numpy(), SIZE)).float(), None
    if of_points:
        clicks = torch.from_numpy(resize.apply_coords(POINTS[0].numpy(), SIZE)).float()
        boxes, points = None, (clicks[:, None], torch.ones(3, 1, dtype=torch.int64))
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
    logits, iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    inside = resize.get_preprocess_shape(*SIZE, 1024)
    return logits, sam.postprocess_masks(logits, inside, SIZE), iou


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("of_points", [False, True])
@torch.no_grad()
def test_equal_to_the_public_package(sam, ours, embedding, of_points, multimask):
    logits, masks, iou = published(sam, embedding, multimask, of_points)
    decode, prompts = (ours.decode_points, POINTS) if of_points else (ours.decode_boxes, BOXES)
    found = decode(embedding, prompts, SIZE, multimask=multimask)
    assert found.logits.shape == (1, 3, 3 if multimask else 1, 256, 256)
    assert (found.logits[0] - logits).abs().max() < 1e-4 < logits.std() / 100
    assert (found.iou[0] - iou).abs().max() < 1e-4 < iou.std() / 100
    assert (ours.upscale_logits(found.logits, SIZE)[0] - masks).abs().max() < 1e-4


def test_gradients_are_those_of_the_public_package(sam, ours, embedding):
    weight = torch.randn(3, 256, 256, generator=torch.Generator().manual_seed(2))
    sparse, dense = sam.prompt_encoder(points=None, boxes=BOXES[0] * 6.4, masks=None)
    logits, iou = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
    (((logits[:, 0] * weight).mean()) + iou.sum()).backward()
    found = ours.decode_boxes(embedding, BOXES, SIZE)
    (((found.logits[0, :, 0] * weight).mean()) + found.iou.sum()).backward()
    theirs = dict(sam.mask_decoder.named_parameters())
    learnt = 0
    for name, parameter in ours.mask_decoder.named_parameters():
        gradient = torch.zeros(()) if theirs[name].grad is None else theirs[name].grad
        own = torch.zeros(()) if parameter.grad is None else parameter.grad
        assert (own - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-5, name
        learnt += bool(gradient.abs().max() > 1e-3)
    assert learnt > 60
    sam.zero_grad()
    ours.zero_grad()


def test_names_and_shapes_are_those_of_the_release(sam, ours):
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in sam.state_dict().items()}
    assert sum(p.numel() for p in ours.mask_decoder.parameters()) == 4_058_340
    assert all(torch.equal(value, sam.state_dict()[key]) for key, value in ours.state_dict().items())


def test_an_image_keeps_its_proportions(ours):
    assert ours.input_size((480, 640)) == (768, 1024)
    assert ours.input_size((640, 480)) == (1024, 768)
    assert ours.input_size((90, 161)) == (572, 1024)  # 572.4
    logits = torch.zeros(1, 1, 1, 256, 256)
    logits[..., :144, :] = 1.0  # 90 x 160: 576 of 1024 rows are image
    assert (ours.upscale_logits(logits, SIZE)[..., :-1, :] == 1).all()  # the last row touches the padding
    tall = ours.upscale_logits(logits.transpose(-1, -2), (160, 90))
    assert (tall[..., :-1] == 1).all() and tall.shape == (1, 1, 1, 160, 90)


def test_sameo_predicts_and_saves_with_it(ours, embedding, tmp_path):
    sameo = Sameo(ours, "sam")
    found = sameo.predict_embedded(embedding, SIZE, BOXES[0], [0.5, 1, 1])
    with torch.no_grad():
        decoded = ours.decode_boxes(embedding, BOXES, SIZE)
    assert (found.masks == (ours.upscale_logits(decoded.logits, SIZE)[0, :, 0] >= 0).numpy()).mean() > 0.999
    assert found.masks.shape == (3, *SIZE) and found.scores[0] == found.iou[0] / 2
    again = build_sam_decoder(sameo.save(tmp_path / "tuned.safetensors"))
    assert again.fingerprint() == ours.fingerprint() != build_sam_decoder().fingerprint()


def test_it_is_fine_tuned_like_any_other(embedding):
    torch.manual_seed(0)
    model = build_sam_decoder()
    parameters = list(Sameo(model, "sam").trainable_parameters())
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"mask_decoder"}
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    target, losses = torch.zeros(1, 1, 256, 256), []
    target[..., 40:100, 30:120] = 1
    for _ in range(4):
        decoded = model.decode_boxes(embedding[..., :16, :16], BOXES[:, :1], SIZE)
        loss = sameo_loss(decoded.logits[:, :, 0], decoded.iou[:, :, 0], target[..., :64, :64]).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01


def test_it_says_what_it_cannot_do(ours, tmp_path):
    with pytest.raises(InputError, match="no image encoder"):
        ours.encode_images(torch.zeros(1, 3, 8, 8))
    torch.save(build_efficient_sam("vit_t").state_dict(), tmp_path / "other.pt")
    with pytest.raises(InputError):
        build_sam_decoder(tmp_path / "other.pt")
    state = ours.state_dict()
    del state["prompt_encoder.no_mask_embed.weight"]
    torch.save(state, tmp_path / "half.pt")
    with pytest.raises(InputError) as error:
        build_sam_decoder(tmp_path / "half.pt")
    assert error.value.record == "prompt_encoder.no_mask_embed.weight"
