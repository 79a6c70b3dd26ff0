import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from netsmith.nn.kernels import launch as launching
from netsmith.nn.layers import BatchNormReLU6, DepthwiseConv2d
from netsmith.nn.runtime import keep_memory, takes_kernels


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_numba_loads_at_the_first_batch_and_not_before():
    code = """
import sys, torch
from netsmith.nn.layers import BatchNormReLU6
norm = BatchNormReLU6(16)
norm(torch.randn(2, 16, 4, 4))
print('numba' in sys.modules)
norm(torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last))
print('numba' in sys.modules)
"""
    assert run(code).split() == ["False", "True"]


def test_a_forked_process_can_go_on_with_one_thread():
    code = """
import os, torch
from netsmith.nn.layers import BatchNormReLU6
torch.set_num_threads(2)
norm, x = BatchNormReLU6(16), torch.randn(4, 16, 8, 8).contiguous(memory_format=torch.channels_last)
norm(x)
if (child := os.fork()) == 0:
    torch.set_num_threads(1)
    norm(x)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code) == "7"


def test_threads_of_the_caller_may_use_the_kernels_at_once():
    layer, norm = DepthwiseConv2d(32, 5), BatchNormReLU6(32).eval()
    batches = [torch.randn(4, 32, 9, 9).contiguous(memory_format=torch.channels_last) for _ in range(8)]
    expected = [norm(layer(x)) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: norm(layer(x)), batches * 5))
    assert all(torch.equal(a, b) for a, b in zip(found, expected * 5, strict=True))


def test_without_openmp_pytorch_does_the_work(monkeypatch):
    monkeypatch.setattr(launching, "_openmp", lambda: None)
    assert not launching.can_launch()
    with pytest.raises(RuntimeError, match="can_launch"):
        launching.launch(0, 1)


def test_memory_is_kept_where_the_library_can():
    assert keep_memory() is keep_memory()
    if sys.platform == "linux" and "glibc" in run("import platform; print(platform.libc_ver()[0])"):
        assert keep_memory()


def test_only_plain_float32_in_channels_last_is_taken():
    x = torch.randn(2, 16, 4, 4)
    assert not takes_kernels(x)
    assert takes_kernels(x.contiguous(memory_format=torch.channels_last)) is launching.can_launch()
    assert not takes_kernels(x.double().contiguous(memory_format=torch.channels_last))
    assert not takes_kernels(torch.empty(0, 16, 4, 4, memory_format=torch.channels_last))
