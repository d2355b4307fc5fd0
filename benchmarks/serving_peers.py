"""The same predictor behind LitServe, BentoML and MLServer; ``serving.py`` starts it.

    python benchmarks/serving.py --peers DIR

Each with its defaults, one worker a CPU, and no batches: those pay nothing for these models.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path


def predictor():
    from tfproj import Predictor

    return Predictor(os.environ["MODEL"], threads=1)


def litserve(port: int) -> None:
    import litserve

    class API(litserve.LitAPI):
        def setup(self, device):
            self.predictor = predictor()

        async def decode_request(self, request):
            return await request.body()

        def predict(self, data):
            return self.predictor.predict(data)[0]

        def encode_response(self, result):
            return answer(result)

    workers = int(os.environ["WORKERS"])
    litserve.LitServer(API(), accelerator="cpu", workers_per_device=workers).run(
        host="127.0.0.1", port=port, generate_client_file=False, log_level="error"
    )


def bentoml(port: int) -> None:
    command = Path(sys.executable).parent / "bentoml"
    where = ["--port", str(port), "--working-dir", str(Path(__file__).parent)]
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.execv(command, [str(command), "serve", "serving_peers:Service", *where])


def mlserver(port: int) -> None:
    folder = Path(tempfile.mkdtemp())
    workers = {"parallel_workers": int(os.environ["WORKERS"])}
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    model = {"name": "model", "implementation": "serving_peers.Runtime"}
    (folder / "settings.json").write_text(json.dumps({**ports, **workers, "host": "127.0.0.1"}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    command = Path(sys.executable).parent / "mlserver"
    os.execv(command, [str(command), "start", str(folder)])


def answer(result) -> dict:
    """As ``tfproj serve`` has it."""
    if hasattr(result, "shares"):
        return {"shares": result.shares()}
    return {"top": [{"label": name, "probability": p} for name, p in result.top(1)]}


with contextlib.suppress(ImportError):  # each is in an environment of its own
    import bentoml as _bentoml

    @_bentoml.service(workers=int(os.environ.get("WORKERS", "1")), traffic={"timeout": 60})
    class Service:
        def __init__(self):
            self.predictor = predictor()

        @_bentoml.api(route="/predict")
        def predict(self, image: Path) -> dict:
            return answer(self.predictor.predict(image)[0])


with contextlib.suppress(ImportError):
    import mlserver as _mlserver
    from fastapi import Request, Response

    class Runtime(_mlserver.MLModel):
        async def load(self) -> bool:
            self.predictor = predictor()
            return True

        @_mlserver.handlers.custom_handler(rest_path="/predict")
        async def image(self, request: Request) -> Response:
            data = await request.body()
            content = json.dumps(answer(self.predictor.predict(data)[0]))
            return Response(content, media_type="application/json")
