"""Where a training starts from (``--init``): a run, a pretrained model or an exported file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfproj.core.files import sha256
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.inference.model_file import read_model
from tfproj.pretrained import is_pretrained, pretrained_file
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import find_run


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        name: of the pretrained model, or the path of the run or file.
        spec: of its model; ``options``: of the builder, for the model that is to be trained: with
            batch norm where the source was trained with it.
        file: an ONNX file, or the run's ``best.keras``.
    """

    name: str
    spec: ModelSpec
    options: dict[str, Any]
    file: Path


def find_source(name: str, task: str) -> Source:
    """The pretrained model, ONNX file or run that ``--init`` means.

    Raises:
        InputError: there is none, it is for another task, or its weights are in 8 bits.
    """
    if name.endswith(".onnx"):
        source = _exported(name, Path(name))
    elif is_pretrained(name) and not (Path(name) / "config.json").is_file():
        source = _exported(name, pretrained_file(name))
    else:
        run = find_run(name)
        run.require(run.best_weights, run.spec_file)
        options = dict(run.config().model_options)
        source = Source(str(run.path), run.spec(), options, run.best_weights)
    if source.spec.task != task:
        raise InputError(f"--init {name}: a model for {source.spec.task}, not {task}")
    return source


def _exported(name: str, path: Path) -> Source:
    file = read_model(path, str(path))
    if "quantization" in file.metadata:
        raise InputError(f"--init {name}: int8 weights can't be trained; take the float32 file")
    training = file.metadata.get("training")
    if not isinstance(training, dict) or not isinstance(training.get("model_options"), dict):
        raise InputError(f"--init {name}: the file does not say what its network is made of")
    return Source(name, file.spec, training["model_options"], path)


def with_source(config: TrainConfig, source: Source) -> TrainConfig:
    """The configuration with the network of the source, where it does not name its own."""
    model = config.model or source.spec.model
    own = source.options if model == source.spec.model else {}
    return dataclasses.replace(
        config,
        model=model,
        model_options=config.model_options or own,
        channels=config.channels or source.spec.channels,
    )


def describe(source: Source) -> dict[str, Any]:
    """What a run's ``environment.json`` says of its source: name and SHA-256 of the file."""
    return {"name": source.name, "file": source.file.name, "sha256": sha256(source.file)}
