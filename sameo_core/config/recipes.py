"""Trainings by name: each changes a few fields of a profile, the same for `paper` and `mini`.

    weights = train(recipe("supervised_d2sa", load_profile("paper")))

All other fields keep the profile's values. Iterations are in `RecipesConfig`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sameo_core.config.profiles import DataConfig, Profile, TrainingConfig
from sameo_core.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """A description, and the changes to a profile: field -> value."""

    sentence: str
    changes: Callable[[Profile], dict[str, object]]


def recipe(name: str, profile: Profile) -> Profile:
    """The profile that trains one of `RECIPES`: `train(recipe(name, profile), seed)`.

    Recipes that give the same training share one run.

    Raises:
        InputError: an unknown name; a data mix of more sets than the profile has.
    """
    if name not in RECIPES:
        rule = f"a recipe is one of {', '.join(RECIPES)}; found {name!r}"
        raise InputError(file="recipe", rule=rule, remedy="Choose one of these names")
    return profile.override(**RECIPES[name].changes(profile))


def ablation(question: str, profile: Profile) -> dict[str, Profile]:
    """The arms of an ablation (`QUESTIONS`, `PHOTO_QUESTIONS`) by recipe name; the last is the paper's choice.

    All arms train for the same number of iterations; in `mini` without `unoccluded_share`, which would hide the effect
    of data and prompts.

    Raises:
        InputError: an unknown question.
    """
    questions = QUESTIONS | PHOTO_QUESTIONS
    if question not in questions:
        rule = f"a question is one of {', '.join(questions)}; found {question!r}"
        raise InputError(file="question", rule=rule, remedy="Choose one of these")
    names = questions[question]
    if question == "data mix":
        names = names[: len(profile.data.train)]
    return {name: recipe(name, profile) for name in names}


def teacher_profile(profile: Profile) -> Profile:
    """The profile of the teacher: fine-tuned on the amodal sets without LVIS (paper), without `unoccluded_share`.

    That share keeps a decoder from over-predicting. In a teacher, over-prediction only costs some complete objects;
    under-prediction would let occluded ones pass. Ablations do not change the teacher, so that all arms train on the
    same Amodal-LVIS.

    Without amodal sets (`photo`), it trains on an Amodal-LVIS of objects that geometry alone finds complete.
    """
    return recipe("teacher", profile)


FIRST_PAIRS = 600  # images made from the first pool: enough for a teacher


def geometry(profile: Profile) -> dict[str, object]:
    """The changes for the first pool, without a teacher: objects that touch no other annotated one."""
    fields: dict[str, object] = {"ask_teacher": False, "min_free_ring": 0.94, "complete_objects": None}
    return fields | {"visible_only": profile.data.visible_only[:1]}


def _zero_shot(profile: Profile) -> dict[str, object]:
    return {"train": tuple(name for name in profile.data.train if name not in profile.data.held_out)}


def _supervised(name: str) -> Recipe:
    def changes(profile: Profile) -> dict[str, object]:
        held_out = tuple(other for other in profile.data.held_out if other != name)
        return {"train": (name,), "held_out": held_out, "iterations": getattr(profile.recipes, f"{name}_iterations")}

    return Recipe(f"The training split of {name} alone, tested on its validation split.", changes)


def _teacher(profile: Profile) -> dict[str, object]:
    judged = {"amodal_lvis", *profile.data.visible_only}
    fields: dict[str, object] = {"train": tuple(name for name in profile.data.teacher if name not in judged)}
    fields |= {"unoccluded_share": None, "dual_annotation": True, "iterations": profile.recipes.teacher_iterations}
    plain = TrainingConfig()
    fields |= {"amodal_prompt_share": plain.amodal_prompt_share, "sampling": plain.sampling}
    fields |= {"half_embeddings": plain.half_embeddings, "prompt_jitter": 0.0, "complete_objects": None}
    if profile.data.teacher:
        return fields
    fields |= {"train": ("amodal_lvis",), "synthetic_images": FIRST_PAIRS, "learning_rate": plain.learning_rate}
    return fields | geometry(profile)


def _arm(sentence: str, **fields: object) -> Recipe:
    """An arm of an ablation; prompts, sampling and dual annotation are the paper's unless the arm changes them."""
    plain = TrainingConfig()
    recipe: dict[str, object] = {"amodal_prompt_share": plain.amodal_prompt_share, "sampling": plain.sampling}
    recipe |= {"dual_annotation": DataConfig().dual_annotation}

    def changes(profile: Profile) -> dict[str, object]:
        share = None if profile.name == "mini" else profile.training.unoccluded_share
        own = {"unoccluded_share": share, "iterations": profile.recipes.ablation_iterations}
        return recipe | own | _zero_shot(profile) | fields

    return Recipe(sentence, changes)


def _mix(count: int) -> Recipe:
    whole = _arm("")

    def changes(profile: Profile) -> dict[str, object]:
        fields: dict[str, Any] = whole.changes(profile)
        if count > len(fields["train"]):
            rule = f"{count} sets, found {len(fields['train'])}: {', '.join(fields['train'])}"
            raise InputError(file=f"profile {profile.name}", record="train", rule=rule, remedy="Choose a smaller mix")
        return fields | {"train": fields["train"][:count]}

    return Recipe(f"Ablation, data mix: training sets 1 to {count}.", changes)


SUPERVISED = ("cocoa_cls", "d2sa", "muva")  # the paper trains a model on each of them alone

RECIPES: dict[str, Recipe] = {
    "zero_shot": Recipe("All training sets but the held-out ones (COCOA-cls and D2SA): the main result.", _zero_shot),
    **{f"supervised_{name}": _supervised(name) for name in SUPERVISED},
    "teacher": Recipe(
        "The amodal sets without LVIS: the teacher that finds complete objects for Amodal-LVIS.", _teacher
    ),
    "prompt_amodal": _arm("Ablation, training prompt: amodal boxes only.", amodal_prompt_share=1.0),
    "prompt_visible": _arm("Ablation, training prompt: visible boxes only.", amodal_prompt_share=0.0),
    "prompt_random": _arm("Ablation, training prompt: half amodal, half visible boxes, as in the paper."),
    "dual_off": _arm("Ablation, dual annotation: only the occluded objects of Amodal-LVIS.", dual_annotation=False),
    "dual_on": _arm("Ablation, dual annotation: occluded and un-occluded objects of Amodal-LVIS, as in the paper."),
    "alone_dual_off": _arm(
        "Ablation, dual annotation: Amodal-LVIS alone, only its occluded objects.",
        train=("amodal_lvis",),
        dual_annotation=False,
    ),
    "alone_dual_on": _arm(
        "Ablation, dual annotation: Amodal-LVIS alone, occluded and un-occluded.", train=("amodal_lvis",)
    ),
    **{f"mix_{count}": _mix(count) for count in range(1, 1 + len(DataConfig().train))},
    "sampling_uniform": _arm("Ablation, sampling: every data set equally often.", sampling="uniform"),
    "sampling_size": _arm("Ablation, sampling: every image equally often.", sampling="size"),
    "sampling_log": _arm("Ablation, sampling: by the logarithm of a set's size, as in the paper."),
}

FEW_PAIRS = 240  # images an arm; few, since each arm needs its own
OBJECTS = {
    f"objects_{count or 'all'}": _arm(
        f"Ablation, complete objects: {FEW_PAIRS} images made from {count or 'all'} objects of each source.",
        complete_objects=count,
        synthetic_images=FEW_PAIRS,
    )
    for count in (25, 50, 100, None)
}
RECIPES |= OBJECTS
RECIPES["coco_alone"] = _arm(
    f"Ablation, sources: {FEW_PAIRS} images made from all objects of COCO's photographs alone.",
    visible_only=("coco_photos",),
    complete_objects=None,
    synthetic_images=FEW_PAIRS,
)

# The arms of each ablation. prompt_random, dual_on, sampling_log and the last mix are one training.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "training prompt": ("prompt_amodal", "prompt_visible", "prompt_random"),
    "dual annotation": ("dual_off", "dual_on"),
    "dual annotation alone": ("alone_dual_off", "alone_dual_on"),
    "data mix": tuple(name for name in RECIPES if name.startswith("mix_")),
    "sampling": ("sampling_uniform", "sampling_size", "sampling_log"),
}

# On photographs, where Amodal-LVIS is the only training set
PHOTO_QUESTIONS: dict[str, tuple[str, ...]] = {
    "training prompt": QUESTIONS["training prompt"],
    "dual annotation alone": QUESTIONS["dual annotation alone"],
    "complete objects": tuple(OBJECTS),
    "sources": ("coco_alone", "objects_all"),
}
