"""A CSV of files and labels, such as Hugging Face's ``metadata.csv``, for classification."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.core.words import is_number, nfc
from tfproj.data.dataset import Dataset, Split
from tfproj.data.findings import Findings
from tfproj.data.sources.class_tables import NAMES
from tfproj.data.sources.files import dataset_of
from tfproj.data.sources.formats.annotations import (
    SPLIT_OF,
    base_of,
    by_split,
    located,
    within,
)
from tfproj.data.sources.formats.shapes import names_of
from tfproj.data.sources.tables import read_classes, read_csv, warn_of_columns
from tfproj.errors import InputError

# What tools call the columns, the likeliest first.
FILE = ("file", "file_name", "filename", "image", "image_path", "path")
LABEL = ("label", "class", "category", "target")
SEPARATORS = "[|;]"  # of several labels in one cell
LOOKED_AT = 10  # files, to find the folder of all


def found(folder: Path) -> str:
    """The tables of a directory; empty where there is none."""
    return ", ".join(path.relative_to(folder).as_posix() for path in _tables(folder)[:3])


def _tables(folder: Path) -> list[Path]:
    """CSV files with a column of each kind."""
    return [path for path in csv_files(folder) if all(_columns(path))]


def csv_files(folder: Path) -> list[Path]:
    """CSV files at the top and in the folders of splits, but for tables of classes and groups."""
    places = [folder, *(folder / name for name in SPLIT_OF if (folder / name).is_dir())]
    paths = [path for place in places for path in image.list_visible(place)]
    return [p for p in paths if p.suffix == ".csv" and p.name not in (*NAMES, "groups.csv")]


def _columns(path: Path) -> tuple[str | None, str | None]:
    """The names of the two columns, as far as there are such."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = [name.strip().strip('"').lower() for name in file.readline(4096).split(",")]
    except (OSError, UnicodeDecodeError):
        head = []
    file, label = (next((n for n in names if n in head), None) for names in (FILE, LABEL))
    return file, label


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; files that are missing are findings."""
    tables = _tables(folder)
    if not tables:
        raise InputError(f"{folder}: no CSV with a column {FILE[0]!r} and a column {LABEL[0]!r}")
    entries: dict[str, dict[Path, str]] = {}
    for split, path in by_split(tables, "a table").items():
        _read_table(folder, path, split, entries, findings)
    if "train" not in entries:
        raise InputError(f"{tables[0]}: names no file to train on")
    listed = listed_classes(folder, findings)
    labels = {label for files in entries.values() for label in files.values()}
    if not listed:
        _require_single(labels, tables[0])
    classes, index_of = numbered(labels, listed, tables[0])
    splits = {split: _split(folder, files, index_of) for split, files in entries.items()}
    return dataset_of(folder, "classify", classes, splits, sources(folder, tables))


def _require_single(labels: set[str], place: Path) -> None:
    """InputError where a label looks like several: its parts are those of others, too."""
    parts = {label: {*re.split(SEPARATORS, label)} for label in labels}
    counts = Counter(part for some in parts.values() for part in some)
    for label, some in parts.items():
        if len(some) > 1 and any(counts[part] > 1 for part in some):
            raise InputError(
                f"{place}: {label!r} looks like several labels of one image; add --multi-label, or "
                "list it in classes.csv if it is one class"
            )


def listed_classes(folder: Path, findings: Findings) -> list[str]:
    """The names in ``classes.csv``; none where there is no such file."""
    return [row["name"] for row in read_classes(folder, findings)]


def sources(folder: Path, tables: list[Path]) -> list[Path]:
    """The tables, and ``classes.csv`` where it exists."""
    return [*tables, *(path for path in [folder / "classes.csv"] if path.is_file())]


def numbered(labels: set[str], listed: list[str], place: Path) -> tuple[list[str], dict[str, int]]:
    """The classes in their order, and the index of each label: a name, or a number of one.

    Args:
        labels: that occur.
        listed: the classes, where a table lists them.
        place: what error messages call the labels.
    """
    classes = listed or sorted(labels, key=lambda text: (is_number(text) and int(text), text))
    index_of = {name: index for index, name in enumerate(classes)}
    if not labels <= {*classes} and all(label.isdecimal() for label in labels):
        index_of = {str(index): index for index in range(len(classes))}
    if unknown := sorted(labels - index_of.keys()):
        raise InputError(f"{place}: {unknown[0]!r} is not one of the listed classes")
    return classes, index_of


def _read_table(
    folder: Path, path: Path, split: str, entries: dict[str, dict[Path, str]], findings: Findings
) -> None:
    """Add the rows of one table: label by file, by split."""
    columns = _columns(path)
    for key, file, row, place in rows_of(folder, path, split, columns, findings):
        label = nfc(row[columns[1]])
        if not label:
            raise InputError(f"{place}: its label is empty (with --multi-label it may be)")
        if entries.setdefault(key, {}).setdefault(file, label) != label:
            raise InputError(
                f"{place}: has two labels, {label!r} and {entries[key][file]!r}; keep one, or add "
                "--multi-label"
            )


def rows_of(
    folder: Path, path: Path, split: str, columns: Sequence[str], findings: Findings
) -> Iterator[tuple[str, Path, dict[str, str], str]]:
    """(split, file, row, what messages call it) of each row; a missing file is a finding.

    Args:
        columns: that are read; the first names the file.
    """
    rows = read_csv(path, *columns)
    warn_of_columns(rows, (*columns, "split"), path, findings)
    names = [row[columns[0]] for row in rows]
    base = base_of(folder, path.parent, names[:LOOKED_AT], split, str(path))
    for name, row in zip(names, rows, strict=True):
        place = f"{path}: {name!r}"
        file = located(within(folder, base, name, place), path, findings)
        told = row.get("split", "").lower()
        if told not in ("", *SPLIT_OF):
            raise InputError(f"{place}: its split {told!r} is not known")
        if file is not None:
            key = SPLIT_OF.get(told) or SPLIT_OF.get(file.relative_to(folder).parts[0], split)
            yield key, file, row, place


def _split(folder: Path, label_of: dict[Path, str], index_of: dict[str, int]) -> Split:
    files = list(label_of)
    return Split(
        names=names_of(files, folder),
        read_image=lambda i: files[i],
        labels=np.array([index_of[label] for label in label_of.values()], np.int32),
        files=files,
    )
