"""Write a data set as an ordinary directory, in the layout that ``folder`` reads.

Good for looking at the data, for other tools, and for images to try a model on.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from tfproj.core import image
from tfproj.core.files import replacing_directory, write_csv, writing
from tfproj.core.spec import default_colors
from tfproj.data.dataset import Dataset, Split
from tfproj.data.masks import IGNORE, VOID_COLOR, mask_picture
from tfproj.data.progress import progress
from tfproj.data.sources.tables import class_folder
from tfproj.errors import InputError


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
    if any(np.ndim(split.labels) == 2 for split in dataset.splits.values()):
        raise InputError(f"{dataset.name}: several labels an image have no place in class folders")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists and is not an empty directory")
    if output.exists() and output.samefile(Path.cwd()):  # the shell would stay in the old one
        raise InputError(f"{output}: is the current directory; name one inside it")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with replacing_directory(output) as partial:
        _write_all(dataset, partial)
    return output


def _write_all(dataset: Dataset, folder: Path) -> None:
    colors = dataset.colors or default_colors(len(dataset.classes))
    groups: list[dict[str, str]] = []
    for name, split in dataset.splits.items():
        if not len(split):
            continue
        print(f"writing {len(split):,} examples of {name} ...", file=sys.stderr)
        files = _write_split(dataset, split, folder / name, colors)
        if split.groups is not None:
            pairs = zip(files, split.groups, strict=True)
            groups += [{"file": f"{name}/{file}", "group": group} for file, group in pairs]
    classes = zip(dataset.classes, colors, strict=True)
    rows = [{"name": name, "color": color} for name, color in classes]
    if dataset.void:
        rows = [{**row, "value": str(value)} for value, row in enumerate(rows)]
        free = (c for c in (VOID_COLOR, *default_colors(len(rows) + 1)) if c not in colors)
        rows.append({"name": "void", "color": next(free), "value": str(IGNORE)})
    write_csv(folder / "classes.csv", rows)
    if groups:
        write_csv(folder / "groups.csv", groups)


def _write_split(dataset: Dataset, split: Split, root: Path, colors: Sequence[str]) -> list[str]:
    """Write the examples; the names that they have when the folder is read."""
    names = []
    for folder in ("images", "masks") if dataset.task == "segment" else ():
        (root / folder).mkdir(parents=True)
    stems = _stems(split)
    for index in progress(len(split), root.name):
        stem = stems[index]
        if dataset.task == "segment":
            names.append(_write_image(split, index, root / "images" / stem).name)
            mask = mask_picture(split.read_mask(index), colors)
            mask.save(root / "masks" / f"{stem}.png")
        else:
            folder = root / class_folder(dataset.classes[split.labels[index]])
            folder.mkdir(parents=True, exist_ok=True)
            names.append(f"{folder.name}/{_write_image(split, index, folder / stem).name}")
    return names


def _stems(split: Split) -> list[str]:
    """File names without suffix, or paths where they are not unique (in a class)."""
    paths = [PurePosixPath(name.replace("\\", "/")) for name in split.names]
    labels = [None] * len(paths) if split.labels is None else split.labels.tolist()
    counts = Counter(zip(labels, (path.stem for path in paths), strict=True))
    return [
        path.stem
        if counts[label, path.stem] == 1
        else str(path).replace("/", "_").replace(".", "_")
        for label, path in zip(labels, paths, strict=True)
    ]


def _write_image(split: Split, index: int, target: Path) -> Path:
    """``target`` with the suffix of the file it is copied from, or ``.png``; the file."""
    source = split.read_image(index)
    if isinstance(source, Path):
        file = target.with_name(target.name + source.suffix)
        _require_new(file)
        # Read here, where it is the source that is named; around this, it is the output.
        file.write_bytes(image.read_bytes(source))
    else:
        file = target.with_name(target.name + ".png")
        _require_new(file)
        image.open_image(source, split.label_of(index)).save(file)
    return file


def _require_new(file: Path) -> None:
    if file.exists():
        raise InputError(f"{file.name}: two images would have this name; rename one")
