"""First stage of Amodal-LVIS: which objects are complete, as a teacher SAMEO and a few named rules see it.

The paper: a SAMEO trained on the amodal sets predicts an amodal mask for every instance of LVIS and LV-VIS; where it
agrees with the annotated visible mask, nothing of the object is hidden. What was measured is kept of every candidate,
so that thresholds can be changed without asking the teacher again.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8, UInt16
from scipy import ndimage
from tqdm import tqdm

from sameo_core.arrays import AmodalMask, VisibleMask
from sameo_core.config import CompletenessConfig, config_hash
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.masks import RLE, decode_rle_inside, mask_box
from sameo_core.model import Sameo
from sameo_core.model.sameo import reuse_memory
from sameo_core.runs.atomic import atomic_write

CHUNK = 256  # images between two writings of the record

CroppedMask = Bool[np.ndarray, "oh ow"]  # a mask inside its own box


@dataclass(frozen=True)
class Pool:
    """Objects as columns, one entry each, and the images they are in; light enough for every process to hold.

    `rule` is 0 for complete objects, else 1 + the position in `RULES` of the first rule that excluded it.
    """

    source: Shaped[np.ndarray, " sources"]  # data sets: name, e.g. "lvis"; split; folder that `image_file` starts from
    split: Shaped[np.ndarray, " sources"]
    root: Shaped[np.ndarray, " sources"]
    category_ids: Int64[np.ndarray, " categories"]
    category_names: Shaped[np.ndarray, " categories"]
    image_source: Int64[np.ndarray, " images"]
    image_id: Int64[np.ndarray, " images"]
    image_file: Shaped[np.ndarray, " images"]
    image_size: Int64[np.ndarray, "images 2"]  # height, width
    image: Int64[np.ndarray, " n"]  # of each object, its image's row
    annotation_id: Int64[np.ndarray, " n"]
    category_id: Int64[np.ndarray, " n"]
    counts: UInt8[np.ndarray, " characters"]  # of all visible masks (RLE), one after the other
    end: Int64[np.ndarray, " n"]  # where an object's counts end
    box: Float[np.ndarray, "n 4"]  # of the visible mask, xyxy
    area: Int64[np.ndarray, " n"]  # pixels of the visible mask
    agreement: Float[np.ndarray, " n"]  # IoU of the teacher's amodal mask and the visible mask
    predicted_hidden: Float[np.ndarray, " n"]  # see `hidden_share`
    frame_gap: Int64[np.ndarray, " n"]  # pixels between the mask and the nearest edge of the frame
    largest_part: Float[np.ndarray, " n"]  # share of the mask's pixels in its largest connected part
    core_share: Float[np.ndarray, " n"]  # share of them that an opening of 5 x 5 leaves
    free_ring: Float[np.ndarray, " n"]  # share of a ring of 4 pixels around the mask that no other object covers
    rule: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def categories(self) -> dict[int, str]:
        return dict(zip(self.category_ids.tolist(), self.category_names.tolist(), strict=True))

    def path(self, index: int) -> Path:
        """The image file of an object."""
        row = self.image[index]
        return Path(str(self.root[self.image_source[row]])) / str(self.image_file[row])

    def provenance(self, index: int) -> dict[str, str | int]:
        """Where an object comes from, under the keys of the output format."""
        row = self.image[index]
        return {
            "source_dataset": str(self.source[self.image_source[row]]),
            "source_image_id": int(self.image_id[row]),
            "source_annotation_id": int(self.annotation_id[index]),
        }

    def rle(self, index: int) -> RLE:
        """The mask of an object as RLE of its image's size."""
        start = self.end[index - 1] if index else 0
        counts = self.counts[start : self.end[index]].tobytes().decode("ascii", "replace")
        return {"size": self.image_size[self.image[index]].tolist(), "counts": counts}

    def bounds(self, index: int) -> tuple[int, int, int, int]:
        """The box of an object, xyxy in whole pixels."""
        return tuple(self.box[index].astype(int).tolist())

    def mask(self, index: int) -> VisibleMask:
        """The mask of an object, in its image's frame. Raises InputError if the stored run lengths are damaged."""
        height, width = self.image_size[self.image[index]].tolist()
        x0, y0, x1, y1 = self.bounds(index)
        mask = np.zeros((height, width), bool, order="F")  # as run lengths go
        mask[y0:y1, x0:x1] = self.cropped_mask(index)
        return mask

    def cropped_mask(self, index: int) -> CroppedMask:
        """The mask of an object inside its box. Raises InputError as `mask`."""
        try:
            return decode_rle_inside(self.rle(index), self.bounds(index))
        except InputError as error:
            remedy = "The pool is damaged: collect the objects again"
            raise InputError(file="pool", record=f"object {index}", rule=error.rule, remedy=remedy) from error

    def complete(self) -> "Pool":
        """The objects that no rule excludes, and their images alone."""
        return self.rows(np.flatnonzero(self.rule == 0))

    def of(self, source: str) -> "Pool":
        """The objects of one data set alone."""
        return self.rows(np.flatnonzero(self.source[self.image_source[self.image]] == source))

    def judged(self, config: CompletenessConfig) -> "Pool":
        """The same objects under these thresholds: `rule` anew, from the measures."""
        rule = np.zeros(len(self), np.int64)
        for number, excludes in reversed(list(enumerate(RULES.values(), start=1))):
            rule[excludes(self, config)] = number
        return replace(self, rule=rule)

    def excluded(self) -> dict[str, int]:
        """How many objects each rule excluded, in the order in which the rules are asked; two are often off."""
        counts = {name: int((self.rule == number).sum()) for number, name in enumerate(RULES, start=1)}
        return {name: count for name, count in counts.items() if count or name not in OFTEN_OFF}

    def moved(self, roots: Mapping[str, str | Path]) -> "Pool":
        """The same pool where the data sets lie in other folders: name -> root."""
        root = [str(roots.get(str(name), old)) for name, old in zip(self.source, self.root, strict=True)]
        return replace(self, root=np.array(root))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of what the pool holds, wherever the images lie."""
        digest = hashlib.sha256()
        for item in fields(self):
            if item.name != "root":
                column = getattr(self, item.name)
                is_text = column.dtype.kind == "U"  # padded to the longest, and so no measure of itself
                digest.update(f"{item.name} {column.shape}".encode())
                digest.update(
                    "\n".join(column.tolist()).encode() if is_text else np.ascontiguousarray(column).tobytes()
                )
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> Path:
        """Write all columns to one npz file, without pickle and in one step."""
        path = Path(path)
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, **{item.name: getattr(self, item.name) for item in fields(self)})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Pool":
        """What `save` wrote.

        Raises:
            InputError: the file is missing, or is not a whole pool.
        """
        path = Path(path)
        if not path.is_file():
            rule = "the pool of complete objects must exist"
            raise InputError(file=path, rule=rule, remedy="Collect the objects first, or give another file")
        try:
            with np.load(path, allow_pickle=False) as file:
                if any(member.compress_type for member in file.zip.infolist()):
                    raise ValueError("columns are compressed, which `save` does not do: they could be of any size")
                columns = {item.name: file[item.name] for item in fields(cls)}
            pool = cls(**columns)
            pool._check()
        except Exception as error:  # zip, npy and numpy raise almost anything on a damaged file
            remedy = "The file is damaged, or none of ours: collect the objects again"
            raise InputError(file=path, rule=f"not a pool of objects: {error}", remedy=remedy) from error
        return pool

    def _check(self) -> None:
        """Raises ValueError where columns do not fit each other."""
        n, images, sources = len(self.image), len(self.image_id), len(self.source)
        lengths = {"source": sources, "split": sources, "root": sources, "category_names": len(self.category_ids)}
        lengths |= {name: images for name in ("image_source", "image_file", "image_size")}
        lengths |= {item.name: n for item in fields(self) if item.name in _OBJECT_COLUMNS}
        for name, length in lengths.items():
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries instead of {length}")
        if n and (np.diff(self.end, prepend=0) < 1).any() or (self.end[-1] if n else 0) != len(self.counts):
            raise ValueError("end and counts do not fit each other")
        for name, rows, count in (("image", self.image, images), ("image_source", self.image_source, sources)):
            if len(rows) and not 0 <= rows.min() <= rows.max() < count:
                raise ValueError(f"{name} leads out of its table of {count}")

    def rows(self, rows: Int[np.ndarray, " k"]) -> "Pool":
        """The pool of these objects alone, in this order."""
        used, image = np.unique(self.image[rows], return_inverse=True)
        start = np.concatenate([[0], self.end[:-1]])
        pieces = [self.counts[start[i] : self.end[i]] for i in rows]
        columns = {name: getattr(self, name)[rows] for name in _OBJECT_COLUMNS}
        columns |= {"image": image.astype(np.int64), "end": np.cumsum([len(p) for p in pieces], dtype=np.int64)}
        columns |= {name: getattr(self, name)[used] for name in _IMAGE_COLUMNS}
        return replace(self, counts=np.concatenate([*pieces, np.zeros(0, np.uint8)]), **columns)


_IMAGE_COLUMNS = ("image_source", "image_id", "image_file", "image_size")
_MEASURES = ("area", "agreement", "predicted_hidden", "frame_gap", "largest_part", "core_share", "free_ring")
_OBJECT_COLUMNS = ("image", "annotation_id", "category_id", "end", "box", *_MEASURES, "rule")

# The rules by name, in the order in which they are asked; each says which objects of a pool it excludes.
RULES: dict[str, Callable[[Pool, CompletenessConfig], Bool[np.ndarray, " n"]]] = {
    "cut by the frame": lambda pool, config: pool.frame_gap < config.min_frame_gap,
    "too small": lambda pool, config: pool.area < config.min_object_pixels,
    "in parts": lambda pool, config: pool.largest_part < config.min_largest_part,
    "ragged": lambda pool, config: pool.core_share < config.min_core_share,
    "fills the image": lambda pool, config: pool.area > config.max_object_share * pool.image_size[pool.image].prod(1),
    "touches others": lambda pool, config: pool.free_ring < config.min_free_ring,
    "teacher sees a hidden part": lambda pool, config: ~(pool.predicted_hidden <= config.max_predicted_hidden),  # NaN
    "teacher disagrees": lambda pool, config: ~(pool.agreement >= config.min_agreement),
}
OFTEN_OFF = ("fills the image", "touches others")
RULES_OF_THE_TEACHER = ("teacher sees a hidden part", "teacher disagrees")


# ---------------------------------------------------------------------------------------------------- collection


def collect_complete_objects(
    teacher: Sameo | None, dataset: AmodalDataset, config: CompletenessConfig, folder: str | Path
) -> Pool:
    """All objects of a data set, measured by a teacher and judged: paper, section "Amodal-LVIS", first stage.

    Geometry is measured of every object, and the teacher is asked of those that it leaves: each image is encoded once,
    its visible boxes are decoded together. Agreement is the IoU of the teacher's amodal
    mask and the annotated visible mask.

    LVIS is annotated incompletely: who occludes an object is often not labelled. The rule does not ask labels. The
    teacher looks at pixels, and where something stands in front it continues the object behind it, labelled or not;
    then its mask holds what the annotation does not show, and the two disagree.

    Args:
        teacher: a SAMEO; None where none exists yet: geometry alone judges, and the first pool makes a teacher.
        dataset: visible masks are enough.
        config: thresholds; every object is kept whatever they say, see `Pool.complete`. Those of the teacher can be
            changed without asking it again.
        folder: holds the record, a file for each 256 images. An interrupted call goes on from there, a finished one
            is found again; a damaged file is made anew.

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
        if not is_pool(path):
            chunk = [dataset[i] for i in range(start, min(start + CHUNK, len(dataset)))]
            _measured(teacher, dataset, chunk, config).save(path)
        parts.append(Pool.load(path))
    return join_pools(parts).judged(config)


def is_pool(path: Path) -> bool:
    """A file is there, and is a whole pool."""
    try:
        Pool.load(path)
    except InputError:
        return False
    return True


def join_pools(pools: Sequence[Pool]) -> Pool:
    """One pool of several: images and objects one after the other.

    A later pool's category that an earlier one has by name takes the id it has there; a new one whose id is taken gets
    the next that is free.

    Raises:
        InputError: no pool.
    """
    if not pools:
        raise InputError(file="pools", rule="at least one pool, found none", remedy="Give the pools of some data sets")
    ids: dict[str, int] = {}
    sources: dict[tuple[str, str, str], int] = {}
    columns: dict[str, list] = {name: [] for name in (*_IMAGE_COLUMNS, *_OBJECT_COLUMNS, "counts")}
    images = characters = 0
    for pool in pools:
        renamed = {}
        for number, name in pool.categories.items():
            if name not in ids:
                ids[name] = number if number not in ids.values() else max(ids.values()) + 1
            renamed[number] = ids[name]
        places = zip(pool.source.tolist(), pool.split.tolist(), pool.root.tolist(), strict=True)
        rows = np.array([sources.setdefault(place, len(sources)) for place in places])
        changed = {
            "image_source": rows[pool.image_source],
            "image": pool.image + images,
            "end": pool.end + characters,
            "category_id": np.array([renamed[i] for i in pool.category_id.tolist()], np.int64),
        }
        for name, column in columns.items():
            column.append(changed.get(name, getattr(pool, name)))
        images, characters = images + len(pool.image_id), characters + len(pool.counts)
    return Pool(
        **{name: np.concatenate(column) for name, column in columns.items()},
        category_ids=np.array(list(ids.values()), np.int64),
        category_names=np.array(list(ids), str),
        **{name: np.array([place[k] for place in sources], str) for k, name in enumerate(("source", "split", "root"))},
    )


def _measured(
    teacher: Sameo | None, dataset: AmodalDataset, images: Sequence[AmodalImage], config: CompletenessConfig
) -> Pool:
    """The objects of some images with all measures, and not judged yet.

    The teacher is asked of the objects that geometry leaves; the others' measures of it are NaN.
    """
    rows = [{"image": number} | row for number, image in enumerate(images) for row in _geometry(image)]
    counts = [row["counts"].encode() for row in rows]

    def column(name: str, kind: type) -> Shaped[np.ndarray, "n *_"]:
        return np.array([row[name] for row in rows], kind)

    pool = Pool(
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
        box=column("box", np.float32).reshape(-1, 4),
        agreement=np.ones(len(rows), np.float32),  # without a teacher: all agree, and nothing is added
        predicted_hidden=np.zeros(len(rows), np.float32),
        rule=np.zeros(len(rows), np.int64),
        **{name: column(name, np.int64) for name in ("image", "annotation_id", "category_id", "area", "frame_gap")},
        **{name: column(name, np.float32) for name in ("largest_part", "core_share", "free_ring")},
    )
    return _asked(teacher, pool, images, config) if teacher else pool


def _asked(teacher: Sameo, pool: Pool, images: Sequence[AmodalImage], config: CompletenessConfig) -> Pool:
    """A pool with what the teacher says of the objects that geometry leaves."""
    agreement, hidden = (np.full(len(pool), np.nan, np.float32) for _ in range(2))
    candidates = np.flatnonzero(pool.judged(config).rule == 0)
    for number in tqdm(np.unique(pool.image[candidates]).tolist(), leave=False, unit="image"):
        rows, image = candidates[pool.image[candidates] == number], images[number]
        embedding, size = teacher.embed(image.read()), (image.height, image.width)
        start = 0
        for part in teacher.predict_in_passes(embedding, size, pool.box[rows]):
            for row, predicted in zip(rows[start : start + len(part.masks)].tolist(), part.masks, strict=True):
                visible = pool.mask(row)
                both, either = np.count_nonzero(visible & predicted), np.count_nonzero(visible | predicted)
                agreement[row], hidden[row] = both / either, hidden_share(visible, predicted)
            start += len(part.masks)
    return replace(pool, agreement=agreement, predicted_hidden=hidden)


def _geometry(image: AmodalImage) -> Iterator[dict]:
    """What the columns of a pool hold of each object of one image, but for what a teacher says."""
    masks = [item.visible for item in image.instances]
    objects = np.asarray(np.sum(masks, axis=0, dtype=np.uint16))  # how many cover each pixel
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
            "free_ring": _free_ring(visible, objects, (x0, y0, x1, y1)),
        }


def hidden_share(visible: VisibleMask, predicted: AmodalMask) -> float:
    """How much a predicted mask adds to the visible one as a part of its own: pixels added / pixels of the visible one.

    Two masks of the same object differ along all of their outline; that is no hidden part. So only what an opening
    leaves is counted, by a square whose side is 6 % of the object's (the root of its area), at least 3 pixels.
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
    visible: VisibleMask, objects: UInt16[np.ndarray, "h w"], box: tuple[int, int, int, int], width: int = 4
) -> float:
    """Share of a ring of `width` pixels around a mask that no other object covers; the frame cuts the ring."""
    x0, y0, x1, y1 = box
    window = slice(max(0, y0 - width), y1 + width), slice(max(0, x0 - width), x1 + width)
    ring = ndimage.maximum_filter(visible[window], 2 * width + 1) & ~visible[window]
    return 1.0 if not ring.any() else float((objects[window][ring] == 0).mean())


def _outline_measures(mask: VisibleMask) -> dict[str, float]:
    """Shares of a mask's pixels: in its largest 8-connected part, and left by an opening of 5 x 5 pixels."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    parts = np.bincount(labels.ravel())[1:]
    core = ndimage.binary_opening(np.pad(mask, 3), np.ones((5, 5)))
    return {"largest_part": parts.max() / parts.sum(), "core_share": np.count_nonzero(core) / parts.sum()}


# ---------------------------------------------------------------------------------------------------- precision, recall


class CurvePoint(NamedTuple):
    """What a threshold of agreement does."""

    threshold: float
    precision: float  # complete ones / kept; 1 where none is kept
    recall: float  # kept ones / complete ones
    kept: int


def completeness_curve(
    pool: Pool,
    hidden: Mapping[int, float],
    config: CompletenessConfig | None = None,
    tolerance: float | int = 0.0,
    thresholds: Sequence[float] | None = None,
) -> list[CurvePoint]:
    """Precision and recall of "complete" against the threshold of agreement, where the truth is known.

    All other rules stay in force. Recall counts the complete objects among those that the rules without teacher leave:
    too small ones are left out on purpose, whether complete or not.

    Args:
        pool: of one data set, every object (what `collect_complete_objects` returned).
        hidden: annotation id -> true hidden share, NaN where it is cut by the frame: `miniature.hidden_shares`.
        config: thresholds of the other rules; the defaults if None.
        tolerance: the largest hidden share that still counts as complete.
        thresholds: ascending; 0.50, 0.51, ..., 0.99 if None.

    Raises:
        InputError: an object of the pool that the truth does not know; no complete object to be found.
    """
    unknown = sorted(set(pool.annotation_id.tolist()) - set(hidden))
    if unknown:
        rule = f"the truth must tell of every object; {len(unknown)} are missing"
        remedy = "Draw the truth of the same split, number of images and seed"
        raise InputError(file="hidden", record=f"annotation {unknown[0]}", rule=rule, remedy=remedy)
    config = config or CompletenessConfig()
    candidates = ~np.any([RULES[name](pool, config) for name in RULES if name not in RULES_OF_THE_TEACHER], axis=0)
    shares = np.array([hidden[i] for i in pool.annotation_id.tolist()], float)
    complete = (shares <= tolerance) & candidates  # False for NaN
    if not complete.any():
        rule = f"at least one complete object among {candidates.sum()} candidates"
        raise InputError(file="hidden", rule=rule, remedy="Give a larger data set, or weaker rules")
    candidates &= ~RULES["teacher sees a hidden part"](pool, config)
    points = []
    for threshold in np.arange(50, 100) / 100 if thresholds is None else thresholds:
        kept = candidates & (pool.agreement >= threshold)
        right, all_kept = int((kept & complete).sum()), int(kept.sum())
        precision = right / all_kept if all_kept else 1.0
        points.append(CurvePoint(float(threshold), precision, right / int(complete.sum()), all_kept))
    return points
