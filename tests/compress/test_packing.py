"""Packed codes come back as they were, a file is as small as it claims, and damage is noticed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as read_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor, nn

from netsmith.compress import packing
from netsmith.compress.packing import (
    Coded,
    pack,
    pack_codes,
    packed_bytes,
    unpack,
    unpack_codes,
    unpacked_state,
)
from netsmith.compress.quantizers import channelwise, clustered, symmetric
from netsmith.errors import CompressionError


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 8))
def test_codes_come_back_from_as_few_bytes_as_can_be(data: st.DataObject, bits: int) -> None:
    codes = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=70)), np.int16)
    packed = pack_codes(codes, bits)
    assert len(packed) == packed_bytes(len(codes), bits) == -(-len(codes) * bits // 8)
    assert unpack_codes(packed, bits, len(codes)).tolist() == codes.tolist()


def test_the_bits_are_where_they_are_said_to_be() -> None:
    """By hand: 1, 2, 3 of three bits are 001, 010, 011 from the lowest up, over two bytes."""
    assert pack_codes(np.array([1, 2, 3]), 3).tolist() == [0b11010001, 0b0]
    assert pack_codes(np.array([1, 2, 7]), 3).tolist() == [0b11010001, 0b1]
    assert pack_codes(np.array([255, 3]), 8).tolist() == [255, 3]


def test_codes_that_do_not_fit_are_refused() -> None:
    for wrong in ([4], [-1]):
        with pytest.raises(CompressionError, match=r"0\.\.3; got"):
            pack_codes(np.array(wrong), 2)
    with pytest.raises(CompressionError, match="take 2 bytes; got 1"):
        unpack_codes(np.zeros(1, np.uint8), 3, 4)
    with pytest.raises(CompressionError, match="behind the last"):
        unpack_codes(np.array([0b10000000], np.uint8), 3, 2)


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 7, 3, groups=1), nn.Flatten(), nn.Linear(7, 4)
    )


def coded(state: dict[str, Tensor]) -> dict[str, Coded]:
    """Three kinds: levels a tensor at 3 bits, a codebook at 5, levels a channel at 2."""
    first, second, third = state["0.weight"], state["2.weight"], state["4.weight"]
    each = channelwise(third.abs().amax(1), third)
    return {
        "0.weight": Coded.of_levels(first, symmetric(first.abs().max(), 3), 3),
        "2.weight": Coded.of_codebook(clustered(second, 5), 5),
        "4.weight": Coded.of_levels(third, symmetric(each, 2), 2),
    }


def test_a_module_comes_back_to_the_last_bit() -> None:
    state = module().state_dict()
    kept = coded(state)
    back = unpacked_state(pack(state, kept))
    assert set(back) == set(state)
    for name, tensor in back.items():
        expected = kept[name].weight() if name in kept else state[name]
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected), name
    third = state["4.weight"]
    assert torch.equal(back["4.weight"], symmetric(channelwise(third.abs().amax(1), third), 2).nearest(third))
    assert torch.equal(back["2.weight"], clustered(state["2.weight"], 5).values())
    module(1).load_state_dict(back, strict=True)


def test_the_file_is_as_small_as_it_claims() -> None:
    state = module().state_dict()
    kept = coded(state)
    content = pack(state, kept)
    header = 8 + int.from_bytes(content[:8], "little")
    plain = sum(t.numel() * t.element_size() for name, t in state.items() if name not in kept)
    claimed = sum(weight.payload_bytes for weight in kept.values())
    assert len(content) == header + plain + claimed
    # By hand: 135 weights of 3 bits and a step, 315 of 5 and 32 centroids, 28 of 2 and 4 steps.
    assert claimed == (51 + 4) + (197 + 128) + (7 + 16)


def test_one_weight_and_weights_of_one_value_can_be_coded() -> None:
    for weight in (torch.tensor(2.0), torch.full((3, 2), -1.5), torch.zeros(4)):
        for bits in (2, 8):
            kept = {
                "a": Coded.of_levels(weight, symmetric(weight.abs().max(), bits), bits),
                "b": Coded.of_codebook(clustered(weight, bits), bits),
            }
            back = unpacked_state(pack({"a": weight, "b": weight}, kept))
            assert torch.allclose(back["a"], weight)
            assert torch.equal(back["b"], weight)


def test_a_coded_weight_fits_what_it_stands_for() -> None:
    weight = torch.ones(2, 3)
    kept = Coded.of_codebook(clustered(weight, 2), 2)
    with pytest.raises(CompressionError, match=r"'w' has shape \[2, 3\]; the module's has None"):
        pack({"v": weight}, {"w": kept})
    with pytest.raises(CompressionError, match=r"the module's has \[6\]"):
        pack({"w": weight.flatten()}, {"w": kept})
    with pytest.raises(CompressionError, match="not those of 3 bits"):
        Coded.of_levels(weight, symmetric(torch.tensor(1.0), 4), 3)
    with pytest.raises(CompressionError, match="4 centroids need more than 1"):
        Coded.of_codebook(clustered(torch.arange(4.0), 2), 1)


def altered(content: bytes, change: dict[str, Any]) -> bytes:
    """Return the file with other things said of its first weight, everything else being right."""
    length = int.from_bytes(content[:8], "little")
    said = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["netsmith-packed"])
    said["coded"]["0.weight"] |= change
    return write_safetensors(read_safetensors(content), {"netsmith-packed": json.dumps(said)})


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 4},
        {"bits": 0},
        {"bits": "3"},
        {"bits": 10**9},
        {"shape": [5, 3, 3]},
        {"shape": [10**12, 10**12]},
        {"shape": [-5, -27]},
        {"shape": [0, 10**18]},
        {"shape": [1] * 60 + [135]},
        {"shape": {"a": 1}},
        {"shape": [5.0, 27.0]},
        {"kind": "codebook"},
        {"kind": "pickle"},
        {"kind": ["levels"]},
    ],
)
def test_what_is_said_must_be_so(change: dict[str, Any]) -> None:
    state = module().state_dict()
    content = pack(state, coded(state))
    assert unpack(altered(content, {}))[0].keys() == coded(state).keys()
    with pytest.raises(CompressionError):
        unpack(altered(content, change))


def test_damaged_files_are_refused() -> None:
    state = module().state_dict()
    content = pack(state, coded(state))
    start = 8 + int.from_bytes(content[:8], "little")
    for cut in (0, 4, 8, 60, start, len(content) - 1):
        with pytest.raises(CompressionError, match="damaged"):
            unpack(content[:cut])
    for place in range(start, len(content), 97):
        flipped = bytearray(content)
        flipped[place] ^= 4
        with pytest.raises(CompressionError, match="not those that were written"):
            unpack(bytes(flipped))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with pytest.raises(CompressionError):
        unpack(content)


def rewritten(tensors: dict[str, Tensor], header: dict[str, Any]) -> bytes:
    header = {"version": packing.VERSION, "coded": {}, "digest": packing._digest(tensors)} | header
    return write_safetensors(tensors, {"netsmith-packed": json.dumps(header)})


def test_values_and_names_that_do_not_fit_are_refused() -> None:
    said = {"w": {"kind": "codebook", "bits": 2, "shape": [4]}}
    codes = torch.from_numpy(pack_codes(np.array([0, 1, 2, 3]), 2))

    def file(values: Tensor, codes: Tensor = codes) -> bytes:
        return rewritten({"codes/w": codes, "values/w": values}, {"coded": said})

    assert unpack(file(torch.arange(4.0)))[0]["w"].weight().tolist() == [0, 1, 2, 3]
    for values, message in (
        (torch.arange(3.0), "do not fit its 3 values"),
        (torch.arange(5.0), "do not fit its 5 values"),
        (torch.tensor([0, 1, float("nan"), 3]), "not finite"),
        (torch.arange(4.0).double(), "not float32"),
        (torch.arange(4.0).reshape(2, 2), "not float32"),
    ):
        with pytest.raises(CompressionError, match=message):
            unpack(file(values))
    with pytest.raises(CompressionError, match="not bytes"):
        unpack(file(torch.arange(4.0), codes.to(torch.int32)))
    with pytest.raises(CompressionError, match="nothing is said"):
        unpack(rewritten({"codes/v": codes}, {}))
    with pytest.raises(CompressionError, match="version 99"):
        unpack(rewritten({}, {"version": 99}))
    with pytest.raises(CompressionError, match="not a JSON object"):
        unpack(rewritten({}, {"coded": [1]}))


def test_files_over_the_bound_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_BYTES", 100)
    with pytest.raises(CompressionError, match="101 bytes are not read; at most 100"):
        unpack(b"x" * 101)
