"""Photographs by id, from a folder and from a server of our own on 127.0.0.1."""

import json
import sys
from dataclasses import replace
from functools import partial
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import test_downloads

from sameo_core.datasets import downloads, load_dataset, load_sources, photo_ids
from sameo_core.datasets.photo_ids import fetch_photographs, listed_ids, take_from
from sameo_core.errors import InputError

fetch = partial(downloads.fetch, page="https://example.org")
server = test_downloads.server
ANNOTATIONS, FOLDER = photo_ids.LAYOUT["coco_photos"]["train"][0], "train2017"


def jpeg(height, width):
    file = BytesIO()
    PIL.Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    """Three train ids and one of val instead of the repository's."""
    ids = {"coco_photos": {"train": [1, 2, 3], "val": [9]}, "cocoa_photos": {"val": [7]}}
    monkeypatch.setattr(photo_ids, "listed_ids", ids.__getitem__)
    monkeypatch.setattr(photo_ids, "POLITENESS", 0.0)


def annotations(ids, server=None):
    port = server.server_address[1] if server else 80
    images = [
        {
            "id": i,
            "height": 20,
            "width": 30,
            "file_name": f"{i:012d}.jpg",
            "coco_url": f"http://127.0.0.1:{port}/train2017/{i:012d}.jpg",
        }
        for i in ids
    ]
    segmentation = {"bbox": [2, 2, 18, 10], "segmentation": [[2, 2, 20, 2, 20, 12, 2, 12]]}
    objects = [{"id": 10 + i, "image_id": i, "category_id": 1, "iscrowd": 0} | segmentation for i in ids]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}


def write(folder, train=(1, 2, 3), val=(9,), server=None):
    for split, ids in (("train", train), ("val", val)):
        path = folder / photo_ids.LAYOUT["coco_photos"][split][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(annotations(ids, server)))


def serve(server, **sizes):
    """Photographs by id, "i3=(height, width)", and nothing else."""
    server.content = None
    server.files |= {f"/train2017/{int(i[1:]):012d}.jpg": jpeg(*size) for i, size in sizes.items()}


def test_the_repository_lists_the_ids():
    ids = listed_ids("coco_photos")
    assert [len(ids["train"]), len(ids["val"])] == [318, 82] and not set(ids["train"]) & set(ids["val"])
    assert listed_ids("cocoa_photos") == {"val": [188819, 200752]}


def test_fetched_one_by_one_and_not_again(tmp_path, server):
    write(tmp_path, server=server)
    serve(server, i1=(20, 30), i2=(20, 30), i3=(20, 30), i9=(20, 30))
    assert fetch_photographs("coco_photos", tmp_path, fetch) == []
    assert len(server.asked) == 4
    whole = (tmp_path / FOLDER / f"{2:012d}.jpg").read_bytes()
    for damaged in (whole[:50], whole[:-200], b""):
        (tmp_path / FOLDER / f"{2:012d}.jpg").write_bytes(damaged)
        server.asked.clear()
        assert fetch_photographs("coco_photos", tmp_path, fetch) == []
        assert server.asked == [f"/train2017/{2:012d}.jpg"]


def test_a_photograph_that_is_gone_or_changed_is_left_out(tmp_path, server, capsys):
    write(tmp_path, server=server)
    serve(server, i1=(20, 30), i3=(40, 60))
    missing = fetch_photographs("coco_photos", tmp_path, fetch)
    assert [file.name for file in missing] == [f"{i:012d}.jpg" for i in (2, 3, 9)]
    shown = capsys.readouterr().out
    assert "404" in shown and "(height, width) is (40, 60), the annotations say (20, 30)" in shown
    dataset = load_dataset("coco_photos", tmp_path, "train")
    assert [image.image_id for image in dataset] == [1]
    assert dataset[0].read().shape == (20, 30, 3) and dataset[0].instances[0].category == "cat"
    assert len(fetch_photographs("coco_photos", tmp_path, fetch)) == 3, "three that are gone do not end a later run"


def test_what_fails_for_all_is_not_tried_400_times(tmp_path):
    write(tmp_path)
    asked = []

    def failing(file, path):
        asked.append(path)
        raise InputError(file=path, rule="no network", remedy="Mend it")

    with pytest.raises(InputError):
        fetch_photographs("coco_photos", tmp_path, failing)
    assert len(asked) == photo_ids.GIVEN_UP


def test_an_interrupted_run_goes_on(tmp_path):
    write(tmp_path)
    asked = []

    def interrupted(file, path):
        asked.append(path.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        path.write_bytes(jpeg(20, 30))

    with pytest.raises(KeyboardInterrupt):
        fetch_photographs("coco_photos", tmp_path, interrupted)
    assert fetch_photographs("coco_photos", tmp_path, interrupted) == []
    assert asked == [f"{i:012d}.jpg" for i in (1, 2, 2, 3, 9)]


def photographs(folder, **ids):
    for split, listed in ids.items():
        for i in listed:
            path = folder / f"{split}2017" / f"{i:012d}.jpg"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(jpeg(20, 30))


def test_taken_from_a_folder(tmp_path):
    """In COCO's files one of our train images is of val, and the other way round."""
    local, folder = tmp_path / "local", tmp_path / "sets" / "coco_photos"
    write(local, train=[1, 2, 4, 5, 9], val=[3, 11])
    photographs(local, train=[1, 2, 4, 9], val=[3])
    before = (local / ANNOTATIONS).read_bytes()
    for _ in range(2):
        assert downloads.download("coco_photos", tmp_path / "sets", local=local) == []
    for split, ids in (("train", [1, 2, 3]), ("val", [9])):
        kept = json.loads((folder / photo_ids.LAYOUT["coco_photos"][split][0]).read_text())
        assert [i["id"] for i in kept["images"]] == [a["image_id"] for a in kept["annotations"]] == ids
        assert sorted(path.name for path in (folder / f"{split}2017").iterdir()) == [f"{i:012d}.jpg" for i in ids]
        assert [image.image_id for image in load_dataset("coco_photos", folder, split)] == ids
    assert (local / ANNOTATIONS).read_bytes() == before, "the given files are not changed"


def test_a_bad_photograph_of_a_folder_is_fetched_instead(tmp_path, server):
    local = tmp_path / "local"
    write(local, server=server)
    photographs(local, train=[1, 2, 3], val=[9])
    (local / FOLDER / f"{2:012d}.jpg").write_bytes(jpeg(40, 60))
    serve(server, i2=(20, 30))
    assert downloads.download("coco_photos", tmp_path / "sets", local=local) == []
    assert server.asked == [f"/train2017/{2:012d}.jpg"]


def test_annotations_are_cut_from_the_archive(tmp_path, server, monkeypatch):
    val = photo_ids.LAYOUT["coco_photos"]["val"][0]
    content = {ANNOTATIONS: annotations([1, 2, 4, 9], server), val: annotations([3, 11], server), "captions.json": {}}
    server.files["/a.zip"] = test_downloads.zipped({name: json.dumps(part) for name, part in content.items()})
    serve(server, i1=(20, 30), i2=(20, 30), i3=(20, 30), i9=(20, 30))
    source = load_sources()["coco_photos"]
    sources = {"coco_photos": replace(source, files=(replace(source.files[0], url=server.url("/a.zip")),))}
    written = []

    def dumps(content):
        written.append(content)
        return json.dumps(content) if len(written) == 1 else sys.exit(1)

    with monkeypatch.context() as broken:  # between the annotations of train and of val
        broken.setattr("sameo_core.datasets.photo_ids.json", SimpleNamespace(dumps=dumps))
        with pytest.raises(SystemExit):
            downloads.download("coco_photos", tmp_path, sources=sources)
    assert downloads.download("coco_photos", tmp_path, sources=sources) == []
    assert server.asked.count("/a.zip") == 1
    folder = tmp_path / "coco_photos"
    assert test_downloads.names(folder) == ["annotations", "train2017", "val2017"]
    assert test_downloads.names(folder / "annotations") == ["instances_train2017.json", "instances_val2017.json"]


def test_cocoa_by_hand_or_from_a_folder(tmp_path, capsys):
    assert [file.name for file in downloads.download("cocoa_photos", tmp_path)] == ["annotations.tar.gz"]
    assert "FETCH BY HAND" in capsys.readouterr().out
    inside = "annotations/COCO_amodal_val2014.json"
    image = {"id": 7, "file_name": "COCO_val2014_000000000007.jpg", "height": 20, "width": 30}
    objects = [{"id": i, "image_id": i, "regions": []} for i in (7, 8)]
    by_hand = tmp_path / "cocoa_photos" / "distributed"  # as the annotations are unpacked
    for folder in (tmp_path / "local", by_hand):
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / inside).write_text(json.dumps({"images": [image, image | {"id": 8}], "annotations": objects}))
        (folder / "val2014").mkdir()
        (folder / "val2014" / image["file_name"]).write_bytes(jpeg(20, 30))
    assert downloads.download("cocoa_photos", tmp_path / "other", local=tmp_path / "local") == []
    assert downloads.download("cocoa_photos", tmp_path) == []
    assert (by_hand / inside).exists(), "what came by hand is kept"
    for root in (tmp_path, tmp_path / "other"):
        kept = json.loads((root / "cocoa_photos" / inside).read_text())
        assert kept["images"] == [image] and kept["annotations"] == objects[:1]


@pytest.mark.parametrize("other", ["ids", "COCO_train2014_000000000002.jpg", "../../mine.jpg"])
def test_annotations_of_another_year(tmp_path, other):
    local = tmp_path / "local"
    write(local, train=[1, 3, 4] if other == "ids" else [1, 2, 3])
    text = (local / ANNOTATIONS).read_text()
    (local / ANNOTATIONS).write_text(text.replace(f'"{2:012d}.jpg"', json.dumps(other)))
    with pytest.raises(InputError) as error:
        take_from("coco_photos", local, tmp_path / "set")
    assert error.value.file == str(local / ANNOTATIONS) and error.value.record == "image 2"
    assert not (tmp_path / "set").exists(), "nothing is written"
