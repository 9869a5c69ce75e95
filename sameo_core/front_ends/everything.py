"""Everything mode, SAM's automatic masks as a front-end without a detector; and clicks.

    detector = load_detector("everything")                           # the un-tuned decoder of "photo_base"
    found = detector.detect(image)                                   # Detections, masks included
    box = box_from_point(detector.sameo, embedding, image_size, (x, y))

Each point of a grid prompts three masks; those of high predicted IoU and stability remain, after NMS. Both uses need
the un-tuned decoder: fine-tuning on boxes changes its answers to points.
"""

import numpy as np
import torch
from jaxtyping import Float

from sameo_core.arrays import BoxesXYXY, BoxXYXY, Image, ImageEmbedding
from sameo_core.config import config_hash
from sameo_core.errors import InputError
from sameo_core.front_ends.base import Detections, ImageDetector, check_limits, strongest
from sameo_core.masks import Mask, box_ious, encode_mask, mask_box, remove_small_regions
from sameo_core.model import Sameo
from sameo_core.model.sameo import check_image

EVERYTHING = "everything"
MIN_IOU, STABILITY_OFFSET, MAX_BOX_IOU = 0.88, 1.0, 0.7  # SAM's
MIN_STABILITY = 0.92  # SAM's default is 0.95; with an encoder as small as ours that loses objects
POINTS_PER_SIDE = 16  # SAM: 32, which takes four times as long. All are asked: leaving out those within two masks that
# were found before takes 40 % of the time, and loses the cup and the spoon that lie on a saucer
POINTS_PER_PASS = 4  # more are no faster and need more memory
MAX_BOX_SHARE = 0.95  # of the image; a larger box holds the scene, not an object
SMALL_REGION = 0.005  # of a mask's area; smaller parts and holes are removed: dots where logits are near 0

Point = tuple[float | int, float | int]


class EverythingDetector(ImageDetector):
    """SAM's automatic mask generation: scores are predicted IoU, masks are visible masks, there is one category.

    Args:
        sameo: an un-tuned model that takes points.
        min_score: least predicted IoU; values below 0.88 have no effect.

    Raises:
        InputError: EfficientSAM-nano, which never saw a point; bad limits.
    """

    name = EVERYTHING

    def __init__(self, sameo: Sameo, min_score: float | int = MIN_IOU, max_per_image: int = 100):
        check_limits(min_score, max_per_image)
        if sameo.variant == "nano":
            rule = "everything mode prompts with points, and nano was trained on boxes only"
            raise InputError(file="model", rule=rule, remedy="Load photo_base, or EfficientSAM as released")
        self.sameo, self.points_per_side = sameo, POINTS_PER_SIDE
        self.min_score, self.max_per_image = max(min_score, MIN_IOU), max_per_image
        self.categories = {1: "object"}

    @torch.inference_mode()
    def detect(self, image: Image, embedding: ImageEmbedding | None = None) -> Detections:
        """Detections in an image, highest score first; instance ids are -1.

        Args:
            embedding: of the image, if known, by the same encoder.

        Raises:
            InputError: not an 8-bit RGB image.
        """
        check_image(image)
        size = image.shape[:2]
        embedding = self.sameo.embed(image) if embedding is None else embedding
        steps = (torch.arange(self.points_per_side) + 0.5) / self.points_per_side
        grid = (torch.cartesian_prod(steps, steps) * torch.tensor([size[1], size[0]])).to(self.sameo.device)
        sure = [found for points in grid.split(POINTS_PER_PASS) for found in self._sure(embedding, points, size)]
        ious, rough = (np.array([found[i] for found in sure], np.float32) for i in (1, 2))
        kept = _suppressed(rough.reshape(-1, 4), ious)[: self.max_per_image]
        masks = [(i, self._full_size(sure[i][0], size)) for i in kept]
        masks = [(i, mask) for i, mask in masks if mask.any()]  # in a tiny image a mask may be empty
        boxes = np.array([mask_box(mask) for _, mask in masks], np.float32).reshape(-1, 4)
        scores, ones = ious[[i for i, _ in masks]].clip(0, 1), np.ones(len(masks), int)
        found = Detections(boxes, scores, ones, -ones, tuple(encode_mask(mask) for _, mask in masks))
        return strongest(found, size, self.min_score, self.max_per_image)

    def fingerprint(self) -> str:
        """Eight hexadecimal digits of weights and limits."""
        limits = MIN_STABILITY, STABILITY_OFFSET, MAX_BOX_IOU, MAX_BOX_SHARE, SMALL_REGION
        return config_hash(self.sameo.fingerprint(), self.points_per_side, self.min_score, self.max_per_image, *limits)

    def _sure(self, embedding: ImageEmbedding, points: Float[torch.Tensor, "q 2"], size: tuple[int, int]) -> list:
        """Logits, predicted IoU and box of the masks that pass both thresholds, at the decoder's resolution."""
        model = self.sameo.model
        decoded = model.decode_points(embedding, points[None], size)
        logits, iou = decoded.logits[0].flatten(0, 1).float(), decoded.iou[0].flatten()
        logits, iou = logits[iou > self.min_score], iou[iou > self.min_score]
        cells = np.ceil(np.array(model.input_size(size)) * logits.shape[-1] / model.config.image_size).astype(int)
        inside = logits[:, : cells[0], : cells[1]]
        high, low = ((inside > offset).sum((1, 2)) for offset in (STABILITY_OFFSET, -STABILITY_OFFSET))
        sure = []
        for i in torch.nonzero(high / low >= MIN_STABILITY).flatten().tolist():
            box = mask_box(tidied((inside[i] > 0).cpu().numpy())) / np.tile(cells[::-1], 2) * np.tile(size[::-1], 2)
            if np.prod(box[2:] - box[:2]) <= MAX_BOX_SHARE * size[0] * size[1]:
                sure.append((logits[i].half(), float(iou[i]), box.astype(np.float32)))
        return sure

    def _full_size(self, logits: Float[torch.Tensor, "hm wm"], size: tuple[int, int]) -> Mask:
        full = self.sameo.model.upscale_logits(logits[None, None, None].float(), size)[0, 0, 0]
        return tidied((full > 0).cpu().numpy())


def _suppressed(boxes: BoxesXYXY, scores: Float[np.ndarray, " n"]) -> list[int]:
    """Non-maximum suppression: the boxes that remain, the strongest first."""
    overlaps, kept = box_ious(boxes, boxes) > MAX_BOX_IOU, list[int]()
    for i in np.argsort(-scores, kind="stable").tolist():
        if not overlaps[i, kept].any():
            kept.append(i)
    return kept


@torch.inference_mode()
def box_from_point(base: Sameo, embedding: ImageEmbedding, image_size: tuple[int, int], point: Point) -> BoxXYXY:
    """The box of the object at a point: of the decoder's three masks, that of highest predicted IoU.

    Args:
        base: an un-tuned model that takes points.
        embedding: of the image, by `base` or a model that shares its encoder.
        point: (x, y) in pixels of the image.

    Raises:
        InputError: a point outside the image.
    """
    points = torch.tensor([[point]], dtype=torch.float32, device=base.device)
    decoded = base.model.decode_points(embedding, points, image_size)
    best = decoded.iou[0, 0].argmax()
    logits = base.model.upscale_logits(decoded.logits[:, :, best, None].float(), image_size)[0, 0, 0]
    mask = (logits > 0).cpu().numpy()
    x, y = (min(int(value), side - 1) for value, side in zip(point, image_size[::-1], strict=True))
    mask[y, x] = True  # never empty
    return mask_box(tidied(mask))


def tidied(mask: Mask) -> Mask:
    """Without the dots and pinholes of SAM's masks where logits are near 0."""
    return remove_small_regions(mask, SMALL_REGION * np.count_nonzero(mask))
