"""What the data of a run were, and whether those found now are the same."""

from __future__ import annotations

from typing import Any

from tfproj.core.files import read_object
from tfproj.data import Dataset
from tfproj.errors import InputError
from tfproj.runs.run import Run


def describe_splits(dataset: Dataset) -> dict[str, Any]:
    """What ``splits.json`` says; the names held out, so that leaks can be seen."""
    return {
        "fingerprint": dataset.fingerprint(),
        "contents": dataset.contents(),
        "counts": {name: len(split) for name, split in dataset.splits.items()},
        "val": list(dataset.splits["val"].names) if "val" in dataset.splits else [],
    }


def held_out_by(run: Run) -> tuple[str, ...] | None:
    """Names that the run holds out, whatever this version would; None: it draws them anew.

    Of a limited run only a part of them is on record.
    """
    return None if run.config().limit else tuple(read_object(run.splits_file).get("val", ()))


def require_same_data(run: Run, dataset: Dataset) -> None:
    """InputError: not the images, labels or contents that the run was started with."""
    begun = read_object(run.splits_file)
    known = begun.get("contents")
    # Runs of early versions have no contents, or the lengths of the files.
    same = known in (None, dataset.contents()) or known == dataset.lengths()
    if not same or begun.get("fingerprint") != dataset.fingerprint():
        why = "the data set is not the one this run was started with, or this version splits it"
        raise InputError(f"{run.path}: {why} or draws it otherwise; its weights: --init RUN")
