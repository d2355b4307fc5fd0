"""LabelMe: one JSON file of shapes beside each image. Later shapes lie on top."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.masks import read_raw_mask
from tfproj.data.sources.classes import Classes
from tfproj.data.sources.formats.annotations import (
    SPLIT_OF,
    class_name,
    field,
    located,
    read_json,
    size_of,
    within,
)
from tfproj.data.sources.formats.shapes import Drawing, drawn_dataset, packed, polygon
from tfproj.errors import InputError

CIRCLE = 360  # corners of what stands for a circle
LOOKED_AT = 5  # JSON files, since a folder may hold thousands


def found(folder: Path) -> str:
    """A LabelMe file of a directory; empty where there is none."""
    for path in itertools.islice(_files(folder), LOOKED_AT):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if b'"shapes"' in data and b'"imagePath"' in data:
            return path.relative_to(folder).as_posix()
    return ""


def _files(folder: Path) -> Iterator[Path]:
    """JSON files at the top and two folders below."""
    for pattern in ("*.json", "*/*.json", "*/*/*.json"):
        yield from sorted(folder.glob(pattern))


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; what is damaged is an InputError, images that are missing are findings."""
    records = {}
    for path in _files(folder):
        record = read_json(path)
        record.pop("imageData", None)  # a copy of the image
        if "shapes" in record:
            records[path] = record
        else:
            findings.warn(path, "ignored", "ignored: JSON without 'shapes'")
    shapes = {path: field(record, "shapes", list, str(path)) for path, record in records.items()}
    names = {
        class_name(shape, "label", f"{path}: shapes[{index}]")
        for path, listed in shapes.items()
        for index, shape in enumerate(listed)
    }
    classes = Classes(sorted(names), folder, drawn=True)
    drawings: dict[str, list[Drawing]] = {"train": []}
    for path, record in records.items():
        text = field(record, "imagePath", str, str(path))
        file = located(within(folder, path.parent, text, str(path)), path, findings)
        if file is not None:
            size = _size(record, file, path)
            regions = [
                _region(shape, classes, size, f"{path}: shapes[{index}]")
                for index, shape in enumerate(shapes[path])
            ]
            split = SPLIT_OF.get(path.relative_to(folder).parts[0], "train")
            drawings.setdefault(split, []).append(Drawing(file, regions, size))
    return drawn_dataset(folder, classes, drawings, records)


def _size(record: dict[str, Any], file: Path, path: Path) -> tuple[int, int]:
    """(height, width) as the file tells it, else the image's own."""
    if record.get("imageHeight") is None or record.get("imageWidth") is None:
        return image.header(file)[0]
    return size_of(record, ("imageHeight", "imageWidth"), str(path))


def _region(
    shape: dict[str, Any], classes: Classes, size: tuple[int, int], place: str
) -> tuple[int, np.ndarray]:
    """(mask value, corners or run lengths)."""
    value = classes.values[class_name(shape, "label", place)]
    kind, points = shape.get("shape_type") or "polygon", field(shape, "points", list, place)
    if kind == "mask":
        return value, _mask(shape, points, size, place)
    if kind in ("rectangle", "circle"):
        if len(points) != 2:
            raise InputError(f"{place}: a {kind} of {len(points)} points; it must have 2")
        corners = polygon([*points, *points], size, place)
        points = (_rectangle if kind == "rectangle" else _circle)(*corners[:2].tolist())
    elif kind != "polygon":
        raise InputError(f"{place}: a {kind!r}, which has no area; draw a polygon, or remove it")
    return value, polygon(points, size, place)


def _rectangle(one: list[float], other: list[float]) -> list[list[float]]:
    return [one, [other[0], one[1]], other, [one[0], other[1]]]


def _circle(centre: list[float], edge: list[float]) -> list[list[float]]:
    radius, step = math.dist(centre, edge), math.tau / CIRCLE
    return [
        [centre[0] + radius * math.cos(i * step), centre[1] + radius * math.sin(i * step)]
        for i in range(CIRCLE)
    ]


def _mask(shape: dict, points: list, size: tuple[int, int], place: str) -> np.ndarray:
    """Run lengths of a small mask, a PNG in Base64, at the first of the points."""
    text = field(shape, "mask", str, place)
    try:
        data = base64.b64decode(text, validate=True)
        left, top = (int(side) for side in points[0])
    except (ValueError, TypeError, IndexError, OverflowError):
        raise InputError(f"{place}: a damaged mask") from None
    small = read_raw_mask(data, place) != 0
    whole = np.zeros(size, bool)
    part = whole[max(top, 0) : top + small.shape[0], max(left, 0) : left + small.shape[1]]
    if small.ndim != 2 or min(top, left) < 0 or part.shape != small.shape:
        raise InputError(f"{place}: a mask that reaches beyond the image")
    part[:] = small
    return packed(whole)
