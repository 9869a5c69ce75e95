"""SAMEO in the open: EfficientSAM as a plug-in amodal mask decoder ("Segment Anything, Even Occluded", CVPR 2025)."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Read when torch is loaded. Spinning threads block each other: two processes on two cores take 30 times as long.
# Passive waiting costs a single process nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers and editors; `__getattr__` imports them
    from sameo_core.config import load_profile as load_profile
    from sameo_core.datasets import load_dataset as load_dataset
    from sameo_core.errors import InputError as InputError
    from sameo_core.evaluation import evaluate_amodal as evaluate_amodal
    from sameo_core.model import AmodalPrediction as AmodalPrediction
    from sameo_core.model import Sameo as Sameo
    from sameo_core.model import build_efficient_sam as build_efficient_sam

_PUBLIC = {
    "InputError": "errors",
    "load_profile": "config",
    "build_efficient_sam": "model",
    "load_dataset": "datasets",
    "Sameo": "model",
    "AmodalPrediction": "model",
    "evaluate_amodal": "evaluation",
}
__all__ = [*_PUBLIC, "__version__"]

if not TYPE_CHECKING:  # with it, a type checker would accept every name

    def __getattr__(name):
        """Public names, imported on first access."""
        if name in _PUBLIC:
            return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_PUBLIC})
