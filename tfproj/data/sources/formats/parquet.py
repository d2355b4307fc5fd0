"""Parquet files of a Hugging Face image data set, for classification.

The images stay in memory as they are encoded, since a training reads them in any order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.words import nfc
from tfproj.data.dataset import Dataset, Split
from tfproj.data.findings import Findings
from tfproj.data.sources.files import dataset_of
from tfproj.data.sources.formats.annotations import SPLIT_OF, split_in
from tfproj.data.sources.formats.label_table import listed_classes, numbered, sources
from tfproj.errors import InputError, first_line, missing_extra

IMAGE, LABEL = ("image", "img"), ("label", "labels", "fine_label")


def found(folder: Path) -> str:
    """A Parquet file of a directory; empty where there is none."""
    return ", ".join(path.relative_to(folder).as_posix() for path in _files(folder)[:1])


def _files(folder: Path) -> list[Path]:
    folders = [folder, *(path for path in image.list_visible(folder) if path.is_dir())]
    return [path for place in folders for path in sorted(place.glob("*.parquet"))]


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; what is damaged is an InputError."""
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: no Parquet file")
    parts: dict[str, list[Path]] = {}
    for path in files:
        split = split_in(path.stem) or SPLIT_OF.get(path.parent.name, "train")
        parts.setdefault(split, []).append(path)
        if path.parent != parts[split][0].parent:
            raise InputError(f"{path}: for {split!r}, as is {parts[split][0]}; keep one folder")
    if "train" not in parts:
        raise InputError(f"{files[0]}: there is no Parquet file for 'train'")
    tables = {split: [_read_table(path) for path in paths] for split, paths in parts.items()}
    rows = {split: [row for _, read in found for row in read] for split, found in tables.items()}
    listed = tables["train"][0][0] or listed_classes(folder, findings)
    labels = {label for found in rows.values() for _, _, label in found}
    classes, index_of = numbered(labels, listed, files[0])
    splits = {split: _split(found, index_of) for split, found in rows.items()}
    return dataset_of(folder, "classify", classes, splits, sources(folder, files))


def _split(rows: list[tuple[str, Any, str]], index_of: dict[str, int]) -> Split:
    return Split(
        names=[name for name, _, _ in rows],
        read_image=lambda i: rows[i][1].as_py(),
        labels=np.array([index_of[label] for _, _, label in rows], np.int32),
    )


def _read_table(path: Path) -> tuple[list[str], list[tuple[str, Any, str]]]:
    """The classes as far as listed, and (name, encoded image as Arrow's scalar, label) by row."""
    try:
        import pyarrow  # noqa: PLC0415 (comes with TFDS in the extra "train")
        import pyarrow.compute  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise missing_extra("pyarrow", "train") from None
    try:
        schema = pyarrow.parquet.read_schema(path)
        picture, label = (_column(schema.names, names, path) for names in (IMAGE, LABEL))
        table = pyarrow.parquet.read_table(path, columns=[picture, label])
        images = pyarrow.compute.struct_field(table[picture], "bytes")
        labels = table[label].to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    if images.null_count:
        raise InputError(f"{path}: column {picture!r}: {images.null_count:,} images without bytes")
    listed = _class_names(schema.metadata or {}, label)
    return listed, [
        (f"{path.stem}-{row}", picture, _name(value, listed, f"{path}: row {row}"))
        for row, (picture, value) in enumerate(zip(images, labels, strict=True))
    ]


def _column(there: list[str], wanted: tuple[str, ...], path: Path) -> str:
    name = next((name for name in wanted if name in there), None)
    if name is None:
        listed = ", ".join(map(repr, there[:20]))
        raise InputError(f"{path}: no column {wanted[0]!r}; there are {listed}")
    return name


def _class_names(metadata: dict[bytes, bytes], label: str) -> list[str]:
    """As the library ``datasets`` notes them with the schema; none where it did not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [nfc(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def _name(value: Any, listed: list[str], place: str) -> str:
    """What a label is called: the class of that number, or what the label says itself."""
    if isinstance(value, str) and value:
        return nfc(value)
    if not isinstance(value, int) or not 0 <= value < (len(listed) or value + 1):
        raise InputError(f"{place}: the label {repr(value)[:40]} is no class")
    return listed[value] if listed else str(value)
