"""The addresses of a server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from tfproj.errors import InputError, unknown_name
from tfproj.inference.image_files import describe
from tfproj.serving import tensors
from tfproj.serving.gate import Gate, json_response
from tfproj.serving.jobs import Jobs
from tfproj.serving.metrics import Metrics
from tfproj.serving.models import Model, Question, read_images
from tfproj.serving.settings import Settings

_log = logging.getLogger("tfproj.serving")
FILES = Path(__file__).parent
# The page brings all that it needs, and asks nobody else for anything.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def create(settings: Settings) -> Gate:
    """The application, its models opened and tested.

    Raises:
        TfprojError: a model can't be used, or does not answer as its file says.
    """
    service = Service(settings)
    return Gate(Router(service.routes(), lifespan=service.lifespan), settings, service.metrics)


class Service:
    """Answers requests; each method is one address."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._models = {name: Model(name, settings) for name in settings.models}
        for model in self._models.values():
            model.selftest()
        self._jobs = Jobs(settings)
        self.metrics = Metrics(lambda: self._jobs.pending)

    def routes(self) -> list[Route]:
        """In the order in which they are looked through."""
        get = partial(Route, methods=["GET"])
        return [
            Route("/v1/models/{name}/predict", self.predict, methods=["POST"]),
            Route("/v2/models/{name}/infer", self.infer, methods=["POST"]),
            get("/v2/models/{name}/ready", self.model_ready),
            get("/v2/models/{name}", self.model_metadata),
            get("/v1/models", self.list_models),
            get("/v2", self.server_metadata),
            get("/v2/health/live", self.healthy),
            get("/v2/health/ready", self.healthy),
            get("/metrics", self.show_metrics),
            get("/openapi.json", self.openapi),
            get("/", self.page),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        """What uvicorn's protocol gets to see, see :mod:`tfproj.serving.connection`."""
        _log.info("ready: %s", ", ".join(self._models))
        yield {"timeout": self._settings.timeout}

    async def predict(self, request: Request) -> Response:
        """Images as the body or in a form: records, or a mask where PNG is asked for."""
        model = self._model(request)
        how = Question.read(request.query_params, request.headers.get("accept", ""))
        kind = request.headers.get("content-type", "")
        async with self._jobs.body(request) as body:
            # A form is taken apart by a thread, which may take a while.
            forms = kind.startswith("multipart/")
            find = partial(read_images, body, kind)
            images = (await self._jobs.run(find))[0] if forms else find()
            if how.picture and len(images) > 1:
                raise InputError("image/png is the answer for one image; ask for JSON")
            calls = [partial(model.try_answer, label, data, how) for label, data in images]
            answers = await self._jobs.run(*calls)
        good = [answer for answer in answers if not isinstance(answer, InputError)]
        if not good:
            raise answers[0]
        self.metrics.images.labels(model.name).inc(len(good))
        if isinstance(good[0], bytes):
            return Response(good[0], media_type="image/png")
        pairs = zip(images, answers, strict=True)
        bad = [describe(i[0], error, 1) for i, error in pairs if isinstance(error, InputError)]
        return json_response({"predictions": good, "failures": bad})

    async def infer(self, request: Request) -> Response:
        """Tensors of the Open Inference Protocol."""
        model = self._model(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "compressed requests are not supported")
        length = request.headers.get(tensors.HEADER_LENGTH)
        async with self._jobs.body(request) as body:
            (answer,) = await self._jobs.run(partial(tensors.infer, model, body, length))
        content, json_length = answer
        if json_length is None:
            return Response(content, media_type="application/json")
        headers = {tensors.HEADER_LENGTH: str(json_length)}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def list_models(self, request: Request) -> Response:
        return json_response({"models": [model.describe() for model in self._models.values()]})

    async def server_metadata(self, request: Request) -> Response:
        return json_response(tensors.SERVER)

    async def healthy(self, request: Request) -> Response:
        return Response()

    async def model_ready(self, request: Request) -> Response:
        self._model(request)
        return Response()

    async def model_metadata(self, request: Request) -> Response:
        return json_response(tensors.metadata(self._model(request)))

    async def show_metrics(self, request: Request) -> Response:
        content, kind = self.metrics.written()
        return Response(content, headers={"content-type": kind})

    async def openapi(self, request: Request) -> Response:
        return Response((FILES / "openapi.json").read_bytes(), media_type="application/json")

    async def page(self, request: Request) -> Response:
        headers = {"content-security-policy": POLICY}
        return Response((FILES / "page.html").read_bytes(), 200, headers, "text/html")

    def _model(self, request: Request) -> Model:
        name = request.path_params["name"]
        if name not in self._models:
            raise HTTPException(404, str(unknown_name("unknown model", name[:100], self._models)))
        return self._models[name]
