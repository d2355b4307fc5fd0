"""What every data source gives: splits of lazily read examples, with classes in a fixed order."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.data.problems import Problem, noting
from tfproj.errors import InputError

SPLITS = ("train", "val", "test")

# The validation split must not change with the training seed, or runs could not be compared.
SPLIT_SEED = 302


@dataclass(frozen=True)
class DataOptions:
    """What a user may say about a data set.

    Attributes:
        data_dir: where it lies; None: the usual places.
        group_modulus: examples whose numbers are equal modulo this belong to one group.
        val_fraction: share of the training groups to hold out where no ``val`` split exists.
        limit: at most so many training examples, and a tenth as many (at least 50) of the others.
        classes: class order of an earlier run, to which labels are matched by name.
        problems: takes what is wrong with the files; None: the first fault is an InputError.
    """

    data_dir: str | None = None
    group_modulus: int | None = None
    val_fraction: float = 0.1
    limit: int | None = None
    classes: tuple[str, ...] | None = None
    problems: list[Problem] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise InputError(f"val_fraction is {self.val_fraction}; it must lie between 0 and 1")


@dataclass(frozen=True)
class Split:
    """Examples of one split, read one by one and in any order.

    Attributes:
        names: one per example, unique in the split: file name or index.
        read_image: index -> source that ``tfproj.core.image.load`` takes.
        labels: int32 (N,) class indices for classification, else None.
        read_mask: index -> uint8 (H, W) class indices for segmentation, else None.
        groups: (N,) group of each example (views of one object), or None.
        files: image files, where the examples are files, else None.
        masks: mask files, likewise.
    """

    names: Sequence[str]
    read_image: Callable[[int], image.ImageLike]
    labels: np.ndarray | None = None
    read_mask: Callable[[int], np.ndarray] | None = None
    groups: np.ndarray | None = None
    files: Sequence[Path] | None = None
    masks: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def label_of(self, index: int) -> str:
        """What error messages call the example: its file where it has one."""
        return str(self.files[index]) if self.files is not None else f"example {self.names[index]}"

    def subset(self, indices: np.ndarray) -> Split:
        """The examples at ``indices`` (int array), in that order."""
        picked = [int(i) for i in indices]
        read_image, read_mask = self.read_image, self.read_mask
        return Split(
            names=[self.names[i] for i in picked],
            read_image=lambda i: read_image(picked[i]),
            labels=None if self.labels is None else self.labels[picked],
            read_mask=None if read_mask is None else lambda i: read_mask(picked[i]),
            groups=None if self.groups is None else self.groups[picked],
            files=None if self.files is None else [self.files[i] for i in picked],
            masks=None if self.masks is None else [self.masks[i] for i in picked],
        )


@dataclass(frozen=True)
class Dataset:
    """Splits and what is true of all of them.

    Attributes:
        name, task: as in the configuration.
        classes: names in label order; ``colors``: one ``#RRGGBB`` each, or empty.
        splits: any of ``train``, ``val``, ``test``.
        size: natural (height, width) for the model input.
        channels: 1 or 3.
        origin: where the examples were found, for people.
        license: terms and source of the data, for the model's record.
        mask_values: what a mask file of the user's holds for each class.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    size: tuple[int, int]
    channels: int
    origin: str
    colors: tuple[str, ...] = ()
    license: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    mask_values: tuple[int, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 over the names and labels of all splits: changes when the examples do."""
        digest = hashlib.sha256(repr((self.task, self.classes)).encode())
        for name in SPLITS:
            if name in self.splits:
                split = self.splits[name]
                digest.update("\n".join((name, *split.names)).encode("utf-8", "surrogateescape"))
                if split.labels is not None:
                    digest.update(split.labels.astype("<i4").tobytes())
        return digest.hexdigest()

    def contents(self) -> str:
        """SHA-256 over the lengths of all files and what masks mean: changes when files do.

        So it is there in a moment; a file that was changed and kept its length is not noticed.
        """
        digest = hashlib.sha256(repr(self.mask_values).encode())
        for split in self.splits.values():
            for file in (*(split.files or ()), *(split.masks or ())):
                digest.update(_length(file).to_bytes(8, "little"))
        return digest.hexdigest()


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # whoever reads it says so
        return 0


def finish(dataset: Dataset, options: DataOptions) -> Dataset:
    """Groups, the held-out validation split, the class order of a run, and the limit."""
    splits = dict(dataset.splits)
    if options.group_modulus:
        with noting(options.problems, "groups"):
            splits = {k: _with_groups(s, options.group_modulus) for k, s in splits.items()}
    notes = list(dataset.notes)
    if "test" in splits and not len(splits["test"]):
        del splits["test"]  # as competitions have it, images without labels
        notes.append("no examples in 'test'; it is left out")
    if "val" not in splits and "train" in splits:
        with noting(options.problems, "split"):
            splits["train"], splits["val"] = hold_out(splits["train"], options.val_fraction)
    splits = {name: splits[name] for name in SPLITS if name in splits}
    dataset = dataclasses.replace(dataset, splits=splits, notes=tuple(notes))
    if options.classes is not None:
        dataset = _reorder(dataset, options.classes)
    if options.limit is not None:
        dataset = _limited(dataset, options.limit)
    return dataset


def numbered_groups(names: Sequence[str], modulus: int) -> np.ndarray:
    """The last number in each name modulo ``modulus``: int64 (N,)."""
    numbers = [re.findall(r"\d+", Path(name).stem) for name in names]
    if not all(numbers):
        first = names[[bool(n) for n in numbers].index(False)]
        raise InputError(f"group_modulus needs a number in every file name; {first!r} has none")
    return np.array([int(n[-1]) % modulus for n in numbers])


def _with_groups(split: Split, modulus: int) -> Split:
    return dataclasses.replace(split, groups=numbered_groups(split.names, modulus))


def hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Deterministic (train, validation) parts; whole groups stay together.

    Without groups, classification keeps the class proportions; with groups about so, and every
    class that has two of them is in both parts.

    Raises:
        InputError: too few examples, or no group but holds all training examples of a class.
    """
    labels = np.zeros(len(split), np.int32) if split.labels is None else split.labels
    if split.groups is not None:
        chosen = np.isin(split.groups, _held_groups(split.groups, labels, fraction))
    else:
        rng = np.random.default_rng(SPLIT_SEED)
        chosen = np.zeros(len(split), bool)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            chosen[rng.permutation(members)[: _held_count(len(members), fraction)]] = True
    if not chosen.any():
        where = " in groups that are each the only one of a class" * (split.groups is not None)
        raise InputError(
            f"{len(split)} training example(s){where} are too few to hold out a validation split; "
            "add examples or a val split"
        )
    return split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))


def _held_groups(groups: np.ndarray, labels: np.ndarray, fraction: float) -> np.ndarray:
    """The groups to hold out, none of them the last that training has of a class.

    First of every class its share, beginning with the rarest; then any, up to the share of all.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    has = np.zeros((len(names), labels.max(initial=0) + 1), bool)
    has[group_of, labels] = True
    left, held = has.sum(0), np.zeros(len(names), bool)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(names))
    shares = [(has[:, c], max(1, int(left[c] * fraction))) for c in np.argsort(left, kind="stable")]
    for members, wanted in (
        *shares,
        (np.ones(len(names), bool), _held_count(len(names), fraction)),
    ):
        for group in order[members[order]]:
            if np.count_nonzero(held & members) >= wanted:
                break
            if not held[group] and (left[has[group]] > 1).all():
                held[group] = True
                left -= has[group]
    return names[held]


def _held_count(count: int, fraction: float) -> int:
    """At least one, and never all: a class must keep an example to learn from."""
    return min(max(1, math.ceil(count * fraction - 1e-9)), count - 1)


def _reorder(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Match labels by class name to the order in which a model learned them."""
    if tuple(dataset.classes) == tuple(classes):
        return dataset
    missing = [name for name in dataset.classes if name not in classes]
    if missing:
        raise InputError(
            f"{dataset.name}: class {missing[0]!r} is not one of the model's: {', '.join(classes)}"
        )
    table = np.array([classes.index(name) for name in dataset.classes], np.int32)
    splits = {name: _relabelled(split, table) for name, split in dataset.splits.items()}
    colors = dataset.colors if len(dataset.colors) == len(classes) else ()
    if colors:
        colors = tuple(dataset.colors[dataset.classes.index(name)] for name in classes)
    return dataclasses.replace(dataset, classes=tuple(classes), splits=splits, colors=colors)


def _relabelled(split: Split, table: np.ndarray) -> Split:
    read_mask = split.read_mask
    return dataclasses.replace(
        split,
        labels=None if split.labels is None else table[split.labels],
        read_mask=None if read_mask is None else lambda i: table.astype(np.uint8)[read_mask(i)],
    )


def _limited(dataset: Dataset, limit: int) -> Dataset:
    rng = np.random.default_rng(SPLIT_SEED)
    splits = {}
    for name, split in dataset.splits.items():
        count = min(len(split), limit if name == "train" else max(50, limit // 10))
        splits[name] = split.subset(_draw(split, count, rng))
    return dataclasses.replace(dataset, splits=splits)


def _draw(split: Split, count: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of ``count`` examples, with every class while there is room for it."""
    order = rng.permutation(len(split))
    if split.labels is not None:
        first = np.unique(split.labels[order], return_index=True)[1]
        order = np.concatenate([order[first], np.delete(order, first)])
    return np.sort(order[:count])
