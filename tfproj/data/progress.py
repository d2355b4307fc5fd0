"""A bar for work on many examples."""

from __future__ import annotations

import sys
from collections.abc import Iterator


def progress(count: int, name: str) -> Iterator[int]:
    """Indices with a bar on stderr, where that is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except ImportError:
        return iter(range(count))
    return iter(tqdm(range(count), name, unit="image", leave=False, disable=None, file=sys.stderr))
