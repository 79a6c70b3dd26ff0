"""Finding which channels of a network go together, in its dependency graph, by Torch-Pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from netsmith.compress.channels import Channels, Group, Layer, Link, Side
from netsmith.compress.slicing import KNOWN, is_depthwise, pruned
from netsmith.errors import CompressionError, MissingExtraError


def channels_of(module: nn.Module, input_shape: tuple[int, int, int]) -> Channels:
    """Find what can be pruned of ``module``, which takes (N, C, H, W) images of ``input_shape``.

    Each group is tried: one that cannot be halved without the network failing, or giving something of
    another shape, is left alone, and so are all that are joined to layers that are not known. Raises
    :class:`CompressionError` where the module cannot be run or traced, :class:`MissingExtraError` without
    torch-pruning.
    """
    traced = copy.deepcopy(module).eval().requires_grad_(True)
    image = torch.zeros(1, *input_shape, device=next(traced.parameters()).device)
    layers, expected = _layers(traced, image)
    order = {layer.name: i for i, layer in enumerate(layers)}
    groups, untouched = [], {}
    for group in _groups(traced, image, order):
        reason = _refused(group, traced) or _fails(group, traced, image, expected)
        if reason:
            untouched[group.name] = reason
        else:
            groups.append(group)
    groups.sort(key=lambda group: order[group.name])
    learned = sum(parameter.numel() for parameter in module.parameters())
    return Channels(tuple(groups), tuple(layers), learned, untouched)


def check_tool() -> None:
    """Raise :class:`MissingExtraError` without torch-pruning."""
    if find_spec("torch_pruning") is None:
        raise MissingExtraError("torch-pruning", "compress", "channel pruning")


def _groups(module: nn.Module, image: torch.Tensor, order: Mapping[str, int]) -> Iterator[Group]:
    """Yield every group that there is, named by the first in ``order`` of the layers that make it."""
    check_tool()
    import torch_pruning

    names = {layer: name for name, layer in module.named_modules()}
    with torch.enable_grad():
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=image)
            found = list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
        except Exception as error:  # whatever a foreign module's forward raises
            raise CompressionError(f"the network's dependencies cannot be traced: {error}") from error
    for raw in found:
        links = []
        width = len(raw[0].idxs)
        for item in raw:
            name = names.get(item.dep.target.module)
            if name is None:
                continue
            places: list[list[int]] = [[] for _ in range(width)]
            for root, place in zip(item.root_idxs, item.idxs, strict=True):
                places[root].append(int(place))
            side: Side = "in" if item.dep.handler.__name__.endswith("in_channels") else "out"
            links.append(Link(name, side, tuple(map(tuple, places))))
        links = list(dict.fromkeys(links))
        makers = [link.layer for link in links if link.side == "out" and link.layer in order]
        first = min(makers, key=order.__getitem__)
        yield Group(first, width, _parts(module, links), _extras(module, links), tuple(links))


def _parts(module: nn.Module, links: Sequence[Link]) -> int:
    """The runs that grouped convolutions cut the channels into; they must divide one another."""
    layers = dict(module.named_modules())
    cuts = {
        layer.groups
        for link in links
        if isinstance(layer := layers[link.layer], nn.Conv2d) and layer.groups > 1 and not is_depthwise(layer)
    }
    return max(cuts, default=1)


def _extras(module: nn.Module, links: Sequence[Link]) -> int:
    """The learned numbers of one channel that are not in weights of two axes and more."""
    layers = dict(module.named_modules())
    return sum(
        parameter.numel() // len(parameter)
        for link in links
        if link.side == "out"
        for parameter in layers[link.layer].parameters(recurse=False)
        if parameter.dim() == 1
    )


def _refused(group: Group, module: nn.Module) -> str:
    """Why a group cannot be sliced by what is known of its layers; empty where it can."""
    layers = dict(module.named_modules())
    for link in group.links:
        layer = layers[link.layer]
        if not isinstance(layer, KNOWN):
            return f"'{link.layer}' is a {type(layer).__name__}, which is not understood"
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not is_depthwise(layer):
            whole = [place for places in link.places for place in places] == list(range(group.channels))
            if not whole or group.parts % layer.groups or group.channels % group.parts:
                return f"the groups of '{link.layer}' cut its channels in the middle"
        if len({len(places) for places in link.places}) > 1:
            return f"only some of its channels are among those of '{link.layer}'"
    if not any(link.side == "in" for link in group.links):
        return "nothing reads its channels: they are the output"
    return ""


def _fails(group: Group, module: nn.Module, image: torch.Tensor, expected: tuple[int, ...]) -> str:
    """Why the network does not work with half of a group; empty where it does."""
    run = group.channels // group.parts
    if run < 2:
        return "it has a channel alone"
    half = [part * run + i for part in range(group.parts) for i in range(run // 2)]
    alone = Channels((group,), (), 0, {})
    try:
        with torch.no_grad():
            shape = tuple(pruned(module, alone, {group.name: half})(image).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        return f"without some of its channels the network fails: {error!s:.200}"
    return "" if shape == expected else f"without some of its channels the network gives {shape}"


def _layers(module: nn.Module, image: torch.Tensor) -> tuple[list[Layer], tuple[int, ...]]:
    """The layers in the order in which they run, and the shape of the output."""
    found: dict[str, Layer] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            found[name] = _layer(name, layer, inputs[0], output)

        return hook

    hooks = [
        layer.register_forward_hook(note(name))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            output = module(image)
    except Exception as error:  # whatever a foreign module's forward raises
        raise CompressionError(
            f"the network cannot be run on an image of {tuple(image.shape[1:])}: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values()), tuple(output.shape)


def _layer(name: str, layer: nn.Conv2d | nn.Linear, x: torch.Tensor, output: torch.Tensor) -> Layer:
    if isinstance(layer, nn.Linear):
        places = output.numel() // layer.out_features // len(output)
        return Layer(name, layer.in_features, layer.out_features, (), 1, 1, 1, 1, places)
    height, width = x.shape[-2:]
    return Layer(
        name, layer.in_channels, layer.out_channels, tuple(layer.kernel_size), int(layer.stride[0]),
        layer.groups, height, width, output.shape[-2] * output.shape[-1],
    )  # fmt: skip
