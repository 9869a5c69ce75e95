"""Read checkpoints of any origin as plain weights; nothing in a file is executed."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from os.path import commonprefix
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sameo_core.errors import InputError
from sameo_core.runs.atomic import atomic_write

MAX_NUMBERS = 2**28  # per checkpoint; EfficientSAM-S has 26 million. Guards against decompression bombs
STATES = ("model", "state_dict", "model_state_dict")  # keys under which training scripts save the weights
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # hold a wrapped module
BESIDE = (  # globals that training scripts pickle beside the weights
    "argparse.Namespace",
    *(f"{m}.{kind}" for m in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")),
    *(f"numpy.{m}.multiarray.scalar" for m in ("core", "_core")),
    "numpy.dtype",
)


def fingerprint_weights(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with any name or value of the model's state."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(plain_name(name).encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_weights(path: str | Path, counters: bool = False) -> dict[str, Tensor]:
    """Read a checkpoint's tensors (formats: see :func:`build_efficient_sam`) as float32 on the CPU.

    Names are those of the plain network, without the prefixes that `torch.compile` and data parallelism add.

    Args:
        counters: allow integers, kept as they are (`num_batches_tracked` of batch normalisation).

    Raises:
        InputError: the file is missing, damaged, of another format, or holds more than plain finite weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(file=path, rule="the checkpoint must exist", remedy="Check the path, or download the file")
    again = "Download the checkpoint again, or save it again as .safetensors or as a state dict in .pt; if a training "
    again += "made it, delete it and call it again"
    try:
        state = _unwrapped(_read(path))
        if not isinstance(state, dict):
            raise ValueError(f"a dict of tensors, found {type(state).__name__}")
        numbers = sum(value.numel() for value in state.values() if isinstance(value, Tensor))
        if numbers > MAX_NUMBERS:  # an expanded tensor takes hardly any bytes in the file
            raise ValueError(f"at most {MAX_NUMBERS:,} numbers, found {numbers:,}")
    except Exception as error:  # these readers raise almost any exception on a damaged file
        rule = f"the file must be complete and hold nothing but weights ({type(error).__name__}: {str(error):.150})"
        raise InputError(file=path, rule=rule, remedy=again) from error
    for key, value in state.items():
        if problem := _problem(value, counters):
            raise InputError(file=path, record=str(key), rule=problem, remedy=again)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _read(path: Path) -> object:
    """Whatever is saved in a file: tensors and plain containers."""
    if path.suffix == ".safetensors":
        state, stated = safetensors.torch.load_file(path, device="cpu"), stated_by(path)
        if "crc32" in stated and stated["crc32"] != weights_checksum(state):
            raise ValueError("the checksum is not the one they were saved with")
        return state
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            (inside,) = [name for name in archive.namelist() if name.endswith((".pt", ".pth"))]
            _check_unpacked(archive)
            return _load_plain(io.BytesIO(archive.read(inside)))
    with path.open("rb") as file:
        return _load_plain(file)


def _problem(value: object, counters: bool) -> str | None:
    """Why an entry is not a dense tensor of finite numbers; None if it is."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or counters and value.dtype == torch.int64):
        return f"an entry is a floating-point tensor, found {getattr(value, 'dtype', type(value).__name__)}"
    if value.layout != torch.strided or value.is_meta:
        return f"an entry is a dense tensor, found {'no data' if value.is_meta else value.layout}"
    return None if value.isfinite().all() else "weights are finite, found NaN or infinity"


def write_weights(path: Path, weights: dict[str, Tensor], variant: str) -> None:
    """Write weights, variant and checksum as safetensors, atomically."""
    with atomic_write(path) as partial:
        stated = {"variant": variant, "crc32": weights_checksum(weights)}
        partial.write_bytes(safetensors.torch.save(weights, metadata={"sameo": json.dumps(stated)}))


def stated_by(path: Path) -> dict:
    """The metadata that `write_weights` wrote; {} for other files.

    Raises:
        InputError: not a complete safetensors file.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            stated = json.loads((file.metadata() or {}).get("sameo", "{}"))
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        rule, remedy = f"not a complete safetensors file ({error})", "Save or fetch it again"
        raise InputError(file=path, rule=rule, remedy=remedy) from error
    return stated if isinstance(stated, dict) else {}


def _unwrapped(saved: object) -> object:
    """The state dict within a saved object, with the names of the plain network."""
    for _ in range(3):  # nested, e.g. "model" in "checkpoint"
        entries = saved.items() if isinstance(saved, dict) else ()
        parts = {key: value for key, value in entries if isinstance(value, dict)}
        named = [parts[key] for key in STATES if key in parts]
        states = [part for part in parts.values() if part and all(isinstance(v, Tensor) for v in part.values())]
        inner = named or states or [*parts.values()]
        if not named and len(inner) != 1:
            break
        saved = inner[0]
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        return saved
    state = {plain_name(key): value for key, value in saved.items() if key != "n_averaged"}  # of torch's AveragedModel
    names = [name.split(".") for name in state]
    outer = min([len(commonprefix(names)), *(len(name) - 1 for name in names)])  # custom wrappers
    return {".".join(name[outer:]): value for name, value in zip(names, state.values(), strict=True)}


def plain_name(name: str) -> str:
    """A parameter's name without the wrappers of `torch.compile` and data parallelism."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def weights_checksum(state: Mapping[str, Tensor]) -> int:
    """CRC-32 of all names and values; `write_weights` stores it, `read_weights` checks it."""
    checksum = 0
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        checksum = zlib.crc32(values, zlib.crc32(name.encode(), checksum))
    return checksum


def _load_plain(file: io.BytesIO | io.BufferedReader) -> object:
    """Load PyTorch's own format; only tensors and plain containers are allowed."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            _check_unpacked(archive)
    file.seek(0)
    with torch.serialization.safe_globals([(_Beside, name) for name in BESIDE]):
        return torch.load(file, weights_only=True, map_location="cpu")


class _Beside:
    """Placeholder for an entry beside the weights, so that no foreign class is instantiated or called."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _check_unpacked(archive: zipfile.ZipFile) -> None:
    """Raise ValueError for an archive that unpacks to an implausible size."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > 4 * MAX_NUMBERS + 2**20:
        raise ValueError(f"{unpacked:,} bytes when unpacked")


def load_exactly(model: nn.Module, state: dict[str, Tensor], path: Path, name: str = "this network") -> None:
    """Strict `load_state_dict`; InputError names the first mismatching entry of `path`."""
    wanted, found = ({key: tuple(value.shape) for key, value in part.items()} for part in (model.state_dict(), state))
    for key in [*wanted, *found]:
        if wanted.get(key) != found.get(key):
            nothing = f"nothing, but {len(found)} entries such as {next(iter(found))}" if found else "nothing"
            rule = f"{name} wants the shape {wanted.get(key, 'of no such entry')}, found {found.get(key, nothing)}"
            raise InputError(file=path, record=key, rule=rule, remedy=f"Use complete weights that belong to {name}")
    model.load_state_dict(state)
