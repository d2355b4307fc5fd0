"""How far an image is from those that a classifier was trained on, in the space of its features.

The Mahalanobis distance of features of several layers, each averaged over space (Lee et al., "A
Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
NeurIPS 2018), to one mean of all classes (Kamoi, Kobayashi, "Why is the Mahalanobis Distance
Effective for Anomaly Detection?", 2020), its covariance shrunk as Ledoit and Wolf have it. With
means of the classes, or by nearest neighbours, ViM, energy or the largest logit, it was no better:
docs/recipes.md, "Unknown images".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
from sklearn.covariance import ledoit_wolf

from tfproj.core.spec import ACTIVATION_NAME, INPUT_NAME, SCORES_NAME, UNKNOWN_NAME, ModelSpec
from tfproj.errors import TfprojError
from tfproj.experiment.plan import Plan
from tfproj.export.simplify import set_constant
from tfproj.export.temperature import KNOWN_SHARE
from tfproj.inference.session import CPU, open_session
from tfproj.models.features import class_activations, stage_means
from tfproj.models.registry import MODELS
from tfproj.training.cache import make_cache

LAYER = "unknown"  # the matrix, in Keras and in the graph
LEAST = 20  # training images; fewer say nothing about a spread
# Training images that it is measured on: 10,000 of clothes, 809 photographs of 288 px.
MOST, PIXELS = 10_000, 1 << 26
# A feature that hardly varies counts as if it varied by this share of the others.
LEAST_SPREAD = 0.01

Features = Callable[[np.ndarray], np.ndarray]  # uint8 (B, H, W, C) -> float32 (B, features)


@dataclass(frozen=True)
class Surroundings:
    """Where the features of training images lie.

    Attributes:
        weight, bias: float32 (features, features) and (features,): the mean of the squares of
            ``features @ weight + bias`` over features is the score, about 1 for a training image.
        threshold: the score that an image of the training's kind seldom exceeds.
    """

    weight: np.ndarray
    bias: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """float32 (N,), at least 0, of features (N, features)."""
        return np.square(features @ self.weight + self.bias).sum(axis=1)


def survey(planned: Plan, features: Features, half: bool = False) -> Surroundings | str:
    """Measure on training images, and on validation images what is far; or why it can't be.

    Args:
        features: of the network that will be exported.
        half: keep the weight in numbers that 16 bits hold.
    """
    splits = planned.dataset.splits
    if "train" not in splits or len(splits["train"]) < LEAST:
        return f"fewer than {LEAST} training images"
    if "val" not in splits or threshold_rank(len(splits["val"])) is None:
        return "too few validation images: 19 tell what 5 % of them are"
    most = min(MOST, PIXELS // math.prod(planned.spec.size))
    train, known = (_gathered(planned, split, most, features) for split in ("train", "val"))
    weight, bias = whitening(train)
    if half:
        weight = weight.astype(np.float16).astype(np.float32)
        bias = -(train.mean(axis=0, dtype=np.float64) @ weight).astype(np.float32)
    scores = np.sort(Surroundings(weight, bias, 0.0).score(known))
    return Surroundings(weight, bias, float(scores[threshold_rank(len(scores))]))


def _gathered(planned: Plan, split: str, most: int, features: Features) -> np.ndarray:
    """Features of up to ``most`` images, spread evenly over a split, without augmentation."""
    cache, batch = make_cache(planned, split), planned.config.eval_batch_size
    chosen = np.unique(np.linspace(0, len(cache) - 1, min(most, len(cache))).round().astype(int))
    parts = (chosen[start : start + batch] for start in range(0, len(chosen), batch))
    return np.concatenate([features(cache.batch(part)[0]) for part in parts])


def whitening(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight, bias) of :class:`Surroundings` for training features float (N, features)."""
    exact = features.astype(np.float64)
    mean, spread = exact.mean(axis=0), exact.std(axis=0)
    least = LEAST_SPREAD * np.sqrt(np.mean(spread**2))
    spread = np.maximum(spread, least) if least else np.ones_like(spread)
    covariance, _ = ledoit_wolf((exact - mean) / spread)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-6 * max(values.max(), 1e-6))
    weight = vectors / np.sqrt(values * len(values)) / spread[:, None]
    return weight.astype(np.float32), -(mean @ weight).astype(np.float32)


def threshold_rank(count: int) -> int | None:
    """Index, among so many sorted scores, of the one that a new image exceeds in 5 % of the cases.

    At most, whatever the distribution: the quantile of conformal prediction (Vovk et al.,
    "Algorithmic Learning in a Random World", 2005). None where the largest is not large enough.
    """
    rank = math.ceil(KNOWN_SHARE * (count + 1)) - 1
    return rank if rank < count else None


def features_of(model: keras.Model) -> Features:
    """The features that a Keras model is surveyed by."""
    inner = keras.Model(model.input, stage_means(model))
    return lambda pixels: np.asarray(inner.predict_on_batch(pixels))


def resurveyed(proto: onnx.ModelProto, planned: Plan) -> tuple[onnx.ModelProto, Surroundings]:
    """A graph that has a score, with what its own features say: quantised, they are others."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    features, *constants = next(n for n in changed.graph.node if n.name == LAYER).input
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    probe.graph.output.append(onnx.helper.make_empty_tensor_value_info(features))
    session = open_session(probe.SerializeToString(), "int8", None, [CPU])
    found = survey(planned, lambda pixels: session.run([features], {INPUT_NAME: pixels})[0])
    if isinstance(found, str):  # it could be measured on the float32 model
        raise TfprojError(found)
    for name, value in zip(constants, (found.weight, found.bias), strict=True):
        set_constant(changed.graph, name, value)
    return changed, found


def extended(model: keras.Model, spec: ModelSpec, found: Surroundings | None) -> keras.Model:
    """The model with all outputs of its file by name, but for the probabilities; or as it is."""
    if spec.kind != "classify" or spec.model not in MODELS:
        return model
    outputs: dict[str, Any] = {SCORES_NAME: model.output}
    if found is not None:
        matrix = keras.layers.Dense(len(found.bias), dtype="float32", name=LAYER)
        far = keras.ops.square(matrix(stage_means(model)))
        matrix.set_weights([found.weight, found.bias])
        outputs[UNKNOWN_NAME] = keras.ops.sum(far, axis=-1)
    places = class_activations(model)
    if places is not None:
        outputs[ACTIVATION_NAME] = places
    return keras.Model(model.input, outputs)
