"""What a batch holds, and from what it is drawn."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import plain_dataset, rectangle, seeded_nano

from sameo_core.config import TrainingConfig, load_profile
from sameo_core.errors import InputError
from sameo_core.pipeline import open_clean_dataset
from sameo_core.training import BatchSampler, EmbeddingCache, batches, set_probabilities, shrink_masks
from sameo_core.training.embeddings import LookedUp


def test_sets_are_drawn_by_the_logarithm_of_their_size():
    assert set_probabilities([1, 7]) == pytest.approx([1 / 4, 3 / 4])  # log 2 : log 8
    assert set_probabilities([5]) == pytest.approx([1])
    assert set_probabilities([9, 9, 99]) == pytest.approx([1 / 4, 1 / 4, 1 / 2])  # log 10 : log 10 : log 100


def test_sets_are_drawn_alike_or_by_their_size_where_that_is_asked_for():
    assert set_probabilities([1, 7], "uniform") == pytest.approx([1 / 2, 1 / 2])
    assert set_probabilities([1, 7], "size") == pytest.approx([1 / 8, 7 / 8])
    for sampling, share in (("uniform", 1 / 2), ("log", 3 / 4), ("size", 7 / 8)):
        rows = plain_sampler(sampling=sampling).frequencies(500)
        assert rows[1]["probability"] == pytest.approx(share)
        assert rows[1]["realised"] == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5)


def test_shrunken_masks_are_soft_at_the_border():
    # Half as large, antialiased: a cell weighs pixels at distance 1/2, 1/2, 3/2 from its centre with 3/4, 3/4, 1/4.
    left_half = rectangle((4, 4), 0, 0, 2, 4)
    found = shrink_masks(np.stack([left_half, left_half.T, ~left_half, left_half | True]), (2, 2))
    assert found.dtype == torch.float32
    row = torch.tensor([[6 / 7, 1 / 7]]).expand(2, 2)
    assert torch.allclose(found, torch.stack([row, row.T, 1 - row, torch.ones(2, 2)]), atol=1e-6)
    assert shrink_masks(left_half[None], (8, 8)).shape == (1, 8, 8)  # an image smaller than the decoder's output
    assert torch.equal(shrink_masks(left_half[None], (4, 4))[0] >= 0.5, torch.from_numpy(left_half))


SIDE = 64  # of the square input: images have 40 x 60 pixels, targets 16 x 16


class Numbered(EmbeddingCache):
    """Instead of embeddings, the image's number everywhere: "2 4 4"."""

    largest_set = None

    def __init__(self):
        pass

    def look_up(self, images, keep):
        numbers = torch.tensor([image.image_id for image in images], dtype=torch.float16)
        return LookedUp(numbers[:, None, None, None].expand(-1, 2, 4, 4), {})

    def complete(self, found):
        return found.kept


def plain_sampler(sizes=(1, 7), seed=0, rank=0, ranks=1, bad_images=0, **recipe):
    sets = [plain_dataset(size, f"set{size}") for size in sizes]
    recipe = TrainingConfig(**{"batch_images": 4, "boxes_per_image": 2} | recipe)
    return BatchSampler(sets, Numbered(), recipe, SIDE, seed, rank, ranks, None, bad_images)


def equal(a, b):
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("embedding", "boxes", "targets"))
    return tensors and a.names == b.names


def test_a_batch_depends_on_seed_and_iteration_alone():
    used, fresh = plain_sampler(), plain_sampler()
    for iteration in (0, 1, 2):
        used.batch(iteration)
    assert equal(used.batch(3), fresh.batch(3)) and equal(used.batch(3), fresh.batch(3))
    assert not equal(fresh.batch(3), fresh.batch(4))
    assert not equal(fresh.batch(3), plain_sampler(seed=1).batch(3))


class Damaged(Numbered):
    """Some images cannot be read."""

    def __init__(self, *bad):
        self.bad = bad

    def look_up(self, images, keep):
        for image in images:
            if image.image_id in self.bad:
                raise InputError(file=image.path, rule="damaged", remedy="Fetch it again")
        return super().look_up(images, keep)


def test_images_that_cannot_be_read_are_left_out_up_to_a_number():
    whole, late, early = (plain_sampler((1, 7), batch_images=8, bad_images=2) for _ in range(3))
    late.embeddings = early.embeddings = Damaged(3, 4)
    early.left_out = {str(early.sets[1][place].path): "damaged" for place in (3, 4)}  # known from before
    for iteration in range(5):
        before, batch = whole.batch(iteration), late.batch(iteration)
        assert equal(batch, early.batch(iteration)) and not {"set7 3", "set7 4"} & set(batch.names)
        others = [pair for pair in zip(before.names, batch.names, strict=True) if pair[0] != pair[1]]
        assert {pair for pair in others} <= {("set7 3", "set7 5"), ("set7 4", "set7 5")}
    assert list(late.left_out.values()) == ["damaged"] * 2 and late.left_out.keys() == early.left_out.keys()
    late.embeddings = Damaged(3, 4, 5)
    with pytest.raises(InputError, match="damaged; 2 other images were left out"):
        for iteration in range(5):
            late.batch(iteration)
    none = plain_sampler((2,), bad_images=9)
    none.embeddings = Damaged(0, 1)
    with pytest.raises(InputError, match="no image of the set can be read"):
        none.batch(0)


def test_workers_make_the_same_batches_and_leave_out_the_same_images():
    here, ahead = (plain_sampler((1, 7), batch_images=8, bad_images=2) for _ in range(2))
    here.embeddings = ahead.embeddings = Damaged(3, 4)
    assert all(map(equal, here.batches(2, 8), ahead.batches(2, 8, workers=2)))
    assert here.left_out == ahead.left_out and len(ahead.left_out) == 2
    one_too_many = plain_sampler((1, 7), batch_images=8, bad_images=1)
    one_too_many.embeddings = Damaged(3, 4)
    with pytest.raises(InputError):
        list(one_too_many.batches(0, 6, workers=2))


def test_embeddings_come_from_disk_or_from_the_model_alike(world, tmp_path):
    """Some are kept, the others are encoded by the process that trains, from pixels that a worker has read."""
    dataset = open_clean_dataset("cocoa", "train", world.profile())
    model, recipe = seeded_nano(), TrainingConfig(batch_images=4)
    caches = [EmbeddingCache(model, None), EmbeddingCache(model, tmp_path / "kept")]
    caches[1].embed([dataset[0], dataset[1]])
    plain, kept = (BatchSampler([dataset], cache, recipe, 256, 0) for cache in caches)
    for one, other in zip(plain.batches(0, 4), kept.batches(0, 4, workers=1), strict=True):
        torch.testing.assert_close(one.embedding, other.embedding, rtol=2e-3, atol=1e-3)  # encoded in other groups
        assert torch.equal(one.boxes, other.boxes) and torch.equal(one.targets, other.targets)
    assert caches[0].encoded == 16 and caches[1].encoded < 16


def test_a_large_set_is_not_kept(world, tmp_path):
    dataset = open_clean_dataset("cocoa", "train", world.profile())
    for limit, files in ((len(dataset), True), (len(dataset) - 1, False)):
        cache = EmbeddingCache(seeded_nano(), tmp_path / f"{limit}", largest_set=limit)
        BatchSampler([dataset], cache, TrainingConfig(batch_images=2), 256, 0).batch(0)
        assert any((tmp_path / f"{limit}").rglob("*.embedding")) == files


def test_shapes_of_a_batch():
    batch = plain_sampler(boxes_per_image=3).batch(0)  # images have two objects: one of them comes twice
    assert batch.embedding.shape == (4, 2, 4, 4) and batch.embedding.dtype == torch.float16
    assert batch.boxes.shape == (4, 3, 4) and batch.targets.shape == (4, 3, 16, 16)
    assert all(len(row.unique(dim=0)) >= 2 for row in batch.targets)


def test_ranks_share_a_batch_and_miss_nothing():
    whole = plain_sampler().batch(3)
    shares = [plain_sampler(rank=rank, ranks=2).batch(3) for rank in (0, 1)]
    assert [len(share.names) for share in shares] == [2, 2]
    assert tuple(name for share in shares for name in share.names) == whole.names
    for name in ("embedding", "boxes", "targets"):
        assert torch.equal(torch.cat([getattr(share, name) for share in shares]), getattr(whole, name))


def test_a_batch_that_the_ranks_cannot_share_is_refused():
    with pytest.raises(InputError, match="shared equally by all 3 processes, found 4 images"):
        plain_sampler(ranks=3)


def test_a_target_is_made_once_and_memory_is_bounded(monkeypatch):
    fresh, calls, shrink = plain_sampler(), [], shrink_masks

    def counted(masks, *how):
        calls.append(len(masks))
        return shrink(masks, *how)

    expected = [fresh.batch(i) for i in range(30)]
    monkeypatch.setattr(batches, "shrink_masks", counted)
    sampler = plain_sampler()
    assert all(equal(sampler.batch(i), expected[i]) for i in range(30))
    assert sum(calls) == 16  # 8 images, two objects each, of 240 prompts
    monkeypatch.setattr(batches, "TARGET_BYTES", 3 * 16 * 16 * 2)
    bounded = plain_sampler()
    assert all(equal(bounded.batch(i), expected[i]) for i in range(30))
    assert bounded._target.cache_info().currsize == 3


def drawn_objects(sampler, iterations):
    """(data set's size, image, object, kind of box) of every prompt; asserts that everything belongs together."""
    objects = {}  # of a data set and an image: box, target, number, kind; of an un-occluded one both boxes are one
    for dataset in sampler.sets:
        for image in dataset:
            for number, item in enumerate(image.instances):
                target = shrink_masks(item.amodal[None], (16, 16))[0].half().float()
                boxes = {"visible": item.visible_box, "amodal": item.amodal_box}
                both = np.array_equal(*boxes.values())
                found = objects.setdefault((dataset.name, image.image_id), [])
                found += [(box, target, number, "both" if both else kind) for kind, box in boxes.items()]
    for batch in map(sampler.batch, range(iterations)):
        boxes = batch.boxes.numpy() / np.array([SIDE / 60, SIDE / 40] * 2, np.float32)
        for name, embedding, box, targets in zip(batch.names, batch.embedding, boxes, batch.targets, strict=True):
            source, image_id = name.split()
            assert (embedding == int(image_id)).all()
            for prompt, target in zip(box, targets, strict=True):
                _, expected, number, kind = next(
                    entry for entry in objects[source, int(image_id)] if np.abs(entry[0] - prompt).max() < 1e-3
                )
                assert torch.equal(target, expected)
                yield int(source.removeprefix("set")), int(image_id), number, kind


def test_prompts_targets_and_embeddings_are_of_the_same_object():
    drawn = list(drawn_objects(plain_sampler(), 100))
    assert len(drawn) == 800
    assert {(size, image) for size, image, *_ in drawn} == {(1, 0)} | {(7, image) for image in range(7)}
    large = np.mean([size == 7 for size, *_ in drawn[::2]])  # one draw an image
    assert abs(large - 3 / 4) < 4 * (3 / 16 / 400) ** 0.5


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_share_of_amodal_prompts(share):
    drawn = list(drawn_objects(plain_sampler(amodal_prompt_share=share), 150))
    kinds = [kind for _, _, number, kind in drawn if number == 0]  # occluded: its two boxes differ
    assert {kind for _, _, number, kind in drawn if number == 1} == {"both"}
    assert len(kinds) == 600
    found = np.mean([kind == "amodal" for kind in kinds])
    assert abs(found - share) <= 4 * (share * (1 - share) / len(kinds)) ** 0.5


def test_realised_frequencies_are_those_of_the_batches():
    sampler = plain_sampler((7, 1), seed=3)
    rows = sampler.frequencies(20)
    drawn = Counter(name.split()[0] for i in range(20) for name in sampler.batch(i).names)
    assert [(row["data set"], row["images"], row["drawn"]) for row in rows] == [
        ("set7", 7, drawn["set7"]),
        ("set1", 1, drawn["set1"]),
    ]
    assert [row["probability"] for row in rows] == pytest.approx([3 / 4, 1 / 4])  # log 8 : log 2
    assert [row["realised"] for row in rows] == pytest.approx([drawn["set7"] / 80, drawn["set1"] / 80])


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_share_of_unoccluded_objects(share):
    """In images that have one object of each kind: with probability `share` the one that nothing hides."""
    recipe = replace(load_profile("mini").training, unoccluded_share=share, batch_images=8, boxes_per_image=2)
    dataset = plain_dataset(4)
    sampler = BatchSampler([dataset], Numbered(), recipe, 256, seed=0)
    rng = np.random.default_rng(0)
    chosen = [item for _ in range(500) for item in sampler._choose(rng, dataset[0])]
    found = np.mean([dataset[0].instances[i].occlusion_rate == 0 for i in chosen])
    assert abs(found - share) <= 4 * (share * (1 - share) / len(chosen)) ** 0.5


def test_half_of_the_boxes_are_inexact():
    exact, inexact = plain_sampler(), plain_sampler(prompt_jitter=0.1)
    pairs = [(exact.batch(i).boxes, inexact.batch(i).boxes) for i in range(40)]
    boxes, moved = (torch.cat(kind).flatten(0, 1) for kind in zip(*pairs, strict=True))
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    shift = (moved - boxes) / sides
    changed = shift.abs().amax(1) > 1e-6
    assert changed.float().mean() == pytest.approx(0.5, abs=4 * 0.5 / len(boxes) ** 0.5)
    assert 0.09 < shift.abs().max() <= 0.1 + 1e-6 and moved.min() >= 0 and moved.max() <= SIDE
