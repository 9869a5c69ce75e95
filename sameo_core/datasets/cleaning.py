"""The paper's filters, by name, and a report of what each one removed.

The paper says what is filtered (stuff, architecture, tiny objects, unnatural occlusion in WALT) but gives no
thresholds; ours are in `config.CleaningConfig`, each with its reason. An instance counts for the first rule that
removes it.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from sameo_core.config import CleaningConfig, DataConfig
from sameo_core.datasets.dataset import AmodalDataset, Census

# Tags that SeGAN, the paper of DYCE, maps to the background, and "objects", which it skips. Scene-sized things that it
# keeps (carpet, rug, chimney, lights, cabinets, island, tablecover) are kept here too.
DYCE_ARCHITECTURE = frozenset(
    "ceiling, fan, wall, walls, default, roomcube, door, fireplace, curtain, windows, cube.001, floor, outlet, "
    "objects".split(", ")
)
# Of Matterport3D's 40 categories (mpcat40); our choice. Kept, since they have a shape of their own: curtain, mirror,
# counter, fireplace, blinds, board_panel.
MPCAT40_ARCHITECTURE = frozenset(
    "void wall floor door window stairs ceiling column beam railing misc unlabeled".split()
)


def normalised(category: str) -> str:
    """A tag without its copy number: "Wall (2)", "wall 3", " wall" are all "wall"; "_" is a space."""
    category = re.sub(r"[\s_]+", " ", category.casefold()).strip()
    return re.sub(r"( \(\d+\)| \d+)+$", "", category)


# ---------------------------------------------------------------------------------- predicates: True means removed


Removed = Bool[np.ndarray, " n"]  # one per instance, in the order of the census


def is_stuff(census: Census, config: CleaningConfig) -> Removed:
    """Stuff by the annotators' own flag (COCOA's isStuff); grass and sky have no extent to complete."""
    return census.is_stuff & config.drop_stuff


def is_dyce_architecture(census: Census, config: CleaningConfig) -> Removed:
    """A wall, a floor, ... by its tag in DYCE."""
    return _named(census, DYCE_ARCHITECTURE) & config.drop_architecture


def is_mp3d_architecture(census: Census, config: CleaningConfig) -> Removed:
    """A wall, a floor, ... by its mpcat40 name in MP3D-Amodal."""
    return _named(census, MPCAT40_ARCHITECTURE) & config.drop_architecture


def _named(census: Census, names: Collection[str]) -> Removed:
    return np.array([normalised(name) in names for name in census.names], bool)[census.name]


def fills_the_image(census: Census, config: CleaningConfig) -> Removed:
    """A backdrop: its amodal mask covers more than `max_image_share` of the image."""
    return census.amodal_area > config.max_image_share * census.image_area


def shows_few_pixels(census: Census, config: CleaningConfig) -> Removed:
    """Fewer than `min_visible_pixels` are visible."""
    return census.visible_area < config.min_visible_pixels


def shows_a_small_share(census: Census, config: CleaningConfig) -> Removed:
    """Less than `min_visible_share` of it is visible: too little to complete it from."""
    return census.visible_area < config.min_visible_share * census.amodal_area


def outside_the_band(census: Census, config: CleaningConfig) -> Removed:
    """The occlusion rate is outside `walt_occlusion_band`."""
    low, high = config.walt_occlusion_band
    return ~((low <= census.occlusion_rates) & (census.occlusion_rates <= high))


@dataclass(frozen=True)
class Rule:
    """A predicate, its name in reports, and where it applies."""

    name: str
    removes: Callable[[Census, CleaningConfig], Removed]
    only: str | None = None  # the one data set it applies to; None: all
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
    instances_in: int
    instances_out: int
    removed: dict[str, int]  # by rule, in the order of RULES; 0 if it removed none


def clean(dataset: AmodalDataset, config: DataConfig) -> tuple[AmodalDataset, CleaningReport]:
    """Remove the instances matched by one of RULES, and the images left empty.

    The data set's name selects the rules that apply. Masks are measured once (`AmodalDataset.census`); the cleaned data
    set, possibly empty, reads them on demand, like the original.
    """
    census = dataset.census()
    rules = [rule for rule in RULES if rule.only in (None, dataset.name)]
    removed = {rule.name: 0 for rule in rules}
    kept = np.ones(len(census), bool)
    for rule in rules:
        applies = kept & (census.amodal_area >= 0) if rule.needs_amodal else kept
        found = applies & rule.removes(census, config.cleaning)
        removed[rule.name] += int(found.sum())
        kept &= ~found
    return dataset.select(kept), CleaningReport(dataset.name, len(census), int(kept.sum()), removed)


def cleaning_table(reports: Sequence[CleaningReport]) -> list[dict[str, str | int | None]]:
    """One row per data set: instances in, removed per rule (None if it does not apply), out."""
    rules = dict.fromkeys(rule for report in reports for rule in report.removed)
    return [
        {
            "data set": report.name,
            "in": report.instances_in,
            **{rule: report.removed.get(rule) for rule in rules},
            "out": report.instances_out,
        }
        for report in reports
    ]
