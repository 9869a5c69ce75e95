"""Where a run was computed: what its numbers may depend on besides its config."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from sameo_core import __version__
from sameo_core.runs.atomic import written_whole

FILE = "environment.json"  # in the run folder
PACKAGES = ("torchvision", "numpy", "pycocotools")
CODE = Path(__file__).resolve().parents[2]


def environment(code: Path = CODE) -> dict[str, object]:
    """This process, for JSON: package versions, Python, system, CPU, torch's threads and instruction set, git commit.

    Args:
        code: the checkout that `git_commit` is of; None stands there where it is none, or git cannot be asked.
            `git_dirty` is whether `sameo_core` or `notebooks` differ from that commit.
    """
    status = _git(code, "status", "--porcelain", "--", "sameo_core", "notebooks")
    return {
        "packages": {"sameo": __version__, "torch": torch.__version__} | {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "git_commit": _git(code, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def write_environment(folder: Path) -> Path:
    """`environment` of this process as `environment.json` in a run folder, whole or not at all; its path.

    A run that goes on elsewhere keeps what it began in: those that differ are listed under `earlier`, the latest
    last.
    """
    path, now = folder / FILE, environment()
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known = [*before.pop("earlier", []), before]
    except (OSError, ValueError, AttributeError, TypeError):  # none, or one that is of no use: it is written anew
        known = []
    earlier = [one for one in known if one != now]
    with written_whole(path) as partial:
        partial.write_text(json.dumps(now | ({"earlier": earlier} if earlier else {}), indent=1), encoding="utf-8")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    """As the system calls it; where it has no name, the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def _git(code: Path, *arguments: str) -> str | None:
    """What git says of a checkout; None without one, or without git. It takes no lock: others may be at work."""
    if not (code / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(code), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
