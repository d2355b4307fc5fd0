"""Where data sets are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def search_roots() -> Iterator[Path]:
    """Folders that may hold data sets: those in ``TFPROJ_DATA`` (like PATH), then ``data``."""
    for part in os.environ.get("TFPROJ_DATA", "").split(os.pathsep):
        if part:
            yield Path(os.path.normpath(part))
    yield Path("data")
