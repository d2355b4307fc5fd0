"""From a Keras model to an ONNX graph."""

from __future__ import annotations

import importlib
from typing import Any

import keras

from tfproj.core.spec import INPUT_NAME, ModelSpec
from tfproj.export.job import CONVERTERS
from tfproj.export.simplify import tidy
from tfproj.export.unknown import LAYER, Surroundings, extended
from tfproj.models.features import PLACES
from tfproj.models.folding import fold_norms


def simple_graph(
    model,
    spec: ModelSpec,
    options: dict[str, Any],
    opset: int,
    found: Surroundings | None = None,
    converter: str = CONVERTERS[0],
) -> tuple[Any, int]:
    """(``onnx.ModelProto``, number of weights) of a trained model, without norms and tidied.

    Args:
        model: what ``build_model(spec, options)`` gives, trained.
        found: gives the file a score of unknown images.
        converter: one of ``CONVERTERS``.

    Raises:
        TfprojError: the conversion failed, or left what has no place in the file.
    """
    folded = fold_norms(model, spec, options)
    layers = [*(layer.name for layer in layers_of(folded)), LAYER, PLACES]
    # Loaded here: where a converter is broken or not installed, the others still work.
    convert = importlib.import_module(f"tfproj.export.with_{converter}").convert
    proto = convert(extended(folded, spec, found), opset, spec.multi_label)
    return tidy(proto, layers, spec.dynamic_size), folded.count_params()


def layers_of(model) -> list:
    """All layers, with those of models inside a model."""
    found = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def free_size(model, spec: ModelSpec):
    """The same model and weights for any height and width, where the spec wants that."""
    if not spec.dynamic_size:
        return model
    inputs = keras.Input((None, None, spec.channels), dtype="uint8", name=INPUT_NAME)
    free = keras.models.clone_model(model, input_tensors=inputs)
    free.set_weights(model.get_weights())
    return free
