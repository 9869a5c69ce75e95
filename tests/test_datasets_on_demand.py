"""What is read when: opening decodes no mask, one pass counts them all, and nothing outlives the file it came from."""

import json
import os
import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib import delayed

from sameo_core.config import CleaningConfig, DataConfig, load_profile, profiles
from sameo_core.datasets import AmodalDataset, base, builder, clean, files, json_index, load_dataset
from sameo_core.datasets import dataset as dataset_module
from sameo_core.errors import InputError
from sameo_core.miniature import draw_dataset

FILE = "annotations/val.json"
SIDE = 20


def mask(rng):
    """A rectangle somewhere, at least 2 x 2, as polygon."""
    (x0, y0), (w, h) = rng.integers(0, SIDE - 2, 2), rng.integers(2, 8, 2)
    return [[int(v) for v in (x0, y0, x0 + w, y0, x0 + w, y0 + h, x0, y0 + h)]]


def document(images=6, objects=20, seed=0):
    """Annotations in any order; images from id 10 on."""
    rng = np.random.default_rng(seed)
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}é.jpg", "height": SIDE, "width": SIDE} for i in range(images)],
        "categories": [{"id": 1, "name": "Tasse ☕"}, {"id": 2, "name": "cup"}],
        "annotations": [
            {
                "id": 100 + i,
                "image_id": 10 + int(rng.integers(images)),
                "category_id": 1 + i % 2,
                "segmentation": mask(rng),
                "visible_mask": mask(rng),
            }
            for i in range(objects)
        ],
    }


def write(root, data, file=FILE):
    path = root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def load(root, data):
    write(root, data)
    return load_dataset("coco", root)


@pytest.fixture
def decoded(monkeypatch):
    """A number for each mask that is decoded."""
    calls, decode = [], builder.segmentation_to_rle
    monkeypatch.setattr(builder, "segmentation_to_rle", lambda *args: calls.append(len(calls)) or decode(*args))
    return calls


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """However small a file is, index and census are kept."""
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(json_index, "KEPT_FROM", 0)
    monkeypatch.setattr(dataset_module, "CENSUS_KEPT_FROM", 0)
    return tmp_path / "runs" / "index"


# ------------------------------------------------------------------------------------------------ what is read when


def test_opening_decodes_one_image_and_each_image_is_decoded_once(tmp_path, decoded):
    dataset = load(tmp_path, document())
    per_image = [sum(a["image_id"] == 10 + i for a in document()["annotations"]) for i in range(6)]
    assert len(decoded) == 2 * per_image[0] > 0
    assert "not read yet" in repr(dataset[1].instances)
    assert [len(image.instances) for image in dataset] == per_image
    assert dataset[-1] is dataset[5] and dataset[0:2] == [dataset[0], dataset[1]]
    total = len(decoded)
    assert total == 2 * sum(per_image) == 40
    assert [len(image.instances) for image in dataset] == per_image and len(decoded) == total
    for index in (6, -7):
        with pytest.raises(IndexError):
            dataset[index]


def test_only_the_last_images_are_remembered(tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(base, "RECENT_IMAGES", 3)
    dataset = load(tmp_path, document())
    first = list(dataset[0].instances)
    dataset.summary()
    assert len(dataset.images._recent) == 3
    before = len(decoded)
    assert list(dataset[0].instances) == first and len(decoded) == before + 2 * len(first)  # read again
    assert list(dataset[5].instances) and len(decoded) == before + 2 * len(first)  # still there


def test_an_image_travels_to_worker_processes_without_its_data_set(tmp_path):
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    small, large = (load(tmp_path / name, document(objects=n)) for name, n in (("small", 20), ("large", 2000)))
    lengths = [len(pickle.dumps(dataset[3])) / max(1, len(dataset[3].instances)) for dataset in (small, large)]
    assert lengths[1] < 2 * lengths[0]
    travelled = pickle.loads(pickle.dumps(large))
    assert len(travelled.images._recent) == 0 and travelled[3] == large[3]
    assert pickle.loads(pickle.dumps(large[3])) == large[3] and travelled.fingerprint() == large.fingerprint()


# ------------------------------------------------------------------------------------------------ rules of ids


def test_ids_are_decided_for_all_records_at_once(tmp_path):
    image = {"file_name": "a.jpg", "height": SIDE, "width": SIDE}
    masks = {"category_id": 1, "segmentation": [0, 0, 4, 0, 4, 4], "visible_mask": [0, 0, 4, 0, 4, 4]}
    data = {
        "categories": [{"id": 1, "name": "cup"}],
        "images": [
            image | {"id": 8, "width": 0},
            image | {"id": 8},
            image | {"id": 2},
            image | {"id": 8},
            *(image | {"id": odd} for odd in ("3", True, 2**63)),
            image | {"id": 4, "file_name": ""},
            "no object",
        ],
        "annotations": [
            {"id": 1, "image_id": 2} | masks,
            {"id": 1, "image_id": 8} | masks,  # the first one keeps this id
            {"image_id": 8} | masks,
            {"id": 30, "image_id": 99} | masks,
            {"id": 5, "image_id": "8"} | masks,
            {"id": 6, "image_id": 8, "iscrowd": 1} | masks,
            {"id": 7, "image_id": 8, "iscrowd": "no"} | masks,
            {"id": -4, "image_id": 2} | masks,
            None,
        ],
    }
    dataset = load(tmp_path, data)
    found = [(image.image_id, [item.instance_id for item in image.instances]) for image in dataset]
    assert found == [(8, [31, 32, 7]), (2, [1, -4])]  # new ids are above the file's largest
    assert dataset.skipped == {
        "image without file name": ["image 4", "image number 9"],
        "image without a whole-number id": ["image 3", "image True", "image 9223372036854775808"],
        "image without height and width": ["image 8"],
        "image id used twice": ["image 8"],
        "annotation without image": ["annotation 30", "annotation 5", "annotation number 9"],
        "crowd region": ["annotation 6"],
    }


def two_files(root, first, second):
    """D2SA in two files, from (image ids, annotation ids) each."""
    for name, (images, annotations) in (("training_rot0", first), ("augmented", second)):
        data = document(len(images), len(annotations))
        for image, number in zip(data["images"], images, strict=True):
            image["id"] = number
        for annotation, number in zip(data["annotations"], annotations, strict=True):
            annotation |= {"id": number, "image_id": images[0]}
        write(root, data, f"d2s_amodal_annotations_v1/D2S_amodal_{name}.json")
    dataset = load_dataset("d2sa", root, "train+augmented")
    return [(image.image_id, [i.instance_id for i in image.instances]) for image in dataset]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (([3, 4], [9]), [(3, [9]), (4, [])]),
        (([1, 0], [9]), [(4, [9]), (3, [])]),  # 2 is the largest so far; 0 becomes 3
        (([7], [5, -2]), [(7, [13, 6])]),  # 5 is the largest so far; -2 becomes 6
        (([2**62], [5, 2**62]), [(2**62, [6, 2**62 + 1])]),
    ],
    ids=str,
)
def test_ids_of_a_later_file_are_shifted_where_one_is_taken(tmp_path, second, expected):
    assert two_files(tmp_path, ([1, 2], [4, 5]), second) == [(1, [4, 5]), (2, []), *expected]


# ------------------------------------------------------------------------------------------------ census


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folders of drawn sets: COCO-like, with masks in files, in memory, visible only."""
    roots = {}
    for name in ("d2sa", "walt", "cocoa", "lvis"):
        roots[name] = tmp_path_factory.mktemp(name)
        draw_dataset(name, roots[name], "val", 4, jobs=1)
    return roots


@pytest.mark.parametrize("name", ["d2sa", "walt", "cocoa", "lvis"])
def test_the_census_is_what_the_masks_say(drawn, name):
    dataset = load_dataset(name, drawn[name], "val")
    census = dataset.census()
    objects = [(number, image, item) for number, image in enumerate(dataset) for item in image.instances]
    assert len(census) == len(objects) > 4
    rows = zip(
        census.image, census.instance_id, census.category_id, census.is_stuff, census.image_area, census.visible_area,
        census.amodal_area, census.occlusion_rates, census.name, objects, strict=True,
    )  # fmt: skip
    for image, instance_id, category_id, is_stuff, pixels, visible, amodal, rate, named, (number, scene, item) in rows:
        assert (image, instance_id, category_id) == (number, item.instance_id, item.category_id)
        assert (is_stuff, visible, pixels) == (item.is_stuff, item.visible.sum(), scene.height * scene.width)
        assert census.names[named] == item.category
        if name == "lvis":
            assert amodal == -1 and np.isnan(rate)
        else:
            assert amodal == item.area and rate == item.occlusion_rate
    rates = census.occlusion_rates
    assert dataset.summary()["mean_occlusion_rate"] == pytest.approx(rates.mean(), nan_ok=True)


def census_equal(first, second):
    columns = zip(first.columns().values(), second.columns().values(), strict=True)
    return first.skipped == second.skipped and first.names == second.names and all(np.array_equal(*c) for c in columns)


def test_a_kept_census_spares_the_masks_until_the_file_changes(tmp_path, kept, decoded):
    data = document()
    data["annotations"][3]["visible_mask"] = []
    first = load(tmp_path, data)
    first.census()
    decoded.clear()
    second = load_dataset("coco", tmp_path)
    opening = len(decoded)
    assert census_equal(second.census(), first.census()) and first.skipped == second.skipped
    assert second.skipped == {"segmentation is empty": ["annotation 103"]} and len(decoded) == opening
    data["annotations"][4]["visible_mask"] = []
    third = load(tmp_path, data)
    assert third.skipped == {"segmentation is empty": ["annotation 103", "annotation 104"]}
    for cache in kept.iterdir():
        cache.write_bytes(cache.read_bytes()[:100])
    assert census_equal(load_dataset("coco", tmp_path).census(), third.census())


def test_the_census_of_mask_files_follows_the_files(drawn, tmp_path, kept, monkeypatch):
    draw_dataset("pix2gestalt", tmp_path, "val", 12, jobs=1)
    dataset = load_dataset("pix2gestalt", tmp_path, "val")
    census, fingerprint = dataset.census(), dataset.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(dataset_module, "_take_census", None)
        again = load_dataset("pix2gestalt", tmp_path, "val")
        assert census_equal(again.census(), census) and again.fingerprint() == fingerprint
    path = sorted((tmp_path / "val" / "whole_mask").rglob("*.png"))[2]
    path.write_bytes(b"damaged")
    changed = load_dataset("pix2gestalt", tmp_path, "val")
    assert len(changed.census()) == len(census) - 1 and changed.fingerprint() != fingerprint
    assert "file cannot be decoded" in changed.skipped


MASK_FILES = ["walt", "dyce", "kitti360_aps", "pix2gestalt"]


def objects_of(dataset):
    return [(image.image_id, tuple(image.instances), image.instances.skipped) for image in dataset]


@pytest.mark.parametrize("name", MASK_FILES)
def test_masks_of_mask_files_are_decoded_once_for_all_openings(tmp_path, kept, decoded, name):
    draw_dataset(name, tmp_path, "val", 12, jobs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "CENSUS_KEPT_FROM", 500)
        plain = load_dataset(name, tmp_path, "val")
        expected, fingerprint = objects_of(plain), plain.fingerprint()
    census = load_dataset(name, tmp_path, "val").census()
    decoded.clear()
    again = load_dataset(name, tmp_path, "val")
    assert objects_of(again) == expected and again.fingerprint() == fingerprint
    assert census_equal(again.census(), census) and objects_of(clean(again, DataConfig())[0]) and not decoded
    assert objects_of(pickle.loads(pickle.dumps(again))) == expected and not decoded
    (masks,) = kept.glob("*.masks")
    content = masks.read_bytes()
    masks.write_bytes(content[:500] + bytes(len(content) - 500))  # damaged: the originals are read
    assert objects_of(load_dataset(name, tmp_path, "val")) == expected and decoded
    masks.write_bytes(content[:500])  # cut short: converted again
    assert objects_of(load_dataset(name, tmp_path, "val")) == expected
    assert census_equal(load_dataset(name, tmp_path, "val").census(), census) and masks.read_bytes() == content


def test_the_census_of_several_processes_is_that_of_one(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(dataset_module, "TASK", 2)
    draw_dataset("walt", tmp_path, "val", 9, jobs=1)
    alone = load_dataset("walt", tmp_path, "val").census()
    (masks,) = kept.glob("*.masks")
    content, helpers = masks.read_bytes(), []
    masks.unlink()
    monkeypatch.setattr(dataset_module, "ALONE", -1)
    monkeypatch.setattr(dataset_module, "delayed", lambda work: helpers.append(work) or delayed(work))
    assert census_equal(load_dataset("walt", tmp_path, "val").census(), alone) and masks.read_bytes() == content
    assert len(helpers) == 4 and alone.skipped  # 9 images are 5 tasks, of which this process did one


def test_where_masks_cannot_be_kept_they_are_read(tmp_path, kept):
    draw_dataset("dyce", tmp_path, "val", 2, jobs=1)
    kept.parent.write_text("in the way")
    dataset = load_dataset("dyce", tmp_path, "val")
    assert len(dataset.census()) == sum(len(image.instances) for image in dataset) > 0


def test_the_fingerprint_of_many_files_is_kept_until_their_folders_change(tmp_path, kept, monkeypatch):
    draw_dataset("pix2gestalt", tmp_path, "val", 12, jobs=1)
    every = load_dataset("pix2gestalt", tmp_path, "val").fingerprint()
    looked_at, stamp = [], files.size_and_time
    for module in (builder, dataset_module):
        monkeypatch.setattr(module, "size_and_time", lambda path: looked_at.append(path) or stamp(path))
    monkeypatch.setattr(files, "SAMPLE", 3)

    def fingerprint():
        looked_at.clear()
        return load_dataset("pix2gestalt", tmp_path, "val").fingerprint()

    assert fingerprint() == every and len(set(looked_at)) == 36
    assert fingerprint() == every and len(set(looked_at)) == 9
    path = sorted((tmp_path / "val" / "whole_mask").rglob("*.png"))[5]
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"another mask")
    changed = fingerprint()
    assert changed != every and len(set(looked_at)) == 36
    path.unlink()
    path.with_suffix(".old").rename(path)
    assert fingerprint() == every
    next((tmp_path / "val" / "occlusion").rglob("*.png")).unlink()
    assert fingerprint() not in (every, changed)


# ------------------------------------------------------------------------------------------------ cleaning


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**16), st.integers(0, 40), st.floats(0, 1), st.floats(0, 0.2))
def test_cleaning_keeps_what_the_thresholds_say_in_order(tmp_path, seed, pixels, share, most):
    dataset = load(tmp_path, document(seed=seed))
    cleaning = CleaningConfig(min_visible_pixels=pixels, min_visible_share=share, max_image_share=most)
    cleaned, report = clean(dataset, DataConfig(cleaning=cleaning))
    expected = []
    for image in dataset:
        fine = [
            item for item in image.instances
            if item.area <= most * SIDE**2 and item.visible_area >= pixels and item.visible_area >= share * item.area
        ]  # fmt: skip
        expected += [(image.image_id, fine)] * bool(fine)
    assert [(image.image_id, list(image.instances)) for image in cleaned] == expected
    travelled = pickle.loads(pickle.dumps(cleaned))
    assert [(image.image_id, list(image.instances)) for image in travelled] == expected
    assert report.instances_out == len(cleaned.census()) == sum(len(items) for _, items in expected)
    fresh = AmodalDataset("coco", tmp_path, "val", cleaned.categories, list(cleaned), cleaned.skipped)
    assert census_equal(cleaned.census(), _renamed(fresh.census(), cleaned.census().names))
    again, report = clean(cleaned, DataConfig(cleaning=cleaning))
    assert sum(report.removed.values()) == 0 and [image.image_id for image in again] == [i for i, _ in expected]


def _renamed(census, names):
    """The same census, with the category names in another order."""
    places = np.array([names.index(name) for name in census.names], np.int64)
    return replace(census, names=names, name=places[census.name])


def test_cleaning_measures_each_mask_once(tmp_path, decoded):
    cleaned, _ = clean(load(tmp_path, document()), load_profile("mini").data)
    total = len(decoded)
    assert total == 40 and cleaned.summary()["instances"] > 0 and len(decoded) == total
    cleaned.fingerprint()
    assert len(decoded) == total and "not read yet" in repr(cleaned[0].instances)


# ------------------------------------------------------------------------------------------------ fingerprints


def test_a_fingerprint_decodes_nothing_and_changes_with_masks_images_and_thresholds(tmp_path, decoded):
    data = document()
    dataset = load(tmp_path, data)
    before = len(decoded)
    prints = [dataset.fingerprint()]
    assert len(decoded) == before and load(tmp_path, data).fingerprint() == prints[0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0é.jpg").write_bytes(b"pixels")
    prints.append(dataset.fingerprint())
    for change in ({"visible_mask": [[0, 0, 3, 0, 3, 3, 0, 3]]}, {"category_id": 2}, {"id": 99}):
        data["annotations"][0] |= change
        prints.append(load(tmp_path, data).fingerprint())
    data["images"][5] |= {"height": SIDE + 1}
    prints.append(load(tmp_path, data).fingerprint())
    cleanings = [CleaningConfig(min_visible_share=share) for share in (0.0, 0.3, 0.30001, 0.9)]
    cleaned = [clean(load(tmp_path, data), DataConfig(cleaning=cleaning))[0] for cleaning in cleanings]
    prints += [dataset.fingerprint() for dataset in cleaned[:2] + cleaned[3:]]
    assert len(set(prints)) == len(prints) and cleaned[1].fingerprint() == cleaned[2].fingerprint()
    listed = AmodalDataset("coco", tmp_path, "val", {}, list(cleaned[1]), {})
    shorter = AmodalDataset("coco", tmp_path, "val", {}, list(cleaned[1])[:-1], {})
    assert listed.fingerprint() != shorter.fingerprint() == shorter.fingerprint()


# ------------------------------------------------------------------------------------------------ changes


def test_a_file_that_changes_after_opening_is_an_input_error(tmp_path):
    data = document()
    dataset = load(tmp_path, data)
    cleaned = pickle.loads(pickle.dumps(clean(load_dataset("coco", tmp_path), DataConfig())[0]))  # with nothing read
    status = (tmp_path / FILE).stat()
    time.sleep(0.02)  # a clock's tick: times of files are no finer
    write(tmp_path, data)  # the same bytes: nobody can know
    os.utime(tmp_path / FILE, ns=(status.st_atime_ns, status.st_mtime_ns))
    for ask in (lambda: dataset[3], lambda: dataset.skipped, lambda: dataset.summary(), lambda: list(cleaned)):
        with pytest.raises(InputError, match="the file changed while it was in use"):
            ask()
    image = load_dataset("coco", tmp_path)[1]
    (tmp_path / FILE).unlink()
    with pytest.raises(InputError, match="the file can no longer be read"):
        len(image.instances)
