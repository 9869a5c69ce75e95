"""The explorer of notebook 06: draw a box on a photograph, see the masks at once.

No `Output` and no `interact`: a run without a browser could wait for them for ever. Everything works from the keyboard:
Tab changes the widget, arrow keys move sliders; `KEYS` are those of the picture.
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
from numpy.typing import ArrayLike

from sameo_core.apps.canvas import PICTURE, ROW, WIDE, Canvas, panel, step
from sameo_core.apps.playground import OBJECTS, SAMPLES, OcclusionPair, sample_photograph
from sameo_core.arrays import Image, ImageEmbedding
from sameo_core.datasets import AmodalInstance
from sameo_core.datasets.images import read_photograph
from sameo_core.errors import InputError
from sameo_core.evaluation import region_iou
from sameo_core.front_ends import check_same_encoder
from sameo_core.masks import box_ious, encode_mask
from sameo_core.model import Sameo
from sameo_core.reporting import object_picture

SAME_OBJECT = 0.7  # IoU from which a drawn box is taken for that of a known object

BoxFromPoint = Callable[[Sameo, ImageEmbedding, tuple[int, int], tuple[float, float]], ArrayLike]
KEYS = "W A S D move the box, Q E R F resize it, with Shift by ten pixels; N and P: the next and the previous picture."
LEGEND = (
    "Solid: visible part \N{MIDDLE DOT} dashed: predicted mask \N{MIDDLE DOT} hatched: its hidden part (or, "
    "without a known truth, outside the other decoder's mask) \N{MIDDLE DOT} dotted: true amodal mask."
)


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


def photographs(scenes: Mapping[str, OcclusionPair]) -> dict[str, Callable[[], Picture]]:
    """The pictures of `Explorer`: pasted scenes (of `photograph_stages`) with their truth, then sample photographs."""
    pasted: dict[str, Callable[[], Picture]] = {name: partial(_scene, pair) for name, pair in scenes.items()}
    return pasted | {name.replace("_", " "): partial(_sample, name) for name in SAMPLES}


def _scene(pair: OcclusionPair) -> Picture:
    frame = pair.start()
    item = AmodalInstance(1, 1, "object", False, encode_mask(frame.amodal), encode_mask(frame.visible))
    label = f"what is behind, {frame.rate:.0%} hidden"
    return Picture(frame.image, [Target(label, [item.visible_box, item.amodal_box], item)])


def _sample(name: str) -> Picture:
    return Picture(sample_photograph(name), [Target(SAMPLES[name], [OBJECTS[SAMPLES[name]].box])])


class Explorer(W.VBox):
    """Masks of one or two decoders for a box or a click on a photograph.

    A picture is encoded once and a box decoded once; the threshold applies to the stored logits.
    """

    def __init__(
        self,
        models: Mapping[str, Sameo],
        pictures: Mapping[str, Callable[[], Picture]],
        click: BoxFromPoint | None = None,
        beside: Sequence[W.Widget] = (),
    ):
        """
        Args:
            models: name -> SAMEO, one or two that share the image encoder; the last answers on the drawn picture.
                Without a known truth, the first one's mask stands in for the visible part.
            pictures: name -> function that opens it; the first is shown first. Uploads are added.
            click: (first model, embedding, image size, pixel (x, y)) -> box; None: clicks are no prompts.
            beside: further panels.

        Raises:
            InputError: models whose image encoders differ; the first picture cannot be opened.
        """
        check_same_encoder(*models.values())
        self.models, self.sources, self.click = dict(models), dict(pictures), click
        self.logits: dict[str, np.ndarray] = {}
        self.predicted_iou: dict[str, float] = {}
        self.masks: dict[str, np.ndarray] = {}
        self.box: Any = None
        self.item: AmodalInstance | None = None
        self.number = 0  # of the picture: a box that was drawn on an earlier one is dropped
        self._quiet = True  # until the first picture is shown
        self._make_widgets()
        controls, advanced = self._controls()
        panels = [panel(name, self.pictures[name], self.labels[name]) for name in [*models][::-1]]
        hint = "Drag a box on a picture; move it by its border, resize it by a corner."
        hint += " Or click on an object." if click else ""
        more = W.VBox([*(W.Box(widgets, layout=ROW) for widgets in advanced), W.HTML(KEYS)])
        super().__init__(
            [
                W.Box([*panels, *beside], layout=ROW | {"align_items": "flex-start"}),
                W.Box(controls, layout=ROW),
                self.status,
                W.Accordion([more], titles=("Advanced",), selected_index=None),
                W.HTML(f"{hint} {LEGEND}"),
            ]
        )
        self._open_first()
        self._quiet = False

    # ------------------------------------------------------------------------------------------------ widgets

    def _make_widgets(self) -> None:
        self.object = W.Dropdown(description="object", style=WIDE)
        self.threshold = W.FloatSlider(0.5, min=0.02, max=0.98, step=0.02, description="threshold", style=WIDE)
        self.sliders = W.Box(layout=ROW)  # of the box, see `_make_sliders`
        self._when(self.object, lambda change: self._prompt_object())
        self._when(self.threshold, lambda change: self._paint())
        self.previous = W.Button(description="previous", icon="arrow-left", layout={"width": "120px"})
        self.next = W.Button(description="next", icon="arrow-right", layout={"width": "120px"})
        self.previous.on_click(lambda _: self._guarded(self._step, -1))
        self.next.on_click(lambda _: self._guarded(self._step, 1))
        self.status = W.HTML()
        self.pictures = {name: Canvas(self._heard, about=f"{name}: drag a box") for name in self.models}
        self.labels = {name: W.HTML() for name in self.models}
        for name in self.models:
            self.pictures[name].add_class("sameo-canvas")
            self.labels[name].add_class("sameo-answer")

    def _controls(self) -> tuple[list[W.Widget], list[list[W.Widget]]]:
        """The controls under the pictures, at most three; and those under "Advanced", a list per line."""
        self.photograph = W.Dropdown(options=[*self.sources], description="photograph", style=WIDE)
        self.upload = W.FileUpload(description="your own", accept="image/*", layout={"width": "130px"})
        self._when(self.photograph, lambda change: self._open(change.new))
        self._when(self.upload, lambda change: self._uploaded(change.new))
        advanced = [[self.upload, self.object], [self.sliders], [self.threshold]]
        return [self.photograph, self.previous, self.next], advanced

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
        self._show(self.sources[name]())

    def _step(self, by: int) -> None:
        step(self.photograph, by)

    def _uploaded(self, files: Sequence[Mapping]) -> None:
        for file in files:
            self.sources[file["name"]] = partial(Picture, read_photograph(bytes(file["content"]), file["name"]))
        with self._silence():
            self.photograph.options = [*self.sources]
        if files:
            self.photograph.value = files[-1]["name"]

    def _show(self, picture: Picture, chosen: int = 0) -> None:
        self.pixels, self.targets, self.item = picture.pixels, picture.targets, None
        self.size = self.pixels.shape[:2]
        self.embedding = next(iter(self.models.values())).embed(self.pixels)  # once for all boxes in this picture
        self.number += 1
        self._make_sliders(*self.size)
        with self._silence():
            self.object.options = [(target.label, place) for place, target in enumerate(self.targets)]
            self.object.value = chosen if self.targets else None
        self._prompt_object()

    def _make_sliders(self, height: int, width: int) -> None:
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
            height, width = self.size
            self._prompt(np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4], np.float32))
        else:
            target = self.targets[self.object.value]
            self.item = target.item
            self._prompt(np.asarray(target.boxes[0], np.float32))

    def _from_sliders(self) -> None:
        (x0, x1), (y0, y1) = self.x.value, self.y.value
        if min(x1 - x0, y1 - y0) >= 1:
            self._draw([x0, y0, x1, y1])

    def _heard(self, event: Mapping[str, Any]) -> None:
        """React to the page: a box or a click on the picture, or a key."""
        match event:
            case {"kind": "box", "box": box}:
                self._guarded(self._draw, np.clip(box, 0, [*self.size[::-1]] * 2))
            case {"kind": "point", "point": (x, y)}:
                self._guarded(self._from_click, float(x), float(y))
            case {"kind": "key", "key": "n" | "p" as key}:
                self._guarded(self._step, 1 if key == "n" else -1)

    def _from_click(self, x: float, y: float) -> None:
        if self.click:
            first = next(iter(self.models.values()))
            self._draw(self.click(first, self.embedding, self.size, (x, y)))

    def _draw(self, box: ArrayLike) -> None:
        """Prompt with a drawn box; InputError if it has no area."""
        box, self.item = np.asarray(box, np.float32), None
        overlaps = [box_ious(box[None], np.array(target.boxes, np.float32)).max() for target in self.targets]
        if overlaps and max(overlaps) >= SAME_OBJECT:
            near = int(np.argmax(overlaps))
            self.item = self.targets[near].item
            with self._silence():
                self.object.value = near
        self._prompt(box)

    def _prompt(self, box: np.ndarray) -> None:
        """Show a box and decode it."""
        self.box = box
        x0, y0, x1, y1 = (float(v) for v in box)
        with self._silence():
            self.x.value, self.y.value = (math.floor(x0), math.ceil(x1)), (math.floor(y0), math.ceil(y1))
        self._answer()

    def _answer(self) -> None:
        """Decode the box with every decoder."""
        began = time.perf_counter()
        for name, model in self.models.items():
            self.logits[name], self.predicted_iou[name] = model.decode_embedded(self.embedding, self.size, self.box)
        self._paint()
        milliseconds = 1000 * (time.perf_counter() - began)
        self.status.value = f"<span style='color: #555'>Answered in {milliseconds:.0f} ms.</span>"

    def _paint(self) -> None:
        """Masks, pictures and labels from the stored logits."""
        limit = math.log(self.threshold.value / (1 - self.threshold.value))
        visible = None if self.item is None else self.item.visible
        amodal = None if self.item is None or self.item.amodal_rle is None else self.item.amodal
        self.masks = {name: logits >= limit for name, logits in self.logits.items()}
        first, *others = self.masks.values()
        seen = first if visible is None and others else visible
        for name, mask in self.masks.items():
            canvas = self.pictures[name]
            with canvas.hold_sync():  # one message
                canvas.picture = object_picture(self.pixels, mask, seen, truth=amodal, longest=PICTURE)
                canvas.size, canvas.box, canvas.number = [*self.size[::-1]], self.box.round(2).tolist(), self.number
            words = [f"predicted IoU <b>{self.predicted_iou[name]:.3f}</b>", f"{mask.sum():,} pixels"]
            if visible is None:
                words += ["what is hidden is not known"]
            elif amodal is not None:
                region = region_iou(mask, amodal, visible)
                hidden = "nothing is hidden" if math.isnan(region.hidden) else f"hidden IoU <b>{region.hidden:.3f}</b>"
                words += [f"IoU {region.full:.3f}", hidden]
            self.labels[name].value = " \N{MIDDLE DOT} ".join(words)
