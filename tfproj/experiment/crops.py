"""Training on parts of photographs at their own scale: how many there are, and what is void."""

from __future__ import annotations

import dataclasses

from tfproj.data.dataset import Dataset, Split, median_size
from tfproj.data.masks import IGNORE
from tfproj.errors import InputError

# An epoch of more would be long between two validations.
MOST_CROPS = 4096


def crops_per_epoch(split: Split, crop: tuple[int, int] | None) -> int:
    """Crops (height, width) that would cover the split's photographs once; without: its examples.

    Sizes are taken from the median of a sample. At least one for each photograph; where that is
    not more, ``MOST_CROPS`` at most.
    """
    if crop is None:
        return len(split)
    height, width = median_size(split)
    each = max(1.0, height / crop[0]) * max(1.0, width / crop[1])
    return max(len(split), min(round(len(split) * each), MOST_CROPS))


def with_void(dataset: Dataset) -> Dataset:
    """Data whose masks may be void, as is a crop beyond its photograph, and a letterbox's rest.

    Raises:
        InputError: the number that stands for it is a class.
    """
    if len(dataset.classes) > IGNORE:
        raise InputError(
            f"void pixels leave room for {IGNORE} classes; there are {len(dataset.classes)}"
        )
    return dataclasses.replace(dataset, void=True)
