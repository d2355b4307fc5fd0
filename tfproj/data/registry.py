"""The data sources by name, and the one function that turns a name into splits."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tfproj.core.files import expand_home
from tfproj.core.spec import check_multi_label
from tfproj.data.dataset import DataOptions, Dataset
from tfproj.data.findings import Finding
from tfproj.data.sources.digits import digits
from tfproj.data.sources.facades import facades
from tfproj.data.sources.fashion_mnist import fashion_mnist
from tfproj.data.sources.formats.recognise import directory_dataset
from tfproj.data.sources.synthetic import synthetic_facades
from tfproj.data.sources.tfds import tfds_dataset
from tfproj.data.splits import finish, with_label_sets
from tfproj.errors import InputError, unknown_name


@dataclass(frozen=True)
class Source:
    """One entry of the registry.

    Attributes:
        task: ``classify`` or ``segment``.
        summary: one line for ``tfproj data list``.
        build: options -> data set with the splits that the source itself has.
        files: it is read from files of the user's.
    """

    task: str
    summary: str
    build: Callable[[DataOptions], Dataset]
    files: bool = True


DATASETS: dict[str, Source] = {
    "fashion_mnist": Source("classify", "70,000 grey 28 x 28 clothes, 10 classes", fashion_mnist),
    "digits": Source(
        "classify", "1,797 grey 8 x 8 digits, 10 classes; comes with scikit-learn", digits, False
    ),
    "facades": Source(
        "segment", "Mini Facade folder or the CMP Facade Database, 5 classes", facades
    ),
    "synthetic_facades": Source(
        "segment", "facades drawn by this package, 5 classes", synthetic_facades, False
    ),
}


def load_dataset(name: str, task: str | None = None, options: DataOptions | None = None) -> Dataset:
    """Find a data set and make its splits; refuse it where that shows a fault.

    Args, Raises:
        As :func:`read_dataset`; what would be an error among its findings is raised, too.
    """
    options = options or DataOptions()
    dataset = read_dataset(name, task, options)
    require_sound(dataset, dataset.findings)
    dataset = finish(dataset, options)
    require_sound(dataset, dataset.findings)
    return dataset


def require_sound(dataset: Dataset, findings: Iterable[Finding]) -> None:
    """InputError for the first error, which names the command that lists all."""
    for finding in findings:
        if finding.severity == "error":
            if not finding.path:  # a matter of the options, which the command would not show
                raise InputError(finding.message)
            command = f"tfproj data check {shlex.quote(dataset.name)}"
            if dataset.name in DATASETS and Path(dataset.origin).is_dir():
                command += f" --data-dir {shlex.quote(dataset.origin)}"
            raise InputError(f"{finding} ({command} lists all problems)")


def read_dataset(name: str, task: str | None, options: DataOptions) -> Dataset:
    """The data set with the splits that its source has; its findings say what is wrong with it.

    Args:
        name: a key of :data:`DATASETS`, ``tfds:NAME``, or a directory (see ``formats``).
        task: what it is needed for; a mismatch is an error. None: whatever it is.
        options: where it lies.

    Raises:
        InputError: unknown name, wrong task, nothing there, or nothing that can be used.
    """
    name = expand_home(name)
    if options.multi_label:
        check_multi_label(True, task or "classify")
        task = "classify"
    named = name in DATASETS or name.startswith("tfds:")
    if named and options.format is not None:
        raise InputError(f"--format is for directories; {name!r} is a data set by name")
    if name in DATASETS:
        source = DATASETS[name]
        if task not in (None, source.task):
            raise InputError(f"data set {name!r} is for {source.task}, not {task}")
        if options.data_dir is not None and not source.files:
            raise InputError(f"--data-dir: the data set {name!r} needs no files; leave it out")
        dataset = source.build(options)
    elif name.startswith("tfds:"):
        dataset = tfds_dataset(name.removeprefix("tfds:"), task, options)
    elif os.sep in name or Path(name).is_dir():
        if options.data_dir is not None:
            raise InputError(f"--data-dir is for named data sets; {name!r} is a directory itself")
        if options.group_modulus and (Path(name) / "groups.csv").exists():
            raise InputError(f"{name}: groups.csv and --group-modulus both give groups; use one")
        dataset = directory_dataset(Path(name), task, options.format, options.multi_label)
    else:
        raise unknown_name("unknown data set (or directory)", name, [*DATASETS, "tfds:NAME"])
    if task not in (None, dataset.task):
        raise InputError(f"data set {name!r} is for {dataset.task}, not {task}")
    return with_label_sets(dataset) if options.multi_label else dataset
