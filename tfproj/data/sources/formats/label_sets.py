"""Several labels an image, or none: from a CSV, and what other formats build on.

A file has a row for each of its labels, or one row with ``cat|dog`` (or ``cat;dog``), or one row
with 0 or 1 in the column of each class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfproj.core.words import nfc
from tfproj.data.dataset import Dataset, Split
from tfproj.data.findings import Findings
from tfproj.data.sources.files import dataset_of
from tfproj.data.sources.formats.annotations import by_split
from tfproj.data.sources.formats.label_table import (
    FILE,
    LABEL,
    SEPARATORS,
    csv_files,
    listed_classes,
    numbered,
    rows_of,
    sources,
)
from tfproj.data.sources.formats.shapes import names_of
from tfproj.data.sources.tables import header, read_csv
from tfproj.errors import InputError

# Also the names of a column that holds several.
LABELS = (*LABEL, "labels", "classes", "categories", "tags")
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}

Entries = dict[str, dict[Path, set[str]]]  # the labels of each file, by split


def found(folder: Path) -> str:
    """The tables of a directory; empty where there is none."""
    return ", ".join(path.relative_to(folder).as_posix() for path in _tables(folder)[:3])


def _tables(folder: Path) -> list[Path]:
    tables = []
    for path in csv_files(folder):
        try:
            rows = read_csv(path)
        except InputError:
            continue
        if _file_column(rows) and (_label_column(rows) or len(_flag_columns(rows)) > 1):
            tables.append(path)
    return tables


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; files that are missing are findings."""
    tables = _tables(folder)
    if not tables:
        raise InputError(
            f"{folder}: no CSV with a column {FILE[0]!r} and a column {LABEL[0]!r}, or a column of "
            "0 and 1 for each class"
        )
    listed = listed_classes(folder, findings)
    entries: Entries = {}
    names: dict[str, None] = {}
    for split, path in by_split(tables, "a table").items():
        names |= dict.fromkeys(_read_table(folder, path, split, listed, entries, findings))
    if "train" not in entries:
        raise InputError(f"{tables[0]}: names no file to train on")
    occurring = set().union(*(labels for files in entries.values() for labels in files.values()))
    classes, index_of = numbered(occurring, listed or [*names], tables[0])
    numbers = {
        split: {file: [index_of[label] for label in labels] for file, labels in files.items()}
        for split, files in entries.items()
    }
    return labelled_dataset(folder, classes, numbers, sources(folder, tables))


def labelled_dataset(
    folder: Path,
    classes: Sequence[str],
    numbers: Mapping[str, Mapping[Path, Iterable[int]]],
    annotations: Iterable[Path],
) -> Dataset:
    """The data set of files with any number of classes each, as indices, by split."""
    splits = {}
    for split, files in numbers.items():
        labels = np.zeros((len(files), len(classes)), np.uint8)
        for row, indices in zip(labels, files.values(), strict=True):
            row[list(indices)] = 1
        splits[split] = _split(folder, list(files), labels)
    return dataset_of(folder, "classify", classes, splits, annotations)


def _split(folder: Path, files: list[Path], labels: np.ndarray) -> Split:
    return Split(names_of(files, folder), lambda i: files[i], labels=labels, files=files)


def _file_column(rows: list[dict[str, str]]) -> str | None:
    return next((name for name in FILE if name in rows[0]), None)


def _label_column(rows: list[dict[str, str]]) -> str | None:
    return next((name for name in LABELS if name in rows[0]), None)


def _flag_columns(rows: list[dict[str, str]]) -> list[str]:
    others = [name for name in rows[0] if name not in (*FILE, *LABELS, "split")]
    return [name for name in others if all(row[name].lower() in FLAGS for row in rows)]


def _read_table(
    folder: Path, path: Path, split: str, listed: list[str], entries: Entries, findings: Findings
) -> list[str]:
    """Add the rows of one table; the classes that have a column, in their order."""
    rows = read_csv(path)
    file, label, flags = _file_column(rows), _label_column(rows), _flag_columns(rows)
    if listed:
        flags = [name for name in flags if name in {one.lower() for one in listed}]
    if label and len(flags) > 1:
        raise InputError(
            f"{path}: the labels may be in {label!r}, or in columns of 0 and 1 such as "
            f"{flags[0]!r}; remove one of both, or list the classes in classes.csv"
        )
    name_of = {name.lower(): nfc(name) for name in header(path)}
    separator = "" if flags else _separator(path, {row[label] for row in rows} - {*listed})
    columns = (file, *(flags or [label]))
    for key, image, row, place in rows_of(folder, path, split, columns, findings):
        if flags:
            labels = {name_of[name] for name in flags if FLAGS[row[name].lower()]}
            if entries.get(key, {}).get(image, labels) != labels:
                raise InputError(f"{place}: two rows say other things of it; keep one")
        else:
            parts = row[label].split(separator) if separator else [row[label]]
            parts = [row[label]] if row[label] in listed else parts
            labels = {nfc(part.strip()) for part in parts if part.strip()}
        entries.setdefault(key, {}).setdefault(image, set()).update(labels)
    return [name_of[name] for name in flags]


def _separator(path: Path, cells: set[str]) -> str:
    """What stands between the labels of a cell; nothing where each has one."""
    there = sorted({mark for cell in cells for mark in re.findall(SEPARATORS, cell)})
    if len(there) > 1:
        listed = " and ".join(map(repr, there))
        raise InputError(f"{path}: {listed} stand in labels; part them by one of both")
    return there[0] if there else ""
