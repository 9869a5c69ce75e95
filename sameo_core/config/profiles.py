"""Where things lie, and the numbers of a run: `paper` is the defaults, `mini` the visible difference."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sameo_core.config.overrides import override, parse_overrides
from sameo_core.errors import InputError

ROOT = Path(os.environ.get("SAMEO_ROOT", Path(__file__).resolve().parents[2]))
DATA = ROOT / "data"
WEIGHTS = DATA / "weights"  # tracked: the nano weights
RESULTS = DATA / "results"  # tracked: tables as committed, a folder a profile; only `reproduce --update` writes here
RAW = DATA / "raw"  # ignored: data sets as downloaded (paper)
RUNS = DATA / "runs"  # ignored: everything a run produces
NOTEBOOKS = ROOT / "notebooks"

PROFILES = ("mini", "photo", "paper")
DATA_SEED = 0  # of what is drawn or synthesised, so that all fine-tunings see the same images


@dataclass(frozen=True)
class CleaningConfig:
    """What is left out of a data set before training. The paper names the filters and publishes no threshold."""

    drop_stuff: bool = True  # "filters stuff annotations from COCOA" (paper); the annotators' own flag
    max_image_share: float = 0.9  # amodal pixels / image pixels; above, a backdrop rather than an object. Ours
    drop_architecture: bool = True  # walls, floors, ... of DYCE and MP3D-Amodal (paper); the lists are in cleaning.py
    min_visible_pixels: int = 10  # objects that show less are dropped; DYCE's own notion of visible
    min_visible_share: float = 0.05  # visible / amodal pixels; others drop the same: InstaOrder, VRSP on SAIL-VOS
    walt_occlusion_band: tuple[float, ...] = (0.0, 0.8)  # rates kept of WALT, ends included; ours. From 0, since
    # an unoccluded clip is as photographed; up to 0.8, since its random depth order buries objects under others

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("max_image_share", "min_visible_share")}
        shares |= {f"walt_occlusion_band[{i}]": rate for i, rate in enumerate(self.walt_occlusion_band)}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                remedy = "Give a share, 0.05 for 5 %"
                raise InputError(file="cleaning", record=name, rule=f"within [0, 1], found {share}", remedy=remedy)
        if len(self.walt_occlusion_band) != 2 or self.walt_occlusion_band[0] > self.walt_occlusion_band[1]:
            rule = f"a lower and an upper rate, found {self.walt_occlusion_band}"
            raise InputError(file="cleaning", record="walt_occlusion_band", rule=rule, remedy="Give (0.0, 0.8)")


AMODAL_SETS = ("cocoa", "kins", "kitti360_aps", "muva", "dyce", "mp3d_amodal", "walt", "pix2gestalt")


@dataclass(frozen=True)
class DataConfig:
    """Which data sets a run learns from and is judged by."""

    # The paper's collection without the two held-out sets (section "Training collection")
    train: tuple[str, ...] = (*AMODAL_SETS, "amodal_lvis")
    teacher: tuple[str, ...] = AMODAL_SETS  # what the teacher of Amodal-LVIS learns from: LVIS is what it judges
    held_out: tuple[str, ...] = ("cocoa_cls", "d2sa")  # zero-shot test sets: never trained on
    visible_only: tuple[str, ...] = ("lvis", "lvvis")  # sources of Amodal-LVIS
    dual_annotation: bool = True  # Amodal-LVIS with both versions of its objects (paper); False: occluded ones only
    train_images: int | None = None  # drawn for "train" (times miniature.RELATIVE_SIZE); None: the set as distributed
    val_images: int | None = None  # the same for "val"; in `photo` of the pairs made of val photographs
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)

    def __post_init__(self) -> None:
        if not self.train:
            rule = "at least one data set to learn from, found none"
            raise InputError(file="data", record="train", rule=rule, remedy='Give ("cocoa",)')
        for name in ("train_images", "val_images"):
            images = getattr(self, name)
            if images is not None and images < 1:
                raise InputError(file="data", record=name, rule=f"one or more, found {images}", remedy="Give 40")


@dataclass(frozen=True)
class CompletenessConfig:
    """Which objects of a data set with visible masks are complete (Amodal-LVIS, first stage). Thresholds are ours.

    The paper says "agree" and publishes none. All are applied to stored measures: another threshold needs no teacher.
    """

    ask_teacher: bool = True  # False: no teacher exists yet, and geometry alone gives the first pool
    whole_sets: tuple[str, ...] = ("duts",)  # chosen for whole objects by who made them: no teacher is asked
    min_free_ring: float = 0.0  # share of a ring of 4 pixels around it that no other annotated object covers; asked
    # for where no teacher is. What touches may hide
    max_object_share: float = 1.0  # pixels / image pixels; a large object leaves no room for an occluder
    min_agreement: float = 0.9  # IoU of the teacher's amodal mask and the annotated visible one. Ours, and to be
    # measured again with the teacher in use: see `completeness_curve`
    max_predicted_hidden: float = 0.02  # what the teacher adds as a part of its own / the object: see `hidden_share`
    min_frame_gap: int = 2  # pixels between object and frame; polygons end a pixel before what they follow
    min_object_pixels: int = 1024  # COCO calls less than 32 x 32 small; enlarged, such cut-outs are blurs
    min_largest_part: float = 0.95  # share of the pixels in one connected part: what is in pieces is behind something
    min_core_share: float = 0.7  # share of the pixels left by an opening of 5 x 5: hairlines and frayed outlines go


@dataclass(frozen=True)
class SynthesisConfig:
    """How occlusions are made of complete objects (Amodal-LVIS). What the paper leaves open is ours, with a reason."""

    synthetic_images: int = 300_000  # paper; half of them un-occluded
    complete: CompletenessConfig = field(default_factory=CompletenessConfig)
    complete_objects: int | None = None  # drawn from each source's, so that none drowns another; None: all
    # The curriculum: a rate is asked for from the bands between these edges, each as often as its weight says. Most
    # occlusions are slight in real sets, but the slight ones teach least; above 0.8 hardly anything can be recognised.
    rate_edges: tuple[float, ...] = (0.05, 0.2, 0.4, 0.6, 0.8)
    rate_weights: tuple[float, ...] = (0.25, 0.3, 0.25, 0.2)
    rate_tolerance: float = 0.05  # between the rate asked for and the one on the masks; else the pair is redrawn
    smallest_occluder: float = 0.7  # occluder's longest side / target's: sizes are normalised to be alike, as things
    largest_occluder: float = 1.4  # that stand side by side are, and not as their photographs happen to show them
    max_enlargement: float = 1.5  # of the occluder's pixels; more is seen as blur
    flip_share: float = 0.5  # of the occluders, mirrored; never upside down, for gravity shows
    min_inside: float = 0.75  # share of the occluder inside the frame: annotated as whole, it must look whole
    min_pixels_left: int = 100  # of the target's visible mask
    directions_per_pair: int = 4  # tried before the pair is redrawn
    pairs_per_image: int = 200  # tried before giving up: such a pool cannot give the rates asked for
    feather: float = 0.004  # blur of the cut-out's edge (sigma) / its longest side, kept within 0.5 .. 1 pixel
    brightness_share: float = 0.3  # of the difference in mean luminance to the surroundings that is taken away: enough
    brightness_cap: int = 16  # for a night scene, grey levels of 255; a light object stays light, a dark one dark
    pairs_per_shard: int = 500  # what is lost by a kill; with the number of images it decides which pair lies where


@dataclass(frozen=True)
class TrainingConfig:
    """How the mask decoder is fine-tuned; nothing else learns."""

    variant: str = "vit_s"  # EfficientSAM-S, as the authors' development code
    weights: str | None = "efficient_sam_vits.pt"  # in data/weights: what fine-tuning starts from
    iterations: int = 40_000  # zero-shot model
    batch_images: int = 32
    boxes_per_image: int = 2  # objects prompted in each image of a batch; the paper does not say
    # An image of a batch is of each data set with probability proportional to the logarithm of its images (paper), or
    # to be compared: of each set alike, or proportional to its images
    sampling: Literal["log", "uniform", "size"] = "log"
    amodal_prompt_share: float = 0.5  # the others are visible boxes
    unoccluded_share: float | None = None  # of the prompted objects; None: as they come. See BatchSampler
    prompt_jitter: float = 0.0  # half of the boxes: their sides move by up to this share of the box's width or height
    optimiser: Literal["adamw", "sgd"] = "adamw"  # the paper does not say; development used Adam, which AdamW is
    # without weight decay. "sgd": with momentum 0.9
    learning_rate: float = 1e-4  # development's; the paper does not say
    schedule: Literal["cosine", "constant"] = "cosine"  # after the warm-up: half a cosine to zero, or the full rate.
    # The paper does not say; a rate that ends at zero makes the last weights the ones to keep
    warmup_iterations: int = 500  # ours: the first steps of Adam are as large as any, on moments it hardly knows yet
    max_warmup_share: float = 0.2  # of all iterations: the supervised recipes are short. Ours
    weight_decay: float = 0.0  # as development; a decoder is moved a little, not made small
    clip: float = 1.0  # largest norm of the gradient; ours
    bf16: bool = True  # autocast, on GPUs and on CPUs that multiply matrices in bf16 (AMX)
    cpu_threads: int | None = None  # of a training on a CPU: the last digits of the weights depend on it; None: torch's
    half_embeddings: bool = True  # image embeddings are rounded to half precision, kept on disk or not: half the disk
    iou_weight: float = 0.05  # Dice + focal + 0.05 x L1 of the predicted IoU
    seeds: tuple[int, ...] = (0,)  # one fine-tuning each
    log_every: int = 100  # iterations

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_images", "boxes_per_image", "learning_rate", "log_every"):
            number = getattr(self, name)
            if not number > 0:
                remedy = "Give a positive number"
                raise InputError(file="training", record=name, rule=f"above 0, found {number}", remedy=remedy)
        if not self.seeds or min(self.seeds) < 0:
            rule = f"at least one whole number from 0, found {self.seeds}"
            raise InputError(file="training", record="seeds", rule=rule, remedy="Give (0,), or --seed 0")


@dataclass(frozen=True)
class RecipesConfig:
    """How long the recipes of `recipes.py` train, where that is not `TrainingConfig.iterations`."""

    cocoa_cls_iterations: int = 1_440  # supervised, on COCOA-cls alone; paper
    d2sa_iterations: int = 2_340  # paper
    muva_iterations: int = 22_500  # paper
    teacher_iterations: int = 40_000  # of Amodal-LVIS; the paper does not say: as the zero-shot model
    ablation_iterations: int = 40_000  # of every arm of an ablation; the paper does not say: as the zero-shot model


@dataclass(frozen=True)
class CacheConfig:
    """What is kept to be quicker, and what may be missing; no result depends on it."""

    embedding_cache_gigabytes: float | None = 100.0  # image embeddings on disk, 2 MB an image (0.07 in `mini`).
    # Beyond, they are made as needed. None: no bound; 0: none are kept
    largest_cached_set: int | None = 100_000  # images; of larger sets (pix2gestalt, Amodal-LVIS) none are kept while
    # training: few of theirs come twice
    workers: int = 8  # processes of each training that load batches ahead; 0: the training loads them itself
    bad_images: int = 0  # image files that are missing or damaged, and that a training goes on without: it takes the
    # next image of the set instead, whenever it learns of it. Beyond, it ends


@dataclass(frozen=True)
class AmodalRcnnConfig:
    """How the end-to-end baseline learns (ours, AISFormer-style): the same collection, the whole network.

    Seeds, CPU threads, clipping and the log's rhythm are those of `TrainingConfig`.
    """

    rcnn_detector: str = "maskrcnn_resnet50_fpn_v2"  # what it starts from: torchvision's, trained on COCO; or "nano"
    rcnn_iterations: int = 40_000  # as many as SAMEO's decoder
    rcnn_batch_images: int = 16  # all objects of each image; AISFormer's, and detectron2's own, number
    rcnn_learning_rate: float = 1e-4  # AdamW; warm-up, then half a cosine to zero, as the decoder
    rcnn_backbone_rate: float = 1.0  # share of it for the pre-trained backbone
    rcnn_warmup_iterations: int = 1000
    rcnn_weight_decay: float = 0.05
    rcnn_bf16: bool = True  # autocast of the nano backbone; torchvision's own learn in float32
    rcnn_flip_share: float = 0.5  # of the images, mirrored


@dataclass(frozen=True)
class EvaluationConfig:
    """How a fine-tuned decoder is compared with the one it started from."""

    detector: str = "maskrcnn_resnet50_fpn_v2"  # the live front-end: a name of `load_detector`; with masks of its own
    box_jitter: float = 0.1  # corners move by up to this share of the box's sides; the field's usual error is 10 %
    jitter_seed: int = 0
    boxes_per_pass: int = 64  # boxes decoded at once: bounds memory, does not change results
    upscaled_pixels: int = 2**24  # mask logits brought to full size at once, for the same reason


@dataclass(frozen=True)
class Profile:
    """Every number of a run. `paper` is the defaults; `mini` differs only by what `load_profile` replaces."""

    name: str = "paper"
    data: DataConfig = field(default_factory=DataConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    recipes: RecipesConfig = field(default_factory=RecipesConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    amodal_rcnn: AmodalRcnnConfig = field(default_factory=AmodalRcnnConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def data_folder(self) -> Path:
        """Where data sets lie, a folder each: downloaded ones in `paper`, drawn ones in `mini`."""
        return self.runs / "datasets" if self.name == "mini" else RAW

    @property
    def runs(self) -> Path:
        return RUNS / self.name

    @property
    def results(self) -> Path:
        return self.runs / "results"

    @property
    def figures(self) -> Path:
        return self.runs / "figures"

    def override(self, **fields: object) -> "Profile":
        """This profile with other values of some fields, each by its own name; see `load_profile`."""
        profile = self
        for key, value in fields.items():
            profile = override(profile, key, value, f"profile {self.name}")
        return profile


def load_profile(name: str = "mini", **overrides: object) -> Profile:
    """The profile of a run.

    Args:
        name: "mini" (drawn world, CPU, minutes), "photo" (photographs of COCO, CPU, an hour) or "paper" (real data
            sets, GPUs).
        overrides: any field of the configs above by its own name, e.g. `iterations=100`, `drop_stuff=False`.

    Raises:
        InputError: an unknown profile or field, or a value of another type than the field's.
    """
    profiles = dict(zip(PROFILES, (_mini, _photo, Profile), strict=True))
    if name not in profiles:
        rule = f"a profile is one of {', '.join(profiles)}, found {name!r}"
        raise InputError(file="profile", rule=rule, remedy="Choose one of these names")
    return profiles[name]().override(**overrides)


def read_overrides(words: Sequence[str]) -> dict[str, object]:
    """The overrides of a command line for `load_profile`: "iterations=10", "weights=None", "train=cocoa,kins".

    A value with a comma is a tuple, and so is a single one if its field is.

    Raises:
        InputError: no "=" between a name and a value.
    """
    return parse_overrides(words, Profile())


def _mini() -> Profile:
    """The drawn world on two cores: the visible difference from `paper`."""
    return Profile(
        name="mini",
        data=DataConfig(
            train=("cocoa", "muva", "amodal_lvis"),  # with all nine, so small a decoder over-predicts
            train_images=1200,
            val_images=300,
        ),
        synthesis=SynthesisConfig(
            synthetic_images=2000,
            complete=CompletenessConfig(min_agreement=0.88),  # a little above the highest recall with 95 % of the pool
            # hidden by a tenth or less (notebook 02)
            pairs_per_shard=50,
        ),
        training=TrainingConfig(
            variant="nano",
            weights="efficient_sam_nano.safetensors",
            iterations=300,
            unoccluded_share=0.88,  # see BatchSampler: dual annotation alone does not hold so small a decoder back
            learning_rate=2e-3,
            warmup_iterations=40,
            bf16=False,  # nano's attention heads are so small that float32 is quicker, and the same on other CPUs
            cpu_threads=1,  # and so as many trainings at once as there are cores
            log_every=25,
        ),
        recipes=RecipesConfig(
            cocoa_cls_iterations=150,
            d2sa_iterations=150,
            muva_iterations=150,
            teacher_iterations=300,
            ablation_iterations=60,  # ten arms and three seeds, within ten minutes on two cores
        ),
        cache=CacheConfig(workers=0),  # embeddings are kept, and each core has a training of its own
        amodal_rcnn=AmodalRcnnConfig(
            rcnn_detector="nano",
            rcnn_iterations=160,  # more computing than SAMEO's fine-tuning with its share of the encoding
            rcnn_batch_images=8,
            rcnn_learning_rate=1e-3,  # on the val splits of two training sets as good as 5e-4, or better
            rcnn_backbone_rate=0.3,
            rcnn_warmup_iterations=20,
            rcnn_bf16=False,  # `mini` is held to AVX2, which emulates bf16: 19 s a step instead of 3.5
        ),
        evaluation=EvaluationConfig(detector="nano"),
    )


def _photo() -> Profile:
    """Real photographs on two cores: the visible difference from `paper`."""
    return Profile(
        name="photo",
        data=DataConfig(
            train=("amodal_lvis",),  # made of complete objects of COCO's photographs
            teacher=(),  # there is none: geometry gives its pool
            held_out=("photo_pairs", "cocoa_photos"),  # pairs made of val photographs; human amodal masks
            visible_only=("coco_photos", "duts"),  # duts for more kinds of objects; left out where it is not at hand
            val_images=200,
        ),
        synthesis=SynthesisConfig(
            synthetic_images=1000,
            complete_objects=500,
            complete=CompletenessConfig(
                min_agreement=0.85,  # polygons of people are coarse: un-occluded objects agree by 0.85 to 0.9
                max_predicted_hidden=0.05,
                min_frame_gap=3,
                min_object_pixels=48 * 48,
                max_object_share=0.45,
            ),
            pairs_per_shard=25,
        ),
        training=TrainingConfig(
            variant="sam",
            weights="photo_base.safetensors",
            iterations=600,
            batch_images=8,  # of one object each: embeddings are kept, so that images cost nothing
            boxes_per_image=1,
            unoccluded_share=0.25,  # of the prompts in an occluded image; with the originals 5 of 8 prompts. This and
            learning_rate=2e-4,  # the rate were chosen on pairs of train photographs that took no part in training
            warmup_iterations=30,
            bf16=False,  # few CPUs multiply in it, and the same numbers are wanted on all
            cpu_threads=1,  # and so as many trainings at once as there are cores
            seeds=(0, 1, 2),
            log_every=20,
        ),
        recipes=RecipesConfig(teacher_iterations=300, ablation_iterations=150),
        cache=CacheConfig(embedding_cache_gigabytes=20.0, workers=0),
        amodal_rcnn=AmodalRcnnConfig(rcnn_iterations=0),  # no baseline here
        evaluation=EvaluationConfig(detector="everything"),
    )


def config_hash(*parts: Any) -> str:
    """Eight hexadecimal digits that name a run by all that its result depends on: dataclasses, JSON values."""
    plain = [asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:8]
