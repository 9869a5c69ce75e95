"""What several test files share: a nano model with lively weights, a miniature world that is drawn once, objects."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import jaxtyping
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import Phase, settings
from skimage import data as photographs

from sameo_core.config import CompletenessConfig, SynthesisConfig, profiles
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.masks import encode_mask
from sameo_core.miniature import draw_dataset
from sameo_core.model import AmodalPrediction, EfficientSam, Sameo, build_efficient_sam, sameo
from sameo_core.synthesis import collect_complete_objects, synthesize
from sameo_core.training import fine_tuning

# A busy machine is not a bug; the same examples every time, so that a test fails for whoever broke it.
settings.register_profile("sameo", deadline=None, derandomize=True)
# benchmarks/mutants.py only asks whether a test fails: nothing is shrunk.
settings.register_profile("mutants", settings.get_profile("sameo"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("sameo")


@pytest.fixture
def unchecked():
    """As in a notebook: no jaxtyping between the caller and our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def seeded_nano(seed: int = 0) -> EfficientSam:
    """EfficientSAM-nano with random weights, scaled such that masks and predicted IoU vary from box to box."""
    model, generator = build_efficient_sam("nano"), torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim == 1:
            noise = 1 + 0.1 * noise if key.endswith(".weight") else 0.02 * noise
        elif not key.endswith("positional_encoding_gaussian_matrix"):
            noise /= max(value[0].numel(), 1) ** 0.5
        value.copy_(noise)
    return model.eval()


@pytest.fixture
def nano() -> Sameo:
    return Sameo(seeded_nano(), "nano")


@dataclass(frozen=True)
class World:
    """A folder like the repository's, with `start.safetensors` and drawn data sets; nothing else is written to."""

    root: Path

    def profile(self, **overrides) -> profiles.Profile:
        tiny = {
            "train": ("cocoa",),
            "teacher": ("cocoa",),
            "held_out": ("cocoa_cls",),
            "visible_only": ("lvis",),
            "weights": "start.safetensors",
            "train_images": 6,
            "val_images": 4,
            "iterations": 6,
            "teacher_iterations": 6,
            "batch_images": 2,
            "warmup_iterations": 2,
            "log_every": 2,
            "seeds": (0,),
        }
        return profiles.load_profile("mini", **tiny | overrides)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """COCOA (train) and COCOA-cls (val) where `open_dataset` looks for them, and weights to start from."""
    root = tmp_path_factory.mktemp("world")
    profile = World(root).profile()
    folder = root / "data/runs/mini/datasets"
    draw_dataset("cocoa", folder / "cocoa", "train", profile.data.train_images, jobs=1)
    draw_dataset("cocoa_cls", folder / "cocoa_cls", "val", profile.data.val_images, jobs=1)
    Sameo(seeded_nano(), "nano").save(root / "data/weights/start.safetensors")
    return root


@pytest.fixture
def world(drawn, tmp_path, monkeypatch) -> World:
    """A copy of the drawn world of its own for each test; the package's paths lead there."""
    root = shutil.copytree(drawn, tmp_path / "repository")
    monkeypatch.setattr(profiles, "RUNS", root / "data/runs")
    for module in (profiles, sameo, fine_tuning):
        monkeypatch.setattr(module, "WEIGHTS", root / "data/weights")
    return World(root)


@pytest.fixture(
    scope="module",
    params=[pytest.param(False, id="smoke"), pytest.param(True, id="full", marks=pytest.mark.benchmark)],
)
def full(request) -> bool:
    """Short benchmarks run small with all other tests, where nothing is measured; in full by `pytest -m benchmark`."""
    return request.param


def rectangle(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def plain_dataset(images: int, name: str = "plain", size: tuple[int, int] = (40, 60)) -> AmodalDataset:
    """Images without pixels, each with two objects; in image i, object 2i + 1 hides the right half of object 2i."""

    def instances(i: int) -> tuple[AmodalInstance, ...]:
        behind, front = rectangle(size, 4 + i, 10, 24 + i, 30), rectangle(size, 14 + i, 5, 44 + i, 35)
        visible = (behind & ~front, front)
        return tuple(
            AmodalInstance(2 * i + j, 10 + j, "ab"[j], False, encode_mask(amodal), encode_mask(visible[j]))
            for j, amodal in enumerate((behind, front))
        )

    height, width = size
    pictures = [AmodalImage(i, f"{i}.png", Path(f"{i}.png"), height, width, instances(i)) for i in range(images)]
    return AmodalDataset(name, Path("nowhere"), "train", {10: "a", 11: "b"}, pictures, {})


def with_images(dataset: AmodalDataset, images: list[AmodalImage]) -> AmodalDataset:
    return AmodalDataset(dataset.name, dataset.root, dataset.split, dataset.categories, images, {})


# ----------------------------------------------------------------------------------------------- synthesis


class AgreeingTeacher(Sameo):
    """Sees of every object what is annotated, plus what a test adds; counts the images it looks at."""

    def __init__(self, dataset, added=None, name="teacher"):
        self.dataset, self.added, self.name, self.seen = dataset, added or {}, name, []

    def fingerprint(self):
        return self.name

    def embed(self, image):
        return image

    def predict_in_passes(self, embedding, image_size, boxes, scores=None):
        (image,) = [i for i in self.dataset if i.path.is_file() and np.array_equal(i.read(), embedding)]
        self.seen.append(image.image_id)
        by_box = {tuple(o.visible_box.tolist()): o for o in image.instances}
        asked = [by_box[tuple(box)] for box in np.asarray(boxes).tolist()]
        masks = np.stack([o.visible | self.added.get(o.instance_id, np.zeros(image_size, bool)) for o in asked])
        ones = np.ones(len(masks), np.float32)
        yield AmodalPrediction(masks, ones, ones)


def ellipse(size, y, x, height, width):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1


def photograph(root, number, masks, size=(96, 128)):
    """An image file with a textured background and an object of one colour for each mask; its record."""
    rng = np.random.default_rng(number)
    top, left = rng.integers(0, 300, 2)
    pixels = photographs.astronaut()[top : top + size[0], left : left + size[1]].copy()
    for mask in masks:
        pixels[mask] = rng.integers(40, 220, 3) + rng.integers(-12, 13, (np.count_nonzero(mask), 3))
    path = root / f"{number}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, quality=91)
    instances = tuple(
        AmodalInstance(100 * number + j, 1 + j % 2, "ab"[j % 2], False, None, encode_mask(mask))
        for j, mask in enumerate(masks)
    )
    return AmodalImage(number, path.name, path, *size, instances)


def dataset_of(images, root, name="lvis"):
    return AmodalDataset(name, root, "train", {1: "a", 2: "b"}, images, {})


def two_objects(number, size=(96, 128)):
    shift = number % 4
    return [ellipse(size, 46 + shift, 34, 30, 22 + shift), ellipse(size, 50, 94 - shift, 24 - shift, 26)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eight photographs, each with two objects that lie apart."""
    root = tmp_path_factory.mktemp("source")
    return dataset_of([photograph(root, i, two_objects(i)) for i in range(1, 9)], root)


@pytest.fixture(scope="module")
def objects(source, tmp_path_factory):
    record = tmp_path_factory.mktemp("record")
    found = collect_complete_objects(AgreeingTeacher(source), source, CompletenessConfig(), record)
    assert len(found) == len(found.complete()) == 16
    return found


SMALL = SynthesisConfig(pairs_per_shard=3)
IMAGES = 14  # 7 pairs, 3 shards: 3, 3, 1


@pytest.fixture(scope="module")
def finished(objects, tmp_path_factory):
    """A set of `IMAGES` images; to be copied, not changed."""
    return synthesize(objects, tmp_path_factory.mktemp("finished"), IMAGES, config=SMALL)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}
