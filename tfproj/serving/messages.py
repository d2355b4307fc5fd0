"""A request and an answer of ASGI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_encode = json.JSONEncoder(allow_nan=False).encode


class Refusal(Exception):
    """A request that gets another status than 400."""

    def __init__(self, status: int, text: str, **headers: str):
        super().__init__(text)
        self.status, self.headers = status, headers


class Request:
    """One request.

    Attributes:
        headers: by name in small letters; of several with one name the first.
        size: bytes of the body that have arrived.
        address: that of the routes, for the figures.
    """

    def __init__(self, scope: dict[str, Any], receive: Receive):
        self.scope, self.receive = scope, receive
        self.path: str = scope["path"]
        pairs = reversed(scope["headers"])
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        self.size, self.address = 0, "none"

    def query(self) -> dict[str, str]:
        """The last value of each parameter."""
        return dict(parse_qsl(self.scope["query_string"].decode("latin-1"), True))


@dataclass
class Answer:
    """What is sent."""

    body: bytes = b""
    kind: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """The head, then the body."""
        lines = {"content-length": str(len(self.body)), "content-type": self.kind, **self.headers}
        head = [(name.encode(), value.encode("latin-1")) for name, value in lines.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": head})
        await send({"type": "http.response.body", "body": self.body})


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Strict JSON in ASCII; a value that is not finite is an error."""
    return Answer(_encode(value).encode(), status=status, headers=headers or {})
