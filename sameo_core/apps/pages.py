"""Pages of notebook 06: the explorer of annotated data sets, and the occlusion playground."""

import html
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np
import torch
from numpy.typing import ArrayLike

from sameo_core.apps.canvas import Canvas
from sameo_core.apps.explorer import PICTURE, ROW, WIDE, BoxFromPoint, Explorer, Target
from sameo_core.apps.playground import OcclusionPair
from sameo_core.config import RUNS, Profile, config_hash
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance
from sameo_core.errors import InputError
from sameo_core.evaluation import Failure, worst_hidden
from sameo_core.front_ends import Detections, ground_truth_boxes, jittered, predict_dataset
from sameo_core.masks import decode_rle, encode_mask
from sameo_core.model import Sameo
from sameo_core.pipeline import open_clean_dataset
from sameo_core.reporting import object_picture, occlusion_svg, scene_picture
from sameo_core.runs.kept import keep, read_kept


class DatasetExplorer(Explorer):
    """The explorer of annotated data sets: every object's box, ground truth beside predictions, worst first."""

    def __init__(
        self,
        models: Mapping[str, Sameo],
        profile: Profile,
        datasets: Mapping[str, AmodalDataset] | None = None,
        click: BoxFromPoint | None = None,
    ):
        """
        Args:
            models, click: as for `Explorer`.
            profile: names the data sets; their split "val" is shown.
            datasets: those already open; the first is shown first.

        Raises:
            InputError: models whose image encoders differ; no data set that can be opened.
        """
        self.profile, self._rank = profile, -1
        self._in_scene: tuple = ()  # image and object that `scene` shows
        self.opened, self.failures = dict(datasets or {}), dict[str, list[Failure]]()
        self._start(models, click)

    # ------------------------------------------------------------------------------------------------ widgets

    def _controls(self) -> tuple[list[W.Widget], list[list[W.Widget]]]:
        names = dict.fromkeys([*self.opened, *data_sets(self.profile)])
        self.data_set = W.Dropdown(options=[*names], description="data set", style=WIDE)
        self.image_number = W.IntSlider(description="image", style=WIDE)
        kinds = [("visible box", "visible"), ("amodal box", "amodal"), ("drawn box", "drawn")]
        self.prompt = W.ToggleButtons(options=kinds, style={"button_width": "100px"})
        self.noise = W.FloatSlider(max=0.4, step=0.02, description="box noise", readout_format=".0%", style=WIDE)
        self.score = W.FloatSlider(1.0, min=0, max=1, step=0.05, description="box score", style=WIDE)
        self.previous.description, self.next.description = "previous", "next worst"
        self._when(self.data_set, lambda change: self._open_dataset(change.new, change.old))
        self._when(self.image_number, lambda change: self._show_image(change.new))
        for widget in (self.prompt, self.noise):
            self._when(widget, lambda change: self._prompt_object())
        self._when(self.score, lambda change: self._paint())
        return [self.object, self.previous, self.next], [
            [self.data_set, self.image_number],
            [self.prompt, self.noise],
            [self.sliders],
            [self.threshold, self.score, self.compare, self.truth],
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

    def _draw(self, box: ArrayLike) -> None:
        with self._silence():
            self.prompt.value = "drawn"
        super()._draw(box)

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

    def _ranking(self, name: str) -> list[Failure]:
        """The worst objects of a data set; kept in the profile's run folder."""
        model, dataset = self.models[[*self.models][-1]], self.dataset
        if self.image.instances[0].amodal_rle is None:
            return []
        path = self.profile.runs / f"worst-{config_hash(model.fingerprint(), dataset.fingerprint())}" / "ranking.json"
        if kept := read_kept(path):
            return [Failure(*failure) for failure in kept]
        front_end, looked_at = ground_truth_boxes(), 0

        def counted(image: AmodalImage) -> Detections:
            nonlocal looked_at
            looked_at += 1
            self.status.value = f"Looking for the worst: image {looked_at} of {len(dataset)} ..."
            return front_end(image)

        (results,) = predict_dataset({"": model}, dataset, {"": counted}).values()
        keep(ranking := worst_hidden(dataset, results), path)
        return ranking

    def _step(self, by: int) -> None:
        """Step through the ranking of worst objects."""
        *_, model = self.models
        name = self.data_set.value
        if name not in self.failures:
            self.failures[name] = self._ranking(name)
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


def _described(place: int, item: AmodalInstance, front: list[int]) -> str:
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


WHY = (
    "<b>Why does hidden IoU rise with occlusion?</b> A narrow hidden strip is nearly all border, where an error of "
    "a few pixels costs most of it; a larger hidden region has more inside."
)
PLACES = 24  # of the cut-out on its way


class Playground(W.VBox):
    """A cut-out is dragged over an object; the decoders' masks, and the curve of hidden IoU, follow.

    With the cut-out elsewhere a picture must be encoded anew. So `PLACES` of them are answered in another thread, the
    nearest first, and kept in the profile's run folder; on the page the nearest one that is ready is shown.
    """

    def __init__(self, models: Mapping[str, Sameo], pairs: Mapping[str, OcclusionPair], profile: str):
        """
        Args:
            models: name -> SAMEO, before and after fine-tuning; they share the image encoder.
            pairs: of objects, by name.
            profile: in whose run folder the answers are kept.

        Raises:
            InputError: models whose image encoders differ.
        """
        self.models, self.stages, self.runs = dict(models), dict(pairs), RUNS / profile
        self.pair = W.Dropdown(options=[*pairs], description="objects", style=WIDE)
        self.status, self.progress, self.curve = W.HTML(), W.HTML(), W.HTML()
        self.status.add_class("sameo-occlusion")
        self.curve.add_class("sameo-curve")
        about = "Drag the cut-out to the left and right, or use the arrow keys"
        self.pictures = {name: Canvas(self._heard, about=f"{name}: {about}", position=0) for name in models}
        self.labels = {name: W.HTML() for name in models}
        self.hidden: dict[str, float] = {}
        layout = {"width": f"{PICTURE + 10}px", "max_width": "100%", "margin": "0 4px 8px 0"}
        panels = [
            W.VBox([W.HTML(f"<b>{html.escape(name)}</b>"), self.pictures[name], self.labels[name]], layout=layout)
            for name in [*models][::-1]
        ]
        for name in models:
            self.pictures[name].add_class("sameo-slide")
        super().__init__(
            [
                W.Box([*panels, self.curve], layout={"flex_flow": "row wrap", "align_items": "flex-start"}),
                W.Box([self.pair, self.status, self.progress], layout=ROW),
                W.HTML(f"{about}. {WHY}"),
            ]
        )
        self._lock = threading.Lock()
        self.pair.observe(lambda change: self._choose(), "value")
        self._choose()

    def _choose(self) -> None:
        """Show the chosen pair where it begins; answer its other places in another thread."""
        self.stage = self.stages[self.pair.value]
        self.places, self.visited, self.shown = self.stage.places(PLACES), set[int](), -1
        self.wanted: float = self.stage.position(self.stage.rate)
        prints = [model.fingerprint() for model in self.models.values()]
        self._path = self.runs / f"playground-{config_hash(prints, self.stage.fingerprint())}" / "answers.json"
        self.answers: dict[int, dict[str, Any]] = {int(k): v for k, v in (read_kept(self._path) or {}).items()}
        if not self.answers:
            self.answers[int(self.wanted)] = self._answer(self.stage, int(self.wanted))
        self._show()
        threads = torch.get_num_threads()  # a thread begins with another number
        arguments = self.stage, self.places, self.answers, self._path, threads
        self.thread = threading.Thread(target=self._answer_all, args=arguments, daemon=True)
        self.thread.start()

    def _answer(self, stage: OcclusionPair, place: int) -> dict[str, Any]:
        """Per model: mask as RLE, IoU, hidden IoU."""
        answers = stage.at(place).answers(self.models).items()
        return {name: [encode_mask(found.masks[0]), iou.full, iou.hidden] for name, (found, iou) in answers}

    def _answer_all(
        self, stage: OcclusionPair, places: list[int], answers: dict[int, dict[str, Any]], path: Path, threads: int
    ) -> None:
        """Answer the places that are missing, nearest to the wanted one first, until another pair is chosen."""
        torch.set_num_threads(threads)
        found = len(answers)
        while answers is self.answers and (missing := {*places} - {*answers}):
            place = min(missing, key=lambda place: abs(place - self.wanted))
            self.progress.value = f"({len(answers)} of {len(places)} places ready)"
            answers[place] = self._answer(stage, place)
            if answers is self.answers:
                self._show()
        if answers is self.answers:
            self.progress.value = ""
        if len(answers) > found:
            keep(answers, path)

    def _heard(self, event: Mapping[str, Any]) -> None:
        """React to the page: the cut-out at another position, or a key."""
        match event:
            case {"kind": "slide", "to": position}:
                self.wanted = min(max(position, self.places[0]), self.places[-1])
            case {"kind": "key", "key": "ArrowLeft" | "ArrowRight" as key}:
                ready = sorted(self.answers)
                place = ready.index(self.shown) + (1 if key == "ArrowRight" else -1)
                self.wanted = ready[min(max(place, 0), len(ready) - 1)]
            case {"kind": "key", "key": "n" | "p" as key}:
                names = [*self.stages]
                self.pair.value = names[(names.index(self.pair.value) + (1 if key == "n" else -1)) % len(names)]
        self._show()

    def _show(self) -> None:
        """Show the place nearest to the wanted one, of those that are ready."""
        with self._lock:
            place = min([*self.answers], key=lambda place: abs(place - self.wanted))
            if place == self.shown:
                return
            self.shown, frame, answers = place, self.stage.at(place), self.answers[place]
            self.visited.add(place)
            for name, (rle, full, hidden) in answers.items():
                self.hidden[name] = hidden
                picture = object_picture(
                    frame.image, decode_rle(rle), frame.visible, truth=frame.amodal, longest=PICTURE
                )
                canvas = self.pictures[name]
                with canvas.hold_sync():  # one message
                    canvas.picture, canvas.size, canvas.position = picture, [*frame.image.shape[1::-1]], place
                words = "" if math.isnan(hidden) else f" \N{MIDDLE DOT} hidden IoU <b>{hidden:.3f}</b>"
                self.labels[name].value = f"IoU {full:.3f}{words}"
            self.status.value = f"<b>{frame.rate:.0%}</b> hidden"
            rates = {place: float(self.stage.rates[place]) for place in self.visited}
            curves = {
                name: sorted((rate, self.answers[place][name][2]) for place, rate in rates.items())
                for name in self.models
            }
            self.curve.value = occlusion_svg(curves, frame.rate)
