"""Two processes train one model. One is killed, the other ends; both go on with ``--resume``."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import state, toys
from .command import Command
from .frame import Case, Trial, shared

ARGV = [*toys.train_command("classify"), "--no-evaluate"]
NAME = "crashes: train two workers"
JOIN_SECONDS = 60  # else 300, which one waits whose other was killed before they met


@dataclass(frozen=True)
class Whole:
    """What they leave if none is killed, after how many seconds."""

    seconds: float
    files: dict[str, str]


@shared
def whole(folder: Path) -> Whole:
    """Let both end."""
    work = folder / "workers" / "work"
    work.mkdir(parents=True)
    seconds = max(one.wait().require().seconds for one in together(ARGV, work))
    return Whole(seconds, state.snapshot(work))


def together(argv: Sequence[str], folder: Path) -> list[Command]:
    """Both, begun, as worker 0 and 1 of a cluster on the loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in "01"]
        workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    tasks = ({"type": "worker", "index": index} for index in range(2))
    configs = (json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks)
    hook = {"join_seconds": JOIN_SECONDS}
    return [
        Command(argv, folder, {**hook, "environment": {"TF_CONFIG": config}}) for config in configs
    ]


def crash(trial: Trial, ready: Whole) -> None:
    """Kill one of them at a random moment."""
    folder = trial.folder / "work"
    both = together(ARGV, folder)
    time.sleep(trial.rng.uniform(0, ready.seconds))
    trial.rng.choice(both).kill()
    for one in both:
        one.wait()
    if state.snapshot(folder) != ready.files:
        begun = (folder / "runs/classify/a/config.json").is_file()
        argv = ["train", "classify", "--resume", "a", "--no-evaluate"] if begun else ARGV
        for one in together(argv, folder):
            one.wait().require()
    state.require_same(state.snapshot(folder), ready.files)
    state.require_clean(folder)


CASES = [Case(NAME, crash, whole, weight=3)]
