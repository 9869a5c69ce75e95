"""Losses: values worked by hand, gradients against finite differences, and invariances."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sameo_core.errors import InputError
from sameo_core.model import sameo_loss
from sameo_core.model.losses import dice_loss, focal_loss, iou_l1_loss, mask_iou

# Probabilities and target of a 2 x 2 mask, worked by hand below.
P = torch.tensor([[0.8, 0.5], [0.4, 0.1]])
LOGITS = P.logit()
TARGET = torch.tensor([[1.0, 1.0], [0.0, 0.0]])


def drawn(seed: int, soft: bool = True, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of 2 x 3 masks of 5 x 4 pixels."""
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 3, 5, 4, generator=g, dtype=dtype)
    target = torch.rand(2, 3, 5, 4, generator=g, dtype=dtype)
    return logits, target if soft else target.round()


seeds = st.integers(0, 10_000)


# -------------------------------------------------------------------------------------------------------------- by hand


def test_dice_by_hand():
    # sum p g = 1.3, sum p = 1.8, sum g = 2
    assert dice_loss(LOGITS, TARGET).item() == pytest.approx(1 - 2.6 / 3.8, abs=1e-6)


def test_dice_of_a_soft_target_by_hand():
    target = torch.tensor([[0.6, 1.0], [0.0, 0.1]])
    # sum of min: 0.6 + 0.5 + 0 + 0.1 = 1.2; sum p = 1.8, sum g = 1.7
    assert dice_loss(LOGITS, target).item() == pytest.approx(1 - 2.4 / 3.5, abs=1e-6)


def test_focal_by_hand():
    # p_t = 0.8, 0.5, 0.6, 0.9
    terms = [0.2**2 * math.log(0.8), 0.5**2 * math.log(0.5), 0.4**2 * math.log(0.6), 0.1**2 * math.log(0.9)]
    assert focal_loss(LOGITS, TARGET).item() == pytest.approx(-sum(terms) / 4, abs=1e-6)


def test_focal_of_a_soft_target_is_the_expectation_over_both_classes():
    as_object, as_background = focal_loss(LOGITS, torch.ones(2, 2)), focal_loss(LOGITS, torch.zeros(2, 2))
    mixed = focal_loss(LOGITS, torch.full((2, 2), 0.25))
    assert mixed.item() == pytest.approx(0.25 * as_object.item() + 0.75 * as_background.item(), abs=1e-6)


def test_mask_iou_by_hand():
    # logits >= 0 in the first row (a logit of 0 counts), so prediction = 2 pixels
    assert mask_iou(torch.tensor([[1.0, 0.0], [-1.0, -1.0]]), TARGET).item() == 1
    assert mask_iou(torch.tensor([[1.0, -1.0], [1.0, -1.0]]), TARGET).item() == pytest.approx(1 / 3)
    assert mask_iou(-torch.ones(2, 2), TARGET).item() == 0
    soft = torch.tensor([[0.5, 0.49], [0.0, 0.0]])  # 0.5 is object
    assert mask_iou(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), soft).item() == 0.5


def test_iou_l1_by_hand():
    logits = torch.tensor([[[1.0, -1.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]]])  # IoU 1/3 and 1
    loss = iou_l1_loss(torch.tensor([0.5, 1.2]), logits, TARGET.expand(2, 2, 2))
    assert loss.item() == pytest.approx((1 / 6 + 0.2) / 2, abs=1e-6)


def test_sameo_loss_is_the_weighted_sum():
    predicted = torch.tensor([0.5])
    logits, target = LOGITS[None], TARGET[None]
    total, dice, focal, iou = sameo_loss(logits, predicted, target)
    assert dice == dice_loss(logits, target) and focal == focal_loss(logits, target)
    assert iou == iou_l1_loss(predicted, logits, target) == 0.5  # the prediction is right: a logit of 0 is object
    assert total.item() == pytest.approx((dice + focal + 0.05 * iou).item())
    heavier = sameo_loss(logits, predicted, target, iou_weight=2.0)
    assert heavier.total.item() == pytest.approx((dice + focal + 1).item())


def test_empty_masks_are_defined():
    nothing, empty, full = torch.full((1, 4, 4), -50.0), torch.zeros(1, 4, 4), torch.full((1, 4, 4), 50.0)
    assert dice_loss(nothing, empty).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(full, empty).item() == pytest.approx(1, abs=1e-6)
    assert dice_loss(nothing, empty + 1).item() == pytest.approx(1, abs=1e-6)
    assert focal_loss(nothing, empty).item() == 0
    assert mask_iou(nothing, empty).item() == 1
    assert mask_iou(full, empty).item() == 0
    assert mask_iou(torch.tensor([[1.0, -1.0]]), torch.zeros(1, 2)).item() == 0  # a single pixel is no empty mask
    assert sameo_loss(nothing, torch.ones(1), empty).total.item() == pytest.approx(0, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("loss", [dice_loss, focal_loss])
def test_gradients(loss, soft):
    logits, target = drawn(0, soft)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


def test_gradient_of_the_predicted_iou():
    logits, target = drawn(1)
    predicted = torch.linspace(-0.1, 1.1, 6, dtype=torch.float64).view(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: iou_l1_loss(x, logits, target), predicted)
    logits.requires_grad_()
    assert not mask_iou(logits, target).requires_grad
    iou_l1_loss(predicted, logits, target).backward()
    assert logits.grad is None


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits_have_finite_losses_and_gradients(gamma):
    logits = torch.tensor([[-1e4, -90.0, 0.0, 90.0, 1e4]]).requires_grad_()
    for target in (torch.zeros(1, 5), torch.ones(1, 5), torch.full((1, 5), 0.3)):
        loss = dice_loss(logits, target) + focal_loss(logits, target, gamma)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def test_a_wrong_but_certain_pixel_still_learns():
    logits = torch.tensor([[-40.0]]).requires_grad_()
    (gradient,) = torch.autograd.grad(focal_loss(logits, torch.ones(1, 1)), logits)
    assert gradient.item() == pytest.approx(-1, abs=1e-5)  # as cross-entropy: (1 - p)^2 is 1 here


# ---------------------------------------------------------------------------------------------------------- invariances


@given(seeds, st.floats(-6, 6))
def test_dice_of_a_binary_target_is_the_formula_of_the_paper(seed, shift):
    logits, target = drawn(seed, soft=False)
    p = (logits + shift).sigmoid()
    usual = 1 - 2 * (p * target).sum((-2, -1)) / (p.sum((-2, -1)) + target.sum((-2, -1)))
    assert torch.isclose(dice_loss(logits + shift, target), usual.mean(), atol=1e-5)


@given(seeds)
def test_a_perfect_soft_prediction_is_the_minimum_of_dice(seed):
    _, target = drawn(seed)
    target = target.clamp(0.01, 0.99)
    perfect = dice_loss(target.logit(), target).item()
    assert perfect == pytest.approx(0, abs=1e-9)
    assert dice_loss(target.logit() + 0.1, target) > perfect < dice_loss(target.logit() - 0.1, target)


@given(seeds)
def test_focal_with_gamma_0_is_cross_entropy(seed):
    logits, target = drawn(seed)
    assert torch.isclose(focal_loss(logits, target, gamma=0.0), F.binary_cross_entropy_with_logits(logits, target))


@given(seeds)
def test_focal_treats_object_and_background_alike(seed):
    logits, target = drawn(seed)
    assert torch.isclose(focal_loss(logits, target), focal_loss(-logits, 1 - target))


@given(seeds, st.booleans())
def test_pixels_and_masks_have_no_order_and_axes_no_meaning(seed, soft):
    logits, target = drawn(seed, soft)
    pixels = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    shuffled = [x.flatten(0, 1).flip(0).flatten(1)[:, pixels].view(6, 4, 5) for x in (logits, target)]
    for loss in (dice_loss, focal_loss):
        assert torch.isclose(loss(logits, target), loss(*shuffled))
    assert torch.equal(mask_iou(logits, target).flatten().flip(0), mask_iou(*shuffled))


@given(seeds)
def test_each_mask_weighs_the_same(seed):
    logits, target = drawn(seed)
    for loss in (dice_loss, focal_loss):
        alone = [loss(logits[i, j], target[i, j]) for i in range(2) for j in range(3)]
        assert torch.isclose(loss(logits, target), torch.stack(alone).mean())


@given(seeds)
def test_half_precision_changes_little(seed):
    logits, target = drawn(seed, dtype=torch.float32)
    logits = logits.bfloat16()  # the network's rounding is given; ours must not add to it
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = sameo_loss(logits, torch.full((2, 3), 0.5).bfloat16(), target.bfloat16())
    exact = sameo_loss(logits.float(), torch.full((2, 3), 0.5), target.bfloat16().float())
    assert all(term.dtype == torch.float32 for term in rough)
    assert torch.allclose(torch.stack(rough), torch.stack(exact))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("masks", "predicted", "targets"), [(2, 1, 2), (1, 2, 1), (2, 2, 1)])
def test_shapes_that_would_be_broadcast_are_refused(masks, predicted, targets):
    with pytest.raises(InputError):
        sameo_loss(LOGITS.expand(masks, 2, 2), torch.ones(predicted), TARGET.expand(targets, 2, 2))
