"""Files as mmdetection and detectron2 write them, answers as transformers gives them, read as notebook 05 says."""

import json
import re
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from conftest import rectangle
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from sameo_core import front_ends
from sameo_core.config import NOTEBOOKS
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends import coco_results, supervision_front_end
from sameo_core.front_ends.base import COCO_IDS
from sameo_core.masks import decode_rle

H, W = 48, 64
BOXES = [[10.25, 20.5, 40.75, 35.5], [0, 0, 64, 48], [5.5, 6, 7.125, 30]]  # xyxy; in single precision without rounding
MASKS = [rectangle((H, W), *box) for box in ([11, 21, 40, 35], [0, 0, 64, 48], [6, 6, 7, 30])]
FOUND = [(139, 0), (139, 79), (632, 11)]  # image and class, from 0, of each box; none in image 285
SCORES = np.array([0.9, 0.3, 0.6], np.float32)


@pytest.fixture
def dataset(tmp_path):
    """Three images with the classes of COCO."""
    images = [AmodalImage(i, f"{i:012}.jpg", tmp_path / f"{i:012}.jpg", H, W, ()) for i in (139, 285, 632)]
    for image in images:
        Image.new("RGB", (W, H)).save(image.path)
    return AmodalDataset("plain", tmp_path, "val", {i: f"class {i}" for i in COCO_IDS}, images, {})


def xywh(row):
    x0, y0, x1, y1 = np.array(BOXES[row], np.float32).tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def rle(row):
    """Both toolboxes: pycocotools' RLE, its counts as text."""
    encoded = coco_masks.encode(np.asfortranarray(MASKS[row], np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def mmdetection(folder, ids=COCO_IDS):
    """CocoMetric (3.3) with outfile_prefix=folder/x; `ids` are its cat_ids."""
    boxes, masks = [], []
    for row, (image, label) in enumerate(FOUND):
        record = {"image_id": image, "bbox": xywh(row), "score": float(SCORES[row]), "category_id": ids[label]}
        boxes.append(record)
        masks.append(record | {"segmentation": rle(row)})
    (folder / "x.bbox.json").write_text(json.dumps(boxes))
    (folder / "x.segm.json").write_text(json.dumps(masks))
    return folder / "x.bbox.json", folder / "x.segm.json"


def detectron2(folder, ids=COCO_IDS, masks=True):
    """COCOEvaluator with output_dir=folder; `ids` undo the mapping to its contiguous ids."""
    records = []
    for row, (image, label) in enumerate(FOUND):
        record = {"image_id": image, "category_id": ids[label], "bbox": xywh(row), "score": SCORES.tolist()[row]}
        records.append(record | ({"segmentation": rle(row)} if masks else {}))
    file = folder / "coco_instances_results.json"
    file.write_text(json.dumps(records))
    return file


def check(front_end, dataset, masks=True):
    """Boxes, scores and COCO's own ids by hand, image by image."""
    first, nothing, third = map(front_end, dataset)
    assert first.boxes.tolist() == BOXES[:2] and third.boxes.tolist() == BOXES[2:] and nothing.boxes.shape == (0, 4)
    assert first.scores.tolist() == SCORES[:2].tolist() and third.scores.tolist() == SCORES[2:].tolist()
    assert first.category_ids.tolist() == [1, 90] and third.category_ids.tolist() == [13]
    if masks:
        found = [decode_rle(mask) for mask in (*first.masks, *third.masks)]
        assert all(np.array_equal(one, other) for one, other in zip(found, MASKS, strict=True))
    else:
        assert first.masks is None


def test_both_files_of_mmdetection(dataset, tmp_path):
    boxes, masks = mmdetection(tmp_path)
    assert '"bbox": [10.25, 20.5, 30.5, 15.0], "score": 0.8999999761581421, "category_id": 1}' in boxes.read_text()
    check(coco_results(boxes, dataset), dataset, masks=False)
    check(coco_results(masks, dataset), dataset)
    assert repr(coco_results(masks, dataset)) == f"{masks}: 3 detections in 2 of 3 images"


def test_three_hundred_boxes_an_image(dataset):
    """RTMDet and CO-DETR, max_per_img=300: as many are kept as COCO's AP counts."""
    scores = np.linspace(0.9, 0.001, 300, dtype=np.float32).tolist()
    records = [{"image_id": 139, "bbox": xywh(0), "score": score, "category_id": 1} for score in scores]
    front_end = coco_results(records, dataset)
    assert front_end(dataset[0]).scores.tolist() == scores[:100]
    assert repr(front_end).endswith("left out: 200 beyond the strongest of their image")


@pytest.mark.parametrize("write", [lambda folder, ids: mmdetection(folder, ids)[1], detectron2])
def test_classes_counted_from_0(dataset, tmp_path, write):
    """mmdetection without ann_file; detectron2 with a data set that was registered without the ids of its file."""
    file = write(tmp_path, range(80))
    with pytest.raises(InputError, match="category_map='coco80_to_91'"):
        coco_results(file, dataset)
    check(coco_results(file, dataset, category_map="coco80_to_91"), dataset)


# ------------------------------------------------------------------------------------------------------ notebook 05


@pytest.fixture
def blocks(dataset, tmp_path, monkeypatch):
    """The Python of its section on other detectors, a function for each block, and their names."""
    monkeypatch.chdir(tmp_path)
    cells = nbformat.read(NOTEBOOKS / "05_zero_shot_evaluation.ipynb", as_version=4).cells
    (section,) = [cell.source for cell in cells if cell.source.startswith("## Other detectors")]
    names = {"dataset": dataset, "front_ends": front_ends, "found": {}}
    codes = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return [lambda code=code: exec(code, names) or names for code in codes]


def test_the_data_set_as_a_test_set_of_coco(dataset, blocks):
    """As both toolboxes look at it, through pycocotools; detectron2 evaluates if there is a key `annotations`."""
    classes = blocks[0]()["classes"]
    coco = COCO("coco/annotations/image_info_test2017.json")
    assert coco.getImgIds() == [139, 285, 632] and coco.getAnnIds(imgIds=[139]) == []
    assert coco.loadImgs([139]) == [{"id": 139, "file_name": str(dataset[0].path), "height": H, "width": W}]
    assert tuple(coco.getCatIds(catNms=[each["name"] for each in classes])) == COCO_IDS
    assert [each["name"] for each in classes[:2]] == ["person", "bicycle"] and "annotations" not in coco.dataset


def test_the_lines_that_read_results(dataset, blocks, tmp_path):
    boxes, masks = mmdetection(tmp_path)
    boxes.rename("codetr.bbox.json")
    for name in ("rtmdet", "convnext"):
        (tmp_path / f"{name}.segm.json").write_bytes(masks.read_bytes())
    for name in ("vitdet", "dino"):
        (tmp_path / name).mkdir()
        detectron2(tmp_path / name, masks=name == "vitdet")
    found = blocks[1]()["found"]
    assert list(found) == ["RTMDet", "CO-DETR", "ConvNeXt-V2", "ViTDet", "DINO"]
    for name, front_end in found.items():
        check(front_end, dataset, masks=name not in ("CO-DETR", "DINO"))


class Transformers:
    """A processor and a network of transformers 5.24 that give one answer; also the package that has them."""

    def __init__(self, answer):
        self.answer, self.asked = answer, None
        self.AutoProcessor = self.AutoModelForZeroShotObjectDetection = SimpleNamespace(from_pretrained=lambda _: self)

    def __call__(self, **inputs):
        self.asked = inputs.get("text", self.asked)
        return {"pixel_values": torch.zeros(1, 3, 8, 8)}

    def post_process_grounded_object_detection(self, outputs, target_sizes, text_labels):
        assert target_sizes == [(H, W)] and text_labels == self.asked
        return [self.answer]


def answered(labels, texts):
    boxes = torch.tensor(BOXES[: len(texts)]).reshape(-1, 4)
    scores = torch.tensor([0.25, 0.75, 0.5][: len(texts)])
    return {"scores": scores, "labels": labels, "boxes": boxes, "text_labels": texts}


ANSWERS = {  # what is answered; the ids of the data set, strongest first
    "OWLv2": (answered(torch.tensor([2, 0, 0]), ["class 3", "class 1", "class 1"]), [1, 1, 3]),
    "Grounding DINO": (answered(["class 3", "class", ""], ["class 3", "class", ""]), [-1, -1, 3]),
    "nothing": (answered([], []), []),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_open_vocabulary_detector(dataset, blocks, monkeypatch, name):
    pytest.importorskip("supervision")
    answer, ids = ANSWERS[name]
    package = Transformers(answer)
    monkeypatch.setitem(sys.modules, "transformers", package)
    found = blocks[2]()["found"]["OWLv2"](dataset[0])
    assert package.asked == [[f"class {i}" for i in COCO_IDS]]
    assert found.category_ids.tolist() == ids and found.scores.tolist() == [0.75, 0.5, 0.25][: len(ids)]
    assert found.boxes.tolist() == [BOXES[i] for i in (1, 2, 0)][: len(ids)] and found.masks is None


def test_labels_that_are_text(dataset):
    """Grounding DINO's answer as it is: supervision wants tensors."""
    pytest.importorskip("supervision")
    answer, _ = ANSWERS["Grounding DINO"]
    with pytest.raises(InputError, match="from_transformers.*no attribute 'cpu'"):
        supervision_front_end(lambda _: answer, "transformers")(dataset[0])
