"""scikit-learn's handwritten digits, which need no download."""

from __future__ import annotations

import numpy as np

from tfproj.data.dataset import DataOptions, Dataset, array_split
from tfproj.errors import missing_extra


def digits(options: DataOptions) -> Dataset:
    """scikit-learn's copy of the UCI handwritten digits, 8 x 8, values 0..16 scaled to 0..255."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to load, and optional
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    # No official test split exists: every fifth example, in the stored order.
    test = np.arange(len(images)) % 5 == 4
    split = array_split(images, bunch.target)
    return Dataset(
        name="digits",
        task="classify",
        classes=tuple(str(name) for name in bunch.target_names),
        splits={
            "train": split.subset(np.flatnonzero(~test)),
            "test": split.subset(np.flatnonzero(test)),
        },
        size=(8, 8),
        channels=1,
        origin="scikit-learn",
        license="Handwritten Digits, UCI, CC BY 4.0 (Alpaydin, Kaynak, 1998)",
    )
