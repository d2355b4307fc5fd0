"""Networks of ``keras.applications`` as encoders, by name."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import urllib.request
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import keras

from tfproj.errors import InputError, first_line
from tfproj.models.checkpoint import load_weights
from tfproj.models.encoder_names import PREFIX, application

SECONDS = 5  # within which a server has to answer


@keras.saving.register_keras_serializable("tfproj")
class Preprocess(keras.layers.Layer):
    """The ``preprocess_input`` of an application: uint8 (B, H, W, 3) -> float32.

    In float32 also under a mixed policy: bfloat16 has too few digits for steps of 1/128.
    """

    def __init__(self, application: str, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.application = application

    def call(self, inputs):
        function = getattr(keras.applications, self.application)
        scale = sys.modules[function.__module__].preprocess_input
        return scale(keras.ops.cast(inputs, "float32"))

    def get_config(self):
        return {**super().get_config(), "application": self.application}


class Features(dict):
    """Stride -> features (B, H / stride, W / stride, filters) of the encoder ``name``."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def __missing__(self, stride: int):
        raise InputError(
            f"encoder {self.name!r} has no features at stride {stride}, "
            f"only at {', '.join(map(str, self)) or 'none'}; choose another encoder"
        )


def features(inputs, name: str, last: int) -> Features:
    """The layers of an application, called ``encoder_...``, on an input.

    Of every stride it gives the last tensor that all paths run through: what the network computes
    at this resolution, and not what one branch of a block does.

    Args:
        inputs: Keras input, uint8 (B, H, W, 3).
        name: see :func:`tfproj.models.encoder_names.application`.
        last: the largest stride that is wanted.

    Raises:
        InputError: the network can't be built for images of this size.
    """
    network, _ = _network(name, inputs)
    names, calls, scaled = _names(network), [], True

    def renamed(layer):
        nonlocal scaled
        scaled = scaled and not isinstance(layer, keras.layers.Conv2D)
        config = {**layer.get_config(), "name": names[layer.name]}
        # As the preprocessing, so what a network has of it in its layers.
        return type(layer).from_config({**config, "dtype": "float32"} if scaled else config)

    def called(layer, *args, **kwargs):
        output = layer(*args, **kwargs)
        calls.append((keras.tree.flatten(args), output))
        return output

    ours = keras.tree.map_structure(lambda _: inputs, network.input)
    keras.models.clone_model(network, ours, renamed, called)
    height, width = inputs.shape[1:3]
    sides = {(height // s, width // s): s for s in (2, 4, 8, 16, 32) if s <= last}
    found = Features(name)
    for output in _bottlenecks(calls):
        if len(output.shape) == 4 and output.shape[1:3] in sides:
            found[sides[output.shape[1:3]]] = output
    return found


def _bottlenecks(calls: list[tuple[list, Any]]) -> list:
    """Outputs that every path runs through, of calls (inputs, output) in the order of a graph."""
    read = {id(tensor): index for index, (inputs, _) in enumerate(calls) for tensor in inputs}
    outputs, open_until = [], 0
    for index, (_, output) in enumerate(calls):
        if open_until <= index:
            outputs.append(output)
        open_until = max(open_until, read.get(id(output), index))
    return outputs


def load(model: keras.Model, name: str, weights: str | None) -> None:
    """Copy ImageNet's weights into the encoder of a model.

    Args:
        model: with :func:`features` of this name.
        weights: a file of the application without top; None: Keras' own, downloaded once.

    Raises:
        InputError: the file is missing, damaged or of another network, or can't be downloaded.
    """
    network, origin = _network(name, keras.Input(model.input_shape[1:], dtype="uint8"))
    file = Path(weights) if weights else _downloaded(origin)
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    load_weights(network, file)
    names = _names(network)
    ours = {layer.name: layer for layer in model.layers}
    for layer in network.layers:
        if layer.weights and names[layer.name] in ours:
            ours[names[layer.name]].set_weights(layer.get_weights())


def _network(name: str, inputs) -> tuple[keras.Model, dict[str, Any]]:
    """(an application on uint8 images, without top, what it would download).

    It is the network of ImageNet's weights, which is not always that of drawn ones: EfficientNet
    has a layer more. So it is asked for with them, and the download held back.
    """
    build = getattr(keras.applications, application(name))
    file_utils = sys.modules[keras.utils.get_file.__module__]
    with (
        mock.patch.object(file_utils, "get_file") as download,
        mock.patch.object(keras.Model, "load_weights"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of sizes that ImageNet's weights were not trained with
        scaled = Preprocess(build.__name__, name="preprocess")(inputs)
        try:
            network = build(include_top=False, input_tensor=scaled)
        except ValueError as error:
            height, width = inputs.shape[1:3]
            raise InputError(
                f"encoder {name!r} cannot be built for images of {height} x {width} "
                f"({first_line(error)}); take larger ones"
            ) from None
    (file, url), options = download.call_args
    return network, {"fname": file, "origin": url, **options}


def _names(network: keras.Model) -> dict[str, str]:
    """Ours by the network's. Keras counts layers without a name through the whole process."""
    counts, names = Counter(), {}
    for layer in network.operations:
        kind, name = type(layer).__name__.lower(), layer.name
        if re.fullmatch(rf"{kind}\d*", name.replace("_", "")):
            counts[kind] += 1
            name = f"{kind}{counts[kind]}"
        names[layer.name] = f"{PREFIX}{name}"
    return names


def _downloaded(origin: dict[str, Any]) -> Path:
    """The file, from Keras' cache or its server."""
    folder = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    waiting = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(SECONDS)
        if not (Path(folder) / "models" / origin["fname"]).exists():
            _reach(origin["origin"])
        with contextlib.redirect_stdout(sys.stderr):
            return Path(keras.utils.get_file(**origin, cache_dir=folder))
    except Exception as error:  # Keras raises bare ones
        raise InputError(
            f"{origin['origin']}: cannot be downloaded ({first_line(error)}); offline, give the "
            "file with --encoder-weights FILE, or take --encoder lite0, which needs no download"
        ) from None
    finally:
        socket.setdefaulttimeout(waiting)


def _reach(url: str) -> None:
    """OSError where no server answers in time: a look-up of its name knows no time limit."""
    answers: list[Exception | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url).close()
            answers.append(None)
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    fault = answers[0] if answers else TimeoutError(f"no answer within {SECONDS} s")
    if fault is not None:
        raise fault
