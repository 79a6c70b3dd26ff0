"""One search for several devices: a network for each, and every network measured on every device.

Each device has a folder of its own, which is a design like any other. The weights of one supernet serve all,
so that its space has one width, the narrowest that the devices' budgets ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from netsmith.devices.device import parse
from netsmith.errors import SettingsError
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.answer import Design, read_json
from netsmith.pipeline.conclude import FINAL_LIMIT_S
from netsmith.pipeline.design import answer, begin, quest_of
from netsmith.pipeline.finish import export_network
from netsmith.pipeline.folder import DesignFolder, agrees, write_whole
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.searching.reach import fit_width
from netsmith.pipeline.searching.seek import run_search
from netsmith.pipeline.settings import Settings, to_toml
from netsmith.pipeline.work import Work
from netsmith.report import write_report


def run_several(
    asked: Sequence[Settings], out: Path, *, source: Any = None, progress: Progress | None = None
) -> list[Design]:
    """Design for every one of ``asked``, which differ in device and limits alone; return the answers.

    The folder ``out`` gets a folder for each device; the same call goes on with them. Raises
    :class:`netsmith.errors.NetsmithError` as :func:`netsmith.pipeline.design.run`.
    """
    keep_memory()
    if not asked[0].way.for_several:
        raise SettingsError(
            "several devices share one supernet, which archs that are trained one by one have not, and whose "
            "paths for each image, or precisions, are those of one device; design for each device alone"
        )
    if asked[0].compress:
        raise SettingsError("--compress keeps the budget of one device; design for each device alone")
    places = folders_of(asked, out)
    known = agrees(out, asked)
    with ExitStack() as stack:
        works = []
        for settings, place in zip(asked, places, strict=True):
            folder = stack.enter_context(DesignFolder(place, settings))
            data = settings.data if source is None else source
            works.append(Work(folder, data, progress or Silent()))
        if not known:
            write_whole(out / "design.toml", to_toml(asked).encode())
        open_ones = [work for work in works if work.journal.last("result") is None]
        for work in open_ones:
            begin(work, asked, out)
        if open_ones:
            _design(works)
        matrix = _matrix(works)
        for work in works:
            result = read_json(work.folder.path / "result.json")
            work.folder.write_json("result.json", {**result, "matrix": matrix})
            write_report(work.folder.path)
    return [Design.load(place) for place in places]


def folders_of(asked: Sequence[Settings], out: Path) -> list[Path]:
    """Return the folder of each device. Raises :class:`SettingsError` where two are of one device."""
    names = [parse(settings.device).name for settings in asked]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"each device is designed for once; given twice: {', '.join(twice)}")
    slugs = [re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-") for name in names]
    numbered = [slug if slugs.count(slug) == 1 else f"{slug}-{i}" for i, slug in enumerate(slugs)]
    return [out / slug for slug in numbered]


def _design(works: Sequence[Work]) -> None:
    """Search once, then choose, train and measure for every device that has no answer yet."""
    _share_width(works)
    quests = [quest_of(work) for work in works]
    works[0].progress.stage(f"Searching for {len(quests)} devices")
    search = run_search(quests)
    for number, quest in enumerate(quests):
        if quest.work.journal.last("result") is None:
            quest.work.progress.say(f"for {quest.work.bench.device.name}:")
            answer(quest, search, number)


def _share_width(works: Sequence[Work]) -> None:
    """Give all devices the narrowest width that one of them asks for, in whose space all can answer."""
    known = [record["width"] for record in (work.journal.last("reach") for work in works) if record]
    if not known:
        works[0].progress.stage("Finding what the devices can reach")
        known = [fit_width(w.space_of, w.budget, w.aims, w.bench, w.widths).width for w in works]
    if len({work.space_of(min(known)).id for work in works}) > 1:
        raise SettingsError(
            "a limit of activations leaves devices of different precision different spaces, which cannot "
            "share a search; design for each of them alone"
        )
    for work in works:
        work.once("reach", partial(_reach, work, min(known)))


def _reach(work: Work, width: float) -> dict[str, Any]:
    return fit_width(work.space_of, work.budget, work.aims, work.bench, (width,)).to_dict()


def _matrix(works: Sequence[Work]) -> list[dict[str, Any]]:
    """The latency and accuracy of the network of each device (rows) on each device (columns)."""
    columns = [_column(work, works) for work in works]
    return [column[row] for row in range(len(works)) for column in columns]


def _column(on: Work, works: Sequence[Work]) -> list[dict[str, Any]]:
    """Measure the networks of all devices on one, in turn; kept in its journal."""

    def make() -> Mapping[str, Any]:
        on.progress.stage(f"Measuring every network on {on.bench.device.name}")
        designs = {work.bench.device.name: Design.load(work.folder.path) for work in works}
        files = {name: _file(design, name, on) for name, design in designs.items()}
        latencies = on.bench.time_files(files, limit_s=FINAL_LIMIT_S)
        rows = [
            {
                "network": name,
                "device": on.bench.device.name,
                "latency_ms": latencies[name].median_ms,
                "interval_ms": list(latencies[name].interval_ms),
                "accuracy_exported": test_exported(on.bench.device, model, on.splits.test).accuracy,
            }
            for name, model in files.items()
        ]
        return {"rows": rows}

    rows: list[dict[str, Any]] = on.once("column", make)["rows"]
    return rows


def _file(design: Design, name: str, on: Work) -> bytes:
    """The network of a design as the runtime of another device takes it, or its own file."""
    if name == on.bench.device.name:
        return design.exported.read_bytes()
    return export_network(on, design.network, f"design for {name}")
