"""Paths and profiles, the settings of a run: the defaults are `paper`; `_mini` and `_photo` list their differences."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sameo_core.config.overrides import override
from sameo_core.errors import InputError

ROOT = Path(os.environ.get("SAMEO_ROOT", Path(__file__).resolve().parents[2]))
DATA = ROOT / "data"
WEIGHTS = DATA / "weights"  # tracked: the nano weights
RESULTS = DATA / "results"  # tracked: committed tables, a folder per profile; only `reproduce --update` writes here
RAW = DATA / "raw"  # ignored: data sets as downloaded (paper)
RUNS = DATA / "runs"  # ignored: everything a run produces
NOTEBOOKS = ROOT / "notebooks"

PROFILES = ("mini", "photo", "paper")
DATA_SEED = 0  # of drawn and synthesised data: all fine-tunings see the same images


def _require(good: bool, section: str, name: str, rule: str, found: object) -> None:
    """Raise InputError unless a field's value is `good`."""
    if not good:
        raise InputError(file=section, record=name, rule=f"{rule}, found {found}", remedy="Give such a value")


@dataclass(frozen=True)
class CleaningConfig:
    """What is removed from a data set before training. The paper names the filters but gives no thresholds."""

    drop_stuff: bool = True  # "filters stuff annotations from COCOA" (paper); the annotators' own flag
    max_image_share: float = 0.9  # amodal pixels / image pixels; larger ones are backdrops, not objects. Ours
    drop_architecture: bool = True  # walls, floors, ... of DYCE and MP3D-Amodal (paper); the lists are in cleaning.py
    min_visible_pixels: int = 10  # objects with fewer are dropped; DYCE's own definition of visible
    min_visible_share: float = 0.05  # visible / amodal pixels; as InstaOrder, and VRSP on SAIL-VOS
    walt_occlusion_band: tuple[float, ...] = (0.0, 0.8)  # WALT's occlusion rates to keep, ends included; ours.
    # From 0: unoccluded clips are as photographed. To 0.8: its random depth order buries objects under others

    def __post_init__(self) -> None:
        band = self.walt_occlusion_band
        good = len(band) == 2 and 0 <= band[0] <= band[1] <= 1
        _require(good, "cleaning", "walt_occlusion_band", "a lower and an upper share", band)
        for name in ("max_image_share", "min_visible_share"):
            share = getattr(self, name)
            _require(0 <= share <= 1, "cleaning", name, "a share within [0, 1]", share)


AMODAL_SETS = ("cocoa", "kins", "kitti360_aps", "muva", "dyce", "mp3d_amodal", "walt", "pix2gestalt")


@dataclass(frozen=True)
class DataConfig:
    """The data sets of a run, for training and for testing."""

    # The paper's collection without the two held-out sets (section "Training collection")
    train: tuple[str, ...] = (*AMODAL_SETS, "amodal_lvis")
    teacher: tuple[str, ...] = AMODAL_SETS  # training sets of Amodal-LVIS's teacher: without LVIS, which it judges
    held_out: tuple[str, ...] = ("cocoa_cls", "d2sa")  # zero-shot test sets: never trained on
    visible_only: tuple[str, ...] = ("lvis", "lvvis")  # sources of Amodal-LVIS
    train_splits: tuple[str, ...] = ("d2sa:train+augmented",)  # set:split where it is not "train". The split "train" of
    # D2SA is hardly occluded, so the field trains on both
    without_test_images: bool = True  # Amodal-LVIS leaves out photographs of COCO that a held-out set tests on, as LVIS
    # has most of COCOA-cls val. False: as in the paper, which does not mention it
    dual_annotation: bool = True  # Amodal-LVIS with both versions of its objects (paper); False: only occluded ones
    train_images: int | None = None  # drawn for "train" (times miniature.RELATIVE_SIZE); None: the set as distributed
    val_images: int | None = None  # the same for "val"; in `photo` the images of "photo_pairs"
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)

    def __post_init__(self) -> None:
        for name in ("train", "visible_only"):
            _require(bool(getattr(self, name)), "data", name, "one or more data sets", ())
        pairs = all(text.count(":") == 1 for text in self.train_splits)
        _require(pairs, "data", "train_splits", "data sets and their splits, as d2sa:train", self.train_splits)
        for name in ("train_images", "val_images"):
            images = getattr(self, name)
            _require(images is None or images > 0, "data", name, "one or more, or None", images)


@dataclass(frozen=True)
class CompletenessConfig:
    """Which objects of a data set with visible masks are complete (Amodal-LVIS, first stage). Thresholds are ours.

    The paper says "agree" without a number. All apply to stored measures: changing one needs no teacher.
    """

    ask_teacher: bool = True  # False: no teacher exists yet, and geometry alone gives the first pool
    whole_sets: tuple[str, ...] = ("duts",)  # curated for whole objects: not judged by the teacher
    min_free_ring: float = 0.0  # share of a 4-pixel ring around the object that no other annotated object covers;
    # used without a teacher, since a touching object may occlude
    max_object_share: float = 1.0  # pixels / image pixels; a large object leaves no room for an occluder
    min_agreement: float = 0.9  # IoU of the teacher's amodal mask and the annotated visible mask. Ours; measure it
    # again for another teacher, with `completeness_curve`
    max_predicted_hidden: float = 0.02  # hidden area that the teacher predicts / object area: see `hidden_share`
    min_frame_gap: int = 2  # pixels between object and frame; polygons end a pixel short of the outline
    min_object_pixels: int = 1024  # 32 x 32: COCO calls less small; such cut-outs blur when enlarged
    min_largest_part: float = 0.95  # share of the pixels in the largest connected part: objects in pieces are occluded
    min_core_share: float = 0.7  # share of the pixels left by a 5 x 5 opening: excludes hairlines and ragged outlines


@dataclass(frozen=True)
class SynthesisConfig:
    """How complete objects become occlusions (Amodal-LVIS). What the paper leaves open is ours, with a reason."""

    synthetic_images: int = 300_000  # paper; half of them un-occluded
    complete: CompletenessConfig = field(default_factory=CompletenessConfig)
    complete_objects: int | None = None  # sampled per source, so that none dominates; None: all
    # The curriculum: target rates are drawn from the bands between these edges, by these weights. Most occlusions in
    # real sets are slight, but those teach least; above 0.8 objects can hardly be recognised.
    rate_edges: tuple[float, ...] = (0.05, 0.2, 0.4, 0.6, 0.8)
    rate_weights: tuple[float, ...] = (0.25, 0.3, 0.25, 0.2)
    rate_tolerance: float = 0.05  # between the target rate and the rate on the masks; else the pair is redrawn
    smallest_occluder: float = 0.7  # occluder's longest side / target's: occluders are rescaled to
    largest_occluder: float = 1.4  # comparable size, whatever their size in their own photograph
    max_enlargement: float = 1.5  # of the occluder; more is visibly blurred
    flip_share: float = 0.5  # of occluders mirrored left to right; never upside down, which looks unnatural
    min_inside: float = 0.75  # share of the occluder inside the frame: it is annotated as whole, so it must look whole
    min_pixels_left: int = 100  # of the target's visible mask
    directions_per_pair: int = 4  # tried before the pair is redrawn
    pairs_per_image: int = 200  # tried before giving up: the pool cannot give the target rates
    feather: float = 0.004  # blur of the cut-out's edge (sigma) / its longest side, kept within 0.5 .. 1 pixel
    brightness_share: float = 0.3  # of the difference in mean luminance to the surroundings that is removed
    brightness_cap: int = 16  # grey levels of 255: enough for a night scene; light objects stay light, dark ones dark
    pairs_per_shard: int = 500  # lost if a worker is killed; with the number of images it decides each pair's shard


@dataclass(frozen=True)
class TrainingConfig:
    """How the mask decoder is fine-tuned; everything else is frozen."""

    variant: str = "vit_s"  # EfficientSAM-S, as in the authors' development code
    weights: str | None = "efficient_sam_vits.pt"  # in data/weights: the initial weights
    iterations: int = 40_000  # zero-shot model
    batch_images: int = 32
    boxes_per_image: int = 2  # prompted objects per image; the paper does not say
    # Each image of a batch comes from a data set drawn in proportion to log(images) (paper), or, for comparison,
    # uniformly, or in proportion to images
    sampling: Literal["log", "uniform", "size"] = "log"
    amodal_prompt_share: float = 0.5  # the rest are visible boxes
    unoccluded_share: float | None = None  # of the prompted objects; None: as in the data. See BatchSampler
    prompt_jitter: float = 0.0  # for half of the boxes: sides move by up to this share of the box's width or height
    optimiser: Literal["adamw", "sgd"] = "adamw"  # the paper does not say; development used Adam: AdamW without
    # weight decay. "sgd": with momentum 0.9
    learning_rate: float = 1e-4  # as in development; the paper does not say
    schedule: Literal["cosine", "constant"] = "cosine"  # after the warm-up: cosine decay to zero, or constant.
    # The paper does not say; with decay to zero the last weights are the ones to keep
    warmup_iterations: int = 500  # ours: Adam's first steps are full-sized, on moment estimates from few gradients
    max_warmup_share: float = 0.2  # of all iterations, since the supervised recipes are short. Ours
    weight_decay: float = 0.0  # as in development; fine-tuning should not shrink the weights
    clip: float = 1.0  # largest norm of the gradient; ours
    bf16: bool = True  # autocast, on GPUs and on CPUs with bf16 matrix instructions (AMX)
    cpu_threads: int | None = None  # for training on a CPU; the last digits of the weights depend on it; None: torch's
    half_embeddings: bool = True  # image embeddings in half precision, cached or not: half the disk space
    iou_weight: float = 0.05  # Dice + focal + 0.05 x L1 of the predicted IoU
    seeds: tuple[int, ...] = (0,)  # one fine-tuning each
    log_every: int = 100  # iterations

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_images", "boxes_per_image", "learning_rate", "log_every"):
            number = getattr(self, name)
            _require(number > 0, "training", name, "above 0", number)
        _require(min(self.seeds, default=-1) >= 0, "training", "seeds", "one or more whole numbers from 0", self.seeds)


@dataclass(frozen=True)
class RecipesConfig:
    """Iterations of the recipes in `recipes.py` that do not train for `TrainingConfig.iterations`."""

    cocoa_cls_iterations: int = 1_440  # supervised, on COCOA-cls alone; paper
    d2sa_iterations: int = 2_340  # paper
    muva_iterations: int = 22_500  # paper
    teacher_iterations: int = 40_000  # the paper does not say: as the zero-shot model
    ablation_iterations: int = 40_000  # of every arm of an ablation; the paper does not say: as the zero-shot model


@dataclass(frozen=True)
class CacheConfig:
    """The embedding cache and loading, which change no result, and the tolerance for unreadable images."""

    embedding_cache_gigabytes: float | None = 100.0  # image embeddings on disk, 2 MB per image (0.07 in `mini`). Beyond
    # it they are computed on demand. None: no limit; 0: no cache
    largest_cached_set: int | None = 100_000  # images; training does not cache larger sets (pix2gestalt, Amodal-LVIS),
    # whose images rarely come twice
    workers: int = 8  # processes per training that load batches ahead; 0: the training process loads them
    bad_images: int = 0  # missing or damaged image files that a training tolerates: it takes the next image of the set
    # instead. With more it stops


@dataclass(frozen=True)
class AmodalRcnnConfig:
    """Training of the end-to-end baseline (ours, AISFormer-style): the same collection, the whole network.

    Seeds, CPU threads, clipping and logging interval are those of `TrainingConfig`.
    """

    rcnn_detector: str = "maskrcnn_resnet50_fpn_v2"  # the initial detector: torchvision's, trained on COCO; or "nano"
    rcnn_iterations: int = 40_000  # as many as SAMEO's decoder
    rcnn_batch_images: int = 16  # with all their objects; as in AISFormer and detectron2
    rcnn_learning_rate: float = 1e-4  # AdamW; warm-up, then cosine decay to zero, as for the decoder
    rcnn_backbone_rate: float = 1.0  # factor on it for the pre-trained backbone
    rcnn_warmup_iterations: int = 1000
    rcnn_weight_decay: float = 0.05
    rcnn_bf16: bool = True  # autocast of the nano backbone; torchvision's own train in float32
    rcnn_flip_share: float = 0.5  # of the images, mirrored


@dataclass(frozen=True)
class EvaluationConfig:
    """How a fine-tuned decoder is compared with the un-tuned one."""

    detector: str = "maskrcnn_resnet50_fpn_v2"  # the live front-end, a name for `load_detector`; it needs own masks
    box_jitter: float = 0.1  # corners move by up to this share of the box's sides; the field's usual error is 10 %
    jitter_seed: int = 0
    boxes_per_pass: int = 64  # boxes decoded at once: bounds memory, does not change results
    upscaled_pixels: int = 2**24  # mask logits upscaled to full size at once, for the same reason


@dataclass(frozen=True)
class Profile:
    """All settings of a run. The defaults are `paper`."""

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
        """A folder per data set lies here: downloaded, or drawn in `mini`."""
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
        overrides: any field of the configs above, e.g. `iterations=100`, `drop_stuff=False`.

    Raises:
        InputError: an unknown profile or field, or a value that the field cannot have.
    """
    if name not in PROFILES:
        rule = f"a profile is one of {', '.join(PROFILES)}, found {name!r}"
        raise InputError(file="profile", rule=rule, remedy="Choose one of these names")
    profile = {"mini": _mini, "photo": _photo, "paper": Profile}[name]()
    return profile.override(**overrides)


def _mini() -> Profile:
    """The drawn world on two cores: the differences from `paper`."""
    return Profile(
        name="mini",
        data=DataConfig(
            train=("cocoa", "muva", "amodal_lvis"),  # with all nine sets, so small a decoder over-predicts
            train_splits=(),  # D2SA is drawn without its augmented split
            without_test_images=False,  # drawn images share numbers, not pictures
            train_images=1200,
            val_images=300,
        ),
        synthesis=SynthesisConfig(
            synthetic_images=2000,
            complete=CompletenessConfig(min_agreement=0.88),  # slightly above the threshold of highest recall with 95 %
            # of the pool hidden by 10 % or less (notebook 02)
            pairs_per_shard=50,
        ),
        training=TrainingConfig(
            variant="nano",
            weights="efficient_sam_nano.safetensors",
            iterations=300,
            unoccluded_share=0.88,  # see BatchSampler: with dual annotation alone, so small a decoder over-predicts
            learning_rate=2e-3,
            warmup_iterations=40,
            bf16=False,  # with nano's small attention heads float32 is faster, and the same on other CPUs
            cpu_threads=1,  # so one training per core runs at once
            log_every=25,
        ),
        recipes=RecipesConfig(
            cocoa_cls_iterations=150,
            d2sa_iterations=150,
            muva_iterations=150,
            teacher_iterations=300,
            ablation_iterations=60,  # ten arms and three seeds take less than ten minutes on two cores
        ),
        cache=CacheConfig(workers=0),  # embeddings are cached, and each core runs its own training
        amodal_rcnn=AmodalRcnnConfig(
            rcnn_detector="nano",
            rcnn_iterations=160,  # more compute than SAMEO's fine-tuning with its share of the encoding
            rcnn_batch_images=8,
            rcnn_learning_rate=1e-3,  # as good as 5e-4 or better on the val splits of two training sets
            rcnn_backbone_rate=0.3,
            rcnn_warmup_iterations=20,
            rcnn_bf16=False,  # `mini` is limited to AVX2, which emulates bf16: 19 s per step instead of 3.5
        ),
        evaluation=EvaluationConfig(detector="nano"),
    )


def _photo() -> Profile:
    """Real photographs on two cores: the differences from `paper`."""
    return Profile(
        name="photo",
        data=DataConfig(
            train=("amodal_lvis",),  # made from complete objects of COCO's photographs
            teacher=(),  # no amodal sets: geometry selects the teacher's pool
            held_out=("photo_pairs", "cocoa_photos"),  # pairs made from val photographs; human amodal masks
            visible_only=("coco_photos", "duts"),  # duts adds kinds of objects; left out if absent
            val_images=200,
        ),
        synthesis=SynthesisConfig(
            synthetic_images=1000,
            complete_objects=1000,
            complete=CompletenessConfig(
                min_agreement=0.85,  # human-drawn polygons are coarse: un-occluded objects reach 0.85 to 0.9
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
            batch_images=8,  # one object each: with cached embeddings, images cost nothing
            boxes_per_image=1,
            unoccluded_share=0.5,  # of the prompts in occluded images; with the originals 6 of 8 prompts. This, the
            prompt_jitter=0.1,  # jitter and the rate were chosen on photographs that do not judge (notebook A2)
            learning_rate=2e-4,
            warmup_iterations=30,
            bf16=False,  # few CPUs support it, and all should give the same numbers
            cpu_threads=1,  # so one training per core runs at once
            seeds=(0, 1, 2),
            log_every=20,
        ),
        recipes=RecipesConfig(teacher_iterations=300, ablation_iterations=100),
        cache=CacheConfig(embedding_cache_gigabytes=20.0, workers=0),
        amodal_rcnn=AmodalRcnnConfig(rcnn_iterations=0),  # no baseline here
        evaluation=EvaluationConfig(detector="everything"),
    )


def config_hash(*parts: Any) -> str:
    """Eight hexadecimal digits of everything that a result depends on: dataclasses, JSON values."""
    plain = [asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:8]
