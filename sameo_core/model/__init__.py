"""The network: encoders, decoders, checkpoints, losses, `Sameo`, and ONNX export."""

from sameo_core.model.efficient_sam import EfficientSam as EfficientSam
from sameo_core.model.efficient_sam import build_efficient_sam as build_efficient_sam
from sameo_core.model.losses import SameoLoss as SameoLoss
from sameo_core.model.losses import sameo_loss as sameo_loss
from sameo_core.model.sameo import NAMED_WEIGHTS as NAMED_WEIGHTS
from sameo_core.model.sameo import SAM_ENCODER as SAM_ENCODER
from sameo_core.model.sameo import AmodalPrediction as AmodalPrediction
from sameo_core.model.sameo import Sameo as Sameo
