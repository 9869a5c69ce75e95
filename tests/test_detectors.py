"""Live detectors: torchvision's models as they answer by themselves, names, weights, and supervision's conversions."""

import os
import sys
import urllib.error
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import rectangle
from torch import nn
from torchvision.models import detection, get_model
from torchvision.models.detection import roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator

from sameo_core.config import WEIGHTS
from sameo_core.errors import InputError
from sameo_core.front_ends import (
    from_supervision,
    jittered,
    load_detector,
    predict_dataset,
    supervision_front_end,
)
from sameo_core.front_ends.live import LiveDetector
from sameo_core.masks import decode_rle, mask_iou
from sameo_core.miniature import draw_scene
from sameo_core.miniature.nano_detector import NANO_DETECTOR, build_nano_detector
from sameo_core.pipeline import open_dataset
from sameo_core.training.detectors import save_detector

SMALL = "ssdlite320_mobilenet_v3_large"  # torchvision's smallest: 3.4 M parameters
NAMES = {1: "cup", 2: "plate"}
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


class Backbone(nn.Sequential):
    out_channels = 32

    def __init__(self):
        super().__init__(nn.Conv2d(3, 32, 3, stride=8, padding=1), nn.ReLU())


def tiny(kind="MaskRCNN", **options):
    """One of torchvision's detectors with a backbone of one layer, random weights, and answers that vary."""
    torch.manual_seed(0)
    options |= {"min_size": 64, "max_size": 96}
    if kind == "MaskRCNN":
        anchors = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
        options |= {"rpn_anchor_generator": anchors, "rpn_post_nms_top_n_test": 30}
        for name, side in (("box_roi_pool", 7), ("mask_roi_pool", 14)):
            options[name] = detection.faster_rcnn.MultiScaleRoIAlign(["0"], side, 2)
    else:
        options |= {"anchor_generator": AnchorGenerator(((16,),), ((0.5, 1.0, 2.0),))}
    model = getattr(detection, kind)(Backbone(), num_classes=3, **options)
    if kind == "MaskRCNN":
        nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.5)
    else:  # nearly all is background in them by default; label 0 is never found once they are trained
        last = model.head.classification_head.cls_logits
        nn.init.normal_(last.weight, std=0.1)
        last.bias.data = torch.tensor([-100.0, 0, 0]).repeat(len(last.bias) // 3)
    return model.eval()


@pytest.fixture(scope="module")
def mask_rcnn():
    return LiveDetector(tiny(), NAMES, min_score=0.2, max_per_image=12, device="cpu")


# ------------------------------------------------------------------------------------------------------ as torchvision


def own_answer(model, pixels):
    with torch.inference_mode():
        (found,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    return {key: value.numpy() for key, value in found.items()}


@pytest.mark.parametrize("kind", ["MaskRCNN", "RetinaNet"])
def test_it_is_what_the_model_says(kind):
    detector = LiveDetector(tiny(kind), NAMES, min_score=0.3, max_per_image=8, device="cpu")
    expected, found = own_answer(detector.model, PIXELS), detector.detect(PIXELS)
    assert 2 <= len(found.boxes) <= 8 and np.array_equal(found.boxes, expected["boxes"])
    assert np.array_equal(found.scores, expected["scores"]) and (np.diff(found.scores) <= 0).all()
    assert np.array_equal(found.category_ids, expected["labels"]) and set(found.category_ids) <= set(NAMES)
    assert (found.instance_ids == -1).all()
    if kind == "MaskRCNN":
        masks = np.stack([decode_rle(rle) for rle in found.masks])
        assert np.array_equal(masks, expected["masks"][:, 0] >= 0.5) and masks.any() and not masks.all()
    else:
        assert found.masks is None


@pytest.mark.parametrize("kind", ["MaskRCNN", "RetinaNet"])
def test_thresholds_are_those_that_were_asked_for(kind):
    scores = LiveDetector(tiny(kind), NAMES, 0.0, 300, "cpu").detect(PIXELS).scores
    assert len(scores) > 20
    least = float(np.sort(scores)[-10])
    few = LiveDetector(tiny(kind), NAMES, least, 300, "cpu").detect(PIXELS).scores
    assert (few >= least).all() and len(few) >= 8  # suppression may differ, as weaker ones no longer take part
    assert len(LiveDetector(tiny(kind), NAMES, 0.0, 5, "cpu").detect(PIXELS).scores) == 5


def test_large_images_do_not_fill_the_memory(mask_rcnn, monkeypatch):
    """Masks are brought to full size one by one: never n x h x w at once."""
    sizes, paste = [], roi_heads.paste_masks_in_image
    monkeypatch.setattr(roi_heads, "paste_masks_in_image", lambda m, *r: sizes.append(tuple(m.shape)) or paste(m, *r))
    found = mask_rcnn.detect(np.tile(PIXELS, (4, 4, 1)))
    assert sizes == [(1, 1, 28, 28)] * len(found.masks) and len(sizes) > 2
    assert "postprocess" not in vars(mask_rcnn.model.transform)  # the model is as it was


def test_nothing_found():
    model = tiny()
    model.roi_heads.box_predictor.cls_score.bias.data[0] = 100  # all is background
    found = LiveDetector(model, NAMES, device="cpu").detect(PIXELS)
    assert found.boxes.shape == (0, 4) and found.scores.dtype == np.float32 and found.masks == ()


def test_a_front_end_runs_once_an_image_whatever_its_variants(nano, world, mask_rcnn, monkeypatch):
    dataset = open_dataset("cocoa_cls", "val", world.profile())
    calls, detect = [], LiveDetector.detect
    monkeypatch.setattr(LiveDetector, "detect", lambda self, image: calls.append(1) or detect(self, image))
    front_ends = {"live": mask_rcnn, "inexact": jittered(mask_rcnn, 0.1)}
    results = predict_dataset({"a": nano, "b": nano}, dataset, front_ends)
    assert len(calls) == len(dataset)
    assert len(results["a", "live"]) == len(results["b", "inexact"]) > len(dataset)
    expected = [box for image in dataset for box in detect(mask_rcnn, image.read()).boxes]
    assert np.allclose([r["box"] for r in results["a", "live"]], expected, atol=0.01)
    assert {r["category_id"] for r in results["a", "live"]} <= set(NAMES)


def test_the_fingerprint_tells_detectors_apart(mask_rcnn):
    same = LiveDetector(tiny(), NAMES, 0.2, 12, "cpu")
    assert same.fingerprint() == mask_rcnn.fingerprint()
    changed = tiny()
    changed.roi_heads.box_predictor.cls_score.bias.data[0] += 1
    others = [
        (tiny(), NAMES, 0.3, 12),
        (tiny(), NAMES, 0.2, 13),
        (tiny(), {1: "cup"}, 0.2, 12),
        (changed, NAMES, 0.2, 12),
    ]
    prints = {LiveDetector(*options, "cpu").fingerprint() for options in others}
    assert len(prints) == 4 and same.fingerprint() not in prints


# ------------------------------------------------------------------------------------------------------ names, weights


def refused(*arguments, **options):
    with pytest.raises(InputError) as error:
        load_detector(*arguments, **options)
    return str(error.value)


@pytest.mark.skipif(not (WEIGHTS / NANO_DETECTOR).exists(), reason="the nano detector's weights are not here")
def test_nano_finds_the_objects_of_the_drawn_world():
    """Most visible objects of scenes it has not seen, few things that are none; masks of what is visible."""
    detector = load_detector(min_score=0.5, device="cpu")
    assert detector.name == "nano" and detector.categories == {1: "object"}
    best, found_in_all = [], 0
    for number in range(4):
        scene = draw_scene("cocoa_cls", number, split="val")
        masks = [decode_rle(rle) for rle in detector.detect(scene.image).masks]
        best += [max([mask_iou(mask, truth) for mask in masks], default=0) for truth in scene.visible]
        found_in_all += len(masks)
    hits = np.count_nonzero(np.array(best) > 0.5)
    assert hits >= 0.6 * len(best) and hits >= 0.5 * found_in_all


def test_a_nano_detector_of_one_s_own(tmp_path):
    model = build_nano_detector().half().float()  # kept in half precision
    save_detector(model, tmp_path / "mine.safetensors")
    loaded = load_detector("nano", tmp_path / "mine.safetensors", categories={1: "shape"}, device="cpu")
    assert loaded.categories == {1: "shape"}
    assert loaded.fingerprint() == LiveDetector(model, {1: "shape"}, device="cpu").fingerprint()
    assert "must exist" in refused("nano", tmp_path / "none.safetensors")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """PyTorch's cache, empty, and no connection."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def no_connection(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", no_connection)
    return tmp_path / "torch/hub/checkpoints"


def test_no_connection(cache):
    weights = detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1
    for asked in (None, "DEFAULT", "COCO_V1"):
        message = refused(SMALL, asked)
        assert message.startswith(weights.url) and "Name or service not known" in message
        assert f"save it as {cache / weights.url.split('/')[-1]}" in message


def test_published_weights_that_are_there(cache, capsys):
    """What the remedy says works, and names and gaps are COCO's."""
    weights, model = detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1, small_model(91)
    cache.mkdir(parents=True)
    torch.save(model.state_dict(), cache / weights.url.split("/")[-1])
    detector = load_detector(SMALL, min_score=0.5, max_per_image=7, device="cpu")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in detector.model.state_dict().items())
    assert detector.categories[1] == "person" and detector.categories[90] == "toothbrush"
    assert len(detector.categories) == 80 and 12 not in detector.categories
    assert (detector.model.score_thresh, detector.model.detections_per_img) == (0.5, 7) and not detector.model.training
    (cache / weights.url.split("/")[-1]).write_bytes(b"<html>moved</html>")
    assert "cannot be fetched or read" in refused(SMALL)


def small_model(classes):
    torch.manual_seed(1)
    return get_model(SMALL, weights=None, weights_backbone=None, num_classes=classes)


@pytest.mark.parametrize("kind", ["bare.pth", "training.pth", "c.safetensors"])
def test_a_checkpoint_of_one_s_own(tmp_path, kind):
    """Bare; and with what goes on from there, as torchvision's references/detection/train.py writes it."""
    model = small_model(3)
    state, optimiser = model.state_dict(), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    if kind.endswith("safetensors"):
        safetensors.torch.save_file(state, tmp_path / kind)
    else:
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [16, 22]).state_dict()
        more = {"optimizer": optimiser.state_dict(), "lr_scheduler": schedule, "args": Namespace(lr=0.02), "epoch": 25}
        torch.save({"model": state} | more if kind == "training.pth" else state, tmp_path / kind)
    detector = load_detector(SMALL, tmp_path / kind, categories=NAMES, device="cpu")
    assert detector.categories == NAMES
    assert all(torch.equal(value, state[key]) for key, value in detector.model.state_dict().items())


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_checkpoints_that_do_not_fit(tmp_path):
    torch.save(small_model(3).state_dict(), tmp_path / "three.pt")
    message = refused(SMALL, tmp_path / "three.pt")
    assert f"not a checkpoint of {SMALL} with 90 classes" in message and "size mismatch" in message
    assert "categories={label: name, ...}" in message
    torch.save({"weights": torch.ones(3)}, tmp_path / "odd.pt")
    assert "not a checkpoint of" in refused(SMALL, tmp_path / "odd.pt", categories=NAMES)
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "half.safetensors").write_bytes(b"abc")
    torch.save({"model": {}, "args": Namespace(a=Trap(str(tmp_path / "executed")))}, tmp_path / "pickle.pt")
    assert "a dict of tensors, found list" in refused(SMALL, tmp_path / "list.pt")
    for name in ("half.safetensors", "pickle.pt"):
        assert "nothing but weights" in refused(SMALL, tmp_path / name)
    assert not (tmp_path / "executed").exists()
    assert "the checkpoint must exist" in refused(SMALL, tmp_path / "none.pt")


# ------------------------------------------------------------------------------------------------------ supervision


BOXES = np.array([[1, 2, 30, 40], [5, 5, 20, 20], [0, 0, 70, 50]], np.float32)
MASKS = np.stack([rectangle((50, 70), *box) for box in BOXES.astype(int)])
SCORES = np.array([0.25, 0.75, 0.5], np.float32)


def stand_in(**changes):
    """What a converter needs to see of supervision.Detections."""
    return SimpleNamespace(**{"xyxy": BOXES, "confidence": SCORES, "class_id": np.arange(3), "mask": MASKS} | changes)


@pytest.fixture
def supervision():
    return pytest.importorskip("supervision")


@pytest.fixture
def hidden(monkeypatch):
    """As if the package were not installed."""
    monkeypatch.setitem(sys.modules, "supervision", None)


def is_as_given(found, ids=(0, 1, 2)):
    assert np.array_equal(found.boxes, BOXES) and np.array_equal(found.scores, SCORES)
    assert found.category_ids.tolist() == list(ids) and (found.instance_ids == -1).all()
    assert all(np.array_equal(decode_rle(rle), mask) for rle, mask in zip(found.masks, MASKS, strict=True))


def test_supervision_s_own_detections(supervision):
    theirs = supervision.Detections(xyxy=BOXES, confidence=SCORES, class_id=np.arange(3), mask=MASKS)
    is_as_given(from_supervision(theirs))
    is_as_given(from_supervision(theirs, "coco80_to_91"), (1, 2, 3))
    if hasattr(theirs, "to_compact_masks"):
        is_as_given(from_supervision(theirs.to_compact_masks()))
    assert len(from_supervision(supervision.Detections.empty()).boxes) == 0


def test_what_is_not_said():
    found = from_supervision(stand_in(confidence=None, class_id=None, mask=None))
    assert found.scores.tolist() == [1, 1, 1] and found.category_ids.tolist() == [1, 1, 1] and found.masks is None


def test_classes_that_are_left_out(hidden):
    found = from_supervision(stand_in(), {0: 7, 1: None, 2: 5})
    assert found.category_ids.tolist() == [7, 5] and np.array_equal(found.boxes, BOXES[[0, 2]])
    assert np.array_equal(decode_rle(found.masks[1]), MASKS[2])


@pytest.fixture
def image(world):
    return open_dataset("cocoa_cls", "val", world.profile())[0]


def test_a_front_end_of_supervision_s_detections(image, hidden):
    """It gets the pixels, and what no mask can be asked for is left out; the rest is best first."""
    seen = []
    outside = BOXES + np.array([0, 0, 0, 0], np.float32)
    outside[0] += 10_000
    front_end = supervision_front_end(lambda pixels: seen.append(pixels) or stand_in(xyxy=outside, mask=None))
    found = front_end(image)
    assert np.array_equal(seen[0], image.read())
    assert np.array_equal(found.boxes, BOXES[[1, 2]]) and found.scores.tolist() == [0.75, 0.5]


def test_a_toolbox_s_answer_through_a_converter(supervision, image):
    """ultralytics' and transformers' answers, as those packages give them."""
    tensor = torch.from_numpy
    answer = {"boxes": tensor(BOXES), "scores": tensor(SCORES), "labels": torch.arange(3)}
    front_end = supervision_front_end(lambda pixels: answer, "transformers", category_map="coco80_to_91")
    found = front_end(image)
    assert np.array_equal(found.boxes, BOXES[[1, 2, 0]]) and found.category_ids.tolist() == [2, 3, 1]
    instances = SimpleNamespace(bboxes=tensor(BOXES), scores=tensor(SCORES), labels=torch.arange(3))
    instances = type("InstanceData", (SimpleNamespace,), {"__contains__": lambda self, key: hasattr(self, key)})(
        **vars(instances)
    )
    found = supervision_front_end(lambda pixels: SimpleNamespace(pred_instances=instances), "mmdetection")(image)
    assert np.array_equal(found.boxes, BOXES[[1, 2, 0]]) and found.category_ids.tolist() == [1, 2, 0]
    with pytest.raises(InputError, match=r"detectron2, .*found 'mmdet'"):
        supervision_front_end(lambda pixels: None, "mmdet")
