"""Photographs as people have them: every odd file becomes what a viewer shows, or is refused with a sentence."""

import io
import zlib

import numpy as np
import PIL.Image
import pytest

from sameo_core.datasets.images import ENDINGS, find_photographs, read_photograph
from sameo_core.errors import InputError

RED, GREEN = (200, 30, 20), (10, 180, 60)
H, W = 20, 30
PICTURE = np.zeros((H, W, 3), np.uint8)
PICTURE[:] = GREEN
PICTURE[:10, :20] = RED  # the top left is red
GREY = np.arange(H * W).reshape(H, W)  # 0..599: a 10-bit ramp


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pil(array=PICTURE):
    return PIL.Image.fromarray(array)


def rotated():
    """Stored lying on its side, with the EXIF orientation (6) that turns it a quarter clockwise."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return encoded(pil(np.rot90(PICTURE)), "PNG", exif=exif)


def transparent():
    layer = np.dstack([PICTURE, np.full((H, W), 255, np.uint8)])
    layer[:, 20:, 3] = 0  # the right third is not there
    layer[10:, :20, 3] = 128
    return layer


def animated():
    frames = [pil(), pil(255 - PICTURE)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def palette_with_transparency():
    picture = pil().quantize(4)
    return encoded(picture, transparency=picture.getpixel((0, 0)))


def expect_picture(found):
    assert np.array_equal(found, PICTURE)


def expect_near(found):
    assert np.abs(found.astype(int) - PICTURE).mean() < 12


def expect_grey(found):
    assert (found[..., 0] == found[..., 1]).all() and (found[..., 0] == found[..., 2]).all()
    assert np.array_equal(found[..., 0], np.round(GREY * 255 / 1023).astype(np.uint8))


def expect_on_white(found):
    assert (found[:, 20:] == 255).all() and (found[:10, :20] == RED).all()
    half = 255 + (np.array(GREEN) - 255) * 128 / 255
    assert np.abs(found[10:, :20] - half).max() <= 1


def expect_white_corner(found):
    assert (found[:10, :20] == 255).all() and (found[10:] == GREEN).all()


READ = {
    "memory of an upload": (lambda: memoryview(encoded(pil())), expect_picture),
    "PIL image": (pil, expect_picture),
    "array": (lambda: PICTURE[:, ::-1][:, ::-1], expect_picture),
    "JPEG": (lambda: encoded(pil(), "JPEG", quality=95), expect_near),
    "CMYK JPEG": (lambda: encoded(pil().convert("CMYK"), "JPEG", quality=95), expect_near),
    "palette": (lambda: encoded(pil().quantize(4)), expect_picture),
    "EXIF rotated": (rotated, expect_picture),
    "animated GIF": (animated, expect_picture),
    "RGBA": (lambda: encoded(pil(transparent())), expect_on_white),
    "RGBA array": (transparent, expect_on_white),
    "transparent palette": (palette_with_transparency, expect_white_corner),
    "8-bit grey": (
        lambda: encoded(pil(PICTURE[..., 0])),
        lambda found: np.testing.assert_array_equal(found, np.repeat(PICTURE[..., :1], 3, 2)),
    ),
    "10 bits in 16-bit PNG": (lambda: encoded(pil(GREY.astype(np.uint16))), expect_grey),
    "32-bit TIFF": (lambda: encoded(pil(GREY.astype(np.int32)), "TIFF"), expect_grey),
    "float TIFF, 0..1": (lambda: encoded(pil((GREY / 1023).astype(np.float32)), "TIFF"), expect_grey),
    "float array, 0..255": (lambda: GREY[..., None] / 1023 * 255, expect_grey),
    "boolean array": (lambda: GREY > 300, lambda f: np.testing.assert_array_equal(f[..., 0] == 255, GREY > 300)),
}


@pytest.mark.parametrize("kind", READ)
def test_odd_pictures_are_read_as_a_viewer_shows_them(kind):
    make, expect = READ[kind]
    found = read_photograph(make())
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
    assert found.flags.c_contiguous and found.flags.writeable
    expect(found)


def test_a_path_gives_what_its_bytes_give(tmp_path):
    (tmp_path / "photo.JPG").write_bytes(encoded(pil()))  # a PNG with the wrong ending
    expect_picture(read_photograph(tmp_path / "photo.JPG"))
    expect_picture(read_photograph(str(tmp_path / "photo.JPG")))


def png_of_size(width, height):
    """A PNG's header that claims a size, and no pixels: who reads it further finds nothing."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    chunk = b"\x00\x00\x00\x0d" + head + zlib.crc32(head).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")


def whole_jpeg():
    return encoded(pil(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)), "JPEG")


REFUSED = {  # what is given, a word of the rule, a word of the remedy
    "nothing in it": (lambda: b"", "found 0 bytes", "JPEG"),
    "a text file": (lambda: b"label,x0,y0\ncat,3,4\n", "found 20 bytes", "JPEG"),
    "a truncated JPEG": (lambda: whole_jpeg()[:-3000], "truncated", "again"),
    "a HEIC": (lambda: memoryview(b"\0\0\0\x18ftypheic" + bytes(40)), "HEIC", "iPhones"),
    "a bomb": (lambda: png_of_size(60_000, 50_000), "at most 178,956,970 pixels", "Scale it down"),
    "channels first": (lambda: PICTURE.transpose(2, 0, 1), "found (3, 20, 30)", "np.moveaxis"),
    "a batch": (lambda: PICTURE[None], "found (1, 20, 30, 3)", "one picture"),
    "normalised for a network": (lambda: PICTURE / 255.0 - 0.5, "0..1 or 0..255", "normalisation"),
    "NaN": (lambda: np.full((4, 4), np.nan), "nan", "scale"),
    "negative integers": (lambda: PICTURE.astype(int) - 128, "0 or more", "scale"),
    "a list": (lambda: [[1, 2], [3, 4]], "found list", "tensor.numpy()"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_is_refused_with_a_remedy(kind):
    make, rule, remedy = REFUSED[kind]
    with pytest.raises(InputError) as error:
        read_photograph(make(), name="upload.png")
    assert rule in error.value.rule and remedy in error.value.remedy and error.value.file == "upload.png"


def test_paths_that_lead_to_no_picture(tmp_path):
    (tmp_path / "raw.NEF").write_bytes(encoded(pil(), "TIFF"))  # Pillow would take a raw file's thumbnail
    for path, rule in {"none.jpg": "must exist", "": "directory", "raw.NEF": "camera raw"}.items():
        with pytest.raises(InputError, match=rule) as error:
            read_photograph(tmp_path / path)
        assert str(tmp_path) in error.value.file


@pytest.mark.filterwarnings("error")  # Pillow warns from 89 million pixels on; ours is the limit
def test_a_panorama_30000_pixels_wide_is_read(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1_000_000)
    found = read_photograph(encoded(PIL.Image.new("RGB", (30_000, 50), RED), compress_level=1))
    assert found.shape == (50, 30_000, 3) and (found[::49, ::29_999] == RED).all()


def test_photographs_of_a_folder(tmp_path):
    for name in ("b.JPG", "a.png", "c.heic", "d.jfif", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deeper.jpg").mkdir()
    assert [path.name for path in find_photographs(tmp_path)] == ["a.png", "b.JPG", "c.heic", "d.jfif"]
    (tmp_path / "a.jpeg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"found a.jpeg and a.png"):
        find_photographs(tmp_path)


def test_folders_without_photographs(tmp_path):
    for folder, rule in ((tmp_path, "no photograph lies here"), (tmp_path / "none", "must exist")):
        with pytest.raises(InputError, match=rule):
            find_photographs(folder)


def test_every_ending_that_is_looked_for_is_one_that_pillow_or_a_sentence_knows():
    assert set(ENDINGS) - set(PIL.Image.registered_extensions()) <= {".heic", ".heif"}
