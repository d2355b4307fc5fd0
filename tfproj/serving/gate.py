"""Around the addresses: who may ask, and what is counted, logged and said of errors."""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from tfproj.errors import InputError, TfprojError, TooLargeError
from tfproj.serving.app import Service
from tfproj.serving.messages import Answer, Receive, Refusal, Request, Send, as_json

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The page holds no secret, and what watches a container has no token.
OPEN = ("/", "/v2/health/live", "/v2/health/ready")

_PORT = re.compile(":[0-9]*$")
_log = logging.getLogger("tfproj.serving")


class Gate:
    """An ASGI application without a framework, which would take longer than a small model.

    Args:
        note: gets what the log shall say of a request.
    """

    def __init__(self, service: Service, note: Callable[[dict[str, Any]], None]):
        self._service, self._write = service, note
        settings = self._settings = service.settings
        self._token = settings.token.encode() if settings.token else None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        begin, request = time.perf_counter(), Request(scope, receive)
        try:
            self._require_right(request)
            answer = await self._service.answer(request)
        except Exception as error:
            answer = explain(error)
        await answer.send(send)
        self._note(request, answer.status, time.perf_counter() - begin)

    def _require_right(self, request: Request) -> None:
        """Refuse by what a request's head says."""
        headers = request.headers
        if self._token is not None and request.path not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.encode(), self._token)
            if scheme.lower() != "bearer" or not right:
                text = "the token is missing or wrong"
                raise Refusal(401, text, **{"www-authenticate": "Bearer"})
        # A page elsewhere could give its own name our address, and then read our answers.
        host = _PORT.sub("", headers.get("host", "")).strip("[]").lower()
        if self._token is None and host not in LOOPBACK:
            raise Refusal(403, "without TFPROJ_TOKEN requests must be for this machine")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._settings.max_body:
            raise TooLargeError(f"a body of more than {self._settings.max_body:,} bytes")

    def _note(self, request: Request, status: int, seconds: float) -> None:
        self._service.metrics.requests(request.address, status).inc()
        self._service.metrics.seconds(request.address).observe(seconds)
        client = (request.scope.get("client") or ["-"])[0]
        facts = {"client": client, "method": request.scope["method"], "path": request.path[:200]}
        self._write({**facts, "status": status, "ms": round(1000 * seconds, 1)})


def explain(error: Exception) -> Answer:
    """The answer to what went wrong: one line, and no traceback."""
    status, text, headers = 400, str(error), {}
    if isinstance(error, Refusal):
        status, headers = error.status, error.headers
    elif isinstance(error, TooLargeError):
        status = 413
    elif not isinstance(error, InputError):
        _log.error("failed", exc_info=error)
        if not isinstance(error, TfprojError):
            text = "this is a fault of the server; see its log"
        status = 500
    return as_json({"error": " ".join(text.split())}, status, headers)
