"""Rare classes: what their errors weigh (``--class-weights``), how often they are drawn.

With n_c training images of class c (or pixels, of images of one size), N in all and K classes,
``balanced`` weights are N / (K n_c), as in scikit-learn (King and Zeng, "Logistic Regression in
Rare Events Data", 2001). Those of pixels are at most 50 (Paszke et al., "ENet", 2016), since some
classes have one pixel in a hundred thousand.

``--sampling balanced`` draws the images of all classes equally often (Shen et al., "Relay
Backpropagation", 2016). A mask holds several classes, so there images get the repeat factors of
Gupta et al., "LVIS" (2019): with f_c the share of images that hold class c, that of a class is
max(1, sqrt(t / f_c)), and of an image the largest of its classes. Their threshold t is fixed; here
it is the mean of f_c. An epoch has as many steps as without. Weights then go by what is drawn, so
that nothing is made up for twice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.words import nfc
from tfproj.data import Dataset
from tfproj.data.progress import progress
from tfproj.data.sources.tables import read_csv
from tfproj.errors import InputError, unknown_name
from tfproj.experiment.presets import read_yaml
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import Run

MOST = 50.0  # of a weight of pixels
UNEVEN = 10  # so many times as many images as another class has call for a word
LISTED = 12  # weights that are shown one by one


def balance(
    config: TrainConfig, dataset: Dataset
) -> tuple[TrainConfig, dict[str, float], np.ndarray | None]:
    """What a configuration asks for.

    Returns:
        The configuration, with the numbers of a file in its place; the weight of each class with a
        mean of 1 over what is drawn, empty: all 1; float (N,) repeat factors, None: all 1.

    Raises:
        InputError: the weights can't be read, or are not a positive number for each class.
    """
    given, repeats = config.class_weights, None
    if isinstance(given, str) and given != "balanced":
        given = _checked(given, _read(Path(given)), dataset.classes)
        config = dataclasses.replace(config, class_weights=given)
    elif given is not None and given != "balanced":
        given = _checked("class_weights", [*given.items()], dataset.classes)
    if given is None and config.sampling == "uniform":
        return config, {}, None
    images, classes, amounts = _holdings(dataset)
    if config.sampling == "balanced":
        repeats = _repeat_factors(images, classes, dataset)
        amounts = amounts * repeats[images]
    drawn = np.bincount(classes, amounts, len(dataset.classes))
    if given is None:
        return config, {}, repeats
    weights = _balanced(drawn, config.task) if given == "balanced" else np.array([*given.values()])
    weights = weights * drawn.sum() / (drawn @ weights)
    return config, dict(zip(dataset.classes, weights.tolist(), strict=True)), repeats


def _balanced(drawn: np.ndarray, task: str) -> np.ndarray:
    """Weights (K,) of classes that are drawn so often; one that never is has 1."""
    there = drawn > 0
    weights = np.ones(len(drawn))
    weights[there] = drawn.sum() / (there.sum() * drawn[there])
    return np.minimum(weights, MOST) if task == "segment" else weights


def _repeat_factors(images: np.ndarray, classes: np.ndarray, dataset: Dataset) -> np.ndarray:
    """float (N,) for the training images; only their proportions count."""
    held = np.bincount(classes)
    factors = held[held > 0].mean() / np.maximum(held, 1)
    if dataset.task == "segment":
        factors = np.sqrt(np.maximum(1, factors))
    repeats = np.zeros(len(dataset.splits["train"]))
    np.maximum.at(repeats, images, factors[classes])
    return np.where(repeats, repeats, 1.0)  # 1: all of its pixels are void


def _holdings(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, class, how much: 1, or share of its pixels) for each class that an image holds."""
    split, names = dataset.splits["train"], dataset.classes
    if split.labels is not None:
        return np.arange(len(split)), split.labels, np.ones(len(split))
    shares = np.empty((len(split), len(names)))
    for index in progress(len(split), "counting pixels"):
        mask = split.read_mask(index)
        shares[index] = np.bincount(mask.ravel(), minlength=256)[: len(names)] / mask.size
    images, classes = np.nonzero(shares)
    return images, classes, shares[images, classes]


def _read(path: Path) -> list[tuple[str, Any]]:
    """(class, weight) of each line of a CSV with ``name,weight``, or entry of JSON or YAML."""
    if path.suffix.lower() == ".csv":
        return [(row["name"], row["weight"]) for row in read_csv(path, "name", "weight")]
    # Nodes keep what was written: a class may be called "no", or be listed twice.
    node = read_yaml(path, lambda yaml, text: yaml.compose(text, yaml.SafeLoader))
    pairs = node.value if getattr(node, "id", "") == "mapping" else []
    return [(str(key.value), value.value) for key, value in pairs]


def _checked(name: str, pairs: list[tuple[str, Any]], classes: tuple[str, ...]) -> dict[str, float]:
    """The weights in the order of the classes; InputError unless each has one, above 0."""
    found: dict[str, float] = {}
    for label, value in pairs:
        label = nfc(str(label))
        if label not in classes:
            raise unknown_name(f"{name}: unknown class", label, classes)
        if label in found:
            raise InputError(f"{name}: two weights for class {label!r}")
        found[label] = _number(value)
        if not 0 < found[label] < math.inf:
            raise InputError(f"{name}: weight {value!r} of {label!r} is not a number above 0")
    if missing := [label for label in classes if label not in found]:
        more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
        raise InputError(
            f"{name}: no weight for class {missing[0]!r}{more}; give each class a number above 0"
        )
    return {label: found[label] for label in classes}


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def require_same(run: Run, weights: Mapping[str, float]) -> None:
    """InputError where a run was begun with other weights of classes than these."""
    begun = run.environment().get("class_weights", {})
    if begun.keys() != weights.keys() or not np.allclose(
        [begun[label] for label in weights], [*weights.values()]
    ):
        raise InputError(
            f"{run.config_file}: other class_weights than this run was started with "
            f"({run.environment_file.name} has them); put them back"
        )


def explain(config: TrainConfig, weights: Mapping[str, float], repeats: np.ndarray | None) -> str:
    """One line on the weights and repeat factors in use; empty without."""
    parts = []
    if weights:
        shown = sorted(weights, key=weights.get)
        shown = list(weights) if len(shown) <= LISTED else [shown[0], shown[-1]]
        listed = ", ".join(f"{label} {weights[label]:.4g}" for label in shown)
        how = "balanced" if config.class_weights == "balanced" else "as given"
        few = "" if len(shown) == len(weights) else "lowest and highest, "
        parts.append(f"class weights ({few}{how}, scaled to a mean of 1): {listed}")
    if repeats is not None:
        most = repeats.max() / repeats.min()
        parts.append(
            f"sampling balanced: some images are drawn {most:.3g} times as often as others"
        )
    return "; ".join(parts)


def imbalance_doubt(config: TrainConfig, dataset: Dataset) -> dict[str, str]:
    """Says, code -> sentence, that classes are uneven where nothing was asked for against it."""
    labels = dataset.splits["train"].labels
    asked = config.class_weights or config.sampling != "uniform"
    if labels is None or labels.ndim == 2 or asked:
        return {}
    counts = np.bincount(labels, minlength=len(dataset.classes))
    most, least = int(counts.argmax()), int(np.where(counts, counts, len(labels) + 1).argmin())
    if counts[most] < UNEVEN * counts[least]:
        return {}
    return {"imbalance": (
        f"class {dataset.classes[least]!r} has {counts[least]:,} training images, "
        f"{dataset.classes[most]!r} {counts[most]:,}: the accuracy says little of rare classes; "
        "try --class-weights balanced, and --monitor balanced_accuracy"
    )}  # fmt: skip
