"""The work of the requests: a bounded queue in front of one thread a CPU."""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from tfproj.errors import TooLargeError
from tfproj.serving.messages import Refusal, Request
from tfproj.serving.settings import IN_TRANSIT, Settings

GONE = 499  # as nginx writes it


class Jobs:
    """Runs what takes a CPU, and holds what arrives within bounds.

    onnxruntime and Pillow let other threads run, so one process takes all CPUs; it holds each
    model once.
    """

    def __init__(self, settings: Settings):
        self._workers = settings.workers
        self._most = settings.workers + settings.queue
        self._max_body = settings.max_body
        self._bytes = 0
        self._seconds = 0.0  # of a job, lately
        self.pending = 0
        # An executor's futures, which threads can wait for, take longer than a bare queue.
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(settings.workers):
            threading.Thread(target=self._work, name="tfproj-serve", daemon=True).start()

    async def run(self, *calls: Callable[[], Any]) -> list[Any]:
        """What each call returns, or the exception that it raises, in order.

        Raises:
            TooLargeError: the queue never has room for all of them.
            Refusal: 503, it has none now.
        """
        if len(calls) > self._most:
            raise TooLargeError(f"{len(calls)} images; at most {self._most} find room in the queue")
        if self.pending + len(calls) > self._most:
            raise self._busy("the queue is full")
        self.pending += len(calls)
        loop = asyncio.get_running_loop()
        pairs = [(loop.create_future(), call) for call in calls]
        for pair in pairs:
            self._calls.put(pair)
        return [await future for future, _ in pairs]

    async def run_one(self, call: Callable[[], Any]) -> Any:
        """What the call returns; it may also raise."""
        (result,) = await self.run(call)
        if isinstance(result, Exception):
            raise result
        return result

    async def body(self, request: Request) -> bytes:
        """A request's body, counted among what is held until :meth:`release`.

        Raises:
            TooLargeError: it is above the limit.
            Refusal: 503, too many bytes are on their way already; 499, the client has gone.
        """
        parts: list[bytes] = []
        message: dict[str, Any] = {"more_body": True}
        while message.get("more_body"):
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Refusal(GONE, "the client did not wait")
            parts.append(part := message.get("body", b""))
            request.size, self._bytes = request.size + len(part), self._bytes + len(part)
            if request.size > self._max_body:
                raise TooLargeError(f"a body of more than {self._max_body:,} bytes")
            if self._bytes > IN_TRANSIT * self._max_body:
                raise self._busy("too many requests are arriving")
        return b"".join(parts)

    def release(self, request: Request) -> None:
        """Its body is no longer held."""
        self._bytes -= request.size

    def _work(self) -> None:
        """What one thread does."""
        while True:
            future, call = self._calls.get()
            begin = time.perf_counter()
            try:
                result = call()
            except Exception as error:
                result = error
            self._seconds += 0.1 * (time.perf_counter() - begin - self._seconds)
            with contextlib.suppress(RuntimeError):  # the loop has ended without it
                future.get_loop().call_soon_threadsafe(self._tell, future, result)
            del future, call, result  # nothing is held while the thread waits

    def _tell(self, future: asyncio.Future, result: Any) -> None:
        """In the loop's thread: the result to who waits for it."""
        self.pending -= 1
        if not future.cancelled():
            future.set_result(result)

    def _busy(self, reason: str) -> Refusal:
        seconds = math.ceil(self.pending * self._seconds / self._workers)
        return Refusal(503, f"{reason}; try again", **{"retry-after": str(max(1, seconds))})
