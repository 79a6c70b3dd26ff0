"""A network that benchmarks judge tools by, trained in a design's folder, and others trained on alike."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from netsmith.pipeline.finish import Finished, export_network, finish, training_recipe
from netsmith.pipeline.work import Work


class Trained:
    """A network for images of so many channels and classes, trained for so many epochs: ``base``."""

    def __init__(self, work: Work, make: Callable[[int, int], nn.Module], epochs: int) -> None:
        self.work = work
        work.read_images()
        splits = work.splits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(work.settings.seed)
            module = make(splits.input_shape[0], splits.classes)
        work.set_threads(module)
        self.base = self.tuned("base", module, epochs)

    def tuned(self, name: str, module: nn.Module, epochs: int | None = None) -> Finished:
        """Return a network that was trained on from the weights it has, for as long as the settings say."""
        recipe = training_recipe(self.work, module)
        recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
        return finish(self.work, name, name, None, recipe, arch=None, start=deepcopy(module))

    def timed(self, module: nn.Module) -> float:
        """Return the milliseconds that a network takes as exported."""
        files = {"network": export_network(self.work, deepcopy(module).eval(), "network")}
        return self.work.bench.time_files(files, width=0.02, limit_s=3.0)["network"].median_ms
