"""What a case is: something that is tried again and again, for as long as its turn lasts."""

from __future__ import annotations

import functools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NOTES = 5  # that are kept of a case


class Failed(AssertionError):
    """What was tried went wrong; the text says how."""


@dataclass
class Counts:
    """What came of a case.

    Attributes:
        tried, failed: how often.
        notes: how the first of them failed, and figures that were measured.
        skipped: why it could not be tried here; empty where it was.
        seconds: that it took.
    """

    tried: int = 0
    failed: int = 0
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    def add(self, more: Counts) -> None:
        self.tried += more.tried
        self.failed += more.failed
        # Figures that a later attempt measures again take the place of earlier ones.
        self.notes = list(dict.fromkeys([*self.notes, *more.notes]))[:NOTES]


@dataclass
class Trial:
    """One attempt: an empty folder and draws of its own, and the seconds that are left."""

    number: int
    folder: Path
    rng: random.Random
    seconds: float

    def check(self, holds: Any, said: str) -> None:
        """Failed unless it holds."""
        if not holds:
            raise Failed(said)


@dataclass(frozen=True)
class Case:
    """A thing to try.

    Attributes:
        name: ``subject: words``, as ``--only`` selects it.
        attempt: function of (trial, what ``prepare`` gave) that raises where it fails; it may
            return :class:`Counts` of its own, or a note.
        prepare: function of the folder that all cases share.
        most: attempts; 1 for one that fills its time by itself.
        weight: share of the time.
        missing: says why the case can't be tried here, or nothing.
    """

    name: str
    attempt: Callable[[Trial, Any], Counts | str | None]
    prepare: Callable[[Path], Any] = lambda shared: None
    most: int = 50
    weight: float = 1.0
    missing: Callable[[], str | None] = lambda: None

    def run(self, seconds: float, seed: int, shared: Path, numbers: range | None = None) -> Counts:
        """Try it until its time is over, at least once; ``numbers``: other attempts."""
        begin, counts = time.monotonic(), Counts()
        if reason := self.missing():
            return Counts(skipped=reason)
        try:
            ready = self.prepare(shared)
        except Exception as error:  # the others can still be tried
            return Counts(1, 1, [f"could not begin: {_said(error)}"])
        for number in numbers or range(self.most):
            left = begin + seconds - time.monotonic()
            if counts.tried and left <= 0:
                break
            counts.add(self._try(number, left, seed, ready))
        counts.seconds = round(time.monotonic() - begin, 1)
        return counts

    def _try(self, number: int, left: float, seed: int, ready: Any) -> Counts:
        folder = Path(tempfile.mkdtemp(prefix="soak-"))
        trial = Trial(number, folder, random.Random(f"{seed}/{self.name}/{number}"), left)
        try:
            found = self.attempt(trial, ready)
        except Exception as error:  # whatever it is, it is what was looked for
            note = f"trial {number}: {_said(error)}"
            print(f"{self.name}: {note}\n  kept: {folder}", file=sys.stderr, flush=True)
            return Counts(1, 1, [note])
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(found, Counts):
            return found
        return Counts(1, 0, [found] if found else [])


def _said(error: Exception) -> str:
    kind = "" if isinstance(error, Failed) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:400]


def shared(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes what several cases need, once."""
    return functools.cache(make)


def record(counts: Counts) -> dict[str, Any]:
    """As JSON has it."""
    return asdict(counts)
