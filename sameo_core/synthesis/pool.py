"""A pool: the objects of some data sets and their measures as columns, and the rules that exclude objects."""

import hashlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8

from sameo_core.arrays import VisibleMask
from sameo_core.config import CompletenessConfig
from sameo_core.datasets import coco_number
from sameo_core.errors import InputError
from sameo_core.masks import RLE, decode_rle
from sameo_core.runs.atomic import atomic_write

CroppedMask = Bool[np.ndarray, "oh ow"]  # a mask inside its own box


@dataclass(frozen=True)
class Pool:
    """Objects as columns, one entry per object, and their images; small enough for every process to load.

    `rule` is 0 for complete objects, else 1 + the position in `RULES` of the first rule that excluded the object.
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
    image: Int64[np.ndarray, " n"]  # row of each object's image
    annotation_id: Int64[np.ndarray, " n"]
    category_id: Int64[np.ndarray, " n"]
    counts: UInt8[np.ndarray, " characters"]  # RLE counts of all visible masks, concatenated
    end: Int64[np.ndarray, " n"]  # where an object's counts end
    box: Float[np.ndarray, "n 4"]  # of the visible mask, xyxy
    area: Int64[np.ndarray, " n"]  # pixels of the visible mask
    agreement: Float[np.ndarray, " n"]  # IoU of the teacher's amodal mask and the visible mask
    predicted_hidden: Float[np.ndarray, " n"]  # see `hidden_share`
    frame_gap: Int64[np.ndarray, " n"]  # pixels between the mask and the nearest edge of the frame
    largest_part: Float[np.ndarray, " n"]  # share of the mask's pixels in its largest connected part
    core_share: Float[np.ndarray, " n"]  # share of them that a 5 x 5 opening leaves
    free_ring: Float[np.ndarray, " n"]  # share of a 4-pixel ring around the mask that no other object covers
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

    def size(self, index: int) -> list[int]:
        """Height and width of an object's image."""
        return self.image_size[self.image[index]].tolist()

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
        return {"size": self.size(index), "counts": self.counts[start : self.end[index]].tobytes().decode("ascii")}

    def bounds(self, index: int) -> tuple[int, int, int, int]:
        """The box of an object, xyxy in whole pixels."""
        return tuple(self.box[index].astype(int).tolist())

    def mask(self, index: int) -> VisibleMask:
        """The mask of an object, in its image's frame."""
        return decode_rle(self.rle(index))

    def cropped_mask(self, index: int) -> CroppedMask:
        """The mask of an object inside its box."""
        x0, y0, x1, y1 = self.bounds(index)
        return self.mask(index)[y0:y1, x0:x1]

    def complete(self) -> "Pool":
        """The objects that no rule excludes, and their images."""
        return self.rows(np.flatnonzero(self.rule == 0))

    def of(self, source: str) -> "Pool":
        """The objects of one data set."""
        return self.rows(np.flatnonzero(self.source[self.image_source[self.image]] == source))

    def rows(self, rows: Int[np.ndarray, " k"]) -> "Pool":
        """The pool of these objects, in this order."""
        used, image = np.unique(self.image[rows], return_inverse=True)
        start = np.concatenate([[0], self.end[:-1]])
        pieces = [self.counts[start[i] : self.end[i]] for i in rows]
        columns = {name: getattr(self, name)[rows] for name in _OBJECT_COLUMNS}
        columns |= {"image": image.astype(np.int64), "end": np.cumsum([len(p) for p in pieces], dtype=np.int64)}
        columns |= {name: getattr(self, name)[used] for name in _IMAGE_COLUMNS}
        return replace(self, counts=np.concatenate([*pieces, np.zeros(0, np.uint8)]), **columns)

    def without(self, photographs: Set[str]) -> "Pool":
        """The objects outside these photographs of COCO, given as `coco_number`; says how many images go."""
        shared = np.array([coco_number(name) in photographs for name in self.image_file.tolist()], bool)
        if shared.any():
            print(f"{np.count_nonzero(shared)} of {len(shared)} images are left out: a held-out set tests on them")
        return self.rows(np.flatnonzero(~shared[self.image]))

    def judged(self, config: CompletenessConfig) -> "Pool":
        """The same objects under these thresholds: `rule` is recomputed from the measures."""
        rule = np.zeros(len(self), np.int64)
        for number, excludes in reversed(list(enumerate(RULES.values(), start=1))):
            rule[excludes(self, config)] = number
        return replace(self, rule=rule)

    def excluded(self) -> dict[str, int]:
        """How many objects each rule excluded, in the order of `RULES`; `OFTEN_OFF` rules only if any."""
        counts = {name: int((self.rule == number).sum()) for number, name in enumerate(RULES, start=1)}
        return {name: count for name, count in counts.items() if count or name not in OFTEN_OFF}

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the pool's content, independent of where the images lie."""
        digest = hashlib.sha256()
        for name in _COLUMNS:
            if name != "root":
                column = getattr(self, name)
                is_text = column.dtype.kind == "U"  # its bytes are padded to the longest entry
                content = "\n".join(column.tolist()).encode() if is_text else np.ascontiguousarray(column).tobytes()
                digest.update(f"{name} {column.shape}".encode() + content)
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> Path:
        """Write all columns to one npz file, atomically and without pickle."""
        path = Path(path)
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in _COLUMNS})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Pool":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, or no pool.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if any(member.compress_type for member in file.zip.infolist()):
                    raise ValueError("columns are compressed, so `save` did not write them: they could be of any size")
                return cls(**{name: file[name] for name in _COLUMNS})
        except Exception as error:  # zip, npy and numpy raise almost anything on a damaged file
            remedy = "Collect the objects (again), or give another file"
            raise InputError(file=path, rule=f"not a pool of objects: {error}", remedy=remedy) from error


_COLUMNS = tuple(item.name for item in fields(Pool))
_SOURCE_COLUMNS = ("source", "split", "root")
_IMAGE_COLUMNS = ("image_source", "image_id", "image_file", "image_size")
_OBJECT_COLUMNS = tuple(name for name in _COLUMNS[_COLUMNS.index("image") :] if name != "counts")

# Rules by name, in order of application; each gives the objects of a pool that it excludes.
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


def join_pools(pools: Sequence[Pool]) -> Pool:
    """Concatenate pools; categories are matched by name.

    A category keeps its id unless an earlier pool gave that id to another name; then it gets the next free one.
    """
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
        **{name: np.array([place[k] for place in sources], str) for k, name in enumerate(_SOURCE_COLUMNS)},
    )
