"""Temporary files that say whose they are, so that what a killed process left can be removed.

``.tfproj-HOST-PID-STARTED-...`` lies beside the file that it is to become, or among the system's
temporary files. What had to make room for a moment is called ``... .was-NAME`` and is put back.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfproj.core.processes import is_running, this_process

MARK = ".tfproj-"
WAS = ".was-"
FOREIGN = 7 * 24 * 3600  # seconds until what another machine left counts as left

_swept: set[tuple[int, str]] = set()  # (process, folder): one look at each is enough


def prefix() -> str:
    """How the names of this process' temporary files begin."""
    me = this_process()
    return f"{MARK}{_host()}-{me['pid']}-{me['started']}-"


def sweep(folder: Path) -> None:
    """Remove what processes that are gone left in a folder; once for each folder."""
    key = os.getpid(), os.path.abspath(folder)
    if key in _swept:
        return
    _swept.add(key)
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(MARK)]
        for name in filter(lambda name: _is_left(folder / name), names):
            _remove(folder / name)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory within the block, among those of the system."""
    sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=prefix()) as name:
        yield Path(name)


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_left(path: Path) -> bool:
    host, _, rest = path.name.removeprefix(MARK).partition("-")
    pid, _, rest = rest.partition("-")
    if host != _host() or not pid.isdecimal():
        return time.time() - path.lstat().st_mtime > FOREIGN
    started = rest.partition("-")[0]
    return not is_running({"pid": int(pid), "host": platform.node(), "started": started})


def _remove(path: Path) -> None:
    """Or put back what made room for a file that never came."""
    original = path.with_name(path.name.partition(WAS)[2] or path.name)
    with contextlib.suppress(OSError):
        if not os.path.lexists(original):
            path.rename(original)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
