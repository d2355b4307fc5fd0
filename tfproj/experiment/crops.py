"""How many crops an epoch has that trains on parts of photographs at their own scale."""

from __future__ import annotations

from tfproj.data.dataset import Split, median_size

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
