"""Pages of notebook 06: the explorer of annotated data sets, and the occlusion playground."""

import html
import math
from collections.abc import Mapping, Sequence

import ipywidgets as W
import numpy as np
from numpy.typing import ArrayLike

from sameo_core.apps.explorer import PICTURE, WIDE, BoxFromPoint, Explorer, Target
from sameo_core.apps.playground import OcclusionPair
from sameo_core.config import Profile
from sameo_core.datasets import AmodalDataset, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.evaluation import Failure, RegionIoU, worst_hidden
from sameo_core.front_ends import ground_truth_boxes, jittered, predict_dataset
from sameo_core.model import AmodalPrediction, Sameo
from sameo_core.pipeline import open_clean_dataset
from sameo_core.reporting import figure_occlusion_curve, figure_png, object_picture, scene_picture


class DatasetExplorer(Explorer):
    """The explorer of annotated data sets: every object's box, ground truth beside predictions, worst first."""

    def __init__(
        self,
        models: Mapping[str, Sameo],
        profile: Profile,
        datasets: Mapping[str, AmodalDataset] | None = None,
        failures: Mapping[str, Sequence[Failure]] | None = None,
        click: BoxFromPoint | None = None,
    ):
        """
        Args:
            models, click: as for `Explorer`.
            profile: names the data sets; their split "val" is shown.
            datasets: those already open; the first is shown first.
            failures: of data sets, from `evaluation.worst_hidden`; by default searched on demand.

        Raises:
            InputError: models whose image encoders differ; no data set that can be opened.
        """
        self.profile, self._rank = profile, -1
        self._in_scene: tuple = ()  # image and object that `scene` shows
        self.opened, self.failures = dict(datasets or {}), {k: [*v] for k, v in (failures or {}).items()}
        self._start(models, click)

    # ------------------------------------------------------------------------------------------------ widgets

    def _rows(self) -> list[list[W.Widget]]:
        names = dict.fromkeys([*self.opened, *data_sets(self.profile)])
        self.data_set = W.Dropdown(options=[*names], description="data set", style=WIDE)
        self.image_number = W.IntSlider(description="image", style=WIDE)
        kinds = [("visible box", "visible"), ("amodal box", "amodal"), ("drawn box", "drawn")]
        self.prompt = W.ToggleButtons(options=kinds, style={"button_width": "100px"})
        self.noise = W.FloatSlider(max=0.4, step=0.02, description="box noise", readout_format=".0%", style=WIDE)
        self.score = W.FloatSlider(1.0, min=0, max=1, step=0.05, description="box score", style=WIDE)
        self.previous = W.Button(description="previous", icon="arrow-left", layout={"width": "120px"})
        self.next = W.Button(description="next worst", icon="arrow-right", layout={"width": "120px"})
        self._when(self.data_set, lambda change: self._open_dataset(change.new, change.old))
        self._when(self.image_number, lambda change: self._show_image(change.new))
        for widget in (self.prompt, self.noise):
            self._when(widget, lambda change: self._prompt_object())
        self._when(self.score, lambda change: self._paint())
        self.next.on_click(lambda _: self._guarded(self._step, 1))
        self.previous.on_click(lambda _: self._guarded(self._step, -1))
        return [
            [self.data_set, self.image_number, self.object],
            [self.prompt, self.noise, self.sliders],
            [self.threshold, self.score, self.compare, self.truth, self.previous, self.next],
        ]

    def _more_panels(self) -> list[W.Widget]:
        self.scene = W.Image(format="jpeg", layout={"max_width": "100%"})
        self.scene_label = W.HTML()
        return [self._panel("as annotated", self.scene, self.scene_label)]

    # ------------------------------------------------------------------------------------------------ what is shown

    def _open_first(self) -> None:
        self._open_dataset(self.data_set.value)

    def _open_dataset(self, name: str, before: str | None = None) -> None:
        try:
            if name not in self.opened:
                self.status.value = f"Opening {html.escape(name)} ..."
                self.opened[name] = open_clean_dataset(name, "val", self.profile)
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
        front = self.image.occluders()
        targets = [
            Target(_described(place, item, front[place]), _boxes(item), item)
            for place, item in enumerate(self.image.instances)
        ]
        if chosen is None:  # the most occluded
            chosen = max(range(len(targets)), key=lambda place: _rate(self.image.instances[place]))
        with self._silence():
            self.prompt.value = "visible" if self.prompt.value == "drawn" else self.prompt.value
        self._show(self.image.read(), targets, chosen)

    def _prompt_object(self) -> None:
        """Prompt with the chosen object's box of the chosen kind; a drawn box stays."""
        self.item = self.targets[self.object.value].item
        if self.prompt.value == "drawn":
            self._answer()
            return
        front_end = ground_truth_boxes(self.prompt.value)
        if self.noise.value:
            front_end = jittered(front_end, self.noise.value, self.profile.evaluation.jitter_seed)
        self._prompt(front_end(self.image).boxes[self.object.value])

    def _draw(self, box: ArrayLike, on_canvas: bool = True) -> None:
        with self._silence():
            self.prompt.value = "drawn"
        super()._draw(box, on_canvas)

    def _answer(self) -> None:
        super()._answer()
        if self._in_scene != (self.image, self.object.value):
            self._in_scene = self.image, self.object.value
            self.scene.value = scene_picture(self.image, self.pixels, self.object.value, PICTURE)
            self.scene_label.value = html.escape(self.object.label)

    def _words(self, name: str, mask: np.ndarray, amodal: np.ndarray | None, visible: np.ndarray | None) -> list[str]:
        score = f"score {self.score.value * self.predicted_iou[name]:.3f}"
        first, *others = super()._words(name, mask, amodal, visible)
        return [first, score, *others]

    def _step(self, by: int) -> None:
        """Step through the ranking of worst objects."""
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


def data_sets(profile: Profile) -> list[str]:
    """Names of the profile's data sets; outside `mini`, which draws them, only those with a folder."""
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


STEPS = 40  # of the slider, about


class Playground(W.VBox):
    """A slider moves a cut-out over an object; the decoders' masks and the occlusion curve follow."""

    def __init__(
        self, models: Mapping[str, Sameo], pairs: Mapping[str, OcclusionPair], rows: Sequence[Mapping], profile: str
    ):
        """
        Args:
            models: name -> SAMEO, before and after fine-tuning; they share the image encoder.
            pairs: of objects, by name.
            rows: of `playground.occlusion_curve` for these pairs.
            profile: for the curve's title.
        """
        self.models, self.rows, self.profile = dict(models), list(rows), profile
        self.stages = list(pairs.values())
        self.pair = W.Dropdown(options=[(name, i) for i, name in enumerate(pairs)], description="objects")
        self.position = W.IntSlider(description="position", readout=False, layout={"width": "460px"})
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
        self._answers: dict[tuple[int, int], dict[str, tuple[AmodalPrediction, RegionIoU]]] = {}
        self.pair.observe(lambda change: self._choose(), "value")
        self.position.observe(lambda change: self._show(), "value")
        self._choose()

    def _choose(self) -> None:
        pair = self.stages[self.pair.value]
        with self.position.hold_trait_notifications():
            self.position.max, self.position.step = len(pair.rates) - 1, max(1, len(pair.rates) // STEPS)
            self.position.value = pair.position(pair.rate)
        self._show()

    def _show(self) -> None:
        shown, pair = (self.pair.value, self.position.value), self.stages[self.pair.value]
        frame = pair.at(self.position.value)
        if shown not in self._answers:
            self._answers[shown] = frame.answers(self.models)
        for name, (prediction, iou) in self._answers[shown].items():
            self.hidden[name] = iou.hidden
            self.pictures[name].value = object_picture(
                frame.image, prediction.masks[0], frame.visible, truth=frame.amodal, longest=PICTURE - 20
            )
            hidden = "" if math.isnan(iou.hidden) else f" \N{MIDDLE DOT} hidden IoU <b>{iou.hidden:.3f}</b>"
            self.labels[name].value = f"IoU {iou.full:.3f}{hidden}"
        self.status.value = f"<b>{frame.rate:.0%}</b> hidden"
        rows = [row for row in self.rows if row["pair"] == self.pair.value]
        title = self.pair.label[0].upper() + self.pair.label[1:]
        self.curve.value = figure_png(figure_occlusion_curve(rows, self.profile, title, here=frame.rate))
