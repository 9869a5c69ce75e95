"""Amodal data sets, each read from its files as distributed: `load_dataset(name, root, split)`."""

from sameo_core.datasets.base import AmodalImage, AmodalInstance
from sameo_core.datasets.cleaning import clean, cleaning_table
from sameo_core.datasets.coco import coco_number
from sameo_core.datasets.dataset import AmodalDataset, Census
from sameo_core.datasets.registry import READERS, load_dataset
from sameo_core.datasets.sources import load_sources

__all__ = [
    "READERS",
    "AmodalDataset",
    "AmodalImage",
    "AmodalInstance",
    "Census",
    "clean",
    "cleaning_table",
    "coco_number",
    "load_dataset",
    "load_sources",
]
