"""A person's own photograph, whatever the file, as the upright 8-bit RGB array that the model sees."""

import io
import warnings
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from sameo_core.arrays import Image
from sameo_core.errors import InputError

MAX_PIXELS = 178_000_000  # 30,000 x 5,900; Pillow itself refuses from 178,956,970 on
ENDINGS = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".jpe",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # Pillow's names; of others it would run programs (EPS)
RAW_ENDINGS = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")  # Pillow would find their thumbnail
AGAIN = "The file is damaged or incomplete: copy or download it again"
EXPORT = "Export it as JPEG or PNG"


def read_photograph(source: object, name: str = "photograph") -> Image:
    """The picture as an image viewer shows it: uint8 RGB "h w 3".

    The orientation in the file's EXIF is applied, so boxes are pixels of the upright picture. Transparent parts are
    laid on white. Of an animation it is the first frame, of several pages the first. CMYK becomes RGB without a colour
    profile. Greyscale of more than 8 bits is divided by the smallest 2^n - 1 that its largest value does not exceed
    (12-bit data in a 16-bit file is not dark); float is taken as 0..1, or as 0..255 if a value is larger than 1.

    Args:
        source: a path; the bytes of a file, e.g. of an upload widget; a PIL image; or an array "h w", "h w 1",
            "h w 3" (RGB, not OpenCV's BGR, which nothing can tell apart) or "h w 4" (RGBA).
        name: what to call it in errors, where there is no path.

    Raises:
        InputError: nothing, or something else than a picture, is there; it is damaged, of a format that cannot be read,
            or larger than `MAX_PIXELS`, which is found out before it is decoded.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return _from_bytes(_content(path), str(path))
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), name)
    if isinstance(source, PIL.Image.Image):
        _check_size(*source.size, name)
        return _from_picture(source, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    rule = f"a photograph is a path, the bytes of a file, a PIL image or an array, found {type(source).__name__}"
    raise InputError(file=name, rule=rule, remedy="Pass one of these, e.g. tensor.numpy() with the channels last")


def orientation(picture: PIL.Image.Image) -> int:
    """EXIF's orientation, 1 (upright) .. 8, of a picture that Pillow does not turn itself, as it does TIFF.

    1 where there is none, or none that can be read. Nothing is decoded.
    """
    try:
        stated = PIL.Image.Image.getexif(picture).get(PIL.ExifTags.Base.Orientation)  # PNG's own would decode
    except Exception:  # of a damaged EXIF part Pillow raises many types
        stated = None
    return stated if isinstance(stated, int) and 1 <= stated <= 8 and picture.format != "TIFF" else 1


def upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture as viewers and annotation tools show it: every reader of images turns it so."""
    return picture if orientation(picture) == 1 else PIL.ImageOps.exif_transpose(picture)


def upright_size(picture: PIL.Image.Image) -> tuple[int, int]:
    """(height, width) of the picture that `upright` gives; nothing is decoded."""
    return picture.size if orientation(picture) >= 5 else (picture.height, picture.width)


def find_photographs(folder: str | Path) -> list[Path]:
    """The photographs that lie in a folder, not deeper, by name; formats that cannot be read (HEIC) are among them.

    Raises:
        InputError: no such folder, no photograph in it, or two that differ only in their ending.
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
    if path.is_dir():
        raise InputError(file=path, rule="one photograph, found a folder", remedy="Give the path of a file in it")
    if path.suffix.lower() in RAW_ENDINGS:
        rule = f"camera raw files ({path.suffix}) are not pictures yet"
        raise InputError(file=path, rule=rule, remedy="Develop it in the camera's software and export a JPEG")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(file=path, rule="the photograph must exist", remedy="Check the path") from error
    except OSError as error:
        raise InputError(
            file=path, rule=f"cannot be read ({error.strerror})", remedy="Check its permissions"
        ) from error


def _from_bytes(content: bytes, name: str) -> Image:
    if not content:
        raise InputError(file=name, rule="the file is empty (0 bytes)", remedy="Copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # MAX_PIXELS stands in for it
            with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(*picture.size, name)
                return _from_picture(picture, name)
    except PIL.UnidentifiedImageError as error:
        rule, remedy = _diagnosis(content)
        raise InputError(file=name, rule=rule, remedy=remedy) from error
    except PIL.Image.DecompressionBombError as error:
        raise _too_large(str(error), name) from error
    except InputError:
        raise
    except Exception as error:  # Pillow's readers of headers raise many types, too
        raise InputError(file=name, rule=f"the picture cannot be decoded ({error})", remedy=AGAIN) from error


def _diagnosis(content: bytes) -> tuple[str, str]:
    """What a file is that Pillow does not recognise: rule and remedy."""
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "HEIC pictures are not read here", f"{EXPORT}; iPhones do so with Settings, Camera, Formats, Compatible"
    if content[:4] == b"%PDF":
        return "a PDF is not a picture", "Export the page as PNG"
    start = content[:60].decode("utf-8", "ignore")
    if start and sum(letter.isprintable() or letter.isspace() for letter in start) == len(start):
        return f"this is text, not a picture: it begins with {start[:40]!r}", "Give the path of a photograph"
    return "not a picture in a format known here (JPEG, PNG, WebP, TIFF, GIF, BMP, ...)", EXPORT


def _from_picture(picture: PIL.Image.Image, name: str) -> Image:
    """A PIL image that is within the size limit, decoded here."""
    try:
        picture = upright(picture)
        if picture.mode[0] in "IF":  # 16-bit, 32-bit and float: Pillow would cut off at 255
            return _from_array(np.array(picture), name)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = PIL.Image.new("RGBA", picture.size, "white")
            picture = PIL.Image.alpha_composite(white, picture)
        return np.array(picture.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise InputError(file=name, rule=f"the picture cannot be decoded ({error})", remedy=AGAIN) from error


def _from_array(array: np.ndarray, name: str) -> Image:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        remedy = "Put the channels last, np.moveaxis(array, 0, -1)" if first else "Pass one picture"
        raise InputError(file=name, rule=f"an array (h, w), (h, w, 3) or (h, w, 4), found {array.shape}", remedy=remedy)
    _check_size(array.shape[1], array.shape[0], name)
    array = _as_uint8(array, name)
    if array.shape[2] == 4:
        return _from_picture(PIL.Image.fromarray(np.ascontiguousarray(array)), name)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def _as_uint8(array: np.ndarray, name: str) -> np.ndarray:
    """Values 0..255 of any numbers, by the rules of `read_photograph`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise InputError(file=name, rule=f"pixels are numbers, found {array.dtype}", remedy="Pass uint8")
    low, high = float(array.min()), float(array.max())
    is_float = array.dtype.kind == "f"
    if not (low >= 0 and high <= (255 if is_float else np.inf)):  # also catches NaN
        allowed = "0..1 or 0..255" if is_float else "0 or more"
        rule = f"pixels of type {array.dtype} are {allowed}, found {low:g} to {high:g}"
        raise InputError(file=name, rule=rule, remedy="Undo the normalisation, or scale the values to 0..255 yourself")
    full = (1.0 if high <= 1 else 255.0) if is_float else float(2 ** max(8, int(high).bit_length()) - 1)
    return np.round(array * (255 / full)).astype(np.uint8)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(f"found {width} x {height} = {width * height:,}", name)


def _too_large(found: str, name: str) -> InputError:
    rule = f"a photograph has at most {MAX_PIXELS:,} pixels, {found}"
    return InputError(file=name, rule=rule, remedy="Scale it down first: the model sees no more than 1024 x 1024 of it")
