"""The ONNX files say what PyTorch says, for any picture, any number of boxes; the example in the docstring runs."""

import re
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import seeded_nano

from sameo_core.model import EfficientSam, Sameo, onnx
from sameo_core.model.onnx import export_onnx
from sameo_core.model.variants import VARIANTS

onnxruntime = pytest.importorskip("onnxruntime")
TOLERANCE = 1e-4


def lively(variant, **changes):
    """A model of random weights whose masks and embeddings vary; `changes` to its config, e.g. a smaller input."""
    model = EfficientSam(replace(VARIANTS[variant], **changes)).eval()
    source, generator = seeded_nano().state_dict(), torch.Generator().manual_seed(1)
    for key, value in model.state_dict().items():
        if key in source and source[key].shape == value.shape:
            value.copy_(source[key])
        elif value.ndim > 1:
            fan_in = max(value[0].numel(), 1) ** 0.5
            value.copy_(torch.randn(value.shape, generator=generator) / fan_in)
    return Sameo(model, variant)


@pytest.fixture(scope="module")
def nano_files(tmp_path_factory):
    return export_onnx(Sameo(seeded_nano(), "nano"), tmp_path_factory.mktemp("onnx"))


def picture(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def some_boxes(count, height, width):
    corners = np.random.default_rng(count).uniform(0, 0.5, (count, 4)).astype(np.float32)
    corners[:, 2:] += 0.5
    return corners * np.array([width, height] * 2, np.float32)


def check_equal(sameo, files, sizes, counts):
    encoder, decoder = (onnxruntime.InferenceSession(path) for path in files)
    for height, width in sizes:
        image = picture(height, width)
        (embedding,) = encoder.run(None, {"image": image})
        expected = sameo.embed(image)
        assert np.abs(embedding - expected.numpy()).max() < TOLERANCE < expected.std() / 100
        for count in counts:
            boxes = some_boxes(count, height, width)
            prompt = {"boxes": boxes, "image_size": np.array([height, width])}
            logits, iou = decoder.run(None, {"embedding": embedding, **prompt})
            with torch.inference_mode():
                out = sameo.model.decode_boxes(expected, torch.from_numpy(boxes)[None], (height, width))
            assert logits.shape == (count, *out.logits.shape[-2:])
            assert iou.shape == (count,)
            if count:
                assert np.abs(logits - out.logits[0, :, 0].numpy()).max() < TOLERANCE < out.logits.std() / 100
                assert np.abs(iou - out.iou[0, :, 0].clamp(0, 1).numpy()).max() < TOLERANCE


def test_nano_is_equal_to_pytorch(nano, nano_files):
    check_equal(nano, nano_files, [(60, 80), (333, 500), (256, 256)], [0, 1, 2, 7])


@pytest.mark.parametrize(("side", "depth"), [(256, 2), pytest.param(1024, 12, marks=pytest.mark.benchmark)])
def test_vit_t_is_equal_to_pytorch(tmp_path, side, depth):
    """All its kinds of layers; two of twelve blocks at 256 pixels take a tenth of the time."""
    sameo = lively("vit_t", image_size=side, encoder_depth=depth)
    check_equal(sameo, export_onnx(sameo, tmp_path), [(90, 50)], [1, 3])


def test_the_example_runs_and_gives_the_masks_of_predict(nano, nano_files):
    example = re.search(r"\n\n((?:    .*\n|\n)+)", onnx.__doc__)[1]
    call = 'export_onnx(Sameo.load("nano"), folder)'
    assert call in example
    names = {"files": nano_files, "image": picture(70, 90), "boxes": some_boxes(4, 70, 90)}
    exec(textwrap.dedent(example).replace(call, "files"), names)
    expected = nano.predict(names["image"], names["boxes"])
    assert np.mean(np.array(names["masks"]) == expected.masks) > 0.99 and 0.1 < expected.masks.mean() < 0.9
    assert np.allclose(names["iou"], expected.iou, atol=TOLERANCE)
