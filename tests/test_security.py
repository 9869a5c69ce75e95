"""Attacks, one a test: what a downloaded file, a server or somebody's data may try, and what becomes of it.

Attacks on one format stand with the tests of that format. Pickles in MP3D-Amodal, objects in npz, png bombs:
test_datasets_files. Code in checkpoints: test_checkpoints. Archives with "..", absolute paths and symbolic links,
wrong checksums, a redirect to ftp: test_downloads. Malformed run lengths and polygons: test_masks_bad_input. Bombs:
test_photographs. Depth of single records: test_datasets, test_json_index. That no code of ours runs what a file says:
ruff's rules S, in pyproject.toml.
"""

import json
import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import joblib
import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch
from bad_input_desk import png_with_a_text_bomb

from sameo_core.config import profiles
from sameo_core.datasets import AmodalImage, archives, fetching, images, load_dataset, load_sources
from sameo_core.datasets.archives import unpack
from sameo_core.datasets.downloads import download
from sameo_core.datasets.files import load_arrays, parse_json
from sameo_core.datasets.images import image_size, npz_layers, read_mask_png, read_photograph
from sameo_core.datasets.sources import Source, SourceFile
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_amodal
from sameo_core.front_ends.boxes import read_box_file
from sameo_core.model import Sameo, checkpoints
from sameo_core.model.checkpoints import read_weights
from sameo_core.reporting import table_html
from sameo_core.synthesis import Pool, read_statistics


class Attack:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.fixture
def victim(tmp_path):
    """A folder that must not be there in the end."""
    yield tmp_path / "victim"
    assert not (tmp_path / "victim").exists()


# --------------------------------------------------------------------------------------------------- code in files


@pytest.mark.parametrize("read", [read_weights, Pool.load, read_box_file])
def test_a_pickle_is_read_by_nobody(tmp_path, victim, read):
    joblib.dump(Attack(victim), tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", source=np.array([Attack(victim)], object))
    for name in ("a.pt", "a.npz"):
        with pytest.raises(InputError):
            read(tmp_path / name)


def test_yaml_that_asks_for_python_is_refused(tmp_path, victim):
    (tmp_path / "sources.yaml").write_text(f"!!python/object/apply:os.mkdir ['{victim}']")
    with pytest.raises(InputError, match="not valid YAML"):
        load_sources(tmp_path / "sources.yaml")


# --------------------------------------------------------------------------------------------------- programs


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A `gs` on the path that leaves a trace; Pillow would give it any PostScript to run."""
    trace, program = tmp_path / "ghostscript-ran", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{trace}'\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for again
    yield
    assert not trace.exists()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_in_place_of_a_picture_is_not_run(tmp_path, ghostscript):
    (tmp_path / "photo.jpg").write_bytes(EPS)
    image = AmodalImage(1, "photo.jpg", tmp_path / "photo.jpg", 6, 8, ())
    attempts = (
        lambda: read_photograph(tmp_path / "photo.jpg"),
        lambda: read_photograph(EPS),
        lambda: image_size(tmp_path / "photo.jpg"),
        lambda: read_mask_png(tmp_path / "photo.jpg", 6, 8),
        image.read,
    )
    for attempt in attempts:
        with pytest.raises(InputError):
            attempt()


def test_formats_are_those_of_the_endings():
    known = PIL.Image.registered_extensions()
    assert {known[ending] for ending in images.ENDINGS if ending in known} == set(images.FORMATS)


# --------------------------------------------------------------------------------------------------- bombs


def test_a_picture_with_a_comment_that_unfolds_is_refused(tmp_path):
    content = png_with_a_text_bomb()
    assert len(content) < 50_000
    with pytest.raises(InputError, match="cannot be decoded"):
        read_photograph(content)
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(InputError, match="cannot be decoded"):
        read_mask_png(tmp_path / "mask.png", 6, 8)
    with pytest.raises(InputError, match="cannot be decoded"):
        AmodalImage(1, "mask.png", tmp_path / "mask.png", 6, 8, ()).read()


def npy(shape, content=b"", dtype="|u1"):
    """An npy file that claims a shape."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def npz(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_masks_that_claim_more_memory_than_there_is(tmp_path):
    for shape in ((1, 10**6, 10**6, 3), (1000, 10_000, 10_000, 3)):
        with pytest.raises(InputError, match="cut short"):
            next(npz_layers(npz(tmp_path / "a.npz", {"mask": npy(shape)}), "mask"))


def test_an_array_cache_that_claims_more_memory_than_there_is(tmp_path):
    header = npy((2,), b"{}")
    for shape in ((2**50,), (2**33,)):
        path = npz(tmp_path / "a.npz", {"header": header, "a": npy(shape, dtype="<f8")})
        assert load_arrays(path) is None
    assert load_arrays(npz(tmp_path / "a.npz", {"header": header, "a": npy((1,), b"\7")}))[1]["a"] == 7


def test_a_pool_that_unfolds_is_refused(tmp_path):
    path = npz(tmp_path / "pool.npz", {"source": npy((2**24,), bytes(2**24))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        Pool.load(path)


def zip_bomb(path, name, unpacked=2**25):
    """A zip of some kilobytes that unfolds into zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(unpacked))
    assert path.stat().st_size < unpacked / 500


@pytest.mark.parametrize("name", ["weights.zip", "weights.pt"])
def test_a_checkpoint_that_unfolds_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_NUMBERS", 2**22)  # smaller, to be quick
    zip_bomb(tmp_path / name, "archive/data/0.pt")
    with pytest.raises(InputError, match="33,554,432 bytes when unpacked"):
        read_weights(tmp_path / name)


def test_a_tensor_of_a_few_bytes_that_claims_a_terabyte(tmp_path):
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="at most 268,435,456 numbers, found 1,099,511,627,776"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.filterwarnings("ignore:.*parse")
@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_without_numbers_of_their_own(tmp_path, kind):
    tensor = torch.ones(1).to_sparse() if kind == "sparse" else torch.empty(3, device="meta")
    torch.save({"a": tensor}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="weights.pt, a: an entry is a dense tensor"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize(("name", "path"), [("coco", "annotations/val.json"), ("lvis", "lvis_v1_val.json")])
def test_images_of_absurd_size_in_annotations_are_skipped(tmp_path, name, path):
    """The record's size decides how much a mask would take."""
    (tmp_path / path).parent.mkdir(exist_ok=True)
    images = [{"id": i, "file_name": "a.jpg", "height": side, "width": side} for i, side in ((1, 8), (2, 2**40))]
    annotation = {"category_id": 1, "bbox": [1, 1, 3, 3], "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    annotations = [{"id": i, "image_id": i} | annotation for i in (1, 2)]
    rle = {"size": [2**40, 2**40], "counts": [2**80]}
    annotations.append({"id": 3, "image_id": 2} | annotation | {"segmentation": rle})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / path).write_text(json.dumps(content))
    dataset = load_dataset(name, tmp_path, "val", **({"visible": "same"} if name == "coco" else {}))
    assert dataset.skipped == {"image size out of range": ["annotation 2", "annotation 3"]}
    assert dataset.summary()["instances"] == 1


# --------------------------------------------------------------------------------------------------- JSON and YAML

DEPTHS = (900, 50_000)  # around Python's limit of 1000: reading may work where something after it does not


def index(folder, text):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations/val.json").write_text(text)
    return load_dataset("coco", folder, visible="same").census()


def statistics(folder, text):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations/amodal_lvis_train_00000-of-00001.json").write_text(f'{{"info": {text}}}')
    return read_statistics(folder)


def reader(read, name):
    def call(folder, text):
        (folder / name).write_text(text)
        return read(folder / name)

    return call


def stated_variant(folder, text):
    path = folder / "weights.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata={"sameo": text})
    return Sameo.load(path)


PICTURE = '"images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}]'
JSON_READERS = {  # what reads, and a text around DEEP
    "parse_json": (reader(parse_json, "a.json"), "DEEP"),
    "boxes": (lambda f, t: reader(read_box_file, "a.json")(f, t).detections("a", (9, 9), True), "DEEP"),
    "COCO results": (reader(read_box_file, "a.json"), '[{"image_id": DEEP, "bbox": [1, 2, 3, 4]}]'),
    "ground truth": (reader(lambda path: evaluate_amodal(path, []), "a.json"), "DEEP"),
    "predictions": (reader(lambda path: evaluate_amodal({"images": [], "annotations": []}, path), "a.json"), "DEEP"),
    "annotation index": (index, "DEEP"),
    "annotation": (index, "{" + PICTURE + ', "categories": [], "annotations": [{"image_id": 1, "id": DEEP}]}'),
    "info of a shard": (statistics, "DEEP"),
    "variant in weights": (stated_variant, "DEEP"),
}


@pytest.mark.parametrize("levels", DEPTHS)
@pytest.mark.parametrize("kind", JSON_READERS)
def test_json_of_any_depth_is_refused_in_a_sentence(tmp_path, kind, levels):
    read, text = JSON_READERS[kind]
    levels = max(levels, 50_000) if kind == "parse_json" else levels  # what is less deep Python may read: 3.13 does
    with pytest.raises(InputError) as caught:
        read(tmp_path, text.replace("DEEP", "[" * levels + "]" * levels))
    assert len(str(caught.value)) < 3000


# --------------------------------------------------------------------------------------------------- archives


def test_devices_in_a_tar_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        member = tarfile.TarInfo("door")
        member.type = tarfile.CHRTYPE
        content.addfile(member)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_zip_that_would_fill_the_disk_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    zip_bomb(tmp_path / "a.zip", "zeros", 2**25)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 2**25 - 1}))
    with pytest.raises(InputError, match="needs 33,554,432 bytes"):
        unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


# --------------------------------------------------------------------------------------------------- servers


class Evil(BaseHTTPRequestHandler):
    """`/moved/...` leads there."""

    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/moved/"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        """Nothing to say."""


@pytest.fixture
def evil():
    server = HTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def fetched(folder, file):
    toy = Source("toy", "Toy", "https://example.org/toy", "none", (file,), (), {})
    return download("toy", folder, sources={"toy": toy})


def test_a_local_file_is_not_fetched_in_place_of_a_page(tmp_path, evil, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0)
    (tmp_path / "secret").write_text("mine")
    with pytest.raises(InputError):
        fetched(tmp_path, SourceFile("a.bin", url=f"{evil}/moved/{(tmp_path / 'secret').as_uri()}"))
    assert not (tmp_path / "toy" / "a.bin").exists()


@pytest.mark.parametrize("change", [{"name": "../toy"}, {"images_of": {"toy": ["../../etc"]}}, {"images_of": 5}])
def test_entries_of_sources_stay_in_their_folders(tmp_path, change):
    entry = {"title": "a", "page": "https://a.org", "licence": "a", "files": [], "counts": []} | change
    (tmp_path / "sources.yaml").write_text(json.dumps({"toy": entry}))
    with pytest.raises(InputError):
        load_sources(tmp_path / "sources.yaml")


# --------------------------------------------------------------------------------------------------- who can ask


def test_servers_are_told_to_listen_on_this_machine_only():
    recipes = re.findall(r"^\t.*-m (jupyterlab|voila|notebook)\b(.*)$", (profiles.ROOT / "Makefile").read_text(), re.M)
    assert {program for program, _ in recipes} == {"jupyterlab", "voila"}
    for program, flags in recipes:
        option = {"jupyterlab": "--ip", "voila": "--Voila.ip"}[program]
        assert f"{option}=127.0.0.1" in flags.split(), program


def test_the_pages_that_are_served_hold_no_script_from_data(tmp_path):
    """Names of categories and files come from data; on a page they are text."""
    shown = table_html([{"name": "<script>alert(1)</script>"}], title="<img src=x onerror=alert(1)>")._repr_html_()
    assert "<script" not in shown and "<img" not in shown
