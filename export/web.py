"""A page that runs an exported file in the browser, without a server and without a network.

The modules of ``browser/`` become one script, beside the model and onnxruntime-web's WebAssembly.
Browsers refuse modules and requests of a page that was opened as a file, so that all stands in
classic scripts. onnxruntime-web comes from npm once, is checked, and is kept in the user's cache.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tfproj.core.files import write_bytes, write_together, writing
from tfproj.core.leftovers import scratch
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, TfprojError
from tfproj.inference.model_file import read_model

BROWSER = Path(__file__).parent / "browser"
# In an order in which each needs only those before it.
MODULES = ("png", "image", "mask", "metadata", "answers", "page")
RUNTIME = "onnxruntime-web@1.30.0"
# Of npm's registry: what it serves can't change without notice.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
PARTS = {"runtime": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
PAGE = "index.html"
SCRIPTS = tuple(f"{name}.js" for name in ("model", *PARTS, "app"))  # beside it
MARK = b"<title>tfproj</title>"  # by which a page is known as ours
WAIT = 300  # seconds


def check_page(output: str | Path, single: bool) -> Path:
    """The page's file, ``index.html`` in a folder or a file of its own.

    Raises:
        InputError: something lies there that is no page of ours.
    """
    path = Path(output)
    if path.suffix == ".html" and not single:
        raise InputError(f"{path}: --web takes a folder; with --single-file, an .html file")
    page = path if path.suffix == ".html" else path / PAGE
    for place in page.parents:
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: is a file; --web needs a folder there")
    names = (page.name, *(() if single else SCRIPTS))
    taken = [name for name in names if os.path.lexists(page.with_name(name))]
    if taken and not (page.is_file() and MARK in page.read_bytes()):
        place = page.with_name(taken[0])
        raise InputError(f"{place}: exists and is none that --web made; name another place")
    return page


def write_page(model: str | Path, output: str | Path, single: bool = False) -> Path:
    """Write the page of a file that ``tfproj export`` wrote.

    Args:
        model: the ONNX file.
        output: a folder, in which other files are left alone; with ``single`` one HTML file, or
            the folder for it.
        single: all in one file.

    Returns:
        The page: it can be opened as a file, and sent or served as it is.

    Raises:
        InputError: not such a file, or one that takes other images; the place is taken.
        TfprojError: onnxruntime-web is not to be had.
    """
    page = check_page(output, single)
    file = read_model(model, str(model))
    require_whole(file.spec, str(model))
    scripts = {"model": _part("model", file.data)}
    for name, entry in runtime_parts().items():
        scripts[name] = _part(name, gzip.compress(entry, mtime=0))
    scripts["app"] = _app()
    html = (BROWSER / "page.html").read_text(encoding="utf-8")
    if single:
        tags = "\n".join(f"<script>\n{code}\n</script>" for code in scripts.values())
    else:
        tags = "\n".join(f'<script src="{name}"></script>' for name in SCRIPTS)
    with writing(page.parent):
        page.parent.mkdir(parents=True, exist_ok=True)
    files = {} if single else dict(zip(SCRIPTS, scripts.values(), strict=True))
    files[page.name] = html.replace("{scripts}", tags)
    write_together({page.with_name(name): text.encode() for name, text in files.items()})
    return page


def require_whole(spec: ModelSpec, name: str) -> None:
    """InputError where the model takes images in a way that the page does not give them."""
    if spec.layout != "NHWC":
        raise InputError(f"{name}: --web takes uint8 NHWC; this file is {spec.layout}")
    if spec.resize == "tiles":
        raise InputError(f"{name}: --web takes images whole; this model was trained for tiles")


def _part(name: str, data: bytes) -> str:
    return f'(globalThis.PARTS ??= {{}}).{name} = "{base64.b64encode(data).decode()}";'


def _app() -> str:
    """Our modules as one classic script, each in a scope of its own."""
    parts = ['"use strict";']
    for name in MODULES:
        code = (BROWSER / f"{name}.mjs").read_text(encoding="utf-8")
        code = re.sub(r'^import ({.*?}) from "\./(\w+)\.mjs";', r"const \1 = \2;", code, flags=re.M)
        names = ", ".join(re.findall(r"^export (?:async )?function\*? (\w+)", code, flags=re.M))
        code = re.sub(r"^export ", "", code, flags=re.M)
        parts.append(f"const {name} = (() => {{\n{code}\nreturn {{ {names} }};\n}})();")
    return "(() => {\n" + "\n".join(parts) + "\n})();"


def runtime_parts() -> dict[str, bytes]:
    """The files of onnxruntime-web that a page needs, by name."""
    with tarfile.open(fileobj=io.BytesIO(package())) as archive:
        found = {}
        for name, file in PARTS.items():
            member = archive.extractfile(f"package/dist/{file}")
            assert member is not None
            found[name] = member.read()
        return found


def package() -> bytes:
    """The package of onnxruntime-web as npm has it, from the cache or from its registry.

    Raises:
        InputError: npm is not installed.
        TfprojError: npm can't fetch it.
    """
    cache = _cache() / f"{RUNTIME.replace('@', '-')}.tgz"
    if cache.is_file() and _is_right(cache.read_bytes()):
        return cache.read_bytes()
    print(f"fetching {RUNTIME} from npm's registry ...", file=sys.stderr)
    data = _fetched()
    if not _is_right(data):
        raise TfprojError(f"{RUNTIME}: npm's registry gives another file than it did; not used")
    with writing(cache.parent):
        cache.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(cache, data)
    return data


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "tfproj"


def _is_right(data: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(data).digest()).decode() == SHA512


def _fetched() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"--web needs npm once, to fetch {RUNTIME}: install Node.js")
    with scratch() as folder:
        command = [npm, "pack", "--silent", RUNTIME]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WAIT)
        except subprocess.TimeoutExpired:
            raise TfprojError(f"npm did not fetch {RUNTIME} within {WAIT} seconds") from None
        files = list(folder.glob("*.tgz"))
        if done.returncode or not files:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise TfprojError(f"npm cannot fetch {RUNTIME} ({last[:200]})")
        return files[0].read_bytes()
