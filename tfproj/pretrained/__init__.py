"""Models that come with the package: ONNX files, each with a card of the same name.

``NAME-VARIANT.onnx`` is written by the commands in its card ``NAME-VARIANT.md``; a name alone
means the ``best`` variant. No TensorFlow here.
"""

from __future__ import annotations

from pathlib import Path

from tfproj.errors import InputError, unknown_name

FOLDER = Path(__file__).parent
PREFERRED = "best"


def names() -> list[str]:
    """Names of all files, such as ``facades-best`` and ``fashion_mnist-best-int8``."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def is_pretrained(name: str) -> bool:
    return _stem(name) in names()


def means_pretrained(name: str, runs_dir: str | Path, task: str = "*") -> bool:
    """Whether a command's argument means a model of the package rather than a run of the task.

    Raises:
        InputError: it is the name of both.
    """
    if not is_pretrained(name) or (Path(name) / "config.json").is_file():
        return False
    for config in Path(runs_dir).glob(f"{task}/{name}/config.json"):
        raise InputError(
            f"{name!r} is a pretrained model and a run; for the run say {config.parent}, for the "
            f"other {pretrained_file(name)}"
        )
    return True


def pretrained_file(name: str) -> Path:
    """The file that a name means: ``facades``, ``facades-default``, ``fashion_mnist-int8`` ...

    Raises:
        InputError: there is none; says the closest name.
    """
    if not is_pretrained(name):
        raise unknown_name("unknown pretrained model", name, names())
    return FOLDER / f"{_stem(name)}.onnx"


def card(name: str) -> str:
    """Data, licence, recipe, metrics and limits of a pretrained model, as Markdown.

    The int8 file shares the card of the float32 one. Errors as for :func:`pretrained_file`.
    """
    stem = pretrained_file(name).stem.removesuffix("-int8")
    return (FOLDER / f"{stem}.md").read_text(encoding="utf-8")


def _stem(name: str) -> str:
    """``facades`` -> ``facades-best``; ``fashion_mnist-int8`` -> ``fashion_mnist-best-int8``."""
    if name in names():
        return name
    base = name.removesuffix("-int8")
    return f"{base}-{PREFERRED}{name[len(base) :]}"
