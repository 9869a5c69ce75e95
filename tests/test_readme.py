"""README says what is so: its example runs, its numbers stand in the committed tables, its links lead somewhere."""

import re

import pytest

from sameo_core.config import ROOT, WEIGHTS
from sameo_core.reporting import readme_results

README = (ROOT / "README.md").read_text()


def test_results_are_those_of_the_committed_table():
    assert f"<!-- results -->\n{readme_results()}\n<!-- /results -->" in README


def test_result_picture_and_the_two_commands_stand_in_the_first_40_lines():
    first = "\n".join(README.splitlines()[:40])
    for wanted in ("make reproduce", "make test", "minutes", "![", "<!-- /results -->"):
        assert wanted in first, wanted


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_inside_the_repository_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.skipif(not (WEIGHTS / "sameo_nano.safetensors").exists(), reason="the nano weights are not here")
def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["prediction"].masks.shape == (2, 240, 320)
    assert (names["prediction"].scores <= [0.9, 0.8]).all()
