"""Weights of 16 bits: half the size at the same speed, where that costs nothing."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import onnx
from onnx import helper

from tfproj.core.probabilities import probabilities_of
from tfproj.errors import TfprojError
from tfproj.experiment.plan import Plan
from tfproj.export.samples import Loss, Samples
from tfproj.export.simplify import constants, drop_constant, set_constant
from tfproj.export.verify import compare
from tfproj.models.folding import fold_norms


def halved(model, planned: Plan):
    """A copy without norms whose weights are rounded to float16: what a halved file computes.

    Raises:
        TfprojError: a weight is beyond what float16 can hold.
    """
    folded = fold_norms(model, planned.spec, planned.config.model_options)
    copy = keras.models.clone_model(folded)
    with np.errstate(over="ignore"):
        rounded = [w.astype(np.float16).astype(np.float32) for w in folded.get_weights()]
    if not all(np.isfinite(weight).all() for weight in rounded):
        raise TfprojError("a weight is too large for 16 bits; leave out --half")
    copy.set_weights(rounded)
    return copy


def store_half(model: onnx.ModelProto) -> None:
    """Keep kernels of a :func:`halved` model as float16, cast to float32 where they are read.

    Runtimes cast once, when they load the file.
    """
    graph = model.graph
    for name, value in constants(graph).items():
        if value.dtype != np.float32 or value.ndim < 2:
            continue
        stored = f"{name}/half"
        set_constant(graph, stored, value.astype(np.float16))
        drop_constant(graph, name)
        cast = helper.make_node(
            "Cast", [stored], [name], name=f"{name}/cast", to=onnx.TensorProto.FLOAT
        )
        graph.node.insert(0, cast)


def rounding(
    exact: np.ndarray, rounded: np.ndarray, samples: Samples
) -> tuple[dict[str, Any], Loss]:
    """What the rounding of weights changes.

    Args:
        exact, rounded: Keras' scores of ``samples``, by the weights as trained and as rounded.

    Returns:
        ``images``, ``split``, ``max_difference``, ``mean_difference``, ``agreement`` as in
        :class:`tfproj.export.verify.Verification`, and ``metrics`` by name, ``float32`` and
        ``half``; and the loss of the metric that decides.
    """
    before, after = samples.measure(exact), samples.measure(rounded)
    figures = {
        "images": len(samples.files),
        "split": samples.split,
        **compare([tuple(probabilities_of(s, samples.kind) for s in (exact, rounded))]),
        "metrics": {name: {"float32": before[name], "half": after[name]} for name in before},
    }
    return figures, samples.loss(before, after)
