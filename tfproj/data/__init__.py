"""Data sets by name or directory: found, split, checked and written. No training framework."""

from tfproj.data.dataset import DataOptions, Dataset, Split
from tfproj.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "DataOptions", "Dataset", "Split", "load_dataset"]
