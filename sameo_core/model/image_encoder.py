"""The image encoder of EfficientSAM: a plain ViT and a convolutional neck; runs once per image.

In shape comments: b images, n tokens, he x we cells of the image embedding, c channels.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.arrays import ImageEmbedding, Images
from sameo_core.model.variants import EfficientSamConfig


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
    """Layer norm over each cell's channels."""

    def forward(self, x: ImageEmbedding) -> ImageEmbedding:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ImageEncoder(nn.Module):
    """A plain ViT with global attention in every block, and a convolutional neck."""

    def __init__(self, config: EfficientSamConfig):
        super().__init__()
        self.grid, dim, out = config.pretrain_grid, config.encoder_dim, config.embedding_dim
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + 1, dim))  # entry 0 (class token) is unused
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
