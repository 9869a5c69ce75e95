"""Mutation testing: small faults are put into losses, masks, evaluation and synthesis; how many do the tests see?

    python -m venv cosmic && cosmic/bin/pip install cosmic-ray==8.7.0
    python tests/benchmarks/mutants.py --cosmic-ray cosmic/bin/python --seed 0 --sample 120 --out mutants.json

cosmic-ray makes the mutants (an operator exchanged, a number one more or less, a condition turned round, a decorator or
a loop left out). It is no dependency of the project: any Python that has it will do. Of each group a sample is drawn,
evenly from all mutants of its files that compile; sample and outcome depend on the seed, the sources and the tests.

A mutant lives in a copy of package and tests in a temporary folder; a forked child, warm with everything that is not
ours, runs the group's tests there up to the first that fails. Killed means: a test failed ("at import": already when
the package was imported), or the child used up its processor time ("timeout"). Hypothesis draws the same examples as in
`make test`, but does not shrink what it finds.

The outcomes stand in `--out`: a run that was interrupted goes on from there, and with `--again` the survivors alone are
run anew, when there are new tests for them. It exits with 1 where a group is below 85 %. It needs Linux.
"""

import argparse
import difflib
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
WANTED = 0.85
PATIENCE = 3600  # seconds that a mutant may take, on a machine that is busy with other things
WARM = "torch torch._dynamo torchvision scipy.ndimage scipy.optimize skimage.measure pycocotools.mask PIL.ImageFilter"
WARM += " safetensors.torch joblib jaxtyping beartype nbval.plugin pytest_cov.plugin anyio.pytest_plugin"

# Group -> files of the package, and the tests that are meant to see a fault in them, the quick ones first.
GROUPS = {
    "losses": (["losses.py"], ["test_losses.py"]),
    "masks": (["masks.py", "boxes.py"], ["test_boxes.py", "test_masks.py"]),
    "evaluation": (["evaluation/*.py"], ["test_evaluation.py"]),
    "synthesis": (
        ["synthesis/composition.py", "synthesis/painting.py", "synthesis/pool.py"],
        ["test_synthesis.py"],
    ),
}
SLOW = "killed or dask or workers or verb or profile or absent_sources or scheduler or ctrl_c"  # and not of geometry

SAMPLE = r"""
import json, random, sys
from pathlib import Path
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

root, files, seed, size = json.load(sys.stdin)
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
    source = Path(root, file).read_text(encoding="utf-8")
    mutant = mutate_code(source, operators[name], number)
    try:
        compile(mutant, file, "exec")
    except (SyntaxError, ValueError):
        continue
    kept.append([f"{file}:{line} {name.split('/')[1]} {number}", file, mutant])
json.dump([kept, tried, len(places)], sys.stdout)
"""


def sampled(cosmic_ray, group, seed, size):
    """[(name, file, mutated source)] of a group; how many were tried, and how many there are."""
    paths = (path for glob in GROUPS[group][0] for path in (ROOT / "sameo_core").glob(glob))
    files = sorted(path.relative_to(ROOT).as_posix() for path in paths)
    asked = json.dumps([str(ROOT), files, f"{seed} {group}", size])
    return json.loads(subprocess.run([cosmic_ray, "-c", SAMPLE], input=asked, stdout=-1, text=True, check=True).stdout)


class Workshop:
    """A copy of package and tests in `folder`, and children that run tests in it."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("sameo_core", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        os.environ["PYTHONPATH"] = str(folder)
        sys.path.insert(0, str(folder))
        for name in WARM.split():
            with suppress(ImportError):
                importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)
        phases = (Phase.explicit, Phase.generate)
        gc.freeze()  # no child need look through all that
        settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)

    def run(self, tests, seconds, keep=False):
        """pytest's exit code, or "timeout"; `seconds` of processor time. `keep` what Python compiles."""
        child = os.fork()
        if not child:
            try:
                self._become_pytest(tests, seconds, keep)
            finally:
                os._exit(99)
        for _ in range(10 * PATIENCE):  # a child that waits for something uses no processor time
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.1)
        else:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):  # what it may have left behind
            os.killpg(child, signal.SIGKILL)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            return "timeout"
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)

    def _become_pytest(self, tests, seconds, keep):
        os.setsid()
        os.chdir(self.folder)
        said = os.open(self.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1), os.dup2(said, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))  # of the 2^60 pixels that a mutant may ask for
        sys.dont_write_bytecode = not keep
        options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout=0", "--hypothesis-profile=mutants"]
        os._exit(pytest.main([*options, "-k", f"not ({SLOW})", *(f"tests/{name}" for name in tests)]))

    def outcome(self, file, mutant, tests, seconds):
        """What becomes of a mutant: "survived", "killed", "at import", "timeout"."""
        path = self.folder / file
        original = path.read_text(encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()
        path.write_text(mutant, encoding="utf-8")
        try:
            code = self.run(tests, seconds)
        finally:
            path.write_text(original, encoding="utf-8")
        return {0: "survived", 2: "at import", 4: "at import", "timeout": "timeout"}.get(code, "killed")


def changed_lines(file, mutant):
    """What a mutant has otherwise than its file: "- old", "+ new"."""
    lines = difflib.unified_diff((ROOT / file).read_text(encoding="utf-8").splitlines(), mutant.splitlines(), n=0)
    return [f"{line[0]} {line[1:].strip()}" for line in list(lines)[2:] if line[0] in "-+"]


def report(results):
    """Prints a line a group and the survivors; the shares that were killed, by group."""
    shares = {}
    print(f"{'group':<12}{'mutants':>9}{'killed':>9}{'at import':>11}{'timeout':>9}{'survived':>10}{'share':>9}")
    for group in dict.fromkeys(result["group"] for result in results.values()):
        counts = Counter(result["outcome"] for result in results.values() if result["group"] == group)
        shares[group] = 1 - counts["survived"] / counts.total()
        numbers = [f"{counts.total():>9}", f"{counts.total() - counts['survived']:>9}", f"{counts['at import']:>11}"]
        numbers += [f"{counts['timeout']:>9}", f"{counts['survived']:>10}", f"{shares[group]:>9.1%}"]
        print(f"{group:<12}{''.join(numbers)}")
    for name, result in results.items():
        if result["outcome"] == "survived":
            print("\n    ".join([f"survived: {name}", *result["lines"]]))
    return shares


def mutate(cosmic_ray, seed, size, groups, out, again=False):
    """Runs what `out` does not know yet, or what survived there. Returns name -> group, outcome, changed lines."""
    results = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(Path(scratch).resolve())
        for group in groups:
            mutants, tried, there = sampled(cosmic_ray, group, seed, size)
            print(f"{group}: {len(mutants)} of {there} mutants; {tried - len(mutants)} more did not compile")
            tests = GROUPS[group][1]
            begun = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(2):  # the first one compiles
                if code := workshop.run(tests, PATIENCE, keep=True):
                    said = (workshop.folder / "said.txt").read_text()
                    raise SystemExit(f"{group}: the tests end with {code} without a mutant\n{said}")
                ended, begun = begun, resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = sum(begun[:2]) - sum(ended[:2])
            print(f"{group}: {seconds:.1f} s of processor time without a mutant")
            for name, file, mutant in tqdm(mutants, desc=group, unit="mutant"):
                known = results.get(name, {}).get("outcome")
                if known and not (again and known == "survived"):
                    continue
                outcome = workshop.outcome(file, mutant, tests, int(10 + 4 * seconds))
                results[name] = {"group": group, "outcome": outcome, "lines": changed_lines(file, mutant)}
                partial = out.with_name(f"{out.name}.partial")
                partial.write_text(json.dumps(results, indent=1))
                os.replace(partial, out)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cosmic-ray", default=sys.executable, help="a Python that has cosmic-ray")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=120, help="mutants of each group")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    parser.add_argument("--again", action="store_true", help="run the survivors anew")
    given = parser.parse_args()
    shares = report(mutate(given.cosmic_ray, given.seed, given.sample, given.groups, given.out, given.again))
    sys.exit(any(share < WANTED for share in shares.values()))


if __name__ == "__main__":
    main()
