"""Networks of the user's own: Python that makes one, weights as safetensors, and ONNX files.

Python runs only where its owner names it on the command line; nothing that a folder or a file holds is run.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from torch import nn

from netsmith.errors import CompressionError, ExportError, nearest
from netsmith.export.inputs import MAX_BYTES
from netsmith.export.module import OnnxModule

_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_MOST_NAMED = 8


def is_own(name: str) -> bool:
    """Whether a base's name is of a network of the user's own: an ONNX file, or Python that makes one."""
    return not Path(name).is_dir() and (is_file(name) or ":" in name or _suffix(name) in (".py", *_PICKLED))


def is_file(name: str) -> bool:
    """Whether it is an ONNX file."""
    return _suffix(name) == ".onnx"


def read_network(name: str) -> OnnxModule:
    """Read an ONNX file as a network that can be trained. Raises :class:`CompressionError`."""
    path = Path(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CompressionError(f"{path} is over {MAX_BYTES} bytes; at most so many are read")
        return OnnxModule(path.read_bytes())
    except OSError as error:
        raise CompressionError(f"cannot read {path}: {error.strerror or error}") from None
    except ExportError as error:
        raise CompressionError(f"{path} is not understood: {error}") from None


def named_network(name: str, weights: Path | None) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network that a command line names, and the settings that follow from it.

    This runs the user's own Python where it names that. Raises :class:`CompressionError`.
    """
    if not is_file(name):
        path = {} if weights is None else {"base_weights": str(weights)}
        return make_network(name, weights), path
    if weights is not None:
        raise CompressionError(f"{name} holds its weights; leave --weights out")
    module = read_network(name)
    (_, height, width), kind = module.takes
    size = {"image_size": height} if height == width else {}
    return module, {**size, **({"std": 1 / 255} if kind == "uint8" else {})}


def place_of(name: str) -> Path:
    """Return the folder of what is left of a network of one's own, where none is given."""
    place = name.rpartition(":")[0] or name
    stem = Path(place).stem if _suffix(place) in (".py", ".onnx") else place.rpartition(".")[2]
    return Path("runs") / f"{stem}-compressed"


def make_network(name: str, weights: Path | None) -> nn.Module:
    """Make the network that ``FILE.py:NAME`` or ``package.module:NAME`` names, and give it its weights.

    NAME is called without arguments and returns a module. This runs the user's own Python. Raises
    :class:`CompressionError`.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise CompressionError(
            f"a network of your own is FILE.py:NAME, package.module:NAME or FILE.onnx; got '{name}'"
            + (f". {_how_to_convert(Path(name))}" if _suffix(name) in _PICKLED else "")
        )
    try:
        make = getattr(_imported(place), attribute, None)
        if not callable(make):
            raise CompressionError(f"{place} has no function or class '{attribute}' that makes a network")
        module = make()
    except CompressionError:
        raise
    except Exception as error:  # whatever foreign code raises
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise CompressionError(
            f"'{name}' failed in {where.filename}, line {where.lineno}: "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error
    if not isinstance(module, nn.Module):
        raise CompressionError(f"'{name}' returned {type(module).__name__}, and not a torch.nn.Module")
    if weights is not None:
        load_weights(module, weights)
    return module


def load_weights(module: nn.Module, path: Path) -> None:
    """Give ``module`` all the weights of a safetensors file. Raises :class:`CompressionError`."""
    if path.suffix.lower() != ".safetensors":
        raise CompressionError(f"weights are read as safetensors alone. {_how_to_convert(path)}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CompressionError(f"{path} is over {MAX_BYTES} bytes; at most so many are read")
        tensors = read_safetensors(path.read_bytes())
    except OSError as error:
        raise CompressionError(f"cannot read {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise CompressionError(f"{path} is no safetensors file: {error}") from None
    needed = module.state_dict()
    missing, unknown = sorted(needed.keys() - tensors.keys()), sorted(tensors.keys() - needed.keys())
    if missing or unknown:
        hint = nearest(missing[0], unknown) if missing and unknown else ""
        raise CompressionError(
            f"{path} does not fit the network. It lacks {_some(missing)}; it has {_some(unknown)}, which the "
            f"network has not{hint}"
        )
    others = [f"{n} {tuple(tensors[n].shape)} for {tuple(needed[n].shape)}" for n in needed]
    others = [text for text, n in zip(others, needed, strict=True) if tensors[n].shape != needed[n].shape]
    if others:
        raise CompressionError(f"weights of {path} have other shapes than the network's: {_some(others)}")
    module.load_state_dict(tensors)


def _imported(place: str) -> ModuleType:
    """Import a file by its path or a module by its name, as if Python had been started beside it."""
    path = Path(place)
    if path.suffix != ".py":
        with _first_on_path(Path.cwd()):
            return importlib.import_module(place)
    if not path.is_file():
        raise CompressionError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CompressionError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses need it
    with _first_on_path(path.resolve().parent):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _how_to_convert(path: Path) -> str:
    there = path.with_suffix(".safetensors")
    return (
        f"{path} may hold a pickle, which runs what it likes. Where you trust it, convert it once: python -c "
        f'"import torch; from safetensors.torch import save_file; save_file(torch.load({str(path)!r}, '
        f'weights_only=True), {str(there)!r})"'
    )


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(map(str, names[:_MOST_NAMED])) or "nothing") + more
