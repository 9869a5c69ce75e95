"""Checkpoints of EfficientSAM: every form that training scripts save, and what is refused."""

import io
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from test_efficient_sam import seeded_model

from sameo_core.errors import InputError
from sameo_core.model import build_efficient_sam
from sameo_core.model.checkpoints import read_weights


@pytest.fixture(scope="module")
def nano():
    return seeded_model("nano")


def zip_of(path: Path, *members: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.write(member, member.name)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "fp16", "pt", "pth", "zip"])
def test_checkpoint_round_trip(nano, tmp_path, kind):
    state = nano.state_dict()
    if kind == "safetensors":
        safetensors.torch.save_file(state, path := tmp_path / "nano.safetensors")
    elif kind == "fp16":
        state = {key: value.half() for key, value in state.items()}
        safetensors.torch.save_file(state, path := tmp_path / "nano.safetensors")
    elif kind == "pth":
        torch.save(state, path := tmp_path / "nano.pth")
    else:
        torch.save({"model": state}, path := tmp_path / "nano.pt")
        path = path if kind == "pt" else zip_of(tmp_path / "nano.pt.zip", path)
    loaded = build_efficient_sam("nano", checkpoint=str(path)).state_dict()
    assert loaded.keys() == state.keys()
    for key, value in loaded.items():
        assert value.dtype == torch.float32 and torch.equal(value, state[key].float())


def renamed(state, before, **more):
    return {before + key: value for key, value in state.items()} | more


SAVED = {  # by training scripts: around the weights, and in front of their names
    "parallel": lambda s: renamed(s, "module."),
    "compiled": lambda s: renamed(s, "_orig_mod."),
    "both": lambda s: {"model": renamed(s, "module._orig_mod.")},
    "a part compiled": lambda s: {k.replace("image_encoder.", "image_encoder._orig_mod."): v for k, v in s.items()},
    "averaged": lambda s: {"model_ema": renamed(s, "module.", n_averaged=torch.tensor(3)), "epoch": 1},
    "Lightning": lambda s: {"state_dict": renamed(s, "net."), "epoch": 1, "loops": {"a": {"b": 1}}},
    "tutorial": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "loss": torch.tensor(1.0)},
    "best of several": lambda s: {"ema": {"a": torch.ones(1)}, "model": s, "best_score": torch.tensor(1.0)},
    "nested": lambda s: {"checkpoint": {"model": s}},
    "script": lambda s: {"model": s, "args": Namespace(out=Path("a"), best=np.float64(1), rank=np.int32(2))},
}


@pytest.mark.parametrize("kind", SAVED)
def test_what_a_training_puts_around_weights_is_undone(nano, tmp_path, kind):
    torch.save(SAVED[kind](nano.state_dict()), path := tmp_path / "nano.pt")
    assert build_efficient_sam("nano", path).fingerprint() == nano.fingerprint()


KEY = "mask_decoder.iou_token.weight"
BAD_STATES = {  # a state, the entry that is named
    "missing": (lambda s: {k: v for k, v in s.items() if k != KEY}, KEY),
    "unexpected": (lambda s: {**s, "head.weight": torch.ones(2)}, "head.weight"),
    "shape": (lambda s: {**s, KEY: torch.ones(2, 128)}, KEY),
    "nan": (lambda s: {**s, KEY: s[KEY] * float("nan")}, KEY),
    "integers": (lambda s: {**s, KEY: s[KEY].int()}, KEY),
    "no tensor": (lambda s: {**s, KEY: 3.0}, KEY),
    "another variant": (lambda s: build_efficient_sam("vit_t").state_dict(), "image_encoder.pos_embed"),
    "empty": (lambda s: {}, "image_encoder.pos_embed"),
    "list": (lambda s: list(s.values()), None),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_entries_are_named(nano, tmp_path, case):
    spoil, record = BAD_STATES[case]
    torch.save(spoil(nano.state_dict()), path := tmp_path / "nano.pt")
    with pytest.raises(InputError) as error:
        build_efficient_sam("nano", path)
    assert (error.value.file, error.value.record) == (str(path), record)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "zip"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_truncated_files(nano, tmp_path, kind, keep):
    path, inside = tmp_path / f"nano.{kind}", tmp_path / "inside.pt"
    if kind == "safetensors":
        safetensors.torch.save_file(nano.state_dict(), path)
    else:
        torch.save(nano.state_dict(), path if kind == "pt" else inside)
    if kind == "zip":
        zip_of(path, inside)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match="complete") as error:
        read_weights(path)
    assert error.value.file == str(path)


def test_zip_without_exactly_one_checkpoint(tmp_path):
    (tmp_path / "a.txt").write_text("no weights here")
    with pytest.raises(InputError, match="complete"):
        read_weights(zip_of(tmp_path / "none.zip", tmp_path / "a.txt"))


class Malicious:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["torch", "bare pickle", "inside zip"])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, kind):
    path, trace = tmp_path / "weights.pt", tmp_path / "executed"
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps({"model": Malicious(trace)}))
    else:
        torch.save({"model": Malicious(trace)}, path)
    if kind == "torch":  # the trap works: read carelessly, this very file runs its code
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
        assert trace.exists()
        trace.unlink()
    if kind == "inside zip":
        path = zip_of(tmp_path / "weights.zip", path)
    with pytest.raises(InputError, match="nothing but weights"):
        build_efficient_sam("nano", path)
    assert not trace.exists()
