"""Names of encoders, without loading Keras."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfproj.errors import InputError, missing_extra, unknown_name

PREFIX = "encoder_"  # of all layers of an encoder
LITE0 = "lite0"
# What other networks have no place for.
LITE0_OPTIONS = ("width", "drop_path")


def check_encoder(options: Mapping[str, Any]) -> None:
    """InputError where a model's options name an encoder that does not exist, or can't have them.

    Args:
        options: of the model; ``encoder`` may be missing.
    """
    name = options.get("encoder", LITE0)
    if name == LITE0:
        return
    application(name)
    for key in LITE0_OPTIONS:
        if key in options:
            raise InputError(f"{key} is an option of the encoder {LITE0!r}; {name!r} has none")


def application(name: str) -> str:
    """The function of ``keras.applications`` that builds a network.

    Args:
        name: such as ``mobilenet_v3_small``: without regard to case, "-" and "_".
    """
    known = {_plain(function): function for function in _functions()}
    if _plain(name) not in known:
        raise unknown_name("unknown encoder", _plain(name), [LITE0, *known])
    return known[_plain(name)]


def _plain(name: str) -> str:
    return re.sub("[-_]", "", name).lower()


def _functions() -> list[str]:
    """From the package's own list: to import it takes seconds."""
    found = importlib.util.find_spec("keras")
    if found is None or found.origin is None:
        raise missing_extra("keras", "train")
    listing = Path(found.origin).parent / "applications" / "__init__.py"
    return re.findall(r" as ([A-Z]\w+)", listing.read_text(encoding="utf-8"))
