"""The drawn world: what is written is what was drawn, every domain is what it says, and old pictures stay the same."""

import hashlib
import json

import numpy as np
import pytest

from sameo_core.datasets import load_dataset
from sameo_core.masks import encode_mask
from sameo_core.miniature import DOMAINS, WRITERS, draw_dataset, draw_scene, hidden_shares
from sameo_core.miniature.coco import KINS_CATEGORIES, KINS_CATEGORY_OF, KINS_GHOST_EVERY
from sameo_core.miniature.domains import (
    HELD_OUT_PHOTOGRAPHS,
    HELD_OUT_SHAPES,
    SEEN_PHOTOGRAPHS,
    SEEN_SHAPES,
    domain_of,
)

# ------------------------------------------------------------------------------------------------ pinned pictures

# sha256 over 20 scenes: pixels, masks and names. What was trained on a domain is only valid for the same pictures, so
# these change with the pinned versions of pillow, scikit-image and fontawesomefree, and for no other reason.
PINS = {
    "pretraining": "02decf0234cb5d5fd77d5130024040fe34f7f8f1adfb8958803e480c85566d3d",
    "lvis": "12f5abdedfa590b70d4dfee88b9be7c6b9012554084640151f8566aec47f63e4",
    "cocoa": "e96377e3373252a6b32a12c1047eec2a513d432cf512c61ed30fd904ce3d3c97",
    "cocoa_cls": "b95eddbc740c67b55989f10ea549da0c02920c9487e371d12a95beb796e93089",
    "d2sa": "81590bb0cee43e1e2099ac4c2de0d848430761128708f7ff8b8ae02974d98b70",
    "d2sa/train": "1641b319dcf3dc81fe3124ef7ba8002ca21869a7dfc567a6b2fddb449c74aa26",
    "d2sa/augmented": "9f165513db710339d4e172c705890a046b1a6457a7db21fe3c94671e3bf8aa02",
    "kins": "65eb39402b405364ad17276ba9772c4c25447aeccd9d8805f9f5950307e237e8",
    "muva": "281458fcbf27741d640d2d3439cba9d21f76c59d82bec7fe029e3fa19b65362b",
    "dyce": "cb6817b9fb50393d64642c9f16773c5a10e467411e4decd4746e4483cfd744ad",
    "mp3d_amodal": "782825f6a7b3c2e6aa41b6c50b146ac553a58920717c7bf787eedfe3fe14b12b",
    "walt": "c8210a272a5dcc591fec8342e0b0fa09a7d8fc1c9df269681c7f6eac9fa64260",
    "kitti360_aps": "1fddda9b3b69961c9398d136e563554a79cf345386844d24d08ad84edc1e5407",
    "pix2gestalt": "8ac3cabfe94d3207a7862421be4cb8f97a7c33f99f3eb1684d35069ed3c2883e",
    "lvvis": "dd2cf4bd91b0e4746c06335e741a42386f59b570aabf2298acb2fe572c2f8052",
}


@pytest.mark.parametrize("domain", PINS)
def test_the_pictures_of_a_domain_stay_the_same(domain):
    digest = hashlib.sha256()
    draw = WRITERS["lvvis"].draw if domain == "lvvis" else draw_scene  # frames of videos
    for index in range(20):
        scene = draw(domain, index, 0, "train")
        for array in (scene.image, scene.amodal, scene.visible):
            digest.update(array.tobytes())
        digest.update(repr((scene.image.shape, scene.categories, scene.ground_category)).encode())
        if scene.ground is not None:
            digest.update(scene.ground.tobytes())
    assert digest.hexdigest() == PINS[domain]


# ------------------------------------------------------------------------------------------------ scenes


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_object_is_whole_in_amodal_and_shows_what_the_domain_promises(domain):
    settings = DOMAINS[domain]
    for index in range(4):
        scene = draw_scene(domain, index, seed=5)
        n, shape = len(scene.categories), scene.image.shape[:2]
        assert 1 <= n <= settings.objects[1] and shape in settings.image_sizes
        assert scene.amodal.shape == scene.visible.shape == (n, *shape) and len(scene.identities) == n
        assert set(scene.categories) <= set(settings.shapes)
        assert not (scene.visible & ~scene.amodal).any() and (scene.visible.sum(0) <= 1).all()
        for k in range(n):  # painted back to front
            np.testing.assert_array_equal(scene.visible[k], scene.amodal[k] & ~scene.amodal[k + 1 :].any(0))
        areas, seen = scene.amodal.sum((1, 2)), scene.visible.sum((1, 2))
        assert (seen >= settings.visible_pixels).all()
        assert (seen >= (1 - settings.max_occlusion) * areas).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_scene_depends_on_its_number_alone(domain):
    first = draw_scene(domain, 7)
    draw_scene(domain, 2)
    again = draw_scene(domain, 7)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.amodal, again.amodal)
    assert not np.array_equal(first.image, draw_scene(domain, 7, seed=1).image)
    assert not np.array_equal(first.image, draw_scene(domain, 7, split="val").image)


def test_held_out_means_held_out():
    assert not set(SEEN_SHAPES) & set(HELD_OUT_SHAPES) and not set(SEEN_PHOTOGRAPHS) & set(HELD_OUT_PHOTOGRAPHS)
    for domain, settings in DOMAINS.items():
        tested = domain.split("/")[0] in ("cocoa_cls", "d2sa")
        assert set(settings.shapes) <= set(HELD_OUT_SHAPES if tested else SEEN_SHAPES), domain
        assert tested or not set(settings.photographs) & set(HELD_OUT_PHOTOGRAPHS), domain
        assert not tested or set(settings.photographs) <= set(HELD_OUT_PHOTOGRAPHS), domain


def rates(domain, scenes=12):
    drawn = [draw_scene(domain, index) for index in range(scenes)]
    return np.concatenate([1 - s.visible.sum((1, 2)) / s.amodal.sum((1, 2)) for s in drawn])


def test_the_table_is_trained_on_items_apart_and_on_heaps():
    apart, heaps, between = rates("d2sa/train"), rates("d2sa/augmented"), rates("d2sa")
    assert apart.max() <= 0.03 < between.mean() < heaps.mean()
    assert domain_of("d2sa", "augmented") == "d2sa/augmented" and domain_of("d2sa", "val") == "d2sa"


def test_the_views_of_a_shelf_show_the_same_objects_elsewhere():
    left, front = draw_scene("muva", 0), draw_scene("muva", 1)
    names = [dict(zip(view.identities, view.categories, strict=True)) for view in (left, front)]
    common = set(names[0]) & set(names[1])
    assert len(common) >= 4 and all(names[0][identity] == names[1][identity] for identity in common)
    assert not np.array_equal(left.amodal[0], front.amodal[0])
    paint = []
    for view in (left, front):
        masks = zip(view.identities, view.amodal, view.visible, strict=True)
        paint.append({i: np.median(view.image[v], axis=0) for i, a, v in masks if v.sum() == a.sum()})
    unoccluded = set(paint[0]) & set(paint[1])  # a shadow changes the others
    assert len(unoccluded) >= 2 and all(np.abs(paint[0][i] - paint[1][i]).max() < 12 for i in unoccluded)


# ------------------------------------------------------------------------------------------------ round trip

MASKS_ARE_FILES = {"dyce", "mp3d_amodal", "walt", "kitti360_aps", "pix2gestalt", "lvvis"}  # test_miniature_files.py
NAMES = [name for name in WRITERS if name not in MASKS_ARE_FILES]
SPLITS = [(name, split) for name in NAMES for split in WRITERS[name].words or ("train", "val")]
IMAGES = 8  # one with a ghost, in KINS


def name_in(format_name, shape):
    """What a format calls a shape."""
    if format_name == "kins":
        return KINS_CATEGORIES[KINS_CATEGORY_OF[shape]]
    return shape.replace("-", "_") if format_name == "lvis" else shape


def drawn_objects(name, scene):
    """(category, amodal, visible) of a scene, in the words of a format and in no particular order."""
    masks = zip(scene.categories, scene.amodal, scene.visible, strict=True)
    return sorted((name_in(name, shape), encode_mask(a)["counts"], encode_mask(v)["counts"]) for shape, a, v in masks)


def read_objects(image):
    things = [i for i in image.instances if not i.is_stuff]
    return sorted((i.category, i.amodal_rle["counts"], i.visible_rle["counts"]) for i in things)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_written_and_read_back_it_is_what_was_drawn_bit_for_bit(tmp_path, name, split):
    draw_dataset(name, tmp_path, split, IMAGES, seed=3, jobs=1)
    datasets = [load_dataset(name, tmp_path, split)]
    if name == "kins":
        datasets.append(load_dataset(name, tmp_path, split, version="2020"))
    for dataset in datasets:
        assert len(dataset) == IMAGES
        for index, image in enumerate(dataset):
            scene = draw_scene(domain_of(name, split), index, seed=3, split=split)
            pixels = image.read()
            error = np.abs(pixels.astype(int) - scene.image).mean()
            assert error == 0 if image.path.suffix == ".png" else error < 8
            if name == "lvis":  # visible masks only, and not of all objects
                drawn = {(category, visible) for category, _, visible in drawn_objects(name, scene)}
                assert {(i.category, i.visible_rle["counts"]) for i in image.instances} <= drawn
            else:
                assert read_objects(image) == drawn_objects(name, scene)
            if name == "cocoa":
                (ground,) = [i for i in image.instances if i.is_stuff]
                np.testing.assert_array_equal(ground.amodal, scene.ground)
                np.testing.assert_array_equal(ground.visible, scene.ground & ~scene.amodal.any(0))


# ------------------------------------------------------------------------------------------------ blemishes


def test_colliding_ids_and_names_that_end_in_a_space(tmp_path):
    for split, images in (("train", 3), ("augmented", 2)):
        path = draw_dataset("d2sa", tmp_path, split, images, jobs=1)
        assert all(category["name"].endswith(" ") for category in json.loads(path.read_text())["categories"])
    parts = [load_dataset("d2sa", tmp_path, split) for split in ("train", "augmented")]
    assert {image.image_id for image in parts[0]} >= {image.image_id for image in parts[1]}  # they do collide
    merged = load_dataset("d2sa", tmp_path, "train+augmented")
    assert all(name == name.strip() for name in merged.categories.values())
    assert [image.image_id for image in merged] == [1, 2, 3, 4, 5] and merged.skipped == {}
    assert [image.path for image in merged] == [image.path for part in parts for image in part]


def test_objects_of_which_nothing_is_seen_are_skipped_and_counted_in_the_drawn_kins(tmp_path):
    draw_dataset("kins", tmp_path, "val", 2 * KINS_GHOST_EVERY, jobs=1)
    counts = {
        version: {rule: len(found) for rule, found in load_dataset("kins", tmp_path, version=version).skipped.items()}
        for version in ("2019", "2020")
    }
    assert counts == {"2019": {"empty visible mask": 2}, "2020": {"box outside the image or of zero area": 2}}


def test_clusters_of_the_drawn_kins(tmp_path):
    draw_dataset("kins", tmp_path, "val", 6, jobs=1)
    for image in load_dataset("kins", tmp_path, version="2020"):
        masks = [instance.amodal for instance in image.instances]
        for i, instance in enumerate(image.instances):
            touching = [j for j, mask in enumerate(masks) if j != i and (mask & masks[i]).any()]
            assert all(image.instances[j].extras["oco_id"] == instance.extras["oco_id"] for j in touching)
            assert (instance.extras["ico_id"] == 0) == (not touching)
            for j in touching:  # 1 is the nearest
                assert (image.instances[j].extras["ico_id"] < instance.extras["ico_id"]) == (j > i)


def test_the_truth_of_the_drawn_lvis_belongs_to_its_annotations(tmp_path):
    draw_dataset("lvis", tmp_path, "train", 12, jobs=1)
    dataset = load_dataset("lvis", tmp_path, "train")
    truth = hidden_shares("train", 12, jobs=1)
    assert sorted(truth) == sorted(item.instance_id for image in dataset for item in image.instances)
    kinds = set()
    for image in dataset:
        scene = draw_scene("lvis", image.image_id - 1, 0, "train")
        for item in image.instances:
            (k,) = [k for k, mask in enumerate(scene.visible) if np.array_equal(mask, item.visible)]
            whole, share = scene.amodal[k], truth[item.instance_id]
            border = np.ones_like(whole)
            border[1:-1, 1:-1] = False
            if (whole & border).any():
                assert np.isnan(share)
            else:
                assert share == pytest.approx(1 - np.count_nonzero(scene.visible[k]) / np.count_nonzero(whole))
            kinds.add("cut" if np.isnan(share) else "hidden" if share else "complete")
    assert kinds == {"cut", "hidden", "complete"}


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ["muva", "dyce", "pix2gestalt"])  # the recipe in the index, beside it, and alone
def test_a_finished_set_is_left_as_it_is_and_another_recipe_draws_anew(tmp_path, name):
    path = draw_dataset(name, tmp_path, "val", 1, jobs=1)
    image = next(file for file in tmp_path.rglob("*") if file.suffix in (".jpg", ".png"))
    image.write_bytes(b"")
    assert draw_dataset(name, tmp_path, "val", 1, jobs=1) == path and image.read_bytes() == b""
    draw_dataset(name, tmp_path, "val", 2, jobs=1)
    assert image.read_bytes() and len(load_dataset(name, tmp_path, "val")) == 2
    for damage in (lambda: path.write_bytes(path.read_bytes()[:-9]), path.unlink):
        if name != "dyce" or damage == path.unlink:  # a text cut short is not told from a whole one
            damage()
            image.write_bytes(b"")
            draw_dataset(name, tmp_path, "val", 2, jobs=1)
            assert path.is_file() and image.read_bytes()
    assert not list(tmp_path.rglob("*.partial"))
