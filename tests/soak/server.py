"""``tfproj serve`` as a user starts it, on one port however often it is started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .command import ORPHANS, of_session
from .frame import Failed
from .memory import descriptors

READY = 60  # seconds until it must answer
FREE = 10  # seconds until its port must be free again


class Server:
    """A server while the block runs.

    Args:
        arguments: of ``tfproj serve``.
        folder: gets its log.
    """

    def __init__(self, arguments: Sequence[str], folder: Path):
        self._arguments, self._log, self.port = arguments, folder / "log", 0

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(60)
        finally:
            for pid in of_session(self._process.pid):
                os.kill(pid, signal.SIGKILL)
        if code and exc == (None, None, None):
            raise Failed(f"ends with {code} at SIGTERM")

    def start(self) -> None:
        """Begin, on the port that it had; Failed where that is not to be had within FREE s."""
        end = time.monotonic() + FREE
        while not self._begun():
            if time.monotonic() > end:
                raise Failed(f"does not start: {self._log.read_text().splitlines()[-1:]}")

    def _begun(self) -> bool:
        command = [sys.executable, "-m", "tfproj", "serve", *self._arguments]
        with self._log.open("a") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log,
                start_new_session=True, cwd=self._log.parent,
            )  # fmt: skip
        end = time.monotonic() + READY
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(r"http://\S+:(\d+): ", self._log.read_text()[before:]):
                self.port = int(found[1])
                return True
            time.sleep(0.05)
        return False

    def processes(self) -> list[int]:
        """The process that was started, and the one that answers."""
        return sorted(of_session(self._process.pid))

    def kill(self, victim: str) -> None:
        """The one that ``answers``, or the one that ``starts`` it."""
        if victim == "starts":
            self._process.kill()
            self._process.wait()
            return
        end = time.monotonic() + READY  # it is named before it is there
        while not (answering := [p for p in self.processes() if "spawn_main" in _words(p)]):
            if time.monotonic() > end:
                raise Failed("no process answers")
            time.sleep(0.05)
        os.kill(answering[0], signal.SIGKILL)

    def require_gone(self) -> None:
        """Failed where processes outlive the one that was started."""
        end = time.monotonic() + ORPHANS
        while list(of_session(self._process.pid)):
            if time.monotonic() > end:
                raise Failed("a process outlives the one that started it")
            time.sleep(0.05)

    def settle(self, files: int) -> None:
        """Wait until connections are closed, for as long as a slow client may take."""
        end = time.monotonic() + 15
        while descriptors(self.processes()) > files and time.monotonic() < end:
            time.sleep(0.2)

    def errors(self) -> list[str]:
        """Lines of its log that tell of a fault of its own."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if "Traceback" in line or " 500 " in line]


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
