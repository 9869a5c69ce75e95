"""Bad input to networks, front-ends, metrics, tables and pages: what is called, what is given, what is named.

What is named: words of the error's file or argument, and of its record where it has one.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from bad_input_desk import (
    BOX,
    COCO,
    EMBEDDING,
    EMPTY,
    FLAT,
    FRAME,
    IMAGE,
    MASK,
    PICTURE,
    PREDICTION,
    RLE,
    TENSOR,
    Given,
    absent,
    annotated,
    foreign_weights,
    found,
    g,
    holding,
    one_stage,
    png_with_a_text_bomb,
    points,
    results,
    table,
    unmade,
    visible_results,
    without_package,
    without_weights,
)
from conftest import plain_dataset

from sameo_core.apps.explorer import Explorer
from sameo_core.apps.pages import DatasetExplorer, Playground
from sameo_core.config import NOTEBOOKS, load_profile
from sameo_core.evaluation.records import read_found, read_objects
from sameo_core.front_ends import load_detector
from sameo_core.front_ends.boxes import read_box_file
from sameo_core.model.sam import OnnxEncoder
from sameo_core.reporting.committed import README_METRICS, README_PICTURE
from sameo_core.reproduction import NotebookRun

EMPTY_BOX, BAD_SIZES = torch.zeros(1, 1, 4), (None, (6,), (6.5, 9), ("a", "b"))
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
IDS = np.array([3, 3])
OURS = {"front-end": "a", "method": "b", "data set": "cocoa", "seed": 0, "AP": 0.5}
MINE, OTHER_SEED = ("a", "b"), OURS | {"method": "c", "seed": 4}
SEED = {"model": "a", "seed": 0, "bucket": "0-10 %", "AP": 0.5}
DIFFERENCES = "metric,data set,front-end,method,baseline,difference,ci_low,ci_high,seeds"
GAINS = "metric,prompt,data set,before,after,gain,ci_low,ci_high\n"
MARKS = "<!-- results -->\n<!-- /results -->\n"
NOTEBOOK_05 = NOTEBOOKS / "05_zero_shot_evaluation.ipynb"
RUN = [NotebookRun("01")]


def clicks(desk):
    return Given(desk.nano.model.prompt_encoder, torch.zeros(1, 1, 2), torch.zeros(1, 1), 256)


def no_supervision(desk):
    return without_package(desk, "supervision", print, "ultralytics")


def flat_box(desk):
    return Given(desk.nano.model, EMBEDDING, torch.tensor([FLAT]), FRAME)


def scored_boxes(desk):
    record = {"image_id": 1, "bbox": [1, 1, 2, 2], "score": 7}
    return Given(read_box_file(desk.file("b.json", [record])), "1", (9, 9))


def foreign_category():
    found = read_found([PREDICTION | {"category_id": 7}], {1: (0, 6, 8)}, True)
    return read_objects(annotated(visible_mask=None), True), found


def differences(text):
    return lambda desk: Given(table(desk, "zero_shot_differences", text))


def gains(text):
    return lambda desk: Given(table(desk, "zero_shot_gains", text))


def readme(desk, text, figure=None):
    """README, a good table, and a figure or none."""
    lines = (f"{metric},visible boxes,cocoa_cls,1,1,1,1,1\n" for metric in README_METRICS)
    folder = table(desk, "zero_shot_gains", GAINS + "".join(lines))
    return Given(desk.file("README.md", text), folder, folder if figure is None else figure.parent)


CASES = [
    # networks
    ("model.build_efficient_sam", g("huge"), "variant"),
    ("model.build_efficient_sam", lambda d: Given("nano", d.file("w.pt", "words")), "w.pt"),
    ("model.checkpoints.read_weights", absent("w.pt"), "w.pt"),
    ("model.EfficientSam.encode_images", lambda d: Given(d.nano.model, torch.full((1, 3, 4, 4), 255.0)), "images"),
    ("model.EfficientSam.decode_boxes", flat_box, "boxes", "image 0, box 0"),
    ("model.efficient_sam.check_boxes", g(EMBEDDING, EMPTY_BOX, (0, 9), 128), "image_size"),
    ("model.sameo_loss", g(TENSOR, torch.zeros(1, 2), TENSOR + 255), "target"),
    ("model.checkpoints.read_weights", g(None), "checkpoint"),
    ("model.efficient_sam.check_embedding", g(torch.zeros(1, 9), (6, 9), 128), "embedding"),
    ("model.efficient_sam.check_boxes", g(None, None, (6, 9), 128), "embedding"),
    *(("model.efficient_sam.check_boxes", g(EMBEDDING, EMPTY_BOX, size, 128), "image_size") for size in BAD_SIZES),
    ("model.sam.build_sam_decoder", absent("s.pt"), "s.pt"),
    ("model.sam.build_sam_decoder", g(5), "checkpoint"),
    ("model.sam.build_sam_decoder", foreign_weights, "w.safetensors", "prompt_encoder"),
    ("model.EfficientSam.decode_points", points([[5.0, 61]]), "points", "image 0, point 0"),
    ("model.EfficientSam.decode_points", points([[5.0, 5], [np.nan, 5]]), "points", "image 0, point 1"),
    ("model.EfficientSam.decode_points", points([5.0, 5]), "points"),
    ("model.EfficientSam.decode_points", points([[5.0, 5]], torch.tensor([[2]])), "labels"),
    ("model.EfficientSam.decode_points", points([[5.0, 5]], torch.tensor([[0]])), "labels"),
    ("model.box_decoder.PromptEncoder.clicks", clicks, "labels"),
    ("model.efficient_sam.check_images", g(TENSOR), "images"),
    ("model.sameo.build_model", g("nano", None, "e.onnx"), "e.onnx"),
    ("model.efficient_sam.check_points", g(None, None, (6, 9), 128), "embedding"),
    ("model.sam.OnnxEncoder.__init__", lambda d: unmade(OnnxEncoder, d.folder / "no.onnx"), "no.onnx"),
    ("model.sam.OnnxEncoder.__init__", lambda d: unmade(OnnxEncoder, d.file("e.onnx", "words")), "e.onnx"),
    ("model.sam.convert_decoder", lambda d: Given(d.file("d.onnx", "words"), d.folder / "out.safetensors"), "d.onnx"),
    ("model.sam.SamDecoder.encode_images", g(SimpleNamespace(encoder=None), TENSOR), "images"),
    ("miniature.nano_detector.load_nano_detector", absent("d.pt"), "d.pt"),
    ("miniature.nano_detector.load_nano_detector", g(5), "checkpoint"),
    ("miniature.nano_detector.load_nano_detector", foreign_weights, "w.safetensors", "backbone"),
    ("model.checkpoints.load_exactly", g(torch.nn.Linear(1, 2), {"weight": TENSOR}, Path("w.pt")), "w.pt", "weight"),
    ("model.checkpoints.load_exactly", g(torch.nn.Identity(), {"more": torch.zeros(1)}, Path("w.pt")), "w.pt", "more"),
    ("front_ends.amodal_rcnn.load_amodal_rcnn", absent("r.pt"), "r.pt"),
    ("front_ends.amodal_rcnn.load_amodal_rcnn", g(None), "checkpoint"),
    ("front_ends.amodal_rcnn.load_amodal_rcnn", g("r.pt", "yolo"), "rcnn_detector"),
    # SAMEO and what stands before it
    ("model.Sameo.load", g("nanno"), "nanno"),
    ("model.Sameo.load", holding("w.pt", "x"), "w.pt"),
    ("model.Sameo.save", lambda d: Given(d.nano, d.folder / "w.pt"), "w.pt"),
    ("model.Sameo.embed", lambda d: Given(d.nano, np.zeros((4, 4))), "image"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [1, 2, 3, 4]), "boxes"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, FLAT), "boxes", "box 0"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [["a"] * 4]), "boxes"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, BOX, [1, 2]), "scores"),
    ("model.Sameo.predict_embedded", lambda d: Given(d.nano, TENSOR, FRAME, BOX), "embedding"),
    ("model.Sameo.predict_embedded", lambda d: Given(d.nano, torch.cat([EMBEDDING] * 2), FRAME, BOX), "embedding"),
    ("model.Sameo.decode_embedded", lambda d: Given(d.nano, EMBEDDING, FRAME, [1, 2, 3]), "boxes"),
    ("model.sameo.check_image", g("a.png"), "image"),
    ("model.sameo.check_image", g(np.zeros((4, 4, 4), np.uint8)), "image"),
    ("model.Sameo.embed", lambda d: Given(d.nano, np.full((4, 4, 3), np.nan)), "image"),
    ("model.Sameo.embed", lambda d: Given(d.nano, PICTURE[:0]), "image"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, BOX, ["a"]), "scores"),
    ("model.Sameo.predict_in_passes", lambda d: Given(d.nano, EMBEDDING, FRAME, BOX + FLAT), "boxes", "box 1"),
    ("model.Sameo.predict_in_passes", lambda d: Given(d.nano, EMBEDDING, FRAME, BOX, [np.nan]), "scores"),
    ("model.Sameo.predict_in_passes", lambda d: Given(d.nano, None, (6, 9), []), "embedding"),
    ("front_ends.base.check_scores", g(np.array([0.5, 80.0]), "d.json"), "d.json", "detection 1"),
    ("front_ends.base.check_scores", g(np.array([-3.0]), "d.json"), "d.json", "detection 0"),
    ("front_ends.base.check_scores", g(np.array([np.nan]), "d.json"), "d.json", "detection 0"),
    ("front_ends.base.check_limits", g(50), "min_score"),
    ("front_ends.base.check_limits", g(float("nan")), "min_score"),
    ("front_ends.base.check_limits", g(0.5, -1), "max_per_image"),
    ("front_ends.base.map_categories", g(IDS, "coco80", "d.json"), "category_map"),
    ("front_ends.base.map_categories", g(IDS, 5, "d.json"), "category_map"),
    ("front_ends.base.map_categories", g(IDS, {3: "cup"}, "d.json"), "category_map", "3"),
    ("front_ends.base.map_categories", g(IDS, {1: 1}, "d.json"), "d.json"),
    ("front_ends.base.map_categories", g(IDS + 80, "coco80_to_91", "d.json"), "d.json"),
    ("datasets.files.check_records", g("b.json", [{"a": 1}, {}], "row", {"a": int}), "b.json", "row 1"),
    ("datasets.files.check_records", g("b.json", [None], "row", {"a": int}), "b.json", "row 0"),
    ("front_ends.coco_results", results({}), "results"),
    ("front_ends.coco_results", results([{}]), "results", "result 0"),
    ("front_ends.coco_results", results([{"score": 7}]), "results", "detection 0"),
    ("front_ends.coco_results", results([{"category_id": 9}]), "results"),
    ("front_ends.coco_results", results([{"image_id": "no"}]), "results"),
    ("front_ends.coco_results", results([{"bbox": [1, 2]}]), "results", "result 0"),
    ("front_ends.coco_results", results([{"segmentation": 5}]), "results", "result 0"),
    ("front_ends.coco_results", results([{}, {"segmentation": RLE}]), "results", "result 0"),
    ("front_ends.coco_results", results([{}], box_format="yolo"), "box_format"),
    ("front_ends.coco_results", results([{}], min_score="high"), "min_score"),
    ("front_ends.coco_results", results([{}], max_per_image=None), "max_per_image"),
    ("front_ends.coco_results", results([{}], category_map={1: 1.5}), "category_map", "1"),
    ("front_ends.coco_results", lambda d: Given(d.folder / "r.json", d.small()), "r.json"),
    ("front_ends.coco_results", lambda d: Given(d.file("r.json", "["), d.small()), "r.json"),
    ("front_ends.load_detector", g("nanno"), "detector"),
    ("front_ends.load_detector", g("everything", "no.pt"), "no.pt"),
    ("front_ends.EverythingDetector.__init__", lambda d: Given(SimpleNamespace(), d.nano), "model"),
    ("front_ends.EverythingDetector.detect", g(SimpleNamespace(), "a.png"), "image"),
    ("front_ends.box_from_point", lambda d: Given(d.nano, EMBEDDING, FRAME, (91, 5)), "points", "point 0"),
    ("front_ends.load_detector", g(None), "detector"),
    ("front_ends.load_detector", g(SMALL, "COCO_V9"), "detector weights"),
    ("front_ends.load_detector", lambda d: Given(SMALL, d.folder / "x.pt"), "x.pt"),
    ("front_ends.load_detector", g("nano", categories={"cup": 1}), "categories"),
    ("front_ends.boxes.record_boxes", g("b.json", [{}], "result"), "b.json", "result 0"),
    ("front_ends.load_detector", g("nano", min_score=50), "min_score"),
    ("front_ends.load_detector", lambda d: Given(SMALL, *foreign_weights(d).arguments), "w.safetensors"),
    ("front_ends.live.LiveDetector.detect", lambda d: Given(load_detector(), "a.png"), "image"),
    ("front_ends.from_supervision", found(xyxy=None), "detections"),
    ("front_ends.from_supervision", found(xyxy=[[1, 2, 3]]), "detections"),
    ("front_ends.from_supervision", found(xyxy="boxes"), "detections"),
    ("front_ends.from_supervision", found(xyxy=np.full((2, 4), np.nan)), "detections"),
    ("front_ends.from_supervision", found(confidence=[0.5]), "detections"),
    ("front_ends.from_supervision", found(class_id=["cup", "mug"]), "detections"),
    ("front_ends.from_supervision", found(mask=np.zeros((1, 4, 4))), "detections"),
    ("front_ends.from_supervision", g({}), "detections"),
    ("front_ends.from_supervision", found({2: 1}), "detections"),
    ("front_ends.supervision_front_end", g(print, max_per_image=-1), "max_per_image"),
    ("front_ends.supervision_front_end", no_supervision, "supervision"),
    ("front_ends.ground_truth_boxes", g("whole"), "kind"),
    ("front_ends.jittered", g(None, 10), "share"),
    ("model.boxes.boxes_in_pixels", g([[1, 2, 3]], (40, 60)), "boxes"),
    ("model.boxes.boxes_in_pixels", g("x", (40, 60)), "boxes"),
    ("model.boxes.boxes_in_pixels", g([[1, 2, 9, 9]], (40, 60), "yolo"), "box_format"),
    ("model.boxes.boxes_in_pixels", g([[0, 0, 0.5, 1]], (40, 60)), "boxes"),
    ("model.boxes.check_format", g("yolo"), "box_format"),
    ("model.boxes.check_plausible", g(np.array(FLAT, np.float32), FRAME, "xyxy", "b.json"), "b.json", "box 0"),
    ("front_ends.boxes.record_mask", g({"segmentation": 5}, (4, 6), "b.json", "result 1"), "b.json", "result 1"),
    ("model.boxes.boxes_in_pixels", g([[9, 9, 3, 12]], (40, 60), "xyxy"), "boxes", "box 0"),
    ("front_ends.boxes.read_box_file", absent("b.json"), "b.json"),
    ("front_ends.boxes.read_box_file", holding("b.json", "{"), "b.json"),
    ("front_ends.boxes.read_box_file", holding("b.json", "{}"), "b.json"),
    ("front_ends.boxes.read_box_file", holding("b.json", [{"bbox": 1}]), "b.json", "result 0"),
    ("front_ends.boxes.BoxFile.detections", scored_boxes, "b.json, image 1", "detection 0"),
    ("front_ends.predict_dataset", lambda d: Given({}, plain_dataset(1), {}), "models"),
    ("front_ends.check_same_encoder", lambda d: Given(d.nano, d.other_nano), "models"),
    ("model.onnx.export_onnx", lambda d: without_package(d, "onnx", d.nano, d.folder), "onnx"),
    # photographs from end to end, exports
    ("apps.predict.default_weights", without_weights, "encoder.onnx"),
    ("apps.predict.box_source", g("b.json", "nano"), "boxes"),
    ("apps.predict.box_source", g("b.json", None, "w.pt"), "detector weights"),
    ("apps.predict.box_source", g(None, "nano", None, 50), "min_score"),
    ("apps.predict.predict_photographs", g("a", "b", "c", min_score=50), "min_score"),
    ("apps.predict.predict_photographs", lambda d: Given(d.photo(), d.boxes(), d.file("out"), "nano"), "out"),
    ("apps.predict.write_json", lambda d: Given([], d.file("a") / "b.json"), "a"),
    ("model.onnx.export_onnx", lambda d: Given(d.nano, d.file("out")), "out"),
    ("apps.predict.predict_photograph", lambda d: Given(d.nano, b"", []), "photograph.png"),
    ("apps.predict.predict_photographs", lambda d: Given(d.photo(), d.file("photo.json", []), d.folder), ""),
    ("apps.predict.predict_photographs", lambda d: Given(d.photo(), d.folder / "no.json", d.folder / "out"), "no.json"),
    ("apps.exports.to_coco", lambda d: Given([d.exported] * 2), "photographs"),
    ("apps.exports.to_cvat", lambda d: Given([d.exported] * 2), "photographs"),
    ("apps.exports.from_labelme", g({}), "labelme"),
    ("apps.exports.from_labelme", g({"imageHeight": "6", "imageWidth": 8, "shapes": []}), "labelme"),
    ("apps.exports.from_label_studio", g({}), "Label Studio"),
    ("apps.exports.from_label_studio", g([1]), "Label Studio"),
    ("apps.exports.write_exports", lambda d: Given([d.exported] * 2, d.folder), ""),
    # evaluation
    ("evaluation.evaluate_amodal", g({"images": []}, []), "ground_truth"),
    ("evaluation.evaluate_amodal", lambda d: Given(d.file("g.json", "{"), []), "g.json"),
    ("evaluation.evaluate_amodal", g(COCO, {}), "predictions"),
    ("evaluation.evaluate_amodal", g(COCO | {"images": [IMAGE | {"id": [1]}]}, []), "ground_truth", "0"),
    ("evaluation.evaluate_amodal", g(COCO | {"images": [IMAGE | {"height": None}]}, []), "ground_truth", "0"),
    ("evaluation.evaluate_amodal", g(annotated(iscrowd="no"), []), "ground_truth", "annotation 5"),
    ("evaluation.evaluate_amodal", g(COCO, [{"image_id": 2}]), "predictions", "prediction 0"),
    ("evaluation.evaluate_amodal", g(COCO, [PREDICTION | {"image_id": 2}]), "predictions", "prediction 0"),
    ("evaluation.evaluate_amodal", g(COCO, [PREDICTION | {"category_id": 0}], False), "predictions", "prediction 0"),
    ("evaluation.evaluate", g(COCO, [], buckets={"most": (50, 90)}), "buckets", "most"),
    ("evaluation.evaluate_predictions", lambda d: Given(d.small(), []), "results"),
    ("evaluation.region_table", lambda d: Given(d.small(), []), "results"),
    ("evaluation.region_table", visible_results, "data set", "instance 1"),
    ("evaluation.worst_hidden", visible_results, "data set", "instance 1"),
    ("evaluation.region_iou", g(MASK, EMPTY, EMPTY), "predicted, amodal", "object 0"),
    ("evaluation.evaluate_regions", g([MASK], [MASK], []), "predicted, amodal"),
    ("evaluation.evaluate_regions", g([MASK.T], [MASK], [MASK]), "predicted", "object 0"),
    ("evaluation.RegionTable.at_quantiles", lambda d: Given(d.regions, "full", [0.5], 0.5), "least"),
    ("evaluation.RegionTable.summary", lambda d: Given(d.regions, {"a": (1, 0)}), "buckets", "a"),
    ("evaluation.evaluate", g({"images": []}, []), "ground_truth"),
    ("evaluation.evaluate", g(COCO, [], True, {"a": ("x", 1)}), "buckets", "a"),
    ("evaluation.evaluate", g(COCO, [PREDICTION | {"score": np.nan}]), "predictions", "prediction 0"),
    ("evaluation.regions.closed_bucket", g("most", 50, 90), "buckets", "most"),
    ("evaluation.regions.closed_bucket", g("most", None, 1), "buckets", "most"),
    ("evaluation.regions.occlusion_rates", g(read_objects(annotated(visible_mask=None), True)), "ground_truth", "5"),
    ("evaluation.records.read_objects", g(None, True), "ground_truth"),
    ("evaluation.records.read_objects", g(annotated(visible_mask=5), True), "ground_truth", "annotation 5"),
    ("evaluation.records.read_objects", g(COCO | {"categories": 5}, True), "ground_truth"),
    ("evaluation.records.read_objects", g(COCO | {"categories": [5]}, True), "ground_truth", "0"),
    ("evaluation.records.read_objects", g(COCO | {"categories": [{}]}, True), "ground_truth", "0"),
    ("evaluation.records.read_found", g("no.json", {}, True), "no.json"),
    ("evaluation.records.read_found", g([None], {}, True), "predictions", "prediction 0"),
    ("evaluation.records.known_categories", g(*foreign_category()), "predictions", "prediction 0"),
    # tables, notebooks, widgets
    ("reporting.write_table", g("a", [], "mini"), "rows"),
    ("reporting.write_table", g("../a", [{"b": 1}], "mini"), "name"),
    ("reporting.write_table", g("a", [{"b": 1}, {"c": 1}], "mini"), "rows", "row 1"),
    ("reporting.write_table", g("a", [{"b": 1}], "mini"), "rows"),
    ("reporting.read_table", absent("a.csv"), "a.csv"),
    ("reporting.read_table", holding("a.csv", "a,b\n1\n"), "a.csv", "row 0"),
    ("reporting.read_table", holding("a.csv", b"a\n\xff"), "a.csv"),
    ("reporting.read_table", holding("a.csv", f"a\n{'1' * 2**18}"), "a.csv"),
    ("reporting.style.named_file", g("a/b", "mini", NOTEBOOKS), "name"),
    ("reporting.tables.cell_text", g([1], 3), "rows"),
    ("reporting.objects.read_pixels", holding("a.png", png_with_a_text_bomb()), "a.png"),
    ("reporting.table_html", g([{"a": 1}], ["b"]), "columns"),
    ("reporting.mean_interval", g([]), "values"),
    ("reporting.style.write_whole", lambda d: Given(d.file("a") / "b", b""), "a"),
    ("reporting.tables.save_table", g(None, "../a", "mini"), "name"),
    ("reporting.tables.save_table", g(None, None, "mini"), "name"),
    ("reporting.tables.save_table", g(None, "a", "full"), "profile"),
    ("reporting.style.series", g("abcdefghijklmnopqrstuvwxyz"), "names"),
    ("reporting.paper_claims", differences("metric,difference\nAP,0.1\n"), "zero_shot_differences.csv"),
    ("reporting.paper_claims", differences(f"{DIFFERENCES}\n{'0,' * 8}0\n"), "zero_shot"),
    ("reporting.read_published", g("none"), "table"),
    ("reporting.paper_table", g([OURS | {"AP": 50}], [], "mini", "t"), "ours", "b"),
    ("reporting.paper_table", g([OURS | {"AP": "high"}], [], "mini", "t"), "ours", "b"),
    ("reporting.method_differences", g([OURS], ("a", "c"), {}, ["AP"]), "rows", "cocoa"),
    ("reporting.method_differences", g([OURS, OTHER_SEED], MINE, {"x": ("a", "c")}, ["AP"]), "rows", "c"),
    ("reporting.statistics.over_seeds", g([SEED, SEED], "bucket", "AP"), "rows", "row 1"),
    ("reporting.readme_results", lambda d: Given(d.folder), "gains.csv"),
    ("reporting.readme_results", gains(GAINS), "gains.csv"),
    ("reporting.readme_photographs", lambda d: Given(d.folder), "gains.csv"),
    ("reporting.readme_claims", lambda d: Given(d.folder), "claims.csv"),
    ("reporting.update_readme", absent("R.md"), "R.md"),
    ("reporting.update_readme", lambda d: readme(d, "no marks"), "README.md"),
    ("reporting.update_readme", lambda d: readme(d, MARKS, d.file(README_PICTURE, "words")), README_PICTURE),
    ("reproduction.notebooks.find_notebooks", lambda d: Given(d.folder), ""),
    ("reproduction.notebooks.find_notebooks", g(NOTEBOOKS, ["99"]), "--notebook"),
    ("reproduction.notebooks.check_parameters", g(NOTEBOOK_05, {"colour": 1}), "05_zero"),
    ("reproduction.notebooks.parameters_of", holding("01_a.ipynb", "x"), "01_a"),
    ("reproduction.reproduce", g("full"), "profile"),
    ("reproduction.report.write_report", lambda d: Given(RUN, "mini", "", (), d.file("a") / "r.html"), "a"),
    ("apps.explorer.Explorer.__init__", lambda d: unmade(Explorer, d.two, {}), "models"),
    ("apps.pages.DatasetExplorer.__init__", lambda d: unmade(DatasetExplorer, d.two, load_profile(), {}), "models"),
    ("apps.pages.Playground.__init__", lambda d: unmade(Playground, d.two, {"a": one_stage()}, "mini"), "models"),
    ("apps.playground.occlusion_curve", lambda d: Given(d.two, [one_stage()], [0.5]), "models"),
    ("apps.playground.photograph_models", without_weights, "photo_base"),
    ("apps.playground.compare_moment", lambda d: Given(one_stage().at(4), d.two), "models"),
    ("apps.playground.sample_path", g("lena"), "photograph"),
    ("apps.playground.sample_photograph", g("lena"), "photograph"),
    ("apps.playground.stages", lambda d: Given(plain_dataset(1), 3), "nowhere"),
]
