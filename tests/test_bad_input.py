"""Every public function that takes outside data, and every verb, with bad input: an error that names file and remedy.

A case is a function, what it is given, and words of the error's file (or argument) and record; never of its sentence.
A function is public where its name has no underscore; it takes outside data where its docstring promises an InputError.
The last tests find those without a case.
"""

import importlib
import inspect
import pkgutil
import re

import bad_input_data
import bad_input_results
import pytest
from bad_input_desk import MASK, Desk

import sameo_core
from sameo_core.__main__ import VERBS, main
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.evaluation import evaluate_regions
from sameo_core.synthesis import Pool

pytestmark = pytest.mark.usefixtures("unchecked")  # as in a notebook: no type checker comes first

CASES = [*bad_input_data.CASES, *bad_input_results.CASES]


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
    "cut.json": lambda d: d.file("cut.json", "["),
    "two.json": lambda d: d.file("two.json", [[1, 2]]),
    "boxes": Desk.boxes,
    "photo": Desk.photo,
    "recipe": Desk.another_recipe,
    "cut_recipe": lambda d: d.another_recipe("{"),
}
VERB_CASES = [  # what is typed, and words of the file or argument that is named
    ("reproduce --notebook 99", "--notebook"),
    ("reproduce --notebook 05 x", "--notebook"),
    ("pretrain --out {recipe}", "config.json"),
    ("pretrain --out {cut_recipe}", "config.json"),
    ("pretrain --out {file}", "file"),
    ("pretrain-detector --out {recipe}", "config.json"),
    ("pretrain-detector --out {file}", "file"),
    ("download lviss", "name"),
    ("download lvis --root {file}", "file"),
    ("synthesize --out {out} --pool {none}", "none"),
    ("synthesize --out {out} --pool {file}", "file"),
    ("synthesize --out {out} --pool p --images 3", "images"),
    ("synthesize --out {out} --pool p --seed -1", "seed"),
    ("synthesize --out {out} --pool p --workers 0", "workers"),
    ("synthesize --out {out} --pool p --shard 2", "shard"),
    ("predict {none} --boxes {boxes} --out {out} --weights nano", "none"),
    ("predict {folder} --boxes {boxes} --out {out}", ""),
    ("predict {photo} --boxes {none} --out {out}", "none"),
    ("predict {photo} --boxes {cut.json} --out {out}", "cut.json"),
    ("predict {photo} --boxes {two.json} --out {out} --weights nano", "two.json"),
    ("predict {photo} --boxes {boxes} --out {out} --weights no.pt", "no.pt"),
    ("predict {photo} --boxes {boxes} --out {out} --weights nano --box-format yolo", "box_format"),
    ("predict {photo} --boxes {boxes} --out {file} --weights nano", "file"),
    ("predict {photo} --boxes {boxes} --out {out} --min-score 50", "min_score"),
    ("predict {photo} --detector nano --out {out} --min-score nan", "min_score"),
    ("predict {photo} --detector nanno --out {out}", "detector"),
    ("train --recipe none", "recipe"),
    ("train --seed -1", "training, seeds"),
    ("train --override iterations", "--override"),
    ("train --override iterations=0", "training, iterations"),
    ("train --override batch_images=-1", "training, batch_images"),
    ("train --override seeds=()", "training, seeds"),
    ("train --override train=,", "data, train"),
    ("train --override train_images=-4", "data, train_images"),
    ("export-onnx --weights no.pt --out {out}", "no.pt"),
    ("export-onnx --out {file}", "file"),
]
VERBS_WITHOUT = {
    "datasets": "takes a choice of two, which argparse checks",
}


def files_below(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("typed", "named"), VERB_CASES)
def test_a_verb_says_it_in_one_line_and_writes_nothing(typed, named, desk, capsys):
    words = [re.sub(r"{(.*)}", lambda place: str(PLACES[place[1]](desk)), word) for word in typed.split()]
    before = files_below(desk.folder)
    assert main(words) == 2
    told = capsys.readouterr().err
    (line,) = [line for line in told.splitlines() if "\r" not in line and "%|" not in line]  # no progress bars
    assert re.match(rf"sameo_core: [^:]*{re.escape(named)}[^:]*: ", line), told
    assert files_below(desk.folder) == before


@pytest.mark.parametrize("verb", ["pretrain", "pretrain-detector"])
@pytest.mark.parametrize("option", ["--steps 0", "--steps many", "--threads -3"])
def test_numbers_that_argparse_refuses(verb, option, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, "--out", str(tmp_path / "run"), *option.split()])
    assert left.value.code == 2 and f"argument {option.split()[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------------ completeness

# Functions that promise an InputError and have no case: a pattern of their names, and why.
EXEMPT = {
    r"reporting\..*(gains|arm_differences|comparisons)": "takes what the package computed; its "
    "own tests hold what it refuses",
    r"runs\.folders\.\w+|runs\.atomic\.atomic_write|training\.loop\.TrainingRun\.run": "refuses what the disk "
    "does: tests/test_faults.py, test_faults_files.py",
    r"datasets\.archives\.(check_space|full_disk)": "refuses what the disk does: tests/test_downloads.py",
    r"training\.batches\.BatchSampler\.batches": "refuses while it is iterated over: tests/test_batches.py",
}


def public_functions():
    """Every public function and method of the package: dotted name below sameo_core -> the function."""
    for module in pkgutil.walk_packages(sameo_core.__path__, "sameo_core."):
        if module.name.endswith("__main__"):
            continue
        for name, thing in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.name:
                continue
            place = f"{module.name.removeprefix('sameo_core.')}.{name}"
            if inspect.isclass(thing):
                for inner, method in vars(thing).items():
                    method = inspect.unwrap(getattr(method, "__func__", method))
                    if inspect.isfunction(method) and (inner == "__init__" or not inner.startswith("_")):
                        yield f"{place}.{inner}", method
            elif callable(thing):
                yield place, inspect.unwrap(thing)


def promising_functions():
    for name, function in public_functions():
        if "InputError" in (inspect.getdoc(function) or "") and function.__name__ != "_error":
            yield name, function


def test_every_function_that_promises_an_error_has_a_case():
    covered = {inspect.unwrap(getattr(f, "__func__", f)) for f in (function_of(name) for name, *_ in CASES)}
    promising = dict(promising_functions())
    assert len(promising) > 50
    missing = [
        name
        for name, function in promising.items()
        if function not in covered and not any(re.fullmatch(pattern, name) for pattern in EXEMPT)
    ]
    assert missing == [], "add a case for each, or a pattern to EXEMPT with the reason"


def test_every_exemption_is_needed():
    covered = {name for name, *_ in CASES}
    for pattern in EXEMPT:
        found = {name for name, _ in promising_functions() if re.fullmatch(pattern, name)}
        assert found and not covered & found, pattern


def test_every_verb_has_a_case():
    assert VERBS.keys() == {typed.split()[0] for typed, _ in VERB_CASES} | set(VERBS_WITHOUT)


def test_what_the_desk_gives_is_good_where_nothing_spoils_it(desk):
    assert len(Pool.load(desk.pool.save(desk.folder / "p.npz"))) == 4
    assert len(load_dataset("coco", desk.coco()).census()) == 1
    assert evaluate_regions([MASK], [MASK], [MASK]).full.tolist() == [1.0]
