"""First stage of Amodal-LVIS: find complete objects by a teacher SAMEO and a few named rules.

The paper: a SAMEO trained on the amodal sets predicts an amodal mask for every instance of LVIS and LV-VIS; if it
agrees with the annotated visible mask, the object is complete. The measures of every candidate are kept, so that
thresholds can change without running the teacher again.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt16
from scipy import ndimage
from tqdm import tqdm

from sameo_core.arrays import AmodalMask, VisibleMask
from sameo_core.config import CompletenessConfig, config_hash
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.masks import mask_box, mask_iou
from sameo_core.model import Sameo
from sameo_core.model.sameo import reuse_memory
from sameo_core.synthesis.pool import RULES, RULES_OF_THE_TEACHER, Pool, join_pools

CHUNK = 256  # images per file of the record


def collect_complete_objects(
    teacher: Sameo | None, dataset: AmodalDataset, config: CompletenessConfig, folder: str | Path
) -> Pool:
    """All objects of a data set, measured and judged: paper, section "Amodal-LVIS", first stage.

    The teacher judges the objects that pass the geometric rules; each image is encoded once, and its visible boxes are
    decoded together. Occluders that LVIS does not annotate do no harm: the teacher sees pixels and completes an object
    behind any occluder, so its mask disagrees with the annotation.

    Args:
        teacher: a SAMEO; None: geometry alone judges, for the first pool.
        dataset: needs visible masks only.
        config: thresholds; all objects are kept, see `Pool.complete`.
        folder: for the measures, one file per 256 images. An interrupted call resumes; damaged files are made again.

    Raises:
        InputError: an image is missing or damaged.
    """
    asked = replace(config, min_agreement=0.0, max_predicted_hidden=0.0, ask_teacher=True)
    key = config_hash(dataset.fingerprint(), *((teacher.fingerprint(), asked) if teacher else ()))
    record = Path(folder) / f"{dataset.name}-{dataset.split}-{key}"
    reuse_memory()
    parts = []
    for start in tqdm(range(0, len(dataset), CHUNK), desc=f"objects of {dataset.name} {dataset.split}", unit="chunk"):
        path = record / f"{start:07d}.npz"
        try:
            part = Pool.load(path)
        except InputError:
            images = [dataset[i] for i in range(start, min(start + CHUNK, len(dataset)))]
            part = _measure_geometry(dataset, images)
            part = _ask_teacher(teacher, part, images, config) if teacher else part
            part.save(path)
        parts.append(part)
    return join_pools(parts).judged(config)


def _measure_geometry(dataset: AmodalDataset, images: Sequence[AmodalImage]) -> Pool:
    """The objects of some images, before `_ask_teacher` and `Pool.judged`."""
    rows = [{"image": number} | row for number, image in enumerate(images) for row in _objects(image)]
    counts = [row["counts"].encode() for row in rows]
    integers = ("image", "annotation_id", "category_id", "area", "frame_gap")
    shares = ("largest_part", "core_share", "free_ring")
    return Pool(
        source=np.array([dataset.name]),
        split=np.array([dataset.split]),
        root=np.array([str(Path(dataset.root).resolve())]),
        category_ids=np.array(list(dataset.categories), np.int64),
        category_names=np.array(list(dataset.categories.values()), str),
        image_source=np.zeros(len(images), np.int64),
        image_id=np.array([image.image_id for image in images], np.int64),
        image_file=np.array([Path(os.path.relpath(image.path, dataset.root)).as_posix() for image in images], str),
        image_size=np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        counts=np.frombuffer(b"".join(counts), np.uint8),
        end=np.cumsum([len(item) for item in counts], dtype=np.int64),
        box=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        agreement=np.ones(len(rows), np.float32),
        predicted_hidden=np.zeros(len(rows), np.float32),
        rule=np.zeros(len(rows), np.int64),
        **{name: np.array([row[name] for row in rows], np.int64) for name in integers},
        **{name: np.array([row[name] for row in rows], np.float32) for name in shares},
    )


def _objects(image: AmodalImage) -> Iterator[dict]:
    """For each object of an image, the columns of a pool that do not depend on a teacher."""
    masks = [item.visible for item in image.instances]
    cover = np.asarray(np.sum(masks, axis=0, dtype=np.uint16))  # objects per pixel
    for item, visible in zip(image.instances, masks, strict=True):
        x0, y0, x1, y1 = item.visible_box.astype(int).tolist()
        yield {
            "annotation_id": item.instance_id,
            "category_id": item.category_id,
            "counts": item.visible_rle["counts"],
            "box": item.visible_box,
            "area": np.count_nonzero(visible),
            "frame_gap": min(x0, y0, image.width - x1, image.height - y1),
            **_outline_measures(visible[y0:y1, x0:x1]),
            "free_ring": _free_ring(visible, cover, (x0, y0, x1, y1)),
        }


def _ask_teacher(teacher: Sameo, pool: Pool, images: Sequence[AmodalImage], config: CompletenessConfig) -> Pool:
    """The pool with the teacher's measures of the objects that pass the geometric rules; NaN for the others."""
    agreement, hidden = (np.full(len(pool), np.nan, np.float32) for _ in range(2))
    candidates = np.flatnonzero(pool.judged(config).rule == 0)
    for number in tqdm(np.unique(pool.image[candidates]).tolist(), leave=False, unit="image"):
        rows, image = candidates[pool.image[candidates] == number], images[number]
        embedding, size = teacher.embed(image.read()), (image.height, image.width)
        passes = teacher.predict_in_passes(embedding, size, pool.box[rows])
        masks = (mask for part in passes for mask in part.masks)
        for row, predicted in zip(rows.tolist(), masks, strict=True):
            visible = pool.mask(row)
            agreement[row], hidden[row] = mask_iou(visible, predicted), hidden_share(visible, predicted)
    return replace(pool, agreement=agreement, predicted_hidden=hidden)


# ---------------------------------------------------------------------------------------------------- measures


def hidden_share(visible: VisibleMask, predicted: AmodalMask) -> float:
    """Hidden pixels according to a predicted mask / pixels of the visible mask.

    Two masks of one object differ all along its outline, which is no hidden part. So only what an opening leaves
    counts; its square has 6 % of the object's side (the root of its area), at least 3 pixels.
    """
    added = predicted & ~visible
    if not added.any():
        return 0.0
    area = np.count_nonzero(visible)
    side = max(3, 2 * round(0.03 * area**0.5) + 1)
    x0, y0, x1, y1 = mask_box(added).astype(int).tolist()
    crop = np.pad(added[y0:y1, x0:x1], side)
    blobs = ndimage.maximum_filter(ndimage.minimum_filter(crop, side), side)
    return np.count_nonzero(blobs) / area


def _free_ring(
    visible: VisibleMask, cover: UInt16[np.ndarray, "h w"], box: tuple[int, int, int, int], width: int = 4
) -> float:
    """Share of a ring of `width` pixels around a mask that no other object covers; the frame cuts the ring."""
    x0, y0, x1, y1 = box
    window = slice(max(0, y0 - width), y1 + width), slice(max(0, x0 - width), x1 + width)
    ring = ndimage.maximum_filter(visible[window], 2 * width + 1) & ~visible[window]
    return 1.0 if not ring.any() else float((cover[window][ring] == 0).mean())


def _outline_measures(mask: VisibleMask) -> dict[str, float]:
    """Shares of a mask's pixels: in its largest 8-connected part, and left by an opening of 5 x 5 pixels."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    parts = np.bincount(labels.ravel())[1:]
    core = ndimage.binary_opening(np.pad(mask, 3), np.ones((5, 5)))
    return {"largest_part": parts.max() / parts.sum(), "core_share": np.count_nonzero(core) / parts.sum()}


# ---------------------------------------------------------------------------------------------------- precision, recall


class CurvePoint(NamedTuple):
    """Precision and recall at one threshold of agreement."""

    threshold: float
    precision: float  # complete ones / kept; 1 where none is kept
    recall: float  # kept ones / complete ones
    kept: int


def completeness_curve(
    pool: Pool, hidden: Mapping[int, float], config: CompletenessConfig, tolerance: float | int = 0.0
) -> list[CurvePoint]:
    """Precision and recall of "complete" at thresholds of agreement 0.50, 0.51, ..., 0.99, given the ground truth.

    All other rules still apply. Recall is over the complete objects that pass the geometric rules.

    Args:
        pool: all objects of one data set, as `collect_complete_objects` returned them.
        hidden: annotation id -> true hidden share, NaN if cut by the frame: `miniature.hidden_shares`.
        config: thresholds of the other rules.
        tolerance: the largest hidden share that still counts as complete.

    Raises:
        InputError: no object is complete.
    """
    candidates = ~np.any([RULES[name](pool, config) for name in RULES if name not in RULES_OF_THE_TEACHER], axis=0)
    shares = np.array([hidden[i] for i in pool.annotation_id.tolist()], float)
    complete = (shares <= tolerance) & candidates  # False for NaN
    if not complete.any():
        rule = f"at least one complete object among {candidates.sum()} candidates"
        raise InputError(file="hidden", rule=rule, remedy="Give a larger data set, or weaker rules")
    candidates &= ~RULES["teacher sees a hidden part"](pool, config)
    points = []
    for threshold in np.arange(50, 100) / 100:
        kept = candidates & (pool.agreement >= threshold)
        right, all_kept = int((kept & complete).sum()), int(kept.sum())
        precision = right / all_kept if all_kept else 1.0
        points.append(CurvePoint(float(threshold), precision, right / int(complete.sum()), all_kept))
    return points
