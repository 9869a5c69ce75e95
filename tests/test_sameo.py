"""SAMEO around its model: what `predict` promises, files that come back bit for bit, what learns, what is refused."""

import copy
import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import torch
from conftest import seeded_nano

from sameo_core.config import EvaluationConfig, load_profile
from sameo_core.errors import InputError
from sameo_core.model import Sameo, build_efficient_sam
from sameo_core.model.box_decoder import upscale_logits
from sameo_core.model.checkpoints import weights_checksum

SIZE = (48, 64)
BOXES = [[4, 6, 30, 40], [20, 10, 64, 48], [0, 0, 12, 9], [1.5, 2.5, 50.25, 30]]
SCORES = [0.9, 0.25, 1.0, 0.0]


def photo(size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("masks", "iou", "scores"))


# ------------------------------------------------------------------------------------------------------------- predict


def test_shapes_types_and_order(nano):
    found = nano.predict(photo(), BOXES, SCORES)
    assert found.masks.shape == (4, *SIZE) and found.masks.dtype == bool
    assert found.iou.shape == found.scores.shape == (4,) and found.iou.dtype == found.scores.dtype == np.float32
    assert (found.iou >= 0).all() and (found.iou <= 1).all()
    assert len(set(found.iou)) == 4 and 0 < found.masks.mean() < 1  # the fixture's weights can tell boxes apart
    backwards = nano.predict(photo(), BOXES[::-1], SCORES[::-1])
    assert np.allclose(backwards.iou[::-1], found.iou, atol=1e-5)
    assert (backwards.masks[::-1] == found.masks).mean() > 0.999


def test_masks_and_iou_are_the_single_mask_output_of_the_model(nano):
    image = photo()
    found = nano.predict(image, BOXES)
    with torch.inference_mode():
        embedding = nano.model.encode_images(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        decoded = nano.model.decode_boxes(embedding, torch.tensor([BOXES]), SIZE)
        logits = upscale_logits(decoded.logits, SIZE)[0, :, 0]
    assert (found.masks == (logits >= 0).numpy()).mean() > 0.999
    assert np.allclose(found.iou, decoded.iou[0, :, 0].clamp(0, 1).numpy(), atol=1e-5)


def test_scores_are_front_end_score_times_predicted_iou(nano):
    found = nano.predict(photo(), BOXES, SCORES)
    assert np.array_equal(found.scores, np.array(SCORES, np.float32) * found.iou)
    assert np.array_equal(nano.predict(photo(), BOXES).scores, found.iou)  # without scores: 1 for every box


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), torch.zeros(0, 4)])
def test_no_boxes(nano, boxes):
    found = nano.predict(photo(), boxes)
    assert found.masks.shape == (0, *SIZE) and found.iou.shape == found.scores.shape == (0,)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (256, 256), (500, 333)])
def test_any_image_size(nano, size):
    height, width = size
    found = nano.predict(photo(size), [[0, 0, width, height]])
    assert found.masks.shape == (1, height, width)


def test_flipped_and_read_only_images(nano, recwarn):
    image = photo()
    flipped = image[:, ::-1]
    assert torch.equal(nano.embed(flipped), nano.embed(np.ascontiguousarray(flipped)))
    image.flags.writeable = False  # as np.asarray of a PIL image
    nano.embed(image)
    assert not recwarn.list


def test_an_embedding_is_that_of_the_float_image(nano):
    image = photo((90, 130))
    with torch.inference_mode():
        expected = nano.model.encode_images(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    assert torch.equal(nano.embed(image), expected)


@pytest.mark.parametrize("limit", [{"boxes_per_pass": 1}, {"boxes_per_pass": 3}, {"upscaled_pixels": 1}])
def test_passes_bound_memory_and_change_nothing(nano, monkeypatch, limit):
    whole = nano.predict(photo(), BOXES, SCORES)
    passes, decode = [], nano.model.decode_boxes

    def counted(embedding, prompts, *how):
        passes.append(prompts.shape[1])
        return decode(embedding, prompts, *how)

    monkeypatch.setattr(nano.model, "decode_boxes", counted)
    nano.limits = load_profile(**limit).evaluation
    parts = nano.predict(photo(), BOXES, SCORES)
    assert passes == ([3, 1] if limit == {"boxes_per_pass": 3} else [1, 1, 1, 1])
    assert np.allclose(parts.iou, whole.iou, atol=1e-5) and np.allclose(parts.scores, whole.scores, atol=1e-5)
    assert (parts.masks == whole.masks).mean() > 0.999


def test_passes_one_after_another_are_the_prediction(nano):
    nano.limits = EvaluationConfig(boxes_per_pass=3)
    embedding = nano.embed(photo())
    whole = nano.predict_embedded(embedding, SIZE, BOXES, SCORES)
    parts = list(nano.predict_in_passes(embedding, SIZE, BOXES, SCORES))
    assert [len(part.masks) for part in parts] == [3, 1]
    for name in ("masks", "iou", "scores"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


@pytest.mark.parametrize(("grid", "size", "boxes"), [(16, (48, 64), 64), (64, (48, 64), 4), (16, (2048, 2048), 4)])
def test_a_pass_is_bounded_by_the_image_and_by_the_decoder(nano, monkeypatch, grid, size, boxes):
    """2^24 pixels: 4 masks of 2048 x 2048; or of 4 boxes what the decoder holds at 64 x 64 cells."""
    passes = []

    def decode(embedding, prompts, size):
        passes.append(prompts.shape[1])
        return torch.zeros(prompts.shape[1], 1, 1), torch.zeros(prompts.shape[1])

    monkeypatch.setattr(nano, "_decode", decode)
    list(nano.predict_in_passes(torch.zeros(1, 128, grid, grid), size, [[4, 6, 30, 40]] * 70))
    assert passes == [boxes] * (70 // boxes) + [70 % boxes] * (70 % boxes > 0)


FAULTS = """
import resource, torch
from sameo_core.model.sameo import reuse_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)  # 64 MB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(), print(faults(), reuse_memory(), [faults() for _ in range(5)][-1])  # where they lie settles in a few rounds
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_freed_memory_is_used_again():
    out = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout.split()
    before, asked, after = int(out[0]), out[1], int(out[2])
    assert asked == "True" and before > 4 * 400 and after < before / 10  # pages may be huge: 2 MB


# --------------------------------------------------------------------------------------------------------------- files


def test_saved_weights_come_back_bit_for_bit(nano, tmp_path):
    path = nano.save(tmp_path / "new" / "folder" / "weights.safetensors")
    loaded = Sameo.load(path)  # the file says which variant it is, its name does not
    assert loaded.variant == "nano" and not loaded.model.training
    state = nano.model.state_dict()
    assert loaded.model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.model.state_dict().items())
    assert same(loaded.predict(photo(), BOXES, SCORES), nano.predict(photo(), BOXES, SCORES))
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["sameo"]) == {"variant": "nano", "crc32": weights_checksum(state)}


def test_a_compiled_model_is_saved_as_the_plain_one(nano, tmp_path):
    plain, fingerprint = nano.save(tmp_path / "plain.safetensors").read_bytes(), nano.fingerprint()
    part, whole = copy.deepcopy(nano), copy.deepcopy(nano)
    part.model.image_encoder = torch.compile(part.model.image_encoder)
    whole.model = torch.compile(whole.model)
    for model in (part, whole):
        assert model.save(tmp_path / "weights.safetensors").read_bytes() == plain
        assert model.fingerprint() == fingerprint and model.shares_encoder(nano)


def test_a_name_is_a_file_in_the_weights_folder(nano, world):
    nano.save(world.root / "data/weights/sameo_nano.safetensors")
    loaded = Sameo.load("nano")
    assert loaded.variant == "nano" and same(loaded.predict(photo(), BOXES), nano.predict(photo(), BOXES))
    with pytest.raises(InputError) as error:
        Sameo.load("efficient_sam_vit_s")  # not downloaded
    assert error.value.file == str(world.root / "data/weights/efficient_sam_vits.pt")


@pytest.mark.parametrize("file", ["efficient_sam_nano.pt", "my_nano_17.pth"])
def test_released_files_say_their_variant_by_name(nano, tmp_path, file):
    torch.save({"model": nano.model.state_dict()}, tmp_path / file)
    assert Sameo.load(tmp_path / file).variant == "nano"


def test_a_file_that_does_not_say_its_variant(nano, tmp_path):
    torch.save(nano.model.state_dict(), path := tmp_path / "weights.pt")
    with pytest.raises(InputError, match="Pass variant= one of sam, vit_t, vit_s, nano"):
        Sameo.load(path)
    assert Sameo.load(path, variant="nano").variant == "nano"


def test_damaged_files(nano, tmp_path):
    path = nano.save(tmp_path / "weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    for variant in (None, "nano"):  # the metadata is read, and the weights
        with pytest.raises(InputError, match="complete") as error:
            Sameo.load(path, variant=variant)
        assert error.value.file == str(path)


def test_a_flipped_bit_of_a_weight_is_seen(nano, tmp_path):
    path = nano.save(tmp_path / "weights.safetensors")
    content = bytearray(path.read_bytes())
    content[(len(content) // 8) * 4] ^= 1  # of a mantissa: the number stays finite
    path.write_bytes(content)
    with pytest.raises(InputError, match="the checksum is not the one they were saved with"):
        Sameo.load(path)
    plain = {key: value.contiguous() for key, value in nano.model.state_dict().items()}
    safetensors.torch.save_file(plain, path)  # somebody else's file states none
    assert Sameo.load(path, "nano").fingerprint() == nano.fingerprint()


# ------------------------------------------------------------------------------------------------------ what is frozen


def test_only_the_mask_decoder_learns():
    model = build_efficient_sam("nano")
    parameters = list(Sameo(model, "nano").trainable_parameters())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if name.startswith("mask_decoder.")}
    assert {id(p) for p in parameters} == {id(p) for p in model.mask_decoder.parameters()}
    assert sum(p.numel() for p in parameters) == 756_340


def test_predicting_leaves_no_gradient_and_no_trace(nano):
    before = {key: value.clone() for key, value in nano.model.state_dict().items()}
    nano.predict(photo(), BOXES)
    assert all(p.grad is None for p in nano.model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in nano.model.state_dict().items())
    assert not Sameo(seeded_nano().train(), "nano").model.training


# ----------------------------------------------------------------------------------------------------------- bad input


BAD_IMAGES = {
    "float": photo() / 255,
    "grey": photo()[..., 0],
    "alpha": np.zeros((*SIZE, 4), np.uint8),
    "empty": np.zeros((0, 64, 3), np.uint8),
    "channels first": photo().transpose(2, 0, 1),
    "tensor": torch.from_numpy(photo()),
    "path": "photo.jpg",
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(nano, image):
    with pytest.raises(InputError) as error:
        nano.embed(image)
    assert error.value.file == "image" and error.value.remedy


TENSOR = torch.tensor(BOXES, dtype=torch.float32, requires_grad=True)


@pytest.mark.parametrize(
    "boxes",
    [np.array(BOXES), TENSOR, TENSOR.bfloat16(), TENSOR.half(), [*TENSOR], [[*box] for box in TENSOR]],
    ids=["array", "gradient", "bfloat16", "half", "list of tensors", "lists of numbers"],
)
def test_boxes_and_scores_may_be_any_array(nano, boxes):
    scores = torch.tensor(SCORES, requires_grad=True)
    assert same(nano.predict(photo(), boxes, scores), nano.predict(photo(), BOXES, SCORES))


def test_boxes_of_another_format_are_converted_when_told(nano):
    shares = np.array(BOXES) / [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    expected = nano.predict(photo(), BOXES)
    assert (nano.predict(photo(), shares, box_format="normalised").masks == expected.masks).mean() > 0.999


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("scores", [[0.5], [0.5] * 5, [[0.5] * 4], 0.5, [0.5, 0.5, 0.5, float("nan")]])
def test_bad_scores(nano, scores):
    with pytest.raises(InputError) as error:
        nano.predict(photo(), BOXES, scores)
    assert error.value.file == "scores"
