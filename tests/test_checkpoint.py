"""Checkpoints come back as they went, or say why not and leave the one before alone."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netsmith import checkpoint
from netsmith.errors import FolderError


def _tensors():
    return {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7), "empty": torch.zeros(0, 2)}


def test_tensors_and_meta_come_back_exactly(tmp_path):
    path, meta = tmp_path / "a.safetensors", {"epoch": 3, "lr": 0.1 + 0.2, "deep": [{"x": None}]}
    tensors = {**_tensors(), "bits": torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last).bfloat16()}
    checkpoint.save(path, tensors, meta)
    back, back_meta = checkpoint.load(path)
    assert back_meta == meta
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def test_tensors_that_share_memory_are_saved(tmp_path):
    whole = torch.arange(4.0)
    checkpoint.save(tmp_path / "a", {"whole": whole, "half": whole[:2]}, {})
    assert torch.equal(checkpoint.load(tmp_path / "a")[0]["half"], whole[:2])


def test_any_nested_state_comes_back(tmp_path):
    state = {"a": [1, 2.5, (True, None)], 7: {"t": torch.ones(2), "s": "text"}, "none": {}}
    tensors, tree = checkpoint.pack(state, "state")
    checkpoint.save(tmp_path / "a", tensors, {"tree": tree})
    back, meta = checkpoint.load(tmp_path / "a")
    again = checkpoint.unpack(meta["tree"], back)
    assert torch.equal(again[7].pop("t"), state[7].pop("t"))
    assert again == state
    assert type(again["a"][2]) is tuple


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="state/a of type set"):
        checkpoint.pack({"a": {1, 2}}, "state")
    with pytest.raises(TypeError, match="keys"):
        checkpoint.pack({(1, 2): 3}, "state")


def test_a_tree_that_does_not_fit_is_an_error():
    with pytest.raises(FolderError, match="do not fit"):
        checkpoint.unpack({"tensor": "absent"}, {})
    with pytest.raises(FolderError, match="unknown kind"):
        checkpoint.unpack({"set": []}, {})


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(tmp_path, kind):
    def make():
        torch.manual_seed(0)
        module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        make_optimizer = {
            "sgd": lambda p: torch.optim.SGD(p, 0.1, 0.9),
            "adamw": lambda p: torch.optim.AdamW(p, 0.1),
        }
        return module, make_optimizer[kind](module.parameters())

    def step(module, optimizer):
        optimizer.zero_grad()
        module(torch.full((2, 3, 5, 5), 0.3)).square().sum().backward()
        optimizer.step()

    straight, stopped = make(), make()
    for _ in range(3):
        step(*straight)
    step(*stopped)
    state = {"module": stopped[0].state_dict(), "optimizer": stopped[1].state_dict()}
    tensors, tree = checkpoint.pack(state, "s")
    checkpoint.save(tmp_path / "a", tensors, {"tree": tree})
    tensors, meta = checkpoint.load(tmp_path / "a")
    back = checkpoint.unpack(meta["tree"], tensors)
    module, optimizer = make()
    checkpoint.load_module(module, back["module"])
    checkpoint.load_optimizer(optimizer, back["optimizer"])
    moved = next(value for value in optimizer.state[module.weight].values() if value.ndim == 4)
    assert moved.stride() == module.weight.stride()
    step(module, optimizer)
    step(module, optimizer)
    assert torch.equal(module.weight, straight[0].weight)


def test_weights_of_another_module_are_refused():
    with pytest.raises(FolderError, match="do not fit the module"):
        checkpoint.load_module(nn.Linear(2, 2), nn.Linear(2, 3).state_dict())
    with pytest.raises(FolderError, match="do not fit the module"):
        checkpoint.load_module(nn.Linear(2, 2), {"weight": torch.zeros(2, 2)})


def test_the_state_of_another_optimizer_is_refused():
    def stepped(width):
        module = nn.Linear(width, 2)
        optimizer = torch.optim.SGD(module.parameters(), 0.1, 0.9)
        module(torch.ones(1, width)).sum().backward()
        optimizer.step()
        return optimizer

    with pytest.raises(FolderError, match="has shape"):
        checkpoint.load_optimizer(stepped(3), stepped(2).state_dict())
    with pytest.raises(FolderError, match="does not fit"):
        checkpoint.load_optimizer(stepped(3), {"state": {}})


@pytest.mark.parametrize("place", ["middle", "end", "header", "length"])
def test_one_flipped_bit_is_found(tmp_path, place):
    path = tmp_path / "a"
    checkpoint.save(path, _tensors(), {"epoch": 1})
    content = bytearray(path.read_bytes())
    content[{"middle": len(content) - 20, "end": -1, "header": 40, "length": 7}[place]] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(FolderError, match="damaged"):
        checkpoint.load(path)


def test_every_truncation_is_found(tmp_path):
    path = tmp_path / "a"
    checkpoint.save(path, _tensors(), {})
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(FolderError, match="damaged"):
            checkpoint.load(path)


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "a"
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(FolderError, match="damaged"):
        checkpoint.load(path)
    with pytest.raises(FolderError, match="cannot read"):
        checkpoint.load(tmp_path / "absent")
    with pytest.raises(FolderError, match="cannot read"):
        checkpoint.load(tmp_path)


def test_a_pickle_is_never_run(tmp_path):
    path, trace = tmp_path / "a", tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(trace),))

    torch.save(Trap(), path)
    with pytest.raises(FolderError, match="damaged"):
        checkpoint.load(path)
    assert not trace.exists()


def test_another_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a"
    monkeypatch.setattr(checkpoint, "VERSION", 9)
    checkpoint.save(path, {}, {})
    monkeypatch.undo()
    with pytest.raises(FolderError, match=r"version 9; .* version 1"):
        checkpoint.load(path)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "a", _tensors(), {})
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 10)
    with pytest.raises(FolderError, match="at most 10"):
        checkpoint.load(tmp_path / "a")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "a"
    checkpoint.save(path, _tensors(), {"epoch": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FolderError, match="full; the one before it is intact"):
        checkpoint.save(path, _tensors(), {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path)[1] == {"epoch": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


_LIMITED = """
import resource, sys, torch
from pathlib import Path
from netsmith import checkpoint
from netsmith.errors import FolderError
path = Path(sys.argv[1])
checkpoint.save(path, {"w": torch.ones(100)}, {"epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    checkpoint.save(path, {"w": torch.ones(10_000)}, {"epoch": 2})
except FolderError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX's")
def test_a_write_that_the_system_cuts_short_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "a"
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert "is full; the one before it is intact" in ran.stdout
    assert checkpoint.load(path)[1] == {"epoch": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FolderError, match="cannot write"):
        checkpoint.save(Path(tmp_path / "absent" / "a"), {}, {})
