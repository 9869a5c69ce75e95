"""What is given, what is said: every public function that takes outside data, and every verb, with bad input.

A row is a function, what it is given, and words of the four parts of the error: file or argument, record, rule, remedy.
A function is public where its name has no underscore; it takes outside data where its docstring promises an InputError.
The last test finds those without a row.
"""

import importlib
import inspect
import json
import pkgutil
import re
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import test_exports
import test_security
import test_synthesis
import torch
from conftest import plain_dataset, rectangle, seeded_nano

import sameo_core
from sameo_core import config
from sameo_core.__main__ import VERBS, main
from sameo_core.boxes import read_box_file
from sameo_core.config import NOTEBOOKS, CompletenessConfig, SynthesisConfig, load_profile
from sameo_core.datasets import AmodalImage, load_dataset
from sameo_core.datasets.builder import DatasetBuilder
from sameo_core.datasets.coco_files import CocoFormat, index_coco
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_regions
from sameo_core.masks import encode_mask
from sameo_core.pretraining import PretrainingConfig
from sameo_core.sameo import Sameo
from sameo_core.synthesis import Pool, collect_complete_objects, draw_pair

pytestmark = pytest.mark.usefixtures("unchecked")  # as in a notebook: no type checker comes first

MASK = rectangle((6, 8), 2, 1, 6, 5)
RLE = encode_mask(MASK)
IMAGE = {"id": 1, "file_name": "a.png", "height": 6, "width": 8}
OBJECT = {"id": 5, "image_id": 1, "category_id": 1, "segmentation": RLE, "visible_mask": RLE, "iscrowd": 0}
COCO = {"images": [IMAGE], "annotations": [OBJECT], "categories": [{"id": 1, "name": "cup"}]}
TENSOR = torch.zeros(1, 2, 4, 4)


class Desk:
    """What the rows take; made when first asked for. `folder` is empty at first."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch

    def file(self, name, content=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else self._text(content).encode())
        return path

    @staticmethod
    def _text(content):
        return content if isinstance(content, str) else json.dumps(content)

    def photo(self, name="photo.png", size=(60, 40)):
        PIL.Image.new("RGB", size, "red").save(self.folder / name)
        return self.folder / name

    def coco(self, **changes):
        """A folder of plain COCO, its records changed."""
        self.file("annotations/val.json", COCO | changes)
        return self.folder

    @cached_property
    def nano(self):
        return Sameo(seeded_nano(), "nano")

    @cached_property
    def other_nano(self):
        return Sameo(seeded_nano(1), "nano")

    @cached_property
    def paper(self):
        """The paper's profile, whose data sets and weights are not here."""
        self.monkeypatch.setattr(config, "RAW", self.folder / "raw")
        self.monkeypatch.setattr(config, "RUNS", self.folder / "runs")
        return load_profile("paper", weights="none.pt")

    @cached_property
    def pool(self):
        root = self.folder / "source"
        images = [test_synthesis.photograph(root, i, test_synthesis.two_objects(i)) for i in (1, 2)]
        dataset = test_synthesis.dataset_of(images, root)
        teacher = test_synthesis.AgreeingTeacher(dataset)
        return collect_complete_objects(teacher, dataset, CompletenessConfig(), self.folder / "record")

    @cached_property
    def damaged_pool(self):
        return replace(self.pool, counts=np.full_like(self.pool.counts, ord("o")))

    @cached_property
    def exported(self):
        return test_exports.photograph()

    @cached_property
    def regions(self):
        return evaluate_regions([MASK], [MASK], [MASK])

    def changed_index(self):
        path = self.file("a.json", COCO)
        index = index_coco(path)
        self.file("a.json", COCO | {"images": []})
        return index

    def changed_dataset(self):
        second = {"images": [IMAGE, IMAGE | {"id": 2}], "annotations": [OBJECT, OBJECT | {"id": 6, "image_id": 2}]}
        dataset = load_dataset("coco", self.coco(**second))
        self.coco()
        return dataset

    def another_recipe(self):
        self.file("run/config.json", {"seed": 99})
        return self.folder / "run"


class Given:
    """Arguments."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options


@dataclass(frozen=True)
class Row:
    function: str  # below sameo_core
    give: object  # of a desk: what is given
    file: str  # words of the error's parts
    rule: str
    remedy: str
    record: str = ""


def g(*arguments, **options):
    return lambda desk: Given(*arguments, **options)


def missing_folder(name):
    return Row(
        f"datasets.{name}.read_{name}",
        lambda d: Given(d.folder / "none", "val"),
        "none",
        "folder of .* must exist|needs a folder|no <frame>_ampano.png|needs the folders|annotation file of",
        "data/README.md|sequences",
    )


EMPTY = np.zeros((6, 8), bool)
PLAIN = (
    "amodal_lvis",
    "coco",
    "cocoa",
    "cocoa_cls",
    "d2sa",
    "dyce",
    "kins",
    "kitti360_aps",
    "lvis",
    "lvvis",
    "mp3d_amodal",
    "muva",
    "pix2gestalt",
    "walt",
)
ROWS = [
    # config
    Row("config.load_profile", g("full"), "profile", "one of mini, paper, found 'full'", "one of these names"),
    Row("config.load_profile", g("mini", iteration=3), "profile mini", "unknown field", "'iterations'", "iteration"),
    Row("config.load_profile", g("mini", iterations="3"), "profile mini", "int, found '3'", "that type", "iterations"),
    Row("config.load_profile", g("mini", min_visible_share=5), "cleaning", "found 5", "0.05 for 5 %", "min_visible"),
    Row("config.Profile.override", g(load_profile(), colour=1), "profile mini", "unknown field", "Known", "colour"),
    # masks
    Row(
        "masks.decode_segmentation", g([1, 2, 3, 4], 6, 8), "segmentation", "fewer than 6", "leave it out", "polygon 0"
    ),
    Row("masks.decode_segmentation", g(None, 6, 8), "segmentation", "empty: found None", "no mask"),
    Row("masks.segmentation_to_rle", g("abc", 6, 8), "segmentation", "unknown type: str 'abc'", "list of polygons"),
    Row("masks.segmentation_to_rle", g(RLE, 8, 6), "segmentation", "RLE of another size", "belong together", "RLE"),
    Row("masks.segmentation_to_rle", g([1, 2, 3, 4, 5, 6], 0, 8), "segmentation", r"\(0, 8\)", "at least 1"),
    Row("masks.decode_rle", g({"size": [6, 8], "counts": "=4"}), "segmentation", "sum 17", "damaged", "RLE"),
    Row("masks.decode_rle_inside", g(RLE, (0, 0, 9, 6)), "box", r"found \[0, 0, 9, 6\]", "within the frame"),
    Row("masks.mask_area", g({"size": [6, 8]}), "segmentation", "counts of unknown type: None", "as a string", "RLE"),
    Row("masks.mask_box", g(EMPTY), "mask", "empty mask", "Leave out empty masks"),
    Row("masks.mask_iou", g(MASK, MASK.T), "masks", r"\(6, 8\) and \(8, 6\)", "same image"),
    Row("masks.occlusion_rate", g(EMPTY, MASK), "amodal", "divides by its area", "Leave out empty masks"),
    Row("masks.union_rle", g([]), "masks", "empty list", "at least one"),
    Row("masks.intersect_rle", g([RLE, encode_mask(MASK.T)]), "masks", "different size", "same image"),
    Row("masks.subtract_rle", g(RLE, encode_mask(MASK.T)), "masks", "different size", "same image"),
    # photographs
    Row("photographs.read_photograph", g(b""), "photograph", "0 bytes", "again"),
    Row("photographs.read_photograph", lambda d: Given(d.folder / "no.jpg"), "no.jpg", "must exist", "Check the path"),
    Row(
        "photographs.read_photograph", lambda d: Given(d.file("a.jpg", "words")), "a.jpg", "this is text", "photograph"
    ),
    Row("photographs.find_photographs", lambda d: Given(d.folder), "", "no photograph lies here", "folder"),
    # networks
    Row("efficient_sam.build_efficient_sam", g("huge"), "variant", "found 'huge'", "nano"),
    Row(
        "efficient_sam.build_efficient_sam",
        lambda d: Given("nano", d.file("w.pt", "words")),
        "w.pt",
        "nothing but weights",
        "Download the checkpoint again",
    ),
    Row("efficient_sam.read_weights", lambda d: Given(d.folder / "w.pt"), "w.pt", "must exist", "download the file"),
    Row(
        "efficient_sam.EfficientSam.encode_images",
        lambda d: Given(d.nano.model, torch.full((1, 3, 4, 4), 255.0)),
        "images",
        "0 to 255|255 to 255",
        "Divide",
    ),
    Row(
        "efficient_sam.EfficientSam.decode_boxes",
        lambda d: Given(d.nano.model, torch.zeros(1, 128, 16, 16), torch.tensor([[[5.0, 5, 5, 9]]]), (60, 90)),
        "boxes",
        "x0 < x1",
        "xywh",
        "image 0, box 0",
    ),
    Row(
        "efficient_sam.check_boxes",
        g(torch.zeros(1, 128, 16, 16), torch.zeros(1, 1, 4), (0, 9), 128),
        "image_size",
        "positive",
        r"\(height, width\)",
    ),
    Row("losses.sameo_loss", g(TENSOR, torch.zeros(1, 2), TENSOR + 255), "target", "255", "Divide"),
    Row("losses.dice_loss", g(TENSOR, TENSOR[..., :2]), "target", "found", "shape of the logits"),
    Row("losses.focal_loss", g(TENSOR, TENSOR - 1), "target", "-1", "Divide"),
    Row("losses.iou_l1_loss", g(torch.zeros(3), TENSOR, TENSOR), "predicted_iou", "one number for each", "same"),
    Row("losses.mask_iou", g(TENSOR, TENSOR.bool()), "target", "bool", "as float"),
    # data sets
    Row("datasets.load_dataset", g("cocoacls", "."), "name", "unknown data set 'cocoacls'", "'cocoa_cls'"),
    Row("datasets.load_dataset", lambda d: Given("cocoa", d.folder / "no"), "no", "must exist", "data/README.md"),
    *map(missing_folder, PLAIN),
    Row("datasets.kins.read_kins", lambda d: Given(d.folder, "test"), "split", "found 'test'", "one of these"),
    Row("datasets.kins.read_kins", lambda d: Given(d.folder, "val", "2021"), "version", "found '2021'", "leave it out"),
    Row("datasets.d2sa.read_d2sa", lambda d: Given(d.folder, "train+x"), "split", "found 'x'", "one of these"),
    Row("datasets.dyce.read_dyce", lambda d: Given(d.folder, "val_real"), "split", "natural images", "train, val"),
    Row("datasets.walt.read_walt", lambda d: Given(d.folder, "val", "xml"), "form", "found 'xml'", "Leave it out"),
    Row("datasets.lvvis.read_lvvis", lambda d: Given(d.folder, "val", None, 0), "every_nth_frame", "found 0", "Give 1"),
    Row(
        "datasets.coco.read_coco", lambda d: Given(d.folder, "val", visible="yes"), "visible", "same.* 'yes'", "one of"
    ),
    Row(
        "datasets.coco.read_coco",
        lambda d: Given(d.coco(annotations=[OBJECT | {"visible_mask": None}]), "val"),
        "val.json",
        "from one source, found none",
        'visible="same"',
    ),
    Row(
        "datasets.coco.read_coco",
        lambda d: Given(d.coco(annotations=[OBJECT | {"category_id": 7}]), "val"),
        "val.json",
        r"unknown category_id: 1 \(first annotation 5\)",
        "annotation file of coco",
    ),
    Row(
        "datasets.base.AmodalImage.read",
        lambda d: Given(AmodalImage(3, "a.png", d.photo("a.png"), 6, 8, ())),
        "a.png",
        r"\(40, 60\), the annotations' \(6, 8\)",
        "original images",
        "image 3",
    ),
    Row("datasets.base.AmodalDataset.census", lambda d: Given(d.changed_dataset()), "val.json", "changed", "again"),
    Row(
        "datasets.base.AmodalDataset.to_coco",
        lambda d: Given(test_synthesis.dataset_of([AmodalImage(1, "", d.folder, 6, 8, visible_only())], d.folder)),
        "data set",
        "no amodal mask",
        "amodal_lvis",
        "instance 1",
    ),
    Row(
        "datasets.builder.DatasetBuilder.add_categories",
        lambda d: Given(builder(d), [{"id": 1, "name": "cup"}, {"id": 1, "name": "mug"}]),
        "a.json",
        "'mug' and 'cup'",
        "same release",
        "category 1",
    ),
    Row("datasets.builder.DatasetBuilder.finish", lambda d: Given(builder(d)), "a.json", "no usable", "Check"),
    Row(
        "datasets.coco_files.index_coco", lambda d: Given(d.file("a.json", {"images": []})), "a.json", "list", "as dist"
    ),
    Row(
        "datasets.coco_files.find_key",
        lambda d: Given(index_coco(d.file("a.json", COCO)).tables["annotations"], ["a_segm"], "amodal", d.folder),
        "",
        "looked for a_segm; the annotations have id, image_id",
        "add the key",
    ),
    Row(
        "datasets.coco_files.read_coco_files",
        lambda d: Given("x", d.folder, "val", [(index_coco(d.file("a.json", COCO | {"images": []})), d.folder)], FORM),
        "a.json",
        "annotation without image: 1",
        "Check",
    ),
    Row(
        "datasets.files.find_file",
        lambda d: Given(d.folder, ["a.json"], "x"),
        "a.json",
        "found: none",
        "root and split",
    ),
    Row(
        "datasets.files.parse_json", lambda d: Given(d.file("a.json", "[1,")), "a.json", "byte 3 of 3", "fetch it again"
    ),
    Row("datasets.files.read_json", lambda d: Given(d.file("a.json", "[]"), ["images"]), "a.json", "a list", "as dist"),
    Row("datasets.files.check_split", g("dev", ["train"], "x"), "split", "found 'dev'", "one of these"),
    Row(
        "datasets.json_index.index_json",
        lambda d: Given(d.file("a.json", '{"images": [1, 2'), {}),
        "a.json",
        "breaks at byte 16 of 16",
        "fetch it again",
    ),
    Row("datasets.json_index.index_json", lambda d: Given(d.folder, {}), "", "cannot be read", "Check the disk"),
    Row(
        "datasets.json_index.JsonIndex.record", lambda d: Given(d.changed_index(), "images", 0), "a.json", "changed", ""
    ),
    Row("datasets.json_index.JsonIndex.records", lambda d: Given(d.changed_index(), "images"), "a.json", "changed", ""),
    Row(
        "datasets.json_index.JsonFile.read", lambda d: Given(d.changed_index().file, [(0, 3)]), "a.json", "changed", ""
    ),
    Row("datasets.mask_files.image_size", lambda d: Given(d.file("a.png", "x")), "a.png", "decoded", "fetch it again"),
    Row("datasets.mask_files.read_mask_png", lambda d: Given(d.photo("a.png"), 6, 8), "a.png", r"\(40, 60\)", "fetch"),
    Row("datasets.mask_files.read_ids_png", lambda d: Given(d.photo("a.png"), 40, 60), "a.png", "found RGB", "fetch"),
    Row("datasets.mask_files.npz_shape", lambda d: Given(npz(d, a=MASK), "mask"), "a.npz", "without key mask", "fetch"),
    Row(
        "datasets.mask_files.npz_layers", lambda d: Given(npz(d, mask=MASK), "mask"), "a.npz", "must be uint8", "fetch"
    ),
    Row("datasets.mask_files.inside", lambda d: Given(d.folder, "../a"), "", "found '../a'", "as distributed"),
    Row(
        "datasets.plain_pickle.read_plain_pickle",
        lambda d: Given(d.file("a.pkl", b"cos\nsystem\n(S'echo'\ntR.")),
        "a.pkl",
        "forbidden global: os.system",
        "a pickle can run code",
    ),
    # collections
    Row("collection.open_dataset", lambda d: Given("kins", "val", d.paper), "kins", "must exist", "data/README.md"),
    Row(
        "collection.open_dataset",
        lambda d: Given("cocoa", "val", load_profile("mini", val_images=None)),
        "profile mini",
        "number of images",
        "train_images and val_images",
    ),
    Row(
        "collection.open_present", lambda d: Given({"kins": "val"}, d.paper), "raw", "at least one of kins", "download"
    ),
    Row("collection.open_clean_dataset", lambda d: Given("kins", "val", d.paper), "kins", "must exist", "README"),
    Row(
        "collection.open_clean_dataset",
        lambda d: Given("coco", "val", load_profile("mini", min_visible_pixels=99), d.coco()),
        "",
        "no object is left after cleaning: of 1",
        "CleaningConfig",
    ),
    Row("sources.load_sources", lambda d: Given(d.file("s.yaml", "a: [")), "s.yaml", "not valid YAML", "that line"),
    Row("sources.load_sources", lambda d: Given(d.file("s.yaml", "a: {}")), "s.yaml", "files is a list", "head", "a"),
    Row("downloads.download", g("lviss"), "name", "no source is called 'lviss'", "one of these"),
    Row("downloads.unpack", lambda d: Given(d.file("a.zip", "words"), d.folder / "x"), "a.zip", "damaged", "Delete it"),
    Row("miniature.draw_dataset", lambda d: Given("coco", d.folder, "val", 2), "name", "found 'coco'", "these names"),
    Row("miniature.draw_dataset", lambda d: Given("cocoa", d.folder, "val", 0), "images", "found 0", "one or more"),
    Row("miniature.draw_dataset", lambda d: Given("d2sa", d.folder, "dev", 2), "split", "found 'dev'", "one of these"),
    # SAMEO and what stands before it
    Row("sameo.Sameo.load", g("nanno"), "nanno", "must exist", "one of the names nano"),
    Row("sameo.Sameo.load", lambda d: Given(d.file("w.pt", "x")), "w.pt", "which variant", "variant="),
    Row("sameo.Sameo.save", lambda d: Given(d.nano, d.folder / "w.pt"), "w.pt", "'.pt'", "ending"),
    Row("sameo.Sameo.embed", lambda d: Given(d.nano, np.zeros((4, 4))), "image", r"float64 \(4, 4\)", "convert"),
    Row(
        "sameo.Sameo.predict", lambda d: Given(d.nano, PICTURE, [1, 2, 3, 4]), "boxes", r"found \(4,\)", "also for one"
    ),
    Row("sameo.Sameo.predict", lambda d: Given(d.nano, PICTURE, [[5, 5, 5, 9]]), "boxes", "x0 < x1", "xywh", "box 0"),
    Row("sameo.Sameo.predict", lambda d: Given(d.nano, PICTURE, [["a"] * 4]), "boxes", "numbers", "xyxy"),
    Row(
        "sameo.Sameo.predict", lambda d: Given(d.nano, PICTURE, [[1, 1, 9, 9]], [1, 2]), "scores", "one finite", "list"
    ),
    Row(
        "sameo.Sameo.predict_embedded",
        lambda d: Given(d.nano, torch.zeros(1, 3, 4, 4), (60, 90), [[1, 1, 9, 9]]),
        "embedding",
        r"found \(1, 3, 4, 4\)",
        "encode_images",
    ),
    Row(
        "sameo.Sameo.decode_embedded",
        lambda d: Given(d.nano, d.nano.embed(PICTURE), (60, 90), [1, 2, 3]),
        "boxes",
        r"\(1, 3\)",
        "xyxy|x0, y0",
    ),
    Row("front_ends.ground_truth_boxes", g("whole"), "kind", "found 'whole'", "visible, amodal"),
    Row("front_ends.jittered", g(None, 10), "share", "found 10", "0.1 for 10 per cent"),
    Row("boxes.boxes_in_pixels", g([[1, 2, 3]], (40, 60)), "boxes", r"found \(1, 3\)", "outer brackets"),
    Row("boxes.boxes_in_pixels", g("x", (40, 60)), "boxes", "found 'x'", "x0, y0, x1, y1"),
    Row("boxes.boxes_in_pixels", g([[1, 2, 9, 9]], (40, 60), "yolo"), "box_format", "found 'yolo'", "leave it out"),
    Row("boxes.boxes_in_pixels", g([[0, 0, 0.5, 1]], (40, 60)), "boxes", "nothing but numbers in 0..1", "normalised"),
    Row("boxes.boxes_in_pixels", g([[9, 9, 3, 12]], (40, 60), "xyxy"), "boxes", "x0 < x1", "upright", "box 0"),
    Row("boxes.read_box_file", lambda d: Given(d.folder / "b.json"), "b.json", "must exist", "Check the path"),
    Row("boxes.read_box_file", lambda d: Given(d.file("b.json", "{")), "b.json", "breaks at byte", "damaged"),
    Row("boxes.read_box_file", lambda d: Given(d.file("b.json", "{}")), "b.json", "images and annotations", "COCO"),
    Row(
        "boxes.read_box_file",
        lambda d: Given(d.file("b.json", [{"bbox": 1}])),
        "b.json",
        "image_id",
        "Corr",
        "result 0",
    ),
    Row(
        "boxes.BoxFile.detections",
        lambda d: Given(
            read_box_file(d.file("b.json", [{"image_id": 1, "bbox": [1, 1, 2, 2], "score": 7}])), "1", (9, 9)
        ),
        "b.json",
        "score in 0..1 .* found 7",
        "Correct the record",
        "image 1",
    ),
    Row(
        "inference.predict_dataset",
        lambda d: Given({}, plain_dataset(1), {}),
        "models",
        "at least one model",
        "Sameo.load",
    ),
    Row(
        "inference.check_same_encoder",
        lambda d: Given(d.nano, d.other_nano),
        "models",
        "two different",
        "by themselves",
    ),
    Row("onnx_export.export_onnx", lambda d: without(d, "onnx"), "onnx", "not installed", "pip install"),
    # photographs from end to end, exports
    Row("prediction.predict_photograph", lambda d: Given(d.nano, b"", []), "photograph.png", "0 bytes", "again"),
    Row(
        "prediction.predict_photographs",
        lambda d: Given(d.photo(), d.file("photo.json", []), d.folder),
        "",
        "photo.json would be overwritten",
        "another folder",
    ),
    Row(
        "prediction.predict_photographs",
        lambda d: Given(d.photo(), d.folder / "no.json", d.folder / "out"),
        "no.json",
        "must exist",
        "Check the path",
    ),
    Row("exports.to_coco", lambda d: Given([d.exported] * 2), "photographs", "ids are unique, 3", "once"),
    Row("exports.to_cvat", lambda d: Given([d.exported] * 2), "photographs", "ids are unique, 3", "once"),
    Row("exports.from_labelme", g({}), "labelme", "KeyError", "that labelme saved"),
    Row("exports.from_labelme", g({"imageHeight": "6", "imageWidth": 8, "shapes": []}), "labelme", "'6'", "Correct"),
    Row("exports.from_label_studio", g({}), "Label Studio", "found none", "leave it out"),
    Row("exports.from_label_studio", g([1]), "Label Studio", "not a task", '"JSON", not'),
    Row("exports.decode_brush", g([1, 2], 6, 8), "Label Studio", "ends before", "Export the task again"),
    Row("exports.decode_brush", g([0] * 9, 6, 8), "Label Studio", "0 values", "belong together"),
    Row("exports.decode_brush", g([1], -6, 8), "Label Studio", "-6", "Correct the size"),
    Row("exports.cut_outs", lambda d: Given(d.exported, "red"), "hidden", "found 'red'", "one of these"),
    Row("exports.write_exports", lambda d: Given([d.exported] * 2, d.folder), "", "different names", "Rename"),
    # evaluation
    Row("evaluation.evaluate_amodal", g({"images": []}, []), "ground_truth", "keys .'images'", "predictions second"),
    Row(
        "evaluation.evaluate_amodal", lambda d: Given(d.file("g.json", "{"), []), "g.json", "not complete JSON", "again"
    ),
    Row("evaluation.evaluate_amodal", g(COCO, {}), "predictions", "found a dict", "Give the list alone"),
    *(
        Row("evaluation.evaluate_amodal", g(COCO | {"images": [image]}, []), "ground_truth", rule, "COCO format", "0")
        for image, rule in (
            ({"id": [1], "height": 4, "width": 4}, "an id is a number"),
            ({"id": 1, "height": None, "width": 4}, "whole numbers"),
        )
    ),
    Row(
        "evaluation.evaluate_amodal",
        g(COCO | {"annotations": [OBJECT | {"iscrowd": "no"}]}, []),
        "ground_truth",
        "'iscrowd' is 0 or 1, found 'no'",
        "COCO format",
        "annotation 5",
    ),
    Row(
        "evaluation.evaluate_amodal", g(COCO, [{"image_id": 2}]), "predictions", "lacks", "COCO format", "prediction 0"
    ),
    Row(
        "evaluation.evaluate_amodal",
        g(COCO, [{"image_id": 2, "segmentation": RLE, "score": 1}]),
        "predictions",
        "image id 2 is none of",
        "the split",
        "prediction 0",
    ),
    Row(
        "evaluation.evaluate_amodal",
        g(COCO, [{"image_id": 1, "segmentation": RLE, "score": 1, "category_id": 0}], False),
        "predictions",
        "category id 0 is none",
        "0..79",
        "prediction 0",
    ),
    Row(
        "evaluation.evaluate_by_occlusion",
        g(COCO, [], buckets={"most": (50, 90)}),
        "buckets",
        r"found \(50, 90\)",
        "not per cent",
        "most",
    ),
    Row(
        "evaluation.evaluate_predictions", lambda d: Given(load_dataset("coco", d.coco()), []), "results", "found 0", ""
    ),
    Row("evaluation.region_table", lambda d: Given(load_dataset("coco", d.coco()), []), "results", "found 0", ""),
    Row("evaluation.worst_hidden", lambda d: Given(load_dataset("coco", d.coco()), []), "results", "found 0", ""),
    Row(
        "evaluation.region_iou", g(MASK, EMPTY, EMPTY), "predicted, amodal", "amodal mask is empty", "Leave", "object 0"
    ),
    Row("evaluation.evaluate_regions", g([MASK], [MASK], []), "predicted, amodal", "found 1 predicted, 1, 0", "Keep"),
    Row(
        "evaluation.evaluate_regions", g([MASK.T], [MASK], [MASK]), "predicted", "have one size", "original", "object 0"
    ),
    Row(
        "evaluation.RegionTable.at_quantiles", lambda d: Given(d.regions, "full", [0.5], 0.5), "least", "none", "Lower"
    ),
    Row("evaluation.RegionTable.summary", lambda d: Given(d.regions, {"a": (1, 0)}), "buckets", "found", "shares", "a"),
    # synthesis
    Row("synthesis.pool_of_profile", lambda d: Given(d.paper, "none.pt"), "lvis", "must exist", "data/README.md"),
    Row("synthesis.synthetic_set", lambda d: Given(d.paper, "none.pt"), "lvis", "must exist", "data/README.md"),
    Row("synthesis.Pool.load", lambda d: Given(d.file("p.npz", "x")), "p.npz", "not a pool", "collect"),
    Row("synthesis.Pool.load", lambda d: Given(d.folder / "p.npz"), "p.npz", "must exist", "Collect"),
    Row("synthesis.Pool.mask", lambda d: Given(d.damaged_pool, 0), "pool", "corrupt", "collect", "object 0"),
    Row("synthesis.Pool.cropped_mask", lambda d: Given(d.damaged_pool, 1), "pool", "corrupt", "collect", "object 1"),
    Row("synthesis.join_pools", g([]), "pools", "found none", "some data sets"),
    Row(
        "synthesis.collect_complete_objects",
        lambda d: Given(d.nano, load_dataset("coco", d.coco()), CompletenessConfig(), d.folder / "record"),
        "a.png",
        "image file must exist",
        "Download the images",
        "image 1",
    ),
    Row(
        "synthesis.completeness_curve", lambda d: Given(d.pool, {}), "hidden", "4 are missing", "Draw", "annotation 100"
    ),
    Row("synthesis.chosen_threshold", g([]), "curve", "a precision of at least 0.95", "better teacher"),
    Row(
        "synthesis.composition.check_curriculum",
        g(SynthesisConfig(rate_edges=(0.5, 0.2))),
        "synthesis",
        "ascending",
        "SynthesisConfig",
        "rate_edges",
    ),
    Row("synthesis.draw_pair", lambda d: Given(d.pool, IMPOSSIBLE, 0, 7), "pool", "no two of 4", "larger", "pair 7"),
    Row(
        "synthesis.ladder", lambda d: Given(d.pool, IMPOSSIBLE, 0, 7, [0.5]), "pool", "no two of 4", "larger", "pair 7"
    ),
    Row(
        "synthesis.compose",
        lambda d: Given(d.pool.moved({"lvis": d.folder}), draw_pair(d.pool, EASY, 0, 0), EASY),
        ".jpg",
        "source image must exist",
        "Fetch the data set again",
        "image ",
    ),
    Row("synthesis.measure_speed", lambda d: Given(d.pool, EASY, 0), "pairs", "found 0", "some tens"),
    Row("synthesis.synthesize", lambda d: Given(d.pool, d.folder / "out", 3), "images", "found 3", "Ask for 4"),
    Row("synthesis.synthesize", lambda d: Given(d.pool, d.folder / "out", 4, seed=-1), "seed", "found -1", "from 0"),
    Row(
        "synthesis.synthesize",
        lambda d: Given(d.pool, d.folder / "out", 4, shard=3),
        "shard",
        "shard 3 of None",
        "Give",
    ),
    Row(
        "synthesis.synthesize",
        lambda d: Given(d.pool, d.file("out").parent / "out", 4),
        "out",
        "cannot be written",
        "Free space or correct the rights",
    ),
    Row(
        "synthesis.shards.write_shard",
        lambda d: Given(d.folder, "train", 0, 1, {"pool": "x"}, EASY),
        "pool.npz",
        "must exist",
        "Collect",
    ),
    Row("synthesis.read_statistics", lambda d: Given(d.folder), "", "at least one shard", "Synthesise"),
    # training
    Row("training.fine_tune", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row("training.fine_tune_all", lambda d: Given([(d.paper, 0)]), "none.pt", "checkpoint must exist", "download"),
    Row("training.open_training_sets", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row("training.open_amodal_lvis", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row(
        "pretraining.pretrain",
        lambda d: Given(PretrainingConfig(), d.another_recipe()),
        "config.json",
        "belongs to one recipe",
        "another folder",
    ),
    # tables, notebooks, widgets
    Row("reporting.write_table", g("a", [], "mini"), "rows", "needs at least one row", "once there is a result"),
    Row("reporting.write_table", g("../a", [{"b": 1}], "mini"), "name", "found '../a'", "letters"),
    Row("reporting.write_table", g("a", [{"b": 1}, {"c": 1}], "mini"), "rows", "only some have b, c", "None", "row 1"),
    Row("reporting.read_table", lambda d: Given(d.folder / "a.csv"), "a.csv", "must exist", "Run the notebook"),
    Row("reporting.read_table", lambda d: Given(d.file("a.csv", "a,b\n1\n")), "a.csv", "found 1", "Correct", "row 0"),
    Row("reporting.read_table", lambda d: Given(d.file("a.csv", b"a\n\xff")), "a.csv", "read as CSV", "again"),
    Row(
        "reporting.read_table", lambda d: Given(d.file("a.csv", f"a\n{'1' * 2**18}")), "a.csv", "field larger", "again"
    ),
    Row("reporting.base.named_file", g("a/b", "mini", NOTEBOOKS), "name", "found 'a/b'", "letters"),
    Row("reporting.tables.cell_text", g([1], 3), "rows", r"found \[1\]", "Convert it"),
    Row(
        "reporting.objects.read_pixels",
        lambda d: Given(d.file("a.png", test_security.png_with_a_text_bomb())),
        "a.png",
        "an image that can be read: Decompressed data too large",
        "Fetch it again",
    ),
    Row("reporting.table_html", g([{"a": 1}], ["b"]), "columns", "found 'b'", "Choose from a"),
    Row("reporting.mean_interval", g([]), "values", "found none", "one value a seed"),
    Row("reproduction.find_notebooks", lambda d: Given(d.folder), "", "no numbered notebook", "notebooks/"),
    Row("reproduction.find_notebooks", g(NOTEBOOKS, ["99"]), "--notebook", "no notebook '99'", "Choose from 01"),
    Row(
        "reproduction.check_parameters",
        g(NOTEBOOKS / "05_zero_shot_evaluation.ipynb", {"colour": 1}),
        "05_zero",
        "no parameter 'colour'",
        "tagged 'parameters'",
    ),
    Row("reproduction.parameters_of", lambda d: Given(d.file("01_a.ipynb", "x")), "01_a", "readable notebook", "git"),
    Row("reproduction.reproduce", g("full"), "profile", "found 'full'", "one of these"),
    Row(
        "explorer.Explorer.__init__",
        lambda d: Given(SimpleNamespace(), {"a": d.nano, "b": d.other_nano}, load_profile()),
        "models",
        "two different",
        "by themselves",
    ),
    Row("playground.stages", lambda d: Given(plain_dataset(1), 3), "nowhere", "found 0", "Ask for fewer"),
]
EASY = SynthesisConfig()
IMPOSSIBLE = SynthesisConfig(max_enlargement=0.0)
FORM = CocoFormat()
PICTURE = np.zeros((60, 90, 3), np.uint8)


def visible_only():
    instance = plain_dataset(1)[0].instances[0]
    return (replace(instance, instance_id=1, amodal_rle=None),)


def builder(desk):
    return DatasetBuilder("x", desk.folder, "val", desk.folder / "a.json")


def npz(desk, **arrays):
    np.savez(desk.folder / "a.npz", **arrays)
    return desk.folder / "a.npz"


def without(desk, package):
    desk.monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    return Given(desk.nano, desk.folder)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


def function_of(name):
    """The function of a dotted name below sameo_core, whatever of it is module and class."""
    parts, found = name.split("."), sameo_core
    for i, part in enumerate(parts):
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(".".join(["sameo_core", *parts[: i + 1]]))
        found = getattr(found, part)
    return found


def holds(error, row):
    """All four parts are there, and say what the row says."""
    assert error.rule and error.remedy and error.file and error.file != "None"
    for part in ("file", "record", "rule", "remedy"):
        wanted, found = getattr(row, part), getattr(error, part) or ""
        assert re.search(wanted, found, re.DOTALL) if part != "file" else wanted in found, f"{part}: {found!r}"
    assert bool(row.record) <= bool(error.record)
    assert error.remedy[0].isupper() or error.remedy[0] in "`'", error.remedy
    assert len(str(error)) < 2000 and "\n" not in error.remedy


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.function}: {row.rule[:40]}")
def test_what_is_said(row, desk):
    given = row.give(desk)
    with pytest.raises(InputError) as caught:
        result = function_of(row.function)(*given.arguments, **given.options)
        list(result if inspect.isgenerator(result) else ())  # a generator begins when it is asked
    holds(caught.value, row)


# ------------------------------------------------------------------------------------------------------------ verbs


def words(*given):
    return lambda desk: [str(word(desk) if callable(word) else word) for word in given]


PHOTO, BOXES, OUT = (lambda d: d.photo()), (lambda d: d.file("b.json", [[1, 1, 9, 9]])), (lambda d: d.folder / "out")
VERB_ROWS = [
    ("reproduce", words("--notebook", "99"), "--notebook: there is no notebook '99'. Choose from 01"),
    ("reproduce", words("--notebook", "05", "x"), "--notebook: there is no notebook 'x'"),
    ("pretrain", words("--out", Desk.another_recipe), "belongs to one recipe"),
    ("download", words("lviss"), "name: no source is called 'lviss'"),
    ("download", words("lvis", "--root", lambda d: d.file("file")), "cannot be made"),
    (
        "synthesize",
        words("--out", OUT, "--pool", lambda d: d.folder / "no.npz"),
        "no.npz: the pool of complete objects",
    ),
    ("synthesize", words("--out", OUT, "--pool", lambda d: d.file("p.npz", "x")), "p.npz: not a pool of objects"),
    ("synthesize", words("--out", OUT, "--pool", "p", "--images", "3"), "images: an even number"),
    ("synthesize", words("--out", OUT, "--pool", "p", "--seed", "-1"), "seed: 0 or above"),
    ("synthesize", words("--out", OUT, "--pool", "p", "--shard", "2"), "shard: parts are numbered"),
    (
        "predict",
        words(lambda d: d.folder / "no.jpg", "--boxes", BOXES, "--out", OUT),
        "no.jpg: the photograph must exist",
    ),
    ("predict", words(PHOTO, "--boxes", lambda d: d.folder / "no.json", "--out", OUT), "file of boxes must exist"),
    ("predict", words(PHOTO, "--boxes", lambda d: d.file("b.json", "["), "--out", OUT), "b.json: not valid JSON"),
    ("predict", words(PHOTO, "--boxes", lambda d: d.file("b.json", [[1, 2]]), "--out", OUT), "n lists of 4 finite"),
    ("predict", words(PHOTO, "--boxes", BOXES, "--out", OUT, "--weights", "no.pt"), "no.pt: the weights must exist"),
    (
        "predict",
        words(PHOTO, "--boxes", BOXES, "--out", OUT, "--box-format", "yolo"),
        "box_format: a box format is one",
    ),
    ("predict", words(lambda d: d.folder, "--boxes", BOXES, "--out", OUT), "no photograph lies here"),
    ("train", words("--recipe", "none"), "a recipe is one of"),
    ("export-onnx", words("--weights", "no.pt", "--out", OUT), "no.pt: the weights must exist"),
]
VERBS_WITHOUT = {
    "datasets": "takes a choice of two, which argparse checks",
    "pretrain-detector": "takes numbers, which argparse checks; what lies in its folder: tests/test_nano_detector.py",
}


@pytest.mark.parametrize(("verb", "give", "said"), VERB_ROWS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_a_verb_says(verb, give, said, desk, capsys):
    given = give(desk)
    before = {path for path in desk.folder.rglob("*") if path.is_file()}
    assert main([verb, *given]) == 2
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if "\r" not in line and "%|" not in line]  # no progress bars
    assert len(lines) == 1 and lines[0].startswith("sameo_core: ") and said in lines[0], told
    assert "Traceback" not in told
    assert {path for path in desk.folder.rglob("*") if path.is_file()} == before, "nothing is written"


def test_every_verb_has_a_row():
    verbs = {add.__name__.removeprefix("add_").replace("_", "-") for add in VERBS}
    assert verbs == {verb for verb, *_ in VERB_ROWS} | set(VERBS_WITHOUT)


# ------------------------------------------------------------------------------------------------------ completeness

# Functions that promise an InputError and have no row: a pattern of their names, and why.
EXEMPT = {
    r"reporting\..*(figure_\w+|draw_object|gains|arm_differences|comparisons)": "takes what the package computed; its "
    "own tests hold what it refuses",
    r"reporting\..*(readme_results|update_readme)": "reads files of the repository",
    r"(run_folder|whole_files)\.\w+|.*\.write_(whole|json)": "refuses what the disk does: tests/test_faults.py",
}


NOT_YET = """
amodal_rcnn.load_amodal_rcnn
amodal_rcnn.train_amodal_rcnn
amodal_rcnn.train_all_amodal_rcnn
batches.set_probabilities
batches.BatchSampler.batch
boxes.check_records
config.read_overrides
detection_files.coco_results
detectors.LiveDetector.detect
detectors.load_detector
detectors.from_supervision
detectors.supervision_front_end
embedding_cache.EmbeddingCache.embed
evaluation.detection.evaluate
evaluation.occlusion.closed_bucket
evaluation.occlusion.occlusion_rates
evaluation.records.read_objects
evaluation.records.read_found
evaluation.records.known_categories
front_ends.check_scores
front_ends.map_categories
nano_detector.load_nano_detector
nano_detector.load_exactly
nano_detector.pretrain_detector
prediction.box_source
pretraining.claim_folder
recipes.recipe
recipes.ablation
reporting.claims.verdict
reporting.claims.claims_table
reporting.claims.paper_claims
reporting.comparison.covering_detections
reporting.comparison.worst_median_best
reporting.detections.detection_curves
reporting.published.read_published
reporting.published.paper_table
reporting.readme.readme_claims
reporting.statistics.method_differences
reporting.statistics.calibration
reporting.statistics.over_seeds
reporting.style.series
reporting.tables.save_table
sam_decoder.SamDecoder.encode_images
sam_decoder.build_sam_decoder
sameo.Sameo.stretch
sameo.Sameo.predict_in_passes
sameo.check_image
""".split()  # refusals that their own tests hold, tests/test_<module>.py, and that have no row here yet


def public_functions():
    """Every public function and method of the package: dotted name below sameo_core -> the function."""
    for module in pkgutil.walk_packages(sameo_core.__path__, "sameo_core."):
        if module.name.endswith("__main__"):
            continue
        for name, thing in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.name:
                continue
            place = f"{module.name.removeprefix('sameo_core.')}.{name}"
            if inspect.isclass(thing):
                for inner, method in vars(thing).items():
                    method = inspect.unwrap(getattr(method, "__func__", method))
                    if inspect.isfunction(method) and (inner == "__init__" or not inner.startswith("_")):
                        yield f"{place}.{inner}", method
            elif callable(thing):
                yield place, inspect.unwrap(thing)


def promises(function):
    return "InputError" in (inspect.getdoc(function) or "") and function.__name__ != "_error"


def test_every_function_that_promises_an_error_has_a_row():
    covered = {inspect.unwrap(getattr(f, "__func__", f)) for f in (function_of(row.function) for row in ROWS)}
    promising = {name: function for name, function in public_functions() if promises(function)}
    assert len(promising) > 100
    missing = [
        name
        for name, function in promising.items()
        if function not in covered
        and name not in NOT_YET
        and not any(re.fullmatch(pattern, name) for pattern in EXEMPT)
    ]
    assert missing == [], "add a row for each, or a pattern to EXEMPT with the reason"


def test_every_exemption_is_needed():
    covered = {row.function for row in ROWS}
    for pattern in EXEMPT:
        found = [name for name, function in public_functions() if promises(function) and re.fullmatch(pattern, name)]
        assert found and not covered & set(found), pattern


def test_the_public_names_have_rows():
    """What `from sameo_core import ...` offers, except types."""
    covered = {row.function for row in ROWS}
    for name in ("load_profile", "build_efficient_sam", "load_dataset", "evaluate_amodal"):
        assert f"{sameo_core._PUBLIC[name]}.{name}" in covered
    assert {"sameo.Sameo.load", "sameo.Sameo.predict"} <= covered and len(ROWS) + len(VERB_ROWS) >= 60


def test_an_error_cannot_be_made_without_its_parts():
    for parts in ({"file": "a", "rule": "b"}, {"file": "a", "remedy": "b"}, {"rule": "a", "remedy": "b"}):
        with pytest.raises(TypeError):
            InputError(**parts)
    assert str(InputError(file="a.json", record="box 3", rule="b.", remedy="Do c.")) == "a.json, box 3: b. Do c."


def test_a_pool_is_still_a_pool(desk):
    """The desk gives good things, too: what the rows spoil works when it is not spoilt."""
    assert len(Pool.load(desk.pool.save(desk.folder / "p.npz"))) == 4
    assert len(load_dataset("coco", desk.coco()).census()) == 1
    assert evaluate_regions([MASK], [MASK], [MASK]).full.tolist() == [1.0]
