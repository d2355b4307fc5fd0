"""What is watched while an input is tried: the lines it reaches, and what it must not touch."""

from __future__ import annotations

import os
import random
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .hooks import CHANGES, WRITES

LIMIT = 10  # seconds that a case may take
FAULTS = 10  # after which a kind is given up
GUIDED = 4  # one case in so many; to watch the lines takes time
FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "urllib.",
    "pickle.find_class",
)  # fmt: skip
FAMILY = 300  # inputs that a seed may have led to
Change = Callable[[bytes, random.Random, bytes], bytes]


class Guide:
    """Which inputs are damaged next: seeds, and what they became where that reached more."""

    def __init__(self, folder: Path, found: Path):
        self._families: dict[int, list[bytes]] = {}
        for path in sorted(found.glob("*-*")):  # what found something before
            self._family(int(path.name.partition("-")[0], 16)).append(path.read_bytes())
        self._current, self._lines = folder / "current", set()
        self.tries: list[tuple[int, bytes]] = []
        self.guided = False

    def _family(self, key: int) -> list[bytes]:
        return self._families.setdefault(key, [])

    def damage(self, seed: bytes, rng: random.Random, other: bytes, how: Change) -> bytes:
        """A damaged seed, or one of what it became."""
        key = zlib.crc32(seed)
        known = self._family(key)
        made = how(rng.choice(known) if self.guided and known else seed, rng, other)
        self.tries.append((key, made))
        self._current.write_bytes(b"%08x-" % key + made)
        return made

    @contextmanager
    def watching(self, number: int) -> Iterator[None]:
        """Keep what the case damages if it reaches a line that none had reached."""
        self._current.unlink(missing_ok=True)
        self.guided, self.tries, before = number % GUIDED == 0, [], len(self._lines)
        trace = self._call if self.guided else None
        sys.settrace(trace)
        threading.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)
            for key, made in self.tries if len(self._lines) > before else ():
                self._family(key)[FAMILY:] = []
                self._family(key).append(made)

    @property
    def reached(self) -> int:
        """Lines of tfproj that the guided cases reached."""
        return len(self._lines)

    def _call(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_globals.get("__name__", "").startswith("tfproj.") else None

    def _line(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        self._lines.add((frame.f_code, frame.f_lineno))
        return self._line


class Guard:
    """Notes what no input may lead to: the network, another program, files elsewhere."""

    def __init__(self, folder: Path):
        self._folder, self.on, self.seen = str(folder.resolve()), False, []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple) -> None:
        if self.on and (event.startswith(FORBIDDEN) or self._changes_outside(event, args)):
            self.seen.append(f"{event} {args!r:.200}")

    def _changes_outside(self, event: str, args: tuple) -> bool:
        if event == "open":
            args = args[:1] if isinstance(args[2], int) and args[2] & WRITES else ()
        paths = [path for path in args[:2] if isinstance(path, (str, bytes, os.PathLike))]
        return event in CHANGES and not all(map(self._allowed, paths))

    def _allowed(self, path: Any) -> bool:
        place = os.path.realpath(os.fsdecode(path))
        return place == os.devnull or place.startswith(self._folder + os.sep)


def keep(folder: Path, found: Path) -> str:
    """Where what the last case damaged is kept, for later runs to begin with; empty for nothing."""
    if not (folder / "current").exists():
        return ""
    key, _, data = (folder / "current").read_bytes().partition(b"-")
    found.mkdir(parents=True, exist_ok=True)
    path = found / f"{key.decode()}-{zlib.crc32(data):08x}"
    path.write_bytes(data)
    return str(path)
