"""Attacks, one a test: what a downloaded file, a server or somebody's data may try, and what becomes of it.

Attacks on one format stand with the tests of that format. Pickles in MP3D-Amodal, objects in npz, png bombs:
test_datasets_files. Code in checkpoints: test_efficient_sam. Archives with "..", absolute paths and symbolic links,
wrong checksums, a redirect to ftp: test_downloads. Malformed run lengths and polygons: test_masks. Bombs:
test_photographs. Depth of single records: test_datasets, test_json_index.
"""

import ast
import inspect
import io
import json
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import joblib
import nbformat
import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch

from sameo_core.apps.exports import decode_brush, from_labelme
from sameo_core.config import profiles
from sameo_core.datasets import READERS, AmodalImage, archives, fetching, images, load_dataset, load_sources
from sameo_core.datasets.archives import unpack
from sameo_core.datasets.downloads import download
from sameo_core.datasets.files import load_arrays, parse_json
from sameo_core.datasets.images import image_size, npz_layers, read_mask_png, read_photograph
from sameo_core.datasets.sources import Source, SourceFile
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_amodal
from sameo_core.front_ends.boxes import read_box_file
from sameo_core.masks import decode_rle, encode_mask, segmentation_to_rle
from sameo_core.model import Sameo, checkpoints
from sameo_core.model.checkpoints import read_weights
from sameo_core.runs import folders
from sameo_core.synthesis import Pool, read_statistics

PACKAGE = sorted((profiles.ROOT / "sameo_core").rglob("*.py"))
NOTEBOOKS = sorted((profiles.ROOT / "notebooks").glob("*.ipynb"))


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


def little_memory(function, *arguments):
    """Call in a process that may have no more than 3 GiB on top of what it has: what asks for more dies there."""
    code = (
        "import pickle, resource, sys\n"
        "function, arguments = pickle.load(sys.stdin.buffer)\n"
        "have = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (have + 3 * 2**30,) * 2)\n"
        "try:\n    function(*arguments)\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    environment = os.environ | {"PYTHONPATH": str(profiles.ROOT), "OMP_NUM_THREADS": "1"}
    asked = pickle.dumps((function, arguments))
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


# --------------------------------------------------------------------------------------------------- code in files


def test_an_array_cache_with_objects_is_none(tmp_path, victim):
    np.savez(tmp_path / "a.npz", header=np.array([Attack(victim)], object))
    assert load_arrays(tmp_path / "a.npz") is None


def test_a_pool_with_objects_is_refused(tmp_path, victim):
    np.savez(tmp_path / "pool.npz", source=np.array([Attack(victim)], object))
    with pytest.raises(InputError, match="not a pool of objects"):
        Pool.load(tmp_path / "pool.npz")


def test_what_joblib_pickles_is_read_by_nobody(tmp_path, victim):
    """Its dumps are pickles: no reader takes one for anything else."""
    joblib.dump(Attack(victim), tmp_path / "weights.pt")
    joblib.dump(Attack(victim), tmp_path / "pool.npz")
    joblib.dump(Attack(victim), tmp_path / "boxes.json")
    for read, name in ((read_weights, "weights.pt"), (Pool.load, "pool.npz"), (read_box_file, "boxes.json")):
        with pytest.raises(InputError):
            read(tmp_path / name)


def test_yaml_that_asks_for_python_is_refused(tmp_path, victim):
    (tmp_path / "sources.yaml").write_text(f"!!python/object/apply:os.mkdir ['{victim}']")
    with pytest.raises(InputError, match="not valid YAML"):
        load_sources(tmp_path / "sources.yaml")


def calls(source):
    """Each call in a source: its dotted name and its node."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


RUN_CODE = re.compile(
    r"eval|exec|compile|__import__|os\.(system|popen|spawn\w*|exec\w*)|subprocess\..*|pty\..*|get_ipython\(\)\..*"
    r"|(pickle|dill|cloudpickle|shelve|marshal|joblib)\.(load|loads|open|Unpickler)|yaml\.(load|load_all|unsafe_load)"
)


def dangers(source):
    """What in a source runs code or a command that could come from data."""
    for name, node in calls(source):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if RUN_CODE.fullmatch(name):
            yield f"line {node.lineno}: {name}"
        if name == "torch.load" and keywords.get("weights_only") != "True":
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if name == "np.load" and keywords.get("allow_pickle", "False") != "False":
            yield f"line {node.lineno}: np.load that unpickles"
        if "shell" in keywords:
            yield f"line {node.lineno}: {name} with a shell"


# Which commit this is, and a package of npm that data/sources.yaml names; the words of the commands are our own
RUNS_PROGRAMS = {
    "folders": ["subprocess.run"],
    "fetching": ["subprocess.run"],
    "runner": ["subprocess.Popen"],
}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_nothing_in_the_package_runs_what_a_file_says(path):
    found = [danger.partition(": ")[2] or danger for danger in dangers(path.read_text(encoding="utf-8"))]
    assert found == RUNS_PROGRAMS.get(path.stem, [])


def test_git_is_asked_with_words_of_our_own():
    tree = ast.parse(inspect.getsource(folders))
    asked = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "_git"]
    assert asked and all(isinstance(word, ast.Constant) for node in asked for word in node.args[1:])


def cell_dangers(source):
    """As `dangers`, and what is IPython's own way to a shell: cells in another language, lines with ! or %sx."""
    for line in re.findall(r"^\s*(?:[\w, ]+=\s*)?[%!].*$", source, re.MULTILINE):
        if not re.match(r"\s*%(matplotlib|config|load_ext)\b", line):
            yield line
    yield from dangers(re.sub(r"^\s*(?:[\w, ]+=\s*)?[%!].*$", "", source.split("%%")[0], flags=re.MULTILINE))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_runs_a_command(path):
    cells = nbformat.read(path, as_version=4).cells
    assert [problem for cell in cells if cell.cell_type == "code" for problem in cell_dangers(cell.source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "!ls",
        "files = !ls",
        "%%bash\nls",
        "%sx ls",
        "%system ls",
        "get_ipython().system('ls')",
        "os.system('ls')",
        "os.popen('ls')",
        "subprocess.run(['ls'])",
        "run('ls', shell=True)",
        "eval(text)",
        "exec(text)",
        "pickle.loads(data)",
        "joblib.load(path)",
        "yaml.load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_search_for_commands_bites(source):
    assert list(cell_dangers(source))


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


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_pictures_from_outside_are_opened_in_few_formats(path):
    ours = {"style", "pictures"}  # these open what the package has just made
    for name, node in calls(path.read_text(encoding="utf-8")):
        if name.endswith("Image.open") and path.stem not in ours:
            assert "formats" in {keyword.arg for keyword in node.keywords}, f"line {node.lineno}"


def test_pillow_alone_would_run_it(tmp_path):
    """Why there is a list of formats: were it no longer so, the list could go."""
    with PIL.Image.open(io.BytesIO(EPS)) as picture:
        assert picture.format == "EPS"


def test_formats_are_those_of_the_endings():
    known = PIL.Image.registered_extensions()
    assert {known[ending] for ending in images.ENDINGS if ending in known} == set(images.FORMATS)


# --------------------------------------------------------------------------------------------------- bombs


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with_a_text_bomb():
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 8, 2, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**25)))
    pixels = chunk(b"IDAT", zlib.compress(bytes(6 * 25)))
    return b"\x89PNG\r\n\x1a\n" + head + text + pixels + chunk(b"IEND", b"")


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
    for shape in ((1, 10**6, 10**6, 3), (10**9, 6, 8, 3), (1000, 10_000, 10_000, 3)):
        with pytest.raises(InputError, match="cut short"):
            next(npz_layers(npz(tmp_path / "a.npz", {"mask": npy(shape)}), "mask"))


def test_an_array_cache_that_claims_more_memory_than_there_is(tmp_path):
    header = npy((2,), b"{}")
    for shape in ((2**50,), (2**60, 2**10), (2**33,)):
        path = npz(tmp_path / "a.npz", {"header": header, "a": npy(shape, dtype="<f8")})
        assert load_arrays(path) is None
    assert load_arrays(npz(tmp_path / "a.npz", {"header": header, "a": npy((1,), b"\7")}))[1]["a"] == 7


def test_a_pool_that_claims_more_memory_than_there_is(tmp_path):
    with pytest.raises(InputError, match="not a pool of objects"):
        Pool.load(npz(tmp_path / "pool.npz", {"source": npy((2**50,), dtype="<f8")}))


def test_a_pool_that_unfolds_is_refused(tmp_path):
    path = npz(tmp_path / "pool.npz", {"source": npy((2**24,), bytes(2**24))}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**15
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
    assert (tmp_path / "weights.pt").stat().st_size < 5000
    with pytest.raises(InputError, match="at most 268,435,456 numbers, found 1,099,511,627,776"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.filterwarnings("ignore:.*parse")
@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_without_numbers_of_their_own(tmp_path, kind):
    tensor = torch.ones(1).to_sparse() if kind == "sparse" else torch.empty(3, device="meta")
    torch.save({"a": tensor}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="weights.pt, a: an entry is a dense tensor"):
        read_weights(tmp_path / "weights.pt")


def test_a_run_length_mask_of_absurd_size():
    for size in ([2**31, 2**31], [1, 2**62], [2**15, 2**15]):
        for call in (decode_rle, lambda rle: segmentation_to_rle(rle, *rle["size"])):
            with pytest.raises(InputError, match="image size out of range"):
                call({"size": size, "counts": [size[0] * size[1]]})


def test_polygons_of_absurd_size():
    for polygon in ([0, 0, 1e9, 0, 1e9, 1e9], [0, 0, -1e308, 0, 5, 5], [0, 0, 5e6, 5e6] * 50):
        with pytest.raises(InputError, match="far outside the image|outline too long"):
            segmentation_to_rle(polygon, 1, 2**20)


@pytest.mark.parametrize("name", [name for name in READERS if name in ("coco", "cocoa_cls", "lvis")])
def test_images_of_absurd_size_in_annotations_are_skipped(tmp_path, name):
    """The record's size decides how much a mask would take."""
    files = {"coco": "annotations/val.json", "lvis": "lvis_v1_val.json"}
    path = tmp_path / files.get(name, "annotations/COCO_amodal_val2014_with_classes.json")
    path.parent.mkdir(exist_ok=True)
    images = [{"id": i, "file_name": "a.jpg", "height": side, "width": side} for i, side in ((1, 8), (2, 2**40))]
    annotation = {"category_id": 1, "bbox": [1, 1, 3, 3], "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    annotations = [{"id": i, "image_id": i} | annotation for i in (1, 2)]
    rle = {"size": [2**40, 2**40], "counts": [2**80]}
    annotations.append({"id": 3, "image_id": 2} | annotation | {"segmentation": rle})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cup"}]}
    path.write_text(json.dumps(content))
    dataset = load_dataset(name, tmp_path, "val", **({"visible": "same"} if name == "coco" else {}))
    assert dataset.skipped == {"image size out of range": ["annotation 2", "annotation 3"]}
    assert dataset.summary()["instances"] == 1


def brush_of_zeros(pixels):
    """Label Studio's run lengths of an empty picture: 27 bits for 16,384 pixels, see `encode_brush`."""
    bits = f"{4 * pixels:032b}{7:05b}{15:04b}{15:04b}{15:04b}{15:04b}"
    bits += f"100{2**16 - 1:016b}{0:08b}" * (4 * pixels // 2**16)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def test_a_brush_mask_that_unfolds_is_refused():
    assert not decode_brush(brush_of_zeros(2**14), 2**7, 2**7).any()
    rle = brush_of_zeros(2**29)
    assert len(rle) < 2**17
    with pytest.raises(InputError, match="at most 178,000,000 in a picture"):
        decode_brush(rle, 2**15, 2**14)


def test_a_few_polygons_that_ask_for_more_masks_than_there_is_memory():
    triangle = {"shape_type": "polygon", "label": "a", "points": [[1, 1], [9, 1], [9, 9]]}
    document = {"imageHeight": 10_000, "imageWidth": 10_000, "shapes": [triangle] * 100}
    with pytest.raises(InputError, match="found .10000, 10000. and 100 masks"):
        from_labelme(document)


def test_a_mask_that_is_read_takes_no_more_than_its_picture(tmp_path):
    """The largest mask that is let in, in a process with little memory."""
    rle = {"size": [2**14, 2**14], "counts": [2**27, 2**27]}
    assert little_memory(decode_rle, rle) == ""
    assert "MemoryError" in little_memory(bytearray, 2**33)  # that process has little memory indeed


# --------------------------------------------------------------------------------------------------- JSON and YAML

DEPTHS = (900, 990, 100_000)  # around Python's limit of 1000: reading may work where something after it does not


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
    "a box": (lambda f, t: reader(read_box_file, "a.json")(f, t).detections("a", (9, 9), True), "[[1, 2, 3, DEEP]]"),
    "annotated boxes": (
        lambda f, t: reader(read_box_file, "a.json")(f, t).detections("a.jpg", (6, 8)),
        "{" + PICTURE + ', "annotations": [{"image_id": 1, "bbox": DEEP}]}',
    ),
    "COCO results": (reader(read_box_file, "a.json"), '[{"image_id": DEEP, "bbox": [1, 2, 3, 4]}]'),
    "ground truth": (reader(lambda path: evaluate_amodal(path, []), "a.json"), "DEEP"),
    "predictions": (reader(lambda path: evaluate_amodal({"images": [], "annotations": []}, path), "a.json"), "DEEP"),
    "annotation index": (index, "DEEP"),
    "annotation": (index, "{" + PICTURE + ', "categories": [], "annotations": [{"image_id": 1, "id": DEEP}]}'),
    "info of a shard": (statistics, "DEEP"),
    "variant in weights": (stated_variant, "DEEP"),
    "sources.yaml": (reader(load_sources, "a.yaml"), "toy: DEEP"),
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

SPECIAL = {
    "hard link": tarfile.LNKTYPE,
    "symbolic link": tarfile.SYMTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    secret, archive, folder = tmp_path / "secret", tmp_path / "a.tar", tmp_path / "folder"
    secret.write_text("mine")
    folder.mkdir()
    with tarfile.open(archive, "w") as content:
        member = tarfile.TarInfo("door")
        member.type, member.linkname = SPECIAL[kind], "../secret"
        content.addfile(member)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, folder)
    assert list(folder.iterdir()) == [] and secret.read_text() == "mine"


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


@pytest.mark.parametrize("where", ["file:///etc/passwd", "data:text/plain,a", "gopher://a/b"])
def test_a_redirect_to_anything_but_http_is_refused(tmp_path, evil, where, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0)
    with pytest.raises(InputError, match="302"):
        fetched(tmp_path, SourceFile("a.bin", url=f"{evil}/moved/{where}"))
    assert not (tmp_path / "toy" / "a.bin").exists()


@pytest.mark.parametrize(
    "change", [{"name": "../toy"}, {"name": "/toy"}, {"images_of": {"toy": ["../../etc"]}}, {"images_of": 5}]
)
def test_entries_of_sources_stay_in_their_folders(tmp_path, unchecked, change):
    entry = {"title": "a", "page": "https://a.org", "licence": "a", "files": [], "counts": []} | change
    (tmp_path / "sources.yaml").write_text(json.dumps({"toy": entry}))
    with pytest.raises(InputError, match="leads out of the set's folder|has no attribute"):
        load_sources(tmp_path / "sources.yaml")


# --------------------------------------------------------------------------------------------------- who can ask


def test_servers_are_told_to_listen_on_this_machine_only():
    recipes = re.findall(r"^\t.*-m (jupyterlab|voila|notebook)\b(.*)$", (profiles.ROOT / "Makefile").read_text(), re.M)
    assert {program for program, _ in recipes} == {"jupyterlab", "voila"}
    for program, flags in recipes:
        option = {"jupyterlab": "--ip", "voila": "--Voila.ip"}[program]
        assert f"{option}=127.0.0.1" in flags.split(), program
        for open_door in ("0.0.0.0", "allow_origin", "disable_check_xsrf", "token=", "allow_root", "allow_remote"):
            assert open_door not in flags


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_nothing_in_the_package_opens_a_port(path):
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"0\.0\.0\.0|\.listen\(|\.bind\(|HTTPServer|socketserver|create_server", source)
    for name, node in calls(source):
        assert not name.endswith(("Client", "LocalCluster")) or node.args, f"{name} would start a cluster with ports"


def test_the_pages_that_are_served_hold_no_script_from_data(tmp_path):
    """Names of categories and files come from data; on a page they are text."""
    from sameo_core.reporting import table_html

    shown = table_html([{"name": "<script>alert(1)</script>"}], title="<img src=x onerror=alert(1)>")._repr_html_()
    assert "<script" not in shown and "<img" not in shown


def test_a_mask_is_still_a_mask():
    """All of the above lets through what is meant."""
    mask = np.zeros((6, 8), bool)
    mask[1:5, 2:6] = True
    np.testing.assert_array_equal(decode_rle(encode_mask(mask)), mask)
