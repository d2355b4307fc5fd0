"""The whole job in a few minutes: train, evaluate, report, export, predict, for both tasks.

Uses Fashion-MNIST and facades where they are found on this machine, else data that need no
network: scikit-learn's digits and facades drawn by this package. The trainings are short; the
full recipes are the presets.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.files import write_json, writing
from tfproj.data import DataOptions, load_dataset
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
# What a reader looks for first: its name, and that in metrics.json.
MEASURES = {
    "classify": ("accuracy", "accuracy"),
    "segment": ("mean AP", "mean_average_precision_softmax"),
}

# Sized for five minutes in all on two cores, without bfloat16.
SHORT: dict[str, dict[str, dict[str, Any]]] = {
    "classify": {
        "fashion_mnist": {"preset": "original", "epochs": 6},
        "digits": {"preset": "original", "epochs": 30, "batch_size": 32},
    },
    "segment": {
        "facades": {"epochs": 5, "image_size": (128, 128), "learning_rate": 4e-3},
        "synthetic_facades": {
            "epochs": 5, "image_size": (128, 128), "learning_rate": 4e-3, "limit": 600,
        },
    },
}  # fmt: skip


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


def run_demo(root: Path, tasks: tuple[str, ...] = ("classify", "segment")) -> list[dict[str, Any]]:
    """Run the demo below ``root`` (replacing an earlier one) and write ``demo.json`` there.

    Returns:
        Its content: for each task what was measured, and where everything is.

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
    write_json(record, results)
    return results


def _one_task(root: Path, config: TrainConfig, origin: str) -> dict[str, Any]:
    begin = time.monotonic()
    run = train(config, root / "runs", name="demo", overwrite=True)
    splits = evaluate(run, [split for split in run.counts() if split != "train"])["splits"]
    build([run])
    export = export_onnx(run)
    predictions = _predict(run, config, root / "samples" / config.task)
    split = "test" if "test" in splits else "val"
    title, measure = MEASURES[config.task]
    return {
        "task": config.task,
        "data": origin,
        "measure": f"{split} {title}",
        "value": splits[split][measure],
        "parameters": export["parameters"],
        "max_difference": export["verification"]["max_difference"],
        "onnx": export["path"],
        "onnx_bytes": export["bytes"],
        "run": str(run.path),
        "report": str(run.report_file),
        "predictions": str(predictions),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _predict(run: Run, config: TrainConfig, folder: Path) -> Path:
    """Predict sample files with the command that another machine would use.

    A process of its own, so that it is seen to work without TensorFlow.
    """
    shutil.rmtree(folder, ignore_errors=True)
    options = DataOptions(limit=config.limit, val_fraction=config.val_fraction)
    dataset = load_dataset(config.data, config.task, options)
    split = dataset.splits.get("test", dataset.splits["val"]).subset(np.arange(SAMPLES))
    written = write_folder(replace(dataset, splits={"samples": split}), folder)
    images = written / "samples" / ("images" if config.task == "segment" else "")
    output = folder / "predictions"
    command = [
        *(sys.executable, "-P", "-c", PREDICT),
        *(str(run.onnx_file), str(images), "--output", str(output)),
    ]
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
