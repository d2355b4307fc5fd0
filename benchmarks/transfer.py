"""Does a training on few images gain from pretrained weights?

    python benchmarks/transfer.py            # 100 images of each target, three seeds
    python benchmarks/transfer.py --quick

Targets are data sets that the pretrained model never saw: scikit-learn's digits for the model of
clothes, facades drawn by the project for the model of photographs. Each is trained with the preset
``finetune`` from pretrained weights, with the same from random weights, and with the preset
``best`` for as many epochs; the metric is that of the whole test split.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from typing import Any

import common

from tfproj import backend
from tfproj.experiment.initial_weights import find_source, with_source
from tfproj.experiment.presets import make_config
from tfproj.runs.config import TrainConfig

TARGETS: dict[str, dict[str, Any]] = {
    "classify": {"init": "fashion_mnist", "data": "digits", "image_size": (28, 28)},
    "segment": {"init": "facades", "data": "synthetic_facades", "image_size": (128, 128)},
}
METRIC = {"classify": "accuracy", "segment": "mean_average_precision_softmax"}
WAYS = ("pretrained", "random weights", "recipe from scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=tuple(TARGETS), help="default: both")
    parser.add_argument("--images", type=common.positive, default=100, help="(default 100)")
    parser.add_argument("--seeds", type=common.positive, default=3)
    parser.add_argument("--quick", action="store_true", help="classify, one seed, one epoch")
    common.add_json(parser)
    options = parser.parse_args()
    backend.setup()
    rows = []
    tasks = [options.task] if options.task else ["classify"] if options.quick else list(TARGETS)
    for task in tasks:
        runs: dict[str, list[float]] = {way: [] for way in WAYS}
        for seed in range(1 if options.quick else options.seeds):
            for way in WAYS:  # interleaved, so that a cut-off run is still a fair table
                config = configure(task, way, options.images, seed)
                if options.quick:
                    config = dataclasses.replace(config, epochs=1)
                runs[way].append(measure(config))
                print(f"{task}, {way}, seed {seed}: {runs[way][-1]:.4f}", file=sys.stderr)
        rows += [
            {"task": task, "way": w, "metric": METRIC[task], "runs": runs[w]} for w in WAYS
        ]  # fmt: skip
    print(markdown(rows))
    if options.json:
        facts = {"images": options.images, "quick": options.quick}
        common.write(options.json, {**facts, "rows": rows})


def configure(task: str, way: str, images: int, seed: int) -> TrainConfig:
    """The configuration of one training; the models are the same but for norms."""
    values = {**TARGETS[task], "limit": images, "batch_size": 16, "seed": seed}
    tuned = make_config(task, **values)
    tuned = with_source(tuned, find_source(tuned.init, task))
    if way == "pretrained":
        return tuned
    if way == "random weights":
        return dataclasses.replace(tuned, init=None)
    del values["init"]
    shape = {"channels": tuned.channels, "epochs": tuned.epochs}
    return make_config(task, "best", **{**values, **shape})


def measure(config: TrainConfig) -> float:
    """Train in a temporary directory; the metric on the whole test split."""
    from tfproj.evaluation import evaluate
    from tfproj.experiment.plan import plan
    from tfproj.models.checkpoint import load_model
    from tfproj.training.train import train

    with tempfile.TemporaryDirectory() as folder:
        run = train(config, folder)
        limit = None if config.data == "digits" else 1000  # drawn facades: a test split of 100
        whole = plan(dataclasses.replace(config, limit=limit))
        metrics, _, _ = evaluate.METRICS[config.task](load_model(run), whole, "test")
        return metrics[METRIC[config.task]]


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| task | metric | weights | mean | each seed |", "|---|---|---|---|---|"]
    for row in rows:
        each = ", ".join(f"{value:.4f}" for value in row["runs"])
        mean = statistics.fmean(row["runs"])
        lines.append(f"| {row['task']} | {row['metric']} | {row['way']} | {mean:.4f} | {each} |")
    return "\n".join(lines)


if __name__ == "__main__":
    common.start(main)
