"""DUTS (L. Wang et al., CVPR 2017): photographs with one salient object each, assumed unoccluded."""

import csv
from functools import partial
from pathlib import Path

from sameo_core.datasets.builder import DatasetBuilder
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import find_file
from sameo_core.datasets.images import read_mask_png
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask

COLUMNS = ("split", "image", "mask", "width", "height")


def read_duts(root: Path, split: str) -> AmodalDataset:
    """index.csv (split, image, mask, width, height) with paths below `root`; "val" reads the split "test".

    Visible masks only, read on demand.

    Raises:
        InputError: see `find_file`, `DatasetBuilder.finish`; a column is missing.
    """
    path = find_file(root, ["index.csv"], "duts")
    builder = DatasetBuilder("duts", root, split, path, {1: "salient object"})
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            remedy = "Write it with the columns that data/README.md lists"
            raise InputError(file=path, rule=f"it has no column {missing[0]!r}", remedy=remedy)
        own = {"val": "test"}.get(split, split)
        for number, row in enumerate((row for row in rows if row["split"] == own), start=1):
            try:
                height, width = int(row["height"]), int(row["width"])
            except (TypeError, ValueError):
                builder.skip("size is not two whole numbers", f"row {number} of {own}")
                continue
            builder.add_image({"id": number, "height": height, "width": width}, row["image"], root)
            read = partial(_read_object, root / row["mask"], number, (height, width))
            builder.add_instances_later(number, read, partial(list, [root / row["mask"]]))
    return builder.finish()


def _read_object(mask: Path, number: int, size: tuple[int, int], builder: DatasetBuilder) -> None:
    record = f"image {number}"
    with builder.skipping(record):
        visible = encode_mask(read_mask_png(mask, *size))
        builder.add_instance(record, image_id=number, instance_id=number, category_id=1, amodal=None, visible=visible)
