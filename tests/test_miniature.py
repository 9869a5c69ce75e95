"""The drawn world: what is written is what was drawn, every domain is what it says, and old pictures stay the same."""

import hashlib
import json

import numpy as np
import pytest

from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
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
}


@pytest.mark.parametrize("domain", PINS)
def test_the_pictures_of_a_domain_stay_the_same(domain):
    digest = hashlib.sha256()
    for index in range(20):
        scene = draw_scene(domain, index)
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


def test_on_the_street_who_stands_lower_is_larger_and_in_front():
    bottoms, heights = [], []
    for index in range(12):
        scene = draw_scene("kins", index)
        feet = [np.flatnonzero(mask.any(1))[-1] for mask in scene.amodal]
        assert all(later >= earlier - 3 for earlier, later in zip(feet, feet[1:], strict=False))  # far to near
        bottoms += feet
        heights += [np.ptp(np.flatnonzero(mask.any(1))) for mask in scene.amodal]
    assert np.corrcoef(bottoms, heights)[0, 1] > 0.6


def test_the_views_of_a_shelf_show_the_same_objects_elsewhere():
    for scene in (0, 1, 2, 12):  # in 12 one object is out of sight in one view; the others look the same all the more
        left, front, right = (draw_scene("muva", 3 * scene + view) for view in range(3))
        names = [dict(zip(view.identities, view.categories, strict=True)) for view in (left, front, right)]
        common = set(names[0]) & set(names[1]) & set(names[2])
        assert len(common) >= 4 and left.image.shape == front.image.shape == right.image.shape
        paint = []
        for view, name in zip((left, front, right), names, strict=True):
            assert all(name[identity] == names[0][identity] for identity in common)
            masks = zip(view.identities, view.amodal, view.visible, strict=True)
            paint.append({i: np.median(view.image[v], axis=0) for i, a, v in masks if v.sum() == a.sum()})
        unoccluded = set(paint[0]) & set(paint[1])  # a shadow changes the others
        assert len(unoccluded) >= 2
        assert all(np.abs(paint[0][identity] - paint[1][identity]).max() < 12 for identity in unoccluded)
        assert not np.array_equal(left.amodal[0], front.amodal[0])
    with_others = {draw_scene("muva", 3 * scene).categories for scene in range(3)}
    assert len(with_others) == 3


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


def test_colliding_ids_of_the_drawn_d2sa(tmp_path):
    for split, images in (("train", 3), ("augmented", 2)):
        draw_dataset("d2sa", tmp_path, split, images, jobs=1)
    parts = [load_dataset("d2sa", tmp_path, split) for split in ("train", "augmented")]
    assert {image.image_id for image in parts[0]} >= {image.image_id for image in parts[1]}  # they do collide
    merged = load_dataset("d2sa", tmp_path, "train+augmented")
    assert [image.image_id for image in merged] == [1, 2, 3, 4, 5] and merged.skipped == {}
    assert [image.path for image in merged] == [image.path for part in parts for image in part]
    masks = [[i.amodal_rle for i in image.instances] for part in parts for image in part]
    assert [[i.amodal_rle for i in image.instances] for image in merged] == masks


def test_names_that_end_in_a_space_are_written_and_read_without(tmp_path):
    for name in ("d2sa", "muva"):
        stored = json.loads(draw_dataset(name, tmp_path / name, "val", 1, jobs=1).read_text())
        assert all(category["name"].endswith(" ") for category in stored["categories"])
        assert all(c == c.strip() for c in load_dataset(name, tmp_path / name, "val").categories.values())


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


def test_the_views_of_the_drawn_muva_are_tied_together(tmp_path):
    draw_dataset("muva", tmp_path, "val", 6, jobs=1)
    dataset = load_dataset("muva", tmp_path, "val")
    assert [(image.extras["scene_id"], image.extras["view"]) for image in dataset] == [
        (scene, view) for scene in (1, 2) for view in ("left", "front", "right")
    ]
    left, front = ({i.extras["object_id"]: i.category for i in dataset[k].instances} for k in (0, 1))
    assert len(set(left) & set(front)) >= 4 and all(left[i] == front[i] for i in set(left) & set(front))


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


@pytest.mark.parametrize(
    ("name", "split", "images", "wrong"),
    [
        ("dyce2", "val", 1, "name"),
        ("d2sa", "test", 1, "split"),
        ("kins", "augmented", 1, "split"),
        ("muva", "val", 0, "images"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, name, split, images, wrong):
    with pytest.raises(InputError) as error:
        draw_dataset(name, tmp_path, split, images, jobs=1)
    assert error.value.file == wrong
