"""What does each part of a recipe give? One change at a time, several seeds each.

    python benchmarks/ablation.py classify          # Fashion-MNIST, a tenth of it
    python benchmarks/ablation.py segment           # facades at 128 x 128
    python benchmarks/ablation.py segment --quick   # one tiny run of each change, to see it work

The base is the preset ``default`` at a size that trains in half a minute; every row changes one
thing. All rows are measured on the same validation split, which no training saw: 6,000 images, or
93 facades. What is "better" here need not be at full size, but it is a measured hint.
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
from tfproj.experiment.presets import PRESETS, make_config
from tfproj.runs.config import TrainConfig

BASES: dict[str, dict[str, Any]] = {
    "classify": {"limit": 6000, "epochs": 8, "val_fraction": 0.1},
    # Without its average, so that the row of one says what it gives.
    "segment": {"limit": 240, "epochs": 10, "image_size": (128, 128), "ema": 0.0},
}
QUICK: dict[str, dict[str, Any]] = {
    "classify": {"data": "digits", "limit": 100, "epochs": 1, "batch_size": 32},
    "segment": {
        "data": "synthetic_facades", "limit": 8, "epochs": 1, "image_size": (32, 32),
    },
}  # fmt: skip
RESNET = {"batch_norm": True}
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "classify": {
        "AdamW, 4e-3": {"optimizer": "adamw", "learning_rate": 4e-3},
        "no batch norm": {"model_options": {}},
        "constant rate, 1e-3": {"schedule": "constant", "learning_rate": 1e-3},
        "no label smoothing": {"label_smoothing": 0.0},
        "no augmentation": {"augment": "none"},
        "shifts as well": {"augment": "shift_flip"},
        "dropout 0.2": {"model_options": {**RESNET, "dropout": 0.2}},
        "moving average 0.99": {"ema": 0.99},
    },
    "segment": {
        "AdamW, 3e-3, decay 1e-4": {
            "optimizer": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 1e-4,
        },
        "weight decay 0.1": {"weight_decay": 0.1},
        "no norm": {"model_options": {}},
        "ReLU on the scores": {"model_options": {"batch_norm": True, "final_relu": True}},
        "dropout 0.2": {"model_options": {"batch_norm": True, "dropout": 0.2}},
        "no Dice": {"dice": 0.0},
        "Dice 0.5": {"dice": 0.5},
        "Dice 4": {"dice": 4.0},
        "label smoothing 0.05": {"label_smoothing": 0.05},
        "strip pooling": {"model_options": {"batch_norm": True, "strip_pooling": True}},
        "no augmentation": {"augment": "none"},
        "photo for photo_mix": {"augment": "photo"},
        "photo_wide for photo_mix": {"augment": "photo_wide"},
        "moving average 0.99": {"ema": 0.99},
        "the network of best": {"model_options": PRESETS["segment"]["best"]["model_options"]},
    },
}
METRICS = {
    "classify": ("accuracy",),
    "segment": ("mean_average_precision_raw", "mean_average_precision_softmax"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=tuple(CHANGES), default="classify")
    parser.add_argument("--seeds", type=common.positive, default=3, help="of each row (default 3)")
    parser.add_argument("--only", action="append", help="only this row, and the base")
    parser.add_argument("--data-dir", help="where the data set lies, if not in a usual place")
    parser.add_argument("--quick", action="store_true", help="one tiny training of each row")
    common.add_json(parser)
    options = parser.parse_args()
    changes = {"base": {}, **CHANGES[options.task]}
    for name in options.only or ():
        if name not in changes:
            parser.error(f"no row {name!r}; there are: {', '.join(changes)}")
    rows = []
    seeds = range(1 if options.quick else options.seeds)
    backend.setup()
    for name, change in changes.items():
        if options.only and name not in ("base", *options.only):
            continue
        size = QUICK[options.task] if options.quick else BASES[options.task]
        runs = []
        for seed in seeds:
            config = make_config(
                options.task, **{**size, "seed": seed, "data_dir": options.data_dir, **change}
            )
            runs.append(measure(config, flip=False))
            print(f"{name}, seed {seed}: {runs[-1]}", file=sys.stderr)
        rows.append({"change": name, "values": change, "runs": runs})
    print(markdown(rows, METRICS[options.task]))
    if options.json:
        common.write(options.json, {"task": options.task, "quick": options.quick, "rows": rows})


def measure(config: TrainConfig, flip: bool) -> dict[str, float]:
    """Train in a temporary directory; the metrics on the whole validation split."""
    from tfproj.evaluation import evaluate
    from tfproj.experiment.plan import plan
    from tfproj.models.checkpoint import load_model
    from tfproj.training.train import train

    with tempfile.TemporaryDirectory() as folder:
        run = train(config, folder)
        # A limit shortens the validation split as well; all of it is steadier.
        whole = config if config.data.startswith("synth") else dataclasses.replace(
            config, limit=None
        )  # fmt: skip
        task = evaluate.METRICS[config.task]
        metrics, _, _ = task(load_model(run), plan(whole), "val", flip)
        return {name: metrics[name] for name in METRICS[config.task]}


def markdown(rows: list[dict[str, Any]], metrics: tuple[str, ...]) -> str:
    """Mean and standard deviation over the seeds, and the difference to the base, in points."""
    lines = ["| change | " + " | ".join(f"{m.replace('_', ' ')} | to base" for m in metrics) + " |"]
    lines.append("|---|" + "---|" * 2 * len(metrics))
    base = {m: statistics.fmean(run[m] for run in rows[0]["runs"]) for m in metrics}
    for row in rows:
        cells = [row["change"]]
        for metric in metrics:
            values = [100 * run[metric] for run in row["runs"]]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            mean = statistics.fmean(values)
            change = "" if row is rows[0] else f"{mean - 100 * base[metric]:+.2f}"
            cells += [f"{mean:.2f}{spread}", change]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    common.start(main)
