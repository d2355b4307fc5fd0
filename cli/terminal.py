"""The terminal beside the results: how far a long command is, and what libraries say themselves."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TextIO

import click

REDRAW = 0.2  # seconds, on a terminal
REPORT = 10.0  # seconds, in a log
STDERR = 2


class Progress:
    """Counts up to ``total``: one line in place on a terminal, a line now and then in a log.

    A ``total`` of None is not known. Nothing is shown for what takes less than the first interval.
    """

    def __init__(self, total: int | None, unit: str, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._total, self._unit, self._done = total, unit, 0
        self._terminal = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def step(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
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
        text = f"{self._done:,} {self._unit}, {rate:.1f}/s"
        if self._total is not None:
            left = (self._total - self._done) / rate
            text = text.replace(" ", f" of {self._total:,} ", 1) + f", {left:.0f} s left"
        click.echo(f"\r\033[K{text}" if self._terminal else text, nl=not self._terminal,
                   file=self._stream)  # fmt: skip
        self._drawn = self._terminal


class TileProgress:
    """How far an image in tiles is; called with (tiles done, tiles in all)."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if done == 1 or self._progress is None:
            self._progress = Progress(total, "tiles")
        self._progress.step()
        if done == total:
            self._progress.clear()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep from the terminal what Pillow warns of and what C code writes to file descriptor 2.

    What Pillow says of an image is either an error of ours or no one's business. libtiff fills in
    rows that it can't decode and tells no one else, so its lines are counted.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    said = _Lines()
    try:
        with warnings.catch_warnings(), said.caught():
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        if said.count:
            click.echo(
                "note: parts of an image could not be read, says its decoder in "
                f"{said.count:,} line{'s' * (said.count > 1)}, such as: {said.first}",
                err=True,
            )


class _Lines:
    """Catches what is written to file descriptor 2 below Python.

    Attributes:
        count: lines; what onnxruntime says of the machine is not among them.
        first: the first of them.
    """

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """A block in which sys.stderr, but nothing else, writes where it wrote before."""
        try:
            kept = os.dup(STDERR)
        except OSError:  # the descriptor is closed
            yield
            return
        python, (source, sink) = sys.stderr, os.pipe()
        reader = threading.Thread(target=self._read, args=(source,), daemon=True)
        reader.start()
        os.dup2(sink, STDERR)
        os.close(sink)
        try:
            with open(kept, "w", 1, "utf-8", "backslashreplace") as stream:
                if _writes_to(python, STDERR):
                    sys.stderr = stream
                try:
                    yield
                finally:
                    sys.stderr = python
                    os.dup2(kept, STDERR)  # nothing writes to the pipe now, so the reader ends
        finally:
            reader.join(1)

    def _read(self, source: int) -> None:
        with open(source, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if "onnxruntime" not in line:
                    self.count += 1
                    self.first = self.first or "".join(filter(str.isprintable, line[:160]))


def _writes_to(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError):  # a stream in memory, or a closed one
        return False
