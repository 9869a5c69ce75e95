"""What the rows of test_bad_input.py are made of: what is given, a desk that makes it, and what is said."""

import json
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import conftest
import numpy as np
import PIL.Image
import test_exports
import torch
from conftest import plain_dataset, rectangle, seeded_nano
from safetensors.torch import save_file

from sameo_core.apps.playground import OcclusionPair
from sameo_core.config import CompletenessConfig, SynthesisConfig, load_profile, profiles
from sameo_core.datasets import READERS, load_dataset
from sameo_core.datasets.builder import DatasetBuilder
from sameo_core.datasets.coco_files import CocoFormat, index_coco
from sameo_core.evaluation import evaluate_regions
from sameo_core.evaluation.records import read_objects
from sameo_core.masks import encode_mask
from sameo_core.model import Sameo, sameo
from sameo_core.reporting.committed import README_METRICS
from sameo_core.synthesis import collect_complete_objects
from sameo_core.training import BatchSampler, EmbeddingCache

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
    def two(self):
        """Two models whose image encoders differ."""
        return {"a": self.nano, "b": self.other_nano}

    def without_weights(self):
        self.monkeypatch.setattr(sameo, "WEIGHTS", self.folder)
        return Given()

    @cached_property
    def paper(self):
        """The paper's profile, whose data sets and weights are not here."""
        self.monkeypatch.setattr(profiles, "RAW", self.folder / "raw")
        self.monkeypatch.setattr(profiles, "RUNS", self.folder / "runs")
        return load_profile("paper", weights="none.pt")

    @cached_property
    def baseline(self):
        """As `paper`; its detector is here: nothing is fetched."""
        return self.paper.override(rcnn_detector="nano")

    @cached_property
    def pool(self):
        root = self.folder / "source"
        images = [conftest.photograph(root, i, conftest.two_objects(i)) for i in (1, 2)]
        dataset = conftest.dataset_of(images, root)
        teacher = conftest.AgreeingTeacher(dataset)
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
    room = READERS[name].__module__.removeprefix("sameo_core.")
    return Row(
        f"{room}.read_{name}",
        lambda d: Given(d.folder / "none", "val"),
        "none",
        "folder of .* must exist|needs a folder|no <frame>_ampano.png|needs the folders|annotation file of",
        "data/README.md|sequences",
    )


EMPTY = np.zeros((6, 8), bool)
PLAIN = (
    "amodal_lvis",
    "coco",
    "coco_photos",
    "cocoa",
    "cocoa_cls",
    "d2sa",
    "duts",
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
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
IDS = np.array([3, 3])
PREDICTION = {"image_id": 1, "segmentation": RLE, "score": 0.5}
OURS = {"front-end": "a", "method": "b", "data set": "cocoa", "seed": 0, "AP": 0.5}
MINE = "a", "b"
SEED = {"model": "a", "seed": 0, "bucket": "0-10 %", "AP": 0.5}
GAINS = "metric,prompt,data set,before,after,gain,ci_low,ci_high\n"
MARKS = "<!-- results -->\n<!-- /results -->\n"


EASY = SynthesisConfig()
IMPOSSIBLE = SynthesisConfig(max_enlargement=0.0)
FORM = CocoFormat()
PICTURE = np.zeros((60, 90, 3), np.uint8)


def visible_only():
    instance = plain_dataset(1)[0].instances[0]
    return (replace(instance, instance_id=1, amodal_rle=None),)


def another_year(desk):
    for split in ("train", "val"):
        desk.file(f"annotations/instances_{split}2017.json", COCO)
    return desk.folder


def builder(desk):
    return DatasetBuilder("x", desk.folder, "val", desk.folder / "a.json")


def npz(desk, **arrays):
    np.savez(desk.folder / "a.npz", **arrays)
    return desk.folder / "a.npz"


def weights(desk, **tensors):
    save_file(tensors, desk.folder / "w.safetensors")
    return desk.folder / "w.safetensors"


def points(given, labels=None):
    """Points in an image of 60 x 90 pixels."""
    return lambda desk: Given(desk.nano.model, torch.zeros(1, 128, 16, 16), torch.tensor([given]), (60, 90), labels)


def cache(desk):
    return EmbeddingCache(desk.nano.model, desk.folder / "embeddings")


def sampler(desk):
    """Of a data set whose one image is not there."""
    recipe = load_profile("mini", batch_images=1).training
    return BatchSampler([load_dataset("coco", desk.coco())], cache(desk), recipe, 64, 0)


def results(desk, given, options=()):
    """COCO results that are right except for what is given, and the data set they are of."""
    right = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "score": 0.5}
    needed = isinstance(given, list) and (len(given) > 1 or given[0] or options)
    records = [right | record for record in given] if needed else given
    return Given(records, load_dataset("coco", desk.coco()), **dict(options))


def found(**changes):
    """What supervision.Detections looks like."""
    right = {"xyxy": np.zeros((2, 4)), "confidence": [0.5, 0.5], "class_id": [1, 1], "mask": None}
    return SimpleNamespace(**right | changes)


def no_supervision(desk):
    desk.monkeypatch.setitem(sys.modules, "supervision", None)  # as if it were not installed
    return Given(print, "ultralytics")


def objects():
    """One that tells nothing of how much is hidden."""
    return read_objects(COCO | {"annotations": [OBJECT | {"visible_mask": None}]}, True)


def table(desk, name, text):
    return desk.file(f"{name}.csv", text).parent


def readme(desk, text, figure=None):
    """README, a good table, and a figure or none."""
    lines = (f"{metric},visible boxes,cocoa_cls,1,1,1,1,1\n" for metric in README_METRICS)
    folder = table(desk, "zero_shot_gains", GAINS + "".join(lines))
    return Given(desk.file("README.md", text), folder, folder if figure is None else figure.parent)


def one_stage():
    """A square that a smaller one comes to hide."""
    picture = np.full((20, 40, 3), 90, np.uint8)
    return OcclusionPair(picture, rectangle((20, 40), 6, 12, 14, 20), picture[:4, :8], np.ones((4, 8), bool))


def without_weights(desk):
    desk.monkeypatch.setattr("sameo_core.apps.predict.WEIGHTS", desk.folder)
    return Given()


def without(desk, package):
    desk.monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    return Given(desk.nano, desk.folder)
