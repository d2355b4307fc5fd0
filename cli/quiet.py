"""What libraries say by themselves while files are read, which no line of ours announces."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

import click

STDERR = 2


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
