"""Mutation testing: small faults are put into losses, masks, evaluation and synthesis; how many do the tests see?

    python -m venv cosmic && cosmic/bin/pip install cosmic-ray==8.7.0
    python tests/benchmarks/mutants.py --cosmic-ray cosmic/bin/python --seed 0 --sample 120 --out mutants.json

cosmic-ray makes the mutants (an operator exchanged, a number one more or less, a condition turned round, a decorator or
a loop left out). It is no dependency of the project: any Python that has it will do. Of each group a sample is drawn,
evenly from all mutants of its files that compile; sample and outcome depend on the seed, the sources and the tests.

In a copy of the package, each mutant runs the tests that are meant to see a fault in its file, up to the first that
fails. Killed means: one failed ("at import": the package could not even be imported), or the processor time was used up
("timeout"). The outcomes stand in `--out`: a run that was interrupted goes on from there. It takes hours, exits with 1
where a group is below 85 %, and needs Linux.
"""

import argparse
import difflib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from sameo_core.runs.atomic import atomic_write

ROOT = Path(__file__).resolve().parents[2]
WANTED = 0.85
PATIENCE = 3600  # seconds that a mutant may take, on a machine that is busy with other things

# Group -> files of the package -> the tests that are meant to see a fault in them.
GROUPS = {
    "losses": {"model/losses.py": "test_losses.py"},
    "masks": {
        "masks/*.py": "test_masks.py test_masks_bad_input.py",
        "model/boxes.py": "test_boxes.py",
        "front_ends/boxes.py": "test_boxes.py",
    },
    "evaluation": {
        "evaluation/*.py": "test_evaluation.py test_evaluation_in_one_pass.py test_evaluation_input.py test_regions.py"
    },
    "synthesis": {
        "synthesis/completeness.py": "test_complete_objects.py",
        "synthesis/pool.py": "test_complete_objects.py",
        "synthesis/composition.py": "test_pairs.py",
        "synthesis/painting.py": "test_painting.py",
    },
}
SLOW = "killed or dask or workers or verb or profile or absent_sources or scheduler or ctrl_c"  # and not of geometry

SAMPLE = r"""
import json, random, sys
from pathlib import Path
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

root, files, seed, size, known = json.load(sys.stdin)
operators = {name: get_operator(name) for name in sorted(operator_names())}
operators = {name: kind() for name, kind in operators.items() if not kind.arguments()}
places = []
for file in files:
    nodes = list(ast_nodes(get_ast(Path(root, file).read_text(encoding="utf-8"))))
    for name, operator in operators.items():
        found = [start[0] for node in nodes for start, end in operator.mutation_positions(node)]
        places += [(file, name, number, line) for number, line in enumerate(found)]
random.Random(seed).shuffle(places)
kept, tried = [], 0
for file, name, number, line in places:
    if len(kept) == size:
        break
    tried += 1
    title = f"{file}:{line} {name.split('/')[1]} {number}"
    if title in known:
        kept.append([title, file, None])
        continue
    source = Path(root, file).read_text(encoding="utf-8")
    mutant = mutate_code(source, operators[name], number)
    try:
        compile(mutant, file, "exec")
    except (SyntaxError, ValueError):
        continue
    kept.append([title, file, mutant])
json.dump([kept, tried, len(places)], sys.stdout)
"""


def sampled(cosmic_ray, group, seed, size, known=()):
    """[(name, file, mutated source; None of a known one)] of a group; how many were tried, and how many there are."""
    asked = json.dumps([str(ROOT), sorted(tests_by_file(group)), f"{seed} {group}", size, list(known)])
    return json.loads(subprocess.run([cosmic_ray, "-c", SAMPLE], input=asked, stdout=-1, text=True, check=True).stdout)


def tests_by_file(group):
    """Path from the root -> name of the test file."""
    found = [(path, tests) for glob, tests in GROUPS[group].items() for path in (ROOT / "sameo_core").glob(glob)]
    return {path.relative_to(ROOT).as_posix(): tests for path, tests in found}


# ------------------------------------------------------------------------------------------------------- one mutant


class Workshop:
    """A copy of package and tests in `folder`, where tests run."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("sameo_core", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def run(self, tests, seconds):
        """The exit code of these tests, or "timeout" if they take more processor time."""

        def limit():  # also of memory: a mutant may ask for 2^60 pixels
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))

        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=0"]
        command += ["--hypothesis-profile=mutants", "-k", f"not ({SLOW})", *(f"tests/{name}" for name in tests.split())]
        mine = {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with (self.folder / "said.txt").open("w") as said:
            how = {"cwd": self.folder, "env": os.environ | mine, "stdout": said, "stderr": said, "timeout": PATIENCE}
            try:
                code = subprocess.run(command, preexec_fn=limit, **how).returncode
            except subprocess.TimeoutExpired:
                return "timeout"
        return "timeout" if code in (-signal.SIGXCPU, -signal.SIGKILL) else code

    def seconds_without_mutant(self, tests):
        """Processor time of tests that pass; ends the program if they do not."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if code := self.run(tests, PATIENCE):
            said = (self.folder / "said.txt").read_text()
            raise SystemExit(f"{tests} ends with {code} without a mutant\n{said}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(after[:2]) - sum(before[:2])

    def outcomes(self, mutants, tests):
        """Yields name and outcome of [(name, file, mutated source)], all for the same tests."""
        seconds = int(4 + 4 * self.seconds_without_mutant(tests)) if mutants else 0
        for name, file, mutant in mutants:
            (self.folder / file).write_text(mutant, encoding="utf-8")
            code = self.run(tests, seconds)
            shutil.copy(ROOT / file, self.folder / file)
            yield name, {0: "survived", 2: "at import", 4: "at import", "timeout": "timeout"}.get(code, "killed")


# ------------------------------------------------------------------------------------------------------ all of them


def changed_lines(file, mutant):
    """What a mutant has otherwise than its file: "- old", "+ new"."""
    lines = difflib.unified_diff((ROOT / file).read_text(encoding="utf-8").splitlines(), mutant.splitlines(), n=0)
    return [f"{line[0]} {line[1:].strip()}" for line in list(lines)[2:] if line[0] in "-+"]


def report(results):
    """Prints a line a group and the survivors; the shares that were killed, by group."""
    shares = {}
    for group in dict.fromkeys(result["group"] for result in results.values()):
        counts = Counter(result["outcome"] for result in results.values() if result["group"] == group)
        shares[group] = 1 - counts["survived"] / counts.total()
        print(f"{group}: {shares[group]:.1%} of {counts.total()} killed; {dict(counts)}")
    for name, result in results.items():
        if result["outcome"] == "survived":
            print("\n    ".join([f"survived: {name}", *result["lines"]]))
    return shares


def mutate(cosmic_ray, seed, size, groups, out):
    """Runs what `out` does not know yet. Returns name -> group, outcome, changed lines."""
    results = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(Path(scratch).resolve())
        for group in groups:
            mutants, tried, there = sampled(cosmic_ray, group, seed, size, list(results))
            print(f"{group}: {len(mutants)} of {there} mutants; {tried - len(mutants)} more did not compile")
            mutants = {mutant[0]: mutant for mutant in mutants if mutant[2]}
            bar = tqdm(desc=group, total=len(mutants), unit="mutant")
            by_file = tests_by_file(group)
            for tests in dict.fromkeys(by_file.values()):
                for name, outcome in workshop.outcomes([m for m in mutants.values() if by_file[m[1]] == tests], tests):
                    results[name] = {"group": group, "outcome": outcome, "lines": changed_lines(*mutants[name][1:])}
                    with atomic_write(out) as partial:
                        partial.write_text(json.dumps(results, indent=1))
                    bar.update()
            bar.close()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cosmic-ray", default=sys.executable, help="a Python that has cosmic-ray")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=120, help="mutants of each group")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    given = parser.parse_args()
    shares = report(mutate(given.cosmic_ray, given.seed, given.sample, given.groups, given.out))
    sys.exit(any(share < WANTED for share in shares.values()))


if __name__ == "__main__":
    main()
