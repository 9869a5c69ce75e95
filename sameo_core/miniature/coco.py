"""Drawn scenes in the formats of the sets with one JSON file: COCOA, COCOA-cls, D2SA, MUVA and KINS."""

from collections.abc import Iterator, Mapping, Sequence

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sameo_core.masks import mask_area
from sameo_core.miniature.domains import DOMAINS, SHELF_SHAPES, TABLE_SHAPES
from sameo_core.miniature.records import DrawnImage, DrawnObject, Layout, all_objects, image_record

# ---------------------------------------------------------------- COCOA, with its stuff regions and its trailing spaces


def cocoa_document(images: Sequence[DrawnImage], split: str) -> dict:
    """One annotation per image; regions from front to back, visible masks of occluded objects only."""
    annotations = []
    for image in images:
        count = len(image.objects)
        pairs = [f"{count - j}-{count - i}" for j, item in enumerate(image.objects) for i in item.occludes]
        annotation: dict = {"id": image.id, "image_id": image.id, "author": "miniature"}
        annotation |= {"url": f"http://images.cocodataset.org/{split}2014/{image.id}", "size": count}
        annotation |= {"depth_constraint": ",".join(sorted(pairs))}
        regions = [_cocoa_region(order, item) for order, item in enumerate(reversed(image.objects), start=1)]
        annotations.append(annotation | {"regions": regions})
    return {"images": [coco_image(i, split) for i in images], "annotations": annotations}


def _cocoa_region(order: int, item: DrawnObject) -> dict:
    region: dict = {"order": order, "name": item.category, "isStuff": int(item.is_stuff), "area": item.area}
    region |= {"occlude_rate": item.occlude_rate, "segmentation": item.amodal_outline}
    return region | ({"visible_mask": item.visible, "invisible_mask": item.hidden} if item.hidden else {})


def coco_image(image: DrawnImage, split: str) -> dict:
    """An image record of COCO 2014."""
    name = COCOA.file_name(image.id, split)
    url = f"http://images.cocodataset.org/{split}2014/{name}"
    more = {"license": 1, "date_captured": "2013-01-01 00:00:00", "coco_url": url, "flickr_url": url}
    return image_record(image, name, **more)


COCOA = Layout("annotations/COCO_amodal_{split}2014.json", "{split}2014/COCO_{split}2014_{id:012d}.jpg", cocoa_document)

# ------------------------------------------------------- COCOA-cls: flat COCO annotations, category ids 1..90 with gaps

_COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # COCO's 80 ids have gaps


def cocoa_cls_document(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal `segmentation`, `visible_mask` always, `invisible_mask` of occluded objects; all RLE."""
    shapes = DOMAINS["cocoa_cls"].shapes
    ids = {shape: _COCO_IDS[i * len(_COCO_IDS) // len(shapes)] for i, shape in enumerate(shapes)}
    annotations = [_annotation(number, image, item, ids) for number, image, _, item in all_objects(images)]
    return {
        "images": [coco_image(i, split) for i in images],
        "categories": [{"id": ids[s], "name": s, "supercategory": s.split("-")[0]} for s in shapes],
        "annotations": annotations,
    }


def _annotation(number: int, image: DrawnImage, item: DrawnObject, ids: Mapping[str, int], **more: int) -> dict:
    annotation: dict = {"id": number, "image_id": image.id, "category_id": ids[item.category], "iscrowd": 0}
    annotation |= {"bbox": item.box, "area": item.area, "occlude_rate": item.occlude_rate, **more}
    annotation |= {"segmentation": item.amodal, "visible_mask": item.visible}
    return annotation | ({"invisible_mask": item.hidden} if item.hidden else {})


COCOA_CLS = Layout("annotations/COCO_amodal_{split}2014_with_classes.json", COCOA.image_file, cocoa_cls_document)

# ------------------------------------------ D2SA: three files that number their ids independently, so that they collide


def d2sa_document(images: Sequence[DrawnImage], split: str) -> dict:
    """As COCOA-cls; `occl_depth` counts the objects on top of an object. Blemish: names end in a space."""
    ids = {shape: i for i, shape in enumerate(TABLE_SHAPES, start=1)}
    annotations = []
    for number, image, position, item in all_objects(images):
        depth = sum(position in other.occludes for other in image.objects)
        annotations.append(_annotation(number, image, item, ids, occl_depth=depth))
    return {
        "images": [image_record(i, D2SA.file_name(i.id, split)) for i in images],
        "categories": _categories_with_a_space(ids),
        "annotations": annotations,
    }


def _categories_with_a_space(ids: Mapping[str, int]) -> list[dict]:
    return [{"id": i, "name": f"{shape} ", "supercategory": "miniature"} for shape, i in ids.items()]


D2SA = Layout(
    "d2s_amodal_annotations_v1/D2S_amodal_{part}.json",
    "d2s_amodal_images_v1/images/D2S_{first}{id:05d}.jpg",
    d2sa_document,
    words={  # the images of all splits lie in one folder
        "train": {"part": "training_rot0", "first": 0},
        "augmented": {"part": "augmented", "first": 1},
        "val": {"part": "validation", "first": 2},
    },
)

# -------------------------- MUVA, with an assumed schema: none is published, see the reader. Three views of each scene

MUVA_VIEWS = ("left", "front", "right")


def muva_document(images: Sequence[DrawnImage], split: str) -> dict:
    """RLE in `segmentation` and `visible_mask`; `object_id` is the same in all views. Blemish: names end in a space."""
    ids = {shape: i for i, shape in enumerate(SHELF_SHAPES, start=1)}
    annotations = []
    for number, image, _, item in all_objects(images):
        annotation: dict = {"id": number, "image_id": image.id, "category_id": ids[item.category]}
        annotation |= {"object_id": item.identity, "iscrowd": 0, "bbox": item.box, "area": item.area}
        annotations.append(annotation | {"segmentation": item.amodal, "visible_mask": item.visible})
    records = []
    for image in images:
        scene, view = divmod(image.id - 1, len(MUVA_VIEWS))
        where = {"scene_id": scene + 1, "view": MUVA_VIEWS[view]}
        records.append(image_record(image, MUVA.file_name(image.id, split), **where))
    return {"images": records, "categories": _categories_with_a_space(ids), "annotations": annotations}


MUVA = Layout("annotations/AiFi-MUVA_{split}.json", "images/{split}_{id:06d}.jpg", muva_document)

# --------------------------- KINS: both editions of the annotations, image ids that differ from the files' numbers

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
    """Amodal polygons in `segmentation`, visible RLE in `inmodal_seg`. Blemish: the RLE of a ghost is empty."""
    annotations = []
    for ids, image, _, item, ghost in _with_ghosts(images):
        empty = {"size": [image.height, image.width], "counts": [image.height * image.width]}
        annotation = ids | {"iscrowd": 0, "area": item.area, "bbox": item.box, "segmentation": [item.amodal_outline]}
        annotation |= {"inmodal_bbox": item.box if ghost else item.visible_box}
        annotations.append(annotation | {"inmodal_seg": empty if ghost else item.visible})
    return _kins_document(images, annotations, KINS_CATEGORIES)


def edition_2020(images: Sequence[DrawnImage], split: str) -> dict:
    """Polygons in `a_segm` and `i_segm`, clusters of overlapping objects. Blemish: the box of a ghost is inverted.

    `oco_id` is the cluster in its image; `ico_id` is 0 for an object alone, else its place from 1, the nearest first.
    """
    clusters = {image.id: _clusters(image) for image in images}
    annotations = []
    for ids, image, position, item, ghost in _with_ghosts(images):
        x, y, *_ = item.box
        cluster = clusters[image.id]
        ahead = sum(other == cluster[position] for other in cluster[position + 1 :])
        annotation = ids | {"a_area": item.area, "a_bbox": item.box, "a_segm": [item.amodal_outline]}
        if ghost:
            annotation |= {"i_area": 0, "i_bbox": [x, y, -1.0, -1.0], "i_segm": [[x, y, x, y, x, y]]}
        else:
            annotation |= {"i_area": mask_area(item.visible), "i_bbox": item.visible_box}
            annotation |= {"i_segm": item.visible_polygons}
        annotation |= {"oco_id": cluster[position] + 1}
        annotations.append(annotation | {"ico_id": ahead + 1 if cluster.count(cluster[position]) > 1 else 0})
    return _kins_document(images, annotations, KINS_CATEGORIES | {3: "rider"})


def _with_ghosts(images: Sequence[DrawnImage]) -> Iterator[tuple[dict, DrawnImage, int, DrawnObject, bool]]:
    """(ids, image, position in it, object, ghost) of all images.

    A ghost is a fully hidden object right behind the nearest one of every `KINS_GHOST_EVERY`th image.
    """
    number = 0
    for image in images:
        found = [(position, item, False) for position, item in enumerate(image.objects)]
        if image.id % KINS_GHOST_EVERY == 0:
            found += [(len(found) - 1, item, True) for item in image.objects[-1:]]
        for position, item, ghost in found:
            number += 1
            ids = {"id": number, "image_id": image.id - 1, "category_id": KINS_CATEGORY_OF[item.category]}
            yield ids, image, position, item, ghost


def _clusters(image: DrawnImage) -> list[int]:
    """For each object the number, from 0, of its group of overlapping objects."""
    pairs = [(front, behind) for front, item in enumerate(image.objects) for behind in item.occludes]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_array(([1] * len(pairs), (rows, columns)), shape=(len(image.objects),) * 2)
    return connected_components(graph, directed=False)[1].tolist()


def _kins_document(images: Sequence[DrawnImage], annotations: list[dict], categories: Mapping[int, str]) -> dict:
    return {
        "images": [image_record(i, f"{i.id:06d}.png") | {"id": i.id - 1} for i in images],
        "categories": [
            {"id": number, "name": name, "supercategory": "living" if number < 4 else "vehicles"}
            for number, name in sorted(categories.items())
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
