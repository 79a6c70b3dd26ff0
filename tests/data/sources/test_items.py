"""Parquet in the Hugging Face layout, and PyTorch data sets."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from netsmith.data import load
from netsmith.data.sources.parquet import PackedPictures, read_parquet
from netsmith.errors import DataError, MissingExtraError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def png(value: int, size: int = 8) -> bytes:
    out = io.BytesIO()
    Image.new("L", (size, size), value).save(out, "PNG")
    return out.getvalue()


def write(path: Path, images: list[Any], labels: list[Any], names: list[str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": content, "path": None} for content in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": labels})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=3)


def test_parquet_round_trip(tmp_path: Path) -> None:
    data = tmp_path / "set" / "data"
    write(data / "train-00000-of-00002.parquet", [png(i) for i in range(4)], [0, 1, 0, 1], ["a", "b"])
    write(data / "train-00001-of-00002.parquet", [png(i) for i in range(4, 6)], [1, 0], ["a", "b"])
    write(data / "test-00000-of-00001.parquet", [png(9)], [1], ["a", "b"])
    loaded = load(tmp_path / "set")
    assert loaded.train.label_names == ("a", "b")
    assert loaded.train.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert loaded.train.fetch(torch.arange(6))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded.test is not None
    assert loaded.test.labels.tolist() == [1]
    single = load(data / "train-00000-of-00002.parquet")
    assert len(single.train) == 4


def test_parquet_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, [png(1), None, b"junk", png(2), png(3)], [0, 1, 1, -1, 1], ["a", "b"])
    with pytest.raises(DataError, match="cannot be used"):
        load(path)
    loaded = load(path, skip_bad=True)
    assert loaded.train.labels.tolist() == [0, 1]
    assert [skip.path for skip in loaded.skipped] == [f"{path}[{i}]" for i in (1, 3, 2)]


def test_parquet_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(path)
    pq.write_table(pa.table({"x": [1], "y": [2]}), path)
    with pytest.raises(DataError, match="has the columns x, y"):
        load(path)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"netsmith\[parquet\]"):
        load(path)


def test_packed_images_leave_no_file_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, [png(1), png(2)], [0, 1])
    pictures = read_parquet(path).train.pictures
    assert isinstance(pictures, PackedPictures)
    packed = pictures.path
    copy = pickle.loads(pickle.dumps(pictures))  # noqa: S301  (what a worker process is sent)
    del copy
    assert packed.exists()
    del pictures
    assert not packed.exists()


class Items(Dataset[Any]):
    def __init__(self, items: list[Any], classes: list[str] | None = None) -> None:
        self.items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def test_dataset_kinds_of_items() -> None:
    items = [
        (Image.new("RGB", (9, 8), (51, 51, 51)), 5),
        (torch.full((3, 8, 9), 0.2), torch.tensor(7)),
        (np.full((8, 9, 3), 51, np.uint8), np.int64(5)),
        (torch.full((8, 9), 51, dtype=torch.uint8)[None], 7),
    ]
    loaded = load(Items(items))
    assert loaded.train.input_shape == (3, 8, 9)
    assert (loaded.train.fetch(torch.arange(4)) == 51).all()
    assert loaded.train.label_names == ("5", "7")
    assert loaded.train.labels.tolist() == [0, 1, 0, 1]


def test_dataset_names_and_bad_items() -> None:
    good = torch.zeros(1, 8, 8)
    items = [(good, 0), (good, 1), (good - 1, 0), RuntimeError("broken"), good, ("text", 1)]
    with pytest.raises(DataError, match="cannot be used"):
        load(Items(items, ["a", "b"]))
    loaded = load(Items(items, ["a", "b"]), skip_bad=True)
    assert loaded.train.label_names == ("a", "b")
    reasons = {skip.path: skip.reason for skip in loaded.skipped}
    assert "from 0 to 1" in reasons["Items[2]"]
    assert "broken" in reasons["Items[3]"]
    assert "(image, label)" in reasons["Items[4]"]
    assert "PIL, a tensor or an array" in reasons["Items[5]"]
    with pytest.raises(DataError, match="no usable items"):
        load(Items([]))
