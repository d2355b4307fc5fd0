"""Tasks on Dask or Ray: only a few under way at a time, and a dead worker's again."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tfproj._version import __version__
from tfproj.bulk.task import Job, part
from tfproj.core.hardware import available_cpus
from tfproj.errors import InputError, TfprojError, first_line, missing_extra, unknown_name

TIMEOUT = 10  # seconds until an address must answer
RESTARTS = 10  # of a task, after so many deaths each time; its images get three each
DEATHS = 4
LOOK = 5  # seconds between looks whether workers are missing
AHEAD = 2  # tasks for each CPU of the workers
KEPT = "what is done is kept, and the same call continues"

Tasks = Iterator[list[str]]


@dataclass(frozen=True)
class Done:
    """What a task tells: how many images, and the errors among them."""

    images: int
    errors: list[str]


def run(
    engine: str, job: Job, tasks: Tasks, workers: int | None, address: str | None
) -> Iterator[Done]:
    """What each task tells, in any order.

    Args:
        engine: of ``ENGINES``; it must be installed.
        job: it was begun.
        tasks: the images of each; asked for as workers become free.
        workers: processes on this machine, which listen on the loopback alone; None: a CPU each.
        address: of a cluster that runs, in their place.

    Raises:
        InputError: the engine is unknown or not installed, the address does not answer, or a
            worker's packages or model are not those of the job.
        TfprojError: workers die for no reason of an image's, or the cluster is gone.
    """
    require(engine, address)
    if workers is not None and (address is not None or workers < 1):
        raise InputError("workers must be at least 1, and an address has its own")
    first = list(itertools.islice(tasks, 1))
    if not first:
        return
    tasks = itertools.chain(first, tasks)
    for answer in ENGINES[engine](job, tasks, workers or available_cpus(), address):
        if isinstance(answer, TfprojError):
            raise answer
        yield answer


def require(engine: str, address: str | None = None) -> None:
    """InputError where an engine is unknown or not installed, or an address does not answer."""
    if engine not in ENGINES:
        raise unknown_name("unknown engine", engine, ENGINES)
    if importlib.util.find_spec(PACKAGES[engine]) is None:
        raise missing_extra(PACKAGES[engine], engine)
    if address is not None:
        _require_answer(address)


def _work(job: Job, images: list[str]) -> Done | TfprojError:
    """A task. Its errors are answers, since an engine would dress an exception, or try again."""
    try:
        rows = part(job, images)
    except TfprojError as error:
        return error
    except Exception as error:  # which an engine may not be able to carry
        return TfprojError(f"{type(error).__name__} at {images[0]} or behind: {first_line(error)}")
    return Done(len(rows), [row["error"] for row in rows if row["error"] is not None])


def _on_dask(job: Job, tasks: Tasks, workers: int, address: str | None) -> Iterator[Any]:
    distributed: Any = importlib.import_module("distributed")
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.utils.silence_logging_cmgr(logging.CRITICAL))
        target: Any = address
        if address is None:
            target = stack.enter_context(distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, host="127.0.0.1",
                dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
            ))  # fmt: skip
            stack.enter_context(_replacing(target, workers))
        try:
            client = stack.enter_context(distributed.Client(target, timeout=TIMEOUT))
        except Exception as error:  # what answers may be anything: MemoryError, OSError ...
            raise _no_answer(address, error) from None
        try:
            yield from _through(client, distributed, job, tasks)
        except (CancelledError, OSError) as error:
            raise TfprojError(f"the cluster is gone ({first_line(error)}); {KEPT}") from None


def _through(client: Any, distributed: Any, job: Job, tasks: Tasks) -> Iterator[Any]:
    running, tried = distributed.as_completed(), {}

    def submit(images: list[str], tries: int = 0) -> None:
        future = client.submit(_work, job, images, pure=False)
        tried[future.key] = images, tries
        running.add(future)

    def submit_more() -> None:
        for images in _more(tasks, sum(client.nthreads().values()), len(tried)):
            submit(images)

    submit_more()
    for future in running:
        images, tries = tried.pop(future.key)
        try:
            yield future.result()
        except distributed.KilledWorker:  # Dask gives up a task after some deaths
            if tries == RESTARTS:
                raise _deadly(images) from None
            submit(images, tries + 1)
        except (ImportError, AttributeError) as error:
            raise _foreign(error) from None
        submit_more()


def _more(tasks: Tasks, cpus: float, running: int) -> Iterator[list[str]]:
    """As many tasks as are missing; the workers of a cluster come and go."""
    return itertools.islice(tasks, max(0, AHEAD * max(1, int(cpus)) - running))


@contextlib.contextmanager
def _replacing(cluster: Any, workers: int) -> Iterator[None]:
    """Dask gives up a worker that dies while it starts, or starts slowly; this asks for it anew."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(LOOK):
            cluster.scale(workers)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _on_ray(job: Job, tasks: Tasks, workers: int, address: str | None) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:  # or it listens on all interfaces
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray: Any = importlib.import_module("ray")
    local = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address or "local", logging_level="ERROR", log_to_driver=False,
                 **({} if address else local))  # fmt: skip
    except Exception as error:  # as above
        raise _no_answer(address, error) from None
    try:
        task = ray.remote(max_retries=DEATHS * RESTARTS)(_work).remote
        running: dict[Any, list[str]] = {}
        while True:
            for images in _more(tasks, ray.cluster_resources().get("CPU", 1), len(running)):
                running[task(job, images)] = images
            if not running:
                return
            (ready, *_), _ = ray.wait(list(running))
            images = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.WorkerCrashedError:
                raise _deadly(images) from None
    finally:
        ray.shutdown()


ENGINES: dict[str, Callable] = {"dask": _on_dask, "ray": _on_ray}
PACKAGES = {"dask": "distributed", "ray": "ray"}


def _require_answer(address: str) -> None:
    """The engines wait for minutes. Their servers speak first, unless TLS is asked for."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        with socket.create_connection((place.hostname or "", place.port or 0), TIMEOUT) as server:
            if place.scheme != "tls" and not server.recv(1):
                raise OSError("it hung up")
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from None


def _no_answer(address: str | None, error: Exception) -> InputError:
    return InputError(f"{address}: no answer within {TIMEOUT} s ({first_line(error)})")


def _foreign(error: Exception) -> InputError:
    return InputError(
        f"a worker can't run the task ({first_line(error)}); install tfproj {__version__} there"
    )


def _deadly(images: list[str]) -> TfprojError:
    return TfprojError(
        f"workers died {DEATHS * RESTARTS} times at the task that begins with {images[0]}; {KEPT}"
    )
