"""EfficientSAM in one file: a plain ViT sees the image, a box becomes tokens, a two-way decoder draws the mask.

    model = build_efficient_sam("nano")
    embedding = model.encode_images(images)                                # once per image
    out = model.decode_boxes(embedding, boxes, image_size=(480, 640))      # as often as there are boxes
    masks = upscale_logits(out.logits, size=(480, 640)) >= 0

Architecture: "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything" (CVPR 2024); its decoder
goes back to "Segment Anything" (ICCV 2023). Parameter names are those of the released checkpoints, which load strictly.
In shape comments: b images, q boxes of one image, n tokens, s cells of the image embedding, c channels.
"""

import hashlib
import math
import operator
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.arrays import BoxPrompts, ImageEmbedding, Images, MaskLogits, PointLabels, PointPrompts, PredictedIoU
from sameo_core.errors import InputError
from sameo_core.model.checkpoints import fingerprint_weights, plain_name, read_weights, shapes

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POINTS_PER_PROMPT = 6  # the decoder was trained with six points: a box is two of them, the rest is padding
MASK_TOKENS = 4  # mask 0 is the single-mask answer, masks 1..3 are the alternatives of `multimask`

Tokens = Float[Tensor, "b q n c"]  # of the decoder: n for each box


@dataclass(frozen=True)
class EfficientSamConfig:
    """The numbers that make a variant; the defaults are EfficientSAM-Ti as released."""

    image_size: int = 1024  # images are stretched to image_size x image_size pixels
    patch_size: int = 16
    pretrain_grid: int = 14  # position embeddings are stored for this many patches a side, and one class token
    encoder_dim: int = 192
    encoder_depth: int = 12
    encoder_heads: int = 3
    embedding_dim: int = 256  # channels of the image embedding, and width of the decoder
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    upscaling: tuple[int, int] = (64, 32)  # channels after the first and the second doubling of resolution


VARIANTS = {
    "vit_t": EfficientSamConfig(),
    "vit_s": EfficientSamConfig(encoder_dim=384, encoder_heads=6),
    "nano": EfficientSamConfig(
        image_size=256,
        pretrain_grid=16,
        encoder_depth=6,
        embedding_dim=128,
        decoder_heads=4,
        decoder_mlp_dim=512,
        upscaling=(32, 16),
    ),
}


@dataclass(frozen=True)
class DecodedMasks:
    """The decoder's answer to each box: masks at its own resolution, and how good it believes each of them to be."""

    logits: MaskLogits  # object where logit >= 0
    iou: PredictedIoU  # a regression: usually, not always, inside [0, 1]


# -------------------------------------------------------------------------------------------------------- image encoder
class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # b n 3 heads c/heads
        x = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).contiguous())  # b heads n c/heads
        return self.proj(x.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.attn = SelfAttention(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim)))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each cell."""

    def forward(self, x: ImageEmbedding) -> ImageEmbedding:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ImageEncoder(nn.Module):
    """A plain ViT, every block with global attention, and a convolutional neck."""

    def __init__(self, config: EfficientSamConfig):
        super().__init__()
        self.grid, dim, out = config.pretrain_grid, config.encoder_dim, config.embedding_dim
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + 1, dim))  # entry 0 is the class token's: not used
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, dim, config.patch_size, config.patch_size)))
        self.blocks = nn.Sequential(*(Block(dim, config.encoder_heads) for _ in range(config.encoder_depth)))
        mix, smooth = nn.Conv2d(dim, out, 1, bias=False), nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.neck = nn.Sequential(mix, ChannelNorm(out, eps=1e-6), smooth, ChannelNorm(out, eps=1e-6))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Images) -> ImageEmbedding:
        x = self.patch_embed(images)  # b c he we
        he, we = x.shape[-2:]
        positions = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)  # 1 c grid grid
        x = x + F.interpolate(positions, (he, we), mode="bicubic", align_corners=False)
        x = self.blocks(x.flatten(2).transpose(1, 2).contiguous())  # b he*we c; strided tokens would slow every block
        return self.neck(x.transpose(1, 2).unflatten(2, (he, we)))  # b embedding_dim he we


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
        """Of the centres of he x we cells, row by row."""
        device = self.positional_encoding_gaussian_matrix.device
        y, x = ((torch.arange(cells, device=device) + 0.5) / cells for cells in (he, we))
        return self(torch.cartesian_prod(y, x).flip(-1))


class PromptEncoder(nn.Module):
    """Points with labels become tokens: where they are, plus what they mean."""

    def __init__(self, dim: int):
        super().__init__()
        self.pe_layer = RandomFourierFeatures(dim)
        self.invalid_points = nn.Embedding(1, dim)
        self.point_embeddings = nn.Embedding(1, dim)  # of a click on the object; boxes do not use it
        self.bbox_top_left_embeddings = nn.Embedding(1, dim)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, dim)

    def forward(self, boxes: BoxPrompts, input_size: int) -> Tokens:
        """Boxes in pixels of the network's input to the six tokens of each."""
        corners = boxes.unflatten(-1, (2, 2))  # b q 2 xy
        return self.padded(corners, [self.bbox_top_left_embeddings, self.bbox_bottom_right_embeddings], input_size)

    def clicks(self, points: PointPrompts, labels: PointLabels, input_size: int) -> Tokens:
        """Points in pixels of the network's input to the six tokens of each. InputError for labels other than 1."""
        if not (labels == 1).all():
            remedy = "Give labels 1, or load a SAM: Sameo.load('photo_base')"
            raise InputError(file="labels", rule="EfficientSAM takes points on the object only, label 1", remedy=remedy)
        return self.padded(points.unsqueeze(2), [self.point_embeddings], input_size)

    def padded(self, points: Float[Tensor, "b q k 2"], meaning: list[nn.Embedding], input_size: int) -> Tokens:
        """The tokens of k points, whose meaning is given, and of padding."""
        missing = POINTS_PER_PROMPT - len(meaning)
        padding = points.new_full((*points.shape[:2], missing, 2), -1.0)
        points = (torch.cat([points, padding], dim=2) + 0.5) / input_size  # pixel centres, in units of the image side
        meaning = meaning + [self.invalid_points] * missing
        return self.pe_layer(points) + torch.cat([label.weight for label in meaning])  # b q n c

    def dense_positions(self, he: int, we: int) -> Float[Tensor, "{he*we} c"]:
        """Position codes of the image embedding's cells, row by row."""
        return self.pe_layer.grid(he, we)


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
    """Attention inside each box's group of tokens; a group of size 1 on axis 1 is shared by all boxes of the image.

    Three ways to the same numbers. `forward` is the usual one. The other two are for few tokens and many cells of the
    image: there heads x tokens are fewer than the channels to which each cell would be projected, and it is cheaper to
    bring the tokens to the cells' space: q (W k) = (q W) k, and sums over a (W v) = W (sum over a v).
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
        if k.shape[1] == 1:  # shared: the queries of all boxes look at them side by side, and nothing is repeated
            q = q.flatten(1, 2).unsqueeze(1)  # b 1 g*n c
        q, k, v = (self.split(t).flatten(0, 1).transpose(1, 2) for t in (q, k, v))  # b*g heads n c/heads
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(x.transpose(1, 2).reshape(b, boxes, n, -1))

    def few_to_many(
        self, queries: Float[Tensor, "b g n c"], keys: Float[Tensor, "b g m c"], values: Float[Tensor, "b g m c"]
    ) -> Float[Tensor, "b g n c"]:
        """`forward` for few queries. The bias of the keys' projection is left out: it changes no softmax."""
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
        if queries.shape[1] == 1:  # shared: they are projected once
            score = torch.einsum("bgmhd,bnhd->bghmn", k, self.split(self.q_proj(queries)).squeeze(1))
        else:
            bias = torch.einsum("bgmhd,hd->bghm", k, self.q_proj.bias.unflatten(0, (self.heads, -1)))
            k = torch.einsum("bgmhd,hdc->bghmc", k, self.q_proj.weight.unflatten(0, (self.heads, -1)))
            score = (k.flatten(2, 3) @ queries.transpose(2, 3)).unflatten(2, (self.heads, -1)) + bias.unsqueeze(-1)
        share = score.softmax(3).flatten(2, 3)  # b g heads*m n; over so few, softmax is slow along the last axis
        return share.transpose(2, 3) @ v.flatten(2, 3) + self.out_proj.bias  # b g n c

    def split(self, x: Float[Tensor, "b g n c"]) -> Float[Tensor, "b g n heads d"]:
        return x.unflatten(-1, (self.heads, -1))

    @property
    def scale(self) -> float:
        return (self.q_proj.out_features / self.heads) ** -0.5


class TwoWayLayer(nn.Module):
    """Tokens look at each other, then at the image; then the image looks at the tokens."""

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
        if not self.first:  # the first layer's image is one for all boxes
            look = self.cross_attn_token_to_image.few_to_many
        placed = image + positions
        tokens = self.look_at_each_other(tokens, prompt)
        tokens = self.norm2(tokens + look(tokens + prompt, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        seen = self.cross_attn_image_to_token.many_to_few(placed, tokens + prompt, tokens)
        return tokens, self.norm4(image + seen)

    def look_at_each_other(self, tokens: Tokens, prompt: Tokens) -> Tokens:
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
        """The first `answers` tokens and the image of each box, after they have seen each other."""
        tokens = prompt
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, positions)
        tokens, prompt = tokens[:, :, :answers], prompt[:, :, :answers]
        tokens = tokens + self.final_attn_token_to_image.few_to_many(tokens + prompt, image + positions, image)
        return self.norm_final_attn(tokens), image


def doubled(layer: nn.ConvTranspose2d, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b 4*n o"]:
    """Each cell becomes 2 x 2 cells, one after another: a transposed convolution, as the matrix product that it is."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # 4*o i
    bias: Any = layer.bias  # torch's type allows for layers without one
    return F.linear(x, weight, bias.repeat(4)).unflatten(-1, (4, -1)).flatten(1, 2)


class MaskDecoder(nn.Module):
    """Image embedding and prompt tokens to mask logits and predicted IoU."""

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
        image = image.flatten(2).transpose(1, 2).contiguous().unsqueeze(1)  # b 1 he*we c: still one for all boxes
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
        """Each cell becomes 4 x 4 cells."""
        layers: Any = self.final_output_upscaling_layers  # of which torch's types say only that they are modules
        (grow, norm, act), (grow_again, act_again) = layers
        x = norm(doubled(grow, image).transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)  # n 4*s c
        return act_again(doubled(grow_again, act(x)))


class EfficientSam(nn.Module):
    """Image encoder, prompt encoder and mask decoder; the amodal decoder of SAMEO is this one, fine-tuned."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: EfficientSamConfig):
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = PromptEncoder(config.embedding_dim)
        self.mask_decoder = MaskDecoder(config)
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight: they name what was computed with this model."""
        return fingerprint_weights(self)

    def encoder_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight of the image encoder, and the size of its input."""
        digest = hashlib.sha256(f"{self.config.image_size}".encode())
        for name, value in self.image_encoder.state_dict().items():
            digest.update(f"{plain_name(name)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy())
        return digest.hexdigest()[:16]

    def to_square(self, images: Images) -> Float[Tensor, "b 3 side side"]:
        """Images stretched to the network's square input, bilinearly."""
        side = self.config.image_size
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)

    def encode_images(self, images: Images) -> ImageEmbedding:
        """The image embedding, computed once for any number of boxes.

        Args:
            images: "b 3 h w", RGB in [0, 1], any h and w: stretched to the square the network was trained on.

        Returns:
            "b c he we"; 256 x 64 x 64 for ``vit_t`` and ``vit_s``, 128 x 16 x 16 for ``nano``.

        Raises:
            InputError: not "b 3 h w", not floating point, or values outside [0, 1].
        """
        check_images(images)
        side = self.config.image_size
        if images.shape[-2:] != (side, side):
            images = self.to_square(images.float())
        return self.image_encoder(((images - self.pixel_mean) / self.pixel_std).to(self.image_encoder.pos_embed.dtype))

    def decode_boxes(
        self, embedding: ImageEmbedding, boxes: BoxPrompts, image_size: tuple[int, int], multimask: bool = False
    ) -> DecodedMasks:
        """The mask of each box, with the decoder's own estimate of its IoU.

        Args:
            embedding: "b c he we", from :meth:`encode_images`.
            boxes: "b q 4", xyxy in pixels of the original image; may reach over its border.
            image_size: (height, width) of the original image, in pixels.
            multimask: answer with the three alternative masks instead of the one.

        Returns:
            logits "b q m hm wm" and iou "b q m", m = 3 with ``multimask`` and 1 without; hm = 4 he, wm = 4 we.

        Raises:
            InputError: shapes that do not fit; boxes with NaN, without area, or entirely outside the image.
        """
        check_boxes(embedding, boxes, image_size, self.config.embedding_dim)
        boxes = self.to_input(boxes.unflatten(-1, (2, 2)), image_size).flatten(-2)
        return self.decode_prompts(embedding, self.prompt_encoder(boxes, self.config.image_size), multimask)

    def decode_points(
        self,
        embedding: ImageEmbedding,
        points: PointPrompts,
        image_size: tuple[int, int],
        labels: PointLabels | None = None,
        multimask: bool = True,
    ) -> DecodedMasks:
        """The masks of what lies at each point; for models that were trained on points: un-tuned SAM, EfficientSAM.

        Args:
            embedding, image_size: as for :meth:`decode_boxes`.
            points: "b q 2", xy in pixels of the original image.
            labels: "b q", 1 on the object, 0 beside it (SAM only); 1 by default.
            multimask: the three alternatives, since a point may mean a part or the whole; else one mask.

        Returns:
            As :meth:`decode_boxes`.

        Raises:
            InputError: shapes that do not fit; points outside the image; other labels.
        """
        check_points(embedding, points, image_size, self.config.embedding_dim)
        if labels is None:
            labels = torch.ones(points.shape[:2], dtype=torch.int64, device=points.device)
        if labels.shape != points.shape[:2] or not ((labels == 0) | (labels == 1)).all():
            rule = f"one label per point, 0 or 1, found {tuple(labels.shape)} for {tuple(points.shape[:2])} points"
            raise InputError(file="labels", rule=rule, remedy="Leave labels out: every point is on its object then")
        prompt = self.prompt_encoder.clicks(self.to_input(points, image_size), labels, self.config.image_size)
        return self.decode_prompts(embedding, prompt, multimask)

    def to_input(self, points: Float[Tensor, "*n 2"], image_size: tuple[int, int]) -> Float[Tensor, "*n 2"]:
        """Points in pixels of the original image to pixels of the network's input."""
        (height, width), (inner_height, inner_width) = image_size, self.input_size(image_size)
        return points.float() * points.new_tensor([inner_width / width, inner_height / height], dtype=torch.float32)

    def decode_prompts(self, embedding: ImageEmbedding, prompt: Tokens, multimask: bool) -> DecodedMasks:
        """The masks of prompts that are tokens already; what `decode_boxes` and `decode_points` end in."""
        if prompt.shape[1] == 0:  # a detector that found nothing
            (b, _, he, we), m = embedding.shape, MASK_TOKENS - 1 if multimask else 1
            return DecodedMasks(embedding.new_zeros(b, 0, m, 4 * he, 4 * we), embedding.new_zeros(b, 0, m))
        positions = self.prompt_encoder.dense_positions(*embedding.shape[-2:])  # he*we c
        embedding = embedding.to(positions.dtype)  # embeddings may come from a cache in half precision
        return DecodedMasks(*self.mask_decoder(embedding, positions, prompt, multimask))

    def upscale_logits(self, logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
        """Mask logits at the resolution of the original image; ``size`` is (height, width) in pixels."""
        return upscale_logits(logits, size)

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that an image of `image_size` has in the network's square: all of it."""
        return self.config.image_size, self.config.image_size


def upscale_logits(logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
    """Mask logits at the resolution of the original image, bilinearly; ``size`` is (height, width) in pixels."""
    larger = F.interpolate(logits.flatten(0, 1), size, mode="bilinear", align_corners=False)
    return larger.unflatten(0, logits.shape[:2])


def build_efficient_sam(variant: str, checkpoint: str | Path | None = None) -> EfficientSam:
    """A model of one of :data:`VARIANTS`, freshly initialised or with the weights of a file.

    Args:
        variant: "nano", "vit_t" or "vit_s".
        checkpoint: ``.safetensors``, ``.pt`` or ``.pth`` (a state dict, or what a training saved with one inside), or
            a ``.zip`` with one such ``.pt``, as released. Nothing in the file is executed. Weights become float32.

    Raises:
        InputError: unknown variant; a file that is missing, unreadable, not plain weights, or not of this variant.
    """
    if variant not in VARIANTS:
        raise InputError(file="variant", rule=f"found {variant!r}", remedy=f"Choose one of {', '.join(VARIANTS)}")
    model = EfficientSam(VARIANTS[variant])
    if checkpoint is not None:
        state = read_weights(Path(checkpoint))
        check_state(Path(checkpoint), state, variant, shapes(model.state_dict()))
        model.load_state_dict(state, strict=True)
    return model


def check_state(path: Path, state: dict[str, Tensor], variant: str, wanted: dict[str, tuple[int, ...]]) -> None:
    """A state dict has the wanted names and shapes; if not, say which entry differs and what the file looks like."""
    found = shapes(state)
    for key in [*wanted, *found]:
        if wanted.get(key) != found.get(key):
            nothing = f"nothing, but {len(found)} entries such as {next(iter(found))}" if found else "nothing"
            rule = f"{variant!r} wants the shape {wanted.get(key, 'no such entry')}, found {found.get(key, nothing)}"
            remedy = f"Use a complete checkpoint of {variant!r}"
            for other in VARIANTS.keys() - {variant}:
                shared = found.items() & shapes(EfficientSam(VARIANTS[other]).state_dict()).items()
                if len(shared) > max(len(found.items() & wanted.items()), len(found) / 2):
                    remedy = f"This looks like a checkpoint of {other!r}: build that variant, or use another file"
            raise InputError(file=path, record=key, rule=rule, remedy=remedy)


def check_images(images: Tensor) -> None:
    """What `encode_images` asks of its argument; raises InputError."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or images.numel() == 0:
        rule = f"a floating-point tensor (b, 3, h, w), found {images.dtype} {tuple(images.shape)}"
        raise InputError(file="images", rule=rule, remedy="Put the RGB channels on axis 1, and divide by 255")
    low, high = torch.stack(images.aminmax()).tolist()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also catches NaN
        raise InputError(file="images", rule=f"in [0, 1], found {low:g} to {high:g}", remedy="Divide 0..255 by 255")


def check_boxes(embedding: Tensor, boxes: Tensor, image_size: tuple[int, int], dim: int) -> None:
    """What `decode_boxes` asks of its arguments; raises InputError, naming the first box that breaks a rule."""
    height, width = _check_prompts("boxes", 4, embedding, boxes, image_size, dim)
    x0, y0, x1, y1 = boxes.unbind(-1)
    good = (x0 < x1) & (y0 < y1) & (x0 < width) & (y0 < height) & (x1 > 0) & (y1 > 0) & boxes.isfinite().all(-1)
    if not good.all():
        image, box = (~good).nonzero()[0].tolist()
        rule = f"x0 < x1, y0 < y1, overlapping the {height} x {width} image, found {boxes[image, box].tolist()}"
        remedy = "Drop the box, or convert xywh to xyxy, and check that image_size is (height, width)"
        raise InputError(file="boxes", record=f"image {image}, box {box}", rule=rule, remedy=remedy)


def check_points(embedding: Tensor, points: Tensor, image_size: tuple[int, int], dim: int) -> None:
    """What `decode_points` asks of its arguments; raises InputError, naming the first point outside the image."""
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
    """Raises InputError for shapes that do not fit; returns the image's height and width."""
    if not isinstance(embedding, Tensor):
        rule = f"an image embedding is a tensor, found {type(embedding).__name__}"
        raise InputError(file="embedding", rule=rule, remedy="Pass what encode_images of the same model returns")
    if embedding.ndim != 4 or embedding.shape[1] != dim:
        rule = f"an image embedding is (b, {dim}, he, we), found {tuple(embedding.shape)}"
        raise InputError(file="embedding", rule=rule, remedy="Pass what encode_images of the same model returns")
    fits = prompts.ndim == 3 and prompts.shape[-1] == numbers and len(prompts) == len(embedding)
    if not fits or not prompts.is_floating_point():
        rule = f"a floating-point tensor ({len(embedding)}, q, {numbers}), found {prompts.dtype} {tuple(prompts.shape)}"
        order = "xyxy" if numbers == 4 else "xy"
        remedy = f"Give q {name}, {order}, for each embedded image; decode images with different q one by one"
        raise InputError(file=name, rule=rule, remedy=remedy)
    try:
        height, width = map(operator.index, image_size)
    except (TypeError, ValueError):  # not two, or no whole numbers
        height = width = 0
    if not (height > 0 and width > 0):
        rule = f"two positive whole numbers, found {image_size!r:.150}"
        raise InputError(file="image_size", rule=rule, remedy="Pass (height, width)")
    return height, width
