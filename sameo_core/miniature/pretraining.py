"""Pre-training of EfficientSAM-nano on the drawn world, the stand-in for SA-1B: visible masks from visible boxes.

Scenes are drawn during training, each seen once: step `s` draws scenes `s * images ... (s + 1) * images - 1`. An
auxiliary dense head (foreground, boundaries, the box of the object under each cell) speeds up the encoder's training
and is discarded afterwards.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sameo_core.arrays import BoxPrompts, ImageEmbedding, Images
from sameo_core.errors import InputError
from sameo_core.masks import mask_box, mask_iou
from sameo_core.miniature.drawing import Scene, draw_scene
from sameo_core.model import EfficientSam, Sameo, build_efficient_sam
from sameo_core.model.losses import dice_loss, focal_loss, iou_l1_loss
from sameo_core.runs.atomic import atomic_write
from sameo_core.runs.folders import write_environment
from sameo_core.training import shrink_masks
from sameo_core.training.loop import TrainingRun, linear_factor


@dataclass(frozen=True)
class PretrainingConfig:
    """The recipe of the shipped nano weights."""

    steps: int = 3900
    images: int = 16  # scenes per step
    boxes: int = 4  # prompted objects per scene; an object repeats if a scene has fewer
    learning_rate: float = 1e-3  # AdamW, for all but linear layers; warm-up, constant, linear decay to zero
    muon_learning_rate: float = 2e-3  # Muon, for linear layers; the same schedule
    warmup_steps: int = 150
    decay_share: float = 0.4  # of all steps
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    box_jitter: float = 0.05  # corners move by up to this share of the box's sides, for half of the boxes
    multimask_share: float = 0.15  # steps that train the best of the three alternative masks instead of the single one
    focal_weight: float = 20.0  # as Segment Anything weighs focal against Dice
    dense_weight: float = 1.0  # of the auxiliary dense losses
    bf16: bool = True  # autocast of the encoder; the decoder's small heads are slower in bf16 than in float32 on a CPU
    seed: int = 0
    evaluate_every: int = 250  # steps
    evaluation_scenes: int = 100  # per domain


@dataclass(frozen=True)
class PromptedScenes:
    """A batch for the network: everything stretched to the square input."""

    names: tuple[str, ...]  # of the scenes, to name in an error
    images: Images  # b 3 side side
    boxes: BoxPrompts  # b q 4, visible boxes in pixels of the square input
    targets: Float[Tensor, "b q hm wm"]  # visible masks at the decoder's resolution, share of each cell
    dense: Float[Tensor, "b 6 hm wm"]  # foreground, boundary, and x0 y0 x1 y1 (0..1) of the object under the cell


class DrawnScenes(Dataset):
    """Scenes by number, as tensors; prompts and their jitter depend on the number alone."""

    def __init__(self, config: PretrainingConfig, side: int):
        self.config, self.side = config, side

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scene = draw_scene("pretraining", index, self.config.seed)
        rng = np.random.default_rng([self.config.seed, index, 1])
        order = rng.permutation(len(scene.visible))
        chosen = np.resize(order, self.config.boxes)
        if rng.random() < 0.5:
            scene = mirror_scene(scene)
        boxes = torch.from_numpy(np.stack([mask_box(scene.visible[i]) for i in chosen]))
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        jitter = torch.from_numpy(rng.uniform(-1, 1, (len(chosen), 4)) * (rng.random((len(chosen), 1)) < 0.5))
        boxes = boxes + self.config.box_jitter * jitter.float() * sides
        height, width = scene.image.shape[:2]
        boxes = boxes * torch.tensor([self.side / width, self.side / height] * 2)
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None] / 255
        image = F.interpolate(image, (self.side, self.side), mode="bilinear", align_corners=False)[0]
        low = shrink_masks(scene.visible, (self.side // 4, self.side // 4))
        return image, boxes, low[chosen], _dense_targets(scene, low)


def mirror_scene(scene: Scene) -> Scene:
    """The scene mirrored left to right, without its stuff region."""
    left_right: dict[str, Any] = {
        name: np.ascontiguousarray(getattr(scene, name)[..., ::-1]) for name in ("amodal", "visible")
    }
    return replace(scene, image=np.ascontiguousarray(scene.image[:, ::-1]), **left_right, ground=None)


def _dense_targets(scene: Scene, low: Float[Tensor, "n hm wm"]) -> Float[Tensor, "6 hm wm"]:
    """Targets of the auxiliary head for each cell: foreground, boundary, and the box of the object under it."""
    share = torch.cat([1 - low.sum(0, keepdim=True), low])
    owner = share.argmax(0)  # hm wm, 0 is the background
    boundary = torch.zeros_like(owner, dtype=torch.bool)
    boundary[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    boundary[1:] |= owner[1:] != owner[:-1]
    height, width = scene.image.shape[:2]
    shares = np.stack([mask_box(mask) for mask in scene.visible]) / np.array([width, height] * 2, np.float32)
    boxes = torch.cat([torch.zeros(1, 4), torch.from_numpy(shares)])
    return torch.cat([torch.stack([owner > 0, boundary]).float(), boxes[owner].permute(2, 0, 1)])


class DenseHead(nn.Module):
    """The auxiliary head: one linear map from the image embedding to 4 x 4 cells per patch. Not part of the model."""

    def __init__(self, embedding_dim: int):
        super().__init__()
        self.project = nn.Conv2d(embedding_dim, 6 * 16, 1)

    def forward(self, embedding: ImageEmbedding) -> Float[Tensor, "b 6 hm wm"]:
        return F.pixel_shuffle(self.project(embedding), 4)


def dense_loss(predicted: Float[Tensor, "b 6 hm wm"], target: Float[Tensor, "b 6 hm wm"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of foreground and boundary, L1 of the box under each foreground cell."""
    classes = F.binary_cross_entropy_with_logits(predicted[:, :2], target[:, :2])
    inside = target[:, :1]
    boxes = ((predicted[:, 2:] - target[:, 2:]).abs() * inside).sum() / (4 * inside.sum()).clamp(min=1)
    return classes + 2 * boxes


def pretrain(config: PretrainingConfig, folder: Path) -> Path:
    """Pre-train EfficientSAM-nano; resumes from `folder` where an earlier run stopped.

    Args:
        config: the recipe.
        folder: receives config.json, environment.json, log.csv, checkpoint.pt (to resume), and at last
            efficient_sam_nano.safetensors.

    Returns:
        the path of the weights (half precision).

    Raises:
        InputError: the folder holds another recipe's run, or cannot be made.
        FloatingPointError: the loss is not finite.
    """
    claim_folder(folder, config)
    torch.manual_seed(config.seed)
    model = build_efficient_sam("nano")
    head = DenseHead(model.config.embedding_dim)
    scenes = DrawnScenes(config, model.config.image_size)
    weights = {"focal": config.focal_weight, "dense": config.dense_weight}

    def losses(step: int, batch: PromptedScenes) -> tuple[Tensor, dict[str, Tensor]]:
        terms = pretraining_losses(model, head, batch, config, step)
        return cast(Tensor, sum(weights.get(name, 1.0) * term for name, term in terms.items())), terms

    def measure() -> dict[str, float]:
        domains = {"visible_miou_seen": "pretraining", "visible_miou_unseen": "cocoa_cls"}
        ious = {name: visible_ious(model, of, config.evaluation_scenes, config.seed) for name, of in domains.items()}
        return {name: round(float(values.mean()), 4) for name, values in ious.items()}

    TrainingRun(
        task="pre-training",
        modules={"model": model, "head": head},
        optimisers=_optimisers(nn.ModuleList([model, head]), config),
        batches=lambda start: (PromptedScenes(names, *of) for names, of in drawn_batches(scenes, config, start)),
        losses=losses,
        iterations=config.steps,
        rate_factor=lambda step: linear_factor(step, config.steps, config.warmup_steps, config.decay_share),
        clip=config.clip,
        log_every=config.evaluate_every,
        measure=measure,
    ).run(folder)
    return Sameo(model.half(), "nano").save(folder / "efficient_sam_nano.safetensors")


def _optimisers(modules: nn.Module, config: PretrainingConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon for the weights of linear layers, AdamW for everything else.

    With AdamW alone a first run, on slightly harder scenes, reached 0.57 held-out mIoU after 500 steps instead of 0.67.
    """
    matrices = [module.weight for module in modules.modules() if isinstance(module, nn.Linear)]
    taken = {id(weight) for weight in matrices}
    others = [parameter for parameter in modules.parameters() if id(parameter) not in taken]
    muon = torch.optim.Muon(
        matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return {"muon": muon, "adamw": adamw}


def pretraining_losses(
    model: EfficientSam, head: DenseHead, batch: PromptedScenes, config: PretrainingConfig, step: int
) -> dict[str, Float[Tensor, ""]]:
    """The four losses of a batch; a share of the steps trains the best of the three alternative masks."""
    multimask = np.random.default_rng([config.seed, step, 2]).random() < config.multimask_share
    side = model.config.image_size
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=config.bf16):
        embedding = model.encode_images(batch.images).float()
    decoded = model.decode_boxes(embedding, batch.boxes, (side, side), multimask)
    logits, iou = decoded.logits.flatten(0, 1), decoded.iou.flatten(0, 1)  # b*q m hm wm, b*q m
    target = batch.targets.flatten(0, 1)[:, None].expand_as(logits)
    best = _dice_of_each(logits.detach(), target).argmin(1, keepdim=True)  # of one mask: 0
    pick = best[..., None, None].expand(-1, 1, *logits.shape[-2:])
    chosen, wanted = logits.gather(1, pick), target[:, :1]
    return {
        "dice": dice_loss(chosen, wanted),
        "focal": focal_loss(chosen, wanted),
        "iou": iou_l1_loss(iou, logits, target),
        "dense": dense_loss(head(embedding), batch.dense),
    }


def _dice_of_each(logits: Float[Tensor, "n m hm wm"], target: Float[Tensor, "n m hm wm"]) -> Float[Tensor, "n m"]:
    p = logits.sigmoid()
    return 1 - 2 * (p * target).sum((-2, -1)) / (p.sum((-2, -1)) + target.sum((-2, -1))).clamp(min=1e-6)


@torch.inference_mode()
def visible_ious(model: EfficientSam, domain: str, scenes: int, seed: int = 0) -> Float[np.ndarray, " n"]:
    """IoU of each object's visible mask, prompted by its visible box, at full resolution; scenes of split "val".

    `domain` "pretraining" holds the shapes seen in pre-training, "cocoa_cls" none of them. The model's mode is kept.
    """
    mode, values = model.training, []
    for index in range(scenes):
        scene = draw_scene(domain, index, seed, split="val")
        boxes = np.stack([mask_box(mask) for mask in scene.visible])
        masks = Sameo(model, "nano").predict(scene.image, boxes).masks
        values += [mask_iou(a, b) for a, b in zip(masks, scene.visible, strict=True)]
    model.train(mode)  # Sameo predicts in evaluation mode
    return np.array(values)


def drawn_batches(
    scenes: Dataset, config: Any, start: int, collate: Callable[[list], Any] | None = None
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Scene names and content of each batch from step `start` on, drawn in another process.

    `config` has `steps` and `images` (per step); `collate` makes a batch of a list of scenes, None: stacked tensors.
    """
    numbers = range(start * config.images, config.steps * config.images)
    loader = DataLoader(scenes, config.images, sampler=numbers, num_workers=1, prefetch_factor=4, collate_fn=collate)
    for step, batch in enumerate(loader, start):
        yield tuple(f"scene {step * config.images + i}" for i in range(config.images)), batch


def claim_folder(folder: Path, config: Any) -> None:
    """Make a run folder with config.json (the recipe, a dataclass) and environment.json.

    Raises:
        InputError: the folder holds another recipe's run, or cannot be made.
    """
    path, recipe = folder / "config.json", json.dumps(asdict(config), indent=1)
    if path.exists() and path.read_bytes() != recipe.encode():
        rule = "a run folder belongs to one recipe, found another one"
        raise InputError(file=path, rule=rule, remedy="Choose another folder, or delete this one")
    with atomic_write(path) as partial:
        partial.write_text(recipe)
    write_environment(folder)
