"""The whole job in a few minutes: train, evaluate, report, export, predict, for both tasks.

Uses Fashion-MNIST and facades where they are found on this machine, else data that need no
network: scikit-learn's digits and facades drawn by this package. The trainings are short; the
full recipes are the presets.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.files import write_json, writing
from tfproj.data import DataOptions, load_dataset
from tfproj.data.dataset import Dataset, Split
from tfproj.data.sources.fashion_mnist import find_idx_folder
from tfproj.data.write_folder import write_folder
from tfproj.errors import InputError, TfprojError
from tfproj.evaluation.evaluate import evaluate
from tfproj.experiment.presets import make_config
from tfproj.export.onnx_file import export_onnx
from tfproj.report import build
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import Run
from tfproj.training.train import train

SAMPLES = 8  # images given to the predictor, for each task

# Sized for five minutes in all on two cores, without bfloat16.
SHORT: dict[str, dict[str, dict[str, Any]]] = {
    "classify": {
        "fashion_mnist": {"preset": "original", "epochs": 6},
        "digits": {"preset": "original", "epochs": 30, "batch_size": 32},
    },
    "segment": {
        "facades": {"epochs": 8, "image_size": (128, 128), "learning_rate": 4e-3},
        "synthetic_facades": {
            "epochs": 8, "image_size": (128, 128), "learning_rate": 4e-3, "limit": 600,
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one task of the demo gave."""

    task: str
    run: Run
    origin: str
    seconds: float
    metrics: dict[str, Any]
    export: dict[str, Any]
    predictions: Path


def choose_data(task: str) -> tuple[str, str]:
    """(data set, sentence on why): the real one where it is on this machine, without asking
    the network."""
    if task == "classify":
        folder = find_idx_folder()
        if folder is not None:
            return "fashion_mnist", f"Fashion-MNIST from {folder}"
        return "digits", "Fashion-MNIST was not found: scikit-learn's digits instead"
    try:
        dataset = load_dataset("facades")
    except InputError:
        return "synthetic_facades", "no facades were found: facades drawn by tfproj instead"
    return "facades", f"facades from {dataset.origin}"


def demo_config(task: str, data: str) -> TrainConfig:
    """A preset cut short: the plain CNN for classification, since it learns fastest."""
    return make_config(task, data=data, **SHORT[task][data])


def run_demo(root: Path, tasks: tuple[str, ...] = ("classify", "segment")) -> list[Result]:
    """Run the demo below ``root`` (replacing an earlier one) and write ``demo.json`` there.

    Raises:
        InputError: ``root`` holds something else.
        TfprojError: a step failed, or a prediction without TensorFlow differed.
    """
    record = root / "demo.json"
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()) and not record.exists():
            raise InputError(f"{root}: not empty, and not an earlier demo; choose another --output")
    write_json(record, [])  # from now on it is the demo's own
    results = []
    for task in tasks:
        data, reason = choose_data(task)
        print(f"\n== {task}: {reason}", file=sys.stderr)
        results.append(_one_task(root, demo_config(task, data), reason))
    write_json(record, [to_dict(result) for result in results])
    return results


def _one_task(root: Path, config: TrainConfig, origin: str) -> Result:
    begin = time.monotonic()
    run = train(config, root / "runs", name="demo", overwrite=True)
    metrics = evaluate(run, [split for split in run.counts() if split != "train"])
    build([run])
    export = export_onnx(run)
    predictions = _predict(run, config, root / "samples" / config.task)
    return Result(config.task, run, origin, time.monotonic() - begin, metrics, export, predictions)


def _predict(run: Run, config: TrainConfig, folder: Path) -> Path:
    """Predict sample files with the command that another machine would use.

    A process of its own, so that it is seen to work without TensorFlow.
    """
    shutil.rmtree(folder, ignore_errors=True)
    options = DataOptions(limit=config.limit, val_fraction=config.val_fraction)
    dataset = load_dataset(config.data, config.task, options)
    split = dataset.splits.get("test", dataset.splits["val"]).subset(np.arange(SAMPLES))
    written = write_folder(_only(dataset, split), folder)
    images = written / "samples" / ("images" if config.task == "segment" else "")
    output = folder / "predictions"
    command = [
        sys.executable, "-c", PREDICT, str(run.onnx_file), str(images), "--output", str(output),
    ]  # fmt: skip
    command += ["--overlay"] if config.task == "segment" else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise TfprojError(f"prediction failed: {done.stderr.strip()[-200:]}")
    return output


# The command line in a process where TensorFlow can't be imported.
PREDICT = (
    "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
    "from tfproj.cli.main import main\n"
    "sys.exit(main(['predict', *sys.argv[1:]]))"
)


def _only(dataset: Dataset, split: Split) -> Dataset:
    return dataclasses.replace(dataset, splits={"samples": split})


def headline(result: Result) -> tuple[str, float]:
    """The measure that a reader looks for first: its name and value on test (or validation)."""
    splits = result.metrics["splits"]
    name = "test" if "test" in splits else "val"
    if result.task == "classify":
        return f"{name} accuracy", splits[name]["accuracy"]
    return f"{name} mean AP", splits[name]["mean_average_precision_softmax"]


def to_dict(result: Result) -> dict[str, Any]:
    """Plain JSON types."""
    name, value = headline(result)
    return {
        "task": result.task,
        "data": result.origin,
        "measure": name,
        "value": value,
        "parameters": result.export["parameters"],
        "max_difference": result.export["verification"]["max_difference"],
        "onnx": result.export["path"],
        "onnx_bytes": result.export["bytes"],
        "run": str(result.run.path),
        "report": str(result.run.report_file),
        "predictions": str(result.predictions),
        "seconds": round(result.seconds, 1),
    }
