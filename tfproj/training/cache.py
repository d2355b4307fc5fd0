"""Decoded examples of a split, kept in memory or in a file."""

from __future__ import annotations

import concurrent.futures
import os
import tempfile
from typing import BinaryIO

import numpy as np

from tfproj.core import hardware, image
from tfproj.data.dataset import Split
from tfproj.data.masks import require_same_size
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.plan import Plan

# Share of the free memory that decoded images may take before they go to a file.
MEMORY_SHARE = 0.4
ZEROS = 1 << 24  # bytes written at a time where a file can't be given its room at once


def make_cache(planned: Plan, split: str) -> Cache:
    """The decoded examples of one split at the model's input size."""
    spec = planned.spec
    workers = hardware.available_cpus()
    examples = planned.dataset.splits[split]
    cache = Cache(examples, spec.size, spec.channels, workers, spec.resize)
    cache.repeats = planned.repeats if split == "train" else None
    return cache


class Cache:
    """Decoded examples of one split, filled when they are first asked for.

    Kept in memory, or in an unnamed file of the temporary directory where they would not fit.

    Attributes:
        images: uint8 (N, height, width, channels).
        targets: int32 (N,) or uint8 (N, classes) labels, or uint8 (N, height, width) masks.
        repeats: float (N,): how much more often than others a training draws each; None: alike.
    """

    def __init__(
        self,
        split: Split,
        size: tuple[int, int],
        channels: int,
        workers: int = 2,
        resize: str = "stretch",
    ):
        self._split, self._size, self._channels = split, size, channels
        self._resize = resize
        image_shape = (len(split), *size, channels)
        mask_shape = (len(split), *size)
        masks = split.read_mask is not None
        total = np.prod(image_shape) + (np.prod(mask_shape) if masks else 0)
        allocate = _in_memory if total <= MEMORY_SHARE * hardware.free_memory() else _on_disk
        self.images = allocate(image_shape)
        self.targets = allocate(mask_shape) if masks else split.labels
        self._filled = np.zeros(len(split), bool)
        self._workers = workers
        self.repeats: np.ndarray | None = None
        self.error: InputError | None = None  # TensorFlow would bury it in its own error

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (B, height, width, channels) and targets at ``indices`` int (B,)."""
        self.fill(indices)
        return self.images[indices], self.targets[indices]

    def fill(self, indices: np.ndarray) -> None:
        """Decode those of ``indices`` int (B,) that are missing; InputError for what can't be."""
        missing = indices[~self._filled[indices]]
        if len(missing):
            with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
                list(pool.map(self._fill, missing))

    def close(self) -> None:
        """Let go of the arrays: TensorFlow keeps a pipeline's functions, and so this object."""
        self.images = self.targets = None

    def _fill(self, index: int) -> None:
        try:
            self._read(int(index))
        except InputError as error:
            self.error = error
            raise

    def _read(self, index: int) -> None:
        split = self._split
        source = split.read_image(index)
        label = split.label_of(index)
        pixels, own_size = image.load_with_size(
            source, self._size, self._channels, label, self._resize
        )
        if split.read_mask is not None:
            mask = split.read_mask(index)
            require_same_size(own_size, mask.shape, label)
            self.targets[index] = image.resize_mask(mask, self._size, self._resize)
        self.images[index] = pixels
        self._filled[index] = True


def _in_memory(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, np.uint8)


def _on_disk(shape: tuple[int, ...]) -> np.ndarray:
    file = tempfile.TemporaryFile(prefix="tfproj-cache-")  # noqa: SIM115 (the map keeps it open)
    try:
        _reserve(file, int(np.prod(shape)))
    except OSError as error:
        raise TfprojError(
            f"{tempfile.gettempdir()}: no room for the cache of {np.prod(shape) / 1e9:.1f} GB of "
            f"decoded images ({error.strerror}); point TMPDIR to a larger disk"
        ) from None
    return np.memmap(file, np.uint8, "r+", shape=shape)


def _reserve(file: BinaryIO, size: int) -> None:
    """Room on the disk: writing to a sparse map of a full one would kill the process (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, ZEROS):
        file.write(bytes(min(ZEROS, size - start)))
    file.flush()
