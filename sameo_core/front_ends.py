"""Front-ends: whatever gives boxes and scores for an image; SAMEO turns them into amodal masks."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from sameo_core import BoxesXYXY, Scores
from sameo_core.datasets import AmodalImage
from sameo_core.errors import InputError
from sameo_core.masks import RLE

BOX_KINDS = ("visible", "amodal")


@dataclass(frozen=True)
class Detections:
    """What a front-end found in one image."""

    boxes: BoxesXYXY  # "n 4", xyxy pixels
    scores: Scores  # "n", 0..1
    category_ids: Int[np.ndarray, " n"]
    instance_ids: Int[np.ndarray, " n"]  # the ground-truth object each box was made from; -1 for a detector's own boxes
    masks: tuple[RLE, ...] | None = None  # the front-end's own masks, one a box, of the image's size; None: it has none


FrontEnd = Callable[[AmodalImage], Detections]


def ground_truth_boxes(kind: str = "visible") -> FrontEnd:
    """The boxes of the annotated objects, score 1: an ideal detector.

    Args:
        kind: "visible" (box of the visible mask) or "amodal" (box of the amodal mask).

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
    """A front-end whose boxes are inexact: every side moves by up to `share` of the box's width or height.

    The noise of an image depends on (seed, image id) alone. Boxes stay inside the image and keep at least one pixel.

    Args:
        front_end: what gives the exact boxes.
        share: 0.1 for 10 %; the field's usual box error.

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
        boxes = np.concatenate([low, high], 1).astype(np.float32)
        return replace(found, boxes=boxes)

    return detect
