"""Models that come with the package: ONNX files, each with a card of the same name.

``NAME-VARIANT.onnx`` is written by the commands in its card ``NAME-VARIANT.md``; a name alone
means the ``best`` variant. No TensorFlow here.
"""

from __future__ import annotations

from pathlib import Path

from tfproj.errors import unknown_name

FOLDER = Path(__file__).parent
PREFERRED = "best"


def names() -> list[str]:
    """Names of all files, such as ``facades-best`` and ``fashion_mnist-best-int8``."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def is_pretrained(name: str) -> bool:
    return _stem(name) in names()


def pretrained_file(name: str) -> Path:
    """The file that a name means: ``facades``, ``facades-default``, ``fashion_mnist-int8`` ...

    Raises:
        InputError: there is none; says the closest name.
    """
    if not is_pretrained(name):
        raise unknown_name("pretrained model", name, names())
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
