"""LV-VIS (Wang et al., ICCV 2023): videos with visible masks; like LVIS, a source, not an evaluation set."""

from collections.abc import Mapping
from pathlib import Path

from sameo_core.datasets.builder import DatasetBuilder, is_crowd, is_int, records
from sameo_core.datasets.dataset import AmodalDataset
from sameo_core.datasets.files import find_file, read_json


def read_lvvis(root: Path, split: str) -> AmodalDataset:
    """LV-VIS as distributed: {split}_instances.json, frames in {split}/JPEGImages/<video>/<frame>.jpg.

    Each frame with at least one mask becomes an image. Image ids number all frames of the file from 1, instance ids
    all frames of all objects. "train" is not annotated exhaustively; labels of "test" are not public.

    Raises:
        InputError: see `read_json`, `find_file`, `DatasetBuilder.finish`.
    """
    path = find_file(root, [f"{folder}{split}_instances.json" for folder in ("", "annotations/")], "lvvis")
    data = read_json(path, ["videos", "annotations", "categories"])
    builder = DatasetBuilder("lvvis", root, split, path)
    builder.add_categories(data["categories"])

    first_image = _add_frames(builder, data, root / split / "JPEGImages")
    next_instance = 1
    for annotation in records(builder, data["annotations"], "annotation"):
        record, masks = f"annotation {annotation.get('id')}", annotation.get("segmentations")
        video_id = annotation.get("video_id")
        if is_crowd(annotation):
            builder.skip("crowd region", record)
        elif not is_int(video_id) or video_id not in first_image:
            builder.skip("annotation without video", record)
        elif not isinstance(masks, list) or len(masks) != first_image[video_id][1]:
            builder.skip("masks and frames differ in number", record)
        else:
            for t, mask in enumerate(masks):
                if mask:
                    builder.add_instance(
                        f"{record}, frame {t}",
                        image_id=first_image[video_id][0] + t,
                        instance_id=next_instance + t,
                        category_id=annotation.get("category_id"),
                        amodal=None,
                        visible=mask,
                    )
        next_instance += len(masks) if isinstance(masks, list) else 0
    return builder.finish()


def _add_frames(builder: DatasetBuilder, data: dict, folder: Path) -> dict[int, tuple[int, int]]:
    """Add the frames with a mask; return, per video, the image id of frame 0 and the number of frames."""
    annotated: dict[int, set[int]] = {}  # video -> frames with a mask
    for annotation in data["annotations"]:
        if isinstance(annotation, Mapping) and is_int(annotation.get("video_id")):
            masks = annotation.get("segmentations")
            seen = annotated.setdefault(annotation["video_id"], set())
            seen.update(t for t, mask in enumerate(masks if isinstance(masks, list) else []) if mask)

    first_image: dict[int, tuple[int, int]] = {}
    next_image = 1
    for video in records(builder, data["videos"], "video"):
        record, frames = f"video {video.get('id')}", video.get("file_names")
        if not is_int(video.get("id")) or video["id"] in first_image:
            builder.skip("video without a whole-number id of its own", record)
            continue
        if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
            builder.skip("video without file names", record)
            continue
        first_image[video["id"]] = next_image, len(frames)
        for t in sorted(annotated.get(video["id"], ())):
            if t < len(frames):
                file_name = "/".join(frames[t].replace("\\", "/").split("/")[-2:])
                builder.add_image({**video, "id": next_image + t}, file_name, folder)
        next_image += len(frames)
    return first_image
