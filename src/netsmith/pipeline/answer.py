"""The answer of a design, read from its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from torch import nn

from netsmith.arch import Arch
from netsmith.compress.slicing import resized
from netsmith.data.decode import read_pixels
from netsmith.data.sources.part import BadImageError
from netsmith.devices.device import parse
from netsmith.errors import CompressionError, DataError, ExportError, FolderError
from netsmith.export.module import OnnxModule
from netsmith.nn.preprocess import Normalize, Pixels
from netsmith.pipeline.described import needs_base, network_of
from netsmith.pipeline.routing.explain import Explanation, explain
from netsmith.plan import Block, Plan
from netsmith.supernet.routed_network import RoutedNetwork

MAX_JSON_BYTES, MAX_WEIGHT_BYTES = 64 * 2**20, 4 * 2**30
QUANTIZED = "quantized.onnx"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the exported file says of an image: the probability of every label, and why where asked."""

    image: Path
    probabilities: dict[str, float]
    explanation: Explanation | None = None

    @property
    def label(self) -> str:
        """The most probable label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the most probable label, 0..1."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Design:
    """A finished design. ``result`` holds every figure; the properties are those used most.

    ``base`` is the network of the user's own that it is what is left of, if it is.
    """

    folder: Path
    result: dict[str, Any]
    base: nn.Module | None = field(default=None, repr=False)

    @classmethod
    def load(cls, folder: str | Path, module: nn.Module | None = None) -> Design:
        """Read a finished design; ``module`` is the network that was compressed, if it was one's own.

        Raises :class:`FolderError` where the folder holds no design.
        """
        return cls(Path(folder), read_json(Path(folder) / "result.json"), module)

    @property
    def arch(self) -> Arch:
        """The arch that was chosen."""
        return Arch.from_dict(self.result["arch"])

    @property
    def accuracy(self) -> float:
        """The share of the test part that is classified right, 0..1."""
        return float(self.result["accuracy"])

    @property
    def latency_ms(self) -> float:
        """The measured median of one image on the device, in milliseconds; the mean where paths differ."""
        return float(self.result["latency_ms"])

    @property
    def budget_met(self) -> bool:
        """Whether every limit was kept, by measurement."""
        return bool(self.result["budget_met"])

    @property
    def front(self) -> list[dict[str, Any]]:
        """The measured archs that nothing measured beats in both error and latency, fastest first."""
        return list(self.result["front"])

    @cached_property
    def module(self) -> nn.Module:
        """The trained network with its preprocessing: uint8 pixels (N, C, H, W) -> logits (N, classes)."""
        described = read_json(self.folder / "arch.json")
        return nn.Sequential(Normalize(described["mean"], described["std"]), self.network).eval()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the network; none of a grown one, and of what is left of one of the user's own."""
        return Plan.from_list(read_json(self.folder / "arch.json")["plan"]).blocks

    @cached_property
    def network(self) -> nn.Module:
        """The trained network alone: normalised images (N, C, H, W) -> logits (N, classes)."""
        path = self.folder / "model.safetensors"
        described = read_json(self.folder / "arch.json")
        if self.base is None and needs_base(described):
            raise FolderError(
                f"{self.folder} is what is left of a network of your own, whose Python is not in it. Give "
                "that network too, netsmith.load(folder, module), or use the exported file"
            )
        try:
            if path.stat().st_size > MAX_WEIGHT_BYTES:
                raise FolderError(f"{path} is over {MAX_WEIGHT_BYTES} bytes; Netsmith did not write it")
            weights = read_safetensors(path.read_bytes())
            if self.base is not None and "grown" not in described:
                return resized(self.base, weights).eval()
            network = network_of(described, self.base)
            network.load_state_dict(weights)
        except (OSError, SafetensorError, RuntimeError, CompressionError) as error:
            raise FolderError(f"{path} does not hold the weights of arch.json: {error}") from None
        return network.eval()

    @cached_property
    def quantized(self) -> nn.Module:
        """What an int8 file computes: normalised images (N, C, H, W) -> logits (N, classes), in evaluation.

        Images are rounded to the pixels that they are of, and all else where the file rounds; the runtime may
        break ties the other way, which moves outputs by a step or two of the last rounding. No gradients
        pass. Raises :class:`FolderError` where the design's device is not one of int8.
        """
        path, described = self.folder / QUANTIZED, read_json(self.folder / "arch.json")
        path = path if path.exists() else self.exported
        if "precision=int8" not in str(self.result["device"]) or path.suffix != ".onnx":
            raise FolderError(f"{self.folder} holds no int8 file as ONNX; quantise by --precision mixed")
        try:
            computes = OnnxModule(path.read_bytes(), quantized=True)
        except (OSError, ExportError) as error:
            raise FolderError(f"cannot read {path}: {error}") from None
        module = nn.Sequential(Pixels(described["mean"], described["std"]), computes)
        return module.requires_grad_(False).eval()

    @property
    def static_network(self) -> nn.Module:
        """The trained network where it is one for all images. Raises :class:`FolderError` where it is not."""
        network = self.network
        if isinstance(network, RoutedNetwork):
            raise FolderError(
                f"the network of {self.folder} takes each image along a path of its own, which this cannot "
                "take; name a design by another strategy than 'instance'"
            )
        return network

    @property
    def exported(self) -> Path:
        """The exported file, in the format of the device's runtime."""
        return self.folder / Path(str(self.result["exported"])).name

    def export(self, path: str | Path) -> Path:
        """Copy the exported file to ``path``."""
        return Path(shutil.copyfile(self.exported, path))

    def predict(self, images: Sequence[str | Path], *, explained: bool = False) -> list[Prediction]:
        """Classify image files with the exported file in the device's runtime.

        Where it is to be ``explained``, each prediction says along which path the image went, and what that
        takes. Raises :class:`netsmith.errors.DataError` for a file that is not an image.
        """
        labels = read_json(self.folder / "labels.json")["labels"]
        device, model = parse(str(self.result["device"])), self.exported.read_bytes()
        described = read_json(self.folder / "arch.json")
        shape = tuple(described["input_shape"])
        predictions = []
        for image in images:
            try:
                pixels = read_pixels(Path(image), shape)
            except BadImageError as error:
                known = Path(image).is_file()
                raise DataError(f"{image}: {error if known else 'there is no such file'}") from error
            logits = device.prepare(model, pixels[None])()[0]
            shares = np.exp(logits - logits.max())
            pairs = zip(labels, (shares / shares.sum()).tolist(), strict=True)
            why = explain(self.result, described, device, model, pixels[None]) if explained else None
            predictions.append(Prediction(Path(image), dict(pairs), why))
        return predictions


def read_json(path: Path) -> Any:
    """Read one of a design's JSON files. Raises :class:`FolderError` where it is missing or damaged."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FolderError(f"{path} is over {MAX_JSON_BYTES} bytes; Netsmith did not write it")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(
            f"{path.parent} holds no {path.name}: there is no finished design. "
            f"Run `netsmith design ... --out {path.parent}` to its end first"
        ) from None
    except (OSError, ValueError) as error:
        raise FolderError(f"cannot read {path}: {error}") from None
