"""Around the addresses: who may ask, and what is counted, logged and said of errors."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from tfproj.errors import InputError, TfprojError, TooLargeError
from tfproj.serving.metrics import Metrics
from tfproj.serving.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The page holds no secret, and what watches a container has no token.
OPEN = ("/", "/v2/health/live", "/v2/health/ready")
GONE = 499  # as nginx writes it: the client did not wait

_log = logging.getLogger("tfproj.serving")


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: Router, settings: Settings, metrics: Metrics):
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._token = f"Bearer {settings.token}".encode() if settings.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; never raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        scope["app"] = self  # the router then raises what it would otherwise answer in plain text
        try:
            self._require_right(scope["path"], Headers(scope=scope))
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            status = GONE
        except Exception as error:
            refusal = explain(error)
            if not status:  # else its head is sent, and the connection closes
                await refusal(scope, receive, watched)
        self._note(scope, status, time.perf_counter() - begin)

    def _require_right(self, path: str, headers: Headers) -> None:
        """Refuse by what a request's head says."""
        if self._token is not None and path not in OPEN:
            given = headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, self._token):
                raise HTTPException(
                    401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"}
                )
        # A page elsewhere could give its own name our address, and then read our answers.
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if self._token is None and host.strip("[]") not in (*LOOPBACK, self._settings.host):
            raise HTTPException(403, "without TFPROJ_TOKEN requests must be for this machine")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._settings.max_body:
            raise TooLargeError(f"a body of more than {self._settings.max_body:,} bytes")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint = getattr(scope.get("endpoint"), "__name__", "none")
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.seconds.labels(endpoint).observe(seconds)
        if _log.isEnabledFor(logging.INFO):
            client = (scope.get("client") or ["-"])[0]
            facts = {"client": client, "method": scope["method"], "path": scope["path"][:200],
                     "status": status, "ms": round(1000 * seconds, 1)}  # fmt: skip
            _log.info("", extra={"facts": facts})


def explain(error: Exception) -> Response:
    """The answer to what went wrong: one line, and no traceback."""
    headers = None
    if isinstance(error, HTTPException):
        status, text, headers = error.status_code, error.detail, error.headers
    elif isinstance(error, InputError):
        status, text = 413 if isinstance(error, TooLargeError) else 400, str(error)
    else:
        _log.error("failed", exc_info=error)
        expected = isinstance(error, TfprojError)
        status, text = 500, str(error) if expected else "this is a fault of the server; see its log"
    return json_response({"error": " ".join(text.split())}, status, headers)


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Strict JSON in ASCII; a value that is not finite is an error."""
    content = json.dumps(value, allow_nan=False)
    return Response(content, status, headers, "application/json")
