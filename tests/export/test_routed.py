"""One file routes each image as PyTorch does: the same choices, the same outputs, whatever path it takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.errors import ExportError
from netsmith.export.huffman import ifs_before
from netsmith.export.onnx import read_metadata
from netsmith.export.routed import RoutedParts, write_routed
from netsmith.nn.controller import build_controller
from netsmith.nn.preprocess import Normalize
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import routed
from netsmith.supernet.policies import archs_of, complete, policies_of
from netsmith.supernet.routed import RoutedSupernet
from netsmith.supernet.routed_network import RoutedNetwork

runtime = pytest.importorskip("onnxruntime")

SHAPE = (3, 16, 16)
SPACE = routed(SHAPE, 5, width=0.5, stages=[Stage(48, 2, 1), Stage(64, 2, 2)], mbconvs=[(3, 3), (5, 2)])


@pytest.fixture
def network() -> RoutedNetwork:
    """Shaken, with a controller that gives different images different paths."""
    torch.manual_seed(0)
    network = RoutedNetwork(RoutedSupernet(SPACE), build_controller("light", SHAPE, 4, 3))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.2)
    nn.init.normal_(network.controller.body[-1].weight)
    nn.init.normal_(network.supernet.head[0].classifier.weight)
    with torch.no_grad():  # each operation for about half of the images
        logits = network.eval().controller.body(images(60))
        network.controller.body[-1].bias -= logits.mean(0)
    return network


def parts(network: RoutedNetwork, first: nn.Module | None = None) -> RoutedParts:
    supernet = network.supernet
    edges = [list(edge.operations) for edge in supernet.edges]
    body = network.controller.body
    return RoutedParts(first or nn.Identity(), body, supernet.stem, edges, SPACE.skippable, supernet.head)


def images(n: int) -> torch.Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def force(network: RoutedNetwork, arch: Arch) -> None:
    policy = policies_of(SPACE, [arch])[0].flatten()
    last = network.controller.body[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.where(policy, 1.0, -1.0))


def session(model: bytes) -> runtime.InferenceSession:
    return runtime.InferenceSession(model, providers=["CPUExecutionProvider"])


@torch.no_grad()
@pytest.mark.parametrize("common", [0, 1, 4, 9])
def test_choices_and_outputs_are_pytorchs(network: RoutedNetwork, common: int) -> None:
    x = images(60)
    raw = network.choices(x)
    wanted, choices = network(x), complete(SPACE, raw)
    archs = archs_of(SPACE, raw)
    assert len(set(archs)) > 10
    assert not choices.equal(raw)  # for some images an operation stands in
    several = sorted(set(archs), key=archs.count, reverse=True)[:common]
    model = session(
        write_routed(parts(network), SHAPE, paths=policies_of(SPACE, several).tolist() if several else ())
    )
    for i in range(len(x)):
        logits, chosen = model.run(["logits", "choices"], {"images": x[i : i + 1].numpy()})
        assert (chosen == choices[i].numpy()).all()
        np.testing.assert_allclose(logits, wanted[i : i + 1].numpy(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("common", [False, True])
def test_each_kind_of_path_is_its_static_network(network: RoutedNetwork, common: bool) -> None:
    x, rng = images(1), Random(0)
    archs = [SPACE.arch((0,) * 4), SPACE.arch((7,) * 4), SPACE.arch((1, 0, 2, 0)), SPACE.sample(rng)]
    for arch in archs:
        force(network, arch)
        paths = policies_of(SPACE, [arch]).tolist() if common else ()
        (logits,) = session(write_routed(parts(network), SHAPE, paths=paths)).run(
            ["logits"], {"images": x.numpy()}
        )
        static = network.supernet.extract(arch).eval()(x)
        np.testing.assert_allclose(logits, static.numpy(), rtol=1e-4, atol=1e-4)


def operations_run(network: RoutedNetwork, paths: Sequence[Sequence[Sequence[bool]]] = ()) -> int:
    """How many convolutions ONNX Runtime ran, by its own profile, its graph left as it was written."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    model = write_routed(parts(network), SHAPE, paths=paths)
    run = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run.run(["logits"], {"images": images(1).numpy()})
    file = Path(run.end_profiling())
    events = json.loads(file.read_text())
    file.unlink()
    return sum(
        e.get("args", {}).get("op_name") == "Conv" and e["name"].endswith("kernel_time") for e in events
    )


@pytest.mark.parametrize("common", [False, True])
def test_an_image_runs_its_own_path_and_nothing_else(
    network: RoutedNetwork, common: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutions: three the controller, one the stem and the head each, three an MBConv, two a basic."""
    monkeypatch.chdir(tmp_path)  # the profile is written to the working directory
    for choices, convolutions in (((4, 0, 4, 0), 2 + 2), ((1, 2, 1, 2), 4 * 3), ((7, 0, 6, 4), 8 + 5 + 2)):
        arch = SPACE.arch(choices)
        force(network, arch)
        paths = policies_of(SPACE, [arch]).tolist() if common else ()
        assert operations_run(network, paths) == 3 + 2 + convolutions


def test_an_image_passes_the_ifs_that_are_said_to_be_before_its_path(network: RoutedNetwork) -> None:
    """Counted in the file: on the way to the branch that runs, by what its conditions say."""
    archs = [SPACE.arch((a, b, 1, 0)) for a in (1, 2, 4) for b in (0, 1, 2)]
    model = onnx.load_model_from_string(
        write_routed(parts(network), SHAPE, paths=policies_of(SPACE, archs).tolist())
    )
    depths, waiting = [], [(model.graph, 0)]
    while waiting:
        graph, depth = waiting.pop()
        ifs = [node for node in graph.node if node.op_type == "If"]
        inside = [one.g for node in ifs for one in node.attribute]
        if len(ifs) == 1:
            waiting += [(one, depth + 1) for one in inside]
        else:
            depths.append(depth)  # a path, or where every operation has an If
    assert sorted(depths) == sorted(ifs_before(len(archs)))


@torch.no_grad()
def test_pixels_go_in_and_text_comes_along(network: RoutedNetwork) -> None:
    normalise = Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    pixels = np.random.default_rng(0).integers(0, 256, (1, *SHAPE), dtype=np.uint8)
    modes = [part.training for part in network.train().modules()]
    model = write_routed(parts(network, normalise), SHAPE, input_type="uint8", metadata={"classes": "five"})
    assert modes == [part.training for part in network.modules()]
    assert read_metadata(model) == {"classes": "five"}
    (logits,) = session(model).run(["logits"], {"images": pixels})
    wanted = network.eval()(normalise(torch.from_numpy(pixels)))
    np.testing.assert_allclose(logits, wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_a_common_path_adds_its_own_weights_alone(network: RoutedNetwork) -> None:
    arch = SPACE.arch((4, 0, 1, 0))
    plain = write_routed(parts(network), SHAPE)
    more = write_routed(parts(network), SHAPE, paths=policies_of(SPACE, [arch]).tolist())
    static = sum(p.numel() for p in network.supernet.extract(arch).parameters()) * 4
    assert 0.8 * static < len(more) - len(plain) < 1.2 * static + 4000
    assert onnx.load_model_from_string(more).graph.output[1].name == "choices"


def test_parts_that_cannot_be_written_are_refused(network: RoutedNetwork) -> None:
    good = parts(network)
    with pytest.raises(ExportError, match="written directly or not at all"):
        write_routed(good._replace(head=nn.Sequential(nn.Flatten(), nn.GELU())), SHAPE)
    with pytest.raises(ExportError, match="do not fit images"):
        write_routed(good, (4, 16, 16))
    with pytest.raises(ExportError, match=r"a controller of \(3, 3\) operations"):
        write_routed(good._replace(edges=good.edges[1:]), SHAPE)
    for path in ([[True] * 3] * 3, [[False] * 3] * 4, [[True] * 3] * 3 + [[True]]):
        with pytest.raises(ExportError, match=r"a path is booleans \(4, 3\)"):
            write_routed(good, SHAPE, paths=[path])
