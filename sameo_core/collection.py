"""The data sets of a profile: drawn where the profile is miniature, freed of what teaches nothing."""

from dataclasses import replace

from sameo_core.config import Profile
from sameo_core.datasets import AmodalDataset, load_dataset
from sameo_core.datasets.base import AmodalInstance
from sameo_core.errors import InputError
from sameo_core.miniature import draw_dataset


def open_dataset(name: str, split: str, profile: Profile) -> AmodalDataset:
    """A data set as its files say, nothing removed; in `mini` the files are drawn when they are not there yet.

    Args:
        name: e.g. "cocoa_cls".
        split: "train" or "val".
        profile: decides where the files lie and how many images are drawn.

    Raises:
        InputError: the files are missing (paper), damaged, or the set is unknown.
    """
    root = profile.data_folder / name
    if profile.name == "mini":
        images = profile.data.train_images if split == "train" else profile.data.val_images
        draw_dataset(name, root, split, images)
    return load_dataset(name, root, split)


def open_clean_dataset(name: str, split: str, profile: Profile) -> AmodalDataset:
    """`open_dataset` without stuff and without objects that hardly show (profile: `drop_stuff`, `min_visible_*`)."""
    dataset = open_dataset(name, split, profile)

    def usable(item: AmodalInstance) -> bool:
        if profile.data.drop_stuff and item.is_stuff:
            return False
        if item.visible_area < profile.data.min_visible_pixels:
            return False
        return item.amodal_rle is None or 1 - item.occlusion_rate >= profile.data.min_visible_share

    images = [replace(image, instances=tuple(filter(usable, image.instances))) for image in dataset]
    images = [image for image in images if image.instances]
    if not images:
        rule = "no object is left after cleaning"
        raise InputError(file=dataset.root, rule=rule, remedy="Lower min_visible_pixels or min_visible_share")
    return AmodalDataset(dataset.name, dataset.root, split, dataset.categories, images, dataset.skipped)
