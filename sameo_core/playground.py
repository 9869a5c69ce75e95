"""The occlusion playground: one cut-out object moves over another, and what it hides grows.

Both objects stand unoccluded in their own pictures, so the truth is known wherever the occluder goes: the amodal mask
of the one behind stays, its visible mask is what the cut-out leaves of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, UInt8
from PIL import ImageFilter

from sameo_core import AmodalMask, Image, VisibleMask
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.evaluation import RegionIoU, region_iou
from sameo_core.masks import mask_box
from sameo_core.sameo import AmodalPrediction, Sameo

AREA = (0.02, 0.15)  # of the image, for an object to play with
LARGEST_RATE = 0.9  # beyond, too little is seen to be prompted
LARGEST_MISS = 0.04  # between the occlusion rate that was asked for and the one shown


@dataclass(frozen=True)
class Moment:
    """What stands on the stage when the cut-out is at one position."""

    image: Image
    visible: VisibleMask  # what is left of the object behind
    amodal: AmodalMask
    rate: float  # occlusion rate, 0..1

    def answer(self, model: Sameo) -> tuple[AmodalPrediction, RegionIoU]:
        """What a model says, prompted by the box of the visible part, and how right it is."""
        prediction = model.predict(self.image, mask_box(self.visible)[None])
        return prediction, region_iou(prediction.masks[0], self.amodal, self.visible)


@dataclass(frozen=True)
class Stage:
    """A picture with the object behind, and the cut-out that comes from the left until it lies in the middle of it."""

    background: Image
    amodal: AmodalMask  # of the object behind, all of it seen
    cut_out: UInt8[np.ndarray, "ch cw 3"]  # the occluder's pixels in its own box
    shape: Bool[np.ndarray, "ch cw"]  # its mask

    @cached_property
    def rates(self) -> Float[np.ndarray, " positions"]:
        """The occlusion rate at each position, as far as enough of the object is seen; position p is p pixels on."""
        x0, y0, x1, y1 = mask_box(self.amodal).astype(int).tolist()
        steps = range((x1 - x0 + self.shape.shape[1]) // 2 + 1)
        rates = np.array([np.count_nonzero(self.amodal & self._mask(step)) for step in steps])
        rates = rates / np.count_nonzero(self.amodal)
        too_far = np.flatnonzero(rates > LARGEST_RATE)
        return rates[: too_far[0]] if len(too_far) else rates

    def at(self, position: int) -> Moment:
        """The picture with the cut-out `position` pixels on its way."""
        mask = self._mask(position)
        front = PIL.Image.new("RGB", mask.shape[::-1])
        front.paste(PIL.Image.fromarray(self.cut_out), self._corner(position))
        soft = PIL.Image.fromarray(mask).convert("L").filter(ImageFilter.GaussianBlur(0.6))  # no jagged edge
        image = PIL.Image.composite(front, PIL.Image.fromarray(self.background), soft)
        visible = self.amodal & ~mask
        rate = 1 - np.count_nonzero(visible) / np.count_nonzero(self.amodal)
        return Moment(np.array(image), visible, self.amodal, rate)

    def position(self, rate: float | int) -> int:
        """The first position whose occlusion rate is nearest to the one asked for."""
        return int(np.argmin(np.abs(self.rates - rate)))

    def _corner(self, position: int) -> tuple[int, int]:
        x0, y0, _, y1 = mask_box(self.amodal).astype(int).tolist()
        height, width = self.shape.shape
        return x0 - width + position, (y0 + y1 - height) // 2

    def _mask(self, position: int) -> AmodalMask:
        """The occluder inside the frame."""
        frame = PIL.Image.new("1", self.amodal.shape[::-1])
        frame.paste(PIL.Image.fromarray(self.shape), self._corner(position))
        return np.array(frame)


def stages(dataset: AmodalDataset, count: int) -> list[Stage]:
    """The first `count` pairs of unoccluded objects, of two images each, that can be played with.

    Nothing hides either of them, no frame cuts them, and the one in front can hide at least 0.7 of the one behind.

    Raises:
        InputError: the data set has not so many; an image cannot be read.
    """
    whole = [(image, item) for image in dataset for item in image.instances if _is_whole(image, item)]
    found = []
    for i, (image, behind) in enumerate(whole):
        for other, front in whole[i + 1 : i + 20]:
            if other is not image and behind.area <= front.area <= 3 * behind.area:
                stage = _stage(image, behind, other, front)
                if stage.rates.max() >= 0.7:
                    found.append(stage)
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


def _stage(image: AmodalImage, behind: AmodalInstance, other: AmodalImage, front: AmodalInstance) -> Stage:
    x0, y0, x1, y1 = front.amodal_box.astype(int).tolist()
    window = np.s_[y0:y1, x0:x1]
    return Stage(image.read(), behind.amodal, other.read()[window], front.amodal[window])


def occlusion_curve(
    models: Mapping[str, Sameo], pairs: Sequence[Stage], rates: Sequence[float]
) -> list[dict[str, object]]:
    """How each model fares as the occlusion grows: a row a pair, rate and model.

    Rates that a pair cannot show to within 0.04 are left out for that pair.

    Args:
        models: name -> SAMEO.
        pairs: of objects.
        rates: occlusion rates above 0, at most 0.9.

    Returns:
        `pair` (from 0), `model`, `rate` (asked for), `shown rate`, `hidden IoU`, `IoU`, `predicted IoU`; all in 0..1.
    """
    rows = []
    for number, stage in enumerate(pairs):
        for rate in rates:
            moment = stage.at(stage.position(rate))
            if abs(moment.rate - rate) > LARGEST_MISS:
                continue
            for name, model in models.items():
                prediction, iou = moment.answer(model)
                row = {"pair": number, "model": name, "rate": rate, "shown rate": moment.rate}
                rows.append(
                    row | {"hidden IoU": iou.hidden, "IoU": iou.full, "predicted IoU": float(prediction.iou[0])}
                )
    return rows
