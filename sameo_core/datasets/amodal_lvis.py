"""Open Amodal-LVIS: our own format for synthesised occlusions, readable by any COCO tool.

    annotations/amodal_lvis_{split}_{shard:05d}-of-{n:05d}.json     shards 0 .. n - 1, each a complete COCO file
    images/{split}/{shard:05d}/{file_name}                          the images of that shard

Besides COCO's keys, a record has

    image       pair_id          int, unique in the split; the same for both versions of an image, which share a shard
                version          "occluded", or "original": before anything was pasted ("dual annotation")
                source_dataset   e.g. "lvis"
                source_image_id  the image's id there
    annotation  segmentation     RLE of the whole object inside the frame (amodal)
                visible_mask     RLE of its visible part; always present
                occlude_rate     hidden pixels / amodal pixels
                source_dataset, source_image_id, source_annotation_id: where the object was cut from
                synthesis        how the pair was made, see below

and `bbox` (xywh), `area` (of the amodal mask), `iscrowd` 0. Every shard lists all categories. Ids are unique within a
shard; the reader shifts ids that an earlier shard has taken.

`sameo_core.synthesis` writes a special case. Every pair has an original image, the source file byte for byte, with one
annotation, the target; and an occluded image with two, the target and the unoccluded object in front, the occluder.
Ids are unique in the split: pair p has images 2p + 1 and 2p + 2, annotations 3p + 1 .. 3p + 3. "synthesis" holds

    seed, pair             of the whole set, and the pair's number (= pair_id); they determine the rest
    role                   "target" or "occluder"
    target_rate            of the occluded target: the requested occlusion rate; `occlude_rate` is the achieved one
    scale, flipped         of the occluder: pixels here / pixels there; mirrored left to right
    direction              in which it was moved away from the target; radians, 0 right, pi / 2 down
    paste_box              xywh of the cut-out with its soft edge, pixels; may exceed the frame
    brightness_shift       grey levels added to it

and a shard's "info" its number, the recipe, and statistics: pairs, rates requested and achieved, redraws by reason. A
third folder, synthesis_{split}/, holds recipe.json and pool.npz, the objects that the set was made from.
"""

from pathlib import Path

from sameo_core.datasets.coco_files import CocoFormat, index_coco, read_coco_files
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import find_file
from sameo_core.errors import InputError

FILE = "annotations/amodal_lvis_{split}_{shard:05d}-of-{shards:05d}.json"
IMAGE_KEYS = ("pair_id", "version", "source_dataset", "source_image_id")
ANNOTATION_KEYS = ("source_dataset", "source_image_id", "source_annotation_id", "synthesis")


def read_amodal_lvis(root: Path, split: str) -> AmodalDataset:
    """All shards of a split as one data set; the format is described above. `extras` hold the provenance.

    Raises:
        InputError: a missing shard, shards of two different runs; see `index_coco`, `find_file`, `read_coco_files`.
    """
    paths = _shards(root, split)
    folders = [root / "images" / split / f"{shard:05d}" for shard in range(len(paths))]
    files = [(index_coco(path), folder) for path, folder in zip(paths, folders, strict=True)]
    form = CocoFormat(visible_required=True, image_keys=IMAGE_KEYS, instance_keys=ANNOTATION_KEYS)
    return read_coco_files("amodal_lvis", root, split, files, form)


def shards_there(root: Path, split: str) -> list[Path]:
    """The annotation files of a split that exist, in order."""
    number = "[0-9]" * 5
    return sorted((root / "annotations").glob(f"amodal_lvis_{split}_{number}-of-{number}.json"))


def _shards(root: Path, split: str) -> list[Path]:
    """All annotation files, in order; a split is complete or not read at all."""
    counts = sorted({int(path.stem[-5:]) for path in shards_there(root, split)}) or [1]
    if len(counts) > 1:
        rule = f"the shards of a split must be of one run, found sets of {' and '.join(map(str, counts))} shards"
        raise InputError(file=root / "annotations", rule=rule, remedy="Delete those that do not belong here")
    names = [FILE.format(split=split, shard=shard, shards=counts[0]) for shard in range(counts[0])]
    return [find_file(root, [name], "amodal_lvis") for name in names]
