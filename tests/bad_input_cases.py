"""Bad input to public functions: what is called, what is given, and words of the error's file (or argument) and record.

One case a function. The many ways in which a file or an argument can be wrong stand in the tests of each module.
"""

from dataclasses import replace
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
    MASK,
    OBJECT,
    PICTURE,
    PREDICTION,
    RLE,
    Given,
    absent,
    g,
    holding,
    one_stage,
    reader_of,
    unmade,
    visible_set,
    without_weights,
)
from conftest import plain_dataset
from test_exports import PHOTO

from sameo_core.apps.explorer import Explorer
from sameo_core.apps.pages import DatasetExplorer, Playground
from sameo_core.config import CompletenessConfig, SynthesisConfig, load_profile
from sameo_core.datasets import READERS
from sameo_core.evaluation import evaluate_regions
from sameo_core.masks import encode_mask
from sameo_core.reproduction import NotebookRun
from sameo_core.synthesis import draw_pair
from sameo_core.training import BatchSampler

ANY = CompletenessConfig(min_frame_gap=0, min_object_pixels=1, min_core_share=0.0, min_largest_part=0.0)
EASY, IMPOSSIBLE = SynthesisConfig(), SynthesisConfig(max_enlargement=0.0)
REGIONS = evaluate_regions([MASK], [MASK], [MASK])
NOTHING_VISIBLE = OBJECT | {"visible_mask": None}
STRICT = load_profile("mini", min_visible_pixels=99)
OURS = {"front-end": "a", "method": "b", "data set": "cocoa", "seed": 0, "AP": 0.5}
RUN = [NotebookRun("01")]
MINE, OTHER_SEED = ("a", "b"), OURS | {"method": "c", "seed": 4}


def sampler(desk):
    """Of a data set whose one image is not there."""
    return BatchSampler([desk.small()], desk.cache(), load_profile("mini", batch_images=1).training, 64, 0)


def visible_object(desk):
    return Given(visible_set(desk)[0].instances[0])


def any_object(desk):
    return Given(desk.nano, desk.small(), ANY, desk.folder / "record")


def moved_pool(desk):
    return Given(replace(desk.pool, root=np.array([str(desk.folder)])), draw_pair(desk.pool, EASY, 0, 0), EASY)


def point(position):
    """A point in an image of 60 x 90 pixels."""
    return lambda desk: Given(desk.nano.model, EMBEDDING, torch.tensor([[position]]), FRAME)


def short_box(desk):
    return Given([{"image_id": 1, "category_id": 1, "bbox": [1, 2], "score": 0.5}], desk.small())


def no_supervision(desk):
    desk.uninstall("supervision")
    return Given(print, "ultralytics")


def no_onnx(desk):
    desk.uninstall("onnx")
    return Given(desk.nano, desk.folder)


def no_metrics(desk):
    """A table of gains with nothing in it."""
    return Given(desk.file("zero_shot_gains.csv", "metric,prompt,data set,before,after,gain,ci_low,ci_high\n").parent)


def no_intervals(desk):
    return Given(desk.file("zero_shot_differences.csv", "metric,difference\nAP,0.1\n").parent)


CASES = [
    ("config.load_profile", g("mini", iterations="3"), "profile mini", "iterations"),
    ("config.read_overrides", g(["iterations"]), "--override"),
    ("config.recipe", g("mix_9", load_profile()), "profile mini", "train"),
    ("config.ablation", g("prompts", load_profile()), "question"),
    # masks
    ("masks.decode_segmentation", g([1, 2, 3, 4], 6, 8), "segmentation", "polygon 0"),
    ("masks.segmentation_to_rle", g(RLE, 8, 6), "segmentation", "RLE"),
    ("masks.decode_rle", g({"size": [6, 8], "counts": "=4"}), "segmentation", "RLE"),
    ("masks.mask_box", g(EMPTY), "mask"),
    ("masks.mask_iou", g(MASK, MASK.T), "masks"),
    ("masks.occlusion_rate", g(EMPTY, MASK), "amodal"),
    ("masks.union_rle", g([]), "masks"),
    ("masks.intersect_rle", g([RLE, encode_mask(MASK.T)]), "masks"),
    # networks
    ("model.build_efficient_sam", g("huge"), "variant"),
    ("model.checkpoints.read_weights", absent("w.pt"), "w.pt"),
    ("model.EfficientSam.decode_points", point([5.0, 61]), "points"),
    ("model.sameo_loss", g(torch.zeros(1, 2, 4, 4), torch.zeros(9), torch.zeros(1, 2, 4, 4)), "target"),
    ("model.Sameo.load", g("nanno"), "nanno"),
    ("model.Sameo.load", holding("w.pt", "x"), "w.pt"),
    ("model.Sameo.save", lambda d: Given(d.nano, d.folder / "w.pt"), "w.pt"),
    ("model.Sameo.embed", lambda d: Given(d.nano, np.zeros((4, 4))), "image"),
    ("model.Sameo.embed", lambda d: Given(d.nano, np.full((4, 4, 3), np.nan)), "image"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, [1, 2, 3, 4]), "boxes"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, FLAT), "boxes", "box 0"),
    ("model.Sameo.predict", lambda d: Given(d.nano, PICTURE, BOX, [1, 2]), "scores"),
    ("model.Sameo.predict_embedded", lambda d: Given(d.nano, torch.cat([EMBEDDING] * 2), FRAME, BOX), "embedding"),
    ("model.Sameo.predict_in_passes", lambda d: Given(d.nano, EMBEDDING, FRAME, BOX + FLAT), "boxes", "box 1"),
    ("model.Sameo.decode_embedded", lambda d: Given(d.nano, EMBEDDING, FRAME, [1, 2, 3]), "boxes"),
    ("model.onnx.export_onnx", no_onnx, "onnx"),
    # data sets
    ("datasets.load_dataset", g("cocoacls", "."), "name"),
    *((reader_of(name), lambda d: Given(d.folder / "none", "val"), "none") for name in READERS),
    ("datasets.coco.read_kins", lambda d: Given(d.folder, "val", "2021"), "version"),
    ("datasets.load_dataset", lambda d: Given("coco", d.coco(annotations=[NOTHING_VISIBLE])), "val.json"),
    ("datasets.dyce.read_dyce", lambda d: Given(d.folder, "val_real"), "split"),
    ("datasets.AmodalImage.read", lambda d: Given(d.image()), "a.png", "image 3"),
    ("datasets.AmodalDataset.census", lambda d: Given(d.changed_dataset()), "val.json"),
    ("datasets.AmodalDataset.to_coco", lambda d: Given(visible_set(d)), "data set", "instance 1"),
    ("datasets.AmodalInstance.known_amodal_rle", visible_object, "data set", "instance 1"),
    ("datasets.images.read_photograph", holding("a.jpg", "words"), "a.jpg"),
    ("datasets.load_sources", holding("s.yaml", "a: {}"), "s.yaml", "a"),
    ("miniature.draw_dataset", lambda d: Given("coco", d.folder, "val", 2), "name"),
    # synthesis
    ("synthesis.Pool.load", holding("p.npz", "x"), "p.npz"),
    ("synthesis.collect_complete_objects", any_object, "a.png", "image 1"),
    ("synthesis.completeness_curve", lambda d: Given(d.pool, dict.fromkeys(range(999), 1.0), ANY), "hidden"),
    ("synthesis.compose", moved_pool, ".jpg", "image "),
    ("synthesis.measure_speed", lambda d: Given(d.pool, IMPOSSIBLE), "pool", "pair 0"),
    ("synthesis.draw_pair", lambda d: Given(d.pool, IMPOSSIBLE, 0, 7), "pool", "pair 7"),
    ("synthesis.ladder", lambda d: Given(d.pool, IMPOSSIBLE, 0, 7, [0.5]), "pool", "pair 7"),
    ("synthesis.synthesize", lambda d: Given(d.pool, d.folder / "out", 4, shard=3), "shard"),
    ("synthesis.read_statistics", lambda d: Given(d.folder), ""),
    # training
    ("training.BatchSampler.batch", lambda d: Given(sampler(d), 0), "a.png", "image 1"),
    ("training.BatchSampler.batches", lambda d: Given(sampler(d), 0, 1, 0), "a.png", "image 1"),
    ("training.EmbeddingCache.embed", lambda d: Given(d.cache(), [d.image()]), "a.png", "image 3"),
    ("training.fine_tune", lambda d: Given([], d.paper.training, d.file("a") / "r", d.cache()), "a"),
    # boxes from files and detectors
    ("front_ends.coco_results", short_box, "results", "result 0"),
    ("front_ends.coco_results", lambda d: Given(d.file("r.json", "["), d.small()), "r.json"),
    ("front_ends.boxes.read_box_file", holding("b.json", [{"bbox": 1}]), "b.json", "result 0"),
    ("front_ends.load_detector", g("nanno"), "detector"),
    ("front_ends.EverythingDetector.detect", g(SimpleNamespace(), "a.png"), "image"),
    ("front_ends.box_from_point", lambda d: Given(d.nano, EMBEDDING, FRAME, (91, 5)), "points"),
    ("front_ends.from_supervision", g(SimpleNamespace(xyxy=[[1, 2, 3]])), "detections"),
    ("front_ends.supervision_front_end", no_supervision, "supervision"),
    ("front_ends.ground_truth_boxes", g("whole"), "kind"),
    ("front_ends.jittered", g(None, 10), "share"),
    ("front_ends.predict_dataset", lambda d: Given({}, plain_dataset(1), {}), "models"),
    ("front_ends.check_same_encoder", lambda d: Given(d.two["a"], d.two["b"]), "models"),
    # evaluation
    ("evaluation.evaluate", g(COCO, [PREDICTION | {"score": np.nan}]), "predictions", "prediction 0"),
    ("evaluation.evaluate_amodal", g(COCO, [PREDICTION | {"image_id": 2}]), "predictions", "prediction 0"),
    ("evaluation.evaluate_predictions", lambda d: Given(d.small(), []), "results"),
    ("evaluation.region_iou", g(MASK, EMPTY, EMPTY), "predicted, amodal", "object 0"),
    ("evaluation.evaluate_regions", g([MASK.T], [MASK], [MASK]), "predicted", "object 0"),
    ("evaluation.RegionTable.at_quantiles", g(REGIONS, "full", [0.5], 0.5), "least"),
    ("evaluation.RegionTable.summary", g(REGIONS, {"a": (1, 0)}), "buckets", "a"),
    # from a profile to data sets and weights
    ("pipeline.open_dataset", lambda d: Given("kins", "val", d.paper), "kins"),
    ("pipeline.open_present", lambda d: Given({"kins": "val"}, d.paper), "raw"),
    ("pipeline.open_clean_dataset", lambda d: Given("coco", "val", STRICT, d.coco()), ""),
    ("pipeline.open_held_out", lambda d: Given(d.paper), "cocoa_cls"),
    ("pipeline.pool_of_profile", lambda d: Given(d.paper, "none.pt"), "raw"),
    ("pipeline.synthetic_set", lambda d: Given(d.paper, "none.pt"), "raw"),
    ("pipeline.train", lambda d: Given(d.paper), "none.pt"),
    ("pipeline.train_all", lambda d: Given([(d.paper, 0)]), "none.pt"),
    ("pipeline.train_amodal_rcnn", lambda d: Given(d.baseline), "none.pt"),
    ("pipeline.train_all_amodal_rcnn", lambda d: Given(d.baseline), "none.pt"),
    ("pipeline.training_sets", lambda d: Given(d.paper), "none.pt"),
    ("pipeline.amodal_lvis_folder", lambda d: Given(d.paper), "none.pt"),
    ("pipeline.open_amodal_lvis", lambda d: Given(d.paper), "none.pt"),
    # tables and notebooks
    ("reporting.write_table", g("a", [{"b": 1}, {"c": 1}], "mini", seed=0), "rows", "row 1"),
    ("reporting.read_table", holding("a.csv", "a,b\n1\n"), "a.csv", "row 0"),
    ("reporting.table_html", g([{"a": 1}], ["b"]), "columns"),
    ("reporting.mean_interval", g([]), "values"),
    ("reporting.paper_claims", no_intervals, "zero_shot_differences.csv"),
    ("reporting.read_published", g("none"), "table"),
    ("reporting.paper_table", g([OURS, OURS], [], "mini", "t"), "ours", "b"),
    ("reporting.method_differences", g([OURS, OTHER_SEED], MINE, {"x": ("a", "c")}, ["AP"]), "rows", "x"),
    ("reporting.committed.readme_results", no_metrics, "gains.csv"),
    ("reporting.committed.readme_photographs", lambda d: Given(d.folder), "gains.csv"),
    ("reporting.committed.readme_claims", lambda d: Given(d.folder), "claims.csv"),
    ("reporting.committed.update_readme", absent("R.md"), "R.md"),
    ("reproduction.write_report", lambda d: Given(RUN, "mini", "", (), (), d.file("a") / "r.html"), "a"),
    # what people open and write
    ("apps.predict.default_weights", without_weights, "encoder.onnx"),
    ("apps.predict.box_source", g("b.json", "nano"), "boxes"),
    ("apps.predict.write_json", lambda d: Given([], d.file("a") / "b.json"), "a"),
    ("apps.predict.predict_photograph", lambda d: Given(d.nano, b"", []), "photograph.png"),
    ("apps.predict.predict_photographs", lambda d: Given(d.photo(), d.file("photo.json", []), d.folder), ""),
    ("apps.exports.to_coco", g([PHOTO] * 2), "photographs"),
    ("apps.exports.to_cvat", g([PHOTO] * 2), "photographs"),
    ("apps.exports.from_labelme", g({"imageHeight": "6", "imageWidth": 8, "shapes": []}), "labelme"),
    ("apps.exports.from_label_studio", g([1]), "Label Studio"),
    ("apps.exports.write_exports", lambda d: Given([PHOTO] * 2, d.folder), ""),
    ("apps.photo_evidence.tuned", lambda d: Given(d.paper), "none.pt"),
    ("apps.photo_evidence.ablations", lambda d: Given(d.paper, {}, ["dual"]), "question"),
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
