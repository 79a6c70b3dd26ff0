"""What was asked of a design, as a value: from the command line, a TOML file or Python, all alike."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from netsmith.budget import Budget
from netsmith.errors import SettingsError, nearest
from netsmith.pipeline.limits import LIMITS, is_share, limits_of, read_limits, share_of
from netsmith.pipeline.parts import check_parts
from netsmith.pipeline.values import check_drop, check_normalisation, read_numbers, read_stages
from netsmith.pipeline.way import GROWN, WAYS, Way, check_growth, check_way, way_of

EFFORTS = ("quick", "standard", "thorough")
_CHOICES: dict[str, tuple[str, ...]] = {
    "budget": EFFORTS,
    **WAYS,
    "update": ("gradient", "reinforce"),
    "weights": ("shared", "own"),
    "controller": ("auto", "light", "resnet"),
    "start": ("supernet", "scratch"),
    "baselines": ("none", "quick", "full"),
    "precision": ("device", "mixed"),
    "augment": ("auto", "none", "light", "standard", "strong"),
}
# What may be asked for beside the error, and the figure of a trial that it is.
OBJECTIVES = {"error": "error", **LIMITS}
MAX_TOML_BYTES = 1_000_000
MOST_WORKERS = 64
MOST_GROWTH = 100.0  # times what a base takes


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides a design's answer; the names are those of the options and TOML keys.

    ``latency``, ``memory``, ``activations``, ``size``, ``macs`` and ``params`` are limits, as numbers, as
    text with a unit (``"0.2ms"``) or as a share of what a base takes (``"50%"``). ``budget`` is how much work
    may be spent: quick, standard or thorough. ``stages`` replaces the space's layout: rows of ``width``,
    ``blocks``, ``stride``. ``objectives`` are what a front is of, joined by commas, the error first.
    ``storage`` is the address of Optuna's store of trials, which ``workers`` designs with the same settings,
    in folders of their own, may share. ``controller`` is what chooses the path of an image, where each has
    its own. ``base`` is what is to lose channels, or to grow paths, in the place of a search among
    new networks: the folder of a finished design, or a network of the user's own by its name, and the file
    of its weights (``base_weights``), if it has one; to grow, also ``"pyramidnet"``, ``"densenet"`` or
    ``"mobilenetv2"``, which is trained first. Images of such a network are normalised by ``mean`` and
    ``std``, one number or one a channel, of pixels as 0..1. ``teacher`` says whether what is left of a base
    also learns from its outputs. With ``precision`` mixed no channels go: some layers of its int8 file stay
    float32, within the limits; where there are none, so few that its validation accuracy, 0..1, falls by no
    more than ``max_drop``; and it is trained for that file where ``epochs`` are given. With ``compress`` a
    network is designed for limits that are ``looser`` by so many times, and loses channels until it keeps
    them. ``share`` is the part of its epochs that each training takes.
    """

    data: str
    device: str = "onnxruntime"
    latency: str | float | None = None
    memory: str | float | None = None
    activations: str | float | None = None
    size: str | float | None = None
    macs: str | float | None = None
    params: str | float | None = None
    budget: str = "standard"
    seed: int = 0
    space: str = "auto"
    width: float | None = None
    stages: tuple[tuple[int, int, int], ...] | None = None
    strategy: str = "auto"
    judge: str = "auto"
    objectives: str = "auto"
    storage: str | None = None
    workers: int = 1
    update: str = "gradient"
    weights: str = "shared"
    controller: str = "auto"
    start: str = "supernet"
    baselines: str = "quick"
    augment: str = "auto"
    image_size: int | None = None
    test: str | None = None
    skip_bad: bool = False
    search_epochs: int | None = None
    threads: int | None = None
    epochs: int | None = None
    base: str | None = None
    base_weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    teacher: bool = False
    precision: str = "device"
    max_drop: float | None = None
    compress: bool = False
    looser: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise SettingsError(
                    f"{name} is one of {', '.join(allowed)}; got {value!r}{nearest(str(value), allowed)}"
                )
        for name in ("search_epochs", "epochs", "image_size", "threads"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingsError(f"{name} is a whole number from 1 up; got {value!r}")
        if type(self.workers) is not int or not 1 <= self.workers <= MOST_WORKERS:
            raise SettingsError(f"workers is a whole number from 1 to {MOST_WORKERS}; got {self.workers!r}")
        if self.workers > 1 and self.storage is None:
            raise SettingsError("workers share trials by a store; name one, such as --storage trials.db")
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise SettingsError(f"seed is a whole number from 0 to {2**31 - 1}; got {self.seed!r}")
        if not isinstance(self.data, str) or not self.data:
            raise SettingsError("data names the images: 'digits', a folder or a file")
        if not isinstance(self.device, str) or not isinstance(self.test, str | None):
            raise SettingsError(f"device and test are text; got {self.device!r:.100} and {self.test!r:.100}")
        if self.width is not None and (type(self.width) not in (int, float) or not 0 < self.width <= 8):
            raise SettingsError(f"width is a multiplier above 0 and up to 8; got {self.width!r:.100}")
        if type(self.share) not in (int, float) or not 0 < self.share <= 1:
            raise SettingsError(f"share is a part of the epochs, over 0 and up to 1; got {self.share!r:.100}")
        for name in ("skip_bad", "teacher", "compress"):
            value = getattr(self, name)
            if type(value) is not bool:
                raise SettingsError(f"{name} is true or false; got {value!r:.100}")
        if not isinstance(self.storage, str | None):
            raise SettingsError(f"storage is an address such as sqlite:///FILE; got {self.storage!r:.100}")
        check_normalisation(self.mean, self.std)
        self.limits()
        self._check_way()
        self._check_objectives()
        check_parts(self)

    @property
    def way(self) -> Way:
        """The space, strategy and judge: what was asked for, and what follows from it."""
        return way_of(
            self.space,
            self.strategy,
            self.judge,
            based=self.base is not None,
            mixed=self.precision == "mixed",
        )

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures of a trial that are objectives, the error first."""
        asked = self.objectives
        if asked == "auto":
            asked = "error,latency" if self.way.of_fronts else "error"
        return tuple(OBJECTIVES[name.strip()] for name in asked.split(","))

    def _check_way(self) -> None:
        if not isinstance(self.base, str | None) or self.base == "":
            raise SettingsError(f"base is a finished design's folder, or a network; got {self.base!r:.100}")
        if not isinstance(self.base_weights, str | None) or (self.base_weights and not self.own):
            raise SettingsError(
                f"base_weights is a file, of a base of one's own; got {self.base_weights!r:.100}"
            )
        check_way(self.way, based=self.base is not None, mixed=self.precision == "mixed")
        limited = any(getattr(self, name) is not None for name in LIMITS)
        if self.way.space == GROWN[0]:
            check_growth(self.base, limited=limited)
        if self.max_drop is not None:
            check_drop(self.max_drop, alone=self.precision == "mixed" and not limited)
        if not self.way.keeps_trials and self.storage is not None:
            raise SettingsError(
                f"strategy '{self.way.strategy}' judges no archs one by one: leave --storage out"
            )
        if self.stages is not None and self.way.space not in ("mbconv", "routed", "joint"):
            raise SettingsError(
                "stages are a layout of the spaces 'mbconv', 'routed' and 'joint'; "
                f"got space '{self.way.space}'"
            )
        self._check_routing()
        if self.base is None and (self.own or self.shares or self.teacher):
            raise SettingsError(
                "mean, std, a teacher and limits in percent are of a design with a base: netsmith compress"
            )
        if self.base is not None and self.width is not None:
            raise SettingsError("width is of a new network; one with a base has that of the base")

    def _check_routing(self) -> None:
        if self.way.of_archs:
            if self.controller != "auto":
                raise SettingsError("a controller chooses paths of images: it goes with --strategy instance")
            return
        others = [name for name in ("macs", "params", "activations") if getattr(self, name) is not None]
        if self.latency is None or others:
            raise SettingsError(
                "strategy 'instance' needs a limit of latency, which holds on average over images, and takes "
                "beside it those of size and memory, which are measured; got "
                + (", ".join(others) if others else "no latency")
            )

    def _check_objectives(self) -> None:
        asked = self.objectives
        names = [name.strip() for name in asked.split(",")] if isinstance(asked, str) else []
        if asked != "auto" and (
            names[:1] != ["error"] or len(set(names)) < len(names) or not set(names) <= set(OBJECTIVES)
        ):
            raise SettingsError(
                f"objectives are the error and what is to be small beside it, each once, such as "
                f"'error,latency,size'; known: {', '.join(OBJECTIVES)}; got {asked!r:.100}"
            )
        if len(self.figures) > 1 and (
            self.way.strategy in ("proxyless", "instance", "apq") or self.base is not None
        ):
            what = "a design with a base" if self.base is not None else f"strategy '{self.way.strategy}'"
            raise SettingsError(
                f"{what} finds the best network under a limit, not a front; name one objective, or a new "
                "design by another strategy, such as dpp or nsga2"
            )

    def default_folder(self) -> Path:
        """Return the folder of a design that was given none: ``runs/`` and the data's name with the seed."""
        return Path("runs") / f"{Path(self.data).resolve().stem or 'design'}-{self.seed}"

    def limits(self, base: Mapping[str, float] | None = None) -> Budget:
        """Return the limits that an answer must keep; shares are of the figures of ``base``, where known."""
        asked = {name: getattr(self, name) for name in LIMITS}
        most = MOST_GROWTH if self.way.space == GROWN[0] else 1.0
        shares = {LIMITS[name]: share_of(text, name, most) for name, text in asked.items() if is_share(text)}
        limits = read_limits({name: None if is_share(text) else text for name, text in asked.items()})
        known = {name: share * base[name] for name, share in shares.items() if base and name in base}
        return replace(limits, **known)

    @property
    def shares(self) -> list[str]:
        """The figures whose limit is a share of the base's."""
        return [figure for name, figure in LIMITS.items() if is_share(getattr(self, name))]

    @property
    def own(self) -> bool:
        """Whether the base is a network of the user's own, and no finished design."""
        return self.mean is not None

    def to_toml(self) -> str:
        """Return the settings as a TOML document; :func:`read_toml` reads it back."""
        return to_toml([self])

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Make settings from names and values. Raises :class:`SettingsError` on an unknown name."""
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise SettingsError(
                    f"unknown setting '{name}'{nearest(name, known)}; known: {', '.join(sorted(known))}"
                )
        values = dict(values)
        for name in ("mean", "std"):
            if values.get(name) is not None:
                values[name] = read_numbers(values[name], name)
        if values.get("stages") is not None:
            values["stages"] = read_stages(values["stages"])
        if "data" not in values:
            raise SettingsError("a design needs data: 'digits', a folder or a file of images")
        try:
            return cls(**values)
        except TypeError as error:
            raise SettingsError(f"a setting has a value of the wrong type: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file. Raises :class:`SettingsError` where it cannot be read."""
    try:
        if path.stat().st_size > MAX_TOML_BYTES:
            raise SettingsError(f"{path} is over {MAX_TOML_BYTES} bytes; settings are not that long")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"cannot read settings from {path}: {error}") from None


def given_once(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Join them; the same setting in both is an error even where they agree: there is one place to look."""
    both = sorted(set(config) & set(options))
    if both:
        raise SettingsError(
            f"given both in the configuration file and as options: {', '.join(both)}; give each once"
        )
    return {**config, **options}


def merge(config: Mapping[str, Any], options: Mapping[str, Any]) -> list[Settings]:
    """Join a file's values and the options given beside it: the settings of each device that is asked for.

    ``device`` may be a list, and a limit then be text such as ``"A=1ms,B=2ms"``, one for each.
    """
    values = given_once(config, options)
    devices = values.get("device")
    if not isinstance(devices, list | tuple):
        return [Settings.from_mapping(values)]
    if not devices or not all(isinstance(device, str) for device in devices):
        raise SettingsError(f"device names one device, or several in a list of texts; got {devices!r:.100}")
    return [
        Settings.from_mapping({**values, "device": device, **limits_of(device, devices, values)})
        for device in devices
    ]


def joined(asked: Sequence[Settings]) -> dict[str, Any]:
    """Return what :func:`merge` makes these settings of, which differ in device and limits alone."""
    if len(asked) == 1:
        return asdict(asked[0])
    rows, values = [asdict(settings) for settings in asked], asdict(asked[0])
    values["device"] = [settings.device for settings in asked]
    for name in LIMITS:
        if any(row[name] != values[name] for row in rows):
            values[name] = ",".join(f"{row['device']}={row[name]}" for row in rows)
    return values


def to_toml(asked: Sequence[Settings]) -> str:
    """Return the settings of one device or several as a TOML document."""
    return tomli_w.dumps({k: _plain(v) for k, v in joined(asked).items() if v is not None})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
