"""How fast does ``tfproj serve`` answer, and does it hold?

    python benchmarks/serving.py                   # beside Predictor.stream
    python benchmarks/serving.py --peers DIR       # also LitServe, BentoML, MLServer
    python benchmarks/serving.py --fuzz 10000      # only: bad requests, memory, slow clients
    python benchmarks/serving.py --quick

``--peers`` has a virtual environment for each: ``python -m venv DIR/litserve`` and so on for
``bentoml`` and ``mlserver`` (with ``uvloop<0.22``), with the package and tfproj in it. All answer
the same JPEG files (400 x 600 px) with ``Predictor(threads=1).predict`` behind their own HTTP, from
32 clients on the same machine: the CPU that the clients take is missing to all of them alike.

"CPU a request of our own" is the processor time of the server's processes less that of the
prediction alone; "clients ms" is what a request takes of the clients. Memory is what is resident.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import signal
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
    parser.add_argument("models", nargs="*", help="pretrained ones; default: one of each task")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="their virtual environments")
    parser.add_argument("--fuzz", type=common.positive, metavar="N", help="only send bad requests")
    options = parser.parse_args()
    rows: list[common.Row] = []
    if options.fuzz is None:
        for model in options.models or MODELS[: 1 if options.quick else None]:
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
            rest = Server(process.pid, port).processes()
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(40)
            for pid in rest:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Server:
    """A process and all that it started (Linux): their processor time and memory."""

    def __init__(self, root: int, port: int):
        self.root, self.port = root, port

    def processes(self) -> dict[int, list[str]]:
        """pid -> fields of ``/proc/PID/stat`` behind the name."""
        every, found = dict(_stats()), {self.root}
        while more := {p for p, f in every.items() if int(f[1]) in found} - found:
            found |= more
        return {pid: every[pid] for pid in found if pid in every}

    def cpu(self) -> float:
        """Seconds, of those that live."""
        return sum(int(f[11]) + int(f[12]) for f in self.processes().values()) / TICK

    def memory(self) -> float:
        """MB that are resident."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(f[21]) for f in self.processes().values()) * page / 2**20


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
    path = {"MLServer": "/v2/models/model/ready", "LitServe": "/health"}.get(name, "/readyz")
    command = [str(python), "-c", start]
    return server(command, port, path, **environment)


def wire(name: str, model: str, image: bytes) -> bytes:
    """The request for one image, in the way that each server takes bytes."""
    if name == "MLServer":
        entry = {"name": "image", "shape": [1, 1], "datatype": "BYTES"}
        entry |= {"parameters": {"content_type": "base64"}}
        entry |= {"data": [base64.b64encode(image).decode()]}
        body = json.dumps({"inputs": [entry]}).encode()
        return http_load.request("POST", "/v2/models/model/infer", body)
    if name == "LitServe":
        body = json.dumps({"image": base64.b64encode(image).decode()}).encode()
        return http_load.request("POST", "/predict", body, content_type="application/json")
    if name == "BentoML":
        body, kind = http_load.form([("image", image)])
        return http_load.request("POST", "/predict", body, content_type=kind)
    path = f"/v1/models/{model}/predict" if name == OURS else "/predict"
    return http_load.request("POST", path, image, content_type="image/jpeg")


# --- speed ---------------------------------------------------------------------------------------


def speed(model: str, options: argparse.Namespace) -> list[common.Row]:
    """Images a second, and the CPU that each takes."""
    images = photographs(16)
    total = 64 if options.quick else 2000 if model == MODELS[0] else 200
    rounds = options.rounds or (1 if options.quick else 3)
    stream, single = Predictor.pretrained(model), Predictor.pretrained(model, threads=1)
    stream.predict(images)  # what is loaded once

    def streamed() -> tuple[float, ...]:
        work = (images * (total // len(images) + 1))[:total]
        seconds = common.seconds(lambda: sum(1 for _ in stream.stream(work)))
        begin = time.process_time()
        for image in work[: total // 4]:
            single.predict(image)
        return total / seconds, 0.0, 4000 * (time.process_time() - begin) / total, 0.0

    def served(name: str, opened: Callable[[int], Any]) -> tuple[float, ...]:
        with opened(free_port()) as found:
            wires = [wire(name, model, image) for image in images]
            _, _, statuses = http_load.load(found.port, wires, CLIENTS, CLIENTS)
            if set(statuses) != {200}:
                raise common.Unavailable(f"failed: answers {dict(statuses)}")
            begin, own = found.cpu(), time.process_time()
            seconds, latencies, _ = http_load.load(found.port, wires, CLIENTS, total)
            own = 1000 * (time.process_time() - own) / total
            cpu = 1000 * (found.cpu() - begin) / total
            return total / seconds, 1000 * latencies[int(0.99 * len(latencies))], cpu, own

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
        rates, slowest, cpu, clients = (list(column) for column in zip(*found[name], strict=True))
        goal = ("at least", 0.9) if name == OURS else None
        columns = {"CPU ms": cpu, "clients ms": clients, "p99 ms": slowest}
        more = {key: float(np.median(values)) for key, values in columns.items()}
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
        processes = set(found.processes())
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
        survived = set(found.processes()) == processes
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
