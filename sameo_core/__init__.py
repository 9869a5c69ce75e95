"""SAMEO in the open: EfficientSAM as a plug-in amodal mask decoder ("Segment Anything, Even Occluded", CVPR 2025).

The glossary of array types stands here; every public function speaks in these words. Axis letters: ``b`` images,
``q`` prompts (boxes or points) of one image, ``m`` masks of one prompt (1 or 3), ``n`` objects, ``h w`` pixels of the
original image. Boxes are xyxy float pixels of the original image, sizes are (height, width), images are RGB, masks are
bool, logits are not thresholded (object where logit >= 0).
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Read when torch is loaded. Threads that spin while they wait stop each other: two processes on two cores take 30 times
# as long. Asleep they cost a single process nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

__version__ = "0.1.0"

# One image and its objects, as arrays.
Image = UInt8[np.ndarray, "h w 3"]  # RGB, 0..255
AmodalMask = Bool[np.ndarray, "h w"]  # the full extent of an object: visible and hidden part, inside the frame
VisibleMask = Bool[np.ndarray, "h w"]  # what the camera sees of it ("modal" mask)
AmodalMasks = Bool[np.ndarray, "n h w"]
VisibleMasks = Bool[np.ndarray, "n h w"]
BoxXYXY = Float[np.ndarray, "4"]
BoxesXYXY = Float[np.ndarray, "n 4"]
Scores = Float[np.ndarray, " n"]  # front-end scores, predicted IoU, final scores: one number an object

# A batch on its way through the network, as tensors.
Images = Float[torch.Tensor, "b 3 h w"]  # RGB in [0, 1]
BoxPrompts = Float[torch.Tensor, "b q 4"]  # xyxy pixels of the original image
PointPrompts = Float[torch.Tensor, "b q 2"]  # xy pixels of the original image
PointLabels = Int[torch.Tensor, "b q"]  # 1 on the object, 0 beside it
ImageEmbedding = Float[torch.Tensor, "b c he we"]
MaskLogits = Float[torch.Tensor, "b q m hm wm"]  # at the decoder's resolution
PredictedIoU = Float[torch.Tensor, "b q m"]

if TYPE_CHECKING:  # for type checkers and editors; `__getattr__` imports them
    from sameo_core.config import load_profile as load_profile
    from sameo_core.datasets import load_dataset as load_dataset
    from sameo_core.efficient_sam import build_efficient_sam as build_efficient_sam
    from sameo_core.errors import InputError as InputError
    from sameo_core.evaluation import evaluate_amodal as evaluate_amodal
    from sameo_core.sameo import AmodalPrediction as AmodalPrediction
    from sameo_core.sameo import Sameo as Sameo

_PUBLIC = {
    "InputError": "errors",
    "load_profile": "config",
    "build_efficient_sam": "efficient_sam",
    "load_dataset": "datasets",
    "Sameo": "sameo",
    "AmodalPrediction": "sameo",
    "evaluate_amodal": "evaluation",
}
__all__ = [*_PUBLIC, "__version__"]

if not TYPE_CHECKING:  # a checker would take it for an answer to every name

    def __getattr__(name):
        """Public names, imported when first asked for: the rooms below import the glossary from here."""
        if name in _PUBLIC:
            return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_PUBLIC})
