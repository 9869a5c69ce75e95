"""Photographs that may be shown anywhere: those inside the wheels of scikit-image and matplotlib.

They are read from the installed packages; nothing is fetched. Credits and terms: data/README.md.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import skimage

from sameo_core.arrays import Image
from sameo_core.datasets.images import read_photograph
from sameo_core.errors import InputError

Box = tuple[int, int, int, int]  # xyxy pixels

_SKIMAGE = Path(skimage.__file__).parent / "data"
_FILES = {
    "coffee": _SKIMAGE / "coffee.png",
    "cat": _SKIMAGE / "chelsea.png",
    "astronaut": _SKIMAGE / "astronaut.png",
    "rocket": _SKIMAGE / "rocket.jpg",
    "motorcycle": _SKIMAGE / "motorcycle_left.png",
    "grace_hopper": Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
}
SAMPLES = tuple(name for name, path in _FILES.items() if path.is_file())  # distributions may leave sample data out


@dataclass(frozen=True)
class SampleObject:
    """An object that nothing hides, and a box around it, drawn by hand."""

    photograph: str
    box: Box


OBJECTS = {
    "cup": SampleObject("coffee", (80, 10, 482, 400)),  # with its saucer
    "cat": SampleObject("cat", (0, 0, 370, 300)),
    "astronaut": SampleObject("astronaut", (30, 20, 350, 511)),
    "rocket": SampleObject("rocket", (305, 112, 336, 385)),
    "motorcycle": SampleObject("motorcycle", (60, 70, 690, 460)),
    "grace_hopper": SampleObject("grace_hopper", (40, 25, 512, 600)),
}


def sample_path(name: str) -> Path:
    """The file of a photograph, one of `SAMPLES`.

    Raises:
        InputError: there is none of this name.
    """
    if name not in SAMPLES:
        rule = f"one of {', '.join(SAMPLES)}, found {name!r:.150}"
        raise InputError(file="photograph", rule=rule, remedy="Choose one of these, or read_photograph(PATH)")
    return _FILES[name]


def sample_photograph(name: str) -> Image:
    """The pixels of a photograph, one of `SAMPLES`.

    Raises:
        InputError: there is none of this name.
    """
    return read_photograph(sample_path(name))
