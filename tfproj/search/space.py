"""What a search tries: fields of TrainConfig, each with a range or with choices. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tfproj.errors import InputError, unknown_name
from tfproj.experiment.presets import read_config_file
from tfproj.runs.config import TrainConfig, config_from_dict

# Field -> {"low", "high", "log"} or {"choices"}.
Space = dict[str, dict[str, Any]]

# Trials that differ in one of these aren't comparable, or it comes with others.
FIXED = {
    "task", "preset", "data", "data_dir", "format", "multi_label", "group_modulus", "val_fraction",
    "monitor", "init", "model_options", "encoder",
}  # fmt: skip
TYPES = {f.name: str(f.type).removesuffix(" | None") for f in dataclasses.fields(TrainConfig)}


def default_space(config: TrainConfig, given: Collection[str] = ()) -> Space:
    """Few fields that matter for most data, around what the preset has; none that is ``given``."""
    rate, batch = config.learning_rate, config.batch_size
    most = 1e-3 if config.optimizer == "adam" else 0.1  # coupled decay shrinks far more
    mild = "shift" if config.task == "classify" else "photo"
    space: Space = {
        "learning_rate": {"low": rate / 10, "high": rate * 10, "log": True},
        "weight_decay": {"low": most / 1e4, "high": most, "log": True},
        "batch_size": {"choices": sorted({max(1, batch // 2), batch, 2 * batch})},
        "augment": {"choices": list(dict.fromkeys([config.augment, "none", mild]))},
    }
    if config.task == "classify":
        space["label_smoothing"] = {"low": 0.0, "high": 0.2, "log": False}
    else:
        space["dice"] = {"low": 0.0, "high": 3.0, "log": False}
    return {name: values for name, values in space.items() if name not in given}


def read_space(path: str | Path, config: TrainConfig, given: Collection[str] = ()) -> Space:
    """The space of a YAML file: ``learning_rate: {low: 1e-4, high: 1e-2, log: true}``,
    ``augment: [none, shift]``, ``epochs: {choices: [5, 10]}``.

    Args:
        path: the file.
        config: what is trained; every bound and choice must be valid in its place.
        given: fields that a flag sets; none of them may be searched.

    Raises:
        InputError: an unknown field, an empty range, a bound or choice that no training may have.
    """
    space = {}
    for name, values in read_config_file(path).items():
        if name in FIXED:
            raise InputError(f"{path}: {name} can't be searched; it is the same for all trials")
        if name in given:
            flag = name.replace("_", "-")
            raise InputError(f"{path}: {name} is searched, and --{flag} sets it; leave out one")
        try:
            space[name] = _dimension(name, values)
            for value in (v for key, v in space[name].items() if key != "log"):
                for single in value if isinstance(value, list) else [value]:
                    with_values(config, {name: single})
        except InputError as error:
            raise InputError(f"{path}: {name}: {error}") from None
    if not space:
        raise InputError(f"{path}: names no field to search")
    return space


def _dimension(name: str, values: Any) -> dict[str, Any]:
    values = {"choices": values} if isinstance(values, list) else values
    if not isinstance(values, Mapping):
        raise InputError("must be a list of choices, or low and high")
    for key in values:
        if key not in ("low", "high", "log", "choices"):
            raise unknown_name("unknown key", key, ("low", "high", "log", "choices"))
    if "choices" in values:
        return {"choices": _choices(values)}
    low, high, log = values.get("low"), values.get("high"), values.get("log", False)
    if TYPES[name] not in ("int", "float"):
        raise InputError(f"is {TYPES[name]}, which has no range; give choices")
    if any(isinstance(bound, bool) or not isinstance(bound, int | float) for bound in (low, high)):
        raise InputError("low and high must be numbers")
    if not isinstance(log, bool):
        raise InputError(f"log is {log!r}; it must be true or false")
    if low >= high:
        raise InputError(f"empty range {low} to {high}; low must be below high")
    if log and low <= 0:
        raise InputError(f"low is {low}; on a logarithmic scale it must be above 0")
    return {"low": low, "high": high, "log": log}


def _choices(values: Mapping[str, Any]) -> list:
    choices = values["choices"]
    if len(values) > 1:
        raise InputError("choices and a range; leave out one")
    scalar = isinstance(choices, list) and all(
        value is None or isinstance(value, str | int | float) for value in choices
    )
    if not scalar or len(set(choices)) < 2 or len(set(choices)) < len(choices):
        raise InputError("choices must be two or more different words, numbers or null")
    return choices


def with_values(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a trial; InputError where the values don't go together."""
    if values.get("model", config.model) != config.model:
        values = {**values, "model_options": {}}  # those are of the other model
    return config_from_dict({**config.to_dict(), **values})


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """What an ``optuna.Trial`` is to try."""
    found = {}
    for name, values in space.items():
        if "choices" in values:
            found[name] = trial.suggest_categorical(name, values["choices"])
        elif TYPES[name] == "int":
            found[name] = trial.suggest_int(name, **values)
        else:
            found[name] = trial.suggest_float(name, **values)
    return found


def own_values(config: TrainConfig, space: Space) -> dict[str, Any]:
    """What the configuration itself has of the space, where that lies in it."""
    return {name: getattr(config, name) for name in space if _holds(config, name, space[name])}


def _holds(config: TrainConfig, name: str, values: Mapping[str, Any]) -> bool:
    value = getattr(config, name)
    if "choices" in values:
        return value in values["choices"]
    return value is not None and values["low"] <= value <= values["high"]
