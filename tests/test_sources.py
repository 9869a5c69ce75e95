"""The list of sources: complete, well formed, nothing invented; and the inventory beside it."""

import json
import re

import pytest
import yaml

from sameo_core.__main__ import main
from sameo_core.config import RAW, WEIGHTS, load_profile
from sameo_core.datasets import READERS, load_sources
from sameo_core.datasets.registry import bad_images, inventory, inventory_table
from sameo_core.datasets.sources import SOURCES
from sameo_core.errors import InputError

COCOA = {
    "images": [{"id": 7, "file_name": "7.jpg", "height": 6, "width": 8}],
    "annotations": [
        {"id": 1, "image_id": 7, "regions": [{"name": "cup", "segmentation": [2, 1, 6, 1, 6, 5, 2, 5]}] * 2}
    ],
}


PACKAGE = r"(@[\w-][\w.-]*/)?\w[\w.-]*@\d[\w.+-]* \w\S*"  # npm's, with an exact version, and a file in it


@pytest.fixture(scope="module")
def sources():
    return load_sources()


# ------------------------------------------------------------------------------------------------------------ the list


def test_every_set_of_the_paper_has_an_entry(sources):
    paper, mini = load_profile("paper"), load_profile("mini")
    names = {name for p in (paper, mini) for name in (*p.data.train, *p.data.held_out, *p.data.visible_only)}
    assert names <= set(READERS) <= set(sources)


def test_every_entry_says_where_from_and_under_what_licence(sources):
    for source in sources.values():
        assert source.title and source.licence and source.page.startswith(("http://", "https://")), source.name
        assert source.files or "made" in source.note, source.name
        names = [(file.to, file.name) for file in source.files]
        assert len(names) == len(set(names)), source.name
        assert source.images_of.keys() <= sources.keys(), source.name
        for file in source.files:
            assert bool(file.url) != bool(file.manual), file.name
            assert file.url is None or file.url.startswith(("http://", "https://")), file.name
            assert type(file.bytes) in (int, type(None)) and re.fullmatch(PACKAGE, file.npm or "a@1 b"), file.name
            assert len(file.md5 or "0" * 32) == 32 and len(file.sha256 or "0" * 64) == 64, file.name
        for published in source.counts:
            assert published.source, source.name
            assert all(n is None or (type(n) is int and n > 0) for n in (published.images, published.instances))


def test_what_the_profile_starts_from_can_be_fetched(sources):
    made = {file.creates or file.name for file in sources["efficient_sam"].files}
    assert {load_profile("paper").training.weights, "efficient_sam_vitt.pt"} <= made
    assert sources["efficient_sam"].place() == WEIGHTS


def test_places(sources, tmp_path):
    assert sources["cocoa"].place() == RAW / "cocoa" and sources["cocoa"].place(tmp_path) == tmp_path / "cocoa"


def test_no_key_is_written_twice():
    """YAML keeps the last of two equal keys in silence."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: {keys}"
            return super().construct_mapping(node, deep)

    yaml.load(SOURCES.read_text(encoding="utf-8"), Strict)  # noqa: S506


TOY = "{title: A toy, page: 'https://a.org', licence: CC0, files: [{name: a.zip, bytes: 3}], counts: []}"


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ("a string", "breaks the schema"),
        (TOY.replace("licence: CC0, ", ""), "licence"),
        (TOY.replace(", counts: []", ""), "counts"),
        (TOY.replace("bytes: 3", "sha1: 0"), "sha1"),
        (TOY.replace("a.zip", "../a.zip"), "leads out"),
        (TOY.replace("bytes: 3", "to: /etc"), "leads out"),
        (TOY.replace("bytes: 3", "npm: pack@1 a/../../b"), "leads out"),
    ],
)
def test_an_entry_that_breaks_the_schema_is_named(tmp_path, unchecked, entry, rule):
    path = tmp_path / "sources.yaml"
    path.write_text(f"toy: {TOY}")
    assert load_sources(path)["toy"].files[0].bytes == 3
    path.write_text(f"toy: {entry}")
    with pytest.raises(InputError, match=rule) as caught:
        load_sources(path)
    assert caught.value.file == str(path) and "toy" in caught.value.record


# -------------------------------------------------------------------------------------------------------- the inventory


def test_the_inventory_counts_what_is_there_beside_what_was_published(tmp_path):
    annotations = tmp_path / "cocoa" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "COCO_amodal_val2014.json").write_text(json.dumps(COCOA))
    (tmp_path / "lvis" / "annotations").mkdir(parents=True)
    (tmp_path / "lvis" / "annotations" / "lvis_v1_val.json").write_text("{")
    rows, problems = inventory(tmp_path)
    by_split = {row[:2]: row[2:5] for row in rows}
    assert by_split["cocoa", "val"] == ("present", "1 / 1,323", "2 / -")
    assert by_split["cocoa", "train"][0] == by_split["lvis", "val"][0] == "not readable"
    assert any("not valid JSON" in problem for problem in problems)
    assert by_split["cocoa_cls", "val"][0] == "absent" and by_split["cocoa_cls", "val"][1].startswith("- /")
    table = inventory_table(rows)
    assert str(tmp_path / "cocoa") in table
    starts = {line.index("/") for line in table.splitlines() if " / " in line}
    assert max(starts) - min(starts) < len("1,270,141"), "the columns stand below each other"


def test_every_image_can_be_looked_at_before_a_run(world, capsys):
    folder = world.profile().data_folder
    assert list(bad_images(world.profile().data_folder)) == [] and main(["datasets", "--check"]) == 0
    first, second, *_ = sorted(folder.glob("cocoa/train2014/*.jpg"))
    first.write_bytes(first.read_bytes()[:200])
    second.unlink()
    found = {error.file: error.rule for error in bad_images(world.profile().data_folder)}
    assert found.keys() == {str(first), str(second)} and "must exist" in found[str(second)]
    capsys.readouterr()
    assert main(["datasets", "--check"]) == 1 and "2 images cannot be read" in capsys.readouterr().out


def test_a_set_published_as_a_whole_is_counted_over_its_splits(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "muva", READERS["cocoa"])
    annotations = tmp_path / "muva" / "annotations"
    annotations.mkdir(parents=True)
    for split in ("train", "test"):
        (annotations / f"COCO_amodal_{split}2014.json").write_text(json.dumps(COCOA))
    (muva,) = [row for row in inventory(tmp_path)[0] if row[0] == "muva"]
    assert muva[1:3] == ("all", "present") and (muva[3][:4], muva[4][:4]) == ("2 / ", "4 / ")


def test_the_verb(capsys):
    assert main(["datasets", "--profile", "paper"]) == 0
    shown = capsys.readouterr().out
    names = [line.split()[0] for line in shown.splitlines() if line[:1].strip()]
    assert set(READERS) <= set(names) and "found / published" in shown
