"""Boxes as people have them: lists, COCO results, COCO annotations; what looks like another format is refused."""

import json

import numpy as np
import pytest

from sameo_core.errors import InputError
from sameo_core.front_ends.boxes import number_of, read_box_file
from sameo_core.model.boxes import boxes_in_pixels

SIZE = (480, 640)  # height, width
XYXY = [[10, 20, 110, 220], [300, 100, 640, 480]]
XYWH = [[10, 20, 100, 200], [300, 100, 340, 380]]
SHARES = [[10 / 640, 20 / 480, 110 / 640, 220 / 480], [300 / 640, 100 / 480, 1, 1]]


ACCEPTED = [  # boxes, format as stated, xyxy pixels
    (XYXY, None, XYXY),
    (XYXY, "xyxy", XYXY),
    (XYWH, "xywh", XYXY),
    (SHARES, "normalised", XYXY),
    # what is stated is not doubted; an amodal box may leave the frame
    ([[0, 0, 1, 1]], "xyxy", [[0, 0, 1, 1]]),
    ([[300, 100, 600, 400]], "xywh", [[300, 100, 900, 500]]),
    ([[0.5, 0.5, 2, 1]], "normalised", [[320, 240, 1280, 480]]),
    ([], None, np.zeros((0, 4))),
    ([[]], None, np.zeros((0, 4))),
]


@pytest.mark.parametrize(("boxes", "box_format", "expected"), ACCEPTED)
def test_boxes_in_every_format(boxes, box_format, expected):
    found = boxes_in_pixels(boxes, SIZE, box_format)
    assert found.dtype == np.float32 and found.shape == np.shape(expected) and np.allclose(found, expected, atol=1e-4)


COCO = {"usual": "xywh"}
REFUSED = [  # boxes, options, record, what the error names
    (XYWH[:1] + [[500, 400, 100, 60]], {}, "box 1", 'box_format="xywh"'),
    (XYXY, COCO, "box 1", 'box_format="xyxy"'),
    (SHARES, {}, None, 'box_format="normalised"'),
    (SHARES, COCO, None, 'box_format="normalised"'),
    ([[0.1, 0.2, 0.5, 0.9]], {}, None, 'box_format="normalised"'),  # shares need not reach the frame
    (XYXY, {"box_format": "normalised"}, None, "look like pixels"),
    ([[300, 200, 342, 281]], COCO, "box 0", 'box_format="xyxy"'),  # more than a pixel outside
    ([[5, 5, 5, 9]], {}, "box 0", 'box_format="xywh"'),  # no area, unless as another
    ([[10, 20, 110, 220], [500, 400, 100, 60], [510, 400, 90, 60]], {}, "box 1", 'box_format="xywh"'),
    ([[10, 20, 5, 600]], {}, "box 0", "x0 < x1"),
    ([[700, 10, 800, 50]], {}, "box 0", "640 wide and 480 high"),
    ([[10, 10, 0, 5]], {"box_format": "xywh"}, "box 0", "x0 < x1"),
    ([1, 2, 3, 4], {}, None, "(4,)"),
    ([[1, 2, 30, 40, 0.9]], {}, None, "(1, 5)"),
    ([[1, 2, float("nan"), 4]], {}, None, "finite"),
    ([[1, 2, 3, 4], [1, 2, 3]], {}, None, "4 finite numbers"),
    ([["a", "b", "c", "d"]], {}, None, "4 finite numbers"),
]


@pytest.mark.parametrize(("boxes", "options", "record", "words"), REFUSED)
def test_doubtful_boxes_are_refused(boxes, options, record, words):
    with pytest.raises(InputError) as error:
        boxes_in_pixels(boxes, SIZE, file="mine.json", **options)
    assert (error.value.file, error.value.record) == ("mine.json", record) and words in str(error.value)


@pytest.mark.parametrize(
    ("boxes", "usual"),
    [
        (XYXY + [[600, 400, 700, 500]], "xyxy"),  # an amodal box may reach over the border
        (XYWH + [[600, 400, 100, 100]], "xywh"),  # as xyxy it has no area
        ([[0, 0, 1, 2]], "xyxy"),  # a tiny box, but one number is larger than 1
        ([[300, 200, 341, 281]], "xywh"),  # to x = 641, a pixel beyond the border; it could be xyxy as well
        ([[-1, -1, 641, 481]], "xyxy"),  # likewise
    ],
)
def test_what_can_be_meant_is_not_refused(boxes, usual):
    assert len(boxes_in_pixels(boxes, SIZE, usual=usual)) == len(boxes)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def write(tmp_path):
    def write(content, name="boxes.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def result(image_id, box=(10, 20, 100, 200), **more):
    return {"image_id": image_id, "category_id": 3, "bbox": list(box), "score": 0.5} | more


def annotations(*images, **more):
    listed = [{"id": i + 7, "file_name": name, "height": 480, "width": 640} | more for i, name in enumerate(images)]
    boxes = [{"id": i, "image_id": i + 7, "category_id": 2, "bbox": [i, 0, 50, 60]} for i in range(len(images))]
    return {"images": listed, "annotations": boxes, "categories": [{"id": 2, "name": "cup"}]}


def test_a_plain_list(write):
    file = read_box_file(write(XYXY))
    found = file.detections("photo.jpg", SIZE, alone=True)
    assert np.allclose(found.boxes, XYXY) and found.scores.tolist() == [1, 1]
    assert found.category_ids.tolist() == [1, 1] and found.instance_ids.tolist() == [-1, -1]
    assert file.categories == {1: "object"} and file.image_id("photo.jpg", alone=True) is None
    with pytest.raises(InputError, match="belongs to one photograph"):
        file.detections("photo.jpg", SIZE)
    assert len(read_box_file(write([])).detections("photo.jpg", SIZE, alone=True).boxes) == 0


@pytest.mark.parametrize(
    ("image_id", "more", "name"),
    [
        (139, {}, "000000000139.jpg"),
        (139, {}, "COCO_val2014_000000000139.jpg"),
        ("street", {}, "street.png"),
        ("street.png", {}, "street.png"),
        (5, {"file_name": "shots/street.png"}, "street.png"),
        (5, {"file_name": r"C:\shots\street.png"}, "street.png"),
    ],
)
def test_results_belong_to_the_photograph_of_their_name(write, image_id, more, name):
    file = read_box_file(write([result(image_id, **more), result("other"), result(image_id, (0, 0, 9, 9), **more)]))
    found = file.detections(name, SIZE)
    assert found.boxes.tolist() == [[10, 20, 110, 220], [0, 0, 9, 9]] and found.category_ids.tolist() == [3, 3]
    assert found.scores.tolist() == [0.5, 0.5] and file.image_id(name) == image_id
    assert len(file.detections("empty.jpg", SIZE).boxes) == 0  # a detector that found nothing there


@pytest.mark.parametrize("name", ["1390.jpg", "shot_139.jpg", "139b.jpg", "streets.png", "reet.png"])
def test_a_name_that_only_resembles_does_not_match(write, name):
    file = read_box_file(write([result(139), result("street")]))
    assert file.image_id(name) is None
    with pytest.raises(InputError, match=f"no image here is called {name}"):
        file.detections(name, SIZE, alone=True)


def test_annotations_are_found_by_file_name(write):
    data = annotations("a.jpg", "train/b.jpg")
    data["annotations"] += [{"id": 9, "image_id": 8, "category_id": 2, "bbox": [0, 0, 600, 400], "iscrowd": 1}]
    file = read_box_file(write(data))
    found = file.detections("b.jpg", SIZE)
    assert found.boxes.tolist() == [[1, 0, 51, 60]] and found.scores.tolist() == [1]  # without the crowd
    assert file.categories == {2: "cup"} and file.image_id("b.jpg") == 8
    with pytest.raises(InputError, match="no image here is called c.jpg"):
        file.detections("c.jpg", SIZE)


@pytest.mark.parametrize(("of_image", "of_record"), [(1, "1"), ("1", 1), (1, 1.0), (1.0, "1"), ("a1", "a1 ")])
def test_ids_of_another_type_are_matched(write, of_image, of_record):
    data = annotations("a.jpg")
    data["images"][0]["id"], data["annotations"][0]["image_id"] = of_image, of_record
    file = read_box_file(write(data))
    assert len(file.detections("a.jpg", SIZE).boxes) == 1 and file.image_id("a.jpg") == of_image


def test_annotations_of_images_that_are_not_listed_are_told_or_refused(write):
    data = annotations("a.jpg", "b.jpg")
    data["annotations"][1]["image_id"] = 99
    assert "1 of 2 annotations belong to images that it does not list" in read_box_file(write(data)).notes[0]
    data["annotations"][0]["image_id"] = "a.jpg"
    with pytest.raises(InputError, match="image_id 'a.jpg', but the images are 7, 8"):
        read_box_file(write(data))


def test_crowds_are_told_and_can_be_taken_as_objects(write):
    data = annotations("a.jpg", "b.jpg", "c.jpg")
    for record, flag in zip(data["annotations"], (1, "0", "1"), strict=True):
        record["iscrowd"] = flag
    file = read_box_file(write(data))
    assert len(file.detections("b.jpg", SIZE).boxes) == 1 and "2 of 3 annotations are crowd" in file.notes[0]
    with pytest.raises(InputError, match="all its 1 annotations are crowd regions.*--crowds"):
        file.detections("a.jpg", SIZE)
    file = read_box_file(write(data), crowds=True)
    assert [len(file.detections(f"{name}.jpg", SIZE).boxes) for name in "abc"] == [1, 1, 1] and file.notes == ()


@pytest.mark.parametrize("box", [None, [], [0, 0, 0, 0], [5, 5, 0, 0]])
def test_a_box_that_says_nothing_is_that_of_the_mask(write, box):
    data = annotations("a.jpg")
    data["annotations"].append(
        data["annotations"][0] | {"bbox": box, "segmentation": [[10, 20, 50, 20, 50, 60, 10, 60]]}
    )
    found = read_box_file(write(data)).detections("a.jpg", SIZE)
    assert found.boxes.tolist() == [[0, 0, 50, 60], [10, 20, 50, 60]]
    data["annotations"][1]["segmentation"] = [[10, 20, 50]]
    with pytest.raises(InputError, match="image 7: polygon with fewer"):
        read_box_file(write(data)).detections("a.jpg", SIZE)


def test_scores_are_rounded_into_0_to_1_and_categories_have_distinct_names(write):
    file = read_box_file(write([result(1, score=s, category_id=c) for s, c in ((1.0000001, 0), (-1e-9, 7), (0, 1))]))
    assert file.detections("1.jpg", SIZE).scores.tolist() == [1, 0, 0]
    assert file.categories == {1: "object", 0: "category 0", 7: "category 7"}
    assert len(file.detections("whatever.jpg", SIZE, alone=True).boxes) == 3  # the only image is the only photograph


def test_annotations_of_another_size_are_refused(write):
    with pytest.raises(InputError, match=r"\(480, 640\), the upright photograph's \(240, 320\)"):
        read_box_file(write(annotations("a.jpg"))).detections("a.jpg", (240, 320))
    with pytest.raises(InputError, match="annotated as stored, unrotated"):
        read_box_file(write(annotations("a.jpg"))).detections("a.jpg", (640, 480))
    with pytest.raises(InputError, match="one image is called a.jpg, found 2"):
        read_box_file(write(annotations("x/a.jpg", "y/a.jpg"))).detections("a.jpg", SIZE)


def test_the_format_can_be_said(write):
    coco = write([result(1, (10, 20, 110, 220)), result(1, (300, 100, 640, 480))])
    with pytest.raises(InputError, match=r'box_format="xyxy"'):
        read_box_file(coco).detections("1.jpg", SIZE)
    assert read_box_file(coco, "xyxy").detections("1.jpg", SIZE).boxes.tolist() == XYXY


BAD = {
    "not JSON": "[[1, 2,",
    "a number": 3,
    "an object of one's own": {"boxes": XYXY},
    "results without boxes": [{"image_id": 1, "category_id": 2}],
    "results without an image": [{"bbox": [1, 2, 3, 4]}],
    "an image without name": {"images": [{"id": 1}], "annotations": []},
    "annotations of masks only": {"images": [], "annotations": [{"image_id": 1, "segmentation": []}]},
    "a score in per cent": [result(1, score=90)],
    "a category by name": [result(1, category_id="cup")],
    "a box of three": [result(1, (1, 2, 3))],
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_cannot_be_meant(write, kind):
    path = write(BAD[kind])
    with pytest.raises(InputError) as error:
        read_box_file(path).detections("1.jpg", SIZE, alone=True)
    assert str(path) in error.value.file


def test_numbers_for_photographs_that_have_none():
    assert number_of("000000000139.jpg") == number_of("COCO_val2014_000000000139.png") == 139
    assert number_of("photo.jpg") == number_of("photo.jpg") != number_of("photo.png")
    assert number_of("IMG 1.jpg") < 2**53 and number_of("20240131123456.jpg") == 20240131123456
    assert all(number_of(f"{digits}.jpg") < 2**53 for digits in (2**53, 2**64, "9" * 5000))
    numbers = [number_of(f"photo {i}.jpg") for i in range(20)]
    assert len(set(numbers)) == 20 and min(numbers) > 0 and 2**30 < max(numbers) < 2**31
