"""A device on another machine, through the agent that stands there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from netsmith.devices.agent.store import digest_of
from netsmith.devices.device import Array, InputType, Layout, Precision, Run, parse
from netsmith.devices.measure import Latency
from netsmith.devices.memory import Footprint
from netsmith.devices.session import Session
from netsmith.errors import DeviceError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn

TOKEN, AUTHORITY = "NETSMITH_AGENT_TOKEN", "NETSMITH_AGENT_CA"
SCHEMES = {"agent": "http", "agents": "https"}
_PATIENCE_S = 300.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_ANSWER_S = 30.0  # beyond what a task may take


class AgentDevice:
    """A runtime of the machine at ``address``; ``agents://`` speaks TLS, ``agent://`` does not.

    The token is in the variable ``NETSMITH_AGENT_TOKEN``, a certificate authority's file in
    ``NETSMITH_AGENT_CA``. An agent that is busy, gone or started again is asked again for ``patience_s``
    seconds; a measurement that was cut short leaves nothing behind, and is done anew.
    """

    def __init__(self, address: str, runtime: str, *, patience_s: float = _PATIENCE_S) -> None:
        self.address, self._patience_s = address, patience_s
        self._writer = parse(runtime, here=False)

    @classmethod
    def from_address(cls, text: str) -> AgentDevice:
        """Make it from text such as ``agent://pi.local:7070?runtime=litert:threads=2``."""
        parts = urlsplit(text)
        asked = parse_qs(parts.query)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.path not in ("", "/") or port is None or not parts.hostname or set(asked) != {"runtime"}:
            raise DeviceError(
                f"an agent's device is agent://HOST:PORT?runtime=DEVICE, such as "
                f"agent://pi.local:7070?runtime=litert:threads=2; got '{text}'"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{parts.scheme}://{host}:{port}", asked["runtime"][0])

    @property
    def name(self) -> str:
        """Such as ``agent://pi.local:7070?runtime=litert:threads=2``."""
        return f"{self.address}?runtime={self._writer.name}"

    @property
    def suffix(self) -> str:
        """The ending of the files that the runtime reads."""
        return self._writer.suffix

    @property
    def layout(self) -> Layout:
        """The order of an image's dimensions in these files."""
        return self._writer.layout

    @property
    def precision(self) -> Precision:
        """What weights and activations are stored in."""
        return self._writer.precision

    def fingerprint(self) -> dict[str, str]:
        """What latencies on the agent's machine depend on, as it says."""
        return dict(self._described)

    @cached_property
    def _described(self) -> dict[str, str]:
        answer = self._ask("GET", "/v1/device", {"name": self._writer.name}).json()
        return {str(key): str(value) for key, value in answer["fingerprint"].items()}

    def clock(self) -> int:
        """Wall time of this machine in nanoseconds; latencies are by that of the agent's."""
        return time.perf_counter_ns()

    def export(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        input_type: InputType = "float32",
        metadata: Mapping[str, str] | None = None,
        calibration: Array | None = None,
    ) -> bytes:
        """Write ``module`` here, in the format of the runtime there."""
        return self._writer.export(
            module, input_shape, input_type=input_type, metadata=metadata, calibration=calibration
        )

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that a file takes."""
        answer = self._about("input", model)
        channels, height, width = answer["shape"]
        return (channels, height, width), answer["type"]

    def prepare(self, model: bytes, x: Array) -> Run:
        """Let ``x`` pass there once, and return what gives the outputs: it cannot be timed from here."""
        digest = digest_of(model)
        asked = {
            "device": self._writer.name,
            "shape": ",".join(map(str, x.shape)),
            "type": x.dtype.name,
        }
        content = np.ascontiguousarray(x).tobytes()
        answer = self._with_files(
            {digest: model}, lambda: self._ask("POST", f"/v1/run/{digest}", asked, content)
        )
        shape = [int(size) for size in answer.headers["x-shape"].split(",")]
        outputs: Array = np.frombuffer(answer.content, np.float32).reshape(shape)
        return lambda: outputs

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Time exported files in turn there, under the protocol of every measurement."""
        held = {digest_of(model): model for model in [*files.values(), *([reference] if reference else [])]}
        asked = {
            "device": self._writer.name,
            "files": {name: digest_of(model) for name, model in files.items()},
            "reference": None if reference is None else digest_of(reference),
            "session": asdict(session),
        }
        body = json.dumps(asked).encode()
        answer = self._with_files(
            held, lambda: self._ask("POST", "/v1/time", {}, body, limit_s=session.limit_s)
        ).json()
        return {name: Latency.from_dict(answer[name]) for name in files}

    def footprint(self, model: bytes) -> Footprint:
        """Return what a file took there in a process of its own."""
        return Footprint(**self._about("footprint", model))

    def _about(self, kind: str, model: bytes) -> dict[str, Any]:
        digest, asked = digest_of(model), {"device": self._writer.name}
        answer = self._with_files({digest: model}, lambda: self._ask("POST", f"/v1/{kind}/{digest}", asked))
        found: dict[str, Any] = answer.json()
        return found

    def _with_files(self, files: Mapping[str, bytes], ask: Callable[[], Any]) -> Any:
        """Ask, and send what the agent says it lacks, as it does at first and after a new start."""
        for _ in range(4):
            answer = ask()
            if answer.status_code != 404:
                return answer
            for digest in answer.json()["missing"]:
                self._ask("PUT", f"/v1/files/{digest}", {}, files[digest])
        raise DeviceError(f"the agent at {self.address} loses the files that it is sent")

    def _ask(
        self,
        method: str,
        path: str,
        asked: Mapping[str, str],
        content: bytes = b"",
        limit_s: float = 0.0,
    ) -> Any:
        """Ask until there is an answer; return it, or a 404 that names missing files.

        Raises :class:`DeviceError` on a refusal, and where there is no answer within the patience.
        """
        httpx = _httpx()
        until, tries = time.monotonic() + self._patience_s, 0
        while True:
            try:
                answer = self._client.request(
                    method, path, params=asked, content=content, timeout=limit_s * 2 + _ANSWER_S
                )
                trouble, pause = f"it answered {answer.status_code}", answer.headers.get("retry-after")
            except httpx.TransportError as error:
                answer, trouble, pause = None, str(error) or type(error).__name__, None
            if answer is not None and answer.status_code not in (408, 429, 500, 502, 503, 504):
                return self._checked(answer)
            wait_s = float(pause) if pause else _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
            if time.monotonic() + wait_s > until:
                raise DeviceError(
                    f"no answer from the agent at {self.address} for {self._patience_s:.0f} s ({trouble}). "
                    "Start it there with `netsmith agent`, and run the same command again"
                )
            time.sleep(wait_s)
            tries += 1

    def _checked(self, answer: Any) -> Any:
        if answer.status_code == 401:
            raise DeviceError(
                f"the agent at {self.address} refused the token; set {TOKEN} to the text of its token file"
            )
        if answer.status_code == 404 and "missing" in answer.json():
            return answer
        if answer.status_code != 200:
            raise DeviceError(f"the agent at {self.address} says: {answer.json().get('error', answer.text)}")
        return answer

    @cached_property
    def _client(self) -> Any:
        token = os.environ.get(TOKEN)
        if not token:
            raise DeviceError(
                f"the agent at {self.address} wants a token; set {TOKEN} to that of its token file"
            )
        scheme, _, rest = self.address.partition("://")
        verify: Any = True
        if os.environ.get(AUTHORITY):
            import ssl

            verify = ssl.create_default_context(cafile=os.environ[AUTHORITY])
        return _httpx().Client(
            base_url=f"{SCHEMES[scheme]}://{rest}",
            headers={"authorization": f"Bearer {token.strip()}"},
            verify=verify,
        )


def _httpx() -> Any:
    try:
        import httpx2
    except ImportError:
        raise MissingExtraError("httpx2", "agent", "a device of another machine") from None
    return httpx2
