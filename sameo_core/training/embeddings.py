"""Image embeddings kept on disk: the encoder is frozen, so that no image need be encoded twice.

An embedding is named by the bytes of the image file and the weights of the encoder alone: it serves all data sets that
hold the image, and all decoders. One file an image; any number of processes may share a folder.
"""

import hashlib
import os
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sameo_core.arrays import ImageEmbedding
from sameo_core.datasets import AmodalImage
from sameo_core.errors import InputError
from sameo_core.model import EfficientSam

ENCODING_BATCH = 16  # images encoded at once
CHECKSUM_BYTES = 4


class EmbeddingCache:
    """The embeddings of images: read where they are kept, made and kept where not.

    A file that is cut short or damaged is made anew. Where nothing can be written (full disk, no permission), every
    image is encoded when it is needed, and a warning says so once. Whether an embedding comes from disk or not, it is
    rounded alike: no result depends on what is kept, where one thread computes. With more of them, or on a GPU, the
    last digit may change with the images that are encoded together, and those are the ones that are not kept.

    Args:
        model: whose encoder is used; it stays where it is (CPU or GPU).
        folder: of all embeddings, whatever the encoder; None: none are kept.
        half: half precision; False: single.
        gigabytes: 10^9 bytes that the folder holds at most, give or take 5 % per process; when it is full, no more are
            kept, and the others are made as needed: a training draws images at random, so that no order of leaving
            would serve it better. None: no bound.
    """

    def __init__(
        self, model: EfficientSam, folder: str | Path | None, half: bool = True, gigabytes: float | int | None = None
    ):
        self.model = model
        self.dtype = torch.float16 if half else torch.float32
        self.limit = None if gigabytes is None else int(gigabytes * 1e9)
        self.encoded = 0  # images, since the cache was opened
        precision = "half" if half else "single"
        self.root = Path(folder) if folder is not None and self.limit != 0 else None
        self.folder = self.root / f"{model.encoder_fingerprint()}-{precision}" if self.root else None
        self._bytes: int | None = None  # in the whole folder, as far as this process knows
        self._written = 0  # bytes by this process since it last looked at the folder

    def embed(self, images: Sequence[AmodalImage]) -> ImageEmbedding:
        """The embeddings of some images "b c he we", on the CPU, in half (or single) precision.

        Raises:
            InputError: no images; an image file that has not been kept is missing, damaged, or of another size than its
                record.
        """
        if not images:
            raise InputError(file="images", rule="one or more, found none", remedy="Ask for at least one image")
        paths = [self._path(image) for image in images]
        found = [self._read(path) if path else None for path in paths]
        missing = [place for place, embedding in enumerate(found) if embedding is None]
        for start in range(0, len(missing), ENCODING_BATCH):
            group = missing[start : start + ENCODING_BATCH]
            for place, embedding in zip(group, self._encode([images[place] for place in group]), strict=True):
                found[place] = embedding
                if path := paths[place]:
                    self._write(path, embedding)
        return torch.stack(cast(list[Tensor], found))

    @property
    def _shape(self) -> tuple[int, int, int]:
        config = self.model.config
        grid = config.image_size // config.patch_size
        return config.embedding_dim, grid, grid

    def _path(self, image: AmodalImage) -> Path | None:
        """Where the embedding of an image is kept; None where the image file cannot be read, which `_encode` tells."""
        if self.folder is None:
            return None
        try:
            content = image.path.read_bytes()
            turned = b"upright" if b"Exif" in content[:1024] else b""  # once it was encoded as stored
            name = hashlib.sha256(content + turned).hexdigest()[:32]
        except (OSError, ValueError):
            return None
        return self.folder / name[:2] / f"{name}.embedding"

    @torch.inference_mode()
    def _encode(self, images: Sequence[AmodalImage]) -> Tensor:
        """The embeddings of at most `ENCODING_BATCH` images, rounded; on the CPU."""
        device = self.model.pixel_mean.device
        squares = []
        for image in images:
            pixels = torch.from_numpy(image.read()).to(device).permute(2, 0, 1)[None] / 255
            squares.append(self.model.to_square(pixels))
        self.encoded += len(images)
        return self.model.encode_images(torch.cat(squares)).to(self.dtype).cpu()

    # ------------------------------------------------------------------------------------------------------ on disk

    def _read(self, path: Path) -> Tensor | None:
        """What is kept there; None where there is nothing, or not all of it."""
        shape = self._shape
        size = shape[0] * shape[1] * shape[2] * self.dtype.itemsize
        content = bytearray(size + CHECKSUM_BYTES + 1)  # one more than there should be
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
        content = embedding.contiguous().numpy().tobytes()
        size = len(content) + CHECKSUM_BYTES
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            if self.root is None or not self._has_room(self.root, size):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.write(_checksum(content))
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            if self._bytes is not None:
                self._bytes += size
                self._written += size
        except OSError as error:
            self.folder = None
            warnings.warn(f"image embeddings are not kept: {error}. Every image is encoded anew", stacklevel=3)

    def _has_room(self, root: Path, size: int) -> bool:
        """True if the folder holds another file; it is counted anew after every 5 % of the bound, for others write."""
        if self.limit is None:
            return True
        if self._bytes is None or self._written > self.limit // 20:
            self._bytes, self._written = 0, 0
            for path in root.glob("*/*/*"):
                with suppress(OSError):  # another process has renamed it
                    self._bytes += path.stat().st_size
        return self._bytes + size <= self.limit


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little")
