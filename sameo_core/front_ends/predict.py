"""Inference over a data set: each image is read and encoded once for all decoders and front-ends."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

from tqdm import tqdm

from sameo_core.arrays import Image
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends.base import Detections, FrontEnd
from sameo_core.masks import encode_mask
from sameo_core.model import AmodalPrediction, Sameo
from sameo_core.model.sameo import reuse_memory
from sameo_core.training import EmbeddingCache

Results = list[dict]  # COCO results
OWN_VISIBLE, OWN_AMODAL = "own visible masks", "own amodal masks"  # of a front-end; stand in for a model's name
AHEAD = 2  # images read before they are needed


# An image prepared in the background: its pixels (None: its embedding may be cached), detections by front-end.
_Prepared = tuple[AmodalImage, Image | None, dict[str, Detections]]


def predict_dataset(
    models: Mapping[str, Sameo],
    dataset: AmodalDataset,
    front_ends: Mapping[str, FrontEnd],
    embeddings: EmbeddingCache | None = None,
) -> dict[tuple[str, str], Results]:
    """Amodal masks for every box of every front-end, by every model.

    Args:
        models: they share the image encoder.
        front_ends: called in another thread, one image after another.
        embeddings: cache of the images' embeddings by the same encoder.

    Returns:
        (model, front-end) -> COCO results in the order of images and boxes: `image_id`, `category_id`, `segmentation`
        (RLE), `score` = front-end score x predicted IoU, `front_end_score`, `predicted_iou`, `box` (xyxy),
        `instance_id` (of the annotated object that a box was made from, else -1) and, if the front-end has masks,
        `visible_mask` (RLE). For such front-ends also (`OWN_VISIBLE`, front-end), or `OWN_AMODAL` if it predicts amodal
        masks: its own masks and scores, without SAMEO.

    Raises:
        InputError: no model; different image encoders; unreadable images; a front-end's masks of another size.
    """
    if not models:
        raise InputError(file="models", rule="at least one model, found none", remedy="Pass {name: Sameo.load(...)}")
    check_same_encoder(*models.values())
    first = next(iter(models.values()))

    def prepare(number: int) -> _Prepared:
        image = dataset[number]
        pixels = None if embeddings else image.read()
        return image, pixels, {name: _checked(find(image), image, name) for name, find in front_ends.items()}

    reuse_memory()
    results: dict[tuple[str, str], Results] = {(m, f): [] for m in models for f in front_ends}
    with tqdm(total=len(dataset), desc=f"predicting {dataset.name} {dataset.split}", unit="image") as bar:
        for image, pixels, detections in _prefetch(prepare, range(len(dataset))):
            size = (image.height, image.width)
            embedding = cast(EmbeddingCache, embeddings).embed([image]) if pixels is None else first.embed(pixels)
            for front_end, found in detections.items():
                if found.masks is not None or found.amodal_masks is not None:
                    kind = OWN_VISIBLE if found.amodal_masks is None else OWN_AMODAL
                    results.setdefault((kind, front_end), []).extend(_own_results(image.image_id, found))
                annotated = "xyxy" if (found.instance_ids >= 0).all() else None  # pixels, even of a tiny object
                for name, model in models.items():
                    start = 0
                    for part in model.predict_in_passes(embedding, size, found.boxes, found.scores, annotated):
                        results[name, front_end] += result_records(image.image_id, found, part, start)
                        start += len(part.iou)
            bar.update()
    return results


def _own_results(image_id: int, found: Detections) -> Results:
    """The front-end's own masks as results, the amodal ones if it has any."""
    own = found.amodal_masks or found.masks or ()
    return [_front_end_result(image_id, found, i) | {"segmentation": mask} for i, mask in enumerate(own)]


def _checked(found: Detections, image: AmodalImage, front_end: str) -> Detections:
    size = [image.height, image.width]
    for mask in (*(found.masks or ()), *(found.amodal_masks or ())):
        if list(mask["size"]) != size:
            rule = f"masks have the image's (height, width), {size}, found {mask['size']}"
            remedy = "Bring the detector's masks to the size of the image"
            file, record = f"front-end {front_end}", f"image {image.image_id}"
            raise InputError(file=file, record=record, rule=rule, remedy=remedy)
    return found


def result_records(image_id: int | str, found: Detections, prediction: AmodalPrediction, start: int = 0) -> Results:
    """COCO results, as in `predict_dataset`, for consecutive boxes of one image, from box number `start` on."""
    results = []
    rows = zip(prediction.masks, prediction.iou, prediction.scores, strict=True)
    for i, (mask, iou, score) in enumerate(rows, start):
        own = {"segmentation": encode_mask(mask), "score": float(score), "predicted_iou": float(iou)}
        results.append(_front_end_result(image_id, found, i) | own)
    return results


def without_rescoring(results: Results) -> Results:
    """The results with the front-end's scores, not multiplied by the predicted IoU."""
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


def check_same_encoder(first: Sameo, *others: Sameo) -> None:
    """Raise InputError unless the models share their image encoder."""
    if not all(first.shares_encoder(other) for other in others):
        rule = "models that are compared in one pass share their image encoder, found two different ones"
        raise InputError(file="models", rule=rule, remedy="Run those with another encoder separately")
