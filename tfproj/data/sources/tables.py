"""``classes.csv`` and ``groups.csv`` of a user's directory; :mod:`folder` says what they hold."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import re
from pathlib import Path, PurePosixPath

import numpy as np

from tfproj.core.words import nfc
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.masks import MaskCoding
from tfproj.errors import InputError

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
MAX_BYTES = 2**30  # twice COCO's own largest file
# What else tools call the column with the mask values.
VALUE_COLUMNS = ("id", "index", "label")


def class_folder(name: str) -> str:
    """The folder of a class: its name, with ``_`` for what a file name can't hold."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]|^\.', "_", name)


def read_classes(folder: Path, findings: Findings, required: bool = False) -> list[dict[str, str]]:
    """Rows of ``classes.csv``; empty where there is no such file and none is required.

    Columns that are not read are among the findings.

    Raises:
        InputError: missing though required, unreadable, or not as described in :mod:`folder`.
    """
    path = folder / "classes.csv"
    if not path.is_file():
        if required:
            raise InputError(
                f"{path}: missing; list the classes in the order of the mask values, one per "
                "line under the header 'name' (columns 'color' and 'value' are optional)"
            )
        return []
    rows = read_csv(path, "name")
    _settle_columns(rows, path, findings)
    require_classes(rows, path)
    if required and len(rows) < 2:
        raise InputError(f"{path}: lists one class; segmentation needs at least two")
    return rows


def require_classes(rows: list[dict[str, str]], path: Path) -> None:
    """InputError unless each class has a name of its own, and colors are ``#RRGGBB``."""
    names = [row["name"] for row in rows]
    if len({class_folder(name) for name in names}) != len(names) or not all(names):
        raise InputError(f"{path}: every class needs a name of its own")
    for row in rows:
        if row.get("color") and not re.fullmatch(r"#[0-9A-Fa-f]{6}", row["color"]):
            raise InputError(f"{path}: color {row['color']!r} is not #RRGGBB")


def _settle_columns(rows: list[dict[str, str]], path: Path, findings: Findings) -> None:
    """Other spellings become the known columns; what is not read is said."""
    for row in rows:
        row["name"] = nfc(row["name"])
        if "color" not in row and "colour" in row:
            row["color"] = row.pop("colour")
    if "value" not in rows[0]:
        columns = [c for c in VALUE_COLUMNS if all(row.get(c, "").isdecimal() for row in rows)]
        if len({tuple(row[column] for row in rows) for column in columns}) > 1:
            listed = " or ".join(map(repr, columns))
            raise InputError(f"{path}: {listed} may hold the mask values; call one column 'value'")
        for row in rows if columns else ():
            row["value"] = [row.pop(column) for column in columns][0]
    warn_of_columns(rows, ("name", "color", "value"), path, findings)
    without = [row["name"] for row in rows if not row.get("color", "-")]
    if 0 < len(without) < len(rows):
        message = f"the colors are not used, since {without[0]!r} has none; give one to each class"
        findings.warn(path, "ignored", message)


def warn_of_columns(
    rows: list[dict[str, str]], known: tuple[str, ...], path: Path, findings: Findings
) -> None:
    """A finding for each column that is not read."""
    for column in sorted(rows[0].keys() - {*known}):
        message = f"ignored: the column {column!r}; read are {', '.join(known)}"
        findings.warn(path, "ignored", message)


def mask_coding(listed: list[dict[str, str]], path: Path) -> MaskCoding:
    """Mask values and colours of the classes that the table at ``path`` lists."""
    stated = any(row.get("value") for row in listed)
    values = [row.get("value", "") if stated else str(i) for i, row in enumerate(listed)]
    numbers = [int(v) if re.fullmatch("[0-9]{1,3}", v) else 256 for v in values]
    if max(numbers) > 255 or len(set(numbers)) != len(numbers):
        raise InputError(
            f"{path}: values must be different numbers 0..255, not "
            f"{', '.join(value or 'nothing' for value in values[:20])}"
        )
    colors = [row["color"].upper() for row in listed if row.get("color")]
    if len(set(colors)) != len(colors):
        raise InputError(f"{path}: colors must differ, or masks can't tell them")
    return MaskCoding(tuple(numbers), colors_of(listed), stated)


def colors_of(listed: list[dict[str, str]]) -> tuple[str, ...]:
    """``#RRGGBB`` of the listed classes; empty unless all have one."""
    colors = tuple(row.get("color", "").upper() for row in listed)
    return colors if colors and all(colors) else ()


def read_text(path: Path) -> str:
    """A text file; InputError where it is missing, too large, or no UTF-8."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MB")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no UTF-8 text (byte {error.start:,})") from None


def read_csv(path: Path, *required: str) -> list[dict[str, str]]:
    """Lines by column; the names of columns in lower case."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    header, *lines = [line for line in lines if any(line)] or [[]]
    columns = [name.lower() for name in header]
    if not lines or not {*required} <= {*columns}:
        raise InputError(
            f"{path}: expected a header line with {','.join(required)} and lines below it"
        )
    if len({*columns}) < len(columns):
        raise InputError(f"{path}: two columns have one name: {','.join(header)}")
    for line in lines:
        if len(line) > len(columns):
            raise InputError(f"{path}: {','.join(line)!r} has more fields than the header")
    return [dict(itertools.zip_longest(columns, line, fillvalue="")) for line in lines]


def header(path: Path) -> list[str]:
    """The names of a CSV's columns, as they are spelled there."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [name.strip() for name in next(filter(any, csv.reader(file)), [])]


def with_listed_groups(dataset: Dataset, folder: Path, findings: Findings) -> Dataset:
    """The data set with the groups of ``groups.csv``, where there is such a file.

    Lines that fit no image, and images on no line, are among the findings.
    """
    path = folder / "groups.csv"
    if not path.is_file():
        return dataset
    rows = read_csv(path, "file", "group")
    warn_of_columns(rows, ("file", "group"), path, findings)
    group_of: dict[str, str] = {}
    for row in rows:
        if group_of.setdefault(_spelled(row["file"]), row["group"]) != row["group"]:
            raise InputError(f"{path}: {row['file']!r} is in two groups")
    line_of = {
        (key, name): next(filter(group_of.get, _forms(key, name)), None)
        for key, split in dataset.splits.items()
        for name in split.names
    }
    alone = [f"{key}/{name}" for (key, name), line in line_of.items() if line is None]
    if line_of and len(alone) == len(line_of):
        first = next(iter(line_of))[1]
        raise InputError(f"{path}: lists none of the images, which have names like {first!r}")
    if unused := sorted(group_of.keys() - {*line_of.values()}):
        message = f"{len(unused):,} of {len(group_of):,} lines fit no image, such as {unused[0]!r}"
        findings.warn(path, "groups", message)
    if alone:
        message = (
            f"lists {len(alone):,} of {len(line_of):,} images not, such as {alone[0]!r}; each is "
            "a group of its own"
        )
        findings.warn(path, "groups", message)
    splits = {}
    for key, split in dataset.splits.items():
        # Another split may have a file of the same name.
        lines = [(line_of[key, name], f"{key}/{name}") for name in split.names]
        groups = np.array([group_of[line] if line else own for line, own in lines], str)
        splits[key] = dataclasses.replace(split, groups=groups)
    return dataclasses.replace(dataset, splits=splits)


def _forms(key: str, name: str) -> list[str]:
    """How ``groups.csv`` may call an image, the most exact first."""
    path = PurePosixPath(_spelled(name))
    exact = (f"{folder}/{path}" for folder in SPLIT_FOLDERS[key])
    return [*exact, str(path), path.name, path.stem]


def _spelled(name: str) -> str:
    """As a path of Linux, in one spelling of Unicode."""
    return str(PurePosixPath(nfc(name.replace("\\", "/"))))
