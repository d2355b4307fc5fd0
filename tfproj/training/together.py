"""The devices and processes that train one model, and whether they do the same."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import tensorflow as tf

from tfproj import backend
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.plan import Plan
from tfproj.runs import environment
from tfproj.training.pipeline import Share

# Workers of a cluster are seldom started by one hand at one time.
JOIN_SECONDS = 300


@dataclass(frozen=True, eq=False)
class Together:
    """The devices that train one model.

    Attributes:
        strategy: TensorFlow's.
        worker, workers: the number of this process, and how many there are.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this worker validates and writes."""
        return self.worker == 0

    @property
    def share(self) -> Share:
        """What this worker's devices take of each batch."""
        parts = self.strategy.num_replicas_in_sync
        count = parts // self.workers
        return Share(parts, self.worker * count, count)

    def exchange(self, message: bytes) -> list[bytes]:
        """What each worker says, in their order; all call it, and wait for each other."""
        if self.workers == 1:
            return [message]
        lengths = self._gather(np.array([len(message)], np.int32))[:, 0]
        words = np.zeros(int(lengths.max()) // 4 + 1, np.int32)  # what collectives can carry
        words.view(np.uint8)[: len(message)] = np.frombuffer(message, np.uint8)
        found = self._gather(words)
        return [row.tobytes()[:n] for row, n in zip(found, lengths.tolist(), strict=True)]

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """(workers, ...) of everybody's int32 (...)."""
        found = self.strategy.experimental_local_results(self._of_all(tf.constant(values)))
        return found[0].numpy()[:: self.share.count]

    @tf.function
    def _of_all(self, own):
        def gather(own):
            return tf.distribute.get_replica_context().all_gather(own[None], axis=0)

        return self.strategy.run(gather, (own,))


def find_together(device: str | None) -> Together | None:
    """The devices of ``--device`` and the workers of ``TF_CONFIG``; None: one device, as usual.

    Raises:
        InputError: a device is not there, or ``TF_CONFIG`` is not understood.
    """
    backend.use_device(device, most=None)
    cluster = backend.cluster()
    if cluster is not None:
        return _join(*cluster)
    if device is None or "," not in device:
        return None
    gpus = range(len(tf.config.get_visible_devices("GPU")))
    return Together(tf.distribute.MirroredStrategy([f"GPU:{number}" for number in gpus]))


@cache  # TensorFlow joins once in a process
def _join(worker: int, workers: int) -> Together:
    def give_up() -> None:
        print(
            f"error: worker {worker} waited {JOIN_SECONDS} s for the others of TF_CONFIG; start "
            f"all {workers}, and let them reach each other", file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(1)  # TensorFlow would wait for ever, in C++, where no exception reaches it

    timer = threading.Timer(JOIN_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        with lost_workers():
            return Together(tf.distribute.MultiWorkerMirroredStrategy(), worker, workers)
    finally:
        timer.cancel()


def agree(together: Together, planned: Plan | None, precision: str = "", error: str = "") -> None:
    """Make sure that all workers train the same on the same.

    Args:
        planned: None where this worker has none.
        error: why.

    Raises:
        InputError: they don't, one has an error, or a batch can't be divided.
    """
    facts = {"error": error} if planned is None else _facts(planned, precision)
    with lost_workers():
        said = [json.loads(text) for text in together.exchange(json.dumps(facts).encode())]
    for worker, theirs in enumerate(said):
        if "error" in theirs:
            raise InputError(f"worker {worker}: {theirs['error']}")
    for worker, theirs in enumerate(said):
        for name, value in said[0].items():
            if theirs.get(name) != value:
                raise InputError(
                    f"worker {worker} has {name} {theirs.get(name)}, worker 0 has {value}; "
                    "all must be the same"
                )
    if planned is not None:
        _require_whole_parts(together, planned)


def _facts(planned: Plan, precision: str) -> dict[str, object]:
    """What must be the same for all workers; data may lie elsewhere."""
    config = planned.config.to_dict()
    for name in ("data", "data_dir", "init"):
        del config[name]
    data = planned.dataset.fingerprint()
    gpus = len(tf.config.get_visible_devices("GPU"))
    facts = {"GPUs": gpus, "precision": precision, "data of fingerprint": data}
    return facts | {f"package {k}": v for k, v in environment.versions().items()} | config


def _require_whole_parts(together: Together, planned: Plan) -> None:
    parts, size = together.share.parts, min(planned.config.batch_size, planned.examples)
    if size % parts:
        near = max(parts, size // parts * parts)
        raise InputError(
            f"a batch of {size} can't be divided by {parts} devices; take --batch-size {near}"
        )


@contextmanager
def lost_workers() -> Iterator[None]:
    """Say in one line that another worker has ended."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):
        raise TfprojError(
            "another worker has ended, or can't be reached; what it said is in its own output: "
            "start all again, with --resume where the run has an epoch"
        ) from None
