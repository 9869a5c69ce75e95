"""DYCE (Ehsani et al., "SeGAN", CVPR 2018): rendered rooms; a text index, one line per object, and PNG masks."""

from functools import partial
from pathlib import Path

from sameo_core.datasets.builder import DatasetBuilder
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import find_file
from sameo_core.datasets.images import image_size, inside, read_mask_png
from sameo_core.errors import InputError
from sameo_core.masks import encode_mask


def read_dyce(root: Path, split: str) -> AmodalDataset:
    """DYCE as distributed: annotations/{split}.txt, Images/, modal/ and amodal/; splits train, val, test.

    A line is ``image modal-mask amodal-mask x y x y tag full-object``; tags may contain spaces. The visible mask's name
    is the amodal mask's with "amodal" replaced by "modal", since the line may name a predicted mask instead. The tag is
    the category, numbered alphabetically within one file. Instance ids are line numbers. The box (in 1000 x 1000 units)
    is not used. Image sizes are read at once, masks on demand.

    Raises:
        InputError: see `find_file`, `DatasetBuilder.finish`; a "_real" split, whose lines have no box and whose masks
            are inverted.
    """
    if "_real" in split:
        rule = f"the natural images of dyce are another format, found {split!r}"
        raise InputError(file="split", rule=rule, remedy="Give one of train, val, test")
    path = find_file(root, [f"annotations/{split}.txt"], "dyce")
    builder = DatasetBuilder("dyce", root, split, path)

    lines: dict[str, list[tuple[int, str, str]]] = {}  # image -> (line number, amodal mask, tag)
    text = path.read_text(encoding="utf-8", errors="replace")  # a damaged name leads to no file
    for number, line in enumerate(text.split("\n"), start=1):
        tokens = line.split()
        if not tokens:
            continue
        if len(tokens) < 9:
            builder.skip("line is not image, modal, amodal, box, tag, full object", f"line {number}")
            continue
        lines.setdefault(tokens[0], []).append((number, tokens[2], " ".join(tokens[7:-1])))

    tags = sorted({tag for found in lines.values() for _, _, tag in found})
    builder.categories = dict(enumerate(tags, start=1))
    category_ids = {tag: i for i, tag in builder.categories.items()}
    for image_id, (name, found) in enumerate(lines.items(), start=1):
        with builder.skipping(f"image {name}", prefix="image "):
            height, width = image_size(inside(root / "Images", name))
            builder.add_image({"id": image_id, "height": height, "width": width}, name, root / "Images")
            objects = [(number, amodal, category_ids[tag]) for number, amodal, tag in found]
            read = partial(_read_objects, root, image_id, (height, width), objects)
            builder.add_instances_later(image_id, read, partial(_mask_files, root, objects))
    return builder.finish()


def _mask_files(root: Path, objects: list[tuple[int, str, int]]) -> list[Path]:
    """The files that `_read_objects` reads."""
    return [root / path for _, name, _ in objects for path in (f"amodal/{name}", f"modal/{_visible_name(name)}")]


def _visible_name(amodal: str) -> str:
    return amodal.replace("amodal", "modal")


def _read_objects(
    root: Path, image_id: int, size: tuple[int, int], objects: list[tuple[int, str, int]], builder: DatasetBuilder
) -> None:
    for number, amodal, category_id in objects:
        with builder.skipping(f"line {number}"):
            builder.add_instance(
                f"line {number}",
                image_id=image_id,
                instance_id=number,
                category_id=category_id,
                amodal=encode_mask(read_mask_png(inside(root / "amodal", amodal), *size)),
                visible=encode_mask(read_mask_png(inside(root / "modal", _visible_name(amodal)), *size)),
            )
