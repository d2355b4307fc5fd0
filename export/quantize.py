"""An int8 file that earns its place: nearly as accurate as float32 and faster, or no file."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import hardware
from tfproj.core.leftovers import scratch
from tfproj.core.spec import UNKNOWN_THRESHOLD, ModelSpec
from tfproj.export.build import Built
from tfproj.export.golden import golden_vectors
from tfproj.export.job import Job, Rejected
from tfproj.export.metadata import attach, describe
from tfproj.export.quantizer import Quantizer
from tfproj.export.samples import Loss, calibration_images, draw
from tfproj.export.unknown import resurveyed
from tfproj.inference.predictor import Predictor

CALIBRATION_IMAGES = {"classify": 200, "segment": 32}
# For choosing; the decision is taken on up to EXAMPLES.
TRIALS = {"classify": 1000, "segment": 12}
EXAMPLES = {"classify": 10_000, "segment": 64}
PIXELS = 64 << 16  # of all examples: 64 images of 256 x 256, whose answers are held in memory
BATCH = {"classify": 32, "segment": 4}
EXCLUDE_STEPS = (1, 2, 4, 8)
# Another CPU may round or saturate in other places (AVX2 without VNNI does): int8 answers are
# not the same everywhere to more than this.
TOLERANCE = 0.05
SPEED_SECONDS, SPEED_ROUNDS = 8.0, 100


@dataclass(frozen=True)
class Trial:
    """One quantised file on the validation examples it was tried on.

    Attributes:
        method: of calibration; ``excluded``: layers left in float32.
        proto: the graph, an ``onnx.ModelProto``; ``data``: the file.
        metrics: what it reaches; ``loss``: of the one that decides.
        difference: mean absolute difference of probabilities to the float32 file.
    """

    method: str
    excluded: tuple[str, ...]
    proto: Any
    data: bytes
    metrics: dict[str, float]
    loss: Loss
    difference: float


def quantize(job: Job, built: Built) -> Built:
    """The best int8 form of a verified float32 file, with golden answers of its own.

    Static quantisation with QuantizeLinear and DequantizeLinear, per channel, activations uint8
    (int8 ones take a far slower path on x86), weights int8. The layer that makes the scores stays
    in float32: 256 levels would tie in the ranking that average precision measures.

    Raises:
        Rejected: too inaccurate with every layer left out that was tried, or not faster.
    """
    images = calibration_images(job.planned, CALIBRATION_IMAGES[job.spec.task])
    trial, facts = choose(job, built, images)
    batch = BATCH[job.spec.task]
    ratio = speed_ratio(built.data, trial.data, images[:batch])
    if not ratio > 1:
        raise Rejected(
            f"int8 is not faster than float32 on this machine: {ratio:.2f} times as fast",
            trial.data,
        )
    proto, calibration = trial.proto, built.measured.calibration
    if built.found is not None:
        proto, found = resurveyed(trial.proto, job.planned)
        calibration = {**calibration, UNKNOWN_THRESHOLD: found.threshold}
    predictor = Predictor(trial.data)
    facts |= {"speed_ratio": ratio, "speed_batch": batch, "cpu": hardware.cpu_name()}
    golden = golden_vectors(job.spec, lambda pixels: predictor.run(pixels)[1], TOLERANCE)
    measured = replace(built.measured, golden=golden, quantization=facts, calibration=calibration)
    data = attach(proto, describe(job, measured))
    return Built(proto, built.parameters, measured, data)


def choose(job: Job, built: Built, images: np.ndarray) -> tuple[Trial, dict[str, Any]]:
    """(the best trial, ``quantization`` of its metadata); Rejected where none is good enough.

    Args:
        images: uint8 (N, H, W, C) to calibrate with.
    """
    task = job.spec.task
    with scratch() as folder:
        quantizer = Quantizer(built.proto, images, folder)
        judge, quick = (Judge(job, built, counts[task], folder) for counts in (EXAMPLES, TRIALS))
        trial = spare_layers(quantizer, judge, quick, choose_method(quantizer, quick))
    return trial, {
        "method": trial.method,
        "format": "static QDQ, per channel, activations uint8, weights int8",
        "excluded": [*quantizer.float_layers, *trial.excluded],
        "calibration_images": len(images),
        **judge.facts(trial),
    }


class Judge:
    """Measures quantised graphs on one set of image files, through the shipped predictor.

    Args:
        built: the float32 file.
        count: images to measure on, where there is room for their answers.
        folder: for those that are no files; it must outlive the judge.
    """

    def __init__(self, job: Job, built: Built, count: int, folder: Path):
        self._samples = draw(job.planned, with_room(job.spec, count), folder)
        self._metadata = describe(job, built.measured)
        scores, self._probabilities = self._answers(built.data)
        if self._samples.targets is None:
            answers = self._samples.answers(scores)
            self._samples = replace(self._samples, targets=answers, agreement=True)
        self.metrics = self._samples.measure(scores)

    def _answers(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        predictor, files = Predictor(data), self._samples.files
        # Not predict, which takes images in tiles where the file says so.
        batches = (
            np.stack([predictor.load(file)[0] for file in files[start : start + 8]])
            for start in range(0, len(files), 8)
        )
        scores, probabilities = zip(*map(predictor.run, batches), strict=True)
        return np.concatenate(scores), np.concatenate(probabilities)

    def try_(self, quantizer: Quantizer, method: str, excluded: Sequence[str]) -> Trial:
        """Quantise and measure."""
        proto = quantizer.build(method, excluded)
        data = attach(proto, self._metadata)
        scores, probabilities = self._answers(data)
        metrics = self._samples.measure(scores)
        loss = self._samples.loss(self.metrics, metrics)
        difference = float(np.abs(probabilities - self._probabilities).mean())
        return Trial(method, tuple(excluded), proto, data, metrics, loss, difference)

    def facts(self, trial: Trial) -> dict[str, Any]:
        """``images``, ``metrics`` of both and ``mean_difference`` of the probabilities."""
        both = {k: {"float32": v, "int8": trial.metrics[k]} for k, v in self.metrics.items()}
        return {
            "images": len(self._samples.files),
            "metrics": both,
            "mean_difference": trial.difference,
        }


def with_room(spec: ModelSpec, count: int) -> int:
    """So many examples, or fewer where their masks would not fit in memory."""
    room = count if spec.task == "classify" else PIXELS // math.prod(spec.size)
    return max(4, min(count, room))


def choose_method(quantizer: Quantizer, quick: Judge) -> str:
    """The calibration method that does best on validation images.

    Among those that lose less than half of what is allowed the rest is chance, and the one with
    the least difference in probabilities is taken.
    """
    trials = []
    for method in quantizer.METHODS:
        trial = quick.try_(quantizer, method, ())
        trials.append(trial)
        print(
            f"calibrated by {method}: {trial.loss.after:.4f} (float32 {trial.loss.before:.4f}), "
            f"mean difference {trial.difference:.1e}",
            file=sys.stderr,
        )
    good = [trial for trial in trials if trial.loss.value <= trial.loss.allowed / 2]
    if good:
        return min(good, key=lambda trial: trial.difference).method
    return min(trials, key=lambda trial: trial.loss.value).method


def spare_layers(quantizer: Quantizer, judge: Judge, quick: Judge, method: str) -> Trial:
    """A trial on all examples, with as many layers in float32 as it takes.

    Raises:
        Rejected: it loses too much with every number of layers that is tried.
    """
    trial = judge.try_(quantizer, method, ())
    ranking: list[str] = []
    for count in EXCLUDE_STEPS:
        if trial.loss.acceptable:
            return trial
        ranking = ranking or sensitive_layers(quantizer, quick, method)
        print(f"leaving in float32: {', '.join(ranking[:count])} ...", file=sys.stderr)
        trial = judge.try_(quantizer, method, ranking[:count])
    if trial.loss.acceptable:
        return trial
    raise Rejected(
        f"int8 loses {trial.loss} with {', '.join(trial.excluded)} left in float32", trial.data
    )


def sensitive_layers(quantizer: Quantizer, quick: Judge, method: str) -> list[str]:
    """Layers by the damage of quantising each alone, worst first."""
    print("int8 loses too much; measuring each layer alone ...", file=sys.stderr)
    damage = {
        layer: quick.try_(quantizer, method, [n for n in quantizer.layers if n != layer]).difference
        for layer in quantizer.layers
    }
    return sorted(damage, key=lambda layer: -damage[layer])


def speed_ratio(plain: bytes, quantized: bytes, pixels: np.ndarray) -> float:
    """How many times as fast the second file is: the median of pairs run in turn.

    Args:
        pixels: uint8 (B, H, W, C), one batch.
    """
    first, second = Predictor(plain), Predictor(quantized)
    first.run(pixels), second.run(pixels)
    ratios, end = [], time.monotonic() + SPEED_SECONDS
    while len(ratios) < 5 or (len(ratios) < SPEED_ROUNDS and time.monotonic() < end):
        ratios.append(_seconds(first, pixels) / _seconds(second, pixels))
    return statistics.median(ratios)


def _seconds(predictor: Predictor, pixels: np.ndarray) -> float:
    begin = time.perf_counter()
    predictor.run(pixels)
    return time.perf_counter() - begin
