"""Drawn scenes written to disk as COCOA, COCOA-cls and LVIS are distributed: same folders, names, keys, encodings.

Formats and their traps: data/README.md. The blemishes of the real sets are drawn too, since readers must survive them:
stuff regions and trailing spaces (COCOA), category ids with gaps (COCOA-cls), objects that nobody annotated (LVIS).
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image as PILImage
from tqdm.auto import tqdm

from sameo_core import AmodalMask, VisibleMask
from sameo_core.errors import InputError
from sameo_core.masks import RLE, encode_mask, mask_area, mask_box, mask_to_polygons, xyxy_to_xywh
from sameo_core.miniature.drawing import DOMAINS, Scene, draw_scene

JPEG_QUALITY = 92
_COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # COCO's 80 ids have gaps
_UNANNOTATED = 0.1  # share of the objects that the LVIS-like file leaves out


@dataclass(frozen=True)
class DrawnObject:
    """What a format may store of one object; the list of an image's objects goes from back to front."""

    category: str
    amodal: RLE
    visible: RLE
    hidden: RLE | None  # None: fully visible
    amodal_outline: list[float]  # one flat polygon
    visible_polygons: list[list[float]]
    occludes: tuple[int, ...]  # positions, in the same list, of the objects that this one hides in part
    is_stuff: bool = False

    @property
    def box(self) -> list[float]:
        """The amodal box, COCO's xywh."""
        return [round(float(v), 2) for v in xyxy_to_xywh(mask_box(self.amodal))]

    @property
    def visible_box(self) -> list[float]:
        return [round(float(v), 2) for v in xyxy_to_xywh(mask_box(self.visible))]

    @property
    def area(self) -> int:
        return mask_area(self.amodal)

    @property
    def occlude_rate(self) -> float:
        return mask_area(self.hidden) / self.area if self.hidden else 0.0


@dataclass(frozen=True)
class DrawnImage:
    """What a format may store of one image."""

    id: int
    height: int
    width: int
    objects: tuple[DrawnObject, ...]


def draw_dataset(name: str, root: str | Path, split: str, images: int, seed: int = 0, jobs: int = -1) -> Path:
    """Draw a miniature data set and write it below `root` in the real set's format; a finished one is left as it is.

    The annotation file is written last and in one step: where it exists, with the same recipe, the set is complete.

    Args:
        name: one of `WRITERS`; also the domain the scenes are drawn in.
        root: the folder that `load_dataset(name, root, split)` will read.
        split: "train" or "val".
        images: how many.
        seed: of the whole drawn world.
        jobs: processes that draw; -1 for one a core. The files do not depend on it.

    Returns:
        the path of the annotation file.

    Raises:
        InputError: an unknown name, or no images asked for.
    """
    if name not in WRITERS:
        rule = f"a miniature exists of {', '.join(WRITERS)}, found {name!r}"
        raise InputError(file="name", rule=rule, remedy="Choose one of these names")
    if images < 1:
        raise InputError(file="images", rule=f"at least 1 image, found {images}", remedy="Ask for one or more")
    root, layout = Path(root), WRITERS[name]
    annotation_file = root / layout.annotation_file.format(split=split)
    recipe = {"description": f"miniature {name}", "split": split, "images": images, "seed": seed, "domain": str(DOMAINS[name])}
    if _recipe_of(annotation_file) == recipe:
        return annotation_file
    (root / layout.image_file.format(split=split, id=0)).parent.mkdir(parents=True, exist_ok=True)
    work = (
        delayed(_draw_image)(name, split, seed, index, root / layout.image_file.format(split=split, id=index + 1))
        for index in range(images)
    )
    drawn = Parallel(n_jobs=jobs, return_as="generator")(work)
    drawn = list(tqdm(drawn, total=images, desc=f"drawing {name} {split}", unit="image"))
    document = {"info": recipe, **layout.document(drawn, split)}
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    partial = annotation_file.with_suffix(".partial")
    partial.write_text(json.dumps(document))
    os.replace(partial, annotation_file)
    return annotation_file


def _recipe_of(annotation_file: Path) -> dict | None:
    try:
        return json.loads(annotation_file.read_text())["info"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, damaged or of another make: it is drawn anew


def _draw_image(domain: str, split: str, seed: int, index: int, path: Path) -> DrawnImage:
    scene = draw_scene(domain, index, seed, split)
    partial = path.with_suffix(".partial")
    PILImage.fromarray(scene.image).save(partial, format="JPEG", quality=JPEG_QUALITY)
    os.replace(partial, path)
    return describe_scene(scene, index + 1)


def describe_scene(scene: Scene, image_id: int) -> DrawnImage:
    """A scene's truth in the encodings that data sets store; the ground, if any, is the first object and stuff."""
    amodal, visible, names = list(scene.amodal), list(scene.visible), list(scene.categories)
    if scene.ground is not None:
        amodal.insert(0, scene.ground)
        visible.insert(0, scene.ground & ~scene.amodal.any(0))
        names.insert(0, scene.ground_category)
    overlaps = [tuple(i for i in range(j) if (amodal[i] & amodal[j]).any()) for j in range(len(amodal))]
    objects = [
        _describe(name, a, v, occludes, is_stuff=scene.ground is not None and i == 0)
        for i, (name, a, v, occludes) in enumerate(zip(names, amodal, visible, overlaps, strict=True))
        if v.any()
    ]
    height, width = scene.image.shape[:2]
    return DrawnImage(image_id, height, width, tuple(objects))


def _describe(
    name: str, amodal: AmodalMask, visible: VisibleMask, occludes: tuple[int, ...], is_stuff: bool
) -> DrawnObject:
    hidden = amodal & ~visible
    return DrawnObject(
        category=name,
        amodal=encode_mask(amodal),
        visible=encode_mask(visible),
        hidden=encode_mask(hidden) if hidden.any() else None,
        amodal_outline=mask_to_polygons(amodal)[0],
        visible_polygons=mask_to_polygons(visible),
        occludes=occludes,
        is_stuff=is_stuff,
    )


# Documents: what the annotation file of each format says ------------------------------------------------------------


def _coco_image(image: DrawnImage, file_name: str, split: str) -> dict:
    url = f"http://images.cocodataset.org/{split}2014/{file_name}"
    when = "2013-01-01 00:00:00"
    sizes = {"height": image.height, "width": image.width}
    return {"id": image.id, "file_name": file_name, **sizes, "license": 1, "date_captured": when, "coco_url": url, "flickr_url": url}


def _cocoa(images: Sequence[DrawnImage], split: str) -> dict:
    """One annotation an image; its regions from front to back, the visible mask only where something is hidden."""
    annotations = []
    for image in images:
        front_first = list(reversed(image.objects))
        order = {len(image.objects) - 1 - i: i + 1 for i in range(len(front_first))}  # position from the back -> order
        pairs = [f"{order[j]}-{order[i]}" for j, item in enumerate(image.objects) for i in item.occludes]
        regions = []
        for number, item in enumerate(front_first, start=1):
            region = {
                "order": number,
                "name": item.category,
                "isStuff": int(item.is_stuff),
                "area": item.area,
                "occlude_rate": item.occlude_rate,
                "segmentation": item.amodal_outline,
            }
            if item.hidden:
                region |= {"visible_mask": item.visible, "invisible_mask": item.hidden}
            regions.append(region)
        annotations.append(
            {
                "id": image.id,
                "image_id": image.id,
                "author": "miniature",
                "url": f"http://images.cocodataset.org/{split}2014/{image.id}",
                "size": len(regions),
                "depth_constraint": ",".join(sorted(pairs)),
                "regions": regions,
            }
        )
    return {"images": [_coco_image(i, _coco_name(i.id, split), split) for i in images], "annotations": annotations}


def _cocoa_cls(images: Sequence[DrawnImage], split: str) -> dict:
    """Flat COCO annotations with amodal `segmentation`; category ids 1..90 with gaps, as COCO's own."""
    shapes = DOMAINS["cocoa_cls"].shapes
    ids = {shape: _COCO_IDS[i * len(_COCO_IDS) // len(shapes)] for i, shape in enumerate(shapes)}
    annotations = []
    for image in images:
        for item in image.objects:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image.id,
                "category_id": ids[item.category],
                "iscrowd": 0,
                "bbox": item.box,
                "area": item.area,
                "occlude_rate": item.occlude_rate,
                "segmentation": item.amodal,
                "visible_mask": item.visible,
            }
            annotations.append(annotation | ({"invisible_mask": item.hidden} if item.hidden else {}))
    return {
        "images": [_coco_image(i, _coco_name(i.id, split), split) for i in images],
        "categories": [{"id": ids[s], "name": s, "supercategory": s.split("-")[0]} for s in shapes],
        "annotations": annotations,
    }


def _lvis(images: Sequence[DrawnImage], split: str) -> dict:
    """LVIS v1: visible polygons only, no `file_name`, federated: some objects are not annotated."""
    shapes = DOMAINS["lvis"].shapes
    ids = {shape: i for i, shape in enumerate(shapes, start=1)}
    records, annotations, found = [], [], []
    for image in images:
        kept = np.random.default_rng([image.id, 7]).random(len(image.objects)) >= _UNANNOTATED
        missed = {ids[item.category] for item, keep in zip(image.objects, kept, strict=True) if not keep}
        present = {ids[item.category] for item in image.objects}
        for item, keep in zip(image.objects, kept, strict=True):
            if keep:
                annotation = {"id": len(annotations) + 1, "image_id": image.id, "category_id": ids[item.category]}
                shape = {"bbox": item.visible_box, "area": float(mask_area(item.visible)), "segmentation": item.visible_polygons}
                annotations.append(annotation | shape)
                found.append((image.id, ids[item.category]))
        records.append(
            {
                "id": image.id,
                "height": image.height,
                "width": image.width,
                "coco_url": f"http://images.cocodataset.org/{split}2017/{image.id:012d}.jpg",
                "flickr_url": "",
                "license": 1,
                "date_captured": "2013-01-01 00:00:00",
                "neg_category_ids": [i for i in range(1, 6) if i not in present],
                "not_exhaustive_category_ids": sorted(missed),
            }
        )
    return {"images": records, "annotations": annotations, "categories": _lvis_categories(ids, found)}


def _lvis_categories(ids: dict[str, int], found: Iterable[tuple[int, int]]) -> list[dict]:
    found = list(found)
    instances = Counter(category for _, category in found)
    images = Counter(category for _, category in set(found))
    return [
        {
            "id": number,
            "name": shape.replace("-", "_"),
            "synset": f"{shape.replace('-', '_')}.n.01",
            "synonyms": [shape],
            "def": f"the silhouette of the glyph {shape}",
            "frequency": "r" if images[number] <= 10 else "c" if images[number] <= 100 else "f",
            "image_count": images[number],
            "instance_count": instances[number],
        }
        for shape, number in ids.items()
    ]


def _coco_name(image_id: int, split: str) -> str:
    return f"COCO_{split}2014_{image_id:012d}.jpg"


@dataclass(frozen=True)
class Layout:
    """Where the files of a format lie below its root, and what its annotation file says."""

    annotation_file: str
    image_file: str
    document: Callable[[Sequence[DrawnImage], str], dict]


WRITERS: dict[str, Layout] = {
    "cocoa": Layout("annotations/COCO_amodal_{split}2014.json", "{split}2014/COCO_{split}2014_{id:012d}.jpg", _cocoa),
    "cocoa_cls": Layout(
        "annotations/COCO_amodal_{split}2014_with_classes.json", "{split}2014/COCO_{split}2014_{id:012d}.jpg", _cocoa_cls
    ),
    "lvis": Layout("annotations/lvis_v1_{split}.json", "{split}2017/{id:012d}.jpg", _lvis),
}
