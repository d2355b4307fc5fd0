"""What does the preset ``original`` reach over several seeds, beside the course report's figures?

    python benchmarks/reproduce.py classify             # 5 seeds, a minute each on 2 cores
    python benchmarks/reproduce.py segment --seeds 3    # a quarter of an hour each
    python benchmarks/reproduce.py segment --quick

With ``--runs-dir DIR`` the trainings stay there, and the same command continues after an
interruption: what is finished is only measured, what is not is resumed.

Classification is measured on the test split of Fashion-MNIST, in percent per class. Segmentation is
measured on 93 validation facades (the report had another split), as average precision by raw
scores; "silenced in" counts the seeds in which the ReLU on the scores left a class only zeros.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

from tfproj import backend
from tfproj.errors import InputError
from tfproj.experiment.presets import make_config
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import Run

REPORT: dict[str, dict[str, float]] = {
    "classify": {
        "T-shirt/top": 84, "Trouser": 98, "Pullover": 79, "Dress": 91, "Coat": 88, "Sandal": 97,
        "Shirt": 67, "Sneaker": 98, "Bag": 98, "Ankle boot": 94, "mean": 89.4,
    },
    "segment": {"mean": 47.4},
}  # fmt: skip
QUICK: dict[str, dict[str, Any]] = {
    "classify": {"data": "digits", "limit": 200, "epochs": 2},
    "segment": {
        "data": "synthetic_facades", "limit": 16, "epochs": 2, "image_size": (32, 32),
    },
}  # fmt: skip
MEASURED = {"classify": "test", "segment": "val"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=tuple(REPORT), default="classify")
    parser.add_argument("--seeds", type=common.positive, default=5)
    parser.add_argument("--data-dir", help="where the data set lies, if not in a usual place")
    parser.add_argument("--runs-dir", type=Path, metavar="DIR", help="keep the trainings there")
    parser.add_argument("--quick", action="store_true", help="two seeds at toy size")
    common.add_json(parser)
    options = parser.parse_args()
    backend.setup()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        root = options.runs_dir or Path(folder)
        for seed in range(2 if options.quick else options.seeds):
            size = QUICK[options.task] if options.quick else {}
            values = {"seed": seed, "data_dir": options.data_dir, **size}
            run = trained(make_config(options.task, "original", **values), root)
            runs.append(measure(run))
            print(f"seed {seed}: mean {runs[-1]['per_class']['mean']:.2f}", file=sys.stderr)
    print(markdown(options.task, runs))
    if options.json:
        common.write(options.json, {"task": options.task, "quick": options.quick, "rows": runs})


def trained(config: TrainConfig, root: Path) -> Run:
    """The training of this seed: a new one, or the one that is there, to its end."""
    from tfproj.training.train import resume, train

    name = f"original-seed-{config.seed}"
    run = Run(root / config.task / name)
    if not run.config_file.exists():
        return train(config, root, name, overwrite=True)
    if run.config() != config:
        raise InputError(f"{run.path}: not a run of this command; choose another --runs-dir")
    return run if len(run.history()) == config.epochs else resume(run)


def measure(run: Run) -> dict[str, Any]:
    """Figures of one training, in percent, and the classes that it silenced."""
    from tfproj.evaluation.evaluate import evaluate

    config = run.config()
    split = MEASURED[config.task]
    found = evaluate(run, [split])["splits"][split]
    if config.task == "classify":
        values = {**found["per_class_accuracy"], "mean": found["accuracy"]}
        silenced: list[str] = []
    else:
        mean = found["mean_average_precision_raw"]
        values = {**found["average_precision_raw"], "mean": mean}
        silenced = [name for name, s in found["scores"].items() if s["zero_share"] == 1]
    per_class = {name: 100 * value for name, value in values.items() if value is not None}
    return {"seed": config.seed, "per_class": per_class, "silenced": silenced}


def markdown(task: str, runs: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds beside the report's figure."""
    silence = task == "segment"  # what has no ReLU on its scores silences none
    lines = [f"| class | report | {len(runs)} seeds |" + " silenced in |" * silence]
    lines.append("|---|---|---|" + "---|" * silence)
    for name in runs[0]["per_class"]:
        values = [run["per_class"][name] for run in runs if name in run["per_class"]]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        said = REPORT[task].get(name)
        count = sum(name in run["silenced"] for run in runs)
        lines.append(
            f"| {name} | {'' if said is None else said} | {statistics.fmean(values):.1f}{spread} |"
            + f" {count if name != 'mean' else ''} |" * silence
        )
    return "\n".join(lines)


if __name__ == "__main__":
    common.start(main)
