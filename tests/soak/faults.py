"""Faults of the system under a command: what can be endured is, the rest is one line and mended.

Endured: a clock that jumps by a day, a file system that renames no file over another, a stop for
a minute. Not endured: a full disk (a tmpfs, which needs root), and a file system that is read-only
from a random change on. The command then ends with one line; later it goes on as after a crash.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from . import state
from .command import Ended
from .frame import Case, Trial
from .jobs import Uninterrupted, alone

DAY = 24 * 3600
STOPPED = 60  # seconds
ROOM = "size=1g"
JOBS = ("train classify", "train segment", "export float32", "predict segment", "tune",
        "data convert")  # fmt: skip
STOPPED_JOBS = ("train classify", "export float32", "predict segment", "tune", "data convert")


def clock(trial: Trial, alone: Uninterrupted) -> None:
    """The clock jumps forth and back."""
    jump = trial.rng.choice((-DAY, -3600, 3600, DAY, 400 * DAY))
    _endured(trial, alone, clock=jump)


def no_replace(trial: Trial, alone: Uninterrupted) -> None:
    """Renaming over a file fails."""
    _endured(trial, alone, no_replace=True)


def _endured(trial: Trial, alone: Uninterrupted, **hook: object) -> None:
    folder = alone.job.put(alone.shared, trial.folder / "work")
    alone.job.command(alone.job.argv, folder, **hook).wait().require()
    _require_outcome(folder, alone)


def stop(trial: Trial, alone: Uninterrupted) -> None:
    """SIGSTOP at a random moment, SIGCONT a minute later."""
    folder = alone.job.put(alone.shared, trial.folder / "work")
    command = alone.job.command(alone.job.argv, folder)
    time.sleep(trial.rng.uniform(0, alone.seconds))
    command.kill(signal.SIGSTOP)
    time.sleep(STOPPED)
    command.kill(signal.SIGCONT)
    command.wait().require()
    _require_outcome(folder, alone)


def read_only(trial: Trial, alone: Uninterrupted) -> None:
    """From a random change on, every change is refused."""
    folder = alone.job.put(alone.shared, trial.folder / "work")
    at = trial.rng.randint(1, alone.changes)
    _require_one_line(alone.job.command(alone.job.argv, folder, read_only_at=at).wait())
    _go_on(folder, alone)


def full_disk(trial: Trial, alone: Uninterrupted) -> None:
    """A disk with room for a random part of what is written."""
    with _disk(trial.folder / "disk") as disk:
        folder = alone.job.put(alone.shared, disk / "work")
        now = os.statvfs(disk)
        used = (now.f_blocks - now.f_bfree) * now.f_frsize
        room = used + trial.rng.uniform(0.02, 1.1) * alone.written
        _remount(disk, f"size={room // 1024 + 8:.0f}k")
        ended = alone.job.command(alone.job.argv, folder).wait()
        _require_one_line(ended)
        if ended.code:
            state.require_clean(folder)
        _remount(disk, ROOM)
        _go_on(folder, alone)


def _require_one_line(ended: Ended) -> None:
    """Failed unless it ended well, or with a line that says what was wrong."""
    ended.require(0, 1, 2)
    if "Traceback" in ended.said or (ended.code and "error: " not in ended.last):
        ended.require(0)


def _go_on(folder: Path, alone: Uninterrupted) -> None:
    if alone.job.view(folder) != alone.files:
        alone.job.command(alone.job.go_on(folder), folder).wait().require()
    _require_outcome(folder, alone)


def _require_outcome(folder: Path, alone: Uninterrupted) -> None:
    state.require_same(alone.job.view(folder), alone.files)
    state.require_clean(folder)


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", ROOM, "soak", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def _no_mount() -> str | None:
    if os.geteuid():
        return "a small disk needs root"
    test = ["unshare", "--mount", "mount", "-t", "tmpfs", "soak", "/mnt"]
    failed = subprocess.run(test, capture_output=True).returncode
    return "no tmpfs can be mounted here" if failed else None


def _cases() -> Iterator[Case]:
    for fault in (clock, no_replace, read_only, full_disk, stop):
        words = fault.__name__.replace("_", " ")
        missing = {"missing": _no_mount} if fault is full_disk else {}
        for name in STOPPED_JOBS if fault is stop else JOBS:
            ready = functools.partial(alone, name)
            most = 2 if fault is stop else 20
            yield Case(f"faults: {words}, {name}", fault, ready, most, 0.5, **missing)


CASES = list(_cases())
