"""Fine-tuning of the mask decoder: batches, image embeddings, training loop."""

from sameo_core.training.batches import Batch, BatchSampler, set_probabilities, shrink_masks
from sameo_core.training.embeddings import EmbeddingCache
from sameo_core.training.fine_tuning import build_optimiser, fine_tune, sampling, training_log, training_loss
from sameo_core.training.loop import learning_rate_factor

__all__ = [
    "Batch",
    "BatchSampler",
    "EmbeddingCache",
    "build_optimiser",
    "fine_tune",
    "learning_rate_factor",
    "sampling",
    "set_probabilities",
    "shrink_masks",
    "training_log",
    "training_loss",
]
