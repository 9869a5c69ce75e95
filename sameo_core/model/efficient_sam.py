"""EfficientSAM: a plain ViT encodes the image, a two-way decoder predicts masks from box tokens.

    model = build_efficient_sam("nano")
    embedding = model.encode_images(images)                                # once per image
    out = model.decode_boxes(embedding, boxes, image_size=(480, 640))      # any number of boxes
    masks = model.upscale_logits(out.logits, size=(480, 640)) >= 0

Architecture: "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything" (CVPR 2024); the decoder
follows "Segment Anything" (ICCV 2023). Parameter names are those of the released checkpoints, which load strictly.
Read `variants`, `image_encoder` and `box_decoder` first. `Sameo` checks what people give, so nothing here does.
"""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sameo_core.arrays import BoxPrompts, ImageEmbedding, Images, MaskLogits, PointPrompts
from sameo_core.errors import InputError
from sameo_core.model.box_decoder import MASK_TOKENS, DecodedMasks, MaskDecoder, PromptEncoder, Tokens, upscale_logits
from sameo_core.model.checkpoints import fingerprint_weights, load_exactly, plain_name, read_weights
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

    # ----------------------------------------------------------------------------------------------- image to embedding

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image within the network's square input: here the whole square."""
        return self.config.image_size, self.config.image_size

    def to_square(self, images: Images) -> Float[Tensor, "b 3 side side"]:
        """Resize images to the network's square input, bilinearly."""
        side = self.config.image_size
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)

    def image_to_square(self, image: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "1 3 side side"]:
        """`to_square` of an 8-bit image, in [0, 1], on the model's device."""
        pixels = image.to(self.pixel_mean.device, non_blocking=True)
        return self.to_square(pixels.permute(2, 0, 1)[None] / 255)

    def encode_images(self, images: Images) -> ImageEmbedding:
        """Image embedding, computed once for any number of boxes; images of any size are brought `to_square`.

        "b 256 64 64" for ``vit_t`` and ``vit_s``, "b 128 16 16" for ``nano``.
        """
        side = self.config.image_size
        squares = images if images.shape[-2:] == (side, side) else self.to_square(images.float())
        return self.encode_squares((squares - self.pixel_mean) / self.pixel_std)

    def encode_squares(self, squares: Float[Tensor, "b 3 side side"]) -> ImageEmbedding:
        """The embedding of normalised squares; on a GPU in half precision (`half_encoder`)."""
        pixels = squares.to(self.image_encoder.pos_embed.dtype)
        half = torch.bfloat16 if multiplies_in_bf16(pixels.device) else torch.float16
        with torch.autocast(pixels.device.type, half, enabled=pixels.is_cuda and self.half_encoder):
            return self.image_encoder(pixels).to(pixels.dtype)

    # --------------------------------------------------------------------------------------------------- prompt to mask

    def decode_boxes(
        self, embedding: ImageEmbedding, boxes: BoxPrompts, image_size: tuple[int, int], multimask: bool = False
    ) -> DecodedMasks:
        """The mask of each box, with its predicted IoU.

        Args:
            embedding: from :meth:`encode_images`.
            boxes: in pixels of the original image; may extend beyond it.
            image_size: (height, width) of the original image, in pixels.
            multimask: return the three alternative masks instead of the single one.

        Returns:
            logits "b q m hm wm" and iou "b q m", m = 3 with ``multimask``, else 1; hm = 4 he, wm = 4 we.
        """
        boxes = self.to_input(boxes.unflatten(-1, (2, 2)), image_size).flatten(-2)
        return self.decode_prompts(embedding, self.prompt_encoder(boxes, self.config.image_size), multimask)

    def decode_points(
        self, embedding: ImageEmbedding, points: PointPrompts, image_size: tuple[int, int], multimask: bool = True
    ) -> DecodedMasks:
        """Masks of the object at each point, for models trained on points: un-tuned SAM and EfficientSAM.

        As :meth:`decode_boxes`; by default three alternatives, as a point may mean a part or the whole.

        Raises:
            InputError: a point outside the image.
        """
        limits = points.new_tensor(image_size[::-1])
        outside = points[~((points >= 0) & (points <= limits)).all(-1)]  # NaN is outside
        if len(outside):
            rule = f"a point is inside the image of (height, width) = {tuple(image_size)}, found {outside[0].tolist()}"
            raise InputError(file="points", rule=rule, remedy="Give (x, y) in pixels of the image")
        points = self.to_input(points, image_size)
        return self.decode_prompts(embedding, self.prompt_encoder.clicks(points, self.config.image_size), multimask)

    def to_input(self, points: Float[Tensor, "*n 2"], image_size: tuple[int, int]) -> Float[Tensor, "*n 2"]:
        """Convert points from pixels of the original image to pixels of the network's input."""
        (height, width), (inner_height, inner_width) = image_size, self.input_size(image_size)
        return points.float() * points.new_tensor([inner_width / width, inner_height / height], dtype=torch.float32)

    def decode_prompts(self, embedding: ImageEmbedding, prompt: Tokens, multimask: bool) -> DecodedMasks:
        """The masks of prompt tokens."""
        if prompt.shape[1] == 0:  # no boxes
            (b, _, he, we), m = embedding.shape, MASK_TOKENS - 1 if multimask else 1
            return DecodedMasks(embedding.new_zeros(b, 0, m, 4 * he, 4 * we), embedding.new_zeros(b, 0, m))
        positions = self.prompt_encoder.pe_layer.grid(*embedding.shape[-2:])  # he*we c
        embedding = embedding.to(positions.dtype)  # cached embeddings may be in half precision
        return DecodedMasks(*self.mask_decoder(self.prompt_encoder.unmasked(embedding), positions, prompt, multimask))

    def upscale_logits(self, logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
        """Resize mask logits to the original image; ``size`` is (height, width) in pixels."""
        return upscale_logits(logits, size)


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
        load_exactly(model, read_weights(checkpoint), Path(checkpoint), repr(variant))
    return model
