"""Which process something belongs to, and whether that is gone."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What :func:`is_running` knows this process by, as JSON takes it."""
    return {"pid": os.getpid(), "host": platform.node(), "started": _started(os.getpid())}


def is_running(holder: dict[str, Any]) -> bool:
    """Whether the process still runs, as far as can be told; one of another machine counts so."""
    if not holder or holder["host"] != platform.node() or sys.platform == "win32":
        return bool(holder)
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return bool(_started(holder["pid"]) == holder["started"])


def _started(pid: int) -> str:
    """When Linux started the process: its number may since be that of another."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[19]  # the name in brackets may hold anything
    except (OSError, IndexError):
        return ""
