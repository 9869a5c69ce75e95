"""What a format can store of a drawn scene, and its file layout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sameo_core.masks import RLE, encode_mask, mask_area, mask_box, mask_to_polygons, xyxy_to_xywh
from sameo_core.miniature.drawing import Scene, draw_scene


@dataclass(frozen=True)
class DrawnObject:
    """What a format can store of one object; an image's objects are listed from back to front."""

    category: str
    amodal: RLE
    visible: RLE
    hidden: RLE | None  # None: fully visible
    amodal_outline: list[float]  # one flat polygon
    visible_polygons: list[list[float]]
    occludes: tuple[int, ...]  # positions in the same list of the objects that this one partly hides
    identity: int  # the same in all views of a scene and frames of a video; 0: stuff

    @property
    def is_stuff(self) -> bool:
        return self.identity == 0

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
    """What a format can store of one image."""

    id: int
    height: int
    width: int
    objects: tuple[DrawnObject, ...]


def all_objects(images: Sequence[DrawnImage]) -> Iterator[tuple[int, DrawnImage, int, DrawnObject]]:
    """(number in the file from 1, image, position in it, object) of all objects."""
    found = ((image, position, item) for image in images for position, item in enumerate(image.objects))
    return ((number, *item) for number, item in enumerate(found, start=1))


def image_record(image: DrawnImage, file_name: str, **more: object) -> dict:
    """An image record of COCO's and related formats."""
    return {"id": image.id, "file_name": file_name, "height": image.height, "width": image.width, **more}


Document = Callable[[Sequence[DrawnImage], str], dict | str | bytes]  # (all images of a split, split); a dict is JSON


@dataclass(frozen=True)
class Layout:
    """The file layout of a format below its root, and the content of its annotation files.

    Paths are format strings with {split}, the split's own `words` and, for images, {id} (from 1) and `names`.
    """

    annotation_file: str
    image_file: str
    document: Document
    words: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # split -> word -> value
    names: Callable[[int, str], dict] | None = None  # (image id, split) -> further words, for `image_file` only
    more_files: Mapping[str, Document] = field(default_factory=dict)  # further annotation files of the same images
    draw: Callable[[str, int, int, str], Scene] = draw_scene  # (domain, index, seed, split)
    write_files: Callable[[Scene, DrawnImage, Path, str], None] | None = None  # further files of one image; root, split

    def annotation_name(self, split: str, file: str | None = None) -> str:
        """The annotation file, or another of `more_files`, relative to the root."""
        return (file or self.annotation_file).format(split=split, **self.words.get(split, {}))

    def image_name(self, image_id: int, split: str) -> str:
        """The image's file, relative to the root."""
        names = self.names(image_id, split) if self.names else {}
        return self.image_file.format(split=split, id=image_id, **self.words.get(split, {}), **names)

    def file_name(self, image_id: int, split: str) -> str:
        """The image's file without its folder."""
        return self.image_name(image_id, split).rpartition("/")[2]


def describe_scene(scene: Scene, image_id: int) -> DrawnImage:
    """A scene's ground truth in the encodings of data sets; the ground, if any, comes first, as stuff."""
    rows = list(zip(scene.categories, scene.identities, scene.amodal, scene.visible, strict=True))
    if scene.ground is not None:
        rows.insert(0, (cast(str, scene.ground_category), 0, scene.ground, scene.ground & ~scene.amodal.any(0)))
    objects = []
    for k, (category, identity, amodal, visible) in enumerate(rows):
        if visible.any():
            hidden = amodal & ~visible
            described = DrawnObject(
                category=category,
                amodal=encode_mask(amodal),
                visible=encode_mask(visible),
                hidden=encode_mask(hidden) if hidden.any() else None,
                amodal_outline=mask_to_polygons(amodal)[0],
                visible_polygons=mask_to_polygons(visible),
                occludes=tuple(i for i, (_, _, behind, _) in enumerate(rows[:k]) if (behind & amodal).any()),
                identity=identity,
            )
            objects.append(described)
    height, width = scene.image.shape[:2]
    return DrawnImage(image_id, height, width, tuple(objects))
