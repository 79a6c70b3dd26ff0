"""An agent measures for whoever knows its token, and outlives whatever else it is sent."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from torch import nn

from netsmith.devices import parse
from netsmith.devices.agent.store import FileStore, digest_of
from netsmith.devices.session import Session
from netsmith.errors import DeviceError
from netsmith.testing import FakeDevice, device_contract

pytest.importorskip("onnxruntime")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from netsmith.devices.agent.client import AgentDevice  # noqa: E402  # needs the packages asked for above
from netsmith.devices.agent.server import Limits, make_app  # noqa: E402

TOKEN = "a-token-for-the-tests"
SESSION = Session(limit_s=2.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an agent with limits of the test's own, in a thread; give its port."""
    servers = []

    def start(**limits: Any) -> int:
        port = free_port()
        config = uvicorn.Config(make_app(TOKEN, Limits(**limits)), port=port, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return port

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETSMITH_AGENT_TOKEN", TOKEN)


def agent(port: int, runtime: str = "onnxruntime", patience_s: float = 5.0) -> AgentDevice:
    return AgentDevice(f"agent://127.0.0.1:{port}", runtime, patience_s=patience_s)


def raw(port: int, method: str, path: str, body: bytes = b"", token: str = TOKEN) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {"authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_device_behind_an_agent_keeps_the_contract(serve: Serve) -> None:
    port = serve()
    name = f"agent://127.0.0.1:{port}?runtime=onnxruntime:threads=1"
    assert parse(name).name == name
    device_contract(parse(name))


def test_figures_are_those_of_the_device_itself(serve: Serve) -> None:
    """The fake device's clock is exact: measured there or here, files take the same."""
    here, there = FakeDevice("7"), agent(serve(), "fake:likes=7")
    files = {str(k): here.export(nn.Conv2d(4, 4, k, groups=4), (4, 9, 9)) for k in (3, 7)}
    expected = here.time(files, files["3"], SESSION)
    got = there.time(files, files["3"], SESSION)
    assert {n: t.median_ms for n, t in got.items()} == {n: t.median_ms for n, t in expected.items()}
    assert there.fingerprint() == here.fingerprint()
    x = np.random.default_rng(0).random((3, 4, 9, 9), dtype=np.float32)
    np.testing.assert_array_equal(there.prepare(files["7"], x)(), here.prepare(files["7"], x)())
    assert there.footprint(files["3"]).size_bytes == len(files["3"])


@pytest.mark.parametrize(
    "text",
    ["agent://pi.local", "agent://pi.local:7070", "agent://:7070?runtime=fake", "agent://pi:70x?runtime=fake",
     "agent://pi:7070/x?runtime=fake", "agent://pi:7070?runtime=fake&threads=2"],
)  # fmt: skip
def test_wrong_addresses_say_what_is_right(text: str) -> None:
    with pytest.raises(DeviceError, match=r"agent://HOST:PORT\?runtime=DEVICE"):
        parse(text)


def test_threads_are_those_of_the_machine_there() -> None:
    device = parse("agents://pi.local:7070?runtime=litert:threads=64,precision=int8")
    assert device.name == "agents://pi.local:7070?runtime=litert:threads=64,precision=int8"
    assert (device.suffix, device.layout, device.precision) == (".tflite", "NHWC", "int8")


def test_a_wrong_token_is_refused_and_soon_not_heard(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    port = serve(refusals=3)
    monkeypatch.setenv("NETSMITH_AGENT_TOKEN", "another-token-entirely")
    with pytest.raises(DeviceError, match="refused the token; set NETSMITH_AGENT_TOKEN"):
        agent(port).fingerprint()
    statuses = [raw(port, "GET", "/v1/device?name=onnxruntime", token="wrong")[0] for _ in range(4)]
    assert statuses == [401, 401, 429, 429]
    assert raw(port, "GET", "/v1/device?name=onnxruntime")[0] == 200, "who knows the token is still heard"
    monkeypatch.delenv("NETSMITH_AGENT_TOKEN")
    with pytest.raises(DeviceError, match="wants a token"):
        agent(port).fingerprint()


def asked(**changed: Any) -> bytes:
    task = {"device": "onnxruntime", "files": {"a": "0" * 64}, "reference": None, "session": asdict(SESSION)}
    return json.dumps({**task, **changed}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/v1/device?name=nothing", b"", 400, "no device is called"),
        ("GET", "/v1/device?name=agent://127.0.0.1:1?runtime=onnxruntime", b"", 400, "of its own machine"),
        ("GET", "/v1/device?name=table:/etc/passwd", b"", 400, "of its own machine"),
        ("GET", "/v1/device?name=%20table%20:/etc/x.yaml", b"", 400, "of its own machine"),
        ("PUT", "/v1/files/..%2f..%2fetc%2fpasswd", b"x", 404, ""),
        ("PUT", "/v1/files/passwd", b"x", 400, "SHA-256"),
        ("PUT", f"/v1/files/{'0' * 64}", b"x", 400, "damaged on its way"),
        ("PUT", f"/v1/files/{'0' * 64}", b"x" * 5001, 413, "at most 5000 bytes"),
        ("POST", f"/v1/footprint/{'0' * 64}?device=onnxruntime", b"", 404, "not here"),
        ("POST", f"/v1/shutdown/{'0' * 64}", b"", 404, ""),
        ("POST", f"/v1/run/{'0' * 64}?shape=1,1&type=uint8", b"", 404, "not here"),
        ("POST", "/v1/time", b"\x80\x04cos\nsystem\n", 400, "not JSON"),
        ("POST", "/v1/time", b"[" * 100_000, 400, "not JSON"),
        ("POST", "/v1/time", b"[1]", 400, "JSON object"),
        ("POST", "/v1/time", b" " * 2**21, 413, "at most 1048576 bytes"),
        ("POST", "/v1/time", asked(device=7), 400, "device names a runtime"),
        ("POST", "/v1/time", asked(files={}), 400, "1 to 256 files"),
        ("POST", "/v1/time", asked(files={"a": "../../etc/passwd"}), 400, "SHA-256"),
        ("POST", "/v1/time", asked(files={"a": 7}), 400, "SHA-256"),
        ("POST", "/v1/time", asked(session={}), 400, "session holds"),
        ("POST", "/v1/time", asked(session={**asdict(SESSION), "limit_s": 1e8}), 400, "at most 300 s"),
        ("POST", "/v1/time", asked(session={**asdict(SESSION), "batch_size": None}), 400, "numbers"),
        ("POST", "/v1/time", asked(session={**asdict(SESSION), "width": float("nan")}), 400, "numbers"),
        ("DELETE", "/v1/time", b"", 405, ""),
        ("GET", "/", b"", 404, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_answered(
    serve: Serve, method: str, path: str, body: bytes, status: int, said: str
) -> None:
    port = serve(file_bytes=5000)
    got, text = raw(port, method, path, body)
    assert (got, said in text.decode()) == (status, True), text


def test_a_damaged_file_is_the_clients_error_and_the_agent_goes_on(serve: Serve) -> None:
    port = serve()
    device = agent(port)
    with pytest.raises(DeviceError, match="says: the file is not an ONNX model"):
        device.time({"a": b"not a model"}, None, SESSION)
    outside = onnx.load_model_from_string(device.export(nn.Conv2d(3, 4, 3), (3, 8, 8)))
    weight = outside.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(DeviceError, match="lie in other files"):
        device.time({"a": outside.SerializeToString()}, None, SESSION)
    assert device.fingerprint()["runtime"] == "onnxruntime"


def test_a_slow_peer_is_cut_off_and_keeps_nobody_waiting(serve: Serve) -> None:
    port = serve(body_s=1.0)
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(
            f"PUT /v1/files/{'0' * 64} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n"
            "content-length: 1000\r\n\r\nbegun".encode()
        )
        assert raw(port, "GET", "/v1/device?name=onnxruntime")[0] == 200
        slow.settimeout(20)
        assert b"408" in slow.recv(1000)


def test_two_clients_are_both_served(serve: Serve) -> None:
    port, here = serve(), FakeDevice()
    files = [{"a": here.export(nn.Conv2d(4, width, 3), (4, 9, 9))} for width in (4, 8)]
    with ThreadPoolExecutor(2) as pool:
        timed = list(
            pool.map(lambda f: agent(port, "fake", 120).time(f, None, SESSION)["a"].median_ms, files)
        )
    assert timed == [here.time(f, None, SESSION)["a"].median_ms for f in files]


def test_more_than_can_wait_are_told_to_come_again(serve: Serve) -> None:
    port = serve(waiting=0)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: raw(port, "GET", "/v1/device?name=onnxruntime")[0], range(6)))
    assert set(answers) == {200, 503}
    assert agent(port).fingerprint()["runtime"] == "onnxruntime"


class _Liar(BaseHTTPRequestHandler):
    """Answers everything with the body that its server holds."""

    def answer(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.server.lie)  # type: ignore[attr-defined]

    do_GET = do_POST = do_PUT = answer  # noqa: N815  # the names are the library's

    def log_message(self, format: str, *arguments: Any) -> None: ...


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (b"<html>", "is no agent of Netsmith"),
        (b"[" * 50_000, "is no agent of Netsmith"),
        (b"{}", "answers what was not asked"),
        (
            b'{"a": {"samples_ms": [1e999], "drift": [1], "wide": false}, "fingerprint": 7}',
            "not asked|finite",
        ),
        (b" " * 2**21, "answers with over"),
    ],
)
def test_an_agent_that_lies_is_not_believed(lie: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netsmith.devices.agent.line.MAX_ANSWER_BYTES", 2**20)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Liar) as server:
        server.lie = lie  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        device = agent(server.server_port)
        with pytest.raises(DeviceError, match=said):
            device.fingerprint()
        with pytest.raises(DeviceError, match=said):
            device.time({"a": b"x"}, None, SESSION)
        server.shutdown()


def command(port: int, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = [
        "netsmith",
        "agent",
        "--listen",
        f"127.0.0.1:{port}",
        "--token-file",
        str(folder / "t"),
        *more,
    ]
    (folder / "t").write_text(TOKEN)
    code = f"import sys; sys.argv = {arguments!r}; from netsmith.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def test_a_measurement_survives_the_agents_being_killed_and_started_again(tmp_path: Path) -> None:
    port, here = free_port(), FakeDevice()
    files = {"a": here.export(nn.Conv2d(4, 4, 3), (4, 9, 9))}
    first = command(port, tmp_path)
    device = agent(port, "fake", patience_s=120)
    device.fingerprint()
    with ThreadPoolExecutor(1) as pool:
        timed = pool.submit(device.time, files, None, SESSION)
        time.sleep(0.5)  # under way, or about to be
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        second = command(port, tmp_path)
        try:
            assert timed.result(120)["a"].median_ms == here.time(files, None, SESSION)["a"].median_ms
        finally:
            second.terminate()
            second.wait(20)


def test_hostile_bytes_change_nothing(tmp_path: Path) -> None:
    """Random bytes, broken requests, and requests cut in the middle; memory stays what it was."""
    port = free_port()
    server = command(port, tmp_path)
    rng = random.Random(0)
    try:
        device = agent(port, patience_s=60)
        model = device.export(nn.Conv2d(3, 4, 3), (3, 8, 8))
        assert device.input_of(model) == ((3, 8, 8), "float32")

        def annoy(count: int) -> None:
            for _ in range(count):
                with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
                    peer.sendall(hostile(rng))

        annoy(50)
        before = psutil.Process(server.pid).memory_info().rss
        annoy(250)
        assert server.poll() is None
        assert device.input_of(model) == ((3, 8, 8), "float32"), "the file is still there"
        assert psutil.Process(server.pid).memory_info().rss < before + 20e6
    finally:
        server.terminate()
        server.wait(20)


def hostile(rng: random.Random) -> bytes:
    head = f"authorization: Bearer {TOKEN if rng.random() < 0.5 else 'x'}\r\n"
    body = rng.randbytes(rng.randrange(3000))
    length = rng.choice([len(body), len(body) + 1000, 10**15, -5, "many"])
    path = rng.choice(["/v1/time", "/v1/run/" + "0" * 64, f"/v1/files/{digest_of(body)}", "/../..", "\x00"])
    request = f"{rng.choice(['PUT', 'POST', 'GET', 'X' * 50])} {path} HTTP/1.1\r\nhost: a\r\n{head}".encode()
    request += f"content-length: {length}\r\n\r\n".encode() + body
    return rng.choice([request, request[: rng.randrange(len(request))], body, b"GET " + b"a" * 70_000])


def test_tls_is_spoken_with_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not here to make a certificate")
    port = free_port()
    server = command(
        port, tmp_path, "--certificate", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem")
    )
    try:
        monkeypatch.setenv("NETSMITH_AGENT_CA", str(tmp_path / "cert.pem"))
        device = AgentDevice(f"agents://localhost:{port}", "onnxruntime", patience_s=60)
        assert device.fingerprint()["runtime"] == "onnxruntime"
        monkeypatch.delenv("NETSMITH_AGENT_CA")
        stranger = AgentDevice(f"agents://localhost:{port}", "onnxruntime", patience_s=1)
        with pytest.raises(DeviceError, match="no answer"):
            stranger.fingerprint()
        assert ssl.get_server_certificate(("localhost", port))
    finally:
        server.terminate()
        server.wait(20)


def test_the_longest_unused_file_makes_room() -> None:
    store = FileStore(most_bytes=10)
    first, second = store.put(b"aaaa"), store.put(b"bbbb")
    assert store.path(first) is not None  # used again
    third = store.put(b"cccc")
    assert store.path(second) is None
    assert [store.path(d).read_bytes() for d in (first, third)] == [b"aaaa", b"cccc"]  # type: ignore[union-attr]
    folder = store.folder
    store.close()
    assert not folder.exists()
