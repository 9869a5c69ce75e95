"""The list of sources: complete, well formed, nothing invented; and the inventory beside it."""

import copy
import json

import pytest
import yaml

from sameo_core.__main__ import main
from sameo_core.config import RAW, WEIGHTS, load_profile
from sameo_core.datasets import READERS, load_sources
from sameo_core.datasets.registry import bad_images, inventory, inventory_table
from sameo_core.datasets.sources import SOURCES
from sameo_core.errors import InputError

ENTRY = {
    "title": "A toy",
    "page": "https://example.org",
    "licence": "CC0",
    "files": [{"name": "a.zip", "url": "https://example.org/a.zip", "unpack": True, "bytes": 3, "md5": "0" * 32}],
    "counts": [{"split": "val", "images": 2, "source": "its page"}],
}
COCOA = {
    "images": [{"id": 7, "file_name": "7.jpg", "height": 6, "width": 8}],
    "annotations": [
        {"id": 1, "image_id": 7, "regions": [{"name": "cup", "segmentation": [2, 1, 6, 1, 6, 5, 2, 5]}] * 2}
    ],
}


@pytest.fixture(scope="module")
def sources():
    return load_sources()


# ------------------------------------------------------------------------------------------------------------ the list


def test_every_set_of_the_paper_has_an_entry(sources):
    paper, mini = load_profile("paper"), load_profile("mini")
    names = {name for p in (paper, mini) for name in (*p.data.train, *p.data.held_out, *p.data.visible_only)}
    assert names | set(READERS) <= set(sources)


def test_every_entry_says_where_from_and_under_what_licence(sources):
    for source in sources.values():
        assert source.title and source.licence and source.page.startswith(("http://", "https://")), source.name
        assert source.files or "made" in source.note, source.name
        names = [(file.to, file.name) for file in source.files]
        assert len(names) == len(set(names)), source.name
        for file in source.files:
            assert bool(file.url) != bool(file.manual), file.name
            assert file.url is None or file.url.startswith(("http://", "https://")), file.name
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


def changed(path, value):
    """ENTRY with one value replaced, or removed where it is None."""
    entry = copy.deepcopy(ENTRY)
    inner = entry
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return entry


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ("a string", "breaks the schema"),
        (changed(["licence"], None), "licence"),
        (changed(["files"], None), "files"),
        (changed(["counts"], {"val": 3}), "breaks the schema"),
        (changed(["page"], "ftp://example.org"), "only http and https"),
        (changed(["files", 0, "url"], "file:///etc/passwd"), "only http and https"),
        (changed(["files", 0, "url"], None), "either url or manual"),
        (changed(["files", 0, "manual"], "Ask."), "either url or manual"),
        (changed(["files", 0, "name"], "../a.zip"), "leads out"),
        (changed(["files", 0, "to"], "/etc"), "leads out"),
        (changed(["files", 0, "md5"], "abc"), "a checksum has 32 digits"),
        (changed(["files", 0, "sha256"], "0" * 63), "a checksum has 64 digits"),
        (changed(["files", 0, "npm"], "pack dist/a"), "package@version file"),
        (changed(["files", 0, "npm"], "--prefix=/ pack@1 dist/a"), "package@version file"),
        (changed(["files", 0, "npm"], "pack@1 a/../../b"), "leads out"),
        (changed(["files", 0, "bytes"], 1.5), "whole numbers, found 1.5"),
        (changed(["files", 0, "sha1"], "0"), "sha1"),
        (changed(["counts", 0, "images"], "2,500"), "whole numbers, found '2,500'"),
        (changed(["counts", 0, "source"], None), "source"),
        (changed(["images_of"], {"coco": ["val"]}), "names coco, which has no entry"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_entry_that_breaks_the_schema_is_named(tmp_path, unchecked, entry, rule):
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"toy": ENTRY}))
    assert load_sources(path)["toy"].files[0].bytes == 3
    path.write_text(yaml.safe_dump({"toy": entry}))
    with pytest.raises(InputError, match=rule) as caught:
        load_sources(path)
    assert caught.value.file == str(path) and "toy" in caught.value.record


@pytest.mark.parametrize(("text", "rule"), [("a: [", "not valid YAML"), ("- a", "must map"), (None, "must exist")])
def test_a_list_that_cannot_be_read(tmp_path, text, rule):
    path = tmp_path / "sources.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rule):
        load_sources(path)


# -------------------------------------------------------------------------------------------------------- the inventory


def test_the_inventory_counts_what_is_there_beside_what_was_published(tmp_path):
    annotations = tmp_path / "cocoa" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "COCO_amodal_val2014.json").write_text(json.dumps(COCOA))
    (tmp_path / "lvis" / "annotations").mkdir(parents=True)
    (tmp_path / "lvis" / "annotations" / "lvis_v1_val.json").write_text("{")
    holdings, problems = inventory(tmp_path)
    by_split = {(holding.name, holding.split): holding for holding in holdings}
    cocoa = by_split["cocoa", "val"]
    assert (cocoa.state, cocoa.images, cocoa.instances, cocoa.published.images) == ("present", 1, 2, 1323)
    assert by_split["cocoa", "train"].state == by_split["lvis", "val"].state == "not readable"
    assert any("not valid JSON" in problem for problem in problems)
    assert by_split["cocoa_cls", "val"].state == "absent" and by_split["cocoa_cls", "val"].images is None
    assert by_split["amodal_lvis", "train"].state.startswith("absent")
    table = inventory_table(holdings)
    assert "1 / 1,323" in table and "2 / -" in table and str(tmp_path / "cocoa") in table
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


def test_a_set_without_a_reader_is_listed_as_such(tmp_path, monkeypatch):
    monkeypatch.delitem(READERS, "cocoa")
    (tmp_path / "cocoa").mkdir()
    holdings, _ = inventory(tmp_path)
    assert {holding.state for holding in holdings if holding.name == "cocoa"} == {"present (no reader)"}


def test_a_set_published_as_a_whole_is_counted_over_its_splits(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "muva", READERS["cocoa"])
    annotations = tmp_path / "muva" / "annotations"
    annotations.mkdir(parents=True)
    for split in ("train", "test"):
        (annotations / f"COCO_amodal_{split}2014.json").write_text(json.dumps(COCOA))
    holdings, _ = inventory(tmp_path)
    (muva,) = [holding for holding in holdings if holding.name == "muva"]
    assert (muva.split, muva.state, muva.images, muva.instances) == ("all", "present", 2, 4)


def test_the_verb(capsys):
    assert main(["datasets", "--profile", "paper"]) == 0
    shown = capsys.readouterr().out
    names = [line.split()[0] for line in shown.splitlines() if line[:1].strip()]
    assert set(READERS) <= set(names) and "found / published" in shown
