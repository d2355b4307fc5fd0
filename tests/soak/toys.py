"""What the cases work on: small data sets, commands that take seconds, trained runs to export."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from conftest import draw, write_classes
from PIL import Image

from .command import run
from .frame import shared

FLOAT32 = ["--precision", "float32"]
DIGITS = ["--data", "digits", "--preset", "original", "--limit", "200", "--batch-size", "32"]
HOUSES = ["--data", "synthetic_facades", "--limit", "24", "--image-size", "32", "48"]
HOUSES += ["--batch-size", "4", "--augment", "none"]
# Each ``train`` that is killed; named ``a``.
TRAIN = {
    "classify": ["classify", *DIGITS, "--epochs", "4"],
    "segment": ["segment", *HOUSES, "--preset", "original", "--epochs", "3"],
    "encoder": ["segment", *HOUSES, "--preset", "default", "--epochs", "2", "--encoder", "lite0"],
    "ema": ["classify", *DIGITS, "--epochs", "4", "--ema", "0.9", "--schedule", "cosine"],
}


def train_command(name: str) -> list[str]:
    """The command line of a training."""
    return ["train", *TRAIN[name], *FLOAT32, "--name", "a"]


@shared
def trained(folder: Path, name: str) -> Path:
    """A folder with ``runs/`` as a training leaves it."""
    place = folder / f"trained-{name}"
    run(train_command(name), place).require()
    return place


@shared
def pictures(folder: Path, count: int = 12) -> Path:
    """A folder of photographs, no two alike."""
    place = folder / f"pictures-{count}"
    place.mkdir()
    for seed in range(count):
        Image.fromarray(draw(seed, (48, 64), seed % 4)).save(place / f"{seed:03}.png")
    return place


@shared
def pairs(folder: Path, count: int = 40) -> Path:
    """A data set of images and masks, to convert."""
    place = folder / "pairs"
    write_classes(place, ("ground", "road"))
    for seed in range(count):
        mask = np.zeros((24, 32), np.uint8)
        mask[4 : 8 + seed % 5, 6 : 12 + seed % 7] = 1
        for kind, array in (("images", draw(seed, mask.shape)), ("masks", mask)):
            part = place / ("train" if seed % 4 else "val") / kind
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(part / f"{seed}.png")
    return place


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder, to be damaged."""
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))
