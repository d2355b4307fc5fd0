"""Import TensorFlow and Keras quietly, with the threads and the precision that fit the machine.

Everything that trains or evaluates calls :func:`setup` first; the command line does so before it
imports a module that needs them.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from functools import cache

from tfproj.core.hardware import available_cpus, cpu_has_bfloat16, parse_device
from tfproj.core.words import plural
from tfproj.errors import InputError, missing_extra


@cache
def setup() -> None:
    """Import TensorFlow once: logs quiet, threads by the CPUs this process may use."""
    set_environment()
    try:
        # TensorFlow's C++ parts write to stderr before any log level is read.
        with _stderr_muted():
            import cv2  # noqa: PLC0415 (quietly)
            import keras  # noqa: PLC0415
            import tensorflow as tf  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(error.name or "tensorflow", "train") from None
    if keras.backend.backend() != "tensorflow":
        raise InputError("KERAS_BACKEND is not 'tensorflow'; training and export need it")
    tf.get_logger().setLevel(logging.ERROR)
    cv2.setNumThreads(1)  # to wake others takes longer than an image of a batch
    try:
        tf.config.threading.set_intra_op_parallelism_threads(available_cpus())
        tf.config.threading.set_inter_op_parallelism_threads(available_cpus())
    except RuntimeError:  # as in a notebook
        print("note: TensorFlow was in use before tfproj; its threads stay", file=sys.stderr)


def use_device(device: str | None, most: int | None = 1) -> None:
    """Let TensorFlow, which must not be in use yet, see the devices asked for and no others.

    Args:
        device: as :func:`tfproj.core.hardware.parse_device` takes it; None: TensorFlow's choice,
            a GPU if there is one.
        most: so many GPUs; None: any number.

    Raises:
        InputError: a GPU is not there, or TensorFlow is in use with other devices.
    """
    numbers = parse_device(device)
    if numbers is None:
        return
    setup()
    import tensorflow as tf  # noqa: PLC0415 (after setup)

    if most and len(numbers) > most:
        raise InputError(f"device {device}: one GPU is used here; several are for train")
    gpus = tf.config.list_physical_devices("GPU")
    for number in numbers:
        if number >= len(gpus):
            seen = f"{plural(len(gpus), 'GPU')}, the first is 0" if gpus else "no GPU"
            raise InputError(
                f"device {device}: TensorFlow sees {seen}"
                + ("" if gpus else "; pip install 'tensorflow[and-cuda]', or take device cpu")
            )
    try:
        tf.config.set_visible_devices([gpus[number] for number in numbers], "GPU")
    except RuntimeError:
        raise InputError(f"device {device}: TensorFlow is in use already; choose before") from None


def cluster() -> tuple[int, int] | None:
    """(number of this worker, how many there are) by ``TF_CONFIG``; None where it is alone.

    Raises:
        InputError: it is not what TensorFlow's MultiWorkerMirroredStrategy takes.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        found = json.loads(text)
        jobs = {name: len(found["cluster"][name]) for name in found["cluster"]}
        kind, number = found["task"]["type"], int(found["task"]["index"])
    except (ValueError, TypeError, KeyError):
        raise InputError("TF_CONFIG: must be JSON with a cluster and a task") from None
    if {*jobs} - {"chief", "worker"} or not 0 <= number < jobs.get(kind, 0):
        raise InputError("TF_CONFIG: the task must be a worker (or chief) of the cluster")
    first = jobs.get("chief", 0) if kind == "worker" else 0
    count = sum(jobs.values())
    return (first + number, count) if count > 1 else None


def device_name() -> str:
    """What TensorFlow computes on: "cpu", or the names of the GPUs."""
    import tensorflow as tf  # noqa: PLC0415 (after setup)

    details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
    return ", ".join(found.get("device_name", "gpu") for found in details) or "cpu"


def set_environment() -> None:
    """What TensorFlow and Keras read as they are imported; what the user has set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if platform.machine().lower() in ("x86_64", "amd64"):
        # TensorFlow uses oneDNN by itself only on CPUs with AVX512_VNNI. On a Zen 3 a training step
        # of "default" is 1.47 (UNet) and 1.68 (ResNet) times as fast with it.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


class _stderr_muted:
    """Send file descriptor 2 to nowhere inside the block."""

    def __enter__(self) -> None:
        self._saved = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)

    def __exit__(self, *exc) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)


def resolve_precision(precision: str) -> str:
    """``auto`` as ``mixed_bfloat16`` where the hardware computes in it, else ``float32``.

    Of NVIDIA's GPUs those of compute capability 8.0 (Ampere) and later do, at the rate of float16
    and without its loss scaling ("Train With Mixed Precision", NVIDIA's user guide).
    """
    if precision != "auto":
        return precision
    import tensorflow as tf  # noqa: PLC0415 (after setup)

    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        native = bool(capability and capability >= (8, 0))
    else:
        native = cpu_has_bfloat16()
    return "mixed_bfloat16" if native else "float32"
