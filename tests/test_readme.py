"""README and CONTRIBUTING say what is so: the example runs, numbers that can be checked hold, links lead somewhere."""

import re
import tomllib

import PIL.Image
import pytest
from test_machines import LOSS, WEIGHT

from sameo_core.config import NOTEBOOKS, ROOT, WEIGHTS, load_profile
from sameo_core.model import SAM_ENCODER, build_efficient_sam, onnx
from sameo_core.model.variants import VARIANTS
from sameo_core.reporting import committed
from sameo_core.reporting.committed import readme_claims, readme_photographs, readme_results
from sameo_core.reproduction import expected_minutes, find_notebooks

README, CONTRIBUTING = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))


@pytest.mark.parametrize(
    ("mark", "block"), [("results", readme_results), ("photographs", readme_photographs), ("claims", readme_claims)]
)
def test_tables_are_the_committed_ones(mark, block):
    assert f"<!-- {mark} -->\n{block()}\n<!-- /{mark} -->" in README


def test_a_reader_soon_finds_a_picture_a_command_and_the_results():
    lines = README.splitlines()
    by_people = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", README, flags=re.S)  # without the tables
    assert len(by_people.splitlines()) <= 100
    for wanted, within in (("*Amodal* means", 5), ("![", 10), ("make reproduce", 25), ("<!-- /results -->", 45)):
        assert wanted in "\n".join(lines[:within]), wanted


@pytest.mark.parametrize("link", sorted({*re.findall(r"\]\((?!https?:)([^)]+)\)", README + CONTRIBUTING)}))
def test_links_inside_the_repository_lead_somewhere(link):
    path, _, section = link.partition("#")
    assert (ROOT / path).exists()
    headings = re.findall(r"^#+ (.+)", (ROOT / path).read_text(encoding="utf-8"), re.M) if section else []
    assert not section or section in [re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings]


@pytest.mark.skipif(not (WEIGHTS / SAM_ENCODER).exists(), reason="the base model of photo is not here")
def test_the_example_saves_a_picture_of_what_is_hidden(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    found, seen = names["prediction"], names["seen"]
    assert found.masks.shape == seen.shape == (2, 400, 600)
    assert (found.scores <= [0.9, 0.8]).all()
    saucer = found.masks[0] & ~seen[0]
    assert saucer.sum() >= 0.05 * found.masks[0].sum(), "nothing of the saucer is hatched"
    with PIL.Image.open(tmp_path / "coffee.png") as picture:
        assert picture.width > 1000


# ---------------------------------------------------------------------------------------------- numbers in sentences


def minutes_on_the_card(number):
    """Minutes of a notebook's `mini` run, as its own first cell says."""
    return expected_minutes(*NOTEBOOKS.glob(f"{number}_*.ipynb"))


def whole_run(least, most, seeds=1):
    """The notebooks' minutes fit into the range that `make reproduce` is said to take."""
    return int(least) <= sum(expected_minutes(path, seeds) for path in find_notebooks()) <= int(most)


def supported_pythons(*found):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    return found == (low, str(int(high) - 1))


def lines_of_the_onnx_example():
    return sum(line.startswith("    ") for line in onnx.__doc__.splitlines())


# What they say, the numbers in brackets -> whether it holds. What was measured by hand is not here.
CLAIMS = {
    r"a ([\d.]+) M parameter EfficientSAM": lambda millions: (
        round(sum(p.numel() for p in build_efficient_sam("nano").parameters()) / 1e6, 1) == float(millions)
    ),
    r"(\d+) to (\d+) minutes, after": whole_run,
    r"(\d+) to (\d+) minutes \| the same with three seeds": lambda *found: whole_run(*found, seeds=3),
    r"Python 3\.(\d+) to 3\.(\d+)": supported_pythons,
    r"\[(\d\d|A\d) [^|]+\|.*?\| (\d+) min \|": lambda number, minutes: (  # on a shared machine: to a minute
        abs(minutes_on_the_card(number) - int(minutes)) <= 1
    ),
    r"[Nn]otebooks? (\d\d)": minutes_on_the_card,  # it is there
    r"ten (lines) that use them": lambda _: lines_of_the_onnx_example() == 10,
    r"on (127\.0\.0\.1)": lambda ip: f"--Voila.ip={ip}" in (ROOT / "Makefile").read_text(),
    r"within ([\d.]+) % of the loss and (\d) % of": lambda loss, weight: (
        (float(loss), float(weight)) == (100 * LOSS, 100 * WEIGHT)
    ),
    r"losses that differ by (\d) %, and AP by 0\.1 to ([\d.]+) points": lambda loss, points: (
        float(loss) < 100 * committed.LOSS and float(points) < 100 * committed.SHARE  # measured: tolerances have room
    ),
    r"trains with (one) thread": lambda _: load_profile("mini").training.cpu_threads == 1,
    r"\((\d) % of a loss, (\d) points of AP or IoU, (\d) of a single": lambda *found: (
        [int(n) / 100 for n in found] == [committed.LOSS, committed.SHARE, committed.ONE_MASK]
    ),
    r"EfficientSAM-S at (\d+)": lambda side: VARIANTS["vit_s"].image_size == int(side),
    r"more than ([\d,]+) images": lambda count: (
        load_profile("paper").cache.largest_cached_set == int(count.replace(",", ""))
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_claimed_holds(claim):
    found = re.findall(claim, f"{README}\n{CONTRIBUTING}")
    assert found, "the sentence is gone: take it out of CLAIMS"
    for numbers in found:
        assert CLAIMS[claim](*([numbers] if isinstance(numbers, str) else numbers)), numbers
