"""Front-ends give boxes and scores for an image; SAMEO turns them into amodal masks."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from sameo_core.arrays import BoxesXYXY, Image, Scores
from sameo_core.datasets import AmodalImage
from sameo_core.datasets.base import BOX_KINDS
from sameo_core.errors import InputError
from sameo_core.masks import RLE
from sameo_core.model.boxes import usable

COCO_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))  # of COCO's 80 classes
ROUNDING = 1e-5  # a softmax in single precision may leave 0..1 by this much
COCO80_TO_91 = "coco80_to_91"

# A detector's category id -> the data set's, None to leave it out; or COCO80_TO_91: COCO's classes 0..79, as in
# mmdetection, detectron2 and ultralytics, -> COCO's own ids.
CategoryMap = Mapping[int, int | None] | str


@dataclass(frozen=True)
class Detections:
    """Detections in one image."""

    boxes: BoxesXYXY  # "n 4", xyxy pixels
    scores: Scores  # "n", 0..1
    category_ids: Int[np.ndarray, " n"]
    instance_ids: Int[np.ndarray, " n"]  # the annotated object that each box was made from; -1 for a detector's
    masks: tuple[RLE, ...] | None = None  # the front-end's visible masks, one per box, of the image's size
    amodal_masks: tuple[RLE, ...] | None = None  # the front-end's amodal masks, if it predicts them

    @staticmethod
    def of_boxes(boxes: BoxesXYXY) -> "Detections":
        """Boxes alone: score 1, category 1."""
        ones = np.ones(len(boxes), int)
        return Detections(boxes, ones.astype(np.float32), ones, -ones)

    def take(self, rows: Int[np.ndarray, " k"] | slice) -> "Detections":
        """Some rows, in their order."""
        rows = np.arange(len(self.boxes))[rows]
        masks, amodal_masks = (
            None if kind is None else tuple(kind[i] for i in rows) for kind in (self.masks, self.amodal_masks)
        )
        boxes, scores, categories = self.boxes[rows], self.scores[rows], self.category_ids[rows]
        return Detections(boxes, scores, categories, self.instance_ids[rows], masks, amodal_masks)


FrontEnd = Callable[[AmodalImage], Detections]


class ImageDetector:
    """A front-end that can also `detect` in an array of pixels; it caches the detections of the last image."""

    _last: tuple[AmodalImage, Detections] | None = None

    def __call__(self, image: AmodalImage) -> Detections:
        """Detections in an image of a data set. InputError as `image.read`."""
        if self._last is None or self._last[0] is not image:
            self._last = image, self.detect(image.read())
        return self._last[1]

    def detect(self, image: Image) -> Detections:
        """Detections in an image, highest score first. Subclasses implement this."""
        raise NotImplementedError


def ground_truth_boxes(kind: str = "visible") -> FrontEnd:
    """The "visible" or "amodal" boxes of the annotated objects, score 1: an ideal detector.

    Raises:
        InputError: another kind.
    """
    if kind not in BOX_KINDS:
        remedy = f"Choose one of {', '.join(BOX_KINDS)}"
        raise InputError(file="kind", rule=f"ground-truth boxes are visible or amodal, found {kind!r}", remedy=remedy)

    def detect(image: AmodalImage) -> Detections:
        boxes = [item.visible_box if kind == "visible" else item.amodal_box for item in image.instances]
        return Detections(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.ones(len(boxes), np.float32),
            category_ids=np.array([item.category_id for item in image.instances], int),
            instance_ids=np.array([item.instance_id for item in image.instances], int),
        )

    return detect


def jittered(front_end: FrontEnd, share: float | int, seed: int = 0) -> FrontEnd:
    """Add uniform noise to a front-end's boxes: each side moves by up to `share` of the box's width or height.

    The noise depends on (seed, image id) alone. Boxes stay inside the image and keep at least one pixel.

    Raises:
        InputError: a share outside [0, 0.5).
    """
    if not 0 <= share < 0.5:
        rule = f"a share in [0, 0.5), found {share}"
        raise InputError(file="share", rule=rule, remedy="Give 0.1 for 10 per cent; from 0.5 on boxes could vanish")

    def detect(image: AmodalImage) -> Detections:
        found = front_end(image)
        rng = np.random.default_rng([seed, image.image_id])
        sides = np.tile(found.boxes[:, 2:] - found.boxes[:, :2], 2)
        boxes = found.boxes + share * rng.uniform(-1, 1, found.boxes.shape) * sides
        limits = np.array([image.width, image.height] * 2)
        low = np.minimum(np.maximum(boxes[:, :2], 0), limits[:2] - 1)
        high = np.maximum(np.minimum(boxes[:, 2:], limits[2:]), low + 1)
        return replace(found, boxes=np.concatenate([low, high], 1).astype(np.float32))

    return detect


# ------------------------------------------------------------------------------------------ shared by detectors


def strongest(found: Detections, image_size: tuple[int, int], min_score: float | int, most: int) -> Detections:
    """The `most` strongest detections from `min_score` on, highest score first (stable).

    Boxes without area, or outside an image of `image_size` (height, width), are left out.
    """
    rows = np.argsort(-found.scores, kind="stable")
    good = usable(found.boxes, image_size) & (found.scores >= min_score)
    return found.take(rows[good[rows]][:most])


def check_scores(scores: Scores, file: str | Path) -> Scores:
    """The scores, clipped to 0..1 against rounding errors.

    Raises:
        InputError: a score outside 0..1.
    """
    bad = np.flatnonzero(~((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)))
    if len(bad):
        rule = f"scores are in 0..1, found {scores[bad[0]]:g}; {len(bad):,} of {len(scores):,} are not"
        remedy = "Divide per cent by 100, pass logits through a sigmoid; NaN says that the detector failed"
        raise InputError(file=file, record=f"detection {bad[0]}", rule=rule, remedy=remedy)
    return scores.clip(0, 1)


def check_limits(min_score: float | int = 0, max_per_image: int = 100) -> None:
    """Raise InputError for a minimum score outside 0..1 or NaN, or a negative number of detections."""
    if not isinstance(min_score, Real) or not 0 <= min_score <= 1:
        rule = f"a minimum score in 0..1, found {min_score!r}"
        raise InputError(file="min_score", rule=rule, remedy="Give 0.5, or 0 to keep all")
    if not isinstance(max_per_image, Integral) or max_per_image < 0:
        rule = f"a whole number from 0, found {max_per_image!r}"
        raise InputError(file="max_per_image", rule=rule, remedy="Give 100, as COCO's AP counts")


def map_categories(
    ids: Int[np.ndarray, " n"], category_map: CategoryMap | None, file: str | Path
) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """A detector's category ids mapped to the data set's, and which of them are kept; None: the ids are the same.

    Raises:
        InputError: another word than "coco80_to_91"; ids that are not in the map, or map to no whole number.
    """
    if category_map is None:
        return ids, np.ones(len(ids), bool)
    mapped = dict(enumerate(COCO_IDS)) if category_map == COCO80_TO_91 else category_map
    if not isinstance(mapped, Mapping):
        rule = f"a map is a dict or {COCO80_TO_91!r}, found {category_map!r}"
        raise InputError(file="category_map", rule=rule, remedy="Give {the detector's id: the data set's id, ...}")
    for key, value in mapped.items():
        if value is not None and not isinstance(value, Integral):
            rule = f"a whole number or None, found {value!r}"
            raise InputError(file="category_map", record=repr(key), rule=rule, remedy="Give the data set's id")
    unknown = Counter(int(i) for i in ids if int(i) not in mapped)
    if unknown:
        rule = f"every category must be in the category_map, missing are {counted(unknown)}"
        remedy = "Add them, with None to leave them out; COCO's own ids, 1..90, need no category_map"
        raise InputError(file=file, rule=rule, remedy=remedy)
    kept = np.array([mapped[int(i)] is not None for i in ids], bool)
    return np.array([mapped[int(i)] or 0 for i in ids], int), kept


def counted(found: Counter) -> str:
    """ "7 (120 times), 3 (2 times) and 5 others": the most frequent first."""
    first = ", ".join(f"{key!r} ({times:,} times)" for key, times in found.most_common(8))
    return first + (f" and {len(found) - 8} others" if len(found) > 8 else "")
