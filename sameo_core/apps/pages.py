"""Further pages of notebook 06: the explorer of annotated data sets, and the occlusion playground."""

import html
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as W
import torch
from numpy.typing import ArrayLike

from sameo_core.apps.canvas import PICTURE, ROW, WIDE, Canvas, panel, step
from sameo_core.apps.explorer import Explorer, Picture, Target
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

    def __init__(self, models: Mapping[str, Sameo], profile: Profile, datasets: Mapping[str, AmodalDataset]):
        """
        Args:
            models: as for `Explorer`.
            profile: names further data sets; their split "val" is shown.
            datasets: those already open; the first is shown first.

        Raises:
            InputError: models whose image encoders differ.
        """
        self.profile, self.opened = profile, dict(datasets)
        self.scene, self.scene_label = W.Image(format="jpeg", layout={"max_width": "100%"}), W.HTML()
        self._in_scene: tuple = ()  # image and object that `scene` shows
        super().__init__(models, {}, beside=[panel("as annotated", self.scene, self.scene_label)])

    def _controls(self) -> tuple[list[W.Widget], list[list[W.Widget]]]:
        data, mini = self.profile.data, self.profile.name == "mini"  # which draws its data sets
        named = [*data.held_out, *data.train, *data.visible_only]
        there = [name for name in named if mini or (self.profile.data_folder / name).is_dir()]
        self.data_set = W.Dropdown(options=[*dict.fromkeys([*self.opened, *there])], description="data set", style=WIDE)
        self.image_number = W.IntSlider(description="image", style=WIDE)
        kinds = [("visible box", "visible"), ("amodal box", "amodal"), ("drawn box", "drawn")]
        self.prompt = W.ToggleButtons(options=kinds, style={"button_width": "100px"})
        self.noise = W.FloatSlider(max=0.4, step=0.02, description="box noise", readout_format=".0%", style=WIDE)
        self.next.description = "next worst"
        self._when(self.data_set, lambda change: self._open_dataset(change.new, change.old))
        self._when(self.image_number, lambda change: self._show_image(change.new))
        for widget in (self.prompt, self.noise):
            self._when(widget, lambda change: self._prompt_object())
        return [self.object, self.previous, self.next], [
            [self.data_set, self.image_number],
            [self.prompt, self.noise],
            [self.sliders],
            [self.threshold],
        ]

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
        self.dataset, self._ranking, self._rank = self.opened[name], list[Failure](), -1
        with self._silence():
            self.image_number.max, self.image_number.value = len(self.dataset) - 1, 0
        self._show_image(0)

    def _show_image(self, number: int, chosen: int | None = None) -> None:
        """Show an image and one of its objects, by default the most occluded."""
        self.image = self.dataset[number]
        front = self.image.occluders()
        targets = [
            Target(_described(place, item, front[place]), _boxes(item), item)
            for place, item in enumerate(self.image.instances)
        ]
        if chosen is None:
            rates = [item.occlusion_rate if item.amodal_rle else 0.0 for item in self.image.instances]
            chosen = rates.index(max(rates))
        with self._silence():
            self.prompt.value = "visible" if self.prompt.value == "drawn" else self.prompt.value
        self._show(Picture(self.image.read(), targets), chosen)

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

    def _worst(self) -> list[Failure]:
        """The worst objects of the data set; kept in the profile's run folder."""
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
        self._ranking = self._ranking or self._worst()
        if not self._ranking:
            self.status.value = "No object of this data set is known to be hidden by a tenth or more."
            return
        self._rank = min(max(self._rank + by, 0), len(self._ranking) - 1)
        failure = self._ranking[self._rank]
        with self._silence():
            self.image_number.value, self.prompt.value, self.noise.value = failure.image, "visible", 0
        self._show_image(failure.image, failure.instance)
        place = f"Number {self._rank + 1} of {len(self._ranking)} from the worst, {[*self.models][-1]}, visible box"
        self.status.value = f"{place}: hidden IoU {failure.hidden:.3f}."


def _described(place: int, item: AmodalInstance, front: list[int]) -> str:
    """ "2 mug, 34 % hidden by 1, 3"."""
    words = f"{place + 1} {item.category.strip()}"
    if item.amodal_rle is None:
        return f"{words}, extent not annotated"
    if not item.occlusion_rate:
        return f"{words}, nothing hidden"
    by = f" by {', '.join(str(other + 1) for other in front)}" if front else ""
    return f"{words}, {item.occlusion_rate:.0%} hidden{by}"


def _boxes(item: AmodalInstance) -> list:
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
        self.models, self.pairs, self.runs = dict(models), dict(pairs), RUNS / profile
        self.choice = W.Dropdown(options=[*pairs], description="objects", style=WIDE)
        self.status, self.progress, self.curve = W.HTML(), W.HTML(), W.HTML()
        self.status.add_class("sameo-occlusion")
        self.curve.add_class("sameo-curve")
        about = "Drag the cut-out to the left and right, or use the arrow keys"
        self.pictures = {name: Canvas(self._heard, about=f"{name}: {about}", position=0) for name in models}
        self.labels = {name: W.HTML() for name in models}
        for picture in self.pictures.values():
            picture.add_class("sameo-slide")
        panels = [panel(name, self.pictures[name], self.labels[name]) for name in [*models][::-1]]
        super().__init__(
            [
                W.Box([*panels, self.curve], layout=ROW | {"align_items": "flex-start"}),
                W.Box([self.choice, self.status, self.progress], layout=ROW),
                W.HTML(f"{about}. {WHY}"),
            ]
        )
        self._lock = threading.Lock()
        self.choice.observe(lambda change: self._choose(), "value")
        self._choose()

    def _choose(self) -> None:
        """Show the chosen pair where it begins; answer its other places in another thread."""
        self.pair = self.pairs[self.choice.value]
        self.places, self.visited, self.shown = self.pair.places(PLACES), set[int](), -1
        start = self.pair.position(self.pair.rate)
        self.wanted: float = start
        prints = [model.fingerprint() for model in self.models.values()]
        path = self.runs / f"playground-{config_hash(prints, self.pair.fingerprint())}" / "answers.json"
        self.answers: dict[int, dict[str, Any]] = {int(place): kept for place, kept in (read_kept(path) or {}).items()}
        if not self.answers:
            self.answers[start] = self._answer(self.pair, start)
        self._show()
        threads = torch.get_num_threads()  # a thread begins with another number
        arguments = self.pair, self.places, self.answers, path, threads
        self.thread = threading.Thread(target=self._answer_all, args=arguments, daemon=True)
        self.thread.start()

    def _answer(self, pair: OcclusionPair, place: int) -> dict[str, Any]:
        """Per model: mask as RLE, IoU, hidden IoU."""
        answers = pair.at(place).answers(self.models).items()
        return {name: [encode_mask(found.masks[0]), iou.full, iou.hidden] for name, (found, iou) in answers}

    def _answer_all(
        self, pair: OcclusionPair, places: list[int], answers: dict[int, dict[str, Any]], path: Path, threads: int
    ) -> None:
        """Answer the places that are missing, nearest to the wanted one first, until another pair is chosen."""
        torch.set_num_threads(threads)
        found = len(answers)
        while answers is self.answers and (missing := {*places} - {*answers}):
            place = min(missing, key=lambda place: abs(place - self.wanted))
            self.progress.value = f"({len(answers)} of {len(places)} places ready)"
            answers[place] = self._answer(pair, place)
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
                step(self.choice, 1 if key == "n" else -1)
        self._show()

    def _show(self) -> None:
        """Show the place nearest to the wanted one, of those that are ready."""
        with self._lock:
            place = min([*self.answers], key=lambda place: abs(place - self.wanted))
            if place == self.shown:
                return
            self.shown, frame = place, self.pair.at(place)
            self.visited.add(place)
            for name, (rle, full, hidden) in self.answers[place].items():
                mask, canvas = decode_rle(rle), self.pictures[name]
                with canvas.hold_sync():  # one message
                    canvas.size, canvas.position = [*frame.image.shape[1::-1]], place
                    canvas.picture = object_picture(
                        frame.image, mask, frame.visible, truth=frame.amodal, longest=PICTURE
                    )
                words = "" if math.isnan(hidden) else f" \N{MIDDLE DOT} hidden IoU <b>{hidden:.3f}</b>"
                self.labels[name].value = f"IoU {full:.3f}{words}"
            self.status.value = f"<b>{frame.rate:.0%}</b> hidden"
            rates = [(float(self.pair.rates[place]), self.answers[place]) for place in self.visited]
            curves = {name: sorted((rate, found[name][2]) for rate, found in rates) for name in self.models}
            self.curve.value = occlusion_svg(curves, frame.rate)
