"""A COCO file of a million objects: opened the first time, and again, beside json.load; each in its own process."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OBJECTS, LOOKED_AT = 1_000_000, 100  # images

JSON_LOAD = """
import json, sys, time
start = time.perf_counter(), time.process_time()
data = json.load(open(sys.argv[1]))
seconds, cpu, found = time.perf_counter() - start[0], time.process_time() - start[1], len(data["annotations"])
objects = sum(record["image_id"] < int(sys.argv[2]) for record in data["annotations"])
"""
OPEN = """
import sys, time
from pathlib import Path
from sameo_core import load_dataset
start = time.perf_counter(), time.process_time()
dataset = load_dataset("coco", Path(sys.argv[1]).parents[1])
seconds, cpu, found = time.perf_counter() - start[0], time.process_time() - start[1], len(dataset)
objects = sum(len(dataset[i].instances) for i in range(int(sys.argv[2])))
"""
REPORT = """
import json
from peak_memory import peak_megabytes
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_megabytes(), "found": found, "objects": objects}))
"""


def write_file(path: Path, objects: int, images: int) -> None:
    """About 350 bytes an object: two polygons, box, area; objects of an image stand apart."""
    rng = random.Random(0)

    def polygon(x, y, corners):
        points = (f"{v + rng.uniform(-20, 60):.1f}" for _ in range(corners) for v in (x, y))
        return f"[[{', '.join(points)}]]"

    shapes = []
    for _ in range(2000):
        x, y = rng.uniform(20, 500), rng.uniform(20, 400)
        shapes.append(
            f'"segmentation": {polygon(x, y, 8)}, "visible_mask": {polygon(x, y, 6)}, '
            f'"bbox": [{x:.1f}, {y:.1f}, 60.0, 60.0], "area": {rng.uniform(100, 3000):.1f}, "iscrowd": 0}}'
        )
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        file.write('{"info": {"year": 2025}, "images": [')
        for i in range(images):
            separator = ", " if i else ""
            file.write(f'{separator}{{"id": {i}, "file_name": "{i:012d}.jpg", "height": 480, "width": 640}}')
        file.write('], "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "mug"}], "annotations": [')
        for i in range(objects):
            separator, image = ", " if i else "", rng.randrange(images)
            file.write(f'{separator}{{"id": {i + 1}, "image_id": {image}, "category_id": {1 + i % 2}, ')
            file.write(shapes[i % len(shapes)])
        file.write("]}")


def measured(code: str, path: Path, root: Path) -> dict[str, float]:
    """Seconds of what the code times, MB of the whole process, and its seconds from start to end."""
    environment = os.environ | {
        "SAMEO_ROOT": str(root),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "OMP_NUM_THREADS": "1",
    }
    start = time.perf_counter()
    command = [sys.executable, "-c", code + REPORT, str(path), str(LOOKED_AT)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) | {"process": time.perf_counter() - start}


def places(root: Path) -> dict[str, int]:
    """Where the files that are kept of an opening lie on the disk: one that is written again lies elsewhere."""
    return {path.name: path.stat().st_ino for path in (root / "data/runs/index").iterdir()}


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("images", [100_000, OBJECTS])
def test_a_million_objects_open_in_less_time_and_memory_than_json_load(tmp_path, images):
    """First opening: at most 3 x json.load's CPU time, in less memory. Again: 5 s and 1 GB, torch's import included.

    On a Xeon, with 100,000 images: json.load 9.8 s and 2.5 GB; first opening 8.6 s and 0.66 GB, of which 0.65 GB are
    torch's; again 0.3 s (the whole process 1.9 s) and 0.65 GB. With a million images: 11 s and 2.9 GB; 12 s and
    0.75 GB; 0.7 s (2.3 s) and 0.73 GB.
    """
    path = tmp_path / "annotations" / "val.json"
    write_file(path, OBJECTS, images)
    whole = measured(JSON_LOAD, path, tmp_path)
    first = measured(OPEN, path, tmp_path)
    kept = places(tmp_path)
    again = min((measured(OPEN, path, tmp_path) for _ in range(3)), key=lambda run: run["process"])
    assert whole["found"] == OBJECTS and first["found"] == again["found"] == images
    assert 0 < whole["objects"] == first["objects"] == again["objects"]
    assert kept and kept == places(tmp_path), "what was kept serves: it is not written again"
    print(f"\n{path.stat().st_size / 1e6:.0f} MB, {OBJECTS:,} objects, {images:,} images")
    for name, run in (("json.load", whole), ("first opening", first), ("again", again)):
        numbers = (f"{key} {value:.2f}" for key, value in run.items() if key not in ("found", "objects"))
        print(f"{name:14}{', '.join(numbers)}")
    assert first["cpu"] <= 3 * whole["cpu"] and first["peak_mb"] < whole["peak_mb"]
    assert again["process"] <= 5 and again["peak_mb"] <= 1000
