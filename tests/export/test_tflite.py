"""What cannot be written as a TFLite file."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from netsmith.devices.litert import LiteRt
from netsmith.errors import ExportError
from netsmith.nn.tree import Concatenated, Path

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")


def test_what_cannot_be_written_is_named() -> None:
    with pytest.raises(ExportError, match="'Sigmoid' cannot be written as TFLite; known: Conv"):
        LiteRt().export(nn.Sigmoid(), (1, 4, 4))


def test_integers_stay_integers_where_a_split_or_a_maximum_keeps_their_scale() -> None:
    """Between the first layer and the last only the parts that are put together change their scales.

    Of some weights one part has the widest range already, and then its scale is the whole's.
    """
    import ai_edge_litert.schema_py_generated as schema

    torch.manual_seed(0)
    paths = [Path(nn.MaxPool2d(3, 1, 1), 3), Path(nn.Conv2d(2, 2, 1), 2)]
    module = nn.Sequential(nn.Conv2d(3, 5, 1), Concatenated(paths, [3, 2]), nn.Conv2d(5, 4, 1)).eval()
    model = schema.ModelT.InitFromPackedBuf(LiteRt(precision="int8").export(module, (3, 8, 8)))
    (graph,) = model.subgraphs
    named = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    kinds = Counter(named[model.operatorCodes[each.opcodeIndex].builtinCode] for each in graph.operators)
    assert kinds == {
        "QUANTIZE": 1 + 2, "CONV_2D": 3, "STRIDED_SLICE": 2, "MAX_POOL_2D": 1, "CONCATENATION": 1,
        "DEQUANTIZE": 1,
    }  # fmt: skip
