"""What half-precision embeddings cost in AP: the main result of `mini`, trained with both."""

import pytest

from sameo_core.collection import open_clean_dataset
from sameo_core.config import load_profile
from sameo_core.evaluation import evaluate
from sameo_core.front_ends import ground_truth_boxes
from sameo_core.inference import predict_dataset
from sameo_core.reporting import mean_interval
from sameo_core.sameo import Sameo
from sameo_core.training import fine_tune_all


@pytest.mark.benchmark
@pytest.mark.timeout(3600)  # seconds
def test_half_precision_costs_less_than_a_point_of_ap():
    """Three seeds each, visible boxes, the first held-out set. Runs that `make reproduce` has left are not repeated;
    where it has not run, this takes a quarter of an hour."""
    profile = load_profile("mini")
    seeds = profile.training.seeds
    kinds = {"half": profile, "single": profile.override(half_embeddings=False)}
    weights = fine_tune_all([(kind, seed) for kind in kinds.values() for seed in seeds])
    names = [(kind, seed) for kind in kinds for seed in seeds]
    models = {f"{kind} {seed}": Sameo.load(path) for (kind, seed), path in zip(names, weights, strict=True)}
    dataset = open_clean_dataset(profile.data.held_out[0], "val", profile)
    found = predict_dataset(models, dataset, {"visible boxes": ground_truth_boxes("visible")})
    ap = {
        model: evaluate(dataset, results, class_aware=False).class_agnostic["all"]["AP"]
        for (model, _), results in found.items()
    }
    changes = [ap[f"half {seed}"] - ap[f"single {seed}"] for seed in seeds]
    mean, low, high = mean_interval(changes)
    print(f"\nAP {ap}\nhalf minus single: {mean:+.4f} ({low:+.4f} to {high:+.4f})")
    assert len(set(ap.values())) > 1 and abs(mean) < 0.01
