"""How fast does ``tfproj serve`` answer, and does it hold?

    python benchmarks/serving.py                   # beside Predictor.stream
    python benchmarks/serving.py --peers DIR       # also LitServe, BentoML, MLServer
    python benchmarks/serving.py --fuzz 10000      # only: bad requests, memory, slow clients
    python benchmarks/serving.py --quick

``--peers`` has a virtual environment for each: ``python -m venv DIR/litserve`` and so on for
``bentoml`` and ``mlserver``, with the package and tfproj in it. All answer the same JPEG files
(400 x 600 px) with ``Predictor(threads=1).predict`` behind their own HTTP, from 32 clients on the
same machine, so the clients' CPU is missing to all of them alike.

"CPU a request of our own" is the processor time of the server's processes less that of the
prediction alone; memory is what is resident.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import common
import http_load
import numpy as np
from PIL import Image

from tfproj import Predictor
from tfproj.core.hardware import available_cpus
from tfproj.pretrained import pretrained_file

CLIENTS, MANY_CLIENTS = 32, 64
MODELS = ("fashion_mnist-tiny", "facades-default")
STREAM = "Predictor.stream"
OURS = "tfproj serve"
PEERS = {"LitServe": "litserve", "BentoML": "bentoml", "MLServer": "mlserver"}
HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
STARTED = 120  # seconds


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--peers", type=Path, metavar="DIR", help="their virtual environments")
    parser.add_argument("--fuzz", type=common.positive, metavar="N", help="only send bad requests")
    options = parser.parse_args()
    rows: list[common.Row] = []
    if options.fuzz is None:
        for model in MODELS[: 1 if options.quick else None]:
            rows += speed(model, options)
    rows += soak(options)
    common.finish(options, rows, clients=CLIENTS, threads=available_cpus())


def photographs(count: int) -> list[bytes]:
    """JPEG files of smooth noise, as photographs are."""
    made = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        made.append(buffer.getvalue())
    return made


# --- servers -------------------------------------------------------------------------------------


@contextmanager
def server(command: list[str], port: int, path: str, **environment: str) -> Iterator[Server]:
    """A server's processes from its first good answer to the end of the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, cwd=tempfile.gettempdir(),
            env={**os.environ, **environment},
        )  # fmt: skip
        try:
            end = time.monotonic() + STARTED
            client = http_load.Client(port)
            while client.ask(http_load.request("GET", path))[0] != 200:
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().splitlines()
                    raise common.Unavailable(f"failed: {said[-1][:100] if said else 'silent'}")
                time.sleep(0.2)
            client.close()
            yield Server(process.pid, port)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(40)
            for pid in Server(process.pid, port).processes():
                os.kill(pid, 9)


class Server:
    """The processes of one session (Linux), their processor time and memory."""

    def __init__(self, session: int, port: int):
        self.session, self.port = session, port

    def processes(self) -> list[int]:
        return [pid for pid, fields in _stats() if int(fields[3]) == self.session]

    def cpu(self) -> float:
        """Seconds of all processes that live."""
        ticks = [int(f[11]) + int(f[12]) for _, f in _stats() if int(f[3]) == self.session]
        return sum(ticks) / TICK

    def memory(self) -> float:
        """MB."""
        pages = [int(f[21]) for _, f in _stats() if int(f[3]) == self.session]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _stats() -> Iterator[tuple[int, list[str]]]:
    """(pid, fields of ``/proc/PID/stat`` behind the name) of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:  # it has ended
            continue
        yield int(folder.name), text.rpartition(")")[2].split()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def ours(model: str, port: int, *more: str) -> Any:
    command = [sys.executable, "-m", "tfproj", "serve", model, "--port", str(port), *more]
    return server(command, port, "/v2/health/ready")


def peer(name: str, folder: Path | None, model: str, port: int) -> Any:
    """A peer's server, by ``serving_peers.py`` in its own environment."""
    if folder is None:
        raise common.Unavailable("not asked for: --peers DIR")
    python = folder.absolute() / PEERS[name] / "bin" / "python"
    if not python.exists():
        raise common.Unavailable(f"not installed: {python}")
    start = f"import serving_peers; serving_peers.{PEERS[name]}({port})"
    environment = {"MODEL": str(pretrained_file(model)), "WORKERS": str(available_cpus())}
    environment["PYTHONPATH"] = str(HERE)
    path = {"MLServer": "/v2/health/ready", "LitServe": "/health"}.get(name, "/readyz")
    command = [str(python), "-c", start]
    return server(command, port, path, **environment)


def wire(name: str, model: str, image: bytes) -> bytes:
    """The request for one image."""
    path = f"/v1/models/{model}/predict" if name == OURS else "/predict"
    return http_load.request("POST", path, image, content_type="image/jpeg")


# --- speed ---------------------------------------------------------------------------------------


def speed(model: str, options: argparse.Namespace) -> list[common.Row]:
    """Images a second, and the CPU that each takes."""
    images = photographs(16)
    total = 64 if options.quick else 4000 if model == MODELS[0] else 400
    rounds = options.rounds or (1 if options.quick else 5)
    stream, single = Predictor.pretrained(model), Predictor.pretrained(model, threads=1)

    def streamed() -> tuple[float, float, float]:
        work = (images * (total // len(images) + 1))[:total]
        seconds = common.seconds(lambda: sum(1 for _ in stream.stream(work)))
        begin = time.process_time()
        for image in work[: total // 4]:
            single.predict(image)
        return total / seconds, 0.0, 4000 * (time.process_time() - begin) / total

    def served(name: str, opened: Callable[[int], Any]) -> tuple[float, float, float]:
        with opened(free_port()) as found:
            wires = [wire(name, model, image) for image in images]
            _, _, statuses = http_load.load(found.port, wires, CLIENTS, CLIENTS)
            if set(statuses) != {200}:
                raise common.Unavailable(f"failed: answers {dict(statuses)}")
            begin = found.cpu()
            seconds, latencies, _ = http_load.load(found.port, wires, CLIENTS, total)
            cpu = 1000 * (found.cpu() - begin) / total
            return total / seconds, 1000 * latencies[int(0.99 * len(latencies))], cpu

    contenders: dict[str, Callable] = {STREAM: streamed}
    contenders[OURS] = partial(served, OURS, partial(ours, model))
    for name in PEERS:
        contenders[name] = partial(served, name, partial(peer, name, options.peers, model))
    found, notes = common.interleave(contenders, rounds, warmup=0)
    return _rows(model, contenders, found, notes)


def _rows(model: str, contenders: dict, found: dict, notes: dict) -> list[common.Row]:
    case = f"{model}, {CLIENTS} clients"
    reference = [answer[0] for answer in found[STREAM]]
    rows = []
    for name in contenders:
        if name in notes:
            rows.append(common.note(case, name, notes[name]))
            continue
        rates, slowest, cpu = (list(column) for column in zip(*found[name], strict=True))
        goal = ("at least", 0.9) if name == OURS else None
        more = {"CPU ms": float(np.median(cpu)), "p99 ms": float(np.median(slowest))}
        rows.append(common.row(case, name, "img/s", rates, reference, STREAM, goal, **more))
    if OURS in found:
        pairs = zip(found[OURS], found[STREAM], strict=True)
        own = [served[2] - alone[2] for served, alone in pairs]
        goal = ("at most", 0.5)
        rows.append(common.row(f"{model}, CPU a request of our own", OURS, "ms", own, goal=goal))
    return rows


# --- whether it holds ----------------------------------------------------------------------------


def soak(options: argparse.Namespace) -> list[common.Row]:
    """Memory at 64 clients, bad requests, slow clients."""
    model, case = MODELS[0], "whether it holds"
    images = photographs(4)
    wires = [wire(OURS, model, image) for image in images]
    count = options.fuzz or (100 if options.quick else 1000)
    share = 200 if options.quick else 3000
    with ours(model, free_port(), "--timeout", "2") as found:
        http_load.load(found.port, wires, MANY_CLIENTS, share)
        before = found.memory()
        http_load.load(found.port, wires, MANY_CLIENTS, share)
        busy = found.memory()
        processes = found.processes()
        small = io.BytesIO()
        Image.open(io.BytesIO(images[0])).resize((30, 20)).save(small, "JPEG")
        make = http_load.bad_requests([model], small.getvalue(), seed=1)
        common.progress(f"{count} bad requests")
        http_load.fuzz(found.port, make, count // 2)
        half = found.memory()
        statuses = http_load.fuzz(found.port, make, count - count // 2)
        after = found.memory()
        alone = http_load.load(found.port, wires, 1, 50)[1]
        beside = _beside_slow_clients(found.port, wires)
        survived = found.processes() == processes
    row = partial(common.row, case)
    growth = ("at most", 10.0)
    return [
        row("memory, more at 64 clients", "MB", [busy - before], goal=growth, all=before),
        row("memory, more by bad requests", "MB", [after - half], goal=growth, all=after),
        row("answers with status 500", "", [float(statuses[500])], goal=("at most", 0.0)),
        row("processes that died", "", [float(not survived)], goal=("at most", 0.0)),
        row("median beside 200 slow clients", "ms", [1000 * beside], [1000 * alone[25]], "alone"),
    ]


def _beside_slow_clients(port: int, wires: list[bytes]) -> float:
    """Median seconds of a request while others have sent half of theirs."""
    import socket

    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(wires[0][: len(wires[0]) // 2])
    latencies = http_load.load(port, wires, 1, 50)[1]
    for connection in slow:
        connection.close()
    return latencies[25]


if __name__ == "__main__":
    common.start(main)
