"""The data sets of a profile: drawn where the profile is miniature, freed of what teaches nothing."""

from collections.abc import Mapping
from pathlib import Path

from sameo_core.config import Profile
from sameo_core.datasets import AmodalDataset, clean, load_dataset
from sameo_core.errors import InputError
from sameo_core.miniature import RELATIVE_SIZE, WRITERS, draw_dataset


def open_dataset(name: str, split: str, profile: Profile) -> AmodalDataset:
    """A data set as its files say, nothing removed; in `mini` the files are drawn when they are not there yet.

    Args:
        name: e.g. "cocoa_cls".
        split: "train" or "val".
        profile: decides where the files lie and how many images are drawn: `val_images`, or `train_images` x the
            set's `miniature.RELATIVE_SIZE`.

    Raises:
        InputError: the files are missing (paper), damaged, or the set is unknown; `mini` without a number of images.
    """
    root = profile.data_folder / name
    if profile.name == "mini":
        images = profile.data.train_images if split == "train" else profile.data.val_images
        if images is None:
            rule = f"the drawn world needs a number of images for split {split!r}, found None"
            raise InputError(file="profile mini", rule=rule, remedy="Set train_images and val_images")
        if name in WRITERS:  # amodal_lvis is synthesised, not drawn
            share = RELATIVE_SIZE[name] if split == "train" else 1
            draw_dataset(name, root, split, max(1, round(images * share)))
    return load_dataset(name, root, split)


def open_present(splits: Mapping[str, str], profile: Profile) -> tuple[dict[str, AmodalDataset], dict[str, InputError]]:
    """Of several data sets those that are here, nothing removed, and why each of the others is not.

    Args:
        splits: data set -> "train" or "val".

    Returns:
        data set -> its images, and data set -> the error that says what was looked for, and where.

    Raises:
        InputError: none of them is here.
    """
    present, absent = {}, {}
    for name, split in splits.items():
        try:
            present[name] = open_dataset(name, split, profile)
        except InputError as error:
            absent[name] = error
    if not present:
        rule = f"at least one of {', '.join(splits)} must be here; {next(iter(absent.values()))}"
        remedy = "`python -m sameo_core download NAME` fetches them or says how"
        raise InputError(file=profile.data_folder, rule=rule, remedy=remedy)
    return present, absent


def open_clean_present(
    splits: Mapping[str, str], profile: Profile
) -> tuple[dict[str, AmodalDataset], dict[str, InputError]]:
    """`open_present`, each set cleaned as by `open_clean_dataset`; arguments, result and errors as theirs."""
    present, absent = open_present(splits, profile)
    return {name: _cleaned(dataset, profile) for name, dataset in present.items()}, absent


def open_clean_dataset(name: str, split: str, profile: Profile, root: Path | None = None) -> AmodalDataset:
    """`open_dataset`, cleaned with the profile's thresholds (`cleaning.clean`).

    Args:
        root: the folder of a set that lies elsewhere; it is read as it is.

    Raises:
        InputError: as `open_dataset`, or no object is left.
    """
    return _cleaned(load_dataset(name, root, split) if root else open_dataset(name, split, profile), profile)


def _cleaned(dataset: AmodalDataset, profile: Profile) -> AmodalDataset:
    cleaned, report = clean(dataset, profile.data)
    if not len(cleaned):
        rule = f"no object is left after cleaning: of {report.instances_in} it removed {report.removed}"
        remedy = "Change the thresholds in CleaningConfig (sameo_core/config/profiles.py)"
        raise InputError(file=dataset.root, rule=rule, remedy=remedy)
    return cleaned
