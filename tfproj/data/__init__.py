"""Named data sources. ``load_dataset`` gives the splits; ``pipeline`` turns them into batches."""

from tfproj.data.dataset import DataOptions, Dataset, Split
from tfproj.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "DataOptions", "Dataset", "Split", "load_dataset"]
