"""``tfproj serve``: models behind HTTP."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from tfproj.cli.options import common, print_json, runs_dir
from tfproj.cli.predict import Threshold, model_file, require_current
from tfproj.core.bounds import MAX_PIXELS
from tfproj.core.files import exists
from tfproj.errors import InputError, missing_extra
from tfproj.inference.model_file import read_model
from tfproj.pretrained import means_pretrained

TOKEN = "TFPROJ_TOKEN"


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need TFPROJ_TOKEN.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--queue", type=click.IntRange(min=0), default=64, show_default=True,
    help="Images that may wait; more are answered with 503 and Retry-After.",
)  # fmt: skip
@click.option(
    "--max-body", type=click.IntRange(min=1), default=32, show_default=True, metavar="MB",
    help="Of a request; larger ones are answered with 413.",
)  # fmt: skip
@click.option(
    "--max-pixels", type=click.IntRange(1, MAX_PIXELS), default=50_000_000, show_default=True,
    help="Of an image; larger ones are answered with 413.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=30.0, show_default=True,
    help="Seconds for a request to arrive, and for an answer to be taken.",
)  # fmt: skip
@click.option("--unknown-below", type=Threshold(), help="As for predict, for all classifiers.")
@click.option("--flip", is_flag=True, help="As for predict.")
@click.option("--tiles", is_flag=True, help="As for predict, for all segmenters.")
@click.option("--log-json", is_flag=True, help="Write the log as a JSON object a line.")
@runs_dir
@common
def serve(models: tuple[str, ...], runs_dir: str, as_json: bool, **options: Any) -> None:
    """Serve MODELs over HTTP: ONNX files, runs, or pretrained models.

    POST an image to /v1/models/NAME/predict, open / in a browser, or use a client of the Open
    Inference Protocol; /openapi.json has all addresses. The environment variable TFPROJ_TOKEN
    holds a secret that requests must then carry.
    """
    try:
        from tfproj.serving import server  # noqa: PLC0415 (an extra)
        from tfproj.serving.settings import Settings  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra((error.name or "uvicorn").split(".")[0], "serve") from None
    settings = Settings(
        named(models, runs_dir, options), options["host"], secret(),
        options["queue"], options["max_body"] * 2**20, options["max_pixels"], options["timeout"],
    )  # fmt: skip
    with server.listen(settings, options["port"]) as listening:
        host, port = listening.getsockname()[:2]
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        click.echo(f"{where}: {', '.join(settings.models)}; Ctrl-C stops", err=True)
        if as_json:
            print_json({"address": where, "models": list(settings.models)})
        server.run(settings, listening, options["log_json"])


def secret() -> str | None:
    """What requests must carry, None: nothing; InputError where no header could carry it."""
    token = os.environ.get(TOKEN) or None
    if token and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise InputError(f"{TOKEN}: a header can't carry it; take ASCII, without a line's end")
    return token


def named(
    models: tuple[str, ...], runs_dir: str, options: dict[str, Any]
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Name in the addresses -> (file, options of the predictor), for each argument.

    Raises:
        InputError: there is no such model, two have one name, or an option fits none.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    kinds = set()
    for argument in models:
        # A file's own name may hold the sign.
        whole = "=" not in argument or exists(Path.exists, Path(argument))
        name, _, model = ("", "", argument) if whole else argument.partition("=")
        path = model_file(model, runs_dir)
        file = read_model(path, str(path))
        require_current(path, model, file.metadata)
        kinds.add(kind := file.spec.kind)
        given = name or (model if means_pretrained(model, runs_dir) else _own_name(path))
        # No name may be "..", which clients take out of an address.
        address = re.sub(r"[^A-Za-z0-9_.-]", "_", given).strip(".") or "model"
        if address in found:
            raise InputError(f"two models are called {address!r}; name one: NAME={argument}")
        found[address] = (
            path,
            {
                "flip": options["flip"],
                "tiles": options["tiles"] and kind == "segment",
                "unknown_below": options["unknown_below"] if kind == "classify" else None,
            },
        )
    for name, kind in (("tiles", "segment"), ("unknown_below", "classify")):
        if options[name] and kind not in kinds:
            raise InputError(f"--{name.replace('_', '-')}: no model here is of the kind {kind!r}")
    return found


def _own_name(path: Path) -> str:
    """That of the run, also where its folder is this one or the one above."""
    return Path(os.path.abspath(path)).parent.name if path.name == "model.onnx" else path.stem
