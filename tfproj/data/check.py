"""Is a data set fit to train on? ``tfproj data check DATA`` looks at every file of it.

:func:`quick_check` is what ``tfproj train`` asks first: it reads a few examples only and stops
at the first fault. :func:`check` reads everything and lists all faults. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.core.spec import MAX_NAME, is_class_name
from tfproj.data.check_report import ClassCount, Report, SplitReport, format_report
from tfproj.data.dataset import DataOptions, Dataset, Split
from tfproj.data.findings import Problem, complain, noting, warn
from tfproj.data.masks import require_same_size
from tfproj.data.registry import DATASETS, load_dataset
from tfproj.errors import InputError

__all__ = [
    "ClassCount",
    "Problem",
    "Report",
    "SplitReport",
    "check",
    "format_report",
    "quick_check",
]

# Examples of each split that quick_check reads.
QUICK_EXAMPLES = 8
# A class with so small a share of what the most frequent has is hardly learned.
RARE = 0.01


def quick_check(dataset: Dataset) -> None:
    """The faults that can be seen in moments; returns where there is none.

    Raises:
        InputError: the first fault, and the command that lists all.
    """
    try:
        _check_names(dataset, None)
        _check_counts(dataset, None)
        _check_groups(dataset, None)
        for split in dataset.splits.values():
            count = min(QUICK_EXAMPLES, len(split))
            for index in np.linspace(0, len(split) - 1, count).astype(int):
                _read_example(split, int(index))
    except InputError as error:
        hint = f"tfproj data check {shlex.quote(dataset.name)}"
        if dataset.name in DATASETS and Path(dataset.origin).is_dir():
            hint += f" --data-dir {shlex.quote(dataset.origin)}"
        raise InputError(f"{error} ({hint} lists all problems)") from None


def _read_example(split: Split, index: int) -> None:
    label = split.label_of(index)
    picture = image.open_image(split.read_image(index), label)
    if split.read_mask is not None:
        require_same_size(picture.size[::-1], split.read_mask(index).shape, label)


def _check_names(dataset: Dataset, problems: list[Problem] | None) -> None:
    """Every class is called something that an exported file may carry."""
    for name in dataset.classes:
        if not is_class_name(name):
            message = (
                f"the class name {name[:20]!r} is no line of text of at most {MAX_NAME} "
                "characters; rename it"
            )
            complain(problems, "classes", dataset.name, message)


def _check_counts(dataset: Dataset, problems: list[Problem] | None) -> None:
    """Something to train and to validate on, in at least two classes, each with examples."""
    name = dataset.name
    for split in ("train", "val"):
        if not len(dataset.splits.get(split, ())):
            complain(problems, "split", name, f"no examples in the split {split!r}")
    if dataset.task == "classify" and "train" in dataset.splits:
        labels = dataset.splits["train"].labels
        present = set(np.unique(labels).tolist())
        if len(present) == 1 and len(dataset.classes) > 1:
            only = dataset.classes[present.pop()]
            message = f"all training examples are of the class {only!r}; there must be two or more"
            complain(problems, "classes", name, message)
        elif len(present) < len(dataset.classes):
            missing = [c for i, c in enumerate(dataset.classes) if i not in present]
            complain(problems, "classes", name, f"no training example of {_some(missing)}")


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"class {', '.join(map(repr, names[:shown]))}{more}"


def _check_groups(dataset: Dataset, problems: list[Problem] | None) -> None:
    """No object is seen in training and in validation or, as a warning, in the test."""
    groups = {name: split.groups for name, split in dataset.splits.items()}
    for other, tell in (("val", complain), ("test", warn)):
        if groups.get("train") is None or groups.get(other) is None:
            continue
        shared = np.intersect1d(groups["train"], groups[other])
        if len(shared):
            message = (
                f"{len(shared):,} group(s), such as {str(shared[0])!r}, are in 'train' and in "
                f"{other!r}; keep a group's files in one split"
            )
            tell(problems, "groups", dataset.name, message)


def check(name: str, options: DataOptions | None = None, task: str | None = None) -> Report:
    """Read a whole data set and list what is wrong with it.

    Args:
        name, options, task: as for :func:`tfproj.data.load_dataset`.

    Raises:
        InputError: there is no such data set at all, or it is for another task.
    """
    problems: list[Problem] = []
    options = dataclasses.replace(options or DataOptions(), problems=problems)
    dataset = load_dataset(name, task, options)
    for note in dataset.notes:
        warn(problems, "note", dataset.name, note)
    if not {"classes", "layout", "split"} & {problem.kind for problem in problems}:
        _check_counts(dataset, problems)  # else these faults follow from those
    _check_names(dataset, problems)
    _check_groups(dataset, problems)
    reader = _Reader(dataset, problems)
    splits = {split: reader.read(split) for split in dataset.splits}
    for split, report in splits.items():
        _check_balance(split, report, problems)
    return Report(
        name=dataset.name,
        task=dataset.task,
        origin=dataset.origin,
        classes=dataset.classes,
        splits=splits,
        problems=tuple(sorted(problems, key=lambda problem: problem.severity)),
    )


def _check_balance(split: str, report: SplitReport, problems: list[Problem]) -> None:
    """Note classes that are absent or rare, by their images or, for segmentation, pixels."""
    shares = {name: c.pixels for name, c in report.classes.items() if c.pixels is not None}
    counts = shares or {name: c.images for name, c in report.classes.items()}
    absent = [name for name, count in counts.items() if not count]
    if not counts or len(absent) == len(counts):
        return
    largest = max(counts, key=counts.get)
    if shares and split == "train" and len(absent) == len(counts) - 1:
        complain(problems, "classes", split, f"all pixels are of class {largest!r}")
    elif absent and (shares or split != "train"):  # else _check_counts tells
        warn(problems, "balance", split, f"no example of {_some(absent)}")
    for name, count in counts.items():
        if split == "train" and 0 < count < RARE * counts[largest]:
            share = count / counts[largest]
            warn(problems, "balance", split, f"class {name!r} is rare: {share:.2%} of {largest!r}")


@dataclass(frozen=True)
class _Picture:
    """What is kept of an image: (height, width), Pillow mode, digest of its pixels."""

    size: tuple[int, int]
    mode: str
    digest: bytes


class _Reader:
    """Reads all examples, one at a time; of each it keeps some hundred bytes."""

    def __init__(self, dataset: Dataset, problems: list[Problem]):
        self._dataset, self._problems = dataset, problems
        self._by_bytes: dict[bytes, _Picture] = {}
        self._first: dict[bytes, tuple[str, int]] = {}

    def read(self, name: str) -> SplitReport:
        """Read one split; ``train`` must come first."""
        split = self._dataset.splits[name]
        sides, modes = (array("L"), array("L")), Counter()
        pixels, images = np.zeros((2, 256), np.int64)
        for index in _progress(len(split), name):
            picture = self._picture(split, index)
            if picture is not None:
                modes[picture.mode] += 1
                for side, value in zip(sides, picture.size, strict=True):
                    side.append(value)
                self._compare(name, index, picture.digest)
            if split.read_mask is not None:
                counts = self._mask_counts(split, index, picture)
                pixels += counts
                images += counts > 0
        if split.labels is not None:
            images = np.bincount(split.labels, minlength=len(self._dataset.classes))
        height, width = map(_range, sides)
        classes = self._classes(images, None if split.read_mask is None else pixels)
        return SplitReport(len(split), classes, height, width, dict(modes.most_common()))

    def _classes(self, images: np.ndarray, pixels: np.ndarray | None) -> dict[str, ClassCount]:
        total = 1 if pixels is None else max(1, int(pixels.sum()))
        return {
            name: ClassCount(int(images[i]), None if pixels is None else int(pixels[i]) / total)
            for i, name in enumerate(self._dataset.classes)
        }

    def _picture(self, split: Split, index: int) -> _Picture | None:
        label = split.label_of(index)
        with noting(self._problems, "unreadable"):
            source = split.read_image(index)
            if isinstance(source, (str, os.PathLike)):
                source = image.read_bytes(source, label)
            if not isinstance(source, bytes):
                return self._decoded(source, label)
            # The bytes first: copies need not be decoded.
            key = _digest(source)
            if key not in self._by_bytes:
                self._by_bytes[key] = self._decoded(source, label)
            return self._by_bytes[key]
        return None

    def _decoded(self, source: image.ImageLike, label: str) -> _Picture:
        picture = image.open_image(source, label)
        pixels = image.to_array(picture, None, self._dataset.channels)
        digest = _digest(repr(pixels.shape).encode(), np.ascontiguousarray(pixels))
        return _Picture(picture.size[::-1], picture.mode, digest)

    def _mask_counts(self, split: Split, index: int, picture: _Picture | None) -> np.ndarray:
        """Pixels of each class index, int64 (256,); zeros where the mask can't be used."""
        with noting(self._problems, "mask"):
            mask = split.read_mask(index)
            if picture is not None:
                require_same_size(picture.size, mask.shape, split.label_of(index))
            return np.bincount(mask.ravel(), minlength=256)
        return np.zeros(256, np.int64)

    def _compare(self, name: str, index: int, digest: bytes) -> None:
        """Note an image that was seen before."""
        if digest not in self._first:
            self._first[digest] = (name, index)
            return
        first_name, first_index = self._first[digest]
        split, first = self._dataset.splits[name], self._dataset.splits[first_name]
        where, label = f"{first.label_of(first_index)} in {first_name!r}", split.label_of(index)
        if split.labels is not None and split.labels[index] != first.labels[first_index]:
            names = [self._dataset.classes[s.labels[i]] for s, i in ((first, first_index),
                                                                      (split, index))]  # fmt: skip
            message = f"same image, two labels: {names[1]!r}, but {names[0]!r} as {where}"
            complain(self._problems, "duplicate", label, message)
        elif first_name == "train" and name != "train":
            message = f"in {name!r}, but the same image as {where}; remove one of them"
            complain(self._problems, "duplicate", label, message)
        else:
            warn(self._problems, "duplicate", label, f"the same image as {where}")


def _digest(*parts: bytes | np.ndarray) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _range(values: array) -> tuple[int, int, int] | None:
    if not values:
        return None
    return min(values), int(np.median(values)), max(values)


def _progress(count: int, name: str) -> Iterator[int]:
    """Indices with a bar on stderr, where that is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except ImportError:
        return iter(range(count))
    return iter(tqdm(range(count), name, unit="image", leave=False, disable=None, file=sys.stderr))
