"""Drawn scenes as KINS is distributed: both editions of the annotations, ids that are not the numbers of the files."""

from collections.abc import Iterator, Sequence

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sameo_core.masks import mask_area
from sameo_core.miniature.records import DrawnImage, DrawnObject, Layout

CATEGORIES = {1: "cyclist", 2: "pedestrian", 4: "car", 5: "tram", 6: "truck", 7: "van", 8: "misc"}
CATEGORY_OF = {
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
GHOST_EVERY = 8  # images


def edition_2019(images: Sequence[DrawnImage], split: str) -> dict:
    """Amodal polygons in `segmentation`, visible RLE in `inmodal_seg`. Blemish: see `_objects`, its RLE is empty."""
    annotations: list[dict] = []
    for image, _, item, ghost in _objects(images):
        visible = {"size": [image.height, image.width], "counts": [image.height * image.width]}
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image.id - 1,
                "category_id": CATEGORY_OF[item.category],
                "iscrowd": 0,
                "area": item.area,
                "bbox": item.box,
                "segmentation": [item.amodal_outline],
                "inmodal_bbox": item.box if ghost else item.visible_box,
                "inmodal_seg": visible if ghost else item.visible,
            }
        )
    return _document(images, annotations, {})


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
                "category_id": CATEGORY_OF[item.category],
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
    return _document(images, annotations, {3: "rider"})


def _objects(images: Sequence[DrawnImage]) -> Iterator[tuple[DrawnImage, int, DrawnObject, bool]]:
    """(image, position in it, object, ghost) of all images.

    A ghost stands in every `GHOST_EVERY`th image: an object of which nothing is seen, right behind the nearest one.
    """
    for image in images:
        yield from ((image, position, item, False) for position, item in enumerate(image.objects))
        if image.id % GHOST_EVERY == 0 and image.objects:
            yield image, len(image.objects) - 1, image.objects[-1], True


def _clusters(image: DrawnImage) -> list[int]:
    """For each object the number, from 0, of the group of overlapping objects that it belongs to."""
    pairs = [(front, behind) for front, item in enumerate(image.objects) for behind in item.occludes]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_array(([1] * len(pairs), (rows, columns)), shape=(len(image.objects),) * 2)
    return connected_components(graph, directed=False)[1].tolist()


def _document(images: Sequence[DrawnImage], annotations: list[dict], more_categories: dict[int, str]) -> dict:
    return {
        "images": [
            {"id": i.id - 1, "file_name": f"{i.id:06d}.png", "height": i.height, "width": i.width} for i in images
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "living" if number < 4 else "vehicles"}
            for number, name in sorted((CATEGORIES | more_categories).items())
        ],
        "annotations": annotations,
    }


LAYOUT = Layout(
    "instances_{split}.json",
    "{folder}/image_2/{id:06d}.png",
    edition_2019,
    words={"train": {"folder": "training", "word": "train"}, "val": {"folder": "testing", "word": "test"}},
    more_files={"update_{word}_2020.json": edition_2020},
)
