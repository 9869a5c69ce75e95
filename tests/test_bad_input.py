"""Every public function that takes outside data, and every verb, with bad input: an error that names file and remedy.

A case is a function, what it is given, and words of the error's file (or argument) and record; never of its sentence.
Public is what a room offers to others and to notebooks; it takes outside data where its docstring promises an
InputError. The last tests find those without a case.
"""

import importlib
import inspect
import pkgutil
import re

import pytest
from bad_input_cases import CASES
from bad_input_desk import MASK, Desk

import sameo_core
from sameo_core import apps
from sameo_core.__main__ import VERBS, main
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_regions
from sameo_core.synthesis import Pool

pytestmark = pytest.mark.usefixtures("unchecked")  # as in a notebook: no type checker comes first


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


def function_of(name):
    """The function of a dotted name below sameo_core, whatever of it is module and class."""
    parts, found = name.split("."), sameo_core
    for i, part in enumerate(parts):
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(".".join(["sameo_core", *parts[: i + 1]]))
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bad_input_is_refused_with_its_file_its_record_and_a_remedy(case, desk):
    name, give, file, *record = case
    given = give(desk)
    with pytest.raises(InputError) as caught:
        result = function_of(name)(*given.arguments, **given.options)
        list(result if inspect.isgenerator(result) else ())  # a generator begins when it is asked
    error = caught.value
    assert file in error.file and error.file != "None"
    assert all(words in (error.record or "") for words in record), error.record
    assert error.rule and (error.remedy[0].isupper() or error.remedy[0] in "`'"), error.remedy
    assert len(str(error)) < 2000 and "\n" not in error.remedy


# ------------------------------------------------------------------------------------------------------------ verbs

PLACES = {
    "out": lambda d: d.folder / "out",
    "none": lambda d: d.folder / "none",
    "folder": lambda d: d.folder,
    "file": lambda d: d.file("file"),
    "two.json": lambda d: d.file("two.json", [[1, 2]]),
    "boxes": Desk.boxes,
    "photo": Desk.photo,
    "recipe": Desk.another_recipe,
    "cut_recipe": lambda d: d.another_recipe("{"),
}
VERB_CASES = [  # what is typed, and words of the file or argument that is named
    ("reproduce --notebook 99", "--notebook"),
    ("pretrain --out {recipe}", "config.json"),
    ("pretrain --out {cut_recipe}", "config.json"),
    ("pretrain-detector --out {recipe}", "config.json"),
    ("pretrain-detector --out {file}", "file"),
    ("download lviss", "name"),
    ("download lvis --root {file}", "file"),
    ("synthesize --out {out} --pool {none}", "none"),
    ("synthesize --out {out} --pool p --images 3", "images"),
    ("synthesize --out {out} --pool p --seed -1", "seed"),
    ("synthesize --out {out} --pool p --shard 2", "shard"),
    ("predict {none} --boxes {boxes} --out {out} --weights nano", "none"),
    ("predict {folder} --boxes {boxes} --out {out}", ""),
    ("predict {photo} --boxes {none} --out {out}", "none"),
    ("predict {photo} --boxes {two.json} --out {out} --weights nano", "two.json"),
    ("predict {photo} --boxes {boxes} --out {out} --weights no.pt", "no.pt"),
    ("predict {photo} --boxes {boxes} --out {file} --weights nano", "file"),
    ("predict {photo} --boxes {boxes} --out {out} --min-score 50", "min_score"),
    ("predict {photo} --detector nanno --out {out}", "detector"),
    ("train --recipe none", "recipe"),
    ("train --seed -1", "training, seeds"),
    ("train --override iterations", "--override"),
    ("train --override iterations=0", "training, iterations"),
    ("train --override train=,", "data, train"),
    ("export-onnx --weights no.pt --out {out}", "no.pt"),
    ("export-onnx --out {file}", "file"),
]


@pytest.mark.parametrize(("typed", "named"), VERB_CASES)
def test_a_verb_says_it_in_one_line_and_writes_nothing(typed, named, desk, capsys):
    words = [re.sub(r"{(.*)}", lambda place: str(PLACES[place[1]](desk)), word) for word in typed.split()]
    before = set(desk.folder.rglob("*"))
    assert main(words) == 2
    told = capsys.readouterr().err
    (line,) = [line for line in told.splitlines() if "\r" not in line and "%|" not in line]  # no progress bars
    assert re.match(rf"sameo_core: [^:]*{re.escape(named)}[^:]*: ", line), told
    assert {path for path in desk.folder.rglob("*") if path.is_file()} <= before


@pytest.mark.parametrize("verb", ["pretrain", "pretrain-detector"])
def test_a_number_that_argparse_refuses(verb, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, "--out", str(tmp_path / "run"), "--steps", "0"])
    assert left.value.code == 2 and "argument --steps: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------------ completeness

EXEMPT = {  # promise an InputError and have no case here; and why
    "reporting.arm_differences": "takes what the package computed; test_reporting_statistics",
    "reporting.comparisons": "takes what the package computed; test_reporting_detections",
    "reporting.gains": "takes what the package computed; test_reporting_statistics",
}
ROOMS = [module.name for module in pkgutil.iter_modules(sameo_core.__path__) if module.name != "__main__"]
OPEN = [*ROOMS, *(f"apps.{module.name}" for module in pkgutil.iter_modules(apps.__path__))]  # apps passes no names on


def public_functions():
    """Dotted names below sameo_core of every function and method that a room offers."""
    for room in OPEN:
        module = importlib.import_module(f"sameo_core.{room}")
        own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", [name for name in own if not name.startswith("_")]):
            thing = getattr(module, name)
            if inspect.isclass(thing):
                methods = [inner for inner in vars(thing) if inner == "__init__" or not inner.startswith("_")]
                yield from (f"{room}.{name}.{inner}" for inner in methods if inspect.isroutine(getattr(thing, inner)))
            elif inspect.isroutine(thing):
                yield f"{room}.{name}"


def test_every_function_that_promises_an_error_has_a_case():
    promising = {name for name in public_functions() if "InputError" in (function_of(name).__doc__ or "")}
    assert len(promising) > 50
    missing = promising - {name for name, *_ in CASES}
    assert missing == EXEMPT.keys(), "add a case for each, or to EXEMPT with the reason"


def test_every_verb_has_a_case():
    assert VERBS.keys() - {"datasets"} == {typed.split()[0] for typed, _ in VERB_CASES}  # it takes a choice of two


def test_what_the_desk_gives_is_good_where_nothing_spoils_it(desk):
    assert len(Pool.load(desk.pool.save(desk.folder / "p.npz"))) == 4
    assert len(load_dataset("coco", desk.coco()).census()) == 1
    assert evaluate_regions([MASK], [MASK], [MASK]).full.tolist() == [1.0]
