"""One object moves over another, and the answers follow."""

import html
import math
from collections.abc import Mapping, Sequence

import ipywidgets as W

from sameo_core.evaluation import RegionIoU
from sameo_core.explorer.base import PICTURE
from sameo_core.model import AmodalPrediction, Sameo
from sameo_core.playground import Stage
from sameo_core.reporting import figure_occlusion_curve, figure_png, object_picture

STEPS = 40  # of the cut-out on its way


class Playground(W.VBox):
    """A cut-out that a slider moves over another object, what the decoders make of it, and the curve they follow."""

    def __init__(self, models: Mapping[str, Sameo], pairs: Mapping[str, Stage], rows: Sequence[Mapping], profile: str):
        """
        Args:
            models: name -> SAMEO; the one before, then the one after fine-tuning; they share the image encoder.
            pairs: of objects, by name.
            rows: what `playground.occlusion_curve` found of them, in their order.
            profile: named in the curve's title.
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
        stage = self.stages[self.pair.value]
        with self.position.hold_trait_notifications():
            self.position.max, self.position.step = len(stage.rates) - 1, max(1, len(stage.rates) // STEPS)
            self.position.value = stage.position(stage.rate)
        self._show()

    def _show(self) -> None:
        shown, stage = (self.pair.value, self.position.value), self.stages[self.pair.value]
        moment = stage.at(self.position.value)
        if shown not in self._answers:
            self._answers[shown] = moment.answers(self.models)
        for name, (prediction, iou) in self._answers[shown].items():
            self.hidden[name] = iou.hidden
            self.pictures[name].value = object_picture(
                moment.image, prediction.masks[0], moment.visible, truth=moment.amodal, longest=PICTURE - 20
            )
            hidden = "" if math.isnan(iou.hidden) else f" \N{MIDDLE DOT} hidden IoU <b>{iou.hidden:.3f}</b>"
            self.labels[name].value = f"IoU {iou.full:.3f}{hidden}"
        self.status.value = f"<b>{moment.rate:.0%}</b> hidden"
        rows = [row for row in self.rows if row["pair"] == self.pair.value]
        title = self.pair.label[0].upper() + self.pair.label[1:]
        self.curve.value = figure_png(figure_occlusion_curve(rows, self.profile, title, here=moment.rate))
