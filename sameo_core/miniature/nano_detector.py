"""A small Mask R-CNN for the drawn world: the live detector of `mini`, with real errors, scores and duplicates.

One class, visible boxes and visible masks; trained only on the scenes of EfficientSAM-nano's pre-training (domain
"pretraining"), starting from its encoder. Architecture: a plain ViT with a simple feature pyramid ("Exploring Plain
Vision Transformer Backbones for Object Detection", ECCV 2022) under torchvision's own `MaskRCNN`. Step `s` draws scenes
`s * images ... (s + 1) * images - 1`, each seen once.
"""

import contextlib
import io
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from sameo_core.arrays import Images
from sameo_core.config import WEIGHTS
from sameo_core.masks import mask_box, xyxy_to_xywh
from sameo_core.miniature.drawing import draw_scene
from sameo_core.miniature.pretraining import claim_folder, drawn_batches, mirror_scene
from sameo_core.model import build_efficient_sam
from sameo_core.model.checkpoints import load_exactly, read_weights
from sameo_core.model.efficient_sam import IMAGENET_MEAN, IMAGENET_STD
from sameo_core.model.image_encoder import ChannelNorm, ImageEncoder
from sameo_core.model.variants import VARIANTS
from sameo_core.training.detectors import DetectionBatch, detector_losses, detector_optimiser, save_detector
from sameo_core.training.loop import TrainingRun, linear_factor

NANO_DETECTOR = "detector_nano.safetensors"  # in data/weights
ANCHORS = (24, 48, 96, 160)  # side of a level's square anchor in pixels of the square input; objects measure 20 to 190
WIDTH = 64  # channels of the pyramid and of the heads


@dataclass(frozen=True)
class DetectorConfig:
    """The recipe of the shipped detector: about 25 minutes on one core.

    Box AP50 on unseen shapes and backgrounds (domain "cocoa_cls"): 0.73 after 200 steps, since the encoder is
    pre-trained, and 0.85 at the end. With twice the learning rate it was lower after the first 800 scenes (0.58 instead
    of 0.61).
    """

    steps: int = 1600
    images: int = 8  # scenes per step
    encoder: str = "efficient_sam_nano.safetensors"  # in data/weights: initial weights of the image encoder
    learning_rate: float = 1e-3  # AdamW; warm-up, constant, linear decay to zero
    encoder_rate: float = 0.3  # share of the learning rate for the pre-trained encoder
    warmup_steps: int = 100
    decay_share: float = 0.5  # of all steps
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    bf16: bool = True  # autocast of encoder and pyramid while training
    seed: int = 0
    evaluate_every: int = 200  # steps
    evaluation_scenes: int = 100  # per domain


class NanoPyramid(nn.Module):
    """The nano image encoder and four maps from its single one: upsampled 4x and 2x, equal, downsampled 2x (ViTDet)."""

    out_channels = WIDTH  # required by torchvision

    def __init__(self) -> None:
        super().__init__()
        config = VARIANTS["nano"]
        dim = config.embedding_dim
        self.bf16 = False  # autocast while training
        self.encoder = ImageEncoder(config)
        up_twice = nn.Sequential(
            nn.ConvTranspose2d(dim, 64, 2, 2), ChannelNorm(64, eps=1e-6), nn.GELU(), nn.ConvTranspose2d(64, 64, 2, 2)
        )
        up_once = nn.ConvTranspose2d(dim, 64, 2, 2)
        self.scales = nn.ModuleList([up_twice, up_once, nn.Identity(), nn.MaxPool2d(2)])
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, WIDTH, 1, bias=False),
                ChannelNorm(WIDTH, eps=1e-6),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
                ChannelNorm(WIDTH, eps=1e-6),
            )
            for channels in (64, 64, dim, dim)
        )

    def forward(self, images: Images) -> dict[str, Float[Tensor, "b c hs ws"]]:
        """Levels "0" to "3" have a cell per 4 x 4, 8 x 8, 16 x 16 and 32 x 32 pixels."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16 and self.training):
            embedding = self.encoder(images)
            levels = [smooth(scale(embedding)) for scale, smooth in zip(self.scales, self.smooth, strict=True)]
        return OrderedDict((str(i), level.float()) for i, level in enumerate(levels))


def build_nano_detector() -> MaskRCNN:
    """The network, freshly initialised: torchvision's Mask R-CNN on `NanoPyramid`, one class, number 1.

    Images are stretched to 256 x 256 pixels, as in the encoder's pre-training. Settings that differ from torchvision's
    suit few, large objects on a CPU.
    """
    side = VARIANTS["nano"].image_size
    anchors = AnchorGenerator(tuple((size,) for size in ANCHORS), ((0.5, 1.0, 2.0),) * len(ANCHORS))
    box_pool = MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2)
    mask_pool = MultiScaleRoIAlign(["0", "1", "2"], output_size=14, sampling_ratio=2)
    return MaskRCNN(
        NanoPyramid(),
        min_size=side,
        max_size=side,
        fixed_size=(side, side),
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(WIDTH, anchors.num_anchors_per_location()[0]),
        rpn_pre_nms_top_n_train=200,  # per level
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=200,  # per image
        rpn_post_nms_top_n_test=200,
        rpn_batch_size_per_image=128,
        box_roi_pool=box_pool,
        box_head=TwoMLPHead(WIDTH * 7 * 7, 256),
        box_predictor=FastRCNNPredictor(256, num_classes=2),
        box_batch_size_per_image=48,
        box_positive_fraction=1 / 3,
        mask_roi_pool=mask_pool,
        mask_head=MaskRCNNHeads(WIDTH, [WIDTH] * 4, dilation=1),
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, num_classes=2),
    )


def load_nano_detector(path: str | Path | None = None) -> MaskRCNN:
    """The shipped detector, or one from a file, in evaluation mode.

    It takes a list of images, Float "3 h w", RGB in [0, 1], any size, and returns a dict per image: `boxes` "n 4"
    (visible boxes, xyxy pixels of the image), `labels` "n" (all 1), `scores` "n" (0..1, best first), `masks`
    "n 1 h w" (visible masks, probability 0..1).

    Args:
        path: `.safetensors` as `pretrain_detector` writes it; data/weights/detector_nano.safetensors by default.

    Raises:
        InputError: the file is missing, damaged, or not of this network.
    """
    path = path or WEIGHTS / NANO_DETECTOR
    model = build_nano_detector()
    load_exactly(model, read_weights(path), Path(path))
    return model.eval()


class DetectionScenes(Dataset):
    """Scenes by number, as torchvision's detectors take them: image Float "3 h w", and a dict of its objects."""

    def __init__(self, config: DetectorConfig):
        self.config = config

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 h w"], dict[str, Tensor]]:
        scene = draw_scene("pretraining", index, self.config.seed)
        if np.random.default_rng([self.config.seed, index, 1]).random() < 0.5:
            scene = mirror_scene(scene)
        target = {
            "boxes": torch.from_numpy(np.stack([mask_box(mask) for mask in scene.visible])),
            "labels": torch.ones(len(scene.visible), dtype=torch.int64),
            "masks": torch.from_numpy(scene.visible.astype(np.uint8)),
        }
        return torch.from_numpy(scene.image).permute(2, 0, 1) / 255, target


def pretrain_detector(config: DetectorConfig, folder: Path) -> Path:
    """Train the nano detector on drawn scenes, as `pretrain` trains nano; returns the path of the weights.

    Raises:
        InputError: as `pretrain`, or the encoder's weights are missing.
        FloatingPointError: the loss is not finite.
    """
    claim_folder(folder, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_nano_detector().train()
    encoder = build_efficient_sam("nano", WEIGHTS / config.encoder).image_encoder
    model.backbone.encoder.load_state_dict(encoder.state_dict())
    model.backbone.bf16 = config.bf16

    def measure() -> dict[str, float]:
        domains = {"box_ap50_seen": "pretraining", "box_ap50_unseen": "cocoa_cls"}
        scenes = config.evaluation_scenes
        return {name: round(box_average_precision(model, of, scenes, config.seed), 4) for name, of in domains.items()}

    TrainingRun(
        task="training the detector",
        modules={"model": model},
        optimisers={
            "optimiser": detector_optimiser(model, config.learning_rate, config.encoder_rate, config.weight_decay)
        },
        batches=lambda start: _batches(config, start),
        losses=lambda step, batch: detector_losses(model, batch, step, config.seed),
        iterations=config.steps,
        rate_factor=lambda step: linear_factor(step, config.steps, config.warmup_steps, config.decay_share),
        clip=config.clip,
        log_every=config.evaluate_every,
        measure=measure,
    ).run(folder)
    return save_detector(model, folder / NANO_DETECTOR)


def _batches(config: DetectorConfig, start: int) -> Iterator[DetectionBatch]:
    for names, pairs in drawn_batches(DetectionScenes(config), config, start, collate=list):
        images, targets = zip(*pairs, strict=True)
        yield DetectionBatch(images, targets, names)


@torch.inference_mode()
def box_average_precision(model: nn.Module, domain: str, scenes: int, seed: int = 0, iou: float = 0.5) -> float:
    """AP of the visible boxes at one IoU, over the first scenes of a domain's split "val" (pycocotools 'bbox').

    `model` is a torchvision detector; its training or evaluation mode is kept.
    """
    mode = model.training
    model.eval()
    objects: list[dict] = []
    found: list[dict] = []
    for number in range(scenes):
        scene = draw_scene(domain, number, seed, split="val")
        (answer,) = model([torch.from_numpy(scene.image).permute(2, 0, 1) / 255])
        for box in xyxy_to_xywh(np.stack([mask_box(mask) for mask in scene.visible])).tolist():
            record = {"id": len(objects) + 1, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
            objects.append(record | {"area": box[2] * box[3]})
        for box, score in zip(xyxy_to_xywh(answer["boxes"].numpy()).tolist(), answer["scores"].tolist(), strict=True):
            found.append({"image_id": number, "category_id": 1, "bbox": box, "score": score})
    model.train(mode)
    if not found:  # loadRes expects at least one
        return 0.0
    truth = COCO()
    truth.dataset = {"images": [{"id": i} for i in range(scenes)], "categories": [{"id": 1}], "annotations": objects}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.params.iouThrs = np.array([iou])
        run.evaluate()
        run.accumulate()
    return float(run.eval["precision"][0, :, 0, 0, -1].mean())
