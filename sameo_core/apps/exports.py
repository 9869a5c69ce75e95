"""Predicted masks for annotation tools (COCO, labelme, Label Studio, CVAT) and back again, and as cut-outs.

All coordinates are pixels of the upright picture. Objects with an empty mask are left out. Known visible masks go into
COCO (`visible_mask`) and CVAT (the flag "occluded"); labelme and Label Studio get amodal masks only.
RLE is exact. Polygons are simplified for editing by hand; their IoU with the mask stays at least `LEAST_IOU`. Polygons
have no holes: a mask with holes becomes several adjacent parts.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import PIL.Image
from jaxtyping import UInt8
from matplotlib.colors import to_rgb
from skimage.measure import approximate_polygon

from sameo_core.apps.predict import PhotographPrediction, write_json
from sameo_core.arrays import AmodalMask, AmodalMasks, VisibleMask
from sameo_core.datasets.builder import is_int
from sameo_core.datasets.images import MAX_PIXELS
from sameo_core.errors import InputError
from sameo_core.front_ends.boxes import LARGEST_ID, number_of
from sameo_core.masks import (
    decode_segmentation,
    encode_mask,
    mask_box,
    mask_iou,
    mask_to_polygons,
    occlusion_rate,
    xyxy_to_xywh,
)
from sameo_core.reporting import PALETTE
from sameo_core.runs.atomic import atomic_write

CutOut = UInt8[np.ndarray, "_ _ 4"]  # RGBA
LEAST_IOU = 0.98  # of simplified polygons with the mask
TOLERANCES = (2.0, 1.0, 0.5)  # pixels that an outline may move, tried in this order
LABELME_VERSION = "5.5.0"  # whose format is written
MAX_MASKS = 2**33  # pixels of all masks of a picture together: a small file can ask for more than there is memory
RUN_BITS = (3, 4, 8, 16)  # Label Studio's RLE: bits for the length of a run


@dataclass(frozen=True)
class LabelledMasks:
    """Objects of one picture as they came back from an annotation tool."""

    labels: tuple[str, ...]
    masks: AmodalMasks
    left_out: Mapping[str, int] = field(default_factory=dict)  # what was drawn and is no mask: kind -> how many


class _Object(NamedTuple):
    number: int  # from 1, as in the overlay
    amodal: AmodalMask
    visible: VisibleMask | None  # part of the amodal mask
    category_id: int
    label: str
    score: float
    iou: float


def _objects(photograph: PhotographPrediction) -> Iterator[_Object]:
    prediction, names = photograph.prediction, _distinct(photograph.categories)
    for i, mask in enumerate(prediction.masks):
        if mask.any():
            visible = None if photograph.visible is None else photograph.visible[i] & mask
            category = int(photograph.found.category_ids[i])
            label = names.get(category, f"category {category}")
            scores = float(prediction.scores[i]), float(prediction.iou[i])
            yield _Object(i + 1, mask, visible, category, label, *scores)


def _distinct(categories: Mapping[int, str]) -> dict[int, str]:
    """Every category under a name of its own, since the tools know them by name only; the first keeps a shared one."""
    names: dict[str, int] = {}
    for category, name in sorted(categories.items()):
        while name in names:
            name = f"{name} ({category})"
        names[name] = category
    return {category: name for name, category in names.items()}


# ------------------------------------------------------------------------------------------------------ polygons


def editable_polygons(mask: AmodalMask, least_iou: float | int = LEAST_IOU) -> list[list[float]]:
    """COCO polygons of a mask with as few corners as its IoU with them allows; with 1 they give the mask again.

    Simplified by Douglas and Peucker's algorithm. An empty mask gives an empty list.
    """
    exact = mask_to_polygons(mask)
    for tolerance in TOLERANCES if exact and least_iou < 1 else ():
        fewer = [_simplified(polygon, tolerance) for polygon in exact]
        fewer = [polygon for polygon in fewer if len(polygon) >= 6]
        if fewer and mask_iou(decode_segmentation(fewer, *mask.shape), mask) >= least_iou:
            return fewer
    return exact


def _simplified(polygon: list[float], tolerance: float) -> list[float]:
    points = np.array(polygon).reshape(-1, 2)
    return approximate_polygon(np.concatenate([points, points[:1]]), tolerance)[:-1].ravel().tolist()


# ------------------------------------------------------------------------------------------------------ COCO and CVAT


def to_coco(photographs: Sequence[PhotographPrediction]) -> dict:
    """COCO annotations: `segmentation` is the amodal mask as RLE, with `score` and `predicted_iou`.

    Known visible masks add `visible_mask` (the part inside the amodal mask) and `occlude_rate`; `info` counts the
    photographs without them. `load_dataset("coco", ...)` and pycocotools read it.

    Raises:
        InputError: two photographs with the same id, or two names for one category.
    """
    unknown = sum(photograph.visible is None for photograph in photographs)
    text = "amodal masks by SAMEO, not corrected by hand"
    text += f"; visible masks are unknown for {unknown} of {len(photographs)} photographs" if unknown else ""

    def masks(item: _Object) -> dict:
        amodal = {"segmentation": dict(encode_mask(item.amodal))}
        if item.visible is None:
            return amodal
        rate = occlusion_rate(item.amodal, item.visible)
        return amodal | {"visible_mask": dict(encode_mask(item.visible)), "occlude_rate": rate}

    return _coco(photographs, text, masks)


def to_cvat(photographs: Sequence[PhotographPrediction], least_iou: float | int = LEAST_IOU) -> dict:
    """COCO as CVAT's importer "COCO 1.0" takes it: polygons with `iscrowd` 0, which every version of CVAT reads.

    The parts of an object become a group of polygons. CVAT matches images and labels by name: the task needs both
    before the import. Category 0 means "no label" there, so ids begin with 1.
    Source: CVAT's manual "MS COCO Object Detection", and datumaro's COCO reader behind it.

    Raises:
        InputError: see `to_coco`.
    """

    def polygons(item: _Object) -> dict:
        amodal = {"segmentation": editable_polygons(item.amodal, least_iou)}
        if item.visible is None:
            return amodal
        return amodal | {"attributes": {"occluded": bool((item.amodal & ~item.visible).any())}}

    text = "amodal masks by SAMEO, not corrected by hand; for CVAT's importer COCO 1.0"
    document = _coco(photographs, text, polygons)
    shift = max(0, 1 - min((category["id"] for category in document["categories"]), default=1))
    for category in document["categories"]:
        category |= {"id": category["id"] + shift, "supercategory": ""}
    for annotation in document["annotations"]:
        annotation["category_id"] += shift
    return document


def _coco(
    photographs: Sequence[PhotographPrediction], description: str, segmentation: Callable[[_Object], dict]
) -> dict:
    """COCO annotations; `segmentation` gives an object's mask in the tool's own encoding, and the keys beside it."""
    images: dict[int, dict] = {}
    categories: dict[int, str] = {}
    annotations: list[dict] = []
    for photograph in photographs:
        given, name = photograph.image_id, photograph.name
        image_id = given if isinstance(given, int) and 0 <= given < LARGEST_ID else number_of(name)
        if image_id in images and image_id == number_of(name) and images[image_id]["file_name"] != name:  # 1 and 01
            image_id = number_of(f"image {name}")
        if image_id in images:
            rule = f"image ids are unique, {image_id} belongs to {images[image_id]['file_name']} and {name}"
            raise InputError(file="photographs", rule=rule, remedy="Export each photograph once, under its own name")
        height, width = photograph.image.shape[:2]
        images[image_id] = {"id": image_id, "file_name": name, "height": height, "width": width}
        for category_id, label in photograph.categories.items():
            if categories.setdefault(category_id, label) != label:
                rule = f"a category has one name, {category_id} is {categories[category_id]!r} and {label!r}"
                raise InputError(file="photographs", rule=rule, remedy="Export photographs of one set of categories")
        for item in _objects(photograph):
            categories.setdefault(item.category_id, f"category {item.category_id}")
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": item.category_id,
                "iscrowd": 0,
                "bbox": xyxy_to_xywh(mask_box(item.amodal)).tolist(),
                "area": int(np.count_nonzero(item.amodal)),
                "score": item.score,
                "predicted_iou": item.iou,
            }
            annotations.append(annotation | segmentation(item))
    return {
        "info": {"description": description},
        "licenses": [],  # some readers ask for the key
        "images": list(images.values()),
        "categories": [{"id": i, "name": name} for i, name in sorted(_distinct(categories).items())],
        "annotations": annotations,
    }


# ------------------------------------------------------------------------------------------------------ labelme


def to_labelme(
    photograph: PhotographPrediction, image_path: str | None = None, least_iou: float | int = LEAST_IOU
) -> dict:
    """labelme's JSON: a polygon per part; the parts of an object share their `group_id`.

    Args:
        image_path: of the picture, relative to the JSON file; by default its name.
    """
    shapes: list[dict] = [
        {
            "label": item.label,
            "points": np.reshape(polygon, (-1, 2)).tolist(),
            "group_id": item.number,
            "description": f"score {item.score:.3f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for item in _objects(photograph)
        for polygon in editable_polygons(item.amodal, least_iou)
    ]
    height, width = photograph.image.shape[:2]
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path or photograph.name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def from_labelme(document: Mapping) -> LabelledMasks:
    """The objects of labelme's JSON: polygons with the same label and `group_id` are one object, others one each.

    Raises:
        InputError: a key is missing, a shape is not a polygon, or the size is not one.
    """
    with _parsing("labelme", "not labelme's JSON", "Give the JSON that labelme saved"):
        size, shapes = (document["imageHeight"], document["imageWidth"]), document["shapes"]
        parts: dict[tuple, list] = {}
        for i, shape in enumerate(shapes):
            if shape["shape_type"] != "polygon":
                rule = f"shapes are polygons, found {shape['shape_type']!r}"
                remedy = "Delete it in labelme, and draw a polygon in its place"
                raise InputError(file="labelme", record=f"shape {i}", rule=rule, remedy=remedy)
            group = shape.get("group_id")
            key = shape["label"], ("alone", i) if group is None else group
            parts.setdefault(key, []).append(np.array(shape["points"], float).ravel().tolist())
    _check_size(size, len(parts), "labelme")
    return _labelled([(label, decode_segmentation(part, *size)) for (label, _), part in parts.items()], size)


@contextmanager
def _parsing(tool: str, rule: str, remedy: str) -> Iterator[None]:
    """Say what a file should be, where reading it breaks."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        rule = f"{rule} ({type(error).__name__}: {error})"
        raise InputError(file=tool, rule=rule, remedy=remedy) from error


def _check_size(size: tuple, masks: int, file: str) -> None:
    """Raise InputError unless (height, width) is the size of a picture, and that many of its masks fit into memory."""
    whole = all(is_int(side) and side > 0 for side in size)
    if not whole or size[0] * size[1] > MAX_PIXELS or size[0] * size[1] * masks > MAX_MASKS:
        rule = f"(height, width) in pixels, at most {MAX_PIXELS:,} in a picture and {MAX_MASKS:,} in all its masks, "
        rule += f"found {size!r:.60} and {masks} masks"
        raise InputError(file=file, rule=rule, remedy="Correct the size, or export fewer objects at once")


def _labelled(found: Sequence[tuple[str, AmodalMask]], size: tuple[int, int]) -> LabelledMasks:
    masks = np.array([mask for _, mask in found]) if found else np.zeros((0, *size), bool)
    return LabelledMasks(tuple(label for label, _ in found), masks)


# ------------------------------------------------------------------------------------------------------ Label Studio


def to_label_studio(photographs: Sequence[PhotographPrediction], image_url: str = "") -> list[dict]:
    """Label Studio's tasks with pre-annotations: `brushlabels` in its own exact RLE.

    The project needs the labelling interface of `label_studio_interface`.
    Source: Label Studio's documentation of BrushLabels, and `brush.py` of its converter, which reads this.

    Args:
        image_url: prefix of the percent-encoded file name, so that Label Studio can fetch the picture.
    """
    tasks = []
    for photograph in photographs:
        height, width = photograph.image.shape[:2]
        regions = [
            {
                "id": f"object-{item.number}",
                "type": "brushlabels",
                "from_name": "amodal",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": item.score,
                "value": {"format": "rle", "rle": encode_brush(item.amodal), "brushlabels": [item.label]},
            }
            for item in _objects(photograph)
        ]
        score = float(np.mean([region["score"] for region in regions])) if regions else 0.0
        prediction = {"model_version": "SAMEO", "score": score, "result": regions}
        tasks.append({"data": {"image": image_url + quote(photograph.name)}, "predictions": [prediction]})
    return tasks


def label_studio_interface(photographs: Sequence[PhotographPrediction]) -> str:
    """The labelling interface (XML) for `to_label_studio`, with a brush per label."""
    labels = sorted({item.label for photograph in photographs for item in _objects(photograph)})
    listed = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in labels)
    brushes = f'  <BrushLabels name="amodal" toName="image">\n{listed}\n  </BrushLabels>'
    return f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n{brushes}\n</View>\n'


def from_label_studio(task: Mapping) -> LabelledMasks:
    """The masks of a Label Studio task (JSON): of its first annotation that was not cancelled, else of its prediction.

    Brush strokes and polygons become masks; other regions are counted in `left_out`.

    Raises:
        InputError: a key is missing, there is no mask, an RLE is damaged, or the task has more than one picture.
    """
    with _parsing("Label Studio", "not a task of Label Studio's JSON", 'Export as "JSON", not "JSON-MIN"'):
        answers = [answer for answer in task.get("annotations") or () if not answer.get("was_cancelled")]
        answers = answers or task.get("predictions") or [{"result": []}]
        regions = answers[0]["result"]
        drawn = [region for region in regions if region["type"] in ("brushlabels", "polygonlabels")]
        left_out = Counter(region["type"] for region in regions) - Counter(region["type"] for region in drawn)
        if not drawn:
            rule = f"a task with brush masks or polygons, found {dict(left_out) or 'none'}"
            raise InputError(file="Label Studio", rule=rule, remedy="Without a mask its size is unknown: leave it out")
        keys = ("original_height", "original_width")
        pictures = {(*(r[key] for key in keys), r.get("to_name"), r.get("item_index")) for r in drawn}
        (height, width, *_), *others = pictures
        if others:
            rule = f"a task has one picture, found (height, width, name, page) {sorted(map(str, pictures))}"
            raise InputError(file="Label Studio", rule=rule, remedy="Make a task of each picture's regions")
        _check_size((height, width), len(drawn), "Label Studio")
        found = [(region["value"][region["type"]][0], _region(region, height, width)) for region in drawn]
    return replace(_labelled(found, (height, width)), left_out=dict(left_out))


def _region(region: Mapping, height: int, width: int) -> AmodalMask:
    """The mask of a region of Label Studio: a brush's RLE, or a polygon in per cent of the sides."""
    if region["type"] == "brushlabels":
        return decode_brush(region["value"]["rle"], height, width)
    points = np.array(region["value"]["points"], float).reshape(-1, 2) * (width / 100, height / 100)
    return decode_segmentation([points.ravel().tolist()], height, width)


def encode_brush(mask: AmodalMask) -> list[int]:
    """A mask in Label Studio's RLE: the bytes of a packed bit stream.

    It encodes an RGBA picture, row by row, all four channels 0 or 255. Header: number of values (32 bits), bits per
    value - 1 (5), four run-length sizes - 1 (4 bits each). Per run: 1, index of the size (2 bits), length - 1, value.
    """
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    bits = [f"{4 * flat.size:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in RUN_BITS)]
    for end, length in zip(ends, 4 * np.diff(ends, prepend=0), strict=True):
        value = "11111111" if flat[end - 1] else "00000000"
        while length > 0:
            run = min(int(length), 2 ** RUN_BITS[-1])
            which = next(i for i, size in enumerate(RUN_BITS) if run <= 2**size)
            bits.append(f"1{which:02b}{run - 1:0{RUN_BITS[which]}b}{value}")
            length -= run
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


def decode_brush(rle: Sequence[int], height: int, width: int) -> AmodalMask:
    """The mask of Label Studio's RLE (see `encode_brush`): all pixels that are not transparent.

    Raises:
        InputError: the RLE is damaged, or of another size.
    """
    _check_size((height, width), 1, "Label Studio")
    remedy = "Export the task again, and check that picture and annotation belong together"
    with _parsing("Label Studio", "brush RLE is damaged: it ends before the picture is full", remedy):
        stream = "".join(f"{byte:08b}" for byte in bytes(rle))
        place = 0

        def read(bits: int) -> int:
            nonlocal place
            place += bits
            if place > len(stream):
                raise ValueError("no more bits")
            return int(stream[place - bits : place], 2)

        count, value_bits = read(32), read(5) + 1
        if count != 4 * height * width:
            rule = f"brush RLE of {count} values, the picture {width} x {height} has {4 * height * width}"
            raise InputError(file="Label Studio", rule=rule, remedy=remedy)
        run_bits = [read(4) + 1 for _ in range(4)]
        values, lengths, done = [], [], 0
        while done < count:
            repeated, length = read(1), read(run_bits[read(2)]) + 1
            found = [read(value_bits)] if repeated else [read(value_bits) for _ in range(length)]
            values += found
            lengths += [length] if repeated else [1] * length
            done += length
        pixels = np.repeat(np.minimum(values, 255).astype(np.uint8), lengths).reshape(height, width, 4)
    return pixels[..., 3] > 0


# ------------------------------------------------------------------------------------------------------ cut-outs


def cut_outs(photograph: PhotographPrediction, hidden: str = "tinted") -> dict[int, CutOut]:
    """RGBA cut-out of each object's amodal box, by the object's number in the overlay.

    If the visible mask is known, visible pixels are opaque, and the hidden region is half transparent orange ("tinted")
    or transparent. If not, the whole amodal mask is opaque, occluders included.

    Raises:
        InputError: another word for `hidden`.
    """
    if hidden not in ("tinted", "transparent"):
        rule = f"the hidden region is tinted or transparent, found {hidden!r}"
        raise InputError(file="hidden", rule=rule, remedy="Give one of these")
    tint = [round(255 * part) for part in to_rgb(PALETTE["hidden"])]
    found = {}
    for item in _objects(photograph):
        x0, y0, x1, y1 = mask_box(item.amodal).astype(int)
        window = np.s_[y0:y1, x0:x1]
        opaque = (item.amodal if item.visible is None else item.visible)[window]
        cut = np.zeros((*opaque.shape, 4), np.uint8)
        if hidden == "tinted":
            cut[item.amodal[window] & ~opaque] = [*tint, 128]
        cut[opaque, :3], cut[opaque, 3] = photograph.image[window][opaque], 255
        found[item.number] = cut
    return found


# ------------------------------------------------------------------------------------------------------ files


def write_exports(photographs: Sequence[PhotographPrediction], folder: str | Path, image_url: str = "") -> list[Path]:
    """Everything above as files, in a folder that `load_dataset("coco", folder, "val")` reads.

    `images/` (upright copies), `annotations/val.json` (COCO), `cvat.json`, `labelme/*.json`, `label_studio.json`,
    `label_studio.xml` (its interface) and `cut_outs/<name>_<number>.png`.

    Raises:
        InputError: see `to_coco`; two photographs whose names differ in the ending only; the folder cannot be written.
    """
    folder = Path(folder)
    renamed = [replace(photograph, name=f"{Path(photograph.name).stem}.png") for photograph in photographs]
    names = [photograph.name for photograph in renamed]
    if len(set(names)) < len(names):
        rule = f"photographs need different names before the ending, found {sorted(names)}"
        raise InputError(file=folder, rule=rule, remedy="Rename one: files are named after them")
    files = [
        write_json(to_coco(renamed), folder / "annotations" / "val.json"),
        write_json(to_cvat(renamed), folder / "cvat.json"),
        write_json(to_label_studio(renamed, image_url), folder / "label_studio.json"),
    ]
    interface = folder / "label_studio.xml"
    with atomic_write(interface) as partial:
        partial.write_text(label_studio_interface(renamed), encoding="utf-8")
    files.append(interface)
    for photograph in renamed:
        stem = Path(photograph.name).stem
        document = to_labelme(photograph, f"../images/{photograph.name}")
        files.append(write_json(document, folder / f"labelme/{stem}.json"))
        pictures = {folder / "images" / photograph.name: photograph.image}
        pictures |= {folder / f"cut_outs/{stem}_{number}.png": cut for number, cut in cut_outs(photograph).items()}
        for path, pixels in pictures.items():
            with atomic_write(path) as partial:
                PIL.Image.fromarray(pixels).save(partial, "PNG")
            files.append(path)
    return files
