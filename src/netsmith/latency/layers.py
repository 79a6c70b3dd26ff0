"""Predicting networks by their layers, where these come in too many widths for a table of blocks.

A layer takes time for what it multiplies and for what it moves. What either costs depends on the kind of the
layer, and somewhat on the layer itself; never is it less than nothing. Both follow from some networks that
were measured whole, by least squares: first for kinds alone, then for every layer, drawn towards its kind as
strongly as predicts networks best that were left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from netsmith.compress.channels import Layer
from netsmith.errors import TableError

Array = np.ndarray[Any, np.dtype[np.float64]]

_PULLS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # towards the kind, of a layer that is an even share of the network
_FOLDS = 5
_LEAST = 8  # networks, below which layers are not told from their kinds


@dataclass(frozen=True)
class LayerModel:
    """Latency of networks of the same layers in other widths, in milliseconds.

    A network takes ``constant_ms`` and, for each term of a layer, ``costs`` by the term's name times its
    amount. ``error`` is the mean relative error on networks that were left out, 0..1, the least over what was
    tried; NaN with too few.
    """

    constant_ms: float
    costs: Mapping[str, float]
    error: float

    def predict(self, layers: Sequence[Layer]) -> float:
        """Return the latency of a network of ``layers``."""
        return self.constant_ms + sum(self.costs[name] * amount for name, _, amount in _terms(layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        error = None if math.isnan(self.error) else self.error
        return {"constant_ms": self.constant_ms, "costs": dict(self.costs), "error": error}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LayerModel:
        """Read :meth:`to_dict`'s values."""
        error = math.nan if data["error"] is None else float(data["error"])
        return cls(float(data["constant_ms"]), dict(data["costs"]), error)


def fit_layers(networks: Sequence[Sequence[Layer]], measured_ms: Sequence[float]) -> LayerModel:
    """Fit a model to networks of the same layers, by name, and what they were measured to take.

    Raises :class:`netsmith.errors.TableError` where there is not a latency above 0 for each.
    """
    if not networks or len(networks) != len(measured_ms) or not min(measured_ms) > 0:
        raise TableError(
            f"a model of layers is fitted to networks with a latency above 0 each; got {len(networks)} "
            f"networks and latencies {list(measured_ms)!r:.100}"
        )
    names = [name for name, _, _ in _terms(networks[0])]
    kinds = [kind for _, kind, _ in _terms(networks[0])]
    amounts = np.array([[amount for _, _, amount in _terms(layers)] for layers in networks])
    measured = np.array(measured_ms, float)
    if len(networks) < _LEAST:
        fitted, error = _fit(amounts, kinds, measured, None), math.nan
    else:
        errors = {pull: _left_out(amounts, kinds, measured, pull) for pull in (None, *_PULLS)}
        best = min(errors, key=errors.__getitem__)
        fitted, error = _fit(amounts, kinds, measured, best), errors[best]
    return LayerModel(float(fitted[0]), dict(zip(names, fitted[1:].tolist(), strict=True)), error)


def _left_out(amounts: Array, kinds: Sequence[str], measured: Array, pull: float | None) -> float:
    """The mean relative error on each fold of the networks by a fit to the others."""
    errors = []
    for fold in range(_FOLDS):
        out = np.arange(len(measured)) % _FOLDS == fold
        fitted = _fit(amounts[~out], kinds, measured[~out], pull)
        errors += list(np.abs((fitted[0] + amounts[out] @ fitted[1:]) / measured[out] - 1))
    return float(np.mean(errors))


def _fit(amounts: Array, kinds: Sequence[str], measured: Array, pull: float | None) -> Array:
    """Return the constant and each term's cost, none below 0; of terms of a kind all alike without a pull."""
    order = sorted(set(kinds))
    of_kind = np.array([[float(kind == name) for name in order] for kind in kinds])
    columns = np.concatenate([np.ones((len(measured), 1)), amounts @ of_kind], 1) / measured[:, None]
    scales = np.maximum(np.linalg.norm(columns, axis=0), 1e-30)
    shared = nnls(columns / scales, np.ones(len(measured)))[0] / scales
    costs: Array = of_kind @ shared[1:]
    if pull is None:
        return np.concatenate([shared[:1], costs])
    # Factors of the kinds' costs; a kind without a cost has none of its own either.
    added = amounts * costs / measured[:, None]
    weight = math.sqrt(pull * len(measured) / max(1, len(kinds)))
    rows = np.concatenate(
        [np.concatenate([1 / measured[:, None], added], 1), np.zeros((len(kinds), 1 + len(kinds)))]
    )
    rows[len(measured) :, 1:] = weight * np.eye(len(kinds))
    factors = nnls(rows, np.concatenate([np.ones(len(measured)), np.full(len(kinds), weight)]))[0]
    return np.concatenate([factors[:1], factors[1:] * costs])


def _terms(layers: Sequence[Layer]) -> Iterator[tuple[str, str, float]]:
    """Yield the name of each term, its kind, and its amount: multiply-adds, and numbers moved."""
    for layer in layers:
        kind = "depthwise" if layer.depthwise else "x".join(map(str, layer.kernel)) or "linear"
        if not layer.depthwise:  # of which either is a multiple of the other
            moved = layer.in_channels * layer.height * layer.width + layer.out_channels * layer.places
            yield f"{layer.name} moved", f"moved {kind}", float(moved)
        yield f"{layer.name} macs", f"macs {kind}", float(layer.macs)
