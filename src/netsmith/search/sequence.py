"""Surrogates over sequences: what an arch that grows layer by layer will score before it is trained.

The LSTM's values are stretched from the range seen to 0.1..0.9: its sigmoid then tells the differences that
matter, and has room for a sequence that is better or worse than any so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]
Tokens = tuple[int, ...]


class SequenceSurrogate(Protocol):
    """Learns a value of sequences, whose tokens are numbers from 1 up, and predicts those of others."""

    def fit(self, sequences: Sequence[Tokens], values: Sequence[float]) -> None:
        """Learn anew from these; what was learned before is forgotten."""

    def predict(self, sequences: Sequence[Tokens]) -> tuple[Array, Array]:
        """Return the expected values and their standard deviations, (N,) each, of any lengths."""


class LstmSurrogate:
    """The published surrogate: an embedding, an LSTM, and a sigmoid of its last state.

    DPP-Net's own sizes are not known; embedding and decay are those of PNAS as it was re-implemented, cells
    between those there (32) and in its paper (100; Liu et al. 2018). Steps and rate were chosen on planted
    functions and NAS-Bench-Macro. One network knows nothing of its uncertainty: the deviation is the root
    mean square of what it missed in training.
    """

    def __init__(
        self,
        vocabulary: int,
        seed: int,
        *,
        cells: int = 64,
        embedding: int = 20,
        steps: int = 300,
        rate: float = 0.02,
        decay: float = 1e-3,
    ) -> None:
        self._vocabulary, self._seed = vocabulary, seed
        self._cells, self._embedding = cells, embedding
        self._steps, self._rate, self._decay = steps, rate, decay

    def fit(self, sequences: Sequence[Tokens], values: Sequence[float]) -> None:
        """Train a fresh network by Adam, every sequence in every step, the rate falling to 0 by a cosine."""
        target = self._stretched(np.asarray(values, float))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._net = _Recurrent(self._vocabulary, self._embedding, self._cells)
        optimizer = torch.optim.AdamW(self._net.parameters(), self._rate, weight_decay=self._decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._steps)
        tokens, lengths = _padded(sequences)
        with _one_thread():
            for _ in range(self._steps):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(self._net(tokens, lengths), target)
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
        missed = self._mean(sequences) - np.asarray(values, float)
        self._missed = float(np.sqrt(np.mean(missed**2)))

    def predict(self, sequences: Sequence[Tokens]) -> tuple[Array, Array]:
        """Return the sigmoid, stretched back, and one deviation for all."""
        return self._mean(sequences), np.full(len(sequences), self._missed)

    def _mean(self, sequences: Sequence[Tokens]) -> Array:
        with torch.inference_mode():
            output: Array = self._net(*_padded(sequences)).double().numpy()
        return self._low + (output - 0.1) / 0.8 * self._range

    def _stretched(self, values: Array) -> Tensor:
        self._low = float(values.min())
        self._range = max(float(values.max()) - self._low, 1e-9)
        return torch.from_numpy(0.1 + 0.8 * (values - self._low) / self._range).float()


class _Recurrent(nn.Module):
    """Token 0 starts every sequence, so that one of no layers can be read too."""

    def __init__(self, vocabulary: int, embedding: int, cells: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary + 1, embedding)
        self.lstm = nn.LSTM(embedding, cells, batch_first=True)
        self.head = nn.Linear(cells, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return (N,) in 0..1 of tokens (N, L), of which ``lengths`` (N,) count."""
        states, _ = self.lstm(self.embed(tokens))
        last = states[torch.arange(len(tokens)), lengths - 1]
        return torch.sigmoid(self.head(last)).squeeze(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps so small wait longer for a second thread than it works, on a busy machine many times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _padded(sequences: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    """Return the tokens (N, L), 0 before and behind each sequence, and how many count, (N,)."""
    lengths = torch.tensor([len(sequence) + 1 for sequence in sequences])
    tokens = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.long)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[1 : len(sequence) + 1] = torch.tensor(sequence, dtype=torch.long)
    return tokens, lengths


class EnsembleSurrogate:
    """Several surrogates, each fitted to a bootstrap of what is known: their mean, and their spread."""

    def __init__(self, make: Callable[[int], SequenceSurrogate], seed: int, members: int = 5) -> None:
        self._members = [make(seed * members + i) for i in range(members)]
        self._seed = seed

    def fit(self, sequences: Sequence[Tokens], values: Sequence[float]) -> None:
        """Fit each member to as many draws with replacement."""
        rng = np.random.default_rng(self._seed)
        for member in self._members:
            drawn = rng.integers(len(values), size=len(values))
            member.fit([sequences[i] for i in drawn], [values[i] for i in drawn])

    def predict(self, sequences: Sequence[Tokens]) -> tuple[Array, Array]:
        """Return mean and standard deviation over the members' means."""
        means = np.array([member.predict(sequences)[0] for member in self._members])
        return means.mean(0), means.std(0, ddof=1)


class ForestSurrogate:
    """A random forest on what a sequence holds: each token's count, each place's token, the length."""

    def __init__(self, vocabulary: int, seed: int, *, trees: int = 200) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self._vocabulary = vocabulary
        self._model = RandomForestRegressor(trees, max_features=0.5, random_state=seed)

    def fit(self, sequences: Sequence[Tokens], values: Sequence[float]) -> None:
        """Fit the forest; places behind the longest of these sequences are not looked at later."""
        self._places = max(map(len, sequences))
        self._model.fit(self._features(sequences), values)

    def predict(self, sequences: Sequence[Tokens]) -> tuple[Array, Array]:
        """Return mean and standard deviation over the trees."""
        features = self._features(sequences)
        each = np.array([tree.predict(features) for tree in self._model.estimators_])
        return each.mean(0), each.std(0, ddof=1)

    def _features(self, sequences: Sequence[Tokens]) -> Array:
        counts = np.zeros((len(sequences), self._vocabulary + 1))
        places = np.zeros((len(sequences), self._places, self._vocabulary + 1))
        for i, sequence in enumerate(sequences):
            np.add.at(counts[i], np.array(sequence, int), 1)
            for place, token in enumerate(sequence[: self._places]):
                places[i, place, token] = 1
        counts[:, 0] = list(map(len, sequences))
        return np.hstack([counts, places.reshape(len(sequences), -1)])
