"""Mutation testing: small faults are put into losses, masks, evaluation and synthesis; how many do the tests see?

    python -m venv cosmic && cosmic/bin/pip install cosmic-ray==8.7.0
    python tests/benchmarks/mutants.py --cosmic-ray cosmic/bin/python --seed 0 --sample 120 --out mutants.json

cosmic-ray makes the mutants (an operator exchanged, a number one more or less, a condition turned round, a decorator or
a loop left out). It is no dependency of the project: any Python that has it will do. Of each group a sample is drawn,
evenly from all mutants of its files that compile; sample and outcome depend on the seed, the sources and the tests.

The tests that are meant to see a fault in a file run up to the first that fails. Killed means: one failed ("at import":
the package could not even be imported), or the processor time was used up ("timeout"). Most mutants differ in the body
of one function: it is exchanged in a forked child that has package and tests in its memory already, which takes a
moment. The others import all anew, from a copy in a temporary folder. Hypothesis draws the same examples as in `make
test`, but does not shrink what it finds.

The outcomes stand in `--out`: a run that was interrupted goes on from there, and with `--again` the survivors alone are
run anew, when there are new tests for them; `-k` says which those are, as pytest has it: the others need not run. It
exits with 1 where a group is below 85 %. It needs Linux.
"""

import argparse
import ast
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
import types
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
WANTED = 0.85
PATIENCE = 3600  # seconds that a mutant may take, on a machine that is busy with other things
WARM = "torch torch._dynamo torchvision scipy.ndimage scipy.optimize skimage.measure pycocotools.mask PIL.ImageFilter"
WARM += " safetensors.torch joblib jaxtyping beartype nbval.plugin pytest_cov.plugin anyio.pytest_plugin"

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


def wait(child):
    """The exit code of a child that leads a group of processes, or "timeout"."""
    for _ in range(20 * PATIENCE):  # a child that waits for something uses no processor time
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.05)
    else:
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):  # what it may have left behind
        os.killpg(child, signal.SIGKILL)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return "timeout"
    return os.waitstatus_to_exitcode(status)


def limit(seconds):
    """A process group of one's own, so much processor time, and not the 2^60 pixels that a mutant may ask for."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))


def outcome_of(code):
    return {0: "survived", 2: "at import", 4: "at import", "timeout": "timeout"}.get(code, "killed")


class Workshop:
    """A copy of package and tests in `folder`, and children that run tests in it."""

    def __init__(self, folder, chosen=""):
        self.folder, self.chosen = folder, f"({chosen}) and not ({SLOW})" if chosen else f"not ({SLOW})"
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
        settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)
        gc.freeze()  # no child need look through all that

    def run(self, tests, seconds, plugin=None, keep=False):
        """What `wait` says of a child that runs pytest; `keep` what Python compiles."""
        child = os.fork()
        if child:
            return wait(child)
        try:
            limit(seconds)
            os.chdir(self.folder)
            said = os.open(self.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1), os.dup2(said, 2)
            sys.dont_write_bytecode = not keep
            options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout=0", "--hypothesis-profile=mutants"]
            files = [f"tests/{name}" for name in tests.split()]
            os._exit(pytest.main([*options, "-k", self.chosen, *files], [plugin] if plugin else []))
        finally:
            os._exit(99)

    def seconds_without_mutant(self, tests):
        """Processor time of tests that pass; ends the program if they do not."""
        for _ in range(2):  # the first one compiles
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            if code := self.run(tests, PATIENCE, keep=True):
                said = (self.folder / "said.txt").read_text()
                raise SystemExit(f"{tests} ends with {code} without a mutant\n{said}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = sum(after[:2]) - sum(before[:2])
        print(f"{tests}: {seconds:.1f} s of processor time without a mutant")
        return seconds

    def outcomes(self, mutants, tests):
        """Yields name and outcome of [(name, file, mutated source)], all for the same tests."""
        if not mutants:
            return
        seconds = int(4 + 4 * self.seconds_without_mutant(tests))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            os._exit(self.run(tests, PATIENCE, Exchange(self.folder, mutants, seconds, writer)) != 0)
        os.close(writer)
        left = {name: (file, mutant) for name, file, mutant in mutants}
        with os.fdopen(reader) as lines:
            for line in lines:
                name, outcome = json.loads(line)
                if outcome != "import anew":
                    del left[name]
                    yield name, outcome
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{tests}: not all mutants were tried\n{(self.folder / 'said.txt').read_text()}")
        for name, (file, mutant) in left.items():
            with exchanged(self.folder / file, mutant):
                yield name, outcome_of(self.run(tests, seconds))


@contextmanager
def exchanged(path, content):
    """A source file has another content for a while, and nothing compiled is left of it."""
    original = path.read_text(encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()
    path.write_text(content, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(original, encoding="utf-8")


class Exchange:
    """A plugin of pytest: the collected tests do not run once, but in a child for each mutant.

    It tells, a line each, what became of a mutant: "import anew" if it differs elsewhere than in one function's body.
    """

    def __init__(self, folder, mutants, seconds, writer):
        self.folder, self.mutants, self.seconds, self.writer = folder, mutants, seconds, writer

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        functions = [thing for thing in gc.get_objects() if isinstance(thing, types.FunctionType)]
        for name, file, mutant in self.mutants:
            child = os.fork()
            if not child:
                os.close(self.writer)
                limit(self.seconds)
                if self._exchange(functions, file, mutant):
                    return None  # now pytest runs the tests
                os._exit(self._import(file, mutant))
            code = wait(child)
            outcome = "import anew" if code == 77 else outcome_of(code)
            os.write(self.writer, f"{json.dumps([name, outcome])}\n".encode())
        return True

    def _exchange(self, functions, file, mutant):
        """Whether the mutant differs in the body of a function, which then has been exchanged."""
        path = self.folder / file
        around, bodies = taken_apart(path.read_text(encoding="utf-8"))
        around_too, mutated = taken_apart(mutant)
        if around != around_too or bodies.keys() != mutated.keys():
            return False
        (changed,) = [name for name in bodies if bodies[name] != mutated[name]]
        loader = sys.modules[module_name(file)].__loader__  # jaxtyping's
        new = code_called(changed, loader.source_to_code(mutant.encode(), str(path)))
        here = [f for f in functions if f.__code__.co_filename == str(path) and f.__code__.co_qualname == changed]
        for function in here:
            function.__code__ = new
        return bool(here)

    def _import(self, file, mutant):
        """An exit code: 4 where the mutant cannot be imported."""
        with exchanged(self.folder / file, mutant):
            module = sys.modules.pop(module_name(file))
            try:
                importlib.import_module(module.__name__)
            except Exception:
                return 4
        return 77


def module_name(file):
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def taken_apart(source):
    """A module without the bodies of its functions and methods; their names -> their bodies."""
    tree, bodies = ast.parse(source), {}

    def empty(node, prefix):
        for child in node.body:
            if isinstance(child, ast.ClassDef):
                empty(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef):
                bodies[prefix + child.name] = [ast.dump(statement) for statement in child.body]
                child.body = []

    empty(tree, "")
    return ast.dump(tree), bodies


def code_called(name, code):
    """The code of a function or method in that of its module."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    found = [constant for constant in inner if constant.co_qualname == name]
    return found[0] if found else next(filter(None, (code_called(name, constant) for constant in inner)), None)


# ------------------------------------------------------------------------------------------------------ all of them


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


def mutate(cosmic_ray, seed, size, groups, out, again=False, chosen=""):
    """Runs what `out` does not know yet, or what survived there. Returns name -> group, outcome, changed lines."""
    results = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(Path(scratch).resolve(), chosen)
        for group in groups:
            known = [name for name, result in results.items() if not (again and result["outcome"] == "survived")]
            mutants, tried, there = sampled(cosmic_ray, group, seed, size, known)
            print(f"{group}: {len(mutants)} of {there} mutants; {tried - len(mutants)} more did not compile")
            mutants = {mutant[0]: mutant for mutant in mutants if mutant[2]}
            bar = tqdm(desc=group, total=len(mutants), unit="mutant")
            by_file = tests_by_file(group)
            for tests in dict.fromkeys(by_file.values()):
                for name, outcome in workshop.outcomes([m for m in mutants.values() if by_file[m[1]] == tests], tests):
                    results[name] = {"group": group, "outcome": outcome, "lines": changed_lines(*mutants[name][1:])}
                    partial = out.with_name(f"{out.name}.partial")
                    partial.write_text(json.dumps(results, indent=1))
                    os.replace(partial, out)
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
    parser.add_argument("--again", action="store_true", help="run the survivors anew")
    parser.add_argument("-k", default="", help="with --again: the tests to run", metavar="EXPRESSION")
    given = parser.parse_args()
    chosen = given.k if given.again else ""
    shares = report(mutate(given.cosmic_ray, given.seed, given.sample, given.groups, given.out, given.again, chosen))
    sys.exit(any(share < WANTED for share in shares.values()))


if __name__ == "__main__":
    main()
