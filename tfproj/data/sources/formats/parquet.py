"""Parquet files of a Hugging Face image data set, for classification.

The images stay in memory as they are encoded, since a training reads them in any order.
"""

from __future__ import annotations

import itertools
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
    labels = {s: [name for _, names, _ in read for name in names] for s, read in tables.items()}
    listed = tables["train"][0][2] or listed_classes(folder, findings)
    classes, index_of = numbered({*itertools.chain(*labels.values())}, listed, files[0])
    splits = {
        s: _split([column for column, _, _ in read], [index_of[n] for n in labels[s]])
        for s, read in tables.items()
    }
    return dataset_of(folder, "classify", classes, splits, sources(folder, files))


def _split(columns: list[Any], labels: list[int]) -> Split:
    starts = np.cumsum([0, *map(len, columns)])

    def read_image(index: int) -> bytes:
        part = int(np.searchsorted(starts, index, "right")) - 1
        return columns[part][index - int(starts[part])].as_py()

    names = [str(index) for index in range(len(labels))]
    return Split(names, read_image, np.array(labels, np.int32))


def _read_table(path: Path) -> tuple[Any, list[str], list[str]]:
    """Encoded images as a column of Arrow, label by row, and the class names as far as listed."""
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
    return (
        images,
        [_name(value, listed, f"{path}: row {row}") for row, value in enumerate(labels)],
        listed,
    )


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
