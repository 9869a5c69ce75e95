"""The count of mutants counts: a fault is seen, in a function or beside it; what changes nothing survives."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="children are forked"),
]

FOUR = """
import sys
from pathlib import Path
from mutants import ROOT, Workshop

file = "sameo_core/model/losses.py"
source = (ROOT / file).read_text()
changes = {"1 - target": "1.0 - target", "2 * intersection": "3 * intersection", "TINY =": "TINY +=", "= 1e-6": "= 0.1"}
mutants = [(new, file, source.replace(old, new, 1)) for old, new in changes.items()]
workshop = Workshop(Path(sys.argv[1]), "by_hand")
print(dict(workshop.outcomes(mutants, "test_losses.py")))
assert (workshop.folder / file).read_text() == source
"""


def printed(*command):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/benchmarks'}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_what_is_seen_and_what_is_not(tmp_path):
    outcomes = ast.literal_eval(printed(sys.executable, "-c", FOUR, str(tmp_path)).splitlines()[-1])
    expected = {"1.0 - target": "survived", "3 * intersection": "killed", "TINY +=": "at import", "= 0.1": "killed"}
    assert outcomes == expected


@pytest.mark.skipif(importlib.util.find_spec("cosmic_ray") is None, reason="cosmic-ray is installed by hand")
def test_the_same_seed_draws_the_same_mutants():
    draw = (
        "import sys; from mutants import sampled; mutants = sampled(sys.executable, 'losses', 3, int(sys.argv[1]))[0];"
    )
    draw += "print([name for name, _, _ in mutants])"
    few, more = (printed(sys.executable, "-c", draw, size) for size in ("2", "5"))
    assert few.strip()[:-1] in more and few.count("sameo_core/model/losses.py:") == 2
