"""Widgets of notebook 06: draw a box on a photograph, see the masks at once. `reporting` draws.

No `Output` and no `interact`: a run without a browser could wait for them for ever. Everything works from the keyboard:
Tab changes the widget, arrow keys move sliders; on the picture W A S D move a drawn box, Q E R F resize it (with Shift
by ten pixels).
"""

import html
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets as W
import numpy as np
import torch
from jupyter_bbox_widget import BBoxWidget
from numpy.typing import ArrayLike
from torchvision.ops import box_iou

from sameo_core.apps.playground import OBJECTS, SAMPLES, OcclusionPair, sample_photograph
from sameo_core.arrays import Image, ImageEmbedding
from sameo_core.datasets import AmodalInstance
from sameo_core.datasets.images import read_photograph
from sameo_core.errors import InputError
from sameo_core.evaluation import region_iou
from sameo_core.front_ends import check_same_encoder
from sameo_core.masks import encode_mask
from sameo_core.model import Sameo
from sameo_core.reporting import object_picture

PICTURE = 368  # pixels, longer side: three beside each other in JupyterLab
SMALLEST_BOX = 3  # pixels of the picture; on mouse down the browser sends a box without size
SAME_OBJECT = 0.7  # IoU from which a drawn box is taken for that of a known object
WIDE = {"description_width": "90px"}

BoxFromPoint = Callable[[Sameo, ImageEmbedding, tuple[int, int], tuple[float, float]], ArrayLike]
STYLE = "<style>.sameo-canvas .classes { display: none }</style>"  # jupyter_bbox_widget's list of classes
LEGEND = (
    "Solid: visible part \N{MIDDLE DOT} dashed: predicted mask \N{MIDDLE DOT} hatched: its hidden part (or, "
    "without a known truth, outside the other decoder's mask) \N{MIDDLE DOT} dotted: true amodal mask."
)
NOT_KNOWN = "what is hidden is not known"


@dataclass(frozen=True)
class Target:
    """An object of a picture: its boxes and, where the truth is known, its masks."""

    label: str
    boxes: Sequence  # xyxy pixels: visible, and amodal if known
    item: AmodalInstance | None = None


@dataclass(frozen=True)
class Picture:
    """A photograph and its known objects."""

    pixels: Image
    targets: Sequence[Target] = ()


def photographs(stages: Mapping[str, OcclusionPair]) -> dict[str, Callable[[], Picture]]:
    """The pictures of `Explorer`: pasted scenes (of `photograph_stages`) with their truth, then sample photographs."""
    scenes: dict[str, Callable[[], Picture]] = {name: partial(_scene, pair) for name, pair in stages.items()}
    return scenes | {name.replace("_", " "): partial(_sample, name) for name in SAMPLES}


def _scene(pair: OcclusionPair) -> Picture:
    frame = pair.start()
    item = AmodalInstance(1, 1, "object", False, encode_mask(frame.amodal), encode_mask(frame.visible))
    label = f"what is behind, {frame.rate:.0%} hidden"
    return Picture(frame.image, [Target(label, [item.visible_box, item.amodal_box], item)])


def _sample(name: str) -> Picture:
    targets = [Target(label, [item.box]) for label, item in OBJECTS.items() if item.photograph == name]
    return Picture(sample_photograph(name), targets)


class Explorer(W.VBox):
    """Masks of one or two decoders for a box or a click on a photograph.

    A picture is encoded once and a box decoded once; the threshold applies to the stored logits.
    """

    def __init__(
        self,
        models: Mapping[str, Sameo],
        pictures: Mapping[str, Callable[[], Picture]],
        click: BoxFromPoint | None = None,
    ):
        """
        Args:
            models: name -> SAMEO, one or two that share the image encoder; the last answers on the drawn picture.
                Without a known truth, the first one's mask stands in for the visible part.
            pictures: name -> function that opens it; the first is shown first. Uploads are added.
            click: (first model, embedding, image size, pixel (x, y)) -> box; None: clicks are no prompts.

        Raises:
            InputError: models whose image encoders differ; the first picture cannot be opened.
        """
        self.sources = dict(pictures)
        self._start(models, click)

    def _start(self, models: Mapping[str, Sameo], click: BoxFromPoint | None) -> None:
        check_same_encoder(*models.values())
        self.models, self.click = dict(models), click
        self.logits: dict[str, np.ndarray] = {}
        self.predicted_iou: dict[str, float] = {}
        self.masks: dict[str, np.ndarray] = {}
        self.box: Any = None
        self.item: AmodalInstance | None = None
        self._quiet = True  # until the first picture is shown
        self._pressed: tuple[float, float] | None = None  # where the mouse button went down
        self._make_widgets()
        super().__init__(self._laid_out())
        self._open_first()
        self._quiet = False

    # ------------------------------------------------------------------------------------------------ widgets

    def _make_widgets(self) -> None:
        self.object = W.Dropdown(description="object", style=WIDE)
        self.threshold = W.FloatSlider(0.5, min=0.02, max=0.98, step=0.02, description="threshold", style=WIDE)
        self.sliders = W.HBox()  # of the box, see `_make_sliders`
        small = {"indent": False, "layout": {"width": "130px"}}
        self.compare = W.Checkbox(True, description="both decoders", disabled=len(self.models) < 2, **small)
        self.truth = W.Checkbox(True, description="show the truth", **small)
        self._when(self.object, lambda change: self._prompt_object())
        self._when(self.compare, lambda change: self._answer())
        for widget in (self.threshold, self.truth):
            self._when(widget, lambda change: self._paint())
        self.status = W.HTML()
        self.status.add_class("sameo-status")
        *_, drawn_on = self.models
        self.pictures = {name: W.Image(format="jpeg", layout={"max_width": "100%"}) for name in self.models}
        self.pictures[drawn_on] = self.canvas = _canvas(self._from_canvas)
        self.labels = {name: W.HTML() for name in self.models}
        for name, picture in self.pictures.items():
            picture.add_class("sameo-canvas" if name == drawn_on else "sameo-picture")
            self.labels[name].add_class("sameo-answer" if name == drawn_on else "sameo-other")

    def _rows(self) -> list[list[W.Widget]]:
        """The widgets above the pictures, a list per line."""
        self.photograph = W.Dropdown(options=[*self.sources], description="photograph", style=WIDE)
        self.upload = W.FileUpload(description="your own", accept="image/*", layout={"width": "130px"})
        self._when(self.photograph, lambda change: self._open(change.new))
        self._when(self.upload, lambda change: self._uploaded(change.new))
        return [[self.photograph, self.object, self.upload], [self.sliders, self.threshold, self.compare, self.truth]]

    def _more_panels(self) -> list[W.Widget]:
        return []

    def _laid_out(self) -> list[W.Widget]:
        hint = "Drag a box on the first picture; it can be moved and resized. "
        hint += "A click works, too. " if self.click else ""
        hint += "Keys: Tab changes the widget, arrows move sliders; "
        hint += "on the picture W A S D move a drawn box, Q E R F resize it."
        *others, drawn_on = self.models
        panels = [self._panel(f"{drawn_on}: draw here", self.pictures[drawn_on], self.labels[drawn_on])]
        self.beside = [self._panel(name, self.pictures[name], self.labels[name]) for name in others]
        panels += [*self.beside, *self._more_panels()]
        row = {"flex_flow": "row wrap", "align_items": "center"}
        return [
            W.HTML(STYLE + hint),
            *(W.Box(widgets, layout=row) for widgets in self._rows()),
            self.status,
            W.Box(panels, layout={"flex_flow": "row wrap", "align_items": "flex-start"}),
            W.HTML(LEGEND),
        ]

    def _panel(self, title: str, picture: W.Widget, label: W.HTML) -> W.VBox:
        layout = {"width": f"{PICTURE + 10}px", "margin": "0 4px 8px 0"}
        return W.VBox([W.HTML(f"<b>{html.escape(title)}</b>"), picture, label], layout=layout)

    def _when(self, widget: W.Widget, react: Callable) -> None:
        """Call `react` on a new value, unless it was set under `_silence`."""
        widget.observe(lambda change: None if self._quiet else self._guarded(react, change), "value")

    def _guarded(self, react: Callable, *arguments: object) -> None:
        """Show errors on the page; a traceback in a callback would be lost in a log."""
        try:
            react(*arguments)
        except InputError as error:
            self.status.value = f"<span style='color: #b3261e'>{html.escape(str(error))}</span>"

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """Set widgets without their callbacks."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    # ------------------------------------------------------------------------------------------------ what is shown

    def _open_first(self) -> None:
        self._open(self.photograph.value)

    def _open(self, name: str) -> None:
        self.status.value = f"Encoding {html.escape(name)} ..."
        picture = self.sources[name]()
        self._show(picture.pixels, picture.targets)

    def _uploaded(self, files: Sequence[Mapping]) -> None:
        for file in files:
            self.sources[file["name"]] = partial(Picture, read_photograph(bytes(file["content"]), file["name"]))
        with self._silence():
            self.photograph.options = [*self.sources]
        if files:
            self.photograph.value = files[-1]["name"]

    def _show(self, pixels: Image, targets: Sequence[Target], chosen: int = 0) -> None:
        self.pixels, self.targets, self.box, self.item = pixels, targets, None, None
        self.embedding = next(iter(self.models.values())).embed(pixels)  # once for all boxes in this picture
        height, width = pixels.shape[:2]
        self._make_sliders(width, height)
        with self._silence():
            self.object.options = [(target.label, place) for place, target in enumerate(targets)]
            self.object.value = chosen if targets else None
        self._prompt_object()

    def _make_sliders(self, width: int, height: int) -> None:
        """New sliders, since the browser clips a new value to the old range and sends it back."""
        self.x, self.y = (
            W.IntRangeSlider(value=(0, side), max=side, description=f"box, {axis}", style=WIDE)
            for axis, side in (("x", width), ("y", height))
        )
        for slider in (self.x, self.y):
            self._when(slider, lambda change: self._from_sliders())
        self.sliders.children = [self.x, self.y]

    def _prompt_object(self) -> None:
        """Prompt with the chosen object's box, or with the middle of the picture."""
        if self.object.value is None:
            height, width = self.pixels.shape[:2]
            self._prompt(np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4], np.float32))
        else:
            target = self.targets[self.object.value]
            self.item = target.item
            self._prompt(np.asarray(target.boxes[0], np.float32))

    def _from_sliders(self) -> None:
        (x0, x1), (y0, y1) = self.x.value, self.y.value
        if min(x1 - x0, y1 - y0) >= 1:
            self._draw([x0, y0, x1, y1])

    def _from_canvas(self, records: Sequence[Mapping]) -> None:
        """React to the browser: a box drawn, moved or resized replaces the others; or a click.

        The browser sends the boxes on mouse down and on mouse up: the same empty box twice is a click.
        """
        scale = PICTURE / max(self.pixels.shape[:2])
        boxes = [_corners(record) for record in records]
        known = None if self.box is None or not self.on_canvas else self.box * scale
        large = [box for box in boxes if (box[2:] - box[:2]).min() >= SMALLEST_BOX]
        changed = [box for box in large if known is None or np.abs(box - known).max() > 1]
        small = [box for box in boxes[-1:] if (box[2:] - box[:2]).max() < SMALLEST_BOX]
        point = (float(small[0][0] / scale), float(small[0][1] / scale)) if small else None
        before, self._pressed = self._pressed, point
        if changed:
            height, width = self.pixels.shape[:2]
            self._guarded(self._draw, np.clip(changed[-1] / scale, 0, [width, height] * 2))
        elif point is not None and point == before and self.click is not None:
            self._pressed = None
            self._guarded(self._from_click, self.click, point)

    def _from_click(self, click: BoxFromPoint, point: tuple[float, float]) -> None:
        first = next(iter(self.models.values()))
        self._draw(click(first, self.embedding, self.pixels.shape[:2], point), on_canvas=False)

    def _draw(self, box: ArrayLike, on_canvas: bool = True) -> None:
        """Prompt with a drawn box; InputError if it has no area."""
        box = np.asarray(box, np.float32)
        overlaps = [_overlap(box, target) for target in self.targets]
        near = int(np.argmax(overlaps)) if overlaps and max(overlaps) >= SAME_OBJECT else None
        self.item = None if near is None else self.targets[near].item
        with self._silence():
            if near is not None:
                self.object.value = near
        self._prompt(box, on_canvas)

    def _prompt(self, box: np.ndarray, on_canvas: bool = False) -> None:
        """Show a box and decode it. Only a drawn box stays on the canvas: a box there would catch clicks."""
        self.box, self.on_canvas = box, on_canvas
        scale = PICTURE / max(self.pixels.shape[:2])
        x0, y0, x1, y1 = (float(v) for v in box)
        place = {"x": x0 * scale, "y": y0 * scale, "width": (x1 - x0) * scale, "height": (y1 - y0) * scale}
        with self._silence():
            self.x.value, self.y.value = (math.floor(x0), math.ceil(x1)), (math.floor(y0), math.ceil(y1))
        drawn = [{key: round(value, 2) for key, value in place.items()} | {"label": ""}]
        self.canvas.bboxes, self.canvas.selected_index = (drawn, 0) if on_canvas else ([], -1)
        self._answer()

    def _answer(self) -> None:
        """Decode the box with every decoder that is shown."""
        began = time.perf_counter()
        *others, drawn_on = self.models
        for panel in self.beside:
            panel.layout.display = None if self.compare.value else "none"
        for name in [drawn_on, *(others if self.compare.value else [])]:
            decoded = self.models[name].decode_embedded(self.embedding, self.pixels.shape[:2], self.box)
            self.logits[name], self.predicted_iou[name] = decoded
        self._paint()
        milliseconds = 1000 * (time.perf_counter() - began)
        self.status.value = f"<span style='color: #555'>Answered in {milliseconds:.0f} ms.</span>"

    def _paint(self) -> None:
        """Masks, pictures and labels from the stored logits."""
        limit = math.log(self.threshold.value / (1 - self.threshold.value))
        visible = None if self.item is None else self.item.visible
        amodal = None if self.item is None or self.item.amodal_rle is None else self.item.amodal
        *others, drawn_on = self.models
        for name in [*(others if self.compare.value else []), drawn_on]:  # `others` first: see `seen`
            mask = self.masks[name] = self.logits[name] >= limit
            seen = self.masks[others[0]] if visible is None and others and self.compare.value else visible
            boxed = name == drawn_on and self.on_canvas
            shown = {"truth": amodal if self.truth.value else None, "box": None if boxed else self.box}
            picture = object_picture(self.pixels, mask, seen, **shown, longest=PICTURE)
            self.pictures[name].set_trait("image_bytes" if name == drawn_on else "value", picture)
            self.labels[name].value = " \N{MIDDLE DOT} ".join(self._words(name, mask, amodal, visible))

    def _words(self, name: str, mask: np.ndarray, amodal: np.ndarray | None, visible: np.ndarray | None) -> list[str]:
        words = [f"predicted IoU <b>{self.predicted_iou[name]:.3f}</b>", f"{mask.sum():,} pixels"]
        if amodal is not None and visible is not None:
            region = region_iou(mask, amodal, visible)
            hidden = "nothing is hidden" if math.isnan(region.hidden) else f"hidden IoU <b>{region.hidden:.3f}</b>"
            words += [f"IoU {region.full:.3f}", hidden]
        elif visible is None:
            words += [NOT_KNOWN]
        return words


def _canvas(received: Callable[[list], None]) -> W.Widget:
    """A picture to draw on; `received` gets the boxes whenever the browser sends them, even unchanged."""

    class Canvas(BBoxWidget):
        def set_state(self, sync_data: dict) -> None:
            super().set_state(sync_data)
            if "bboxes" in sync_data:
                received(self.bboxes)

    return Canvas(hide_buttons=True, classes=[], colors=["#000000"])


def _corners(record: Mapping) -> np.ndarray:
    """xyxy of the browser's box, which may have negative sides."""
    x, y = ([record[k], record[k] + record[size]] for k, size in (("x", "width"), ("y", "height")))
    return np.array([min(x), min(y), max(x), max(y)], float)


def _overlap(box: np.ndarray, target: Target) -> float:
    """The highest IoU of a box with those of a target."""
    others = torch.from_numpy(np.array(target.boxes, np.float32))
    return float(box_iou(torch.from_numpy(box)[None], others).max())
