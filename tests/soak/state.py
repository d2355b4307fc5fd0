"""What a command left: its files without what differs from one time to the next, and its litter."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

from .frame import Failed

# Of a run: dates and seconds, and digests of files that hold dates.
VARIES = re.compile(
    rb'"(weights_sha256|shared_object_id|seconds|date|started|generated)": ?("[^"]*"|[0-9.e+-]+)'
    rb"|\d+(\.\d+)? (seconds|s|minutes|min)\b"
)

# What TensorFlow and Dask leave among temporary files.
NOT_OURS = ("__autograph_generated_file", "__pycache__", "dask-scratch-space")


def snapshot(folder: Path) -> dict[str, str]:
    """Relative path -> digest, of every file that is no litter."""
    # A lock stays, though nobody holds it.
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {str(path.relative_to(folder)): _digest(path) for path in files}


def _digest(path: Path) -> str:
    data = path.read_bytes()
    try:
        data = _lasting(path, data)
    except Exception:  # half a file is one that is different
        data = b"damaged" + data
    return hashlib.sha256(data).hexdigest()


def _lasting(path: Path, data: bytes) -> bytes:
    """What is the same each time."""
    if path.suffix == ".keras":  # beside the weights lies the date
        with zipfile.ZipFile(path) as archive:
            names = [name for name in sorted(archive.namelist()) if name != "metadata.json"]
            return b"".join(name.encode() + VARIES.sub(b"", archive.read(name)) for name in names)
    if path.name == "history.csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        return json.dumps([{k: v for k, v in r.items() if k != "seconds"} for r in rows]).encode()
    if path.suffix == ".journal":  # who tried what, and when, differs; not what was found
        return json.dumps(_study(path)).encode()
    return VARIES.sub(b"", data)


def _study(path: Path) -> list:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    from tfproj.search.study import RECORD, counted

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    trials = counted(optuna.load_study(study_name=RECORD, storage=storage))
    return sorted(repr((trial.state.name, trial.value, trial.params)) for trial in trials)


def require_same(found: dict[str, str], expected: dict[str, str]) -> None:
    """Failed where files are missing, more, or others than of the uninterrupted command."""
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = {name for name in expected.keys() & found.keys() if expected[name] != found[name]}
    parts = {"missing": missing, "left over": more, "different": other}
    if any(parts.values()):
        said = (f"{name}: {', '.join(sorted(of)[:4])}" for name, of in parts.items() if of)
        raise Failed("; ".join(said))


def require_clean(folder: Path) -> None:
    """Failed where a hidden file lies in a command's folder, or anything among temporary files."""
    # A run's lock is hidden, too; no dead process holds it.
    hidden = [p for p in folder.rglob("*") if p.name.startswith(".") and p.name != ".lock"]
    others = folder.with_name(f"{folder.name}.tmp").glob("*")
    hidden += [path for path in others if not path.name.startswith(NOT_OURS)]
    if hidden:
        names = ", ".join(str(path.relative_to(folder.parent)) for path in hidden[:4])
        raise Failed(f"{len(hidden)} temporary files stay: {names}")
