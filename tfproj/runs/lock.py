"""A run in training belongs to one process.

The system drops the lock when the process ends, however it ends. Where a file system knows no
locks, the file says which process holds the run, and a process that is gone holds nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tfproj.core.files import exists, writing
from tfproj.core.processes import is_running, this_process
from tfproj.errors import InputError

LOCK_FILE = ".lock"
# Windows lets nobody else read a locked byte, so one beyond the text is locked.
_LOCKED_BYTE = 1 << 20
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextlib.contextmanager
def locked(run: Path) -> Iterator[bool]:
    """Hold the directory of a run within the block; whether the last who did was killed.

    Raises:
        InputError: another process trains it, or one may not write there.
    """
    with _taken(run) as file:
        file.seek(0)
        killed = bool(file.read())
        file.truncate(0)
        json.dump(this_process(), file)
        file.flush()
        try:
            yield killed
        finally:
            file.truncate(0)  # so that nothing is held where locks are unknown, either


def require_unlocked(run: Path) -> None:
    """InputError where another process trains the run; changes nothing."""
    if exists(Path.is_file, run / LOCK_FILE):
        _taken(run).close()


def was_killed(run: Path) -> bool:
    """Whether the process that trained it last was killed, or trains it still."""
    try:
        return bool((run / LOCK_FILE).read_bytes())
    except OSError:  # nobody has
        return False


def _taken(run: Path) -> IO[str]:
    """The lock file, locked until it is closed."""
    with writing(run):
        file = (run / LOCK_FILE).open("a+", encoding="utf-8", errors="replace")
    file.seek(0)
    holder = _holder(file.read())
    try:
        _lock(file)
    except OSError as error:
        if error.errno in _TAKEN or is_running(holder):
            file.close()
            by = f" by process {holder['pid']} on {holder['host']}" if holder else ""
            raise InputError(
                f"{run}: is being trained{by}; wait for its end, stop it, or take another --name"
            ) from None
    return file


if sys.platform == "win32":

    def _lock(file: IO[str]) -> None:
        import msvcrt  # noqa: PLC0415 - of Windows alone

        os.lseek(file.fileno(), _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:

    def _lock(file: IO[str]) -> None:
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        holder = json.loads(text)
        if isinstance(holder, dict) and {"pid", "host", "started"} <= holder.keys():
            return holder
    return {}
