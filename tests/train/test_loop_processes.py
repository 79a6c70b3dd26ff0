"""Two processes under torchrun train one network, as several GPUs do."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

# Started by hand as torchrun starts its ranks, which it would do only after importing torch once more itself.
_RANK = """
import sys, torch
from safetensors.torch import save_file
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.train import Recipe, train

torch.set_num_threads(1)
PLAN = Plan((
    Block("conv", 1, 4, 6, 6, kernel=3),
    Block("dense", 4, 8, 6, 6, cell="norm+relu,1x1:4/2/2"),
    Block("head", 8, 2, 6, 6, hidden=8),
))

class Batches:
    def __len__(self):
        return 6
    def epoch(self, number):
        generator = torch.Generator().manual_seed(number)
        for _ in range(6):
            y = torch.arange(16) % 2
            x = 0.3 * torch.randn(16, 1, 6, 6, generator=generator)
            yield x + (y - 0.5)[:, None, None, None] * torch.linspace(-2, 2, 6), y

torch.manual_seed(0)
module = Network(PLAN)
recipe = Recipe(epochs=6, batch_size=16, optimizer="sgd", lr=0.1, ema=0.5, group_lasso=1e-4)
result = train(module, Batches(), Batches(), recipe, seed=0, checkpoint=None)
state = {key: value.contiguous() for key, value in module.state_dict().items()}
save_file({**state, "accuracy": torch.tensor(result.last.accuracy)}, sys.argv[1])
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_processes_end_in_the_same_weights(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(2):
        place = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        env = {**os.environ, "ACCELERATE_USE_CPU": "1", **{name: str(value) for name, value in place.items()}}
        command = [sys.executable, "-c", _RANK, str(tmp_path / str(rank))]
        ranks.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=200)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    one, other = load_file(tmp_path / "0"), load_file(tmp_path / "1")
    assert one["accuracy"] >= 0.95
    assert all(torch.equal(one[name], other[name]) for name in one)
