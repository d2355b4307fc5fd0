"""``classes.csv`` and ``groups.csv`` of a user's directory; :mod:`folder` says what they hold."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from tfproj.data.dataset import Dataset, Split
from tfproj.data.masks import MaskCoding
from tfproj.errors import InputError

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def class_folder(name: str) -> str:
    """The folder of a class: its name, with ``_`` for what a file name can't hold."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]|^\.', "_", name)


def read_classes(folder: Path, required: bool = False) -> list[dict[str, str]]:
    """Rows of ``classes.csv``; empty where there is no such file and none is required.

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
    rows = _read_csv(path, "name")
    names = [row["name"] for row in rows]
    if len({class_folder(name) for name in names}) != len(names) or not all(names):
        raise InputError(f"{path}: every class needs a name of its own")
    if required and len(names) < 2:
        raise InputError(f"{path}: lists one class; segmentation needs at least two")
    for row in rows:
        if row.get("color") and not re.fullmatch(r"#[0-9A-Fa-f]{6}", row["color"]):
            raise InputError(f"{path}: color {row['color']!r} is not #RRGGBB")
    return rows


def mask_coding(listed: list[dict[str, str]], folder: Path) -> MaskCoding:
    """Mask values and colours of the listed classes."""
    values = [row.get("value") or str(i) for i, row in enumerate(listed)]
    numbers = [int(v) if re.fullmatch("[0-9]{1,3}", v) else 256 for v in values]
    if max(numbers) > 255 or len(set(numbers)) != len(numbers):
        raise InputError(
            f"{folder / 'classes.csv'}: values must be different numbers 0..255, not "
            f"{', '.join(values[:20])}"
        )
    colors = [row["color"].upper() for row in listed if row.get("color")]
    if len(set(colors)) != len(colors):
        raise InputError(f"{folder / 'classes.csv'}: colors must differ, or masks can't tell them")
    return MaskCoding(tuple(numbers), colors_of(listed))


def colors_of(listed: list[dict[str, str]]) -> tuple[str, ...]:
    """``#RRGGBB`` of the listed classes; empty unless all have one."""
    colors = tuple(row.get("color") or "" for row in listed)
    return colors if colors and all(colors) else ()


def _read_csv(path: Path, *required: str) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                {(k or "").strip(): (v or "").strip() for k, v in row.items() if k is not None}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    for column in required:
        if not rows or column not in rows[0]:
            raise InputError(
                f"{path}: expected a header line with {','.join(required)} and lines below it"
            )
    return rows


def with_listed_groups(dataset: Dataset, folder: Path) -> Dataset:
    """The data set with the groups of ``groups.csv``, where there is such a file."""
    path = folder / "groups.csv"
    if not path.is_file():
        return dataset
    group_of = {
        Path(row["file"]).as_posix(): row["group"] for row in _read_csv(path, "file", "group")
    }
    names = [(key, name) for key, split in dataset.splits.items() for name in split.names]
    if names and not any(_listed_group(*each, group_of) for each in names):
        raise InputError(f"{path}: lists none of the images, which have names like {names[0][1]!r}")
    splits = {name: _grouped(name, split, group_of) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits)


def _grouped(key: str, split: Split, group_of: dict[str, str]) -> Split:
    # A file that is not listed is a group of its own; another split may have one of its name.
    groups = [_listed_group(key, name, group_of) or f"{key}/{name}" for name in split.names]
    return dataclasses.replace(split, groups=np.array(groups, dtype=str))


def _listed_group(key: str, name: str, group_of: dict[str, str]) -> str | None:
    path = Path(name)
    exact = (f"{folder}/{path.as_posix()}" for folder in SPLIT_FOLDERS[key])
    forms = (*exact, path.as_posix(), path.name, path.stem)
    return next(filter(None, map(group_of.get, forms)), None)
