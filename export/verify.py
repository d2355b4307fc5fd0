"""Compare an exported file with the Keras model it came from, through the shipped predictor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.leftovers import scratch
from tfproj.core.probabilities import probabilities_of
from tfproj.core.spec import PROBABILITIES_NAME, SCORES_NAME, ModelSpec
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

# uint8 images (B, H, W, C) -> scores and what else there is, float32 by name, by Keras.
Answers = Callable[[np.ndarray], dict[str, np.ndarray]]


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
        max_output_differences: of the other outputs, by name, likewise.
        metrics: by name, through ``keras`` and ``onnx`` or ``tflite``.
        tolerance: for all but the mean of the differences.
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
    max_output_differences: dict[str, float] = field(default_factory=dict)

    @property
    def complaint(self) -> str | None:
        """Why the file must not be written; None where nothing is wrong with it."""
        worst, of_scores = self.max_difference, self.max_score_difference
        others = self.max_output_differences
        if all(d <= self.tolerance for d in (worst, of_scores, *others.values())):  # a NaN is not
            return None
        more = "".join(f", {value:.2g} of {name}" for name, value in others.items())
        return (
            f"the exported model differs from Keras by up to {worst:.2g} in a probability and "
            f"{of_scores:.2g} of the largest score{more} (tolerance {self.tolerance:g}, same class "
            f"for {self.agreement:.2%})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As in the file's metadata: JSON has no NaN, and a rejected file keeps its figures."""
        figures = {k: None if v != v else v for k, v in asdict(self).items()}
        others = self.max_output_differences.items()
        figures["max_output_differences"] = {k: None if v != v else v for k, v in others}
        optional = ("sizes", "max_output_differences")
        return {k: v for k, v in figures.items() if v or k not in optional}


def verify(
    data: bytes,
    spec: ModelSpec,
    answer: Answers,
    samples: Samples,
    multiple: int,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    format: str = "onnx",
) -> Verification:
    """Give the same image files to both, from the file on, at several batch sizes.

    Args:
        data: the ONNX file with its metadata, or a TensorFlow Lite file.
        spec: of the file.
        answer: Keras' side.
        samples: the image files, see :func:`comparison_samples`.
        multiple: what height and width of a file of free size must be a multiple of.
        batch_sizes: to try; ``format``: what the file's side is called among the metrics.

    Raises:
        TfprojError: the shipped predictor can't run the file.
    """
    files = samples.files
    sizes = other_sizes(spec, multiple) if spec.dynamic_size else []
    passes = [Pass(batch_size) for batch_size in batch_sizes]
    passes += [Pass(2, size, SIZED_IMAGES) for size in sizes]
    own = keras_outputs(answer, files, spec)
    expected = [own] * len(batch_sizes)
    expected += [keras_outputs(answer, files[:SIZED_IMAGES], spec, size) for size in sizes]
    with scratch() as folder:
        results = predict_isolated(data, files, passes, folder, spec)
        pairs = {
            name: [(one[name], other[name]) for one, other in zip(expected, results, strict=True)]
            for name in own
        }
        probabilities = [
            (probabilities_of(one[SCORES_NAME], spec.kind), other[PROBABILITIES_NAME])
            for one, other in zip(expected, results, strict=True)
        ]
        differences = {name: score_difference(of) for name, of in pairs.items()}
        of_scores = differences.pop(SCORES_NAME)
        keras, ours = (samples.measure(np.asarray(s)) for s in pairs[SCORES_NAME][0])
        return Verification(
            images=len(files),
            split=samples.split,
            batch_sizes=batch_sizes,
            sizes=(spec.size, *sizes) if sizes else (),
            **compare(probabilities),
            max_score_difference=of_scores,
            max_output_differences=differences,
            metrics={metric: {"keras": keras[metric], format: ours[metric]} for metric in keras},
            tolerance=TOLERANCE,
        )


def comparison_samples(planned: Plan, folder: Path) -> Samples:
    """The images to compare on; what is no file of the data set is written into ``folder``."""
    count = IMAGES if planned.spec.task == "classify" else PIXELS // math.prod(planned.spec.size)
    count = max(SIZED_IMAGES, min(IMAGES, count))
    if not planned.dataset.splits:
        return generated(planned.spec, count, folder)
    return draw(planned, count, folder)


def keras_outputs(
    answer: Answers,
    files: Sequence[Path],
    spec: ModelSpec,
    size: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Keras' outputs for image files, read at (height, width), or at the model's own size."""
    parts = []
    for start in range(0, len(files), 8):
        chosen = files[start : start + 8]
        pixels = [
            image.load(file, size or spec.size, spec.channels, resize=spec.resize)
            for file in chosen
        ]
        parts.append(answer(np.stack(pixels)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
