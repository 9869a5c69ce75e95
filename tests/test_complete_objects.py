"""Which objects are complete: measures, rules, precision and recall worked by hand; pools that resume and survive."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import AgreeingTeacher, dataset_of, photograph, rectangle, two_objects

from sameo_core.config import CompletenessConfig
from sameo_core.errors import InputError
from sameo_core.synthesis import (
    RULES,
    CurvePoint,
    Pool,
    collect_complete_objects,
    completeness,
    completeness_curve,
    join_pools,
)
from sameo_core.synthesis.completeness import hidden_share
from sameo_core.synthesis.pool import OFTEN_OFF

NONE_EXCLUDED = {name: 0 for name in RULES if name not in OFTEN_OFF}


def measured(tmp_path, mask, added=None, size=(96, 128), config=None):
    image = photograph(tmp_path, 1, [mask], size=size)
    dataset = dataset_of([image], tmp_path)
    teacher = AgreeingTeacher(dataset, {} if added is None else {100: added})
    return collect_complete_objects(teacher, dataset, config or CompletenessConfig(), tmp_path / "record")


def rule_of(found):
    return [None, *RULES][found.rule[0]]


def test_measures_by_hand(tmp_path):
    """A rectangle of 40 x 30 to which the teacher adds a strip of 40 x 10 below, and one of 1 x 30 at its side."""
    mask = rectangle((96, 128), 20, 10, 60, 40)
    added = rectangle((96, 128), 20, 40, 60, 50) | rectangle((96, 128), 60, 10, 61, 40)
    found = measured(tmp_path, mask, added)
    assert found.agreement[0] == pytest.approx(1200 / (1200 + 400 + 30))
    assert found.predicted_hidden[0] == pytest.approx(400 / 1200)  # the strip of one pixel is an outline
    assert (found.area[0], found.frame_gap[0]) == (1200, 10)
    assert (found.largest_part[0], found.core_share[0]) == (1, 1)
    assert found.box[0].tolist() == [20, 10, 60, 40] and rule_of(found) == "teacher sees a hidden part"
    assert found.provenance(0) == {"source_dataset": "lvis", "source_image_id": 1, "source_annotation_id": 100}
    assert np.array_equal(found.mask(0), mask) and found.path(0) == tmp_path / "1.jpg"


SOLID = rectangle((96, 128), 20, 10, 60, 50)  # 1600 pixels
COMB = SOLID | rectangle((96, 128), 20, 50, 60, 90)
COMB[50:90, 21:60:2] = False  # 40 rows of hairlines below: 800 of 2400 pixels


@pytest.mark.parametrize(
    ("mask", "added", "rule"),
    [
        (SOLID, None, None),
        (rectangle((96, 128), 2, 10, 42, 50), None, None),
        (rectangle((96, 128), 1, 10, 41, 50), None, "cut by the frame"),
        (rectangle((96, 128), 20, 55, 60, 95), None, "cut by the frame"),
        (rectangle((96, 128), 20, 10, 52, 42), None, None),  # 32 x 32
        (rectangle((96, 128), 20, 10, 51, 43), None, "too small"),  # 31 x 33
        (SOLID | rectangle((96, 128), 70, 10, 80, 18), None, None),  # 80 of 1680 pixels apart: 4.8 %
        (SOLID | rectangle((96, 128), 70, 10, 80, 19), None, "in parts"),  # 90 of 1690
        (SOLID | rectangle((96, 128), 60, 50, 70, 60), None, None),  # touching at a corner is one part
        (COMB, None, "ragged"),
        (SOLID, rectangle((96, 128), 20, 50, 60, 55), "teacher sees a hidden part"),
        (SOLID, rectangle((96, 128), 19, 9, 61, 51), None),  # a rim of one pixel: 1600 / 1764 agree
        (SOLID, rectangle((96, 128), 18, 8, 62, 52), "teacher disagrees"),  # of two: 1600 / 1936
        (rectangle((96, 128), 0, 0, 9, 9), SOLID, "cut by the frame"),  # and too small: the first rule counts
    ],
)
def test_rules_by_hand(tmp_path, mask, added, rule):
    assert rule_of(measured(tmp_path, mask, added)) == rule


def test_hidden_share_by_hand():
    visible = rectangle((60, 60), 10, 10, 40, 40)  # 900 pixels: opened by 3 x 3
    assert hidden_share(visible, visible) == 0
    assert hidden_share(visible, rectangle((60, 60), 8, 8, 42, 42)) == 0  # outlines differ by two pixels
    assert hidden_share(visible, rectangle((60, 60), 10, 10, 40, 46)) == 180 / 900
    assert hidden_share(visible, rectangle((60, 60), 10, 10, 43, 40)) == 90 / 900  # up to a side of three
    large = rectangle((400, 400), 50, 50, 250, 250)  # 40,000 pixels: opened by 13 x 13
    assert hidden_share(large, rectangle((400, 400), 50, 50, 262, 250)) == 0
    assert hidden_share(large, rectangle((400, 400), 50, 50, 263, 250)) == 13 * 200 / 40_000
    edge = rectangle((60, 60), 0, 10, 30, 40)
    assert hidden_share(edge, rectangle((60, 60), 0, 10, 30, 60)) == 600 / 900  # up to the frame


def test_another_threshold_needs_no_teacher(objects):
    assert objects.excluded() == NONE_EXCLUDED
    strict = objects.judged(CompletenessConfig(min_object_pixels=2100))
    small = int((objects.area < 2100).sum())
    assert 0 < small < 16 and strict.excluded() == NONE_EXCLUDED | {"too small": small}
    assert len(strict.complete()) == 16 - small and len(strict) == 16
    assert strict.judged(CompletenessConfig()).excluded() == objects.excluded()


# ---------------------------------------------------------------------------------------------- collecting, and pools


def test_collecting_goes_on_where_it_was_interrupted_and_is_found_again(source, tmp_path, monkeypatch, objects):
    monkeypatch.setattr(completeness, "CHUNK", 3)

    class Interrupted(AgreeingTeacher):
        def embed(self, image):
            if len(self.seen) == 4:
                raise KeyboardInterrupt
            return super().embed(image)

    first, second, third = Interrupted(source), AgreeingTeacher(source), AgreeingTeacher(source)
    with pytest.raises(KeyboardInterrupt):
        collect_complete_objects(first, source, CompletenessConfig(), tmp_path)
    found = collect_complete_objects(second, source, CompletenessConfig(), tmp_path)
    assert (first.seen, second.seen) == ([1, 2, 3, 4], [4, 5, 6, 7, 8])
    assert found.fingerprint() == objects.fingerprint()
    collect_complete_objects(third, source, CompletenessConfig(min_agreement=0.99), tmp_path)
    assert third.seen == []
    other = AgreeingTeacher(source, name="another")
    collect_complete_objects(other, source, CompletenessConfig(), tmp_path)
    assert len(other.seen) == 8


def test_images_without_objects_are_not_opened(tmp_path):
    image = photograph(tmp_path, 1, two_objects(1))
    empty = replace(image, image_id=2, path=tmp_path / "absent.jpg", instances=())
    dataset = dataset_of([empty, image], tmp_path)
    found = collect_complete_objects(AgreeingTeacher(dataset), dataset, CompletenessConfig(), tmp_path / "a")
    assert found.image_id[found.image].tolist() == [1, 1]


def test_pools_are_joined_by_the_names_of_their_categories(objects):
    second = replace(
        objects.rows(np.array([5, 2])),
        source=np.array(["lvvis"]),
        root=np.array(["/elsewhere"]),
        category_ids=np.array([2, 1, 3]),  # 2 is b in the first pool
        category_names=np.array(["c", "a", "b"]),
        category_id=np.array([2, 3]),
    )
    joined = join_pools([objects, second])
    assert joined.categories == {1: "a", 2: "b", 3: "c"} and joined.category_id[-2:].tolist() == [3, 2]
    assert len(joined) == 18 and len(joined.image_id) == 10
    assert joined.path(16) == Path("/elsewhere") / objects.path(5).name and joined.path(3) == objects.path(3)
    assert joined.provenance(17)["source_dataset"] == "lvvis"
    for name, rows in (("lvis", range(16)), ("lvvis", (5, 2))):
        alone = joined.of(name)
        assert [alone.path(i).name for i in range(len(alone))] == [objects.path(i).name for i in rows]
    for ours, theirs in ((3, 3), (16, 5), (17, 2)):
        assert joined.rle(ours) == objects.rle(theirs)


def test_a_pool_is_read_back_and_known_by_what_it_holds(objects, tmp_path):
    path = objects.save(tmp_path / "deep" / "pool.npz")
    again = Pool.load(path)
    assert again.fingerprint() == objects.fingerprint() and again.path(3) == objects.path(3)
    assert [again.rle(i) for i in range(16)] == [objects.rle(i) for i in range(16)]
    assert objects.save(tmp_path / "other.npz").read_bytes() == path.read_bytes()
    moved = replace(again, root=np.array([str(tmp_path / "new")]))
    assert moved.path(0).parent == tmp_path / "new" and moved.fingerprint() == objects.fingerprint()
    assert join_pools([moved]).fingerprint() == objects.fingerprint() and join_pools([moved]).root == moved.root
    changes = {"source": ["lvvis"], "category_names": ["a", "c"], "agreement": again.agreement * np.float32(0.99)}
    for column, other in changes.items():
        assert replace(again, **{column: np.array(other)}).fingerprint() != objects.fingerprint()
    half = replace(objects, rule=np.arange(16) % 2).complete()
    assert [half.rle(i) for i in range(8)] == [objects.rle(i) for i in range(0, 16, 2)]
    assert [half.path(i) for i in range(8)] == [objects.path(i) for i in range(0, 16, 2)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, columns: path.write_bytes(path.read_bytes()[:-900]),
        lambda path, columns: np.savez(path, **{k: v for k, v in columns.items() if k != "box"}),
        lambda path, columns: np.savez(path, **columns | {"source": np.array([{"an": "object"}], object)}),
        lambda path, columns: path.unlink(),
    ],
)
def test_a_damaged_pool_is_named(objects, tmp_path, damage):
    path = objects.save(tmp_path / "pool.npz")
    with np.load(path) as file:
        columns = dict(file)
    damage(path, columns)
    with pytest.raises(InputError) as error:
        Pool.load(path)
    assert error.value.file == str(path)


# ----------------------------------------------------------------------------------------------- precision and recall


def test_the_curve_by_hand(objects):
    """Six objects; the fifth is too small, the sixth has a hidden part.

    Complete among the candidates: 1, 3 and 6, the last out of reach; with a tolerance of 3 % also 2.
    """
    found = replace(
        objects.rows(np.arange(6)),
        annotation_id=np.arange(1, 7),
        agreement=np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.85], np.float32),
        area=np.where(np.arange(6) == 4, 10, 2000),
        predicted_hidden=np.where(np.arange(6) == 5, 0.5, 0).astype(np.float32),
    )
    truth = {1: 0.0, 2: 0.03, 3: 0.0, 4: 0.5, 5: 0.0, 6: 0.0}

    def curve(truth=truth, config=CompletenessConfig(), **options):  # noqa: B008
        return {point.threshold: point for point in completeness_curve(found, truth, config, **options)}

    strict = curve()
    assert list(strict) == [i / 100 for i in range(50, 100)]
    points = [strict[threshold] for threshold in (0.55, 0.65, 0.75, 0.85, 0.99)]
    assert [point.kept for point in points] == [4, 3, 2, 1, 0]
    assert [point.precision for point in points] == pytest.approx([2 / 4, 2 / 3, 1 / 2, 1, 1])
    assert [point.recall for point in points] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 0])
    lenient = curve(tolerance=0.03)
    assert lenient[0.55][1:3] == (3 / 4, 3 / 4) and lenient[0.65][1:3] == (1, 3 / 4)
    assert curve(tolerance=0.025)[0.55].recall == 2 / 3
    assert curve(config=CompletenessConfig(max_predicted_hidden=1.0))[0.85] == CurvePoint(0.85, 1, 2 / 3, 2)
    assert curve(truth | {1: float("nan")})[0.85].precision == 0  # cut by the frame
    with pytest.raises(InputError) as error:
        curve(dict.fromkeys(truth, 1.0))  # nothing is complete
    assert error.value.file == "hidden"
