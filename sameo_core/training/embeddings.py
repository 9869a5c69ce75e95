"""Image embeddings on disk: the encoder is frozen, so each image needs encoding only once.

A file's name depends on the image file's bytes and the encoder's weights alone, so all decoders and all data sets with
that image share it. One file per image; any number of processes may share a folder.
"""

import hashlib
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sameo_core.arrays import ImageEmbedding
from sameo_core.datasets import AmodalImage
from sameo_core.errors import InputError
from sameo_core.model import EfficientSam
from sameo_core.runs.atomic import atomic_write

ENCODING_BATCH = 16  # images encoded at once
CHECKSUM_BYTES = 4


class LookedUp(NamedTuple):
    """The embeddings found on disk, and the images still to be encoded."""

    kept: Float[Tensor, "k c he we"]  # found on disk, in order
    missing: Mapping[int, Sequence]  # place -> pixels (UInt8 "h w 3"), file for the embedding or None


class EmbeddingCache:
    """Image embeddings, read from disk or computed and written.

    A truncated or damaged file is recomputed. If the folder is not writable (full disk, no permission), the cache warns
    once and encodes each image whenever needed. Cached and new embeddings are rounded alike, so with one thread no
    result depends on the cache. With more threads, or on a GPU, the last digit may depend on which images are encoded
    together, that is, on which are not cached.

    Args:
        model: its encoder is used, on its device.
        folder: for the embeddings of all encoders; None: nothing is written.
        half: round to half precision.
        gigabytes: maximum size of the folder in 10^9 bytes, give or take 5 % per process; None: unlimited. A full cache
            evicts nothing: images are drawn at random, so no eviction order would be better.
        largest_set: data sets with more images are not cached in training, as their images rarely recur; None: all are.
    """

    def __init__(
        self,
        model: EfficientSam,
        folder: str | Path | None,
        half: bool = True,
        gigabytes: float | int | None = None,
        largest_set: int | None = None,
    ):
        self.model, self.largest_set = model, largest_set
        self.dtype = torch.float16 if half else torch.float32
        self.limit = None if gigabytes is None else int(gigabytes * 1e9)
        self.encoded = 0  # images since the cache was opened
        rounded = model.half_encoder and model.pixel_mean.is_cuda
        precision = ("half" if half else "single") + ("-half-encoder" if rounded else "")
        self.folder: Path | None = None
        if folder is not None and self.limit != 0:
            self.folder = Path(folder) / f"{model.encoder_fingerprint()}-{precision}"
        self._bytes = 0  # in the whole folder, as far as this process knows
        self._written: float = math.inf  # bytes by this process since its last count

    def embed(self, images: Sequence[AmodalImage]) -> ImageEmbedding:
        """Embeddings of one or more images, on the model's device, in half (or single) precision.

        Raises InputError for an image that is not cached if its file is missing, damaged, or of another size.
        """
        return self.complete(self.look_up(images))

    def look_up(self, images: Sequence[AmodalImage], keep: Sequence[bool] | None = None) -> LookedUp:
        """The first half of `embed`; needs no model, so any process can prefetch it. `keep`: which are cached."""
        kept, missing = [], {}
        for place, image in enumerate(images):
            path = self._path(image) if keep is None or keep[place] else None
            embedding = self._read(path) if path else None
            if embedding is None:
                pixels = image.read(self.model.input_size((image.height, image.width)))
                missing[place] = torch.from_numpy(pixels), path
            else:
                kept.append(embedding)
        return LookedUp(torch.stack(kept) if kept else torch.empty(0, *self._shape, dtype=self.dtype), missing)

    def complete(self, found: LookedUp) -> ImageEmbedding:
        """The second half of `embed`: encode missing images. Only writing to disk waits for the GPU."""
        device = self.model.pixel_mean.device
        kept = found.kept.to(device, non_blocking=True)
        if not found.missing:
            return kept
        places, encoded = list(found.missing), {}
        for start in range(0, len(places), ENCODING_BATCH):
            group = places[start : start + ENCODING_BATCH]
            made = self._encode([found.missing[place][0] for place in group])
            for place, embedding in zip(group, made, strict=True):
                encoded[place] = embedding
                if path := found.missing[place][1]:
                    self._write(path, embedding.cpu())
        others = iter(kept)
        return torch.stack([encoded[i] if i in encoded else next(others) for i in range(len(kept) + len(places))])

    @property
    def _shape(self) -> tuple[int, int, int]:
        config = self.model.config
        grid = config.image_size // config.patch_size
        return config.embedding_dim, grid, grid

    def _path(self, image: AmodalImage) -> Path | None:
        """The file of an image's embedding; None without a cache, or if unreadable (`image.read` reports it)."""
        if self.folder is None:
            return None
        try:
            content = image.path.read_bytes()
            turned = b"upright" if b"Exif" in content[:1024] else b""  # older caches ignored the EXIF orientation
            name = hashlib.sha256(content + turned).hexdigest()[:32]
        except (OSError, ValueError):
            return None
        return self.folder / name[:2] / f"{name}.embedding"

    @torch.inference_mode()
    def _encode(self, images: Sequence[UInt8[Tensor, "_ _ 3"]]) -> ImageEmbedding:
        """Rounded embeddings of at most `ENCODING_BATCH` images, on the model's device."""
        self.encoded += len(images)
        squares = [self.model.image_to_square(image) for image in images]
        return self.model.encode_images(torch.cat(squares)).to(self.dtype)

    # ------------------------------------------------------------------------------------------------------ on disk

    def _read(self, path: Path) -> Tensor | None:
        """Read an embedding; None if the file is missing or damaged."""
        shape = self._shape
        size = shape[0] * shape[1] * shape[2] * self.dtype.itemsize
        content = bytearray(size + CHECKSUM_BYTES + 1)  # one more, to detect longer files
        try:
            with path.open("rb") as file:
                length = file.readinto(content)
        except OSError:
            return None
        values = memoryview(content)[:size]
        if length != size + CHECKSUM_BYTES or _checksum(values) != bytes(content[size:length]):
            return None
        return torch.frombuffer(values, dtype=self.dtype).view(shape)

    def _write(self, path: Path, embedding: Tensor) -> None:
        values = embedding.contiguous().numpy().tobytes()
        content = values + _checksum(values)
        if not self._has_room(path.parents[2], len(content)):
            return
        try:
            with atomic_write(path) as partial:
                partial.write_bytes(content)
        except InputError as error:
            self.folder = None
            warnings.warn(f"image embeddings are not kept: {error.rule}. Every image is encoded anew", stacklevel=3)
        self._bytes += len(content)
        self._written += len(content)

    def _has_room(self, root: Path, size: int) -> bool:
        """True if another file fits. Since other processes write, too, it recounts after every 5 % of the limit."""
        if self.limit is None:
            return True
        if self._written > self.limit // 20:
            self._bytes, self._written = 0, 0
            for path in root.glob("*/*/*"):
                with suppress(OSError):  # another process has renamed it
                    self._bytes += path.stat().st_size
        return self._bytes + size <= self.limit


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little")
