"""The paper's filters, each under a name, and the report of what each one removed.

The paper says what is filtered (stuff, architecture, tiny objects, unnatural occlusion in WALT) and gives no threshold;
ours stand in `config.CleaningConfig`, each with its reason. An instance is counted for the first rule that removes it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sameo_core.config import CleaningConfig, DataConfig
from sameo_core.datasets import AmodalDataset, AmodalImage, AmodalInstance

# Tags that SeGAN, the paper of DYCE, maps to the background, and "objects", which it skips. Scene-sized things that it
# keeps (carpet, rug, chimney, lights, cabinets, island, tablecover) are kept here too.
DYCE_ARCHITECTURE = frozenset(
    "ceiling, fan, wall, walls, default, roomcube, door, fireplace, curtain, windows, cube.001, floor, outlet, "
    "objects".split(", ")
)
# Of the 40 categories of Matterport3D (mpcat40), by number. Kept, since they have a shape of their own: curtain,
# mirror, counter, fireplace, blinds, board_panel. The cut is ours.
MPCAT40_ARCHITECTURE = {
    0: "void",
    1: "wall",
    2: "floor",
    4: "door",
    9: "window",
    16: "stairs",
    17: "ceiling",
    24: "column",
    29: "beam",
    30: "railing",
    40: "misc",
    41: "unlabeled",
}


def normalised(category: str) -> str:
    """A tag without what tells copies apart: "Wall (2)", "wall 3", " wall" are all "wall"; "_" is a space."""
    category = re.sub(r"[\s_]+", " ", category.casefold()).strip()
    return re.sub(r"( \(\d+\)| \d+)+$", "", category)


# ------------------------------------------------------------------------------------- predicates: True is removed


@dataclass(frozen=True)
class Candidate:
    """What the predicates look at: an instance with its masks measured once."""

    category: str
    is_stuff: bool
    image_pixels: int
    visible_pixels: int
    amodal_pixels: int | None  # None: the set has visible masks only


def is_stuff(candidate: Candidate, config: CleaningConfig) -> bool:
    """Stuff by the annotators' own flag (COCOA's isStuff); grass and sky have no extent to complete."""
    return config.drop_stuff and candidate.is_stuff


def is_dyce_architecture(candidate: Candidate, config: CleaningConfig) -> bool:
    """A wall, a floor, ... by its tag in DYCE."""
    return config.drop_architecture and normalised(candidate.category) in DYCE_ARCHITECTURE


def is_mp3d_architecture(candidate: Candidate, config: CleaningConfig) -> bool:
    """A wall, a floor, ... by its mpcat40 name in MP3D-Amodal, or by its number where the file has no names."""
    category = normalised(candidate.category)
    names = MPCAT40_ARCHITECTURE.values()
    return config.drop_architecture and (category in names or category in map(str, MPCAT40_ARCHITECTURE))


def fills_the_image(candidate: Candidate, config: CleaningConfig) -> bool:
    """A backdrop: its amodal mask covers more than `max_image_share` of the image."""
    return candidate.amodal_pixels > config.max_image_share * candidate.image_pixels


def shows_few_pixels(candidate: Candidate, config: CleaningConfig) -> bool:
    """Fewer than `min_visible_pixels` are visible."""
    return candidate.visible_pixels < config.min_visible_pixels


def shows_a_small_share(candidate: Candidate, config: CleaningConfig) -> bool:
    """Less than `min_visible_share` of it is visible: nothing to complete it from."""
    return candidate.visible_pixels < config.min_visible_share * candidate.amodal_pixels


def outside_the_band(candidate: Candidate, config: CleaningConfig) -> bool:
    """Hidden more, or less, than `walt_occlusion_band` allows."""
    low, high = config.walt_occlusion_band
    rate = (candidate.amodal_pixels - candidate.visible_pixels) / candidate.amodal_pixels
    return not low <= rate <= high


@dataclass(frozen=True)
class Rule:
    """A predicate, the name it has in reports, and where it applies."""

    name: str
    removes: Callable[[Candidate, CleaningConfig], bool]
    only: str | None = None  # the data set it is made for; None: all
    needs_amodal: bool = True  # does not apply to visible-only sets


RULES = (  # in this order
    Rule("stuff", is_stuff, needs_amodal=False),
    Rule("architecture", is_dyce_architecture, only="dyce", needs_amodal=False),
    Rule("architecture", is_mp3d_architecture, only="mp3d_amodal", needs_amodal=False),
    Rule("whole image", fills_the_image),
    Rule("few visible pixels", shows_few_pixels, needs_amodal=False),
    Rule("small visible share", shows_a_small_share),
    Rule("occlusion band", outside_the_band, only="walt"),
)


# ------------------------------------------------------------------------------------------------------- cleaning


@dataclass(frozen=True)
class CleaningReport:
    """What `clean` removed. `instances_in` = the sum of `removed` + `instances_out`."""

    name: str
    split: str
    images_in: int
    images_out: int  # images with no instance left (or none to begin with) are dropped
    instances_in: int
    instances_out: int
    removed: dict[str, int] = field(default_factory=dict)  # by rule, in the order of RULES; 0 where it found nothing

    def rows(self) -> list[dict[str, str | int]]:
        """One row a step, ready for a table: dataset, split, step, instances."""
        steps = {"in": self.instances_in} | {rule: -count for rule, count in self.removed.items()}
        steps |= {"out": self.instances_out}
        return [{"dataset": self.name, "split": self.split, "step": step, "instances": n} for step, n in steps.items()]


def clean(dataset: AmodalDataset, config: DataConfig) -> tuple[AmodalDataset, CleaningReport]:
    """A data set without the instances that one of RULES removes, and without the images that are left empty.

    Args:
        dataset: as `load_dataset` gives it; its name decides which rules apply. It is not changed.
        config: its `cleaning` holds the thresholds.

    Returns:
        the cleaned data set, possibly empty, and the report, in which every removed instance counts for one rule.
    """
    rules = [rule for rule in RULES if rule.only in (None, dataset.name)]
    removed = {rule.name: 0 for rule in rules}
    images = []
    for image in dataset:
        kept = []
        for instance in image.instances:
            reason = _first_rule(rules, image, instance, config.cleaning)
            if reason is None:
                kept.append(instance)
            else:
                removed[reason] += 1
        if kept:
            images.append(replace(image, instances=tuple(kept)))
    report = CleaningReport(
        name=dataset.name,
        split=dataset.split,
        images_in=len(dataset),
        images_out=len(images),
        instances_in=sum(len(image.instances) for image in dataset),
        instances_out=sum(len(image.instances) for image in images),
        removed=removed,
    )
    cleaned = AmodalDataset(
        dataset.name, dataset.root, dataset.split, dataset.categories, images, dataset.skipped, dataset.frequencies
    )
    return cleaned, report


def _first_rule(rules: list[Rule], image: AmodalImage, instance: AmodalInstance, config: CleaningConfig) -> str | None:
    amodal = None if instance.amodal_rle is None else instance.area
    pixels = image.height * image.width
    candidate = Candidate(instance.category, instance.is_stuff, pixels, instance.visible_area, amodal)
    for rule in rules:
        if not (rule.needs_amodal and amodal is None) and rule.removes(candidate, config):
            return rule.name
    return None


def cleaning_table(reports: Sequence[CleaningReport]) -> list[dict[str, str | int | None]]:
    """One row a data set: instances in, removed by each rule (None where a rule does not apply), out."""
    rules = dict.fromkeys(rule for report in reports for rule in report.removed)
    return [
        {"data set": report.name, "in": report.instances_in}
        | {rule: report.removed.get(rule) for rule in rules}
        | {"out": report.instances_out}
        for report in reports
    ]
