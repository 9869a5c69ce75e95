"""The shape of the house: which way imports go, and that one list of dependencies is the only one."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import sameo_core

ROOT = Path(__file__).resolve().parents[1]

# A module may import those above it, never those below.
ORDER = [
    "arrays",
    "errors",
    "config",
    "runs",
    "masks",
    "model",
    "datasets",
    "training",
    "synthesis",
    "miniature",
    "evaluation",
    "front_ends",
    "pipeline",
    "reporting",
    "apps",
    "reproduction",
    "__main__",
]
MODULES = sorted(path for path in (ROOT / "sameo_core").rglob("*.py") if path != ROOT / "sameo_core" / "__init__.py")


def module_name(path):
    return ".".join(path.relative_to(ROOT / "sameo_core").with_suffix("").parts).removesuffix(".__init__")


def room(module):
    return module.split(".")[0]


NAMES = {module_name(path): path for path in MODULES}


def imports_of(source, package=""):
    """Absolute names of everything imported, wherever in the file; ``a.b`` for ``from a import b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            start = ".".join(filter(None, [above, node.module])) if node.level else node.module
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imports_inside(module):
    """The modules of sameo_core that a module imports, but itself."""
    path = NAMES[module]
    package = f"sameo_core.{module}" if path.name == "__init__.py" else f"sameo_core.{module}".rpartition(".")[0]
    found = set()
    for imported in imports_of(path.read_text(encoding="utf-8"), package):
        top, _, name = imported.partition(".")
        if top == "sameo_core" and name not in ("", "__version__"):
            assert room(name) in ORDER, f"{module} imports {imported}; take it from the room that has it"
            while name not in NAMES:
                name = name.rpartition(".")[0]
            found.add(name)
    return found - {module}


@pytest.mark.parametrize("module", NAMES)
def test_imports_go_down_the_list_only(module):
    assert room(module) in ORDER, f"{module} has no place in ORDER of {Path(__file__).name}"
    for imported in imports_inside(module):
        below = ORDER.index(room(imported)) < ORDER.index(room(module))
        assert below or room(imported) == room(module), f"{module} imports {imported}, which is below it"


def test_rooms_and_arrows_are_few():
    """An arrow: some file of one room imports something of another, wherever in it."""
    arrows = {(room(module), room(imported)) for module in NAMES for imported in imports_inside(module)}
    between = {(one, other) for one, other in arrows if one != other}
    assert len(ORDER) <= 17 and len(between) <= 95, f"{len(ORDER)} rooms, {len(between)} arrows"


def test_nobody_below_the_pipeline_knows_a_profile():
    """They take data sets, a recipe, a folder; which ones a profile stands for is the pipeline's to say."""
    below = set(ORDER[: ORDER.index("pipeline")]) - {"config"}
    known = {
        f"sameo_core.config.{name}" for name in ("Profile", "load_profile", "recipe", "ablation", "teacher_profile")
    }
    for module, path in NAMES.items():
        assert room(module) not in below or not known & set(imports_of(path.read_text(encoding="utf-8"))), module


@pytest.mark.parametrize("name", ORDER)
def test_files_of_a_room_import_each_other_in_one_direction(name):
    """And none of them what the room offers to others, its `__init__`, which comes last."""
    graph = {module: imports_inside(module) for module in NAMES if room(module) == name}
    inside = {module: {other for other in imported if room(other) == name} for module, imported in graph.items()}
    assert not [module for module, imported in inside.items() if name in imported]
    assert {*TopologicalSorter(inside).static_order()} == set(graph)  # raises CycleError


# ------------------------------------------------------------------------------------------------------- dependencies


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(project, *extras):
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in wanted]


def pins():
    """Name -> [(version, marker or None)] of the lock."""
    found = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line:
            pin = re.fullmatch(r"([\w.-]+)==([^\s;]+)\s*(?:;\s*(.+))?", line)
            assert pin, f"not an exact pin: {line}"
            marker = Marker(pin[3]) if pin[3] else None
            found.setdefault(canonicalize_name(pin[1]), []).append((Version(pin[2]), marker))
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_once_and_within_its_range(project, python):
    assert SpecifierSet(project["requires-python"]).contains(python)
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    for requirement in declared(project, "test"):
        fitting = [
            version
            for version, marker in pins().get(canonicalize_name(requirement.name), [])
            if marker is None or marker.evaluate(where)
        ]
        assert len(fitting) == 1, f"{requirement.name}: {len(fitting)} pins in requirements.lock for Python {python}"
        assert requirement.specifier.contains(fitting[0]), f"{requirement} is pinned to {fitting[0]}"


def third_party(sources):
    names = {imported.split(".")[0] for source in sources for imported in imports_of(source, "sameo_core")}
    return names - set(sys.stdlib_module_names) - {"sameo_core"}


def notebook_sources():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)


def undeclared(names, requirements):
    known = {canonicalize_name(requirement.name) for requirement in requirements}
    owners = packages_distributions()
    return sorted(
        name for name in names if not known & {canonicalize_name(owner) for owner in owners.get(name, [name])}
    )


def test_every_import_is_declared(project):
    extras = set(project["optional-dependencies"])
    shipped = [path.read_text(encoding="utf-8") for path in (ROOT / "sameo_core").rglob("*.py")]
    assert undeclared(third_party([*shipped, *notebook_sources()]), declared(project, *(extras - {"test"}))) == []
    tests = list((ROOT / "tests").rglob("*.py"))
    local = {path.stem for path in tests} | {"tests"}
    used = third_party(path.read_text(encoding="utf-8") for path in tests) - local
    assert undeclared(used, declared(project, *extras)) == []


def test_no_path_of_somebodys_machine_is_tracked():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        if name.startswith("tests/") or not path.is_file():
            continue
        text = path.read_bytes()
        for foreign in (b"/work/", b"/root/", b"/tmp/", b"../shared"):
            assert foreign not in text, f"{name} holds {foreign.decode()}"


def test_the_extra_for_tests_holds_the_others(project):
    """`make setup` installs it, and the lock pins it: nothing of another extra is left to chance."""
    extras = project["optional-dependencies"]
    for name, lines in extras.items():
        for requirement in map(Requirement, lines):
            (same,) = [r for r in map(Requirement, extras["test"]) if r.name == requirement.name]
            assert same.specifier == requirement.specifier, f"{requirement.name} of {name} and of test"


def test_lock_environment_and_project_mean_the_same_python(project):
    """And conda brings that Python, and nothing else of its own."""
    lowest = min(s.version for s in SpecifierSet(project["requires-python"]) if s.operator == ">=")
    command = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[1]
    assert f"pyproject.toml --extra test --universal --python-version {lowest}" in command
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    brought = [f"python={lowest}", "pip", {"pip": ["-c requirements.lock", "-e .[test]"]}]
    assert environment["dependencies"] == brought and environment["channels"] == ["conda-forge", "nodefaults"]
    assert 'pip install -c requirements.lock -e ".[test]"' in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_checkers_and_editors_see_the_public_names():
    source = (ROOT / "sameo_core/__init__.py").read_text(encoding="utf-8")
    seen = {tuple(name.split(".")[1:]) for name in imports_of(source) if name.startswith("sameo_core.")}
    assert seen == {(module, name) for name, module in sameo_core._PUBLIC.items()}
    assert set(sameo_core.__all__) <= set(dir(sameo_core))
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert (ROOT / "sameo_core/py.typed").is_file() and "py.typed" in package_data["sameo_core"]
