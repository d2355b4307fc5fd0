"""What a run records of the machine and the software, to tell it from another."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from typing import Any

from tfproj.core import hardware
from tfproj.core.words import without_password

PACKAGES = (
    "tfproj", "tensorflow", "keras", "numpy", "pillow", "onnx", "onnxruntime", "tf2onnx",
    "scikit-learn",
)  # fmt: skip


def describe(precision: str) -> dict[str, Any]:
    """What is kept with a run: versions, CPU, commit of the working directory, command."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": hardware.cpu_name(),
        "cpus": hardware.available_cpus(),
        "precision": precision,
        "git_commit": git_commit(),
        "command": ["tfproj", *map(without_password, sys.argv[1:])],
    }


def versions() -> dict[str, str]:
    """Of the installed packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the working directory, with ``-dirty`` where files differ; None without git."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
