"""The soak runs: a few of its trials; it sees what is lost and what is changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(sys.platform != "linux", reason="children have Linux' clocks")]


def soaked(*arguments):
    command = [sys.executable, str(ROOT / "tests/benchmarks/soak.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def numbers(line):
    return [int(word) for word in line.split()[1:-1]]


def test_a_few_trials():
    wanted = 8
    run = soaked("--trials", str(wanted), "--seed", "7")
    lines = run.stdout.strip().splitlines()
    assert run.returncode == 0, run.stdout + run.stderr
    head, *kinds, everything = lines[-7:]
    assert head.split()[1:7] == ["trials", "killed", "damaged", "refused", "lost", "changed"]
    trials, _, _, _, lost, changed = numbers(everything)
    assert (trials, lost, changed) == (wanted, 0, 0) and all(numbers(kind)[0] for kind in kinds)
    print(f"\n{run.stdout}")


BROKEN = """
import sys
import soak
from sameo_core.reporting import tables

def slowly(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        for start in range(len(content)):
            file.write(content[start : start + 1])


if sys.argv[1] == "half-written":
    tables.write_whole = slowly
else:
    from sameo_core.synthesis import shards
    shards._is_whole = lambda path: False
kind = {"half-written": "tables", "done again": "synthesis"}[sys.argv[1]]
totals = soak.soak(int(sys.argv[2]), kinds=(kind,))
assert totals[kind]["changed" if kind == "tables" else "lost"], totals
"""


@pytest.mark.parametrize("fault", ["half-written", "done again"])
def test_the_soak_sees(fault):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/benchmarks'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BROKEN, fault, "24"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert fault in run.stdout
