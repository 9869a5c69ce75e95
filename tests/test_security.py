"""Attacks, one a test: what a downloaded file or somebody's data may try, and what becomes of it.

Attacks on one format stand with the tests of that format. Pickles in MP3D-Amodal, objects in npz, png bombs:
test_datasets_files. Code in checkpoints: test_checkpoints. Archives with "..", absolute paths and symbolic links,
wrong checksums: test_downloads. Depth of data sets: test_datasets. Malformed run lengths and polygons:
test_masks_bad_input. Bombs: test_photographs. That no code of ours runs what a file says: ruff's rules S, in
pyproject.toml.
"""

import json
import os
import re
import zipfile

import joblib
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import safetensors.torch
import torch

from sameo_core.config import profiles
from sameo_core.datasets import AmodalImage, archives, images, load_dataset, load_sources
from sameo_core.datasets.archives import unpack
from sameo_core.datasets.files import parse_json
from sameo_core.datasets.images import image_size, npz_layers, read_mask_png, read_photograph
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_amodal
from sameo_core.front_ends.boxes import read_box_file
from sameo_core.model import Sameo, checkpoints
from sameo_core.model.checkpoints import read_weights
from sameo_core.reporting import table_html
from sameo_core.synthesis import Pool

# --------------------------------------------------------------------------------------------------- code in files


class Attack:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("read", [read_weights, Pool.load, read_box_file])
def test_a_pickle_is_read_by_nobody(tmp_path, read):
    victim = tmp_path / "victim"
    joblib.dump(Attack(victim), tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", source=np.array([Attack(victim)], object))
    for name in ("a.pt", "a.npz"):
        with pytest.raises(InputError):
            read(tmp_path / name)
    assert not victim.exists()


def test_yaml_that_asks_for_python_is_refused(tmp_path):
    (tmp_path / "sources.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path / 'victim'}']")
    with pytest.raises(InputError, match="not valid YAML"):
        load_sources(tmp_path / "sources.yaml")
    assert not (tmp_path / "victim").exists()


PICTURE_READERS = {
    "photograph": read_photograph,
    "bytes": lambda path: read_photograph(path.read_bytes()),
    "size": image_size,
    "mask": lambda path: read_mask_png(path, 6, 8),
    "record": lambda path: AmodalImage(1, path.name, path, 6, 8, ()).read(),
}


@pytest.mark.parametrize("read", PICTURE_READERS.values(), ids=PICTURE_READERS)
def test_postscript_in_place_of_a_picture_is_not_run(tmp_path, read, monkeypatch):
    """Pillow would give it to Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile._open", lambda image: pytest.fail("opened"))
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\n%%EOF\n")
    with pytest.raises(InputError):
        read(tmp_path / "photo.jpg")


def test_formats_are_those_of_the_endings():
    known = PIL.Image.registered_extensions()
    assert {known[ending] for ending in images.ENDINGS if ending in known} == set(images.FORMATS)


def test_the_pages_that_are_served_hold_no_script_from_data():
    """Names of categories and files come from data; on a page they are text."""
    shown = table_html([{"name": "<script>alert(1)</script>"}], title="<img src=x onerror=alert(1)>")._repr_html_()
    assert "<script" not in shown and "<img" not in shown


def test_servers_are_told_to_listen_on_this_machine_only():
    recipes = re.findall(r"^\t.*-m (?:jupyterlab|voila)\b(.*)$", (profiles.ROOT / "Makefile").read_text(), re.M)
    assert len(recipes) == 2 and all(re.search(r"ip=127\.0\.0\.1\s", flags) for flags in recipes)


@pytest.mark.parametrize("change", [{"name": "../toy"}, {"images_of": {"toy": ["../../etc"]}}])
def test_entries_of_sources_stay_in_their_folders(tmp_path, change):
    entry = {"title": "a", "page": "https://a.org", "licence": "a", "files": [], "counts": []} | change
    (tmp_path / "sources.yaml").write_text(json.dumps({"toy": entry}))
    with pytest.raises(InputError):
        load_sources(tmp_path / "sources.yaml")


# --------------------------------------------------------------------------------------------------- bombs


@pytest.mark.parametrize("kind", ["photograph", "bytes", "mask", "record"])
def test_a_picture_with_a_comment_that_unfolds_is_refused(tmp_path, kind):
    comment = PIL.PngImagePlugin.PngInfo()
    comment.add_text("Comment", "0" * 2**25, zip=True)
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "mask.png", pnginfo=comment)
    assert (tmp_path / "mask.png").stat().st_size < 50_000
    with pytest.raises(InputError, match="cannot be decoded"):
        PICTURE_READERS[kind](tmp_path / "mask.png")


def test_masks_that_claim_more_memory_than_there_is(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (1000, 10_000, 10_000, 3)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("mask.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match="cut short"):
        next(npz_layers(tmp_path / "a.npz", "mask"))


def test_a_pool_that_unfolds_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "pool.npz", source=np.zeros(2**24, np.uint8))
    with pytest.raises(InputError, match="compressed"):
        Pool.load(tmp_path / "pool.npz")


def zip_bomb(path, name):
    """A zip of some kilobytes that unfolds into 32 MiB of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(2**25))
    assert path.stat().st_size < 50_000


@pytest.mark.parametrize("name", ["weights.zip", "weights.pt"])
def test_a_checkpoint_that_unfolds_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_NUMBERS", 2**22)  # smaller, to be quick
    zip_bomb(tmp_path / name, "archive/data/0.pt")
    with pytest.raises(InputError, match="33,554,432 bytes when unpacked"):
        read_weights(tmp_path / name)


def test_a_zip_that_would_fill_the_disk_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    zip_bomb(tmp_path / "a.zip", "zeros")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 2**25 - 1}))
    with pytest.raises(InputError, match="needs 33,554,432 bytes"):
        unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


TENSORS = {  # hardly a byte in the file
    "at most 268,435,456 numbers, found 1,099,511,627,776": lambda: torch.zeros(1).expand(2**40),
    "weights.pt, a: an entry is a dense tensor, found torch.sparse": lambda: torch.ones(1).to_sparse(),
    "weights.pt, a: an entry is a dense tensor, found no data": lambda: torch.empty(3, device="meta"),
}


@pytest.mark.filterwarnings("ignore:.*parse")
@pytest.mark.parametrize("words", TENSORS)
def test_tensors_without_numbers_of_their_own(tmp_path, words):
    torch.save({"a": TENSORS[words]()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=words):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize(("name", "path"), [("coco", "annotations/val.json"), ("lvis", "lvis_v1_val.json")])
def test_images_of_absurd_size_in_annotations_are_skipped(tmp_path, name, path):
    """The record's size decides how much a mask would take."""
    pictures = [{"id": i, "file_name": "a.jpg", "height": side, "width": side} for i, side in ((1, 8), (2, 2**40))]
    annotation = {"category_id": 1, "bbox": [1, 1, 3, 3], "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    annotations = [{"id": i, "image_id": i} | annotation for i in (1, 2)]
    content = {"images": pictures, "annotations": annotations, "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(json.dumps(content))
    dataset = load_dataset(name, tmp_path, "val", **({"visible": "same"} if name == "coco" else {}))
    assert dataset.skipped == {"image size out of range": ["annotation 2"]}
    assert dataset.summary()["instances"] == 1


# --------------------------------------------------------------------------------------------------- deep JSON


def stated_variant(path):
    weights = path.with_suffix(".safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, weights, metadata={"sameo": path.read_text()})
    return Sameo.load(weights)


JSON_READERS = {
    "any": parse_json,
    "boxes": lambda path: read_box_file(path).detections("a", (9, 9), True),
    "ground truth": lambda path: evaluate_amodal(path, []),
    "variant in weights": stated_variant,
}


@pytest.mark.parametrize("levels", [900, 50_000])  # around Python's limit of 1000: what follows reading may fail
@pytest.mark.parametrize("kind", JSON_READERS)
def test_json_of_any_depth_is_refused_in_a_sentence(tmp_path, kind, levels):
    levels = 50_000 if kind == "any" else levels  # what is less deep Python may read: 3.13 does
    (tmp_path / "a.json").write_text("[" * levels + "]" * levels)
    with pytest.raises(InputError) as caught:
        JSON_READERS[kind](tmp_path / "a.json")
    assert len(str(caught.value)) < 3000
