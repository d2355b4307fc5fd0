"""Models whose answers a training learns from (``--teacher``): found and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfproj.core.files import sha256
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.inference.model_file import read_model
from tfproj.pretrained import is_pretrained, pretrained_file
from tfproj.runs.run import find_run


@dataclass(frozen=True)
class Teacher:
    """An exported model.

    Attributes:
        name: as the user called it.
        file: ONNX.
        order: for each class of the pupil, its index among the teacher's.
    """

    name: str
    file: Path
    order: tuple[int, ...]

    def describe(self) -> dict[str, str]:
        """What a run's ``environment.json`` and an exported file say of it."""
        return {"name": self.name, "file": self.file.name, "sha256": sha256(self.file)}


def find_teachers(names: str | None, spec: ModelSpec) -> tuple[Teacher, ...]:
    """The teachers that a configuration names, separated by commas.

    Args:
        names: runs (their exports), pretrained models, ONNX files; None: no teacher.
        spec: of the pupil; a teacher sees the same pixels and knows the same classes.

    Raises:
        InputError: there is no such file, or it is of another task, input or classes.
    """
    return tuple(_teacher(name.strip(), spec) for name in (names or "").split(",") if names)


def _teacher(name: str, spec: ModelSpec) -> Teacher:
    file = _file(name, spec.task)
    own = read_model(file, str(file)).spec
    for what in ("task", "size", "channels", "resize"):
        if getattr(own, what) != getattr(spec, what):
            raise InputError(
                f"--teacher {name}: its {what} is {getattr(own, what)}, that of the training "
                f"{getattr(spec, what)}; both must see the same images"
            )
    if set(own.classes) != set(spec.classes):
        raise InputError(f"--teacher {name}: knows other classes ({', '.join(own.classes)})")
    return Teacher(name, file, tuple(own.classes.index(label) for label in spec.classes))


def _file(name: str, task: str) -> Path:
    if name.endswith(".onnx"):
        return Path(name)
    if is_pretrained(name) and not (Path(name) / "config.json").is_file():
        return pretrained_file(name)
    run = find_run(name, task=task)
    if not run.onnx_file.is_file():
        raise InputError(f"--teacher {name}: not exported; first: tfproj export {run.path} --onnx")
    return run.onnx_file
