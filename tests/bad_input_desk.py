"""What the cases of test_bad_input.py are made of: what is given, and a desk that makes it."""

import json
import sys
from dataclasses import replace
from functools import cached_property

import numpy as np
import PIL.Image
import torch
from conftest import AgreeingTeacher, dataset_of, photograph, plain_dataset, rectangle, seeded_nano, two_objects

from sameo_core.apps import predict
from sameo_core.apps.playground import OcclusionPair
from sameo_core.config import CompletenessConfig, load_profile, profiles
from sameo_core.datasets import READERS, AmodalImage, load_dataset
from sameo_core.masks import encode_mask
from sameo_core.model import Sameo, sameo
from sameo_core.synthesis import collect_complete_objects
from sameo_core.training import EmbeddingCache

MASK = rectangle((6, 8), 2, 1, 6, 5)
EMPTY = np.zeros((6, 8), bool)
RLE = encode_mask(MASK)
IMAGE = {"id": 1, "file_name": "a.png", "height": 6, "width": 8}
OBJECT = {"id": 5, "image_id": 1, "category_id": 1, "segmentation": RLE, "visible_mask": RLE, "iscrowd": 0}
COCO = {"images": [IMAGE], "annotations": [OBJECT], "categories": [{"id": 1, "name": "cup"}]}
PREDICTION = {"image_id": 1, "segmentation": RLE, "score": 0.5}
PICTURE, FRAME = np.zeros((60, 90, 3), np.uint8), (60, 90)
BOX, FLAT = [[1.0, 1, 9, 9]], [[5.0, 5, 5, 9]]
EMBEDDING = torch.zeros(1, 128, 16, 16)


class Given:
    """Arguments."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options


class Desk:
    """What the cases take; made when first asked for. `folder` is empty at first."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch

    def file(self, name, content=""):
        """A file of text; of anything else as JSON."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def photo(self, name="photo.png"):
        PIL.Image.new("RGB", (60, 40), "red").save(self.folder / name)
        return self.folder / name

    def image(self):
        """A record of an image file of another size."""
        return AmodalImage(3, "a.png", self.photo("a.png"), 6, 8, ())

    def boxes(self):
        return self.file("b.json", BOX)

    def coco(self, **changes):
        """A folder of plain COCO, its records changed."""
        self.file("annotations/val.json", COCO | changes)
        return self.folder

    def small(self):
        """A data set of one object, whose image file is missing."""
        return load_dataset("coco", self.coco())

    def changed_dataset(self):
        """Whose file has changed since."""
        second = {"images": [IMAGE, IMAGE | {"id": 2}], "annotations": [OBJECT, OBJECT | {"id": 6, "image_id": 2}]}
        dataset = load_dataset("coco", self.coco(**second))
        self.coco()
        return dataset

    def cache(self):
        return EmbeddingCache(self.nano.model, self.folder / "embeddings")

    def another_recipe(self, config='{"seed": 99}'):
        return self.file("run/config.json", config).parent

    def uninstall(self, package):
        self.monkeypatch.setitem(sys.modules, package, None)

    @cached_property
    def nano(self):
        return Sameo(seeded_nano(), "nano")

    @cached_property
    def two(self):
        """Two models whose image encoders differ."""
        return {"a": self.nano, "b": Sameo(seeded_nano(1), "nano")}

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
        dataset = dataset_of([photograph(root, i, two_objects(i)) for i in (1, 2)], root)
        return collect_complete_objects(AgreeingTeacher(dataset), dataset, CompletenessConfig(), self.folder / "record")


def g(*arguments, **options):
    return lambda desk: Given(*arguments, **options)


def absent(name):
    """The path of a file that is not there."""
    return lambda desk: Given(desk.folder / name)


def holding(name, content):
    """A file with this content."""
    return lambda desk: Given(desk.file(name, content))


def unmade(kind, *arguments):
    """What a constructor takes."""
    return Given(kind.__new__(kind), *arguments)


def reader_of(name):
    return f"{READERS[name].__module__.removeprefix('sameo_core.')}.{READERS[name].__name__}"


def visible_set(desk):
    """A data set without amodal masks."""
    instance = replace(plain_dataset(1)[0].instances[0], instance_id=1, amodal_rle=None)
    return dataset_of([AmodalImage(1, "", desk.folder, 6, 8, (instance,))], desk.folder)


def without_weights(desk):
    for module in (sameo, predict):
        desk.monkeypatch.setattr(module, "WEIGHTS", desk.folder)
    return Given()


def one_stage():
    """A square that a smaller one comes to hide."""
    picture = np.full((20, 40, 3), 90, np.uint8)
    return OcclusionPair(picture, rectangle((20, 40), 6, 12, 14, 20), picture[:4, :8], np.ones((4, 8), bool))
