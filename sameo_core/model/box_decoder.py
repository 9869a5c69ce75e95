"""EfficientSAM's decoder: boxes become tokens, from which a two-way transformer predicts masks; runs once per box.

In shape comments: b images, q boxes of one image, n tokens, s cells of the image embedding, c channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.arrays import BoxPrompts, ImageEmbedding, MaskLogits, PointPrompts, PredictedIoU
from sameo_core.model.variants import EfficientSamConfig

POINTS_PER_PROMPT = 6  # the decoder was trained with six points: two for a box, the rest padding
MASK_TOKENS = 4  # mask 0 is the single-mask output, masks 1..3 the alternatives of `multimask`

Tokens = Float[Tensor, "b q n c"]  # the decoder's, n per box


@dataclass(frozen=True)
class DecodedMasks:
    """The decoder's output per box: mask logits at its own resolution, and predicted IoU."""

    logits: MaskLogits  # object where logit >= 0
    iou: PredictedIoU  # a regression: usually, not always, inside [0, 1]


# ------------------------------------------------------------------------------------------------------- prompt encoder
class RandomFourierFeatures(nn.Module):
    """Sines and cosines of random projections of a point in the unit square (Tancik et al., 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n c"]:
        matrix = self.positional_encoding_gaussian_matrix
        with torch.autocast(points.device.type, enabled=False):  # half precision would lose the phase
            phase = 2 * math.pi * ((2 * points.float() - 1) @ matrix.float())
        return torch.cat([phase.sin(), phase.cos()], dim=-1).to(matrix.dtype)

    def grid(self, he: int, we: int) -> Float[Tensor, "{he*we} c"]:
        """Position codes of the image embedding's cells, row by row."""
        device = self.positional_encoding_gaussian_matrix.device
        y, x = ((torch.arange(cells, device=device) + 0.5) / cells for cells in (he, we))
        return self(torch.cartesian_prod(y, x).flip(-1))


class PromptEncoder(nn.Module):
    """Turns labelled points into tokens: position code plus label embedding."""

    def __init__(self, dim: int):
        super().__init__()
        self.pe_layer = RandomFourierFeatures(dim)
        self.invalid_points = nn.Embedding(1, dim)
        self.point_embeddings = nn.Embedding(1, dim)  # clicks on the object; unused by boxes
        self.bbox_top_left_embeddings = nn.Embedding(1, dim)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, dim)

    def forward(self, boxes: BoxPrompts, input_size: int) -> Tokens:
        """Six tokens per box; boxes are in pixels of the network's input."""
        corners = boxes.unflatten(-1, (2, 2))  # b q 2 xy
        return self.padded(corners, [self.bbox_top_left_embeddings, self.bbox_bottom_right_embeddings], input_size)

    def clicks(self, points: PointPrompts, input_size: int) -> Tokens:
        """Six tokens per point on an object; points are in pixels of the network's input."""
        return self.padded(points.unsqueeze(2), [self.point_embeddings], input_size)

    def unmasked(self, embedding: ImageEmbedding) -> ImageEmbedding:
        """The image embedding without a mask prompt: SAM adds a code for that, EfficientSAM has none."""
        return embedding

    def padded(self, points: Float[Tensor, "b q k 2"], meaning: list[nn.Embedding], input_size: int) -> Tokens:
        """Tokens of k points with label embeddings `meaning`, then of padding."""
        missing = POINTS_PER_PROMPT - len(meaning)
        padding = points.new_full((*points.shape[:2], missing, 2), -1.0)
        points = (torch.cat([points, padding], dim=2) + 0.5) / input_size  # pixel centres, in units of the image side
        meaning = meaning + [self.invalid_points] * missing
        return self.pe_layer(points) + torch.cat([label.weight for label in meaning])  # b q n c


# --------------------------------------------------------------------------------------------------------- mask decoder
class Mlp(nn.Module):
    """Linear layers with GELU between them."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int, hidden_layers: int):
        super().__init__()
        dims = [dim_in] + [hidden] * hidden_layers
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(i, o), nn.GELU()) for i, o in pairwise(dims)))
        self.fc = nn.Linear(hidden, dim_out)

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return self.fc(self.layers(x))


class CrossAttention(nn.Module):
    """Attention within each box's group of tokens; if axis 1 has size 1, all boxes of the image share the group.

    Three implementations of the same attention. `forward` is the standard one. The other two are for few tokens and
    many image cells: heads x tokens is less than the projected channels per cell, so it is cheaper to project the
    tokens into the cells' space: q (W k) = (q W) k, and sums over a (W v) = W (sum over a v).
    """

    def __init__(self, dim: int, heads: int, downsample: int = 1):
        super().__init__()
        self.heads, inner = heads, dim // downsample
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, dim)

    def forward(
        self, queries: Float[Tensor, "b g n c"], keys: Float[Tensor, "b gk m c"], values: Float[Tensor, "b gk m c"]
    ) -> Float[Tensor, "b g n c"]:
        q, k, v = self.q_proj(queries), self.k_proj(keys), self.v_proj(values)
        b, boxes, n = q.shape[:3]
        if k.shape[1] == 1:  # shared: the queries of all boxes attend as one group, without copies
            q = q.flatten(1, 2).unsqueeze(1)  # b 1 g*n c
        q, k, v = (self.split(t).flatten(0, 1).transpose(1, 2) for t in (q, k, v))  # b*g heads n c/heads
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(x.transpose(1, 2).reshape(b, boxes, n, -1))

    def few_to_many(
        self, queries: Float[Tensor, "b g n c"], keys: Float[Tensor, "b g m c"], values: Float[Tensor, "b g m c"]
    ) -> Float[Tensor, "b g n c"]:
        """`forward` for few queries. The key projection's bias is left out: it does not change the softmax."""
        q = self.split(self.q_proj(queries)) * self.scale  # b g n heads c/heads
        q = torch.einsum("bgnhd,hdc->bghnc", q, self.k_proj.weight.unflatten(0, (self.heads, -1)))
        share = (q.flatten(2, 3) @ keys.transpose(2, 3)).softmax(-1)  # b g heads*n m
        x = (share @ values).unflatten(2, (self.heads, -1))  # b g heads n c
        x = torch.einsum("bghnc,hdc->bgnhd", x, self.v_proj.weight.unflatten(0, (self.heads, -1)))
        return self.out_proj(x.flatten(3) + self.v_proj.bias)

    def many_to_few(
        self, queries: Float[Tensor, "b gq n c"], keys: Float[Tensor, "b g m c"], values: Float[Tensor, "b g m c"]
    ) -> Float[Tensor, "b g n c"]:
        """`forward` for few keys."""
        k, v = self.split(self.k_proj(keys)) * self.scale, self.split(self.v_proj(values))  # b g m heads c/heads
        v = torch.einsum("bgmhd,chd->bghmc", v, self.out_proj.weight.unflatten(1, (self.heads, -1)))
        if queries.shape[1] == 1:  # shared: projected once
            score = torch.einsum("bgmhd,bnhd->bghmn", k, self.split(self.q_proj(queries)).squeeze(1))
        else:
            bias = torch.einsum("bgmhd,hd->bghm", k, self.q_proj.bias.unflatten(0, (self.heads, -1)))
            k = torch.einsum("bgmhd,hdc->bghmc", k, self.q_proj.weight.unflatten(0, (self.heads, -1)))
            score = (k.flatten(2, 3) @ queries.transpose(2, 3)).unflatten(2, (self.heads, -1)) + bias.unsqueeze(-1)
        share = score.softmax(3).flatten(2, 3)  # b g heads*m n; softmax over few elements is slow along the last axis
        return share.transpose(2, 3) @ v.flatten(2, 3) + self.out_proj.bias  # b g n c

    def split(self, x: Float[Tensor, "b g n c"]) -> Float[Tensor, "b g n heads d"]:
        return x.unflatten(-1, (self.heads, -1))

    @property
    def scale(self) -> float:
        return (self.q_proj.out_features / self.heads) ** -0.5


class TwoWayLayer(nn.Module):
    """Token self-attention, token-to-image attention, MLP, image-to-token attention."""

    def __init__(self, config: EfficientSamConfig, first: bool):
        super().__init__()
        self.first, dim, heads = first, config.embedding_dim, config.decoder_heads
        self.self_attn = CrossAttention(dim, heads)
        self.cross_attn_token_to_image = CrossAttention(dim, heads, downsample=2)
        self.cross_attn_image_to_token = CrossAttention(dim, heads, downsample=2)
        self.mlp: nn.Module = Mlp(dim, config.decoder_mlp_dim, dim, hidden_layers=1)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))

    def forward(
        self, tokens: Tokens, image: Float[Tensor, "b g s c"], prompt: Tokens, positions: Float[Tensor, "s c"]
    ) -> tuple[Tokens, Float[Tensor, "b q s c"]]:
        look: Callable[[Tensor, Tensor, Tensor], Tensor] = self.cross_attn_token_to_image
        if not self.first:  # in the first layer all boxes share the image embedding
            look = self.cross_attn_token_to_image.few_to_many
        placed = image + positions
        tokens = self.self_attention(tokens, prompt)
        tokens = self.norm2(tokens + look(tokens + prompt, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        seen = self.cross_attn_image_to_token.many_to_few(placed, tokens + prompt, tokens)
        return tokens, self.norm4(image + seen)

    def self_attention(self, tokens: Tokens, prompt: Tokens) -> Tokens:
        if not self.first:  # the first layer's tokens are the prompt itself
            tokens = tokens + prompt
        return self.norm1(tokens + self.self_attn(tokens, tokens, tokens))


class TwoWayTransformer(nn.Module):
    def __init__(self, config: EfficientSamConfig, layer: type[TwoWayLayer] = TwoWayLayer):
        super().__init__()
        self.layers = nn.ModuleList(layer(config, first=i == 0) for i in range(config.decoder_depth))
        self.final_attn_token_to_image = CrossAttention(config.embedding_dim, config.decoder_heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(config.embedding_dim)

    def forward(
        self, image: Float[Tensor, "b 1 s c"], positions: Float[Tensor, "s c"], prompt: Tokens, answers: int
    ) -> tuple[Float[Tensor, "b q {answers} c"], Float[Tensor, "b q s c"]]:
        """The first `answers` output tokens, and the image embedding as updated for each box."""
        tokens = prompt
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, positions)
        tokens, prompt = tokens[:, :, :answers], prompt[:, :, :answers]
        tokens = tokens + self.final_attn_token_to_image.few_to_many(tokens + prompt, image + positions, image)
        return self.norm_final_attn(tokens), image


def upsample_2x(layer: nn.ConvTranspose2d, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b 4*n o"]:
    """Upsample each cell to 2 x 2 consecutive cells: a transposed convolution as a matrix product."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # 4*o i
    bias: Any = layer.bias  # torch's type allows None
    return F.linear(x, weight, bias.repeat(4)).unflatten(-1, (4, -1)).flatten(1, 2)


class MaskDecoder(nn.Module):
    """Predicts mask logits and IoU from image embedding and prompt tokens."""

    def __init__(self, config: EfficientSamConfig):
        super().__init__()
        dim, (mid, last) = config.embedding_dim, config.upscaling
        self.transformer = TwoWayTransformer(config)
        self.iou_token, self.mask_tokens = nn.Embedding(1, dim), nn.Embedding(MASK_TOKENS, dim)
        first = nn.Sequential(nn.ConvTranspose2d(dim, mid, kernel_size=2, stride=2), nn.GroupNorm(1, mid), nn.GELU())
        second = nn.Sequential(nn.ConvTranspose2d(mid, last, kernel_size=2, stride=2), nn.GELU())
        self.final_output_upscaling_layers = nn.Sequential(first, second)
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(dim, dim, last, hidden_layers=2) for _ in range(MASK_TOKENS))
        self.iou_prediction_head: nn.Module = Mlp(dim, dim, MASK_TOKENS, hidden_layers=2)

    def forward(
        self, image: ImageEmbedding, positions: Float[Tensor, "s c"], prompt: Tokens, multimask: bool
    ) -> tuple[MaskLogits, PredictedIoU]:
        (b, q), (he, we) = prompt.shape[:2], image.shape[-2:]
        answers = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # 1+4 c
        prompt = torch.cat([answers.expand(b, q, -1, -1), prompt], dim=2)  # b q 1+4+6 c
        image = image.flatten(2).transpose(1, 2).contiguous().unsqueeze(1)  # b 1 he*we c, shared by all boxes
        chosen = range(1, MASK_TOKENS) if multimask else range(1)
        tokens, image = self.transformer(image, positions, prompt, 1 + chosen.stop)  # b q n c, b q he*we c
        pixels = self.upscale(image.flatten(0, 1))  # b*q 16*he*we c
        columns = [self.output_hypernetworks_mlps[mask](tokens[:, :, 1 + mask]) for mask in chosen]
        weights = torch.stack(columns, dim=-1)  # b q c m
        logits = pixels @ weights.flatten(0, 1)  # b*q 16*he*we m
        logits = logits.view(b, q, he, we, 2, 2, 2, 2, -1).permute(0, 1, 8, 2, 4, 6, 3, 5, 7)  # b q m he 2 2 we 2 2
        iou = self.iou_prediction_head(tokens[:, :, 0])[..., chosen.start : chosen.stop]  # b q m
        return logits.reshape(b, q, len(chosen), 4 * he, 4 * we), iou

    def upscale(self, image: Float[Tensor, "n s i"]) -> Float[Tensor, "n 16*s o"]:
        """Upsample each cell to 4 x 4 cells."""
        layers: Any = self.final_output_upscaling_layers  # typed as Module only
        (grow, norm, act), (grow_again, act_again) = layers
        x = norm(upsample_2x(grow, image).transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)  # n 4*s c
        return act_again(upsample_2x(grow_again, act(x)))


def upscale_logits(logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
    """Resize mask logits to the original image; ``size`` is (height, width) in pixels.

    Bilinear, as in SAM. EfficientSAM's own code is bicubic: with it, nano's AP on drawn COCOA-cls (300 images, visible
    boxes) is 0.555 instead of 0.559.
    """
    larger = F.interpolate(logits.flatten(0, 1), size, mode="bilinear", align_corners=False)
    return larger.unflatten(0, logits.shape[:2])
