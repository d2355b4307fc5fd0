"""What do engines cost beside ``tfproj predict``, and what do kills lose?

    python benchmarks/scale.py                 # 50,000 images: seconds of CPU, memory
    python benchmarks/scale.py --kills 10      # also kill workers and drivers, at random moments
    python benchmarks/scale.py --images 5000 --engines dask

Images are noise of 28 x 28 px, the model is ``fashion_mnist-tiny``, with 2 workers. CPU seconds and
memory (proportional set size) are of all processes that a command starts, read from /proc.
"""

from __future__ import annotations

import collections
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
from PIL import Image

MODEL, WORKERS, PART = "fashion_mnist-tiny", 2, 1000
MARK = "TFPROJ_SCALE"  # in the environment of every process of a command
TICKS = os.sysconf("SC_CLK_TCK")


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(place / f"{number:06}.png")


def command(engine: str, images: Path, output: Path) -> list[str]:
    made = [sys.executable, "-m", "tfproj", "predict", MODEL, str(images), "--output", str(output)]
    more = ["--engine", engine, "--workers", str(WORKERS), "--part-size", str(PART)]
    return made if engine == "cli" else made + more


def start(engine: str, images: Path, output: Path, mark: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(engine, images, output), env={**os.environ, MARK: mark}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def marked(mark: str, looks: dict[int, int]) -> list[int]:
    """Processes of a command, also those that have left its session: by environment or parent.

    Args:
        looks: how often each process was looked at, -1 where it is one. A child has its parent's
            environment only after exec, so some looks are needed; Ray's workers overwrite theirs.
    """
    pids = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    text = f"{MARK}={mark}".encode()
    for pid in pids:
        if 0 <= looks.setdefault(pid, 0) < 4:
            try:
                found = text in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found = found or looks.get(int(stat(pid)[1]), 0) < 0
            except (OSError, IndexError):
                found = False
            looks[pid] = -1 if found else looks[pid] + 1
    return [pid for pid in pids if looks[pid] < 0]


def stat(pid: int) -> list[str]:
    """Fields of a process from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def measure(engine: str, images: Path, output: Path) -> dict[str, float]:
    mark, looks, cpu, peak = f"{os.getpid()}-{time.monotonic_ns()}", {}, {}, 0
    before, begin = os.times(), time.perf_counter()
    process = start(engine, images, output, mark)
    while process.poll() is None:
        memory = 0
        for pid in marked(mark, looks):
            try:
                fields = stat(pid)
                cpu[pid] = (int(fields[11]) + int(fields[12])) / TICKS
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                memory += int(rollup.split("\nPss:")[1].split()[0])
            except (OSError, IndexError):
                continue
        peak = max(peak, memory)
        time.sleep(0.5)
    if process.returncode:
        raise common.Unavailable(common.MISSING if engine == "ray" else "failed: see its output")
    after = os.times()
    common.progress(f"{engine}: {sum(cpu.values()):.1f} s of CPU, {peak / 1024:.0f} MB")
    # What ended between two looks is in the second, but for what others have waited for.
    waited = after[2] + after[3] - before[2] - before[3]
    return {"cpu": max(waited, sum(cpu.values())), "mb": peak / 1024,
            "wall": time.perf_counter() - begin}  # fmt: skip


def rows(engine: str, output: Path) -> dict[str, tuple]:
    """Label and probability by image, after a look that each is there once."""
    files = [output / "predictions.csv"] if engine == "cli" else sorted(output.glob("parts/part-*"))
    found = [row for file in files for row in csv.DictReader(file.open(encoding="utf-8"))]
    twice = [k for k, n in collections.Counter(row["image"] for row in found).items() if n > 1]
    if twice:
        raise SystemExit(f"{engine}: {len(twice)} images twice, such as {twice[0]}")
    return {row["image"]: (row["label"], row["probability"]) for row in found}


def parts(output: Path) -> int:
    return len(list(output.glob("parts/part-*")))


def kill(images: Path, output: Path, kills: int, expected: dict) -> dict:
    """Kill workers and drivers at random moments; the counts of what was lost, doubled, other."""
    rng, starts, process, killed = random.Random(0), 0, None, collections.Counter()
    while killed.total() < kills:
        if process is None or process.poll() is not None:
            mark = f"kill-{os.getpid()}-{starts}"
            process, starts = start("dask", images, output, mark), starts + 1
        goal = parts(output) + rng.randrange(max(1, round(1.6 * len(expected) / PART / kills)))
        while process.poll() is None and parts(output) < goal:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        victim = "driver" if killed.total() % 2 else "worker"
        pids = [pid for pid in marked(mark, {}) if b"spawn_main" in
                Path(f"/proc/{pid}/cmdline").read_bytes()]  # fmt: skip
        if process.poll() is not None or (victim == "worker" and not pids):
            continue
        os.kill(process.pid if victim == "driver" else rng.choice(pids), signal.SIGKILL)
        killed[victim] += 1
        if victim == "driver":
            process.wait()
        common.progress(f"killed a {victim}; {parts(output)} parts are there")
    process.wait()
    start("dask", images, output, "last").wait()
    found = rows("dask", output)
    return {"kills": dict(killed), "starts": starts + 1, "lost": len(expected.keys() - found),
            "added": len(found.keys() - expected), "other_answers":
            sum(found.get(k) != v for k, v in expected.items())}  # fmt: skip


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=common.positive, default=50_000)
    parser.add_argument("--engines", nargs="+", default=["dask", "ray"], choices=["dask", "ray"])
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    count = 300 if options.quick else options.images
    engines = ["dask"] if options.quick else options.engines
    lines, facts = [], {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        common.progress(f"drawing {count:,} images")
        draw(root / "images", count)
        runs = iter(range(10**9))
        outputs: dict[str, Path] = {}

        def contender(engine: str):
            outputs[engine] = root / f"{engine}-{next(runs)}"
            return measure(engine, root / "images", outputs[engine])

        answers, notes = common.interleave(
            {engine: lambda e=engine: contender(e) for engine in ("cli", *engines)},
            options.rounds or 1, warmup=0,
        )  # fmt: skip
        expected = rows("cli", outputs["cli"])
        cli = [answer["cpu"] for answer in answers["cli"]]
        for engine, found in answers.items():
            values = [answer["cpu"] for answer in found]
            made = rows(engine, outputs[engine])
            other = sum(made.get(image) != row for image, row in expected.items())
            over = (np.median(values) - np.median(cli)) / count * 1e6
            lines.append(common.row(
                f"{count:,} images, 2 workers", engine, "CPU s", values, cli, "cli",
                ("at most", 1.3) if engine == "dask" else None,
                **{"microseconds an image over the CLI": float(over),
                   "MB at most": float(max(answer["mb"] for answer in found)),
                   "seconds": float(np.median([answer["wall"] for answer in found])),
                   "other answers": other},
            ))  # fmt: skip
        lines += [common.note(f"{count:,} images, 2 workers", *pair) for pair in notes.items()]
        if options.kills:
            facts = kill(root / "images", root / "killed", options.kills, expected)
            print(f"kills: {facts}\n")
    common.finish(options, lines, **facts)


if __name__ == "__main__":
    common.start(main)
