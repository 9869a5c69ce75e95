"""Live detectors as front-ends: torchvision's models and, through `supervision`, those of most other toolboxes.

    detector = load_detector("maskrcnn_resnet50_fpn_v2")             # or "everything"; or "nano" (drawn world)
    found = detector.detect(image)                                   # Detections, masks included
    predict_dataset({"SAMEO": model}, dataset, {"Mask R-CNN": detector})

A detector caches the detections of the last image, so variants of it (`jittered(detector, 0.1)`) do not run it again.
torchvision is imported only where a detector is made, since that takes seconds.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from sameo_core.arrays import Image
from sameo_core.config import config_hash
from sameo_core.datasets import AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends.base import (
    CategoryMap,
    Detections,
    FrontEnd,
    ImageDetector,
    check_limits,
    check_scores,
    map_categories,
    strongest,
)
from sameo_core.front_ends.everything import EVERYTHING, EverythingDetector
from sameo_core.masks import RLE, encode_mask
from sameo_core.model import Sameo
from sameo_core.model.boxes import as_array
from sameo_core.model.checkpoints import fingerprint_weights, read_weights
from sameo_core.model.sameo import check_image, default_device

MASKS = ("masks", "visible_masks")  # in a model's output; the second only from `amodal_rcnn`
MASK_THRESHOLD = 0.5  # of Mask R-CNN's probabilities, as in its paper (section 3.1)
NANO = "nano"  # the miniature's detector: Mask R-CNN, one class; it knows drawn shapes only


# ---------------------------------------------------------------------------------------------- torchvision's models


class LiveDetector(ImageDetector):
    """A detection model of torchvision as a front-end: call it on an image of a data set, or `detect` in an array.

    Args:
        model: it is put into evaluation mode on `device` (by default a GPU if there is one), with these thresholds.
        categories: label -> name.
        min_score, max_per_image: weaker detections, and all but the strongest, are left out.
        name: for notes and titles.
    """

    def __init__(
        self,
        model: nn.Module,
        categories: Mapping[int, str],
        min_score: float | int = 0.05,
        max_per_image: int = 100,
        device: str | torch.device | None = None,
        name: str = "detector",
    ):
        check_limits(min_score, max_per_image)
        self.name = name
        self.device = torch.device(device) if device else default_device()
        self.model = model.eval().to(self.device)
        self.categories, self.min_score, self.max_per_image = dict(categories), min_score, max_per_image
        head = getattr(model, "roi_heads", model)  # R-CNNs have the thresholds here, others at the top
        head.score_thresh, head.detections_per_img = min_score, max_per_image

    @torch.inference_mode()
    def detect(self, image: Image) -> Detections:
        """Detections in an image, highest score first; instance ids are -1.

        A model's `masks` are visible masks, or amodal ones if it returns `visible_masks` as well.

        Raises:
            InputError: not an 8-bit RGB image.
        """
        check_image(image)
        size = image.shape[:2]
        pixels = torch.from_numpy(np.array(image, order="C")).to(self.device).permute(2, 0, 1) / 255
        found = {key: value.cpu() for key, value in self._answer(pixels).items()}
        boxes, scores, labels = (found[key].numpy() for key in ("boxes", "scores", "labels"))
        rows = np.arange(len(boxes))
        all_found = Detections(boxes.astype(np.float32), scores.astype(np.float32), labels.astype(int), rows)
        best = strongest(all_found, size, self.min_score, self.max_per_image)
        rows = best.instance_ids
        own = {name: _full_size(found[name][rows], found["boxes"][rows], size) for name in MASKS if name in found}
        visible, amodal = own.get("visible_masks", own.get("masks")), own.get("masks") if len(own) == 2 else None
        return replace(best, instance_ids=np.full(len(rows), -1), masks=visible, amodal_masks=amodal)

    def _answer(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The model's output with masks "n 1 28 28" inside the boxes: at full size they would fill the memory."""
        transform: Any = self.model.transform
        postprocess = transform.postprocess
        small: dict[str, torch.Tensor] = {}

        def keep_masks_small(found: list[dict[str, torch.Tensor]], *sizes: object) -> list[dict[str, torch.Tensor]]:
            small.update({name: found[0].pop(name) for name in MASKS if name in found[0]})
            return postprocess(found, *sizes)

        transform.postprocess = keep_masks_small
        try:
            (found,) = self.model([pixels])
        finally:
            del transform.postprocess  # restores the class's own
        return found | small

    def fingerprint(self) -> str:
        """Eight hexadecimal digits of weights, thresholds and category names."""
        return config_hash(fingerprint_weights(self.model), self.min_score, self.max_per_image, self.categories)


def _full_size(
    masks: Float[torch.Tensor, "n 1 s s"], boxes: Float[torch.Tensor, "n 4"], size: tuple[int, int]
) -> tuple[RLE, ...]:
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rows = [slice(i, i + 1) for i in range(len(masks))]
    full = (paste_masks_in_image(masks[row], boxes[row], size)[0, 0] for row in rows)  # one by one: they are large
    return tuple(encode_mask((mask >= MASK_THRESHOLD).numpy()) for mask in full)


Detector = LiveDetector | EverythingDetector


def load_detector(
    name: str = NANO,
    weights: str | Path | None = None,
    *,
    categories: Mapping[int, str] | None = None,
    min_score: float | int = 0.05,
    max_per_image: int = 100,
    device: str | torch.device | None = None,
) -> Detector:
    """A detector by name: "everything", "nano", or one of torchvision's, e.g. "fasterrcnn_resnet50_fpn_v2".

    Args:
        name: of the architecture. "everything" is SAM's automatic masks: no categories, no detector needed.
        weights: torchvision's name ("DEFAULT" or "COCO_V1"; fetched once, into PyTorch's cache), or the path of a
            checkpoint of this architecture: .safetensors, or a state dict in .pt or .pth, bare or in a training
            checkpoint; no code in it is executed. For everything: as for `Sameo.load` (default: "photo_base").
        categories: label -> name for a checkpoint, labels from 1; by default COCO's, or nano's one, "object".
        min_score, max_per_image, device: see `LiveDetector`.

    Raises:
        InputError: unknown name or weights; weights that cannot be fetched; a checkpoint that is missing, damaged, or
            of another architecture or number of classes; labels that do not count from 1; bad limits.
    """
    check_limits(min_score, max_per_image)  # before anything is fetched
    if categories is not None and not all(isinstance(label, Integral) and label > 0 for label in categories):
        rule = f"a name for each label, labels from 1, found {categories!r:.150}"
        raise InputError(file="categories", rule=rule, remedy='Give {1: "cup", 2: "plate"}')
    if name == EVERYTHING:
        sameo = Sameo.load(weights or "photo_base", device=device)
        return EverythingDetector(sameo, min_score=min_score, max_per_image=max_per_image)
    if name == NANO:
        from sameo_core.miniature.nano_detector import load_nano_detector

        model = load_nano_detector(weights)
        return LiveDetector(model, categories or {1: "object"}, min_score, max_per_image, device, name)
    model, coco = _torchvision_model(name, str(weights or "DEFAULT"), categories)
    return LiveDetector(model, categories or coco, min_score, max_per_image, device, name)


def _torchvision_model(
    name: str, weights: str, categories: Mapping[int, str] | None
) -> tuple[nn.Module, dict[int, str]]:
    """A torchvision model with published or own weights, and COCO's label -> name."""
    from torchvision.models import detection, get_model_weights, list_models

    if name not in list_models(module=detection):
        rule = f"a detector is one of {', '.join((EVERYTHING, NANO, *list_models(module=detection)))}, found {name!r}"
        raise InputError(file="detector", rule=rule, remedy="Choose one of these names")
    published = get_model_weights(name)
    names = published.DEFAULT.meta["categories"]  # the first is the background; COCO's ids have gaps
    coco = {i: said for i, said in enumerate(names) if i and said != "N/A"}
    if weights in published.__members__:
        return _published_model(name, published[weights]), coco
    if Path(weights).suffix in (".pt", ".pth", ".safetensors") or Path(weights).exists():
        return _own_model(name, Path(weights), 1 + max(categories) if categories else len(names)), coco
    rule = f"weights of {name} are {', '.join(published.__members__)} or the path of a checkpoint, found {weights!r}"
    raise InputError(file="detector weights", rule=rule, remedy="Give one of these")


def _published_model(name: str, weights: Any) -> nn.Module:
    from torchvision.models import get_model

    try:
        return get_model(name, weights=weights, weights_backbone=None)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:  # no connection, or a damaged file
        cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        remedy = f"Check the connection; or fetch it elsewhere and save it as {cache}"
        rule = f"cannot be fetched or read ({type(error).__name__}: {str(error):.150})"
        raise InputError(file=weights.url, rule=rule, remedy=remedy) from error


def _own_model(name: str, path: Path, classes: int) -> nn.Module:
    from torchvision.models import get_model

    state = read_weights(path, counters=True)
    model = get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        rule = f"not a checkpoint of {name} with {classes - 1} classes ({' '.join(str(error).split()):.200})"
        remedy = "Give the checkpoint's architecture, and its categories={label: name, ...}"
        raise InputError(file=path, rule=rule, remedy=remedy) from error
    return model


# ---------------------------------------------------------------------------------------------- other toolboxes


def from_supervision(found: Any, category_map: CategoryMap | None = None) -> Detections:
    """Convert `supervision.Detections`; the package itself is not needed.

    Args:
        found: with `xyxy` "n 4" in pixels, and `confidence`, `class_id` (None: all 1) and `mask` ("n h w" or None).
        category_map: {class id: the data set's id, or None to leave it out}, or "coco80_to_91": most toolboxes count
            COCO's 80 classes from 0. By default the ids stay as they are.

    Raises:
        InputError: something else; boxes that are not finite; scores outside 0..1; a class that the map lacks.
    """
    try:
        boxes = as_array(found.xyxy, np.float32)
        n = len(boxes)
        scores = np.ones(n, np.float32) if found.confidence is None else as_array(found.confidence, np.float32)
        ids = np.ones(n, int) if found.class_id is None else as_array(found.class_id, int)
        masks = None if found.mask is None else as_array(found.mask, bool)
    except (AttributeError, TypeError, ValueError) as error:
        rule = f"supervision.Detections, found {type(found).__name__} ({error})"
        remedy = "Convert the toolbox's own answer first, e.g. supervision.Detections.from_ultralytics(answer)"
        raise InputError(file="detections", rule=rule, remedy=remedy) from error
    shapes = [None if column is None else column.shape for column in (boxes, scores, ids, masks)]
    fitting = shapes[:3] == [(n, 4), (n,), (n,)] and (masks is None or (masks.ndim, len(masks)) == (3, n))
    if not fitting or not np.isfinite(boxes).all():
        rule = f"finite xyxy (n, 4), confidence (n,), class_id (n,), mask (n, h, w), found the shapes {shapes}"
        remedy = "Give x0, y0, x1, y1, and the others one per box; NaN says that the detector failed"
        raise InputError(file="detections", rule=rule, remedy=remedy)
    scores = check_scores(scores, "detections")
    ids, kept = map_categories(ids, category_map, "detections")
    rles = None if masks is None else tuple(map(encode_mask, masks))
    return Detections(boxes, scores, ids, np.full(n, -1), rles).take(np.flatnonzero(kept))


def supervision_front_end(
    detect: Callable[[Image], object], converter: str | None = None, *, category_map: CategoryMap | None = None
) -> FrontEnd:
    """A front-end from any detector whose output `supervision` can convert; the 100 strongest detections are kept.

        supervision_front_end(YOLO("yolo11n-seg.pt"), "ultralytics", category_map="coco80_to_91")

    Args:
        detect: called on an RGB image; for toolboxes that want BGR give `lambda image: model(image[..., ::-1])`.
        converter: `supervision`'s name of the toolbox, as in `from_<name>`: "ultralytics", "mmdetection",
            "detectron2", "transformers", "inference", ... None: `detect` returns `supervision.Detections`.
        category_map: see `from_supervision`.

    Raises:
        InputError: the package or the converter is missing, or does not take an answer.
    """
    convert = _converter(converter) if converter else None

    def front_end(image: AmodalImage) -> Detections:
        answer = detect(image.read())
        try:
            answer = convert(answer) if convert else answer
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # Grounding DINO's labels are text
            rule = f"an answer that from_{converter} takes, found {type(answer).__name__} ({error})"
            raise InputError(file="detections", rule=rule, remedy="Give tensors, labels as numbers") from error
        found = from_supervision(answer, category_map)
        return strongest(found, (image.height, image.width), min_score=0, most=100)

    return front_end


def _converter(name: str) -> Callable[[object], object]:
    try:
        import supervision
    except ImportError as error:
        remedy = 'Install it: pip install -e ".[detectors]"; or leave the converter out and return its result'
        raise InputError(file="supervision", rule="its converters need the package", remedy=remedy) from error
    converters = {key.removeprefix("from_") for key in dir(supervision.Detections) if key.startswith("from_")}
    if name not in converters:
        rule = f"supervision {supervision.__version__} converts from {', '.join(sorted(converters))}, found {name!r}"
        raise InputError(file="converter", rule=rule, remedy="Give one of these, or convert in `detect` yourself")
    return getattr(supervision.Detections, f"from_{name}")
