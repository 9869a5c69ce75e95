"""Fine-tuning of the mask decoder: batches, image embeddings, training loop."""

from sameo_core.training.batches import BatchSampler as BatchSampler
from sameo_core.training.batches import set_probabilities as set_probabilities
from sameo_core.training.batches import shrink_masks as shrink_masks
from sameo_core.training.embeddings import EmbeddingCache as EmbeddingCache
from sameo_core.training.fine_tuning import build_optimiser as build_optimiser
from sameo_core.training.fine_tuning import fine_tune as fine_tune
from sameo_core.training.fine_tuning import sampling as sampling
from sameo_core.training.fine_tuning import training_log as training_log
from sameo_core.training.fine_tuning import training_loss as training_loss
from sameo_core.training.loop import learning_rate_factor as learning_rate_factor
