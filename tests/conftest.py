"""One thread a test process, since tests run side by side; the same draws in every run; one latency cache.

A cache of each folder's own would be whichever was made last, in a process that runs tests of several.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A latency cache of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETSMITH_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    """Weights and images that a test draws without a seed are the same in every run."""
    import torch  # after the number of threads is set

    torch.manual_seed(0)
