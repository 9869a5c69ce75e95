"""Drawn videos as LV-VIS is distributed: YouTube-VIS JSON with a mask or null for each frame, backslashes in paths.

Videos have 2, 3 and 4 frames in turn; one image of the miniature is one frame. Nothing in it is broken: nulls and
backslashes are the format's own.
"""

from collections.abc import Sequence

from sameo_core.masks import mask_area
from sameo_core.miniature.drawing import DOMAINS, Scene
from sameo_core.miniature.motion import draw_frame
from sameo_core.miniature.records import DrawnImage, Layout

_LENGTHS = (2, 3, 4)
_TURN = [(v, t) for v, length in enumerate(_LENGTHS) for t in range(length)]  # (video, frame) of 9 images in a row


def draw(domain: str, index: int, seed: int, split: str) -> Scene:
    video, frame = _place(index)
    return draw_frame(domain, video, frame, _LENGTHS[video % len(_LENGTHS)], seed, split)


def document(images: Sequence[DrawnImage], split: str) -> dict:
    """One annotation an object and video, with its visible mask in each frame."""
    ids = {shape: i for i, shape in enumerate(DOMAINS["lvvis"].shapes, start=1)}
    videos: dict[int, list[DrawnImage]] = {}
    for image in images:
        videos.setdefault(_place(image.id - 1)[0], []).append(image)
    annotations: list[dict] = []
    records = []
    for video, frames in videos.items():
        paths = [names(image.id, split) for image in frames]
        sizes = {"height": frames[0].height, "width": frames[0].width}
        files = [f"{path['video']}\\{path['frame']}.jpg" for path in paths]
        records.append({"id": video, **sizes, "length": len(frames), "file_names": files})
        objects = {item.identity: item.category for image in frames for item in image.objects}
        for identity, category in sorted(objects.items()):
            seen = [next((o for o in image.objects if o.identity == identity), None) for image in frames]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": video,
                    "category_id": ids[category],
                    "iscrowd": 0,
                    "segmentations": [item and item.visible for item in seen],
                    "bboxes": [item and item.visible_box for item in seen],
                    "areas": [item and mask_area(item.visible) for item in seen],
                }
            )
    categories = [{"id": i, "name": s.replace("-", "_"), "partition": i % 4} for s, i in ids.items()]
    return {"videos": records, "annotations": annotations, "categories": categories}


def names(image_id: int, split: str) -> dict[str, str]:
    video, frame = _place(image_id - 1)
    return {"video": f"{video:05d}", "frame": f"{frame:05d}"}


def _place(index: int) -> tuple[int, int]:
    """(video, frame) of image `index`, counted from 0."""
    turn, rest = divmod(index, len(_TURN))
    video, frame = _TURN[rest]
    return turn * len(_LENGTHS) + video, frame


LAYOUT = Layout(
    "{split}_instances.json",
    "{split}/JPEGImages/{video}/{frame}.jpg",
    document,
    draw=draw,
    names=names,
)
