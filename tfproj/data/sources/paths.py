"""Where data sets are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfproj.core.files import expand_home
from tfproj.errors import InputError


def places(data_dir: str | None, names: Sequence[str]) -> Iterator[Path]:
    """Folders that may hold a data set, the likeliest first; they need not exist.

    Args:
        data_dir: where the user says it is; None: the folders in ``TFPROJ_DATA`` (a list like
            PATH), then ``data``.
        names: what to look for in each of these; ``.`` is the folder itself.

    Raises:
        InputError: ``data_dir`` is no directory.
    """
    if data_dir is not None:
        roots = [Path(data_dir)]
        if not roots[0].is_dir():
            raise InputError(f"--data-dir {data_dir}: no such directory")
    else:
        listed = os.environ.get("TFPROJ_DATA", "").split(os.pathsep)
        found = [Path(os.path.normpath(expand_home(part))) for part in listed if part]
        roots = [*found, Path("data")]
    for root in roots:
        yield from (root / name for name in names)
