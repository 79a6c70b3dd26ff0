"""The page: every figure is the folder's, no text of the folder is markup, nothing is fetched."""

import base64
import contextlib
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest

from netsmith.errors import FolderError
from netsmith.report import write_report

Make = Callable[..., Path]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{ 7*7 }}"


class Page(HTMLParser):
    """The parts of a page: tags with their attributes, tables, text, exact figures, scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[float] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self.text = ""
        self._table: list[list[str]] | None = None
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self._open = tag
        if tag == "table":
            self._table = self.tables[values.get("id") or str(len(self.tables))] = []
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table:
            self._table[-1].append("")
        elif tag == "data":
            self.figures.append(float(values["value"] or "nan"))
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        if tag == "table" and self._table is not None:
            self._table[:] = [[cell.strip() for cell in row] for row in self._table]
            self._table = None

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
            return
        self.text += data
        if self._table and self._table[-1]:
            self._table[-1][-1] += data

    @property
    def specs(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.scripts[0])
        return loaded

    @property
    def ids(self) -> set[str]:
        return {values["id"] or "" for _, values in self.tags if "id" in values}


def test_every_figure_of_the_result_is_on_the_page_exactly(make_folder: Make) -> None:
    path = make_folder()
    page = Page(write_report(path))
    result = json.loads((path / "result.json").read_text())
    assert 0.0162 in page.figures  # the held-out error of the latency table
    names = ("accuracy", "accuracy_exported", "latency_ms", "latency_ms_predicted", "size_bytes",
             "peak_bytes", "params", "macs")  # fmt: skip
    for network in (result, *result["baselines"].values()):
        assert {network[name] for name in names} <= set(page.figures)
        assert {network["latency_ms_spread"][end] for end in ("low", "high")} <= set(page.figures)
    for name in ("parity_worst", "latency_budget_ms", "total_seconds", "search_seconds", "train_seconds",
                 "profile_seconds", "seed", "width", "test_images"):  # fmt: skip
        assert result[name] in page.figures, name
    for candidate in result["front"]:
        assert {candidate["latency_ms"], candidate["validation_accuracy"]} <= set(page.figures)
    arch = json.loads((path / "arch.json").read_text())
    assert set(arch["latency_ms"]) <= set(page.figures)


def test_tables_say_what_the_json_says(make_folder: Make) -> None:
    path = make_folder()
    page = Page(write_report(path))
    ours = next(row for row in page.tables["trained"] if row[0].startswith("Netsmith"))
    assert [cell.replace("\u202f", " ") for cell in ours[1:4]] == ["93.64 %", "93.64 %", "0.563 ms"]
    assert len(page.tables["trained"]) == 1 + 6
    assert len(page.tables["candidates"]) == 1 + 9
    assert len(page.tables["blocks"]) == 1 + 24
    assert len(page.tables["epochs"]) == 1 + 24
    assert page.tables["skipped"][1] == ["coat/broken <3>.png", "the file is cut short"]


def test_device_command_and_settings_are_shown(make_folder: Make) -> None:
    page = Page(write_report(make_folder()))
    for words in ("Intel(R) Xeon(R)", "1.23.2", "netsmith design fashion_mnist", 'data = "fashion_mnist"'):
        assert words in page.text


def test_text_of_the_folder_is_never_markup(make_folder: Make) -> None:
    plain = Page(write_report(make_folder()))
    path = make_folder(
        label_names=[HOSTILE] * 10,
        device=HOSTILE,
        device_fingerprint={HOSTILE: HOSTILE},
        command=HOSTILE,
        strategy=HOSTILE,
        warnings=[HOSTILE],
        reasons=[HOSTILE],
        budget_met=False,
        baselines={HOSTILE: {"kind": HOSTILE, "accuracy": 0.5, "latency_ms": 1.0}},
        front=[{"name": HOSTILE, "latency_ms": 1.0, "validation_accuracy": 0.5, "reason": HOSTILE}],
    )
    (path / "design.toml").write_text(HOSTILE)
    page = Page(write_report(path))
    tags = {tag for tag, _ in page.tags}
    assert tags <= {tag for tag, _ in plain.tags} | {"ul", "li"}
    assert "img" not in tags
    assert len(page.scripts) == 3
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]
    assert HOSTILE in page.text
    assert "<script" not in json.dumps(page.specs)
    raw = (path / "report.html").read_text()
    assert "<script>alert" not in raw


def test_nothing_is_fetched_and_only_these_scripts_may_run(make_folder: Make) -> None:
    page = Page(write_report(make_folder()))
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "srcset", "action")]
    assert links
    assert all(link and link.startswith(("#", "data:,")) for link in links)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in page.scripts[1:]]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_every_plot_has_its_place_and_a_name(make_folder: Make) -> None:
    page = Page(write_report(make_folder()))
    assert {f"plot-{name}" for name in page.specs} <= page.ids
    assert len(page.specs) == 12
    plots = [a for _, a in page.tags if a.get("class") == "plot"]
    assert all(a.get("role") == "img" and a.get("aria-label") for a in plots)
    anchors = {a["href"] for t, a in page.tags if t == "a"}
    assert anchors <= {f"#{name}" for name in page.ids}


@pytest.mark.parametrize("until", ["started", "data", "profile", "search_epoch", "trial", "train_epoch"])
def test_an_unfinished_design_has_a_page_of_what_there_is(make_folder: Make, until: str) -> None:
    page = Page(write_report(make_folder(until=until)))
    assert "Not finished" in page.text
    assert ("search" in page.ids) == (until in ("search_epoch", "trial", "train_epoch"))
    assert ("training" in page.ids) == (until == "train_epoch")
    assert "Traceback" not in page.text


def test_a_result_alone_with_hardly_a_field_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"budget_met": false, "reasons": ["training gave no network"]}')
    page = Page(write_report(tmp_path))
    assert "training gave no network" in page.text
    assert page.specs == {}


def test_the_same_folder_gives_the_same_bytes(make_folder: Make) -> None:
    path = make_folder()
    first = write_report(path).read_bytes()
    assert write_report(path).read_bytes() == first
    assert not list(path.glob(".report-*"))


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_folder()
    write_report(path)
    before = (path / "report.html").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("netsmith.report.page.os.fsync", full)
    with pytest.raises(FolderError, match="No space left"):
        write_report(path)
    assert (path / "report.html").read_bytes() == before
    assert not list(path.glob(".report-*"))


def test_a_damaged_result_is_an_error(make_folder: Make) -> None:
    path = make_folder()
    (path / "result.json").write_text('{"accuracy": 0.9')
    with pytest.raises(FolderError, match=r"result\.json is damaged"):
        write_report(path)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_broken_in_a_folder_is_a_page_or_an_error_that_says_so(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Five wrong values at a time, anywhere in the files; nothing else than FolderError comes out."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")
    rng, path = Random(seed), make_folder()
    lines = (path / "journal").read_text().splitlines()
    events = [json.loads(line) for line in rng.sample(lines, 30)]
    result, arch = (json.loads((path / f"{name}.json").read_text()) for name in ("result", "arch"))
    for _ in range(5):
        spoil(rng.choice([result, arch, rng.choice(events)]), rng)
        (path / "result.json").write_text(json.dumps(result))
        (path / "arch.json").write_text(json.dumps(arch))
        (path / "journal").write_text("".join(json.dumps(event) + "\n" for event in events))
        with contextlib.suppress(FolderError):
            Page(write_report(path))


def spoil(values: Any, rng: Random) -> None:
    """Put a wrong value somewhere into nested JSON."""
    while True:
        key = rng.choice(list(values) if isinstance(values, dict) else range(len(values)))
        if isinstance(values[key], dict | list) and values[key] and rng.random() < 0.75:
            values = values[key]
            continue
        values[key] = rng.choice([None, "x", [], {}, [1], {"a": 1}, -1, 0, 1e308, True, 10**400, [None]])
        return


def test_reading_the_report_package_loads_neither_torch_nor_plotly() -> None:
    code = "import sys, netsmith.report; assert not {'torch', 'plotly'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
