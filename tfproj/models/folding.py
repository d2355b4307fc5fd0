"""Norms out of a trained model, and into one: the same function with and without them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfproj.core.spec import ModelSpec
from tfproj.models.layers import BatchNorm
from tfproj.models.registry import build_model


def without_norms(options: Mapping[str, Any]) -> dict[str, Any]:
    """The builder's options for the same network of plain convolutions."""
    return {key: value for key, value in options.items() if key != "batch_norm"}


def fold_norms(model, spec: ModelSpec, options: Mapping[str, Any]):
    """The same function with plain convolutions only.

    A norm after a convolution is affine per channel: with s = gamma / sqrt(variance + epsilon),
    kernel' = kernel * s and bias' = beta - mean * s (+ bias * s).

    Args:
        model: what ``build_model(spec, options)`` gives, trained.
    """
    norms = _norms(model)
    if not norms:
        return model
    plain = build_model(spec, without_norms(options))
    for layer in plain.layers:
        trained = model.get_layer(layer.name)
        weights = [np.asarray(w) for w in trained.get_weights()]
        norm = norms.get(f"{layer.name}_bn")
        if norm is not None:
            weights = _folded(weights, norm, isinstance(layer, keras.layers.DepthwiseConv2D))
        if layer.weights:
            layer.set_weights(weights)
    return plain


def unfold_norms(plain, model, images: np.ndarray, batch_size: int = 8) -> None:
    """Give a model with batch norm the function of one without: the reverse of :func:`fold_norms`.

    Trained weights are thus trained on as they were trained: with norms. A convolution keeps its
    kernel; with the mean and variance of what it gives for ``images``, its norm gets
    gamma = sqrt(variance + epsilon) and beta = mean, which undo the normalisation.

    Args:
        plain: what ``build_model`` gives without norms, float32, trained.
        model: the same with norms; its weights are overwritten.
        images: uint8 (N, H, W, C), like those it will be trained with.
        batch_size: images computed at once.
    """
    norms = _norms(model)
    followed = [layer for layer in plain.layers if f"{layer.name}_bn" in norms]
    for layer in plain.layers:
        if layer.weights and layer not in followed:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    moments = _channel_moments(plain, followed, images, batch_size)
    for layer, (mean, variance) in zip(followed, moments, strict=True):
        kernel, bias = layer.get_weights()
        norm = norms[f"{layer.name}_bn"]
        model.get_layer(layer.name).set_weights([kernel])
        # What the norm sees has no bias.
        norm.set_weights([np.sqrt(variance + norm.epsilon), mean, mean - bias, variance])


def _norms(model) -> dict[str, BatchNorm]:
    """By name. Not Keras' own, which an encoder has: they stay in, and the converter folds them."""
    return {layer.name: layer for layer in model.layers if isinstance(layer, BatchNorm)}


def _channel_moments(
    plain, layers: list, images: np.ndarray, batch_size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(mean, variance) float64 (channels,) of each layer's output over images and pixels."""
    probe = keras.Model(plain.input, [layer.output for layer in layers])
    sums = [np.zeros((2, layer.output.shape[-1])) for layer in layers]
    for start in range(0, len(images), batch_size):
        for total, output in zip(
            sums, probe.predict_on_batch(images[start : start + batch_size]), strict=True
        ):
            values = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
            total += [values.sum(axis=0), (values**2).sum(axis=0)]
    moments = []
    for layer, total in zip(layers, sums, strict=True):
        mean, square = total / (len(images) * math.prod(layer.output.shape[1:-1]))
        moments.append((mean, np.maximum(square - mean**2, 0.0)))
    return moments


def _folded(weights: list[np.ndarray], norm, depthwise: bool) -> list[np.ndarray]:
    gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    bias = weights[1] if len(weights) > 1 else 0.0
    # The last axis of a kernel is the output channel; a depthwise one has 1 there, after them.
    kernel = weights[0] * (scale[:, None] if depthwise else scale)
    return [kernel.astype(np.float32), (beta + (bias - mean) * scale).astype(np.float32)]
