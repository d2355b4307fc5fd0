"""Which examples a training sees: groups, the held-out validation split, class order, limit."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfproj.data.dataset import SPLITS, DataOptions, Dataset, Split
from tfproj.data.findings import Findings
from tfproj.data.masks import class_table_of
from tfproj.errors import InputError

# The validation split must not change with the training seed, or runs could not be compared.
SPLIT_SEED = 302


def finish(dataset: Dataset, options: DataOptions) -> Dataset:
    """Groups, the held-out validation split, the class order of a run, and the limit.

    What goes wrong on the way is among the findings of the result.

    Raises:
        InputError: a class that the run does not know.
    """
    splits, findings = dict(dataset.splits), Findings(dataset.findings)
    if options.group_modulus:
        with findings.catch("", "groups"):
            for name, split in splits.items():
                groups = numbered_groups(split.names, options.group_modulus)
                splits[name] = dataclasses.replace(split, groups=groups)
    notes = list(dataset.notes)
    if "test" in splits and not len(splits["test"]):
        del splits["test"]  # as competitions have it, images without labels
        notes.append("no examples in 'test'; it is left out")
    if "val" not in splits and "train" in splits:
        with findings.catch("", "split"):
            splits["train"], splits["val"] = _parted(dataset, splits["train"], options)
    splits = {name: splits[name] for name in SPLITS if name in splits}
    dataset = dataclasses.replace(
        dataset, splits=splits, notes=tuple(notes), findings=tuple(findings)
    )
    if options.classes is not None:
        dataset = _reorder(dataset, options.classes)
    if options.limit is not None:
        dataset = _limited(dataset, options.limit)
    return dataset


def with_label_sets(dataset: Dataset) -> Dataset:
    """The data set with labels uint8 (N, classes), and a note where each image has one label."""
    one_hot, splits, notes = np.eye(len(dataset.classes), dtype=np.uint8), {}, dataset.notes
    for name, split in dataset.splits.items():
        labels = one_hot[split.labels] if split.labels.ndim == 1 else split.labels
        splits[name] = dataclasses.replace(split, labels=labels)
    if all((split.labels.sum(1) == 1).all() for split in splits.values()):
        notes = (*notes, "every image has one label, of which --multi-label makes no use")
    return dataclasses.replace(dataset, splits=splits, notes=notes)


def numbered_groups(names: Sequence[str], modulus: int) -> np.ndarray:
    """The last number in each name modulo ``modulus``: int64 (N,)."""
    numbers = [re.findall(r"\d+", Path(name).stem) for name in names]
    if not all(numbers):
        first = names[[bool(n) for n in numbers].index(False)]
        raise InputError(f"group_modulus needs a number in every file name; {first!r} has none")
    return np.array([int(n[-1]) % modulus for n in numbers])


def _parted(dataset: Dataset, split: Split, options: DataOptions) -> tuple[Split, Split]:
    """(Train, validation): as an earlier run has it, if there was one."""
    chosen = np.isin(split.names, options.held_out or ())
    if chosen.any() and not chosen.all():
        return split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))
    return hold_out(split, options.val_fraction, dataset.may_grow)


def hold_out(split: Split, fraction: float, may_grow: bool = False) -> tuple[Split, Split]:
    """Deterministic (train, validation) parts; whole groups stay together.

    Without groups, classification keeps the class proportions; with groups about so, and every
    class that has two of them is in both parts.

    Args:
        may_grow: each group (or example) is drawn by its name alone. So what more of them there are
            does not move it, unless it is the only one held out of its class; the share of a small
            set is then less exact.

    Raises:
        InputError: too few examples, or no group but holds all training examples of a class.
    """
    rng = None if may_grow else np.random.default_rng(SPLIT_SEED)
    labels = np.zeros(len(split), np.int32) if split.labels is None else split.labels
    groups = split.groups
    if groups is None and labels.ndim == 2:  # an image is of several classes, as a group is
        groups = np.array(split.names, str)
    if groups is not None:
        chosen = np.isin(groups, _held_groups(groups, labels, fraction, rng))
    else:
        chosen = np.zeros(len(split), bool)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            numbers = _numbers([split.names[i] for i in members], rng)
            held = np.argsort(numbers, kind="stable")[: _held_count(numbers, fraction)]
            chosen[members[held]] = True
    if not chosen.any():
        where = " in groups that are each the only one of a class" * (split.groups is not None)
        raise InputError(
            f"{len(split)} training example(s){where} are too few to hold out a validation split; "
            "add examples or a val split"
        )
    return split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))


def _held_groups(
    groups: np.ndarray, labels: np.ndarray, fraction: float, rng: np.random.Generator | None
) -> np.ndarray:
    """The groups to hold out, none of them the last that training has of a class.

    First of every class its share, beginning with the rarest; then any, up to the share of all.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if labels.ndim == 2:
        has = np.zeros((len(names), labels.shape[1]), bool)
        np.logical_or.at(has, group_of, labels > 0)
    else:
        has = np.zeros((len(names), labels.max(initial=0) + 1), bool)
        has[group_of, labels] = True
    left, held = has.sum(0), np.zeros(len(names), bool)
    numbers = _numbers(names, rng)
    order = np.argsort(numbers, kind="stable")
    drawn = numbers < fraction
    shares = []
    for label in np.argsort(left, kind="stable"):
        members = has[:, label]
        # Of a set that may grow each group is drawn for itself, so that none moves.
        share = int(left[label] * fraction) if rng else np.count_nonzero(drawn & members)
        shares.append((members, max(1, share)))
    shares.append((np.ones(len(names), bool), _held_count(numbers, fraction)))
    for members, wanted in shares:
        count = np.count_nonzero(held & members)
        for group in order[members[order]]:
            if count >= wanted:
                break
            if not held[group] and (left[has[group]] > 1).all():
                held[group] = True
                count += 1
                left -= has[group]
    return names[held]


def _numbers(names: Sequence, rng: np.random.Generator | None) -> np.ndarray:
    """A number in [0, 1) for each name: evenly spaced in a drawn order, or a hash of the name."""
    if rng is not None:
        numbers = np.empty(len(names))
        numbers[rng.permutation(len(names))] = np.arange(len(names)) / max(1, len(names))
        return numbers
    texts = (f"{SPLIT_SEED}/{name}".encode("utf-8", "surrogateescape") for name in names)
    heads = [int.from_bytes(hashlib.sha256(text).digest()[:6], "big") for text in texts]
    return np.array(heads, float) / 2**48


def _held_count(numbers: np.ndarray, fraction: float) -> int:
    """How many are below ``fraction``: at least one, and never all, since a class must keep one."""
    return max(0, min(max(1, np.count_nonzero(numbers < fraction)), len(numbers) - 1))


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
    splits = {k: _relabelled(split, table, len(classes)) for k, split in dataset.splits.items()}
    colors = dataset.colors if len(dataset.colors) == len(classes) else ()
    if colors:
        colors = tuple(dataset.colors[dataset.classes.index(name)] for name in classes)
    return dataclasses.replace(dataset, classes=tuple(classes), splits=splits, colors=colors)


def _relabelled(split: Split, table: np.ndarray, classes: int) -> Split:
    read_mask, labels = split.read_mask, split.labels
    if labels is not None and labels.ndim == 2:
        labels = labels @ np.eye(classes, dtype=labels.dtype)[table]
    elif labels is not None:
        labels = table[labels]
    return dataclasses.replace(
        split,
        labels=labels,
        read_mask=None if read_mask is None else lambda i: class_table_of(table)[read_mask(i)],
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
        if split.labels.ndim == 2:
            present = split.labels.any(0)
            first = np.unique(split.labels[order][:, present].argmax(0))
        else:
            first = np.unique(split.labels[order], return_index=True)[1]
        order = np.concatenate([order[first], np.delete(order, first)])
    return np.sort(order[:count])
