"""The bare model: arrays in, scores and probabilities out, whatever goes wrong in one line.

A session belongs to the process that opened it; a copy in another process opens its own.
onnxruntime's threads do not follow a fork. A child that inherited a session (``gunicorn
--preload``, ``multiprocessing``) would wait for them for ever as it ends.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfproj.core.probabilities import mean_with_mirrored, probabilities_of
from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import TfprojError, first_line
from tfproj.inference.session import open_session

Answers = tuple[np.ndarray, ...]


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


def run(
    session: ProcessSession, spec: ModelSpec, pixels: np.ndarray, more: Sequence[str] = ()
) -> Answers:
    """(scores, probabilities) and the outputs of ``more``; see :meth:`tfproj.Predictor.run`."""
    places = pixels.shape[:3] if spec.task == "segment" else pixels.shape[:1]
    shape = (*places, len(spec.classes))
    first = spec.layout == "NCHW"
    fed = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) if first else pixels
    if not len(pixels):  # which not every provider can run
        return np.empty(shape, np.float32), np.empty(shape, np.float32)
    try:
        names = [SCORES_NAME, PROBABILITIES_NAME, *more]
        scores, probabilities, *others = session.run(names, {INPUT_NAME: fed})
    # onnxruntime's exceptions have no common base below Exception.
    except Exception as error:
        raise TfprojError(_explain(error, pixels)) from None
    if first and spec.task == "segment":
        scores, probabilities = (
            np.ascontiguousarray(np.moveaxis(answer, 1, -1)) for answer in (scores, probabilities)
        )
    if not scores.shape == probabilities.shape == shape:
        raise TfprojError(f"the model answers with the shape {scores.shape}")
    return scores, probabilities, *others


def run_checked(
    run: Callable[[np.ndarray], Answers], spec: ModelSpec, pixels: np.ndarray, flip: bool
) -> Answers:
    """The answers of ``run``, with ``flip`` as :func:`run_mirrored`.

    Raises:
        TfprojError: they are not numbers.
    """
    found = run_mirrored(run, spec, pixels) if flip else run(pixels)
    if not math.isfinite(np.add.reduce(found[1], axis=None)):
        raise TfprojError("the model answers with values that are not numbers")
    return found


def run_mirrored(
    run: Callable[[np.ndarray], Answers], spec: ModelSpec, pixels: np.ndarray
) -> Answers:
    """The answers of ``run`` with the scores averaged over the images and their mirror images.

    Further outputs are those of the images as they are.
    """
    others: list[Answers] = []

    def score(images: np.ndarray) -> np.ndarray:
        scores, _, *more = run(images)
        others.append(tuple(more))
        return scores

    # No other sizes: two or three more give facades 0.6 to 0.8 points of mean AP beyond the
    # mirror image (0.836 to 0.838 instead of 0.830), for three to five times its work.
    scores = mean_with_mirrored(score, pixels, spec.mirrored)
    return scores, probabilities_of(scores, spec.kind), *others[0]


def _explain(error: Exception, pixels: np.ndarray) -> str:
    text = str(error)
    if "Available memory" in text or "bad_alloc" in text or "allocate" in text:
        return f"the model needs too much memory for {len(pixels)} images at once"
    return f"the model failed ({first_line(error)})"
