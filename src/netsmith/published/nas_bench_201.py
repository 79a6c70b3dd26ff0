"""NAS-Bench-201 (Dong and Yang 2020): a cell of six operations, stacked fifteen times, on three data sets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from netsmith.data.sources.parquet import open_parquet
from netsmith.errors import TableError
from netsmith.published.table import PublishedTable, read_whole
from netsmith.spaces.choices import ChoiceSpace

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DATA_SETS = ("cifar10", "cifar100", "in16")
SCORES = {"naswot": "naswot_cifar10", "logsynflow": "logsynflow_cifar10"}  # computed on CIFAR-10 alone
_EDGES = 6


@dataclass(frozen=True)
class CellSpace(ChoiceSpace):
    """Of each of six edges between four nodes, one of five operations; archs are looked up, never built."""

    @property
    def id(self) -> str:
        """The name of the space, which has one definition."""
        return "nas-bench-201"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Five options on each edge: 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""
        return (len(OPERATIONS),) * _EDGES


def read_nas_bench_201(path: Path, data_set: str = "cifar10") -> PublishedTable:
    """Read the table of one of ``DATA_SETS`` from Parquet with a column ``arch_str``.

    The figures: ``error`` (1 - test accuracy after 200 epochs), ``error_12_epochs`` (1 - validation accuracy
    after 12), ``params``, and the milliseconds ``latency_ms_DEVICE`` of every device. The
    scores without training: ``naswot`` (Mellor et al. 2021; ``-inf`` where it is not defined) and
    ``logsynflow`` (Cavagnero et al. 2023), on CIFAR-10 for all data sets. Raises
    :class:`TableError` on another data set or table, :class:`netsmith.errors.DataError` on what is not
    Parquet, and :class:`netsmith.errors.MissingExtraError` without pyarrow.
    """
    if data_set not in DATA_SETS:
        raise TableError(f"NAS-Bench-201 is of {', '.join(DATA_SETS)}; got '{data_set}'")
    return read_whole(path, lambda file: _read(file, data_set))


def _read(path: Path, data_set: str) -> PublishedTable:
    with open_parquet(path) as file:
        if file.metadata.num_rows != CellSpace().count():
            raise ValueError(f"it has {file.metadata.num_rows} rows")
        columns = file.read().to_pydict()
    devices = [name for name in columns if name.startswith("lat_ms_")]
    rows: dict[tuple[int, ...], dict[str, float]] = {}
    scores: dict[str, dict[tuple[int, ...], float]] = {name: {} for name in SCORES}
    for i, text in enumerate(columns["arch_str"]):
        found = {
            "error": 1 - columns[f"acc200ep_{data_set}_test"][i] / 100,
            "error_12_epochs": 1 - columns[f"acc12ep_{data_set}_val"][i] / 100,
            "params": 1e6 * columns[f"params_m_{data_set}"][i],
        }
        found |= {f"latency_ms_{name.removeprefix('lat_ms_')}": columns[name][i] for name in devices}
        rows[_choices(text)] = found
        for name, column in SCORES.items():
            scores[name][_choices(text)] = columns[column][i]
    return PublishedTable(f"nas-bench-201 {data_set}", CellSpace(), rows, scores)


def _choices(text: str) -> tuple[int, ...]:
    """Read ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    return tuple(OPERATIONS.index(name) for name in re.findall(r"([a-z0-9_]+)~\d", text))
