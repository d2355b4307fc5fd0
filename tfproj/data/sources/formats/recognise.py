"""Which format a directory has, going by what lies in it, and the data set read from it."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tfproj.core import image
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.sources import folder as plain
from tfproj.data.sources.formats import (
    coco,
    label_sets,
    label_table,
    labelme,
    mask_files,
    nnunet,
    parquet,
    voc,
    yolo,
)
from tfproj.data.sources.tables import with_listed_groups
from tfproj.errors import InputError, unknown_name


@dataclass(frozen=True)
class Format:
    """One way in which a directory may hold a data set.

    Attributes:
        task: ``classify`` or ``segment``.
        summary: one line for people.
        found: directory -> what speaks for the format, in words; empty where nothing does.
        read: directory -> the data set with the splits that it has; faults go to the findings.
    """

    task: str
    summary: str
    found: Callable[[Path], str]
    read: Callable[[Path, Findings], Dataset]


def _masks(summary: str, parts: Callable) -> Format:
    found, read = (partial(one, parts) for one in (mask_files.found, mask_files.read))
    return Format("segment", summary, found, read)


FORMATS: dict[str, Format] = {
    "coco": Format("segment", "images, annotations, categories in JSON", coco.found, coco.read),
    "yolo": Format("segment", "data.yaml and text files of polygons", yolo.found, yolo.read),
    "voc": Format("segment", "JPEGImages/ + SegmentationClass/", voc.found, voc.read),
    "labelme": Format("segment", "a JSON file of shapes an image", labelme.found, labelme.read),
    "camvid": _masks("train/ + trainannot/", mask_files.camvid),
    "labels": _masks("images/ + labels/", mask_files.labels),
    "suffix": _masks("a.jpg + a_mask.png in one folder", mask_files.suffix),
    "nnunet": Format("segment", "dataset.json, imagesTr/ + labelsTr/", nnunet.found, nnunet.read),
    "csv": Format("classify", "a CSV of file and label", label_table.found, label_table.read),
    "parquet": Format("classify", "Hugging Face's Parquet", parquet.found, parquet.read),
}
# In the place of those of the same name, where images have several labels.
SEVERAL: dict[str, Format] = {
    "coco": Format("classify", "categories of the annotations", coco.found, coco.read_labels),
    "csv": Format("classify", "a CSV of file and labels", label_sets.found, label_sets.read),
}
PLAIN = "plain"


def directory_dataset(
    folder: Path, task: str | None = None, name: str | None = None, several: bool = False
) -> Dataset:
    """Read a directory in the format that it has.

    Args:
        folder: the directory.
        task: what it is needed for; formats for the other are not considered.
        name: a key of :data:`FORMATS`, or ``plain``; None: recognised by what lies there.
        several: an image may have several labels.

    Raises:
        InputError: an unknown name, several formats fit, or a damaged annotation.
    """
    if name not in (None, PLAIN, *FORMATS):
        raise unknown_name("unknown format", name, [PLAIN, *FORMATS])
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    formats = {**FORMATS, **SEVERAL} if several else FORMATS
    name = name or recognise(folder, task, formats)
    if name == PLAIN:
        return plain.folder_dataset(folder, task)
    findings = Findings()
    dataset = formats[name].read(folder, findings)
    with findings.catch(folder / "groups.csv", "groups"):
        dataset = with_listed_groups(dataset, folder, findings)
    _warn_of_unread(folder, dataset, findings)
    return dataclasses.replace(dataset, findings=tuple(findings))


def recognise(
    folder: Path, task: str | None = None, formats: Mapping[str, Format] = FORMATS
) -> str:
    """The name of a directory's format; ``plain`` where nothing speaks for another.

    Raises:
        InputError: several fit, or one that is for the other task.
    """
    all_fit = {name: words for name, known in formats.items() if (words := known.found(folder))}
    fit = {name: words for name, words in all_fit.items() if task in (None, formats[name].task)}
    if all_fit and (words := plain.evidence(folder, task)):
        fit[PLAIN] = words
    if len(fit) > 1:
        listed = " or ".join(f"{name} ({words})" for name, words in fit.items())
        raise InputError(f"{folder}: may be {listed}; say which with --format {next(iter(fit))}")
    for name, words in all_fit.items():
        if not fit:
            hint = "; add --multi-label to learn what is in an image" if name in SEVERAL else ""
            task_of = formats[name].task
            raise InputError(f"{folder}: {name} ({words}) is for {task_of}, not {task}{hint}")
    several = "" if fit or task == "segment" else label_sets.found(folder)
    if several and not plain.evidence(folder, task):
        raise InputError(f"{folder}: {several} has several labels an image; add --multi-label")
    return next(iter(fit), PLAIN)


def _warn_of_unread(folder: Path, dataset: Dataset, findings: Findings) -> None:
    """A finding for each entry of the directory of which images, or nothing, are not read."""
    files = [f for s in dataset.splits.values() for f in (*(s.files or ()), *(s.masks or ()))]
    used = {*files, *dataset.annotations, folder / "groups.csv"}
    tops = Counter(path.relative_to(folder).parts[0] for path in used)
    for entry in image.list_visible(folder):
        if not tops[entry.name]:
            findings.warn(entry, "ignored", "ignored: no annotation names it")
            continue
        below = (Path(place, name) for place, _, names in os.walk(entry) for name in names)
        left = [p for p in below if p.suffix.lower() in image.SUFFIXES and p not in used]
        if left:
            message = f"ignored: {len(left):,} images that no annotation names, such as {left[0]}"
            findings.warn(entry, "ignored", message)
