"""The agent: takes exported files over HTTP and measures them on the machine that it stands on.

It takes files of a runtime's own format and numbers, never code; each task runs in a process of its own, one
at a time, under limits. Whoever does not know the token is refused, and soon refused without being heard.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from netsmith.devices.agent.asked import AskError, device_of, read_json, session_of
from netsmith.devices.agent.store import FileStore, digest_of, is_digest
from netsmith.devices.agent.worker import REFUSED

VERSION = 1
MAX_JSON_BYTES = 2**20

_log = logging.getLogger("netsmith.agent")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one agent gives to all who ask: bytes, seconds, numbers."""

    file_bytes: int = 256 * 2**20
    store_bytes: int = 2 * 2**30
    body_s: float = 120.0
    """In which a request's body must have come."""
    task_s: float = 300.0
    """What a measurement may ask for, and any task may take beyond it."""
    files: int = 256
    """Timed in turn in one measurement."""
    waiting: int = 8
    """Tasks that wait for their turn; more are told to come again."""
    refusals: int = 10
    """Wrong tokens from an address in ``refusal_s``, after which it is not heard."""
    refusal_s: float = 60.0


class Agent:
    """What the routes share: the files, and the turn to measure."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.store = FileStore(limits.store_bytes)
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def device(self, request: Request) -> Response:
        """GET: what a latency on the device ``name`` depends on here."""
        task = {"kind": "describe", "device": device_of(request.query_params.get("name"))}
        return JSONResponse({"protocol": VERSION, **await self._do(task)})

    async def file(self, request: Request) -> Response:
        """HEAD: whether a file is here. PUT: take it."""
        digest = request.path_params["digest"]
        if not is_digest(digest):
            raise AskError(400, "a file is named by the SHA-256 of its bytes, in hexadecimal")
        if request.method == "HEAD":
            return Response(status_code=200 if self.store.path(digest) else 404)
        content = await self._body(request)
        if digest_of(content) != digest:
            raise AskError(400, "the file that came is not the one that was named: it was damaged on its way")
        self.store.put(content)
        return JSONResponse({"size_bytes": len(content)})

    async def time(self, request: Request) -> Response:
        """POST: time files in turn; the body names device, files, reference and session."""
        asked = read_json(await self._body(request, MAX_JSON_BYTES))
        device, files = device_of(asked.get("device")), asked.get("files")
        if not isinstance(files, dict) or not 1 <= len(files) <= self.limits.files:
            raise AskError(400, f"files names 1 to {self.limits.files} files")
        session = session_of(asked.get("session"), self.limits.task_s)
        reference = asked.get("reference")
        paths = self._paths([*files.values(), *([] if reference is None else [reference])])
        task = {
            "kind": "time",
            "device": device,
            "files": {name: paths[digest] for name, digest in files.items()},
            "reference": None if reference is None else paths[reference],
            "session": asdict(session),
        }
        return JSONResponse(await self._do(task, session.limit_s))

    async def of_file(self, request: Request) -> Response:
        """POST: the footprint of a file, or the images that it takes."""
        kind, digest = request.path_params["kind"], request.path_params["digest"]
        if kind not in ("footprint", "input"):
            raise AskError(404, "there is no such task")
        device = device_of(request.query_params.get("device"))
        task = {"kind": kind, "device": device, "file": self._paths([digest])[digest]}
        return JSONResponse(await self._do(task))

    async def run(self, request: Request) -> Response:
        """POST: the outputs of a file, float32, for the images of the body."""
        digest, query = request.path_params["digest"], request.query_params
        file = self._paths([digest])[digest]
        try:
            shape = [int(size) for size in query.get("shape", "").split(",")]
        except ValueError:
            raise AskError(400, "shape is four whole numbers, N,C,H,W") from None
        kind = query.get("type", "")
        if len(shape) != 4 or min(shape) < 1 or kind not in ("uint8", "float32"):
            raise AskError(400, "shape is four whole numbers, N,C,H,W, and type uint8 or float32")
        content = await self._body(request)
        count = shape[0] * shape[1] * shape[2] * shape[3]
        if len(content) != count * (4 if kind == "float32" else 1):
            raise AskError(400, f"images of {shape} in {kind} are not {len(content)} bytes")
        images = self.store.put(content)
        outputs = self.store.folder / f"outputs-{digest_of(images.encode() + digest.encode())}"
        task = {
            "kind": "run",
            "device": device_of(query.get("device")),
            "file": file,
            "images": str(self.store.path(images)),
            "outputs": str(outputs),
            "shape": shape,
            "type": kind,
        }
        try:
            answer = await self._do(task)
            return Response(outputs.read_bytes(), headers={"x-shape": ",".join(map(str, answer["shape"]))})
        finally:
            outputs.unlink(missing_ok=True)

    def _paths(self, digests: list[Any]) -> dict[str, str]:
        """Return where files are; those that are not here are named, for the client to send."""
        if not all(isinstance(digest, str) and is_digest(digest) for digest in digests):
            raise AskError(400, "a file is named by the SHA-256 of its bytes, in hexadecimal")
        found = {digest: self.store.path(digest) for digest in digests}
        missing = [digest for digest, path in found.items() if path is None]
        if missing:
            raise AskError(404, "these files are not here; send them", missing=missing)
        return {digest: str(path) for digest, path in found.items()}

    async def _body(self, request: Request, most: int | None = None) -> bytes:
        """Read a body within the limits of bytes and seconds, whatever its header says."""
        parts, size, most = [], 0, most or self.limits.file_bytes
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise AskError(413, f"at most {most} bytes are taken")
                    parts.append(part)
        except TimeoutError:
            raise AskError(408, f"the body did not come within {self.limits.body_s:.0f} s") from None
        return b"".join(parts)

    async def _do(self, task: Mapping[str, Any], seconds: float = 0.0) -> dict[str, Any]:
        """Do a task in a process of its own, when its turn comes."""
        if self._waiting > self.limits.waiting:
            raise AskError(503, "others are being measured; come again", retry_after=5)
        self._waiting += 1
        try:
            async with self._turn:
                started = time.monotonic()
                answer = await self._work(task, seconds + self.limits.task_s)
                _log.info("%s on %s: %.1f s", task["kind"], task["device"], time.monotonic() - started)
                return answer
        finally:
            self._waiting -= 1

    async def _work(self, task: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "netsmith.devices.agent.worker"]
        worker = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(limit_s):
                out, err = await worker.communicate(json.dumps(task).encode())
        except TimeoutError:
            raise AskError(400, f"the task took over {limit_s:.0f} s and was stopped") from None
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        last = (err.decode(errors="replace").strip().splitlines() or ["no message"])[-1][:2000]
        if worker.returncode == REFUSED:
            raise AskError(400, last)
        if worker.returncode != 0:
            _log.warning("a %s ended with status %s: %s", task["kind"], worker.returncode, last)
            raise AskError(400, f"the file broke its runtime, which ended with status {worker.returncode}")
        answer: dict[str, Any] = json.loads(out)
        return answer


class Gate:
    """Lets through who knows the token, before anything of a request's body is read."""

    def __init__(self, app: ASGIApp, token: str, limits: Limits) -> None:
        self._app, self._token, self._limits = app, token.encode(), limits
        self._refused: dict[str, list[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, b"Bearer " + self._token):
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("unknown", 0))[0]
        await self._refuse(address)(scope, receive, send)

    def _refuse(self, address: str) -> Response:
        now = time.monotonic()
        for other, times in list(self._refused.items()):
            recent = [at for at in times if now - at < self._limits.refusal_s]
            self._refused[other] = recent
            if not recent:
                del self._refused[other]
        times = self._refused.setdefault(address, [])
        if len(times) >= self._limits.refusals:
            return _error(429, "too many wrong tokens", retry_after=round(self._limits.refusal_s))
        times.append(now)
        _log.warning("a wrong token from %s", address)
        return _error(401, "the token is not this agent's")


def make_app(token: str, limits: Limits | None = None) -> ASGIApp:
    """Return the agent as an ASGI application that ``token`` opens."""
    limits = limits or Limits()
    agent = Agent(limits)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        agent.store.close()

    app = Starlette(
        routes=[
            Route("/v1/device", agent.device, methods=["GET"]),
            Route("/v1/files/{digest}", agent.file, methods=["HEAD", "PUT"]),
            Route("/v1/time", agent.time, methods=["POST"]),
            Route("/v1/run/{digest}", agent.run, methods=["POST"]),
            Route("/v1/{kind}/{digest}", agent.of_file, methods=["POST"]),
        ],
        exception_handlers={AskError: _answer_error, ClientDisconnect: _answer_nobody},
        lifespan=lifespan,
    )
    return Gate(app, token, limits)


def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AskError)
    return _error(error.status, str(error), **error.more)


def _answer_nobody(request: Request, error: Exception) -> Response:
    """Answer one who is gone; nobody reads it."""
    return _error(400, "the request ended before its end")


def _error(status: int, text: str, retry_after: int | None = None, **more: Any) -> Response:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return JSONResponse({"error": text, **more}, status, headers)


def serve(
    app: ASGIApp, host: str, port: int, *, certificate: str | None = None, key: str | None = None
) -> None:
    """Serve until stopped; over TLS where a certificate is given."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=64,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
    )
