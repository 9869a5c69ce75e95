"""Read image files: arbitrary photographs, data set images, and masks as PNG or npz."""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from jaxtyping import Bool, UInt8, UInt16

from sameo_core.arrays import Image
from sameo_core.errors import InputError

# -------------------------------------------------- arbitrary photographs: the upright 8-bit RGB array for the model

MAX_PIXELS = 178_956_970  # Pillow refuses larger pictures
ENDINGS = tuple(".jpg .jpeg .jfif .jpe .png .webp .bmp .gif .tif .tiff .avif .heic .heif".split())
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # Pillow's names; no EPS: Pillow would run a program
RAW_ENDINGS = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")  # Pillow would read only their thumbnail
HEIC = b"heic", b"heix", b"hevc", b"mif1", b"msf1"  # brands, bytes 8 to 11
DAMAGED = "The file is damaged or not as distributed: fetch it again"


def read_photograph(source: object, name: str = "photograph") -> Image:
    """The picture as an image viewer shows it: uint8 RGB "h w 3".

    EXIF orientation is applied, so boxes are in pixels of the upright picture. Transparent parts become white. Of
    several frames or pages the first is used. CMYK becomes RGB without a colour profile. Greyscale of more than 8 bits
    is divided by the smallest 2^n - 1 not below its maximum, so 12-bit data in a 16-bit file is not dark. Float is
    taken as 0..1, or as 0..255 if a value exceeds 1.

    Args:
        source: a path; the bytes of a file, e.g. from an upload widget; a PIL image; or an array "h w", "h w 1",
            "h w 3" (RGB; OpenCV's BGR cannot be recognised) or "h w 4" (RGBA).
        name: used in errors if there is no path.

    Raises:
        InputError: missing, not a picture, damaged, of an unknown format, or a file of more than `MAX_PIXELS` (checked
            before decoding).
    """
    if isinstance(source, str | Path):
        source, name = _content(Path(source)), str(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if not isinstance(source, bytes | bytearray | memoryview | PIL.Image.Image):
        rule = f"a photograph is a path, the bytes of a file, a PIL image or an array, found {type(source).__name__}"
        raise InputError(file=name, rule=rule, remedy="Pass one of these, e.g. tensor.numpy() with the channels last")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # beyond MAX_PIXELS it is an error
            if not isinstance(source, PIL.Image.Image):
                source = PIL.Image.open(io.BytesIO(source), formats=FORMATS)
            return _from_picture(source, name)
    except InputError:
        raise
    except PIL.UnidentifiedImageError as error:
        content = bytes(cast(bytes, source))
        heic = content[8:12] in HEIC
        found = "HEIC" if heic else f"{len(content):,} bytes of another kind"
        rule = f"a picture is JPEG, PNG, WebP, TIFF, GIF, BMP or AVIF, found {found}"
        phone = "; iPhones do so with Settings, Camera, Formats, Compatible" if heic else ""
        raise InputError(file=name, rule=rule, remedy=f"Export it as JPEG or PNG{phone}") from error
    except PIL.Image.DecompressionBombError as error:
        rule = f"a photograph has at most {MAX_PIXELS:,} pixels: {error}"
        raise InputError(file=name, rule=rule, remedy="Scale it down: the model sees at most 1024 x 1024") from error
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise InputError(file=name, rule=f"the picture cannot be decoded ({error})", remedy=DAMAGED) from error


def orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 (upright) .. 8; 1 if missing or unreadable. Nothing is decoded.

    Also 1 for TIFF, which Pillow rotates itself.
    """
    try:
        stated = PIL.Image.Image.getexif(picture).get(PIL.ExifTags.Base.Orientation)  # PNG's own getexif would decode
    except Exception:  # Pillow raises many types for damaged EXIF data
        stated = None
    return stated if isinstance(stated, int) and 1 <= stated <= 8 and picture.format != "TIFF" else 1


def upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture as viewers and annotation tools show it."""
    return picture if orientation(picture) == 1 else PIL.ImageOps.exif_transpose(picture)


def upright_size(picture: PIL.Image.Image) -> tuple[int, int]:
    """(height, width) of the picture that `upright` returns; nothing is decoded."""
    return picture.size if orientation(picture) >= 5 else (picture.height, picture.width)


def find_photographs(folder: str | Path) -> list[Path]:
    """The photographs in a folder, without subfolders, sorted by name; includes unreadable formats (HEIC).

    Raises:
        InputError: no such folder, no photograph in it, or two that differ only in the ending.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(file=folder, rule="the folder must exist", remedy="Check the path")
    wanted = ENDINGS + RAW_ENDINGS
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in wanted and p.is_file() and p.name[0] != ".")
    if not found:
        rule = f"no photograph lies here; endings looked for are {' '.join(ENDINGS)}"
        raise InputError(file=folder, rule=rule, remedy="Give the folder that holds them; deeper ones are not searched")
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(path.stem, path)
        if other != path:
            rule = f"photographs need different names before the ending, found {other.name} and {path.name}"
            raise InputError(file=folder, rule=rule, remedy="Rename one: results are named after them")
    return found


def _content(path: Path) -> bytes:
    if path.suffix.lower() in RAW_ENDINGS:
        rule = f"camera raw files ({path.suffix}) are not pictures yet"
        raise InputError(file=path, rule=rule, remedy="Develop it in the camera's software and export a JPEG")
    try:
        return path.read_bytes()
    except OSError as error:
        rule = f"the photograph must exist and be readable ({error.strerror})"
        raise InputError(file=path, rule=rule, remedy="Check the path and its permissions") from error


def _from_picture(picture: PIL.Image.Image, name: str) -> Image:
    picture = upright(picture)
    if picture.mode[0] in "IF":  # 16-bit, 32-bit and float: Pillow would clip at 255
        return _from_array(np.array(picture), name)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _from_array(array: np.ndarray, name: str) -> Image:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        remedy = "Put the channels last, np.moveaxis(array, 0, -1)" if first else "Pass one picture"
        raise InputError(file=name, rule=f"an array (h, w), (h, w, 3) or (h, w, 4), found {array.shape}", remedy=remedy)
    array = _as_uint8(array, name)
    if array.shape[2] == 4:
        return _from_picture(PIL.Image.fromarray(np.ascontiguousarray(array)), name)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def _as_uint8(array: np.ndarray, name: str) -> np.ndarray:
    """Scale values of any type to 0..255, by the rules of `read_photograph`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    low, high = float(array.min()), float(array.max())
    is_float = array.dtype.kind == "f"
    if not (low >= 0 and high <= (255 if is_float else np.inf)):  # also catches NaN
        allowed = "0..1 or 0..255" if is_float else "0 or more"
        rule = f"pixels of type {array.dtype} are {allowed}, found {low:g} to {high:g}"
        raise InputError(file=name, rule=rule, remedy="Undo the normalisation, or scale the values to 0..255 yourself")
    full = (1.0 if high <= 1 else 255.0) if is_float else float(2 ** max(8, int(high).bit_length()) - 1)
    return np.round(array * (255 / full)).astype(np.uint8)


# ------------------------------------------------------------------------------ files of data sets: images and masks
# As in `masks`, rules of errors read "name of the rule: what was found".


def read_image(path: Path, height: int, width: int, record: str, needed: tuple[int, int] | None = None) -> Image:
    """The image for `AmodalImage.read`: RGB; greyscale, palette and CMYK are converted, alpha is dropped.

    EXIF orientation is applied, as in annotation tools: masks are in pixels of the upright image.

    Args:
        needed: (height, width), pixels. A JPEG at least 2, 4 or 8 times as large in both dimensions is decoded at 1/2,
            1/4 or 1/8 of its size, rounded up. Other images are decoded at full size.
    """
    with _readable(path, record), PIL.Image.open(path, formats=FORMATS) as image:
        if (size := upright_size(image)) != (height, width):
            rule = f"image of another size: the file's (h, w) is {size}, the annotations' {height, width}"
            remedy = "Use the original images, not resized or rotated ones"
            if (turned := orientation(image)) != 1:
                rule += f"; upright, for its EXIF orientation is {turned}"
                remedy = "Correct height and width; or, if it was annotated as stored, remove its EXIF orientation"
            raise InputError(file=path, record=record, rule=rule, remedy=remedy)
        if image.mode == "F" or image.mode.startswith("I"):
            rule = f"image must have 8 bits a channel, found mode {image.mode}"
            raise InputError(file=path, record=record, rule=rule, remedy="Save it as 8-bit RGB or greyscale")
        if needed:
            image.draft(None, needed if orientation(image) >= 5 else needed[::-1])  # never smaller than `needed`
        return np.array(upright(image).convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header; pixels are not decoded.

    Raises:
        InputError: missing, not an image, or larger than Pillow decodes.
    """
    with _readable(path), PIL.Image.open(path, formats=FORMATS) as image:
        return upright_size(image)


def read_mask_png(path: Path, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """The mask of one object: nonzero pixels of a greyscale image of any depth, or of the first channel of RGB(A).

    Raises:
        InputError: missing, damaged, of another size, or in a mode whose zero is ambiguous (palette, CMYK).
    """
    pixels = _read_png(path, height, width, ("1", "L", "I;16", "I", "RGB", "RGBA"))
    return (pixels if pixels.ndim == 2 else pixels[..., 0]) > 0


def read_ids_png(path: Path, height: int, width: int) -> UInt16[np.ndarray, "{height} {width}"]:
    """Instance ids, 16 bits per pixel.

    Raises:
        InputError: missing, damaged, of another size, or not single-channel 16-bit; 8 bits cannot hold the ids.
    """
    return _read_png(path, height, width, ("I;16",)).astype(np.uint16)


def npz_shape(path: Path, key: str) -> tuple[int, int, int]:
    """(objects, height, width) of a CWALT array, from its header. Raises InputError like `npz_layers`."""
    with _npz_member(path, key) as (_, shape):
        return shape


def npz_layers(path: Path, key: str) -> Iterator[UInt8[np.ndarray, "h w"]]:
    """Yield the first channel of each object of a uint8 array (objects, h, w, 3).

    Only one object is in memory at a time; nothing is unpickled.

    Raises:
        InputError: missing, damaged, without the key, or of another type or shape.
    """
    with _npz_member(path, key) as (member, (objects, height, width)):
        for _ in range(objects):
            layer = member.read(height * width * 3)
            if len(layer) != height * width * 3:
                rule = f"npz array is cut short: {key} needs {objects} x {height} x {width} x 3 bytes"
                raise InputError(file=path, rule=rule, remedy=DAMAGED)
            channel = np.frombuffer(layer, np.uint8).reshape(height, width, 3)[..., 0]
            yield np.asfortranarray(channel)  # the layout that `encode_mask` needs


def inside(folder: Path, name: str) -> Path:
    """`folder / name`. Raises InputError if the name, found in a file, leads out of the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise InputError(
            file=folder,
            rule=f"file name leaves the data set: found {name[:80]!r}",
            remedy="Use the index as distributed; its names are relative to the data set",
        )
    return folder / name


def _read_png(path: Path, height: int, width: int, modes: tuple[str, ...]) -> np.ndarray:
    with _readable(path), PIL.Image.open(path, formats=FORMATS) as image:
        if (size := (image.height, image.width)) != (height, width):
            rule = f"mask file of another size: its (h, w) is {size}, the image's {height, width}"
            raise InputError(file=path, rule=rule, remedy=DAMAGED)
        if image.mode not in modes:
            rule = f"mask file of unknown mode: found {image.mode}, known are {', '.join(modes)}"
            raise InputError(file=path, rule=rule, remedy=DAMAGED)
        return np.array(image)


@contextmanager
def _npz_member(path: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, int, int]]]:
    """An array of an npz, opened after its header, and its (objects, height, width)."""
    with _readable(path), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        np.lib.format.read_magic(member)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
            kind = f"{dtype} {shape}{' in Fortran order' if fortran else ''}"
            rule = f"npz array of another kind: {key} must be uint8 (objects, h, w, 3) in C order, found {kind}"
            raise InputError(file=path, rule=rule, remedy=DAMAGED)
        yield member, shape[:3]


@contextmanager
def _readable(path: Path, record: str | None = None) -> Iterator[None]:
    """Turn any failure to read a file, if `record` is given a data set's image, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        rule = "the image file must exist" if record else "file missing: it does not exist"
        remedy = f"Download it to {path.parent}, see data/README.md"
        raise InputError(file=path, record=record, rule=rule, remedy=remedy) from error
    except Exception as error:  # Pillow's decoders and decompressors raise many types
        rule = f"{'the image ' if record else ''}file cannot be decoded: {str(error)[:200] or type(error).__name__}"
        raise InputError(file=path, record=record, rule=rule, remedy=DAMAGED) from error
