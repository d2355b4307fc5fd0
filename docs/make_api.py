"""Write docs/api.md from the docstrings of the public names: ``make docs``."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tfproj

PAGE = Path(__file__).with_name("api.md")
WIDTH = 100
HEAD = """\
# Python API

<!-- Written by `make docs` from the docstrings. -->

```python
from tfproj import Predictor, Segmentation

predictor = Predictor.pretrained("facades")
(result,) = predictor.predict("house.jpg")
if isinstance(result, Segmentation):
    print(result.shares())
    result.overlay("house.jpg").save("overlay.png")
```

Types that the signatures name:

- `ImageLike`: what an image may be given as. A path (`str` or `os.PathLike`), encoded bytes, a file
  open for reading bytes, a PIL image, or a numpy array.
- `Prediction`: `Classification | MultiLabel | Segmentation`; the model decides.
- `Result`: `Prediction | InputError`.

Errors are in `tfproj.errors`. `TfprojError`: a run failed for a reason that one line explains.
`InputError`, a `TfprojError` and a `ValueError`: the input is wrong.
"""
SECTIONS = {
    "Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Yields": "Yields",
    "Raises": "Raises",
}  # fmt: skip


def page() -> str:
    """The whole page, Markdown."""
    names = ["Predictor", *(n for n in tfproj.__all__ if inspect.isclass(getattr(tfproj, n)))]
    classes = [getattr(tfproj, name) for name in dict.fromkeys(names)]
    functions = [n for n in tfproj.__all__ if inspect.isfunction(getattr(tfproj, n))]
    lines = [line for cls in classes for line in of_class(cls)]
    for name in functions:
        lines += [
            f"## {name}\n",
            *described(getattr(tfproj, name), call(name, getattr(tfproj, name))),
        ]
    return "\n".join([HEAD, *lines])


def of_class(cls: type) -> Iterator[str]:
    """A heading, what the class is, and its public members in their order."""
    yield f"## {cls.__name__}\n"
    yield from described(cls, call(cls.__name__, cls))
    inherited = [parent for parent in cls.__mro__[1:] if parent.__module__.startswith("tfproj")]
    members = {name: m for part in (cls, *inherited) for name, m in vars(part).items()}
    for name, member in members.items():
        if name.startswith("_"):
            continue
        if isinstance(member, (property, functools.cached_property)):
            function = member.fget if isinstance(member, property) else member.func
            kind = inspect.signature(function).return_annotation
            yield f"### {cls.__name__}.{name}\n"
            yield from described(function, f"{name}: {kind}")
        elif inspect.isfunction(member) or isinstance(member, classmethod):
            owner = f"{cls.__name__}." if isinstance(member, classmethod) else ""
            yield f"### {cls.__name__}.{name}\n"
            yield from described(member, call(owner + name, getattr(cls, name)))


def call(name: str, function: Any) -> str:
    """``name(argument: type = default, ...) -> type``, broken where it is long."""
    signature = inspect.signature(function)
    arguments = [p for p in signature.parameters.values() if p.name != "self"]
    returns = signature.return_annotation
    end = ")" if returns in (inspect.Signature.empty, "None", None) else f") -> {returns}"
    shown = [str(p).replace("'", "") if p.default is p.empty else argument(p) for p in arguments]
    if any(named := [p.kind is p.KEYWORD_ONLY for p in arguments]):
        shown.insert(named.index(True), "*")
    line = f"{name}({', '.join(shown)}{end}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {text},\n" for text in shown) + end


def argument(parameter: inspect.Parameter) -> str:
    default = repr(parameter.default).replace("'", '"')
    return f"{parameter.name}: {parameter.annotation} = {default}"


def described(item: Any, signature: str) -> Iterator[str]:
    """The signature, the docstring's text, and its sections as lists."""
    yield f"```python\n{signature}\n```\n"
    text = inspect.getdoc(item)
    if not text:
        raise SystemExit(f"{signature}: no docstring")
    parts = re.split(rf"^({'|'.join(SECTIONS)}):\n", text, flags=re.MULTILINE)
    yield markdown(parts[0])
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        yield f"**{SECTIONS[name]}**\n"
        body = textwrap.dedent(body).strip()
        yield markdown(body if name in ("Returns", "Yields") else "\n".join(entries(body)))


def entries(body: str) -> Iterator[str]:
    """``name: what it is`` as items of a list; further lines of each are indented."""
    for line in body.splitlines():
        name, colon, rest = line.partition(":")
        starts = colon and not line.startswith(" ")
        yield f"- `{name}`:{rest}" if starts else f"  {line.strip()}"


def markdown(text: str) -> str:
    """reST's roles and double backticks as Markdown's single ones, with an empty line behind."""
    text = re.sub(r":\w+:`([^`]*)`", r"`\1`", text)
    return text.replace("``", "`").strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
