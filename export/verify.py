"""Compare an exported file with the Keras model it came from, through the shipped predictor."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.probabilities import probabilities_of
from tfproj.core.spec import ModelSpec
from tfproj.experiment.plan import Plan
from tfproj.export.isolated import Pass, predict_isolated
from tfproj.export.samples import Samples, draw, generated

# float32 sums in another order differ by about 1e-6 in a probability, or of a score; 1e-4 is a
# defect.
TOLERANCE = 1e-4
BATCH_SIZES = (1, 7)
IMAGES = 256
PIXELS = 1 << 21  # 32 images of 256 x 256, for which Keras takes seconds
SIZED_IMAGES = 4

# uint8 images (B, H, W, C) -> scores float32, by Keras.
Answers = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Verification:
    """How far a file's answers are from Keras'.

    Attributes:
        images, split: how many were compared, and of which split.
        batch_sizes: of the predictor.
        sizes: (height, width) that a file of free size was tried at; else empty.
        max_difference, mean_difference: of probabilities.
        agreement: share of images or pixels with the same most probable class.
        max_score_difference: in parts of the largest score, where that is more than 1.
        metrics: by name, through ``keras`` and ``onnx`` or ``tflite``.
        tolerance: for the first and the last of the differences.
    """

    images: int
    split: str
    batch_sizes: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    max_difference: float
    mean_difference: float
    agreement: float
    max_score_difference: float
    metrics: dict[str, dict[str, float]]
    tolerance: float

    @property
    def complaint(self) -> str | None:
        """Why the file must not be written; None where nothing is wrong with it."""
        worst, of_scores = self.max_difference, self.max_score_difference
        if worst <= self.tolerance and of_scores <= self.tolerance:  # a NaN is not
            return None
        return (
            f"the exported model differs from Keras by up to {worst:.2g} in a probability and "
            f"{of_scores:.2g} of the largest score (tolerance {self.tolerance:g}, same class for "
            f"{self.agreement:.2%})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As in the file's metadata: JSON has no NaN, and a rejected file keeps its figures."""
        figures = {k: None if v != v else v for k, v in asdict(self).items()}
        return figures if self.sizes else {k: v for k, v in figures.items() if k != "sizes"}


def verify(
    data: bytes,
    spec: ModelSpec,
    answer: Answers,
    samples: Samples,
    multiple: int,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    name: str = "onnx",
) -> Verification:
    """Give the same image files to both, from the file on, at several batch sizes.

    Args:
        data: the ONNX file with its metadata, or a TensorFlow Lite file.
        spec: of the file.
        answer: Keras' side.
        samples: the image files, see :func:`comparison_samples`.
        multiple: what height and width of a file of free size must be a multiple of.
        batch_sizes: to try; ``name``: of the file's side among the metrics.

    Raises:
        TfprojError: the shipped predictor can't run the file.
    """
    files = samples.files
    sizes = other_sizes(spec, multiple) if spec.dynamic_size else []
    passes = [Pass(batch_size) for batch_size in batch_sizes]
    passes += [Pass(2, size, SIZED_IMAGES) for size in sizes]
    own = keras_scores(answer, files, spec)
    expected = [own] * len(batch_sizes)
    expected += [keras_scores(answer, files[:SIZED_IMAGES], spec, size) for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        results = predict_isolated(data, files, passes, Path(folder), spec)
        scores, probabilities = zip(*results, strict=True)
        own_probabilities = [probabilities_of(s, spec.kind) for s in expected]
        keras, ours = samples.measure(own), samples.measure(np.asarray(scores[0]))
        return Verification(
            images=len(files),
            split=samples.split,
            batch_sizes=batch_sizes,
            sizes=(spec.size, *sizes) if sizes else (),
            **compare(zip(own_probabilities, probabilities, strict=True)),
            max_score_difference=score_difference(zip(expected, scores, strict=True)),
            metrics={metric: {"keras": keras[metric], name: ours[metric]} for metric in keras},
            tolerance=TOLERANCE,
        )


def comparison_samples(planned: Plan, folder: Path) -> Samples:
    """The images to compare on; what is no file of the data set is written into ``folder``."""
    count = IMAGES if planned.spec.task == "classify" else PIXELS // math.prod(planned.spec.size)
    count = max(SIZED_IMAGES, min(IMAGES, count))
    if not planned.dataset.splits:
        return generated(planned.spec, count, folder)
    return draw(planned, count, folder)


def keras_scores(
    answer: Answers,
    files: Sequence[Path],
    spec: ModelSpec,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Keras' scores for image files, read at (height, width), or at the model's own size."""
    parts = []
    for start in range(0, len(files), 8):
        chosen = files[start : start + 8]
        pixels = [
            image.load(file, size or spec.size, spec.channels, resize=spec.resize)
            for file in chosen
        ]
        parts.append(answer(np.stack(pixels)))
    return np.concatenate(parts)


def other_sizes(spec: ModelSpec, multiple: int) -> list[tuple[int, int]]:
    """Two more (height, width) whose sides are multiples of ``multiple``: smaller, and wider."""
    smaller, (height, width) = (
        tuple(
            max(multiple, round(side * factor / multiple) * multiple)
            for side, factor in zip(spec.size, factors, strict=True)
        )
        for factors in ((0.5, 0.5), (0.75, 1.25))
    )
    # Rounding to the multiple may have left a small size as it was.
    return [smaller, (height, width if width > spec.width else spec.width + multiple)]


def compare(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Differences and agreement over pairs of (expected, actual) probabilities of equal shape.

    A value that is not a number makes both differences NaN.
    """
    worst, total, same, values, answers = 0.0, 0.0, 0, 0, 0
    for expected, actual in pairs:
        difference = np.abs(np.asarray(actual, np.float64) - expected)
        worst = float(np.maximum(worst, difference.max()))  # passes NaN on, unlike max()
        total += float(difference.sum())
        agree = np.asarray(actual).argmax(-1) == expected.argmax(-1)
        same, answers, values = same + int(agree.sum()), answers + agree.size, values + actual.size
    return {
        "max_difference": worst,
        "mean_difference": total / values,
        "agreement": same / answers,
    }


def score_difference(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Largest difference of scores, in parts of the largest expected one, or of 1 if that is more.

    NaN where a value is not a number.
    """
    worst = 0.0
    for expected, actual in pairs:
        difference = np.abs(np.asarray(actual, np.float64) - expected).max()
        worst = float(np.maximum(worst, difference / max(1.0, float(np.abs(expected).max()))))
    return worst
