"""What half-precision embeddings cost in AP: the main result of `mini`, trained with both."""

import pytest

from sameo_core import pipeline
from sameo_core.config import load_profile
from sameo_core.evaluation import evaluate
from sameo_core.front_ends import ground_truth_boxes, predict_dataset
from sameo_core.model import Sameo
from sameo_core.pipeline import open_clean_dataset, train_all
from sameo_core.reporting import mean_interval


@pytest.fixture
def profile(full, request, monkeypatch):
    """`mini`; or, small, six iterations in a world of its own, in this process."""
    if full:
        return load_profile("mini")
    monkeypatch.setattr(pipeline, "runs_at_once", lambda runs: 1)
    return request.getfixturevalue("world").profile(seeds=(0, 1))


def distance(one: Sameo, other: Sameo) -> float:
    """Between the weights of two decoders, Euclidean."""
    pairs = zip(one.trainable_parameters(), other.trainable_parameters(), strict=True)
    return sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5


@pytest.mark.timeout(3600)  # seconds
def test_half_precision_costs_less_than_a_point_of_ap(profile, full):
    """Three seeds each, visible boxes, the first held-out set. Runs that `make reproduce` has left are not repeated;
    where it has not run, this takes a quarter of an hour."""
    seeds = profile.training.seeds
    kinds = {"half": profile, "single": profile.override(half_embeddings=False)}
    weights = train_all([(kind, seed) for kind in kinds.values() for seed in seeds])
    names = [(kind, seed) for kind in kinds for seed in seeds]
    models = {f"{kind} {seed}": Sameo.load(path) for (kind, seed), path in zip(names, weights, strict=True)}
    dataset = open_clean_dataset(profile.data.held_out[0], "val", profile)
    found = predict_dataset(models, dataset, {"visible boxes": ground_truth_boxes("visible")})
    ap = {
        model: evaluate(dataset, results, class_aware=False).class_agnostic["all"]["AP"]
        for (model, _), results in found.items()
    }
    if not full:  # so short that precision changes less than a seed does
        other = distance(models["half 0"], models["half 1"])
        assert all(0 < distance(models[f"half {seed}"], models[f"single {seed}"]) < other / 10 for seed in seeds)
        assert all(0 <= value <= 1 for value in ap.values())
        return
    changes = [ap[f"half {seed}"] - ap[f"single {seed}"] for seed in seeds]
    mean, low, high = mean_interval(changes)
    print(f"\nAP {ap}\nhalf minus single: {mean:+.4f} ({low:+.4f} to {high:+.4f})")
    assert len(set(ap.values())) > 1 and abs(mean) < 0.01
