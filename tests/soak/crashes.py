"""kill -9 at random moments, then ``--resume`` or the same command: as if nothing had happened.

Half of the moments are drawn from the time that the command takes, half from the changes of files
that it makes. Of those who go on, one in three is killed as well.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import state, toys
from .command import TIMEOUT, Command
from .frame import Case, Trial

MORE = 1 / 3  # how often the process that goes on is killed, too


@dataclass(frozen=True)
class Job:
    """A command, and how a user goes on after it was killed.

    Attributes:
        argv: of the command; it runs in an empty folder.
        begin: puts there what it needs; of (shared folder, folder).
        again: what is said in a folder where it was killed; None: the same.
        hook: see :mod:`tests.soak.hooks`.
        light: it needs no TensorFlow, so that a Python of its own is started.
    """

    argv: Sequence[str]
    begin: Callable[[Path, Path], Any] = lambda shared, folder: None
    again: Callable[[Path], Sequence[str]] | None = None
    hook: Mapping[str, Any] = field(default_factory=dict)
    light: bool = False

    def command(self, argv: Sequence[str], folder: Path, **hook: Any) -> Command:
        """It, or what is said instead, with a further hook."""
        return Command(argv, folder, {**self.hook, **hook}, not self.light)


@dataclass(frozen=True)
class Uninterrupted:
    """What a job does if it is left alone: its seconds, its changes of files, what it leaves."""

    job: Job
    shared: Path
    seconds: float
    changes: int
    files: dict[str, str]


def prepare(job: Job, shared: Path) -> Uninterrupted:
    """Let it run; :func:`crash` takes what is found."""
    folder = shared / f"job-{len(list(shared.glob('job-*')))}"
    folder.mkdir()
    work, count = folder / "work", folder / "count"
    work.mkdir()
    job.begin(shared, work)
    ended = job.command(job.argv, work, count=str(count)).wait().require()
    state.require_clean(work, work.with_name("work.tmp"))
    changes = json.loads(count.read_text())
    return Uninterrupted(job, shared, ended.seconds, changes, state.snapshot(work))


def crash(trial: Trial, alone: Uninterrupted) -> None:
    """Kill it, go on, and compare."""
    job, folder = alone.job, trial.folder / "work"
    folder.mkdir()
    job.begin(alone.shared, folder)
    argv = job.argv
    while _killed(trial, alone, argv, folder):
        argv = job.again(folder) if job.again else job.argv
        if trial.rng.random() > MORE:
            job.command(argv, folder).wait().require()
            break
    state.require_same(state.snapshot(folder), alone.files)
    state.require_clean(folder, folder.with_name("work.tmp"))


def _killed(trial: Trial, alone: Uninterrupted, argv: Sequence[str], folder: Path) -> bool:
    """Start it and kill it; False if it ended before."""
    rng, hook, seconds = trial.rng, {}, TIMEOUT
    if rng.random() < 0.5:
        hook["kill_at"] = rng.randint(1, alone.changes)
    else:
        seconds = rng.uniform(0, alone.seconds)
    command = alone.job.command(argv, folder, **hook)
    if not command.killed_after(seconds):
        ended = command.wait()
        if ended.code != -9:
            ended.require()
            return False
    command.require_alone()
    return True


def _train(name: str) -> Job:
    task = toys.TRAIN[name][0]

    def again(folder: Path) -> Sequence[str]:
        begun = (folder / "runs" / task / "a" / "config.json").is_file()
        return ["train", task, "--resume", "a"] if begun else toys.train_command(name)

    return Job(toys.train_command(name), again=again)


def _export(name: str, *more: str, **hook: Any) -> Job:
    def begin(shared: Path, folder: Path) -> None:
        toys.copied(toys.trained(shared, name), folder)

    return Job(["export", "a", "--onnx", *more], begin, hook=hook)


def _predict(model: str, *more: str) -> Job:
    def begin(shared: Path, folder: Path) -> None:
        toys.copied(toys.pictures(shared), folder / "pictures")

    argv = ["predict", model, "pictures", "--output", "out", "--batch-size", "2", *more]
    return Job(argv, begin, lambda folder: [*argv, "--resume"], light=True)


def _convert() -> Job:
    def begin(shared: Path, folder: Path) -> None:
        toys.copied(toys.pairs(shared), folder / "source")

    return Job(["data", "convert", "source", "--output", "out"], begin, light=True)


def _tune() -> Job:
    def begin(shared: Path, folder: Path) -> None:
        (folder / "space.yaml").write_text("learning_rate: {low: 1e-3, high: 1e-2, log: true}\n")
        (folder / "studies").mkdir()

    argv = ["tune", "classify", *toys.DIGITS, *toys.FLOAT32, "--epochs", "2", "--trials", "3"]
    return Job([*argv, "--space", "space.yaml", "--study", "studies/a.journal"], begin)


def _no_page() -> str | None:
    from tfproj.export.web import RUNTIME, _cache

    kept = _cache() / f"{RUNTIME.replace('@', '-')}.tgz"
    return None if kept.is_file() else f"{RUNTIME} is not in the cache: tfproj export --web once"


def _case(name: str, job: Job, **more: Any) -> Case:
    return Case(f"crashes: {name}", crash, functools.partial(prepare, job), **more)


CASES = [
    *(_case(f"train {name}", _train(name), weight=3) for name in toys.TRAIN),
    _case("export float32", _export("segment"), weight=2),
    _case("export int8", _export("segment", "--int8", faster=True), weight=3),
    _case("export web", _export("classify", "--web", "page"), weight=2, missing=_no_page),
    _case("predict classify", _predict("fashion_mnist-tiny"), weight=1),
    _case("predict segment", _predict("facades-default", "--overlay"), weight=1),
    _case("tune", _tune(), weight=3),
    _case("data convert", _convert(), weight=1),
]
