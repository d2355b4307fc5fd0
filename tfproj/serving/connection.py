"""A client's connection: closed where a request, or the taking of its answer, is too slow.

uvicorn limits neither, nor the length of a request's head.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024  # bytes: address and headers


class Connection(HttpToolsProtocol):
    """With two clocks; ``app_state`` says how many seconds they run (``timeout``)."""

    _arriving: asyncio.TimerHandle | None = None
    _leaving: asyncio.TimerHandle | None = None
    _head: int | None = 0  # bytes of it so far; None: it is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arriving = self._clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clocks()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        if self._arriving is None:
            self._arriving = self._clock()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._leaving = self._leaving or self._clock()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def timeout_keep_alive_handler(self) -> None:
        """Not by ``close``: that would wait for a client that takes no bytes."""
        self.transport.abort()

    def _clock(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self.app_state["timeout"], self.transport.abort)

    def _stop_clocks(self) -> None:
        for clock in (self._arriving, self._leaving):
            if clock is not None:
                clock.cancel()
