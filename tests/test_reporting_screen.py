"""Pictures for the screen by their pixels."""

import io

import numpy as np
import PIL.Image
import pytest

from sameo_core.datasets import AmodalImage, AmodalInstance
from sameo_core.masks import encode_mask
from sameo_core.reporting import PALETTE, object_picture, objects, scene_picture
from sameo_core.reporting.objects import DASHES


def square(size=40):
    """A grey image whose left half is the visible part of a centred square, 20 x 20 pixels."""
    amodal = np.zeros((size, size), bool)
    amodal[10:30, 10:30] = True
    return np.full((size, size, 3), 128, np.uint8), amodal, amodal & (np.arange(size) < 20)


def shown(jpeg):
    return np.asarray(PIL.Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def distance(pixels, colour):
    return np.abs(pixels - rgb(colour)).max(-1)


def test_an_objects_picture_says_everything_twice():
    image, amodal, visible = square()
    pixels = shown(object_picture(image, amodal, visible, truth=np.roll(amodal, 5, 0), longest=400))
    assert pixels.shape == (400, 400, 3)
    hidden = pixels[120:280, 220:280]
    assert (distance(hidden, "#000000") < 60).mean() > 0.1, "hatched"
    assert (hidden[..., 0] > hidden[..., 2] + 60).mean() > 0.5, "and tinted orange"
    seen = pixels[170:280, 120:180]
    assert np.abs(seen - 128).max() < 40, "the visible part is as photographed"
    top = pixels[96:104, 210:290]
    drawn = (distance(top, PALETTE["amodal"]) < 60).any(0)
    assert 0.4 < drawn.mean() < 0.9, "dashed: 7 of 11"
    seam = pixels[170:280, 196:204]
    assert (distance(seam, PALETTE["visible"]) < 60).any(1).mean() > 0.95, "the visible part ends in a solid line"
    below = pixels[346:354, 120:280]
    assert 0.1 < (distance(below, PALETTE["truth"]) < 70).any(0).mean() < 0.7, "dotted"


def test_without_a_visible_mask_nothing_is_called_hidden():
    image, amodal, visible = square()
    assert (np.abs(shown(object_picture(image, amodal, longest=200))[70:130, 70:130] - 128) < 30).all()
    assert np.abs(shown(object_picture(image, None, longest=200)) - 128).max() < 5


def test_a_large_photograph_is_outlined_at_the_size_of_the_screen():
    mask = np.zeros((900, 1200), bool)
    mask[300:600, 300:900] = True
    pixels = shown(object_picture(np.full((900, 1200, 3), 128, np.uint8), None, mask, longest=400))
    assert pixels.shape == (300, 400, 3)
    blue = distance(pixels, PALETTE["visible"]) < 80
    assert np.flatnonzero(blue[110:190].any(0))[0] in range(98, 103)


def test_dashes_are_as_long_as_asked_for():
    line = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 30.0]])
    pieces = list(objects._dashes(line, 7, 4))
    assert [np.hypot(*np.diff(piece, axis=0).T).sum() for piece in pieces[:5]] == pytest.approx([7] * 5)
    assert pieces[1][0].tolist() == [11, 0]
    assert len(pieces) == 6
    assert DASHES["amodal"] != DASHES["truth"]


def test_numbers_and_outlines_of_a_scene(tmp_path):
    image, amodal, visible = square()
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    front = AmodalInstance(2, 1, "b", False, encode_mask(amodal & ~visible), encode_mask(amodal & ~visible))
    behind = AmodalInstance(1, 1, "a", False, encode_mask(amodal), encode_mask(visible))
    scene = AmodalImage(1, "a.png", tmp_path / "a.png", 40, 40, (behind, front))
    assert scene.occluders() == [[1], []]
    plain, chosen = (shown(scene_picture(scene, image, which, 400)) for which in (None, 0))
    assert (distance(plain[185:215, 140:160], "#ffffff") < 30).mean() > 0.2, "a number in a white field"
    assert (distance(chosen, PALETTE["truth"]) < 60).sum() > (distance(plain, PALETTE["truth"]) < 60).sum() + 100
