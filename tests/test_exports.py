"""Exports come back: each is read again, by the tool's own reader where there is one, and compared with the masks."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import PIL.Image
import pytest
from conftest import rectangle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools.coco import COCO

from sameo_core.apps.brush import decode_brush, encode_brush
from sameo_core.apps.exports import (
    LEAST_IOU,
    cut_outs,
    editable_polygons,
    from_label_studio,
    from_labelme,
    label_studio_interface,
    to_coco,
    to_cvat,
    to_label_studio,
    to_labelme,
    write_exports,
)
from sameo_core.apps.predict import PhotographPrediction
from sameo_core.datasets import load_dataset
from sameo_core.errors import InputError
from sameo_core.front_ends import Detections
from sameo_core.masks import decode_segmentation, mask_box, mask_iou, mask_to_polygons
from sameo_core.model import AmodalPrediction

SIZE = H, W = 120, 160
MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def disc(x, y, radius):
    rows, columns = np.indices(SIZE)
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def photograph(name="cup.png", image_id=3, visible=True):
    """A disc behind a rectangle, a ring of two parts, an empty mask, and one whose category has no name."""
    ring = disc(40, 90, 25) & ~disc(40, 90, 12) | rectangle(SIZE, 80, 90, 90, 100)
    front = rectangle(SIZE, 100, 30, 150, 70)
    masks = np.stack([disc(100, 40, 30), ring, np.zeros(SIZE, bool), front])
    boxes = np.array([mask_box(mask) if mask.any() else [0, 0, 9, 9] for mask in masks], np.float32)
    iou = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    scores = np.array([0.5, 1, 1, 0.25], np.float32)
    return PhotographPrediction(
        name,
        image_id,
        np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8),
        Detections(boxes, scores, np.array([1, 2, 2, 7]), np.full(4, -1)),
        AmodalPrediction(masks, iou, scores * iou),
        {1: "cup", 2: "ring & hole"},
        np.stack([masks[0] & ~front, *masks[1:]]) if visible else None,
    )


PHOTO = photograph()
KEPT = PHOTO.prediction.masks[[0, 1, 3]]  # without the empty one
LABELS = ("cup", "ring & hole", "category 7")


def ious(found):
    return [mask_iou(a, b) for a, b in zip(found, KEPT, strict=True)]


# ------------------------------------------------------------------------------------------------------- COCO and CVAT


def write(document, folder):
    path = folder / "annotations" / "val.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    return path


def test_coco_comes_back_through_our_reader(tmp_path):
    write(to_coco([PHOTO]), tmp_path)
    dataset = load_dataset("coco", tmp_path, "val")
    assert dataset.skipped == {} and (dataset[0].image_id, dataset[0].file_name) == (3, "cup.png")
    found = dataset[0].instances
    assert np.array_equal([item.amodal for item in found], KEPT)  # RLE: exact
    assert np.array_equal([item.visible for item in found], PHOTO.visible[[0, 1, 3]])
    assert [item.category for item in found] == list(LABELS)
    hidden = np.count_nonzero(KEPT[0] & KEPT[2])
    assert found[0].occlusion_rate == pytest.approx(hidden / KEPT[0].sum()) and found[0].occlusion_rate > 0.2


def test_coco_comes_back_through_pycocotools(tmp_path, capsys):
    coco = COCO(write(to_coco([PHOTO, photograph("b.png", 4)]), tmp_path))
    found = coco.loadAnns(coco.getAnnIds(imgIds=[3]))
    assert np.array_equal([coco.annToMask(annotation) == 1 for annotation in found], KEPT)
    assert [annotation["score"] for annotation in found] == pytest.approx([0.45, 0.8, 0.15])
    assert [annotation["predicted_iou"] for annotation in found] == pytest.approx([0.9, 0.8, 0.6])
    assert found[2]["bbox"] == [100, 30, 50, 40] and found[2]["area"] == 2000
    assert len(coco.getAnnIds()) == 6 and coco.getImgIds() == [3, 4]
    assert coco.dataset["licenses"] == [], "some readers ask for it"


def test_without_visible_masks_coco_says_so_and_leaves_them_out():
    document = to_coco([photograph(visible=False)])
    assert "visible masks are unknown for 1 of 1 photographs" in document["info"]["description"]
    assert not any({"visible_mask", "occlude_rate"} & set(a) for a in document["annotations"])
    assert "unknown" not in to_coco([PHOTO])["info"]["description"]


def test_a_visible_mask_ends_where_the_amodal_mask_does():
    wider = replace(PHOTO, visible=np.ones_like(PHOTO.visible))
    for annotation, mask in zip(to_coco([wider])["annotations"], KEPT, strict=True):
        assert np.array_equal(decode_segmentation(annotation["visible_mask"], *SIZE), mask)


def as_datumaro(document):
    """What CVAT's importer makes of COCO: label, flag and mask of each object."""
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert all(isinstance(i, int) and i > 0 for i in names), "category 0 is taken for no label"
    for annotation in document["annotations"]:
        assert annotation["iscrowd"] == 0 and type(annotation["segmentation"]) is list
        mask = decode_segmentation(annotation["segmentation"], *SIZE)
        yield names[annotation["category_id"]], annotation.get("attributes", {}).get("occluded"), mask


def test_cvat_takes_it_and_shows_the_masks():
    labels, occluded, masks = zip(*as_datumaro(json.loads(json.dumps(to_cvat([PHOTO])))), strict=True)
    assert labels == LABELS and occluded == (True, False, False) and min(ious(masks)) >= 0.98
    assert {occluded for _, occluded, _ in as_datumaro(to_cvat([photograph(visible=False)]))} == {None}


def test_category_0_is_shifted_for_cvat_only():
    zero = replace(PHOTO, categories={0: "cup", 2: "ring"}, found=replace(PHOTO.found, category_ids=np.zeros(4, int)))
    assert {label for label, _, _ in as_datumaro(to_cvat([zero]))} == {"cup"}
    assert {annotation["category_id"] for annotation in to_coco([zero])["annotations"]} == {0}


@pytest.mark.parametrize("names", [{0: "object", 1: "object"}, {0: "a", 1: "a", 2: "a (1)"}])
def test_categories_have_distinct_names_in_every_format(names):
    ids = np.array([*names, *names, *names])[:4]
    shot = replace(PHOTO, categories=names, found=replace(PHOTO.found, category_ids=ids))
    for document in (to_coco([shot]), to_cvat([shot])):
        assert len({category["name"] for category in document["categories"]}) == len(names)
    kept = len({*ids[[0, 1, 3]].tolist()})
    assert len({shape["label"] for shape in to_labelme(shot)["shapes"]}) == kept
    assert len(set(from_label_studio(to_label_studio([shot])[0]).labels)) == kept


def test_ids_are_whole_and_unique():
    named = photograph("street.jpg", "street")
    assert isinstance(to_coco([named])["images"][0]["id"], int)
    shots = [photograph(f"{name}.png", number) for name, number in (("1", 1), ("a", 2**64), ("b", 2**70))]
    ids = [image["id"] for image in to_coco(shots)["images"]]
    assert ids[0] == 1 and len(set(ids)) == 3 and all(0 < number < 2**53 for number in ids)
    for second in (photograph("b.png"), replace(photograph("b.png", 4), categories={1: "mug"})):
        with pytest.raises(InputError):
            to_coco([PHOTO, second])


# ------------------------------------------------------------------------------------------------------------ polygons


@given(MASKS)
def test_polygons_keep_the_promised_iou(mask):
    polygons = editable_polygons(mask)
    assert mask_iou(decode_segmentation(polygons, *mask.shape), mask) >= LEAST_IOU if mask.any() else polygons == []


def test_polygons_have_fewer_corners():
    mask = disc(80, 60, 45)
    assert sum(map(len, editable_polygons(mask))) < sum(map(len, mask_to_polygons(mask))) / 3


# ------------------------------------------------------------------------------------------------------------- labelme


def test_labelme_comes_back():
    """Its keys are those that labelme 5.5's `LabelFile.load` and `_load_shape_json_obj` read."""
    document = json.loads(json.dumps(to_labelme(PHOTO, "../images/cup.png")))
    found = from_labelme(document)
    assert found.labels == LABELS and min(ious(found.masks)) >= 0.98
    assert len({shape["group_id"] for shape in document["shapes"]}) == 3 < len(document["shapes"])  # the ring has parts
    assert document["imagePath"] == "../images/cup.png" and document["imageData"] is None
    assert (document["imageHeight"], document["imageWidth"]) == SIZE and document["version"] and document["flags"] == {}
    for shape in document["shapes"]:
        assert shape["shape_type"] == "polygon" and shape["flags"] == {} and shape["mask"] is None
        assert type(shape["description"]) is str and np.shape(shape["points"])[1] == 2


def test_labelme_objects_are_told_apart_by_label_and_group():
    document = to_labelme(PHOTO)
    for shape in document["shapes"]:
        shape["group_id"] = 1
    found = from_labelme(document)
    assert found.labels == LABELS and min(ious(found.masks)) >= 0.98
    for shape in document["shapes"]:
        shape["group_id"] = None
    assert len(from_labelme(document).masks) == len(document["shapes"])
    assert from_labelme(document | {"shapes": []}).masks.shape == (0, *SIZE)


@pytest.mark.parametrize(
    "shapes",
    [
        [{"shape_type": "circle"}],
        None,
        [{"shape_type": "polygon", "label": "a", "points": [[1, 2]]}],
    ],
)
def test_what_is_not_labelme_is_refused(shapes):
    with pytest.raises(InputError):
        from_labelme(to_labelme(PHOTO) | {"shapes": shapes})


# -------------------------------------------------------------------------------------------------------- Label Studio


def reference_decode(rle):
    """The published decoder (rle-pack, as quoted in Label Studio's converter), word by word, bit by bit."""
    bits = [byte >> (7 - i) & 1 for byte in rle for i in range(8)]

    def read(count):
        taken, bits[:] = bits[:count], bits[count:]
        return sum(bit << (count - 1 - i) for i, bit in enumerate(taken))

    number, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < number:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        out += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return out


@given(MASKS)
def test_brush_rle_says_to_the_published_decoder_what_was_meant(mask):
    rle = encode_brush(mask)
    assert np.array_equal(reference_decode(rle), np.repeat(mask.ravel() * 255, 4))
    assert np.array_equal(decode_brush(rle, *mask.shape), mask)


@pytest.mark.parametrize("pixels", [4, 5, 64, 65, 16384, 16385, 40_000])  # runs around 16, 256, 65,536 values
def test_brush_rle_of_long_runs(pixels):
    mask = np.concatenate([np.ones(pixels, bool), [False]])[None]
    assert np.array_equal(decode_brush(encode_brush(mask), *mask.shape), mask)


def test_brush_rle_as_label_studio_itself_writes_it():
    """Runs of single values too, an edge that is half transparent, and other sizes of runs."""
    bits = f"{12:032b}" + "00111" + "0000" * 4 + "0" + "00" + "1" + f"{9:08b}" * 2 + "1" + "00" + "1" + f"{0:08b}"
    bits += ("1001" + f"{77:08b}") * 4  # pixel 0: 9 9 0 0, pixels 1 and 2: 77
    rle = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode_brush(rle, 1, 3).tolist() == [[False, True, True]]


def test_label_studio_comes_back():
    (task,) = json.loads(json.dumps(to_label_studio([PHOTO], "https://here/")))
    found = from_label_studio(task)
    assert np.array_equal(found.masks, KEPT) and found.labels == LABELS  # exact
    assert task["data"]["image"] == "https://here/cup.png"
    (prediction,) = task["predictions"]
    assert prediction["score"] == pytest.approx(np.mean([0.45, 0.8, 0.15]))
    corrected = task | {"annotations": [{"result": prediction["result"][:1]}]}
    assert from_label_studio(corrected).labels == ("cup",)  # what a person drew counts


def test_label_studio_s_address_of_a_picture_is_its_name_again():
    name = "a#b+c&d%20 e?Töpfe.png"
    (task,) = to_label_studio([photograph(name)], "/data/local-files/?d=images/")
    address = urlsplit("http://here" + task["data"]["image"])
    assert not address.fragment and parse_qs(address.query) == {"d": [f"images/{name}"]}


def region(kind="brushlabels", label="cup", **changes):
    (task,) = to_label_studio([PHOTO])
    values = {"rle": encode_brush(KEPT[0]), "points": [[50, 25], [100, 25], [100, 50], [50, 50]]}
    about = {"type": kind, "value": values | {kind: [label]}}
    return task["predictions"][0]["result"][0] | about | changes


def test_polygons_beside_a_brush_are_masks_and_the_rest_is_counted():
    kinds = ("polygonlabels", "brushlabels", "rectanglelabels", "rectanglelabels", "choices")
    found = from_label_studio({"annotations": [{"result": [region(kind, kind) for kind in kinds]}]})
    assert found.labels == ("polygonlabels", "brushlabels")
    assert np.array_equal(found.masks, [rectangle(SIZE, 80, 30, 160, 60), KEPT[0]])
    assert found.left_out == {"rectanglelabels": 2, "choices": 1}
    with pytest.raises(InputError, match="rectanglelabels"):
        from_label_studio({"annotations": [{"result": [region("rectanglelabels")]}]})


def test_a_cancelled_annotation_is_not_an_answer():
    (task,) = to_label_studio([PHOTO])
    cancelled = {"was_cancelled": True, "result": [region(label="wrong")]}
    assert from_label_studio(task | {"annotations": [cancelled]}).labels == LABELS
    right = {"was_cancelled": False, "result": [region(label="right")]}
    assert from_label_studio(task | {"annotations": [cancelled, right]}).labels == ("right",)


@pytest.mark.parametrize("other", [{"original_width": W + 1}, {"to_name": "second"}, {"item_index": 1}])
def test_two_pictures_in_a_task_are_refused(other):
    with pytest.raises(InputError):
        from_label_studio({"annotations": [{"result": [region(), region("polygonlabels", **other)]}]})


def test_label_studio_regions_fit_the_interface():
    tree = ElementTree.fromstring(label_studio_interface([PHOTO]))
    brush = tree.find("BrushLabels")
    assert {label.get("value") for label in brush} == set(LABELS) and len(brush) == 3
    assert tree.find("Image").get("name") == brush.get("toName") and tree.find("Image").get("value") == "$image"
    (task,) = to_label_studio([PHOTO])
    regions = task["predictions"][0]["result"]
    assert len({region["id"] for region in regions}) == 3
    for region in regions:
        assert (region["from_name"], region["to_name"]) == (brush.get("name"), brush.get("toName"))
        assert (region["original_height"], region["original_width"], region["image_rotation"]) == (*SIZE, 0)


def test_damaged_label_studio_is_refused():
    rle = encode_brush(KEPT[0])
    for broken in (rle[:-9], rle[:3], [*rle[:20], 999], encode_brush(KEPT[0][1:])):
        brush = region(value={"format": "rle", "rle": broken, "brushlabels": ["cup"]})
        with pytest.raises(InputError):
            from_label_studio({"annotations": [{"result": [brush]}]})
    for task in (
        {},
        {"predictions": [{}]},
        {"predictions": 3},
        {"annotations": [{"result": [{"type": "brushlabels"}]}]},
    ):
        with pytest.raises(InputError):
            from_label_studio(task)


# ------------------------------------------------------------------------------------------------------------ cut-outs


def test_cut_outs_show_the_visible_part_and_tint_the_hidden_one():
    found = cut_outs(PHOTO)
    assert list(found) == [1, 2, 4]  # the numbers of the overlay; 3 is empty
    cut, window = found[1], np.s_[11:70, 71:130]
    visible, hidden = PHOTO.visible[0][window], (KEPT[0] & KEPT[2])[window]
    assert cut.shape == (59, 59, 4)
    assert np.array_equal(cut[visible], np.insert(PHOTO.image[window][visible], 3, 255, axis=1))
    assert (cut[hidden] == [230, 159, 0, 128]).all() and hidden.any()
    assert (cut[~visible & ~hidden] == 0).all()


def test_cut_outs_without_visible_masks_are_whole():
    cut = cut_outs(photograph(visible=False))[1]
    assert np.array_equal(cut[..., 3] == 255, KEPT[0][11:70, 71:130]) and set(np.unique(cut[..., 3])) == {0, 255}


# --------------------------------------------------------------------------------------------------------------- files


def test_files_of_all_kinds(tmp_path):
    files = write_exports([replace(PHOTO, name="cup.jpg"), photograph("b.png", 4)], tmp_path, "https://here/")
    expected = {"annotations/val.json", "cvat.json", "label_studio.json", "label_studio.xml"}
    expected |= {kind.format(stem) for stem in ("cup", "b") for kind in ("labelme/{}.json", "images/{}.png")}
    expected |= {f"cut_outs/{stem}_{number}.png" for stem in ("cup", "b") for number in (1, 2, 4)}
    assert {p.relative_to(tmp_path).as_posix() for p in files} == expected
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*files}  # no draft is left
    image = load_dataset("coco", tmp_path, "val")[0]
    assert np.array_equal(image.read(), PHOTO.image) and np.array_equal([i.amodal for i in image.instances], KEPT)
    document = json.loads((tmp_path / "labelme/cup.json").read_text())
    assert np.array_equal(PIL.Image.open(tmp_path / "labelme" / document["imagePath"]), PHOTO.image)
    with PIL.Image.open(tmp_path / "cut_outs/cup_1.png") as picture:
        assert picture.mode == "RGBA" and np.array_equal(picture, cut_outs(PHOTO)[1])


def test_nothing_found(tmp_path):
    empty = replace(PHOTO, prediction=replace(PHOTO.prediction, masks=np.zeros_like(PHOTO.prediction.masks)))
    assert to_coco([empty])["annotations"] == to_labelme(empty)["shapes"] == [] and cut_outs(empty) == {}
    assert to_label_studio([empty])[0]["predictions"][0]["score"] == 0
    assert len(write_exports([empty], tmp_path)) == 6
