"""What cannot be written as an ExecuTorch file."""

from __future__ import annotations

import pytest
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.executorch import write_executorch
from netsmith.export.onnx import to_onnx

pytest.importorskip("executorch")
pytest.importorskip("onnxruntime")


def test_what_cannot_be_written_is_named() -> None:
    model = to_onnx(nn.Sigmoid(), (1, 4, 4))
    model.graph.node[0].op_type = "Tanh"
    with pytest.raises(ExportError, match="'Tanh' cannot be written as an ExecuTorch file; known: Conv"):
        write_executorch(model)
