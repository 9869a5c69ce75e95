"""The network: encoders, decoders, checkpoints, losses, `Sameo`, and ONNX export."""

from sameo_core.model.efficient_sam import EfficientSam, build_efficient_sam
from sameo_core.model.losses import SameoLoss, sameo_loss
from sameo_core.model.sameo import NAMED_WEIGHTS, SAM_ENCODER, AmodalPrediction, Sameo

__all__ = [
    "NAMED_WEIGHTS",
    "SAM_ENCODER",
    "AmodalPrediction",
    "EfficientSam",
    "Sameo",
    "SameoLoss",
    "build_efficient_sam",
    "sameo_loss",
]
