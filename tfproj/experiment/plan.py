"""From a configuration to what will be trained on what: all that needs no TensorFlow.

So a mistake shows before it is loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfproj.core.files import read_object
from tfproj.core.spec import ModelSpec
from tfproj.data import DATASETS, DataOptions, Dataset, load_dataset
from tfproj.data.check import quick_check
from tfproj.data.dataset import MAX_NATURAL_SIDE, median_size
from tfproj.errors import InputError
from tfproj.experiment.initial_weights import Source, find_source, with_source
from tfproj.models.registry import check_model, check_size, input_multiple, nearest_size
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import Run


@dataclass(frozen=True)
class Plan:
    """A checked configuration: what will be trained on what.

    Attributes:
        config: with the model that is trained.
        dataset: what it is trained on.
        spec: of the model.
        source: where the weights come from, for a new run with ``init``.
    """

    config: TrainConfig
    dataset: Dataset
    spec: ModelSpec
    source: Source | None = None


def plan(config: TrainConfig) -> Plan:
    """Find the data and the initial weights, settle the model, check that they fit.

    Raises:
        InputError: anything that would make the training fail or be meaningless.
    """
    if not config.init:
        return _fitted(config)
    source = find_source(config.init, config.task)
    return dataclasses.replace(_fitted(with_source(config, source)), source=source)


def _fitted(config: TrainConfig, classes: tuple[str, ...] | None = None) -> Plan:
    """The plan for a configuration that names its model."""
    dataset = load_dataset(config.data, config.task, data_options(config, classes))
    check_model(config.model, config.task, config.model_options)
    size = config.image_size or nearest_size(config.model, dataset.size, config.model_options)
    check_size(config.model, size, config.model_options)
    spec = ModelSpec(
        task=config.task,
        model=config.model,
        classes=dataset.classes,
        colors=dataset.colors,
        height=size[0],
        width=size[1],
        channels=config.channels or dataset.channels,
        data=dataset.name,
    )
    return Plan(config, dataclasses.replace(dataset, findings=quick_check(dataset)), spec)


def explain_size(planned: Plan) -> str:
    """One line on the size of the network's input, and why it is that."""
    spec, config = planned.spec, planned.config
    height, width = median_size(planned.dataset.splits["train"])
    images = f"the training images have {height:g} x {width:g} (median)"
    taken = f"input {spec.height} x {spec.width} px (height x width)"
    if config.image_size:
        return f"{taken}, as asked for; {images}"
    reasons = [images]
    if max(height, width) > MAX_NATURAL_SIDE >= max(planned.dataset.size):
        reasons.append(f"at most {MAX_NATURAL_SIDE} a side unless --image-size says otherwise")
    multiple = input_multiple(spec.model, config.model_options)
    if multiple > 1:
        reasons.append(f"{spec.model} takes the nearest multiples of {multiple}")
    return f"{taken}: {'; '.join(reasons)}"


def plan_again(run: Run) -> Plan:
    """The plan of an existing run, with its classes, on the data it was started with.

    The data are looked for where the configuration says, then where they were found then.

    Raises:
        InputError: files missing, or the data are gone or not what they were.
    """
    run.require(run.config_file, run.spec_file, run.splits_file, run.environment_file)
    config, classes = run.config(), run.spec().classes
    try:
        planned = _fitted(config, classes)
    except InputError:
        origin = run.environment().get("data", {}).get("origin", "")
        if not Path(origin).is_dir():
            raise
        named = config.data in DATASETS or config.data.startswith("tfds:")
        there = {"data_dir" if named else "data": origin}
        planned = _fitted(dataclasses.replace(config, **there), classes)
    recorded = run.spec()
    for name in ("task", "model", "size", "channels"):
        if getattr(recorded, name) != getattr(planned.spec, name):
            raise InputError(
                f"{run.spec_file}: {name} {getattr(recorded, name)!r} does not fit "
                f"{run.config_file.name} and the data, which give {getattr(planned.spec, name)!r}"
            )
    begun, now = read_object(run.splits_file), describe_splits(planned.dataset)
    # Runs of before contents were recorded have none.
    kept = ("fingerprint", "contents") if "contents" in begun else ("fingerprint",)
    if any(begun.get(key) != now[key] for key in kept):
        raise InputError(f"{run.path}: the data set is not the one this run was started with")
    return planned


def plan_evaluation(run: Run, splits: Sequence[str] | None = None) -> Plan:
    """The plan of a trained run, whose ``splits`` are to be measured (None: all).

    Raises:
        InputError: files missing, no such split, or the data changed since training.
    """
    run.require(run.best_weights)
    planned = plan_again(run)
    for name in splits or ():
        if name not in planned.dataset.splits:
            known = ", ".join(planned.dataset.splits)
            raise InputError(f"{run.path}: no split {name!r}; available: {known}")
    return planned


def data_options(config: TrainConfig, classes: tuple[str, ...] | None = None) -> DataOptions:
    """The part of a configuration that finds and splits the data."""
    return DataOptions(
        data_dir=config.data_dir,
        group_modulus=config.group_modulus,
        val_fraction=config.val_fraction,
        limit=config.limit,
        classes=classes,
    )


def describe_splits(dataset: Dataset) -> dict:
    """What the data were, for a later look; the names held out, so that leaks can be seen."""
    counts = {name: len(split) for name, split in dataset.splits.items()}
    held_out = list(dataset.splits["val"].names) if "val" in dataset.splits else []
    return {
        "fingerprint": dataset.fingerprint(),
        "contents": dataset.contents(),
        "counts": counts,
        "val": held_out,
    }
