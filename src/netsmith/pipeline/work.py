"""What every step of a design works with: data, device, space, loaders, and the journal's memory."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netsmith.budget import Budget
from netsmith.data import (
    AugmentPolicy,
    Images,
    Loader,
    Splits,
    batch_generator,
    choose_policy,
    flip_evidence,
    load,
    named_policy,
    split,
)
from netsmith.data.sources.dataset import MapDataset
from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.errors import BudgetError, FolderError, SettingsError
from netsmith.nn.network import Network
from netsmith.pipeline.calibration import calibrated
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.parts import after
from netsmith.pipeline.progress import Progress
from netsmith.pipeline.searching.database import check_address
from netsmith.pipeline.searching.reach import WIDTHS, within_activations
from netsmith.pipeline.searching.store import Contents, Store
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.tabled import TableDevice
from netsmith.plan import Plan
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.dense import DenseStage, dense
from netsmith.spaces.mbconv import EXPANSIONS, Stage, mbconv
from netsmith.spaces.routed import RoutedSpace, routed
from netsmith.spaces.space import BuildableSpace, NamedSpace
from netsmith.train import fastest_threads, place, trainable_macs

SEARCH_BATCH, EVALUATION_BATCH, SCORING_IMAGES = 64, 256, 4000
# What a limit of activations must leave of the options of a space for its width to be worth searching.
_ROOM = 0.5
# Of blocks whose channels are chosen with the architecture, in place of being taken out of it later.
FINE_EXPANSIONS = (2, 3, 4, 6)
# What may differ between workers that search together.
_OF_ONE_WORKER = ("data", "storage", "threads", "baselines")


class Work:
    """The open folder of a design with everything that its settings stand for, made when first needed.

    ``source`` is what to read images from: the settings' ``data``, or a PyTorch dataset in its place.
    ``module`` is the base of the design where the settings only name it, for it is its owner's to make.
    """

    def __init__(
        self,
        folder: DesignFolder,
        source: str | MapDataset,
        progress: Progress,
        module: nn.Module | None = None,
    ) -> None:
        self.folder, self.source, self.progress, self.module = folder, source, progress, module
        self.journal = folder.journal

    @cached_property
    def settings(self) -> Settings:
        """What was asked; of a design that is compressed, what is asked of its second part."""
        asked = self.folder.settings
        return after(asked, self.folder.path) if asked.compress else asked

    @cached_property
    def budget(self) -> Budget:
        """The limits to keep. Shares are of the base's figures, which :func:`base_of` wrote down."""
        base = self.journal.last("base") if self.settings.shares else None
        return self.settings.limits(None if base is None else base["figures"])

    @cached_property
    def aims(self) -> dict[str, float]:
        """What a design should use up: the limits, and no more multiply-adds than its effort can train.

        The training can be as long as asked for where its epochs were given.
        """
        limits = self.budget.limits()
        if self.settings.epochs is None:
            macs = trainable_macs(len(self.splits.train), self.settings.budget)
            limits["macs"] = min(macs, limits.get("macs", macs))
        return limits

    @cached_property
    def splits(self) -> Splits:
        """Train, validation and test, the same at every start. Raises where the images have changed."""
        asked = self.settings
        loaded = load(self.source, image_size=asked.image_size, test=asked.test, skip_bad=asked.skip_bad)
        splits = split(loaded, asked.seed)
        if asked.mean is not None and asked.std is not None:
            channels = splits.input_shape[0]
            mean, std = (_a_channel(values, channels) for values in (asked.mean, asked.std))
            splits = replace(splits, mean=mean, std=std)
        known = self.journal.last("data")
        if known is None:
            self.journal.write(
                "data",
                train=len(splits.train),
                validation=len(splits.validation),
                test=len(splits.test),
                classes=splits.classes,
                input_shape=list(splits.input_shape),
                label_names=list(splits.label_names),
                digest=splits.digest,
                drawn_test=loaded.test is None,
                skipped=[{"path": str(s.path), "reason": s.reason} for s in splits.skipped],
            )
        elif known["digest"] != splits.digest:
            raise FolderError(
                f"the images of '{asked.data}' are not those that {self.folder.path} was begun with; "
                "choose another --out for the new images"
            )
        return splits

    def read_images(self) -> None:
        """Read the images, telling the user, and what was wrong with some."""
        self.progress.stage("Reading the images")
        number = len(self.splits.skipped)
        if number:
            were = "image was" if number == 1 else "images were"
            self.warn(f"{number} {were} skipped; the report lists them")

    def set_threads(self, network: Plan | nn.Module) -> None:
        """Train with the threads that were asked for, or that a network trains fastest with."""

        def choose() -> dict[str, int]:
            made = Network(network) if isinstance(network, Plan) else copy.deepcopy(network)
            made = place(made, torch.device("cpu")).train()
            x = torch.zeros(SEARCH_BATCH, *self.splits.input_shape).to(memory_format=torch.channels_last)
            most = torch.get_num_threads()
            return {
                "threads": self.settings.threads or fastest_threads(lambda: made(x).sum().backward(), most)
            }

        torch.set_num_threads(self.once("threads", choose)["threads"])

    @cached_property
    def scoring(self) -> Loader:
        """Batches of the validation images that archs are judged by: all, or as many as tell them apart."""
        images = self.splits.validation
        if len(images) > SCORING_IMAGES:
            order = torch.randperm(len(images), generator=batch_generator(0, "scoring"))
            images = images.subset(order[:SCORING_IMAGES])
        return self.loader(images, EVALUATION_BATCH, shuffle=False)

    def policy(self, passes: float) -> AugmentPolicy:
        """Return how images are augmented that are seen ``passes`` times: as asked, or as that needs."""
        strength, splits = self.settings.augment, self.splits
        if strength == "auto":
            return choose_policy(splits.input_shape, passes, self._flip)
        return named_policy(strength, splits.input_shape)

    @cached_property
    def _flip(self) -> bool:
        """Whether the images speak for mirroring."""
        return flip_evidence(self.splits.train, self.splits.validation).flip

    @cached_property
    def bench(self) -> Bench:
        """The device with its reference network, whose usual speed is remembered in the journal."""
        device = parse(self.settings.device)
        known = self.journal.last("bench")
        if known is not None and known["fingerprint"] != device.fingerprint():
            raise FolderError(
                f"{self.folder.path} was measured on {known['fingerprint']}, which is not the device at "
                f"hand, {device.fingerprint()}. Go on there, or choose another --out"
            )
        if known is not None:
            return Bench(device, reference_ms=known["reference_ms"])
        bench, warning = calibrated(device)
        if warning:
            self.warn(warning)
        self.journal.write("bench", fingerprint=device.fingerprint(), reference_ms=bench.reference_ms)
        return bench

    @cached_property
    def widths(self) -> Sequence[float]:
        """The widths that the space may have: the one asked for, or those that the device can be asked about.

        Raises :class:`netsmith.errors.TableError` where the device is a table that has none of them.
        """
        asked, device = self.settings.width, self.bench.device
        widths: Sequence[float] = WIDTHS if asked is None else (asked,)
        if self.budget.activation_bytes is not None:
            widths = [width for width in widths if width == widths[0] or self._roomy(width)]
        if not isinstance(device, TableDevice):
            return widths
        covered = [width for width in widths if device.covers(self.space_of(width).blocks)]
        if not covered:
            device.model_of(self.space_of(1.0 if asked is None else asked))
        return covered

    def space_of(self, width: float) -> ChainSpace:
        """Return the space at a width, for the images at hand and the memory that activations may take.

        Raises :class:`netsmith.errors.BudgetError` where no arch is within that memory.
        """
        space, limit = self._unlimited(width), self.budget.activation_bytes
        return space if limit is None else within_activations(space, limit, self.bench.device.precision)

    def routed_space(self, width: float) -> RoutedSpace:
        """Return the space at a width of a design in which every image has a path of its own."""
        return routed(self.splits.input_shape, self.splits.classes, width=width, stages=self._stages)

    def buildable(self, width: float) -> BuildableSpace:
        """Return the space at a width of a design whose archs are each trained."""
        if self.settings.way.space == "dense":
            return dense(self.splits.input_shape, self.splits.classes, width=width)
        return self.space_of(width)

    def dense_stages(self) -> Sequence[DenseStage]:
        """Return the stages that the dense space has for the images at hand, at width 1."""
        return dense(self.splits.input_shape, self.splits.classes).stages

    def store(self, objectives: tuple[str, ...], space: NamedSpace) -> Store:
        """Return the store of the trials of ``space``: the settings' own, or a file of the folder.

        In a store of its own a design is known by what its trials depend on, so that workers find each other.
        """
        asked = self.settings
        named = {f.name: getattr(asked, f.name) for f in fields(asked) if f.name not in _OF_ONE_WORKER}
        known = [named, self.splits.digest, self.bench.device.fingerprint()]
        digest = hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=8).hexdigest()
        contents = Contents(space.id, space.decisions, objectives, digest)
        return Store.open(self._address, f"netsmith-{digest}", contents)

    def check_storage(self) -> None:
        """Raise :class:`netsmith.errors.StoreError` where trials are to be kept and cannot be."""
        if self.settings.way.keeps_trials:
            check_address(self._address)

    @property
    def _address(self) -> str | Path:
        return self.settings.storage or self.folder.path / "journal.db"

    def _unlimited(self, width: float) -> ChainSpace:
        return mbconv(
            self.splits.input_shape,
            self.splits.classes,
            width=width,
            stages=self._stages,
            expansions=FINE_EXPANSIONS if self.settings.way.space == "joint" else EXPANSIONS,
        )

    @property
    def _stages(self) -> list[Stage] | None:
        rows = self.settings.stages
        return None if rows is None else [Stage(*row) for row in rows]

    def _roomy(self, width: float) -> bool:
        """Whether the limit of activations leaves the search something to choose from."""
        try:
            kept = self.space_of(width).edges
        except BudgetError:
            return False
        return sum(map(len, kept)) >= _ROOM * sum(map(len, self._unlimited(width).edges))

    def loader(
        self,
        images: Images,
        batch_size: int,
        *,
        policy: AugmentPolicy | None = None,
        salt: int = 0,
        shuffle: bool = True,
        limit: int = 0,
    ) -> Loader:
        """Return batches of ``images``; a ``salt`` of its own gives every user an order of its own.

        Batches to train on have a ``policy``, and are all full. ``limit`` is how many images an epoch takes;
        0 for all.
        """
        return Loader(
            images,
            batch_size,
            mean=self.splits.mean,
            std=self.splits.std,
            policy=policy,
            seed=self.settings.seed * 101 + salt,
            device="cuda" if torch.cuda.is_available() else "cpu",
            shuffle=shuffle,
            drop_last=policy is not None,
            limit=limit or None,
        )

    def once(
        self, event: str, make: Callable[[], Mapping[str, Any]], **match: Any
    ) -> dict[str, Any]:  # the fields that name the event, any JSON
        """Return the journal's event of this name and fields; where there is none, make and write it."""
        known = self.journal.last(event, **match)
        return known if known is not None else self.journal.write(event, **match, **make())

    def warn(self, text: str) -> None:
        """Tell the user, now and in the report."""
        self.once("warning", dict, text=text)
        self.progress.warn(text)


def _a_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One number for each channel. Raises :class:`SettingsError`."""
    if len(values) not in (1, channels):
        raise SettingsError(
            f"mean and std are one number or one a channel; the images have {channels}, got {list(values)}"
        )
    return values * channels if len(values) == 1 else values
