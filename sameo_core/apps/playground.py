"""The occlusion playground: a cut-out moves over another object and hides more and more of it.

Both objects are unoccluded in their own pictures, so the truth is known at every position: the amodal mask of the one
behind is constant, its visible mask is what the cut-out leaves. The masks are annotated (`stages`), or, in photographs,
the un-tuned model's predictions for the whole objects (`photograph_stages`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import skimage
from jaxtyping import Bool, Float, UInt8
from PIL import ImageFilter

from sameo_core.arrays import AmodalMask, Image, VisibleMask
from sameo_core.config import RUNS, config_hash
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.datasets.images import read_photograph
from sameo_core.errors import InputError
from sameo_core.evaluation import RegionIoU, region_iou
from sameo_core.front_ends import check_same_encoder
from sameo_core.masks import decode_rle, encode_mask, mask_box, remove_small_regions
from sameo_core.model import AmodalPrediction, Sameo
from sameo_core.reporting import Comparison
from sameo_core.runs.kept import keep, read_kept

_SKIMAGE, _MATPLOTLIB = Path(skimage.__file__).parent / "data", Path(matplotlib.get_data_path()) / "sample_data"


@dataclass(frozen=True)
class SampleObject:
    """An unoccluded object and a hand-drawn box around it, in a photograph of its own."""

    photograph: str
    box: tuple[int, int, int, int]  # xyxy pixels
    file: Path = field(repr=False)


# In the wheels of scikit-image and matplotlib. Credits and terms: data/README.md.
OBJECTS = {
    "cup": SampleObject("coffee", (80, 10, 482, 400), _SKIMAGE / "coffee.png"),  # with its saucer
    "cat": SampleObject("cat", (0, 0, 370, 300), _SKIMAGE / "chelsea.png"),
    "astronaut": SampleObject("astronaut", (30, 20, 350, 511), _SKIMAGE / "astronaut.png"),
    "rocket": SampleObject("rocket", (305, 112, 336, 385), _SKIMAGE / "rocket.jpg"),
    "motorcycle": SampleObject("motorcycle", (60, 70, 690, 460), _SKIMAGE / "motorcycle_left.png"),
    "grace_hopper": SampleObject("grace_hopper", (40, 25, 512, 600), _MATPLOTLIB / "grace_hopper.jpg"),
}
# Photograph -> name of its object; some distributions omit sample data.
SAMPLES = {item.photograph: name for name, item in OBJECTS.items() if item.file.is_file()}


def sample_path(photograph: str) -> Path:
    """The file of a photograph; InputError if it is not one of `SAMPLES`."""
    if photograph not in SAMPLES:
        rule = f"one of {', '.join(SAMPLES)}, found {photograph!r:.150}"
        raise InputError(file="photograph", rule=rule, remedy="Choose one of these, or read_photograph(PATH)")
    return OBJECTS[SAMPLES[photograph]].file


def sample_photograph(photograph: str) -> Image:
    """The pixels of a photograph; InputError if it is not one of `SAMPLES`."""
    return read_photograph(sample_path(photograph))


# ------------------------------------------------------------------------------------------------------------ the pair

AREA = (0.02, 0.15)  # of an object, as a share of the image
LARGEST_RATE = 0.9  # beyond, too little is visible for a prompt
SMALL_PART = 0.05  # of a cut-out's area: smaller parts and holes of its mask are removed
LARGEST_MISS = 0.04  # between the target occlusion rate and the nearest one


@dataclass(frozen=True)
class Frame:
    """The picture with the cut-out at one position."""

    image: Image
    visible: VisibleMask  # of the object behind
    amodal: AmodalMask
    occluder: VisibleMask
    rate: float  # occlusion rate, 0..1

    def answers(self, models: Mapping[str, Sameo]) -> dict[str, tuple[AmodalPrediction, RegionIoU]]:
        """Each model's prediction from the box of the visible part, and its IoU; the picture is encoded once."""
        check_same_encoder(*models.values())
        embedding, answers = next(iter(models.values())).embed(self.image), {}
        for name, model in models.items():
            prediction = model.predict_embedded(embedding, self.amodal.shape, mask_box(self.visible)[None])
            answers[name] = prediction, region_iou(prediction.masks[0], self.amodal, self.visible)
        return answers


@dataclass(frozen=True)
class OcclusionPair:
    """A picture of the object behind, and a cut-out that moves from its left to its middle."""

    background: Image
    amodal: AmodalMask  # of the object behind, all of it visible
    cut_out: UInt8[np.ndarray, "ch cw 3"]  # the occluder's pixels in its own box
    shape: Bool[np.ndarray, "ch cw"]  # its mask
    top: int | None = None  # first row of the cut-out in the picture; None: level with the object behind
    rate: float = 0.3  # occlusion rate to begin with

    @cached_property
    def rates(self) -> Float[np.ndarray, " positions"]:
        """The occlusion rate at each position (pixels moved), up to `LARGEST_RATE`."""
        x0, y0, x1, y1 = mask_box(self.amodal).astype(int).tolist()
        steps = range((x1 - x0 + self.shape.shape[1]) // 2 + 1)
        rates = np.array([np.count_nonzero(self.amodal & self._mask(step)) for step in steps])
        rates = rates / np.count_nonzero(self.amodal)
        too_far = np.flatnonzero(rates > LARGEST_RATE)
        return rates[: too_far[0]] if len(too_far) else rates

    def at(self, position: int) -> Frame:
        """The picture after the cut-out moved `position` pixels."""
        mask = self._mask(position)
        front = PIL.Image.new("RGB", mask.shape[::-1])
        front.paste(PIL.Image.fromarray(self.cut_out), self._corner(position))
        soft = PIL.Image.fromarray(mask).convert("L").filter(ImageFilter.GaussianBlur(0.6))  # no jagged edge
        image = PIL.Image.composite(front, PIL.Image.fromarray(self.background), soft)
        visible = self.amodal & ~mask
        rate = 1 - np.count_nonzero(visible) / np.count_nonzero(self.amodal)
        return Frame(np.array(image), visible, self.amodal, mask, rate)

    def start(self) -> Frame:
        """The picture to begin with."""
        return self.at(self.position(self.rate))

    def position(self, rate: float | int) -> int:
        """The first position whose occlusion rate is nearest to `rate`."""
        return int(np.argmin(np.abs(self.rates - rate)))

    def places(self, count: int) -> list[int]:
        """About `count` positions, from where nothing is hidden to the last; the one to begin with is among them."""
        first = max(int(np.argmax(self.rates > 0)) - 1, 0)
        evenly = np.linspace(first, len(self.rates) - 1, count).round().astype(int)
        return sorted({*evenly.tolist(), self.position(self.rate)})

    def fingerprint(self) -> str:
        """Hexadecimal digits that change with any pixel, and with the way of the cut-out."""
        parts = (self.background, self.amodal, self.cut_out, self.shape, np.array(self._corner(0)))
        return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()

    def _corner(self, position: int) -> tuple[int, int]:
        x0, y0, _, y1 = mask_box(self.amodal).astype(int).tolist()
        height, width = self.shape.shape
        return x0 - width + position, (y0 + y1 - height) // 2 if self.top is None else self.top

    def _mask(self, position: int) -> AmodalMask:
        """The occluder inside the frame."""
        frame = PIL.Image.new("1", self.amodal.shape[::-1])
        frame.paste(PIL.Image.fromarray(self.shape), self._corner(position))
        return np.array(frame)


def stages(dataset: AmodalDataset, count: int) -> list[OcclusionPair]:
    """The first `count` pairs of unoccluded objects from two images where one can hide at least 0.7 of the other.

    Raises:
        InputError: the data set has fewer; an image cannot be read.
    """
    whole = [(image, item) for image in dataset for item in image.instances if _is_whole(image, item)]
    found = []
    for i, (image, behind) in enumerate(whole):
        for other, front in whole[i + 1 : i + 20]:
            if other is not image and behind.area <= front.area <= 3 * behind.area:
                x0, y0, x1, y1 = front.amodal_box.astype(int).tolist()
                window = np.s_[y0:y1, x0:x1]
                pair = OcclusionPair(image.read(), behind.amodal, other.read()[window], front.amodal[window])
                if pair.rates.max() >= 0.7:
                    found.append(pair)
                    break
        if len(found) == count:
            return found
    rule = f"at least {count} pairs of unoccluded objects of similar size, found {len(found)}"
    raise InputError(file=dataset.root, rule=rule, remedy="Ask for fewer, or take a larger data set")


def _is_whole(image: AmodalImage, item: AmodalInstance) -> bool:
    if item.is_stuff or item.amodal_rle is None or item.occlusion_rate > 0:
        return False
    x0, y0, x1, y1 = item.amodal_box
    inside = x0 > 0 and y0 > 0 and x1 < image.width and y1 < image.height
    return bool(inside and AREA[0] <= item.area / (image.width * image.height) <= AREA[1])


@dataclass(frozen=True)
class Paste:
    """One object of a photograph that is pasted over another."""

    front: str  # one of `OBJECTS`
    behind: str
    longest: int  # side of the cut-out, in pixels of the photograph behind
    rate: float  # occlusion rate to begin with
    on_floor: bool = True  # the cut-out stands on the lower edge; otherwise it is level with the object behind
    mirrored: bool = False  # the photograph behind


PASTES = (
    Paste("cat", "cup", 300, 0.25),
    Paste("cup", "cat", 250, 0.3, mirrored=True),
    Paste("cup", "rocket", 170, 0.5, on_floor=False),
    Paste("cat", "motorcycle", 360, 0.3),
)


def photograph_models() -> dict[str, Sameo]:
    """The un-tuned and the fine-tuned decoder for photographs; InputError if the image encoder was not fetched."""
    return {"un-tuned": Sameo.load("photo_base"), "SAMEO": Sameo.load("photo")}


def photograph_stages(model: Sameo, pastes: Sequence[Paste] = PASTES) -> dict[str, OcclusionPair]:
    """Pasted scenes by name, such as "cat over cup"; the un-tuned model's masks of whole objects are the truth.

    The masks are kept in the run folder of `photo`.
    """
    best = Sameo(model.model, model.variant, best_of_three=True)
    objects = {name: OBJECTS[name] for paste in pastes for name in (paste.front, paste.behind)}
    pixels = {name: sample_photograph(item.photograph) for name, item in objects.items()}
    path = RUNS / "photo" / f"whole-{config_hash(model.fingerprint(), objects)}" / "masks.json"
    masks = read_kept(path)
    if masks is None:
        masks = {}
        for name, item in objects.items():
            (mask,) = best.predict(pixels[name], [item.box]).masks
            masks[name] = encode_mask(remove_small_regions(mask, SMALL_PART * np.count_nonzero(mask)))
        keep(masks, path)
    whole = {name: (pixels[name], decode_rle(masks[name])) for name in objects}
    return {f"{paste.front} over {paste.behind}": _pasted(paste, whole) for paste in pastes}


def _pasted(paste: Paste, whole: Mapping[str, tuple[Image, AmodalMask]]) -> OcclusionPair:
    front, behind = whole[paste.front], whole[paste.behind]
    background, amodal = (array[:, :: -1 if paste.mirrored else 1].copy() for array in behind)
    x0, y0, x1, y1 = mask_box(front[1]).astype(int).tolist()
    scale = paste.longest / max(x1 - x0, y1 - y0)
    size = round((x1 - x0) * scale), round((y1 - y0) * scale)
    cut, shape = (PIL.Image.fromarray(array[y0:y1, x0:x1]) for array in front)
    cut, shape = cut.resize(size, PIL.Image.Resampling.LANCZOS), shape.convert("L").resize(size)
    top = background.shape[0] - size[1] if paste.on_floor else None
    return OcclusionPair(background, amodal, np.array(cut), np.array(shape) >= 128, top, paste.rate)


def occlusion_curve(
    models: Mapping[str, Sameo], pairs: Sequence[OcclusionPair], rates: Sequence[float]
) -> list[dict[str, object]]:
    """Each model's IoU as the occlusion grows: one row per pair, rate (at most 0.9) and model.

    Rates that a pair misses by more than `LARGEST_MISS` are left out for that pair.

    Returns:
        `pair` (from 0), `model`, `rate` (target), `shown rate`, `hidden IoU`, `IoU`, `predicted IoU`; all in 0..1.

    Raises:
        InputError: models whose image encoders differ.
    """
    rows = []
    for (number, pair), rate in product(enumerate(pairs), rates):
        frame = pair.at(pair.position(rate))
        if abs(frame.rate - rate) <= LARGEST_MISS:
            for name, (prediction, iou) in frame.answers(models).items():
                row = {"pair": number, "model": name, "rate": rate, "shown rate": frame.rate}
                row |= {"hidden IoU": iou.hidden, "IoU": iou.full, "predicted IoU": float(prediction.iou[0])}
                rows.append(row)
    return rows


def compare_moment(frame: Frame, models: Mapping[str, Sameo]) -> Comparison:
    """Each model's mask of a pasted scene from the visible box; InputError if their image encoders differ."""
    masks = {name: prediction.masks[0] for name, (prediction, _) in frame.answers(models).items()}
    return Comparison(frame.image, frame.visible, frame.amodal, mask_box(frame.visible), masks, frame.occluder)
