"""Is a data set fit to train on? ``tfproj data check DATA`` looks at every file of it.

:func:`quick_check` is what ``tfproj train`` asks first: it reads a few examples only and stops
at the first fault. :func:`check` reads everything and lists all faults. No TensorFlow here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfproj.core import image
from tfproj.core.spec import MAX_NAME, is_class_name
from tfproj.data.check_report import Report, SplitReport
from tfproj.data.dataset import DataOptions, Dataset, Split
from tfproj.data.examine import Examiner, usable_mask
from tfproj.data.findings import Finding, Findings
from tfproj.data.mask_set import MaskSet
from tfproj.data.registry import read_dataset, require_sound
from tfproj.data.splits import finish

# Examples of each split that quick_check reads.
QUICK_EXAMPLES = 8
# A class with so small a share of what the most frequent has is hardly learned.
RARE = 0.01


def quick_check(dataset: Dataset) -> tuple[Finding, ...]:
    """The faults that can be seen in moments; returns the warnings where there are no errors.

    Raises:
        InputError: the first fault, and the command that lists all.
    """
    found = Findings(dataset.findings)
    for check_one in (_check_names, _check_counts, _check_groups, _check_some_examples):
        found += check_one(dataset)
        require_sound(dataset, found)
    if dataset.task == "classify":
        for name, split in dataset.splits.items():
            if name != "val":  # of which the plan of a training tells more
                found += _check_shares(name, _label_counts(dataset, split))
    return tuple(found)


def check(name: str, options: DataOptions | None = None, task: str | None = None) -> Report:
    """Read a whole data set and list what is wrong with it.

    Args:
        name, options, task: as for :func:`tfproj.data.load_dataset`.

    Raises:
        InputError: there is no such data set at all, or it is for another task.
    """
    return check_dataset(split_dataset(name, options or DataOptions(), task))


def split_dataset(name: str, options: DataOptions, task: str | None = None) -> Dataset:
    """The data set with its splits, whatever is wrong with it; as :func:`check`."""
    return finish(read_dataset(name, task, options), options)


def check_dataset(dataset: Dataset) -> Report:
    """As :func:`check`, of what :func:`split_dataset` gives."""
    findings = Findings(dataset.findings)
    for note in dataset.notes:
        findings.warn(dataset.name, "note", note)
    if not {"classes", "layout", "split"} & {finding.code for finding in findings}:
        findings += _check_counts(dataset)  # else these faults follow from those
    findings += _check_names(dataset)
    findings += _check_groups(dataset)
    examiner = Examiner(dataset)
    splits = {split: examiner.examine(split) for split in dataset.splits}
    findings += [*examiner.findings, *examiner.compared()]
    for split, report in splits.items():
        findings += _check_balance(split, report)
    return Report(
        name=dataset.name,
        task=dataset.task,
        origin=dataset.origin,
        classes=dataset.classes,
        splits=splits,
        findings=tuple(sorted(findings, key=lambda finding: finding.severity)),
    )


def _check_names(dataset: Dataset) -> Iterator[Finding]:
    """Every class is called something that an exported file may carry."""
    for name in dataset.classes:
        if not is_class_name(name):
            message = (
                f"the class name {name[:20]!r} is no line of text of at most {MAX_NAME} "
                "characters; rename it"
            )
            yield Finding(dataset.name, "classes", message)


def _check_counts(dataset: Dataset) -> Iterator[Finding]:
    """Something to train and to validate on, in at least two classes, each with examples."""
    for split in ("train", "val"):
        if not len(dataset.splits.get(split, ())):
            yield Finding(dataset.name, "split", f"no examples in the split {split!r}")
    if dataset.task == "classify" and "train" in dataset.splits:
        counts = dataset.splits["train"].class_counts(len(dataset.classes))
        present = set(np.flatnonzero(counts).tolist())
        if len(present) == 1 and len(dataset.classes) > 1:
            only = dataset.classes[present.pop()]
            message = f"all training examples are of the class {only!r}; there must be two or more"
            yield Finding(dataset.name, "classes", message)
        elif len(present) < len(dataset.classes):
            missing = [c for i, c in enumerate(dataset.classes) if i not in present]
            yield Finding(dataset.name, "classes", f"no training example of {_some(missing)}")


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"class {', '.join(map(repr, names[:shown]))}{more}"


def _check_groups(dataset: Dataset) -> Iterator[Finding]:
    """No object is seen in training and in validation or, as a warning, in the test."""
    groups = {name: split.groups for name, split in dataset.splits.items()}
    for other, severity in (("val", "error"), ("test", "warning")):
        if groups.get("train") is None or groups.get(other) is None:
            continue
        shared = np.intersect1d(groups["train"], groups[other])
        if len(shared):
            message = (
                f"{len(shared):,} group(s), such as {str(shared[0])!r}, are in 'train' and in "
                f"{other!r}; keep a group's files in one split"
            )
            yield Finding(dataset.name, "groups", message, severity)


def _check_some_examples(dataset: Dataset) -> Iterator[Finding]:
    """A few of each split can be read."""
    masks = MaskSet(dataset)
    for split in dataset.splits.values():
        count = min(QUICK_EXAMPLES, len(split))
        for index in np.linspace(0, len(split) - 1, count).astype(int):
            yield from _check_example(split, int(index), masks)
    yield from masks.findings()


def _check_example(split: Split, index: int, masks: MaskSet) -> Findings:
    findings, label = Findings(), split.label_of(index)
    with findings.catch(label, "unreadable"):
        picture = image.open_image(split.read_image(index), label)
        if split.read_mask is not None:
            usable_mask(split, index, picture.size[::-1], findings, masks)
    return findings


def _label_counts(dataset: Dataset, split: Split) -> dict[str, int]:
    counts = split.class_counts(len(dataset.classes)).tolist()
    return dict(zip(dataset.classes, counts, strict=True))


def _check_balance(split: str, report: SplitReport) -> Iterator[Finding]:
    """Classes that are absent or rare, by their images or, for segmentation, pixels."""
    shares = {name: c.pixels for name, c in report.classes.items() if c.pixels is not None}
    counts = shares or {name: c.images for name, c in report.classes.items()}
    yield from _check_shares(split, counts, bool(shares))


def _check_shares(split: str, counts: dict, pixels: bool = False) -> Iterator[Finding]:
    absent = [name for name, count in counts.items() if not count]
    if not counts or len(absent) == len(counts):
        return
    largest = max(counts, key=counts.get)
    if pixels and split == "train" and len(absent) == len(counts) - 1:
        yield Finding(split, "classes", f"all pixels are of class {largest!r}")
    elif absent and (pixels or split != "train"):  # else _check_counts tells
        yield Finding(split, "balance", f"no example of {_some(absent)}", "warning")
    for name, count in counts.items():
        if split == "train" and 0 < count < RARE * counts[largest]:
            share = f"{count / counts[largest]:.2%}"
            message = f"class {name!r} is rare: {share} of {largest!r}"
            yield Finding(split, "balance", message, "warning")
