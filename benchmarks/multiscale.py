"""What does averaging over the mirror image, other sizes and several networks give a segmenter?

    python benchmarks/multiscale.py runs/segment/NAME
    python benchmarks/multiscale.py runs/segment/A runs/segment/B    # of the same data and classes
    python benchmarks/multiscale.py --quick          # trains a toy first

The validation split is seen at 0.75, 1, 1.25 and 1.5 times its size; scores are brought to the size
of the mask and averaged. Mean AP is over all pixels. The last column is the work: the pixels seen,
in multiples of those of the image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import common
import numpy as np

from tfproj import backend
from tfproj.core import image
from tfproj.errors import InputError
from tfproj.evaluation import metrics
from tfproj.evaluation.pixels import PixelScores
from tfproj.models import checkpoint
from tfproj.runs.run import Run

SCALES = (0.75, 1.0, 1.25, 1.5)
# Which scales are averaged, and whether also with the mirror image of each.
WAYS = (
    ((1.0,), False),
    ((1.0,), True),
    ((1.25,), True),
    ((1.0, 1.25), True),
    ((0.75, 1.0, 1.25), True),
    (SCALES, True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="trained segmentation runs")
    parser.add_argument("--quick", action="store_true", help="train a toy and measure that")
    common.add_json(parser)
    options = parser.parse_args()
    if not options.runs and not options.quick:
        parser.error("which run? give its directory, or --quick")
    backend.setup()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure([Run(path) for path in options.runs] or [_toy(folder)])
    print("| scales | mirror image | mean AP raw | mean AP softmax | pixels |")
    print("|---|---|---|---|---|")
    for row in rows:
        scales, mirrored = ", ".join(map(str, row["scales"])), "yes" if row["mirrored"] else "no"
        print(
            f"| {scales} | {mirrored} | {row['raw']:.4f} | {row['softmax']:.4f} "
            f"| {row['pixels']:.1f}x |"
        )
    if options.json:
        common.write(options.json, {"quick": options.quick, "rows": rows})


def measure(runs: Sequence[Run]) -> list[dict]:
    """A row of figures for each of ``WAYS``, averaged over the networks of ``runs``."""
    from tfproj.experiment.plan import plan_evaluation
    from tfproj.training.cache import make_cache

    plans = [plan_evaluation(run, ["val"]) for run in runs]
    planned = plans[0]
    for run, other in zip(runs, plans, strict=True):
        if other.spec.task != "segment":
            raise InputError(f"{run.path}: not a segmentation")
        if (other.spec.size, other.spec.classes) != (planned.spec.size, planned.spec.classes):
            raise InputError(f"{run.path}: of another size or other classes than {runs[0].path}")
        if other.dataset.splits["val"].names != planned.dataset.splits["val"].names:
            raise InputError(f"{run.path}: validated by other images than {runs[0].path}")
    cache = make_cache(planned, "val")
    images, masks = cache.batch(np.arange(len(cache)))
    looks: dict[tuple[float, bool], np.ndarray] = {}
    for scale in SCALES:
        for run, own in zip(runs, plans, strict=True):
            for mirrored, scores in _scores(run, own.spec, images, scale):
                looks[scale, mirrored] = looks.get((scale, mirrored), 0) + scores / len(runs)
    rows = []
    for scales, mirrored in WAYS:
        chosen = [(s, m) for s in scales for m in ((False, True) if mirrored else (False,))]
        pixels = PixelScores(len(planned.spec.classes))
        pixels.add(np.mean([looks[key] for key in chosen], axis=0), masks)
        row = {
            "scales": scales,
            "mirrored": mirrored,
            "pixels": len(runs) * sum(s * s for s, _ in chosen),
        }
        rows.append(row | {k: metrics.mean(v) for k, v in pixels.average_precisions().items()})
        print(rows[-1], file=sys.stderr)
    return rows


def _scores(run: Run, spec, images: np.ndarray, scale: float) -> Iterator[tuple[bool, np.ndarray]]:
    """(mirrored?, scores float32 (N, H, W, classes)) of all images at another size."""
    import tensorflow as tf

    from tfproj.models.registry import build_model, input_multiple

    multiple = input_multiple(spec.model, run.config().model_options)
    height, width = (multiple * round(side * scale / multiple) for side in spec.size)
    model = build_model(replace(spec, height=height, width=width), run.config().model_options)
    checkpoint.load_weights(model, run.best_weights)
    pixels = np.stack([image.load(one, (height, width), spec.channels) for one in images])
    for mirrored in (False, True):
        step = -1 if mirrored else 1
        parts = []
        for start in range(0, len(pixels), 8):
            scores = model(pixels[start : start + 8, :, ::step], training=False)
            parts.append(tf.image.resize(scores, spec.size, antialias=True).numpy()[:, :, ::step])
        yield mirrored, np.concatenate(parts)


def _toy(folder: str) -> Run:
    from tfproj.experiment.presets import make_config
    from tfproj.training.train import train

    size = {"limit": 16, "image_size": (32, 32), "epochs": 1}
    return train(make_config("segment", data="synthetic_facades", **size), folder)


if __name__ == "__main__":
    common.start(main)
