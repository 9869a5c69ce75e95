"""The end-to-end baseline: a Mask R-CNN with an amodal mask head. Ours, AISFormer-style, not AISFormer.

The whole network is trained, on SAMEO's data sets: backbone, proposals, boxes and masks. From
"AISFormer: Amodal Instance Segmentation with Transformer" (BMVC 2022): boxes are amodal; RoI features are 14 x 14; a
transformer encoder for long-range relations, a decoder with one learnable query per mask (occluder, visible, amodal,
hidden); a mask is its query's embedding times the 28 x 28 features; binary cross-entropy on all four.
Ours: one class; attention before the up-sampling instead of after it; hidden has a query like the others, where
AISFormer computes its embedding from those of amodal and visible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import roi_align

from sameo_core.config import AmodalRcnnConfig, TrainingConfig
from sameo_core.datasets import AmodalDataset, AmodalImage
from sameo_core.errors import InputError
from sameo_core.front_ends.live import LiveDetector, load_detector
from sameo_core.miniature.nano_detector import build_nano_detector, load_nano_detector
from sameo_core.model.checkpoints import load_exactly, read_weights
from sameo_core.model.sameo import default_device
from sameo_core.training.batches import leave_out, set_probabilities, warn_left_out
from sameo_core.training.detectors import DetectionBatch, detector_losses, detector_optimiser, save_detector
from sameo_core.training.loop import TrainingRun, learning_rate_factor, train_once

NAME = "AISFormer-style (ours)"  # in tables and figures, to tell it from AISFormer itself
MASKS = ("occluder", "visible", "amodal", "hidden")  # one query each, in this order
PARTLY_ANNOTATED = ("amodal_lvis", "pix2gestalt")  # one or two annotated objects per image, of possibly more


# --------------------------------------------------------------------------------------------------------- the network
class QueryMaskHead(nn.Module):
    """Four masks per RoI; convolutions and up-sampling come from the detector's own mask head."""

    def __init__(self, convolutions: nn.Module, upsampling: nn.ConvTranspose2d, cells: int, heads: int = 4):
        super().__init__()
        width = upsampling.in_channels
        layer: dict[str, Any] = {"dim_feedforward": 4 * width, "dropout": 0.0, "batch_first": True}
        self.convolutions, self.upsampling = convolutions, upsampling
        self.positions = nn.Parameter(0.02 * torch.randn(cells * cells, width))
        self.queries = nn.Parameter(torch.randn(len(MASKS), width))
        self.encoder = nn.TransformerEncoderLayer(width, heads, **layer)
        self.decoder = nn.TransformerDecoderLayer(width, heads, **layer)
        self.embedding = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, features: Float[Tensor, "n c s s"]) -> Float[Tensor, "n 4 2*s 2*s"]:
        """RoI features to mask logits."""
        near = self.convolutions(features)  # n c s s
        far = self.encoder(near.flatten(2).transpose(1, 2) + self.positions)  # n s*s c
        answers = self.decoder(self.queries.expand(len(far), -1, -1), far)  # n 4 c
        pixels = near + far.transpose(1, 2).unflatten(2, near.shape[-2:])
        pixels = F.relu(self.upsampling(pixels))  # n c 2s 2s
        return torch.einsum("nqc,nchw->nqhw", self.embedding(answers), pixels) / pixels.shape[1] ** 0.5


class AmodalRoIHeads(RoIHeads):
    """Boxes as in torchvision, then four masks per box; `masks` of a target: first all amodal, then all visible."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Any = None,  # in training mode, a dict per image
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """torchvision's signature: (answers, losses)."""
        if self.training:
            proposals, matched, labels, offsets = map(list, self.select_training_samples(proposals, targets))
            for sampled in (proposals, matched, offsets, labels):  # labels last: they select
                for i, target in enumerate(targets):
                    if target["partly_annotated"]:  # a region without annotation may hold an object
                        sampled[i] = sampled[i][labels[i] > 0]
        pooled = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        class_logits, box_offsets = self.box_predictor(pooled)
        if not self.training:
            boxes, scores, labels = self.postprocess_detections(class_logits, box_offsets, proposals, image_shapes)
            probabilities = self._mask_logits(features, boxes, image_shapes).sigmoid().split([len(b) for b in boxes])
            amodal, visible = MASKS.index("amodal"), MASKS.index("visible")
            return [
                {"boxes": b, "labels": k, "scores": s, "masks": p[:, [amodal]], "visible_masks": p[:, [visible]]}
                for b, k, s, p in zip(boxes, labels, scores, probabilities, strict=True)
            ], {}
        classifier, box_reg = fastrcnn_loss(class_logits, box_offsets, labels, offsets)
        objects = [label > 0 for label in labels]
        boxes = [proposal[positive] for proposal, positive in zip(proposals, objects, strict=True)]
        logits = self._mask_logits(features, boxes, image_shapes)
        wanted = torch.cat(
            [
                four_masks(target["masks"], box, match[positive], logits.shape[-1])
                for target, box, match, positive in zip(targets, boxes, matched, objects, strict=True)
            ]
        )
        losses = {"loss_classifier": classifier, "loss_box_reg": box_reg}
        for i, name in enumerate(MASKS):
            each = F.binary_cross_entropy_with_logits(logits[:, i], wanted[:, i], reduction="sum")
            losses[f"loss_{name}"] = each / max(1, wanted[:, i].numel())
        return [], losses

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Float[Tensor, "n 4 hm wm"]:
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        return self.mask_head(pooled) if len(pooled) else pooled.new_zeros(0, len(MASKS), 28, 28)


def four_masks(
    masks: UInt8[Tensor, "_ h w"], boxes: Float[Tensor, "k 4"], objects: Tensor, size: int
) -> Float[Tensor, "k 4 {size} {size}"]:
    """The target masks of each RoI, in the order of `MASKS`, as the share of each cell (0..1).

    The occluder mask is the visible region of all other annotated objects, as in AISFormer: where the RoI's object may
    be hidden. Hidden is amodal minus visible.

    Args:
        masks: of the image's n objects, the amodal ones, then the visible ones.
        boxes: RoIs, xyxy pixels.
        objects: "k", the number 0 .. n - 1 of each RoI's object.
        size: cells per side.
    """
    amodal, visible = masks.float().chunk(2)
    occluder = (visible.sum(0) - visible).clamp(max=1)
    planes = torch.stack([occluder, visible, amodal, amodal * (1 - visible)], dim=1)  # n 4 h w
    return roi_align(planes, torch.cat([objects[:, None].to(boxes), boxes], dim=1), size)


class LenientRpn(RegionProposalNetwork):
    """In a partly annotated image, regions outside the annotated objects do not count as background."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, target in zip(labels, targets, strict=True):
            if target["partly_annotated"]:
                label[label == 0] = -1  # torchvision's "ignore"
        return labels, boxes


def build_amodal_rcnn(detector: MaskRCNN) -> MaskRCNN:
    """Turn a torchvision Mask R-CNN into the baseline: its mask head then predicts four masks.

    In training mode it takes targets with `boxes` (amodal), `labels` (all 1), `masks` UInt8 "2*n h w" (amodal, then
    visible) and `partly_annotated` (Bool, one), and returns the losses. In evaluation mode it answers as torchvision
    does: `boxes` (amodal, xyxy pixels of the image), `labels`, `scores`, `masks` "n 1 h w" (amodal, 0..1); and
    `visible_masks` "n 1 28 28" inside the boxes, which `LiveDetector` pastes into the image.
    """
    heads = detector.roi_heads
    (cells, _) = heads.mask_roi_pool.output_size
    heads.mask_head = QueryMaskHead(heads.mask_head, heads.mask_predictor.conv5_mask, cells)
    heads.mask_predictor = None
    # Keeps modules and settings; torchvision's constructors would need all of them again
    heads.__class__, detector.rpn.__class__ = AmodalRoIHeads, LenientRpn
    return detector


def amodal_front_end(path: str | Path, detector: str = "nano") -> LiveDetector:
    """The baseline as a front-end: amodal boxes, with its amodal and its visible masks.

    Args:
        path: of the weights of `train_amodal_rcnn`.
        detector: the one it was built on, `AmodalRcnnConfig.rcnn_detector`.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    model = build_amodal_rcnn(_blank_detector(detector))
    load_exactly(model, read_weights(path), Path(path))
    return LiveDetector(model, {1: "object"}, name=NAME)


def _blank_detector(name: str) -> MaskRCNN:
    if name == "nano":
        return build_nano_detector()
    if name != "maskrcnn_resnet50_fpn_v2":
        remedy = "Choose nano or maskrcnn_resnet50_fpn_v2"
        raise InputError(file="rcnn_detector", rule=f"a detector to start from, found {name!r}", remedy=remedy)
    detector = torchvision.models.detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    width = detector.roi_heads.box_predictor.cls_score.in_features
    detector.roi_heads.box_predictor = FastRCNNPredictor(width, num_classes=2)
    return detector


def starting_amodal_rcnn(recipe: AmodalRcnnConfig, seed: int) -> MaskRCNN:
    """The baseline before training: a trained detector, and a mask head initialised by the seed.

    Raises:
        InputError: another detector than nano and maskrcnn_resnet50_fpn_v2; its weights are missing or damaged.
    """
    name = recipe.rcnn_detector
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the new layers
        if name == "nano":
            return build_amodal_rcnn(load_nano_detector())
        detector = _blank_detector(name)
        trained = cast(LiveDetector, load_detector(name, device="cpu")).model.state_dict()
        kept = {key: value for key, value in trained.items() if not key.startswith("roi_heads.box_predictor.")}
        detector.load_state_dict(kept, strict=False)
        return build_amodal_rcnn(detector)


# ------------------------------------------------------------------------------------------------------------ training


def fit_amodal_rcnn(
    model: MaskRCNN,
    sets: Sequence[AmodalDataset],
    recipe: AmodalRcnnConfig,
    shared: TrainingConfig,
    folder: Path,
    seed: int,
    bad_images: int,
    about: Mapping[str, Any],
) -> Path:
    """Train the baseline on data sets, unless the folder holds the weights already; returns their path.

    The run folder holds config.json, environment.json, log.csv, checkpoint.pt while it trains, and
    amodal_rcnn.safetensors (half precision) when it is done. Errors as `train_once` and `TrainingRun.run`.

    Args:
        model: `starting_amodal_rcnn`.
        shared: SAMEO's recipe; its schedule, `clip`, `cpu_threads` and `log_every` apply.
        folder: of this run alone: these sets, these recipes and this seed.
        bad_images: how many image files may be missing or damaged; a warning lists them at the end.
        about: JSON values for config.json, beside the recipe.
    """
    result, left_out = folder / "amodal_rcnn.safetensors", dict[str, str]()
    schedule = replace(shared, iterations=recipe.rcnn_iterations, warmup_iterations=recipe.rcnn_warmup_iterations)
    rates = recipe.rcnn_learning_rate, recipe.rcnn_backbone_rate

    def work() -> None:
        model.to(default_device()).train()
        model.backbone.bf16 = recipe.rcnn_bf16  # only the nano backbone reads it
        TrainingRun(
            task="training the baseline",
            modules={"model": model},
            optimisers={"optimiser": detector_optimiser(model, *rates, recipe.rcnn_weight_decay)},
            batches=lambda start: (
                draw_batch(sets, recipe, seed, iteration, left_out, bad_images)
                for iteration in range(start, recipe.rcnn_iterations)
            ),
            losses=lambda iteration, batch: detector_losses(model, batch, iteration, seed),
            iterations=recipe.rcnn_iterations,
            rate_factor=lambda iteration: learning_rate_factor(iteration, schedule),
            clip=shared.clip,
            log_every=shared.log_every,
            left_out=left_out,
        ).run(folder)
        warn_left_out(left_out, folder)
        save_detector(model, result)

    common = {"seed": seed, "clip": shared.clip, "cpu_threads": shared.cpu_threads, "log_every": shared.log_every}
    config = {**about, "amodal_rcnn": asdict(recipe), "training": common}
    return train_once(result, config, shared.cpu_threads, work)


def draw_batch(
    sets: Sequence[AmodalDataset],
    recipe: AmodalRcnnConfig,
    seed: int,
    iteration: int,
    left_out: dict[str, str] | None = None,
    bad_images: int = 0,
) -> DetectionBatch:
    """The images of an iteration, from (seed, iteration) alone; sets are sampled by log(size), as for SAMEO.

    The next image of its set replaces an unreadable one; `left_out` receives its file and the reason.
    """
    left_out = {} if left_out is None else left_out
    rng = np.random.default_rng([seed, iteration])
    probabilities = set_probabilities([len(dataset) for dataset in sets])
    images, targets, names = [], [], []
    for source in rng.choice(len(sets), recipe.rcnn_batch_images, p=probabilities):
        dataset = sets[source]
        index, flip = int(rng.integers(len(dataset))), rng.random() < recipe.rcnn_flip_share
        for image in (dataset[(index + further) % len(dataset)] for further in range(len(dataset))):
            try:
                pixels, target = detection_target(image, flip)
                break
            except InputError as error:
                leave_out(left_out, error, [str(image.path)], bad_images)
        else:
            remedy = "Fetch the images again, see data/README.md"
            raise InputError(file=dataset.root, rule="no image of the set can be read", remedy=remedy)
        images.append(pixels)
        targets.append(target | {"partly_annotated": torch.tensor(dataset.name in PARTLY_ANNOTATED)})
        names.append(f"{dataset.name} {image.image_id}")
    return DetectionBatch(tuple(images), tuple(targets), tuple(names))


def detection_target(image: AmodalImage, flip: bool) -> tuple[Float[Tensor, "3 h w"], dict[str, Tensor]]:
    """An image and its objects as `build_amodal_rcnn` takes them; mirrored with `flip`."""
    pixels = torch.from_numpy(image.read()).permute(2, 0, 1) / 255
    whole, seen = [item.amodal for item in image.instances], [item.visible for item in image.instances]
    masks = torch.from_numpy(np.stack(whole + seen).astype(np.uint8))
    boxes = torch.from_numpy(np.stack([item.amodal_box for item in image.instances]))
    if flip:
        pixels, masks = pixels.flip(-1), masks.flip(-1)
        boxes = torch.stack([image.width - boxes[:, 2], boxes[:, 1], image.width - boxes[:, 0], boxes[:, 3]], dim=1)
    return pixels, {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks}
