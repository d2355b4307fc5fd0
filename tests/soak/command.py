"""Commands of tfproj as processes that can be killed, each in a session of its own (Linux)."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import ROOT, hooks
from .frame import Failed

TIMEOUT = 300  # seconds that no command here may take
ORPHANS = 20  # seconds until what a killed process had started must have ended


@dataclass
class Ended:
    """How a command ended: its exit code, negative for a signal, its seconds, and what it said."""

    code: int
    seconds: float
    said: str

    def require(self, *codes: int) -> Ended:
        """Failed unless the exit code is one of them; 0 if none is given."""
        if self.code not in (codes or (0,)):
            raise Failed(f"exit code {self.code}: {self.last}")
        return self

    @property
    def last(self) -> str:
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else "silent"


class Command:
    """``tfproj ARGV`` in ``folder``, begun.

    Args:
        argv: as on the command line.
        folder: its working directory; ``tmp`` beside it is its place for temporary files.
        hook: see :func:`tests.soak.hooks.install`.
        warm: fork it from a process that has TensorFlow, else start a Python.
    """

    def __init__(
        self, argv: Sequence[str], folder: Path, hook: Mapping[str, Any] | None = None,
        warm: bool = True,
    ):  # fmt: skip
        self.folder, self.temporary = folder, folder.with_name(f"{folder.name}.tmp")
        folder.mkdir(exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        self._said = tempfile.NamedTemporaryFile(prefix="soak-said-")  # noqa: SIM115
        self._begin = time.monotonic()
        where = (list(argv), str(folder), str(self.temporary), self._said.name, dict(hook or {}))
        if warm:
            self._process: Any = _warm().Process(target=work, args=where)
            self._process.start()
        else:
            code = f"from tests.soak.command import work; work(*{where!r})"
            self._process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        self.pid: int = self._process.pid

    def wait(self, seconds: float = TIMEOUT) -> Ended:
        """Until it ends by itself.

        Raises:
            Failed: it does not.
        """
        if not self._ended(seconds):
            self.kill()
            raise Failed(f"did not end within {seconds:.0f} seconds; said: {self._read()[-200:]}")
        return Ended(self._code(), time.monotonic() - self._begin, self._read())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def killed_after(self, seconds: float) -> bool:
        """Kill it then; whether it was still running."""
        if self._ended(seconds):
            return False
        self.kill()
        self._ended(TIMEOUT)
        return True

    def require_alone(self) -> None:
        """Failed if what it had started outlives it."""
        end = time.monotonic() + ORPHANS
        while found := list(of_session(self.pid)):
            if time.monotonic() > end:
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
                raise Failed(f"{len(found)} processes outlive the one that was killed")
            time.sleep(0.05)

    def _ended(self, seconds: float) -> bool:
        if isinstance(self._process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            return self._process.poll() is not None
        self._process.join(seconds)
        return self._process.exitcode is not None

    def _code(self) -> int:
        popen = isinstance(self._process, subprocess.Popen)
        return self._process.returncode if popen else self._process.exitcode

    def _read(self) -> str:
        return Path(self._said.name).read_text(encoding="utf-8", errors="replace")


def run(argv: Sequence[str], folder: Path, hook: Mapping[str, Any] | None = None,
        warm: bool = True) -> Ended:  # fmt: skip
    """A command from its beginning to its end."""
    return Command(argv, folder, hook, warm).wait()


def of_session(leader: int) -> Iterator[int]:
    """The processes of a session."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, OSError, IndexError):
            fields = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                yield int(name)


@functools.cache
def _warm() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.warm"])
    return context


def work(argv: list[str], folder: str, temporary: str, said: str, hook: dict[str, Any]) -> None:
    """The process of a command."""
    os.setsid()
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = temporary
    file = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    hooks.install(hook, Path(folder))
    from tfproj.cli.main import main

    code = main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
