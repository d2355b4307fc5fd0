"""Decoded examples of a split, kept in memory or in a file."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfproj.core import hardware, image
from tfproj.data.dataset import Split
from tfproj.data.masks import IGNORE, require_same_size
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.plan import Plan
from tfproj.training import crops

# Share of the free memory that decoded images may take before they go to a file.
MEMORY_SHARE = 0.4
ZEROS = 1 << 24  # bytes written at a time where a file can't be given its room at once


def make_cache(planned: Plan, split: str) -> Cache:
    """The decoded examples of one split: at the model's input size, or crops of that size."""
    spec, config, examples = planned.spec, planned.config, planned.dataset.splits[split]
    shape = spec.size, spec.channels, hardware.available_cpus()
    if config.crop is None:
        cache = Cache(examples, *shape, spec.resize)
        cache.repeats = planned.repeats if split == "train" else None
        return cache

    def lay(sizes: np.ndarray, *masks: Any) -> crops.Drawn | crops.Grid:
        if split != "train":
            return crops.Grid(sizes, spec.size)
        return crops.Drawn(sizes, *masks, spec.size, planned.examples, config.seed)

    return Crops(examples, *shape, len(spec.classes), lay)


@contextlib.contextmanager
def unreadable_named(caches: dict[str, Cache]) -> Iterator[None]:
    """Raise what a cache could not read; TensorFlow would bury it in an error of its own."""
    try:
        yield
    except tf.errors.OpError as error:
        unreadable = next((cache.error for cache in caches.values() if cache.error), None)
        raise unreadable or error from error


class Cache:
    """Decoded examples of one split at one size, filled when they are first asked for.

    Kept in memory, or in an unnamed file of the temporary directory where they would not fit.

    Attributes:
        images: uint8 (N, height, width, channels).
        targets: int32 (N,) or uint8 (N, classes) labels, or uint8 (N, height, width) masks.
        image_shape, target_shape, target_dtype: of one example.
        repeats: float (N,): how much more often than others a training draws each; None: alike.
        error: what could not be read; TensorFlow would bury it in its own error.
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
        self._workers, self._resize = workers, resize
        self._filled = np.zeros(len(split), bool)
        self.repeats: np.ndarray | None = None
        self.error: InputError | None = None
        self.image_shape, labels = (*size, channels), split.labels
        self.target_shape = size if labels is None else labels.shape[1:]
        self.target_dtype = np.dtype(np.uint8) if labels is None else labels.dtype
        self._make_room()

    def _make_room(self) -> None:
        images, masks = (len(self), *self.image_shape), (len(self), *self._size)
        if self._split.labels is None:
            self.images, self.targets = allocate(images, masks)
        else:
            self.images, self.targets = *allocate(images), self._split.labels

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, indices: np.ndarray, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (B, height, width, channels) and targets at ``indices`` int (B,).

        They are the same in every ``epoch``.
        """
        self.fill(indices)
        return self.images[indices], self.targets[indices]

    def fill(self, indices: np.ndarray | None = None) -> None:
        """Decode those of ``indices`` int (B,), or all, that are missing.

        Raises:
            InputError: for what can't be.
        """
        indices = np.arange(len(self._filled)) if indices is None else indices
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
        self._filled[index] = True

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


class Crops(Cache):
    """Crops of the photographs of one split, which are kept decoded at their own sizes.

    To decode a photograph takes longer than to train on a crop of it, and thousands fit no memory:
    of those in a file, only what a crop holds is read. All masks are read at the start.

    Attributes:
        images: uint8 (pixels of all photographs, channels).
        targets: uint8 (pixels of all photographs,), their masks.
    """

    def __init__(
        self,
        split: Split,
        size: tuple[int, int],
        channels: int,
        workers: int,
        classes: int,
        lay: crops.Lay,
    ):
        self._classes, self._lay = classes, lay
        super().__init__(split, size, channels, workers)

    def _make_room(self) -> None:
        self._sizes = np.array(self._each(self._header, "read sizes"))
        self._starts = np.concatenate([[0], self._sizes.prod(1).cumsum()])
        total = int(self._starts[-1])
        self.images, self.targets = allocate((total, self._channels), (total,))
        in_file = isinstance(self.images, np.memmap)
        place = f"files in {tempfile.gettempdir()}" if in_file else "memory"
        size = total * (self._channels + 1) / 1e9
        print(
            f"{len(self._sizes):,} photographs to crop: {size:.2f} GB of {place}", file=sys.stderr
        )
        cells = self._each(self._read_mask, "read masks")
        self._layout = self._lay(self._sizes, cells, self._mask)

    def __len__(self) -> int:
        return len(self._layout)

    def batch(self, indices: np.ndarray, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (B, height, width, channels) and masks uint8 (B, height, width)."""
        places = [self._layout.place(int(index), epoch) for index in indices]
        super().fill(np.unique([place.photo for place in places]))
        images, masks = zip(*map(self._crop, places), strict=True)
        return np.stack(images), np.stack(masks)

    def fill(self, indices: np.ndarray | None = None) -> None:
        """Decode the photographs of these crops of the first epoch, or all."""
        if indices is not None:
            indices = np.unique([self._layout.place(int(index), 0).photo for index in indices])
        super().fill(indices)

    def _each(self, read: Callable, what: str) -> list:
        count = len(self._split)
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            done = pool.map(read, range(count))
            bar = tqdm(done, total=count, desc=what, file=sys.stderr, disable=None, leave=False)
            return list(bar)

    def _header(self, index: int) -> tuple[int, int]:
        return image.header(self._split.read_image(index), self._split.label_of(index))[0]

    def _read_mask(self, index: int) -> np.ndarray:
        mask = self._split.read_mask(index)
        if mask.size != self._sizes[index].prod():  # a header may have the sides the other way
            require_same_size(tuple(self._sizes[index]), mask.shape, self._split.label_of(index))
        self._sizes[index] = mask.shape
        self._mask(index)[:] = mask
        return crops.count_cells(mask, self._classes)

    def _read(self, index: int) -> None:
        source, label = self._split.read_image(index), self._split.label_of(index)
        pixels, own_size = image.load_with_size(source, None, self._channels, label)
        require_same_size(own_size, tuple(self._sizes[index]), label)
        self._image(index)[:] = pixels

    def _image(self, index: int) -> np.ndarray:
        """uint8 (H, W, channels), not copied."""
        part = self.images[self._starts[index] : self._starts[index + 1]]
        return part.reshape(*self._sizes[index], self._channels)

    def _mask(self, index: int) -> np.ndarray:
        """uint8 (H, W), not copied."""
        part = self.targets[self._starts[index] : self._starts[index + 1]]
        return part.reshape(self._sizes[index])

    def _crop(self, place: crops.Place) -> tuple[np.ndarray, np.ndarray]:
        """(image, mask); beyond the photograph's edge they are mirrored, and void."""
        height, width = self._size
        box = slice(place.top, place.top + height), slice(place.left, place.left + width)
        pixels, mask = self._image(place.photo)[box], self._mask(place.photo)[box]
        rest = (0, height - mask.shape[0]), (0, width - mask.shape[1])
        mask = np.pad(mask, rest, constant_values=IGNORE)
        mask[: place.rows] = mask[:, : place.columns] = IGNORE
        return np.pad(pixels, (*rest, (0, 0)), "symmetric"), mask


def allocate(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays uint8: in memory or, where all of them would not fit, each in an unnamed file."""
    total = sum(math.prod(shape) for shape in shapes)
    fits = total <= MEMORY_SHARE * hardware.free_memory()
    return [_in_memory(shape) if fits else _on_disk(shape) for shape in shapes]


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
