"""What this process may use of the machine: CPUs, memory, instructions."""

from __future__ import annotations

import math
import os
import platform
from functools import cache
from pathlib import Path

from tfproj.errors import InputError

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
# Where the system does not tell (Windows has no sysconf).
ASSUMED_MEMORY = 8 * 2**30


def available_cpus() -> int:
    """CPUs that this process may really use: its affinity, capped by the cgroup's quota.

    onnxruntime and TensorFlow see the host's cores in a container and start too many threads.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = cgroup_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cgroup_quota(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> float | None:
    """CPUs granted by the cgroups around this process, or None for no limit.

    Args:
        root: where the cgroups are mounted.
        membership: the file that names this process' own groups.
    """
    quotas = [_quota(folder) for folder in _groups(root, membership, ("cpu", "cpu,cpuacct"))]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> int:
    """Bytes of memory that this process may use at most: the machine's, capped by the cgroups."""
    limits = [_bytes("SC_PHYS_PAGES") or ASSUMED_MEMORY]
    for folder in _groups(root, membership, ("memory",)):
        limits += [limit for limit, _ in _limits(folder)]
    return min(limits)


def free_memory(
    root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP, meminfo: Path = MEMINFO
) -> int:
    """Bytes that this process may still take: what the machine has free, or its cgroups allow.

    Pages of files that the kernel can drop count as free. Half of the machine's memory where it
    does not tell.
    """
    free = lines(meminfo).get("MemAvailable", "").split()
    machine = int(free[0]) * 1024 if free else _bytes("SC_AVPHYS_PAGES")
    room = [memory(root, membership) // 2 if machine is None else machine]
    for folder in _groups(root, membership, ("memory",)):
        statistics = lines(folder / "memory.stat", " ")
        cached = statistics.get("total_inactive_file") or statistics.get("inactive_file") or "0"
        room += [max(0, limit - usage + int(cached)) for limit, usage in _limits(folder)]
    return min(room)


def _bytes(name: str) -> int | None:
    """Pages by ``sysconf``, in bytes; not every system has it, or all of its names."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)
    except (AttributeError, ValueError, OSError):
        return None


def _limits(folder: Path) -> list[tuple[int, int]]:
    """(limit, usage) in bytes of the group in a folder, for version 2 and for version 1."""
    found = []
    for names in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit, usage = (int((folder / name).read_text(encoding="ascii")) for name in names)
        except (OSError, ValueError):  # absent, or "max"
            continue
        found.append((limit, usage))
    return found


def lines(path: Path, separator: str = ":") -> dict[str, str]:
    """Keys and values of a kernel file's first paragraph; none where it can't be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    found = text.split("\n\n", 1)[0].splitlines()
    pairs = (line.split(separator, 1) for line in found if separator in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _groups(root: Path, membership: Path, controllers: tuple[str, ...]) -> list[Path]:
    """Folders of this process' group and all above it, for version 2 and then version 1.

    A container usually sees its own group as the root; a limit of systemd lies further down.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    folders = [root, *(root / controller for controller in controllers)]
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        base = root / names if names else root
        below = Path(path.lstrip("/"))
        if ".." not in below.parts:
            folders += [base / part for part in (below, *below.parents)]
    return list(dict.fromkeys(folders))


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():  # version 2
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        granted = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # absent, or "max"
        return None
    return granted if granted > 0 else None


@cache
def _cpuinfo() -> dict[str, str]:
    """Of the first CPU; they are alike."""
    return lines(Path("/proc/cpuinfo"))


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices (AVX512_BF16 or AMX)."""
    flags = _cpuinfo().get("flags", "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def cpu_has_vnni() -> bool:
    """Whether the CPU adds int8 products in 32 bits; False where the system does not tell."""
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(_cpuinfo().get("flags", "").split())


def cpu_name() -> str:
    """As the system calls it, or what Python knows of it."""
    return _cpuinfo().get("model name") or platform.processor()


def parse_device(device: str | None) -> list[int] | None:
    """Numbers of the GPUs that ``cpu`` (none), ``gpu`` (the first) or ``0,1`` mean; None stays.

    Raises:
        InputError: something else.
    """
    if device is None or device in ("cpu", "gpu"):
        return {"cpu": [], "gpu": [0]}.get(device or "")
    numbers = device.split(",")
    if len({*numbers}) < len(numbers) or not all(n.isascii() and n.isdecimal() for n in numbers):
        raise InputError(f"device {device!r}: must be cpu, gpu, or numbers of GPUs, as in 0,1")
    return [int(number) for number in numbers]
