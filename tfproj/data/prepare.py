"""Write a data set as an ordinary directory, in the layout that ``folder`` reads.

Good for looking at the data, for other tools, and for images to try a model on.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tfproj import image
from tfproj.data.dataset import Dataset, Split
from tfproj.data.folder import class_folder
from tfproj.errors import InputError
from tfproj.runs import writing
from tfproj.spec import default_colors, rgb


def write_folder(dataset: Dataset, output: str | Path) -> Path:
    """Write all splits, ``classes.csv`` and, where examples have groups, ``groups.csv``.

    Image files are copied as they are; images held in memory become PNG files. The directory
    appears when it is complete.

    Args:
        dataset: any data set.
        output: a directory that does not exist or is empty.

    Raises:
        InputError: the output is in use or can't be written, or an example can't be read.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists and is not an empty directory")
    if output.exists() and output.samefile(Path.cwd()):  # the shell would stay in the old one
        raise InputError(f"{output}: is the current directory; name one inside it")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
        try:
            _write_all(dataset, partial)
            partial.chmod(0o755)
            os.replace(partial, output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return output


def _write_all(dataset: Dataset, folder: Path) -> None:
    for name, split in dataset.splits.items():
        print(f"writing {len(split):,} examples of {name} ...", file=sys.stderr)
        _write_split(dataset, split, folder / name)
    _write_classes(dataset, folder / "classes.csv")
    _write_groups(dataset, folder / "groups.csv")


def _write_split(dataset: Dataset, split: Split, root: Path) -> None:
    for folder in ("images", "masks") if dataset.task == "segment" else ():
        (root / folder).mkdir(parents=True)
    for index in range(len(split)):
        stem = Path(split.names[index]).stem
        if dataset.task == "segment":
            _write_image(split, index, root / "images" / stem)
            _mask_picture(dataset, split.read_mask(index)).save(root / "masks" / f"{stem}.png")
        else:
            folder = root / class_folder(dataset.classes[split.labels[index]])
            folder.mkdir(parents=True, exist_ok=True)
            _write_image(split, index, folder / stem)


def _write_image(split: Split, index: int, target: Path) -> None:
    """``target`` with the suffix of the file it is copied from, or ``.png``."""
    source = split.read_image(index)
    if isinstance(source, Path):
        # Read here, where it is the source that is named; around this, it is the output.
        target.with_name(target.name + source.suffix).write_bytes(image.read_bytes(source))
        return
    picture = image.open_image(source, split.label_of(index))
    picture.save(target.with_name(target.name + ".png"))


def _mask_picture(dataset: Dataset, mask: np.ndarray) -> Image.Image:
    picture = Image.fromarray(mask)
    colors = dataset.colors or default_colors(len(dataset.classes))
    picture.putpalette([value for color in colors for value in rgb(color)])
    return picture


def _write_classes(dataset: Dataset, path: Path) -> None:
    colors = dataset.colors or default_colors(len(dataset.classes))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "color"])
        writer.writerows(zip(dataset.classes, colors, strict=True))


def _write_groups(dataset: Dataset, path: Path) -> None:
    rows = [
        (f"{name}/{split.names[i]}", split.groups[i])
        for name, split in dataset.splits.items()
        if split.groups is not None
        for i in range(len(split))
    ]
    if rows:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "group"])
            writer.writerows(rows)
