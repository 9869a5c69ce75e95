"""Painted pairs: the original is kept to the byte, and nothing tells where the occluder was pasted."""

import shutil
from dataclasses import replace
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from conftest import IMAGES, SMALL, AgreeingTeacher, dataset_of, ellipse
from PIL import JpegImagePlugin
from scipy import ndimage

from sameo_core.config import CompletenessConfig
from sameo_core.datasets import AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask
from sameo_core.synthesis import collect_complete_objects, compose, draw_pair, synthesize
from sameo_core.synthesis.painting import _replace_rim


def plain_photograph(root, number, mask, inside, outside, mode="RGB", suffix=".png"):
    """An object of one colour before a background of one colour."""
    pixels = np.empty((*mask.shape, 3), np.uint8)
    pixels[:] = outside
    pixels[mask] = inside
    path = root / f"{number}{suffix}"
    PIL.Image.fromarray(pixels).convert(mode).save(path)
    instance = AmodalInstance(number, 1, "a", False, None, encode_mask(mask))
    return AmodalImage(number, path.name, path, *mask.shape, (instance,))


def pair_of(tmp_path, images, target, config=SMALL):
    """A pool of two objects, and its first pair whose target is number `target`."""
    dataset = dataset_of(images, tmp_path)
    lenient = CompletenessConfig(min_agreement=0.0, max_predicted_hidden=1e9)
    found = collect_complete_objects(AgreeingTeacher(dataset), dataset, lenient, tmp_path / "record").complete()
    pairs = (draw_pair(found, config, 0, i) for i in range(99))
    return found, next(pair for pair in pairs if pair.target == target)


def pixels_of(data):
    return np.asarray(PIL.Image.open(BytesIO(data)).convert("RGB")).astype(int)


def test_the_original_is_the_source_file_and_only_the_cut_out_differs_from_it(objects):
    for i in range(6):
        pair = draw_pair(objects, SMALL, 1, i)
        composed = compose(objects, pair, SMALL)
        assert composed.original == objects.path(pair.target).read_bytes() and composed.suffix == ".jpg"
        before, after = pixels_of(composed.original), pixels_of(composed.occluded)
        (x, y), (height, width) = pair.corner, pair.alpha.shape
        away = np.ones(before.shape[:2], bool)
        away[max(0, y - 16) : max(0, y + height + 16), max(0, x - 16) : max(0, x + width + 16)] = False
        again = BytesIO()
        PIL.Image.open(BytesIO(composed.original)).save(again, "JPEG", quality=75)
        ours, usual = (np.abs(before - other)[away].mean() for other in (after, pixels_of(again.getvalue())))
        assert ours < usual / 4  # the source's own tables: hardly a trace of the second compression
        with (
            PIL.Image.open(BytesIO(composed.occluded)) as occluded,
            PIL.Image.open(objects.path(pair.target)) as source,
        ):
            assert occluded.quantization == source.quantization
            assert JpegImagePlugin.get_sampling(occluded) == JpegImagePlugin.get_sampling(source)


RED, GREEN, BLUE = (200, 30, 30), (20, 220, 20), (30, 30, 200)


def test_no_fringe_of_the_old_background_and_no_steps(tmp_path):
    """A red object on green, annotated one pixel too wide, is pasted on blue: nothing green may come along."""
    size = (96, 128)
    loose = plain_photograph(tmp_path, 2, ellipse(size, 48, 60, 29, 39), RED, GREEN)
    outline = replace(loose.instances[0], visible_rle=encode_mask(ellipse(size, 48, 60, 30, 40)))
    loose = replace(loose, instances=(outline,))
    scene = plain_photograph(tmp_path, 1, ellipse(size, 48, 60, 30, 40), BLUE, BLUE)
    for change in ({}, {"smallest_occluder": 1.3}, {"largest_occluder": 0.7}):
        rates = {"rate_edges": (0.2, 0.6), "rate_weights": (1.0,)}
        config = replace(SMALL, brightness_share=0.0, min_inside=0.2, **rates, **change)
        found, pair = pair_of(tmp_path, [scene, loose], 0, config)
        composed = compose(found, pair, config)
        assert composed.suffix == ".png"
        after = pixels_of(composed.occluded)
        assert after[..., 1].max() < 45  # red and blue have 30, green has 220
        over = pair.occluder_mask(*size)
        sure = np.abs(after[..., 0] - 115) > 5  # half way between 200 and 30; sharpening resamplers overshoot a little
        assert np.array_equal(after[sure, 0] > 115, over[sure]) and sure.mean() > 0.99  # picture and mask agree
        steps = np.abs(np.diff(after[..., 0], axis=1)).max()
        assert steps < 130  # of 170: the edge is soft
        (x, y), (height, width) = pair.corner, pair.alpha.shape
        away = np.ones(size, bool)
        away[max(0, y) : y + height, max(0, x) : x + width] = False
        assert np.array_equal(after[away], pixels_of(composed.original)[away])  # PNG: not a bit


def test_an_edge_inside_of_what_is_made_smaller_gets_no_halo(tmp_path):
    """Half the occluder is dark, half is bright: between them nothing is darker or brighter than both."""
    size = (96, 128)
    mask = ellipse(size, 48, 60, 40, 50)
    scene = plain_photograph(tmp_path, 1, ellipse(size, 48, 60, 25, 30), (90, 90, 90), (90, 90, 90))
    halves = plain_photograph(tmp_path, 2, mask, (60, 60, 60), (60, 60, 60))
    pixels = np.asarray(PIL.Image.open(halves.path)).copy()
    pixels[:, 60:] = 200
    PIL.Image.fromarray(pixels).save(halves.path)
    config = replace(SMALL, brightness_share=0.0, min_inside=0.2, smallest_occluder=0.8, largest_occluder=1.2)
    found, pair = pair_of(tmp_path, [scene, halves], 0, config)
    assert pair.scale < 0.8
    after = pixels_of(compose(found, pair, config).occluded)
    over = pair.occluder_mask(*size)
    assert after[over].min() >= 60 and after[over].max() <= 200
    assert np.count_nonzero(after[over] == 60) > 300 and np.count_nonzero(after[over] == 200) > 300


@pytest.mark.parametrize("rim", [1, 2, 3])
def test_the_rim_takes_the_colour_inside_of_it(rim):
    """From ring to ring: `rim` rings of the object, then three around it, where the soft edge is."""
    solid = np.zeros((40, 44), bool)
    solid[10:28, 9:30] = True
    core = ndimage.binary_erosion(solid, iterations=rim)
    colours = np.where(core[..., None], np.uint8([200, 90, 10]), np.uint8([1, 2, 3])).astype(np.uint8)
    _replace_rim(colours, solid, rim)
    painted = ndimage.binary_dilation(core, iterations=rim + 3)
    assert np.array_equal(colours, np.where(painted[..., None], np.uint8([200, 90, 10]), np.uint8([1, 2, 3])))


def test_a_pixel_of_the_rim_takes_the_mean_of_its_neighbours():
    """Two objects of another colour on the left and on the right of one column, without a rim of their own."""
    solid = np.zeros((20, 25), bool)
    solid[6:13, 6:12] = solid[6:13, 13:19] = True
    colours = np.zeros((20, 25, 3), np.uint8)
    colours[:, :12], colours[:, 12], colours[:, 13:] = 40, 7, 81
    _replace_rim(colours, solid, 0)
    assert (colours[6:13, 12] == 60).all()  # 60.5, rounded to even
    assert (colours[6:13, 11] == 40).all() and (colours[6:13, 13] == 81).all()
    assert (colours[4:6, 12] == 60).all() and (colours[3, 12] == 7).all()  # the second ring and the third


@pytest.mark.parametrize(
    ("occluder", "scene", "share", "cap", "shift"),
    [
        (200, 100, 0.3, 16, -16),  # 30 % of 100, capped
        (120, 100, 0.3, 16, -6),
        (60, 100, 0.5, 16, 16),
        (60, 100, 0.25, 16, 10),
        (60, 100, 0.5, 0, 0),
        (4, 100, 0.5, 99, 48),
    ],
)
def test_brightness_goes_part_of_the_way(tmp_path, occluder, scene, share, cap, shift):
    size = (96, 128)
    mask = ellipse(size, 48, 60, 30, 40)
    images = [plain_photograph(tmp_path, 1, mask, (scene,) * 3, (scene,) * 3)]
    images += [plain_photograph(tmp_path, 2, mask, (occluder,) * 3, (50,) * 3)]
    config = replace(SMALL, brightness_share=share, brightness_cap=cap)
    found, pair = pair_of(tmp_path, images, 0, config)
    composed = compose(found, pair, config)
    assert composed.brightness_shift == shift
    middle = (pair.alpha == 255).nonzero()
    y, x = middle[0][len(middle[0]) // 2] + pair.corner[1], middle[1][len(middle[1]) // 2] + pair.corner[0]
    assert pixels_of(composed.occluded)[y, x].tolist() == [occluder + shift] * 3


@pytest.mark.parametrize(
    ("mode", "suffix", "written"), [("L", ".jpg", "L"), ("L", ".png", "L"), ("CMYK", ".jpg", "RGB")]
)
def test_what_is_pasted_on_a_grey_photograph_is_grey(tmp_path, mode, suffix, written):
    size = (96, 128)
    mask = ellipse(size, 48, 60, 30, 40)
    images = [plain_photograph(tmp_path, 1, mask, BLUE, GREEN, mode, suffix)]
    images += [plain_photograph(tmp_path, 2, mask, RED, GREEN)]
    found, pair = pair_of(tmp_path, images, 0)
    composed = compose(found, pair, SMALL)
    with PIL.Image.open(BytesIO(composed.occluded)) as image:
        assert (image.mode, image.format) == (written, "JPEG" if (mode, suffix) == ("L", ".jpg") else "PNG")
    synthesize(found, tmp_path / "out", 8, config=SMALL)
    for file in (tmp_path / "out" / "images").rglob("*.*g"):
        with PIL.Image.open(file) as image:
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[file.suffix]


def test_source_images_that_cannot_be_used_are_named(source, objects, tmp_path):
    shutil.copytree(source.root, tmp_path / "copy")
    moved = replace(objects, root=np.array([str(tmp_path / "copy")]))
    pair = draw_pair(moved, SMALL, 0, 0)
    path = moved.path(pair.occluder)
    damages = [
        lambda: PIL.Image.new("RGB", (128, 95)).save(path),  # of another size
        lambda: path.write_bytes(source[0].path.read_bytes()[:900]),
        path.unlink,
    ]
    for damage in damages:
        damage()
        with pytest.raises(InputError) as error:
            compose(moved, pair, SMALL)
        assert error.value.file == str(path)
        assert error.value.record == f"image {moved.image_id[moved.image[pair.occluder]]}"
    with pytest.raises(InputError):
        synthesize(moved, tmp_path / "out", IMAGES, config=SMALL)
    shutil.copy(source.root / path.name, path)
    synthesize(moved, tmp_path / "out", IMAGES, config=SMALL)  # resumes when it is there again
