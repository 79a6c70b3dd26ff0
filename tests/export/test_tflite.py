"""What cannot be written as a TFLite file."""

from __future__ import annotations

import pytest
from torch import nn

from netsmith.devices.litert import LiteRt
from netsmith.errors import ExportError

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")


def test_what_cannot_be_written_is_named() -> None:
    with pytest.raises(ExportError, match="'Sigmoid' cannot be written as TFLite; known: Conv"):
        LiteRt().export(nn.Sigmoid(), (1, 4, 4))
