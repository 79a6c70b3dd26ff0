"""A device of known latencies, which runs real files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from torch import nn

from netsmith.devices.device import (
    Array,
    InputType,
    Layout,
    Precision,
    Run,
    check_options,
    read_precision,
)
from netsmith.devices.measure import Latency
from netsmith.devices.memory import Footprint
from netsmith.devices.onnx_runtime import OnnxRuntime, installed
from netsmith.devices.session import Session, time_here
from netsmith.errors import DeviceError

# What a multiply-add of a depthwise convolution costs, over one of any other, by kernel.
_COSTS = {
    "7": {3: 3.0, 5: 2.0, 7: 0.5},
    "3": {3: 0.5, 5: 2.0, 7: 6.0},
}
_CALL_MS, _CONVOLUTION_MS, _IF_MS, _MACS_A_MS = 0.004, 0.002, 0.003, 2e7
_COPIES = 3  # of a file, in memory while it runs


@dataclass
class FakeDevice:
    """A device with a clock of its own, on which latency and memory follow from the file alone.

    A pass returns real outputs (by ONNX Runtime) and moves :meth:`clock` by :meth:`cost_ms`.
    In a file that routes images each takes what its own path costs, every ``If`` included.
    ``likes`` is the depthwise kernel that is cheap on it, "3" or "7": a search that is told the device finds
    different archs on the two. ``noise`` is the relative spread of a pass, drawn from ``seed``.
    """

    likes: str = "3"
    noise: float = 0.0
    seed: int = 0
    precision: Precision = "float32"
    passes: int = field(default=0, init=False)
    _now_ns: int = field(default=0, init=False, repr=False)
    _sessions: dict[bytes, Any] = field(default_factory=dict, init=False, repr=False)
    _of_paths: dict[bytes, float] = field(default_factory=dict, init=False, repr=False)

    suffix: ClassVar[str] = ".onnx"
    layout: ClassVar[Layout] = "NCHW"

    def __post_init__(self) -> None:
        if self.likes not in _COSTS:
            raise DeviceError(f"the fake device likes kernels 3 or 7; got '{self.likes}'")
        self._random = np.random.default_rng(self.seed)
        self._runtime = OnnxRuntime(precision=self.precision)

    @classmethod
    def from_options(cls, options: Mapping[str, str], *, here: bool = True) -> FakeDevice:
        """Make it from the options of a device's name: ``likes``, ``precision``."""
        check_options("fake", options, ("likes", "precision"))
        return cls(options.get("likes", "3"), precision=read_precision("fake", options))

    @property
    def name(self) -> str:
        """Such as ``fake:likes=7``."""
        return f"fake:likes={self.likes}" + (",precision=int8" if self.precision == "int8" else "")

    @property
    def routes(self) -> bool:
        """Whether it runs files that route images along paths, which are written in float32 alone."""
        return self._runtime.routes

    def fingerprint(self) -> dict[str, str]:
        """The same on every machine."""
        return {
            "processor": f"fake, likes {self.likes}x{self.likes}",
            "runtime": "fake",
            "version": "1",
            "threads": "1",
            "precision": self.precision,
            "system": "any",
        }

    def clock(self) -> int:
        """Nanoseconds that the passes so far took."""
        return self._now_ns

    def export(self, module: nn.Module, input_shape: tuple[int, int, int], **options: Any) -> bytes:
        """Write the file that ONNX Runtime takes."""
        return self._runtime.export(module, input_shape, **options)

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that a file takes."""
        return self._runtime.input_of(model)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Return a pass that gives the outputs for ``x`` and takes ``len(x)`` times the cost."""
        return self.prepare_each(model, [x])[0]

    def prepare_each(self, model: bytes, images: Sequence[Array], output: str | None = None) -> list[Run]:
        """Load a file once, and return a pass over each of ``images``, (N, C, H, W)."""
        outputs = [run() for run in self._runtime.prepare_each(model, images, output)]
        return [self._run(model, x, given) for x, given in zip(images, outputs, strict=True)]

    def _run(self, model: bytes, x: Array, output: Array) -> Run:
        cost_ns: list[float] = []  # found when it is first needed: a path's takes a while

        def run() -> Array:
            if not cost_ns:
                cost_ns.append(self._pass_ms(model, x) * 1e6)
            factor = np.exp(self._random.normal(0, self.noise)) if self.noise else 1.0
            self._now_ns += round(cost_ns[0] * factor)
            self.passes += 1
            return output

        return run

    def _pass_ms(self, model: bytes, x: Array) -> float:
        """Return what a pass over ``x`` costs."""
        if not any(node.op_type == "If" for node in onnx.load_model_from_string(model).graph.node):
            return self.cost_ms(model) * len(x)
        return sum(self._path_ms(model, x[i : i + 1]) for i in range(len(x)))

    def _path_ms(self, model: bytes, image: Array) -> float:
        """Return what one image costs in a file that routes it; of one path it is found once."""
        digest = blake2b(model).digest()
        if digest not in self._sessions:
            self._sessions = {digest: _session(model)}  # of one file: a session holds its weights
        session = self._sessions[digest]
        path = digest + session.run(["choices"], {session.get_inputs()[0].name: image})[0].tobytes()
        if path not in self._of_paths:
            self._of_paths[path] = _CALL_MS + sum(map(self._node_ms, _executed(model, image)))
        return self._of_paths[path]

    def _node_ms(self, node: Mapping[str, Any]) -> float:
        """Return what a node costs that ran, by its shapes."""
        if node["op_name"] == "If":
            return _IF_MS
        (weights,) = node["input_type_shape"][1].values()
        (made,) = node["output_type_shape"][0].values()
        return self._convolution_ms(weights, made[2] * made[3])

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Time exported files in turn by this device's clock."""
        return time_here(self, files, reference, session)

    def footprint(self, model: bytes) -> Footprint:
        """Return what a file takes, which follows from its size: no process is started."""
        return Footprint(_COPIES * len(model), len(model), _CALL_MS)

    def cost_ms(self, model: bytes) -> float:
        """Return the latency of a file: a call, and every convolution by its multiply-adds and kernel.

        Convolutions in int8 take half as long for their multiply-adds.
        """
        loaded = onnx.load_model_from_string(model)
        graph = (onnx.shape_inference.infer_shapes(loaded) if self.precision == "int8" else loaded).graph
        weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        stored = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
        shapes = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*graph.value_info, *graph.output)
        }
        cost = _CALL_MS
        for node in graph.node:
            if node.op_type != "Conv":
                continue
            height, width = shapes[node.output[0]][2:]
            source = node.input[1]
            dims, speed = weights[stored.get(source, source)], 2 if source in stored else 1
            cost += self._convolution_ms(dims, height * width, speed)
        return cost

    def _convolution_ms(self, weights: Sequence[int], places: int, speed: int = 1) -> float:
        out, inner, kernel, _ = weights
        depthwise = inner == 1 and out > 1 and kernel > 1
        factor = _COSTS[self.likes].get(kernel, 1.0) if depthwise else 1.0
        return _CONVOLUTION_MS + factor * out * inner * kernel * kernel * places / _MACS_A_MS / speed


def _executed(model: bytes, image: Array) -> Iterator[dict[str, Any]]:
    """Yield what ONNX Runtime's own profile tells of every convolution and ``If`` that one image runs."""
    with tempfile.TemporaryDirectory(prefix="netsmith-") as folder:
        session = _session(model, str(Path(folder) / "profile"))
        session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    for event in events:
        told = event.get("args", {})
        if told.get("op_name") in ("Conv", "If") and event["name"].endswith("kernel_time"):
            yield told


def _session(model: bytes, profile: str | None = None) -> Any:
    """Load a file with its graph as it was written, so that a profile names what is in it."""
    runtime = installed("fake")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
