"""Inference over a data set: each image is read and encoded once for all decoders and front-ends.

The next images are read in the background. Only results are kept, with RLE masks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, cast

import numpy as np
from tqdm import tqdm

from sameo_core.arrays import Images
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends.base import Detections, FrontEnd
from sameo_core.masks import are_canonical_rles, encode_mask, segmentation_to_rle
from sameo_core.model import AmodalPrediction, Sameo
from sameo_core.model.sameo import reuse_memory
from sameo_core.training import EmbeddingCache

Results = list[dict]  # COCO results
OWN_VISIBLE, OWN_AMODAL = "own visible masks", "own amodal masks"  # in the place of a model's name, see below
AHEAD = 2  # images read before they are needed


class _Prepared(NamedTuple):
    """An image prepared in the background."""

    image: AmodalImage
    pixels: Images | None  # what `stretch` makes of it; None: its embedding may be kept
    found: dict[str, Detections]  # by the front-end's name


def predict_dataset(
    models: Mapping[str, Sameo],
    dataset: AmodalDataset,
    front_ends: Mapping[str, FrontEnd],
    embeddings: EmbeddingCache | None = None,
) -> dict[tuple[str, str], Results]:
    """Amodal masks of every box of every front-end, by every model; all models share one image encoder.

    Args:
        models: name -> SAMEO; they may differ in the mask decoder only.
        dataset: images.
        front_ends: name -> boxes of an image; called in another thread, one image after another.
        embeddings: where the images' embeddings are kept, of the same encoder; None: they are made anew.

    Returns:
        (model's name, front-end's name) -> COCO results in the order of images and boxes: `image_id`, `category_id`,
        `segmentation` (RLE), `score` = front-end score x predicted IoU (`without_rescoring` undoes that), and
        `front_end_score`, `predicted_iou`, `box` (xyxy), `instance_id` (of the annotated object a box was made from,
        else -1), and, of front-ends that have masks, `visible_mask` (RLE), their own. For such front-ends also
        (`OWN_VISIBLE`, front-end's name), or `OWN_AMODAL` where it draws whole objects: its masks and scores as they
        are, without SAMEO.

    Raises:
        InputError: no model; models whose image encoders differ; unreadable images; a front-end's masks that are not of
            their image's size, as soon as there is one.
    """
    if not models:
        raise InputError(file="models", rule="at least one model, found none", remedy="Pass {name: Sameo.load(...)}")
    first, *others = models.values()
    for other in others:
        check_same_encoder(first, other)

    def prepare(number: int) -> _Prepared:
        image = dataset[number]
        pixels = None if embeddings else first.stretch(image.read())
        return _Prepared(image, pixels, {name: _checked(find(image), image, name) for name, find in front_ends.items()})

    reuse_memory()
    results: dict[tuple[str, str], Results] = {(m, f): [] for m in models for f in front_ends}
    bar = tqdm(total=len(dataset), desc=f"predicting {dataset.name} {dataset.split}", unit="image")
    with bar:
        for image, pixels, detections in _prefetch(prepare, range(len(dataset))):
            size = (image.height, image.width)
            if pixels is None:
                embedding = cast(EmbeddingCache, embeddings).embed([image]).to(first.device)
            else:
                embedding = first.embed_stretched(pixels)
            for front_end, found in detections.items():
                if found.masks is not None or found.amodal_masks is not None:
                    kind = OWN_VISIBLE if found.amodal_masks is None else OWN_AMODAL
                    results.setdefault((kind, front_end), []).extend(own_masks(image.image_id, found))
                annotated = "xyxy" if (found.instance_ids >= 0).all() else None  # pixels, however small the object
                for name, model in models.items():
                    start = 0
                    for part in model.predict_in_passes(embedding, size, found.boxes, found.scores, annotated):
                        results[name, front_end] += result_records(image.image_id, found, part, start)
                        start += len(part.iou)
            bar.update()
    return results


def _checked(found: Detections, image: AmodalImage, front_end: str) -> Detections:
    size = image.height, image.width
    masks = [*(found.masks or ()), *(found.amodal_masks or ())]
    for row in np.flatnonzero(~are_canonical_rles(masks, [size] * len(masks))):
        try:
            segmentation_to_rle(masks[row], *size)
        except InputError as error:
            file, record = f"front-end {front_end}", f"image {image.image_id}"
            raise InputError(file=file, record=record, rule=error.rule, remedy=error.remedy) from error
    return found


def result_records(image_id: int | str, found: Detections, prediction: AmodalPrediction, start: int = 0) -> Results:
    """One image's objects as COCO results, in the order of the boxes; the keys as in `predict_dataset`.

    Args:
        image_id: of the image.
        found: what the front-end found in it.
        prediction: of all its boxes, or of some that follow each other.
        start: which box is the first of `prediction`.
    """
    results = []
    rows = zip(prediction.masks, prediction.iou, prediction.scores, strict=True)
    for i, (mask, iou, score) in enumerate(rows, start):
        own = {"segmentation": encode_mask(mask), "score": float(score), "predicted_iou": float(iou)}
        results.append(_front_end_result(image_id, found, i) | own)
    return results


def own_masks(image_id: int | str, found: Detections) -> Results:
    """A front-end's own masks as COCO results: amodal ones where it has them, else the visible ones as they are."""
    masks = found.masks if found.amodal_masks is None else found.amodal_masks
    return [_front_end_result(image_id, found, i) | {"segmentation": mask} for i, mask in enumerate(masks or ())]


def without_rescoring(results: Results) -> Results:
    """The same results with the front-end's scores alone, without the predicted IoU."""
    return [result | {"score": result["front_end_score"]} for result in results]


def _front_end_result(image_id: int | str, found: Detections, i: int) -> dict:
    score = float(found.scores[i])
    result = {
        "image_id": image_id,
        "category_id": int(found.category_ids[i]),
        "score": score,
        "front_end_score": score,
        "box": [round(float(v), 2) for v in found.boxes[i]],
        "instance_id": int(found.instance_ids[i]),
    }
    return result if found.masks is None else result | {"visible_mask": found.masks[i]}


def _prefetch(work: Callable[[int], _Prepared], numbers: Iterable[int]) -> Iterator[_Prepared]:
    """`work` of each number, in a background thread up to `AHEAD` ahead; errors surface in order."""
    with ThreadPoolExecutor(1) as thread:
        try:
            waiting: deque[Future[_Prepared]] = deque()
            for number in numbers:
                waiting.append(thread.submit(work, number))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # a consumer that stops waits for one image at most
            thread.shutdown(wait=False, cancel_futures=True)


def check_same_encoder(a: Sameo, b: Sameo) -> None:
    """Raise InputError unless the two models share their image encoder."""
    if not a.shares_encoder(b):
        rule = "models that are compared in one pass share their image encoder, found two different ones"
        raise InputError(file="models", rule=rule, remedy="Look at those with another encoder by themselves")
