"""An instance and an image of an amodal data set. Masks are kept as RLE; most formats read them on demand."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, SupportsIndex, overload

import numpy as np
from jaxtyping import Int64

from sameo_core.arrays import AmodalMask, BoxXYXY, Image, VisibleMask
from sameo_core.datasets.images import read_image
from sameo_core.errors import InputError
from sameo_core.masks import RLE, decode_rle, intersect_rle, mask_area, mask_box, subtract_rle

BOX_KINDS = ("visible", "amodal")
RECENT_IMAGES = 2000  # cached per data set, with the masks read so far


@dataclass(frozen=True)
class AmodalInstance:
    """One object of one image.

    `visible_rle` lies inside `amodal_rle`; neither is empty. In visible-only data sets (LVIS) `amodal_rle` is None, and
    properties that need it raise InputError.
    """

    instance_id: int  # the file's own, or the record's number in the file, from 1
    category_id: int
    category: str
    is_stuff: bool
    amodal_rle: RLE | None
    visible_rle: RLE
    order: int | None = None  # COCOA: 1 is front-most
    extras: Mapping[str, object] = field(default_factory=dict)  # specific to the format, under the file's own keys

    @property
    def amodal(self) -> AmodalMask:
        return decode_rle(self.known_amodal_rle())

    @property
    def visible(self) -> VisibleMask:
        return decode_rle(self.visible_rle)

    @property
    def hidden(self) -> AmodalMask:
        """The hidden region: amodal minus visible."""
        return decode_rle(subtract_rle(self.known_amodal_rle(), self.visible_rle))

    @property
    def amodal_box(self) -> BoxXYXY:
        return mask_box(self.known_amodal_rle())

    @property
    def visible_box(self) -> BoxXYXY:
        return mask_box(self.visible_rle)

    @property
    def area(self) -> int:
        """Pixels of the amodal mask."""
        return mask_area(self.known_amodal_rle())

    @property
    def visible_area(self) -> int:
        return mask_area(self.visible_rle)

    @property
    def occlusion_rate(self) -> float:
        """Hidden pixels / amodal pixels, in [0, 1)."""
        area = self.area
        return (area - self.visible_area) / area

    def known_amodal_rle(self) -> RLE:
        """`amodal_rle`. Raises InputError if the data set has visible masks only."""
        if self.amodal_rle is None:
            raise InputError(
                file="data set",
                record=f"instance {self.instance_id} ({self.category})",
                rule="no amodal mask: this data set (LVIS, LV-VIS) has visible masks only",
                remedy="Use .visible, or the data set amodal_lvis",
            )
        return self.amodal_rle


Instances = tuple[tuple[AmodalInstance, ...], dict[str, list[str]]]  # of an image, with its unusable records by rule


class InstancesOnDemand(Sequence):
    """The objects of an image, read on first access, then kept."""

    def __init__(self, read: Callable[[], Instances]):
        self._read: Callable[[], Instances] | None = read  # dropped with its arguments after the call
        self._found: Instances = (), {}

    def _all(self) -> Instances:
        if self._read is not None:
            self._found, self._read = self._read(), None
        return self._found

    @property
    def skipped(self) -> dict[str, list[str]]:
        """The image's unusable records, by rule."""
        return self._all()[1]

    def __len__(self) -> int:
        return len(self._all()[0])

    @overload
    def __getitem__(self, index: SupportsIndex) -> AmodalInstance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AmodalInstance, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> AmodalInstance | tuple[AmodalInstance, ...]:
        return self._all()[0][index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all()[0] == tuple(other)

    def __repr__(self) -> str:
        return "InstancesOnDemand(not read yet)" if self._read else repr(self._found[0])


@dataclass(frozen=True)
class AmodalImage:
    """One image and its objects, in file order."""

    image_id: int
    file_name: str
    path: Path
    height: int
    width: int
    instances: tuple[AmodalInstance, ...] | InstancesOnDemand
    depth_constraint: tuple[tuple[int, int], ...] = ()  # COCOA: (front, behind), values of `order`
    extras: Mapping[str, object] = field(default_factory=dict)  # specific to the format, under the file's own keys

    def occluders(self) -> list[list[int]]:
        """For each object, the indices of the objects visible in its hidden region.

        Empty if no annotated object is in front of it; always empty in visible-only data sets.
        """
        found = []
        for item in self.instances:
            hidden = subtract_rle(item.amodal_rle, item.visible_rle) if item.amodal_rle else None
            seen = [intersect_rle([hidden, other.visible_rle]) for other in self.instances] if hidden else []
            found.append([position for position, rle in enumerate(seen) if mask_area(rle)])
        return found

    def read(self, needed: tuple[int, int] | None = None) -> Image:
        """The pixels as RGB "h w 3"; a JPEG twice as large as `needed` (height, width) at 1/2, 1/4 or 1/8 of its size.

        Raises:
            InputError: the file is missing, cannot be decoded, has more than 8 bits per channel, or another size.
        """
        return read_image(self.path, self.height, self.width, f"image {self.image_id}", needed)


class LazyImages(Sequence):
    """Images made on demand. Only the most recent are kept, with the masks read so far, so memory stays flat.

    Args:
        skipped: unusable records found before any mask was read, by rule.
    """

    in_mask_files: ClassVar[bool] = False  # whether masks should be converted, see `kept_masks`

    def __init__(self, skipped: dict[str, list[str]] | None = None) -> None:
        self.skipped = skipped or {}
        self._recent: OrderedDict[int, AmodalImage] = OrderedDict()
        self._kept_masks: tuple[Path, Int64[np.ndarray, " ends"]] | None = None

    def use_kept_masks(self, path: Path, ends: Int64[np.ndarray, " ends"]) -> None:
        """Read masks from a file of `kept_masks` from now on; image i is at bytes `ends[i] : ends[i + 1]`."""
        self._kept_masks = path, ends
        self._recent.clear()

    def __getitem__(self, index: SupportsIndex) -> AmodalImage:  # type: ignore[override]  # AmodalDataset slices
        number = range(len(self))[index]
        with suppress(KeyError):  # also if another thread drops it meanwhile
            self._recent.move_to_end(number)
            return self._recent[number]
        image = self._recent[number] = self._make(number)
        if len(self._recent) > RECENT_IMAGES:
            self._recent.popitem(last=False)
        return image

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_recent": OrderedDict()}  # keeps pickles for worker processes small

    @abstractmethod
    def _make(self, number: int) -> AmodalImage: ...

    @abstractmethod
    def contents(self) -> str:
        """A text that changes whenever a record or a mask does; made without decoding."""

    def occupied(self) -> Int64[np.ndarray, " some"]:
        """Indices of the images that may have objects, ascending."""
        return np.arange(len(self))
