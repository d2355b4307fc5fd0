"""Clients of a server, each request with an image whose answer is known."""

from __future__ import annotations

import io
import json
import random
import socket
import threading
import time
from collections import Counter

import numpy as np
from http_load import Client, bad_requests, request
from PIL import Image

from tfproj import Predictor

from .frame import Counts, shared
from .memory import Memory

MODEL = "fashion_mnist-tiny"
KNOWN = 64
CLOSE = 1e-4  # to the probabilities of the same image in another batch


@shared
def known() -> tuple[list[np.ndarray], np.ndarray]:
    """Images, and the probabilities of each by itself."""
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (28, 28), np.uint8) for _ in range(KNOWN)]
    predictor = Predictor.pretrained(MODEL, threads=1)
    return images, np.stack([predictor.predict(image)[0].probabilities for image in images])


class Clients:
    """What the clients share: requests with known answers, counts, an end."""

    def __init__(self, port: int, seconds: float, rng: random.Random):
        self.port, self._seconds, self._rng = port, seconds, rng
        given, self.expected = known()
        path = f"/v1/models/{MODEL}/predict?top=10"
        self.wires = [request("POST", path, png(image)) for image in given]
        self._bad = bad_requests([MODEL], png(given[0]), rng.randrange(2**32))
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """From now on it counts."""
        self.counts, self.statuses = Counts(), Counter()
        self._end = time.monotonic() + self._seconds

    def watch(self, memory: Memory) -> None:
        while time.monotonic() < self._end:
            time.sleep(0.5)
            memory.sample()

    def work(self, seconds: float = 1e9) -> None:
        """One client after the other, until the end."""
        client, end = Client(self.port), min(self._end, time.monotonic() + seconds)
        while time.monotonic() < end:
            with self._lock:
                kind, index = self._rng.random(), self._rng.randrange(KNOWN)
                bad = self._bad()
            if kind < 0.8:
                self._known(client, index)
            elif kind < 0.95:
                self._count(one_off(self.port, bad), True)
            else:
                slow(self.port, self.wires[index], leave=kind < 0.98)
        client.close()

    def _known(self, client: Client, index: int) -> None:
        status, _, body = client.ask(self.wires[index])
        if status in (0, 503):  # no answer is none of another client
            self._count(status, True)
            time.sleep(0.01)
        else:
            self._count(status, status == 200 and is_answer(body, self.expected[index]))

    def _count(self, status: int, right: bool) -> None:
        with self._lock:
            self.statuses[status] += 1
            self.counts.tried += 1
            self.counts.failed += not right


def is_answer(body: bytes, expected: np.ndarray) -> bool:
    """Whether a server's answer holds these probabilities."""
    top = json.loads(body)["predictions"][0]["top"]
    found = [answer["probability"] for answer in top]
    return bool(np.allclose(found, np.sort(expected)[::-1], atol=CLOSE))


def png(array: np.ndarray) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def one_off(port: int, wire: bytes) -> int:
    """The status of a request on a connection of its own."""
    client = Client(port)
    status = client.ask(wire)[0]
    client.close()
    return status


def slow(port: int, wire: bytes, leave: bool) -> None:
    """Send a request in pieces; or go before it is whole."""
    with socket.socket() as connection:
        connection.settimeout(10)
        try:
            connection.connect(("127.0.0.1", port))
            for part in range(0, len(wire), max(1, len(wire) // 4)):
                if leave and part:
                    return
                connection.sendall(wire[part : part + max(1, len(wire) // 4)])
                time.sleep(0.1)
            connection.recv(65536)
        except OSError:
            pass  # the server may close
