"""Memory and file descriptors of processes (Linux)."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from .frame import Failed

WARM = 0.4  # of the time, after which memory must not grow
GROWTH = 1_000_000  # bytes an hour


class Memory:
    """What processes hold over time, and their file descriptors."""

    def __init__(self, pids: Callable[[], list[int]]):
        self._pids = pids
        self._begin, self._samples = time.monotonic(), [(0.0, resident(pids()))]
        self.descriptors = descriptors(pids())

    def sample(self) -> None:
        self._samples.append((time.monotonic() - self._begin, resident(self._pids())))

    def growth(self) -> tuple[float, float]:
        """(bytes, seconds) from the first to the last third of what was seen after warm-up."""
        last = self._samples[-1][0]
        seen = [sample for sample in self._samples if sample[0] >= WARM * last]
        third = max(1, len(seen) // 3)
        (t0, b0), (t1, b1) = (
            (statistics.mean(s[0] for s in part), statistics.median(s[1] for s in part))
            for part in (seen[:third], seen[-third:])
        )
        return b1 - b0, t1 - t0

    def require_flat(self) -> str:
        """A note; Failed where memory or descriptors grew."""
        grown, seconds = self.growth()
        more = descriptors(self._pids()) - self.descriptors
        said = f"{self._samples[-1][1] / 1e6:.0f} MB, grown by {grown / 1e6:.2f} MB"
        if grown > GROWTH * max(1.0, seconds / 3600) or more > 0:
            raise Failed(f"{said} in {seconds:.0f} s, {more} file descriptors more")
        return f"{said} in the last {seconds:.0f} s, no file descriptor more"


def resident(pids: list[int]) -> int:
    """Bytes of memory that processes hold."""
    pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in pids)
    return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pids: list[int]) -> int:
    """Open files of processes."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
