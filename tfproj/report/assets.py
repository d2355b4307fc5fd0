"""What lies beside a page: figures, pictures, numbers."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from tfproj.core.files import replacing, write_bytes, write_csv, write_json, writing
from tfproj.report.figures import INK, STYLE

SVG = {"svg": "http://www.w3.org/2000/svg"}
DPI = 150  # of the PNG files


class Assets:
    """The folder beside a page. Files in it are replaced one by one; others are left alone."""

    def __init__(self, folder: Path):
        self.folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def figure(self, name: str, figure: Figure, alt: str) -> Markup:
        """Write ``NAME.png`` on white; returns the same figure as SVG in the page's colours.

        The page's fonts have more glyphs than matplotlib's, which warns of those it lacks.
        """
        quiet = warnings.catch_warnings(action="ignore", category=UserWarning)
        svg = {"svg.fonttype": "none", "svg.hashsalt": name}
        buffer = io.BytesIO()
        with quiet, matplotlib.rc_context(STYLE | svg):
            with replacing(self.folder / f"{name}.png") as temporary:
                figure.savefig(temporary, dpi=DPI, facecolor="white")
            figure.set_layout_engine("none")  # everything has its place; finding it takes long
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return inline_svg(buffer.getvalue(), name, alt)

    def picture(self, name: str, picture: Image.Image, alt: str) -> dict[str, Any]:
        """Write ``NAME.png``; returns it as the page's templates show pictures."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        write_bytes(self.folder / f"{name}.png", buffer.getvalue())
        return {"content": buffer.getvalue(), "size": picture.size, "alt": alt}

    def csv(self, name: str, rows: list[dict[str, Any]]) -> None:
        write_csv(self.folder / f"{name}.csv", rows)

    def json(self, name: str, value: Any) -> None:
        write_json(self.folder / f"{name}.json", value)


def inline_svg(content: bytes, name: str, alt: str) -> Markup:
    """matplotlib's SVG file as markup for an HTML page.

    Text stays text in the page's font, ink becomes ``currentColor``, and ids get the figure's
    name in front, so that those of several figures do not clash.
    """
    root = ElementTree.fromstring(content)
    for path in ("svg:metadata", "svg:defs[svg:style]"):
        root.remove(root.find(path, SVG))
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(k): _adapted(_local(k), v, name) for k, v in element.items()}
    # No style attribute needed: the style sheet limits the width, the view box gives the shape.
    root.attrib.update({"id": f"figure-{name}", "role": "img", "aria-label": alt})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """A name without its namespace, as HTML has it."""
    return name.rpartition("}")[2]


def _adapted(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return value.replace("url(#", f"url(#{name}-").replace(INK, "currentColor")
