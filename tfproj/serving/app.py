"""The addresses of a server."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tfproj.errors import InputError, unknown_name
from tfproj.inference.image_files import describe
from tfproj.serving import tensors
from tfproj.serving.jobs import Jobs
from tfproj.serving.messages import Answer, Refusal, Request, as_json
from tfproj.serving.metrics import Metrics
from tfproj.serving.models import Model, Question, read_form
from tfproj.serving.settings import Settings

FILES = Path(__file__).parent
# The page brings all that it needs, and asks nobody else for anything.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Each model has one version, which clients may name.
_NAMED = re.compile("(/v[12]/models/)([^/]+)(?:/versions/1(?=/|$))?(.*)", re.DOTALL)

Endpoint = Callable[..., Awaitable[Answer]]


class Service:
    """Answers requests.

    Attributes:
        routes: address -> (method, what answers, or what is always the answer).

    Raises:
        TfprojError: a model can't be used, or does not answer as its file says.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._models = {name: Model(name, settings) for name in settings.models}
        for model in self._models.values():
            model.selftest()
        self._jobs = Jobs(settings)
        self.metrics = Metrics(lambda: self._jobs.pending)
        described = {"models": [model.describe() for model in self._models.values()]}
        policy = {"content-security-policy": POLICY}
        page = (FILES / "page.html").read_bytes()
        self.routes: dict[str, tuple[str, Endpoint | Answer]] = {
            "/v1/models/{name}/predict": ("POST", self.predict),
            "/v2/models/{name}/infer": ("POST", self.infer),
            "/v2/models/{name}/ready": ("GET", self.model_ready),
            "/v2/models/{name}": ("GET", self.model_metadata),
            "/v1/models": ("GET", as_json(described)),
            "/v2": ("GET", as_json(tensors.SERVER)),
            "/v2/health/live": ("GET", Answer()),
            "/v2/health/ready": ("GET", Answer()),
            "/metrics": ("GET", self.show_metrics),
            "/openapi.json": ("GET", Answer((FILES / "openapi.json").read_bytes())),
            "/": ("GET", Answer(page, "text/html; charset=utf-8", headers=policy)),
        }

    async def answer(self, request: Request) -> Answer:
        """By the address and the method."""
        named = _NAMED.fullmatch(request.path)
        path = f"{named[1]}{{name}}{named[3]}" if named else request.path
        if path not in self.routes:
            raise Refusal(404, "Not Found")
        request.address = path
        method, found = self.routes[path]
        if request.scope["method"].replace("HEAD", "GET") != method:
            raise Refusal(405, "Method Not Allowed", allow=method)
        if isinstance(found, Answer):
            return found
        if named is None:
            return await found(request)
        name = named[2]
        if name not in self._models:
            raise Refusal(404, str(unknown_name("unknown model", name[:100], self._models)))
        try:
            return await found(request, self._models[name])
        finally:
            self._jobs.release(request)

    async def predict(self, request: Request, model: Model) -> Answer:
        """Images as the body or in a form: records, or a mask where PNG is asked for."""
        how = Question.read(request.query(), request.headers.get("accept", ""))
        kind = request.headers.get("content-type", "")
        body = await self._jobs.body(request)
        images = [("image", body)]
        if kind.lower().startswith("multipart/form-data"):
            # By a thread, since it may take a while.
            images = await self._jobs.run_one(partial(read_form, body, kind))
        if not any(data for _, data in images):
            raise InputError("no image: send its bytes as the body, or files of a form")
        if how.picture and len(images) > 1:
            raise InputError("image/png is the answer for one image; ask for JSON")
        calls = [partial(model.answer, label, data, how) for label, data in images]
        answers = await self._jobs.run(*calls)
        good, bad = [], []
        for (label, _), answer in zip(images, answers, strict=True):
            if isinstance(answer, InputError):
                bad.append(describe(label, answer, 1))
            elif isinstance(answer, Exception):
                raise answer
            else:
                good.append(answer)
        if not good:
            raise answers[0]
        self.metrics.images(model.name).inc(len(good))
        if isinstance(good[0], bytes):
            return Answer(good[0], "image/png")
        return as_json({"predictions": good, "failures": bad})

    async def infer(self, request: Request, model: Model) -> Answer:
        """Tensors of the Open Inference Protocol."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "compressed requests are not supported")
        length = request.headers.get(tensors.HEADER_LENGTH)
        body = await self._jobs.body(request)
        return await self._jobs.run_one(partial(tensors.infer, model, body, length))

    async def model_ready(self, request: Request, model: Model) -> Answer:
        return Answer()

    async def model_metadata(self, request: Request, model: Model) -> Answer:
        return as_json(tensors.metadata(model))

    async def show_metrics(self, request: Request) -> Answer:
        return Answer(*self.metrics.written())
