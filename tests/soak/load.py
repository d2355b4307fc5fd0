"""Load: many clients, many images, many predictors. Nothing grows, and no answer is another's.

Memory is what is resident; once all is warm it may grow by 1 MB an hour, or in less time by 1 MB.
Every image is one of a known set, and its answer must be that of this image.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from http_load import Client, request

from tfproj import Predictor

from . import ROOT
from .clients import CLOSE, KNOWN, MODEL, Clients, is_answer, known, png
from .frame import Case, Counts, Failed, Trial
from .memory import Memory
from .server import Server

IMAGES, PREDICTORS, CLIENTS = 100_000, 1_000, 64


# --- one process of its own ----------------------------------------------------------------------


def images(seconds: float, threads: int) -> Counts:
    """Images through one predictor, from so many threads at once."""
    given, expected = known()
    predictor, counts = Predictor.pretrained(MODEL, threads=1), Counts()
    memory, lock = Memory(lambda: [os.getpid()]), threading.Lock()
    end, numbers = time.monotonic() + seconds, iter(range(0, IMAGES, 50))

    def work() -> None:
        while next(numbers, None) is not None and time.monotonic() < end:
            with lock:
                chosen = [random.randrange(KNOWN) for _ in range(50)]
            found = predictor.predict([given[index] for index in chosen], batch_size=8)
            wrong = sum(
                not np.allclose(one.probabilities, expected[index], atol=CLOSE)
                for one, index in zip(found, chosen, strict=True)
            )
            with lock:
                counts.tried += len(chosen)
                counts.failed += wrong
                memory.sample()

    at_once(work, threads)
    counts.notes = [memory.require_flat()]
    return counts


def predictors(seconds: float) -> Counts:
    """Predictors that are made, asked once and forgotten."""
    given, expected = known()
    memory, counts = Memory(lambda: [os.getpid()]), Counts()
    end = time.monotonic() + seconds
    while counts.tried < PREDICTORS and time.monotonic() < end:
        index = counts.tried % KNOWN
        found = Predictor.pretrained(MODEL, threads=2).predict(given[index])[0].probabilities
        counts.tried += 1
        counts.failed += not np.allclose(found, expected[index], atol=CLOSE)
        gc.collect()
        memory.sample()
    counts.notes = [memory.require_flat()]
    return counts


def at_once(work: Callable[[], None], threads: int) -> None:
    """Run it in so many threads; the first error is raised."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=guarded) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def apart(call: str, trial: Trial, ready: Any) -> Counts:
    """A function of this module in a process of its own; ``call`` holds {seconds}."""
    call = call.format(seconds=max(10.0, trial.seconds - 3))
    code = f"import json\nfrom tests.soak import frame, load\nfound = load.{call}\n"
    code += "print(json.dumps(frame.record(found)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    return Counts(**json.loads(done.stdout.splitlines()[-1]))


# --- a server ------------------------------------------------------------------------------------


def serve(trial: Trial, ready: Any) -> Counts:
    """64 clients: known images, damaged requests, and clients that are slow or leave."""
    seconds = min(600.0, max(20.0, trial.seconds - 10))
    with Server([MODEL, "--timeout", "3"], trial.folder) as server:
        clients = Clients(server.port, seconds, trial.rng)
        at_once(functools.partial(clients.work, 0.2), CLIENTS)  # every thread that it will have
        clients.begin()
        memory = Memory(server.processes)
        watch = threading.Thread(target=clients.watch, args=(memory,))
        watch.start()
        at_once(clients.work, CLIENTS)
        watch.join()
        server.settle(memory.descriptors)
        note = memory.require_flat()
        counts = clients.counts
        trial.check(not server.errors(), f"the log has {server.errors()[:1]}")
    said = ", ".join(f"{n:,} of {status}" for status, n in sorted(clients.statuses.items()))
    counts.notes = [*counts.notes, note, f"status {said} (0: closed)"]
    return counts


def killed_server(trial: Trial, ready: Any) -> None:
    """kill -9 of the process that answers, then of the one that started it, under load."""
    with Server([MODEL], trial.folder) as server:
        for victim in ("answers", "starts"):
            clients = Clients(server.port, trial.rng.uniform(0.05, 1.0), trial.rng)
            threads = threading.Thread(target=at_once, args=(clients.work, 8))
            threads.start()
            time.sleep(trial.rng.uniform(0, 0.5))
            server.kill(victim)
            threads.join()
            trial.check(not clients.counts.failed, "an answer is not that of its image")
            if victim == "starts":
                server.require_gone()
                server.start()
            _require_answers(trial, server)


def stopped_server(trial: Trial, ready: Any) -> None:
    """SIGSTOP of the process that answers, for a minute."""
    with Server([MODEL], trial.folder) as server:
        for pid in server.processes():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(60)
        for pid in server.processes():
            os.kill(pid, signal.SIGCONT)
        _require_answers(trial, server)


def _require_answers(trial: Trial, server: Server) -> None:
    images, expected = known()
    index = trial.rng.randrange(KNOWN)
    wire = request("POST", f"/v1/models/{MODEL}/predict?top=10", png(images[index]))
    end, status, body = time.monotonic() + 30, 0, b""
    while status != 200 and time.monotonic() < end:
        client = Client(server.port)
        status, _, body = client.ask(wire)
        client.close()
    trial.check(status == 200, f"no answer within 30 seconds (status {status})")
    trial.check(is_answer(body, expected[index]), "the answer is not that of its image")


def _cases() -> Iterator[Case]:
    yield Case("crashes: serve", killed_server, most=50)
    yield Case("faults: stop, serve", stopped_server, most=1, weight=0.5)
    yield Case(f"load: serve, {CLIENTS} clients", serve, most=1, weight=10)
    for threads in (1, 8):
        call = functools.partial(apart, f"images({{seconds}}, {threads})")
        name = f"load: {IMAGES:,} images, one predictor, threads: {threads}"
        yield Case(name, call, most=1, weight=3)
    call = functools.partial(apart, "predictors({seconds})")
    yield Case(f"load: {PREDICTORS:,} predictors", call, most=1, weight=3)


CASES = list(_cases())
