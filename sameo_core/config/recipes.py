"""The trainings by name: each is a profile in which a few fields are changed, the same for `paper` and `mini`.

    weights = train(recipe("supervised_d2sa", load_profile("paper")))

Whatever a recipe does not name stays as the profile has it. Lengths are `RecipesConfig` in `profiles.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sameo_core.config.profiles import DataConfig, Profile, TrainingConfig
from sameo_core.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """A sentence that says what is trained, and what is changed for it: field -> value, for a profile."""

    sentence: str
    changes: Callable[[Profile], dict[str, object]]


def recipe(name: str, profile: Profile) -> Profile:
    """The profile that trains a recipe: `train(recipe(name, profile), seed)`.

    Two recipes that come to the same training are the same run, and are trained once.

    Args:
        name: one of `RECIPES`.
        profile: `load_profile("paper")` or `"mini"`, with or without fields of one's own.

    Raises:
        InputError: an unknown name; a data mix of more sets than the profile has.
    """
    if not isinstance(name, str) or name not in RECIPES:
        rule = f"a recipe is one of {', '.join(RECIPES)}; found {name!r}"
        raise InputError(file="recipe", rule=rule, remedy="Choose one of these names")
    return profile.override(**RECIPES[name].changes(profile))


def ablation(question: str, profile: Profile) -> dict[str, Profile]:
    """The arms that answer a question, by the names of their recipes; the last is the one that the paper stands by.

    All arms of all questions have the same number of iterations and take objects as they come (`unoccluded_share` of
    `mini` would hide what data and prompts do).

    Args:
        question: one of `QUESTIONS` or `PHOTO_QUESTIONS`.
        profile: as for `recipe`.

    Raises:
        InputError: an unknown question.
    """
    questions = QUESTIONS | PHOTO_QUESTIONS
    if not isinstance(question, str) or question not in questions:
        rule = f"a question is one of {', '.join(questions)}; found {question!r}"
        raise InputError(file="question", rule=rule, remedy="Choose one of these")
    names = questions[question]
    if question == "data mix":
        names = names[: len(profile.data.train)]
    return {name: recipe(name, profile) for name in names}


def teacher_profile(profile: Profile) -> Profile:
    """The profile of the teacher: fine-tuned on the amodal sets without LVIS (paper), on their objects as they come.

    `unoccluded_share` holds a decoder back from continuing objects. A teacher is not: one that continues too much
    costs complete objects, one that continues too little lets cut ones pass. What an ablation varies is not varied
    here, so that all arms learn from the same Amodal-LVIS.

    Where there are no amodal sets (`photo`), its Amodal-LVIS is made of the objects that geometry alone finds complete.
    """
    return recipe("teacher", profile)


FIRST_PAIRS = 600  # images made of the first pool: enough for a teacher


def geometry(profile: Profile) -> dict[str, object]:
    """The changes for a first pool, where no teacher exists: objects that touch no other annotated one."""
    fields: dict[str, object] = {"ask_teacher": False, "min_free_ring": 0.94, "complete_objects": None}
    return fields | {"visible_only": profile.data.visible_only[:1]}


def _zero_shot(profile: Profile) -> dict[str, object]:
    return {"train": tuple(name for name in profile.data.train if name not in profile.data.held_out)}


def _supervised(name: str) -> Recipe:
    def changes(profile: Profile) -> dict[str, object]:
        held_out = tuple(other for other in profile.data.held_out if other != name)
        return {"train": (name,), "held_out": held_out, "iterations": getattr(profile.recipes, f"{name}_iterations")}

    return Recipe(f"The training split of {name} alone, to be judged on its validation split.", changes)


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
    """An arm of an ablation; what no arm varies is the paper's, whatever the profile says."""
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

    return Recipe(f"Ablation, data mix: number 1 to {count} of the training sets.", changes)


SUPERVISED = ("cocoa_cls", "d2sa", "muva")  # the sets that the paper trains a model for, each alone

RECIPES: dict[str, Recipe] = {
    "zero_shot": Recipe("All training sets but the held-out ones (COCOA-cls and D2SA): the main result.", _zero_shot),
    **{f"supervised_{name}": _supervised(name) for name in SUPERVISED},
    "teacher": Recipe(
        "The amodal sets without LVIS: the teacher that finds complete objects for Amodal-LVIS.", _teacher
    ),
    "prompt_amodal": _arm("Ablation, training prompt: amodal boxes only.", amodal_prompt_share=1.0),
    "prompt_visible": _arm("Ablation, training prompt: visible boxes only.", amodal_prompt_share=0.0),
    "prompt_random": _arm("Ablation, training prompt: amodal or visible boxes, half and half, as the paper trains."),
    "dual_off": _arm("Ablation, dual annotation: of Amodal-LVIS the occluded objects only.", dual_annotation=False),
    "dual_on": _arm("Ablation, dual annotation: the objects of Amodal-LVIS occluded and un-occluded, as the paper."),
    "alone_dual_off": _arm(
        "Ablation, dual annotation: nothing but Amodal-LVIS, occluded objects only.",
        train=("amodal_lvis",),
        dual_annotation=False,
    ),
    "alone_dual_on": _arm(
        "Ablation, dual annotation: nothing but Amodal-LVIS, occluded and un-occluded.", train=("amodal_lvis",)
    ),
    **{f"mix_{count}": _mix(count) for count in range(1, 1 + len(DataConfig().train))},
    "sampling_uniform": _arm("Ablation, sampling: every data set as often as any other.", sampling="uniform"),
    "sampling_size": _arm("Ablation, sampling: every image as often as any other.", sampling="size"),
    "sampling_log": _arm("Ablation, sampling: by the logarithm of a set's size, as the paper samples."),
}

FEW_PAIRS = 400  # images of every arm of the question below: what differs is how many objects they are made of
OBJECTS = {
    f"objects_{count or 'all'}": _arm(
        f"Ablation, complete objects: {FEW_PAIRS} images made of {count or 'all'} of them.",
        complete_objects=count,
        synthetic_images=FEW_PAIRS,
    )
    for count in (25, 50, 100, None)
}
RECIPES |= OBJECTS
RECIPES["coco_alone"] = _arm("Ablation, sources: objects of COCO's photographs alone.", visible_only=("coco_photos",))

# What the ablations ask, and what answers. prompt_random, dual_on, sampling_log and the last mix are one training.
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
    "dual annotation": QUESTIONS["dual annotation"],
    "complete objects": tuple(OBJECTS),
    "sources": ("coco_alone", "prompt_random"),
}
