"""Look through a file of somebody's Keras model before Keras builds anything of it."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfproj.errors import InputError, first_line

MAX_CONFIG = 64 << 20  # bytes; that of a network of 800 layers has 0.5 MB
# Where Keras' own layers, and what they are made of, come from.
MODULES = re.compile(
    r"keras(\.(src\.)?(activations|constraints|dtype_policies|initializers|layers|losses|metrics|"
    r"models|ops|optimizers|random|regularizers)(\.\w+)*)?"
)
FUNCTIONS = re.compile(r"builtins|keras\.(src\.)?(activations|initializers|ops)(\.\w+)*")
VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__bytes__")
CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
READERS = ("StringLookup", "IntegerLookup", "TextVectorization")  # of any file that they name


def is_keras(argument: str) -> bool:
    """Whether an argument of ``tfproj export`` is somebody's model and not a run."""
    path = Path(argument)
    return path.suffix in (".keras", ".h5", ".hdf5") or (path / "saved_model.pb").is_file()


def vet(path: Path) -> None:
    """Refuse a file by which Keras would run code, or read other files, as it is loaded.

    All that it is made of must be Keras' own; the layer that isn't is named.

    Raises:
        InputError: that, or it isn't a ``.keras`` file.
    """
    for layer, entry in _objects(_config(path)):
        complaint = _complaint(entry)
        if complaint:
            raise InputError(f"{path}: layer {layer[:60]!r} {complaint}")


def _config(path: Path) -> dict[str, Any]:
    if path.suffix != ".keras":
        raise InputError(f"{path}: not a .keras file; load it, and model.save('model.keras')")
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            text = file.read(MAX_CONFIG + 1)
        if len(text) > MAX_CONFIG:
            raise ValueError(f"a configuration of more than {MAX_CONFIG >> 20} MB")
        # How the model was trained is not loaded.
        return {k: v for k, v in json.loads(text).items() if k != "compile_config"}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    # Damaged archives and JSON raise many kinds.
    except Exception as error:
        raise InputError(f"{path}: not a model that Keras saved ({first_line(error)})") from None


def _objects(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the layer around it, entry) of everything that Keras would build."""
    waiting: list[tuple[str, Any]] = [("model", config)]
    while waiting:
        layer, value = waiting.pop()
        if isinstance(value, dict):
            inside = value.get("config")
            if isinstance(inside, dict) and isinstance(inside.get("name"), str):
                layer = inside["name"]
            if "class_name" in value:
                yield layer, value
            waiting += [(layer, item) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(layer, item) for item in value]


def _complaint(entry: dict[str, Any]) -> str | None:
    """What is wrong with an entry; None: nothing."""
    kind, module = str(entry["class_name"]), str(entry.get("module"))
    if kind in CODE:
        return f"is a {kind}: code in the file, which is not run; build it of Keras' own layers"
    if kind in READERS:
        return f"is a {kind}, which may read other files; build the model without it"
    known = FUNCTIONS if kind == "function" else MODULES
    if kind in VALUES or known.fullmatch(module):
        return None
    shown = str(entry.get("config")) if kind == "function" else kind
    way = "load the model in Python, and give it to tfproj.export_model"
    if module.startswith("tfproj."):
        way = "name the run that it is of: tfproj export RUN"
    return f"needs {shown[:60]!r} of {module[:60]!r}, which is not Keras' own; {way}"
