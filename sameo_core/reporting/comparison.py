"""Objects side by side: the prompt, what each model makes of it, and the truth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from sameo_core import BoxXYXY, Image
from sameo_core.datasets.base import AmodalDataset
from sameo_core.evaluation import region_iou
from sameo_core.masks import decode_rle, mask_box
from sameo_core.reporting.base import require
from sameo_core.reporting.objects import Mask, draw_object, window
from sameo_core.reporting.style import new_figure, styled


@dataclass(frozen=True)
class Comparison:
    """One object, its box prompt, and what each model makes of it."""

    image: Image
    visible: Mask  # truth, bool "h w"
    amodal: Mask  # truth, bool "h w"
    box: BoxXYXY  # the prompt
    predictions: Mapping[str, Mask]  # name of the model -> predicted amodal mask, bool "h w"


def comparisons(
    dataset: AmodalDataset, chosen: Sequence[int], results: Mapping[str, Sequence[Mapping]]
) -> list[Comparison]:
    """Objects by their number in the data set (as the rows of `region_table`), with what each model made of them.

    Args:
        chosen: numbers of objects, counted over the whole data set in its order.
        results: model -> COCO results with `instance_id` and `box`, one an object, all of one front-end.

    Raises:
        InputError: an image cannot be read.
    """
    objects = [(image, item) for image in dataset for item in image.instances]
    by_object = {name: {(r["image_id"], r["instance_id"]): r for r in listed} for name, listed in results.items()}
    found = []
    for image, item in (objects[i] for i in chosen):
        key = (image.image_id, item.instance_id)
        box = np.array(next(iter(by_object.values()))[key]["box"], np.float32)
        masks = {name: decode_rle(listed[key]["segmentation"]) for name, listed in by_object.items()}
        found.append(Comparison(image.read(), item.visible, item.amodal, box, masks))
    return found


@styled
def figure_before_after(objects: Sequence[Comparison], title: str, profile: str) -> Figure:
    """A row an object: the prompt and the visible part | each model's amodal mask | the truth.

    Hatched in a model's panel is what it says is hidden: prediction minus visible truth. The IoU of the whole object
    and of its hidden region are computed here, by `region_iou`. Panels are cut out around the object.

    Raises:
        InputError: no objects, objects with different models, masks of different size.
    """
    require(len(objects), "objects", "a comparison needs at least one object, found none", "Choose objects first")
    names = list(objects[0].predictions)
    figure = new_figure(title, profile, 0.35 + 1.9 * len(objects) * 4 / (len(names) + 2), layout="compressed")
    grid = figure.subplots(len(objects), len(names) + 2, squeeze=False)
    for heading, axes in zip(["box prompt, visible part", *names, "truth"], grid[0], strict=True):
        axes.set_title(heading)
    for i, (item, row) in enumerate(zip(objects, grid, strict=True)):
        rule = f"all objects have the same models {names}, found {list(item.predictions)}"
        require(list(item.predictions) == names, "objects", rule, "Predict all with every model", f"object {i}")
        draw_object(row[0], item.image, item.visible, None, box=item.box)
        for axes, mask in zip(row[1:], item.predictions.values(), strict=False):
            draw_object(axes, item.image, item.visible, mask)
            iou = region_iou(mask, item.amodal, item.visible)
            hidden = "" if math.isnan(iou.hidden) else f", hidden {iou.hidden:.2f}"
            axes.set_xlabel(f"IoU {iou.full:.2f}{hidden}", loc="left", labelpad=2)
        draw_object(row[-1], item.image, item.visible, item.amodal, role="truth")
        rate = 1 - np.count_nonzero(item.visible & item.amodal) / np.count_nonzero(item.amodal)
        row[-1].set_xlabel(f"{100 * rate:.0f} % hidden", loc="left", labelpad=2)
        x0, y0, x1, y1 = window(mask_box(item.amodal), *item.amodal.shape)
        for axes in row:
            axes.set(xlim=(x0, x1), ylim=(y1, y0))
    return figure
