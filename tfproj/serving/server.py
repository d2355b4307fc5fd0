"""The processes: one answers, and one starts it again should it die."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

import uvicorn

from tfproj.errors import InputError, TfprojError
from tfproj.serving.app import Service
from tfproj.serving.connection import Connection
from tfproj.serving.gate import LOOPBACK, Gate
from tfproj.serving.settings import Settings

_log = logging.getLogger("tfproj.serving")
MAX_CONNECTIONS = 1000
LEAST_LIFE = 2.0  # seconds between two starts
STARTUP_FAILURES = {4: InputError, 3: TfprojError}  # exit codes: another try is of no use
STOP_SECONDS = 30  # for answers under way when the server is told to stop


class Log(logging.Handler):
    """Lines on stderr: for people, or JSON objects."""

    def __init__(self, as_json: bool):
        super().__init__()
        self._as_json = as_json
        for name, level in (("tfproj.serving", logging.INFO), ("uvicorn.error", logging.WARNING)):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [self], False
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"message": record.getMessage()}
        if record.exc_info:
            facts["trace"] = "".join(traceback.format_exception(record.exc_info[1])).strip()
        self.write(facts, record.levelname)

    def write(self, facts: dict[str, Any], level: str = "INFO") -> None:
        """One line; requests call it themselves, as ``logging`` would take twice as long."""
        now = time.time()
        if self._as_json:
            line = json.dumps({"time": round(now, 3), "level": level, **facts})
        else:
            # In ASCII, and on one line what clients may choose, so that they can't forge another.
            words = [v if k == "trace" else ascii(str(v))[1:-1] for k, v in facts.items()]
            line = " ".join([time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now)), *words])
        with contextlib.suppress(OSError):
            sys.stderr.write(line + "\n")


def listen(settings: Settings, port: int) -> socket.socket:
    """A socket that listens once the server runs; clients wait in it while one is started anew.

    Raises:
        InputError: the address can't be had, or it is not this machine's own and has no token.
    """
    host = settings.host
    if host not in LOOPBACK and not settings.token:
        raise InputError(
            f"--host {host}: others could reach the server; set TFPROJ_TOKEN to a secret that "
            "requests must carry (Authorization: Bearer ...)"
        )
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=1024)
        # Connections inherit it. Else an answer's second packet waits 40 ms for a client's word.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, UnicodeError) as error:  # no name of a host may look so
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port}: {reason}") from None


def run(settings: Settings, listening: socket.socket, json_lines: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; answers under way are then finished, and none begin.

    Raises:
        InputError: an option does not fit a model, or a file can't be used.
        TfprojError: a model does not answer as its file says.
    """
    Log(json_lines)
    processes = multiprocessing.get_context("spawn")
    process = None
    try:
        while True:
            begin = time.monotonic()
            # A daemon, so that it is told to stop however its parent ends.
            process = processes.Process(
                target=work, args=(settings, listening, json_lines), daemon=True
            )
            _start(process)
            process.join()
            if process.exitcode in STARTUP_FAILURES:
                kind = STARTUP_FAILURES[process.exitcode]
                raise kind("the server could not start; its last line says why")
            _log.error(
                "the process that answers ended with %s; another takes over", process.exitcode
            )
            time.sleep(max(0.0, begin + LEAST_LIFE - time.monotonic()))
    except KeyboardInterrupt:  # which SIGTERM raises, too
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # some tell a whole group, and each of it
        listening.close()
        if process is not None and process.is_alive():
            process.terminate()
            process.join()


def _start(process: Any) -> None:
    """Start it whole, and deaf to Ctrl-C: its parent tells it of that, and it would end in a trace.

    What the parent is told meanwhile waits.
    """
    told: list[int] = []
    term = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # whose own start would let the signal through again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    else:
        process.start()
    signal.signal(signal.SIGTERM, term)
    if told:
        raise KeyboardInterrupt


def work(settings: Settings, listening: socket.socket, json_lines: bool) -> None:
    """The process that answers; it ends when the one that started it does."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if hasattr(os, "SCHED_BATCH"):  # Linux: what comes in does not interrupt an image in work
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    log = Log(json_lines)
    try:
        app = Gate(Service(settings), log.write)
    except TfprojError as error:
        _log.error("%s", error)
        sys.exit(next(c for c, kind in STARTUP_FAILURES.items() if isinstance(error, kind)))
    config = uvicorn.Config(
        app, http=partial(Connection, settings.timeout), ws="none", lifespan="off",  # type: ignore
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS, timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    _log.info("ready: %s", ", ".join(settings.models))
    uvicorn.Server(config).run([listening])


def _end_with(parent: Any) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
