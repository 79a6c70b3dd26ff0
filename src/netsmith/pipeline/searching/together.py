"""One search by any number of workers, which share a store and nothing else.

Every worker runs the whole search with the same seed: its searcher asks ``ahead`` archs further than it was
told, and is told in the order of its asks. What one worker evaluates the others read. All of them therefore
see the same search, whoever evaluates what, and one that is killed goes on by doing it again. Where machines
differ in the last digit of a surrogate, their searches may part: then more archs are evaluated than asked for
by one of them, still none of them twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from netsmith.arch import Arch
from netsmith.pipeline.searching.store import Store
from netsmith.search.searcher import Searcher
from netsmith.trial import Trial

Samples = Callable[[Arch], Mapping[str, Sequence[float]]]


def search_together(
    store: Store,
    searcher: Searcher,
    evaluate: Callable[[Arch], Trial],
    queries: int,
    *,
    ahead: int = 1,
    poll_s: float = 1.0,
    on_trial: Callable[[int, Trial], None] = lambda number, trial: None,
    samples: Samples = lambda arch: {},
) -> list[Trial]:
    """Return the trials of the first ``queries`` archs asked for, in that order, evaluating those left to us.

    ``ahead`` is how many workers can be busy at once; all of them are to be given the same, and an
    equal searcher. ``on_trial`` hears of every trial told, counted from 1. What ``evaluate`` raises comes
    through, and the arch is free for others. ``samples`` gives what was measured of an arch that was
    evaluated here, figure by figure, to be kept beside its trial.
    """
    told: list[Trial] = []
    asked: deque[Arch] = deque()
    known: dict[Arch, Trial] = {}
    while len(told) < queries:
        while len(asked) < min(ahead, queries - len(told)):
            asked.append(searcher.ask())
        if asked[0] not in known:
            known = {trial.arch: trial for trial in store.trials()}
        if asked[0] in known:
            told.append(known[asked.popleft()])
            searcher.tell(told[-1])
            on_trial(len(told), told[-1])
        elif not _evaluated(store, [arch for arch in asked if arch not in known], evaluate, samples):
            time.sleep(poll_s)
    return told


def _evaluated(store: Store, archs: list[Arch], evaluate: Callable[[Arch], Trial], samples: Samples) -> bool:
    """Evaluate the first arch that nobody has; False where others have them all."""
    for arch in archs:
        claim = store.claim(arch)
        if claim is not None:
            with claim:
                claim.finish(evaluate(arch), samples(arch))
            return True
    return False
