"""What goes into a page and beside it: figures, pictures, numbers."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from PIL import Image

from tfproj.core.files import replacing, write_csv, write_json, writing

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
DPI = 150  # of the PNG files


@dataclass(frozen=True)
class Graphic:
    """A figure within the page: ``svg`` markup, or the ``uri`` of a picture.

    ``width`` and ``height`` are CSS pixels.
    """

    name: str
    alt: str
    width: int
    height: int
    svg: Markup | None = None
    uri: str = ""


class Assets:
    """The folder beside a page. Files in it are replaced one by one; others are left alone."""

    def __init__(self, folder: Path):
        self.folder = folder

    def _file(self, name: str) -> Path:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def figure(self, name: str, figure, alt: str) -> Graphic:
        """Write ``NAME.png`` on white; returns the same figure as SVG in the page's colours."""
        with replacing(self._file(f"{name}.png")) as temporary, quiet():
            figure.savefig(temporary, dpi=DPI, facecolor="white")
        figure.set_layout_engine("none")  # everything has its place; finding it takes long
        width, height = (round(96 * side) for side in figure.get_size_inches())
        return Graphic(name, alt, width, height, svg=inline_svg(figure, name, alt))

    def picture(self, name: str, picture: Image.Image, alt: str) -> Graphic:
        """Write ``NAME.png``; returns it as a data URI."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        with replacing(self._file(f"{name}.png")) as temporary:
            temporary.write_bytes(buffer.getvalue())
        uri = data_uri(buffer.getvalue(), ".png")
        return Graphic(name, alt, picture.width, picture.height, uri=uri)

    def csv(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        write_csv(self._file(f"{name}.csv"), list(rows))

    def json(self, name: str, value: Any) -> None:
        write_json(self._file(f"{name}.json"), value)


def data_uri(data: bytes, suffix: str) -> str:
    """``data:image/...`` for the content of a ``.png`` or ``.jpg`` file."""
    kind = {".png": "png", ".jpg": "jpeg"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without matplotlib's warnings on glyphs that its font lacks; the page's fonts have more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def inline_svg(figure, name: str, alt: str) -> Markup:
    """A matplotlib figure as markup for an HTML page.

    Text stays text in the page's font, ink becomes ``currentColor``, and ids get the figure's
    name in front, so that those of several figures do not clash.
    """
    import matplotlib

    from tfproj.report.figures import INK

    buffer = io.BytesIO()
    with quiet(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for tag in ("metadata", "defs"):
        for child in root.findall(f"{{{SVG}}}{tag}"):
            if tag == "metadata" or child.find(f"{{{SVG}}}style") is not None:
                root.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        attributes = {k.removeprefix(f"{{{XLINK}}}"): v for k, v in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({k: _adapted(k, v, name, INK) for k, v in attributes.items()})
    # No style attribute needed: the style sheet limits the width, the view box gives the shape.
    root.set("role", "img")
    root.set("aria-label", alt)
    root.attrib.pop("version", None)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adapted(key: str, value: str, name: str, ink: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return re.sub(r"url\(#", f"url(#{name}-", value).replace(ink, "currentColor")
