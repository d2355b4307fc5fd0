"""Open an onnxruntime session: threads, memory, and exactly the providers that were asked for."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tfproj.core import hardware
from tfproj.errors import InputError, first_line, missing_extra, unknown_name

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
# What a device is called elsewhere.
DEVICES = {"cpu": CPU, "cuda": CUDA, "gpu": CUDA}
MOST_THREADS = 64  # or one a CPU; their start takes seconds for hundreds, and minutes for thousands
BATCH = "N"  # what exported files call the free dimension
# Of the model's input: images as large or larger go to OpenVINO one at a time.
ALONE_PIXELS = 64 * 64
# What all predictors of a process may take together. A file can ask for any size; without a limit
# the kernel would end the process where it should get one line.
MAX_MEMORY = 4 * 2**30

_once = threading.Lock()
_memory_is_limited = False


class OneByOne:
    """A session for batches of one image, and its answers for any batch.

    OpenVINO computes a graph of known shapes twice as fast as one whose batch is free, and images
    that fill its caches no faster in a batch.
    """

    def __init__(self, session: onnxruntime.InferenceSession):
        self._session = session

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceSession.run``."""
        count = len(next(iter(inputs.values())))
        answers = [
            self._session.run(outputs, {k: v[i : i + 1] for k, v in inputs.items()})
            for i in range(count)
        ]
        return answers[0] if count == 1 else list(map(np.concatenate, zip(*answers, strict=True)))


def open_session(
    data: bytes,
    name: str,
    threads: int | None,
    providers: Sequence[str],
    size: tuple[int, int] | None = None,
    profile: Path | None = None,
) -> onnxruntime.InferenceSession | OneByOne:
    """A session over a model that :mod:`tfproj.inference.model_file` has looked through.

    Args:
        data: the ONNX model.
        name: what error messages call it.
        threads: for the arithmetic; None: the CPUs this process may use.
        providers: in order of preference.
        size: (height, width) of the input; None where it is free.
        profile: where the file of onnxruntime's profiler goes, whose name begins so.

    Raises:
        InputError: onnxruntime can't use the file, a provider is not available, was left out or
            can't run the whole model, or there are too many threads.
    """
    if not providers or isinstance(providers, str):
        raise InputError("providers: a list of at least one name is expected")
    most = max(MOST_THREADS, os.cpu_count() or 1)
    if threads is not None and not 1 <= threads <= most:
        known = f"must be at least 1 and here at most {most}, or None for all CPUs"
        raise InputError(f"threads {threads}: {known}")
    plugin = _find_providers(providers)
    _limit_memory()
    options = _options(threads)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    alone = OPENVINO in providers and size is not None and math.prod(size) >= ALONE_PIXELS
    if alone:
        options.add_free_dimension_override_by_name(BATCH, 1)
    if CPU not in providers:
        # Else operators that the provider can't run would go to the CPU without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        if plugin:
            options.add_provider_for_devices(plugin[:1], {})
            session = onnxruntime.InferenceSession(data, options, enable_fallback=0)
        else:
            session = onnxruntime.InferenceSession(
                data, options, providers=list(providers), enable_fallback=0
            )
    # onnxruntime's exceptions have no common base below Exception.
    except Exception as error:
        raise InputError(f"{name}: not a usable ONNX model ({first_line(error)})") from None
    dropped = [p for p in providers if p not in session.get_providers()]
    if dropped:
        raise InputError(f"{name}: onnxruntime left out the provider {dropped[0]}")
    return OneByOne(session) if alone else session


def providers_of(device: str | None, providers: Sequence[str] | None) -> Sequence[str]:
    """The providers that were named, or the one of a device; by default the CPU's.

    Raises:
        InputError: both were named, no such device, or this onnxruntime is not built for it.
    """
    if device is None:
        return (CPU,) if providers is None else providers
    if providers is not None:
        raise InputError("device and providers exclude each other; leave out one")
    if device not in DEVICES:
        raise unknown_name("unknown device", device, DEVICES)
    found = DEVICES[device]
    if found not in onnxruntime.get_available_providers():
        raise InputError(
            f"device {device}: this onnxruntime has no {found}; pip install onnxruntime-gpu in "
            "the place of onnxruntime, or take device cpu"
        )
    return (found,)


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # onnxruntime goes by the host's cores, not by what a container grants.
    options.intra_op_num_threads = threads or hardware.available_cpus()
    options.log_severity_level = 4  # what goes wrong comes as an exception, in one line
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Its threads spin for a while after a run, in case another follows: that is time which the
    # decoding of the next images needs, and the application around us.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not hardware.cpu_has_vnni():
        # Such a CPU adds pairs of int8 products in 16 bits, which clips large sums and costs
        # fashion_mnist-best-int8 a point of accuracy (94.08 instead of 95.20 %). The exact way
        # takes a third of the speed; with VNNI onnxruntime 1.32 would take it, too, and lose half.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Else bytes that look like onnxruntime's own format are read as such, unchecked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _limit_memory() -> None:
    """Give onnxruntime, once per process, an arena that refuses to grow beyond the limit."""
    global _memory_is_limited
    with _once:
        if _memory_is_limited:
            return
        limit = min(MAX_MEMORY, hardware.memory() // 2)
        info = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
            onnxruntime.OrtMemType.DEFAULT,
        )  # fmt: skip
        with contextlib.suppress(Exception):  # the application around us may have its own
            onnxruntime.create_and_register_allocator(
                info, onnxruntime.OrtArenaCfg({"max_mem": limit})
            )
        _memory_is_limited = True


def _find_providers(providers: Sequence[str]) -> list:
    """Check the names; the devices of OpenVINO's plugin where that is what provides it.

    There are two packages: ``onnxruntime-ep-openvino`` (the extra ``openvino``) is a plugin beside
    onnxruntime and knows Intel's devices; ``onnxruntime-openvino`` takes onnxruntime's place and
    runs on any x86 CPU.
    """
    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing == [OPENVINO]:
        if len(providers) > 1:
            raise InputError(f"{OPENVINO} of the plugin cannot be combined with other providers")
        return _openvino_plugin()
    if missing:
        raise InputError(
            f"provider {missing[0]} is not available; available: {', '.join(available)}"
        )
    return []


def _openvino_plugin() -> list:
    try:
        import onnxruntime_ep_openvino as plugin  # noqa: PLC0415 (an extra)
    except ImportError:
        raise missing_extra("onnxruntime-ep-openvino", "openvino") from None
    if not hasattr(onnxruntime, "get_ep_devices"):
        raise InputError(f"{OPENVINO}: this onnxruntime takes no plugins; install a newer one")
    with _once:
        if not _devices():
            try:
                onnxruntime.register_execution_provider_library(
                    "tfproj_openvino", plugin.get_library_path()
                )
            except Exception as error:
                raise InputError(f"{OPENVINO}: {first_line(error)}") from None
    devices = _devices()
    if not devices:
        raise InputError(
            f"{OPENVINO}: the plugin finds no Intel device; install onnxruntime-openvino "
            "instead of onnxruntime for other CPUs"
        )
    return devices


def _devices() -> list:
    found = [d for d in onnxruntime.get_ep_devices() if d.ep_name == OPENVINO]
    # The CPU first: what a result depends on must not change with the machine's graphics.
    return sorted(found, key=lambda d: d.ep_metadata.get("ov_device") != "CPU")
