"""Drawn scenes as the sets with one JSON file are distributed: COCOA, COCOA-cls, D2SA, MUVA and KINS."""

from collections.abc import Iterator, Sequence

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sameo_core.masks import mask_area
from sameo_core.miniature.domains import DOMAINS, SHELF_SHAPES, TABLE_SHAPES
from sameo_core.miniature.records import DrawnImage, DrawnObject, Layout

# ---------------------------------------------------------------- COCOA, with its stuff regions and its trailing spaces


def cocoa_document(images: Sequence[DrawnImage], split: str) -> dict:
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
    return {"images": [coco_image(i, split) for i in images], "annotations": annotations}


def coco_image(image: DrawnImage, split: str) -> dict:
    """An image record of COCO 2014."""
    file_name = f"COCO_{split}2014_{image.id:012d}.jpg"
    url = f"http://images.cocodataset.org/{split}2014/{file_name}"
    when = "2013-01-01 00:00:00"
    sizes = {"height": image.height, "width": image.width}
    return {
        "id": image.id,
        "file_name": file_name,
        **sizes,
        "license": 1,
        "date_captured": when,
        "coco_url": url,
        "flickr_url": url,
    }


COCOA = Layout("annotations/COCO_amodal_{split}2014.json", "{split}2014/COCO_{split}2014_{id:012d}.jpg", cocoa_document)

# ------------------------------------------------------- COCOA-cls: flat COCO annotations, category ids 1..90 with gaps

_COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # COCO's 80 ids have gaps


def _annotation(item: DrawnObject, number: int, image_id: int, category_id: int, **more: int) -> dict:
    annotation = {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": 0,
        "bbox": item.box,
        "area": item.area,
        "occlude_rate": item.occlude_rate,
        **more,
        "segmentation": item.amodal,
        "visible_mask": item.visible,
    }
    return annotation | ({"invisible_mask": item.hidden} if item.hidden else {})


def cocoa_cls_document(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal `segmentation`, `visible_mask` always, `invisible_mask` where something is hidden; all RLE."""
    shapes = DOMAINS["cocoa_cls"].shapes
    ids = {shape: _COCO_IDS[i * len(_COCO_IDS) // len(shapes)] for i, shape in enumerate(shapes)}
    annotations: list[dict] = []
    for image in images:
        for item in image.objects:
            annotations.append(_annotation(item, len(annotations) + 1, image.id, ids[item.category]))
    return {
        "images": [coco_image(i, split) for i in images],
        "categories": [{"id": ids[s], "name": s, "supercategory": s.split("-")[0]} for s in shapes],
        "annotations": annotations,
    }


COCOA_CLS = Layout(
    "annotations/COCO_amodal_{split}2014_with_classes.json",
    "{split}2014/COCO_{split}2014_{id:012d}.jpg",
    cocoa_cls_document,
)

# ------------------------------------------ D2SA: three files that count their ids independently, so that these collide

D2SA_FILES = {  # split -> words of its file names; the images of all splits lie in one folder
    "train": {"part": "training_rot0", "first": 0},
    "augmented": {"part": "augmented", "first": 1},
    "val": {"part": "validation", "first": 2},
}


def d2sa_document(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal `segmentation` and `visible_mask` always, `invisible_mask` where something is hidden; all RLE.

    `occl_depth` counts the objects that lie on top of an object. Blemish: names end in a space.
    """
    ids = {shape: i for i, shape in enumerate(TABLE_SHAPES, start=1)}
    annotations: list[dict] = []
    for image in images:
        for position, item in enumerate(image.objects):
            depth = sum(position in other.occludes for other in image.objects)
            number = len(annotations) + 1
            annotations.append(_annotation(item, number, image.id, ids[item.category], occl_depth=depth))
    return {
        "images": [
            {"id": image.id, "file_name": d2sa_file_name(image.id, split), "height": image.height, "width": image.width}
            for image in images
        ],
        "categories": [{"id": i, "name": f"{shape} ", "supercategory": "miniature"} for shape, i in ids.items()],
        "annotations": annotations,
    }


def d2sa_file_name(image_id: int, split: str) -> str:
    return f"D2S_{D2SA_FILES[split]['first']}{image_id:05d}.jpg"


D2SA = Layout(
    "d2s_amodal_annotations_v1/D2S_amodal_{part}.json",
    "d2s_amodal_images_v1/images/D2S_{first}{id:05d}.jpg",
    d2sa_document,
    words=D2SA_FILES,
)

# -------------------------- MUVA as it might be: its schema is not published, see the reader. Three views of each scene

MUVA_VIEWS = ("left", "front", "right")


def muva_document(images: Sequence[DrawnImage], split: str) -> dict:
    """RLE in `segmentation` and `visible_mask`; `object_id` tells which objects of a scene's views are the same.

    Blemish: the names of categories end in a space.
    """
    ids = {shape: i for i, shape in enumerate(SHELF_SHAPES, start=1)}
    annotations: list[dict] = []
    for image in images:
        for item in image.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": ids[item.category],
                    "object_id": item.identity,
                    "iscrowd": 0,
                    "bbox": item.box,
                    "area": item.area,
                    "segmentation": item.amodal,
                    "visible_mask": item.visible,
                }
            )
    return {
        "images": [_muva_image(image, split) for image in images],
        "categories": [{"id": i, "name": f"{shape} ", "supercategory": "miniature"} for shape, i in ids.items()],
        "annotations": annotations,
    }


def _muva_image(image: DrawnImage, split: str) -> dict:
    scene, view = divmod(image.id - 1, DOMAINS["muva"].views)
    return {
        "id": image.id,
        "file_name": f"{split}_{image.id:06d}.jpg",
        "height": image.height,
        "width": image.width,
        "scene_id": scene + 1,
        "view": MUVA_VIEWS[view],
    }


MUVA = Layout("annotations/AiFi-MUVA_{split}.json", "images/{split}_{id:06d}.jpg", muva_document)

# ------------------------------------ KINS: both editions of the annotations, ids that are not the numbers of the files

KINS_CATEGORIES = {1: "cyclist", 2: "pedestrian", 4: "car", 5: "tram", 6: "truck", 7: "van", 8: "misc"}
KINS_CATEGORY_OF = {
    "car": 4,
    "car-side": 4,
    "taxi": 4,
    "van-shuttle": 7,
    "snowplow": 6,
    "cable-car": 5,
    "person-skiing-nordic": 2,
    "person-snowboarding": 1,
    "cart-shopping": 8,
    "wheelchair-move": 8,
}
KINS_GHOST_EVERY = 8  # images


def edition_2019(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal polygons in `segmentation`, visible RLE in `inmodal_seg`. Blemish: see `_objects`, its RLE is empty."""
    annotations: list[dict] = []
    for image, _, item, ghost in _objects(images):
        visible = {"size": [image.height, image.width], "counts": [image.height * image.width]}
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image.id - 1,
                "category_id": KINS_CATEGORY_OF[item.category],
                "iscrowd": 0,
                "area": item.area,
                "bbox": item.box,
                "segmentation": [item.amodal_outline],
                "inmodal_bbox": item.box if ghost else item.visible_box,
                "inmodal_seg": visible if ghost else item.visible,
            }
        )
    return _kins_document(images, annotations, {})


def edition_2020(images: Sequence[DrawnImage], split: str) -> dict:
    """Polygons in `a_segm` and `i_segm`, clusters of overlapping objects. Blemish: see `_objects`; its box is inverted.

    `oco_id` is the cluster in its image; `ico_id` is 0 for an object alone, else its place from 1, the nearest first.
    """
    clusters = {image.id: _clusters(image) for image in images}
    annotations: list[dict] = []
    for image, position, item, ghost in _objects(images):
        x, y, *_ = item.box
        cluster = clusters[image.id]
        ahead = sum(other == cluster[position] for other in cluster[position + 1 :])
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image.id - 1,
                "category_id": KINS_CATEGORY_OF[item.category],
                "a_area": item.area,
                "a_bbox": item.box,
                "a_segm": [item.amodal_outline],
                "i_area": 0 if ghost else mask_area(item.visible),
                "i_bbox": [x, y, -1.0, -1.0] if ghost else item.visible_box,
                "i_segm": [[x, y, x, y, x, y]] if ghost else item.visible_polygons,
                "oco_id": cluster[position] + 1,
                "ico_id": ahead + 1 if cluster.count(cluster[position]) > 1 else 0,
            }
        )
    return _kins_document(images, annotations, {3: "rider"})


def _objects(images: Sequence[DrawnImage]) -> Iterator[tuple[DrawnImage, int, DrawnObject, bool]]:
    """(image, position in it, object, ghost) of all images.

    A ghost stands in every `GHOST_EVERY`th image: an object of which nothing is seen, right behind the nearest one.
    """
    for image in images:
        yield from ((image, position, item, False) for position, item in enumerate(image.objects))
        if image.id % KINS_GHOST_EVERY == 0 and image.objects:
            yield image, len(image.objects) - 1, image.objects[-1], True


def _clusters(image: DrawnImage) -> list[int]:
    """For each object the number, from 0, of the group of overlapping objects that it belongs to."""
    pairs = [(front, behind) for front, item in enumerate(image.objects) for behind in item.occludes]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_array(([1] * len(pairs), (rows, columns)), shape=(len(image.objects),) * 2)
    return connected_components(graph, directed=False)[1].tolist()


def _kins_document(images: Sequence[DrawnImage], annotations: list[dict], more_categories: dict[int, str]) -> dict:
    return {
        "images": [
            {"id": i.id - 1, "file_name": f"{i.id:06d}.png", "height": i.height, "width": i.width} for i in images
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "living" if number < 4 else "vehicles"}
            for number, name in sorted((KINS_CATEGORIES | more_categories).items())
        ],
        "annotations": annotations,
    }


KINS = Layout(
    "instances_{split}.json",
    "{folder}/image_2/{id:06d}.png",
    edition_2019,
    words={"train": {"folder": "training", "word": "train"}, "val": {"folder": "testing", "word": "test"}},
    more_files={"update_{word}_2020.json": edition_2020},
)
