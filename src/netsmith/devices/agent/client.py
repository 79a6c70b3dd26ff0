"""A device on another machine, through the agent that stands there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from netsmith.devices.agent.line import Answer, Line
from netsmith.devices.agent.store import digest_of
from netsmith.devices.device import Array, InputType, Layout, Precision, Run, parse
from netsmith.devices.measure import Latency
from netsmith.devices.memory import Footprint
from netsmith.devices.session import Session
from netsmith.errors import DeviceError

if TYPE_CHECKING:
    from torch import nn

PATIENCE_S = 300.0
_SENDINGS = 4  # of the files that an agent lacks: at first, and after each new start


class AgentDevice:
    """A runtime of the machine at ``address``; ``agents://`` speaks TLS, ``agent://`` does not.

    The token is in the variable ``NETSMITH_AGENT_TOKEN``, a certificate authority's file in
    ``NETSMITH_AGENT_CA``. An agent that is busy, gone or started again is asked again for ``patience_s``
    seconds; a measurement that was cut short leaves nothing behind, and is done anew.
    """

    def __init__(self, address: str, runtime: str, *, patience_s: float = PATIENCE_S) -> None:
        self.address, self._line = address, Line(address, patience_s)
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
        answer = self._line.ask("GET", "/v1/device", {"name": self._writer.name}).json()
        with self._doubting():
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
        floating: Collection[str] = (),
    ) -> bytes:
        """Write ``module`` here, in the format of the runtime there."""
        return self._writer.export(
            module,
            input_shape,
            input_type=input_type,
            metadata=metadata,
            calibration=calibration,
            floating=floating,
        )

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that a file takes."""
        answer = self._about("input", model)
        kinds: dict[str, InputType] = {"uint8": "uint8", "float32": "float32"}
        with self._doubting():
            channels, height, width = map(int, answer["shape"])
            return (channels, height, width), kinds[answer["type"]]

    def prepare(self, model: bytes, x: Array) -> Run:
        """Let ``x`` pass there once, and return what gives the outputs: it cannot be timed from here."""
        asked = {
            "device": self._writer.name,
            "shape": ",".join(map(str, x.shape)),
            "type": x.dtype.name,
        }
        content, path = np.ascontiguousarray(x).tobytes(), f"/v1/run/{digest_of(model)}"
        answer = self._with_files([model], lambda: self._line.ask("POST", path, asked, content))
        with self._doubting():
            shape = [int(size) for size in answer.shape.split(",")]
            outputs: Array = np.frombuffer(answer.content, np.float32).reshape(shape)
        return lambda: outputs

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Time exported files in turn there, under the protocol of every measurement."""
        asked = {
            "device": self._writer.name,
            "files": {name: digest_of(model) for name, model in files.items()},
            "reference": None if reference is None else digest_of(reference),
            "session": asdict(session),
        }
        body, limit_s = json.dumps(asked).encode(), 2 * session.limit_s
        held = [*files.values(), *([] if reference is None else [reference])]
        answer = self._with_files(
            held, lambda: self._line.ask("POST", "/v1/time", content=body, limit_s=limit_s)
        ).json()
        with self._doubting():
            return {name: Latency.from_dict(answer[name]) for name in files}

    def footprint(self, model: bytes) -> Footprint:
        """Return what a file took there in a process of its own."""
        answer = self._about("footprint", model)
        with self._doubting():
            return Footprint.of(model, answer)

    def _about(self, kind: str, model: bytes) -> dict[str, Any]:
        path, asked = f"/v1/{kind}/{digest_of(model)}", {"device": self._writer.name}
        return self._with_files([model], lambda: self._line.ask("POST", path, asked)).json()

    def _with_files(self, files: Sequence[bytes], ask: Callable[[], Answer]) -> Answer:
        """Ask, and send what the agent says it lacks."""
        held = {digest_of(model): model for model in files}
        for _ in range(_SENDINGS):
            answer = ask()
            if answer.status != 404:
                return answer
            missing = answer.json()["missing"]
            for digest in held.keys() & set(map(str, missing if isinstance(missing, list) else [])):
                self._line.ask("PUT", f"/v1/files/{digest}", content=held[digest])
        raise DeviceError(f"the agent at {self.address} loses the files that it is sent")

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Turn what goes wrong with an answer that is not as agreed into an error that says so."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DeviceError(
                f"the agent at {self.address} answers what was not asked ({type(error).__name__}: {error}); "
                "is it of this version of Netsmith?"
            ) from None
