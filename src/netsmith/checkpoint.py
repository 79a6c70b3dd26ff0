"""Checkpoints: tensors and JSON in one safetensors file, written whole or not at all, never unpickled.

:func:`save` and :func:`load` hold a flat dictionary of tensors beside JSON. :func:`pack` and
:func:`unpack` turn any nested state, an optimizer's included, into that pair and back.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors
from torch import nn

from netsmith.errors import FolderError

VERSION = 1
MAX_BYTES = 8 * 2**30  # a file over this is not one of ours, and is not read into memory
_KEY = "netsmith"


def save(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``meta`` (JSON-ready values) to ``path``, atomically and durably.

    The file appears whole under its name or, with what stood there before left as it was, a
    :class:`FolderError` says why not: a full disk, a folder that cannot be written.
    """
    plain = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    header = {"version": VERSION, "meta": dict(meta), "digest": _digest(plain)}
    content = write_safetensors(plain, {_KEY: json.dumps(header)})
    # A fixed name: what a killed process leaves behind is overwritten by the next save.
    temporary = path.with_name(path.name + ".tmp")
    try:
        _write_durably(temporary, content)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise FolderError(_why_not_written(path, len(content), error)) from error


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the JSON values that :func:`save` wrote to ``path``.

    Raises :class:`FolderError` for a file that is missing, damaged, or of another version.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BYTES:
            raise FolderError(
                f"the checkpoint {path} has {size_bytes} bytes; at most {MAX_BYTES} are read. "
                "Netsmith did not write it: remove it"
            )
        content = path.read_bytes()
    except OSError as error:
        raise FolderError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    try:
        header = _read_header(content)
        if header["version"] != VERSION:
            raise FolderError(
                f"the checkpoint {path} has version {header['version']!r:.20}; this Netsmith reads version "
                f"{VERSION}. Use the Netsmith that wrote it, or remove it to begin again"
            )
        tensors = read_safetensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FolderError(_damaged(path, str(error))) from error
    if header["digest"] != _digest(tensors):
        raise FolderError(_damaged(path, "its tensors are not those that were written"))
    return tensors, header["meta"]


def pack(state: Any, prefix: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the tensors of a nested ``state``, named below ``prefix``, and the rest as JSON-ready values.

    Dictionaries (with string or int keys), lists, tuples, numbers, text, None and tensors may be nested
    in any way. Raises ``TypeError`` on anything else.
    """
    tensors: dict[str, torch.Tensor] = {}

    def walk(value: Any, name: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[name] = value
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": [[_plain_key(key), walk(item, f"{name}/{key}")] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [walk(item, f"{name}/{i}") for i, item in enumerate(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"a checkpoint cannot hold {name} of type {type(value).__name__}")

    return tensors, walk(state, prefix)


def unpack(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the state that :func:`pack` took apart. Raises :class:`FolderError` where the two do not fit."""
    if not isinstance(tree, Mapping):
        return tree
    try:
        ((kind, value),) = tree.items()
        if kind == "tensor":
            return tensors[value]
        if kind == "dict":
            return {key: unpack(item, tensors) for key, item in value}
        if kind in ("list", "tuple"):
            items = [unpack(item, tensors) for item in value]
            return tuple(items) if kind == "tuple" else items
    except (KeyError, ValueError, TypeError) as error:
        raise FolderError(f"the checkpoint's tensors and its description do not fit: {error}") from error
    raise FolderError(f"the checkpoint describes an unknown kind of value, {kind!r:.50}")


def load_module(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy ``tensors`` (a ``state_dict``) into ``module``, every one and no other.

    Raises :class:`FolderError` where names or shapes differ. Memory layout and device stay the module's.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise FolderError(f"the checkpoint's weights do not fit the module: {error!s:.500}") from error


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the ``state`` that ``optimizer.state_dict()`` gave, each tensor laid out as its parameter.

    The layout matters: the same numbers in another order take other vector instructions, and then a resumed
    training ends in other last bits. Raises :class:`FolderError` where the state is another optimizer's.
    """
    try:
        optimizer.load_state_dict(dict(state))
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.ndim > 0:
                    if value.shape != parameter.shape:
                        raise ValueError(f"{name} has shape {list(value.shape)}, not {list(parameter.shape)}")
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FolderError(f"the checkpoint's optimizer state does not fit: {error!s:.500}") from error


def _plain_key(key: Any) -> str | int:
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise TypeError(f"a checkpoint's keys are text or ints; got {key!r:.50}")
    return key


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of names, types, shapes and bytes; safetensors itself notices no flipped bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= len(content) - 8:
        raise ValueError("it is cut short")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
    if not isinstance(header, dict) or not isinstance(header["meta"], dict):
        raise ValueError("its description is not a JSON object")
    return {name: header[name] for name in ("version", "meta", "digest")}


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; only POSIX opens folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the error that led here is the one to report
        return


def _why_not_written(path: Path, size_bytes: int, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    reason = "the disk, or the quota on it, is full" if full else (error.strerror or str(error))
    advice = "free some space" if full else "make the folder writable"
    return (
        f"cannot write the checkpoint {path} ({size_bytes} bytes): {reason}; the one before it is intact. "
        f"{advice.capitalize()} and start again: the work goes on from there"
    )


def _damaged(path: Path, reason: str) -> str:
    return f"the checkpoint {path} is damaged: {reason:.300}. Remove it to begin again, or restore a copy"
