"""Masks as run lengths, outside first and column by column, as COCO has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfproj.errors import InputError


def run_lengths(record: Mapping[str, Any], size: tuple[int, int], place: str) -> np.ndarray:
    """Run lengths int64 (N,), outside first, column by column, of COCO's RLE object.

    Compressed ones are read as maskApi.c of pycocotools writes them: 5 bits a character, from "0"
    on, the sixth says that more follow, and from the third on a run is told by its difference to
    the last but one.

    Raises:
        InputError: another size than the image's, or damaged.
    """
    counts = record.get("counts")
    if record.get("size") != [*size]:
        found = repr(record.get("size"))[:40]
        raise InputError(f"{place}: an RLE of size {found}; the image is {[*size]}")
    total = size[0] * size[1]
    runs = _decompressed(counts) if isinstance(counts, str) else None
    if isinstance(counts, list) and all(type(c) is int and 0 <= c <= total for c in counts):
        runs = np.array(counts, np.int64)
    if runs is None or (runs < 0).any() or (runs > total).any() or runs.sum() != total:
        raise InputError(f"{place}: a damaged RLE; its runs do not add up to the image")
    return runs


def _decompressed(text: str) -> np.ndarray | None:
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    whole = len(ends) and ends[-1] == len(codes) - 1
    if not whole or codes.min() < 0 or codes.max() > 63 or lengths.max() > 7:
        return None
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    for first in (1, 2):  # the run before the first is not added to the third
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def packed(mask: np.ndarray) -> np.ndarray:
    """Run lengths of a mask bool (H, W), as :func:`run_lengths` gives them."""
    flat = np.concatenate(([False], mask.T.ravel()))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(changes, prepend=0, append=mask.size)


def unpacked(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W)."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T
