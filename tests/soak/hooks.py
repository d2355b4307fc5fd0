"""What is done to a process from within: killed at one of its changes, or lied to by its system."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# The changes of files that Python makes, as audit events; the hook is called before each.
CHANGES = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.symlink", "os.link",
    "os.truncate", "shutil.rmtree",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def install(hook: dict[str, Any], root: Path) -> None:
    """Set up what ``hook`` asks for, in this process and until it ends.

    Args:
        hook: ``kill_at``: the change before which the process is killed; ``read_only_at``: the
            first that the file system refuses; ``count``: a file that gets the number of changes;
            ``clock``: seconds by which the clock jumps, at each 20th look; ``no_replace``: no file
            is renamed over another; ``faster``: int8 always is; ``environment``: variables;
            ``join_seconds``: that a worker waits for the others at the start.
        root: changes below it are counted.
    """
    os.environ.update(hook.get("environment", {}))
    if {"kill_at", "read_only_at", "count"} & hook.keys():
        sys.addaudithook(_Counter(hook, str(root)))
    if jump := hook.get("clock"):
        _jumping(jump)
    if hook.get("no_replace"):
        _no_replace()
    if hook.get("faster"):
        import tfproj.export.quantize

        tfproj.export.quantize.speed_ratio = lambda *args: 2.0
    if seconds := hook.get("join_seconds"):
        import tfproj.training.together

        tfproj.training.together.JOIN_SECONDS = seconds


class _Counter:
    """Counts the changes below ``root``; kills before the one that is asked for."""

    def __init__(self, hook: dict[str, Any], root: str):
        self._root, self._kill_at = root, hook.get("kill_at")
        self._read_only_at = hook.get("read_only_at", sys.maxsize)
        self._file = os.open(hook["count"], os.O_CREAT | os.O_WRONLY) if "count" in hook else None
        self._seen, self._pid = 0, os.getpid()

    def __call__(self, event: str, args: tuple) -> None:
        if event not in CHANGES or os.getpid() != self._pid or not self._concerns(event, args):
            return
        self._seen += 1
        if self._seen == self._kill_at:
            os.kill(self._pid, signal.SIGKILL)
        if self._seen >= self._read_only_at:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if self._file is not None:
            os.pwrite(self._file, json.dumps(self._seen).encode(), 0)

    def _concerns(self, event: str, args: tuple) -> bool:
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITES):
            return False
        path = args[0]
        return isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(
            os.fsdecode(path)
        ).startswith(self._root)


def _jumping(jump: float) -> None:
    now, looks = time.time, iter(range(sys.maxsize))
    time.time = lambda: now() + next(looks) // 20 % 2 * jump


def _no_replace() -> None:
    def refusing(rename: Any) -> Any:
        def move(source: Any, target: Any, **more: Any) -> None:
            if os.path.lexists(target):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            rename(source, target, **more)

        return move

    os.replace, os.rename = refusing(os.replace), refusing(os.rename)
