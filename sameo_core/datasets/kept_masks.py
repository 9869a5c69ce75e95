"""Masks from PNG and npz files, converted once to RLE: one file of the index, one compressed piece per image."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from sameo_core.datasets.base import AmodalInstance, Instances, InstancesOnDemand
from sameo_core.masks import RLE


def pack(instances: Sequence[AmodalInstance], skipped: Mapping[str, list[str]]) -> bytes:
    """Compress an image's objects, which have no extras, and its skipped records by rule; zlib adds a checksum."""
    rows = [
        (one.instance_id, one.category_id, one.is_stuff, _counts(one.amodal_rle), _counts(one.visible_rle), one.order)
        for one in instances
    ]
    return zlib.compress(json.dumps((rows, skipped)).encode(), 1)


def unpack(
    path: Path,
    start: int,
    stop: int,
    size: tuple[int, int],
    categories: Mapping[int, str],
    original: InstancesOnDemand,
) -> Instances:
    """Reverse `pack`, or read the original files if the packed one is missing or damaged.

    Args:
        start, stop: bytes in the file.
        size: (height, width) of the image.
        categories: id -> name.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            rows, skipped = json.loads(zlib.decompress(file.read(stop - start)))
    except (OSError, zlib.error):
        return tuple(original), original.skipped
    found = []
    for instance_id, category, stuff, amodal, visible, order in rows:
        amodal_rle = None if amodal is None else RLE(size=[*size], counts=amodal)
        visible_rle = RLE(size=[*size], counts=visible)
        found.append(AmodalInstance(instance_id, category, categories[category], stuff, amodal_rle, visible_rle, order))
    return tuple(found), skipped


def _counts(rle: RLE | None) -> str | None:
    return None if rle is None else rle["counts"]
