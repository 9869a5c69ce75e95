"""Export encoder and decoder as ONNX files, for use without PyTorch.

    import numpy as np, onnxruntime, PIL.Image
    from sameo_core import Sameo
    from sameo_core.model.onnx import export_onnx

    files = export_onnx(Sameo.load("nano"), folder)                     # needs PyTorch; the rest does not
    encoder, decoder = (onnxruntime.InferenceSession(file) for file in files)
    (embedding,) = encoder.run(None, {"image": image})                  # once per image: uint8 RGB, any size
    prompt = {"boxes": np.array(boxes, np.float32), "image_size": np.array(image.shape[:2])}  # xyxy pixels of it
    logits, iou = decoder.run(None, {"embedding": embedding, **prompt})   # any number of boxes
    size = image.shape[1::-1]
    masks = [np.array(PIL.Image.fromarray(mask).resize(size, PIL.Image.BILINEAR)) >= 0 for mask in logits]

The encoder resizes and normalises the image itself. Masks have the decoder's resolution, since many full-size masks
would not fit into memory.
"""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor, nn
from torch.export import Dim

from sameo_core.arrays import ImageEmbedding
from sameo_core.errors import InputError
from sameo_core.model.efficient_sam import EfficientSam
from sameo_core.model.sameo import Sameo
from sameo_core.runs.atomic import atomic_write, make_folder

OPSET = 18  # supported since onnxruntime 1.14


class Encoder(nn.Module):
    """Embeds an image of any size."""

    def __init__(self, model: EfficientSam):
        super().__init__()
        self.model = model

    def forward(self, image: UInt8[Tensor, "h w 3"]) -> ImageEmbedding:
        side = self.model.config.image_size
        pixels = _stretched(_stretched(image, side).transpose(0, 1), side).permute(2, 1, 0)[None] / 255
        return self.model.image_encoder((pixels - self.model.pixel_mean) / self.model.pixel_std)


def _stretched(image: Shaped[Tensor, "n m 3"], side: int) -> Float[Tensor, "{side} m 3"]:
    """Resize an image to `side` rows, bilinearly, in float32, with the coordinates of `F.interpolate`.

    ONNX's Resize rounds coordinates differently; over a ViT's 12 blocks the error grows beyond 1e-4.
    """
    rows = image.shape[0]
    at = ((torch.arange(side) + 0.5) * (rows / side) - 0.5).clamp(min=0)
    above = at.long()
    below = (above + 1).clamp(max=rows - 1)
    share = (at - above)[:, None, None]
    return image[above] * (1 - share) + image[below] * share


class Decoder(nn.Module):
    """Predicts mask logits and IoU from an embedding, xyxy boxes in image pixels, and image size (height, width)."""

    def __init__(self, model: EfficientSam):
        super().__init__()
        self.model = model

    def forward(
        self, embedding: ImageEmbedding, boxes: Float[Tensor, "q 4"], image_size: Int64[Tensor, "2"]
    ) -> tuple[Float[Tensor, "q hm wm"], Float[Tensor, " q"]]:
        side, prompts = self.model.config.image_size, self.model.prompt_encoder
        scale = side / image_size.float().flip(0).repeat(2)
        boxes = torch.cat([boxes * scale, boxes.new_tensor([[0, 0, side, side]])])  # one more: ONNX cannot reshape 0
        positions = prompts.pe_layer.grid(*embedding.shape[-2:])
        logits, iou = self.model.mask_decoder(embedding, positions, prompts(boxes[None], side), False)
        return logits[0, :-1, 0], iou[0, :-1, 0].clamp(0, 1)


def export_onnx(sameo: Sameo, folder: str | Path) -> tuple[Path, Path]:
    """Write `<variant>_encoder.onnx` and `<variant>_decoder.onnx` (opset 18, with weights); returns their paths.

    Encoder: `image` uint8 "h w 3" -> `embedding` float32 "1 c he we". Decoder: `embedding`, `boxes` float32 "q 4" xyxy
    pixels, `image_size` int64 (height, width) -> `logits` float32 "q hm wm" (object where >= 0), `iou` float32 "q".
    The graphs check nothing: boxes must have an area and overlap the image.

    Raises:
        InputError: the packages that write ONNX are not installed; the folder cannot be made.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        rule = f"writing ONNX needs a package that is not installed ({error.name})"
        raise InputError(file="onnx", rule=rule, remedy='Install it: pip install -e ".[onnx]"') from error
    folder = Path(folder)
    make_folder(folder)
    model = copy.deepcopy(sameo.model).cpu().eval()
    side, cells = model.config.image_size, model.config.image_size // model.config.patch_size
    image = torch.zeros(side, side + 16, 3, dtype=torch.uint8)
    embedding = torch.zeros(1, model.config.embedding_dim, cells, cells)
    boxes = torch.tensor([[1.0, 2, 30, 40]]).repeat(3, 1)
    encoder = _write(
        Encoder(model),
        {"image": image},
        {"image": {0: Dim("h", min=2), 1: Dim("w", min=2)}},
        ["embedding"],
        folder / f"{sameo.variant}_encoder.onnx",
    )
    decoder = _write(
        Decoder(model),
        {"embedding": embedding, "boxes": boxes, "image_size": torch.tensor([side, side])},
        {"embedding": None, "boxes": {0: Dim("q", min=0)}, "image_size": None},
        ["logits", "iou"],
        folder / f"{sameo.variant}_decoder.onnx",
    )
    return encoder, decoder


@torch.inference_mode()
def _write(graph: nn.Module, example: dict, dynamic: dict, outputs: list[str], path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program: Any = torch.onnx.export(  # only the older exporter returns None
            graph.eval(),
            kwargs=example,
            input_names=list(example),
            output_names=outputs,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    with atomic_write(path) as partial:
        program.save(partial, external_data=False)
    return path
