"""Bad input to settings, masks, data sets, synthesis and training: what is called, what is given, what is named.

What is named: words of the error's file or argument, and of its record where it has one.
"""

from bad_input_desk import (
    COCO,
    EMPTY,
    MASK,
    OBJECT,
    RLE,
    Given,
    absent,
    another_year,
    g,
    holding,
    npz,
    reader_of,
    visible_set,
)

from sameo_core.config import AmodalRcnnConfig, CompletenessConfig, SynthesisConfig, load_profile
from sameo_core.datasets import READERS
from sameo_core.datasets.builder import DatasetBuilder
from sameo_core.datasets.coco_files import CocoFormat, index_coco
from sameo_core.datasets.sources import SourceFile
from sameo_core.masks import encode_mask
from sameo_core.miniature.nano_detector import DetectorConfig
from sameo_core.miniature.pretraining import PretrainingConfig
from sameo_core.synthesis import draw_pair
from sameo_core.training import BatchSampler

EASY, IMPOSSIBLE = SynthesisConfig(), SynthesisConfig(max_enlargement=0.0)
NOTHING_VISIBLE = OBJECT | {"visible_mask": None}
STRICT, UNCOUNTED = load_profile("mini", min_visible_pixels=99), load_profile("mini", val_images=None)
RECIPE, YOLO = PretrainingConfig(), AmodalRcnnConfig(rcnn_detector="yolo")
NOBODY = "http://127.0.0.1:1/a"  # no server listens there


def sampler(desk):
    """Of a data set whose one image is not there."""
    return BatchSampler([desk.small()], desk.cache(), load_profile("mini", batch_images=1).training, 64, 0)


def visible_object(desk):
    return Given(visible_set(desk)[0].instances[0])


def builder(desk):
    return DatasetBuilder("x", desk.folder, "val", desk.folder / "a.json")


def two_names(desk):
    return Given(builder(desk), [{"id": 1, "name": "cup"}, {"id": 1, "name": "mug"}])


def other_key(desk):
    return Given(index_coco(desk.file("a.json", COCO)).tables["annotations"], ["a_segm"], "amodal", desk.folder)


def no_images(desk):
    index = index_coco(desk.file("a.json", COCO | {"images": []}))
    return Given("x", desk.folder, "val", [(index, desk.folder)], CocoFormat())


def any_object(desk):
    config = CompletenessConfig(min_frame_gap=0, min_object_pixels=1, min_core_share=0.0, min_largest_part=0.0)
    return Given(desk.nano, desk.small(), config, desk.folder / "record")


def moved_pool(desk):
    return Given(desk.pool.moved({"lvis": desk.folder}), draw_pair(desk.pool, EASY, 0, 0), EASY)


def unknown_encoder(desk):
    return Given(DetectorConfig(encoder="none.pt"), desk.folder / "run")


CASES = [
    # config
    ("config.load_profile", g("full"), "profile"),
    ("config.load_profile", g("mini", iteration=3), "profile mini", "iteration"),
    ("config.load_profile", g("mini", iterations="3"), "profile mini", "iterations"),
    ("config.load_profile", g("mini", min_visible_share=5), "cleaning", "min_visible"),
    ("config.Profile.override", g(load_profile(), colour=1), "profile mini", "colour"),
    ("config.load_profile", g("mini", seeds=()), "training", "seeds"),
    ("config.load_profile", g("mini", iterations=0), "training", "iterations"),
    ("config.load_profile", g("mini", train=()), "data", "train"),
    ("config.load_profile", g("mini", train_images=0), "data", "train_images"),
    ("config.read_overrides", g(["iterations"]), "--override"),
    ("config.read_overrides", g(["=3"]), "--override"),
    ("config.recipe", g("zeroshot", load_profile()), "recipe"),
    ("config.recipe", g([], load_profile()), "recipe"),
    ("config.recipe", g("mix_9", load_profile()), "profile mini", "train"),
    ("config.ablation", g("prompts", load_profile()), "question"),
    ("runs.atomic.make_folder", lambda d: Given(d.file("a") / "b"), "b"),
    ("miniature.pretraining.claim_folder", lambda d: Given(d.file("a"), RECIPE), "a"),
    ("miniature.pretraining.claim_folder", lambda d: Given(d.another_recipe(), RECIPE), "config.json"),
    ("miniature.pretraining.claim_folder", lambda d: Given(d.another_recipe("{"), RECIPE), "config.json"),
    # masks
    ("masks.decode_segmentation", g([1, 2, 3, 4], 6, 8), "segmentation", "polygon 0"),
    ("masks.decode_segmentation", g(None, 6, 8), "segmentation"),
    ("masks.segmentation_to_rle", g("abc", 6, 8), "segmentation"),
    ("masks.segmentation_to_rle", g(RLE, 8, 6), "segmentation", "RLE"),
    ("masks.segmentation_to_rle", g([1, 2, 3, 4, 5, 6], 0, 8), "segmentation"),
    ("masks.decode_rle", g({"size": [6, 8], "counts": "=4"}), "segmentation", "RLE"),
    ("masks.decode_rle_inside", g(RLE, (0, 0, 9, 6)), "box"),
    ("masks.mask_area", g({"size": [6, 8]}), "segmentation", "RLE"),
    ("masks.mask_box", g(EMPTY), "mask"),
    ("masks.mask_iou", g(MASK, MASK.T), "masks"),
    ("masks.occlusion_rate", g(EMPTY, MASK), "amodal"),
    ("masks.union_rle", g([]), "masks"),
    ("masks.intersect_rle", g([RLE, encode_mask(MASK.T)]), "masks"),
    ("masks.subtract_rle", g(RLE, encode_mask(MASK.T)), "masks"),
    # photographs
    ("datasets.images.read_photograph", g(b""), "photograph"),
    ("datasets.images.read_photograph", absent("no.jpg"), "no.jpg"),
    ("datasets.images.read_photograph", holding("a.jpg", "words"), "a.jpg"),
    ("datasets.images.find_photographs", lambda d: Given(d.folder), ""),
    # data sets
    ("datasets.load_dataset", g("cocoacls", "."), "name"),
    ("datasets.load_dataset", lambda d: Given("cocoa", d.folder / "no"), "no"),
    *((reader_of(name), lambda d: Given(d.folder / "none", "val"), "none") for name in READERS),
    ("datasets.coco.read_kins", lambda d: Given(d.folder, "test"), "split"),
    ("datasets.coco.read_kins", lambda d: Given(d.folder, "val", "2021"), "version"),
    ("datasets.coco.read_d2sa", lambda d: Given(d.folder, "train+x"), "split"),
    ("datasets.dyce.read_dyce", lambda d: Given(d.folder, "val_real"), "split"),
    ("datasets.coco.read_coco", lambda d: Given(d.folder, "val", visible="yes"), "visible"),
    ("datasets.coco.read_coco", lambda d: Given(d.coco(annotations=[NOTHING_VISIBLE]), "val"), "val.json"),
    ("datasets.coco.read_coco", lambda d: Given(d.coco(annotations=[OBJECT | {"category_id": 7}]), "val"), "val.json"),
    ("datasets.AmodalImage.read", lambda d: Given(d.image()), "a.png", "image 3"),
    ("datasets.AmodalDataset.census", lambda d: Given(d.changed_dataset()), "val.json"),
    ("datasets.AmodalDataset.to_coco", lambda d: Given(visible_set(d)), "data set", "instance 1"),
    ("datasets.AmodalInstance.known_amodal_rle", visible_object, "data set", "instance 1"),
    ("datasets.builder.DatasetBuilder.add_categories", two_names, "a.json", "category 1"),
    ("datasets.builder.DatasetBuilder.finish", lambda d: Given(builder(d)), "a.json"),
    ("datasets.coco_files.index_coco", holding("a.json", {"images": []}), "a.json"),
    ("datasets.coco_files.find_key", other_key, ""),
    ("datasets.coco_files.read_coco_files", no_images, "a.json"),
    ("datasets.files.find_file", lambda d: Given(d.folder, ["a.json"], "x"), "a.json"),
    ("datasets.files.parse_json", holding("a.json", "[1,"), "a.json"),
    ("datasets.files.read_json", lambda d: Given(d.file("a.json", "[]"), ["images"]), "a.json"),
    ("datasets.files.check_split", g("dev", ["train"], "x"), "split"),
    ("datasets.json_index.index_json", lambda d: Given(d.file("a.json", '{"images": [1, 2'), {}), "a.json"),
    ("datasets.json_index.index_json", lambda d: Given(d.folder, {}), ""),
    ("datasets.json_index.JsonIndex.record", lambda d: Given(d.changed_index(), "images", 0), "a.json"),
    ("datasets.json_index.JsonIndex.records", lambda d: Given(d.changed_index(), "images"), "a.json"),
    ("datasets.json_index.JsonFile.read", lambda d: Given(d.changed_index().file, [(0, 3)]), "a.json"),
    ("datasets.images.image_size", holding("a.png", "x"), "a.png"),
    ("datasets.images.read_mask_png", lambda d: Given(d.photo("a.png"), 6, 8), "a.png"),
    ("datasets.images.read_ids_png", lambda d: Given(d.photo("a.png"), 40, 60), "a.png"),
    ("datasets.images.npz_shape", lambda d: Given(npz(d, a=MASK), "mask"), "a.npz"),
    ("datasets.images.npz_layers", lambda d: Given(npz(d, mask=MASK), "mask"), "a.npz"),
    ("datasets.images.inside", lambda d: Given(d.folder, "../a"), ""),
    ("datasets.files.read_plain_pickle", holding("a.pkl", b"cos\nsystem\n(S'echo'\ntR."), "a.pkl"),
    # collections
    ("pipeline.open_dataset", lambda d: Given("kins", "val", d.paper), "kins"),
    ("pipeline.open_dataset", lambda d: Given("cocoa", "val", UNCOUNTED), "profile mini"),
    ("pipeline.open_present", lambda d: Given({"kins": "val"}, d.paper), "raw"),
    ("pipeline.open_clean_dataset", lambda d: Given("kins", "val", d.paper), "kins"),
    ("pipeline.open_clean_dataset", lambda d: Given("coco", "val", STRICT, d.coco()), ""),
    ("datasets.load_sources", holding("s.yaml", "a: ["), "s.yaml"),
    ("datasets.load_sources", holding("s.yaml", "a: {}"), "s.yaml", "a"),
    ("datasets.downloads.download", g("lviss"), "name"),
    ("datasets.downloads.download", g("lvis", local="."), "--from"),
    ("datasets.photo_ids.take_from", lambda d: Given("coco_photos", d.folder, d.folder / "x"), "train2017.json"),
    (
        "datasets.photo_ids.cut_annotations",
        lambda d: Given("coco_photos", another_year(d)),
        "train2017.json",
        "image 9",
    ),
    ("datasets.photo_ids.fetch_photographs", lambda d: Given("coco_photos", another_year(d), 0), "train", "image 9"),
    ("datasets.archives.unpack", lambda d: Given(d.file("a.zip", "words"), d.folder / "x"), "a.zip"),
    ("miniature.draw_dataset", lambda d: Given("coco", d.folder, "val", 2), "name"),
    ("miniature.draw_dataset", lambda d: Given("cocoa", d.folder, "val", 0), "images"),
    ("miniature.draw_dataset", lambda d: Given("d2sa", d.folder, "dev", 2), "split"),
    ("training.set_probabilities", g([3, 4], "logs"), "sampling"),
    ("training.set_probabilities", g([3, 0]), "sizes"),
    ("training.BatchSampler.batch", lambda d: Given(sampler(d), 0), "a.png", "image 1"),
    ("training.EmbeddingCache.embed", lambda d: Given(d.cache(), []), "images"),
    ("training.EmbeddingCache.embed", lambda d: Given(d.cache(), [d.image("words")]), "a.png", "image 3"),
    ("training.EmbeddingCache.embed", lambda d: Given(d.cache(), [d.image()]), "a.png", "image 3"),
    # synthesis
    ("pipeline.pool_of_profile", lambda d: Given(d.paper, "none.pt"), "lvis"),
    ("pipeline.synthetic_set", lambda d: Given(d.paper, "none.pt"), "lvis"),
    ("synthesis.Pool.load", holding("p.npz", "x"), "p.npz"),
    ("synthesis.Pool.load", absent("p.npz"), "p.npz"),
    ("synthesis.Pool.mask", lambda d: Given(d.damaged_pool, 0), "pool", "object 0"),
    ("synthesis.Pool.cropped_mask", lambda d: Given(d.damaged_pool, 1), "pool", "object 1"),
    ("synthesis.join_pools", g([]), "pools"),
    ("synthesis.collect_complete_objects", any_object, "a.png", "image 1"),
    ("synthesis.completeness_curve", lambda d: Given(d.pool, {}), "hidden", "annotation 100"),
    ("synthesis.composition.check_curriculum", g(SynthesisConfig(rate_edges=(0.5, 0.2))), "synthesis", "rate_edges"),
    ("synthesis.draw_pair", lambda d: Given(d.pool, IMPOSSIBLE, 0, 7), "pool", "pair 7"),
    ("synthesis.ladder", lambda d: Given(d.pool, IMPOSSIBLE, 0, 7, [0.5]), "pool", "pair 7"),
    ("synthesis.compose", moved_pool, ".jpg", "image "),
    ("synthesis.measure_speed", lambda d: Given(d.pool, EASY, 0), "pairs"),
    ("synthesis.synthesize", lambda d: Given(d.pool, d.folder / "out", 3), "images"),
    ("synthesis.synthesize", lambda d: Given(d.pool, d.folder / "out", 4, seed=-1), "seed"),
    ("synthesis.synthesize", lambda d: Given(d.pool, d.folder / "out", 4, shard=3), "shard"),
    ("synthesis.synthesize", lambda d: Given(d.pool, d.file("out").parent / "out", 4), "out"),
    ("synthesis.shards.part_of", g(8, 8), "shard"),
    ("synthesis.shards.part_of", g(0, None), "shard"),
    ("synthesis.shards.write_shard", lambda d: Given(d.folder, "train", 0, 1, {"pool": "x"}, EASY), "pool.npz"),
    ("synthesis.read_statistics", lambda d: Given(d.folder), ""),
    # training
    ("pipeline.open_held_out", lambda d: Given(d.paper), "cocoa_cls"),
    ("apps.photo_evidence.tuned", lambda d: Given(d.paper), "none.pt"),
    ("apps.photo_evidence.ablations", lambda d: Given(d.paper, {}, ["dual"]), "question"),
    ("datasets.fetching.fetch", lambda d: Given(SourceFile("a", NOBODY), d.folder / "a", "https://a.org", 1), NOBODY),
    ("pipeline.train", lambda d: Given(d.paper), "none.pt"),
    ("pipeline.train_all", lambda d: Given([(d.paper, 0)]), "none.pt"),
    ("pipeline.train", g(load_profile(), -1), "training", "seeds"),
    ("pipeline.train_amodal_rcnn", lambda d: Given(d.baseline), "none.pt"),
    ("pipeline.train_all_amodal_rcnn", lambda d: Given(d.baseline), "none.pt"),
    ("pipeline.training_sets", lambda d: Given(d.paper), "none.pt"),
    ("pipeline.amodal_lvis_folder", lambda d: Given(d.paper), "none.pt"),
    ("pipeline.teacher", lambda d: Given(d.paper), "none.pt"),
    ("training.loop.train_once", lambda d: Given(d.file("a") / "w", {}, None, int), "a"),
    ("training.fine_tune", lambda d: Given([], d.paper.training, d.folder / "r"), "none.pt"),
    ("front_ends.amodal_rcnn.fit_amodal_rcnn", lambda d: Given([], YOLO, d.paper.training, d.folder), "rcnn_detector"),
    ("pipeline.open_amodal_lvis", lambda d: Given(d.paper), "none.pt"),
    ("miniature.pretraining.pretrain", lambda d: Given(RECIPE, d.another_recipe()), "config.json"),
    ("miniature.pretraining.pretrain", lambda d: Given(RECIPE, d.file("a")), "a"),
    ("miniature.nano_detector.pretrain_detector", lambda d: Given(DetectorConfig(), d.another_recipe()), "config.json"),
    ("miniature.nano_detector.pretrain_detector", unknown_encoder, "none.pt"),
]
