"""Clients for the servers of ``benchmarks/serving.py``: sockets, and bytes that are wrong.

Plain sockets: a client library would take more of the CPUs than the servers do.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

SECONDS = 60  # until a client gives up


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as it goes over the wire; ``content_type`` is the header Content-Type."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """(body, content type) of a form of (name, bytes)."""
    parts = [
        b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), data)
        for name, data in files
    ]
    return b"".join([*parts, b"--xyz--\r\n"]), "multipart/form-data; boundary=xyz"


class Client:
    """One connection; it is opened again where the server has closed it."""

    def __init__(self, port: int):
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = b""

    def ask(self, wire: bytes) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); status 0 where the server closed without an answer."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), SECONDS)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._buffer = b""
            with suppress(
                BrokenPipeError, ConnectionResetError
            ):  # an answer may be there all the same
                self._socket.sendall(wire)
            return self._answer(wire.startswith(b"HEAD "))
        except (OSError, ValueError, IndexError):
            self.close()
            return 0, {}, b""

    def _answer(self, bare: bool) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        length = 0 if bare else int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, body

    def _receive(self) -> None:
        part = self._socket.recv(1 << 20)
        if not part:
            raise ConnectionError
        self._buffer += part

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def load(
    port: int, wires: Sequence[bytes], clients: int, total: int, again: bool = True
) -> tuple[float, list, Counter]:
    """``total`` requests by ``clients`` at a time, each waiting for its answer.

    Args:
        again: a client keeps its connection.

    Returns:
        (seconds in all, seconds of each request sorted, how often each status came).
    """
    latencies: list[float] = []
    found: Counter[int] = Counter()
    numbers = iter(range(total))
    lock = threading.Lock()

    def work() -> None:
        client = Client(port)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            begin = time.perf_counter()
            status = client.ask(wires[number % len(wires)])[0]
            seconds = time.perf_counter() - begin
            if not again:
                client.close()
            with lock:
                latencies.append(seconds)
                found[status] += 1
        client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, sorted(latencies), found


# --- what is wrong -------------------------------------------------------------------------------


def bad_requests(models: Sequence[str], image: bytes, seed: int) -> Callable[[], bytes]:
    """A function whose every call gives another damaged or senseless request."""
    rng = random.Random(seed)
    makers = (_damaged_image, _damaged_form, _odd_query, _odd_address, _tensors, _damaged_wire)
    return lambda: rng.choice(makers)(rng, f"/v1/models/{rng.choice(models)}/predict", image)


def _damaged(rng: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        kind, at = rng.randrange(4), rng.randrange(len(made) or 1)
        if kind == 0:
            made[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del made[at : at + rng.randint(1, 64)]
        elif kind == 2:
            made[at:at] = rng.choice((b"\0", b"\r\n", b"--xyz", b"\xff" * 4, b"{", b'"', b"%00"))
        else:
            made = made[:at] or made
    return bytes(made)


def _damaged_image(rng: random.Random, path: str, image: bytes) -> bytes:
    body = _damaged(rng, image)[: rng.choice((0, 1, 20, 1000, None))]
    kind = rng.choice(("image/jpeg", "text/html", "", "\xff", "multipart/form-data", "a" * 3000))
    return request("POST", path, body, content_type=kind, accept=rng.choice(("*/*", "image/png")))


def _damaged_form(rng: random.Random, path: str, image: bytes) -> bytes:
    names = ("../../etc/passwd", "\0", "é" * 100, "", "a.jpg")
    body, kind = form([(rng.choice(names), image) for _ in range(rng.choice((1, 2, 5)))])
    return request("POST", path, _damaged(rng, body), content_type=rng.choice((kind, kind[:-3])))


def _odd_query(rng: random.Random, path: str, image: bytes) -> bytes:
    values = ("-1", "0", "nan", "inf", "1e9", "", "%00", "9" * 20, "auto", "٣", "1&top=2")
    query = f"{rng.choice(('top', 'unknown_below', 'mask', 'x'))}={rng.choice(values)}"
    return request("POST", f"{path}?{query}".encode().decode("latin-1"), image)


def _odd_address(rng: random.Random, path: str, image: bytes) -> bytes:
    places = ("/", "/metrics", "/v1/models/../../etc/passwd", "/v2/models/%2e%2e/ready", "//",
              "*", "/v1/models/%00/predict", "/v2/models/x/infer", "http://[", "/" + "a" * 5000,
              path)  # fmt: skip
    method = rng.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH"))
    headers = rng.choice(({}, {"Authorization": "Bearer \xff"}, {"X": "\xe9" * 9000},
                          {"Upgrade": "websocket", "Connection": "upgrade"},
                          {"Expect": "100-continue"}))  # fmt: skip
    return request(method, rng.choice(places), rng.choice((b"", b"{}")), **headers)


def _tensors(rng: random.Random, path: str, image: bytes) -> bytes:
    nested = ([], [[]], {}, [1, 28, 28, 1], [2**63] * 4)
    odd = (None, -1, 0, 1.5, 1e400, "UINT8", "image", True, *nested)

    def pick(good: object) -> object:
        return rng.choice((good, good, rng.choice(odd)))

    tensor = {
        "name": pick("image"),
        "datatype": pick("UINT8"),
        "shape": pick([1, 28, 28, 1]),
        "data": pick([0] * 784),
        "parameters": pick({"binary_data_size": pick(784)}),
    }
    outputs = [{"name": pick("scores"), "parameters": pick({"binary_data": pick(True)})}]
    body = json.dumps(
        {"inputs": pick([tensor]), "outputs": pick(outputs), "id": pick("7")}
    ).encode()
    body = rng.choice((body, b"[" * 100_000, _damaged(rng, body), body + b"\0" * 784))
    length = rng.choice((str(len(body)), str(len(body) - 784), "-5", "1e3", "9" * 30))
    headers = rng.choice(
        ({}, {"Inference_Header_Content_Length": length}, {"Content_Encoding": "gzip"})
    )
    return request("POST", re.sub("/v1(.*)/predict", r"/v2\1/infer", path), body, **headers)


def _damaged_wire(rng: random.Random, path: str, image: bytes) -> bytes:
    head, blank, body = request("POST", path, image).partition(b"\r\n\r\n")
    chunked = head.replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\nX: ")
    return rng.choice((_damaged(rng, head) + blank + body, chunked + blank + b"zz\r\n", head[:30]))


def fuzz(port: int, make: Callable[[], bytes], count: int, clients: int = 16) -> Counter:
    """Send ``count`` bad requests, each on a connection of its own; how often each status came.

    Status 0: the server closed the connection without an answer, as it may where a request is not
    HTTP or does not end.
    """
    return load(port, [make() for _ in range(count)], clients, count, again=False)[2]
