"""What is given beside somebody's model: names of classes, and images, perhaps in class folders."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.core.spec import ModelSpec, is_class_name
from tfproj.core.words import nfc
from tfproj.data import Dataset, Split
from tfproj.errors import InputError
from tfproj.inference.image_files import find_images, say_left_out

LOOK = 200  # images at most that are looked at before the conversion


def read_classes(given: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Names in the order of a model's outputs.

    Args:
        given: the names, or a file of them: one a line, or a list in JSON.

    Raises:
        InputError: not readable, not names, or one of them twice.
    """
    where, names = "classes", given
    if isinstance(given, (str, Path)):
        where = str(given)
        try:
            text = Path(given).read_text(encoding="utf-8-sig").strip()
            names = json.loads(text) if text.startswith("[") else text.splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{where}: cannot be read ({error})") from None
    # A pair of names, or null, in JSON is none.
    nothing = (list, dict, type(None))
    names = ["" if isinstance(name, nothing) else str(name).strip() for name in names]
    wrong = [name for name in names if not is_class_name(name) or names.count(name) > 1]
    if wrong or len(names) < 2:
        fault = f"{wrong[0][:40]!r} is empty, no text, or there twice" if wrong else "too few"
        raise InputError(f"{where}: expected two or more names of classes, one a line; {fault}")
    return tuple(names)


def find(folder: str | None) -> list[Path]:
    """Image files in a folder and below, sorted; none without a folder."""
    left_out: list[Path] = []
    files = find_images([folder], left_out=left_out) if folder else []
    if left_out:
        print(f"note: {folder}: {say_left_out(left_out)}", file=sys.stderr)
    if len(files) == 1:
        raise InputError(f"{folder}: one image; give at least two, better hundreds")
    return files


def dataset(folder: str | None, files: list[Path], spec: ModelSpec) -> Dataset:
    """The images as a data set: every other one measures ("val"), the rest calibrate int8."""
    splits = {}
    if files:
        every = Split([*map(str, files)], files.__getitem__, _labels(files, spec), files=files)
        for name, start in (("val", 0), ("train", 1)):
            splits[name] = every.subset(np.arange(start, len(files), 2))
    name = Path(folder).name if folder else ""
    return Dataset(name, spec.task, spec.classes, splits, spec.size, spec.channels, folder or "")


def _labels(files: list[Path], spec: ModelSpec) -> np.ndarray | None:
    """By the names of folders, where those are names of classes."""
    index = {nfc(name): number for number, name in enumerate(spec.classes)}
    found = [index.get(nfc(file.parent.name)) for file in files]
    if spec.kind != "classify" or all(label is None for label in found):
        return None
    if None in found:
        file = files[found.index(None)]
        raise InputError(f"{file}: its folder is no class, though others are; take it out")
    return np.array(found, np.int32)


def look(images: Dataset, spec: ModelSpec, count: int = LOOK) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (B, H, W, C), labels or None) of some that measure; drawn where there are none.

    Raises:
        InputError: a file that is no image.
    """
    if not images.splits:
        shape = (min(count, 8), *spec.size, spec.channels)
        return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8), None
    val = images.splits["val"]
    chosen = np.unique(np.linspace(0, len(val) - 1, min(count, len(val))).round().astype(int))
    part = val.subset(chosen)
    sized = [image.load(f, spec.size, spec.channels, resize=spec.resize) for f in part.files]
    return np.stack(sized), part.labels
