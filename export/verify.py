"""Compare an exported file with the Keras model it came from, through the shipped predictor."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.softmax import softmax
from tfproj.core.spec import ModelSpec
from tfproj.errors import TfprojError
from tfproj.experiment.plan import Plan
from tfproj.export.convert import Answers
from tfproj.export.isolated import Pass, replay
from tfproj.export.samples import DECIDING, Samples, draw, generated
from tfproj.models.registry import input_multiple

# float32 sums in another order differ by about 1e-6 in a probability, or of a score; 1e-4 is a
# defect.
TOLERANCE = 1e-4
BATCH_SIZES = (1, 7)
IMAGES = 256
PIXELS = 1 << 21  # 32 images of 256 x 256: sorting them for average precision takes seconds
SIZED_IMAGES = 4


class Rejected(TfprojError):
    """The file's answers are not good enough; ``verification`` says how far off they are."""

    def __init__(self, message: str, verification: dict[str, Any]):
        super().__init__(message)
        self.verification = verification


def verify(
    data: bytes, spec: ModelSpec, answer: Answers, planned: Plan, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Give the same image files to both, from the file on, at several batch sizes.

    Args:
        data: the ONNX file with its metadata.
        spec: of the file.
        answer: Keras: uint8 images (B, H, W, C) -> scores float32.
        planned: gives validation images (training images where there is no such split); images
            are generated where it has no data.
        tolerance: largest accepted difference in a probability, and in a score where the
            largest score is 1 or less; else as a part of that.

    Returns:
        ``images``, ``split`` ("generated": drawn, without data), ``data`` (where it is not the
        training's), ``batch_sizes``, ``sizes`` (of a file of free size),
        ``max_difference`` and ``mean_difference`` of probabilities, ``max_score_difference`` (in
        parts of the largest score), ``agreement`` of the most probable class (share of images or
        pixels), ``metrics`` by name through ``keras`` and ``onnx``, ``tolerance``.

    Raises:
        Rejected: a difference above the tolerance or not a number.
        TfprojError: the shipped predictor can't run the file.
    """
    with tempfile.TemporaryDirectory() as name:
        split, samples = _samples(planned, Path(name))
        expected = keras_scores(answer, samples.files, spec, spec.size)
        results = replay(data, samples.files, [Pass(size) for size in BATCH_SIZES], Path(name))
        answers = [(expected, *result) for result in results]
        sizes = other_sizes(spec, input_multiple(spec.model, planned.config.model_options))
        answers += _at_sizes(data, samples.files[:SIZED_IMAGES], sizes, spec, answer, Path(name))
        keras, onnx = samples.measure(expected), samples.measure(np.asarray(results[0][0]))
    record = {"images": len(samples.files), "split": split, "batch_sizes": list(BATCH_SIZES)}
    if not planned.own_data and planned.dataset.splits:
        record["data"] = Path(planned.dataset.name).name
    if sizes:
        record["sizes"] = [list(size) for size in (spec.size, *sizes)]
    record |= compare([(softmax(scores), actual) for scores, _, actual in answers])
    record["max_score_difference"] = score_difference([pair[:2] for pair in answers])
    record["metrics"] = {name: {"keras": keras[name], "onnx": onnx[name]} for name in keras}
    record["tolerance"] = tolerance
    _judge(record)
    return record


def rounding(exact: Answers, rounded: Answers, planned: Plan) -> dict[str, Any]:
    """What the rounding of weights changes: two Keras models on the images of :func:`verify`.

    Returns:
        ``images``, ``split``, ``max_difference``, ``mean_difference``, ``agreement`` as
        :func:`verify`, and ``metrics`` by name, ``float32`` and ``half``.

    Raises:
        Rejected: it costs more of the deciding metric than a smaller file may.
    """
    spec = planned.spec
    with tempfile.TemporaryDirectory() as name:
        split, samples = _samples(planned, Path(name))
        first, second = (
            keras_scores(answer, samples.files, spec, spec.size) for answer in (exact, rounded)
        )
    before, after = samples.measure(first), samples.measure(second)
    record = {"images": len(samples.files), "split": split}
    record |= compare([(softmax(first), softmax(second))])
    record["metrics"] = {n: {"float32": before[n], "half": after[n]} for n in before}
    name, allowed = DECIDING[spec.task]
    if not before[name] - after[name] <= allowed:
        raise Rejected(
            f"weights of 16 bits cost {before[name] - after[name]:.4f} of "
            f"{name.replace('_', ' ')} ({before[name]:.4f} -> {after[name]:.4f}, allowed "
            f"{allowed:g}); leave out --half; no file was written",
            record,
        )
    return record


def _samples(planned: Plan, folder: Path) -> tuple[str, Samples]:
    """(split, its images to compare on); the images lie in ``folder`` or are the data's own."""
    spec = planned.spec
    count = IMAGES if spec.task == "classify" else PIXELS // math.prod(spec.size)
    count = max(SIZED_IMAGES, min(IMAGES, count))
    if not planned.dataset.splits:
        return "generated", generated(spec, count, folder)
    split = "val" if "val" in planned.dataset.splits else "train"
    return split, draw(planned, split, count, folder)


def keras_scores(
    answer: Answers, files: Sequence[Path], spec: ModelSpec, size: tuple[int, int]
) -> np.ndarray:
    """Keras' scores for image files, read by ``tfproj.core.image`` at (height, width)."""
    parts = []
    for start in range(0, len(files), 8):
        chosen = files[start : start + 8]
        parts.append(answer(np.stack([image.load(f, size, spec.channels) for f in chosen])))
    return np.concatenate(parts)


def other_sizes(spec: ModelSpec, multiple: int) -> list[tuple[int, int]]:
    """Two more (height, width) for a file of free size, else none: smaller, and wider.

    ``multiple``: what both sides must be a multiple of.
    """
    if not spec.dynamic_size:
        return []
    smaller, (height, width) = (
        tuple(
            max(multiple, round(side * factor / multiple) * multiple)
            for side, factor in zip(spec.size, factors, strict=True)
        )
        for factors in ((0.5, 0.5), (0.75, 1.25))
    )
    # Rounding to the multiple may have left a small size as it was.
    return [smaller, (height, width if width > spec.width else spec.width + multiple)]


def _at_sizes(data, files, sizes, spec, answer, folder) -> list[tuple[np.ndarray, ...]]:
    """(Keras' scores, the file's scores, its probabilities) at each of the sizes."""
    if not sizes:
        return []
    results = replay(data, files, [Pass(2, size) for size in sizes], folder)
    return [
        (keras_scores(answer, files, spec, size), *result)
        for size, result in zip(sizes, results, strict=True)
    ]


def compare(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
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


def score_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Largest difference of scores, in parts of the largest expected one, or of 1 if that is more.

    NaN where a value is not a number.
    """
    worst = 0.0
    for expected, actual in pairs:
        difference = np.abs(np.asarray(actual, np.float64) - expected).max()
        worst = float(np.maximum(worst, difference / max(1.0, float(np.abs(expected).max()))))
    return worst


def _judge(record: dict[str, Any]) -> None:
    tolerance = record["tolerance"]
    worst, of_scores = record["max_difference"], record["max_score_difference"]
    if worst <= tolerance and of_scores <= tolerance:
        return
    # JSON has no NaN, and a rejected file keeps its figures.
    finite = {k: None if v != v else v for k, v in record.items()}
    raise Rejected(
        f"the exported model differs from Keras by up to {worst:.2g} in a probability and "
        f"{of_scores:.2g} of the largest score (tolerance {tolerance:g}, same class for "
        f"{record['agreement']:.2%}); no file was written",
        finite,
    )
