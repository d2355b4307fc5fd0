"""What every data source gives: splits of lazily read examples, with classes in a fixed order."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.core.files import expand_home, sha256
from tfproj.data.findings import Finding
from tfproj.errors import InputError

SPLITS = ("train", "val", "test")
END_BYTES = 1 << 16
MAX_NATURAL_SIDE = 256


@dataclass(frozen=True)
class DataOptions:
    """What a user may say about a data set.

    Attributes:
        data_dir: where it lies; None: the usual places.
        group_modulus: examples whose numbers are equal modulo this belong to one group.
        val_fraction: share of the training groups to hold out where no ``val`` split exists.
        limit: at most so many training examples, and a tenth as many (at least 50) of the others.
        classes: class order of an earlier run, to which labels are matched by name.
        held_out: names of its validation split, where it had drawn one; None: it is drawn.
        format: how a directory is laid out, a name in FORMATS; None: recognised.
        multi_label: an image may be of several classes, or of none; for classification.
    """

    data_dir: str | None = None
    group_modulus: int | None = None
    val_fraction: float = 0.1
    limit: int | None = None
    classes: tuple[str, ...] | None = None
    held_out: tuple[str, ...] | None = None
    format: str | None = None
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", expand_home(self.data_dir))
        if not 0 < self.val_fraction < 1:
            raise InputError(f"val_fraction is {self.val_fraction}; it must lie between 0 and 1")


@dataclass(frozen=True)
class Split:
    """Examples of one split, read one by one and in any order.

    Attributes:
        names: one per example, unique in the split: file name or index.
        read_image: index -> source that ``tfproj.core.image.load`` takes.
        labels: int32 (N,) class indices for classification; uint8 (N, classes) of 0 and 1 where
            images have several classes, or none; else None.
        read_mask: index -> uint8 (H, W) class indices for segmentation, 255 for void; else None.
        groups: (N,) group of each example (views of one object), or None.
        files: image files, where the examples are files, else None.
        masks: mask files, likewise.
    """

    names: Sequence[str]
    read_image: Callable[[int], image.ImageLike]
    labels: np.ndarray | None = None
    read_mask: Callable[[int], np.ndarray] | None = None
    groups: np.ndarray | None = None
    files: Sequence[Path] | None = None
    masks: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def label_of(self, index: int) -> str:
        """What error messages call the example: its file where it has one."""
        return str(self.files[index]) if self.files is not None else f"example {self.names[index]}"

    def mask_label_of(self, index: int) -> str:
        """What error messages call the mask of the example: its file where it has one."""
        return str(self.masks[index]) if self.masks is not None else self.label_of(index)

    def class_counts(self, classes: int) -> np.ndarray:
        """Images of each class, int64 (classes,)."""
        if self.labels.ndim == 2:
            return self.labels.sum(0, dtype=np.int64)
        return np.bincount(self.labels, minlength=classes)

    def classes_of(self, index: int, names: Sequence[str]) -> str:
        """The class of an example, or its classes, in words."""
        if self.labels.ndim == 1:
            return repr(names[self.labels[index]])
        return " and ".join(repr(names[i]) for i in np.flatnonzero(self.labels[index])) or "none"

    def subset(self, indices: np.ndarray) -> Split:
        """The examples at ``indices`` (int array), in that order."""
        picked = [int(i) for i in indices]
        read_image, read_mask = self.read_image, self.read_mask
        return Split(
            names=[self.names[i] for i in picked],
            read_image=lambda i: read_image(picked[i]),
            labels=None if self.labels is None else self.labels[picked],
            read_mask=None if read_mask is None else lambda i: read_mask(picked[i]),
            groups=None if self.groups is None else self.groups[picked],
            files=None if self.files is None else [self.files[i] for i in picked],
            masks=None if self.masks is None else [self.masks[i] for i in picked],
        )


@dataclass(frozen=True)
class Dataset:
    """Splits and what is true of all of them.

    Attributes:
        name, task: as in the configuration.
        classes: names in label order; ``colors``: one ``#RRGGBB`` each, or empty.
        splits: any of ``train``, ``val``, ``test``.
        size: natural (height, width) for the model input.
        channels: 1 or 3.
        origin: where the examples were found, for people.
        license: terms and source of the data, for the model's record.
        notes: what was left out, for people.
        mask_values: what a mask file of the user's holds for each class.
        void: whether masks may hold 255, for pixels that are not to be counted.
        may_grow: whether files may be added to it, as to a directory.
        annotations: files that say what several images hold, such as one of COCO.
        drawing: which version of what draws the examples, where they come from no file.
        findings: what is wrong with it; ``load_dataset`` gives none that has errors.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    size: tuple[int, int]
    channels: int
    origin: str
    colors: tuple[str, ...] = ()
    license: str = ""
    notes: tuple[str, ...] = ()
    mask_values: tuple[int, ...] = ()
    void: bool = False
    may_grow: bool = False
    drawing: str = ""
    annotations: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 over the names and labels of all splits: changes when the examples do.

        The same on every system, whatever separates the parts of a name there.
        """
        digest = hashlib.sha256(repr((self.task, self.classes)).encode())
        for name in SPLITS:
            if name in self.splits:
                split = self.splits[name]
                text = "\n".join((name, *split.names)).replace("\\", "/")
                digest.update(text.encode("utf-8", "surrogateescape"))
                if split.labels is not None:
                    digest.update(split.labels.astype("<i4").tobytes())
        return digest.hexdigest()

    def contents(self) -> str:
        """SHA-256 over the contents of all files and what masks mean: changes when files do.

        Of a long file the ends count, and its length: what writes an image again changes the
        header, the checksum or the last of the compressed data.
        """
        digest = hashlib.sha256(repr(self.mask_values).encode() + self.drawing.encode())
        for split in self.splits.values():
            for file in (*(split.files or ()), *(split.masks or ())):
                digest.update(_ends(file))
        for file in self.annotations:  # in whose middle a number may change
            digest.update(bytes.fromhex(sha256(file)))
        return digest.hexdigest()

    def lengths(self) -> str | None:
        """What runs of early versions have for contents; None where data are drawn."""
        digest = hashlib.sha256(repr(self.mask_values).encode())
        for split in self.splits.values():
            for file in (*(split.files or ()), *(split.masks or ())):
                length = file.stat().st_size if file.exists() else 0  # whoever reads it says so
                digest.update(length.to_bytes(8, "little"))
        return None if self.drawing else digest.hexdigest()


def _ends(file: Path) -> bytes:
    """The length of a file and the CRC-32 of its first and last 64 kB."""
    try:
        with file.open("rb", buffering=0) as opened:
            length = os.fstat(opened.fileno()).st_size
            checksum = zlib.crc32(opened.read(END_BYTES))
            if length > END_BYTES:
                opened.seek(max(END_BYTES, length - END_BYTES))
                checksum = zlib.crc32(opened.read(END_BYTES), checksum)
    except OSError:  # whoever reads it says so
        return b""
    return length.to_bytes(8, "little") + checksum.to_bytes(4, "little")


def array_split(images: np.ndarray, labels: np.ndarray) -> Split:
    """A split over images held in memory: uint8 (N, H, W), labels (N,)."""
    return Split(
        names=[str(i) for i in range(len(images))],
        read_image=lambda i: images[i],
        labels=np.asarray(labels, np.int32),
    )


def _sample(split: Split) -> list[tuple[tuple[int, int], str]]:
    """((height, width), mode) of up to 64 pictures, evenly over the split."""
    found = []
    for index in np.linspace(0, len(split) - 1, min(64, len(split))).astype(int):
        try:
            found.append(image.header(split.read_image(int(index))))
        except InputError:
            continue  # the check names it, before a training begins
    return found


def median_size(split: Split) -> tuple[float, float]:
    """Median (height, width) of a sample, in pixels; that of the limit where none is readable."""
    sizes = [size for size, _ in _sample(split)] or [(MAX_NATURAL_SIDE, MAX_NATURAL_SIDE)]
    height, width = np.median(sizes, axis=0).tolist()
    return height, width


def natural_size(split: Split, multiple: int) -> tuple[int, int]:
    """Median (height, width) of a sample, at most 256 a side, rounded to ``multiple``."""
    sides = np.array(median_size(split))
    sides *= min(1.0, MAX_NATURAL_SIDE / sides.max())
    return tuple(int(max(multiple * round(side / multiple), 8)) for side in sides)


def natural_channels(split: Split) -> int:
    """1 where every sampled picture is grey, else 3."""
    modes = {mode for _, mode in _sample(split)} or {"RGB"}
    return 1 if all(mode in ("L", "1", "LA") or mode.startswith("I") for mode in modes) else 3
