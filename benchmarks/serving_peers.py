"""The same predictor behind LitServe, BentoML and MLServer; ``serving.py`` starts it.

    python benchmarks/serving.py --peers DIR

Each with its defaults, one worker a CPU, and no batches: those pay nothing for these models.
"""

import base64
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
    workers = int(os.environ["WORKERS"])
    _litserve.LitServer(API(), accelerator="cpu", workers_per_device=workers).run(
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
    (folder / "settings.json").write_text(
        json.dumps({**ports, **workers, "host": "127.0.0.1", "metrics_dir": str(folder)})
    )
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
    import litserve as _litserve

    class API(_litserve.LitAPI):
        def setup(self, device):
            self.predictor = predictor()

        def decode_request(self, request):
            return base64.b64decode(request["image"])

        def predict(self, data):
            return self.predictor.predict(data)[0]

        def encode_response(self, result):
            return answer(result)


with contextlib.suppress(ImportError):
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
    from mlserver.codecs import Base64Codec, StringCodec
    from mlserver.types import InferenceRequest, InferenceResponse

    class Runtime(_mlserver.MLModel):
        async def load(self) -> bool:
            self.predictor = predictor()
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            (data,) = Base64Codec.decode_input(payload.inputs[0])
            text = json.dumps(answer(self.predictor.predict(data)[0]))
            output = StringCodec.encode_output("answer", [text])
            return InferenceResponse(model_name=self.name, outputs=[output])
