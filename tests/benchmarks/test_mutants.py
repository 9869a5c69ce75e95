"""The count of mutants counts: a fault is seen, also one that stops the import; what changes nothing survives."""

import sys

import pytest
from mutants import ROOT, Workshop

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="processor time is limited"),
]
CHANGES = {
    ("1 - target", "1.0 - target"): "survived",
    ("2 * intersection", "3 * intersection"): "killed",
    ("TINY =", "TINY +="): "at import",
}


def test_what_is_seen_and_what_is_not(tmp_path):
    file = "sameo_core/model/losses.py"
    source = (ROOT / file).read_text()
    workshop = Workshop(tmp_path)
    mutants = [(change, file, source.replace(*change, 1)) for change in CHANGES]
    assert dict(workshop.outcomes(mutants, "test_losses.py")) == CHANGES
    assert (workshop.folder / file).read_text() == source
