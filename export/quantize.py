"""An int8 file that earns its place: nearly as accurate as float32 and faster, or no file."""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfproj.core import hardware
from tfproj.errors import InputError, TfprojError
from tfproj.export import metadata
from tfproj.export.convert import Exported, Options, build, check_output, keep, write
from tfproj.export.golden import golden_vectors
from tfproj.export.samples import DECIDING, Samples, calibration_images, draw
from tfproj.inference.predictor import Predictor
from tfproj.runs.run import Run

if TYPE_CHECKING:
    from tfproj.export.quantizer import Quantizer

CALIBRATION_IMAGES = {"classify": 200, "segment": 32}
# For choosing; the decision is taken on up to EXAMPLES.
TRIALS = {"classify": 1000, "segment": 12}
EXAMPLES = {"classify": 10_000, "segment": 64}
PIXELS = 64 << 16  # of all examples: 64 images of 256 x 256, whose answers are held in memory
BATCH = {"classify": 32, "segment": 4}
EXCLUDE_STEPS = (1, 2, 4, 8)
# Another CPU may round or saturate in other places (AVX2 without VNNI does): int8 answers are
# not the same everywhere to more than this.
GOLDEN_TOLERANCE = 0.05
SPEED_SECONDS, SPEED_ROUNDS = 8.0, 100


@dataclass(frozen=True)
class Trial:
    """One quantised file on the validation examples it was tried on.

    Attributes:
        method: of calibration; ``excluded``: layers left in float32.
        data: the file.
        value: the metric that decides; ``metrics``: all.
        difference: mean absolute difference of probabilities to the float32 file.
    """

    method: str
    excluded: tuple[str, ...]
    data: bytes
    value: float
    difference: float
    metrics: dict[str, float]


class NotWorthIt(TfprojError):
    """The int8 file is too inaccurate or too slow; ``data`` is the file."""

    def __init__(self, message: str, data: bytes):
        super().__init__(f"{message}; no file was written")
        self.data = data


def export_int8(
    run: Run, output: str | Path | None = None, options: Options | None = None
) -> dict[str, Any]:
    """Write ``model.int8.onnx`` for a run, or fail and say by how much.

    Static quantisation with QuantizeLinear and DequantizeLinear, per channel, activations uint8
    (int8 ones take a far slower path on x86), weights int8. The layer that makes the scores stays
    in float32: 256 levels would tie in the ranking that average precision measures.

    Arguments, and errors of the float32 file it starts from, as for ``export_onnx``.

    Returns:
        As ``export_onnx``, and ``quantization`` with what was measured.

    Raises:
        NotWorthIt: too inaccurate with every layer left out that was tried, or not faster.
    """
    if options is not None and options.no_data:
        raise InputError("int8 needs images to calibrate with: --data DIR, or leave out --no-data")
    path = check_output(run, output if output is not None else run.int8_file)
    exported = build(run, options or Options(), path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trial, facts = quantize(exported, Path(folder))
    except NotWorthIt as error:
        if options is not None and options.keep:
            keep(path, error.data)
        raise
    exported.record["quantization"] = facts
    predictor = Predictor(trial.data)
    exported.record["golden"] = golden_vectors(
        exported.spec, lambda pixels: predictor.run(pixels)[1], GOLDEN_TOLERANCE
    )
    data = metadata.reattach(trial.data, exported.record)
    write(path, data)
    return {
        "path": str(path),
        "bytes": len(data),
        "parameters": exported.parameters,
        "verification": exported.record["verification"],
        "calibration": exported.record.get("calibration"),
        "quantization": facts,
    }


def quantize(exported: Exported, folder: Path) -> tuple[Trial, dict[str, Any]]:
    """The best quantised file and its figures; errors as for :func:`export_int8`.

    Args:
        folder: for files; it must outlive the call.
    """
    from tfproj.export.quantizer import Quantizer

    planned, task = exported.planned, exported.spec.task
    split = "val" if "val" in planned.dataset.splits else "train"
    room = PIXELS // math.prod(exported.spec.size) if task == "segment" else EXAMPLES[task]
    judge, quick = (
        Judge(exported, draw(planned, split, max(4, min(counts[task], room)), folder))
        for counts in (EXAMPLES, TRIALS)
    )
    images = calibration_images(planned, CALIBRATION_IMAGES[task])
    quantizer = Quantizer(exported.proto, images, folder)
    trial = spare_layers(quantizer, judge, quick, choose_method(quantizer, quick))
    ratio = speed_ratio(exported.data, trial.data, images[: BATCH[task]])
    if not ratio > 1:
        raise NotWorthIt(
            f"int8 is not faster than float32 on this machine: {ratio:.2f} times as fast",
            trial.data,
        )
    facts = {
        "method": trial.method,
        "format": "static QDQ, per channel, activations uint8, weights int8",
        "excluded": [*quantizer.float_layers, *trial.excluded],
        "calibration_images": len(images),
        **judge.facts(trial),
        "speed_ratio": ratio,
        "speed_batch": BATCH[task],
        "cpu": hardware.cpu_name(),
    }
    return trial, facts


def spare_layers(quantizer: Quantizer, judge: Judge, quick: Judge, chosen: Trial) -> Trial:
    """The trial again on all examples, with as many layers in float32 as it takes.

    Raises:
        NotWorthIt: it loses too much with every number of layers that is tried.
    """
    trial = judge.try_(chosen.method, (), chosen.data)
    ranking: list[str] = []
    for count in EXCLUDE_STEPS:
        if judge.loss(trial) <= judge.allowed:
            return trial
        ranking = ranking or sensitive_layers(quantizer, quick, chosen.method)
        excluded = tuple(ranking[:count])
        print(f"leaving in float32: {', '.join(excluded)} ...", file=sys.stderr)
        trial = judge.try_(chosen.method, excluded, quantizer.build(chosen.method, excluded))
    loss = judge.loss(trial)
    if loss <= judge.allowed:
        return trial
    raise NotWorthIt(
        f"int8 loses {loss:.4f} of {judge.name.replace('_', ' ')} "
        f"({judge.metrics[judge.name]:.4f} -> {trial.value:.4f}), {loss - judge.allowed:.4f} more "
        f"than allowed ({judge.allowed:g}), with {', '.join(trial.excluded)} left in float32",
        trial.data,
    )


class Judge:
    """Measures files on one set of image files, through the shipped predictor.

    Args:
        exported: the float32 file.
        samples: image files and their true answers.

    Attributes:
        name, allowed: the metric that decides, and how much of it may be lost.
        metrics: of the float32 file.
    """

    def __init__(self, exported: Exported, samples: Samples):
        self.name, self.allowed = DECIDING[exported.spec.task]
        self._samples, self._record = samples, exported.record
        scores, self._probabilities = self._run(exported.data)
        self.metrics = samples.measure(scores)

    def _run(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        results = Predictor(data).predict(self._samples.files, batch_size=8)
        return np.stack([r.scores for r in results]), np.stack([r.probabilities for r in results])

    def try_(self, method: str, excluded: Sequence[str], model: Any) -> Trial:
        """Measure a quantised graph (``onnx.ModelProto`` or the file)."""
        data = model if isinstance(model, bytes) else metadata.attach(model, self._record)
        scores, probabilities = self._run(data)
        difference = float(np.abs(probabilities - self._probabilities).mean())
        metrics = self._samples.measure(scores)
        return Trial(method, tuple(excluded), data, metrics[self.name], difference, metrics)

    def loss(self, trial: Trial) -> float:
        """How much worse than float32 by the metric that decides."""
        return self.metrics[self.name] - trial.value

    def difference(self, model: Any) -> float:
        """Mean absolute difference of probabilities to the float32 file."""
        _, probabilities = self._run(metadata.attach(model, self._record))
        return float(np.abs(probabilities - self._probabilities).mean())

    def facts(self, trial: Trial) -> dict[str, Any]:
        """``images``, ``metrics`` of both and ``mean_difference`` of the probabilities."""
        both = {k: {"float32": v, "int8": trial.metrics[k]} for k, v in self.metrics.items()}
        return {
            "images": len(self._samples.files),
            "metrics": both,
            "mean_difference": trial.difference,
        }


def choose_method(quantizer: Quantizer, judge: Judge) -> Trial:
    """The calibration method that does best on validation images.

    Among those that lose less than half of what is allowed the rest is chance, and the one with
    the least difference in probabilities is taken.
    """
    best, trials = judge.metrics[judge.name], []
    for method in quantizer.METHODS:
        trials.append(judge.try_(method, (), quantizer.build(method, ())))
        print(
            f"calibrated by {method}: {trials[-1].value:.4f} (float32 {best:.4f}), mean difference "
            f"{trials[-1].difference:.1e}",
            file=sys.stderr,
        )
    good = [trial for trial in trials if best - trial.value <= judge.allowed / 2]
    if good:
        return min(good, key=lambda trial: trial.difference)
    return max(trials, key=lambda trial: trial.value)


def sensitive_layers(quantizer: Quantizer, judge: Judge, method: str) -> list[str]:
    """Layers by the damage of quantising each alone, worst first."""
    print("int8 loses too much; measuring each layer alone ...", file=sys.stderr)
    damage = {
        layer: judge.difference(
            quantizer.build(method, [other for other in quantizer.layers if other != layer])
        )
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
