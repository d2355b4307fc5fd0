"""``tfproj data check --deep``: what the pictures of a data set say of its labels and splits."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tfproj import backend
from tfproj.core import image
from tfproj.core.thumbnails import encode, thumbnail
from tfproj.core.words import plural
from tfproj.data.check_report import Deep
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Finding
from tfproj.errors import InputError
from tfproj.evaluation.features import Look, look_at
from tfproj.evaluation.label_errors import FEW, label_errors
from tfproj.evaluation.likeness import Leaks, near_duplicates, neighbours, out_of_place
from tfproj.models.encoder_names import LITE0

MANY = 20  # pictures that say what is usual
SHOWN = 24  # of each kind, with pictures
THUMB = 128  # px


def examine(dataset: Dataset, known: Iterable[Finding] = ()) -> Deep:
    """Look at all pictures through the encoder.

    Args:
        dataset: with its splits.
        known: what the check has found; its duplicates are not told again.

    Raises:
        InputError: no training picture can be read, or the encoder's weights are missing.
    """
    begin = time.perf_counter()
    if not len(dataset.splits.get("train", ())):
        raise InputError(f"{dataset.name}: no training images, so --deep has nothing to look at")
    if any(split.labels is not None and split.labels.ndim > 1 for split in dataset.splits.values()):
        raise InputError(f"{dataset.name}: images of several labels, which --deep can't judge yet")
    backend.setup()
    look = look_at(dataset)
    found, unjudged = [], list(_unjudged(dataset, look))
    if look.labels is not None:
        found += label_errors(look, dataset.classes)
    if len(look) > 1:
        rows, values = neighbours(look.features)
        leaks = Leaks(look, rows)
        copies = {finding.path for finding in known if finding.code == "duplicate"}
        found += leaks.findings()
        found += near_duplicates(look, leaks.explain, copies)
        if len(look) >= MANY:
            found += out_of_place(look, values)
    seconds = time.perf_counter() - begin
    return Deep(tuple(found), len(look), f"{LITE0} at {look.side} px", seconds, tuple(unjudged))


def _unjudged(dataset: Dataset, look: Look) -> Iterator[str]:
    """What could not be looked for, and why."""
    if look.labels is None:
        yield "label errors: masks are not compared with their images"
        return
    counts = np.bincount(look.labels, minlength=len(dataset.classes))
    few = [name for name, count in zip(dataset.classes, counts, strict=True) if count < FEW]
    if len(few) > len(counts) - 2:
        yield f"label errors: they take two classes of at least {FEW} images each"
    elif few:
        names = ", ".join(map(repr, few[:5])) + ", ..." * (len(few) > 5)
        yield f"label errors of {names}: fewer than {FEW} images"
    if len(look) < MANY:
        yield f"images out of place: {plural(len(look), 'image')}, fewer than {MANY}"


def record(dataset: Dataset, deep: Deep) -> dict[str, Any]:
    """For a page, in plain JSON types: the first findings of each kind with their pictures."""
    told: Counter[str] = Counter()
    shown = []
    for finding in deep.findings:
        told[finding.code] += 1
        if told[finding.code] <= SHOWN:
            images = [_picture(dataset, *place) for place in finding.images]
            shown.append({"kind": finding.code, "message": str(finding), "images": images})
    return {
        "data": dataset.name,
        "images": deep.images,
        "features": deep.features,
        "unjudged": list(deep.unjudged),
        "counts": dict(told),
        "shown": shown,
    }


def _picture(dataset: Dataset, name: str, index: int) -> dict[str, Any]:
    split = dataset.splits[name]
    label = split.label_of(index)
    small = thumbnail(image.convert(image.open_image(split.read_image(index), label), 3), THUMB)
    content = base64.b64encode(encode(small)[0]).decode()
    given = None if split.labels is None else dataset.classes[split.labels[index]]
    return {"split": name, "file": label, "label": given, "size": small.size, "content": content}
