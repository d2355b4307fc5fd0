"""``tfproj models``."""

from __future__ import annotations

from pathlib import Path

import click

from tfproj import backend, pretrained
from tfproj.cli.options import SizedCommand, common, image_size, print_json
from tfproj.core.spec import ModelSpec
from tfproj.errors import unknown_name
from tfproj.experiment.presets import PRESETS
from tfproj.inference.model_file import read_model
from tfproj.models.registry import MODELS, build_model, check_model, check_size

# Input and classes of the original work, so that its table comes out; what an encoder is for.
ORIGINAL = {"classify": ((28, 28), 1, 10), "segment": ((256, 256), 3, 5)}
PHOTOGRAPHS = {**ORIGINAL, "classify": ((288, 288), 3, 10)}


@click.command(cls=SizedCommand)
@click.argument("name", required=False)
@click.option(
    "--preset",
    help="Preset whose model options are used. [default: original; photo, of a model with encoder]",
)
@image_size("[default: the original's]")
@click.option("--channels", type=int, help="1 or 3. [default: the original's]")
@click.option("--classes", type=click.IntRange(min=2), help="[default: the original's]")
@common
def models(
    name: str | None,
    preset: str | None,
    image_size: tuple[int, int] | None,
    channels: int | None,
    classes: int | None,
    as_json: bool,
) -> None:
    """List the models, or print the layers, parameters and memory of model NAME.

    Of a pretrained model, the card: data, licence, recipe, metrics, limits.
    """
    if name is None:
        _list_models(as_json)
        return
    if name not in MODELS and pretrained.is_pretrained(name):
        path, text = pretrained.pretrained_file(name), pretrained.card(name)
        _print_card(name, path, text, as_json)
        return
    if name not in MODELS:
        raise unknown_name("unknown model", name, [*MODELS, *pretrained.names()])
    task, has_encoder = MODELS[name].task, "encoder" in MODELS[name].options
    preset = preset or ("photo" if has_encoder else "original")
    if preset not in PRESETS[task]:
        raise unknown_name(f"unknown preset for {task}", preset, PRESETS[task])
    values = PRESETS[task][preset]
    own = values.get("model", name) == name
    options = values.get("model_options", {}) if own else {}
    size, colors, count = (PHOTOGRAPHS if has_encoder else ORIGINAL)[task]
    size = image_size or size
    check_model(name, task, options)
    check_size(name, size, options)
    names = tuple(f"class{i}" for i in range(classes or count))
    spec = ModelSpec(task, name, names, (), *size, channels or colors)
    click.echo(f"building {name} ({preset}) ...", err=True)
    _print_summary(spec, options, as_json)


def _list_models(as_json: bool) -> None:
    if as_json:
        built = [
            {"name": name, "task": entry.task, "summary": entry.summary}
            for name, entry in MODELS.items()
        ]
        print_json([*built, *map(_pretrained_record, pretrained.names())])
        return
    for name, entry in MODELS.items():
        click.echo(f"{name:<14}{entry.task:<10}{entry.summary}")
    click.echo(f"pretrained: {', '.join(pretrained.names())}")


def _pretrained_record(name: str) -> dict[str, str]:
    spec = read_model(pretrained.pretrained_file(name), name).spec
    return {"name": name, "task": spec.task, "summary": f"{spec.model}, trained on {spec.data}"}


def _print_card(name: str, path: Path, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "file": str(path), "bytes": path.stat().st_size, "card": text})
    else:
        click.echo(text, nl=False)


def _print_summary(spec: ModelSpec, options: dict, as_json: bool) -> None:
    backend.setup()
    from tfproj.models.summary import (  # noqa: PLC0415 (loads TensorFlow)
        format_summary,
        summarize,
        to_dict,
    )

    summary = summarize(build_model(spec, options))
    if as_json:
        print_json({"model": spec.model, **to_dict(summary)})
    else:
        click.echo(format_summary(summary))
