"""Images of any kind to arrays, ahead of the model: in order, in threads, with flat memory."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfproj.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from tfproj.core.image import ImageLike

    # What the model sees, uint8 (height, width, channels), and the image's own (height, width).
    Loaded = tuple[np.ndarray, tuple[int, int]]

# Threads that decode. Each may hold one image of the largest size.
MAX_DECODERS = 8


def several(images: Any) -> Iterable[ImageLike]:
    """One image as a list. A batch (N, H, W, C) is several; iterating over it gives them.

    Raises:
        InputError: neither an image nor an iterable.
    """
    if isinstance(images, np.ndarray):
        one = images.ndim < 4
    else:
        encoded = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike))
        one = encoded or _may_close(images)
        if not one and not isinstance(images, Iterable):
            hint = "; cv2.imread gives it for what it can't read" if images is None else ""
            raise InputError(f"{type(images).__name__} given instead of images{hint}")
    return [images] if one else images


def decode_ahead(
    images: Iterable[ImageLike],
    load: Callable[[ImageLike], Loaded],
    fits: Callable[[Any], bool],
    workers: int,
    ahead: int,
) -> Iterator[Loaded | InputError]:
    """Each image as the model sees it, or why it can't be read, in order.

    The threads are started by the first image that has a successor and needs decoding.

    Args:
        images: of any length. Of an iterator, what may change or close once the next is asked for
            is copied or decoded at once.
        load: decodes one; may raise InputError.
        fits: whether an image needs no decoding.
        workers: threads.
        ahead: images that are decoded before the first is taken, at most.
    """

    def try_load(source: ImageLike) -> Loaded | InputError:
        try:
            return load(source)
        except InputError as error:
            return error

    waiting: collections.deque = collections.deque()
    pool = None
    held = len(images) if isinstance(images, (list, tuple, np.ndarray)) else None
    try:
        for source in images:
            if held is None and isinstance(source, (np.ndarray, bytearray, memoryview)):
                source = source.copy() if isinstance(source, np.ndarray) else bytes(source)
            if held == 1 or fits(source) or (held is None and _may_close(source)):
                waiting.append(try_load(source))
            else:
                pool = pool or _pool(workers)
                waiting.append(pool.submit(try_load, source))
            if len(waiting) >= ahead:
                yield _value(waiting.popleft())
        while waiting:
            yield _value(waiting.popleft())
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def batches(
    items: Iterable[Loaded | InputError], batch_size: int, strict: bool
) -> Iterator[list[Loaded | InputError]]:
    """Batches with ``batch_size`` readable images each, the errors at their places between them.

    A batch ends early at an error that is going to be raised (``strict``), and where errors alone
    have made it long.
    """
    batch: list = []
    readable = 0
    for item in items:
        batch.append(item)
        failed = isinstance(item, InputError)
        readable += not failed
        if readable == batch_size or (failed and strict) or len(batch) >= 8 * batch_size:
            yield batch
            batch, readable = [], 0
    yield batch


def answered(
    batch: list[Loaded | InputError], predict: Callable[[np.ndarray, list], list], strict: bool
) -> Iterator:
    """The answers for a batch of :func:`batches`, the errors, or the first, at their places."""
    good = [item for item in batch if not isinstance(item, InputError)]
    results: Iterator = iter(())
    if good:
        pixels = good[0][0][None] if len(good) == 1 else np.stack([array for array, _ in good])
        results = iter(predict(pixels, [size for _, size in good]))
    for item in batch:
        if not isinstance(item, InputError):
            yield next(results)
        elif strict:
            raise item
        else:
            yield item


def reversed_colours(array: np.ndarray) -> np.ndarray:
    """(..., H, W, 3 or 4) with the first three channels in reverse; others as they are."""
    if array.ndim < 3 or array.shape[-1] not in (3, 4):
        return array
    return np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[-1]]])


def _may_close(source: Any) -> bool:
    """PIL images and files, told by what they offer: Pillow need not be loaded for arrays."""
    return hasattr(source, "getextrema") or hasattr(source, "read")


def _pool(workers: int) -> ThreadPoolExecutor:
    # Here, since one image needs no threads.
    import concurrent.futures  # noqa: PLC0415

    return concurrent.futures.ThreadPoolExecutor(workers, "tfproj-decode")


def _value(item: Any) -> Any:
    return item.result() if hasattr(item, "result") else item
