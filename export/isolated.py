"""Run an exported file as a user would: the shipped predictor in a process without TensorFlow.

:func:`predict_isolated` starts a fresh interpreter in which TensorFlow, Keras and onnx cannot be
imported, and lets :func:`main` predict image files there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.spec import (
    ACTIVATION_NAME,
    OUTPUT_NAMES,
    PROBABILITIES_NAME,
    SCORES_NAME,
    UNKNOWN_NAME,
    ModelSpec,
)
from tfproj.errors import TfprojError
from tfproj.export.runtimes import GraphRunner, LiteRunner, open_file
from tfproj.inference.predictor import Predictor

BLOCKED = ("tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "scipy")
# Seconds, and more for each image: a runtime that hangs must not hang the export, while 10,000
# large photographs take more than ten minutes to decode alone.
TIMEOUT, TIMEOUT_OF_IMAGE = 600, 1

# -I leaves out the working directory and PYTHON* variables: only what is installed counts.
START = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(name + " cannot be imported here")
sys.meta_path.insert(0, Blocker())
from tfproj.export.isolated import main
main()
"""


@dataclass(frozen=True)
class Pass:
    """One way to run the files.

    Attributes:
        batch_size: images at once.
        size: (height, width) for a file of free size; None: the model's own.
        count: files from the first on; None: all.
    """

    batch_size: int
    size: tuple[int, int] | None = None
    count: int | None = None


def predict_isolated(
    model: bytes,
    files: Sequence[Path],
    passes: Sequence[Pass],
    folder: Path,
    spec: ModelSpec | None = None,
) -> list[dict[str, np.ndarray]]:
    """Predict ``files`` with ``model`` in a fresh process, once for each of ``passes``.

    Args:
        folder: for the answers; it must outlive the result.
        spec: of a file that is not ONNX, which does not hold it.

    Returns:
        For each pass the outputs by name, float32 (N, ...), mapped from disk.

    Raises:
        TfprojError: the process failed; says its last line.
    """
    folder = Path(tempfile.mkdtemp(dir=folder))
    (folder / "model").write_bytes(model)
    request = {
        "folder": str(folder),
        "spec": spec.to_dict() if spec else None,
        "files": [str(file) for file in files],
        "passes": [asdict(p) for p in passes],
    }
    timeout = TIMEOUT + TIMEOUT_OF_IMAGE * len(files) * len(passes)
    try:
        subprocess.run(
            [sys.executable, "-I", "-c", START],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise TfprojError(f"the predictor did not finish within {timeout} seconds") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [f"exit code {error.returncode}"]
        raise TfprojError(
            f"the predictor cannot run the exported file: {lines[-1][:200]}"
        ) from None
    return [
        {path.stem: np.load(path, mmap_mode="r") for path in folder.glob(f"{number}/*.npy")}
        for number in range(len(passes))
    ]


def main() -> None:
    """The other side: reads a request from stdin, writes arrays into its folder."""
    try:
        _predict(json.load(sys.stdin))
    except TfprojError as error:
        sys.exit(str(error))
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(BLOCKED))
    if loaded:
        sys.exit(f"the predictor imports {', '.join(loaded)}")


def _predict(request: dict) -> None:
    folder = Path(request["folder"])
    data = (folder / "model").read_bytes()
    spec = ModelSpec.from_dict(request["spec"]) if request["spec"] else None
    predictor: Any = open_file(data, spec) if spec else None
    names = [SCORES_NAME, PROBABILITIES_NAME]
    if predictor is None:
        outputs = Predictor(data).metadata["outputs"]
        unknown = "auto" if UNKNOWN_NAME in outputs else None
        predictor = Predictor(data, unknown_below=unknown, explain=ACTIVATION_NAME in outputs)
        names = [name for name in OUTPUT_NAMES if name in outputs]
    for number, step in enumerate(request["passes"]):
        (folder / str(number)).mkdir()
        answers = _run(predictor, names, request["files"], Pass(**step))
        for name, values in zip(names, answers, strict=True):
            np.save(folder / f"{number}/{name}.npy", values)


def _run(
    predictor: Predictor | LiteRunner | GraphRunner, names: list[str], files: list[str], step: Pass
) -> tuple[np.ndarray, ...]:
    files = files[: step.count]
    channels, resize = predictor.spec.channels, predictor.spec.resize
    whole = predictor.spec.task == "classify" or resize == "stretch"  # else parts are cut off
    if isinstance(predictor, Predictor) and step.size is None and whole:
        results = predictor.predict(files, batch_size=step.batch_size)
        return tuple(np.stack([getattr(r, name) for r in results]) for name in names)
    size = tuple(step.size or predictor.spec.size)
    parts = []
    for start in range(0, len(files), step.batch_size):  # all at once would not fit in memory
        chosen = files[start : start + step.batch_size]
        pixels = np.stack([image.load(f, size, channels, resize=resize) for f in chosen])
        parts.append(predictor.run(pixels))
    return tuple(np.concatenate(kind) for kind in zip(*parts, strict=True))
