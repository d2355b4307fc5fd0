"""A run's model card: Markdown with front matter as the Hugging Face hub reads it.

The keys are those of https://huggingface.co/docs/hub/model-cards. JSON is valid YAML, so that any
name of a class or a data set can stand there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.inference.model_file import read_model
from tfproj.report.load import RunData, read_run
from tfproj.runs.run import Run

PIPELINES = {"classify": "image-classification", "segment": "image-segmentation"}
QUESTIONS = {
    "classify": "Says which of {} classes an image shows",
    "multi_label": "Says which of {} classes an image shows, any number of them or none",
    "segment": "Says of each pixel of an image which of {} classes it shows",
}
# Figures of a split that are no measure of quality.
NO_METRICS = ("examples", "loss")
CUT = 20  # classes that are listed by name


def card(run: Run) -> str:
    """The card of an evaluated run, from files of its directory alone.

    Raises:
        InputError: the run has not been evaluated, or a file is damaged.
    """
    data = read_run(run)
    if data.shown is None or not data.splits:
        raise InputError(f"{run.path}: not evaluated yet; first: {data.evaluate_command}")
    parts = [_front(data), f"# {run.name}", _purpose(data.spec), _use(run), _recipe(data)]
    return "\n\n".join([*parts, _measured(data), _limits(data)]) + "\n"


def _front(data: RunData) -> str:
    name, figures = data.shown or "", _figures(data.splits[data.shown or ""])
    told = data.environment.get("data", {})
    dataset = {"name": data.spec.data or data.config.data, "type": data.spec.data, "split": name}
    values: dict[str, Any] = {
        "library_name": "tfproj",
        "pipeline_tag": PIPELINES[data.task],
        "license": "other",
        "license_name": "see-the-data",
        "license_details": told.get("license") or "the terms of the data that it was trained on",
        "tags": ["tfproj", "keras", "onnx", "onnxruntime", PIPELINES[data.task]],
        "datasets": [dataset["type"]] if dataset["type"] else [],
        "metrics": list(figures),
        "parameters": data.parameters,
        "model-index": [
            {
                "name": data.name,
                "results": [
                    {
                        "task": {"type": PIPELINES[data.task]},
                        "dataset": dataset,
                        "metrics": [{"type": k, "value": round(v, 4)} for k, v in figures.items()],
                    }
                ],
            }
        ],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def _figures(split: dict[str, Any]) -> dict[str, float]:
    """The metrics of a split that are one number each."""
    return {
        name: value
        for name, value in split.items()
        if isinstance(value, (int, float)) and name not in NO_METRICS
    }


def _purpose(spec: ModelSpec) -> str:
    names = ", ".join(_text(name) for name in spec.classes[:CUT])
    more = f" and {len(spec.classes) - CUT} more" if len(spec.classes) > CUT else ""
    colour = "colour" if spec.channels == 3 else "grey"
    task = QUESTIONS[spec.kind].format(len(spec.classes))
    return (
        f"{task}: {names}{more}. It takes {colour} images of any size, and works at "
        f"{spec.height} x {spec.width} px ({spec.resize})."
    )


def _use(run: Run) -> str:
    code = [
        "```python",
        "from tfproj import Predictor  # numpy, onnxruntime and Pillow; no TensorFlow",
        "",
        'print(Predictor("model.onnx").predict("image.jpg"))',
        "```",
    ]
    return "\n".join(["## Use", "", *code, "", *_export(run)])


def _export(run: Run) -> Iterator[str]:
    if not run.onnx_file.is_file():
        yield f"It has not been exported yet: `tfproj export {run.name}`."
        return
    found = read_model(run.onnx_file, str(run.onnx_file)).metadata.get("verification", {})
    if found.get("max_difference") is not None:
        yield (
            f"The file gives Keras' answers: on {found['images']} images its probabilities differ "
            f"by {found['max_difference']:.1e} at most."
        )


def _recipe(data: RunData) -> str:
    config, told = data.config, data.environment
    counts = ", ".join(f"{count:,} for {name}" for name, count in data.dataset["counts"].items())
    lines = [
        "## Recipe",
        "",
        f"Preset `{config.preset}` of tfproj {told.get('versions', {}).get('tfproj', '')}, seed "
        f"{config.seed}, {_epochs(data)}, model `{config.model}` with "
        f"{data.parameters or 0:,} parameters. Images: {counts}.",
    ]
    command = told.get("command")
    if command:
        lines += ["", "    " + shlex.join(command).replace("\n", " ")]
    return "\n".join(lines)


def _epochs(data: RunData) -> str:
    return f"{len(data.history)} epoch{'s' * (len(data.history) != 1)}"


def _words(metric: str) -> str:
    """The name of a metric for people."""
    return metric.replace("_", " ").replace("iou", "IoU")


def _measured(data: RunData) -> str:
    lines = ["## Measured", ""]
    for name, split in data.splits.items():
        figures = ", ".join(f"{_words(k)} {v:.4f}" for k, v in _figures(split).items())
        lines.append(f"- {name}, {split['examples']:,} images: {figures}")
    shown = data.splits[data.shown or ""]
    columns = {
        k: v for k, v in shown.items() if isinstance(v, dict) and set(v) == set(data.classes)
    }
    columns = {k: v for k, v in columns.items() if not isinstance(v[data.classes[0]], dict)}
    if columns:
        lines += ["", f"By class, on {data.shown}:", ""]
        lines += ["| class | " + " | ".join(map(_words, columns)) + " |"]
        lines += ["|---" * (1 + len(columns)) + "|"]
        for label in data.classes:
            values = (column[label] for column in columns.values())
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append(f"| {_text(label)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is_by_class(value: Any, classes: Sequence[str]) -> bool:
    """Whether a metric is one number, or none, for each class."""
    known = isinstance(value, dict) and value.keys() == set(classes)
    return known and not any(isinstance(one, dict) for one in value.values())


def _limits(data: RunData) -> str:
    lines = ["## Limits", ""]
    lines += [f"- {_text(sentence)}" for sentence in data.warnings.values()]
    other = "may get" if data.spec.multi_label else "gets"
    lines.append(
        "- It has been measured on the images above alone. It knows no class but its own: an image "
        f"of something else {other} one of them, too."
    )
    return "\n".join(lines)


def _text(words: str) -> str:
    """Words that Markdown leaves as they are, in one line."""
    return " ".join("".join("\\" + c if c in "\\`*[]<>|#" else c for c in words).split())
