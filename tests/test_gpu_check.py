"""The CPU part of the check for GPUs."""

import gpu_check
import pytest


@pytest.mark.parametrize("check", gpu_check.CHECKS, ids=lambda check: check.__name__)
def test_every_check_finds_something_and_passes_here(check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "SECONDS", 0.1)
    rows = list(check(tmp_path))
    assert rows and all(figure for _, figure, _ in rows) and "FAILED" not in {found for *_, found in rows}


def test_another_decoder_fails(tmp_path, monkeypatch):
    network = gpu_check.network
    calls = []

    def drifting(device):
        model = network(device)
        if calls:  # the second network is the one that is checked
            model.image_encoder.pos_embed.data += 1
        calls.append(device)
        return model

    monkeypatch.setattr(gpu_check, "network", drifting)
    assert "FAILED" in {found for *_, found in gpu_check.parity(tmp_path)}
