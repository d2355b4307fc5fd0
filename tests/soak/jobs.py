"""The commands that are killed and disturbed, and what each leaves if it is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import state, toys
from .command import Command
from .frame import shared


@dataclass(frozen=True)
class Job:
    """A command, and how a user goes on after it was killed.

    Attributes:
        argv: of the command; it runs in an empty folder.
        begin: puts there what it needs; of (shared folder, folder).
        again: what is said in a folder where it was killed; None: the same.
        hook: see :mod:`tests.soak.hooks`.
        light: it needs no TensorFlow, so that a Python of its own is started.
        view: what counts of what it leaves.
    """

    argv: Sequence[str]
    begin: Callable[[Path, Path], Any] = lambda shared, folder: None
    again: Callable[[Path], Sequence[str]] | None = None
    hook: Mapping[str, Any] = field(default_factory=dict)
    light: bool = False
    view: Callable[[Path], dict[str, str]] = state.snapshot

    def put(self, shared: Path, folder: Path) -> Path:
        """A new folder with what it needs."""
        folder.mkdir(parents=True)
        self.begin(shared, folder)
        return folder

    def go_on(self, folder: Path) -> Sequence[str]:
        """What a user says next in a folder where it did not end."""
        return self.again(folder) if self.again else self.argv

    def command(self, argv: Sequence[str], folder: Path, **hook: Any) -> Command:
        """It, or what is said instead, with a further hook."""
        return Command(argv, folder, {**self.hook, **hook}, not self.light)


@dataclass(frozen=True)
class Uninterrupted:
    """What a job does if it is left alone: seconds, changes of files, bytes, what it leaves."""

    job: Job
    shared: Path
    seconds: float
    changes: int
    written: int
    files: dict[str, str]


@shared
def alone(name: str, folder: Path) -> Uninterrupted:
    """Let it run.

    Args:
        name: of the job.
        folder: that all cases share.
    """
    job, place = JOBS[name], folder / f"alone-{name}"
    work, count = place / "work", place / "count"
    job.put(folder, work)
    given = size(work)
    ended = job.command(job.argv, work, count=str(count)).wait().require()
    state.require_clean(work)
    changes, written = json.loads(count.read_text()), size(work) - given
    return Uninterrupted(job, folder, ended.seconds, changes, written, job.view(work))


def size(folder: Path) -> int:
    """Bytes that all files below it take on a disk."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


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


def _predict_many() -> Job:
    def begin(shared: Path, folder: Path) -> None:
        toys.copied(toys.pictures(shared), folder / "pictures")

    argv = ["predict", "fashion_mnist-tiny", "pictures", "--output", "out"]
    return Job(
        [*argv, "--engine", "dask", "--workers", "2", "--part-size", "2"],
        begin,
        light=True,
        view=_rows,
    )


def _rows(folder: Path) -> dict[str, str]:
    """Of the parts, which are called after where the images lie."""
    lines = [line for part in folder.glob("out/parts/*") for line in part.read_text().splitlines()]
    return {str(number): line.rpartition("/")[2] for number, line in enumerate(sorted(lines))}


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


JOBS = {
    **{f"train {name}": _train(name) for name in toys.TRAIN},
    "export float32": _export("segment"),
    "export int8": _export("segment", "--int8", faster=True),
    "export web": _export("classify", "--web", "page"),
    "predict classify": _predict("fashion_mnist-tiny"),
    "predict segment": _predict("facades-default", "--overlay"),
    "predict engine": _predict_many(),
    "tune": _tune(),
    "data convert": _convert(),
}
