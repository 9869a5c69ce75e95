"""Photographs by id, from a folder and from a server of our own on 127.0.0.1."""

import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import PIL.Image
import pytest

from sameo_core import downloads, photo_ids
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.photo_ids import cut_annotations, fetch_photographs, listed_ids, take_from

fetch = partial(downloads.fetch, page="https://example.org")
ANNOTATIONS, FOLDER = photo_ids.LAYOUT["coco_photos"]["train"]


def jpeg(height, width):
    file = BytesIO()
    PIL.Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(file, "JPEG")
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked = {}, []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(photo_ids, "POLITENESS", 0.0)
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def listed(monkeypatch):
    """Three train ids and one of val instead of the repository's."""
    ids = {"coco_photos": {"train": [1, 2, 3], "val": [9]}, "cocoa_photos": {"val": [7]}}
    monkeypatch.setattr(photo_ids, "listed_ids", ids.__getitem__)


def annotations(ids, server=None, year=2017):
    port = server.server_address[1] if server else 80
    images = [
        {
            "id": i,
            "height": 20,
            "width": 30,
            "file_name": f"{i:012d}.jpg",
            "coco_url": f"http://127.0.0.1:{port}/train{year}/{i:012d}.jpg",
        }
        for i in ids
    ]
    box = [2, 2, 20, 2, 20, 12, 2, 12]
    objects = [
        {"id": 10 + i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [2, 2, 18, 10], "segmentation": [box]}
        for i in ids
    ]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}


def write(folder, split, content):
    path = folder / photo_ids.LAYOUT["coco_photos"][split][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def coco(folder, server=None):
    write(folder, "train", annotations([1, 2, 3, 4, 5], server))
    write(folder, "val", annotations([9, 11], server))


def test_the_repository_lists_the_ids():
    ids = listed_ids("coco_photos")
    assert [len(ids["train"]), len(ids["val"])] == [318, 82] and not set(ids["train"]) & set(ids["val"])
    assert listed_ids("cocoa_photos") == {"val": [188819, 200752]}


def test_fetched_one_by_one_and_not_again(tmp_path, server, listed):
    coco(tmp_path, server)
    server.files = {f"/train2017/{i:012d}.jpg": jpeg(20, 30) for i in (1, 2, 3, 9)}
    assert fetch_photographs("coco_photos", tmp_path, fetch) == []
    assert len(server.asked) == 4
    kept = json.loads((tmp_path / ANNOTATIONS).read_text())
    assert [i["id"] for i in kept["images"]] == [a["image_id"] for a in kept["annotations"]] == [1, 2, 3]
    (tmp_path / FOLDER / f"{2:012d}.jpg").write_bytes(jpeg(20, 30)[:50])  # cut short
    assert fetch_photographs("coco_photos", tmp_path, fetch) == []
    assert server.asked[4:] == [f"/train2017/{2:012d}.jpg"]


def test_a_photograph_that_is_gone_or_changed_is_left_out(tmp_path, server, listed, capsys):
    coco(tmp_path, server)
    server.files = {
        f"/train2017/{i:012d}.jpg": jpeg(*size) for i, size in ((1, (20, 30)), (3, (40, 60)), (9, (20, 30)))
    }
    missing = fetch_photographs("coco_photos", tmp_path, fetch)
    assert [file.name for file in missing] == [f"{2:012d}.jpg", f"{3:012d}.jpg"]
    assert "404" in capsys.readouterr().out
    dataset = load_dataset("coco_photos", tmp_path, "train")
    assert [image.image_id for image in dataset] == [1]
    assert dataset[0].read().shape == (20, 30, 3) and dataset[0].instances[0].category == "cat"


def test_a_server_out_of_reach_is_not_asked_400_times(tmp_path, server, listed):
    coco(tmp_path, server)
    with pytest.raises(InputError):
        fetch_photographs("coco_photos", tmp_path, fetch)
    assert len(server.asked) == photo_ids.GIVEN_UP


def test_taken_from_a_folder(tmp_path, listed, capsys):
    local, folder = tmp_path / "local", tmp_path / "sets" / "coco_photos"
    coco(local)
    for split, i in (("train", 1), ("train", 2), ("train", 3), ("val", 9)):
        path = local / f"{split}2017" / f"{i:012d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(20, 30))
    before = (local / ANNOTATIONS).read_bytes()
    assert downloads.download("coco_photos", tmp_path / "sets", local=local) == []
    assert len(load_dataset("coco_photos", folder, "train")) == 3
    assert (local / ANNOTATIONS).read_bytes() == before, "the given files are not changed"
    with pytest.raises(InputError) as error:
        take_from("coco_photos", tmp_path / "nothing", folder)
    assert error.value.file == str(tmp_path / "nothing")


def test_annotations_of_another_year(tmp_path):
    write(tmp_path, "train", annotations([101, 102, 103], year=2014))
    with pytest.raises(InputError) as error:
        cut_annotations(tmp_path / ANNOTATIONS, [1, 2, 3])
    assert error.value.file == str(tmp_path / ANNOTATIONS)
    assert len(json.loads((tmp_path / ANNOTATIONS).read_text())["images"]) == 3, "left as it was"
