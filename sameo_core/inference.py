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
        `box` (xyxy), `instance_id` (of the annotated object a box was made from, else -1).

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
            for model_name, model in models.items():
                size = (image.height, image.width)
                prediction = model.predict_embedded(embedding, size, found.boxes, found.scores)
                results[model_name, front_end_name] += coco_results(image.image_id, found, prediction)
    return results


def coco_results(image_id: int | str, found: Detections, prediction: AmodalPrediction) -> Results:
    """One image's objects as COCO results, in the order of the boxes; the keys as in `predict_dataset`."""
    return [
        {
            "image_id": image_id,
            "category_id": int(found.category_ids[i]),
            "segmentation": encode_mask(prediction.masks[i]),
            "score": float(prediction.scores[i]),
            "front_end_score": float(found.scores[i]),
            "predicted_iou": float(prediction.iou[i]),
            "box": [round(float(v), 2) for v in found.boxes[i]],
            "instance_id": int(found.instance_ids[i]),
        }
        for i in range(len(found.boxes))
    ]


def check_same_encoder(a: Sameo, b: Sameo) -> None:
    """Raises InputError where the embedding of an image by one is not that by the other."""
    ours, theirs = a.model.image_encoder.state_dict(), b.model.image_encoder.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
        rule = "models that are compared in one pass share their image encoder, found two different ones"
        raise InputError(file="models", rule=rule, remedy="Look at those with another encoder by themselves")
