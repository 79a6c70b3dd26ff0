"""Published tables are read as what they say, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsmith.errors import TableError
from netsmith.latency.published import read_published
from netsmith.plan import Block

LUTS = Path(__file__).parents[3] / "shared" / "data" / "luts"
SMALL = """
Conv-input:224x224x3-output:112x112x32:
  count: 100
  mean: 4.0
  var: 0.25
Conv_1-input:7x7x320-output:7x7x1280:
  count: 50
  mean: 3.0
  var: 0.0
Logits-input:7x7x1280-output:1000:
  count: 50
  mean: 0.5
  var: 0.0
expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0:
  count: 50
  mean: 9.0
  var: 0.0
expanded_conv-input:14x14x96-output:14x14x96-expand:288-kernel:3-stride:1-idskip:1-se:0-hs:0:
  mean: 2.0
expanded_conv-input:14x14x96-output:14x14x96-expand:288-kernel:3-stride:1-idskip:1-se:1-hs:1:
  mean: 2.5
"""


def test_layers_become_the_blocks_of_the_space() -> None:
    table = read_published(SMALL)
    stem = table.row(Block("conv", 3, 32, 224, 224, kernel=3, stride=2))
    assert stem.median_ms == 4.0
    assert stem.low_ms == pytest.approx(4.0 - 1.28 * 0.5)
    assert stem.spread == pytest.approx(1.96 * 0.5 / 10 / 4.0)
    assert stem.count == 100
    assert table.row(Block("mbconv", 16, 24, 112, 112, kernel=5, stride=2, hidden=48)).median_ms == 9.0
    assert table.row(Block("head", 320, 1000, 7, 7, hidden=1280)).median_ms == 3.5
    once_for_all = Block("mbconv", 96, 96, 14, 14, kernel=3, hidden=288, shortcut=True)
    assert table.row(once_for_all).median_ms == 2.0
    assert [key for key in table.rows if key.startswith("mbconv_se_hs:")]


def test_an_unknown_file_says_that_its_device_is_unknown() -> None:
    fingerprint = read_published(SMALL).fingerprint
    assert fingerprint["processor"] == "unknown"
    assert len(fingerprint["sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "maps layers' names"),
        ("a: [", "not a published table"),
        ("!!python/object/apply:os.system ['true']", "not a published table"),
        ("Conv: {mean: 1}", "is named OPERATION-input"),
        ("1: {mean: 1}", "is named OPERATION-input"),
        ("Conv-input:2x2x3-output:1x1x4: 3", "cannot be read"),
        ("Conv-input:2x2x3-output:1x1x4: {mean: soon}", "cannot be read"),
        ("Conv-input:2x2x3-output:0x0x4: {mean: 1}", "cannot be read"),
        ("Conv-input:2x2x3-output:4: {mean: 1}", "cannot be read"),
        ("Dance-input:2x2x3-output:1x1x4: {mean: 1}", "cannot be read"),
        ("expanded_conv-input:2x2x3-output:1x1x4-kernel:3: {mean: 1}", "cannot be read"),
        ("Conv-input:2x2x3-output:1x1x4: {mean: -1}", "no mean time"),
        ("Conv-input:2x2x3-output:1x1x4: {mean: .nan}", "no mean time"),
        ("Conv-input:2x2x3-output:1x1x4: {mean: 1, var: -1}", "no mean time"),
        ("Conv-input:2x2x3-output:1x1x4: {mean: 1, count: 0}", "no mean time"),
        ("#" * (4 * 2**20 + 1), "at most"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_published(text)


@pytest.mark.skipif(not LUTS.is_dir(), reason="the published tables are not at ../shared/data/luts")
def test_the_released_tables_are_known_by_their_content() -> None:
    pixel = read_published((LUTS / "proxylessnas_mobile_trim.yaml").read_text())
    assert pixel.fingerprint["processor"] == "Google Pixel 1"
    assert pixel.fingerprint["licence"]
    assert len(pixel.rows) == 73, "72 layers, and the head that two of them make up"
    for size in (160, 176, 192, 208, 224):
        note = read_published((LUTS / f"ofa_note10_{size}.yaml").read_text())
        assert note.fingerprint["image size"] == str(size)
        (stem,) = (row.blocks[0] for key, row in note.rows.items() if key.startswith("conv:"))
        assert stem.input_shape == (3, size, size)
