"""The decoder's training losses: Dice + focal + 0.05 x L1 of its predicted IoU (SAMEO, section "Training").

Pure functions of mask logits "*masks h w" and targets of the same shape in [0, 1]. Each loss is computed per mask and
then averaged, so a small object weighs as much as a large one. Targets may be soft: a mask resized to the decoder's
resolution with antialiasing covers some cells in part. All sums are in float32 or better, whatever the network's
precision.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sameo_core.errors import InputError

TINY = 1e-6  # pixels; makes the Dice of two empty masks 1 instead of 0/0


class SameoLoss(NamedTuple):
    """The total, with its gradient, and its three terms before weighting."""

    total: Float[Tensor, ""]
    dice: Float[Tensor, ""]
    focal: Float[Tensor, ""]
    iou: Float[Tensor, ""]


def sameo_loss(
    logits: Float[Tensor, "*masks h w"],
    predicted_iou: Float[Tensor, "*masks"],
    target: Float[Tensor, "*masks h w"],
    iou_weight: float = 0.05,
) -> SameoLoss:
    """Dice + focal + ``iou_weight`` x L1 of the predicted IoU: the training loss of SAMEO (section "Training").

    Raises:
        InputError: shapes that differ, which would be broadcast.
    """
    if logits.shape != target.shape or predicted_iou.shape != logits.shape[:-2]:
        found = [tuple(part.shape) for part in (logits, predicted_iou, target)]
        rule = f"logits and target have one shape, (..., h, w), and predicted_iou (...), found {found}"
        raise InputError(file="target", rule=rule, remedy="Bring masks to the shape of the logits")
    dice, focal = dice_loss(logits, target), focal_loss(logits, target)
    iou = iou_l1_loss(predicted_iou, logits, target)
    return SameoLoss(dice + focal + iou_weight * iou, dice, focal, iou)


def dice_loss(logits: Float[Tensor, "*masks h w"], target: Float[Tensor, "*masks h w"]) -> Float[Tensor, ""]:
    """1 - 2 |P and G| / (|P| + |G|) with P the probabilities and G the target, mean over masks; in [0, 1].

    The intersection of soft sets is the sum of min(p, g). For a binary target this is the usual sum of p g; for a soft
    one only min gives a perfect prediction zero loss (Wang et al., "Dice Semimetric Losses", MICCAI 2023). An empty
    target costs 0 if the prediction is empty, else 1 (with hardly any gradient; the focal loss supplies it).
    """
    logits, target = _full_precision(logits, target)
    probability = logits.sigmoid()
    intersection = torch.minimum(probability, target).sum(dim=(-2, -1))
    total = (probability + target).sum(dim=(-2, -1))
    return (1 - (2 * intersection + TINY) / (total + TINY)).mean()


def focal_loss(
    logits: Float[Tensor, "*masks h w"], target: Float[Tensor, "*masks h w"], gamma: float = 2.0
) -> Float[Tensor, ""]:
    """Mean over pixels and masks of -(1 - p_t)^gamma log(p_t), in nats (Lin et al., "Focal Loss", ICCV 2017; no alpha).

    p_t is the probability of the true class. A pixel with a soft target g counts as object with weight g and as
    background with weight 1 - g: the expectation over the two classes. ``gamma`` = 0 is binary cross-entropy.
    """
    logits, target = _full_precision(logits, target)
    log_object, log_background = F.logsigmoid(logits), F.logsigmoid(-logits)  # log p, log (1 - p), stable far from 0
    if_object = -(gamma * log_background).exp() * log_object
    if_background = -(gamma * log_object).exp() * log_background
    return (target * if_object + (1 - target) * if_background).mean()


def iou_l1_loss(
    predicted_iou: Float[Tensor, "*masks"], logits: Float[Tensor, "*masks h w"], target: Float[Tensor, "*masks h w"]
) -> Float[Tensor, ""]:
    """Mean over masks of |predicted IoU - true IoU|; only the prediction gets a gradient."""
    truth = mask_iou(logits, target)
    return (predicted_iou.to(truth.dtype) - truth).abs().mean()


@torch.no_grad()
def mask_iou(logits: Float[Tensor, "*masks h w"], target: Float[Tensor, "*masks h w"]) -> Float[Tensor, "*masks"]:
    """IoU per mask, with prediction binarised at logit >= 0 and target at >= 0.5; 1 for two empty masks."""
    logits, target = _full_precision(logits, target)
    prediction, truth = logits >= 0, target >= 0.5
    intersection = (prediction & truth).sum(dim=(-2, -1))
    union = (prediction | truth).sum(dim=(-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0).to(logits.dtype)


def _full_precision(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cast both to float32 or better."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), target.to(dtype)
