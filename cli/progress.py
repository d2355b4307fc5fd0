"""How far a long command is, on stderr."""

from __future__ import annotations

import sys
import time
from typing import TextIO

import click

REDRAW = 0.2  # seconds, on a terminal
REPORT = 10.0  # seconds, in a log


class Progress:
    """Counts up to ``total``: one line in place on a terminal, a line now and then in a log.

    Nothing is shown for what takes less than the first interval.
    """

    def __init__(self, total: int, unit: str, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._total, self._unit, self._done = total, unit, 0
        self._terminal = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._last >= (REDRAW if self._terminal else REPORT):
            self._last = now
            self._draw(now - self._start)

    def clear(self) -> None:
        """Make room on the terminal for a line of output."""
        if self._drawn:
            click.echo("\r\033[K", nl=False, file=self._stream)
            self._drawn = False

    def _draw(self, seconds: float) -> None:
        rate = self._done / seconds
        left = (self._total - self._done) / rate
        text = f"{self._done:,} of {self._total:,} {self._unit}, {rate:.1f}/s, {left:.0f} s left"
        click.echo(f"\r\033[K{text}" if self._terminal else text, nl=not self._terminal,
                   file=self._stream)  # fmt: skip
        self._drawn = self._terminal
