"""Networks of the user's own: what is read of them, and what is refused, before anything is trained."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from netsmith.errors import CompressionError
from netsmith.export.onnx import write_onnx
from netsmith.pipeline.base import check_fits
from netsmith.pipeline.own import is_own, load_weights, make_network, named_network, place_of

SOURCE = """
from dataclasses import dataclass
from torch import nn
import beside

@dataclass
class Shape:
    width: int = 8

class Net(nn.Sequential):
    def __init__(self):
        width = Shape().width
        super().__init__(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(36 * width, beside.LABELS))

def broken():
    return 1 / 0

def nothing():
    return None

number = 5
"""


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A file of Python beside another that it imports, and weights for the network in it."""
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("LABELS = 4\n")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    yield tmp_path / "mine.py"
    sys.modules.pop("beside", None)


def test_python_makes_a_network_that_takes_the_weights_of_a_file(mine: Path) -> None:
    weights = mine.parent / "w.safetensors"
    module, follows = named_network(f"{mine}:Net", weights)
    assert follows == {"base_weights": str(weights)}
    assert type(module).__name__ == "Net"
    assert check_fits(module, (1, 8, 8), 4).macs == 36 * 9 * 8 + 288 * 4
    again = make_network(f"{mine}:Net", weights)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_module_is_found_beside_where_the_command_is_run(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    assert isinstance(make_network("mine:Net", None), nn.Sequential)


def test_names_tell_folders_from_networks(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert all(map(is_own, ("m.py:f", "p.m:f", "m.onnx", "m.pt", "m.py")))
    assert not any(map(is_own, ("runs/x", "nowhere", str(tmp_path / "a:b"))))
    assert [str(place_of(name)) for name in ("d/m.py:f", "p.m:f", "d/net.onnx")] == [
        f"runs{os.sep}{name}-compressed" for name in ("m", "m", "net")
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine.py", "FILE.py:NAME, package.module:NAME or FILE.onnx"),
        ("mine.py:absent", "no function or class 'absent'"),
        ("mine.py:number", "no function or class 'number'"),
        ("mine.py:nothing", "returned NoneType"),
        ("mine.py:broken", "mine.py, line 17: ZeroDivisionError"),
        ("none.py:Net", "there is no file"),
        ("no.such.module:Net", "No module named 'no'"),
        ("w.pt", "may hold a pickle.*save_file"),
        ("none.onnx", "No such file"),
        ("w.onnx", "is not understood: the file is not an ONNX model"),
    ],
)
def test_what_makes_no_network_says_why(
    mine: Path, name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    Path("w.onnx").write_bytes(b"nonsense")
    with pytest.raises(CompressionError, match=says):
        named_network(name, None)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("exploded",))


def test_a_pickle_is_never_opened(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    for name in ("w.pt", "w.pth", "w.safetensors"):
        Path(name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CompressionError, match=r"save_file|is no safetensors file"):
            make_network("mine.py:Net", Path(name))
    assert not Path("exploded").exists()


def test_weights_must_be_all_there_and_fit(tmp_path: Path) -> None:
    net, path = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), tmp_path / "w.safetensors"
    state = {name: value.clone() for name, value in net.state_dict().items()}
    renamed = {**{k: v for k, v in state.items() if k != "0.bias"}, "0.bais": state["0.bias"]}
    save_file(renamed, path)
    with pytest.raises(CompressionError, match=r"lacks 0\.bias; it has 0\.bais.*did you mean '0\.bais'"):
        load_weights(net, path)
    save_file({**state, "0.weight": torch.zeros(2, 4)}, path)
    with pytest.raises(CompressionError, match=r"0\.weight \(2, 4\) for \(2, 3\)"):
        load_weights(net, path)
    with pytest.raises(CompressionError, match="No such file"):
        load_weights(net, tmp_path / "none.safetensors")


def test_images_and_labels_must_fit() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    check_fits(net, (3, 8, 8), 5)
    with pytest.raises(CompressionError, match=r"gives \(2, 5\).*the data have 4 labels, so that \(2, 4\)"):
        check_fits(net, (3, 8, 8), 4)
    for shape in ((1, 8, 8), (3, 16, 16)):
        with pytest.raises(CompressionError, match=rf"\({shape[0]}, {shape[1]}, {shape[2]}\).*--image-size"):
            check_fits(net, shape, 5)


class Holds(nn.Linear):
    """A tensor that is neither a parameter nor a buffer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(1)) + torch.ones(4)


def test_a_tensor_that_a_module_only_holds_is_told_of() -> None:
    with pytest.raises(CompressionError, match="register_buffer"):
        check_fits(Holds(64, 4), (1, 8, 8), 4)


def onnx_file(path: Path, nodes: list[onnx.NodeProto], kind: int = TensorProto.FLOAT) -> str:
    image = helper.make_tensor_value_info("x", kind, ("N", 1, 8, 8))
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [answer])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    )
    return str(path)


def test_an_onnx_file_says_what_size_and_pixels_it_takes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)).eval()
    for kind, follows in (("float32", {"image_size": 8}), ("uint8", {"image_size": 8, "std": 1 / 255})):
        path = tmp_path / f"{kind}.onnx"
        path.write_bytes(write_onnx(net, (1, 8, 8)))
        if kind == "uint8":
            model = onnx.load(path)
            model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
            onnx.save(model, path)
        module, found = named_network(str(path), None)
        assert found == follows
        x = torch.from_numpy(np.random.default_rng(0).random((2, 1, 8, 8), np.float32))
        assert torch.allclose(module(x), net(x), atol=1e-6)
    with pytest.raises(CompressionError, match="leave --weights out"):
        named_network(str(path), Path("w.safetensors"))


def test_a_file_that_swells_is_refused_before_it_is_run(tmp_path: Path) -> None:
    """Each of forty nodes doubles the channels: a thousand bytes that would take terabytes."""
    names = ["x", *(f"v{i}" for i in range(39)), "y"]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]
    module, _ = named_network(onnx_file(tmp_path / "bomb.onnx", nodes), None)
    with pytest.raises(CompressionError, match=r"activations take .* bytes|fails on images"):
        check_fits(module, (1, 8, 8), 4)
    with pytest.raises(CompressionError, match=r"operation 'Erf' .* cannot be run by PyTorch; known: Add"):
        named_network(onnx_file(tmp_path / "odd.onnx", [helper.make_node("Erf", ["x"], ["y"])]), None)
