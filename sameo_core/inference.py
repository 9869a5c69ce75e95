"""Inference over a data set: each image is read and encoded once, whatever the number of decoders and front-ends."""

from collections.abc import Mapping

import torch
from tqdm import tqdm

from sameo_core.datasets import AmodalDataset
from sameo_core.errors import InputError
from sameo_core.front_ends import Detections, FrontEnd
from sameo_core.masks import encode_mask
from sameo_core.sameo import AmodalPrediction, Sameo

Results = list[dict]  # COCO results
OWN_VISIBLE, OWN_AMODAL = "own visible masks", "own amodal masks"  # in the place of a model's name, see below


def predict_dataset(
    models: Mapping[str, Sameo], dataset: AmodalDataset, front_ends: Mapping[str, FrontEnd]
) -> dict[tuple[str, str], Results]:
    """Amodal masks of every box of every front-end, by every model; all models share one image encoder.

    Args:
        models: name -> SAMEO; they may differ in the mask decoder only.
        dataset: images.
        front_ends: name -> boxes of an image.

    Returns:
        (model's name, front-end's name) -> COCO results in the order of images and boxes: `image_id`, `category_id`,
        `segmentation` (RLE), `score` = front-end score x predicted IoU, and `front_end_score`, `predicted_iou`,
        `box` (xyxy), `instance_id` (of the annotated object a box was made from, else -1), `visible_mask` (RLE) where
        the front-end has masks. For such front-ends also (`OWN_VISIBLE`, front-end's name), or `OWN_AMODAL` where it
        draws whole objects: its masks as they are, with its scores.

    Raises:
        InputError: no model; models whose image encoders differ; unreadable images.
    """
    if not models:
        raise InputError(file="models", rule="at least one model, found none", remedy="Pass {name: Sameo.load(...)}")
    first, *others = models.values()
    for other in others:
        check_same_encoder(first, other)
    results: dict[tuple[str, str], Results] = {(m, f): [] for m in models for f in front_ends}
    for image in tqdm(dataset, desc=f"predicting {dataset.name} {dataset.split}", unit="image"):
        embedding = first.embed(image.read())
        for front_end_name, front_end in front_ends.items():
            found = front_end(image)
            if found.masks is not None or found.amodal_masks is not None:
                kind = OWN_VISIBLE if found.amodal_masks is None else OWN_AMODAL
                results.setdefault((kind, front_end_name), []).extend(own_masks(image.image_id, found))
            for model_name, model in models.items():
                size = (image.height, image.width)
                prediction = model.predict_embedded(embedding, size, found.boxes, found.scores)
                results[model_name, front_end_name] += coco_results(image.image_id, found, prediction)
    return results


def own_masks(image_id: int | str, found: Detections) -> Results:
    """A front-end's own masks as COCO results: amodal ones where it has them, else the visible ones as they are."""
    masks = found.masks if found.amodal_masks is None else found.amodal_masks
    return [_record(image_id, found, i) | {"segmentation": mask} for i, mask in enumerate(masks or ())]


def without_rescoring(results: Results) -> Results:
    """The same masks, scored by their front-end alone: what IoU re-scoring is compared with."""
    return [result | {"score": result["front_end_score"]} for result in results]


def coco_results(image_id: int | str, found: Detections, prediction: AmodalPrediction) -> Results:
    """One image's objects as COCO results, in the order of the boxes; the keys as in `predict_dataset`."""
    return [
        _record(image_id, found, i)
        | {
            "segmentation": encode_mask(prediction.masks[i]),
            "score": float(prediction.scores[i]),
            "predicted_iou": float(prediction.iou[i]),
        }
        for i in range(len(found.boxes))
    ]


def _record(image_id: int | str, found: Detections, i: int) -> dict:
    """What a front-end says of its detection number i."""
    record = {
        "image_id": image_id,
        "category_id": int(found.category_ids[i]),
        "score": float(found.scores[i]),
        "front_end_score": float(found.scores[i]),
        "box": [round(float(v), 2) for v in found.boxes[i]],
        "instance_id": int(found.instance_ids[i]),
    }
    return record if found.masks is None else record | {"visible_mask": found.masks[i]}


def check_same_encoder(a: Sameo, b: Sameo) -> None:
    """Raises InputError where the embedding of an image by one is not that by the other."""
    ours, theirs = a.model.image_encoder.state_dict(), b.model.image_encoder.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
        rule = "models that are compared in one pass share their image encoder, found two different ones"
        raise InputError(file="models", rule=rule, remedy="Look at those with another encoder by themselves")
