"""A client's connection: closed where a request, or the taking of its answer, is too slow.

uvicorn limits neither, nor the length of a request's head.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024  # bytes: address and headers
_OFFER = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class Whole:
    """A transport that sends an answer's head with its body: a client then wakes up once."""

    def __init__(self, transport: asyncio.Transport):
        self._transport, self._head = transport, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it behind what was kept back, or keep it back: a head, but "100 Continue"."""
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head += data
        elif whole := self._head + data:
            self._head = b""
            self._transport.write(whole)

    def close(self) -> None:
        self.write(b"")
        self._transport.close()


class Connection(HttpToolsProtocol):
    """With two clocks, each of which runs for ``timeout`` seconds."""

    def __init__(self, timeout: float, **given: Any):
        super().__init__(**given)
        self._timeout = timeout
        self._clocks: dict[str, asyncio.TimerHandle] = {}
        self._head: int | None = 0  # bytes of it so far; None: it is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Whole(transport))  # type: ignore[arg-type]
        self._start("arriving")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop("arriving")
        self._stop("leaving")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is not None or "arriving" not in self._clocks:  # a head, or a part of it
            end = data.find(b"\r\n\r\n")
            if found := _OFFER.search(data, 0, len(data) if end < 0 else end):
                # Java's clients offer HTTP/2, which nobody need take up. The parser would then
                # leave out the body.
                data = data[: found.start()] + b"\r\nX-" + data[found.start() + 2 :]
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._start("arriving")

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop("arriving")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.transport.write(b"")  # an answer may be a head alone
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start("leaving")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("leaving")

    def timeout_keep_alive_handler(self) -> None:
        """Not by ``close``: that would wait for a client that takes no bytes."""
        self.transport.abort()

    def _start(self, clock: str) -> None:
        if clock not in self._clocks:
            self._clocks[clock] = self.loop.call_later(self._timeout, self.transport.abort)

    def _stop(self, clock: str) -> None:
        if clock in self._clocks:
            self._clocks.pop(clock).cancel()
