"""How archs are found: of which space, by which strategy, judged by what; and what goes with what."""

from __future__ import annotations

from typing import NamedTuple

from netsmith.errors import SettingsError

OF_CHANNELS = ("amc", "knapsack", "magnitude", "uniform")  # strategies that only take channels out
OF_PRECISIONS = ("programme", "haq")  # strategies that only choose precisions of layers
MIXED = ("mixed", OF_PRECISIONS[0], "file")  # what is meant where nothing else is said of how
JOINT = ("joint", "apq", "transfer")  # and that in which they are chosen with the architecture
GROWN = ("tree", "path-level", "tuning")  # that in which paths grow in a trained network
STARTS = ("densenet", "pyramidnet", "mobilenetv2")  # that growth can begin with, trained first
WAYS: dict[str, tuple[str, ...]] = {
    "space": ("auto", "mbconv", "dense", "routed", "pruned", "mixed", "joint", "tree"),
    "strategy": (
        "auto", "proxyless", "instance", "dpp", "random", "evolution", "local", "surrogate", "nsga2", "tpe",
        *OF_CHANNELS, *OF_PRECISIONS, "apq", "path-level",
    ),
    "judge": ("auto", "supernet", "training", "reward", "inherited", "file", "transfer", "tuning"),
}  # fmt: skip


class Way(NamedTuple):
    """A space, a strategy and a judge, by their names."""

    space: str
    strategy: str
    judge: str

    @property
    def of_fronts(self) -> bool:
        """Whether the strategy looks for fronts where nothing else is said."""
        return self.strategy in ("dpp", "nsga2") and self.space not in ("pruned", "tree")

    @property
    def keeps_trials(self) -> bool:
        """Whether archs are judged one by one, each a trial in a store that workers may share."""
        return self.strategy not in ("proxyless", "instance", "apq", *OF_PRECISIONS, *OF_CHANNELS)

    @property
    def for_several(self) -> bool:
        """Whether one search serves several devices: its supernet does, and each has probabilities."""
        return self.judge not in ("training", "reward", "transfer", "tuning")

    @property
    def of_archs(self) -> bool:
        """Whether the answer is one arch; else every image has its own."""
        return self.space != "routed"

    @property
    def trains(self) -> bool:
        """Whether an arch is trained before it is handed over; else only its file differs from others."""
        return self.space != "mixed"


def way_of(space: str, strategy: str, judge: str, *, based: bool, mixed: bool) -> Way:
    """Return the way with what is "auto" filled in.

    ``based`` where a trained network is begun with; ``mixed`` where the precisions of its layers are chosen.
    """
    if based or mixed:
        grown = {space, strategy, judge} & set(GROWN)
        own = MIXED if mixed else GROWN if grown else ("pruned", "amc", "inherited")
        asked = (space, strategy, judge)
        return Way(*(name if name != "auto" else mine for name, mine in zip(asked, own, strict=True)))
    if space == "auto":
        space = {"dpp": "dense", "instance": "routed", "apq": "joint"}.get(strategy, "mbconv")
    if judge == "auto":
        judge = {"dense": "training", "routed": "reward", "joint": "transfer"}.get(space, "supernet")
    if strategy == "auto":
        of_space = {"dense": "dpp", "routed": "instance", "joint": "apq"}
        strategy = of_space.get(space, "proxyless" if judge == "supernet" else "evolution")
    return Way(space, strategy, judge)


def check_way(way: Way, *, based: bool, mixed: bool) -> None:
    """Raise :class:`SettingsError` where space, strategy and judge do not go together."""
    space, strategy, judge = way
    if mixed or set(way) & {*MIXED, *OF_PRECISIONS}:
        if not (mixed and based and (space, judge) == MIXED[::2] and strategy in OF_PRECISIONS):
            known = "' or '".join(OF_PRECISIONS)
            raise SettingsError(
                "precision 'mixed' is of a trained network, netsmith compress NETWORK --precision mixed, and "
                f"of space '{MIXED[0]}', strategy '{known}' and judge '{MIXED[2]}' "
                f"alone; got space '{space}', strategy '{strategy}' and judge '{judge}'"
            )
        return
    if set(way) & set(GROWN):
        _check_grown(way, based=based)
        return
    if based:
        if (space, judge) != ("pruned", "inherited") or strategy in ("proxyless", "dpp", "instance"):
            raise SettingsError(
                "a design with a base takes channels out of it: its space is 'pruned', its judge "
                "'inherited', and its strategy neither proxyless nor dpp nor instance; got "
                f"space '{space}', judge '{judge}' and strategy '{strategy}'"
            )
        return
    if set(way) & set(JOINT):
        if way != JOINT:
            raise SettingsError(
                "strategy 'apq' chooses architecture and precisions together in space 'joint', by judge "
                f"'transfer', and nothing else does; got space '{space}', strategy '{strategy}' and judge "
                f"'{judge}'"
            )
        return
    if space == "pruned" or judge == "inherited" or strategy in OF_CHANNELS:
        raise SettingsError(
            f"space 'pruned', judge 'inherited' and the strategies {', '.join(OF_CHANNELS)} begin with a "
            "trained network: netsmith compress FOLDER"
        )
    if strategy == "instance" or space == "routed" or judge == "reward":
        if way != ("routed", "instance", "reward"):
            raise SettingsError(
                "strategy 'instance' chooses a path for each image through space 'routed', by judge "
                f"'reward', and nothing else does; got space '{space}', strategy '{strategy}' and judge "
                f"'{judge}'"
            )
        return
    if strategy == "dpp" and space != "dense":
        raise SettingsError("strategy 'dpp' grows the cells of space 'dense'; leave --space out")
    if strategy == "proxyless" and (space, judge) != ("mbconv", "supernet"):
        raise SettingsError(
            "strategy 'proxyless' moves the path probabilities of a supernet, which space 'mbconv' has "
            f"and space 'dense' has not; got space '{space}' and judge '{judge}'"
        )
    if judge == "supernet" and space == "dense":
        raise SettingsError("space 'dense' has no supernet; its archs are judged by --judge training")


def _check_grown(way: Way, *, based: bool) -> None:
    space, strategy, judge = way
    others = ("proxyless", "dpp", "instance", "apq", *OF_CHANNELS, *OF_PRECISIONS)
    if not based:
        raise SettingsError(
            f"space '{GROWN[0]}', strategy '{GROWN[1]}' and judge '{GROWN[2]}' grow paths in a trained "
            f"network: --from FOLDER, or --base {' or '.join(STARTS)}, which is trained first"
        )
    if (space, judge) != GROWN[::2] or strategy in others:
        raise SettingsError(
            f"paths grow in space '{GROWN[0]}' by judge '{GROWN[2]}', and by strategy '{GROWN[1]}' or "
            f"another that asks for archs, such as evolution; got space '{space}', strategy '{strategy}' "
            f"and judge '{judge}'"
        )


def check_growth(base: str | None, *, limited: bool) -> None:
    """Raise :class:`SettingsError` where paths cannot grow in ``base``, or up to no limit."""
    if not limited:
        raise SettingsError("a network grows up to a limit; give one, such as --params 150%")
    if base is not None and base.lower().endswith(".onnx"):
        raise SettingsError(
            f"paths grow in networks whose layers Python holds, and not in a file such as {base}: name the "
            "Python that makes the network, --from FILE.py:NAME"
        )
