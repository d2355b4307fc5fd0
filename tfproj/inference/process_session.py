"""A session belongs to the process that opened it; a copy in another process opens its own.

onnxruntime's threads do not follow a fork. A child that inherited a session (``gunicorn
--preload``, ``multiprocessing``) would wait for them for ever as it ends.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfproj.inference.session import open_session


class ProcessSession:
    """A session that can be pickled, copied and used on both sides of a fork.

    Arguments and errors as for :func:`tfproj.inference.session.open_session`, whose session is
    opened at once here, in a forked or unpickled copy with the first run.
    """

    def __init__(self, *arguments: Any):
        self.__setstate__(arguments)
        self._session: Any = open_session(*arguments)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceSession.run``."""
        answers: list[np.ndarray] = (self._session or self._reopened()).run(outputs, inputs)
        return answers

    def _reopened(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = open_session(*self._arguments)
            return self._session

    def __getstate__(self) -> tuple[Any, ...]:
        return self._arguments

    def __setstate__(self, arguments: tuple[Any, ...]) -> None:
        self._arguments, self._session, self._lock = arguments, None, threading.Lock()
        _sessions.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> ProcessSession:
        return self  # threads may share it

    def disown(self) -> None:
        """Leave the session to the parent process, its destructor never run."""
        inherited, self._session, self._lock = self._session, None, threading.Lock()
        if inherited is not None:
            # Here, since only a forked child needs it.
            import ctypes  # noqa: PLC0415

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


_sessions: weakref.WeakSet[ProcessSession] = weakref.WeakSet()


def _in_child() -> None:
    for session in list(_sessions):
        session.disown()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)
