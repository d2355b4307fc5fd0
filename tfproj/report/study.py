"""The page of a search: what was tried, what came of it, and the best as a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfproj.core.words import without_password
from tfproj.errors import InputError
from tfproj.report import figures
from tfproj.report.assets import Assets
from tfproj.report.compare import setting
from tfproj.report.page import page_path, render
from tfproj.search.study import RECORD, counted, importance, read_study

MOST_LINES = 100  # of intermediate values; more would hide each other


def write(where: str, output: str | Path) -> Path:
    """Write the page, its figures and ``best.json`` beside them; returns the page.

    Args:
        where: the study, as ``tfproj tune --study`` has it.

    Raises:
        InputError: no study is there, or nothing was tried yet.
    """
    study = read_study(where)
    trials = counted(study)
    if not trials:
        raise InputError(f"--study {without_password(where)}: no trial has begun")
    path = page_path(output)
    assets = Assets(path.with_suffix(""))
    record, shares = study.user_attrs[RECORD], importance(study)
    done = [t for t in trials if t.state.name == "COMPLETE"]
    best = max(done, key=lambda trial: trial.value) if done else None
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    config = _config(record, best.params) if best else {}
    if best:
        assets.json("best", config)
    values = {
        "name": study.study_name if "://" in where else Path(where).stem,
        "where": without_password(where),
        "task": record["task"],
        "names": sorted(names, key=lambda name: -shares.get(name, 0)),
        "shares": shares,
        "trials": [
            {"at": t, "settings": {k: setting(v) for k, v in t.params.items()}} for t in trials
        ],
        "best": best,
        "config": json.dumps(config, indent=2),
        "config_file": str(assets.folder / "best.json"),
        "figures": _figures(trials, best, assets),
    }
    assets.csv("trials", [_row(trial, names) for trial in trials])
    return render("study.html", path, values)


def _config(record: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """For ``--config``: the settings of all trials with the best trial's, without the data."""
    config = {key: value for key, value in record.items() if key not in ("data", "space")}
    if params.get("model", config["model"]) != config["model"]:
        config["model_options"] = {}  # those are of the other model
    return config | params


def _row(trial: Any, names: list[str]) -> dict[str, Any]:
    facts = {"trial": trial.number, "state": trial.state.name.lower(), "value": trial.value}
    params = {name: trial.params.get(name) for name in names}
    return {**facts, **params, "run": trial.user_attrs.get("run", "")}


def _figures(trials: list, best: Any, assets: Assets) -> list:
    """Values by trial with the best so far, and by epoch the values of each trial."""
    history = figures.trials({t.number: t.value for t in trials if t.state.name == "COMPLETE"})
    found = [
        assets.figure("history", history, "Values of the finished trials, and the best so far")
    ]
    lines = []
    others = [trial for trial in trials[-MOST_LINES:] if trial is not best]
    for trial in [*others, *[best] * (best is not None)]:  # the best lies above the others
        rows = [{"epoch": e, "value": v} for e, v in sorted(trial.intermediate_values.items())]
        ended = trial.state.name == "PRUNED"
        color = figures.COLORS[0] if trial is best else figures.GREY
        label = f"trial {trial.number}, the best" if trial is best else ""
        lines += [figures.Line(rows, "value", color, label, dashed=ended)] if rows else []
    if lines:
        curves = figures.curves(lines, "validation value")
        found.append(assets.figure("epochs", curves, "Validation values of the trials by epoch"))
    return found
