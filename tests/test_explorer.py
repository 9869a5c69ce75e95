"""The explorer without a browser: what the front-end would set is set here, and what it would show is read."""

import datetime
import io
import re

import nbformat
import numpy as np
import PIL.Image
import pytest
from conftest import seeded_nano

from sameo_core.apps import pages
from sameo_core.apps.canvas import PICTURE
from sameo_core.apps.explorer import Explorer, Picture, Target, photographs
from sameo_core.apps.pages import DatasetExplorer, Playground
from sameo_core.apps.playground import OcclusionPair, stages
from sameo_core.config import NOTEBOOKS
from sameo_core.errors import InputError
from sameo_core.evaluation import region_iou, worst_hidden
from sameo_core.front_ends import ground_truth_boxes, jittered, predict_dataset
from sameo_core.masks import mask_box
from sameo_core.model import Sameo
from sameo_core.pipeline import open_clean_dataset
from sameo_core.reporting import object_picture


@pytest.fixture
def models(nano):
    """Two decoders behind one encoder."""
    other = Sameo(seeded_nano(), "nano")
    other.model.mask_decoder.load_state_dict(seeded_nano(1).mask_decoder.state_dict())
    return {"before": other, "after": nano}


@pytest.fixture
def dataset(world):
    return open_clean_dataset("cocoa_cls", "val", world.profile())


@pytest.fixture
def explorer(models, dataset, world):
    return DatasetExplorer(models, world.profile(), {"cocoa_cls": dataset})


@pytest.fixture
def counted(monkeypatch):
    """How often images are encoded and boxes decoded."""
    calls = {"embed": 0, "decode_embedded": 0}

    def counting(name):
        original = getattr(Sameo, name)

        def call(self, *arguments):
            calls[name] += 1
            return original(self, *arguments)

        return call

    for name in calls:
        monkeypatch.setattr(Sameo, name, counting(name))
    return calls


def send(explorer, **event):
    """What the browser sends of the picture that it shows."""
    canvas = explorer.pictures["after"]
    canvas._handle_custom_msg({"number": canvas.number} | event, [])


def draw(explorer, *box):
    """A box in pixels of the image."""
    send(explorer, kind="box", box=[*box])


# ------------------------------------------------------------------------------------------------------- boxes


def test_the_most_hidden_object_comes_first_and_the_answer_is_that_of_predict(explorer, dataset, models):
    item = max(dataset[0].instances, key=lambda item: item.occlusion_rate)
    assert explorer.item is item
    np.testing.assert_array_equal(explorer.box, item.visible_box)
    for name, model in models.items():
        expected = model.predict(explorer.pixels, explorer.box[None])
        np.testing.assert_array_equal(explorer.masks[name], expected.masks[0])
        assert f"predicted IoU <b>{expected.iou[0]:.3f}</b>" in explorer.labels[name].value
        region = region_iou(explorer.masks[name], item.amodal, item.visible)
        assert f"IoU {region.full:.3f}" in explorer.labels[name].value
    explorer.prompt.value = "amodal"
    np.testing.assert_array_equal(explorer.box, item.amodal_box)


def test_a_drawn_box_changes_masks_and_pictures_and_is_cut_at_the_frame(explorer):
    mask, pictures = explorer.masks["after"], [canvas.picture for canvas in explorer.pictures.values()]
    draw(explorer, 20, 30, 70, 90)
    np.testing.assert_array_equal(explorer.box, [20, 30, 70, 90])
    assert explorer.prompt.value == "drawn" and (explorer.masks["after"] != mask).any()
    assert all(canvas.picture != before for canvas, before in zip(explorer.pictures.values(), pictures, strict=True))
    assert (explorer.x.value, explorer.y.value) == ((20, 70), (30, 90))
    draw(explorer, -30, -20, 5000, 60)
    np.testing.assert_array_equal(explorer.box, [0, 0, explorer.image.width, 60])


def test_a_box_is_answered_once_and_the_image_encoded_once(explorer, counted):
    for x in (10, 20, 30):
        draw(explorer, x, 30, x + 50, 90)
    assert counted == {"embed": 0, "decode_embedded": 6}
    explorer.image_number.value = 1
    assert explorer.prompt.value == "visible", "the drawn box was one of another picture"
    explorer.x.value, explorer.y.value = (10, 60), (20, 100)
    np.testing.assert_array_equal(explorer.box, [10, 20, 60, 100])
    assert counted == {"embed": 1, "decode_embedded": 2 * (3 + 1 + 2)}
    explorer.y.value = (50, 50)
    assert counted["decode_embedded"] == 2 * 6, "no area, no answer"


def test_a_box_around_an_object_is_compared_with_it_and_elsewhere_nothing_is_claimed(explorer, dataset):
    for place, item in enumerate(dataset[0].instances):
        draw(explorer, *item.amodal_box.tolist())
        assert explorer.item is item and explorer.object.value == place
    draw(explorer, 0, 0, 6, 6)
    assert explorer.item is None
    assert "what is hidden is not known" in explorer.labels["after"].value
    assert "hidden IoU" not in explorer.labels["after"].value


# ------------------------------------------------------------------------------------------------------- sliders


def test_the_threshold_is_a_probability_and_decodes_nothing(explorer, counted):
    probability = 1 / (1 + np.exp(-explorer.logits["after"].astype(float)))
    sizes = []
    for threshold in (0.1, 0.7, 0.9):
        explorer.threshold.value = threshold
        np.testing.assert_array_equal(explorer.masks["after"], probability >= threshold)
        sizes.append(explorer.masks["after"].sum())
    assert counted["decode_embedded"] == 0 and sizes[0] > sizes[-1]


def test_noise_is_that_of_the_front_end(explorer, world):
    explorer.noise.value = 0.2
    seed = world.profile().evaluation.jitter_seed
    expected = jittered(ground_truth_boxes("visible"), 0.2, seed)(explorer.image).boxes[explorer.object.value]
    np.testing.assert_array_equal(explorer.box, expected)
    explorer.noise.value = 0
    np.testing.assert_array_equal(explorer.box, explorer.item.visible_box)


# ------------------------------------------------------------------------------------------------------- failures


def test_failures_are_stepped_through_from_the_worst_and_ranked_once(explorer, dataset, models, world, monkeypatch):
    results = predict_dataset({"after": models["after"]}, dataset, {"visible": ground_truth_boxes()})
    ranking = worst_hidden(dataset, results["after", "visible"])
    assert len(ranking) >= 2
    for number, expected in enumerate([*ranking, ranking[-1]], start=1):
        explorer.next.click()
        item = dataset[expected.image].instances[expected.instance]
        assert explorer.item is item
        assert f"Number {min(number, len(ranking))} of {len(ranking)}" in explorer.status.value, "the last stays"
        assert f"{expected.hidden:.3f}" in explorer.status.value
        hidden = region_iou(explorer.masks["after"], item.amodal, item.visible).hidden
        assert hidden == pytest.approx(expected.hidden, abs=1e-6)
    explorer.previous.click()
    assert f"Number {len(ranking) - 1} of" in explorer.status.value
    monkeypatch.setattr(pages, "predict_dataset", lambda *_: pytest.fail("the ranking lies in the run folder"))
    again = DatasetExplorer(models, world.profile(), {"cocoa_cls": dataset})
    again.next.click()
    assert again.status.value.startswith(f"Number 1 of {len(ranking)}")


# ------------------------------------------------------------------------------------------------------- data sets


def test_a_set_of_visible_masks_has_no_truth(explorer):
    assert set(explorer.data_set.options) == {"cocoa_cls", "cocoa", "lvis"}
    explorer.data_set.value = "lvis"
    assert explorer.dataset.name == "lvis" and explorer.image_number.max == len(explorer.dataset) - 1
    explorer.prompt.value = "amodal"
    assert "LVIS" in explorer.status.value, "what is missing is said on the page"
    assert "hidden IoU" not in explorer.labels["after"].value
    explorer.next.click()
    assert explorer.status.value.startswith("No object of this data set is known to be hidden")


def test_a_data_set_that_cannot_be_opened_is_said_on_the_page(explorer, monkeypatch):
    def refuse(name, split, profile):
        raise InputError(file=name, rule="the files must <exist>", remedy="Fetch them")

    monkeypatch.setattr(pages, "open_clean_dataset", refuse)
    dataset = explorer.dataset
    explorer.data_set.value = "cocoa"
    assert "the files must &lt;exist&gt;" in explorer.status.value
    assert explorer.data_set.value == "cocoa_cls" and explorer.dataset is dataset
    draw(explorer, 20, 30, 70, 90)
    assert "Answered" in explorer.status.value


# ------------------------------------------------------------------------------------------------------- playground


@pytest.fixture
def playground(models, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RUNS", tmp_path)
    monkeypatch.setattr(pages, "PLACES", 5)
    playground = Playground(models, {"one over another": stages(dataset, 1)[0]}, "mini")
    playground.thread.join()
    return playground


def slide(playground, to):
    canvas = playground.pictures["after"]
    canvas._handle_custom_msg({"kind": "slide", "to": to, "number": canvas.number}, [])


def test_the_cut_out_is_dragged_and_the_nearest_place_is_shown(playground, models):
    pair, (first, *between, last), curves = playground.pair, playground.places, []
    assert pair.at(playground.shown).rate == pytest.approx(0.3, abs=0.05) and playground.progress.value == ""
    for wanted, place in ((first - 50, first), *((other, other) for other in between), (last + 99, last)):
        slide(playground, wanted)
        frame = pair.at(place)
        assert f"<b>{frame.rate:.0%}</b>" in playground.status.value
        assert [canvas.position for canvas in playground.pictures.values()] == [place, place]
        for name, model in models.items():
            expected = model.predict(frame.image, mask_box(frame.visible)[None]).masks[0]
            hidden = region_iou(expected, frame.amodal, frame.visible).hidden
            assert place == first or f"hidden IoU <b>{hidden:.3f}</b>" in playground.labels[name].value
        curves.append(playground.curve.value.count("<circle"))
    assert curves == sorted(curves) and curves[-1] == 2 * sum(pair.rates[place] > 0 for place in playground.places)


def test_answers_wait_for_nobody_and_are_kept(playground, models, counted):
    slide(playground, playground.places[-1])
    assert counted["embed"] == 0, "answered before"
    again = Playground(models, playground.pairs, "mini")
    again.thread.join()
    assert again.pictures["after"].picture != playground.pictures["after"].picture
    slide(again, again.places[-1])
    assert again.pictures["after"].picture == playground.pictures["after"].picture
    assert counted["embed"] == 0, "kept in the run folder"


def test_the_playground_steps_with_arrow_keys(playground):
    slide(playground, playground.places[1])
    for key, place in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
        playground.pictures["after"]._handle_custom_msg({"kind": "key", "key": key}, [])
        assert playground.shown == playground.places[place]


# ------------------------------------------------------------------------------------------------------- photographs


@pytest.fixture
def page(models):
    """A grey photograph of a red square, of which a box is known, and one of which nothing is."""
    red = np.full((60, 90, 3), 120, np.uint8)
    red[20:40, 30:60] = 200, 30, 30
    known = Picture(red, [Target("square", [(30, 20, 60, 40)])])
    opened = {"red": lambda: known, "plain": lambda: Picture(np.full((50, 40, 3), 90, np.uint8))}
    return Explorer(models, opened, click=lambda model, embedding, size, point: [*point, *(side + 9 for side in point)])


def test_where_the_truth_is_not_known_the_un_tuned_mask_stands_in(page, models):
    np.testing.assert_array_equal(page.box, [30, 20, 60, 40])
    mask, seen = (models[name].predict(page.pixels, page.box[None]).masks[0] for name in ("after", "before"))
    np.testing.assert_array_equal(page.masks["after"], mask)
    assert page.pictures["after"].picture == object_picture(page.pixels, mask, seen, longest=PICTURE)
    assert "not known" in page.labels["after"].value and "hidden IoU" not in page.labels["after"].value


def test_keys_step_through_the_photographs_in_a_circle(page):
    for key, name, size in (("n", "plain", (40, 50)), ("n", "red", (90, 60)), ("p", "plain", (40, 50))):
        send(page, kind="key", key=key)
        assert page.photograph.value == name and page.pixels.shape[1::-1] == size
        assert (page.x.max, page.y.max) == size and page.sliders.children == (page.x, page.y)
    assert page.object.value is None
    np.testing.assert_array_equal(page.box, [10, 12.5, 30, 37.5])


def test_a_click_becomes_a_box(page):
    send(page, kind="point", point=[30, 20])
    assert [canvas.box for canvas in page.pictures.values()] == [[30, 20, 39, 29]] * 2


def test_a_box_of_an_earlier_picture_is_dropped(page, counted):
    earlier, box = page.pictures["after"].number, page.box
    page.next.click()
    page.previous.click()
    answers = counted["decode_embedded"]
    send(page, kind="box", box=[2, 3, 20, 30], number=earlier)
    np.testing.assert_array_equal(page.box, box)
    assert counted["decode_embedded"] == answers
    send(page, kind="box", box=[2, 3, 20, 30])
    np.testing.assert_array_equal(page.box, [2, 3, 20, 30])


def test_every_event_is_answered_so_that_the_page_sends_the_next(page):
    before = page.pictures["after"].answered
    send(page, kind="box", box=[2, 3, 20, 30], number=-1)
    send(page, kind="box", box=[5, 5, 5, 5])
    assert "boxes" in page.status.value, "no area"
    assert page.pictures["after"].answered == before + 2


def test_at_most_three_controls_are_seen_before_advanced_is_opened(page, explorer):
    for shown in (page, explorer):
        pictures, controls, _, advanced, _ = shown.children
        assert shown.pictures["after"] in pictures.children[0].children, "the picture comes first"
        assert len(controls.children) <= 3 and advanced.selected_index is None


def test_the_page_has_no_heading_without_content():
    """`make explore` leaves out the cells tagged "lesson"."""
    cells = nbformat.read(NOTEBOOKS / "06_explore_occlusions.ipynb", as_version=4).cells
    shown = [cell for cell in cells if "lesson" not in cell.metadata.get("tags", [])]
    for cell, following in zip(shown, [*shown[1:], None], strict=True):
        if cell.cell_type == "markdown" and re.fullmatch(r"#+ .*", cell.source.strip()):
            assert following and following.cell_type == "code", cell.source
    assert [cell.source.split("\n")[0] for cell in shown if cell.source.startswith("#")][0] == "## Explore"


def test_a_photograph_of_ones_own(page):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (33, 44), "blue").save(buffer, "png")
    page.upload.value = [upload("mine.png", buffer.getvalue())]
    assert page.photograph.value == "mine.png" and page.pixels.shape == (44, 33, 3)
    page.upload.value = [upload("bad.png", b"no picture")]
    assert "bad.png" in page.status.value and page.photograph.value == "mine.png"


def upload(name, content):
    """What the browser sends of a file."""
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return {"name": name, "type": "image/png", "size": len(content), "content": content, "last_modified": when}


def test_pasted_scenes_come_with_their_truth(models):
    amodal = np.zeros((30, 40), bool)
    amodal[10:20, 15:35] = True
    front = OcclusionPair(
        np.full((30, 40, 3), 90, np.uint8), amodal, np.full((14, 12, 3), 200, np.uint8), np.ones((14, 12), bool)
    )
    page = Explorer(models, photographs({"one over another": front}))
    assert page.photograph.options[0] == "one over another" and set(page.photograph.options[1:]) >= {"coffee"}
    np.testing.assert_array_equal(page.item.amodal, amodal)
    assert "hidden IoU" in page.labels["after"].value
    page.photograph.value = "coffee"
    assert page.item is None and page.pixels.shape == (400, 600, 3)
