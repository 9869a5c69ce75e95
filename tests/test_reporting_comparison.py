"""Detections are taken for the objects that they cover, whatever model drew the masks."""

import numpy as np
import PIL.Image
import pytest
from conftest import plain_dataset, rectangle
from test_reporting_objects import AMODAL, compared

from sameo_core.errors import InputError
from sameo_core.masks import encode_mask
from sameo_core.reporting import comparisons, covering_detections, figure_before_after, worst_median_best

SIZE = (40, 60)


def detection(image, box, score=0.5, mask=None, **more):
    segmentation = encode_mask(rectangle(SIZE, *box) if mask is None else mask)
    return {"image_id": image, "box": list(box), "score": score, "segmentation": segmentation, "instance_id": -1} | more


BEHIND, FRONT = (4, 10, 14, 30), (14, 5, 44, 35)  # visible boxes of image 0 of `plain_dataset`


def ids(found):
    return [(r["image_id"], r["instance_id"], r["box"]) for r in found]


def test_each_object_has_the_detection_with_the_best_box():
    near = (4, 10, 16, 30)
    results = [detection(0, near, 0.9), detection(0, BEHIND, 0.1), detection(0, FRONT), detection(1, FRONT)]
    found = covering_detections(plain_dataset(1), results)
    assert ids(found) == [(0, 0, list(BEHIND)), (0, 1, list(FRONT))]
    assert all(r["instance_id"] == -1 for r in results), "the input stays as it was"
    assert ids(covering_detections(plain_dataset(1), results[:1])) == [(0, 0, list(near))]


def test_the_surer_of_two_equal_boxes_by_the_front_ends_score():
    unsure, sure = detection(0, FRONT, 0.9, front_end_score=0.2), detection(0, FRONT, 0.1, front_end_score=0.3)
    for results in ([unsure, sure], [sure, unsure]):
        (found,) = covering_detections(plain_dataset(1), results)
        assert found["front_end_score"] == 0.3


def test_a_detection_is_taken_once_and_only_where_it_covers():
    both = (4, 5, 44, 35)  # IoU 200 / 1200 with one, 900 / 1200 with the other object
    found = covering_detections(plain_dataset(1), [detection(0, both)], least=0.1)
    assert ids(found) == [(0, 1, list(both))]
    assert covering_detections(plain_dataset(1), [detection(0, both)], least=0.76) == []
    assert covering_detections(plain_dataset(1), []) == []


def test_amodal_boxes():
    whole = (4, 10, 24, 30)
    assert covering_detections(plain_dataset(1), [detection(0, whole)], least=0.6) == []
    assert ids(covering_detections(plain_dataset(1), [detection(0, whole)], "amodal", 0.99)) == [(0, 0, list(whole))]
    with pytest.raises(InputError, match="one of visible, amodal, found 'whole'"):
        covering_detections(plain_dataset(1), [], "whole")


def hiding(found):
    """Image i: the object behind is continued by i of its 10 hidden columns."""
    return [detection(i, (4 + i, 10, 14 + i + found[i], 30), instance_id=2 * i) for i in range(len(found))]


def test_worst_median_and_best_of_those_that_were_found():
    dataset = plain_dataset(5)
    chosen = worst_median_best(dataset, hiding([4, 0, 9, 2, 6]))
    assert chosen == [2, 0, 4]  # objects number 2 * image: hidden IoU 0, 0.4, 0.9
    assert worst_median_best(dataset, hiding([4, 0, 9])) == [2, 0, 4]
    with pytest.raises(InputError, match="at least 0.9"):
        worst_median_best(dataset, hiding([4]), least=0.9)


def test_compared_behind_a_detector(tmp_path):
    dataset = plain_dataset(2)
    for image in dataset.images:
        object.__setattr__(image, "path", tmp_path / image.file_name)
        PIL.Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(image.path)
    results = {"front-end": hiding([0, 0]), "SAMEO": hiding([5, 2])}
    (item,) = comparisons(dataset, [2], results)
    assert list(item.predictions) == ["front-end", "SAMEO"] and item.box.tolist() == [5, 10, 15, 30]
    assert [mask.sum() for mask in item.predictions.values()] == [10 * 20, 12 * 20]
    with pytest.raises(InputError, match="SAMEO: a mask of object 2 in image 1, found none"):
        comparisons(dataset, [2], {"front-end": hiding([0, 0]), "SAMEO": hiding([0])})


def test_words_beside_the_rows():
    figure = figure_before_after([compared(a=AMODAL)] * 2, "x", "mini", rows=("worst", "best"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["worst", "", "", "best", "", ""]
    with pytest.raises(InputError, match="a word an object, found 1 for 2"):
        figure_before_after([compared(a=AMODAL)] * 2, "x", "mini", rows=("worst",))
