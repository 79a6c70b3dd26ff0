"""Weights of few bits in a file that is as small as they are: whole codes side by side, across bytes.

A file is safetensors: ``codes/NAME`` and ``values/NAME`` of each coded weight, ``plain/NAME`` of every other
tensor, and JSON that says bits, shapes and kinds. What comes from outside is checked and never unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor

from netsmith.compress.quantizers import Codebook, Levels, checked_bits
from netsmith.errors import CompressionError

VERSION = 1
MAX_BYTES = 2**31  # a file over this is not one of ours
MAX_DIMENSIONS = 8
_KEY = "netsmith-packed"

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Coded:
    """A weight as codes 0..2^bits - 1 (int16, the weight's shape) and the float32 values they stand for.

    Of ``levels`` the value is ``values * (code - (2^(bits-1) - 1))``, with one step size for the weight (1,)
    or one a channel (C,); of a ``codebook`` it is ``values[code]``.
    """

    kind: Literal["levels", "codebook"]
    bits: int
    codes: Tensor
    values: Tensor

    @classmethod
    def of_levels(cls, weight: Tensor, levels: Levels, bits: int) -> Coded:
        """Return the nearest codes of :func:`quantizers.symmetric` levels."""
        if levels.low != -_middle(bits) or levels.high != _middle(bits):
            raise CompressionError(f"codes of {levels.low}..{levels.high} are not those of {bits} bits")
        codes = levels.codes(weight.detach()) + _middle(bits)
        return cls("levels", bits, codes, levels.scale.detach().flatten().float())

    @classmethod
    def of_codebook(cls, book: Codebook, bits: int) -> Coded:
        """Return the codes and centroids of :func:`quantizers.clustered`."""
        if len(book.centroids) > 2**bits:
            raise CompressionError(f"{len(book.centroids)} centroids need more than {bits} bits a code")
        return cls("codebook", bits, book.codes, book.centroids.detach().float())

    def weight(self) -> Tensor:
        """Return the float32 weight, in its shape."""
        if self.kind == "codebook":
            return self.values[self.codes.long()]
        scale = self.values.reshape(-1, *[1] * (self.codes.ndim - 1)) if self.codes.ndim else self.values[0]
        return scale * (self.codes - _middle(self.bits))

    @property
    def payload_bytes(self) -> int:
        """How many bytes codes and values take in a file, without the file's header."""
        return packed_bytes(self.codes.numel(), self.bits) + 4 * self.values.numel()


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes that ``count`` codes of ``bits`` bits take: ceil(count * bits / 8)."""
    return -(-count * bits // 8)


def pack_codes(codes: npt.NDArray[Any], bits: int) -> Bytes:
    """Return whole numbers 0..2^bits - 1 of any shape as bytes, lowest bit first, zeros behind the last.

    Raises :class:`CompressionError` on a number that needs more bits. Bits are 1..8.
    """
    checked_bits(bits)
    flat = np.asarray(codes).reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= 2**bits):
        raise CompressionError(
            f"codes of {bits} bits are 0..{2**bits - 1}; got {flat.min()}..{flat.max()}. Use more bits"
        )
    digits = (flat.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(digits.reshape(-1), bitorder="little")


def unpack_codes(packed: Bytes, bits: int, count: int) -> npt.NDArray[np.int16]:
    """Return the ``count`` codes (N,) that :func:`pack_codes` packed.

    Raises :class:`CompressionError` where the bytes are not as many as they take, or no zeros follow.
    """
    checked_bits(bits)
    if count < 0 or packed.size != packed_bytes(count, bits):
        raise CompressionError(
            f"{count} codes of {bits} bits take {packed_bytes(max(count, 0), bits)} bytes; got {packed.size}"
        )
    digits = np.unpackbits(packed, bitorder="little")
    if digits[count * bits :].any():
        raise CompressionError("there is something behind the last code; the packed weights are damaged")
    places = (1 << np.arange(bits)).astype(np.int16)
    codes: npt.NDArray[np.int16] = digits[: count * bits].reshape(count, bits) @ places
    return codes


def pack(state: Mapping[str, Tensor], coded: Mapping[str, Coded]) -> bytes:
    """Return a file of a module's ``state_dict``, the weights named in ``coded`` by their codes.

    Raises :class:`CompressionError` where a name or a shape is not in ``state``.
    """
    for name, weight in coded.items():
        shape = list(state[name].shape) if name in state else None
        if shape != list(weight.codes.shape):
            raise CompressionError(
                f"the coded weight {name!r} has shape {list(weight.codes.shape)}; the module's has {shape}"
            )
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in coded:
            packed = pack_codes(coded[name].codes.cpu().numpy(), coded[name].bits)
            tensors[f"codes/{name}"] = torch.from_numpy(packed)
            tensors[f"values/{name}"] = coded[name].values.cpu().contiguous().clone()
        else:
            tensors[f"plain/{name}"] = tensor.detach().cpu().contiguous().clone()
    described = {
        name: {"kind": weight.kind, "bits": weight.bits, "shape": list(weight.codes.shape)}
        for name, weight in coded.items()
    }
    header = {"version": VERSION, "coded": described, "digest": _digest(tensors)}
    return write_safetensors(tensors, {_KEY: json.dumps(header)})


def unpack(content: bytes) -> tuple[dict[str, Coded], dict[str, Tensor]]:
    """Return the coded weights and the plain tensors of a file that :func:`pack` made, by their names.

    Raises :class:`CompressionError` for one that is too large, damaged, or of another version.
    """
    if len(content) > MAX_BYTES:
        raise CompressionError(
            f"packed weights of {len(content)} bytes are not read; at most {MAX_BYTES} are"
        )
    try:
        header = _header(content)
        if header["version"] != VERSION:
            raise CompressionError(
                f"the packed weights have version {header['version']!r:.20}; version {VERSION} is read here. "
                "Use the Netsmith that wrote them"
            )
        tensors = read_safetensors(content)
        if header["digest"] != _digest(tensors):
            raise ValueError("its tensors are not those that were written")
        coded = {name: _coded(name, said, tensors) for name, said in header["coded"].items()}
        if not all(name.startswith("plain/") for name in tensors):
            raise ValueError("it holds tensors of which nothing is said")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CompressionError(
            f"the packed weights are damaged: {error!s:.200}. Write them anew, or restore a copy"
        ) from error
    return coded, {name.removeprefix("plain/"): tensor for name, tensor in tensors.items()}


def unpacked_state(content: bytes) -> dict[str, Tensor]:
    """Return the ``state_dict`` that a packed file stands for, coded weights as float32 tensors."""
    coded, plain = unpack(content)
    return plain | {name: weight.weight() for name, weight in coded.items()}


def _header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= len(content) - 8:
        raise ValueError("it is cut short")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
    if not isinstance(header, dict) or not isinstance(header["coded"], dict):
        raise ValueError("its description is not a JSON object")
    return {name: header[name] for name in ("version", "coded", "digest")}


def _coded(name: str, said: Mapping[str, Any], tensors: dict[str, Tensor]) -> Coded:
    """Take the weight's tensors out of ``tensors`` and return it, if all that is said of it is so."""
    packed, values = tensors.pop(f"codes/{name}"), tensors.pop(f"values/{name}")
    kind, bits, shape = said["kind"], checked_bits(said["bits"]), said["shape"]
    plausible = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS
    if not plausible or not all(type(size) is int and 0 < size < 2**31 for size in shape):
        raise ValueError(f"{name!r} has no shape of at most {MAX_DIMENSIONS} positive sizes")
    if packed.dtype != torch.uint8 or packed.ndim != 1 or values.dtype != torch.float32 or values.ndim != 1:
        raise ValueError(f"the codes of {name!r} are not bytes, or its values not float32")
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name!r} has values that are not finite")
    # Before memory is taken for them: the count is bounded by the bytes that are there.
    codes = torch.from_numpy(unpack_codes(packed.numpy(), bits, math.prod(shape))).reshape(shape)
    if kind == "levels":
        allowed, most = len(values) in (1, *shape[:1]), 2 * _middle(bits)
    elif kind == "codebook":
        allowed, most = 1 <= len(values) <= 2**bits, len(values) - 1
    else:
        raise ValueError(f"{name!r} is of an unknown kind")
    if not allowed or int(codes.max()) > most:
        raise ValueError(f"the codes of {name!r} do not fit its {len(values)} values")
    return Coded(kind, bits, codes, values)


def _middle(bits: int) -> int:
    """Return the code of 0 among symmetric levels; 2..8 bits have any."""
    middle: int = 2 ** (checked_bits(bits, least=2) - 1) - 1
    return middle


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of names and bytes; safetensors itself notices no flipped bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)};".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
