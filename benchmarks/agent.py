"""What an agent withstands: hostile requests, and being killed three times while a design uses it.

The design is on the fake device, whose latencies are exact, so that its answer must be that of the same
design without an agent.

    python benchmarks/agent.py --json agent.json
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from harness import Figure, parser, publish
from torch import nn

from netsmith.devices.agent.client import AgentDevice
from netsmith.devices.agent.line import TOKEN
from netsmith.devices.agent.store import digest_of
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings

RESTARTS = 3
SMALL: dict[str, Any] = {
    "data": "digits", "latency": 0.08, "budget": "quick", "stages": ((16, 2, 1), (24, 2, 2)), "width": 0.5,
    "search_epochs": 3, "epochs": 2, "baselines": "none", "threads": 1,
}  # fmt: skip


class Served:
    """An agent in a process of its own, which may be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._token = folder / "token"
        self._token.write_text(secrets.token_urlsafe(32))
        os.environ[TOKEN] = self._token.read_text()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        options = ["--listen", f"127.0.0.1:{self.port}", "--token-file", str(self._token)]
        arguments = ["netsmith", "agent", *options]
        code = f"import sys; sys.argv = {arguments!r}; from netsmith.cli import main; main()"
        self.process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def resident_bytes(self) -> int:
        time.sleep(5)  # until it has let go of connections that were cut
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def children(self) -> int:
        return len(psutil.Process(self.process.pid).children(recursive=True))


def hostile(rng: random.Random, token: str) -> bytes:
    """A request that is wrong in some way, or bytes that are none; half know the token."""
    head = f"authorization: Bearer {token if rng.random() < 0.5 else 'x'}\r\n"
    body = rng.randbytes(rng.randrange(5000))
    length = rng.choice([len(body), len(body) + 1000, 10**15, -5, "many"])
    paths = [
        "/v1/time",
        "/v1/run/" + "0" * 64,
        "/v1/files/" + digest_of(body + b"x"),
        "/../../etc/passwd",
        "\x00",
    ]
    method = rng.choice(["PUT", "POST", "GET", "DELETE", "X" * 50])
    request = f"{method} {rng.choice(paths)} HTTP/1.1\r\nhost: a\r\n{head}".encode()
    request += f"content-length: {length}\r\n\r\n".encode() + body
    return rng.choice([request, request[: rng.randrange(len(request))], body, b"GET " + b"a" * 70_000])


def annoyed(served: Served, count: int) -> list[Figure]:
    """Send hostile requests; say what changed."""
    device = AgentDevice(f"agent://127.0.0.1:{served.port}", "onnxruntime")
    model = device.export(nn.Conv2d(3, 4, 3), (3, 8, 8))
    device.input_of(model)
    rng = random.Random(0)

    def annoy(number: int) -> None:
        for _ in range(number):
            with socket.create_connection(("127.0.0.1", served.port), timeout=10) as peer:
                peer.sendall(hostile(rng, os.environ[TOKEN]))

    annoy(count)  # what an allocator keeps for such requests, it has now; a leak goes on
    before = served.resident_bytes()
    annoy(count)
    alive = served.process.poll() is None
    started = served.children()
    kept = alive and device.input_of(model) == ((3, 8, 8), "float32")
    return [
        Figure("hostile requests, after as many before", count),
        Figure("agent still serves the file that it was sent", float(kept), "", ">= 1"),
        Figure("processes that hostile requests left running", started, "", "<= 0"),
        Figure("memory gained", (served.resident_bytes() - before) / 1e6, "MB", "<= 10"),
    ]


def restarted(served: Served, folder: Path) -> list[Figure]:
    """Kill the agent while a design uses it; compare with the same design on the device itself."""
    alone = run(Settings(**SMALL, device="fake:likes=7"), folder / "alone")
    name = f"agent://127.0.0.1:{served.port}?runtime=fake:likes=7"
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(run(Settings(**SMALL, device=name), folder / "served"))
    )
    thread.start()
    killed = 0
    while thread.is_alive():
        time.sleep(6)
        if killed < RESTARTS and served.children():  # a measurement is under way
            served.kill()
            time.sleep(1)
            served.start()
            killed += 1
    (there,) = answers
    same = there.arch == alone.arch and there.accuracy == alone.accuracy
    return [
        Figure("restarts of the agent in one design", killed, "", f">= {RESTARTS}"),
        Figure("same arch and accuracy as without an agent", float(same), "", ">= 1"),
        Figure("latency over that without an agent", there.latency_ms / alone.latency_ms, "x"),
        Figure("seconds through the agent", there.result["total_seconds"], "s"),
        Figure("seconds without", alone.result["total_seconds"], "s"),
    ]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--requests", type=int, default=1000)
    options = arguments.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NETSMITH_CACHE"] = str(Path(folder) / "cache")
        served = Served(Path(folder))
        try:
            figures = annoyed(served, options.requests) + restarted(served, Path(folder))
        finally:
            served.kill()
    publish(figures, options.json)


if __name__ == "__main__":
    main()
