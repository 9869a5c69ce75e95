"""Objects side by side: which are shown, and what each model makes of them."""

import numpy as np
import PIL.Image
import pytest
from conftest import plain_dataset, rectangle
from test_reporting_objects import AMODAL, compared

from sameo_core.errors import InputError
from sameo_core.masks import encode_mask
from sameo_core.reporting import comparisons, figure_before_after

SIZE = (40, 60)


def detection(image, box, score=0.5, mask=None, **more):
    segmentation = encode_mask(rectangle(SIZE, *box) if mask is None else mask)
    return {"image_id": image, "box": list(box), "score": score, "segmentation": segmentation, "instance_id": -1} | more


def hiding(found):
    """Image i: the object behind is continued by i of its 10 hidden columns."""
    return [detection(i, (4 + i, 10, 14 + i + found[i], 30), instance_id=2 * i) for i in range(len(found))]


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
