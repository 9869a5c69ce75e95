"""Masks that are files: PNG and npz, brought to RLE as they are read, one object at a time.

A file says how large it is before it is decoded, so that a small file cannot ask for more memory than its image has.
Rules of errors read "name of the rule: what was found", as in `masks`.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
from jaxtyping import Bool, UInt8, UInt16

from sameo_core.datasets.images import FORMATS, upright_size
from sameo_core.errors import InputError

MAX_PIXELS = 2 * 89_478_485  # of an image; beyond, Pillow takes it for a decompression bomb
MAX_OBJECTS = 1000  # of one npz; CWALT pastes 30
MAX_BYTES = 2**32  # of one npz, unpacked; 30 objects at 4K are 0.7 GiB


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, as the file's header says; pixels are not decoded.

    Raises:
        InputError: missing, not an image, or larger than Pillow is willing to decode.
    """
    with _opened(path) as image:
        return upright_size(image)


def read_mask_png(path: Path, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """A mask of one object: greyscale of any depth, or the first channel of RGB(A); object where it is not 0.

    Raises:
        InputError: missing, damaged, of another size, or of a mode whose zero is a matter of guessing (palette, CMYK).
    """
    pixels = _read_png(path, height, width, ("1", "L", "I;16", "I", "RGB", "RGBA"))
    return (pixels if pixels.ndim == 2 else pixels[..., 0]) > 0


def read_ids_png(path: Path, height: int, width: int) -> UInt16[np.ndarray, "{height} {width}"]:
    """Instance ids, 16 bits a pixel.

    Raises:
        InputError: missing, damaged, of another size, or not single-channel 16 bits: 8 bits cannot hold the ids.
    """
    return _read_png(path, height, width, ("I;16",)).astype(np.uint16)


def npz_shape(path: Path, key: str) -> tuple[int, int, int]:
    """(objects, height, width) of a CWALT array, from the header alone. Raises InputError as `npz_layers`."""
    with _npz_member(path, key) as (_, shape):
        return shape


def npz_layers(path: Path, key: str) -> Iterator[UInt8[np.ndarray, "h w"]]:
    """The first channel of each object of a uint8 array (objects, h, w, 3), one after the other.

    Only one object is in memory at a time; nothing is unpickled.

    Raises:
        InputError: missing, damaged, without the key, of another type or shape (Python objects in particular), or
            absurdly large.
    """
    with _npz_member(path, key) as (member, (objects, height, width)):
        for _ in range(objects):
            layer = member.read(height * width * 3)
            if len(layer) != height * width * 3:
                raise _error(path, f"npz array is cut short: {key} needs {objects} x {height} x {width} x 3 bytes")
            yield np.frombuffer(layer, np.uint8).reshape(height, width, 3)[..., 0]


def inside(folder: Path, name: str) -> Path:
    """`folder / name`. Raises InputError if a name found in a file leads out of the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise InputError(
            file=folder,
            rule=f"file name leaves the data set: found {name[:80]!r}",
            remedy="Use the index as distributed; its names are relative to the data set",
        )
    return folder / name


class _opened:
    """`PIL.Image.open` whose every failure, up to the end of the with block, is an InputError."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> PIL.Image.Image:
        try:
            self.image = PIL.Image.open(self.path, formats=FORMATS)
        except Exception as error:
            raise _unreadable(self.path, error) from error
        return self.image

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.image.close()
        if isinstance(error, Exception) and not isinstance(error, InputError):  # Pillow's decoders raise many types
            raise _unreadable(self.path, error) from error


def _read_png(path: Path, height: int, width: int, modes: tuple[str, ...]) -> np.ndarray:
    with _opened(path) as image:
        if (image.height, image.width) != (height, width):
            raise _error(
                path,
                f"mask file of another size: its (h, w) is ({image.height}, {image.width}), "
                f"the image's ({height}, {width})",
            )
        if image.mode not in modes:
            raise _error(path, f"mask file of unknown mode: found {image.mode}, known are {', '.join(modes)}")
        return np.array(image)


class _npz_member:
    """The opened array of an npz, behind its header, and its (objects, height, width)."""

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key

    def __enter__(self) -> tuple[zipfile.ZipExtFile, tuple[int, int, int]]:
        self.archive = self.member = None
        try:
            self.archive = zipfile.ZipFile(self.path)
            names = self.archive.namelist()
            if f"{self.key}.npy" not in names:
                raise _error(self.path, f"npz without key {self.key}: found {', '.join(names[:20]) or 'nothing'}")
            self.member = self.archive.open(f"{self.key}.npy")
            version = np.lib.format.read_magic(self.member)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise _error(self.path, f"npy version unknown: found {version}")
            return cast(zipfile.ZipExtFile, self.member), self._checked(*read_header(self.member))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def _checked(self, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> tuple[int, int, int]:
        if dtype.hasobject:
            raise _error(self.path, f"npz with Python objects: {self.key} could run code, it is not loaded")
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or (fortran and 0 not in shape):
            raise _error(
                self.path,
                f"npz array of another kind: {self.key} must be uint8 (objects, h, w, 3) in C order, found {dtype} "
                f"{shape}{' in Fortran order' if fortran else ''}",
            )
        objects, height, width = shape[:3]
        if min(shape) < 0 or not (height and width) or height * width > MAX_PIXELS:
            raise _error(self.path, f"npz array of impossible size: {shape}")
        if objects > MAX_OBJECTS or objects * height * width * 3 > MAX_BYTES:
            raise _error(self.path, f"npz array too large: {shape}, more than {MAX_OBJECTS} objects or 4 GiB")
        return objects, height, width

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        for opened in (self.member, self.archive):
            if opened is not None:
                opened.close()
        if isinstance(error, Exception) and not isinstance(error, InputError):  # decompressors raise many types
            raise _unreadable(self.path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return _error(path, "file missing: it does not exist", "Fetch the data set again, see data/README.md")
    return _error(path, f"file cannot be decoded: {str(error)[:200] or type(error).__name__}")


def _error(
    path: Path, rule: str, remedy: str = "The file is damaged or not as distributed: fetch it again"
) -> InputError:
    return InputError(file=path, rule=rule, remedy=remedy)
