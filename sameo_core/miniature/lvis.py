"""Drawn scenes in LVIS v1's format, and drawn videos in LV-VIS's: visible masks only."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from joblib import Parallel, delayed
from tqdm import tqdm

from sameo_core.config import DATA_SEED
from sameo_core.masks import mask_area, mask_box
from sameo_core.miniature.domains import DOMAINS, domain_of
from sameo_core.miniature.drawing import Scene, draw_frame
from sameo_core.miniature.records import DrawnImage, DrawnObject, Layout, describe_scene

# ----------------------------------- LVIS v1: visible polygons only, no `file_name`, some objects are not annotated

_UNANNOTATED = 0.1  # share of the objects that the file leaves out


def lvis_document(images: Sequence[DrawnImage], split: str) -> dict:
    ids = {shape: i for i, shape in enumerate(DOMAINS["lvis"].shapes, start=1)}
    annotations: list[dict] = []
    records = []
    for image in images:
        kept = _is_annotated(image)
        missed = {ids[item.category] for item, keep in zip(image.objects, kept, strict=True) if not keep}
        present = {ids[item.category] for item in image.objects}
        for item, keep in zip(image.objects, kept, strict=True):
            if keep:
                annotation: dict = {"id": len(annotations) + 1, "image_id": image.id, "category_id": ids[item.category]}
                annotation |= {"bbox": item.visible_box, "area": float(mask_area(item.visible))}
                annotations.append(annotation | {"segmentation": item.visible_polygons})
        record: dict = {"id": image.id, "height": image.height, "width": image.width}
        record |= {"coco_url": f"http://images.cocodataset.org/{LVIS.image_name(image.id, split)}", "flickr_url": ""}
        record |= {"license": 1, "date_captured": "2013-01-01 00:00:00"}
        record |= {"neg_category_ids": [i for i in range(1, 6) if i not in present]}
        records.append(record | {"not_exhaustive_category_ids": sorted(missed)})
    return {"images": records, "annotations": annotations, "categories": _categories(ids, annotations)}


def _categories(ids: dict[str, int], annotations: list[dict]) -> list[dict]:
    found = [(annotation["image_id"], annotation["category_id"]) for annotation in annotations]
    instances = Counter(category for _, category in found)
    images = Counter(category for _, category in set(found))
    categories = []
    for shape, number in ids.items():
        name, count = shape.replace("-", "_"), images[number]
        category: dict = {"id": number, "name": name, "synset": f"{name}.n.01", "synonyms": [shape]}
        category |= {"def": f"the silhouette of the glyph {shape}"}
        category |= {"frequency": "r" if count <= 10 else "c" if count <= 100 else "f"}
        categories.append(category | {"image_count": count, "instance_count": instances[number]})
    return categories


def hidden_shares(split: str, images: int, seed: int = DATA_SEED, jobs: int = -1) -> dict[int, float]:
    """The ground truth that LVIS's file lacks: the hidden share of each annotated object.

    The scenes are drawn again, with the arguments of `draw_dataset`, so that unannotated occluders count, too.

    Returns:
        annotation id, in the order of the file -> hidden pixels / pixels inside the frame; 0 for complete objects, NaN
        for those that the frame cuts.
    """
    work = (delayed(_hidden_shares)(split, seed, index) for index in range(images))
    scenes = Parallel(n_jobs=jobs, return_as="generator")(work)
    bar = tqdm(scenes, total=images, desc=f"truth of lvis {split}", unit="image")
    return dict(enumerate((share for scene in bar for share in scene), start=1))


def _hidden_shares(split: str, seed: int, index: int) -> list[float]:
    image = describe_scene(LVIS.draw(domain_of("lvis", split), index, seed, split), index + 1)
    return [
        float("nan") if _touches_frame(item, image) else item.occlude_rate
        for item, keep in zip(image.objects, _is_annotated(image), strict=True)
        if keep
    ]


def _touches_frame(item: DrawnObject, image: DrawnImage) -> bool:
    """Whether the frame cuts an object: silhouettes are connected, so the part inside then touches the frame."""
    x0, y0, x1, y1 = mask_box(item.amodal)
    return bool(x0 == 0 or y0 == 0 or x1 == image.width or y1 == image.height)


def _is_annotated(image: DrawnImage) -> Bool[np.ndarray, " n"]:
    return np.random.default_rng([image.id, 7]).random(len(image.objects)) >= _UNANNOTATED


LVIS = Layout("annotations/lvis_v1_{split}.json", "{split}2017/{id:012d}.jpg", lvis_document)

# ------------------------------------ LV-VIS: YouTube-VIS JSON with a mask or null for each frame, backslashes in paths
# Videos have 2, 3 and 4 frames in turn; one image of the miniature is one frame. No blemishes: nulls and backslashes
# belong to the format.

_LENGTHS = (2, 3, 4)
_TURN = [(v, t) for v, length in enumerate(_LENGTHS) for t in range(length)]  # (video, frame) of 9 images in a row


def draw_lvvis(domain: str, index: int, seed: int, split: str) -> Scene:
    video, frame = _place(index)
    return draw_frame(domain, video, frame, _LENGTHS[video % len(_LENGTHS)], seed, split)


def lvvis_document(images: Sequence[DrawnImage], split: str) -> dict:
    """One annotation per object and video, with its visible mask in each frame."""
    ids = {shape: i for i, shape in enumerate(DOMAINS["lvvis"].shapes, start=1)}
    videos: dict[int, list[DrawnImage]] = {}
    for image in images:
        videos.setdefault(_place(image.id - 1)[0], []).append(image)
    annotations: list[dict] = []
    records = []
    for video, frames in videos.items():
        files = ["{video}\\{frame}.jpg".format(**lvvis_names(image.id, split)) for image in frames]
        sizes = {"height": frames[0].height, "width": frames[0].width}
        records.append({"id": video, **sizes, "length": len(frames), "file_names": files})
        objects = {item.identity: item.category for image in frames for item in image.objects}
        for identity, category in sorted(objects.items()):
            seen = [next((o for o in image.objects if o.identity == identity), None) for image in frames]
            annotation: dict = {"id": len(annotations) + 1, "video_id": video, "category_id": ids[category]}
            annotation |= {"iscrowd": 0, "segmentations": [item and item.visible for item in seen]}
            annotation |= {"bboxes": [item and item.visible_box for item in seen]}
            annotations.append(annotation | {"areas": [item and mask_area(item.visible) for item in seen]})
    categories = [{"id": i, "name": s.replace("-", "_"), "partition": i % 4} for s, i in ids.items()]
    return {"videos": records, "annotations": annotations, "categories": categories}


def lvvis_names(image_id: int, split: str) -> dict[str, str]:
    video, frame = _place(image_id - 1)
    return {"video": f"{video:05d}", "frame": f"{frame:05d}"}


def _place(index: int) -> tuple[int, int]:
    """(video, frame) of image `index`, counted from 0."""
    turn, rest = divmod(index, len(_TURN))
    video, frame = _TURN[rest]
    return turn * len(_LENGTHS) + video, frame


LVVIS = Layout(
    "{split}_instances.json",
    "{split}/JPEGImages/{video}/{frame}.jpg",
    lvvis_document,
    draw=draw_lvvis,
    names=lvvis_names,
)
