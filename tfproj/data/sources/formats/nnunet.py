"""nnU-Net: ``dataset.json``, imagesTr/a_0000.png and labelsTr/a.png; imagesTs/ and labelsTs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfproj.core.words import is_number, nfc
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.sources.class_tables import table_of
from tfproj.data.sources.files import images_in, match_pairs, paired_dataset
from tfproj.data.sources.formats.annotations import field, read_json
from tfproj.errors import InputError

TABLE = "dataset.json"
FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
ENDING = "_0000"  # of the first channel, which holds RGB as well


def found(folder: Path) -> str:
    """The table of nnU-Net; empty where it or its images are missing."""
    return TABLE * ((folder / TABLE).is_file() and (folder / "imagesTr").is_dir())


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; images and masks without a partner are findings."""
    path = folder / TABLE
    table = table_of(_rows(read_json(path), path), path)
    pairs = {}
    for split, names in FOLDERS.items():
        images, masks = (folder / name for name in names)
        if split == "train" or masks.is_dir():
            files = images_in(images, findings)
            other = next((file for file in files if not file.stem.endswith(ENDING)), None)
            if other is not None:
                raise InputError(
                    f"{other}: expected names that end in {ENDING}, of one channel or RGB"
                )
            pairs[split] = match_pairs(files, images_in(masks, findings), findings, ENDING)
    return paired_dataset(folder, pairs, table, [path])


def _rows(data: dict[str, Any], path: Path) -> list[dict[str, str]]:
    """Names and values of the classes, by value; version 1 has them the other way round."""
    labels = field(data, "labels", dict, str(path))
    if all(is_number(key) and isinstance(name, str) for key, name in labels.items()):
        labels = {name: int(key) for key, name in labels.items()}
    for name, value in labels.items():
        if not isinstance(value, int):
            raise InputError(
                f"{path}: labels: {name!r} is {value!r}; regions of several labels are not read"
            )
    rows = sorted(labels.items(), key=lambda row: row[1])
    return [{"name": nfc(name), "value": str(value)} for name, value in rows]
