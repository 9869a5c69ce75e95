"""Drawn scenes as COCOA is distributed, with its stuff regions and its trailing spaces."""

from collections.abc import Sequence

from sameo_core.miniature.records import DrawnImage, Layout


def document(images: Sequence[DrawnImage], split: str) -> dict:
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


LAYOUT = Layout("annotations/COCO_amodal_{split}2014.json", "{split}2014/COCO_{split}2014_{id:012d}.jpg", document)
