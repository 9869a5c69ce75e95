"""README's blocks are replaced between their marks, and nothing else is touched."""

import numpy as np
import PIL.Image
import pytest

from sameo_core.errors import InputError
from sameo_core.reporting import write_table
from sameo_core.reporting.claims import CLAIMS
from sameo_core.reporting.committed import (
    README_METRICS,
    README_PICTURE,
    readme_claims,
    readme_results,
    update_readme,
)

ROWS = [dict(zip(CLAIMS, ("re-scoring helps", "zero-shot", "AP", 0.019, 0.015, 0.01, 0.02, 2, "holds"), strict=True))]


@pytest.fixture
def places(tmp_path):
    """README with marks, the tables' folder, and a picture of 600 colours."""
    gains = {"data set": "cocoa_cls", "prompt": "visible boxes", "before": 0.1, "after": 0.3, "gain": 0.2}
    gains |= {"ci_low": 0.1, "ci_high": 0.3, "seeds": 3}
    write_table("zero_shot_gains", [{"metric": m, **gains} for m in README_METRICS], "mini", tmp_path / "results")
    colours = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)
    (tmp_path / "figures").mkdir()
    PIL.Image.fromarray(colours).save(tmp_path / "figures" / README_PICTURE)
    readme = tmp_path / "README.md"
    readme.write_text("top\n<!-- results -->\nold\n<!-- /results -->\nmiddle\n<!-- claims -->\n<!-- /claims -->\nend\n")
    return readme, tmp_path / "results", tmp_path / "figures"


def test_results_and_claims_are_put_between_their_marks(places):
    readme, results, _ = places
    update_readme(*places)
    assert readme.read_text() == (
        f"top\n<!-- results -->\n{readme_results(results)}\n<!-- /results -->\nmiddle\n"
        "<!-- claims -->\n<!-- /claims -->\nend\n"
    )
    assert "+0.200 (+0.100 to +0.300)" in readme.read_text()
    with PIL.Image.open(results.parent / "photo" / "occlusions.png") as picture:
        assert picture.mode == "P" and picture.size == (30, 20)
    write_table("claims", ROWS, "mini", results)
    for _ in range(2):  # twice the same
        update_readme(*places)
        assert f"middle\n<!-- claims -->\n{readme_claims(results)}\n<!-- /claims -->\nend\n" in readme.read_text()
    assert "| re-scoring helps | zero-shot | AP " in readme.read_text()


def test_marks_that_are_missing_are_named_and_nothing_is_written(places):
    readme, results, _ = places
    readme.write_text("<!-- results -->\n<!-- /results -->\n")
    write_table("claims", ROWS, "mini", results)
    with pytest.raises(InputError, match="marks <!-- claims --> and <!-- /claims -->"):
        update_readme(*places)
    assert readme.read_text() == "<!-- results -->\n<!-- /results -->\n"
    assert not (results.parent / "photo").exists()


def test_without_the_encoder_for_photographs_the_picture_stays(places):
    readme, _, figures = places
    (figures / README_PICTURE).unlink()
    update_readme(*places)
    assert "+0.200" in readme.read_text() and not (figures.parent / "photo").exists()
