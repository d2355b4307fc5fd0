"""``tfproj serve`` as a process of its own, asked over sockets."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_model, with_golden

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.errors import TooLargeError
from tfproj.inference.image_files import describe

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytestmark = pytest.mark.light

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from http_load import Client, bad_requests, form, fuzz, load, request  # noqa: E402

CLOTHES, HOUSES = "fashion_mnist-tiny", "facades-default"
PREDICT = f"/v1/models/{CLOTHES}/predict"
INFER = f"/v2/models/{CLOTHES}/infer"
SEGMENT = f"/v1/models/{HOUSES}/predict"
SECRET = "for the test"


@contextlib.contextmanager
def serving(*arguments, token=""):
    """A server's (port, process, lines of its log so far) while the block runs."""
    command = [sys.executable, "-m", "tfproj", "serve", "--port", "0", *map(str, arguments)]
    # What is installed, in the workers, too: the checkout that pytest runs in has no tfproj.cli.
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TFPROJ_TOKEN": token, "PYTHONSAFEPATH": "1"},
        # A shell's background job, and what it starts, is deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    lines = []
    first = process.stderr.readline()
    reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
    reader.start()
    try:
        yield int(re.search(r"http://\S+:(\d+): ", first)[1]), process, lines
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        reader.join(5)


@pytest.fixture(scope="module")
def server():
    """The port of a server with both models, and its log."""
    with serving(CLOTHES, HOUSES, "--log-json", "--max-pixels", 200_000, "--max-body", 4) as found:
        yield found[0], found[2]
    assert not [line for line in found[2] if "trace" in line]


@pytest.fixture
def ask(server):
    """Function: method, path, body, headers -> (status, headers, body)."""
    client = Client(server[0])
    yield lambda *args, **headers: client.ask(request(*args, **headers))
    client.close()


def photograph(seed=0, size=(60, 90), kind="PNG"):
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def test_an_image_gets_the_record_that_predict_has_for_it(ask):
    for name, path in ((CLOTHES, PREDICT), (HOUSES, SEGMENT)):
        status, headers, body = ask("POST", path, photograph())
        (result,) = Predictor.pretrained(name, threads=1).predict(photograph())
        assert status == 200 and headers["content-type"] == "application/json"
        assert json.loads(body) == {"predictions": [describe("image", result, 1)], "failures": []}


def test_a_form_holds_several_images_and_says_which_are_bad(ask):
    body, kind = form([("a/../b.png", photograph(1)), ("c.txt", b"text"), ("d.png", photograph(2))])
    status, _, answer = ask("POST", f"{PREDICT}?top=3", body, content_type=kind)
    found = json.loads(answer)
    assert status == 200 and [r["image"] for r in found["predictions"]] == ["a/../b.png", "d.png"]
    assert [len(r["top"]) for r in found["predictions"]] == [3, 3]
    assert (
        found["failures"][0]["image"] == "c.txt" and "not an image" in found["failures"][0]["error"]
    )


def test_a_mask_comes_as_a_palette_image(ask):
    (result,) = Predictor.pretrained(HOUSES, threads=1).predict(photograph())
    _, headers, body = ask("POST", SEGMENT, photograph(), accept="image/png")
    picture = Image.open(io.BytesIO(body))
    assert headers["content-type"] == "image/png" and picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), result.mask)
    record = json.loads(ask("POST", f"{SEGMENT}?mask=1", photograph())[2])["predictions"][0]
    assert base64.b64decode(record["mask"].removeprefix("data:image/png;base64,")) == body
    for path, wanted in ((PREDICT, "image/png"), (f"{PREDICT}?mask=1", "*/*")):
        status, _, body = ask("POST", path, photograph(), accept=wanted)
        assert status == 400 and "classifier" in json.loads(body)["error"]


def test_a_threshold_names_what_is_unknown(ask):
    body = ask("POST", f"{PREDICT}?unknown_below=1&top=2", photograph())[2]
    record = json.loads(body)["predictions"][0]
    assert record["label"] == "unknown" and 0 < record["confidence"] < 1 and len(record["top"]) == 2


BAD = [
    ("POST", PREDICT, b"", {}, 400, "no image"),
    ("POST", PREDICT, b"text", {}, 400, "image: not an image"),
    ("POST", PREDICT, photograph()[:-400], {}, 400, "image: damaged image"),
    ("POST", PREDICT, photograph(size=(500, 500)), {}, 413, "above the limit of 200,000 pixels"),
    ("POST", PREDICT, bytes(5 * 2**20), {}, 413, "a body of more than 4,194,304 bytes"),
    ("POST", f"{PREDICT}?top=x", photograph(), {}, 400, "top must be"),
    ("POST", f"{PREDICT}?tops=1", photograph(), {}, 400, "unknown parameter 'tops'"),
    ("POST", f"{PREDICT}?unknown_below=nan", photograph(), {}, 400, "unknown_below"),
    ("POST", f"{SEGMENT}?unknown_below=0.5", photograph(), {}, 400, "this is a segmenter"),
    ("POST", PREDICT, b"x", {"content_type": "multipart/form-data"}, 400, "the form is damaged"),
    ("POST", PREDICT, b'--xyz\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--xyz--',
     {"content_type": "multipart/form-data; boundary=xyz"}, 400, "the field 'top' of the form"),
    ("GET", f"/v2/models/{CLOTHES}/versions/2", b"", {}, 404, "Not Found"),
    ("POST", "/v1/models/facade-default/predict", b"", {}, 404, "did you mean 'facades-default'?"),
    ("GET", PREDICT, b"", {}, 405, "Method Not Allowed"),
    ("GET", "/v1/none", b"", {}, 404, "Not Found"),
    ("POST", INFER, b"[1]", {}, 400, "the request must be a JSON object"),
    ("POST", INFER, b"[" * 10**5, {}, 400, "the request is not JSON"),
    ("POST", INFER, b" " * (4 * 2**20), {"content_encoding": "gzip"}, 415, "compressed"),
    ("GET", "/v2", b"", {"Host": "evil.example"}, 403, "for this machine"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "text"), BAD)
def test_what_is_wrong_is_said_in_one_line(ask, method, path, body, headers, status, text):
    wire = [method, path, body]
    if "Host" in headers:
        headers = {}
        wire[1] += " HTTP/1.1\r\nHost: evil.example\r\nX: "
    found, _, answer = ask(*wire, **headers)
    message = json.loads(answer)["error"]
    assert found == status and text in message and "\n" not in message


def test_an_image_that_is_too_large_in_tiles_is_said_to_be_so(tmp_path):
    from tfproj.serving.models import Model, Question
    from tfproj.serving.settings import Settings

    (tmp_path / "toy.onnx").write_bytes(tiny_model("segment"))
    model = Model("toy", Settings({"toy": (tmp_path / "toy.onnx", {"tiles": 64.0})}))
    with pytest.raises(TooLargeError, match="^b.png: .* scale of its tiles"):  # which is 413
        model.answer("b.png", photograph(size=(200, 200)), Question())


@pytest.mark.parametrize("host", ["LOCALHOST:80", "[::1]", "[::1]:80", "127.0.0.1"])
def test_this_machine_has_several_names(ask, host):
    assert ask("GET", f"/v2 HTTP/1.1\r\nHost: {host}\r\nX: ")[0] == 200


def tensors(name="image", datatype="UINT8", shape=(1, 28, 28, 1), data=None, **parameters):
    entry = {"name": name, "datatype": datatype, "shape": list(shape)}
    entry |= {"parameters": parameters} if data is None else {"data": data}
    return {"inputs": [entry]}


def test_tensors_as_json_and_as_bytes_give_the_models_own_numbers(ask):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    scores, probabilities = Predictor.pretrained(CLOTHES, threads=1).run(images)
    asked = {**tensors(shape=images.shape, data=images.tolist()), "id": "7"}
    status, headers, body = ask("POST", INFER, json.dumps(asked).encode())
    found = json.loads(body)
    assert status == 200 and (found["model_name"], found["id"]) == (CLOTHES, "7")
    assert [output["name"] for output in found["outputs"]] == ["scores", "probabilities"]
    for output, values in zip(found["outputs"], (scores, probabilities), strict=True):
        assert output["datatype"] == "FP32" and output["shape"] == list(values.shape)
        np.testing.assert_array_equal(np.float32(output["data"]).reshape(values.shape), values)
    asked = tensors(shape=images.shape, binary_data_size=images.size)
    asked["outputs"] = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    head = json.dumps(asked).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    status, headers, body = ask("POST", INFER, head + images.tobytes(), **length)
    at = int(headers["inference-header-content-length"])
    entry = json.loads(body[:at])["outputs"][0]
    assert entry["parameters"]["binary_data_size"] == len(body) - at
    np.testing.assert_array_equal(
        np.frombuffer(body[at:], np.float32).reshape(entry["shape"]), probabilities
    )


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        ({}, 400, "inputs must be"),
        (tensors("picture", data=[]), 400, "must be called 'image'"),
        (tensors(datatype="FP32", data=[]), 400, "datatype UINT8"),
        (tensors(shape=[28, 28], data=[]), 400, "list of 4 whole numbers"),
        (tensors(shape=[1, 30, 28, 1], data=[]), 400, "images must be 28 x 28 x 1"),
        (tensors(shape=[65, 28, 28, 1], data=[]), 413, "1 to 64 images of 28 x 28"),
        (tensors(data=[0] * 783), 400, "783 values"),
        (tensors(data=[0] * 783 + [256]), 400, "whole numbers 0..255"),
        (tensors(data=[0] * 783 + [0.5]), 400, "whole numbers 0..255"),
        (tensors(data=[[0, 1], [2]]), 400, "rows of one length"),
        (tensors(binary_data_size=784), 400, "0 bytes were sent"),
        ({**tensors(data=[0] * 784), "outputs": [{"name": "x"}]}, 400, "no output 'x'"),
        ({**tensors(data=[0] * 784), "outputs": 3}, 400, "outputs must be a list"),
        ({**tensors(data=[0] * 784), "outputs": [{"name": "scores", "parameters":
          {"classification": 2}}]}, 400, "'classification' is not supported"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(ask, asked, status, text):
    found, _, body = ask("POST", INFER, json.dumps(asked).encode())
    assert (found, text in json.loads(body)["error"]) == (status, True), body


def test_the_client_of_triton_works_unchanged(server):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    client = http.InferenceServerClient(f"localhost:{server[0]}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(HOUSES)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    entry = client.get_model_metadata(HOUSES, "1")["inputs"][0]
    image = np.random.default_rng(0).integers(0, 256, (2, *entry["shape"][1:]), dtype=np.uint8)
    tensor = http.InferInput(entry["name"], image.shape, entry["datatype"])
    expected = Predictor.pretrained(HOUSES, threads=1).run(image)
    for is_binary in (True, False):
        tensor.set_data_from_numpy(image, binary_data=is_binary)
        outputs = [
            http.InferRequestedOutput(name, is_binary) for name in ("scores", "probabilities")
        ]
        found = client.infer(HOUSES, [tensor], "1", outputs=outputs)
        for name, values in zip(("scores", "probabilities"), expected, strict=True):
            assert np.abs(found.as_numpy(name) - values).max() == 0.0
    with pytest.raises(http.InferenceServerException, match="unknown model"):
        client.get_model_metadata("nothing")


def test_an_offer_to_speak_http2_costs_no_body(ask, server):
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    assert [ask("POST", PREDICT, photograph(), **offer)[0] for _ in range(2)] == [200, 200]
    # What a body holds is no header, whether it comes with the head or behind it.
    image = np.resize(np.frombuffer(b"\r\nUpgrade: h2c", np.uint8), (1, 28, 28, 1))
    head = json.dumps(tensors(shape=image.shape, binary_data_size=image.size)).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    wire = request("POST", INFER, head + image.tobytes(), **length)
    with socket.create_connection(("127.0.0.1", server[0]), 20) as connection:
        connection.sendall(wire[: -image.size])
        time.sleep(0.1)
        connection.sendall(wire[-image.size :] + wire)
        found = b""
        while found.count(b"HTTP/1.1 ") < 2 or not found.endswith(b"]}]}"):
            found += connection.recv(1 << 16)
    scores = Predictor.pretrained(CLOTHES, threads=1).run(image)[0].ravel()
    told = re.findall(rb'"scores".*?"data": (\[.*?\])', found)
    assert [json.loads(values) for values in told] == [scores.tolist()] * 2


def test_metrics_count_images_and_answers(ask):
    def value(line):
        text = ask("GET", "/metrics")[2].decode()
        return sum(float(n) for n in re.findall(rf"^{re.escape(line)} (\S+)$", text, re.M))

    images = f'tfproj_images_total{{model="{CLOTHES}"}}'
    answers = 'tfproj_requests_total{endpoint="/v1/models/{name}/predict",status="200"}'
    before = value(images), value(answers)
    body, kind = form([("a", photograph(1)), ("b", photograph(2)), ("c", b"")])
    ask("POST", PREDICT, body, content_type=kind)
    assert (value(images), value(answers)) == (before[0] + 2, before[1] + 1)
    assert value("tfproj_pending_jobs") == 0


def test_the_description_names_every_address(ask):
    from tfproj.serving.app import Service
    from tfproj.serving.settings import Settings

    described = json.loads(ask("GET", "/openapi.json")[2])
    routes = {(path, how[0].lower()) for path, how in Service(Settings({})).routes.items()}
    assert {
        (path, method) for path, entry in described["paths"].items() for method in entry
    } == routes
    for reference in re.findall(r'"#/([^"]+)"', json.dumps(described)):
        found = described
        for key in reference.split("/"):
            found = found[key]
    listed = json.loads(ask("GET", "/v1/models")[2])["models"]
    assert [model["name"] for model in listed] == [CLOTHES, HOUSES]
    known = described["components"]["schemas"]["Model"]["properties"]
    assert set(listed[0]) == set(known) and len(listed[1]["classes"]) == len(listed[1]["colors"])


def test_an_answer_waits_for_nothing(server):
    latencies = load(server[0], [request("GET", "/v2")], 1, 100)[1]
    assert latencies[30] < 0.03  # Nagle's algorithm would make it 0.04


def test_the_log_is_json_and_can_not_be_forged(ask, server):
    ask("GET", "/v1/x%0a%7B%22forged%22:1%7D")
    time.sleep(0.2)
    records = [json.loads(line) for line in list(server[1])]
    assert any(record.get("path") == '/v1/x\n{"forged":1}' for record in records)
    assert not any("forged" in record for record in records)


def test_bad_requests_get_an_answer_and_break_nothing(tmp_path):
    (tmp_path / "toy.onnx").write_bytes(tiny_model("segment"))
    make = bad_requests([CLOTHES, "toy"], photograph(size=(20, 20), kind="JPEG"), seed=0)
    with serving(CLOTHES, tmp_path / "toy.onnx", "--timeout", 1) as (port, _, lines):
        found = fuzz(port, make, 300)
        assert Client(port).ask(request("POST", PREDICT, photograph()))[0] == 200
    assert not [status for status in found if status >= 500 and status != 503], found
    assert found[400] and found[404] and found[405]
    assert not [line for line in lines if "Traceback" in line or "takes over" in line]


def test_slow_clients_hold_nobody_up_and_are_let_go():
    with serving(CLOTHES, "--timeout", 2, "--queue", 4) as (port, _, _):
        head = request("POST", PREDICT, photograph())
        assert Client(port).ask(head)[0] == 200
        slow = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(40)]
        for number, connection in enumerate(slow):
            connection.sendall(head[: (0, 30, len(head) - 9)[number % 3]])
        begin = time.perf_counter()
        assert Client(port).ask(head)[0] == 200
        assert time.perf_counter() - begin < 1.5
        for connection in slow:  # closed by the server
            assert connection.recv(100) == b""
        endless = socket.create_connection(("127.0.0.1", port), 20)
        with contextlib.suppress(ConnectionError):
            endless.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000)
            assert endless.recv(100).startswith(b"HTTP/1.1 400")


def test_a_client_that_takes_no_answer_is_let_go():
    with serving(HOUSES, "--timeout", 1) as (port, _, _):
        image = np.zeros((1, *Predictor.pretrained(HOUSES).spec.size, 3), np.uint8)
        asked = json.dumps(tensors(shape=image.shape, binary_data_size=image.size)).encode()
        length = {"Inference_Header_Content_Length": str(len(asked))}
        path = f"/v2/models/{HOUSES}/infer"
        wire = request("POST", path, asked + image.tobytes(), **length)
        connection = socket.create_connection(("127.0.0.1", port), 60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(wire)
        assert connection.recv(12) == b"HTTP/1.1 200"
        time.sleep(3)
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                received += len(part)
        assert received < 8 * 10**6  # of 13 MB


def test_a_full_queue_says_when_to_come_again():
    with serving(HOUSES, "--queue", 0) as (port, _, _):
        wire = request("POST", SEGMENT, photograph())
        assert Client(port).ask(wire)[0] == 200
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda _: Client(port).ask(wire), range(36)))
        assert {status for status, *_ in found} == {200, 503}
        waits = {headers["retry-after"] for status, headers, _ in found if status == 503}
        assert min(map(int, waits)) >= 1
        # What there is never room for need not be tried again.
        body, kind = form([("a", photograph())] * 64)
        status, _, body = Client(port).ask(request("POST", SEGMENT, body, content_type=kind))
        assert status == 413 and "64 images; at most" in json.loads(body)["error"]


def workers(process):
    """Numbers of the processes that a server started to answer."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_a_killed_worker_comes_back_and_a_told_one_finishes():
    with serving(CLOTHES, token=SECRET) as (port, process, _):
        wire = request("POST", PREDICT, photograph(), Authorization=f"Bearer {SECRET}")
        assert Client(port).ask(wire)[0] == 200
        os.kill(workers(process)[0], signal.SIGKILL)
        end = time.monotonic() + 60
        while (status := Client(port).ask(wire)[0]) != 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert status == 200
        # Open to whoever watches the server, closed to others.
        small = wire.replace(b": Bearer", b": bearer")
        assert Client(port).ask(small)[0] == 200
        without = {
            path: Client(port).ask(request("GET", path)) for path in ("/", "/v2", "/metrics")
        }
        assert [answer[0] for answer in without.values()] == [200, 401, 401]
        assert without["/v2"][1]["www-authenticate"] == "Bearer"
        with socket.create_connection(("127.0.0.1", port), 20) as waiting:
            waiting.sendall(wire[:-100])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionRefusedError):  # by then nobody else is let in
                while True:
                    socket.create_connection(("127.0.0.1", port), 20).close()
                    time.sleep(0.02)
            waiting.sendall(wire[-100:])
            assert waiting.recv(12) == b"HTTP/1.1 200"
        assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_ctrl_c_while_a_worker_starts_leaves_no_traceback(tmp_path):
    (tmp_path / "toy.onnx").write_bytes(tiny_model())
    with serving(tmp_path / "toy.onnx", "--log-json") as (port, process, lines):
        assert Client(port).ask(request("GET", "/v2"))[0] == 200
        (first,) = workers(process)
        os.kill(first, signal.SIGKILL)
        while not (started := set(workers(process)) - {first}):
            time.sleep(0.01)
        time.sleep(0.1)  # it imports what it needs
        for number in (*started, process.pid):  # as a terminal does
            os.kill(number, signal.SIGINT)
        assert process.wait(60) == 0
    told = [json.loads(line).get("message", "") for line in lines if line.strip()]
    assert any("takes over" in message for message in told)


def test_options_reach_the_models_that_they_are_for(tmp_path):
    from tfproj.cli.serve import named

    (tmp_path / "toy.onnx").write_bytes(tiny_model("segment"))
    options = {"flip": True, "tiles": True, "unknown_below": 0.5}
    found = named(("facades",), "runs", {**options, "unknown_below": None})
    assert list(found) == ["facades"]  # as it was asked for
    found = named((CLOTHES, f"a/b={tmp_path / 'toy.onnx'}"), "runs", options)
    assert {name: entry[1] for name, entry in found.items()} == {
        CLOTHES: {"flip": True, "tiles": False, "unknown_below": 0.5},
        "a_b": {"flip": True, "tiles": True, "unknown_below": None},
    }


def test_a_name_can_stand_in_an_address(tmp_path, monkeypatch):
    from tfproj.cli.serve import named

    folder = tmp_path / "lr=0.1"
    (folder / "below").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(tiny_model("segment"))
    options = {"flip": False, "tiles": False, "unknown_below": None}
    monkeypatch.chdir(folder / "below")
    for argument, name in (
        ("../model.onnx", "lr_0.1"),
        (str(folder / "model.onnx"), "lr_0.1"),
        (f"houses={folder / 'model.onnx'}", "houses"),
        ("..=../model.onnx", "model"),
    ):
        assert list(named((argument,), "runs", options)) == [name]


def test_the_address_is_told_as_json():
    command = [sys.executable, "-m", "tfproj", "serve", CLOTHES, "--port", "0", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    told = "".join(iter(process.stdout.readline, "}\n")) + "}"
    port = int(json.loads(told)["address"].rpartition(":")[2])
    assert Client(port).ask(request("GET", "/v2"))[0] == 200
    process.terminate()
    process.wait(60)
    assert json.loads(told)["models"] == [CLOTHES]


def test_wrong_usage_is_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("TFPROJ_TOKEN", raising=False)
    copy = tmp_path / f"{CLOTHES}.onnx"
    copy.write_bytes(tiny_model())
    for arguments, text in (
        ([CLOTHES, "--host", "0.0.0.0"], "set TFPROJ_TOKEN"),
        ([CLOTHES, str(copy)], "two models are called 'fashion_mnist-tiny'; name one: NAME="),
        (["nothing.onnx"], "nothing.onnx: no such file"),
        (["x" * 300], "unknown model or run"),
        ([HOUSES, "--unknown-below", "auto"], "--unknown-below: no model here is"),
        ([CLOTHES, "--tiles"], "--tiles: no model here is"),
        ([CLOTHES, "--max-pixels", "100000000"], "--max-pixels"),
    ):
        assert main(["serve", *arguments]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert text in line
    monkeypatch.setenv("TFPROJ_TOKEN", SECRET)
    assert main(["serve", CLOTHES, "--host", "a..b"]) == 2
    assert "--host a..b" in capfd.readouterr().err
    for token in ("line's end\n", "schlüssel"):  # curl would send it as other bytes than a browser
        monkeypatch.setenv("TFPROJ_TOKEN", token)
        assert main(["serve", CLOTHES]) == 2
        assert "TFPROJ_TOKEN: a header can't carry it" in capfd.readouterr().err


def test_an_option_that_a_model_has_no_use_for_is_wrong_usage(tmp_path):
    (tmp_path / "toy.onnx").write_bytes(tiny_model())
    with serving(tmp_path / "toy.onnx", "--unknown-below", "auto") as (_, process, lines):
        assert process.wait(60) == 2
    assert any("has no threshold for unknown images" in line for line in lines)


def test_a_model_that_fails_its_self_test_is_not_served(tmp_path):
    path = tmp_path / "wrong.onnx"
    path.write_bytes(with_golden(shift=0.1))
    with serving(CLOTHES, path) as (_, process, lines):
        assert process.wait(60) == 1
    assert any("wrong: self-test failed" in line for line in lines)


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    code = """
import sys
sys.modules["uvicorn"] = None
from tfproj.cli.main import main
from tfproj.errors import TooLargeError
main(["serve", "facades"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stderr == "error: this needs the package 'uvicorn': pip install 'tfproj[serve]'\n"
