"""A training killed for real, at any moment, ends in the weights of one that was not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# One process imports everything and forks each training: an import costs more than they all do together.
# It computes nothing itself before the forks, so no thread pool is lost in them.
_TRAININGS = """
import os, signal, sys, time
from pathlib import Path
import torch
import torch._dynamo  # an optimizer imports it late, and each fork would again
from accelerate import Accelerator
from safetensors.torch import save_file
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.train import Recipe, train

folder = Path(sys.argv[1])
PLAN = Plan((
    Block("conv", 1, 4, 6, 6, kernel=3),
    Block("mbconv", 4, 4, 6, 6, kernel=5, hidden=12, shortcut=True),
    Block("dense", 4, 8, 6, 6, cell="norm+relu,1x1:4/2/4,norm,3x3:4"),
    Block("classifier", 8, 2, 6, 6, hidden=4),
))

class Batches:
    def __len__(self):
        return 6
    def epoch(self, number):
        generator = torch.Generator().manual_seed(number)
        for _ in range(6):
            y = torch.randint(0, 2, (16,), generator=generator)
            time.sleep(0.003)
            yield torch.randn(16, 1, 6, 6, generator=generator) + y[:, None, None, None], y

def blend(x, y, generator):
    share = torch.rand(1, generator=generator).item()
    one_hot = torch.nn.functional.one_hot(y, 2).float()
    return share * x + (1 - share) * x.flip(0), share * one_hot + (1 - share) * one_hot.flip(0)

def child(name, optimizer):
    recipe = Recipe(epochs=6, batch_size=16, optimizer=optimizer, lr=0.01, dropout=0.3, ema=0.9)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Network(PLAN)
    def seen(figures):
        (folder / f"{name}.{figures.epoch}").touch()
    train(module, Batches(), Batches(), recipe, seed=1, checkpoint=folder / name, on_epoch=seen, mix=blend)
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, folder / f"{name}.out")

def start(name, optimizer):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(name, optimizer)
            status = 0
        finally:
            os._exit(status)
    return pid

for optimizer in ("sgd", "adamw"):
    straight, killed = f"{optimizer}-straight", f"{optimizer}-killed"
    assert os.waitpid(start(straight, optimizer), 0)[1] == 0
    for epoch, wait in ((1, 0.0), (3, 0.012)):
        pid = start(killed, optimizer)
        limit = time.monotonic() + 60
        while not (folder / f"{killed}.{epoch}").exists() and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL, "it ended before it was killed"
        (folder / f"{killed}.{epoch}").unlink()
    assert not (folder / f"{killed}.out").exists()
    assert os.waitpid(start(killed, optimizer), 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_and_started_again_is_the_same_training(tmp_path: Path):
    ran = subprocess.run(
        [sys.executable, "-c", _TRAININGS, str(tmp_path)],
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    for optimizer in ("sgd", "adamw"):
        straight, killed = (tmp_path / f"{optimizer}-{name}.out" for name in ("straight", "killed"))
        assert straight.read_bytes() == killed.read_bytes()
        # It did go on: the epochs before the first kill were not trained again at the end.
        assert not (tmp_path / f"{optimizer}-killed.1").exists()
        assert (tmp_path / f"{optimizer}-killed.6").exists()
