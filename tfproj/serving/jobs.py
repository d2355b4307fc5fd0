"""The work of the requests: a bounded queue in front of one thread a CPU."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tfproj.errors import TooLargeError
from tfproj.serving.settings import IN_TRANSIT, Settings


class Jobs:
    """Runs what takes a CPU, and holds what arrives within bounds.

    onnxruntime and Pillow let other threads run, so one process takes all CPUs; it holds each
    model once.
    """

    def __init__(self, settings: Settings):
        self._pool = concurrent.futures.ThreadPoolExecutor(settings.workers, "tfproj-serve")
        self._workers = settings.workers
        self._most = settings.workers + settings.queue
        self._max_body = settings.max_body
        self._bytes = 0
        self._seconds = 0.0  # of a job, lately
        self.pending = 0

    async def run(self, *calls: Callable[[], Any]) -> list[Any]:
        """What each call returns, in order.

        Raises:
            HTTPException: 503, the queue has no room for all of them.
        """
        if self.pending + len(calls) > self._most:
            raise self._busy("the queue is full")
        self.pending += len(calls)
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(self._pool, self._timed, call) for call in calls]
        for future in futures:
            future.add_done_callback(self._done)
        return [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body, counted among what is held until the block ends.

        Raises:
            TooLargeError: it is above the limit.
            HTTPException: 503, too many bytes are on their way already.
        """
        parts, size = [], 0
        try:
            async for part in request.stream():
                size, self._bytes = size + len(part), self._bytes + len(part)
                if size > self._max_body:
                    raise TooLargeError(f"a body of more than {self._max_body:,} bytes")
                if self._bytes > IN_TRANSIT * self._max_body:
                    raise self._busy("too many requests are arriving")
                parts.append(part)
            yield b"".join(parts)
        finally:
            self._bytes -= size

    def _timed(self, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        try:
            return call()
        finally:
            self._seconds += 0.1 * (time.perf_counter() - begin - self._seconds)

    def _done(self, future: asyncio.Future) -> None:
        self.pending -= 1

    def _busy(self, reason: str) -> HTTPException:
        seconds = math.ceil(self.pending * self._seconds / self._workers)
        return HTTPException(503, f"{reason}; try again", {"Retry-After": str(max(1, seconds))})
