"""EfficientSAM: a plain ViT encodes the image, a two-way decoder predicts masks from box tokens.

    model = build_efficient_sam("nano")
    embedding = model.encode_images(images)                                # once per image
    out = model.decode_boxes(embedding, boxes, image_size=(480, 640))      # any number of boxes
    masks = model.upscale_logits(out.logits, size=(480, 640)) >= 0

Architecture: "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything" (CVPR 2024); the decoder
follows "Segment Anything" (ICCV 2023). Parameter names are those of the released checkpoints, which load strictly.
Read `variants`, `image_encoder` and `box_decoder` first.
"""

import hashlib
import operator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sameo_core.arrays import BoxPrompts, ImageEmbedding, Images, MaskLogits, PointLabels, PointPrompts
from sameo_core.errors import InputError
from sameo_core.model.box_decoder import MASK_TOKENS, DecodedMasks, MaskDecoder, PromptEncoder, Tokens, upscale_logits
from sameo_core.model.checkpoints import fingerprint_weights, load_exactly, plain_name, read_weights, shapes
from sameo_core.model.image_encoder import ImageEncoder
from sameo_core.model.variants import VARIANTS, EfficientSamConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EfficientSam(nn.Module):
    """Image encoder, prompt encoder and mask decoder; SAMEO fine-tunes this decoder to be amodal."""

    pixel_mean: Tensor
    pixel_std: Tensor
    half_encoder = True  # on a GPU the image encoder runs in half precision; False: float32 there, too

    def __init__(self, config: EfficientSamConfig):
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = PromptEncoder(config.embedding_dim)
        self.mask_decoder = MaskDecoder(config)
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight; they identify results of this model."""
        return fingerprint_weights(self)

    def encoder_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight or the input size of the image encoder."""
        digest = hashlib.sha256(f"{self.config.image_size}".encode())
        for name, value in self.image_encoder.state_dict().items():
            digest.update(f"{plain_name(name)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy())
        return digest.hexdigest()[:16]

    def to_square(self, images: Images) -> Float[Tensor, "b 3 side side"]:
        """Resize images to the network's square input, bilinearly."""
        side = self.config.image_size
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)

    def image_to_square(self, image: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "1 3 side side"]:
        """`to_square` of an 8-bit image, in [0, 1], on the model's device."""
        pixels = image.to(self.pixel_mean.device, non_blocking=True)
        return self.to_square(pixels.permute(2, 0, 1)[None] / 255)

    def encode_images(self, images: Images) -> ImageEmbedding:
        """Image embedding, computed once for any number of boxes; on a GPU in half precision (`half_encoder`).

        Args:
            images: "b 3 h w", RGB in [0, 1], any h and w: `to_square` is applied.

        Returns:
            "b c he we"; 256 x 64 x 64 for ``vit_t`` and ``vit_s``, 128 x 16 x 16 for ``nano``.

        Raises:
            InputError: not "b 3 h w", not floating point, or, on a CPU, values outside [0, 1].
        """
        check_images(images)
        side = self.config.image_size
        if images.shape[-2:] != (side, side):
            images = self.to_square(images.float())
        pixels = ((images - self.pixel_mean) / self.pixel_std).to(self.image_encoder.pos_embed.dtype)
        half = torch.bfloat16 if multiplies_in_bf16(pixels.device) else torch.float16
        with torch.autocast(pixels.device.type, half, enabled=pixels.is_cuda and self.half_encoder):
            return self.image_encoder(pixels).to(pixels.dtype)

    def decode_boxes(
        self, embedding: ImageEmbedding, boxes: BoxPrompts, image_size: tuple[int, int], multimask: bool = False
    ) -> DecodedMasks:
        """The mask of each box, with its predicted IoU.

        Args:
            embedding: "b c he we", from :meth:`encode_images`.
            boxes: "b q 4", xyxy in pixels of the original image; may extend beyond it.
            image_size: (height, width) of the original image, in pixels.
            multimask: return the three alternative masks instead of the single one.

        Returns:
            logits "b q m hm wm" and iou "b q m", m = 3 with ``multimask``, else 1; hm = 4 he, wm = 4 we.

        Raises:
            InputError: shapes that do not match; boxes with NaN, without area, or entirely outside the image.
        """
        check_boxes(embedding, boxes, image_size, self.config.embedding_dim)
        return self.decode_prompts(embedding, self.box_tokens(boxes, image_size), multimask)

    def decode_points(
        self,
        embedding: ImageEmbedding,
        points: PointPrompts,
        image_size: tuple[int, int],
        labels: PointLabels | None = None,
        multimask: bool = True,
    ) -> DecodedMasks:
        """Masks of the object at each point, for models trained on points: un-tuned SAM and EfficientSAM.

        Args:
            embedding, image_size: as for :meth:`decode_boxes`.
            points: "b q 2", xy in pixels of the original image.
            labels: "b q", 1 on the object, 0 off it (SAM only); 1 by default.
            multimask: return three alternatives, as a point may mean a part or the whole; else a single mask.

        Returns:
            As :meth:`decode_boxes`.

        Raises:
            InputError: shapes that do not match; points outside the image; other labels.
        """
        check_points(embedding, points, image_size, self.config.embedding_dim)
        if labels is None:
            labels = torch.ones(points.shape[:2], dtype=torch.int64, device=points.device)
        if labels.shape != points.shape[:2] or not ((labels == 0) | (labels == 1)).all():
            rule = f"one label per point, 0 or 1, found {tuple(labels.shape)} for {tuple(points.shape[:2])} points"
            raise InputError(file="labels", rule=rule, remedy="Leave labels out: every point is on its object then")
        prompt = self.prompt_encoder.clicks(self.to_input(points, image_size), labels, self.config.image_size)
        return self.decode_prompts(embedding, prompt, multimask)

    def box_tokens(self, boxes: BoxPrompts, image_size: tuple[int, int]) -> Tokens:
        """Prompt tokens of boxes in pixels of the original image."""
        boxes = self.to_input(boxes.unflatten(-1, (2, 2)), image_size).flatten(-2)
        return self.prompt_encoder(boxes, self.config.image_size)

    def to_input(self, points: Float[Tensor, "*n 2"], image_size: tuple[int, int]) -> Float[Tensor, "*n 2"]:
        """Convert points from pixels of the original image to pixels of the network's input."""
        (height, width), (inner_height, inner_width) = image_size, self.input_size(image_size)
        return points.float() * points.new_tensor([inner_width / width, inner_height / height], dtype=torch.float32)

    def decode_prompts(self, embedding: ImageEmbedding, prompt: Tokens, multimask: bool) -> DecodedMasks:
        """Decode prompt tokens to masks; the second half of `decode_boxes` and `decode_points`."""
        if prompt.shape[1] == 0:  # no boxes
            (b, _, he, we), m = embedding.shape, MASK_TOKENS - 1 if multimask else 1
            return DecodedMasks(embedding.new_zeros(b, 0, m, 4 * he, 4 * we), embedding.new_zeros(b, 0, m))
        positions = self.prompt_encoder.pe_layer.grid(*embedding.shape[-2:])  # he*we c
        embedding = embedding.to(positions.dtype)  # cached embeddings may be in half precision
        return DecodedMasks(*self.mask_decoder(embedding, positions, prompt, multimask))

    def upscale_logits(self, logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
        """Resize mask logits to the original image; ``size`` is (height, width) in pixels."""
        return upscale_logits(logits, size)

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image within the network's square input: here the whole square."""
        return self.config.image_size, self.config.image_size


def multiplies_in_bf16(device: torch.device) -> bool:
    """True if the device multiplies bf16 natively: GPUs since Ampere, CPUs with AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu.get_capabilities().get("amx_bf16", False)


def build_efficient_sam(variant: str, checkpoint: str | Path | None = None) -> EfficientSam:
    """Build one of :data:`VARIANTS`, randomly initialised or with the weights of a file.

    Args:
        variant: "nano", "vit_t" or "vit_s".
        checkpoint: ``.safetensors``, ``.pt`` or ``.pth`` (a state dict, or a training checkpoint that contains one), or
            a ``.zip`` with one such ``.pt``, as released. Nothing in the file is executed. Weights are cast to float32.

    Raises:
        InputError: unknown variant; a file that is missing, unreadable, not plain weights, or not of this variant.
    """
    if variant not in VARIANTS:
        raise InputError(file="variant", rule=f"found {variant!r}", remedy=f"Choose one of {', '.join(VARIANTS)}")
    model = EfficientSam(VARIANTS[variant])
    if checkpoint is not None:
        load_variant(model, read_weights(Path(checkpoint)), Path(checkpoint), variant)
    return model


def load_variant(model: nn.Module, state: dict[str, Tensor], path: Path, variant: str) -> None:
    """`load_exactly`, but the error also tells if the file looks like a checkpoint of another variant."""
    try:
        load_exactly(model, state, path, repr(variant))
    except InputError as error:
        found, wanted = shapes(state).items(), shapes(model.state_dict()).items()
        for other in VARIANTS.keys() - {variant}:
            shared = found & shapes(EfficientSam(VARIANTS[other]).state_dict()).items()
            if len(shared) > max(len(found & wanted), len(found) / 2):
                remedy = f"This looks like a checkpoint of {other!r}: build that variant, or use another file"
                raise InputError(file=path, record=error.record, rule=error.rule, remedy=remedy) from None
        raise


def check_images(images: Tensor) -> None:
    """Check the images of `encode_images`; raises InputError."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or images.numel() == 0:
        rule = f"a floating-point tensor (b, 3, h, w), found {images.dtype} {tuple(images.shape)}"
        raise InputError(file="images", rule=rule, remedy="Put the RGB channels on axis 1, and divide by 255")
    if images.device.type != "cpu":  # reading values from a GPU would wait for all its pending work
        return
    low, high = torch.stack(images.aminmax()).tolist()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also catches NaN
        raise InputError(file="images", rule=f"in [0, 1], found {low:g} to {high:g}", remedy="Divide 0..255 by 255")


def check_boxes(embedding: Tensor, boxes: Tensor, image_size: tuple[int, int], dim: int) -> None:
    """Check the arguments of `decode_boxes`; raises InputError for the first bad box."""
    height, width = _check_prompts("boxes", 4, embedding, boxes, image_size, dim)
    x0, y0, x1, y1 = boxes.unbind(-1)
    good = (x0 < x1) & (y0 < y1) & (x0 < width) & (y0 < height) & (x1 > 0) & (y1 > 0) & boxes.isfinite().all(-1)
    if not good.all():
        image, box = (~good).nonzero()[0].tolist()
        rule = f"x0 < x1, y0 < y1, overlapping the {height} x {width} image, found {boxes[image, box].tolist()}"
        remedy = "Drop the box, or convert xywh to xyxy, and check that image_size is (height, width)"
        raise InputError(file="boxes", record=f"image {image}, box {box}", rule=rule, remedy=remedy)


def check_points(embedding: Tensor, points: Tensor, image_size: tuple[int, int], dim: int) -> None:
    """Check the arguments of `decode_points`; raises InputError for the first point outside the image."""
    height, width = _check_prompts("points", 2, embedding, points, image_size, dim)
    x, y = points.unbind(-1)
    good = (x >= 0) & (y >= 0) & (x <= width) & (y <= height)  # False for NaN
    if not good.all():
        image, point = (~good).nonzero()[0].tolist()
        rule = f"inside the {height} x {width} image, found {points[image, point].tolist()}"
        remedy = "Give (x, y) in pixels, and check that image_size is (height, width)"
        raise InputError(file="points", record=f"image {image}, point {point}", rule=rule, remedy=remedy)


def _check_prompts(
    name: str, numbers: int, embedding: Tensor, prompts: Tensor, image_size: tuple[int, int], dim: int
) -> tuple[int, int]:
    """Check shapes; returns the image's height and width."""
    height, width = check_embedding(embedding, image_size, dim)
    fits = prompts.ndim == 3 and prompts.shape[-1] == numbers and len(prompts) == len(embedding)
    if not fits or not prompts.is_floating_point():
        rule = f"a floating-point tensor ({len(embedding)}, q, {numbers}), found {prompts.dtype} {tuple(prompts.shape)}"
        order = "xyxy" if numbers == 4 else "xy"
        remedy = f"Give q {name}, {order}, for each embedded image; decode images with different q one by one"
        raise InputError(file=name, rule=rule, remedy=remedy)
    return height, width


def check_embedding(embedding: Tensor, image_size: tuple[int, int], dim: int) -> tuple[int, int]:
    """Check both arguments, raising InputError; returns the image's height and width."""
    if not isinstance(embedding, Tensor) or embedding.ndim != 4 or embedding.shape[1] != dim:
        found = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
        rule = f"an image embedding is a tensor (b, {dim}, he, we), found {found}"
        raise InputError(file="embedding", rule=rule, remedy="Pass what encode_images of the same model returns")
    try:
        height, width = map(operator.index, image_size)
    except (TypeError, ValueError):  # not two whole numbers
        height = width = 0
    if not (height > 0 and width > 0):
        rule = f"two positive whole numbers, found {image_size!r:.150}"
        raise InputError(file="image_size", rule=rule, remedy="Pass (height, width)")
    return height, width
