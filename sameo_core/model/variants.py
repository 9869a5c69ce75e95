"""The three variants of EfficientSAM."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EfficientSamConfig:
    """A variant's hyper-parameters; the defaults are EfficientSAM-Ti as released."""

    image_size: int = 1024  # images are resized to image_size x image_size pixels
    patch_size: int = 16
    pretrain_grid: int = 14  # patches per side of the stored position embeddings (plus a class token)
    encoder_dim: int = 192
    encoder_depth: int = 12
    encoder_heads: int = 3
    embedding_dim: int = 256  # channels of the image embedding and of the decoder
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
