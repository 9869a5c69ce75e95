"""Write predicted masks for annotation tools (COCO, labelme, Label Studio, CVAT) and as cut-outs; read them back.

Coordinates are pixels of the upright picture. Objects with an empty mask are left out. Known visible masks go into COCO
(`visible_mask`) and CVAT (the flag "occluded"); labelme and Label Studio get amodal masks only. RLE is exact. Polygons
are simplified for editing by hand: IoU with the mask at least `LEAST_IOU`; a mask with holes becomes several parts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import PIL.Image
from jaxtyping import UInt8
from matplotlib.colors import to_rgb
from skimage.measure import approximate_polygon

from sameo_core.apps.brush import decode_brush, encode_brush
from sameo_core.apps.predict import PhotographPrediction, write_json
from sameo_core.arrays import AmodalMask, AmodalMasks
from sameo_core.datasets.images import MAX_PIXELS
from sameo_core.errors import InputError
from sameo_core.front_ends.boxes import LARGEST_ID, number_of
from sameo_core.masks import (
    decode_rle,
    decode_segmentation,
    mask_area,
    mask_box,
    mask_iou,
    mask_to_polygons,
)
from sameo_core.reporting import PALETTE
from sameo_core.runs.atomic import atomic_write

LEAST_IOU = 0.98  # of simplified polygons with the mask
TOLERANCES = (2.0, 1.0, 0.5)  # pixels that an outline may move, tried in this order
LABELME_VERSION = "5.5.0"  # whose format is written
COCO_KEYS = ("category_id", "bbox", "score", "predicted_iou", "segmentation")
ABOUT = "amodal masks by SAMEO, not corrected by hand"


@dataclass(frozen=True)
class LabelledMasks:
    """Objects of one picture as read from an annotation tool."""

    labels: tuple[str, ...]
    masks: AmodalMasks
    left_out: Mapping[str, int] = field(default_factory=dict)  # regions that are no mask: kind -> how many


def _objects(photograph: PhotographPrediction) -> Iterator[dict]:
    """`photograph_results` of masks that are not empty, with `label` and `number` (from 1, as in the overlay)."""
    names = _distinct(photograph.categories)
    for number, result in enumerate(photograph.results, start=1):
        if mask_area(result["segmentation"]):
            category = result["category_id"]
            yield result | {"number": number, "label": names.get(category, f"category {category}")}


def _distinct(categories: Mapping[int, str]) -> dict[int, str]:
    """Categories with unique names, since tools know them by name only; the first keeps a shared name."""
    names: dict[str, int] = {}
    for category, name in sorted(categories.items()):
        while name in names:
            name = f"{name} ({category})"
        names[name] = category
    return {category: name for name, category in names.items()}


def editable_polygons(mask: AmodalMask) -> list[list[float]]:
    """COCO polygons with as few corners as `LEAST_IOU` allows (Douglas-Peucker); none for an empty mask."""
    exact = mask_to_polygons(mask)
    closed = [np.array(polygon + polygon[:2]).reshape(-1, 2) for polygon in exact]
    for tolerance in TOLERANCES if exact else ():
        fewer = [approximate_polygon(outline, tolerance)[:-1].ravel().tolist() for outline in closed]
        fewer = [polygon for polygon in fewer if len(polygon) >= 6]
        if fewer and mask_iou(decode_segmentation(fewer, *mask.shape), mask) >= LEAST_IOU:
            return fewer
    return exact


# ------------------------------------------------------------------------------------------------------ COCO and CVAT


def to_coco(photographs: Sequence[PhotographPrediction]) -> dict:
    """COCO annotations: `segmentation` is the amodal mask as RLE, with `score` and `predicted_iou`.

    Known visible masks add `visible_mask` (the part inside the amodal mask) and `occlude_rate`; `info` counts the
    photographs without them. `load_dataset("coco", ...)` and pycocotools read it.

    Raises:
        InputError: two photographs with the same id, or two names for one category.
    """
    images: dict[int, dict] = {}
    categories: dict[int, str] = {}
    annotations: list[dict] = []
    for photograph in photographs:
        given, name = photograph.image_id, photograph.name
        image_id = given if isinstance(given, int) and 0 <= given < LARGEST_ID else number_of(name)
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
            categories.setdefault(item["category_id"], item["label"])
            area = mask_area(item["segmentation"])
            annotation: dict = {"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0, "area": area}
            annotation |= {key: item[key] for key in COCO_KEYS}
            if visible := item.get("visible_mask"):
                annotation |= {"visible_mask": visible, "occlude_rate": (area - mask_area(visible)) / area}
            annotations.append(annotation)
    unknown = sum(photograph.visible is None for photograph in photographs)
    text = f"; visible masks are unknown for {unknown} of {len(photographs)} photographs" if unknown else ""
    return {
        "info": {"description": ABOUT + text},
        "licenses": [],  # required by some readers
        "images": list(images.values()),
        "categories": [{"id": i, "name": name} for i, name in sorted(_distinct(categories).items())],
        "annotations": annotations,
    }


def to_cvat(photographs: Sequence[PhotographPrediction]) -> dict:
    """COCO as CVAT's importer "COCO 1.0" takes it: polygons with `iscrowd` 0, which every version of CVAT reads.

    The parts of an object become a group of polygons. CVAT matches images and labels by name: the task needs both
    before the import. Category 0 means "no label" there, so ids begin with 1.
    Source: CVAT's manual "MS COCO Object Detection", and datumaro's COCO reader behind it.

    Raises:
        InputError: see `to_coco`.
    """
    document = to_coco(photographs) | {"info": {"description": f"{ABOUT}; for CVAT's importer COCO 1.0"}}
    shift = max(0, 1 - min((category["id"] for category in document["categories"]), default=1))
    for category in document["categories"]:
        category |= {"id": category["id"] + shift, "supercategory": ""}
    for annotation in document["annotations"]:
        annotation["category_id"] += shift
        annotation["segmentation"] = editable_polygons(decode_rle(annotation["segmentation"]))
        if annotation.pop("visible_mask", None):
            annotation["attributes"] = {"occluded": annotation.pop("occlude_rate") > 0}
    return document


# ------------------------------------------------------------------------------------------------------ labelme


def to_labelme(photograph: PhotographPrediction, image_path: str | None = None) -> dict:
    """labelme's JSON: a polygon per part; the parts of an object share their `group_id`.

    Args:
        image_path: of the picture, relative to the JSON file; by default its name.
    """
    shapes: list[dict] = [
        {
            "label": item["label"],
            "points": np.reshape(polygon, (-1, 2)).tolist(),
            "group_id": item["number"],
            "description": f"score {item['score']:.3f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for item in _objects(photograph)
        for polygon in editable_polygons(decode_rle(item["segmentation"]))
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
    with _reading("labelme", "Give the JSON that labelme saved, with polygons in place of other shapes"):
        size = _picture_size(document["imageHeight"], document["imageWidth"])
        parts: dict[tuple, list] = {}
        for i, shape in enumerate(document["shapes"]):
            if shape["shape_type"] != "polygon":
                raise ValueError(f"shape {i} is a {shape['shape_type']}, not a polygon")
            group = shape.get("group_id")
            key = shape["label"], ("alone", i) if group is None else group
            parts.setdefault(key, []).append(np.array(shape["points"], float).ravel().tolist())
        masks = [decode_segmentation(part, *size) for part in parts.values()]
    return LabelledMasks(tuple(label for label, _ in parts), np.array(masks, bool).reshape(-1, *size))


@contextmanager
def _reading(tool: str, remedy: str) -> Iterator[None]:
    """Raise InputError where reading a tool's file fails."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        said = error.rule if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(file=tool, rule=f"not an export of {tool} ({said})", remedy=remedy) from error


def _picture_size(height: object, width: object) -> tuple[int, int]:
    if not (isinstance(height, int) and isinstance(width, int) and 0 < height * width <= MAX_PIXELS):
        raise ValueError(f"height and width in pixels, at most {MAX_PIXELS:,} in all, found {height!r} and {width!r}")
    return height, width


# ------------------------------------------------------------------------------------------------------ Label Studio


def to_label_studio(photographs: Sequence[PhotographPrediction], image_url: str = "") -> list[dict]:
    """Label Studio's tasks with pre-annotations: `brushlabels` in its own exact RLE.

    The project needs the labelling interface of `label_studio_interface`.

    Args:
        image_url: prefix of the percent-encoded file name, so that Label Studio can fetch the picture.
    """
    tasks = []
    for photograph in photographs:
        height, width = photograph.image.shape[:2]
        regions = [
            {
                "id": f"object-{item['number']}",
                "type": "brushlabels",
                "from_name": "amodal",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": item["score"],
                "value": {
                    "format": "rle",
                    "rle": encode_brush(decode_rle(item["segmentation"])),
                    "brushlabels": [item["label"]],
                },
            }
            for item in _objects(photograph)
        ]
        score = float(np.mean([region["score"] for region in regions])) if regions else 0.0
        prediction = {"model_version": "SAMEO", "score": score, "result": regions}
        tasks.append({"data": {"image": image_url + quote(photograph.name)}, "predictions": [prediction]})
    return tasks


def label_studio_interface(photographs: Sequence[PhotographPrediction]) -> str:
    """The labelling interface (XML) for `to_label_studio`, with a brush per label."""
    labels = sorted({item["label"] for photograph in photographs for item in _objects(photograph)})
    listed = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in labels)
    brushes = f'  <BrushLabels name="amodal" toName="image">\n{listed}\n  </BrushLabels>'
    return f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n{brushes}\n</View>\n'


def from_label_studio(task: Mapping) -> LabelledMasks:
    """The masks of a Label Studio task (JSON): of its first annotation that was not cancelled, else of its prediction.

    Brush strokes and polygons become masks; other regions are counted in `left_out`.

    Raises:
        InputError: a key is missing, there is no mask, an RLE is damaged, or the task has more than one picture.
    """
    with _reading("Label Studio", 'Export as "JSON", not "JSON-MIN", a task per picture; leave out those without mask'):
        answers = [answer for answer in task.get("annotations") or () if not answer.get("was_cancelled")]
        answers = answers or task.get("predictions") or [{"result": []}]
        regions = answers[0]["result"]
        drawn = [region for region in regions if region["type"] in ("brushlabels", "polygonlabels")]
        left_out = Counter(region["type"] for region in regions) - Counter(region["type"] for region in drawn)
        if not drawn:
            raise ValueError(f"no brush mask and no polygon in the task, found {dict(left_out) or 'nothing'}")
        pictures = {(*_size_of(region), region.get("to_name"), region.get("item_index")) for region in drawn}
        if len(pictures) > 1:
            raise ValueError(f"a task has one picture, found (height, width, name, page) {sorted(map(str, pictures))}")
        labels = tuple(region["value"][region["type"]][0] for region in drawn)
        return LabelledMasks(labels, np.array([_region(region) for region in drawn]), dict(left_out))


def _size_of(region: Mapping) -> tuple[int, int]:
    return _picture_size(region["original_height"], region["original_width"])


def _region(region: Mapping) -> AmodalMask:
    """The mask of a region: a brush's RLE, or a polygon in per cent of the sides."""
    height, width = _size_of(region)
    if region["type"] == "brushlabels":
        return decode_brush(region["value"]["rle"], height, width)
    points = np.array(region["value"]["points"], float).reshape(-1, 2) * (width / 100, height / 100)
    return decode_segmentation([points.ravel().tolist()], height, width)


# ------------------------------------------------------------------------------------------------------ files


def cut_outs(photograph: PhotographPrediction) -> dict[int, UInt8[np.ndarray, "_ _ 4"]]:
    """RGBA cut-out of each object's amodal box, by the object's number in the overlay.

    If the visible mask is known, visible pixels are opaque, and the hidden region is half transparent orange. If not,
    the whole amodal mask is opaque, occluders included.
    """
    tint = [round(255 * part) for part in to_rgb(PALETTE["hidden"])]
    found = {}
    for item in _objects(photograph):
        x0, y0, x1, y1 = mask_box(item["segmentation"]).astype(int)
        window = np.s_[y0:y1, x0:x1]
        amodal = decode_rle(item["segmentation"])[window]
        opaque = decode_rle(item.get("visible_mask", item["segmentation"]))[window]
        cut = np.zeros((*opaque.shape, 4), np.uint8)
        cut[amodal & ~opaque] = [*tint, 128]
        cut[opaque, :3], cut[opaque, 3] = photograph.image[window][opaque], 255
        found[item["number"]] = cut
    return found


def write_exports(photographs: Sequence[PhotographPrediction], folder: str | Path, image_url: str = "") -> list[Path]:
    """All exports as files, in a folder that `load_dataset("coco", folder, "val")` reads.

    `images/` (upright copies), `annotations/val.json` (COCO), `cvat.json`, `labelme/*.json`, `label_studio.json`,
    `label_studio.xml` (its interface) and `cut_outs/<name>_<number>.png`.

    Raises:
        InputError: see `to_coco`; two photographs whose names differ in the ending only; the folder cannot be written.
    """
    folder = Path(folder)
    renamed = [replace(photograph, name=f"{Path(photograph.name).stem}.png") for photograph in photographs]
    names = sorted(photograph.name for photograph in renamed)
    if len(set(names)) < len(names):
        rule = f"photographs need different names before the ending, found {names}"
        raise InputError(file=folder, rule=rule, remedy="Rename one: files are named after them")
    files = [
        write_json(to_coco(renamed), folder / "annotations" / "val.json"),
        write_json(to_cvat(renamed), folder / "cvat.json"),
        write_json(to_label_studio(renamed, image_url), folder / "label_studio.json"),
        folder / "label_studio.xml",
    ]
    with atomic_write(files[-1]) as partial:
        partial.write_text(label_studio_interface(renamed), encoding="utf-8")
    pictures = {}
    for photograph in renamed:
        stem = Path(photograph.name).stem
        labels = to_labelme(photograph, f"../images/{photograph.name}")
        files.append(write_json(labels, folder / f"labelme/{stem}.json"))
        pictures[folder / "images" / photograph.name] = photograph.image
        pictures |= {folder / f"cut_outs/{stem}_{number}.png": cut for number, cut in cut_outs(photograph).items()}
    for path, pixels in pictures.items():
        with atomic_write(path) as partial:
            PIL.Image.fromarray(pixels).save(partial, "PNG")
    return [*files, *pictures]
