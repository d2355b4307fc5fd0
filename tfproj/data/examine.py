"""Every example of a data set read once: its size, mode and pixels, and what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfproj.core import image
from tfproj.data.check_report import ClassCount, SplitReport
from tfproj.data.dataset import Dataset, Split
from tfproj.data.findings import Finding, Findings
from tfproj.data.mask_set import MaskSet
from tfproj.data.masks import IGNORE, require_same_size
from tfproj.data.progress import progress


@dataclass(frozen=True)
class _Picture:
    """What is kept of an image: (height, width), Pillow mode, digest of its pixels."""

    size: tuple[int, int]
    mode: str
    digest: bytes


class Examiner:
    """Reads all examples, one at a time; of each it keeps some hundred bytes.

    Attributes:
        findings: what is wrong with the examples read so far.
    """

    def __init__(self, dataset: Dataset):
        self.findings = Findings()
        self._dataset = dataset
        self._masks = MaskSet(dataset)
        self._by_bytes: dict[bytes, _Picture] = {}
        self._first: dict[bytes, tuple[str, int]] = {}

    def examine(self, name: str) -> SplitReport:
        """Read one split; ``train`` must come first."""
        split = self._dataset.splits[name]
        sides, modes = (array("L"), array("L")), Counter()
        pixels, images = np.zeros((2, 256), np.int64)
        for index in progress(len(split), name):
            picture = self._picture(split, index)
            if picture is not None:
                modes[picture.mode] += 1
                for side, value in zip(sides, picture.size, strict=True):
                    side.append(value)
                self._compare(name, index, picture.digest)
            if split.read_mask is not None:
                size = picture and picture.size
                mask = usable_mask(split, index, size, self.findings, self._masks)
                counts = np.bincount([] if mask is None else mask.ravel(), minlength=256)
                pixels += counts
                images += counts > 0
        if split.labels is not None:
            images = split.class_counts(len(self._dataset.classes))
        height, width = map(_range, sides)
        classes = self._classes(images, None if split.read_mask is None else pixels)
        void = None
        if split.read_mask is not None and images[IGNORE]:
            void = ClassCount(int(images[IGNORE]), float(pixels[IGNORE] / pixels.sum()))
        return SplitReport(len(split), classes, height, width, dict(modes.most_common()), void)

    def compared(self) -> Iterator[Finding]:
        """What is wrong with the masks read so far as a whole."""
        return self._masks.findings()

    def _classes(self, images: np.ndarray, pixels: np.ndarray | None) -> dict[str, ClassCount]:
        total = 1 if pixels is None else max(1, int(pixels[:IGNORE].sum()))
        return {
            name: ClassCount(int(images[i]), None if pixels is None else int(pixels[i]) / total)
            for i, name in enumerate(self._dataset.classes)
        }

    def _picture(self, split: Split, index: int) -> _Picture | None:
        label = split.label_of(index)
        with self.findings.catch(label, "unreadable"):
            source = split.read_image(index)
            if isinstance(source, (str, os.PathLike)):
                source = image.read_bytes(source, label)
            if not isinstance(source, bytes):
                return self._decoded(source, label)
            # The bytes first: copies need not be decoded.
            key = _digest(source)
            if key not in self._by_bytes:
                self._by_bytes[key] = self._decoded(source, label)
            return self._by_bytes[key]
        return None

    def _decoded(self, source: image.ImageLike, label: str) -> _Picture:
        picture = image.open_image(source, label)
        pixels = image.to_array(picture, None, self._dataset.channels)
        digest = _digest(repr(pixels.shape).encode(), np.ascontiguousarray(pixels))
        return _Picture(picture.size[::-1], picture.mode, digest)

    def _compare(self, name: str, index: int, digest: bytes) -> None:
        """Note an image that was seen before."""
        if digest not in self._first:
            self._first[digest] = (name, index)
            return
        first_name, first_index = self._first[digest]
        split, first = self._dataset.splits[name], self._dataset.splits[first_name]
        where, label = f"{first.label_of(first_index)} in {first_name!r}", split.label_of(index)
        if split.labels is not None and (split.labels[index] != first.labels[first_index]).any():
            names = self._dataset.classes
            here, there = split.classes_of(index, names), first.classes_of(first_index, names)
            message = f"same image, two labels: {here}, but {there} as {where}"
            self.findings.error(label, "duplicate", message)
        elif first_name == "train" and name != "train":
            message = f"in {name!r}, but the same image as {where}; remove one of them"
            self.findings.error(label, "duplicate", message)
        else:
            self.findings.warn(label, "duplicate", f"the same image as {where}")


def usable_mask(
    split: Split, index: int, size: tuple[int, int] | None, findings: Findings, masks: MaskSet
) -> np.ndarray | None:
    """Class indices uint8 (H, W); None, and a finding, where the mask can't be used.

    Args:
        size: (height, width) of its image, where that is known.
        masks: gets those that can be used.
    """
    label = split.label_of(index)
    with findings.catch(split.mask_label_of(index), "mask"):
        mask = split.read_mask(index)
        with findings.catch(label, "mask"):
            if size is not None:
                turned = size[::-1] == mask.shape and image.stored_turn(split.read_image(index)) > 4
                require_same_size(size, mask.shape, label, turned)
                masks.add(split, index, mask)
            return mask
    return None


def _digest(*parts: bytes | np.ndarray) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _range(values: array) -> tuple[int, int, int] | None:
    if not values:
        return None
    return min(values), int(np.median(values)), max(values)
