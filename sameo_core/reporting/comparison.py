"""Objects side by side: the prompt, what each model makes of it, and the truth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from matplotlib.figure import Figure

from sameo_core.arrays import AmodalMask, BoxXYXY, Image
from sameo_core.datasets import AmodalDataset
from sameo_core.datasets.files import check_records
from sameo_core.evaluation import evaluate_regions, region_iou
from sameo_core.masks import decode_rle, mask_box
from sameo_core.model import Sameo
from sameo_core.playground import Moment
from sameo_core.reporting.base import require
from sameo_core.reporting.objects import Mask, draw_box, draw_object, show_image, window
from sameo_core.reporting.style import new_figure, styled


@dataclass(frozen=True)
class Comparison:
    """One object, its box prompt, and what each model makes of it."""

    image: Image
    visible: Mask  # truth, bool "h w"
    amodal: Mask  # truth, bool "h w"
    box: BoxXYXY  # the prompt
    predictions: Mapping[str, Mask]  # name of the model -> predicted amodal mask, bool "h w"


def worst_median_best(dataset: AmodalDataset, covering: Sequence[Mapping], least: float | int = 0.1) -> list[int]:
    """Three objects, by their number in the data set: worst, median and best by the IoU of the hidden region.

    Args:
        covering: COCO results with `instance_id`, at most one an object; objects without one are passed over.
        least: only objects with at least this occlusion rate.

    Raises:
        InputError: no such object; a result that is not of an object, or without its mask; a data set without amodal
            masks.
    """
    wanted = {"image_id": Integral | str, "instance_id": Integral | str, "segmentation": Mapping}
    check_records("covering", covering, "result", wanted)
    masks = {(r["image_id"], r["instance_id"]): r["segmentation"] for r in covering}
    objects = [(image.image_id, item) for image in dataset for item in image.instances]
    numbers = [i for i, (image_id, item) in enumerate(objects) if (image_id, item.instance_id) in masks]
    predicted = [masks[objects[i][0], objects[i][1].instance_id] for i in numbers]
    truth = [objects[i][1] for i in numbers]
    amodal, visible = [item.known_amodal_rle() for item in truth], [item.visible_rle for item in truth]
    table = evaluate_regions(predicted, amodal, visible)
    return [numbers[row] for row in table.at_quantiles("hidden", (0, 0.5, 1), least)]


def comparisons(
    dataset: AmodalDataset, chosen: Sequence[int], results: Mapping[str, Sequence[Mapping]]
) -> list[Comparison]:
    """Objects by their number in the data set (as the rows of `region_table`), with what each model made of them.

    Args:
        chosen: numbers of objects, counted over the whole data set in its order.
        results: model -> COCO results with `instance_id` and `box`, one an object, all of one front-end; of a detector
            what `covering_detections` leaves of them.

    Raises:
        InputError: a model without a mask of a chosen object; an image cannot be read.
    """
    objects = [(image, item) for image in dataset for item in image.instances]
    by_object = {name: {(r["image_id"], r["instance_id"]): r for r in listed} for name, listed in results.items()}
    found = []
    for image, item in (objects[i] for i in chosen):
        key = (image.image_id, item.instance_id)
        for name, listed in by_object.items():
            rule = f"a mask of object {key[1]} in image {key[0]}, found none"
            require(key in listed, "results", rule, "Choose objects that all models have", name)
        box = np.array(next(iter(by_object.values()))[key]["box"], np.float32)
        masks = {name: decode_rle(listed[key]["segmentation"]) for name, listed in by_object.items()}
        found.append(Comparison(image.read(), item.visible, item.amodal, box, masks))
    return found


def compare_moment(moment: Moment, models: Mapping[str, Sameo]) -> Comparison:
    """What each model makes of a pasted scene, prompted by the box of the visible part.

    Raises:
        InputError: models whose image encoders differ.
    """
    masks = {name: prediction.masks[0] for name, (prediction, _) in moment.answers(models).items()}
    return Comparison(moment.image, moment.visible, moment.amodal, mask_box(moment.visible), masks)


@styled
def figure_before_after(
    objects: Sequence[Comparison],
    title: str,
    profile: str,
    rows: Sequence[str] | None = None,
    prompt: str = "box prompt, visible part",
) -> Figure:
    """A row an object: the prompt and the visible part | each model's amodal mask | the truth.

    Hatched in a model's panel is what it says is hidden: prediction minus visible truth. The IoU of the whole object
    and of its hidden region are computed here, by `region_iou`. Panels are cut out around the object.

    Args:
        rows: a word beside each object, e.g. ("worst", "median", "best").
        prompt: heading of the first column; "photograph": the picture as it is, with the box.

    Raises:
        InputError: no objects, objects with different models, masks of different size, not a word an object.
    """
    require(len(objects), "objects", "a comparison needs at least one object, found none", "Choose objects first")
    rule = f"a word an object, found {len(rows or ())} for {len(objects)}"
    require(rows is None or len(rows) == len(objects), "rows", rule, "Give as many")
    names = list(objects[0].predictions)
    views = [_view(item.amodal) for item in objects]
    ratios = [(y1 - y0) / (x1 - x0) for x0, y0, x1, y1 in views]
    figure = new_figure(
        title, profile, 0.35 + sum(0.2 + 1.7 * r for r in ratios) * 4 / (len(names) + 2), layout="compressed"
    )
    grid = figure.subplots(len(objects), len(names) + 2, squeeze=False, height_ratios=ratios)
    for heading, axes in zip([prompt, *names, "truth"], grid[0], strict=True):
        axes.set_title(heading)
    for i, (item, row) in enumerate(zip(objects, grid, strict=True)):
        rule = f"all objects have the same models {names}, found {list(item.predictions)}"
        require(list(item.predictions) == names, "objects", rule, "Predict all with every model", f"object {i}")
        if prompt == "photograph":
            show_image(row[0], item.image, np.ones_like(item.visible))
            draw_box(row[0], item.box)
        else:
            draw_object(row[0], item.image, item.visible, None, box=item.box)
        for axes, mask in zip(row[1:], item.predictions.values(), strict=False):
            draw_object(axes, item.image, item.visible, mask)
            iou = region_iou(mask, item.amodal, item.visible)
            hidden = "" if math.isnan(iou.hidden) else f", hidden {iou.hidden:.2f}"
            axes.set_xlabel(f"IoU {iou.full:.2f}{hidden}", loc="left", labelpad=2)
        draw_object(row[-1], item.image, item.visible, item.amodal, role="truth")
        rate = 1 - np.count_nonzero(item.visible & item.amodal) / np.count_nonzero(item.amodal)
        row[-1].set_xlabel(f"{100 * rate:.0f} % hidden", loc="left", labelpad=2)
        row[0].set_ylabel(rows[i] if rows else "")
        x0, y0, x1, y1 = views[i]
        for axes in row:
            axes.set(xlim=(x0, x1), ylim=(y1, y0))
    return figure


def _view(mask: AmodalMask) -> tuple[float, float, float, float]:
    """The part of the picture that is shown: the window around an object, as far as there is a picture."""
    height, width = mask.shape
    x0, y0, x1, y1 = window(mask_box(mask), height, width)
    return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
