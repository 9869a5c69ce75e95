"""Widgets of notebook 06: a box drawn on a picture, an answer at once; wiring only, `reporting` draws.

No `Output`, no `interact`: behind these a run without a browser can wait for ever. Whatever the mouse does, the
keyboard does too: Tab goes from widget to widget, the arrow keys move sliders, and on a picture that has the focus
W A S D move the box, Q E R F resize it (with Shift by ten pixels).
"""

import html
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as W
import numpy as np
from numpy.typing import ArrayLike

from sameo_core.collection import open_clean_dataset
from sameo_core.config import Profile
from sameo_core.datasets import AmodalDataset, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.evaluation import Failure, region_iou, worst_hidden
from sameo_core.front_ends import ground_truth_boxes, jittered
from sameo_core.inference import check_same_encoder, predict_dataset
from sameo_core.playground import Stage, occlusion_curve
from sameo_core.reporting import figure_occlusion_curve, figure_png, object_picture, scene_picture
from sameo_core.sameo import Sameo

try:
    from jupyter_bbox_widget import BBoxWidget
except ImportError:  # the sliders are always there
    BBoxWidget = None

PICTURE = 368  # pixels, longer side: three beside each other in JupyterLab
SMALLEST_BOX = 3  # pixels of the picture: a mouse button going down is a box without size
SAME_OBJECT = 0.5  # IoU from which a drawn box is taken for that of an annotated object
REMEMBERED = 200  # answers whose time is kept
WIDE = {"description_width": "90px"}


class Explorer(W.VBox):
    """Data set, image, object, box prompt: and what one or two decoders make of it.

    The image is encoded once; a box is decoded once; a threshold moves over the logits that are kept.
    """

    def __init__(
        self,
        models: Mapping[str, Sameo],
        profile: Profile,
        datasets: Mapping[str, AmodalDataset] | None = None,
        failures: Mapping[str, Sequence[Failure]] | None = None,
        split: str = "val",
        drag: bool = True,
    ):
        """
        Args:
            models: name -> SAMEO, one or two that share the image encoder; the last answers on the drawn picture.
            profile: says which data sets there are.
            datasets: those that are open already; the first is shown first. The others are opened when chosen.
            failures: of data sets, as `evaluation.worst_hidden` gives them; of others they are looked for when asked.
            split: of the data sets.
            drag: draw on the picture, where `jupyter_bbox_widget` is installed; else sliders alone.

        Raises:
            InputError: models whose image encoders differ; no data set that can be opened.
        """
        for model in models.values():
            check_same_encoder(next(iter(models.values())), model)
        self.models, self.profile, self.split = dict(models), profile, split
        self.opened, self.failures = dict(datasets or {}), {k: [*v] for k, v in (failures or {}).items()}
        self.seconds: deque[float] = deque(maxlen=REMEMBERED)
        self.logits: dict[str, np.ndarray] = {}
        self.predicted_iou: dict[str, float] = {}
        self.masks: dict[str, np.ndarray] = {}
        self.box: Any = None
        self._quiet, self._rank = False, -1
        self._make_widgets(drag and BBoxWidget is not None)
        super().__init__(self._laid_out())
        self._open(self.data_set.value)
        self._observe()

    # ------------------------------------------------------------------------------------------------ widgets

    def _make_widgets(self, drag: bool) -> None:
        names = dict.fromkeys([*self.opened, *data_sets(self.profile)])
        self.data_set = W.Dropdown(options=[*names], description="data set", style=WIDE)
        self.image_number = W.IntSlider(description="image", style=WIDE)
        self.object = W.Dropdown(description="object", style=WIDE)
        kinds = [("visible box", "visible"), ("amodal box", "amodal"), ("drawn box", "drawn")]
        self.prompt = W.ToggleButtons(options=kinds, style={"button_width": "100px"})
        self.noise = W.FloatSlider(max=0.4, step=0.02, description="box noise", readout_format=".0%", style=WIDE)
        self.threshold = W.FloatSlider(0.5, min=0.02, max=0.98, step=0.02, description="threshold", style=WIDE)
        self.score = W.FloatSlider(1.0, min=0, max=1, step=0.05, description="box score", style=WIDE)
        self.x = W.IntRangeSlider(description="box, x", style=WIDE)
        self.y = W.IntRangeSlider(description="box, y", style=WIDE)
        small = {"indent": False, "layout": {"width": "130px"}}
        self.compare = W.Checkbox(True, description="both decoders", disabled=len(self.models) < 2, **small)
        self.truth = W.Checkbox(True, description="show the truth", **small)
        self.previous = W.Button(description="previous", icon="arrow-left", layout={"width": "120px"})
        self.next = W.Button(description="next worst", icon="arrow-right", layout={"width": "120px"})
        self.status = W.HTML()
        self.status.add_class("sameo-status")
        *_, drawn_on = self.models
        self.pictures = {name: W.Image(format="jpeg", layout={"max_width": "100%"}) for name in self.models}
        self.canvas: Any = BBoxWidget(hide_buttons=True, classes=[], colors=["#000000"]) if drag else None
        if self.canvas is not None:
            self.pictures[drawn_on] = self.canvas
        self.labels = {name: W.HTML() for name in self.models}
        for name, picture in self.pictures.items():
            picture.add_class("sameo-canvas" if name == drawn_on else "sameo-picture")
            self.labels[name].add_class("sameo-answer" if name == drawn_on else "sameo-other")
        self.scene = W.Image(format="jpeg", layout={"max_width": "100%"})
        self.scene_label = W.HTML()

    def _laid_out(self) -> list[W.Widget]:
        hint = "Drag a box on the first picture; it can be moved and resized. " if self.canvas is not None else ""
        hint += "Keys: Tab goes from one to the next, arrows move sliders"
        hint += "; on the picture W A S D move the box, Q E R F resize it." if self.canvas is not None else "."
        *others, drawn_on = self.models
        panels = [self._panel(f"{drawn_on}: draw here", self.pictures[drawn_on], self.labels[drawn_on])]
        self.beside = [self._panel(name, self.pictures[name], self.labels[name]) for name in others]
        panels += [*self.beside, self._panel("as annotated", self.scene, self.scene_label)]
        row = {"flex_flow": "row wrap", "align_items": "center"}
        return [
            W.HTML(STYLE + hint),
            W.Box([self.data_set, self.image_number, self.object], layout=row),
            W.Box([self.prompt, self.noise, self.x, self.y], layout=row),
            W.Box([self.threshold, self.score, self.compare, self.truth, self.previous, self.next], layout=row),
            self.status,
            W.Box(panels, layout={"flex_flow": "row wrap", "align_items": "flex-start"}),
            W.HTML(LEGEND),
        ]

    def _panel(self, title: str, picture: W.Widget, label: W.HTML) -> W.VBox:
        layout = {"width": f"{PICTURE + 10}px", "margin": "0 4px 8px 0"}
        return W.VBox([W.HTML(f"<b>{html.escape(title)}</b>"), picture, label], layout=layout)

    def _observe(self) -> None:
        on_change = {
            self.data_set: lambda change: self._open(change.new, change.old),
            self.image_number: lambda change: self._show_image(change.new),
            self.object: lambda change: self._prompt_object(),
            self.prompt: lambda change: self._prompt_object(),
            self.noise: lambda change: self._prompt_object(),
            self.x: lambda change: self._from_sliders(),
            self.y: lambda change: self._from_sliders(),
            self.compare: lambda change: self._answer(),
            self.threshold: lambda change: self._paint(),
            self.score: lambda change: self._paint(),
            self.truth: lambda change: self._paint(),
        }
        for widget, react in on_change.items():
            widget.observe(lambda change, react=react: None if self._quiet else self._guarded(react, change), "value")
        self.next.on_click(lambda _: self._guarded(self._step, 1))
        self.previous.on_click(lambda _: self._guarded(self._step, -1))
        if self.canvas is not None:
            self.canvas.observe(lambda change: None if self._quiet else self._guarded(self._from_canvas), "bboxes")

    def _guarded(self, react: Callable, *arguments: object) -> None:
        """What goes wrong is said on the page: a traceback in a callback would go to a log that nobody reads."""
        try:
            react(*arguments)
        except InputError as error:
            self.status.value = f"<span style='color: #b3261e'>{html.escape(str(error))}</span>"

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """Widgets that are set here do not call back."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    # ------------------------------------------------------------------------------------------------ what is shown

    def _open(self, name: str, before: str | None = None) -> None:
        try:
            if name not in self.opened:
                self.status.value = f"Opening {html.escape(name)} ..."
                self.opened[name] = open_clean_dataset(name, self.split, self.profile)
        except InputError:
            with self._silence():
                self.data_set.value = before
            raise
        self.dataset, self._rank = self.opened[name], -1
        with self._silence():
            self.image_number.max, self.image_number.value = len(self.dataset) - 1, 0
        self._show_image(0)

    def _show_image(self, number: int, chosen: int | None = None) -> None:
        self.image = self.dataset[number]
        self.pixels = self.image.read()
        self.embedding = next(iter(self.models.values())).embed(self.pixels)  # once: good for every box in this image
        front = self.image.occluders()
        options = [(_described(place, item, front[place]), place) for place, item in enumerate(self.image.instances)]
        if chosen is None:  # what is most hidden
            chosen = max(range(len(options)), key=lambda place: _rate(self.image.instances[place]))
        with self._silence():
            self.object.options, self.object.value = options, chosen
            self.prompt.value = "visible" if self.prompt.value == "drawn" else self.prompt.value
            for slider, side in ((self.x, self.image.width), (self.y, self.image.height)):
                slider.max, slider.value = side, (0, side)
        self._prompt_object()

    def _prompt_object(self) -> None:
        """The box of the chosen object, as the toggle says; a drawn box stays as it is."""
        self.item = self.image.instances[self.object.value]
        if self.prompt.value != "drawn":
            front_end = ground_truth_boxes(self.prompt.value)
            if self.noise.value:
                front_end = jittered(front_end, self.noise.value, self.profile.evaluation.jitter_seed)
            self.box = front_end(self.image).boxes[self.object.value]
            self._show_box()
        self._answer(scene=True)

    def _from_sliders(self) -> None:
        (x0, x1), (y0, y1) = self.x.value, self.y.value
        if min(x1 - x0, y1 - y0) >= 1:
            self._draw([x0, y0, x1, y1])

    def _from_canvas(self) -> None:
        """The box that the browser has just drawn, moved or resized; the others are wiped away."""
        scale = PICTURE / max(self.image.height, self.image.width)
        boxes = [_corners(record) for record in self.canvas.bboxes]
        known = None if self.box is None else self.box * scale
        large = [box for box in boxes if (box[2:] - box[:2]).min() >= SMALLEST_BOX]
        changed = [box for box in large if known is None or np.abs(box - known).max() > 1]
        if changed:
            self._draw(np.clip(changed[-1] / scale, 0, [self.image.width, self.image.height] * 2))

    def _draw(self, box: ArrayLike) -> None:
        """Answer a box that somebody drew; InputError where it has no area."""
        began = time.perf_counter()
        self.box = np.asarray(box, np.float32)
        overlaps = [max(_box_iou(self.box, other) for other in _boxes(item)) for item in self.image.instances]
        near = int(np.argmax(overlaps))
        moved = near != self.object.value and overlaps[near] >= SAME_OBJECT
        self.item = self.image.instances[near] if overlaps[near] >= SAME_OBJECT else None
        with self._silence():
            self.prompt.value = "drawn"
            if self.item is not None:
                self.object.value = near
        self._show_box()
        self._answer(scene=moved, began=began)

    def _show_box(self) -> None:
        scale = PICTURE / max(self.image.height, self.image.width)
        x0, y0, x1, y1 = (float(v) for v in self.box)
        with self._silence():
            self.x.value, self.y.value = (math.floor(x0), math.ceil(x1)), (math.floor(y0), math.ceil(y1))
            if self.canvas is not None:
                place = {"x": x0 * scale, "y": y0 * scale, "width": (x1 - x0) * scale, "height": (y1 - y0) * scale}
                self.canvas.bboxes = [{key: round(value, 2) for key, value in place.items()} | {"label": ""}]
                self.canvas.selected_index = 0

    def _answer(self, scene: bool = False, began: float | None = None) -> None:
        """Decode the box with every decoder that is shown."""
        began = time.perf_counter() if began is None else began
        size, (*others, drawn_on) = (self.image.height, self.image.width), self.models
        for panel in self.beside:
            panel.layout.display = None if self.compare.value else "none"
        for name in [drawn_on, *(others if self.compare.value else [])]:
            decoded = self.models[name].decode_embedded(self.embedding, size, self.box)
            self.logits[name], self.predicted_iou[name] = decoded
        self._paint()
        self.seconds.append(time.perf_counter() - began)
        self.status.value = f"<span style='color: #555'>Answered in {1000 * self.seconds[-1]:.0f} ms.</span>"
        if scene:
            self.scene.value = scene_picture(self.image, self.pixels, self.object.value, PICTURE)
            self.scene_label.value = html.escape(self.object.label)

    def _paint(self) -> None:
        """Masks, pictures and words from the logits that are kept."""
        limit = math.log(self.threshold.value / (1 - self.threshold.value))
        visible = None if self.item is None else self.item.visible
        amodal = None if self.item is None or self.item.amodal_rle is None else self.item.amodal
        *_, drawn_on = self.models
        for name in [name for name in self.logits if name == drawn_on or self.compare.value]:
            mask = self.masks[name] = self.logits[name] >= limit
            on_canvas = name == drawn_on and self.canvas is not None
            shown = {"truth": amodal if self.truth.value else None, "box": None if on_canvas else self.box}
            picture = object_picture(self.pixels, mask, visible, **shown, longest=PICTURE)
            self.pictures[name].set_trait("image_bytes" if on_canvas else "value", picture)
            self.labels[name].value = self._words(name, mask, amodal, visible)

    def _words(self, name: str, mask: np.ndarray, amodal: np.ndarray | None, visible: np.ndarray | None) -> str:
        iou = self.predicted_iou[name]
        words = [f"predicted IoU <b>{iou:.3f}</b>", f"score {self.score.value * iou:.3f}", f"{mask.sum():,} pixels"]
        if amodal is not None and visible is not None:
            region = region_iou(mask, amodal, visible)
            hidden = "nothing is hidden" if math.isnan(region.hidden) else f"hidden IoU <b>{region.hidden:.3f}</b>"
            words += [f"IoU {region.full:.3f}", hidden]
        elif visible is None:
            words += ["no annotated object has such a box: what is hidden is not known"]
        return " \N{MIDDLE DOT} ".join(words)

    def _step(self, by: int) -> None:
        """To the next object in the ranking of the worst, or one back."""
        *_, model = self.models
        name = self.data_set.value
        if self.image.instances[0].amodal_rle is None:
            self.failures[name] = []
        if name not in self.failures:
            self.status.value = f"Looking for the worst of {len(self.dataset)} images ..."
            results = predict_dataset({model: self.models[model]}, self.dataset, {"visible": ground_truth_boxes()})
            self.failures[name] = worst_hidden(self.dataset, results[model, "visible"])
        ranking = self.failures[name]
        if not ranking:
            self.status.value = "No object of this data set is known to be hidden by a tenth or more."
            return
        self._rank = min(max(self._rank + by, 0), len(ranking) - 1)
        failure = ranking[self._rank]
        with self._silence():
            self.image_number.value, self.prompt.value, self.noise.value = failure.image, "visible", 0
        self._show_image(failure.image, failure.instance)
        place = f"Number {self._rank + 1} of {len(ranking)} from the worst, {model}, visible box"
        self.status.value = f"{place}: hidden IoU {failure.hidden:.3f}."

    def latency(self) -> dict[str, float]:
        """Milliseconds from a new box to its painted answer: median and 95th percentile of the last ones."""
        p50, p95 = np.percentile(np.array(self.seconds) * 1000, [50, 95])
        return {"p50": float(p50), "p95": float(p95), "answers": len(self.seconds)}


# The list of classes of `jupyter_bbox_widget`: there is one kind of box here.
STYLE = "<style>.sameo-canvas .classes { display: none }</style>"

LEGEND = (
    "Solid: visible part as annotated \N{MIDDLE DOT} dashed: amodal mask as predicted \N{MIDDLE DOT} hatched: hidden "
    "region \N{MIDDLE DOT} dotted: true amodal mask. Colours are those of Okabe and Ito."
)


class Playground(W.VBox):
    """A cut-out that a slider moves over another object, what the decoders make of it, and the curve they follow."""

    def __init__(self, models: Mapping[str, Sameo], pairs: Sequence[Stage], profile: Profile):
        """
        Args:
            models: name -> SAMEO; the one before, then the one after fine-tuning.
            pairs: of objects, as `playground.stages` finds them.
        """
        self.models, self.pairs, self.profile = dict(models), list(pairs), profile
        self.pair = W.Dropdown(options=[(f"pair {i + 1}", i) for i in range(len(pairs))], description="objects")
        self.position = W.IntSlider(description="position", layout={"width": "460px"})
        self.status = W.HTML()
        self.position.add_class("sameo-position")
        self.status.add_class("sameo-occlusion")
        self.pictures = {name: W.Image(format="jpeg", layout={"max_width": "100%"}) for name in models}
        self.labels = {name: W.HTML() for name in models}
        self.curve = W.Image(format="png", layout={"max_width": "100%"})
        self.hidden: dict[str, float] = {}
        layout = {"width": f"{PICTURE}px", "margin": "0 8px 8px 0"}
        panels = [
            W.VBox([W.HTML(f"<b>{html.escape(name)}</b>"), self.pictures[name], self.labels[name]], layout=layout)
            for name in models
        ]
        super().__init__(
            [
                W.HTML("Move the cut-out over the object: with the mouse, or with the arrow keys on the slider."),
                W.HBox([self.pair, self.position, self.status]),
                W.Box([*panels, self.curve], layout={"flex_flow": "row wrap", "align_items": "flex-start"}),
            ]
        )
        self._curves: dict[int, list[dict]] = {}
        self.pair.observe(lambda change: self._choose(), "value")
        self.position.observe(lambda change: self._show(), "value")
        self._choose()

    def _choose(self) -> None:
        stage = self.pairs[self.pair.value]
        if self.pair.value not in self._curves:
            self._curves[self.pair.value] = occlusion_curve(self.models, [stage], np.linspace(0.05, 0.9, 18).tolist())
        middle = stage.position(0.3)
        with self.position.hold_trait_notifications():
            self.position.max, self.position.value = len(stage.rates) - 1, middle
        self._show()

    def _show(self) -> None:
        moment = self.pairs[self.pair.value].at(self.position.value)
        for name, model in self.models.items():
            prediction, iou = moment.answer(model)
            self.hidden[name] = iou.hidden
            self.pictures[name].value = object_picture(
                moment.image, prediction.masks[0], moment.visible, truth=moment.amodal, longest=PICTURE - 20
            )
            hidden = "" if math.isnan(iou.hidden) else f" \N{MIDDLE DOT} hidden IoU <b>{iou.hidden:.3f}</b>"
            self.labels[name].value = f"IoU {iou.full:.3f}{hidden}"
        self.status.value = f"<b>{moment.rate:.0%}</b> hidden"
        rows = self._curves[self.pair.value]
        figure = figure_occlusion_curve(rows, self.profile.name, "These two objects", here=moment.rate)
        self.curve.value = figure_png(figure)


def data_sets(profile: Profile) -> list[str]:
    """Names of the profile's data sets: in `mini` all can be drawn; in `paper` those that have a folder."""
    names = dict.fromkeys([*profile.data.held_out, *profile.data.train, *profile.data.visible_only])
    return [name for name in names if profile.name == "mini" or (profile.data_folder / name).is_dir()]


def _rate(item: AmodalInstance) -> float:
    return item.occlusion_rate if item.amodal_rle is not None else 0.0


def _described(place: int, item: AmodalInstance, front: Sequence[int]) -> str:
    """ "2 mug, 34 % hidden by 1, 3"."""
    words = f"{place + 1} {item.category.strip()}"
    if item.amodal_rle is None:
        return f"{words}, extent not annotated"
    if not item.occlusion_rate:
        return f"{words}, nothing hidden"
    by = f" by {', '.join(str(other + 1) for other in front)}" if front else ""
    return f"{words}, {item.occlusion_rate:.0%} hidden{by}"


def _boxes(item: AmodalInstance) -> list[np.ndarray]:
    return [item.visible_box] if item.amodal_rle is None else [item.visible_box, item.amodal_box]


def _corners(record: Mapping) -> np.ndarray:
    """xyxy of what the browser sends, drawn from whichever corner."""
    x, y = ([record[k], record[k] + record[size]] for k, size in (("x", "width"), ("y", "height")))
    return np.array([min(x), min(y), max(x), max(y)], float)


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))
