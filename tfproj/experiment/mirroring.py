"""Whether a mirror image may be shown as of its class, as far as names tell."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tfproj.core.spec import mirrored
from tfproj.data import Dataset
from tfproj.experiment.presets import PRESETS
from tfproj.runs.config import TrainConfig

# The same without mirror images; the others are for photographs, or for masks, which go along.
WITHOUT_FLIP = {"flip": "none", "shift_flip": "shift", "shift_flip_erase": "shift_erase"}
CHARACTER = re.compile(r"(?:(?:digit|letter|number|char)s?[ _-]?)?[0-9A-Za-z]")
OF_CHARACTERS = {
    "mnist", "emnist", "kmnist", "qmnist", "svhn", "digit", "digits", "letter", "letters", "char",
    "chars", "character", "characters", "text", "ocr", "omniglot", "alphabet", "signs", "arrows",
}  # fmt: skip


def flips(augment: str) -> bool:
    """Whether an augmentation shows images from right to left, too."""
    return augment != "none" and augment not in WITHOUT_FLIP.values()


def choose_augment(config: TrainConfig, dataset: Dataset) -> tuple[TrainConfig, Dataset, str]:
    """The augmentation of the preset where none is given, without flips where names forbid them.

    Returns:
        The configuration with an augmentation, the data set with a note on it, and a warning or "".
    """
    preset = PRESETS[config.task].get(config.preset, {}).get("augment", "none")
    augment = config.augment or preset
    reason = _forbidden(dataset) if config.task == "classify" else ""
    if config.augment is None and reason and augment in WITHOUT_FLIP:
        augment = WITHOUT_FLIP[augment]
        note = f"{reason}: images are not mirrored (as --augment {preset} would)"
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    warning = ""
    if flips(augment):
        warning = _doubt(dataset, augment, reason)
        if mirrored(dataset.classes) != tuple(range(len(dataset.classes))):
            note, warning = "in mirrored images, classes named left and right change places", ""
            dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    return dataclasses.replace(config, augment=augment), dataset, warning


def _forbidden(dataset: Dataset) -> str:
    """Why a mirror image is no example of its class; empty: no name says so."""
    if all(CHARACTER.fullmatch(name) for name in dataset.classes):
        return "classes are single digits or letters"
    if mirrored(dataset.classes) != tuple(range(len(dataset.classes))):
        return "classes are named left and right"
    return ""


def _doubt(dataset: Dataset, augment: str, reason: str) -> str:
    words = re.findall("[a-z]+", Path(dataset.name).name.lower())
    named = OF_CHARACTERS & set(words) and "fashion" not in words
    if dataset.task != "classify" or not (reason or named):
        return ""
    why = reason or f"data set {dataset.name} is called as if it held characters or signs"
    return (
        f"{why}, and --augment {augment} mirrors every other image; unless a mirror image is "
        "of the same class, give --augment none or --augment shift"
    )
