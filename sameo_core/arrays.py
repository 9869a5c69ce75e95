"""The glossary of array types in public signatures.

Axis letters: ``b`` images, ``q`` prompts (boxes or points) of one image, ``m`` masks of one prompt (1 or 3), ``n``
objects, ``h w`` pixels of the original image. Boxes are xyxy float pixels of the original image, sizes are (height,
width), images are RGB, masks are bool, logits are not thresholded (object where logit >= 0).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

# One image and its objects, as arrays.
Image = UInt8[np.ndarray, "h w 3"]  # RGB, 0..255
AmodalMask = Bool[np.ndarray, "h w"]  # the full extent of an object: visible and hidden part, inside the frame
VisibleMask = Bool[np.ndarray, "h w"]  # the part that the camera sees ("modal" mask)
AmodalMasks = Bool[np.ndarray, "n h w"]
VisibleMasks = Bool[np.ndarray, "n h w"]
BoxXYXY = Float[np.ndarray, "4"]
BoxesXYXY = Float[np.ndarray, "n 4"]
Scores = Float[np.ndarray, " n"]  # front-end scores, predicted IoU, final scores: one number per object

# A batch on its way through the network, as tensors.
Images = Float[torch.Tensor, "b 3 h w"]  # RGB in [0, 1]
BoxPrompts = Float[torch.Tensor, "b q 4"]  # xyxy pixels of the original image, on the object
PointPrompts = Float[torch.Tensor, "b q 2"]  # xy pixels of the original image, on the object
ImageEmbedding = Float[torch.Tensor, "b c he we"]
MaskLogits = Float[torch.Tensor, "b q m hm wm"]  # at the decoder's resolution
PredictedIoU = Float[torch.Tensor, "b q m"]
