"""Norms out of a trained model: the same function with plain convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfproj.models import NORMS, build_model
from tfproj.spec import ModelSpec


def fold_norms(model, spec: ModelSpec, options: Mapping[str, Any]):
    """The same function with plain convolutions only.

    A norm after a convolution is affine per channel: with s = gamma / sqrt(variance + epsilon),
    kernel' = kernel * s and bias' = beta - mean * s (+ bias * s). A standardised kernel is
    computed once.

    Args:
        model: what ``build_model(spec, options)`` gives, trained.
    """
    from tfproj.models.blocks import BatchNorm, StandardizedConv2D

    if not any(isinstance(layer, (BatchNorm, StandardizedConv2D)) for layer in model.layers):
        return model
    plain = build_model(spec, {k: v for k, v in options.items() if k not in NORMS})
    norms = {layer.name: layer for layer in model.layers}
    for layer in plain.layers:
        trained = model.get_layer(layer.name)
        weights = [np.asarray(w) for w in trained.get_weights()]
        if isinstance(trained, StandardizedConv2D):
            weights = [np.asarray(trained.standardized(trained.kernel)), np.asarray(trained.bias)]
        norm = norms.get(f"{layer.name}_bn")
        if norm is not None:
            weights = _folded(weights, norm)
        if layer.weights:
            layer.set_weights(weights)
    return plain


def _folded(weights: list[np.ndarray], norm) -> list[np.ndarray]:
    gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    bias = weights[1] if len(weights) > 1 else 0.0
    kernel = weights[0] * scale  # the last axis of a Keras kernel is the output channel
    return [kernel.astype(np.float32), (beta + (bias - mean) * scale).astype(np.float32)]
