"""What Prometheus may know."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Of the one process that answers; one that was killed starts from zero, as counters may.

    The attributes give the counter of a label at once, which a lookup by name does not.

    Attributes:
        requests: by endpoint (an address of the routes, never what a client wrote) and status.
        seconds: from a request's head to the end of its answer, by endpoint.
        images: predicted for ``/v1``, by model.
    """

    def __init__(self, pending: Callable[[], float]):
        self._registry = CollectorRegistry()
        shared: dict[str, Any] = {"namespace": "tfproj", "registry": self._registry}
        requests = Counter("requests", "Answers.", ["endpoint", "status"], **shared)
        seconds = Histogram(
            "request_seconds", "Durations.", ["endpoint"], buckets=SECONDS, **shared
        )
        images = Counter("images", "Images predicted.", ["model"], **shared)
        self.requests = functools.cache(requests.labels)
        self.seconds = functools.cache(seconds.labels)
        self.images = functools.cache(images.labels)
        Gauge("pending_jobs", "In work or waiting.", **shared).set_function(pending)
        ProcessCollector(registry=self._registry)

    def written(self) -> tuple[bytes, str]:
        """(content, content type)."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
