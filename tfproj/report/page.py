"""From values to an HTML file: the templates and their filters."""

from __future__ import annotations

import base64
import os
import shlex
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tfproj._version import __version__
from tfproj.core.files import write_text, writing
from tfproj.core.words import plural
from tfproj.errors import InputError
from tfproj.report import format

SUFFIXES = (".html", ".htm")


@cache
def environment() -> jinja2.Environment:
    """The templates of this package; every value is escaped, a misspelt one is an error."""
    result = jinja2.Environment(
        loader=jinja2.PackageLoader("tfproj.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        format.percent, format.decimal, format.count, format.significant, format.duration,
        format.numbered, format.listed, plural, data_uri,
    ):  # fmt: skip
        result.filters[function.__name__] = function
    result.filters["shell"] = shlex.join
    style = resources.files("tfproj.report") / "templates" / "style.css"
    result.globals["style"] = Markup(style.read_text(encoding="utf-8"))
    result.globals["version"] = __version__
    return result


def data_uri(content: bytes) -> str:
    """``data:image/...`` for the content of a PNG or JPEG file."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def page_path(output: str | Path) -> Path:
    """The HTML file to write, its folder made.

    Raises:
        InputError: another suffix, a directory, or no permission.
    """
    path = Path(output)
    if path.is_dir():
        raise InputError(f"{path}: a directory; name the HTML file to write")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: the page must be called something.html")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written (no permission in {path.parent})")
    return path


def render(template: str, output: Path, values: dict[str, Any]) -> Path:
    """Fill in a template and write the page atomically.

    Names of files may hold bytes that are no UTF-8; on the page they are escaped.
    """
    page = environment().get_template(template).render(values)
    write_text(output, page, errors="backslashreplace")
    return output
